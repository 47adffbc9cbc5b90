//! The house holds: imports go down only and never in circles, effects live in their home, files open with their story
//! and stay short, and the paths that the documents name exist.
//!
//! The scanner reads text, not syntax: it blanks comments, string literals and code under `#[cfg(test)]`, then looks
//! for paths that begin at the crate's root. Its own tests plant each offence and see it found.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

mod circles;
mod scan;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use scan::{halves, is_word, root, rust_files, sources, test_files};

/// Floors from the ground up; modules on the same floor do not know each other.
const FLOORS: &[&[&str]] = &[
    &["model", "base"],
    &["logic", "api", "os"],
    &["kernel", "runtimes", "store"],
    &["engine"],
    &["faces"],
    &["config"],
    &["app"],
];
/// Lower floors that a module must not use all the same: faces see the engine's door and snapshot only.
const CLOSED: &[(&str, &[&str])] = &[("faces", &["kernel", "runtimes", "store", "logic"])];
/// What only `app` may name: the engine knows the traits.
const IMPLEMENTATIONS: &[&str] = &["crate::kernel::linux", "crate::store::embedded", "redb::"];

/// An effect and the places that may have it.
struct Effect {
    /// As it stands in code.
    text: &'static str,
    /// Looked for in string literals (a path) instead of in code.
    in_strings: bool,
    /// Beginnings of the paths of the files that may have it.
    homes: &'static [&'static str],
}

const EFFECTS: &[Effect] = &[
    Effect { text: "unsafe", in_strings: false, homes: &["src/os/", "src/kernel/"] },
    Effect { text: "setns", in_strings: false, homes: &["src/os/", "src/kernel/"] },
    Effect { text: "Command::new", in_strings: false, homes: &["src/os/", "src/kernel/"] },
    Effect { text: "/proc", in_strings: true, homes: &["src/os/", "src/kernel/"] },
    Effect { text: "Instant::now", in_strings: false, homes: &["src/base/"] },
    Effect { text: "env::var", in_strings: false, homes: &["src/config.rs", "src/config/"] },
    Effect { text: "env::vars", in_strings: false, homes: &["src/config.rs", "src/config/"] },
    Effect { text: "env::var_os", in_strings: false, homes: &["src/config.rs", "src/config/"] },
    Effect { text: "process::exit", in_strings: false, homes: &[] },
];

/// What pure code does not name.
const IMPURE: &str = "tokio std::fs std::process std::thread std::net::TcpListener std::net::UdpSocket SystemTime::now \
                      Instant rand";
const PURE: &[&str] = &["src/model/", "src/logic/", "src/logic.rs", "src/model.rs"];

/// Lines of a file.
const LINES_MAX: usize = 400;

#[test]
fn imports_go_down_only() {
    report(&without_tests(), imports);
}

#[test]
fn effects_occur_only_in_their_modules() {
    report(&without_tests(), effects);
}

#[test]
fn every_file_starts_with_module_docs_and_stays_short() {
    let files: Vec<PathBuf> = ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect();
    report(&files, |path, text| {
        let mut wrong = Vec::new();
        if !text.starts_with("//!") {
            wrong.push(format!("{path}: does not begin with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{path}: {lines} lines, at most {LINES_MAX}"));
        }
        wrong
    });
}

#[test]
fn what_tests_share_is_in_their_crate() {
    let files: Vec<PathBuf> = ["src", "tests", "benches"].into_iter().flat_map(rust_files).collect();
    report(&files, |path, text| {
        let is_included = halves(text).0.contains("#[path");
        is_included.then(|| format!("{path}: includes a file by its path; see tests/support")).into_iter().collect()
    });
}

#[test]
fn every_floor_is_known() {
    let known: BTreeSet<&str> = FLOORS.iter().copied().flatten().copied().collect();
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
        assert!(
            known.contains(module.as_str()) || ["main", "lib", "bin"].contains(&module.as_str()),
            "src/{name} stands on no floor"
        );
    }
}

#[test]
fn paths_named_in_the_documents_exist() {
    let in_folder = |folder: &str| {
        let names = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| format!("{folder}/{}", name.into_string().unwrap())).collect::<Vec<_>>()
    };
    let docs = in_folder("docs").into_iter().chain(in_folder("docs/runtimes"));
    let main = ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"].map(str::to_owned);
    for document in main.into_iter().chain(docs).filter(|document| document.ends_with(".md")) {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        let part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        for word in text.split(|c| !part(c)) {
            let word = word.trim_end_matches(['.', '/']);
            let ours = ["src/", "tests/", "scripts/", "dist/", "benches/", "docs/", ".ci/", "cni-conf/"];
            if ours.iter().any(|folder| word.starts_with(folder)) {
                assert!(root().join(word).exists(), "{document} names {word}, which does not exist");
            }
        }
    }
}

/// The sources without those that only tests have.
fn without_tests() -> Vec<PathBuf> {
    let files = sources();
    let tests = test_files(&files);
    files.into_iter().filter(|file| !tests.contains(file)).collect()
}

fn report(files: &[PathBuf], rule: impl Fn(&str, &str) -> Vec<String>) {
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        wrong.extend(rule(&file.strip_prefix(root()).unwrap().to_string_lossy(), &text));
    }
    assert!(wrong.is_empty(), "{} offences:\n{}", wrong.len(), wrong.join("\n"));
}

