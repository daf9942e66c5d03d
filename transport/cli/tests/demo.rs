//! `sealane demo` as a shell sees it, as short as it can be: one round, the shortest cells. What the figures are does not matter here.

use serde_json::Value;
use std::process::{Command, Output};

fn demo(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealane"));
    command.arg("demo").args(args).output().expect("the command starts")
}

const PEERS: [&str; 5] = ["udp", "tcp", "ktls-ideal", "tls", "sealane"];

#[test]
fn prints_one_object_with_every_peer_at_every_size() {
    let output = demo(&["--quick", "--json", "--rounds", "1", "--cell-ms", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 5 * PEERS.len(), "{report}");
    for size in [64, 1024, 8192, 65_536, 1 << 20] {
        let peers: Vec<&Value> = rows.iter().filter(|row| row["size"] == size).map(|row| &row["peer"]).collect();
        assert_eq!(peers, PEERS);
    }
    for row in rows {
        for key in ["p50_us", "p99_us", "mb_s", "rps", "ratio_to_udp", "ratio_to_ktls_ideal"] {
            assert!(row[key].as_f64() > Some(0.0), "{key} in {row}");
        }
        assert!(row["verified"].as_u64() > Some(0) && row["corrupt"] == 0, "{row}");
    }
    assert!(report["handshake_ms"].as_f64() > Some(0.0), "{report}");
    assert_eq!((&report["mutual"], &report["cipher"]), (&true.into(), &"aes-128-gcm".into()));
    assert!(said.contains("0 of 25 measured"), "progress where there is no terminal: {said}");
}

#[test]
fn refuses_what_it_does_not_know() {
    assert_eq!(demo(&["--fast"]).status.code(), Some(2));
    let as_server = Command::new(env!("CARGO_BIN_EXE_sealane")).arg("bench-server").output();
    assert_eq!(as_server.expect("the command starts").status.code(), Some(1));
}
