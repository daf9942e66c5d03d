//! Owns how bytes become commands that run: one connection's or one message's, until they end, one is wrong, or the replies are enough for
//! now. Refuses sockets.

use crate::engine::{Client, Engine};
use crate::resp::{Args, Out, Parsed, Parser};

/// Why it stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// What is left is part of a command, or nothing.
    Incomplete,
    /// More can run once the replies have left.
    Enough,
    /// The client wants no more, or broke the protocol.
    Over,
}

/// Runs the commands that `bytes` begins with until the replies have `enough` bytes. How many bytes ran, and why it stopped.
pub(crate) fn run(
    engine: &mut Engine,
    client: &mut Client,
    parser: &mut Parser,
    bytes: &[u8],
    out: &mut Out,
    enough: usize,
) -> (usize, Stop) {
    let mut at = 0;
    loop {
        if client.closing {
            return (at, Stop::Over);
        }
        if out.bytes.len() >= enough {
            return (at, Stop::Enough);
        }
        match parser.parse(&bytes[at..]) {
            Ok(Parsed::Command(used)) => {
                engine.execute(client, Args::new(&bytes[at..], parser.spans()), out);
                at += used;
            }
            Ok(Parsed::Incomplete) => return (at, Stop::Incomplete),
            Err(malformed) => {
                out.error(&format!("ERR {}", malformed.0));
                client.closing = true;
                return (at, Stop::Over);
            }
        }
    }
}

/// Runs all commands of one message, which holds whole ones; the replies have `most` bytes at most. A transaction ends with its message.
pub(crate) fn run_message(engine: &mut Engine, client: &mut Client, bytes: &[u8], out: &mut Out, most: usize) {
    let mut parser = Parser::default();
    let mut at = 0;
    loop {
        let before = out.bytes.len();
        // One command at a time, so that the one whose reply is too long is known.
        let (used, stop) = run(engine, client, &mut parser, &bytes[at..], out, before + 1);
        at += used;
        if out.bytes.len() > most {
            out.bytes.truncate(before);
            out.error("ERR the replies are longer than a message may be");
            break;
        }
        match stop {
            Stop::Enough => {}
            Stop::Over => break,
            Stop::Incomplete => {
                if at < bytes.len() {
                    out.error("ERR Protocol error: the message ends within a command");
                }
                break;
            }
        }
    }
    client.closing = false;
    client.end_transaction();
}
