//! A part of a compose file and its place, with the readings that the format allows: numbers may be texts, because
//! variables are texts, and many lists may be maps.

use serde_json::{Map, Value};

/// A value and where it is, as in `services.web.ports`.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    place: String,
    value: &'a Value,
}

/// What stands for a key that is not there.
const NOTHING: &Value = &Value::Null;
/// Go's units of time, in nanoseconds; those of two letters come first.
const UNITS: [(&str, f64); 7] =
    [("ms", 1e6), ("us", 1e3), ("µs", 1e3), ("ns", 1.0), ("h", 3.6e12), ("m", 6e10), ("s", 1e9)];

impl<'a> Part<'a> {
    pub(super) fn new(place: impl Into<String>, value: &'a Value) -> Self {
        Self { place: place.into(), value }
    }

    /// What is below a key; nothing, if it is not there.
    pub(super) fn at(&self, key: &str) -> Part<'a> {
        let place = if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) };
        Part { place, value: self.value.get(key).unwrap_or(NOTHING) }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn is_given(&self) -> bool {
        !self.value.is_null()
    }

    /// A sentence about this place.
    pub(super) fn wrong(&self, why: impl std::fmt::Display) -> String {
        if self.place.is_empty() { format!("the file {why}") } else { format!("{} {why}", self.place) }
    }

    /// Refuses keys that the format does not have.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), String> {
        let mut keys = self.entries()?.into_iter().map(|(key, _)| key);
        match keys.find(|key| !known.contains(&key.as_str()) && !key.starts_with("x-")) {
            Some(key) if self.place.is_empty() => Err(format!("(root) Additional property {key} is not allowed")),
            Some(key) => Err(format!("{} Additional property {key} is not allowed", self.place)),
            None => Ok(()),
        }
    }

    /// The keys of a map, with what is below.
    pub(super) fn entries(&self) -> Result<Vec<(String, Part<'a>)>, String> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(fields) => Ok(fields.keys().map(|key| (key.clone(), self.at(key))).collect()),
            _ => Err(self.wrong("must be a mapping")),
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Result<Vec<Part<'a>>, String> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => {
                let place = |index: usize| format!("{}.{index}", self.place);
                Ok(items.iter().enumerate().map(|(index, item)| Part::new(place(index), item)).collect())
            }
            _ => Err(self.wrong("must be a list")),
        }
    }

    pub(super) fn text(&self) -> Result<Option<String>, String> {
        match self.value {
            Value::Null => Ok(None),
            value => plain(value).map(Some).ok_or_else(|| self.wrong("must be a string")),
        }
    }

    /// A text, or empty.
    pub(super) fn text_or_empty(&self) -> Result<String, String> {
        Ok(self.text()?.unwrap_or_default())
    }

    /// A list of texts; one text is a list of one.
    pub(super) fn texts(&self) -> Result<Vec<String>, String> {
        if let Some(one) = plain(self.value) {
            return Ok(vec![one]);
        }
        self.items()?.iter().map(Part::text_or_empty).collect()
    }

    /// `KEY=VALUE` as a list or a map; a key alone has no value.
    pub(super) fn pairs(&self) -> Result<Vec<(String, Option<String>)>, String> {
        if self.value.is_array() {
            return Ok(self.texts()?.iter().map(|text| pair(text)).collect());
        }
        self.entries()?.into_iter().map(|(key, part)| Ok((key, part.text()?))).collect()
    }

    /// The same, of which a key alone has an empty value.
    pub(super) fn labels(&self) -> Result<Map<String, Value>, String> {
        let pairs = self.pairs()?.into_iter();
        Ok(pairs.map(|(key, value)| (key, value.unwrap_or_default().into())).collect())
    }

    /// A command: a list, or one text as a shell splits it.
    pub(super) fn command(&self) -> Result<Vec<String>, String> {
        match self.value {
            Value::String(text) => split(text).map_err(|why| self.wrong(why)),
            _ => self.texts(),
        }
    }

    pub(super) fn integer(&self) -> Result<Option<i64>, String> {
        let Some(text) = self.text()? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.wrong("must be a integer"))
    }

    pub(super) fn number(&self) -> Result<Option<f64>, String> {
        let Some(text) = self.text()? else { return Ok(None) };
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Some).ok_or_else(|| self.wrong("must be a number"))
    }

    pub(super) fn truth(&self) -> Result<Option<bool>, String> {
        let Some(text) = self.text()? else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" => Ok(Some(true)),
            "false" | "no" | "n" | "off" => Ok(Some(false)),
            _ => Err(self.wrong("must be a boolean")),
        }
    }

    /// Go's durations, in nanoseconds.
    pub(super) fn nanos(&self) -> Result<Option<i64>, String> {
        let Some(text) = self.text()? else { return Ok(None) };
        nanos(&text).map(Some).ok_or_else(|| self.wrong(format!("must be a duration, as in 1m30s, not {text:?}")))
    }

    /// A number of bytes, as in `64M`.
    pub(super) fn bytes(&self) -> Result<Option<i64>, String> {
        let Some(text) = self.text()? else { return Ok(None) };
        bytes(&text).map(Some).ok_or_else(|| self.wrong(format!("invalid size: '{text}'")))
    }
}

