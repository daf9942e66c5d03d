//! The shape of the whole tree, checked: layers, module order, file heads, sizes, where `unsafe` and clocks may stand, and that code
//! and specification name the same requirements. Each check takes a tree and returns what is wrong with it; each has a second test that
//! shows it failing on a tree made up for it. It refuses to judge style: that is clippy's, rustfmt's and the reader's.
#![forbid(unsafe_code)]

#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/can_fail.rs"]
mod can_fail;

use source::{code, modules, names_at_root, paths, test_part, tokens};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every crate: its folder, its package, its level. A crate depends on lower levels only.
const CRATES: &[(&str, &str, u32)] = &[
    ("transport/wire", "wire", 0),
    ("transport/record", "record", 1),
    ("transport/proto", "proto", 1),
    ("transport/udp", "udp", 1),
    ("mlx5-shim", "mlx5-shim", 0),
    ("offload", "offload", 2),
    ("transport/attest", "attest", 1),
    ("transport/handshake", "handshake", 2),
    ("transport/endpoint", "endpoint", 3),
    ("transport", "sealane", 4),
    ("transport/sim", "sim", 4),
    ("benches/heap", "heap", 0),
    ("benches/micro", "micro", 6),
    ("fuzz/targets", "targets", 5),
    ("benches/load", "load", 5),
    ("transport/capture", "capture", 5),
    ("examples/kv", "kv", 5),
    ("examples/grpc", "grpc", 5),
    ("examples/proxy", "proxy", 5),
    ("examples/tensor", "tensor", 5),
    ("examples/balancer", "balancer", 5),
    ("transport/cli", "sealane-cli", 7),
    ("transport/capi", "capi", 5),
    ("benches/peers", "peers", 7),
];

/// Crates whose core can name no socket, clock, thread or randomly seeded map.
const NO_STD: &[&str] = &["transport/wire", "transport/record", "transport/proto"];

/// Where `unsafe` may stand, and why. A folder ends with `/`.
const UNSAFE: &[(&str, &str)] = &[
    ("transport/udp/", "socket options and control messages are system calls"),
    ("mlx5-shim/", "a card's libraries are C, and it shares memory with us"),
    ("transport/capi/", "pointers of C programs"),
    ("benches/heap/", "an allocator that counts is an `unsafe impl`"),
    ("transport/tests/allocations.rs", "an allocator that counts is an `unsafe impl`"),
];

/// Where, besides tests, the root clippy.toml's ban on clocks and sockets may be lifted: a prefix of the path.
const WORLDLY: &[&str] = &[
    "transport/src/driver",
    "transport/src/waiting",
    "transport/udp/",
    "transport/cli/",
    "benches/micro/",
    "benches/load/",
    "benches/peers/",
    "examples/kv/",
    "examples/grpc/",
];

/// What the root clippy.toml bans at the least.
const BANNED: &[&str] = &[
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::thread::sleep",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
];

/// A file may have this many lines.
const LINES_MAX: usize = 500;

/// Files that are longer, with the lines they may have. A number here only shrinks: when the file is `SLACK` lines shorter, lower it.
const EXCUSED: &[(&str, usize)] = &[];
const SLACK: usize = 25;

/// Requirements of docs/PROTOCOL.md that no test cites yet, without the `[P-` and `]`. This list only shrinks.
const UNTESTED: &[&str] = &[];

/// Path and text of each file of the tree that a check may ask for.
#[derive(Default)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    /// The tree that this test was compiled in.
    fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package stands in the workspace");
        let mut tree = Self::default();
        tree.walk(root, "");
        tree
    }

    fn made_up(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn walk(&mut self, dir: &Path, prefix: &str) {
        for entry in std::fs::read_dir(dir).expect("the tree can be read") {
            let entry = entry.expect("the tree can be read");
            let name = entry.file_name().into_string().expect("file names are UTF-8");
            let kind = entry.file_type().expect("the tree can be read");
            if kind.is_dir() && !name.starts_with('.') && name != "target" {
                self.walk(&entry.path(), &format!("{prefix}{name}/"));
            } else if kind.is_file() && (name.ends_with(".rs") || name.ends_with(".toml") || name.ends_with(".md")) {
                let text = std::fs::read_to_string(entry.path()).expect("sources are UTF-8");
                self.0.insert(format!("{prefix}{name}"), text);
            }
        }
    }

    fn text(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(path, _)| path.ends_with(".rs")).map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The root files that exist of a crate: `src/lib.rs`, `src/main.rs`.
    fn roots(&self, dir: &str) -> impl Iterator<Item = (String, &str)> {
        let both = [format!("{dir}/src/lib.rs"), format!("{dir}/src/main.rs")];
        both.into_iter().filter_map(|path| Some((path.clone(), self.0.get(&path)?.as_str())))
    }
}

