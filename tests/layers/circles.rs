//! No circles: between files, and between the rooms (files and folders) of a folder.
//!
//! A file and the `mod.rs` of the folder it is in may know each other: the folder's common types stand there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::scan::{halves, root, sources, test_files};

/// A module by its path from the crate's root.
type Module = Vec<String>;
/// Who imports whom.
type Graph = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn files_have_no_import_circles() {
    let mut graph = imports();
    for (module, imported) in &mut graph {
        imported.retain(|other| !other.starts_with(module) && !module.starts_with(other));
    }
    assert_eq!(circles(&graph), Vec::<String>::new());
}

#[test]
fn rooms_have_no_import_circles() {
    let graph = imports();
    let folders: BTreeSet<&[String]> =
        graph.keys().flat_map(|module| (0..module.len()).map(|length| &module[..length])).collect();
    let mut found = Vec::new();
    for folder in folders {
        let room = |module: &Module| module.starts_with(folder).then(|| module.get(folder.len()).cloned()).flatten();
        let mut rooms = Graph::new();
        for (module, imported) in &graph {
            for other in imported {
                if let (Some(from), Some(to)) = (room(module), room(other))
                    && from != to
                {
                    rooms.entry(vec![from]).or_default().insert(vec![to]);
                }
            }
        }
        found.extend(circles(&rooms).into_iter().map(|circle| format!("{}: {circle}", folder.join("::"))));
    }
    assert_eq!(found, Vec::<String>::new());
}

/// What each file of the library imports, without tests.
fn imports() -> Graph {
    let files = sources();
    let tests = test_files(&files);
    let module = |path: &std::path::Path| -> Module {
        let path = path.strip_prefix(root().join("src")).expect("a source").with_extension("");
        let mut parts: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        parts.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
        parts
    };
    let is_test = |path: &std::path::Path| {
        tests.contains(path) || path.ancestors().any(|folder| tests.contains(&folder.join("mod.rs")))
    };
    let modules: BTreeSet<Module> = files.iter().map(|path| module(path)).collect();
    let library = files.iter().filter(|path| !is_test(path) && path.parent().is_some_and(|p| !p.ends_with("bin")));
    let mut graph = Graph::new();
    for path in library.filter(|path| !path.ends_with("main.rs")) {
        let own = module(path);
        let (code, _) = halves(&fs::read_to_string(path).expect("a source"));
        let mut imported = BTreeSet::new();
        for path in paths(&code) {
            let Some(path) = absolute(&path, &own, &modules) else { continue };
            let whose = (1..=path.len()).rev().map(|length| &path[..length]).find(|path| modules.contains(*path));
            imported.extend(whose.filter(|other| *other != own).map(<[String]>::to_vec));
        }
        graph.insert(own, imported);
    }
    graph
}

/// The path from the crate's root; `None` for one of another crate.
fn absolute(path: &[String], own: &Module, modules: &BTreeSet<Module>) -> Option<Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&[][..], &path[1..]),
        "self" => (&own[..], &path[1..]),
        "super" => (own.get(..own.len().checked_sub(ups)?)?, &path[ups..]),
        child if modules.contains(&[own.as_slice(), &[child.to_owned()]].concat()) => (&own[..], path),
        _ => return None,
    };
    Some([base, rest].concat())
}

/// Every path in the code: those of `use`, taken apart, and those in the middle of it. What a file publishes of its
/// children (`pub use`) is no import.
fn paths(code: &str) -> Vec<Module> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let at = statement
            .rfind("use ")
            .filter(|at| statement[..*at].trim_end().lines().next_back().is_none_or(ends_before));
        match at {
            Some(at) => {
                rest.push_str(&statement[..at]);
                let published =
                    statement[..at].trim_end().ends_with(')') || statement[..at].trim_end().ends_with("pub");
                if !published {
                    tree(statement[at + 4..].trim_end_matches(';').trim(), &[], &mut found);
                }
            }
            None => rest.push_str(statement),
        }
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for path in rest.split(|c| !word(c)).filter(|path| path.contains("::")) {
        found.push(path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect());
    }
    found
}

/// Whether a `use` after this line begins a statement.
fn ends_before(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || [";", "{", "}", "]", "pub", ")"].iter().any(|end| line.ends_with(end))
}

/// The paths of a `use` tree.
fn tree(text: &str, before: &[String], found: &mut Vec<Module>) {
    let text = text.trim();
    let Some((head, group)) = text.strip_suffix('}').and_then(|text| text.split_once('{')) else {
        let path = text.split(" as ").next().unwrap_or_default();
        let parts = path.split("::").filter(|part| !part.is_empty() && *part != "self" || before.is_empty());
        let path: Module = before.iter().cloned().chain(parts.map(str::to_owned)).collect();
        found.extend((!path.is_empty()).then_some(path));
        return;
    };
    let head: Module = before.iter().cloned().chain(parts(head)).collect();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                tree(&group[begin..at], &head, found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !group[begin..].trim().is_empty() {
        tree(&group[begin..], &head, found);
    }
}

fn parts(path: &str) -> impl Iterator<Item = String> {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned)
}

/// Every import that can be followed back to where it begins.
fn circles(graph: &Graph) -> Vec<String> {
    let reaches = |from: &Module, to: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for other in graph.get(module).into_iter().flatten() {
                if other == to {
                    return true;
                }
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        false
    };
    let edges = graph.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
    edges
        .filter(|(from, to)| reaches(to, from))
        .map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::")))
        .collect()
}

#[test]
fn circles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.entry(vec![(*from).to_owned()]).or_default().insert(vec![(*to).to_owned()]);
        }
        graph
    };
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")])).len(), 3);
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), Vec::<String>::new());
    let own: Module = vec!["kernel".into(), "link".into()];
    let modules = BTreeSet::from([own.clone(), [own.clone(), vec!["route".into()]].concat()]);
    let absolute = |path: &str| absolute(&parts(path).collect::<Module>(), &own, &modules).map(|path| path.join("::"));
    assert_eq!(absolute("crate::model::x").as_deref(), Some("model::x"));
    assert_eq!(absolute("super::nft::y").as_deref(), Some("kernel::nft::y"));
    assert_eq!(absolute("route::z").as_deref(), Some("kernel::link::route::z"));
    assert_eq!(absolute("std::fs"), None);
    let found: BTreeSet<String> = paths("use a::{b, c::{self, D}};\npub use e::F;\nfn g() { h::i::j(); }")
        .iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(found, BTreeSet::from(["a::b", "a::c", "a::c::D", "h::i::j"].map(str::to_owned)));
}
