//! The functions of templates: Go's, Docker's, and netd's own for fields. Each call is counted and each result measured
//! ([`STEP`]), so that no template works without end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gotmpl::{FuncMap, TemplateError, Value};

use super::data::{Data, json, label_title};
use super::rewrite::{FIELD, STEP, arguments};

/// How many calls of functions, accesses to fields and runs of loops an object may take.
pub(super) const WORK_MAX: u64 = 1_000_000;
/// The size of a text that a function may return, in bytes, and of a list, in items. A container's JSON is smaller.
const RESULT_MAX: usize = 4 << 20;

type Function = fn(&[Value]) -> Result<Value, String>;

/// Docker's functions.
const DOCKER: &[(&str, Function)] = &[
    ("join", join),
    ("json", |args| Ok(json(one(args)?).to_string().into())),
    ("lower", |args| Ok(text(args, 0)?.to_lowercase().into())),
    ("pad", pad),
    ("split", split),
    ("title", |args| Ok(title(text(args, 0)?).into())),
    ("truncate", truncate),
    ("upper", |args| Ok(text(args, 0)?.to_uppercase().into())),
];

/// The functions that leave the title of a column as it is.
const TITLES: &[&str] = &["index", "join", "json", "len", "lower", "split", "title", "truncate", "upper"];

/// Go's own functions, which the engine brings along.
const GO: &[&str] = &[
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice", "urlquery",
];

/// Whether templates have this function.
pub(super) fn known(name: &str) -> bool {
    GO.contains(&name) || DOCKER.iter().any(|(known, _)| *known == name)
}

/// netd's functions for one set of objects, beside Go's own. With `header`, those that make the titles of its columns.
pub(super) fn functions(data: &Arc<Data>, header: bool, work: &Arc<AtomicU64>) -> FuncMap {
    let mut all = FuncMap::new();
    for (name, function) in DOCKER {
        all.insert((*name).into(), Arc::new(move |args: &[Value]| function(args).map_err(TemplateError::Exec)));
    }
    let of = data.clone();
    all.insert("index".into(), Arc::new(move |args: &[Value]| index(&of, args)));
    let of = data.clone();
    all.insert(FIELD.into(), Arc::new(move |args: &[Value]| field(&of, header, args).map_err(TemplateError::Exec)));
    if header {
        for name in TITLES {
            all.insert((*name).into(), Arc::new(|args: &[Value]| Ok(args.first().cloned().unwrap_or(Value::Nil))));
        }
    }
    let work = work.clone();
    all.insert(STEP.into(), Arc::new(move |args: &[Value]| step(&work, args)));
    all
}

/// Counts a step, measures its result, and passes it on.
fn step(work: &AtomicU64, args: &[Value]) -> gotmpl::Result<Value> {
    if work.fetch_add(1, Ordering::Relaxed) >= WORK_MAX {
        return Err(TemplateError::Exec(format!("it takes more than {WORK_MAX} steps for one object")));
    }
    match args {
        [] => Ok("".into()),
        [result, ..] if result.len().is_some_and(|size| size > RESULT_MAX) => Err(TemplateError::Exec(too_long())),
        [result, ..] => Ok(result.clone()),
    }
}

fn too_long() -> String {
    format!("a value is longer than {RESULT_MAX} bytes or items")
}

/// Follows the names from a value.
fn field(data: &Data, header: bool, args: &[Value]) -> Result<Value, String> {
    let Some((place, value, names, arguments)) = arguments(args) else { return Err("no field".into()) };
    let names = || names.iter().filter_map(Value::as_str);
    let last = names().next_back().unwrap_or_default();
    if header {
        return Ok(match arguments {
            [Value::String(key)] => label_title(key).into(),
            _ => data.title(last).into(),
        });
    }
    let mut value = value.clone();
    let before = if arguments.is_empty() { names().count() } else { names().count() - 1 };
    for name in names().take(before) {
        value = data.field(&value, name).map_err(|why| format!("{place}: {why}"))?;
    }
    match arguments {
        [] => Ok(value),
        arguments => data.method(&value, last, arguments).map_err(|why| format!("{place}: {why}")),
    }
}

fn index(data: &Data, args: &[Value]) -> gotmpl::Result<Value> {
    let Some((value, keys)) = args.split_first() else {
        return Err(TemplateError::Exec("wrong number of args for index: want at least 1 got 0".into()));
    };
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Map(map), Value::String(key)) => data.index(map, key).map_err(TemplateError::Exec)?,
            _ => value.index(key)?,
        };
    }
    Ok(value)
}

fn one(args: &[Value]) -> Result<&Value, String> {
    match args {
        [value] => Ok(value),
        _ => Err(format!("wrong number of args: want 1 got {}", args.len())),
    }
}

/// The argument that must be a text.
fn text(args: &[Value], at: usize) -> Result<&str, String> {
    match args.get(at) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Nil) => Err("invalid value; expected string".into()),
        Some(other) => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
        None => Err(format!("wrong number of args: want at least {} got {at}", at + 1)),
    }
}

/// The argument that must be a length.
fn length(args: &[Value], at: usize) -> Result<usize, String> {
    let number = args.get(at).ok_or_else(|| format!("wrong number of args: want {} got {at}", at + 1))?;
    let Value::Int(number) = number else {
        return Err(format!("wrong type for value; expected int; got {}", number.type_name()));
    };
    usize::try_from(*number).ok().filter(|length| *length <= RESULT_MAX).ok_or_else(|| format!("bad length {number}"))
}

fn join(args: &[Value]) -> Result<Value, String> {
    let separator = text(args, 1)?;
    let items: Vec<String> = match &args[0] {
        Value::Nil => Vec::new(),
        Value::List(items) => items.iter().map(ToString::to_string).collect(),
        Value::Map(map) => {
            let mut items: Vec<String> = map.values().map(ToString::to_string).collect();
            items.sort();
            items
        }
        other => return Err(format!("expected slice, got {}", other.type_name())),
    };
    let size: usize = items.iter().map(|item| item.len() + separator.len()).sum();
    if size > RESULT_MAX.saturating_mul(2) {
        return Err(too_long());
    }
    Ok(items.join(separator).into())
}

fn split(args: &[Value]) -> Result<Value, String> {
    let (text, separator) = (text(args, 0)?, text(args, 1)?);
    let parts: Vec<Value> = match separator {
        "" => text.chars().map(|one| one.to_string().into()).collect(),
        separator => text.split(separator).map(Value::from).collect(),
    };
    Ok(parts.into())
}

fn pad(args: &[Value]) -> Result<Value, String> {
    let (text, before, after) = (text(args, 0)?, length(args, 1)?, length(args, 2)?);
    if text.is_empty() {
        return Ok("".into());
    }
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

/// At most so many bytes, in whole characters.
fn truncate(args: &[Value]) -> Result<Value, String> {
    let (text, length) = (text(args, 0)?, length(args, 1)?);
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Ok(text[..end].into())
}

/// The first letter of each word as a capital.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for one in text.chars() {
        match within {
            false => out.extend(one.to_uppercase()),
            true => out.push(one),
        }
        within = one.is_alphanumeric() || matches!(one, '_' | '\'');
    }
    out
}
