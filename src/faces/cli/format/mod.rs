//! `--format`: what listing verbs print instead of their table, as Docker's `--format` has it: `json`, `table`,
//! `table TEMPLATE`, or `TEMPLATE`, a template of Go's text/template. The crate gotmpl reads and executes templates;
//! nothing outside of this room knows it.
//!
//! A template works on a row with fixed fields ([`Data::row`]), or on what `--json` prints ([`Data::object`]). There it
//! finds a field by its name without regard to case and underscores: `.host_port`, `.HostPort`, `.Hostport`. Keys of
//! the user's own, as of labels, are found as they are written. A field that `--json` leaves out has an empty value.

mod align;
mod data;
mod functions;
mod rewrite;
mod shape;
mod template;

use std::fmt;
use std::io::Write;

pub(super) use data::{Data, Row};
use template::Template;

use super::output::Failure;

/// The value of `--format`, checked.
#[derive(Debug, Clone)]
pub struct Spec(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// As if it were not given: empty, or `table`.
    Default,
    Json,
    Table(Template),
    Lines(Template),
}

/// Why a value of `--format` cannot be used, in one line.
#[derive(Debug)]
pub struct BadTemplate(String);

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadTemplate {}

impl Spec {
    /// The value of `--format` of a verb that lists.
    pub(super) fn parse(text: &str) -> Result<Self, BadTemplate> {
        let template = |text: &str| {
            let text = unescape(text.trim_matches(' '));
            Template::parse(&text).map_err(|why| BadTemplate(format!("template parsing error: {why}")))
        };
        let kind = match text {
            "" | "table" => Kind::Default,
            "json" => Kind::Json,
            text => match text.strip_prefix("table") {
                Some(columns) if columns.trim_matches(' ').is_empty() => Kind::Default,
                Some(columns) => Kind::Table(template(columns)?),
                None => Kind::Lines(template(text)?),
            },
        };
        Ok(Self(kind))
    }

    /// The same where the objects come one by one, so that columns cannot be aligned.
    pub(super) fn parse_line(text: &str) -> Result<Self, BadTemplate> {
        match Self::parse(text)? {
            Self(Kind::Table(_)) => Err(BadTemplate("there are no tables here, use json or a template".into())),
            spec => Ok(spec),
        }
    }

    /// Whether it asks for what is printed without it.
    pub(super) fn is_default(&self) -> bool {
        matches!(self.0, Kind::Default)
    }

    /// Whether it is `json`.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.0, Kind::Json)
    }

    /// Prints all objects, or nothing if one of them does not fit. The default is up to the caller.
    pub(super) fn print(&self, out: &mut dyn Write, attempt: &str, data: Data) -> Result<(), Failure> {
        let text = match &self.0 {
            Kind::Default => Ok(String::new()),
            Kind::Json => Ok(data.json_lines()),
            Kind::Lines(template) => template.lines(data),
            Kind::Table(template) => template.table(data).map(|text| align::columns(&text)),
        };
        let text = text.map_err(|why| Failure::of(attempt, why))?;
        Ok(out.write_all(text.as_bytes())?)
    }
}

/// Makes `\t` and `\n` a tab and a line end, except within actions, where Go's strings have their own escapes.
fn unescape(text: &str) -> String {
    let (mut rest, mut out) = (text, String::with_capacity(text.len()));
    while !rest.is_empty() {
        let begin = rest.find("{{").unwrap_or(rest.len());
        let (plain, action) = rest.split_at(begin);
        out.push_str(&plain.replace("\\t", "\t").replace("\\n", "\n"));
        let (action, after) = action.split_at(action_end(action));
        out.push_str(action);
        rest = after;
    }
    out
}

/// The length of the action at the beginning of the text. Braces in its strings do not end it.
fn action_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, one) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if one == '\\' => escaped = true,
            Some(open) if one == open => quote = None,
            Some(_) => {}
            None if matches!(one, '"' | '`') => quote = Some(one),
            None if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return at + 2,
            None => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests;
