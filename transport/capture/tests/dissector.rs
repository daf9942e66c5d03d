//! tshark with our dissector shows a real session opened, for each cipher. Skipped, aloud, where there is no tshark.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SAID, gentle, real_session, spanning_session};
use sealane::Cipher;

fn tshark(capture: &Path, keys: Option<&Path>, args: &[&str]) -> String {
    let script = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/dissector/sealane.lua");
    let mut command = Command::new("tshark");
    command.args(["-X", script, "-r"]).arg(capture).args(args);
    if let Some(keys) = keys {
        command.args(["-o", &format!("sealane.keylog:{}", keys.display())]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.to_lowercase().contains("lua error"), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where a capture and its key log are, for tshark.
fn written(folder: &Path, capture: &[u8], keys: &str) -> (PathBuf, PathBuf) {
    let (capture_at, keys_at) = (folder.join("session.pcap"), folder.join("session.keys"));
    std::fs::write(&capture_at, capture).unwrap();
    std::fs::write(&keys_at, keys).unwrap();
    (capture_at, keys_at)
}

fn is_here(test: &str) -> bool {
    let found = Command::new("tshark").arg("--version").output().is_ok();
    if !found {
        // Not by print: the test harness would keep it to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: there is no tshark here");
    }
    found
}

/// Records that span packets are opened where the last of their slices came, and say all that their slices carried.
#[test]
fn tshark_puts_slices_together() {
    const LONG: usize = 30_000;
    if !is_here("tshark_puts_slices_together") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = spanning_session(gentle, LONG, folder.path());
    let (capture_at, keys_at) = written(folder.path(), &capture, &keys);
    let fields = ["-T", "fields", "-e", "sealane.slice.start", "-e", "sealane.verified", "-e", "sealane.payload"];
    let opened = tshark(&capture_at, Some(&keys_at), &fields);
    let lines: Vec<Vec<&str>> = opened.lines().map(|line| line.split('\t').collect()).collect();
    let sliced = lines.iter().filter(|line| !line[0].is_empty());
    // Six requests and as many responses, of twenty packets each; a tenth of those or less is where a record ends.
    assert!(sliced.clone().count() > 100, "{opened}");
    let whole = sliced.filter(|line| !line[1].is_empty());
    assert!(whole.clone().count() >= 12 && whole.clone().all(|line| matches!(line[1], "1" | "True")), "{opened}");
    let said: usize = lines.iter().map(|line| line[2].replace(',', "").len() / 2).sum();
    assert!(said >= 2 * 6 * LONG, "{said} bytes");
    assert_eq!(tshark(&capture_at, Some(&keys_at), &["-Y", "sealane.malformed or sealane.bad_tag"]), "");
}

#[test]
fn tshark_shows_what_was_said() {
    if !is_here("tshark_shows_what_was_said") {
        return;
    }
    let said: String = SAID.iter().map(|byte| format!("{byte:02x}")).collect();
    for cipher in Cipher::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (capture, keys) = real_session(cipher, gentle, 3_000, folder.path());
        let (capture_at, keys_at) = written(folder.path(), &capture, &keys);
        let fields = ["-T", "fields", "-e", "sealane.type", "-e", "sealane.verified", "-e", "sealane.payload"];
        let opened = tshark(&capture_at, Some(&keys_at), &fields);
        let lines: Vec<Vec<&str>> = opened.lines().map(|line| line.split('\t').collect()).collect();
        let sealed = lines.iter().filter(|line| line[0] == "1" || line[0] == "2");
        assert!(sealed.clone().count() > 100, "{cipher}: {opened}");
        assert!(sealed.clone().all(|line| matches!(line[1], "1" | "True")), "{cipher}: a tag did not verify");
        // As the request, and as its response; more often where a machine that is busy made them be sent again.
        assert!(lines.iter().filter(|line| line[2] == said).count() >= 2, "{cipher}");
        let epochs = tshark(&capture_at, None, &["-T", "fields", "-e", "sealane.epoch", "-Y", "sealane.type == 1"]);
        assert!(epochs.lines().any(|epoch| epoch != "0"), "{cipher}: keys changed");
        let named =
            tshark(&capture_at, Some(&keys_at), &["-T", "fields", "-e", "sealane.frame", "-Y", "sealane.frame"]);
        assert!(named.lines().count() > 0, "{cipher}: frames");
        assert_eq!(
            tshark(&capture_at, Some(&keys_at), &["-Y", "sealane.malformed or sealane.bad_tag"]),
            "",
            "{cipher}"
        );
        // In clear: headers, and nothing that is sealed.
        let clear = tshark(&capture_at, None, &fields);
        assert!(clear.lines().count() == lines.len() && clear.lines().all(|line| line.ends_with("\t\t")), "{clear}");
        // With a bit changed, its packet does not open.
        let mut changed = capture.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&capture_at, &changed).unwrap();
        assert_eq!(tshark(&capture_at, Some(&keys_at), &["-Y", "sealane.bad_tag"]).lines().count(), 1, "{cipher}");
    }
}
