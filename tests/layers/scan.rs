//! Reads the sources as text: code without comments, strings and tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn sources() -> Vec<PathBuf> {
    let files = rust_files("src");
    assert!(files.len() > 20, "the sources were not found");
    files
}

pub(crate) fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Files that are modules under `#[cfg(test)]`: `#[cfg(test)] mod tests;`.
pub(crate) fn test_files(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for (_, rest) in text.match_indices("#[cfg(test)]").map(|(at, mark)| (at, &text[at + mark.len()..])) {
            let declaration = rest.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
            let Some(name) =
                declaration.strip_prefix("mod ").and_then(|rest| rest.split_once(';')).map(|split| split.0)
            else {
                continue;
            };
            let folder = match file.file_stem().unwrap().to_str().unwrap() {
                "mod" | "lib" | "main" => file.parent().unwrap().to_owned(),
                stem => file.parent().unwrap().join(stem),
            };
            found.insert(folder.join(format!("{name}.rs")));
            found.insert(folder.join(name).join("mod.rs"));
        }
    }
    found
}

/// The text in two halves of the same length: code without comments and strings, and strings without code. Code under
/// `#[cfg(test)]` is in neither.
pub(crate) fn halves(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let (mut code, mut strings) = (vec![b' '; bytes.len()], vec![b' '; bytes.len()]);
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (end, into) = if rest.starts_with(b"//") {
            (at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with(b"/*") {
            (at + find(rest, b"*/").map_or(rest.len(), |length| length + 2), None)
        } else if let Some(length) = raw_string(rest, at == 0 || !is_word(bytes[at - 1])) {
            (at + length, Some(&mut strings))
        } else if rest[0] == b'"' {
            (at + string(rest), Some(&mut strings))
        } else if let Some(length) = character(rest) {
            (at + length, None)
        } else {
            (at + 1, Some(&mut code))
        };
        if let Some(into) = into {
            into[at..end].copy_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    blank_tests(&mut code, &mut strings);
    (String::from_utf8_lossy(&code).into_owned(), String::from_utf8_lossy(&strings).into_owned())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Length of `r"…"`, `r#"…"#`, `br"…"` at the beginning.
fn raw_string(rest: &[u8], word_begins: bool) -> Option<usize> {
    let prefix = if rest.starts_with(b"br") { 2 } else { usize::from(rest.starts_with(b"r")) };
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if prefix == 0 || !word_begins || rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let begin = prefix + hashes + 1;
    Some(find(&rest[begin..], &close).map_or(rest.len(), |length| begin + length + close.len()))
}

/// Length of `"…"` at the beginning.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Length of a character literal at the beginning; a lifetime is none.
fn character(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    let close = if rest.get(1) == Some(&b'\\') { 3 } else { 2 };
    let window = rest.get(close..(close + 10).min(rest.len()))?;
    match rest.get(1)? {
        b'\\' => window.iter().position(|byte| *byte == b'\'').map(|length| close + length + 1),
        _ if window.first() == Some(&b'\'') => Some(3),
        // A character of several bytes.
        byte if *byte >= 0x80 => window.iter().position(|byte| *byte == b'\'').map(|length| close + length + 1),
        _ => None,
    }
}

/// Blanks what follows each `#[cfg(test)]`: to the end of its block or declaration.
fn blank_tests(code: &mut [u8], strings: &mut [u8]) {
    while let Some(begin) = find(code, b"#[cfg(test)]") {
        let mut depth = 0usize;
        let mut end = begin;
        for (at, byte) in code.iter().enumerate().skip(begin) {
            end = at + 1;
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                break;
            }
        }
        code[begin..end].fill(b' ');
        strings[begin..end].fill(b' ');
    }
}
