//! `sealane audit nonce` prints what it counted, finds nothing wrong, and finds all that is broken on purpose.

use std::process::{Command, Output};

fn audit(args: &[&str]) -> Output {
    let sealane = env!("CARGO_BIN_EXE_sealane");
    Command::new(sealane).args(["audit", "nonce"]).args(args).output().expect("it runs")
}

#[test]
fn counts() {
    let output = audit(&["--messages", "40000", "--rekeys", "3", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert_eq!(number("duplicates"), 0);
    // Half of the messages travel several to a record.
    assert!(number("sealed") > number("messages") / 2 && number("messages") >= 39_000, "{report}");
    // Four pairs, three lives, two directions.
    assert!(number("epochs") >= 3 * 24 && number("keys") > number("epochs"), "{report}");
    assert!(number("attempts") > 0 && number("retransmitted") > 0 && number("restarts") == 16, "{report}");
    assert!(report["seconds"].is_f64(), "{report}");
}

#[test]
fn self_test() {
    let output = audit(&["--self-test", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let bugs = report["self_test"].as_array().expect("a list");
    assert!(bugs.len() >= 6 && bugs.iter().all(|bug| bug["found"] == true), "{report}");
    assert_eq!(report["clean"], true);
}

#[test]
fn too_few_messages_for_so_many_epochs() {
    let output = audit(&["--messages", "1000", "--rekeys", "100"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("too few messages"), "{output:?}");
}
