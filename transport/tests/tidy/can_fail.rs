//! The checks of `tidy` can fail: each on a small tree made up for it, and each only there.

use super::*;

#[test]
fn module_order_can() {
    let root =
        ("offload/src/lib.rs", "//! x\npub mod early;\nmod late;\npub use late::{Late, inner::Deep as Renamed};");
    let order = |early: &str| module_order(&Tree::made_up(&[root, ("offload/src/early.rs", early)]));
    caught(order("use crate::late::x; // crate::early"), &["`late`"]);
    caught(order("use super::{early, late};"), &["`late`"]);
    caught(order("fn f() -> crate::Renamed {}"), &["`late`"]);
    caught(order("use super::*;"), &["everything"]);
    caught(order("use crate::early::y; /* crate::late */ mod tests { use super::*; }"), &[]);
    let below = ("offload/src/early/part.rs", "use super::super::late; use super::late_too;");
    caught(module_order(&Tree::made_up(&[root, below])), &["early/part.rs names `late`"]);
    let late = ("offload/src/late.rs", "use crate::early;");
    caught(module_order(&Tree::made_up(&[root, late])), &[]);
}

#[test]
fn file_heads_can() {
    let tree =
        Tree::made_up(&[("a.rs", "\n//! Owns a."), ("b.rs", "// Owns b."), ("c.rs", "//!\nmod x;"), ("d.rs", "")]);
    caught(file_heads(&tree), &["b.rs", "c.rs", "d.rs"]);
}

/// A tree in which each crate has a root that keeps every promise, but for one file that is given.
fn promising<'a>(path: &'a str, text: &'a str) -> Tree {
    let root = "#![no_std]\n#![forbid(unsafe_code)]\n#![deny(missing_docs)]";
    let mut tree = Tree(CRATES.iter().map(|(dir, ..)| (format!("{dir}/src/lib.rs"), root.to_owned())).collect());
    tree.0.insert("transport/udp/src/sys.rs".to_owned(), "unsafe {}".to_owned());
    tree.0.insert("transport/tests/allocations.rs".to_owned(), "unsafe impl".to_owned());
    tree.0.insert("benches/heap/src/counting.rs".to_owned(), "unsafe impl".to_owned());
    tree.0.insert("transport/capi/src/socket.rs".to_owned(), "unsafe {}".to_owned());
    tree.0.insert("mlx5-shim/src/hw.rs".to_owned(), "unsafe {}".to_owned());
    tree.0.insert(path.to_owned(), text.to_owned());
    tree
}

#[test]
fn attributes_can() {
    caught(attributes(&promising("offload/src/a.rs", "// unsafe\nfn f() { \"unsafe\"; }")), &[]);
    caught(attributes(&promising("offload/src/a.rs", "unsafe fn f() {}")), &["a.rs has `unsafe`"]);
    caught(attributes(&promising("transport/udp/src/sys.rs", "")), &["take it off"]);
    let wire = "transport/wire/src/lib.rs";
    let faults = attributes(&promising(wire, "// #![forbid(unsafe_code)]\n#![cfg_attr(not(test), no_std)]"));
    caught(faults, &["forbid(unsafe_code)", "no_std", "missing_docs"]);
    let udp = "transport/udp/src/lib.rs";
    caught(attributes(&promising(udp, "#![deny(unsafe_code,\n missing_docs)]")), &[]);
    caught(attributes(&promising(udp, "#![warn(missing_docs)] #![deny(unsafe_code)]")), &["deny(m"]);
    let mut gone = promising(wire, "");
    gone.0.remove(wire);
    caught(attributes(&gone), &["no src/lib.rs"]);
}

#[test]
fn sizes_can() {
    let (long, short) = ("\n".repeat(LINES_MAX + 100), "\n".repeat(LINES_MAX));
    let tree = Tree::made_up(&[("long.rs", &long), ("short.rs", &short)]);
    let lines = LINES_MAX + 100;
    caught(sizes(&tree, &[]), &["long.rs has 600 lines"]);
    caught(sizes(&tree, &[("long.rs", lines)]), &[]);
    caught(sizes(&tree, &[("long.rs", lines - 1)]), &["grew"]);
    caught(sizes(&tree, &[("long.rs", lines + SLACK)]), &[]);
    caught(sizes(&tree, &[("long.rs", lines + SLACK + 1)]), &["lower its 626"]);
    caught(sizes(&tree, &[("long.rs", lines), ("short.rs", 500), ("gone.rs", 600)]), &["needs no excuse", "gone.rs"]);
}

