//! What Podman is told of a container's networks (netavark's `StatusBlock`).

use serde_json::{Map, Value, json};

use super::input::{Network, Options, Subnet};
use super::request;
use crate::api::v1::Attachment;
use crate::model::address;

/// All networks, by Podman's names.
pub(super) fn all(options: &Options, attachments: &[Attachment]) -> Value {
    let mut all = Map::new();
    for (wanted, network) in &options.networks {
        let made = attachments.iter().find(|made| made.endpoint.ifname == wanted.interface_name);
        let Some(made) = made else { continue };
        let key = if wanted.name.is_empty() { &network.name } else { &wanted.name };
        all.insert(key.clone(), of(options, network, made));
    }
    Value::Object(all)
}

/// One network.
pub(super) fn of(options: &Options, network: &Network, made: &Attachment) -> Value {
    // Without addresses of Podman its definition says nothing of names: it has them.
    let is_named =
        network.dns_enabled || (network.driver == request::DRIVER && matches!(network.ipam(), "none" | "dhcp"));
    let servers = if is_named { &made.nameservers } else { &options.dns_servers };
    let search: &[String] = if is_named { &made.dns.search } else { &[] };
    let endpoint = &made.endpoint;
    let subnets: Vec<Value> = endpoint.addresses.iter().map(|address| subnet(network, made, address)).collect();
    json!({
        "dns_search_domains": search,
        "dns_server_ips": servers,
        "interfaces": { &endpoint.ifname: { "mac_address": endpoint.mac, "subnets": subnets } },
    })
}

/// An address, and the gateway that Podman's definition gives for it, else netd's.
fn subnet(network: &Network, made: &Attachment, address: &str) -> Value {
    let ip: Option<std::net::IpAddr> = address.split('/').next().and_then(|ip| ip.parse().ok());
    let has = |subnet: &&Subnet| {
        let prefix = subnet.subnet.parse::<address::Subnet>();
        ip.is_some_and(|ip| prefix.is_ok_and(|prefix| prefix.contains(ip)))
    };
    let gateway = match network.subnets.as_deref() {
        Some(subnets) => subnets.iter().find(has).and_then(|subnet| subnet.gateway).map(|gateway| gateway.to_string()),
        None => {
            let is_v4 = address.contains('.');
            made.endpoint.gateways.iter().map(ToString::to_string).find(|gateway| gateway.contains('.') == is_v4)
        }
    };
    json!({ "gateway": gateway, "ipnet": address })
}
