//! What callers ask for, parsed but not yet decided: every `None` is a choice left to netd.

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
use super::upstream::Upstream;

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
    /// The host has no address on it; for internal networks only.
    pub isolated: bool,
    /// The user's own notes.
    pub labels: BTreeMap<String, String>,
    /// How its containers' questions for names are answered.
    pub dns: NetworkDns,
    /// What of the host its containers reach; `None`: nothing on an internal network, else everything.
    pub host_access: Option<HostAccess>,
    /// Whether a container that comes again under the same name gets the same address.
    pub sticky: bool,
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
            isolated: false,
            labels: BTreeMap::new(),
            dns: NetworkDns::default(),
            host_access: None,
            sticky: false,
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
    pub id: Option<ContainerId>,
}

/// A network namespace as a user points at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path to a namespace file; absolute.
    Path(PathBuf),
    /// A process that is in it.
    Pid(u32),
    /// A process of a container of another engine, which told of it.
    OfEngine(u32),
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

/// What a container is to get on a network, by whichever door the requested came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointSpec {
    /// Addresses to take, at most one per family.
    pub addresses: Vec<AddressSpec>,
    /// No others than those: a family without one gets none.
    pub no_other_addresses: bool,
    /// Where the next free address is taken from; a family without one: the network's.
    pub ranges: Vec<AddressRange>,
    /// `None`: from the IP address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<Alias>,
    /// `None`: eth0, eth1, ….
    pub ifname: Option<IfName>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Ports that it serves besides.
    pub exposed: Vec<Exposure>,
    /// The user's own notes.
    pub labels: BTreeMap<String, String>,
    /// Routes besides the default one.
    pub routes: Vec<Route>,
    /// Limits.
    pub bandwidth: Option<Bandwidth>,
    /// Who is asked for names that are not ours, before the network's.
    pub upstreams: Vec<Upstream>,
    /// The runtime's network that attaches; `None`: a person or the API.
    pub owner: Option<NetworkName>,
    /// The id by which the runtime attaches, where the container is known by another.
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

/// What a runtime knows an attachment by: at most one of its kind (CNI spec 1.1.0, section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttachmentKey {
    /// The runtime's network (CNI: the configuration's `name`), which need not be the name of netd's network.
    pub owner: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// The interface in the container.
    pub ifname: IfName,
}

/// A container that a runtime attaches. Doing it again with the same wishes changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSpec {
    /// What it is known by.
    pub key: AttachmentKey,
    /// The container's network namespace; absolute.
    pub netns: PathBuf,
    /// The network to join; made of this when there is none of that name.
    pub network: NetworkSpec,
    /// The container's name, without its scope; `None`: its id. Where another living container has it, the container is
    /// named by its id and has this name as an alias.
    pub name: Option<ContainerName>,
    /// The namespace of names that `name` belongs to.
    pub scope: Option<ContainerName>,
    /// Further names.
    pub aliases: Vec<Alias>,
    /// Where the interface and its addresses come from.
    pub interface: InterfaceSource,
    /// Addresses to take, at most one per family; a family without one gets the next free one.
    pub addresses: Vec<AddressSpec>,
    /// Where the next free address is taken from, at most one list per family, tried in order; none: the network's.
    pub ranges: Vec<AddressRange>,
    /// Routes besides the default one.
    pub routes: Vec<Route>,
    /// The interface's address; `None`: from its IP address.
    pub mac: Option<Mac>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Ports that it serves besides.
    pub exposed: Vec<Exposure>,
    /// The user's own notes.
    pub labels: BTreeMap<String, String>,
    /// Limits.
    pub bandwidth: Option<Bandwidth>,
    /// Who is asked for names that are not ours, before the network's.
    pub upstreams: Vec<Upstream>,
}

/// Where an attachment's interface and addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceSource {
    /// netd makes the interface, with the addresses asked for and the next free ones.
    Made,
    /// netd makes the interface without addresses: they are given by attaching again, once the IPAM plugin that works
    /// through the interface has them.
    Unaddressed,
    /// netd makes the interface (or has made it without addresses), with the addresses asked for and no others.
    Given,
    /// Another program made it: netd adds names, ports, firewall and limits to what it finds there.
    Found,
}

/// An address that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSpec {
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length, where the client knows it.
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

/// What an attachment must still have, to be compared with what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckSpec {
    /// Which.
    pub key: AttachmentKey,
    /// The container's network namespace; absolute.
    pub netns: PathBuf,
    /// The addresses that the runtime remembers, besides which there may be others.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that it remembers; `None`: the one that netd gave.
    pub mac: Option<Mac>,
    /// The MTU that it remembers; `None`: any.
    pub mtu: Option<u32>,
}

impl CheckSpec {
    /// Of a runtime that remembers nothing.
    pub fn of(spec: &AttachSpec) -> Self {
        let AttachSpec { key, netns, .. } = spec;
        Self { key: key.clone(), netns: netns.clone(), addresses: Vec::new(), mac: None, mtu: None }
    }
}
