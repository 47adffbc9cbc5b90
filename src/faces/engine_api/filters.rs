//! The query `filters`: `{"name": ["web"]}`, or `{"name": {"web": true}}` as Docker's own client sends it (moby,
//! api/types/filters). Values of one key are alternatives, except those of `label`, which must all match.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::RegexBuilder;
use serde_json::Value;

use super::failure::Failure;
use crate::model::publication::PortRange;

/// The longest text, and the largest expression, in bytes.
const MAX: usize = 64 << 10;
const EXPRESSION_MAX: usize = 64 << 10;

/// What a list is limited to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the query's value; every key must be one of `known`.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Failure> {
        let filters = Self::read(text)?;
        match filters.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Failure::bad(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }

    /// The same, whatever the keys are.
    pub(super) fn read(text: Option<&str>) -> Result<Self, Failure> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(Self::default()) };
        let wrong = |why: &str| Failure::bad(format!("invalid filter: {why}"));
        if text.len() > MAX {
            return Err(wrong("it is too long"));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        let fields = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            _ => return Err(wrong("use an object of lists")),
        };
        let mut read = BTreeMap::new();
        for (key, value) in fields {
            let values = match value {
                Value::Object(chosen) => chosen.into_iter().map(|(value, _)| value).collect(),
                Value::Array(items) => {
                    let text =
                        |item: Value| item.as_str().map(str::to_owned).ok_or_else(|| wrong("use lists of texts"));
                    items.into_iter().map(text).collect::<Result<_, _>>()?
                }
                Value::Null => BTreeSet::new(),
                _ => return Err(wrong("use an object of lists")),
            };
            read.insert(key, values);
        }
        Ok(Self(read))
    }

    /// The filters as Docker's client sends them, without these keys.
    pub(super) fn without(&self, keys: &[&str]) -> String {
        let kept = self.0.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
        let kept: BTreeMap<&String, &BTreeSet<String>> = kept.collect();
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Replaces each value of a key by these alternatives.
    pub(super) fn replace(&mut self, key: &str, with: impl Fn(&str) -> Vec<String>) {
        if let Some(values) = self.0.get_mut(key) {
            *values = values.iter().flat_map(|value| with(value)).collect();
        }
    }

    /// Whether one of the ports is in one of the ranges of the key (`80`, `80-90/tcp`), or there are no ranges.
    pub(super) fn ports(&self, key: &str, ports: &[(u16, String)]) -> Result<bool, Failure> {
        let mut any = !self.has(key);
        for wanted in self.get(key) {
            let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let parsed = first.parse().ok().zip(last.parse().ok());
            let range = parsed.and_then(|(first, last)| PortRange::new(first, last));
            let range = range.ok_or_else(|| Failure::bad(format!("invalid filter '{key}={wanted}'")))?;
            any = any || ports.iter().any(|(port, of)| range.contains(*port) && of == protocol);
        }
        Ok(any)
    }

    /// The values of the key; none: everything matches.
    pub(super) fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).next().is_some()
    }

    /// Whether one of the key's values is the text, or there are none.
    pub(super) fn exact(&self, key: &str, text: &str) -> bool {
        !self.has(key) || self.get(key).any(|value| value == text)
    }

    /// Whether one of the key's values, a regular expression, matches a part of the text, or there are none.
    pub(super) fn part(&self, key: &str, text: &str) -> bool {
        !self.has(key) || self.get(key).any(|value| matches(value, text))
    }

    /// Whether one of the key's values begins one of the texts, or there are none.
    pub(super) fn begins(&self, key: &str, texts: &[&str]) -> bool {
        !self.has(key) || self.get(key).any(|value| texts.iter().any(|text| text.starts_with(value)))
    }

    /// Whether the labels have all that are asked for (`KEY` or `KEY=VALUE`), and under `label!` none.
    pub(super) fn labels<'a>(&self, find: impl Fn(&str) -> Option<&'a str>) -> bool {
        let fits = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => find(key) == Some(value),
            None => find(wanted).is_some(),
        };
        self.get("label").all(fits) && !self.get("label!").any(fits)
    }

    /// The single truth value of the key.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, Failure> {
        let mut values = self.get(key);
        let Some(value) = values.next() else { return Ok(None) };
        match (value, values.next()) {
            ("true" | "1", None) => Ok(Some(true)),
            ("false" | "0", None) => Ok(Some(false)),
            _ => Err(Failure::bad(format!("invalid filter '{key}={value}'"))),
        }
    }
}

/// One that is not valid matches nothing, as in Docker.
fn matches(expression: &str, text: &str) -> bool {
    let built = RegexBuilder::new(expression).size_limit(EXPRESSION_MAX).build();
    built.is_ok_and(|expression| expression.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let list = Filters::parse(Some(r#"{"name":["web","db"],"dangling":["1"]}"#), &["name", "dangling"]).unwrap();
        let object =
            Filters::parse(Some(r#"{"name":{"web":true,"db":true},"dangling":{"1":true}}"#), &["name", "dangling"]);
        assert_eq!(Ok(list.clone()), object);
        assert!(list.part("name", "my-web") && !list.part("name", "cache") && list.exact("driver", "bridge"));
        assert_eq!(list.truth("dangling"), Ok(Some(true)));
        assert_eq!(Filters::parse(Some(""), &[]), Ok(Filters::default()));
    }

    #[test]
    fn names_are_regular_expressions() {
        assert!(matches("^/?web$", "/web") && !matches("^web$", "web2") && matches("w.b", "my-web"));
        assert!(!matches("(", "(") && !matches("(a{1000}){1000}", "a"));
    }

    #[test]
    fn labels_must_all_match() {
        let read = Filters::parse(Some(r#"{"label":["a","b=2"],"label!":["c"]}"#), &["label", "label!"]).unwrap();
        let of = |pairs: &[(&str, &'static str)]| {
            let pairs: BTreeMap<String, &str> = pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
            read.labels(|key| pairs.get(key).copied())
        };
        assert!(of(&[("a", ""), ("b", "2")]));
        assert!(!of(&[("a", ""), ("b", "3")]) && !of(&[("b", "2")]) && !of(&[("a", ""), ("b", "2"), ("c", "")]));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let why = |text: &str| Filters::parse(Some(text), &["name"]).unwrap_err();
        assert_eq!(why(r#"{"nope":["x"]}"#), Failure::bad("invalid filter 'nope'"));
        for wrong in ["x", "[]", "1", r#"{"name":1}"#, r#"{"name":[1]}"#, "{"] {
            assert!(why(wrong).message.starts_with("invalid filter"), "{wrong}");
        }
        let twice = Filters::parse(Some(r#"{"dangling":["true","false"]}"#), &["dangling"]).unwrap();
        assert!(twice.truth("dangling").is_err());
    }
}
