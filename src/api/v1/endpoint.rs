//! Endpoints and containers as they are shown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::address::Family;
use crate::model::desired::Attached;
use crate::model::endpoint;
use crate::model::host::reach::Reach;
use crate::model::host::step::HostPort;
use crate::model::publication::skipped::Skipped;
use crate::model::publication::{PortRange, PortSpec, Publication};

/// A container's id and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerRef {
    /// The id that its runtime assigned, or 64 random hex digits.
    pub id: String,
    /// Unique on the host.
    pub name: String,
}

/// A published port, or a range of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Port {
    /// `null`: every local IPv4 and IPv6 address; `0.0.0.0` and `::`: every one of that family.
    #[schema(value_type = Option<String>, format = "ip")]
    pub host_ip: Option<IpAddr>,
    /// The (first) port on the host.
    pub host_port: u16,
    /// The last port on the host, if this is a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port_end: Option<u16>,
    /// The (first) port in the container.
    pub container_port: u16,
    /// The last port in the container, if this is a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_port_end: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Who decides which packets reach it: `open`, netd, or `strict`, the host's own rules about packets to itself. Absent
    /// if it was not said for this port; where containers are listed, `strict` is there also if the network or the
    /// daemon's configuration says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<String>,
    /// Who of the hosts outside reaches a strict port, by family, as the host's own rules have it; only where one container
    /// is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reach: Vec<PortReach>,
    /// Another process of the host that has one of the ports, as in `port 20005: nc (pid 812)`; only where containers are
    /// listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_by: Option<String>,
    /// Another process, maybe the runtime that asked for the port, has it where netd would pass on what the kernel does not
    /// translate; only where containers are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproxied: bool,
}

/// Who of the hosts outside reaches a strict port over one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortReach {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// `anyone`, `some`, or `nobody`.
    pub who: String,
    /// What decides, if that is not every host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

impl From<(Family, Reach)> for PortReach {
    fn from((family, reach): (Family, Reach)) -> Self {
        let family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let (who, why) = match reach {
            Reach::Anyone => ("anyone", Vec::new()),
            Reach::Some(why) => ("some", why),
            Reach::Nobody(why) => ("nobody", why),
        };
        Self { family: family.into(), who: who.into(), why }
    }
}

/// A port that a runtime requested on a network that cannot publish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedPort {
    /// As requested; `host_port` is 0 if a free one was requested.
    #[serde(flatten)]
    pub port: Port,
    /// Why it is not published there.
    pub why: String,
}

