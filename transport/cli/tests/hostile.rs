//! `sealane demo hostile-relay` as a shell sees it: in clear the relay gets all it wants, with Sealane nothing.

use serde_json::Value;
use std::process::Command;

#[test]
fn the_relay_succeeds_in_clear_only() {
    let demo = ["demo", "hostile-relay", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_sealane")).args(demo).output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("one JSON object: {said}"));
    assert!(output.status.success() && report["well"] == true, "{report} {said}");
    let acts = report["acts"].as_array().expect("acts");
    let names: Vec<&str> = acts.iter().filter_map(|row| row["act"].as_str()).collect();
    assert_eq!(names, ["read", "alter", "drop", "replay", "forge"]);
    let of = |act: &str, side: &str, what: &str| -> f64 {
        let row = acts.iter().find(|row| row["act"] == act).expect("an act");
        row[side][what].as_f64().unwrap_or_else(|| panic!("{act} {side} {what}: {report}"))
    };
    for (act, harm) in [
        ("read", "secret_seen"),
        ("read", "decoded"),
        ("alter", "altered"),
        ("drop", "unanswered"),
        ("replay", "twice"),
        ("forge", "made_up"),
    ] {
        assert!(of(act, "clear", harm) > 0.0, "{act} {harm} in clear: {report}");
        assert_eq!(of(act, "sealane", harm), 0.0, "{act} {harm}: {report}");
    }
    assert!(of("read", "clear", "entropy") < 6.0 && of("read", "sealane", "entropy") > 7.9, "{report}");
    assert!(of("read", "sealane", "overhead_percent") > of("read", "clear", "overhead_percent"), "{report}");
    for (act, reason) in [("alter", "dropped_bad_tag"), ("replay", "dropped_duplicate"), ("forge", "dropped_bad_tag")] {
        let row = acts.iter().find(|row| row["act"] == act).expect("an act");
        assert!(row["sealane"]["counters"][reason].as_u64() > Some(0), "{act} is counted as {reason}: {report}");
    }
}
