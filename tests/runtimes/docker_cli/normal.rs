//! What two engines cannot have in common is made equal: ids, times, sizes, and what is chosen at random.

use regex_lite::{Captures, Regex};
use serde_json::Value;

/// Patterns, and what stands for their matches, in the order in which they are replaced.
const REPLACED: [(&str, &str); 12] = [
    (r"\b[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    // Those of swarms.
    (r"\bSWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}\b", "TOKEN"),
    (r"\b[0-9a-z]{25}\b", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d| \+0000 UTC)", "TIME"),
    (r"\b(Less than a second|About a minute|\d+ seconds?|\d+ minutes?)( ago)?", "AGE"),
    // Subnets and addresses that the engine has chosen: no command names one of them.
    (r"\b(172\.(1[6-9]|2\d|3[01])|10\.(7[7-9]|8\d)|192\.168)\.\d+\.\d+/\d+", "SUBNET"),
    (r"\b(172\.(1[6-9]|2\d|3[01])|10\.(7[7-9]|8\d)|192\.168)\.\d+\.\d+\b", "ADDRESS"),
    (r"\b[3-6]\d{4}\b", "PORT"),
    (r"\b\d+(\.\d+)?[kM]?B\b", "SIZE"),
    (r#"("Pid": |"IPPrefixLen": )\d+"#, "${1}NUMBER"),
    // The width of a column.
    (r"(\S) {2,}", "${1}  "),
];
/// Docker's command line says so to a `run -d` now and then: it stops to wait for the container, and ends, in any order.
const BY_CHANCE: &str = "error waiting for container: context canceled";
const MAC: &str = r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b";
/// How the hardware addresses begin that the commands name.
const NAMED: &str = "02:00:";

/// See [`Normal::of`].
pub(super) struct Normal {
    replaced: Vec<(Regex, &'static str)>,
    mac: Regex,
}

impl Normal {
    pub(super) fn new() -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("a pattern");
        let replaced = REPLACED.iter().map(|(pattern, with)| (regex(pattern), *with)).collect();
        Self { replaced, mac: regex(MAC) }
    }

    /// The output of a command without what differs by chance.
    pub(super) fn of(&self, output: &str) -> String {
        let lines = output.lines().filter(|line| !line.contains(BY_CHANCE));
        let lines = || lines.clone().map(|line| pretty(line).unwrap_or_else(|| line.to_owned()));
        let mut text = pretty(output).unwrap_or_else(|| lines().collect::<Vec<_>>().join("\n"));
        for (pattern, with) in &self.replaced {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        let chosen = |mac: &Captures<'_>| if mac[0].starts_with(NAMED) { mac[0].to_owned() } else { "MAC".to_owned() };
        self.mac.replace_all(&text, chosen).trim_end().to_owned()
    }
}

/// JSON on lines of its own, so that patterns find numbers by their keys; `None`: it is something else.
fn pretty(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    if value.is_object() || value.is_array() { serde_json::to_string_pretty(&value).ok() } else { None }
}
