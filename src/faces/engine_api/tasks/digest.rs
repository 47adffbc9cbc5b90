//! The digest of what a service says about its tasks: tasks with another digest than their service's are replaced.
//!
//! Clients write the same request in different ways: what is absent, empty, zero or false is the same, and so is every
//! order of keys. What a task can follow without a new container has no part in it.

use serde_json::{Map, Value, json};

use crate::model::service::Service;

/// Parts of `TaskTemplate` that a running task follows, or that choose among nodes.
const FOLLOWED: [&str; 3] = ["RestartPolicy", "Placement", "Networks"];
/// Keys whose value false says something else than their absence.
const THREE_VALUED: [&str; 1] = ["Init"];

/// The digest of a service's tasks.
pub(in crate::faces::engine_api) fn digest(service: &Service) -> Option<String> {
    let tasks = service.tasks.as_ref()?;
    let mut template = tasks.template.clone();
    if let Some(fields) = template.as_object_mut() {
        FOLLOWED.iter().for_each(|key| drop(fields.shift_remove(*key)));
    }
    let networks: Vec<&str> = service.networks.iter().map(|on| on.network.as_str()).collect();
    let whole = json!({"template": template, "networks": networks, "ports": host_ports(tasks.endpoint.as_ref())});
    Some(of(&whole))
}

/// The digest of a value, whichever way it is written.
pub(in crate::faces::engine_api) fn of(value: &Value) -> String {
    let text = normal(value, "").map(|normal| normal.to_string()).unwrap_or_default();
    format!("{:016x}", fnv(&text))
}

/// The ports that each task publishes itself (`PublishMode` host).
pub(in crate::faces::engine_api) fn host_ports(endpoint: Option<&Value>) -> Vec<Value> {
    let ports = endpoint.and_then(|endpoint| endpoint["Ports"].as_array());
    ports.into_iter().flatten().filter(|port| port["PublishMode"] == "host").cloned().collect()
}

/// The value with sorted keys, and without what says nothing.
fn normal(value: &Value, key: &str) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(false) if !THREE_VALUED.contains(&key) => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        // The empty items of a list have their place.
        Value::Array(items) => {
            Some(Value::Array(items.iter().map(|item| normal(item, "").unwrap_or(Value::Null)).collect()))
        }
        Value::Object(fields) => {
            let mut kept: Vec<(String, Value)> =
                fields.iter().filter_map(|(key, value)| Some((key.clone(), normal(value, key)?))).collect();
            kept.sort_by(|(one, _), (other, _)| one.cmp(other));
            (!kept.is_empty()).then(|| Value::Object(kept.into_iter().collect::<Map<_, _>>()))
        }
        other => Some(other.clone()),
    }
}

/// FNV-1a with 64 bits: it must stay the same in later releases, or all tasks would be replaced.
fn fnv(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
    fn same(one: Value, other: Value) -> bool {
        normal(&one, "") == normal(&other, "")
    }

    #[test]
    fn what_says_nothing_makes_no_difference() {
        assert!(same(
            json!({"ContainerSpec": {"Image": "lab", "TTY": false, "Env": []}, "ForceUpdate": 0, "Resources": {"Limits": {}}}),
            json!({"ForceUpdate": 0, "ContainerSpec": {"Env": null, "Image": "lab"}}),
        ));
        assert!(!same(json!({"Image": "lab"}), json!({"Image": "lab:2"})));
        assert!(!same(json!({"ForceUpdate": 1}), json!({"ForceUpdate": 2})));
        assert!(!same(json!({"Init": false}), json!({})), "no init is not the engine's choice");
        assert!(!same(json!({"Args": ["a", ""]}), json!({"Args": ["", "a"]})));
    }

    #[test]
    fn the_digest_is_the_same_in_every_release() {
        assert_eq!(format!("{:016x}", fnv(r#"{"a":1}"#)), format!("{:016x}", fnv("{\"a\":1}")));
        assert_eq!(fnv(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
