//! The command as a user runs it: servers in child processes, JSON of the promised shape, errors that name the word.

use std::process::{Command, Output};

use serde_json::Value;

fn peers(args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers")).args(args.split(' ')).output().unwrap()
}

fn json(args: &str) -> Value {
    let output = peers(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const NUMBERS: [&str; 12] = [
    "size",
    "outstanding",
    "p50_us",
    "p99_us",
    "rps",
    "cpu_us_per_rpc",
    "ratio_to_udp",
    "ratio_to_ktls_ideal",
    "cov",
    "verified",
    "corrupt",
    "lost",
];

fn check_rows(report: &Value, names: &[&str], mode: &str) {
    let rows = report["rows"].as_array().unwrap();
    let found: Vec<_> = rows.iter().map(|row| row["peer"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    for row in rows {
        assert_eq!(row["mode"], mode);
        for key in NUMBERS {
            assert!(row[key].is_number(), "{key} in {row}");
        }
        assert!(row["verified"].as_u64() > Some(0) && row["corrupt"] == 0, "{row}");
        assert!(row["cpu_us_per_rpc"].as_f64() > Some(0.0), "{row}");
    }
    assert_eq!(report["corrupt"], 0);
    assert!(report["environment"]["kernel"].is_string() && report["cpu"].is_string());
}

#[test]
fn rtt_json_has_the_promised_shape() {
    let report = json("rtt --sizes 64 --rounds 2 --cell-ms 20 --mode block --json");
    check_rows(&report, &["udp", "udp-ideal", "tcp", "ktls-ideal", "tls", "sealane"], "block");
    let [udp, ktls] = [0, 3].map(|i| report["rows"][i]["p50_us"].as_f64().unwrap());
    let ratio = report["rows"][3]["ratio_to_udp"].as_f64().unwrap();
    assert!((ratio - ktls / udp).abs() < 1e-3, "{ratio} is not {ktls}/{udp}");
}

#[test]
fn load_json_has_the_promised_shape() {
    let args = "load --sizes 64 --outstanding 8 --rounds 1 --cell-ms 20";
    let report = json(&format!("{args} --peers udp,ktls-ideal,ktls-ideal-pm --mode block --json"));
    check_rows(&report, &["udp", "ktls-ideal", "ktls-ideal-pm"], "block");
    let [udp, ktls] = [0, 1].map(|i| report["rows"][i]["rps"].as_f64().unwrap());
    let ratio = report["rows"][1]["ratio_to_udp"].as_f64().unwrap();
    assert!((ratio - ktls / udp).abs() < 1e-3, "{ratio} is not {ktls}/{udp}");
}

#[test]
fn bulk_json_says_what_a_byte_costs() {
    let report = json("bulk --sizes 100000 --rounds 1 --cell-ms 20 --peers udp,tcp,ktls-ideal,sealane --json");
    check_rows(&report, &["udp", "tcp", "ktls-ideal", "sealane"], "block");
    for row in report["rows"].as_array().unwrap() {
        assert!(row["mb_s"].as_f64() > Some(0.0) && row["cpu_us_per_mb"].as_f64() > Some(0.0), "{row}");
    }
}

#[test]
fn load_at_a_rate_adds_rows_with_that_rate() {
    let args = "load --sizes 64 --outstanding 8 --rounds 1 --cell-ms 200 --open-rate 2000 --beside 100000";
    let report = json(&format!("{args} --peers tls,sealane --json"));
    for row in report["rows"].as_array().unwrap() {
        assert!(row["open_rate"] == 2000.0 && row["ratio_to_tls"].is_number(), "{row}");
    }
}

#[test]
fn memory_json_has_both_sides_and_who_asked() {
    let report = json("memory --sessions 50 --json");
    let rows = report["rows"].as_array().unwrap();
    for what in ["idle session", "idle endpoint", "message under way"] {
        for side in ["client", "server"] {
            assert!(rows.iter().any(|row| row["what"] == what && row["side"] == side), "{what} {side}");
        }
    }
    let session = rows.iter().find(|row| row["what"] == "idle session" && row["side"] == "both").unwrap();
    assert!(session["heap_bytes"].as_f64() > Some(500.0) && session["met"].is_boolean(), "{session}");
    let sites = report["sites"].as_array().unwrap();
    assert!(
        sites.iter().any(|site| site["site"].as_str().is_some_and(|name| name.contains("endpoint::"))),
        "{sites:?}"
    );
}

#[test]
fn what_is_written_is_what_render_would_write() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    json(&format!(
        "rtt --sizes 64 --rounds 1 --cell-ms 20 --mode turns --peers udp,sealane --json --out {at} --name rtt-spin"
    ));
    let readme = folder.path().join("README.md");
    std::fs::write(&readme, "a\n<!-- performance: begin -->\n<!-- performance: end -->\nb\n").unwrap();
    let render = |more: &str| peers(format!("render {at} --readme {} {more}", readme.display()).trim_end());
    assert!(!render("--check").status.success(), "the table is missing");
    assert!(render("").status.success() && render("--check").status.success());
    let page = folder.path().join("rtt-spin.md");
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("`peers rtt --sizes 64 --rounds 1 --cell-ms 20 --mode turns --peers udp,sealane`"), "{text}");
    std::fs::write(&page, text.replace("| 64 |", "| 65 |")).unwrap();
    let stale = render("--check");
    assert!(!stale.status.success() && String::from_utf8_lossy(&stale.stderr).contains("rtt-spin.md"));
}

#[test]
fn the_table_has_the_same_rows() {
    let output = peers("rtt --sizes 64 --rounds 1 --cell-ms 20 --mode block --peers udp,tcp");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["64 B, 1 outstanding, block", "p50 us", "to udp", "\nudp ", "\ntcp ", "Linux"] {
        assert!(text.contains(word), "`{word}` is not in\n{text}");
    }
}

#[test]
fn a_wrong_word_is_named() {
    for (args, word) in [
        ("rtt --peers udp,quik", "`quik`"),
        ("rtt --sizes 64,big", "`big`"),
        ("rtt --sizes 0", "size 0"),
        ("rtt --mode nap", "`nap`"),
        ("rtt --peers ktls-ideal-pm", "`ktls-ideal-pm`"),
        ("load --outstanding 0", "outstanding 0"),
        ("load --open 2", "share of 2"),
        ("load --beside 1000", "beside"),
        ("memory --sessions 0", "0 sessions"),
        ("cores --shards 2", "one shard"),
        ("brief --against dtls", "`dtls`"),
    ] {
        let output = peers(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(word), "{args}: {error}");
    }
}

#[test]
fn a_brief_has_all_its_figures_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let report = json(&format!("brief --against tcp,tls --quick --json --out {}", folder.path().display()));
    let metric = |name: &str| report["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name}"));
    for what in ["handshake", "fresh", "resumed", "0-rtt", "reconnect", "steady"] {
        assert!(metric(&format!("sealane.sockets.{what}.p50_us")) > 0.0);
        assert!(metric(&format!("tls.sockets.{what}.p50_us")) > 0.0);
    }
    for what in ["fresh", "resumed", "0-rtt"] {
        assert!(metric(&format!("sealane.in-process.{what}.p50_us")) > 0.0);
        assert!(metric(&format!("tls.in-process.{what}.p50_us")) > 0.0);
    }
    assert!(metric("sealane.in-process.reconnect.p95_us") > 0.0 && metric("tcp.sockets.reconnect.p95_us") > 0.0);
    assert!(report["metrics"]["tcp.sockets.resumed.p50_us"].is_null());
    for size in [1536, 4096, 393_216, 1_048_576] {
        for peer in ["sealane.sockets", "tcp.sockets", "sealane.in-process", "copy.in-process"] {
            assert!(metric(&format!("{peer}.{size}.p50_us")) > 0.0 && metric(&format!("{peer}.{size}.mb_s")) > 0.0);
        }
    }
    assert!(metric("frame.parse.ns") > 0.0 && metric("open.aes-128-gcm.1387.ns") > 0.0);
    assert!(report["corrupt"] == 0 && report["environment"]["kernel"].is_string());
    let page = std::fs::read_to_string(folder.path().join("brief.md")).unwrap();
    for word in
        ["## How sessions begin", "| sockets | reconnect | tls |", "## There and back", "## Parts", "| frame.parse |"]
    {
        assert!(page.contains(word), "`{word}` is not in\n{page}");
    }
    assert!(folder.path().join("brief.svg").exists());
}
