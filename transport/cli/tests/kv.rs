//! `sealane kv` as its guide shows it: real `redis-cli` and `redis-benchmark` at the TCP and TLS doors (skipped aloud where they are not
//! installed), `kv cli` at Sealane's, kill -9, and the tables of docs/KV.md.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a plain client of the protocol, and time to be killed in"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const SEALANE: &str = env!("CARGO_BIN_EXE_sealane");

/// A server in a folder of its own, which is stopped with the test.
struct Server {
    child: Child,
    tcp: String,
    tls: String,
    sealane: String,
    dir: std::path::PathBuf,
}

impl Server {
    fn start(dir: &Path, more: &[&str]) -> Self {
        Self::started(Command::new(SEALANE), dir, more)
    }

    fn started(mut command: Command, dir: &Path, more: &[&str]) -> Self {
        let certs = if dir.join("certs").exists() {
            ["--cert", "certs/server.pem", "--key", "certs/server.key", "--ca", "certs/ca.pem"].as_slice()
        } else {
            &["--development-certs", "certs"]
        };
        let any = "127.0.0.1:0";
        let mut child = command
            .args(["kv", "serve", "--tcp", any, "--tls", any, "--sealane", any])
            .args(certs)
            .args(more)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self::named(child, &mut said.lines(), dir)
    }

    fn named(child: Child, lines: &mut dyn Iterator<Item = std::io::Result<String>>, dir: &Path) -> Self {
        let mut server =
            Self { child, tcp: String::new(), tls: String::new(), sealane: String::new(), dir: dir.to_owned() };
        for line in lines {
            let line = line.expect("it says where it is");
            match line.split_once(" on ") {
                Some(("tcp", at)) => server.tcp = at.to_owned(),
                Some(("tls", at)) => server.tls = at.to_owned(),
                Some(("sealane", at)) => server.sealane = at.to_owned(),
                _ if line == "ready" => return server,
                _ => {}
            }
        }
        panic!("the server ended");
    }

    fn redis(&self, program: &str, secure: bool, args: &[&str]) -> Output {
        let (at, tls): (_, &[&str]) = if secure {
            (
                &self.tls,
                &["--tls", "--cert", "certs/client.pem", "--key", "certs/client.key", "--cacert", "certs/ca.pem"],
            )
        } else {
            (&self.tcp, &[])
        };
        let port = at.rsplit(':').next().expect("an address");
        let host = if secure { "localhost" } else { "127.0.0.1" };
        let output =
            Command::new(program).args(["-h", host, "-p", port]).args(tls).args(args).current_dir(&self.dir).output();
        output.expect("the program starts")
    }

    fn cli(&self, args: &[&str]) -> String {
        let certs = ["--cert", "certs/client.pem", "--key", "certs/client.key", "--ca", "certs/ca.pem"];
        let output = Command::new(SEALANE)
            .args(["kv", "cli", "--sealane", &self.sealane])
            .args(certs)
            .args(args)
            .current_dir(&self.dir)
            .output()
            .expect("the command starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether the real clients are here; if not, says so.
fn has_redis() -> bool {
    let here =
        ["redis-cli", "redis-benchmark"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    if !here {
        eprintln!("SKIPPED: redis-cli and redis-benchmark are not installed (apt-get install redis-tools)");
    }
    here
}

/// Who comes when the server has no descriptor left is told so at once, and those that are there are served.
#[test]
fn no_descriptor_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 48 && exec \"$0\" \"$@\"", SEALANE]);
    let server = Server::started(limited, dir.path(), &[]);
    let connect = || {
        let stream = TcpStream::connect(&server.tcp).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        stream
    };
    let ping = |mut stream: &TcpStream| {
        // Those who are turned away may be gone before they ask.
        let _ = stream.write_all(b"PING\r\n");
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).expect("an answer, or word that there is none");
        reply
    };
    let mut there = vec![connect()];
    assert_eq!(ping(&there[0]), *b"+PONG\r\n");
    for _ in 0..100 {
        there.push(connect());
    }
    let answers: Vec<_> = there.iter().map(ping).collect();
    let served = answers.iter().filter(|answer| **answer == *b"+PONG\r\n").count();
    assert!((2..48).contains(&served), "{served}");
    assert!(answers[served..].iter().all(|answer| *answer == *b"-ERR ma"), "{answers:?}");
    there.truncate(1);
    assert_eq!(ping(&there[0]), *b"+PONG\r\n");
    while ping(&connect()) != *b"+PONG\r\n" {}
}

