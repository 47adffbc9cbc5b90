//! Bodies of requests, read as Docker reads them (moby, daemon/server/httputils): keys without regard to case, `null` as
//! absent, fields that are not known ignored.

use axum::extract::{FromRequest as _, Request};
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failure::Failure;
use crate::faces::shared::server::extract::Raw;

/// The longest body, in bytes.
const BODY_MAX: usize = 4 << 20;

/// The JSON object of a request. `keys`: the names of the fields that may come in another case, at whatever depth; what
/// is below [`FREE`] is the user's.
pub(super) async fn object(request: Request, keys: &[&str]) -> Result<Value, Failure> {
    as_it_is(request).await.map(|value| canonical(value, keys))
}

/// The JSON object of a request, unchanged.
pub(super) async fn as_it_is(request: Request) -> Result<Value, Failure> {
    let kind = request.headers().get(CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
    let Raw(bytes) = Raw::<BODY_MAX>::from_request(request, &()).await?;
    if !bytes.is_empty() || kind.as_deref().is_some_and(|kind| !kind.is_empty()) {
        check_kind(kind.as_deref().unwrap_or_default())?;
    }
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::bad("invalid JSON: got EOF while reading request body"));
    }
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value @ (Value::Object(_) | Value::Null))) => value,
        Some(Ok(_)) => return Err(Failure::bad("invalid JSON: send an object")),
        Some(Err(error)) => return Err(Failure::bad(format!("invalid JSON: {error}"))),
        None => Value::Null,
    };
    if values.next().is_some() {
        return Err(Failure::bad("unexpected content after JSON"));
    }
    Ok(value)
}

/// The fields as the wire type has them.
pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| Failure::bad(format!("invalid JSON: {error}")))
}

fn check_kind(kind: &str) -> Result<(), Failure> {
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    if !essence.is_empty() && !essence.contains('/') {
        return Err(Failure::bad(format!("malformed Content-Type header ({kind}): mime: expected slash")));
    }
    Err(Failure::bad(format!("unsupported Content-Type header ({kind}): must be 'application/json'")))
}

/// Fields whose keys are the user's.
const FREE: [&str; 5] = ["Options", "Labels", "DriverOpts", "AuxiliaryAddresses", "EndpointsConfig"];

fn canonical(value: Value, keys: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let mut read = Map::new();
            for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
                let known = keys.iter().find(|known| known.eq_ignore_ascii_case(&key));
                let key = known.map_or(key, |known| (*known).to_owned());
                let value = if FREE.contains(&key.as_str()) { free(value, keys) } else { canonical(value, keys) };
                read.insert(key, value);
            }
            Value::Object(read)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| canonical(item, keys)).collect()),
        other => other,
    }
}

/// The keys of this level stay.
fn free(value: Value, keys: &[&str]) -> Value {
    let Value::Object(fields) = value else { return value };
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key, canonical(value, keys))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_as_go_reads_them() {
        let body = br#"{"name":"net1","labels":{"name":"x","Driver":null},"ipam":{"config":[{"SUBNET":"10.0.0.0/24"}]},"x":1}"#;
        let read = canonical(parse(body).unwrap(), &["Name", "Labels", "IPAM", "Config", "Subnet"]);
        let expected =
            json!({"Name": "net1", "Labels": {"name": "x"}, "IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}, "x": 1});
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_object_is_named() {
        let why = |body: &[u8]| parse(body).unwrap_err().message;
        assert_eq!(why(b" "), "invalid JSON: got EOF while reading request body");
        assert_eq!(why(b"{} {}"), "unexpected content after JSON");
        assert!(why(b"{").starts_with("invalid JSON: "), "{}", why(b"{"));
        assert!(why(b"[]").starts_with("invalid JSON: "));
        assert_eq!(
            check_kind("text/plain").unwrap_err().message,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert!(check_kind("").is_err() && check_kind("Application/JSON; charset=utf-8").is_ok());
    }
}