/// The modules at the crate's root that the code names.
fn roots(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, mark) in code.match_indices("crate::") {
        let rest = &code[at + mark.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut fresh = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                c if fresh && (c.is_alphanumeric() || c == '_') => {
                    found.insert(word(&group[at..]));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.remove("");
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn imports(path: &str, text: &str) -> Vec<String> {
    let own = path.trim_start_matches("src/").split(['/', '.']).next().expect("a module").to_owned();
    let Some(own_floor) = floor(&own) else { return Vec::new() };
    let (code, _) = halves(text);
    let closed = CLOSED.iter().find(|(module, _)| *module == own).map_or(&[][..], |(_, closed)| closed);
    let mut wrong = Vec::new();
    for used in roots(&code) {
        let Some(used_floor) = floor(&used) else { continue };
        if used != own && (used_floor >= own_floor || closed.contains(&used.as_str())) {
            wrong.push(format!("{path}: {own} (floor {own_floor}) must not use {used} (floor {used_floor})"));
        }
    }
    // src/kernel/link.rs is two modules below the root: two `super` reach it.
    let below = path.trim_end_matches("/mod.rs").matches('/').count();
    if code.contains(&"super::".repeat(below)) {
        wrong.push(format!("{path}: reaches the crate's root with super; write crate::"));
    }
    if !["app", "kernel", "runtimes", "store"].contains(&own.as_str()) {
        let named = IMPLEMENTATIONS.iter().filter(|name| code.contains(*name));
        wrong.extend(named.map(|name| format!("{path}: names {name}, which only app may")));
    }
    wrong
}

fn effects(path: &str, text: &str) -> Vec<String> {
    let (code, strings) = halves(text);
    let mut wrong = Vec::new();
    for effect in EFFECTS {
        let within = if effect.in_strings { &strings } else { &code };
        let found = if effect.in_strings { within.contains(effect.text) } else { has_word(within, effect.text) };
        if found && !effect.homes.iter().any(|home| path.starts_with(home)) {
            wrong.push(format!("{path}: {} belongs in {:?}", effect.text, effect.homes));
        }
    }
    if PURE.iter().any(|pure| path.starts_with(pure)) {
        let named = IMPURE.split_whitespace().filter(|name| has_word(&code, name));
        wrong.extend(named.map(|name| format!("{path}: pure code names {name}")));
    }
    wrong
}

fn has_word(code: &str, text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| !is_word(*byte));
    let bytes = code.as_bytes();
    let before = |at: usize| at.checked_sub(1).and_then(|at| bytes.get(at));
    code.match_indices(text).any(|(at, _)| edge(before(at)) && edge(bytes.get(at + text.len())))
}

#[test]
fn wrong_imports_are_found() {
    for (path, text) in [
        ("src/model/a.rs", "use crate::logic::x;"),
        ("src/logic/a.rs", "use crate::api::x;"),
        ("src/logic/a.rs", "fn f() { crate::store::x() }"),
        ("src/kernel/a.rs", "use crate::{model::b, store::{c, d}};"),
        ("src/engine/a.rs", "use crate::faces;"),
        ("src/engine/a.rs", "use crate::kernel::linux::Linux;"),
        ("src/faces/http/a.rs", "use crate::kernel::KernelError;"),
        ("src/faces/http/a.rs", "use super::super::super::kernel;"),
        ("src/faces/mod.rs", "use super::kernel;"),
        ("src/faces/a.rs", "/* \" */ use crate::logic::zone; // \""),
        ("src/config.rs", "use crate::app;"),
    ] {
        assert_eq!(imports(path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/engine/a.rs", "use crate::kernel::Kernel; use crate::engine::b;"),
        ("src/faces/http/a.rs", "use super::super::cli; // crate::kernel\nlet s = \"crate::store::\";"),
        ("src/logic/a.rs", "#[cfg(test)]\nmod tests { use crate::store::x; fn f() { '{'; } }"),
        ("src/main.rs", "use netd::app;"),
    ] {
        assert_eq!(imports(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn wrong_effects_are_found() {
    for (path, text) in [
        ("src/engine/a.rs", "let x = unsafe { y() };"),
        ("src/faces/a.rs", "std::process::Command::new(x)"),
        ("src/faces/a.rs", "open(\"/proc/self\")"),
        ("src/faces/a.rs", "open(r#\"/proc/self\"#)"),
        ("src/engine/a.rs", "let c = '\"'; Instant::now();"),
        ("src/app.rs", "std::env::var(x)"),
        ("src/main.rs", "std::process::exit(1)"),
        ("src/logic/a.rs", "use std::fs;"),
        ("src/model/a.rs", "rand::random()"),
    ] {
        assert_eq!(effects(path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/kernel/a.rs", "unsafe { setns(x) }; open(\"/proc/self\"); Command::new(x)"),
        ("src/engine/a.rs", "#![allow(unsafe_code)] // unsafe\nlet brand = b\"unsafe\";"),
        ("src/faces/a.rs", "fn f<'a>(x: &'a str) {} // /proc"),
        ("src/logic/a.rs", "let operand = 1;\n#[cfg(test)]\nfn f() { std::fs::read(x); }\n"),
    ] {
        assert_eq!(effects(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
