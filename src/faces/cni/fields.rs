//! JSON objects, read key by key: what is wrong is told with the key's path and its value. `null` is absence, as Go's
//! decoder has it.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::failure::{Failure, UNSUPPORTED_FIELD};
use crate::model::Invalid;

/// An object and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole document.
    pub(super) fn root(map: &'a Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// An object that stands somewhere.
    pub(super) fn of(value: &'a Value, path: String) -> Result<Self, Failure> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(Failure::value(&path, other, "use an object")),
        }
    }

    /// The path of a key.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.map.values().all(Value::is_null)
    }

    /// The value of a key is wrong.
    pub(super) fn wrong(&self, key: &str, why: impl std::fmt::Display) -> Failure {
        Failure::value(&self.at(key), self.map.get(key).unwrap_or(&Value::Null), why)
    }

    /// A text; the empty one is none.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(key, "use a string")),
        }
    }

    /// A text in a form of the model's.
    pub(super) fn parse<T: FromStr<Err = Invalid>>(&self, key: &str) -> Result<Option<T>, Failure> {
        let text = self.text(key)?;
        text.map(|text| text.parse().map_err(|invalid: Invalid| self.wrong(key, invalid.why))).transpose()
    }

    /// An IP address.
    pub(super) fn ip(&self, key: &str) -> Result<Option<IpAddr>, Failure> {
        let text = self.text(key)?;
        text.map(|text| text.parse().map_err(|_| self.wrong(key, "use an IP address"))).transpose()
    }

    /// `true`, `false`, or the same as strings in any case, as libcni reads its own.
    pub(super) fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "use true or false")),
        }
    }

    /// A whole number.
    pub(super) fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.wrong(key, "use a whole number in its range"))
    }

    /// The elements of a list.
    pub(super) fn list(&self, key: &str) -> Result<&'a [Value], Failure> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(key, "use a list")),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts: Option<Vec<String>> = self.list(key)?.iter().map(text).collect();
        texts.ok_or_else(|| self.wrong(key, "use a list of strings"))
    }

    /// A text, or a list of them.
    pub(super) fn text_or_texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        match self.get(key) {
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(_)) | None => self.texts(key),
            Some(_) => Err(self.wrong(key, "use a string or a list of strings")),
        }
    }

    /// An object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Self>, Failure> {
        self.get(key).map(|value| Self::of(value, self.at(key))).transpose()
    }

    /// A list of objects.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Self>, Failure> {
        let element = |(index, value)| Self::of(value, format!("{}[{index}]", self.at(key)));
        self.list(key)?.iter().enumerate().map(element).collect()
    }

    /// Refuses keys that are not known here.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        let unknown = |(key, _): &(&String, &Value)| !known.contains(&key.as_str()) && !is_foreign(key);
        match self.map.iter().find(unknown) {
            None => Ok(()),
            Some((key, value)) => {
                let key = self.at(key);
                let failure = Failure::new(UNSUPPORTED_FIELD, format!("unsupported field {key:?}: {value}"));
                Err(failure.details(format!("known here: {}", known.join(", "))))
            }
        }
    }
}

/// Keys in somebody's own space of names, as in `cni.dev/attachments` or `io.kubernetes.cri.pod-annotations`, and
/// comments.
fn is_foreign(key: &str) -> bool {
    key.contains(['.', '/']) || key.starts_with('_')
}