#[test]
fn real_clients_of_redis() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.cli(&["set", "by", "sealane"]), "+OK\r\n");
    if !has_redis() {
        return;
    }
    let text = |output: Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    for secure in [false, true] {
        let cli = |args: &[&str]| text(server.redis("redis-cli", secure, args));
        assert_eq!(cli(&["set", "greeting", "hello"]), "OK");
        assert_eq!(cli(&["get", "greeting"]), "hello");
        assert_eq!(cli(&["get", "by"]), "sealane");
        assert_eq!(cli(&["-3", "hset", "h", "a", "1", "b", "2"]), "2");
        assert_eq!(cli(&["-3", "hgetall", "h"]), "a 1\nb 2");
        assert_eq!(cli(&["--scan", "--pattern", "greet*"]), "greeting");
        assert!(cli(&["info"]).contains("redis_version:7"));
        assert_eq!(cli(&["del", "h"]), "1");
        let tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,lrange_100,mset";
        for pipeline in ["1", "16"] {
            let run = ["-t", tests, "-n", "2000", "-c", "8", "-P", pipeline, "-q", "--csv"];
            let output = server.redis("redis-benchmark", secure, &run);
            let said = text(output);
            assert!(!said.to_lowercase().contains("error"), "{said}");
            assert_eq!(said.lines().filter(|line| line.starts_with('"')).count(), 16, "{said}");
        }
    }
    assert_eq!(server.cli(&["get", "greeting"]), "$5\r\nhello\r\n");
}

/// SETs one after the other until the connection ends; how many were acknowledged.
fn write_until_killed(at: &str) -> usize {
    let mut stream = TcpStream::connect(at).unwrap();
    let mut acknowledged = 0;
    loop {
        let mut reply = [0; 5];
        let sent = stream.write_all(format!("SET k{acknowledged} {acknowledged}\r\n").as_bytes());
        if sent.is_err() || stream.read_exact(&mut reply).is_err() {
            return acknowledged;
        }
        assert_eq!(&reply, b"+OK\r\n");
        acknowledged += 1;
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let log = ["--appendonly", "log", "--fsync", "always"];
    let mut acknowledged = 0;
    for round in 0..3 {
        let mut server = Server::start(dir.path(), &log);
        for key in 0..acknowledged {
            let mut stream = TcpStream::connect(&server.tcp).unwrap();
            stream.write_all(format!("GET k{key}\r\nQUIT\r\n").as_bytes()).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            assert!(reply.contains(&format!("\r\n{key}\r\n")), "round {round}, key {key}: {reply}");
        }
        let at = server.tcp.clone();
        let writer = std::thread::spawn(move || write_until_killed(&at));
        std::thread::sleep(std::time::Duration::from_millis(150));
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        acknowledged = writer.join().unwrap();
    }
    assert!(acknowledged > 0);
    // What a torn write leaves is cut, and said.
    fs::OpenOptions::new().append(true).open(dir.path().join("log")).unwrap().write_all(b"*3\r\n$3\r\nSE").unwrap();
    let server = Server::start(dir.path(), &log);
    assert!(server.cli(&["get", "k0"]).contains("0"));
}

#[test]
fn the_guide_names_all_commands() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/KV.md")).unwrap();
    let printed = Command::new(SEALANE).args(["kv", "commands", "--markdown"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let between =
        guide.split("<!-- commands: begin -->\n").nth(1).and_then(|rest| rest.split("<!-- commands: end -->").next());
    assert_eq!(between, Some(printed.as_str()), "put in what `sealane kv commands --markdown` prints");
}

#[test]
fn wrong_usage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(SEALANE).args(["kv", "serve"]).args(args).current_dir(dir.path()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&[]);
    assert!(code == Some(1) && said.contains("there is no door"), "{said}");
    let (code, said) = run(&["--tcp", "127.0.0.1:0", "--maxmemory", "much"]);
    assert!(code == Some(2) && said.contains("100mb"), "{said}");
    fs::write(dir.path().join("log"), "no log\n").unwrap();
    let (code, said) = run(&["--tcp", "127.0.0.1:0", "--appendonly", "log"]);
    assert!(code == Some(1) && said.contains("bad file format"), "{said}");
}
