//! Rust text as `tidy` reads it: code without comments and literals, tokens, the module paths that code names. A reader of shapes,
//! not a parser: it refuses nothing, and what is not Rust gives nonsense.

/// Where a character of a source file stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    Line,
    Block(u32),
    Text,
    RawText(usize),
}

/// The code of a source file: comments, strings and character literals become spaces, lines stay where they were.
pub(crate) fn code(source: &str) -> String {
    let all: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut place = Place::Code;
    let mut at = 0;
    while at < all.len() {
        let (len, next) = step(&all, at, place);
        for &c in &all[at..at + len] {
            let kept = place == Place::Code && next == Place::Code && len == 1;
            out.push(if kept || c == '\n' { c } else { ' ' });
        }
        at += len;
        place = next;
    }
    out
}

/// How many characters from `at` belong together, and the place after them.
fn step(all: &[char], at: usize, place: Place) -> (usize, Place) {
    let (c, next) = (all[at], all.get(at + 1).copied());
    match place {
        Place::Code => match (c, next) {
            ('/', Some('/')) => (2, Place::Line),
            ('/', Some('*')) => (2, Place::Block(1)),
            ('"', _) => (1, Place::Text),
            ('r', Some('"' | '#')) if !inside_name(all, at) => raw_start(all, at),
            ('\'', _) => (char_literal(all, at).unwrap_or(1), Place::Code),
            _ => (1, Place::Code),
        },
        Place::Line => (1, if c == '\n' { Place::Code } else { Place::Line }),
        Place::Block(depth) => match (c, next) {
            ('/', Some('*')) => (2, Place::Block(depth + 1)),
            ('*', Some('/')) => (2, if depth == 1 { Place::Code } else { Place::Block(depth - 1) }),
            _ => (1, place),
        },
        Place::Text => match (c, next) {
            ('\\', Some(_)) => (2, place),
            ('"', _) => (1, Place::Code),
            _ => (1, place),
        },
        Place::RawText(hashes) => {
            let ends = c == '"' && (1..=hashes).all(|i| all.get(at + i) == Some(&'#'));
            if ends { (1 + hashes, Place::Code) } else { (1, place) }
        }
    }
}

/// `r"`, `r#"`; a raw name such as `r#type` stays code. `br"` comes here too, at its `r`.
fn raw_start(all: &[char], at: usize) -> (usize, Place) {
    let hashes = all[at + 1..].iter().take_while(|&&c| c == '#').count();
    if all.get(at + 1 + hashes) == Some(&'"') { (2 + hashes, Place::RawText(hashes)) } else { (1, Place::Code) }
}

fn inside_name(all: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|i| all[i]);
    let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match before(1) {
        Some('b' | 'c') => in_name(before(2)),
        other => in_name(other),
    }
}

/// The length of a character literal, or none where the quote opens a lifetime.
fn char_literal(all: &[char], at: usize) -> Option<usize> {
    if all.get(at + 1) == Some(&'\\') {
        let end = (at + 3..(at + 14).min(all.len())).find(|&i| all[i] == '\'')?;
        return Some(end + 1 - at);
    }
    (all.get(at + 2) == Some(&'\'')).then_some(3)
}

/// Names, numbers and punctuation, `::` as one.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        found.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    found
}

fn is_name(token: &str) -> bool {
    token.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// The modules that a crate root lists, in its order; `mod a;` and `mod a {` alike.
pub(crate) fn modules<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut depth = 0_u32;
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "mod" if depth == 0 => found.extend(tokens.get(at + 1)),
            _ => {}
        }
    }
    found
}

/// The paths of one tree of a `use`, or the one path of an expression, from a token on: `a::{b, c::d as e}` is
/// `a b`, `a c d`. The second value is the name by which each is known afterwards.
pub(crate) fn paths<'a>(tokens: &[&'a str]) -> Vec<(Vec<&'a str>, &'a str)> {
    let mut found = Vec::new();
    tree(tokens, 0, &[], &mut found);
    found
}

fn tree<'a>(tokens: &[&'a str], mut at: usize, prefix: &[&'a str], found: &mut Vec<(Vec<&'a str>, &'a str)>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(&"{") => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    let next = tree(tokens, at, &path, found);
                    at = if tokens.get(next) == Some(&",") { next + 1 } else { next.max(at + 1) };
                }
                return at + 1;
            }
            Some(&name) if is_name(name) || name == "*" => {
                path.push(name);
                at += 1;
            }
            _ => return at,
        }
        if tokens.get(at) == Some(&"::") {
            at += 1;
            continue;
        }
        let mut known = path.last().copied().unwrap_or_default();
        if tokens.get(at) == Some(&"as") {
            known = tokens.get(at + 1).copied().unwrap_or_default();
            at += 2;
        }
        found.push((path, known));
        return at;
    }
}

