//! `sealane attack` as a shell sees it: each attack ends with 0, has tried something, and nothing came of it.

use serde_json::Value;
use std::process::{Command, Output};

fn attack(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealane")).arg("attack").args(args).output().expect("the command starts")
}

fn report(name: &str) -> Value {
    let output = attack(&[name, "--seconds", "1", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("one JSON object: {said}"));
    assert!(output.status.success(), "{report} {said}");
    assert_eq!((&report["attack"], &report["effect"]), (&name.into(), &0.into()), "{report}");
    assert!(report["attempts"].as_u64() > Some(0), "{report}");
    assert!(report["calls"].as_u64() > Some(0), "{report}");
    assert!(report["counters"].as_object().is_some_and(|moved| !moved.is_empty()), "{report}");
    report
}

#[test]
fn replay() {
    report("replay");
}

#[test]
fn forge() {
    report("forge");
}

#[test]
fn truncate() {
    report("truncate");
}

/// The genuine one is believed, the others are not.
#[test]
fn reset() {
    assert_eq!(report("reset")["genuine"], 1);
}

/// Whatever was changed, no session was made.
#[test]
fn downgrade() {
    let report = report("downgrade");
    assert_eq!(report["unaltered"], 0, "{report}");
    assert!(report["failed"].as_u64() >= report["ways"].as_u64(), "{report}");
}

#[test]
fn flood() {
    assert!(report("flood")["server_ns_per_forged_packet"].is_number());
}

#[test]
fn refuses_what_it_does_not_know() {
    assert_eq!(attack(&["everything"]).status.code(), Some(2));
    assert_eq!(attack(&["replay", "--seconds", "0"]).status.code(), Some(2));
    let mut as_server = Command::new(env!("CARGO_BIN_EXE_sealane"));
    as_server.arg("attack-server").stdin(std::process::Stdio::null());
    assert_eq!(as_server.output().expect("the command starts").status.code(), Some(1));
}