/// One container on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The container.
    pub container: ContainerRef,
    /// A path of its network namespace.
    pub netns: String,
    /// The interface in the container.
    pub ifname: String,
    /// The interface on the host.
    pub host_ifname: String,
    /// With prefix length, at most one per family.
    pub addresses: Vec<String>,
    /// The network's gateway for each of `addresses`; empty on an internal network.
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<IpAddr>,
    /// The MAC address that netd gave the interface in the container.
    pub mac: String,
    /// The MAC address that a later plugin of its runtime gave the interface; the container sends from it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_mac: Option<String>,
    /// Further DNS names on this network.
    pub aliases: Vec<String>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Ports that are reached at its own addresses, on a network in the gateway mode `routed`: `80/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opened_ports: Vec<String>,
    /// Ports that the runtime requested and that this network cannot publish; runtimes request them for each network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_ports: Vec<SkippedPort>,
    /// Ports that it serves without publishing them, as in `8080/tcp=http`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// The user's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The runtime's network that attached it (CNI: the configuration's name); absent: connected by a user or the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The id by which the runtime attached it, if the container of its network namespace has another id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_as: Option<String>,
    /// Bandwidth limits, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<super::Bandwidth>,
    /// Whether it may send from addresses that are not its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// Packets from it that were dropped because it may not send them: their MAC or IP address is not its own, or they
    /// are a router's or a DHCP server's. Counted within the last 10 s, since netd's table was loaded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused_packets: u64,
    /// Upstreams for external names, asked before those of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Whether anything but what is allowed may be sent to the outside and to the host: `open` or `deny`; absent: nobody has
    /// said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// What may be sent all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress_allow: Vec<String>,
    /// The last lease of its network's DHCP server. Without `addresses`, it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<super::lease::Lease>,
}

/// A container and its endpoints, in the order of connecting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// The id that its runtime assigned, or 64 random hex digits.
    pub id: String,
    /// Unique on the host.
    pub name: String,
    /// A path of its network namespace.
    pub netns: String,
    /// At least one. A port that a runtime publishes on several of them is listed at the one that it is forwarded to.
    pub endpoints: Vec<Endpoint>,
}

impl From<&endpoint::Container> for ContainerRef {
    fn from(container: &endpoint::Container) -> Self {
        Self { id: container.id.to_string(), name: container.name.to_string() }
    }
}

impl From<&Publication> for Port {
    fn from(publication: &Publication) -> Self {
        let end = |range: PortRange| (range.count() > 1).then(|| range.last());
        Self {
            host_ip: publication.host_ip,
            host_port: publication.host.first(),
            host_port_end: end(publication.host),
            container_port: publication.container.first(),
            container_port_end: end(publication.container),
            protocol: publication.protocol.to_string(),
            publish: publication.mode.map(|mode| mode.to_string()),
            reach: Vec::new(),
            taken_by: None,
            unproxied: false,
        }
    }
}

impl From<&Skipped> for SkippedPort {
    fn from(Skipped { port, why }: &Skipped) -> Self {
        let end = |range: PortRange| (range.count() > 1).then(|| range.last());
        let PortSpec { host_ip, host, container, protocol, mode } = port;
        let port = Port {
            host_ip: *host_ip,
            host_port: host.map_or(0, PortRange::first),
            host_port_end: host.and_then(end),
            container_port: container.first(),
            container_port_end: end(*container),
            protocol: protocol.to_string(),
            publish: mode.map(|mode| mode.to_string()),
            reach: Vec::new(),
            taken_by: None,
            unproxied: false,
        };
        Self { port, why: why.to_string() }
    }
}

/// As `docker ps` shows it (`0.0.0.0:4000->80/tcp`); every address is `*`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => write!(f, "*:{}", self.host_port)?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.host_port)?,
            Some(ip) => write!(f, "{ip}:{}", self.host_port)?,
        }
        if let Some(end) = self.host_port_end {
            write!(f, "-{end}")?;
        }
        write!(f, "->{}", self.container_port)?;
        if let Some(end) = self.container_port_end {
            write!(f, "-{end}")?;
        }
        write!(f, "/{}", self.protocol)
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&endpoint::Endpoint> for Endpoint {
    fn from(endpoint: &endpoint::Endpoint) -> Self {
        Self {
            network: endpoint.network.to_string(),
            container: (&endpoint.container).into(),
            netns: endpoint.container.netns.path.display().to_string(),
            ifname: endpoint.ifname.to_string(),
            host_ifname: endpoint.host_ifname.to_string(),
            addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
            gateways: endpoint.gateways.clone(),
            mac: endpoint.mac.to_string(),
            learned_mac: endpoint.learned_mac.map(|mac| mac.to_string()),
            aliases: endpoint.aliases.iter().map(ToString::to_string).collect(),
            ports: endpoint.publications.iter().map(Port::from).collect(),
            opened_ports: endpoint.opened.iter().map(ToString::to_string).collect(),
            skipped_ports: endpoint.skipped.iter().map(SkippedPort::from).collect(),
            expose: endpoint.exposed.iter().map(ToString::to_string).collect(),
            labels: endpoint.labels.clone(),
            owner: endpoint.owner.as_ref().map(ToString::to_string),
            attached_as: endpoint.attached_as.as_ref().map(ToString::to_string),
            bandwidth: endpoint.bandwidth.map(super::Bandwidth::from),
            trusted: endpoint.trusted,
            refused_packets: 0,
            dns: endpoint.upstreams.iter().map(ToString::to_string).collect(),
            egress: endpoint.egress.stance.map(|stance| stance.to_string()),
            egress_allow: endpoint.egress.allow.iter().map(ToString::to_string).collect(),
            lease: endpoint.dhcp.as_ref().and_then(|dhcp| dhcp.lease.as_ref()).map(super::lease::Lease::from),
        }
    }
}

impl Endpoint {
    /// In one line for people: `web connected to net1: eth0 10.77.0.2/24, *:4000->80/tcp`.
    pub fn summary(&self) -> String {
        let mut line = format!("{} connected to {}: {}", self.container.name, self.network, self.ifname);
        for address in &self.addresses {
            line.push(' ');
            line.push_str(address);
        }
        for port in &self.ports {
            line.push_str(", ");
            line.push_str(&port.to_string());
        }
        for port in &self.opened_ports {
            line.push_str(", ");
            line.push_str(port);
        }
        line
    }
}

impl Port {
    /// Whether the host port is one of these.
    pub fn has(&self, taken: &HostPort) -> bool {
        let ports = self.host_port..=self.host_port_end.unwrap_or(self.host_port);
        let only = self.host_ip.filter(|ip| !ip.is_unspecified());
        self.protocol == taken.protocol.as_str()
            && ports.contains(&taken.port)
            && only.map_or(taken.address.is_unspecified(), |ip| ip == taken.address)
    }
}

impl From<&Attached> for Container {
    fn from(attached: &Attached) -> Self {
        let endpoint = |endpoint: &Arc<endpoint::Endpoint>| {
            let published = attached.publications().filter(|(shown, _)| Arc::ptr_eq(shown, endpoint));
            Endpoint {
                ports: published.map(|(_, publication)| publication.into()).collect(),
                ..endpoint.as_ref().into()
            }
        };
        Self {
            id: attached.container.id.to_string(),
            name: attached.container.name.to_string(),
            netns: attached.container.netns.path.display().to_string(),
            endpoints: attached.endpoints.iter().map(endpoint).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::publication::Protocol;

    #[test]
    fn a_single_port_has_no_end_and_a_null_address_is_shown() {
        let publication = Publication {
            host_ip: None,
            host: PortRange::single(4000).unwrap(),
            container: PortRange::single(80).unwrap(),
            protocol: Protocol::Tcp,
            mode: None,
        };
        let port = Port::from(&publication);
        let json = serde_json::to_string(&port).unwrap();
        assert_eq!(json, r#"{"host_ip":null,"host_port":4000,"container_port":80,"protocol":"tcp"}"#);
        assert_eq!(port.to_string(), publication.to_string());
    }

    #[test]
    fn a_container_shows_each_port_once_where_it_leads() {
        use crate::logic::samples;
        let inner = crate::model::network::Network { internal: true, ..samples::network("inner", &["10.1.0.0/24"]) };
        let (net1, net2) = (samples::network("net1", &["10.2.0.0/24"]), samples::network("net2", &["10.3.0.0/24"]));
        let mut desired = crate::model::desired::Desired::default();
        for (sequence, (network, address, ports)) in [
            (&inner, "10.1.0.2", &["4000:80"][..]),
            (&net1, "10.2.0.2", &["4000:80", "4001:81"]),
            (&net2, "10.3.0.2", &["4000:80", "4002:82"]),
        ]
        .into_iter()
        .enumerate()
        {
            desired.insert_endpoint(samples::endpoint(network, "web", sequence as u64, &[address], ports));
        }
        let container = Container::from(desired.containers().next().unwrap().as_ref());
        let ports = |endpoint: &Endpoint| endpoint.ports.iter().map(|port| port.host_port).collect::<Vec<_>>();
        let shown: Vec<_> = container.endpoints.iter().map(ports).collect();
        assert_eq!(shown, [vec![], vec![4000, 4001], vec![4002]]);
    }

    #[test]
    fn a_range_names_both_ends() {
        let publication = Publication {
            host_ip: Some("::1".parse().unwrap()),
            host: PortRange::new(8000, 8010).unwrap(),
            container: PortRange::new(9000, 9010).unwrap(),
            protocol: Protocol::Udp,
            mode: None,
        };
        let port = Port::from(&publication);
        assert_eq!((port.host_port_end, port.container_port_end), (Some(8010), Some(9010)));
        assert_eq!(port.to_string(), publication.to_string());
    }
}
