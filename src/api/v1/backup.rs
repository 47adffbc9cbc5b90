//! Backups: the definitions of a host, and what became of them when they were restored.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::network::{CreateNetwork, SubnetObject, SubnetRequest};
use super::policy::PolicyRule;
use super::service::CreateService;
use super::text;
use super::time::rfc3339;
use crate::model::backup::{Definition, ServiceDefinition};
use crate::model::ids::NetworkId;
use crate::model::names::{ContainerName, NetworkName};
use crate::model::relay::Relay;
use crate::model::request::{DriverSpec, NetworkSpec, ServiceSpec};
use crate::model::service::Tasks;
use crate::model::subnets::SubnetSpec;
use crate::model::{Invalid, backup};

/// The version of the document. A later one has what this netd would not restore.
const FORMAT: u32 = 1;

/// The definitions of a host: its networks, with the addresses that they keep for names, its services and its policies. Not its
/// containers and reservations, which end with the boot, and no services that follow from labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The version of this document: 1.
    #[schema(minimum = 1, maximum = 1)]
    pub format: u32,
    /// The version of the netd that made it.
    pub version: String,
    /// When, in RFC 3339, UTC, to the second.
    pub time: String,
    /// The host's prefix of unique local addresses, from which networks get IPv6 subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Prefix>)]
    pub ula_prefix: Option<String>,
    /// Sorted by name.
    pub networks: Vec<NetworkBackup>,
    /// Sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceBackup>,
    /// In the order in which they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyRule>,
}

/// A network in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkBackup {
    /// Its id, 64 hex digits, which it keeps.
    #[schema(value_type = text::NetworkId)]
    pub id: String,
    /// The request that creates it as it is.
    pub network: CreateNetwork,
    /// The addresses that it keeps for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sticky_addresses: Vec<StickyAddress>,
}

/// An address that a network keeps for the container that had it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyAddress {
    /// The address.
    #[schema(value_type = text::IpAddress)]
    pub address: IpAddr,
    /// The container's name.
    #[schema(value_type = text::ContainerName)]
    pub name: ContainerName,
}

/// A service in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceBackup {
    /// Its id, 25 digits and lower-case letters, which it keeps.
    #[schema(value_type = text::ServiceId)]
    pub id: String,
    /// The request that creates it as it is. Networks that their runtimes define are left out.
    pub service: CreateService,
    /// Its virtual addresses, which it keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_addresses: Vec<VirtualAddresses>,
    /// What an engine runs for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub tasks: Option<Tasks>,
}

/// The virtual addresses of a service on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualAddresses {
    /// The network's name.
    #[schema(value_type = text::NetworkName)]
    pub network: NetworkName,
    /// At most one per family.
    #[schema(value_type = Vec<text::IpAddress>, max_items = 2)]
    pub addresses: Vec<IpAddr>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// The networks that were created.
    pub networks: Vec<String>,
    /// The networks that were there already, as the backup has them.
    pub unchanged: Vec<String>,
    /// The services that were created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
    /// The services that were there already, as the backup has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchanged_services: Vec<String>,
    /// The policies that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyRule>,
}

impl Backup {
    /// The document for these definitions. `version`: of this netd; `now`: in seconds since the Unix epoch.
    pub fn new(backup: backup::Backup, version: &str, now: u64) -> Self {
        Self {
            format: FORMAT,
            version: version.to_owned(),
            time: rfc3339(now),
            ula_prefix: backup.ula.map(|prefix| prefix.to_string()),
            networks: backup.networks.into_iter().map(NetworkBackup::from).collect(),
            services: backup.services.into_iter().map(ServiceBackup::from).collect(),
            policies: backup.policies.iter().map(PolicyRule::from).collect(),
        }
    }
}

