//! The input of netavark and of its plugins, as Podman writes it: what netd reads of it. `null` counts as absent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as De, Serialize};
use serde_json::{Map, Value};

use super::failure::Failure;

/// A container and its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) container_id: String,
    pub(super) container_name: String,
    pub(super) networks: Vec<(PerNetwork, Network)>,
    pub(super) port_mappings: Vec<PortMapping>,
    pub(super) dns_servers: Vec<IpAddr>,
    /// Whether netavark has called netd as a plugin for one of the networks.
    pub(super) is_plugin: bool,
}

/// Only the input of a plugin has `network_options`.
#[derive(De)]
#[serde(expecting = "an object")]
struct Kind {
    network_options: Option<IgnoredAny>,
}

/// The input of netavark.
#[derive(De)]
#[serde(expecting = "an object")]
struct Whole {
    container_id: String,
    container_name: String,
    networks: Named,
    network_info: BTreeMap<String, Network>,
    port_mappings: Option<Vec<PortMapping>>,
    dns_servers: Option<Vec<IpAddr>>,
}

/// The input of a plugin.
#[derive(De)]
#[serde(expecting = "an object")]
struct One {
    container_id: String,
    container_name: String,
    network: Network,
    network_options: PerNetwork,
    port_mappings: Option<Vec<PortMapping>>,
}

/// What a container gets on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, De)]
pub(super) struct PerNetwork {
    /// The key of the object, or a field in a list.
    #[serde(default)]
    pub(super) name: String,
    pub(super) interface_name: String,
    pub(super) static_ips: Option<Vec<IpAddr>>,
    pub(super) static_mac: Option<String>,
    pub(super) aliases: Option<Vec<String>>,
    pub(super) options: Option<BTreeMap<String, String>>,
}

/// A network as Podman defines it.
#[derive(Debug, Clone, PartialEq, Eq, De, Serialize)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) driver: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network_interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subnets: Option<Vec<Subnet>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<Vec<Route>>,
    pub(super) ipv6_enabled: bool,
    pub(super) internal: bool,
    pub(super) dns_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network_dns_servers: Option<Vec<IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipam_options: Option<BTreeMap<String, String>>,
    /// What a later Podman adds comes back from `create` as it was.
    #[serde(flatten)]
    pub(super) others: Map<String, Value>,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, De, Serialize)]
pub(super) struct Subnet {
    pub(super) subnet: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease_range: Option<LeaseRange>,
}

/// The part of a subnet from which Podman takes addresses.
#[derive(Debug, Clone, PartialEq, Eq, De, Serialize)]
pub(super) struct LeaseRange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_ip: Option<String>,
}

/// A route in the containers of a network.
#[derive(Debug, Clone, PartialEq, Eq, De, Serialize)]
pub(super) struct Route {
    pub(super) destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metric: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route_type: Option<String>,
}

/// A published port, or `range` of them.
#[derive(Debug, Clone, PartialEq, Eq, De)]
pub(super) struct PortMapping {
    pub(super) host_ip: String,
    pub(super) host_port: u16,
    pub(super) container_port: u16,
    pub(super) protocol: String,
    pub(super) range: u16,
}

