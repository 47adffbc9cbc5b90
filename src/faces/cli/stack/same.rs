//! Whether a service is already as a compose file says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::v1::{CreateService, Port, PortRequest, Service, ServiceNetworkRequest};

/// Whether a service with tasks has this definition. `names`: the networks' ids and names.
pub(super) fn tasks(known: &Value, wanted: &Value, names: &BTreeMap<String, String>) -> bool {
    settled(known, names) == settled(wanted, names)
}

/// A definition in one form: networks by name, what says nothing left out.
fn settled(spec: &Value, names: &BTreeMap<String, String>) -> Value {
    let mut spec = spec.clone();
    let networks = spec["TaskTemplate"]["Networks"].take();
    let networks: BTreeMap<String, BTreeSet<String>> = networks
        .as_array()
        .into_iter()
        .flatten()
        .map(|on| {
            let target = on["Target"].as_str().unwrap_or_default();
            let aliases = on["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (names.get(target).map_or(target, String::as_str).to_owned(), aliases.map(str::to_owned).collect())
        })
        .collect();
    spec["TaskTemplate"]["Networks"] = json!(networks);
    if spec["TaskTemplate"]["ForceUpdate"] == 0 {
        spec["TaskTemplate"]["ForceUpdate"] = Value::Null;
    }
    if spec["EndpointSpec"]["Mode"] == "vip" {
        spec["EndpointSpec"]["Mode"] = Value::Null;
    }
    sorted(spec)
}

/// The value without what says nothing, with its keys in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> = fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            let says = |value: &Value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
                _ => true,
            };
            Value::Object(fields.into_iter().filter(|(_, value)| says(value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Whether a service without tasks is like that.
pub(super) fn selecting(known: &Service, wanted: &CreateService) -> bool {
    let has: BTreeMap<&str, BTreeSet<&str>> = known
        .networks
        .iter()
        .map(|on| (on.network.as_str(), on.aliases.iter().map(String::as_str).collect()))
        .collect();
    let wants: BTreeMap<&str, BTreeSet<&str>> = wanted
        .networks
        .iter()
        .map(|on| match on {
            ServiceNetworkRequest::Name(name) => (name.as_str(), BTreeSet::new()),
            ServiceNetworkRequest::Object(on) => (on.network.as_str(), on.aliases.iter().map(AsRef::as_ref).collect()),
        })
        .collect();
    let fits = |port: &PortRequest| known.ports.iter().any(|known| is_it(known, port));
    has == wants
        && known.select == wanted.select
        && known.labels == wanted.labels
        && wanted.mode.is_none_or(|mode| mode.to_string() == known.mode)
        && known.ports.len() == wanted.ports.len()
        && wanted.ports.iter().all(fits)
}

fn is_it(known: &Port, wanted: &PortRequest) -> bool {
    let PortRequest::Spec(wanted) = wanted else { return false };
    known.container_port == wanted.container.first()
        && known.protocol == wanted.protocol.as_str()
        && wanted.host.is_none_or(|host| host.first() == known.host_port)
}