impl TryFrom<Backup> for backup::Backup {
    type Error = Invalid;
    fn try_from(document: Backup) -> Result<Self, Invalid> {
        if document.format != FORMAT {
            let why = format!("netd {} wrote it, and this netd knows {FORMAT}: use that netd", document.version);
            return Err(Invalid::new("format of the backup", document.format.to_string(), why));
        }
        Ok(Self {
            ula: document.ula_prefix.map(|prefix| prefix.parse()).transpose()?,
            networks: document.networks.into_iter().map(Definition::try_from).collect::<Result<_, _>>()?,
            services: document.services.into_iter().map(ServiceDefinition::try_from).collect::<Result<_, _>>()?,
            policies: document.policies.iter().map(PolicyRule::rule).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Definition> for NetworkBackup {
    fn from(definition: Definition) -> Self {
        let sticky = definition.sticky.into_iter().map(|(address, name)| StickyAddress { address, name });
        Self { id: definition.id.to_string(), network: definition.spec.into(), sticky_addresses: sticky.collect() }
    }
}

impl TryFrom<NetworkBackup> for Definition {
    type Error = Invalid;
    fn try_from(network: NetworkBackup) -> Result<Self, Invalid> {
        let sticky = network.sticky_addresses.into_iter().map(|kept| (kept.address, kept.name));
        Ok(Self { id: network.id.parse::<NetworkId>()?, spec: network.network.try_into()?, sticky: sticky.collect() })
    }
}

impl From<ServiceDefinition> for ServiceBackup {
    fn from(definition: ServiceDefinition) -> Self {
        let of = definition.addresses.into_iter().map(|(network, addresses)| VirtualAddresses { network, addresses });
        let (id, tasks) = (definition.id.as_str().to_owned(), definition.spec.tasks.clone());
        Self { id, service: definition.spec.into(), virtual_addresses: of.collect(), tasks }
    }
}

impl TryFrom<ServiceBackup> for ServiceDefinition {
    type Error = Invalid;
    fn try_from(service: ServiceBackup) -> Result<Self, Invalid> {
        let addresses = service.virtual_addresses.into_iter().map(|of| (of.network, of.addresses));
        let spec = ServiceSpec { tasks: service.tasks, ..service.service.try_into()? };
        Ok(Self { id: service.id.parse()?, spec, addresses: addresses.collect() })
    }
}

impl From<NetworkSpec> for CreateNetwork {
    fn from(spec: NetworkSpec) -> Self {
        let bridge = spec.bridge.map(|name| ("bridge".to_owned(), name.to_string()));
        let listen = ("dns.listen".to_owned(), spec.dns.listen.as_str().to_owned());
        let trusted = spec.trusted.then(|| ("trusted".to_owned(), "true".to_owned()));
        let publish = spec.publish.map(|mode| ("publish".to_owned(), mode.to_string()));
        let ipam = spec.dhcp.then(|| ("ipam".to_owned(), "dhcp".to_owned()));
        let mode = |mode: &str| ("gateway_mode".to_owned(), mode.to_owned());
        let modes = [(spec.isolated, "isolated"), (spec.routed, "routed"), (spec.unprotected, "nat-unprotected")];
        let isolated = modes.into_iter().find(|(is_so, _)| *is_so).map(|(_, name)| mode(name));
        let source = spec.source.iter().map(|address| {
            let key = if address.is_ipv4() { "host_ipv4" } else { "host_ipv6" };
            (key.to_owned(), address.to_string())
        });
        let source: Vec<_> = source.collect();
        let (driver, of_driver) = of_driver(&spec.driver);
        let has_bridge = spec.driver == DriverSpec::Bridge;
        let listen = Some(listen).filter(|_| spec.driver != DriverSpec::Nothing);
        let interfaces = spec.relay.as_ref().and_then(Relay::interfaces_text);
        let relay = spec.relay.as_ref().map(|relay| ("relay".to_owned(), relay.protocols_text()));
        let relay = relay.into_iter().chain(interfaces.map(|text| ("relay_interfaces".to_owned(), text)));
        Self {
            name: spec.name.to_string(),
            driver: driver.map(str::to_owned),
            subnets: spec.subnets.as_slice().iter().map(SubnetRequest::from).collect(),
            gateways: Vec::new(),
            ip_ranges: Vec::new(),
            ipv6: spec.ipv6,
            internal: spec.internal,
            icc: Some(spec.icc),
            masquerade: has_bridge.then_some(spec.masquerade),
            mtu: spec.mtu,
            labels: spec.labels,
            dns: spec.dns.upstreams,
            host_access: spec.host_access.map(|access| access.as_str().to_owned()),
            sticky: Some(spec.sticky),
            on_demand: spec.on_demand,
            egress: spec.egress.stance,
            egress_allow: spec.egress.allow,
            options: (bridge.into_iter().chain(listen).chain(isolated).chain(trusted).chain(publish).chain(source))
                .chain(relay)
                .chain(of_driver)
                .chain(ipam)
                .collect(),
        }
    }
}

/// The driver's name if it is not the usual one, and its options.
fn of_driver(driver: &DriverSpec) -> (Option<&'static str>, Vec<(String, String)>) {
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    match driver {
        DriverSpec::Bridge => (None, Vec::new()),
        DriverSpec::Nothing => (Some("none"), Vec::new()),
        DriverSpec::Unmanaged { bridge, vlan } => {
            let mut options = vec![option("mode", "unmanaged"), option("bridge", bridge.as_str())];
            options.extend(vlan.map(|vlan| option("vlan", &vlan.to_string())));
            (None, options)
        }
        DriverSpec::Stacked { parent, mode, host } => {
            let mut options = vec![option("parent", parent.as_str()), option("mode", mode.mode())];
            let host: Vec<String> = host.iter().map(ToString::to_string).collect();
            options.extend((!host.is_empty()).then(|| option("host_address", &host.join(","))));
            (Some(mode.driver()), options)
        }
    }
}

impl From<&SubnetSpec> for SubnetRequest {
    fn from(spec: &SubnetSpec) -> Self {
        Self::Object(SubnetObject {
            subnet: spec.subnet.to_string(),
            gateway: spec.gateway.map(|gateway| gateway.to_string()),
            ip_range: spec.range.map(|range| range.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::network::{Driver, HostAccess, Network};

    fn definition(network: &Network) -> Definition {
        let spec = NetworkSpec::of(network).unwrap();
        Definition { id: network.id.clone(), spec, sticky: vec![([10, 0, 0, 9].into(), "web".parse().unwrap())] }
    }

    #[test]
    fn a_definition_passes_through_the_document_as_it_is() {
        let mut networks = vec![samples::network("net1", &["10.0.0.0/24", "fd00:1::/64"])];
        networks[0].subnets[0].gateway = Some([10, 0, 0, 254].into());
        networks[0].subnets[0].range = Some("10.0.0.128/25".parse().unwrap());
        networks[0].labels.insert("a".into(), "b".into());
        networks[0].dns.upstreams = vec!["tls://1.1.1.1#one.one".parse().unwrap()];
        networks[0].dns.listen = crate::model::network::DnsListen::Container;
        networks[0].sticky = true;
        networks[0].host_access = HostAccess::Ports;
        networks.push(Network { internal: true, ..samples::network("net2", &["10.1.0.0/24"]) });
        networks[1].host_access = HostAccess::None;
        if let Driver::Bridge(bridge) = &mut networks[1].driver {
            (bridge.icc, bridge.masquerade, bridge.isolated) = (false, false, true);
        }
        let networks = networks.iter().map(definition).collect();
        let service: CreateService = serde_json::from_value(serde_json::json!({
            "name": "web", "networks": [{ "network": "net1", "aliases": ["www"] }], "select": { "app": "web" },
            "mode": "vip", "ports": ["4000:80/tcp"], "target": "80", "health": { "kind": "tcp:80", "interval": 0.5 },
        }))
        .unwrap();
        let services = vec![ServiceDefinition {
            id: crate::model::ids::ServiceId::from_random([7; 16]),
            spec: service.try_into().unwrap(),
            addresses: [("net1".parse().unwrap(), vec![[10, 0, 0, 5].into(), "fd00:1::5".parse().unwrap()])].into(),
        }];
        let denied = PolicyRule::parse(crate::model::policy::Action::Deny, "web", "db:80").unwrap();
        let policies = vec![denied.rule().unwrap()];
        let backup = backup::Backup { ula: Some("fd00:1::/48".parse().unwrap()), networks, services, policies };
        let document = Backup::new(backup.clone(), "0.1.0", 7);
        let json = serde_json::to_string(&document).unwrap();
        let read: Backup = serde_json::from_str(&json).unwrap();
        assert_eq!(backup::Backup::try_from(read).unwrap(), backup);
    }

    #[test]
    fn what_cannot_be_restored_as_it_was_is_refused() {
        let network = samples::network("net1", &["10.0.0.0/24"]);
        let networks = vec![definition(&network)];
        let backup = backup::Backup { networks, ..backup::Backup::default() };
        let document = serde_json::to_value(Backup::new(backup, "0.1.0", 7)).unwrap();
        let change = |path: &str, value: serde_json::Value| {
            let mut changed = document.clone();
            *changed.pointer_mut(path).unwrap() = value;
            let read: Backup = serde_json::from_value(changed).map_err(|error| error.to_string())?;
            backup::Backup::try_from(read).map_err(|error| error.to_string())
        };
        assert!(change("/time", "later".into()).is_ok());
        for (path, value, words) in [
            ("/format", 2.into(), "this netd knows 1"),
            ("/networks/0/id", "abc".into(), "64 hex digits"),
            ("/networks/0/network/name", "a b".into(), "invalid network name"),
            ("/networks/0/sticky_addresses/0/name", "a b".into(), "invalid container name"),
            ("/networks/0/network", serde_json::json!({ "name": "a", "vlan": 7 }), "unknown field `vlan`"),
        ] {
            let error = change(path, value).unwrap_err();
            assert!(error.contains(words), "{path}: {error}");
        }
    }
}
