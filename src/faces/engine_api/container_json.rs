//! Containers as the Engine API shows them: what netd knows of them, and netd's part of what an engine tells.

use std::collections::{BTreeMap, HashMap};

use bollard::models as wire;
use serde_json::{Value, json};

use super::network_json::{BRIDGE, PODMAN, endpoint_id};
use super::version::ApiVersion;
use crate::engine::Snapshot;
use crate::model::address::Family;
use crate::model::desired::Attached;
use crate::model::endpoint::Endpoint;
use crate::model::publication::Publication;

/// The addresses that stand for every address of the host.
const EVERY: [&str; 2] = ["0.0.0.0", "::"];

/// One port: host address, host port, container port, protocol.
type Binding = (String, u16, u16, &'static str);

/// Each published port of the container, once per host address.
fn bindings(attached: &Attached) -> Vec<Binding> {
    attached.publications().flat_map(|(_, publication)| of_publication(publication)).collect()
}

fn of_publication(publication: &Publication) -> Vec<Binding> {
    let addresses: Vec<String> = match publication.host_ip {
        Some(ip) => vec![ip.to_string()],
        None => EVERY.map(str::to_owned).into(),
    };
    let pairs = publication.host.ports().zip(publication.container.ports());
    let of = |(host, container)| {
        let binding = move |address: &String| (address.clone(), host, container, publication.protocol.as_str());
        addresses.iter().map(binding).collect::<Vec<_>>()
    };
    pairs.flat_map(of).collect()
}

/// Ports that are served and not published.
fn exposed(attached: &Attached) -> Vec<(u16, &'static str)> {
    let all = attached.endpoints.iter().flat_map(|endpoint| &endpoint.exposed);
    let mut ports: Vec<_> = all.map(|exposed| (exposed.port, exposed.protocol.as_str())).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The ports, as a list of containers has them.
pub(super) fn port_list(attached: &Attached) -> Vec<wire::PortSummary> {
    let published = bindings(attached);
    let kind = |protocol: &str| protocol.parse().ok();
    let bound = published.iter().map(|(ip, host, container, protocol)| wire::PortSummary {
        ip: Some(ip.clone()),
        private_port: *container,
        public_port: Some(*host),
        typ: kind(protocol),
    });
    let is_published = |port: &(u16, &str)| published.iter().any(|(_, _, own, protocol)| (*own, *protocol) == *port);
    let only = exposed(attached).into_iter().filter(|port| !is_published(port));
    let open = only.map(|(port, protocol)| wire::PortSummary {
        ip: None,
        private_port: port,
        public_port: None,
        typ: kind(protocol),
    });
    bound.chain(open).collect()
}

/// The ports, as a container's settings have them: `{"80/tcp": [{HostIp, HostPort}]}`.
pub(super) fn port_map(attached: &Attached) -> BTreeMap<String, Option<Vec<wire::PortBinding>>> {
    let mut map: BTreeMap<String, Option<Vec<wire::PortBinding>>> = BTreeMap::new();
    for (port, protocol) in exposed(attached) {
        map.insert(format!("{port}/{protocol}"), None);
    }
    for (ip, host, container, protocol) in bindings(attached) {
        let binding = wire::PortBinding { host_ip: Some(ip), host_port: Some(host.to_string()) };
        map.entry(format!("{container}/{protocol}")).or_default().get_or_insert_default().push(binding);
    }
    map
}

/// The endpoint, as a container's settings have it.
pub(super) fn endpoint(endpoint: &Endpoint, snapshot: &Snapshot, version: ApiVersion) -> wire::EndpointSettings {
    let address = |family| endpoint.addresses.iter().find(|address| Family::of(address.ip()) == family);
    let text = |family| Some(address(family).map(|address| address.ip().to_string()).unwrap_or_default());
    let prefix = |family| Some(address(family).map_or(0, |address| i64::from(address.prefix())));
    let gateway = |family| Some(endpoint.gateway(family).map(|gateway| gateway.to_string()).unwrap_or_default());
    let names = endpoint.dns_names();
    let aliases: Vec<String> = endpoint.aliases.iter().map(ToString::to_string).collect();
    let network = snapshot.desired.network(&endpoint.network);
    wire::EndpointSettings {
        aliases: if aliases.is_empty() { None } else { Some(aliases) },
        mac_address: Some(endpoint.mac.to_string()),
        network_id: network.map(|network| network.id.to_string()),
        endpoint_id: Some(endpoint_id(endpoint)),
        gateway: gateway(Family::V4),
        ip_address: text(Family::V4),
        ip_prefix_len: prefix(Family::V4),
        ipv6_gateway: gateway(Family::V6),
        global_ipv6_address: text(Family::V6),
        global_ipv6_prefix_len: prefix(Family::V6),
        dns_names: (version >= ApiVersion::one(44)).then_some(names),
        gw_priority: (version >= ApiVersion::one(48)).then_some(0),
        ..wire::EndpointSettings::default()
    }
}

/// The container's networks. Docker's clients expect `null` for what is not set.
fn networks(attached: &Attached, snapshot: &Snapshot, version: ApiVersion) -> Value {
    let of = |end: &std::sync::Arc<Endpoint>| {
        let mut value = serde_json::to_value(endpoint(end, snapshot, version)).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            for key in ["IPAMConfig", "Links", "Aliases", "DriverOpts"] {
                fields.entry(key).or_insert(Value::Null);
            }
        }
        (end.network.to_string(), value)
    };
    Value::Object(attached.endpoints.iter().map(of).collect())
}

fn labels(attached: &Attached) -> HashMap<String, String> {
    attached.endpoints.iter().flat_map(|endpoint| endpoint.labels.clone()).collect()
}

/// The network by which the container is known to be connected: that of its first endpoint.
fn mode(attached: &Attached) -> String {
    attached.endpoints.first().map_or_else(|| "none".into(), |endpoint| endpoint.network.to_string())
}

/// A container of no engine, in a list.
pub(super) fn listed(attached: &Attached, snapshot: &Snapshot, version: ApiVersion) -> Value {
    let container = &attached.container;
    let summary = wire::ContainerSummary {
        id: Some(container.id.to_string()),
        names: Some(vec![format!("/{}", container.name)]),
        image: Some(String::new()),
        image_id: Some(String::new()),
        command: Some(String::new()),
        created: Some(0),
        ports: Some(port_list(attached)),
        labels: Some(labels(attached)),
        state: Some(wire::ContainerSummaryStateEnum::RUNNING),
        status: Some("Up".into()),
        host_config: Some(wire::ContainerSummaryHostConfig { network_mode: Some(mode(attached)), annotations: None }),
        mounts: Some(Vec::new()),
        ..wire::ContainerSummary::default()
    };
    let mut value = serde_json::to_value(summary).unwrap_or_default();
    value["NetworkSettings"] = json!({"Networks": networks(attached, snapshot, version)});
    value
}

/// A container of no engine, whole.
pub(super) fn inspected(attached: &Attached, snapshot: &Snapshot, version: ApiVersion) -> Value {
    let container = &attached.container;
    let mut value = json!({
        "Id": container.id, "Created": "0001-01-01T00:00:00Z", "Path": "", "Args": [], "Image": "",
        "Name": format!("/{}", container.name), "RestartCount": 0, "Driver": "", "Platform": "linux", "Mounts": [],
        "ResolvConfPath": "", "HostnamePath": "", "HostsPath": "", "LogPath": "", "ExecIDs": null,
        "State": {
            "Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
            "Dead": false, "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "Config": {"Hostname": container.name, "Domainname": "", "Image": "", "Env": [], "Cmd": null, "Labels": labels(attached)},
        "HostConfig": {"NetworkMode": mode(attached), "PortBindings": requested(attached)},
        "NetworkSettings": {
            "SandboxID": "", "SandboxKey": container.netns.path, "Ports": port_map(attached),
            "Networks": networks(attached, snapshot, version),
        },
    });
    if version < ApiVersion::one(52) {
        legacy(&mut value);
    }
    value
}

/// The ports as they were asked for: by host port only where the container has them at every address.
fn requested(attached: &Attached) -> BTreeMap<String, Vec<wire::PortBinding>> {
    let mut map: BTreeMap<String, Vec<wire::PortBinding>> = BTreeMap::new();
    for (_, publication) in attached.publications() {
        for (host, container) in publication.host.ports().zip(publication.container.ports()) {
            let ip = publication.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            let binding = wire::PortBinding { host_ip: Some(ip), host_port: Some(host.to_string()) };
            map.entry(format!("{container}/{}", publication.protocol)).or_default().push(binding);
        }
    }
    map
}

/// What older versions have besides: the settings of the network `bridge` a second time.
/// What an engine has there of a container on no such network stays.
pub(super) fn legacy(container: &mut Value) {
    let networks = &container["NetworkSettings"]["Networks"];
    let of = [BRIDGE, PODMAN].iter().find_map(|name| networks.get(*name)).cloned();
    if of.is_none() && container["NetworkSettings"].get("IPAddress").is_some() {
        return;
    }
    let of = of.unwrap_or_default();
    let settings = &mut container["NetworkSettings"];
    for key in ["EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"] {
        settings[key] = of.get(key).cloned().unwrap_or_else(|| "".into());
    }
    for key in ["GlobalIPv6PrefixLen", "IPPrefixLen"] {
        settings[key] = of.get(key).cloned().unwrap_or_else(|| 0.into());
    }
}