type Faults = Vec<String>;

/// Module order: what a crate root lists first names nothing that it lists later.
fn module_order(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for (dir, ..) in CRATES {
        for (root, text) in tree.roots(dir) {
            let text = code(text);
            let root_tokens = tokens(&text);
            let order = modules(&root_tokens);
            let exported = exports(&root_tokens);
            for (rank, module) in order.iter().enumerate() {
                for (path, text) in tree.rust() {
                    let Some(depth) = depth_in(path, dir, module) else { continue };
                    for name in names_at_root(&tokens(&code(text)), depth) {
                        let name = exported.get(name).copied().unwrap_or(name);
                        if name == "*" {
                            faults.push(format!("{path} imports everything of its crate's root; name the modules"));
                        } else if let Some(place) = order.iter().position(|m| *m == name).filter(|place| *place > rank)
                        {
                            let later = order[place];
                            faults.push(format!("{path} names `{later}`, which {root} lists after `{module}`"));
                        }
                    }
                }
            }
        }
    }
    faults.dedup();
    faults
}

/// How deep a file stands below the root, if it belongs to that module.
fn depth_in(path: &str, dir: &str, module: &str) -> Option<usize> {
    let inside = path.strip_prefix(dir)?.strip_prefix("/src/")?.strip_suffix(".rs")?;
    let steps: Vec<&str> = inside.split('/').collect();
    (steps[0] == module).then(|| steps.len() - usize::from(steps.len() > 1 && steps.last() == Some(&"mod")))
}

/// Names that a crate root re-exports, and the module each comes from.
fn exports<'a>(root: &[&'a str]) -> BTreeMap<&'a str, &'a str> {
    let mut found = BTreeMap::new();
    for at in (0..root.len()).filter(|at| root[*at] == "use") {
        for (path, known) in paths(&root[at + 1..]) {
            let mut path = path.into_iter().skip_while(|step| matches!(*step, "self" | "crate"));
            if let (Some(module), Some(_)) = (path.next(), path.next()) {
                found.insert(known, module);
            }
        }
    }
    found
}

/// Every file opens with what it owns.
fn file_heads(tree: &Tree) -> Faults {
    let bare = |text: &str| {
        let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|rest| rest.trim().is_empty())
    };
    tree.rust().filter(|(_, text)| bare(text)).map(|(path, _)| format!("{path} does not open with `//!`")).collect()
}

/// `unsafe` stands where it may, is forbidden elsewhere, and the crates carry the attributes that hold their promises.
fn attributes(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    let excused = |path: &str| {
        UNSAFE.iter().any(|(allowed, _)| path == *allowed || allowed.ends_with('/') && path.starts_with(allowed))
    };
    for (path, text) in tree.rust() {
        if !excused(path) && tokens(&code(text)).contains(&"unsafe") {
            faults.push(format!("{path} has `unsafe`; it belongs in transport/udp or mlx5-shim"));
        }
    }
    for (allowed, _) in UNSAFE {
        if !tree.rust().any(|(path, text)| path.starts_with(allowed) && tokens(&code(text)).contains(&"unsafe")) {
            faults.push(format!("`{allowed}` may have `unsafe` but has none; take it off the list"));
        }
    }
    for (dir, ..) in CRATES {
        if tree.roots(dir).next().is_none() {
            faults.push(format!("{dir} has no src/lib.rs and no src/main.rs"));
        }
        for (root, text) in tree.roots(dir) {
            let dense: String = code(text).split_whitespace().collect();
            let mut needs = |wanted: bool, attribute: &str| {
                if wanted && !says(&dense, attribute) {
                    faults.push(format!("{root} lacks `#![{attribute}]`"));
                }
            };
            needs(!excused(&root), "forbid(unsafe_code)");
            needs(NO_STD.contains(dir), "no_std");
            needs(root.ends_with("lib.rs"), "deny(missing_docs)");
        }
    }
    faults
}

