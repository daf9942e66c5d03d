//! The header is what the source says: cbindgen makes it anew, and it is compared with the one that is committed. With
//! `SEALANE_WRITE_HEADER=1` it is written instead (`header.sh`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationLength, Language, Style};

/// What stands at the top: the rules that hold for every function, once.
const HEAD: &str = "/* Sealane: encrypted messages over UDP, for C. Written by transport/capi/header.sh from the Rust source: do not edit.
 *
 * RESULTS. A function that can fail returns a status: SEALANE_OK, SEALANE_NOTHING where it says so, or a negative number. Its last
 * argument takes a sealane_error to be filled in, or null. No function aborts, throws or unwinds into its caller; a defect of the library
 * is SEALANE_PANIC. Where a function makes something it writes a pointer through an argument: null unless it succeeded.
 *
 * POINTERS. What the library gives out is freed by the function that its comment names, once; those functions take null. Null where
 * something is needed gives SEALANE_INVALID, but a pointer that was freed or was never given out cannot be told from a good one. Data to be
 * sent may be null if its length is 0; it is free again when the function returns. Texts are UTF-8 and end with a zero.
 *
 * THREADS. A sealane_socket and a sealane_peer may be used by any number of threads at once, without locks. A sealane_config and a
 * sealane_delivery belong to one thread at a time; a delivery may be handed to another, and answered there. Nothing may be freed while
 * another thread uses it: to stop threads that wait in a socket, call sealane_socket_close, join them, then sealane_socket_free.
 *
 * PROCESSES. A child made by fork cannot use a socket of its parent (SEALANE_FORKED); it makes its own.
 *
 * SIGNALS. No function may be called from a signal handler.
 */";

/// The modules in the order of lib.rs.
const SOURCES: &[&str] = &["status", "config", "socket", "delivery", "messages", "about"];

const NAMES: &[(&str, &str)] = &[
    ("Error", "sealane_error"),
    ("Config", "sealane_config"),
    ("Socket", "sealane_socket"),
    ("Peer", "sealane_peer"),
    ("Batch", "sealane_batch"),
    ("Delivery", "sealane_delivery"),
    ("CallId", "sealane_call_id"),
];

fn fresh(dir: &Path) -> String {
    let mut config = Config {
        language: Language::C,
        style: Style::Both,
        header: Some(HEAD.to_owned()),
        include_guard: Some("SEALANE_H".to_owned()),
        cpp_compat: true,
        documentation: true,
        documentation_length: DocumentationLength::Full,
        no_includes: true,
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        usize_is_size_t: true,
        line_length: 120,
        ..Config::default()
    };
    config.export.rename =
        NAMES.iter().map(|(rust, c)| ((*rust).to_owned(), (*c).to_owned())).collect::<HashMap<_, _>>();
    let mut builder = Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(dir.join("src").join(format!("{source}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().expect("the source can be read").write(&mut text);
    String::from_utf8(text).expect("the source is UTF-8")
}

#[test]
fn header_is_what_the_source_says() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let path = dir.join("include/sealane.h");
    let fresh = fresh(&dir);
    if std::env::var_os("SEALANE_WRITE_HEADER").is_some() {
        std::fs::write(&path, fresh).expect("the header can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "transport/capi/include/sealane.h is not what the source says: run transport/capi/header.sh"
    );
}

/// Whoever adds a module shall add it above: a function that is not in the header is no function.
#[test]
fn all_exported_functions_are_in_the_header() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let fresh = fresh(&dir);
    for entry in std::fs::read_dir(dir.join("src")).expect("the source can be read") {
        let text = std::fs::read_to_string(entry.expect("the source can be read").path()).expect("UTF-8");
        for rest in text.split("extern \"C\" fn ").skip(1) {
            let name = rest.split('(').next().expect("a split has a first part");
            assert!(fresh.contains(&format!("{name}(")), "{name} is not in the header");
        }
    }
}
