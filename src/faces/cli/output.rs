//! The output of verbs besides tables: objects, JSON, and failures.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// Why a verb ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The reader of the output has gone: success.
    ClosedPipe,
    /// The arguments do not fit together (exit 2).
    Usage(String),
    /// Refused or failed (exit 1).
    Failed(String),
    /// Failed, and everything has been reported already (exit 1).
    Told,
}

impl Failure {
    /// Refused or failed: "ATTEMPT: WHY", in one line.
    pub(super) fn of(attempt: impl Display, why: impl Display) -> Self {
        Self::Failed(sentence(attempt, why))
    }

    /// Wrong usage: "ATTEMPT: WHY", in one line.
    pub(super) fn usage(attempt: impl Display, why: impl Display) -> Self {
        Self::Usage(sentence(attempt, why))
    }
}

/// "ATTEMPT: WHY", or only the reason if it begins with the attempt.
pub(super) fn sentence(attempt: impl Display, why: impl Display) -> String {
    let (attempt, why) = (attempt.to_string(), why.to_string());
    let text = if why.starts_with(&attempt) { why } else { format!("{attempt}: {why}") };
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::of("write to stdout", error),
        }
    }
}

/// Prints one JSON value.
pub(super) fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::of("print JSON", error))?;
    Ok(writeln!(out, "{text}")?)
}

/// Prints objects as aligned lines `path   value`, with an empty line between two objects.
pub(super) fn objects<T: Serialize>(out: &mut dyn Write, objects: &[T]) -> Result<(), Failure> {
    for (index, object) in objects.iter().enumerate() {
        let mut lines = Vec::new();
        let value = serde_json::to_value(object).map_err(|error| Failure::of("print", error))?;
        flatten("", &value, &mut lines);
        let width = lines.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
        if index > 0 {
            writeln!(out)?;
        }
        for (path, value) in lines {
            writeln!(out, "{}", format!("{path:width$}   {value}").trim_end())?;
        }
    }
    Ok(())
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(key, value)| flatten(&below(key), value, lines));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(index, item)| flatten(&below(&index.to_string()), item, lines));
        }
        Value::Array(items) => lines.push((path.to_owned(), items.iter().map(plain).collect::<Vec<_>>().join(", "))),
        other => lines.push((path.to_owned(), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Object(_) => "-".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_named_once() {
        assert_eq!(sentence("connect web to net1", "connect web to net1: no\nroom"), "connect web to net1: no room");
        assert_eq!(sentence("connect web to net1", "no room"), "connect web to net1: no room");
    }

    #[test]
    fn objects_become_paths() {
        let mut out = Vec::new();
        let object = serde_json::json!({"a": {"b": [1, 2]}, "c": [{"d": null}], "e": []});
        objects(&mut out, &[object]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a.b     1, 2\nc.0.d   -\ne\n");
    }
}
