//! `sealane handshake` as a shell sees it: what it says of each way to begin, and what it does not know.

use std::process::{Command, Output};

fn handshake(more: &[&str]) -> Output {
    let args = [&["handshake"], more].concat();
    Command::new(env!("CARGO_BIN_EXE_sealane")).args(args).output().expect("the command starts")
}

#[test]
fn each_way_is_what_it_claims() {
    let output = handshake(&["--count", "3", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let rows = report["rows"].as_array().expect("rows");
    let said =
        |row: &serde_json::Value| (row["mode"].clone(), row["protection"].clone(), row["forward_secrecy"].clone());
    let expected = [
        ("full", "full", true),
        ("resumed", "full", true),
        ("early-data", "early-data", false),
        ("ticket", "published-ticket", false),
        ("ticket-fs", "published-ticket", false),
    ];
    for (row, (mode, protection, secret)) in rows.iter().zip(expected) {
        assert_eq!(said(row), (mode.into(), protection.into(), secret.into()));
        assert_eq!(row["session_forward_secrecy"], mode != "ticket");
        assert_eq!(row["key_exchange"].as_str(), (mode != "ticket").then_some("X25519MLKEM768"));
        let tcp = (!mode.starts_with("ticket")).then_some("X25519MLKEM768");
        assert_eq!(row["tcp"]["key_exchange"].as_str(), tcp);
        assert!(row["to_server"]["bytes"].as_u64() > Some(1232) && row["to_client"]["datagrams"].as_u64() > Some(1));
    }
    assert_eq!(rows.len(), expected.len());
}

#[test]
fn ways_that_are_not_there() {
    let output = handshake(&["--mode", "telepathy"]);
    assert_eq!(output.status.code(), Some(2));
    let output = handshake(&["--mode", "ticket", "--ticket", "t"]);
    assert_eq!(output.status.code(), Some(2), "a ticket of what server?");
}
