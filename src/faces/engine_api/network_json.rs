//! Networks as the Engine API shows them.

use std::collections::HashMap;

use bollard::models as wire;
use serde_json::{Value, json};

use super::version::ApiVersion;
use crate::engine::Snapshot;
use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::network::{Driver, Network, NetworkSubnet};

/// MTU of a network for which none was given, as Docker's bridges have it: only another one is shown as an option.
const MTU: u32 = 1500;

/// A network that Docker has by itself, and netd only in name: containers without a network of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Predefined {
    pub(super) name: &'static str,
    pub(super) driver: &'static str,
}

pub(super) const HOST: Predefined = Predefined { name: "host", driver: "host" };
pub(super) const NONE: Predefined = Predefined { name: "none", driver: "null" };
/// The network of containers for which none is given.
pub(super) const BRIDGE: &str = "bridge";
/// The same in Podman.
pub(super) const PODMAN: &str = "podman";

/// The label of a network that was made with the driver `overlay`, for services. It is shown as driver and scope.
pub(super) const SCOPE: &str = "netd.scope";
/// The driver with which it is made and shown.
pub(super) const OVERLAY: &str = "overlay";
/// The value of [`SCOPE`].
pub(super) const SWARM: &str = "swarm";

impl Predefined {
    pub(super) fn id(self) -> String {
        stable_id(&["predefined", self.name])
    }

    pub(super) fn shown(self, version: ApiVersion) -> Value {
        let network = wire::NetworkInspect {
            name: Some(self.name.into()),
            id: Some(self.id()),
            created: Some("0001-01-01T00:00:00Z".into()),
            scope: Some("local".into()),
            driver: Some(self.driver.into()),
            ipam: Some(wire::Ipam { driver: Some("default".into()), config: Some(Vec::new()), options: None }),
            ..basis()
        };
        finish(network, version)
    }
}

/// 64 hex digits that are always the same for the same texts, for what has no id of its own in netd.
pub(super) fn stable_id(texts: &[&str]) -> String {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let part = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, texts).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}

/// The id of an endpoint: Docker's, if Docker has it.
pub(super) fn endpoint_id(endpoint: &Endpoint) -> String {
    match &endpoint.handover {
        Some(handover) => handover.endpoint.clone(),
        None => stable_id(&[endpoint.network.as_str(), endpoint.container.id.as_str(), endpoint.ifname.as_str()]),
    }
}

fn basis() -> wire::NetworkInspect {
    wire::NetworkInspect {
        enable_ipv4: Some(true),
        enable_ipv6: Some(false),
        internal: Some(false),
        attachable: Some(false),
        ingress: Some(false),
        config_from: Some(wire::ConfigReference { network: Some(String::new()) }),
        config_only: Some(false),
        options: Some(HashMap::new()),
        labels: Some(HashMap::new()),
        containers: Some(HashMap::new()),
        ..wire::NetworkInspect::default()
    }
}

/// The network with its containers.
pub(super) fn inspected(network: &Network, snapshot: &Snapshot, version: ApiVersion) -> Value {
    let endpoints = snapshot.desired.endpoints_of(&network.name);
    let containers = endpoints.map(|endpoint| (endpoint.container.id.to_string(), resource(endpoint))).collect();
    let status = (version >= ApiVersion::one(52)).then(|| status(network, snapshot));
    finish(wire::NetworkInspect { containers: Some(containers), status, ..described(network) }, version)
}

/// Whether the networks of a driver are on an interface of the host.
pub(super) fn is_on_host(driver: &str) -> bool {
    matches!(driver, "macvlan" | "ipvlan")
}

fn described(network: &Network) -> wire::NetworkInspect {
    let config = network.subnets.iter().map(ipam_config).collect();
    let created =
        humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + std::time::Duration::from_secs(network.created));
    let is_default = network.name.as_str() == BRIDGE;
    let is_swarm = network.labels.get(SCOPE).map(String::as_str) == Some(SWARM);
    let mut options = options(network);
    if is_default {
        options.insert("com.docker.network.bridge.default_bridge".into(), "true".into());
    }
    wire::NetworkInspect {
        name: Some(network.name.to_string()),
        id: Some(network.id.to_string()),
        created: Some(created.to_string()),
        scope: Some(if is_swarm { SWARM } else { "local" }.into()),
        driver: Some(if is_swarm { OVERLAY } else { network.driver.name() }.into()),
        attachable: Some(is_swarm),
        enable_ipv4: Some(network.has(Family::V4)),
        enable_ipv6: Some(network.has(Family::V6)),
        ipam: Some(wire::Ipam { driver: Some("default".into()), config: Some(config), options: Some(HashMap::new()) }),
        internal: Some(network.internal),
        options: Some(options),
        labels: Some(network.labels.clone().into_iter().filter(|(key, _)| key != SCOPE).collect()),
        ..basis()
    }
}

