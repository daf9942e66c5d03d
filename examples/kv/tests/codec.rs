//! The protocol's bytes: whatever is written is read again however it is cut, and random bytes do no harm.

use kv::engine::{Client, Engine, Limits};
use kv::resp::{Args, Out, Parsed, Parser, command, reply_bytes};
use proptest::prelude::*;

/// All commands of a stream that comes in pieces.
fn parsed(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let (mut parser, mut buffer, mut found) = (Parser::default(), Vec::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut at = 0;
    for end in ends {
        buffer.extend_from_slice(&bytes[at..end]);
        at = end;
        loop {
            match parser.parse(&buffer).map_err(|malformed| malformed.0)? {
                Parsed::Incomplete => break,
                Parsed::Command(used) => {
                    let args = Args::new(&buffer, parser.spans());
                    found.push(args.from(0).map(<[u8]>::to_vec).collect());
                    buffer.drain(..used);
                }
            }
        }
    }
    Ok(found)
}

proptest! {
    #[test]
    fn commands_come_back(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..8),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        for args in &commands {
            command(&mut bytes, &args.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        prop_assert_eq!(parsed(&bytes, &cuts).unwrap(), commands);
    }

    /// Cuts change nothing, not even which error there is.
    #[test]
    fn random_bytes_mean_the_same_however_they_are_cut(
        bytes in prop::collection::vec(prop::sample::select(b"*$\r\n0123-\"ab ".to_vec()), 0..80),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        prop_assert_eq!(parsed(&bytes, &cuts), parsed(&bytes, &[]));
    }

    /// Whatever commands come, the engine answers each once, with something that clients can read.
    #[test]
    fn every_command_has_one_reply(
        commands in prop::collection::vec((0usize..200, prop::collection::vec(
            prop::sample::select(vec!["a", "b", "1", "-1", "0", "EX", "NX", "COUNT", "MATCH", "*", "left", "99999999999", "1.5"]),
            0..5,
        )), 1..30),
        is_v3 in any::<bool>(),
    ) {
        let mut engine = Engine::new(Limits::default(), 1_000_000);
        let mut client = Client::new(1, "tcp");
        client.is_v3 = is_v3;
        for (which, words) in commands {
            let name = kv::commands::COMMANDS[which % kv::commands::COMMANDS.len()].name;
            // These answer once for each argument, or give up the version.
            if name.ends_with("subscribe") || ["hello", "reset"].contains(&name) {
                continue;
            }
            let mut bytes = Vec::new();
            let args: Vec<&[u8]> = std::iter::once(name).chain(words).map(str::as_bytes).collect();
            command(&mut bytes, &args);
            let mut parser = Parser::default();
            prop_assert_eq!(parser.parse(&bytes).unwrap(), Parsed::Command(bytes.len()));
            let mut out = Out { bytes: Vec::new(), is_v3 };
            engine.execute(&mut client, Args::new(&bytes, parser.spans()), &mut out);
            prop_assert_eq!(reply_bytes(&out.bytes).unwrap(), Some(out.bytes.len()), "{:?}: {:?}", args, out.bytes);
        }
    }

    #[test]
    fn replies_of_random_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(length)) = reply_bytes(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}
