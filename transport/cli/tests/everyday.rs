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

#[test]
fn handshakes_and_calls_are_spans() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let server = serve(&certs, &["--ca", "ca.pem"]);
    let mut command = Command::new(SEALANE);
    command.args(["call", &server.addr, "--data", "hello"]).args(OURS).current_dir(&certs);
    let called = command.env("SEALANE_LOG", "sealane=debug").output().expect("the command starts");
    let said = String::from_utf8_lossy(&called.stderr);
    for span in [format!("connect{{to={}}}", server.addr), format!("call{{to={} bytes=5}}", server.addr)] {
        assert!(said.contains(&span) && said.contains("close"), "{span}: {said}");
    }
    assert!(said.contains("open"), "{said}");
    let quiet = call(&certs, &server, &[&OURS[..], &["--data", "hello"]].concat());
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
}

#[test]
fn a_slow_call_leaves_a_time_trace_that_can_be_drawn() {
    let dir = tempfile::tempdir().expect("a folder");
    let certs = certs(dir.path());
    let server = serve(&certs, &["--ca", "ca.pem", "--trace-slow", "0", "--trace-out", "served.trace"]);
    // Any call is slow by this measure, and what is long needs grants.
    let traced = ["--size", "2000000", "--trace-slow", "1", "--trace-out", "called.trace"];
    let called = call(&certs, &server, &[&OURS[..], &traced].concat());
    assert!(called.status.success(), "{called:?}");
    let render = |file: &str, out: &str| -> serde_json::Value {
        let (file, out) = (dir.path().join(file), dir.path().join(out));
        let args = ["trace", "render", file.to_str().expect("UTF-8"), "-o", out.to_str().expect("UTF-8"), "--json"];
        serde_json::from_str(&sealane(&args)).expect("one JSON object")
    };
    let report = render("called.trace", "called.svg");
    let steps = report["steps"].as_array().expect("steps");
    let place = |name: &str| {
        let found = steps.iter().position(|step| step["step"] == name);
        found.unwrap_or_else(|| panic!("{name} happens to a long call: {report}"))
    };
    let order = ["submitted", "sent", "granted", "opened", "response"].map(place);
    assert!(order.is_sorted(), "{order:?}: {report}");
    assert!(steps.iter().any(|step| step["step"] == "grants"), "the response is granted: {report}");
    assert_eq!((&steps[0]["value"], &steps[0]["at_us"]), (&2_000_000.into(), &0.0.into()), "{report}");
    assert!(steps.is_sorted_by_key(|step| step["at_us"].as_f64().map(|at| (at * 1e3) as u64)), "{report}");
    let svg = std::fs::read_to_string(dir.path().join("called.svg")).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.matches("<title>").count() >= steps.len(), "{svg}");
    // The server writes its own soon.
    for _ in 0..600 {
        if dir.path().join("served.trace").exists() {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let report = render("served.trace", "served.html");
    let steps = report["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["step"] == "replied"), "{report}");
    let page = std::fs::read_to_string(dir.path().join("served.html")).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.contains("<table>"), "{page}");
}

#[test]
fn tensors_come_back_and_are_read_where_they_arrived() {
    let line = sealane(&["tensor", "echo", "--shape", "128,768", "--dtype", "f32", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!((&rows[0]["bytes"], rows.len()), (&393_216.into(), 6), "{report}");
    assert!(rows.iter().all(|row| row["in_place"] == true && row["decode_ns"].as_f64() > Some(0.0)), "{report}");
    let wrong = Command::new(SEALANE).args(["tensor", "echo", "--dtype", "f31"]).output().expect("the command starts");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("bf16"), "{wrong:?}");
}
