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

/// [P-6.16] Both sides attest, in a full session and in a resumed one.
#[test]
fn evidence_that_is_pinned() {
    let output = handshake(&["--attest", "mock", "--pin", "0=GOOD", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((&report["accepted"], &report["evidence_taken"]), (&true.into(), &2.into()));
    for (session, resumed) in report["sessions"].as_array().expect("sessions").iter().zip([false, true]) {
        assert_eq!((&session["server"][0], &session["client"][0]), (&"0=GOOD".into(), &"0=GOOD".into()));
        assert_eq!(session["resumed"], resumed);
    }
    let either = handshake(&["--attest", "mock", "--pin", "0=BAD", "--pin", "0=0x474f4f44"]);
    assert!(either.status.success() && String::from_utf8_lossy(&either.stdout).contains("server 0=GOOD"));
}

/// [P-6.16] What is not pinned is refused before any byte of the application, and who reads it learns why.
#[test]
fn evidence_that_is_not_pinned() {
    for (pin, expected) in
        [("0=BAD", "register 0: expected BAD, found GOOD"), ("3=x", "register 3: expected x, found nothing")]
    {
        let output = handshake(&["--attest", "mock", "--pin", pin, "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{said}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!((&report["accepted"], &report["requests_delivered"]), (&false.into(), &0.into()));
        assert_eq!(report["evidence_refused"], 1);
    }
    assert_eq!(handshake(&["--attest", "mock"]).status.code(), Some(1), "without a pin everything would pass");
    for wrong in ["GOOD", "256=x", "0=", "0=0x1"] {
        assert_eq!(handshake(&["--attest", "mock", "--pin", wrong]).status.code(), Some(2));
    }
    assert_eq!(handshake(&["--pin", "0=GOOD"]).status.code(), Some(2));
}

#[test]
fn ways_that_are_not_there() {
    let output = handshake(&["--mode", "telepathy"]);
    assert_eq!(output.status.code(), Some(2));
    let output = handshake(&["--mode", "ticket", "--ticket", "t"]);
    assert_eq!(output.status.code(), Some(2), "a ticket of what server?");
}