#[test]
fn levels_can() {
    let members: String = CRATES.iter().map(|(dir, ..)| format!("  \"{dir}\", # x\n")).collect();
    let with = |extra: &str, path: &str, manifest: &str| {
        levels(&Tree::made_up(&[("Cargo.toml", &format!("members = [\n{members}{extra}]\n")), (path, manifest)]))
    };
    let proto = "transport/proto/Cargo.toml";
    caught(with("", proto, "[dependencies]\nwire.workspace = true\nlibc = \"1\"\n[features]\nudp = []"), &[]);
    caught(with("", proto, "[dependencies]\nudp.workspace = true"), &["proto (level 1) depends on udp"]);
    caught(with("", proto, "[dev-dependencies]\nsealane = { path = \"..\" }"), &["depends on sealane"]);
    caught(with("", proto, "[target.'cfg(unix)'.dependencies.endpoint]\npath = \"x\""), &["depends on endpoint"]);
    caught(with("", proto, "[dependencies]\nother = { path = \"../other\" }"), &["has no level"]);
    caught(with("  \"transport/new\",\n", proto, ""), &["transport/new has no level"]);
    let faults =
        levels(&Tree::made_up(&[("Cargo.toml", &format!("members = [\n{}]", members.replace("offload", "o")))]));
    caught(faults, &["o has no level", "offload has a level"]);
}

#[test]
fn worlds_can() {
    let bans: String = BANNED.iter().map(|ban| format!("{{ path = \"{ban}\" }},")).collect();
    let with = |path: &str, text: &str| {
        let kept = ("rustfmt.toml", "reorder_modules = false");
        worlds(&Tree::made_up(&[("clippy.toml", bans.as_str()), kept, (path, text)]))
    };
    let lifted = "#![expect(clippy::disallowed_methods)]";
    caught(with("transport/cli/src/main.rs", lifted), &[]);
    caught(with("transport/src/driver/clock.rs", lifted), &[]);
    caught(with("transport/endpoint/tests/sockets.rs", lifted), &[]);
    caught(with("transport/endpoint/src/lib.rs", lifted), &["lifts a ban"]);
    caught(with("transport/src/socket.rs", "#[allow(clippy::disallowed_types)] struct X;"), &["lifts a ban"]);
    caught(with("transport/clippy.toml", ""), &["silently cancels"]);
    caught(with("offload/.clippy.toml", ""), &["silently cancels"]);
    caught(with("rustfmt.toml", ""), &["reorder_modules"]);
    caught(with("clippy.toml", &bans.replace("TcpStream", "")), &["does not ban std::net::TcpStream"]);
}

#[test]
fn requirements_can() {
    let with = |protocol: &str, source: &str, untested: &[&str]| {
        requirements(&Tree::made_up(&[("docs/PROTOCOL.md", protocol), ("offload/src/a.rs", source)]), untested)
    };
    let protocol = "- **[P-1.1]** One.\n| [P-1.2] | two, see [P-1.1] |\nAs [P-1.1] says.";
    let tests = "// [P-1.1]\n#[cfg(test)]\nmod tests {\n // [P-1.1] [P-1.2]\n}";
    caught(with(protocol, tests, &[]), &[]);
    caught(with(protocol, "// [P-1.1] [P-1.2]", &[]), &["no test cites [P-1.1]", "no test cites [P-1.2]"]);
    caught(with(protocol, "// [P-1.1]", &["1.1", "1.2"]), &[]);
    caught(with(protocol, tests, &["1.2", "9.9"]), &["[P-1.2] is excused", "[P-9.9] is excused"]);
    caught(with(protocol, &format!("// [P-7.1] [P-n.m]\n{tests}"), &[]), &["cites [P-7.1]"]);
    caught(
        with("[P-1.1] a\n[P-1.1] b [P-2.1]", "", &["1.1"]),
        &["defines [P-1.1] twice", "docs/PROTOCOL.md cites [P-2.1]"],
    );
    caught(with("Nothing.", "", &[]), &["defines no requirement"]);
    caught(requirements(&Tree::made_up(&[]), &[]), &["does not exist"]);
    let file = ("offload/tests/x.rs", "// [P-1.1]");
    caught(requirements(&Tree::made_up(&[("docs/PROTOCOL.md", "[P-1.1] One."), file]), &[]), &[]);
}

#[test]
fn changelog_can() {
    caught(changelog(&Tree::made_up(&[("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n")])), &[]);
    caught(changelog(&Tree::made_up(&[("CHANGELOG.md", "# Changelog\n\n## [0.1.0]\n")])), &["no `## [Unreleased]`"]);
    caught(changelog(&Tree::default()), &["no `## [Unreleased]`"]);
}
