//! What a template works on: objects of the published JSON, or rows with fixed fields.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::shape::Types;

type Map = Arc<BTreeMap<Arc<str>, Value>>;

/// Objects, and what is known about them besides their values.
#[derive(Default)]
pub(in crate::faces::cli) struct Data {
    objects: Vec<Value>,
    /// Of which type a map is, by its address: the engine's values have no place for it. The address stays the map's
    /// own, because `objects` keeps the map.
    shapes: HashMap<usize, Shape>,
    titles: BTreeMap<String, &'static str>,
}

/// A line of a listing: what Docker's `ls` and `ps` offer to templates.
pub(in crate::faces::cli) struct Row {
    /// The type, as errors name it.
    pub(in crate::faces::cli) kind: &'static str,
    /// Name, title of the column, value.
    pub(in crate::faces::cli) fields: Vec<(&'static str, &'static str, String)>,
    /// What `.Label "KEY"` looks for.
    pub(in crate::faces::cli) labels: BTreeMap<String, String>,
}

/// A map with fixed fields.
struct Shape {
    name: String,
    /// The fields that the JSON leaves out.
    absent: Vec<(String, Value)>,
    labels: Option<BTreeMap<String, String>>,
}

impl Data {
    /// Adds an object of the published JSON.
    pub(in crate::faces::cli) fn object<T: ToSchema>(&mut self, json: &Json) {
        let types = Types::of::<T>();
        let object = self.value(json, types.root(), &types);
        self.objects.push(object);
    }

    /// Adds a row.
    pub(in crate::faces::cli) fn row(&mut self, row: Row) {
        let title = |(name, title, _): &(&'static str, &'static str, String)| (plain(name).collect(), *title);
        self.titles.extend(row.fields.iter().map(title));
        let fields = row.fields.into_iter().map(|(name, _, value)| (Arc::from(name), Value::from(value)));
        let map: Map = Arc::new(fields.collect());
        let shape = Shape { name: row.kind.into(), absent: Vec::new(), labels: Some(row.labels) };
        self.shapes.insert(address(&map), shape);
        self.objects.push(Value::Map(map));
    }

    pub(super) fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// One line of JSON for each object.
    pub(super) fn json_lines(&self) -> String {
        self.objects.iter().map(|object| format!("{}\n", json(object))).collect()
    }

    fn value(&mut self, json: &Json, schema: &Json, types: &Types) -> Value {
        match json {
            Json::Null => Value::Nil,
            Json::Bool(yes) => Value::Bool(*yes),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Value::Int(number),
                (None, Some(number)) => Value::Uint(number),
                (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::from(text.as_str()),
            Json::Array(items) => {
                let inner = types.inner(schema);
                Value::List(items.iter().map(|item| self.value(item, inner, types)).collect())
            }
            Json::Object(object) => {
                let fields = types.fields(schema);
                let inner = |key: &str| match &fields {
                    Some(fields) => fields.get(key).copied().unwrap_or(&Json::Null),
                    None => types.inner(schema),
                };
                let values =
                    object.iter().map(|(key, value)| (Arc::from(key.as_str()), self.value(value, inner(key), types)));
                let map: Map = Arc::new(values.collect());
                if let Some(fields) = &fields {
                    let absent = fields.iter().filter(|(name, _)| !object.contains_key(**name));
                    let absent = absent.map(|(name, schema)| ((*name).to_owned(), types.empty(schema))).collect();
                    self.shapes.insert(address(&map), Shape { name: types.name(schema), absent, labels: None });
                }
                Value::Map(map)
            }
        }
    }

    /// The field of a value. A map with the user's keys has every field, but it may be nil.
    pub(super) fn field(&self, of: &Value, name: &str) -> Result<Value, String> {
        let missing = |kind: &str| Err(format!("can't evaluate field {name} in type {kind}"));
        let map = match of {
            Value::Nil => return Ok(Value::Nil),
            Value::Map(map) => map,
            other => return missing(other.type_name()),
        };
        let Some(shape) = self.shapes.get(&address(map)) else {
            return Ok(map.get(name).cloned().unwrap_or(Value::Nil));
        };
        let own = map.iter().find(|(key, _)| same(key, name)).map(|(_, value)| value);
        let absent = || shape.absent.iter().find(|(key, _)| same(key, name)).map(|(_, value)| value);
        match own.or_else(absent) {
            Some(value) => Ok(value.clone()),
            None if shape.labels.is_some() && same(name, "label") => {
                Err("wrong number of args for Label: want 1 got 0".into())
            }
            None => missing(&shape.name),
        }
    }

    /// The field of a value that takes arguments. There is one: the label of a row.
    pub(super) fn method(&self, of: &Value, name: &str, arguments: &[Value]) -> Result<Value, String> {
        let shape = match of {
            Value::Map(map) => self.shapes.get(&address(map)),
            _ => None,
        };
        match (shape.and_then(|shape| shape.labels.as_ref()), arguments) {
            (Some(labels), [Value::String(key)]) if same(name, "label") => {
                Ok(labels.get(&**key).map_or("", String::as_str).into())
            }
            (Some(_), _) if same(name, "label") => Err("Label takes one argument, the key of a label".into()),
            _ => Err(format!("{name} has arguments but cannot be invoked as function")),
        }
    }

    /// What `index` finds in a map: in one with the user's keys, what is missing is empty.
    pub(super) fn index(&self, map: &Map, key: &str) -> Result<Value, String> {
        match self.shapes.contains_key(&address(map)) {
            true => self.field(&Value::Map(map.clone()), key),
            false => Ok(map.get(key).cloned().unwrap_or_else(|| Value::from(""))),
        }
    }

    /// The title of a column: that of the row, or the words of the field's name.
    pub(super) fn title(&self, name: &str) -> String {
        match self.titles.get(&plain(name).collect::<String>()) {
            Some(title) => (*title).to_owned(),
            None => words(name),
        }
    }
}

/// `HOST PORT` from `HostPort` and from `host_port`.
fn words(name: &str) -> String {
    let mut title = String::new();
    let mut before_small = false;
    for one in name.chars() {
        if (one.is_uppercase() && before_small) || one == '_' {
            title.push(' ');
        }
        before_small = one.is_lowercase() || one.is_ascii_digit();
        title.extend(one.to_uppercase().filter(|one| *one != '_'));
    }
    title
}

/// The title of the column `.Label "KEY"`, as Docker has it: the last part of the key.
pub(super) fn label_title(key: &str) -> String {
    key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ")
}

/// Whether two names are the same field.
fn same(one: &str, other: &str) -> bool {
    plain(one).eq(plain(other))
}

/// A name without what does not matter.
fn plain(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|one| *one != '_').flat_map(char::to_lowercase)
}

fn address(map: &Map) -> usize {
    Arc::as_ptr(map).addr()
}

/// A value as JSON: as `--json` prints it, in one line.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(yes) => (*yes).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (**text).into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.to_string(), json(value))).collect(),
    }
}
