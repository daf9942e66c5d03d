//! What one needs beside a server, as a shell sees it: `top` and metrics of a server that works, pages for `man`, completions.

mod common;

use common::{OURS, SEALANE, call, certs, serve};
use std::process::Command;

fn sealane(args: &[&str]) -> String {
    let output = Command::new(SEALANE).args(args).output().expect("the command starts");
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn top_and_prometheus_see_what_a_server_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let mut server = serve(&certs, &["--ca", "ca.pem", "--metrics", "127.0.0.1:0"]);
    let door = server.line();
    assert_eq!(door["event"], "metrics", "{door}");
    let door = door["addr"].as_str().expect("an address").to_owned();
    let called = call(&certs, &server, &[&OURS[..], &["--size", "100", "--count", "7", "--json"]].concat());
    assert!(called.status.success(), "{called:?}");

    let line = sealane(&["top", &door, "--once", "--json", "--every", "0.2"]);
    let look: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
    assert_eq!(look["addr"], server.addr.as_str(), "{look}");
    assert_eq!(look["counters"]["messages_delivered"], 7, "{look}");
    assert_eq!(look["counters"]["handshakes_completed"], 1, "{look}");
    assert!(look["per_second"]["messages_delivered"].is_number(), "{look}");
    let sent = look["sent_bytes_by_priority"].as_array().expect("priorities");
    let bytes: u64 = sent.iter().map(|bytes| bytes.as_u64().expect("a number")).sum();
    assert!(sent.len() == 8 && bytes > 700, "seven echoes of 100 bytes went out: {look}");

    let page = sealane(&["top", &door, "--once", "--every", "0.1"]);
    assert!(page.starts_with(&server.addr), "{page}");
    for word in ["sessions ", "messages ", "packets ", "grants ", "priority ", "drops "] {
        assert!(page.lines().any(|line| line.starts_with(word)), "{word}: {page}");
    }
    if Command::new("curl").arg("--version").output().is_ok() {
        let curl = Command::new("curl").args(["-sf", &format!("http://{door}/metrics")]).output().expect("curl runs");
        let text = String::from_utf8(curl.stdout).expect("UTF-8");
        assert!(text.contains("sealane_messages_delivered_total{socket=\"serve\"} 7\n"), "{text}");
    } else {
        println!("no curl here: skipped");
    }
}

#[test]
fn top_says_who_does_not_answer() {
    let output = Command::new(SEALANE).args(["top", "127.0.0.1:1", "--once"]).output().expect("the command starts");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && why.contains("127.0.0.1:1"), "{why}");
}

#[test]
fn every_command_has_a_page_and_is_completed() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().to_str().expect("UTF-8");
    sealane(&["man", "--out", out]);
    let help = sealane(&["--help"]);
    let listed = help.split("Commands:\n").nth(1).expect("a list").split("\n\n").next().expect("its end");
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{help}");
    let bash = sealane(&["completions", "bash"]);
    for name in names.into_iter().filter(|name| *name != "help") {
        let page = std::fs::read_to_string(dir.path().join(format!("sealane-{name}.1"))).expect(name);
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{name}: {page}");
        assert!(
            bash.contains(&format!("sealane__subcmd__{name})")) || bash.contains(&format!("sealane__{name})")),
            "{name}"
        );
    }
    assert!(dir.path().join("sealane-kv-serve.1").exists(), "pages of what is below a command");
    assert!(sealane(&["completions", "zsh"]).starts_with("#compdef sealane"));
    assert!(sealane(&["completions", "fish"]).contains("complete -c sealane"));
}
