//! Every input that was ever worth keeping, once more; and the targets can fail.

use std::panic::catch_unwind;
use std::path::Path;

use proptest::prelude::*;
use targets::{TARGETS, Target};

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).expect("it can be read")))
        .collect();
    inputs.sort();
    inputs
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target");
    let inputs = corpus(name);
    assert!(inputs.len() >= 10, "{name}: a corpus of {} inputs", inputs.len());
    for (path, bytes) in inputs {
        if catch_unwind(|| target(&bytes)).is_err() {
            panic!("{path} breaks a rule");
        }
    }
}

#[test]
fn packet() {
    replay("packet");
}

#[test]
fn open() {
    replay("open");
}

#[test]
fn flight() {
    replay("flight");
}

#[test]
fn control() {
    replay("control");
}

#[test]
fn trailer() {
    replay("trailer");
}

#[test]
fn acts() {
    replay("acts");
}

#[test]
fn ticket() {
    replay("ticket");
}

/// Every corpus is of a target.
#[test]
fn no_corpus_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("there are corpora")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("it is text"))
        .collect();
    names.sort();
    let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(names, known);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Bytes that nobody chose.
    #[test]
    fn any_bytes(which in 0..TARGETS.len(), bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let target: Target = TARGETS[which].1;
        target(&bytes);
    }
}
