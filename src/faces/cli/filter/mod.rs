//! `--filter KEY=VALUE`, as Docker has it: several values of one key are alternatives, labels and different keys must all
//! hold.

mod containers;
mod events;
mod networks;
mod services;
mod stacks;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

pub(super) use containers::{container, containers, labels};
pub(super) use events::{event, events};
pub(super) use networks::{network, networks};
pub(super) use services::{member, members, service, services};
pub(super) use stacks::{stack_service, stack_services, stack_task, stack_tasks};

/// One `--filter`, checked.
#[derive(Debug, Clone)]
pub struct Filter {
    key: &'static str,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    /// The whole text.
    Exact(String),
    /// A part of the text.
    Part(Part),
    /// The key of a label, and its value if that matters.
    Label(String, Option<String>),
    Flag(bool),
    Ports(RangeInclusive<u16>, String),
}

/// A part of a text. `^` in front ties it to the beginning, `$` behind to the end.
#[derive(Debug, Clone)]
struct Part {
    text: String,
    begins: bool,
    ends: bool,
}

/// Why there is no such filter, in one line.
#[derive(Debug)]
pub struct BadFilter(String);

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFilter {}

/// A key and how its values are read.
type Key = (&'static str, fn(&str) -> Option<Value>);

fn parse(text: &str, keys: &[Key]) -> Result<Filter, BadFilter> {
    let names = || keys.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
    let Some((key, value)) = text.split_once('=') else {
        return Err(BadFilter(format!("invalid filter '{text}': use KEY=VALUE with one of {}", names())));
    };
    let (key, value) = (key.trim().to_lowercase(), value.trim());
    let Some((known, read)) = keys.iter().find(|(known, _)| *known == key) else {
        return Err(BadFilter(format!("invalid filter '{key}': use one of {}", names())));
    };
    match read(value) {
        Some(value) => Ok(Filter { key: known, value }),
        None => Err(BadFilter(format!("invalid filter '{key}={value}': it has no such value"))),
    }
}

/// Whether all filters hold, where `holds` says so of one.
fn all(filters: &[Filter], holds: impl Fn(&Filter) -> bool) -> bool {
    let alternative =
        |filter: &Filter| filter.key != "label" && filters.iter().any(|other| other.key == filter.key && holds(other));
    filters.iter().all(|filter| holds(filter) || alternative(filter))
}

/// Whether a filter with this key was given.
fn has(filters: &[Filter], key: &str) -> bool {
    filters.iter().any(|filter| filter.key == key)
}

fn exact(text: &str) -> Option<Value> {
    Some(Value::Exact(text.to_owned()))
}

fn part(text: &str) -> Option<Value> {
    let (begins, text) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let (ends, text) = text.strip_suffix('$').map_or((false, text), |rest| (true, rest));
    // Docker's names of containers begin with a slash, as in `^/web$`.
    let (begins, text) = text.strip_prefix('/').map_or((begins, text), |rest| (true, rest));
    Some(Value::Part(Part { text: text.to_owned(), begins, ends }))
}

fn label(text: &str) -> Option<Value> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    (!key.is_empty()).then(|| Value::Label(key.to_owned(), value))
}

fn flag(text: &str) -> Option<Value> {
    match text {
        "true" | "1" => Some(Value::Flag(true)),
        "false" | "0" => Some(Value::Flag(false)),
        _ => None,
    }
}

/// `80`, `80/udp`, `80-90/tcp`.
fn ports(text: &str) -> Option<Value> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let known = ["tcp", "udp", "sctp"].contains(&protocol);
    (known && first > 0 && first <= last).then(|| Value::Ports(first..=last, protocol.to_owned()))
}

impl Value {
    /// Whether it fits a text.
    fn is(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Part(Part { text: part, begins: true, ends: true }) => text == part,
            Self::Part(Part { text: part, begins: true, .. }) => text.starts_with(part),
            Self::Part(Part { text: part, ends: true, .. }) => text.ends_with(part),
            Self::Part(Part { text: part, .. }) => text.contains(part),
            Self::Label(..) | Self::Flag(_) | Self::Ports(..) => false,
        }
    }

    /// Whether it is this text or the beginning of it.
    fn begins(&self, text: &str) -> bool {
        matches!(self, Self::Exact(beginning) if !beginning.is_empty() && text.starts_with(beginning))
    }

    fn is_flag(&self, flag: bool) -> bool {
        matches!(self, Self::Flag(wanted) if *wanted == flag)
    }

    /// Whether it is among the labels.
    fn is_among(&self, labels: &BTreeMap<String, String>) -> bool {
        let Self::Label(key, value) = self else { return false };
        labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
    }

    /// Whether it has one of these ports.
    fn has_port(&self, ports: RangeInclusive<u16>, protocol: &str) -> bool {
        let Self::Ports(wanted, of) = self else { return false };
        of == protocol && wanted.start() <= ports.end() && ports.start() <= wanted.end()
    }
}

#[cfg(test)]
mod tests;
