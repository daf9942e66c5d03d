//! `sealane pcap`: what is made is found, what was changed shows, and what is wrong is named.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn pcap(folder: &Path, args: &[&str]) -> Output {
    let sealane = env!("CARGO_BIN_EXE_sealane");
    Command::new(sealane).arg("pcap").args(args).current_dir(folder).output().expect("it runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn make(folder: &Path, seed: &str, file: &str) {
    let args = ["gen", "--packets", "5000", "--flows", "100", "--seed", seed, "--replay", "0.01", "-o", file, "--json"];
    let made = pcap(folder, &args);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(json(&made)["counts"]["packets"], 5000);
}

const ANALYZE: [&str; 7] = ["analyze", "t.pcap", "--truth", "t.truth.json", "--keylog", "t.keys", "--json"];

#[test]
fn what_is_made_is_found_and_what_is_changed_shows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder, "42", "t.pcap");
    let found = pcap(folder, &[&ANALYZE[..], &["--db", "r.sqlite", "--html", "r.html"]].concat());
    assert!(found.status.success(), "{found:?}");
    let report = json(&found);
    assert_eq!((&report["truth"], &report["sealed"]["bad_tags"]), (&Value::Bool(true), &Value::from(0)));
    assert!(report["pps"].as_f64().unwrap() > 0.0 && report["counts"]["gaps"].as_u64().unwrap() > 0);
    let page = std::fs::read_to_string(folder.join("r.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("The first 200 of") && !page.contains("http"), "{page}");
    let database = std::fs::read(folder.join("r.sqlite")).unwrap();
    assert!(database.starts_with(b"SQLite format 3\0") && database.len() > 100_000);

    // One byte of one sealed packet: without keys nobody can tell, with them everybody.
    let whole = std::fs::read(folder.join("t.pcap")).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(folder.join("t.pcap"), &changed).unwrap();
    let found = pcap(folder, &ANALYZE);
    assert_eq!((found.status.code(), json(&found)["truth"].as_bool()), (Some(1), Some(false)));
    assert!(!json(&found)["differences"].as_array().unwrap().is_empty());

    // One packet less.
    let mut at = 24;
    for _ in 0..100 {
        at += 16 + u32::from_le_bytes(whole[at + 8..at + 12].try_into().unwrap()) as usize;
    }
    let len = 16 + u32::from_le_bytes(whole[at + 8..at + 12].try_into().unwrap()) as usize;
    std::fs::write(folder.join("t.pcap"), [&whole[..at], &whole[at + len..]].concat()).unwrap();
    let found = pcap(folder, &["analyze", "t.pcap", "--truth", "t.truth.json"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("packets: 4999 were found, 5000 is the truth"),
        "{found:?}"
    );

    make(folder, "43", "other.pcap");
    let other = pcap(folder, &["analyze", "other.pcap", "--truth", "t.truth.json"]);
    assert!(said(&other).contains("the truth file is of another capture"), "{other:?}");
    std::fs::write(folder.join("t.pcap"), &whole[..at + 20]).unwrap();
    let cut = said(&pcap(folder, &["analyze", "t.pcap"]));
    assert!(cut.contains("t.pcap cannot be analysed") && cut.contains("truncated"), "{cut}");
}

/// Slices are made where they are asked for, and found: as many in clear as with keys.
#[test]
fn slices_are_made_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let args = ["gen", "--packets", "5000", "--flows", "50", "--spanning-records", "-o", "t.pcap", "--json"];
    let made = pcap(folder, &args);
    assert!(made.status.success(), "{made:?}");
    let slices = &json(&made)["counts"]["slices"];
    assert!(slices.as_u64() > Some(1000), "{slices}");
    for args in [&ANALYZE[..], &["analyze", "t.pcap", "--truth", "t.truth.json", "--json"]] {
        let found = pcap(folder, args);
        assert!(found.status.success(), "{found:?}");
        assert_eq!((&json(&found)["truth"], &json(&found)["counts"]["slices"]), (&Value::Bool(true), slices));
    }
    make(folder, "42", "plain.pcap");
    assert_eq!(json(&pcap(folder, &["analyze", "plain.pcap", "--json"]))["counts"]["slices"], 0);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let missing = said(&pcap(folder, &["analyze", "nowhere.pcap"]));
    assert!(missing.contains("nowhere.pcap"), "{missing}");
    std::fs::write(folder.join("text.pcap"), "this is text").unwrap();
    let text = said(&pcap(folder, &["analyze", "text.pcap"]));
    assert!(text.contains("text.pcap cannot be analysed") && text.contains("not a capture"), "{text}");
    let few = said(&pcap(folder, &["gen", "--packets", "10", "--flows", "5", "-o", "x.pcap"]));
    assert!(few.contains("10 packets are too few for 5 flows"), "{few}");
    make(folder, "1", "t.pcap");
    let truth = said(&pcap(folder, &["analyze", "t.pcap", "--truth", "text.pcap"]));
    assert!(truth.contains("text.pcap cannot be used") && truth.contains("truth file is none"), "{truth}");
    let keys = said(&pcap(folder, &["analyze", "t.pcap", "--keylog", "text.pcap"]));
    assert!(keys.contains("text.pcap is no key log"), "{keys}");
    let interface = said(&pcap(folder, &["live", "no-such0", "--http", "127.0.0.1:0"]));
    assert!(interface.contains("interface no-such0 cannot be watched"), "{interface}");
}

#[test]
fn scale() {
    let folder = tempfile::tempdir().unwrap();
    let scaled = pcap(folder.path(), &["scale", "1k,2k", "--json"]);
    assert!(scaled.status.success(), "{scaled:?}");
    let report = json(&scaled);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &report["passes"]), (2, &Value::from(1)));
    for (row, packets) in rows.iter().zip([1000, 2000]) {
        assert_eq!(
            (&row["packets"], &row["mbps_checked"], &row["found_is_truth"]),
            (&packets.into(), &true.into(), &true.into())
        );
    }
}