/// What a module's file names at the root of its crate: the first name after `crate::`, or after as many `super::` as the place is
/// deep. `depth` is 1 for `src/a.rs`, 2 for `src/a/b.rs`.
pub(crate) fn names_at_root<'a>(tokens: &[&'a str], depth: usize) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut braces = 0;
    let mut inline: Vec<usize> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            "{" => braces += 1,
            "}" => {
                braces = usize::saturating_sub(braces, 1);
                inline.retain(|&opened| opened < braces + 1);
            }
            "mod" if tokens.get(at + 2) == Some(&"{") => inline.push(braces + 1),
            "crate" if tokens.get(at + 1) == Some(&"::") => first_names(&tokens[at + 2..], &mut found),
            "super" => {
                let mut up = 0;
                while tokens.get(at) == Some(&"super") && tokens.get(at + 1) == Some(&"::") {
                    up += 1;
                    at += 2;
                }
                if up == depth + inline.len() {
                    first_names(&tokens[at..], &mut found);
                }
                // The token after the chain is looked at again: it may be a brace.
                if up > 0 {
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn first_names<'a>(tokens: &[&'a str], found: &mut Vec<&'a str>) {
    found.extend(paths(tokens).iter().filter_map(|(path, _)| path.first().copied()));
}

/// The part of a file that is compiled for tests only: the bodies of `#[cfg(test)] mod x { .. }`, comments included.
pub(crate) fn test_part(source: &str) -> String {
    let code = code(source);
    let mut found = String::new();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(test)]").map(|i| i + from) {
        let after = start + "#[cfg(test)]".len();
        from = after;
        if tokens(&code[after..]).iter().find(|t| !["pub", "(", "crate", ")"].contains(t)) != Some(&"mod") {
            continue;
        }
        let (open, end) = (code[after..].find('{').map(|i| i + after), code[after..].find(';').map(|i| i + after));
        let Some(open) = open.filter(|open| end.is_none_or(|end| *open < end)) else { continue };
        let mut depth = 0;
        let close = code[open..].char_indices().find_map(|(i, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + i)
        });
        from = close.unwrap_or(code.len());
        found.push_str(&slice(source, &code, open, from));
    }
    found
}

/// The same range of the source as of its code. Blanking keeps the number of characters, not of bytes.
fn slice(source: &str, code: &str, open: usize, close: usize) -> String {
    let (skip, take) = (code[..open].chars().count(), code[open..close].chars().count());
    source.chars().skip(skip).take(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let source = "let a = \"unsafe \\\" unsafe\"; // unsafe\n/* unsafe /* unsafe */ unsafe */ let b = 'u';\n\
                      let c = r#\"unsafe \" unsafe\"#; let d = br\"unsafe\"; fn e<'a>(x: &'a str) {} let q = '\"'; let n = '\\''; live";
        let code = code(source);
        assert!(!code.contains("unsafe"), "{code}");
        assert!(code.contains("live") && code.contains("fn e<'a>(x: &'a str) {}"), "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
        assert!(super::code("unsafe { r#type() }").contains("unsafe { r#type"));
    }

    #[test]
    fn a_tree_of_uses_is_taken_apart() {
        let found = paths(&tokens("a::{b, c::d as e, f::{self, g}, *}; rest"));
        let shown: Vec<String> = found.iter().map(|(path, known)| format!("{}={known}", path.join("."))).collect();
        assert_eq!(shown, ["a.b=b", "a.c.d=e", "a.f.self=self", "a.f.g=g", "a.*=*"]);
    }

    #[test]
    fn names_at_the_root_are_found_from_any_depth() {
        let names = |source: &str, depth| names_at_root(&tokens(source), depth).join(" ");
        assert_eq!(names("use crate::{ids::Id, limits}; fn f() { crate::late::go() }", 1), "ids limits late");
        assert_eq!(
            names("use super::early::X; mod tests { use super::*; use super::super::late; } use super::end;", 1),
            "early late end"
        );
        assert_eq!(names("use super::sibling; use super::super::{late, x::y};", 2), "late x");
        assert_eq!(names("mod inner { fn f() { if a { b } } } fn g() { super::late() }", 1), "late");
        assert_eq!(names("pub(crate) fn f() {} extern crate alloc;", 1), "");
    }

    #[test]
    fn only_test_modules_are_the_test_part() {
        let source = "#[cfg(test)]\nextern crate std;\n// é before\n#[cfg(test)]\nmod tests { /* [inside] { */ fn f() {} }\n// after";
        let part = test_part(source);
        assert!(part.contains("[inside]") && !part.contains("before") && !part.contains("after"), "{part}");
        assert_eq!(test_part("#[cfg(test)] mod tests; mod other { real }"), "");
    }
}
