//! `sealane slo` and `sealane targets` as a shell sees them: lines, exit codes, JSON, errors that name the word.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn sealane(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealane"));
    command.args(args).current_dir(dir).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Our limits, against figures that keep to them but for what `change` does.
fn slo(change: impl FnOnce(&mut Value)) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut run = json!({ "metrics": {
        "sealane.in-process.fresh.p50_us": 300.5,
        "sealane.in-process.1536.p50_us": 3.0,
        "sealane.in-process.reconnect.p95_us": 800.0,
        "sealane.in-process.4096.mb_s": 2000.0,
        "sealane.sockets.handshake.p50_us": 400.0,
        "sealane.sockets.1536.p50_us": 30.0,
        "sealane.sockets.reconnect.p95_us": 900.0,
        "sealane.sockets.4096.mb_s": 900.0,
    }});
    change(&mut run);
    std::fs::write(dir.path().join("run.json"), run.to_string()).unwrap();
    let limits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/slo.toml");
    sealane(&["slo", "check", &limits.display().to_string(), "run.json"], dir.path())
}

#[test]
fn limits_that_are_met_pass_one_line_each() {
    let output = slo(|_| ());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!((said.lines().count(), said.matches("PASS ").count()), (8, 8), "{said}");
    assert!(said.contains("PASS sealane.in-process.fresh.p50_us: 300.5 < 500\n"), "{said}");
    assert!(said.contains("PASS sealane.sockets.4096.mb_s: 900 > 200\n"), "{said}");
}

#[test]
fn a_limit_that_is_missed_and_a_figure_that_is_missing_end_with_1() {
    let missed = slo(|run| run["metrics"]["sealane.in-process.reconnect.p95_us"] = 1000.0.into());
    assert_eq!(missed.status.code(), Some(1));
    assert!(text(&missed.stdout).contains("FAIL sealane.in-process.reconnect.p95_us: 1000 < 1000\n"));
    let missing = slo(|run| run["metrics"]["sealane.sockets.4096.mb_s"] = Value::Null);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stdout).contains("FAIL sealane.sockets.4096.mb_s: missing"));
    let nothing = slo(|run| *run = json!({}));
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("`metrics`"));
}

const TARGETS: &str = r#"
[[target]]
name = "rpc.64"
measure = "rpc"
size = 64

[[target]]
name = "memory.session"
measure = "sessions"
counts = [200, 600, 1500]

[[target]]
name = "memory.message"
measure = "messages"
size = 1024
counts = [200, 600, 1500]

[[target]]
name = "size"
measure = "file-size"
path = "file"
"#;

#[test]
fn a_run_is_as_good_as_itself_and_worse_than_a_better_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("targets.toml"), TARGETS).unwrap();
    std::fs::write(dir.path().join("file"), [7; 1000]).unwrap();
    let ran = sealane(&["targets", "run", "targets.toml", "-o", "run.json", "--quick", "--json"], dir.path());
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let run: Value = serde_json::from_slice(&std::fs::read(dir.path().join("run.json")).unwrap()).unwrap();
    assert_eq!(run, serde_json::from_slice::<Value>(&ran.stdout).unwrap());
    let metric = |name: &str| run["metrics"][name].as_f64().unwrap();
    assert_eq!(metric("size"), 1000.0);
    // A session at rest holds something and no more than a few kilobytes; a message its own bytes at the least.
    assert!((100.0..20_000.0).contains(&metric("memory.session")), "{run}");
    assert!((1024.0..20_000.0).contains(&metric("memory.message")), "{run}");
    assert!(run["targets"][0]["samples"].as_array().unwrap().len() > 3 && run["targets"][0]["cov"].is_number());

    let check = |baseline: &Value| {
        std::fs::write(dir.path().join("base.json"), baseline.to_string()).unwrap();
        sealane(&["targets", "check", "run.json", "--baseline", "base.json"], dir.path())
    };
    assert_eq!(check(&run).status.code(), Some(0));
    for (better, code) in [(0.93, 1), (0.89, 2)] {
        let mut base = run.clone();
        base["targets"][0]["median"] = (metric("rpc.64") * better).into();
        let output = check(&base);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stdout));
    }
    let mut more = run.clone();
    more["targets"].as_array_mut().unwrap().push(run["targets"][0].clone());
    more["targets"][4]["name"] = "rpc.65".into();
    let output = check(&more);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("FAIL rpc.65: missing"), "{}", text(&output.stdout));
    let broken = sealane(&["targets", "check", "run.json", "--baseline", "nowhere.json"], dir.path());
    assert!(broken.status.code() == Some(2) && text(&broken.stderr).contains("nowhere.json"));
}

#[test]
fn a_slowdown_of_12_percent_is_seen() {
    let output = sealane(&["targets", "self-test"], &std::env::temp_dir());
    assert!(output.status.success(), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("it was seen"));
}

#[test]
fn a_wrong_target_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("targets.toml"), "[[target]]\nname='a'\nmeasure='rpc'").unwrap();
    let run = |more: &[&str]| {
        let args = [&["targets", "run", "targets.toml", "-o", "run.json"], more].concat();
        let output = sealane(&args, dir.path());
        assert!(!output.status.success());
        text(&output.stderr)
    };
    assert!(run(&["--only", "b"]).contains("`b`"));
    std::fs::write(dir.path().join("targets.toml"), "[[target]]\nname='a'\nmeasure='speed'").unwrap();
    assert!(run(&[]).contains("speed"));
}
