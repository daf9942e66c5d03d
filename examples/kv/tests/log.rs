//! The append-only file: what was acknowledged comes back, after kill -9 too; a torn end is cut, anything else refuses; rewriting loses
//! nothing that happens meanwhile; a full disk is told in Redis's words.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real sockets, and waiting for what a server does by itself"
)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::{Client, Running};
use kv::engine::{Engine, Limits};
use kv::log::Fsync;
use kv::resp::{Args, Out, Parsed, Parser, command};
use kv::server::Config;
use proptest::prelude::*;

fn with_log(path: &Path, fsync: Fsync) -> Config {
    Config { log: Some((path.to_owned(), fsync)), ..Config::default() }
}

#[test]
fn all_kinds_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let dump = |client: &mut Client| -> Vec<String> {
        let asked = ["GET s", "PEXPIRETIME s", "LRANGE l 0 -1", "HGETALL h", "SMEMBERS m", "GET f", "GET n", "DBSIZE"];
        asked.iter().map(|words| client.ask(words)).collect()
    };
    let before = {
        let server = Running::with(with_log(&path, Fsync::No));
        let mut client = server.client();
        for words in [
            "SET s x EX 1000",
            "RPUSH l 1 2 3",
            "LPOP l",
            "HSET h a 1 b 2",
            "HDEL h a",
            "SADD m a b c d",
            "SPOP m 2",
            "INCRBYFLOAT f 0.1",
            "INCRBYFLOAT f 0.2",
            "MULTI",
            "INCR n",
            "INCR n",
            "EXEC",
            "SET t 1 PX 1",
            "RENAME s s2",
            "RENAME s2 s",
        ] {
            client.ask(words);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(client.ask("INCR t"), ":1\r\n", "it had ended");
        dump(&mut client)
    };
    let server = Running::with(with_log(&path, Fsync::No));
    let mut client = server.client();
    assert_eq!(dump(&mut client), before);
    assert_eq!(client.ask("GET t"), "$1\r\n1\r\n");
}

#[test]
fn a_torn_end_is_cut_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut whole = Vec::new();
    command(&mut whole, &[b"SET", b"a", b"1"]);
    let first = whole.len() as u64;
    command(&mut whole, &[b"SET", b"b", b"2"]);
    for end in first as usize..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let mut engine = Engine::new(Limits::default(), 1);
        let loaded = engine.open_log(&path, Fsync::No).unwrap();
        assert_eq!((loaded.commands, loaded.bytes, loaded.cut), (1, first, end as u64 - first), "{end}");
        assert_eq!(fs::metadata(&path).unwrap().len(), first);
    }
    // Zeros where the machine lost power.
    fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(Engine::new(Limits::default(), 1).open_log(&path, Fsync::No).unwrap().cut, 100);
    // A transaction counts when it is whole.
    let mut torn = whole.clone();
    command(&mut torn, &[b"MULTI"]);
    command(&mut torn, &[b"SET", b"a", b"9"]);
    fs::write(&path, &torn).unwrap();
    let mut engine = Engine::new(Limits::default(), 1);
    assert_eq!(engine.open_log(&path, Fsync::No).unwrap().bytes, whole.len() as u64);
    // Damage in the middle is no torn end.
    let mut damaged = whole.clone();
    damaged[0] = b'x';
    fs::write(&path, &damaged).unwrap();
    let refused = Engine::new(Limits::default(), 1).open_log(&path, Fsync::No).unwrap_err().to_string();
    assert!(refused.contains("bad file format") && refused.contains("byte 0"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "it was left as it is");
}

#[test]
fn a_full_disk_is_told() {
    for fsync in [Fsync::No, Fsync::Always] {
        let server = Running::with(with_log(Path::new("/dev/full"), fsync));
        let mut client = server.client();
        let mut set = Vec::new();
        command(&mut set, &[b"SET", b"a", b"1"]);
        client.send(&set);
        // Under `always` what is not on the disk is not acknowledged.
        assert_eq!(client.next().is_some(), fsync == Fsync::No);
        let mut other = server.client();
        let misconf = "-MISCONF Errors writing to the AOF file: No space left on device\r\n";
        assert_eq!(other.ask("SET b 1"), misconf);
        assert_eq!(other.ask("GET b"), "$-1\r\n", "reading goes on");
    }
}