/// Ends with the test, however that ends.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The loopback interface is watched while a demo of ours runs over it; the pages say so. Skipped, aloud, without CAP_NET_RAW.
#[test]
fn live() {
    let sealane = env!("CARGO_BIN_EXE_sealane");
    let args = ["pcap", "live", "lo", "--duration", "20", "--http", "127.0.0.1:0", "--json"];
    let watching = Command::new(sealane).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut watching = Watching(watching.expect("it runs"));
    let mut errors = BufReader::new(watching.0.stderr.take().unwrap());
    let mut first = String::new();
    errors.read_line(&mut first).unwrap();
    let Some(at) = first.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/')) else {
        assert!(first.contains("CAP_NET_RAW"), "{first}");
        let _ = writeln!(std::io::stderr(), "SKIPPED live: no packet socket is allowed here");
        return;
    };
    let get = |path: &str| {
        #[expect(clippy::disallowed_types, reason = "a browser")]
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let handshakes = Command::new(sealane).args(["handshake", "--count", "2", "--json"]).output().expect("it runs");
    assert!(handshakes.status.success(), "{handshakes:?}");
    let seen = (0..200).any(|_| {
        #[expect(clippy::disallowed_methods, reason = "what is shown is renewed now and then")]
        std::thread::sleep(std::time::Duration::from_millis(50));
        let summary = get("/api/v1/stats/summary");
        let body = summary.split_once("\r\n\r\n").expect("a head").1;
        let summary: Value = serde_json::from_str(body).unwrap();
        summary["counts"]["handshake"].as_u64() > Some(3) && summary["counts"]["data"].as_u64() > Some(0)
    });
    assert!(seen, "{}", get("/"));
    assert!(get("/metrics").contains("# TYPE sealane_pcap_handshake_total counter\nsealane_pcap_handshake_total "));
    assert!(get("/").contains("<h1>lo</h1>") && get("/nothing").starts_with("HTTP/1.1 404"));
}
