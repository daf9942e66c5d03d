//! `docs/GRPC.md` as it is written: its program is one of the examples, its commands run, and its table of statuses is the code's.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use grpc::status::of_error;
use sealane::Error;
use tonic::Code;

const GRPC: &str = env!("CARGO_BIN_EXE_grpc");
const GUIDE: &str = include_str!("../../../docs/GRPC.md");
const HELLO: &str = include_str!("../examples/hello.rs");

/// A server on a port of its own, which is stopped with the test.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(certs: &Path) -> Server {
    let mut child = Command::new(GRPC)
        .args(["server", "--listen", "127.0.0.1:0", "--certs"])
        .arg(certs)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).unwrap();
    let at = line.strip_prefix("listening on ").and_then(|rest| rest.split(',').next()).expect("it says where it is");
    Server(child, at.to_owned())
}

fn client(more: &[&str], certs: &Path) -> Output {
    Command::new(GRPC).arg("client").args(more).arg("--certs").arg(certs).output().expect("the command starts")
}

#[test]
fn the_program_of_the_guide_is_the_example() {
    let code =
        GUIDE.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the guide has a program");
    let main = HELLO.split("// guide: begin\n").nth(1).and_then(|rest| rest.split("// guide: end").next());
    assert_eq!(Some(code), main, "docs/GRPC.md shows another program than examples/grpc/examples/hello.rs");
}

#[test]
fn server_and_client() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("certs");
    let server = server(&certs);
    let out = client(&["--connect", &server.1, "--json"], &certs);
    assert!(out.status.success(), "{out:?}");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let kinds: Vec<_> = said["rows"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    for kind in ["unary", "client stream", "server stream", "both streams", "deadline", "cancelled"] {
        assert!(kinds.contains(&kind), "{kind} is missing: {kinds:?}");
    }
    let out = client(&["--connect", &server.1], &certs);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success() && text.lines().count() == kinds.len(), "{text}");
    // Another's certificates are refused at once.
    let other = dir.path().join("other");
    let stranger = self::server(&other);
    let out = client(&["--connect", &server.1], &other);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && text.starts_with("error: handshake with "), "{text}");
    drop(stranger);
}

#[test]
fn a_client_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let out = client(&["--wait-s", "0"], dir.path());
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success());
    assert!(
        text.starts_with("error: cannot read ") && text.contains("ca.pem") && text.contains("grpc -- server"),
        "{text}"
    );
}

#[test]
fn bench() {
    let out = Command::new(GRPC).args(["bench", "--calls", "50", "--rounds", "2", "--sizes", "64", "--json"]).output();
    let out = out.expect("the command starts");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = said["rows"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["peer"] == "sealane" && row["calls"] == 100), "{said}");
    assert!(
        rows.iter().all(|row| row["p50_us"].as_f64() > Some(0.0) && row["p50_us"].as_f64() <= row["p99_us"].as_f64())
    );
}

/// Each line of the guide's table of statuses.
#[test]
fn statuses() {
    let address = "127.0.0.1:1".parse().unwrap();
    let may_have_run = true;
    let errors = [
        (Error::TooLong { length: 2, limit: 1 }, Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Error::TooLongForPeer, Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Error::Deadline { address, may_have_run }, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (Error::PeerSilent { address, may_have_run }, Code::Unavailable, "UNAVAILABLE"),
        (Error::SessionEnded { address, may_have_run }, Code::Unavailable, "UNAVAILABLE"),
        (Error::PeerRestarted { address, may_have_run }, Code::Unavailable, "UNAVAILABLE"),
        (Error::NotServing { address }, Code::Unavailable, "UNAVAILABLE"),
        (Error::Closed, Code::Unavailable, "UNAVAILABLE"),
        (Error::Refused { address, why: "x" }, Code::Internal, "INTERNAL"),
    ];
    for (error, code, name) in errors {
        let status = of_error(error.clone());
        assert_eq!(status.code(), code, "{error:?}");
        assert_eq!(status.message(), error.to_string());
        let variant = format!("{error:?}");
        let variant = variant.split([' ', '{', '(']).next().unwrap();
        let line = GUIDE.lines().find(|line| line.contains(&format!("`{variant}`"))).unwrap_or_default();
        assert!(line.contains(&format!("`{name}`")), "the guide says otherwise of {variant}: {line:?}");
    }
}