#[test]
fn rewriting_while_everything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let grown;
    {
        let server = Running::with(with_log(&path, Fsync::EverySecond));
        let mut client = server.client();
        for n in 0..20_000 {
            let mut bytes = Vec::new();
            command(&mut bytes, &[b"SET", format!("k{}", n % 5000).as_bytes(), b"some value"]);
            client.send(&bytes);
            client.next().unwrap();
        }
        grown = fs::metadata(&path).unwrap().len();
        assert_eq!(client.ask("BGREWRITEAOF"), "+Background append only file rewriting started\r\n");
        let mut n = 0;
        while client.ask("INFO").contains("aof_rewrite_in_progress:1") {
            client.ask(&format!("INCR count{}", n % 7));
            client.ask(&format!("RENAME k{} moved{n}", 4999 - n));
            client.ask(&format!("RPUSH list {n}"));
            n += 1;
        }
        client.ask("SET last 1");
    }
    let before = fs::metadata(&path).unwrap().len();
    assert!(before < grown / 2, "{before} of {grown}");
    let server = Running::with(with_log(&path, Fsync::No));
    let mut client = server.client();
    assert_eq!(client.ask("GET last"), "$1\r\n1\r\n");
    let length: i64 = client.ask("LLEN list").trim_matches([':', '\r', '\n']).parse().unwrap();
    for n in 0..length {
        assert_eq!(client.ask(&format!("GET moved{n}")), "$10\r\nsome value\r\n", "{n} of {length}");
        assert_eq!(client.ask(&format!("LINDEX list {n}")), format!("${}\r\n{n}\r\n", n.to_string().len()));
    }
}

fn run(engine: &mut Engine, words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    command(&mut bytes, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
    let mut parser = Parser::default();
    assert_eq!(parser.parse(&bytes).unwrap(), Parsed::Command(bytes.len()));
    let mut out = Out::default();
    engine.execute(&mut kv::engine::Client::new(1, "tcp"), Args::new(&bytes, parser.spans()), &mut out);
    out.bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any commands, with a rewrite in between that is driven in steps: what is loaded answers as what was there.
    #[test]
    fn what_is_loaded_is_what_was_there(
        commands in prop::collection::vec((0usize..14, 0usize..4, 0usize..4), 1..120),
        rewrite_at in 0usize..120,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut engine = Engine::new(Limits::default(), 1_000);
        engine.open_log(&path, Fsync::No).unwrap();
        for (n, (what, one, other)) in commands.iter().enumerate() {
            if n == rewrite_at {
                run(&mut engine, &["BGREWRITEAOF"]);
            }
            if n % 7 == 3 {
                engine.tick();
            }
            let (one, other) = (format!("k{one}"), format!("k{other}"));
            let (a, b) = (one.as_str(), other.as_str());
            match what {
                0 => run(&mut engine, &["SET", a, b]),
                1 => run(&mut engine, &["INCR", a]),
                2 => run(&mut engine, &["RPUSH", a, b, "x"]),
                3 => run(&mut engine, &["LMOVE", a, b, "LEFT", "RIGHT"]),
                4 => run(&mut engine, &["SADD", a, b]),
                5 => run(&mut engine, &["SPOP", a]),
                6 => run(&mut engine, &["HSET", a, b, "1"]),
                7 => run(&mut engine, &["DEL", a]),
                8 => run(&mut engine, &["RENAME", a, b]),
                9 => run(&mut engine, &["PEXPIREAT", a, "2000"]),
                10 => run(&mut engine, &["SMOVE", a, b, "k1"]),
                11 => run(&mut engine, &["COPY", a, b]),
                12 if n % 5 == 0 => run(&mut engine, &["FLUSHALL"]),
                _ => run(&mut engine, &["APPEND", a, b]),
            };
            engine.commit();
        }
        let seen = |engine: &mut Engine| -> Vec<Vec<u8>> {
            let mut seen = Vec::new();
            for key in ["k0", "k1", "k2", "k3"] {
                for words in [["GET", key], ["SMEMBERS", key], ["HGETALL", key], ["PEXPIRETIME", key]] {
                    let reply = run(engine, &words);
                    let mut lines: Vec<&[u8]> = reply.split(|byte| *byte == b'\n').collect();
                    // The order of sets and hashes is nobody's promise.
                    lines.sort_unstable();
                    seen.push(lines.concat());
                }
                seen.push(run(engine, &["LRANGE", key, "0", "-1"]));
            }
            seen
        };
        let expected = seen(&mut engine);
        // The rewrite, if there is one, comes to its end.
        let since = std::time::Instant::now();
        while engine.tick() == 1 && since.elapsed() < common::LONG {}
        prop_assert!(engine.commit());
        let mut loaded = Engine::new(Limits::default(), 1_000);
        loaded.open_log(&path, Fsync::No).unwrap();
        prop_assert_eq!(seen(&mut loaded), expected);
    }
}

/// Leaves a file as a crash does.
#[test]
fn acknowledged_writes_survive_a_second_writer_being_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    {
        let server = Running::with(with_log(&path, Fsync::Always));
        assert_eq!(server.client().ask("SET a 1"), "+OK\r\n");
    }
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nb").unwrap();
    let server = Running::with(with_log(&path, Fsync::Always));
    let mut client = server.client();
    assert_eq!(client.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(client.ask("SET b 2"), "+OK\r\n");
}
