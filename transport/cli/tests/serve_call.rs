//! `sealane serve` and `sealane call` against each other: two processes, real sockets, certificates from `sealane certs`.
#![expect(clippy::disallowed_types, reason = "strangers that take a port, say nothing or say nonsense")]

mod common;

use common::{OURS, SEALANE, call, certs, serve, serve_command};
use serde_json::Value;
use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};

#[test]
fn a_text_and_many_bytes_come_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let server = serve(&certs, &["--ca", "ca.pem"]);
    let text = call(&certs, &server, &[&OURS[..], &["--data", "hello"]].concat());
    assert_eq!(String::from_utf8_lossy(&text.stdout), "hello\n", "{text:?}");
    let many = call(&certs, &server, &[&OURS[..], &["--size", "100000", "--count", "5", "--json"]].concat());
    let report: Value = serde_json::from_slice(&many.stdout).expect("one JSON object");
    assert_eq!((&report["echoed"], &report["reply_bytes"]), (&5.into(), &100_000.into()), "{report}");
    assert!(report["p50_us"].as_f64() > Some(0.0), "{report}");
    let too_long = call(&certs, &server, &[&OURS[..], &["--size", "67108865"]].concat());
    says(&too_long, &["67108865", "67108864"]);
}

/// It failed, with exit code 1, and its words hold all of these.
fn says(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

#[test]
fn only_invited_clients_are_served_and_only_named_servers_called() {
    let dir = tempfile::tempdir().expect("a folder");
    let ours = certs(&dir.path().join("ours"));
    let server = serve(&ours, &["--ca", "ca.pem"]);
    let refused = |args: &[&str], words: &[&str]| says(&call(&ours, &server, args), words);
    let no_certificate = ["--ca", "ca.pem", "--data", "x"];
    refused(&no_certificate, &[&server.addr, "certificate"]);
    let other_name = [&OURS[..], &["--name", "other.example", "--data", "x"]].concat();
    refused(&other_name, &["other.example", "localhost"]);
    certs(&dir.path().join("theirs"));
    refused(&["--ca", "../theirs/ca.pem", "--data", "x"], &["certificate"]);
    let theirs = ["--cert", "../theirs/client.pem", "--key", "../theirs/client.key"];
    refused(&[&theirs[..], &["--ca", "ca.pem", "--data", "x"]].concat(), &["certificate"]);
    let served = call(&ours, &server, &[&OURS[..], &["--data", "still there"]].concat());
    assert_eq!(String::from_utf8_lossy(&served.stdout), "still there\n", "{served:?}");
}

#[test]
fn what_keeps_a_server_from_starting_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|addr| (taken, addr.to_string())).expect("an address");
    let mut on_taken = serve_command(&certs, &taken.1, &["--ca", "ca.pem"]);
    says(&on_taken.output().expect("the command starts"), &[&taken.1, "in use"]);
    let starts = |ca: &str| serve_command(&certs, "127.0.0.1:0", &["--ca", ca]).output().expect("the command starts");
    says(&starts("missing.pem"), &["missing.pem", "No such file"]);
    fs::write(certs.join("empty.pem"), "").expect("a file");
    says(&starts("empty.pem"), &["empty.pem"]);
    fs::write(certs.join("server.key"), "no key").expect("a file");
    says(&starts("ca.pem"), &["server.key"]);
    fs::copy(certs.join("client.key"), certs.join("server.key")).expect("a file");
    says(&starts("ca.pem"), &["server.key"]);
    fs::remove_file(certs.join("server.key")).expect("a file");
    says(&starts("ca.pem"), &["server.key", "No such file"]);
}

#[test]
fn what_keeps_a_call_from_being_made_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let call = |args: &[&str]| {
        let mut command = Command::new(SEALANE);
        command.arg("call").args(args).current_dir(&certs).output().expect("the command starts")
    };
    // Bound and silent: nobody answers there.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("an address").to_string();
    says(&call(&[&addr, "--ca", "ca.pem", "--data", "x", "--timeout", "0.3"]), &[&addr]);
    says(&call(&[&addr, "--ca", "missing.pem", "--data", "x"]), &["missing.pem", "No such file"]);
    says(&call(&["no-port", "--ca", "ca.pem", "--data", "x"]), &["no-port", "port"]);
    says(&call(&[&addr, "--ca", "ca.pem", "--data", "x", "--timeout", "0"]), &["--timeout 0"]);
    for wrong in [&[&addr, "--ca", "ca.pem"][..], &[&addr, "--data", "x"]] {
        assert_eq!(call(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn statistics_count_what_was_dropped() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let mut server = serve(&certs, &["--ca", "ca.pem", "--stats", "1"]);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    stranger.send_to(b"hello", &server.addr).expect("sent");
    stranger.send_to(&[0x11; 5], &server.addr).expect("sent");
    let called = call(&certs, &server, &[&OURS[..], &["--data", "x"]].concat());
    assert!(called.status.success(), "{called:?}");
    let mut stats = server.line();
    while stats["counters"]["handshakes_completed"] == 0 {
        stats = server.line();
    }
    assert_eq!(stats["event"], "stats");
    assert_eq!(stats["counters"]["dropped_wrong_version"], 1, "{stats}");
    assert_eq!(stats["counters"]["dropped_truncated"], 1, "{stats}");
    assert_eq!(stats["counters"]["dropped_bad_tag"], 0, "{stats}");
    assert!(stats["sessions"].is_u64() && stats["rpcs"] == 0, "{stats}");
}

/// [P-4.6] Where it is asked for, and packets are small, long messages go in slices of records that span them: a server's, and a caller's.
#[test]
fn records_span_packets_where_that_is_asked_for() {
    const SMALL: [&str; 2] = ["--mtu", "1500"];
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    for (server_spans, caller_spans) in [(false, false), (true, false), (false, true)] {
        let spanning = |on: bool| if on { &["--spanning-records"][..] } else { &[] };
        let more = [&["--ca", "ca.pem", "--stats", "1"], &SMALL[..], spanning(server_spans)].concat();
        let mut server = serve(&certs, &more);
        let args = [&OURS[..], &["--size", "100000", "--json"], &SMALL, spanning(caller_spans)].concat();
        let called = call(&certs, &server, &args);
        let report: Value = serde_json::from_slice(&called.stdout).expect("one JSON object");
        assert_eq!(report["echoed"], 1, "{report}");
        let mut stats = server.line();
        // The call is over.
        while stats["counters"]["handshakes_completed"] == 0 || stats["held_bytes"] != 0 {
            stats = server.line();
        }
        let count = |name: &str| stats["counters"][name].as_u64().expect("a number");
        assert_eq!(count("slices_sent") >= 60, server_spans, "{stats}");
        // About 70 packets, and as many records unless these span: then one of each message, and eleven packets to each other.
        assert_eq!(count("records_opened") < 40, caller_spans, "{stats}");
    }
    let tiny = serve_command(&certs, "127.0.0.1:0", &["--ca", "ca.pem", "--mtu", "1279"]).output();
    assert_eq!(tiny.expect("the command starts").status.code(), Some(2));
}

#[test]
fn anonymous_clients_only_where_allowed_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let undecided = Command::new(SEALANE).args(["serve", "--echo", "--cert", "x", "--key", "y"]).output();
    assert_eq!(undecided.expect("the command starts").status.code(), Some(2));
    let server = serve(&certs, &["--allow-anonymous"]);
    let reply = call(&certs, &server, &["--ca", "ca.pem", "--data", "hello"]);
    assert_eq!(String::from_utf8_lossy(&reply.stdout), "hello\n", "{reply:?}");
}
