//! Requests of callers, parsed but not decided: every `None` is a choice left to netd.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::address::{Mac, Subnet};
use super::bandwidth::Bandwidth;
use super::exposure::Exposure;
use super::ids::ContainerId;
use super::names::{Alias, ContainerName, IfName, NetworkName};
use super::network::{HostAccess, NetworkDns};
use super::publication::PortSpec;
use super::route::Route;
use super::subnets::Subnets;
use super::upstream::Upstream;

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The name.
    pub name: NetworkName,
    /// Empty: one IPv4 subnet from the pools.
    pub subnets: Subnets,
    /// IPv6 as well: a random /64 if no IPv6 subnet is given.
    pub ipv6: bool,
    /// No outside access.
    pub internal: bool,
    /// Whether its containers can reach each other.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
    /// Bytes; `None`: the uplink's.
    pub mtu: Option<u32>,
    /// The bridge's interface name; `None`: derived from the network's name.
    pub bridge: Option<IfName>,
    /// The host has no address on it; for internal networks only.
    pub isolated: bool,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// How the name service answers its containers.
    pub dns: NetworkDns,
    /// What its containers can reach on the host; `None`: nothing on an internal network, else everything.
    pub host_access: Option<HostAccess>,
    /// Whether a container that returns under the same name gets the same address.
    pub sticky: bool,
}

impl NetworkSpec {
    /// A network with this name and all other choices left to netd.
    pub fn named(name: NetworkName) -> Self {
        Self {
            name,
            subnets: Subnets::default(),
            ipv6: false,
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            bridge: None,
            isolated: false,
            labels: BTreeMap::new(),
            dns: NetworkDns::default(),
            host_access: None,
            sticky: false,
        }
    }
}

/// The container, as the user specified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRef {
    /// A name, an id, or a unique prefix of an id; with `netns`, the name that the container gets.
    pub name: String,
    /// The location of its network namespace, if the user gave it.
    pub netns: Option<NetnsRef>,
    /// The id that a runtime reported; refused if a living container in another namespace has it. `None`: random.
    pub id: Option<ContainerId>,
}

/// A network namespace, as the user specified it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsRef {
    /// A path to a namespace file; absolute.
    Path(PathBuf),
    /// A process in it.
    Pid(u32),
    /// A process of another engine's container, as reported by that engine.
    OfEngine(u32),
}

