//! `sealane stress` as a shell sees it: rows of the promised shape, exit codes, errors that name the word.

use serde_json::Value;
use std::process::{Command, Output};

fn stress(args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealane"));
    command.arg("stress").args(args.split(' ')).output().expect("the command starts")
}

fn report(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("one JSON object: {said}"))
}

#[test]
fn all_rows_of_the_matrix_are_clean() {
    let output = stress("matrix --duration 1 --timeout 60 --json");
    let report = report(&output);
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["256B", "4KB", "16KB", "64KB", "churn", "16MB"]);
    for row in rows {
        for figure in ["rps", "mb_s_one_way", "mb_s_both", "mean_us", "p50_us", "p99_us", "p999_us"] {
            assert!(row[figure].as_f64() > Some(0.0), "{figure} in {row}");
        }
        for fault in ["corrupt", "errors", "timeouts", "drops"] {
            assert_eq!(row[fault], 0, "{fault} in {row}");
        }
        assert!(row["verified"] == row["asked"] && row["struck"].is_null(), "{row}");
    }
    assert!(rows[4]["sessions"].as_u64() > rows[4]["clients"].as_u64(), "{}", rows[4]);
    assert!(output.status.success() && report["environment"]["kernel"].is_string());
}

#[test]
fn a_bad_network_strikes_and_rows_stay_clean() {
    let output =
        stress("matrix --rows 4KB,churn --duration 1 --timeout 60 --loss 1% --reorder 0.05 --duplicate 1% --json");
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    assert_eq!((&report["network"]["loss"], &report["network"]["reorder"]), (&0.01.into(), &0.05.into()));
    for row in report["rows"].as_array().unwrap() {
        for what in ["lost", "reordered", "duplicated"] {
            assert!(row["struck"][what].as_u64() > Some(0), "{what} in {row}");
        }
    }
}

#[test]
fn a_flipped_byte_ends_with_1_and_is_shown() {
    let output = stress("run --clients 4 --duration 1 --timeout 60 --flip-every 50");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is not as it was sent"), "{text}");
}

#[test]
fn an_unanswered_request_ends_with_1_and_is_counted() {
    let output = stress("run --clients 2 --duration 1 --timeout 1 --swallow-every 100 --json");
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(report["rows"][0]["drops"].as_u64() > Some(0) && report["rows"][0]["corrupt"] == 0, "{report}");
}

#[test]
fn a_wrong_word_is_named() {
    for (args, word) in [
        ("matrix --rows 256B,8KB", "`8KB`"),
        ("matrix --loss 2", "'2'"),
        ("run --size 3", "size 3"),
        ("run --clients 0", "0 clients"),
        ("run --churn 0", "no messages"),
    ] {
        let output = stress(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{args}: {error}");
    }
}
