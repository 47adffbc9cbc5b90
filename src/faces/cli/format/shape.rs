//! The types of the published JSON, from the same definitions as the OpenAPI document: which objects have fixed fields
//! and which have the user's keys, and what a field is that the JSON leaves out because it is empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;
use utoipa::ToSchema;

/// A type and those that it refers to, as JSON schemas.
pub(super) struct Types {
    by_name: BTreeMap<String, Json>,
    root: Json,
}

/// The fields of an object, by name.
pub(super) type Fields<'a> = BTreeMap<&'a str, &'a Json>;

impl Types {
    pub(super) fn of<T: ToSchema>() -> Self {
        let mut schemas = Vec::new();
        T::schemas(&mut schemas);
        schemas.push((T::name().into_owned(), T::schema()));
        // A schema is plain data, so it is always JSON; without it, a field is looked for in the object alone.
        let json = |schema| serde_json::to_value(schema).unwrap_or_default();
        let by_name = schemas.into_iter().map(|(name, schema)| (name, json(schema))).collect();
        Self { by_name, root: serde_json::json!({ "$ref": format!("#/{}", T::name()) }) }
    }

    /// The schema of the type itself.
    pub(super) fn root(&self) -> &Json {
        &self.root
    }

    /// The name of the type that the schema refers to; `object` if it has none.
    pub(super) fn name(&self, schema: &Json) -> String {
        self.parts(schema).into_iter().find_map(referred).unwrap_or("object").to_owned()
    }

    /// The fields of an object of the schema; `None` if its keys are the user's.
    pub(super) fn fields<'a>(&'a self, schema: &'a Json) -> Option<Fields<'a>> {
        let own = schema.get("properties").and_then(Json::as_object);
        let own = own.map(|own| own.iter().map(|(name, schema)| (name.as_str(), schema)).collect());
        let named = referred(schema).and_then(|name| self.by_name.get(name));
        let parts = self.parts(schema).into_iter().filter(|part| !std::ptr::eq(*part, schema));
        let below = named.into_iter().chain(parts).filter_map(|part| self.fields(part));
        own.into_iter().chain(below).reduce(|mut all: Fields<'_>, more| {
            all.extend(more);
            all
        })
    }

    /// The schema of what a list or a map with the user's keys holds.
    pub(super) fn inner<'a>(&'a self, schema: &'a Json) -> &'a Json {
        let of = |schema: &'a Json| schema.get("items").or_else(|| schema.get("additionalProperties"));
        let named = referred(schema).and_then(|name| self.by_name.get(name));
        self.parts(schema).into_iter().chain(named).find_map(of).unwrap_or(&Json::Null)
    }

    /// What a field of the schema is where the JSON leaves it out.
    pub(super) fn empty(&self, schema: &Json) -> Value {
        match schema.get("type").and_then(Json::as_str) {
            Some("array") => Value::List(Arc::new([])),
            Some("string") => Value::from(""),
            Some("boolean") => Value::Bool(false),
            Some("integer" | "number") => Value::Int(0),
            Some("object") => Value::from(BTreeMap::<Arc<str>, Value>::new()),
            _ => Value::Nil,
        }
    }

    /// The schema, and those of which it is made.
    fn parts<'a>(&'a self, schema: &'a Json) -> Vec<&'a Json> {
        let of = |key: &str| schema.get(key).and_then(Json::as_array).into_iter().flatten();
        std::iter::once(schema).chain(of("allOf")).chain(of("oneOf")).chain(of("anyOf")).collect()
    }
}

/// The name of the type that the schema refers to.
fn referred(schema: &Json) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}
