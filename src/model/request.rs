//! What callers ask for, parsed but not yet decided: every `None` is a choice left to netd.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::address::{Mac, Subnet};
use super::names::{DnsName, IfName, NetworkName};
use super::publication::PortSpec;

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The name.
    pub name: NetworkName,
    /// Empty: one IPv4 subnet from the pools.
    pub subnets: Vec<Subnet>,
    /// Each must lie in one of the subnets; the others get their first address.
    pub gateways: Vec<IpAddr>,
    /// Each must lie in one of the subnets: automatic addresses come from there only.
    pub ranges: Vec<Subnet>,
    /// IPv6 as well: a random /64 where no IPv6 subnet is given.
    pub ipv6: bool,
    /// No way out.
    pub internal: bool,
    /// Whether its containers reach each other.
    pub icc: bool,
    /// Whether leaving traffic takes the host's address.
    pub masquerade: bool,
    /// Bytes; `None`: the uplink's.
    pub mtu: Option<u32>,
    /// The bridge's interface name; `None`: from the network's name.
    pub bridge: Option<IfName>,
    /// The user's own notes.
    pub labels: BTreeMap<String, String>,
}

impl NetworkSpec {
    /// A network with every choice left to netd.
    pub fn named(name: NetworkName) -> Self {
        Self {
            name,
            subnets: Vec::new(),
            gateways: Vec::new(),
            ranges: Vec::new(),
            ipv6: false,
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            bridge: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Which container is meant, as the user said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name, an id, or a unique beginning of an id; with `place` given, the name the container gets.
    pub container: String,
    /// Where its network namespace is, when the user says so.
    pub place: Option<Place>,
    /// Refuse to give a new container the id of a known one: the id a runtime told. `None`: random.
    pub id: Option<super::ids::ContainerId>,
}

/// A network namespace as a user points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path to a namespace file; absolute.
    Path(PathBuf),
    /// A process that is in it.
    Pid(u32),
}

/// A container to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectSpec {
    /// Name or id of the network.
    pub network: String,
    /// The container.
    pub target: Target,
    /// `-p`.
    pub ports: Vec<PortSpec>,
    /// `--ip`.
    pub ip: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ip6: Option<Ipv6Addr>,
    /// `--mac`.
    pub mac: Option<Mac>,
    /// `--alias`.
    pub aliases: Vec<DnsName>,
    /// `--ifname`; `None`: eth0, eth1, ….
    pub ifname: Option<IfName>,
}