fn ipam_config(subnet: &NetworkSubnet) -> wire::IpamConfig {
    wire::IpamConfig {
        subnet: Some(subnet.subnet.to_string()),
        ip_range: subnet.range.map(|range| range.to_string()),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: None,
    }
}

/// What differs from a network that was created without options.
fn options(network: &Network) -> HashMap<String, String> {
    let mut options = HashMap::new();
    let mut set = |key: &str, value: String| drop(options.insert(format!("com.docker.network.{key}"), value));
    if network.mtu != MTU {
        set("driver.mtu", network.mtu.to_string());
    }
    if !network.icc() {
        set("bridge.enable_icc", "false".into());
    }
    if !network.masquerade() {
        set("bridge.enable_ip_masquerade", "false".into());
    }
    if let Driver::Bridge(bridge) = &network.driver {
        if !bridge.name.as_str().starts_with("nd-") {
            set("bridge.name", bridge.name.to_string());
        }
        let modes = [(bridge.isolated, "isolated"), (bridge.routed, "routed"), (bridge.unprotected, "nat-unprotected")];
        if let Some((_, mode)) = modes.into_iter().find(|(is_so, _)| *is_so) {
            set("bridge.gateway_mode_ipv4", mode.into());
        }
        for source in &bridge.source {
            set(if source.is_ipv4() { "host_ipv4" } else { "host_ipv6" }, source.to_string());
        }
    }
    if let Some(stacked) = network.stacked() {
        options.insert("parent".into(), stacked.parent.to_string());
        options.insert(format!("{}_mode", stacked.mode.driver()), stacked.mode.mode().into());
    }
    options
}

/// The endpoint, as a network lists it.
fn resource(endpoint: &Endpoint) -> wire::EndpointResource {
    let address = |family| {
        let found = endpoint.addresses.iter().find(|address| Family::of(address.ip()) == family);
        Some(found.map(ToString::to_string).unwrap_or_default())
    };
    wire::EndpointResource {
        name: Some(endpoint.container.name.to_string()),
        endpoint_id: Some(endpoint_id(endpoint)),
        mac_address: Some(endpoint.mac.to_string()),
        ipv4_address: address(Family::V4),
        ipv6_address: address(Family::V6),
    }
}

/// How many addresses are in use; the network's own, the broadcast address and the gateway included, as in Docker.
fn status(network: &Network, snapshot: &Snapshot) -> wire::NetworkStatus {
    let endpoints = snapshot.desired.endpoints_of(&network.name).flat_map(|endpoint| &endpoint.addresses);
    let reserved = snapshot.desired.reservations_of(&network.name).flat_map(|reserved| &reserved.addresses);
    let taken: Vec<_> = endpoints.chain(reserved).map(ipnetwork::IpNetwork::ip).collect();
    let of = |subnet: &NetworkSubnet| {
        let own = if subnet.subnet.family() == Family::V4 { 3 } else { 2 };
        let used = own + taken.iter().filter(|address| subnet.subnet.contains(**address)).count() as u64;
        let (first, last) = subnet.range.unwrap_or(subnet.subnet).bounds();
        let size = (last - first).saturating_add(1);
        let free = u64::try_from(size.saturating_sub(u128::from(used))).unwrap_or(u64::MAX);
        let status = wire::SubnetStatus { ips_in_use: Some(used), dynamic_ips_available: Some(free) };
        (subnet.subnet.to_string(), status)
    };
    let subnets = network.subnets.iter().map(of).collect();
    wire::NetworkStatus { ipam: Some(wire::IpamStatus { subnets: Some(subnets) }) }
}

/// The JSON of that version of the API.
fn finish(network: wire::NetworkInspect, version: ApiVersion) -> Value {
    // A structure of texts and numbers always serializes.
    let mut value = serde_json::to_value(network).unwrap_or_else(|_| json!({}));
    let Some(fields) = value.as_object_mut() else { return value };
    if version < ApiVersion::one(48) {
        fields.shift_remove("EnableIPv4");
    }
    if version < ApiVersion::one(30) {
        fields.shift_remove("ConfigFrom");
        fields.shift_remove("ConfigOnly");
    }
    if version < ApiVersion::one(29) {
        fields.shift_remove("Ingress");
    }
    if version < ApiVersion::one(25) {
        fields.shift_remove("Attachable");
    }
    if let Some(ipam) = fields.get_mut("IPAM").and_then(Value::as_object_mut) {
        ipam.entry("Options").or_insert(Value::Null);
        to_end(ipam, "Config");
    }
    if version < ApiVersion::one(52) {
        // Newer versions have the containers after them.
        ["Options", "Labels"].iter().for_each(|key| to_end(fields, key));
    }
    value
}

/// The fields in Docker's order: this one comes last.
fn to_end(fields: &mut serde_json::Map<String, Value>, key: &str) {
    if let Some(value) = fields.shift_remove(key) {
        fields.insert(key.to_owned(), value);
    }
}