/// Whether code without blanks has this inner attribute, alone or in a list: `deny(a)` also in `#![deny(b,a)]`.
fn says(dense: &str, attribute: &str) -> bool {
    let (word, lint) = attribute.trim_end_matches(')').split_once('(').unwrap_or((attribute, ""));
    dense.split("#![").skip(1).filter_map(|rest| rest.split(']').next()?.strip_prefix(word)).any(|list| {
        let list = list.trim_start_matches('(').trim_end_matches(')');
        list.split(',').any(|one| one == lint)
    })
}

/// No file grows without end.
fn sizes(tree: &Tree, excused: &[(&str, usize)]) -> Faults {
    let mut faults = Faults::new();
    for (path, text) in tree.rust() {
        let lines = text.lines().count();
        match excused.iter().find(|(name, _)| *name == path) {
            None if lines > LINES_MAX => {
                faults.push(format!("{path} has {lines} lines: has it two reasons to change?"))
            }
            Some(_) if lines <= LINES_MAX => {
                faults.push(format!("{path} has {lines} lines and needs no excuse any more"))
            }
            Some((_, most)) if lines > *most => {
                faults.push(format!("{path} grew to {lines} lines, past its excuse of {most}"))
            }
            Some((_, most)) if lines + SLACK < *most => {
                faults.push(format!("{path} shrank to {lines} lines; lower its {most}"))
            }
            _ => {}
        }
    }
    let gone = excused.iter().filter(|(name, _)| !tree.0.contains_key(*name));
    faults.extend(gone.map(|(name, _)| format!("{name} is excused but does not exist")));
    faults
}

/// Arrows between crates point down, and every member of the workspace has a level.
fn levels(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    let workspace = tree.text("Cargo.toml");
    let members: BTreeSet<&str> = workspace
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.split('#').next()?.split('"').nth(1))
        .collect();
    for member in members.iter().filter(|member| !CRATES.iter().any(|(dir, ..)| dir == *member)) {
        faults.push(format!("{member} has no level in tests/tidy.rs"));
    }
    for (dir, package, level) in CRATES {
        if !members.contains(dir) {
            faults.push(format!("{dir} has a level but is no member of the workspace"));
        }
        let manifest = tree.text(&format!("{dir}/Cargo.toml"));
        for (name, value) in dependencies(manifest) {
            match CRATES.iter().find(|(_, package, _)| *package == name) {
                Some((.., below)) if below >= level => {
                    faults.push(format!("{package} (level {level}) depends on {name} (level {below})"));
                }
                None if value.contains("path") => {
                    faults.push(format!("{package} depends on {name} by path; it has no level"))
                }
                _ => {}
            }
        }
    }
    faults
}

/// Name and value of each dependency of a manifest, of every kind and target.
fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push((name, ""));
            }
        } else if inside && !line.starts_with('#') {
            found.extend(
                line.split_once('=').map(|(name, value)| (name.split('.').next().unwrap_or(name).trim(), value)),
            );
        }
    }
    found
}

/// One clippy.toml, with the bans; they are lifted only where the real world is the subject. rustfmt keeps modules in their order.
fn worlds(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for path in tree.0.keys().filter(|path| path.ends_with("clippy.toml") && *path != "clippy.toml") {
        faults.push(format!("{path} silently cancels the root's bans for the crates below it"));
    }
    for banned in BANNED.iter().filter(|banned| !tree.text("clippy.toml").contains(&format!("\"{banned}\""))) {
        faults.push(format!("the root clippy.toml does not ban {banned}"));
    }
    if !tree.text("rustfmt.toml").contains("reorder_modules = false") {
        faults.push("rustfmt.toml does not say `reorder_modules = false`".to_owned());
    }
    let may = |path: &str| path.contains("/tests/") || WORLDLY.iter().any(|allowed| path.starts_with(allowed));
    for (path, text) in tree.rust().filter(|(path, _)| !may(path)) {
        let named = code(text);
        if named.contains("clippy::disallowed_methods") || named.contains("clippy::disallowed_types") {
            faults.push(format!(
                "{path} lifts a ban on clocks or sockets; only the driver, udp, cli, benches and tests may"
            ));
        }
    }
    faults
}

