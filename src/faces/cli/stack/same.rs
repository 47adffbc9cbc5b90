//! Whether a service is already as a compose file says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::api::v1::{CreateService, Port, PortRequest, Service, ServiceNetworkRequest};
use crate::model::publication::PortRange;

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
    let has = |(first, last): (u16, Option<u16>), range: PortRange| {
        first == range.first() && last.unwrap_or(first) == range.last()
    };
    has((known.container_port, known.container_port_end), wanted.container)
        && known.protocol == wanted.protocol.as_str()
        && wanted.host.is_none_or(|host| has((known.host_port, known.host_port_end), host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<String, String> {
        [("id1".to_owned(), "lab_net1".to_owned()), ("id2".to_owned(), "lab_net2".to_owned())].into()
    }

    /// What a file makes, and what the daemon shows of it.
    fn definition() -> (Value, Value) {
        let wanted = json!({
            "Name": "lab_web", "Labels": {"com.docker.stack.namespace": "lab"},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "web", "Args": ["a", "b"], "Env": ["A=1"]},
                "Networks": [{"Target": "lab_net1", "Aliases": ["web", "www"]}, {"Target": "lab_net2", "Aliases": ["web"]}],
                "ForceUpdate": null,
            },
            "Mode": {"Replicated": {"Replicas": 5}},
            "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 4000, "PublishMode": "ingress"}]},
        });
        let known = json!({
            "EndpointSpec": {"Mode": "vip", "Ports": [{"PublishMode": "ingress", "PublishedPort": 4000, "TargetPort": 80, "Protocol": "tcp"}]},
            "Labels": {"com.docker.stack.namespace": "lab"}, "Name": "lab_web",
            "Mode": {"Replicated": {"Replicas": 5}},
            "TaskTemplate": {
                "Networks": [{"Target": "id2", "Aliases": ["web"]}, {"Target": "id1", "Aliases": ["www", "web"]}],
                "ForceUpdate": 0, "Resources": {}, "Placement": {"Constraints": []},
                "ContainerSpec": {"Args": ["a", "b"], "Env": ["A=1"], "Image": "web"},
            },
        });
        (known, wanted)
    }

    #[test]
    fn what_the_daemon_adds_or_orders_otherwise_is_no_change() {
        let (known, wanted) = definition();
        assert!(tasks(&known, &wanted, &names()));
        assert!(!tasks(&known, &wanted, &BTreeMap::new()), "a network of the same id only is another one");
    }

    #[test]
    fn each_part_of_a_definition_counts() {
        let (known, wanted) = definition();
        for (place, value) in [
            ("/TaskTemplate/ContainerSpec/Image", json!("web:2")),
            ("/TaskTemplate/ContainerSpec/Args", json!(["b", "a"])),
            ("/TaskTemplate/ContainerSpec/Env", json!([])),
            ("/TaskTemplate/Networks", json!([{"Target": "lab_net1", "Aliases": ["web", "www"]}])),
            ("/TaskTemplate/Networks/0/Aliases", json!(["web"])),
            ("/TaskTemplate/ForceUpdate", json!(1)),
            ("/Mode", json!({"Replicated": {"Replicas": 0}})),
            ("/Mode", json!({"Global": {}})),
            ("/EndpointSpec/Ports/0/PublishedPort", json!(4001)),
            ("/EndpointSpec", json!({"Mode": "dnsrr"})),
            ("/Labels", json!({})),
        ] {
            let mut other = wanted.clone();
            *other.pointer_mut(place).unwrap() = value;
            assert!(!tasks(&known, &other, &names()), "{place}: {other}");
        }
    }

    /// The service, as the daemon shows it, and a request that would make it.
    fn networking() -> (Service, CreateService) {
        let known = json!({
            "name": "lab_web", "id": "s1", "mode": "vip", "select": {"app": "web"}, "members": [],
            "networks": [{"network": "lab_net1", "addresses": ["10.77.0.2"], "aliases": ["web", "www"]}],
            "ports": [{"host_port": 4000, "container_port": 80, "protocol": "tcp", "host_ip": null}],
            "target": null, "affinity": "none", "grace": 10,
            "health": {"kind": "none", "interval": 2, "timeout": 1, "retries": 3},
            "when_none_ready": "empty", "labels": {"a": "b"}, "created": null, "updated": null, "version": 1,
            "origin": "defined", "replicas": {"ready": 0, "all": 0},
        });
        let wanted = json!({
            "name": "lab_web", "mode": "vip", "select": {"app": "web"}, "labels": {"a": "b"}, "ports": ["4000:80"],
            "networks": [{"network": "lab_net1", "aliases": ["www", "web"]}],
        });
        (serde_json::from_value(known).unwrap(), serde_json::from_value(wanted).unwrap())
    }

    #[test]
    fn a_service_without_an_image_is_compared_by_what_a_file_says_of_it() {
        let (known, wanted) = networking();
        assert!(selecting(&known, &wanted));
        let changes: [fn(&mut CreateService); 6] = [
            |other| other.networks.clear(),
            |other| other.networks = vec![ServiceNetworkRequest::Name("lab_net1".parse().unwrap())],
            |other| drop(other.select.insert("tier".into(), "front".into())),
            |other| other.labels.clear(),
            |other| other.mode = Some(crate::model::service::Mode::Dns),
            |other| other.ports.clear(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = wanted.clone();
            change(&mut other);
            assert!(!selecting(&known, &other), "change {index}");
        }
        for (ports, same) in [
            (&["80"][..], true),
            (&["4001:80"], false),
            (&["4000:80/udp"], false),
            (&["80", "4000:80"], false),
            (&["4000-4001:80-81"], false),
        ] {
            let ports: Vec<PortRequest> = ports.iter().map(|port| PortRequest::Spec(port.parse().unwrap())).collect();
            assert_eq!(selecting(&known, &CreateService { ports: ports.clone(), ..wanted.clone() }), same, "{ports:?}");
        }
    }
}
