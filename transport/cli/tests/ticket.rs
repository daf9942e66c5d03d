//! `sealane ticket` as a shell sees it: a server that publishes, clients that use what it publishes, and each reason not to believe one.

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const SEALANE: &str = env!("CARGO_BIN_EXE_sealane");

/// A server that is stopped with the test.
struct Server(Child, BufReader<ChildStdout>);

impl Server {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(SEALANE);
        command.args(args).args(["--listen", "127.0.0.1:0", "--cert", "server.pem", "--key", "server.key"]);
        let mut child = command.current_dir(dir).stdout(Stdio::piped()).spawn().expect("the command starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Self(child, said)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).expect("a line");
        line
    }

    fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("one JSON object a line")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(SEALANE).args(args).current_dir(dir).output().expect("the command starts")
}

fn certs(dir: &Path) {
    let made = run(dir, &["certs", "--out", "."]);
    assert!(made.status.success(), "{made:?}");
}

fn verify(dir: &Path, file: &str, ca: &str, name: &str) -> (Value, Option<i32>) {
    let output = run(dir, &["ticket", "verify", file, "--ca", ca, "--name", name, "--json"]);
    (serde_json::from_slice(&output.stdout).expect("one JSON object"), output.status.code())
}

/// [P-6.10] Both commands that publish: the ticket is good, and a client elsewhere has its first reply by it.
#[test]
fn published_and_used() {
    let dir = tempfile::tempdir().expect("a folder");
    certs(dir.path());
    let ways: [&[&str]; 2] = [
        &["ticket", "publish", "-o", "t", "--json"],
        &["serve", "--echo", "--allow-anonymous", "--publish-ticket", "t", "--json"],
    ];
    for way in ways {
        let mut server = Server::start(dir.path(), way);
        let at = server.json()["addr"].as_str().expect("an address").to_owned();
        let ticket = server.json();
        assert_eq!((&ticket["event"], &ticket["file"]), (&"ticket".into(), &"t".into()));
        let (judged, code) = verify(dir.path(), "t", "ca.pem", "localhost");
        assert_eq!((&judged["good"], &judged["id"], code), (&true.into(), &ticket["id"], Some(0)), "{judged}");
        for mode in ["ticket", "ticket-fs"] {
            let args = ["handshake", "--to", &at, "--ca", "ca.pem", "--ticket", "t", "--mode", mode];
            let output = run(dir.path(), &[&args[..], &["--count", "2", "--json"]].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
            assert_eq!(report["rows"][0]["protection"], "published-ticket", "{report}");
        }
        let text = run(dir.path(), &["ticket", "verify", "t", "--ca", "ca.pem", "--name", "localhost"]);
        assert!(String::from_utf8_lossy(&text.stdout).starts_with("good: ticket "), "{text:?}");
    }
    let mut server = Server::start(dir.path(), &["ticket", "publish"]);
    assert_eq!(server.line(), "-----BEGIN SEALANE TICKET-----\n");
}

/// [P-6.10] Each reason has its own word and its own sentence, and ends with 1.
#[test]
fn refused() {
    let dir = tempfile::tempdir().expect("a folder");
    certs(dir.path());
    let other = dir.path().join("other");
    fs::create_dir(&other).expect("a folder");
    certs(&other);
    let mut server = Server::start(dir.path(), &["ticket", "publish", "-o", "t", "--json"]);
    let _ = (server.json(), server.json());
    let reason = |file: &str, ca: &str, name: &str| {
        let (judged, code) = verify(dir.path(), file, ca, name);
        assert_eq!((&judged["good"], code), (&false.into(), Some(1)));
        judged["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!(reason("t", "ca.pem", "elsewhere"), "wrong-name");
    assert_eq!(reason("t", "other/ca.pem", "localhost"), "untrusted");
    assert_eq!(reason("ca.pem", "ca.pem", "localhost"), "damaged");
    assert_eq!(reason("nowhere", "ca.pem", "localhost"), "unreadable");
    let words = run(dir.path(), &["ticket", "verify", "t", "--ca", "ca.pem", "--name", "elsewhere"]);
    let said = String::from_utf8_lossy(&words.stderr);
    assert!(said.contains("t: wrong-name: ") && said.contains("localhost"), "{said}");
    // A server of clients that show who they are publishes nothing.
    let asks =
        ["serve", "--echo", "--ca", "ca.pem", "--cert", "server.pem", "--key", "server.key", "--publish-ticket", "u"];
    assert_eq!(run(dir.path(), &asks).status.code(), Some(2));
}
