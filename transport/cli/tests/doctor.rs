//! `sealane doctor` as a shell sees it: one answer in two forms, and an exit code that follows it.

use std::process::{Command, Output};

fn doctor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealane")).arg("doctor").args(args).output().expect("the command starts")
}

#[test]
fn both_forms_name_the_same_findings() {
    let json = doctor(&["--json"]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    let findings = report["findings"].as_array().expect("findings");
    let text = String::from_utf8(doctor(&[]).stdout).expect("UTF-8");
    for what in ["kernel", "trains out (GSO)", "receive buffer", "path over loopback", "record engine", "cores"] {
        assert!(findings.iter().any(|finding| finding["what"] == what), "{what} is missing: {report}");
        assert!(text.contains(what), "{what} is missing: {text}");
    }
    // Each interface that has an MTU has a rate, or is said to have none.
    let count = |what: &str| findings.iter().filter(|finding| finding["what"] == what).count();
    assert_eq!(count("link rate"), count("MTU"), "{report}");
    assert_eq!(text.matches("link rate  ").count(), count("link rate"), "{text}");
    for finding in findings {
        let fine = finding["verdict"] == "ok";
        assert_eq!(fine, finding["change"].is_null(), "what is not ok says what to change: {finding}");
    }
    assert_eq!(report["verdict"] == "bad", json.status.code() == Some(1), "{report}");
}