/// The text of a scalar.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // As Go prints a float: 1.0 is 1.
        Value::Number(number) => {
            Some(number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), |f| f.to_string()))
        }
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A key and its value, if there is one.
pub(super) fn pair(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

/// Nanoseconds of Go's `1h2m3.5s`.
fn nanos(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut sum, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let (unit, size) = UNITS.iter().find(|(unit, _)| rest[end..].starts_with(unit))?;
        sum += number * size;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty()).then_some(sum.round() as i64)
}

/// Bytes of `64M`, `1.5gb`, `64MiB`, `1024`: powers of 1024.
fn bytes(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some((number * 1024_f64.powi(power)) as i64)
}

/// Words as a shell splits them: blanks, quotes, backslashes.
pub(crate) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), _) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = rest.next().ok_or("ends in a backslash")?;
                word.get_or_insert_default().push(next);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("has a quote that does not end") } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_and_sizes_are_those_of_docker() {
        for (text, expected) in [
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("500ms", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(nanos(text), Some(expected), "{text}");
        }
        assert_eq!([nanos(""), nanos("10"), nanos("soon"), nanos("1x")], [None; 4]);
        for (text, expected) in
            [("1024", 1024), ("64M", 64 << 20), ("64MiB", 64 << 20), ("1.5gb", 3 << 29), ("5 kb", 5120)]
        {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        assert_eq!([bytes(""), bytes("x"), bytes("1q")], [None; 3]);
    }

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(
            split("httpd -f 'a b' \"c \\\" d\" e\\ f ''"),
            Ok(["httpd", "-f", "a b", "c \" d", "e f", ""].map(String::from).into())
        );
        assert!(split("'open").is_err() && split("end\\").is_err());
    }

    #[test]
    fn readings_name_their_place() {
        let value = json!({"a": {"n": "5", "f": 1.0, "yes": "true", "list": ["A=1", "B"], "map": {"A": 1, "B": null}, "bad": [1]}});
        let part = Part::new("", &value).at("a");
        assert_eq!((part.at("n").integer(), part.at("f").text()), (Ok(Some(5)), Ok(Some("1".into()))));
        assert_eq!(part.at("yes").truth(), Ok(Some(true)));
        let pairs = Ok(vec![("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)]);
        assert_eq!((part.at("list").pairs(), part.at("map").pairs()), (pairs.clone(), pairs));
        assert_eq!(part.at("bad").integer(), Err("a.bad must be a string".into()));
        assert_eq!(part.only(&["n"]), Err("a Additional property f is not allowed".into()));
        assert!(!part.at("none").at("none").is_given());
    }
}