/// The requirement ids in a text, without `[P-` and `]`.
fn cited(text: &str) -> impl Iterator<Item = &str> {
    text.split("[P-").skip(1).filter_map(|rest| {
        let id = rest.split(']').next()?;
        let (section, number) = id.split_once('.')?;
        [section, number].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).then_some(id)
    })
}

/// Code and specification name the same requirements, and tests cite them. In docs/PROTOCOL.md a line that opens with an id, after
/// markup only, defines it; all other places refer to it.
fn requirements(tree: &Tree, untested: &[&str]) -> Faults {
    let Some(protocol) = tree.0.get("docs/PROTOCOL.md") else {
        return vec!["docs/PROTOCOL.md does not exist".to_owned()];
    };
    let mut faults = Faults::new();
    let mut defined = BTreeSet::new();
    for line in protocol.lines() {
        let opens = line.split("[P-").next().is_some_and(|before| !before.contains(char::is_alphabetic));
        if let Some(id) = cited(line).next().filter(|_| opens)
            && !defined.insert(id)
        {
            faults.push(format!("docs/PROTOCOL.md defines [P-{id}] twice: two lines open with it"));
        }
    }
    if defined.is_empty() {
        faults.push("docs/PROTOCOL.md defines no requirement".to_owned());
    }
    let mut tested = BTreeSet::new();
    // This file and its parts make ids up.
    let sources = tree.rust().filter(|(path, _)| !path.starts_with("transport/tests/tidy"));
    for (path, text) in sources.chain([("docs/PROTOCOL.md", protocol.as_str())]) {
        for id in cited(text).filter(|id| !defined.contains(id)) {
            faults.push(format!("{path} cites [P-{id}], which docs/PROTOCOL.md does not define"));
        }
        if path.contains("/tests/") || path.ends_with("/tests.rs") {
            tested.extend(cited(text).map(str::to_owned));
        } else if path.ends_with(".rs") {
            tested.extend(cited(&test_part(text)).map(str::to_owned));
        }
    }
    for id in &defined {
        if !tested.contains(*id) && !untested.contains(id) {
            faults.push(format!("no test cites [P-{id}]"));
        }
    }
    for id in untested.iter().filter(|id| tested.contains(**id) || !defined.contains(**id)) {
        faults.push(format!("[P-{id}] is excused as untested, but is tested or not defined"));
    }
    faults
}

/// What users will feel is written down while it is made.
fn changelog(tree: &Tree) -> Faults {
    let mut lines = tree.text("CHANGELOG.md").lines().skip_while(|line| *line != "## [Unreleased]");
    match lines.next() {
        None => vec!["CHANGELOG.md has no `## [Unreleased]`".to_owned()],
        Some(_) => Faults::new(),
    }
}

fn clean(faults: Faults) {
    assert!(faults.is_empty(), "\n  {}\n", faults.join("\n  "));
}

/// Holds a check to naming what is wrong in a made-up tree, and nothing else.
fn caught(faults: Faults, expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, part) in faults.iter().zip(expected) {
        assert!(fault.contains(part), "{fault:?} does not say {part:?}");
    }
}

#[test]
fn modules_stand_bottom_up() {
    let tree = Tree::here();
    assert!(tree.rust().count() > 10, "the walk found no tree");
    clean(module_order(&tree));
}

#[test]
fn files_open_with_what_they_own() {
    clean(file_heads(&Tree::here()));
}

#[test]
fn crates_carry_their_promises() {
    clean(attributes(&Tree::here()));
}

#[test]
fn files_keep_their_size() {
    clean(sizes(&Tree::here(), EXCUSED));
}

#[test]
fn crates_depend_downwards() {
    clean(levels(&Tree::here()));
}

#[test]
fn clocks_and_sockets_stay_above() {
    clean(worlds(&Tree::here()));
}

#[test]
fn requirements_are_defined_and_tested() {
    clean(requirements(&Tree::here(), UNTESTED));
}

#[test]
fn the_changelog_is_kept() {
    clean(changelog(&Tree::here()));
}