/// A container to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectSpec {
    /// Name or id of the network.
    pub network: String,
    /// The container.
    pub container: ContainerRef,
    /// `-p`.
    pub ports: Vec<PortSpec>,
    /// `--ip`.
    pub ip: Option<Ipv4Addr>,
    /// `--ip6`.
    pub ip6: Option<Ipv6Addr>,
    /// `--mac`.
    pub mac: Option<Mac>,
    /// `--alias`.
    pub aliases: Vec<Alias>,
    /// `--ifname`; `None`: eth0, eth1, …, in a container of another engine nd0, nd1, ….
    pub ifname: Option<IfName>,
    /// `--expose`.
    pub exposed: Vec<Exposure>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--dns`.
    pub upstreams: Vec<Upstream>,
}

/// What a container is to get on a network, independent of the face that received the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSpec {
    /// Requested addresses, at most one per address family.
    pub addresses: Vec<AddressSpec>,
    /// Assign no other addresses: a family without a requested one gets none.
    pub no_other_addresses: bool,
    /// The ranges for the next free address; for a family without one, the network's.
    pub ranges: Vec<AddressRange>,
    /// `None`: derived from the IP address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<Alias>,
    /// `None`: eth0, eth1, ….
    pub ifname: Option<IfName>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Further ports that it serves.
    pub exposed: Vec<Exposure>,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// Routes other than the default route.
    pub routes: Vec<Route>,
    /// Bandwidth limits.
    pub bandwidth: Option<Bandwidth>,
    /// Upstreams for names that are not netd's, tried before those of the network.
    pub upstreams: Vec<Upstream>,
    /// The runtime's network that attaches; `None` for a user or the API.
    pub owner: Option<NetworkName>,
    /// The id that the runtime uses, if the container is known by another.
    pub attached_as: Option<ContainerId>,
}

impl From<&ConnectSpec> for EndpointSpec {
    fn from(spec: &ConnectSpec) -> Self {
        let asked = [spec.ip.map(IpAddr::V4), spec.ip6.map(IpAddr::V6)].into_iter().flatten();
        Self {
            addresses: asked.map(|ip| AddressSpec { ip, prefix: None, gateway: None }).collect(),
            mac: spec.mac,
            aliases: spec.aliases.clone(),
            ifname: spec.ifname.clone(),
            ports: spec.ports.clone(),
            exposed: spec.exposed.clone(),
            labels: spec.labels.clone(),
            upstreams: spec.upstreams.clone(),
            ..Self::default()
        }
    }
}

impl From<&AttachSpec> for EndpointSpec {
    fn from(spec: &AttachSpec) -> Self {
        Self {
            addresses: spec.addresses.clone(),
            no_other_addresses: spec.interface != InterfaceSource::Made,
            ranges: spec.ranges.clone(),
            mac: spec.mac,
            aliases: spec.aliases.clone(),
            ifname: Some(spec.key.ifname.clone()),
            ports: spec.ports.clone(),
            exposed: spec.exposed.clone(),
            labels: spec.labels.clone(),
            routes: spec.routes.clone(),
            bandwidth: spec.bandwidth,
            upstreams: spec.upstreams.clone(),
            owner: Some(spec.key.owner.clone()),
            attached_as: None,
        }
    }
}

/// The identity of an attachment for its runtime, which has at most one of each (CNI spec 1.1.0, section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentKey {
    /// The runtime's network (CNI: the configuration's `name`), which need not be the name of netd's network.
    pub owner: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface in the container.
    pub ifname: IfName,
}

/// A request of a runtime to attach a container. Repeating it unchanged has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSpec {
    /// The identity of the attachment.
    pub key: AttachmentKey,
    /// The container's network namespace; absolute.
    pub netns: PathBuf,
    /// The network to join; it is created from this if there is none with that name.
    pub network: NetworkSpec,
    /// The container's name, without its scope; `None`: its id. If another living container has the name, this one is
    /// named by its id and gets the name as an alias.
    pub name: Option<ContainerName>,
    /// The scope of `name`.
    pub scope: Option<ContainerName>,
    /// Further names.
    pub aliases: Vec<Alias>,
    /// The source of the interface and its addresses.
    pub interface: InterfaceSource,
    /// Requested addresses, at most one per address family; a family without one gets the next free one.
    pub addresses: Vec<AddressSpec>,
    /// The ranges for the next free address, at most one list per address family, tried in order; none: the network's.
    pub ranges: Vec<AddressRange>,
    /// Routes other than the default route.
    pub routes: Vec<Route>,
    /// The MAC address; `None`: derived from the IP address.
    pub mac: Option<Mac>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Further ports that it serves.
    pub exposed: Vec<Exposure>,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// Bandwidth limits.
    pub bandwidth: Option<Bandwidth>,
    /// Upstreams for names that are not netd's, tried before those of the network.
    pub upstreams: Vec<Upstream>,
}

/// The source of an attachment's interface and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceSource {
    /// netd makes the interface, with the requested addresses and the next free ones.
    Made,
    /// netd makes the interface without addresses. A second attach request assigns them, once the IPAM plugin that
    /// works through the interface has provided them.
    Unaddressed,
    /// netd makes the interface (or has made it without addresses), with exactly the requested addresses.
    Given,
    /// Another program made it: netd adds names, ports, firewall elements and limits to it.
    Found,
}

/// A requested address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSpec {
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length, if the client knows it.
    pub prefix: Option<u8>,
    /// Its gateway; `None`: the network's.
    pub gateway: Option<IpAddr>,
}

/// A range of a subnet to take an address from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    /// The subnet; one of the network's.
    pub subnet: Subnet,
    /// The first address that may be taken; `None`: the subnet's first usable one.
    pub first: Option<IpAddr>,
    /// The last address that may be taken; `None`: the subnet's last usable one.
    pub last: Option<IpAddr>,
}

/// The expected properties of an attachment, for the comparison with the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSpec {
    /// The attachment.
    pub key: AttachmentKey,
    /// The container's network namespace; absolute.
    pub netns: PathBuf,
    /// The addresses that the runtime recorded; there may be others.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that it recorded; `None`: the one that netd assigned.
    pub mac: Option<Mac>,
    /// The MTU that it recorded; `None`: any.
    pub mtu: Option<u32>,
}

impl CheckSpec {
    /// The check for a runtime that recorded nothing.
    pub fn of(spec: &AttachSpec) -> Self {
        let AttachSpec { key, netns, .. } = spec;
        Self { key: key.clone(), netns: netns.clone(), addresses: Vec::new(), mac: None, mtu: None }
    }
}