/// The networks of a container, in order: a list, or an object by network.
#[derive(Default)]
struct Named {
    list: Vec<PerNetwork>,
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Named;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of networks, or an object by network")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                let mut list = Vec::new();
                while let Some((name, options)) = map.next_entry::<String, PerNetwork>()? {
                    list.push(PerNetwork { name, ..options });
                }
                // Go writes objects by key, which says nothing. Podman numbers the interfaces in the order of its command
                // line.
                list.sort_by_cached_key(|network| in_order(&network.interface_name));
                Ok(Named { list })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Named, A::Error> {
                let mut all = Vec::new();
                while let Some(network) = list.next_element()? {
                    all.push(network);
                }
                Ok(Named { list: all })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Sorts eth2 before eth10.
fn in_order(ifname: &str) -> (String, u64, String) {
    let text = ifname.trim_end_matches(|c: char| c.is_ascii_digit());
    (text.to_owned(), ifname[text.len()..].parse().unwrap_or(0), ifname.to_owned())
}

impl Options {
    /// Reads the input of `setup` and `teardown`, of netavark or of a plugin.
    pub(super) fn read(input: &[u8]) -> Result<Self, Failure> {
        let kind: Kind = serde_json::from_slice(input).map_err(|error| wrong(&error))?;
        if kind.network_options.is_some() {
            let One { container_id, container_name, network, network_options, port_mappings } =
                serde_json::from_slice(input).map_err(|error| wrong(&error))?;
            return Ok(Self {
                container_id,
                container_name,
                networks: vec![(network_options, network)],
                port_mappings: port_mappings.unwrap_or_default(),
                dns_servers: Vec::new(),
                is_plugin: true,
            });
        }
        let Whole { container_id, container_name, networks, mut network_info, port_mappings, dns_servers } =
            serde_json::from_slice(input).map_err(|error| wrong(&error))?;
        let known = |network: PerNetwork| {
            let info = network_info.remove(&network.name);
            let missing = || Failure(format!("network info for network {} not found", network.name));
            Ok((network.clone(), info.ok_or_else(missing)?))
        };
        Ok(Self {
            container_id,
            container_name,
            networks: networks.list.into_iter().map(known).collect::<Result<_, Failure>>()?,
            port_mappings: port_mappings.unwrap_or_default(),
            dns_servers: dns_servers.unwrap_or_default(),
            is_plugin: false,
        })
    }
}

impl Network {
    /// Who gives addresses; empty if nobody says.
    pub(super) fn ipam(&self) -> &str {
        self.ipam_options.as_ref().and_then(|options| options.get("driver")).map_or("", String::as_str)
    }
}

pub(super) fn wrong(error: &serde_json::Error) -> Failure {
    Failure(format!("failed to load network options: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = r#"{"name":"N","id":"i","driver":"bridge","dns_enabled":true,"internal":false,"ipv6_enabled":false,
        "created":null,"subnets":null,"new_field":[1]}"#;

    fn with(networks: &str) -> Vec<String> {
        let info = format!(r#"{{"a":{NETWORK},"b":{NETWORK},"c":{NETWORK}}}"#);
        let input = format!(
            r#"{{"container_id":"1","container_name":"web","networks":{networks},"network_info":{info},
                "port_mappings":null,"other":7}}"#
        );
        let options = Options::read(input.as_bytes()).unwrap();
        options.networks.into_iter().map(|(network, _)| network.name).collect()
    }

    #[test]
    fn networks_are_in_the_order_of_their_interfaces() {
        let map = r#"{"a":{"interface_name":"eth10"},"b":{"interface_name":"eth2","static_ips":null},
            "c":{"interface_name":"eth0"}}"#;
        assert_eq!(with(map), ["c", "b", "a"]);
        let list = r#"[{"name":"b","interface_name":"eth1"},{"name":"a","interface_name":"eth0"}]"#;
        assert_eq!(with(list), ["b", "a"], "a list has its own order");
    }

    #[test]
    fn wrong_input_is_explained() {
        for (input, named) in [
            ("", "EOF"),
            ("[]", "an object"),
            (r#"{"container_id":"1"}"#, "missing field `container_name`"),
            (r#"{"container_id":1,"container_name":"a","networks":{},"network_info":{}}"#, "invalid type: integer"),
            (r#"{"container_id":"1","container_name":"a","networks":7,"network_info":{}}"#, "a list of networks"),
            (
                r#"{"container_id":"1","container_name":"a","networks":{"x":{"interface_name":"eth0"}},"network_info":{}}"#,
                "network info for network x not found",
            ),
        ] {
            let error = Options::read(input.as_bytes()).unwrap_err();
            assert!(error.0.contains(named), "{input}: {error:?}");
        }
    }

    #[test]
    fn what_is_unknown_in_a_network_is_kept() {
        let network: Network = serde_json::from_str(NETWORK).unwrap();
        let written = serde_json::to_value(&network).unwrap();
        assert_eq!(written["new_field"], serde_json::json!([1]));
        assert_eq!(written.get("subnets"), None);
    }
}
