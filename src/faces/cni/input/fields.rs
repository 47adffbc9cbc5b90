//! JSON objects, read like Go's decoder, on which runtimes and the reference plugins rely: `null` counts as absent, and
//! keys are case-insensitive (containerd sends `HostPort` for `hostPort`). The key as spelled here takes precedence
//! over other spellings; of several others the last one in alphabetical order counts. Errors name the path of the key
//! as it was given, and its value.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::faces::cni::failure::{Failure, UNSUPPORTED_FIELD};
use crate::model::Invalid;

/// An object and its path.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole document.
    pub(crate) fn root(map: &'a Map<String, Value>) -> Self {
        Self { map, path: String::new() }
    }

    /// An object at a path.
    pub(crate) fn of(value: &'a Value, path: String) -> Result<Self, Failure> {
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(Failure::value(&path, other, "use an object")),
        }
    }

    /// The path of a key, as the key was given.
    pub(crate) fn at(&self, key: &str) -> String {
        let key = self.entry(key).map_or(key, |(given, _)| given);
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key as it was given, and its value.
    fn entry(&self, key: &str) -> Option<(&'a str, &'a Value)> {
        let exact = self.map.get_key_value(key).filter(|(_, value)| !value.is_null());
        let other = || self.map.iter().rfind(|(given, value)| !value.is_null() && is_same_key(given, key));
        exact.or_else(other).map(|(given, value)| (given.as_str(), value))
    }

    /// Whether the object has no values.
    pub(crate) fn is_empty(&self) -> bool {
        self.map.values().all(Value::is_null)
    }

    /// The failure for a wrong value of a key.
    pub(crate) fn wrong(&self, key: &str, why: impl std::fmt::Display) -> Failure {
        Failure::value(&self.at(key), self.get(key).unwrap_or(&Value::Null), why)
    }

    /// A text. An empty one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(key, "use a string")),
        }
    }

    /// A text, parsed as a type of the model.
    pub(crate) fn parse<T: FromStr<Err = Invalid>>(&self, key: &str) -> Result<Option<T>, Failure> {
        let text = self.text(key)?;
        text.map(|text| text.parse().map_err(|invalid: Invalid| self.wrong(key, invalid.why))).transpose()
    }

    /// An IP address.
    pub(crate) fn ip(&self, key: &str) -> Result<Option<IpAddr>, Failure> {
        let text = self.text(key)?;
        text.map(|text| text.parse().map_err(|_| self.wrong(key, "use an IP address"))).transpose()
    }

    /// `true`, `false`, or the same as strings in any case, as libcni reads its own booleans.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(is)) => Ok(Some(*is)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "use true or false")),
        }
    }

    /// An integer.
    pub(crate) fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| self.wrong(key, "use a whole number in its range"))
    }

    /// The elements of a list.
    pub(crate) fn list(&self, key: &str) -> Result<&'a [Value], Failure> {
        match self.get(key) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(key, "use a list")),
        }
    }

    /// A list of texts. `null` elements are skipped.
    pub(crate) fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        texts(self.list(key)?).ok_or_else(|| self.wrong(key, "use a list of strings"))
    }

    /// A list of texts with a user-defined name, which is case-sensitive.
    pub(crate) fn texts_named(&self, name: &str) -> Result<Vec<String>, Failure> {
        let chosen = match self.map.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(list)) => texts(list),
            Some(_) => None,
        };
        let at = || format!("{}.{name}", self.path);
        let value = || self.map.get(name).unwrap_or(&Value::Null);
        chosen.ok_or_else(|| Failure::value(&at(), value(), "use a list of strings"))
    }

    /// A text, or a list of texts.
    pub(crate) fn text_or_texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        match self.get(key) {
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(_)) | None => self.texts(key),
            Some(_) => Err(self.wrong(key, "use a string or a list of strings")),
        }
    }

    /// An object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, Failure> {
        self.get(key).map(|value| Self::of(value, self.at(key))).transpose()
    }

    /// An object whose values are strings.
    pub(crate) fn texts_by_key(&self, key: &str) -> Result<Vec<(String, String)>, Failure> {
        let map = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(self.wrong(key, "use an object of strings")),
        };
        let pair = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        map.iter().map(|one| pair(one).ok_or_else(|| self.wrong(key, "use an object of strings"))).collect()
    }

    /// A list of objects. `null` elements are skipped.
    pub(crate) fn objects(&self, key: &str) -> Result<Vec<Self>, Failure> {
        let element = |(index, value)| Self::of(value, format!("{}[{index}]", self.at(key)));
        self.list(key)?.iter().enumerate().filter(|(_, value)| !value.is_null()).map(element).collect()
    }

    /// Refuses unknown keys.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.unknown(known).next() {
            None => Ok(()),
            Some((key, value)) => {
                let key = self.at(key);
                let failure = Failure::new(UNSUPPORTED_FIELD, format!("unsupported field {key:?}: {value}"));
                Err(failure.details(format!("known keys: {}", known.join(", "))))
            }
        }
    }

    /// Appends the unknown keys to `ignored`, to be reported.
    pub(crate) fn note_unknown(&self, known: &[&str], ignored: &mut Vec<String>) {
        ignored.extend(self.unknown(known).map(|(key, _)| self.at(key)));
    }

    fn unknown(&self, known: &[&str]) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let is_known = |key: &str| known.iter().any(|known| is_same_key(key, known));
        let keys = self.map.iter().map(|(key, value)| (key.as_str(), value));
        keys.filter(move |(key, _)| !is_known(key) && !is_foreign(key))
    }
}

fn texts(list: &[Value]) -> Option<Vec<String>> {
    list.iter().filter(|value| !value.is_null()).map(|value| value.as_str().map(str::to_owned)).collect()
}

/// Whether two keys differ in case only, as in Go's decoder (`foldName`, encoding/json/fold.go): besides ASCII letters,
/// it folds the long s and the Kelvin sign.
pub(crate) fn is_same_key(one: &str, other: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    one.chars().map(fold).eq(other.chars().map(fold))
}

/// Changes the keys of an object to their known spelling.
pub(crate) fn respell(object: &mut Map<String, Value>, known: &[&str]) {
    for key in known {
        let Some(given) = Fields::root(object).entry(key).map(|(given, _)| given.to_owned()) else { continue };
        let value = object.get(&given).cloned().unwrap_or_default();
        object.retain(|other, _| !is_same_key(other, key));
        object.insert((*key).to_owned(), value);
    }
}

/// Keys in another program's namespace, such as `cni.dev/attachments` or `io.kubernetes.cri.pod-annotations`, and
/// comments.
fn is_foreign(key: &str) -> bool {
    key.contains(['.', '/']) || key.starts_with('_')
}

/// Appends the text unless the list contains it.
pub(crate) fn push_new(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}
