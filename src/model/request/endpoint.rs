//! Requests for endpoints, of people and of runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use super::NetworkSpec;
use crate::model::address::{Mac, Subnet};
use crate::model::bandwidth::Bandwidth;
use crate::model::egress::Egress;
use crate::model::exposure::Exposure;
use crate::model::handover::HandoverSpec;
use crate::model::ids::ContainerId;
use crate::model::names::{Alias, ContainerName, IfName, NetworkName, ReservationId};
use crate::model::publication::PortSpec;
use crate::model::route::Route;
use crate::model::upstream::Upstream;

/// What a container is to get on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Who asks, for which container on which network.
    pub requester: Requester,
    /// Requested addresses, at most one per address family; a family without one gets the next free one, unless
    /// [`Self::has_exact_addresses`].
    pub addresses: Vec<AddressSpec>,
    /// The ranges for the next free address, at most one list per address family, tried in order; none: the network's.
    pub ranges: Vec<AddressRange>,
    /// The MAC address; `None`: derived from the IP address.
    pub mac: Option<Mac>,
    /// Further names.
    pub aliases: Vec<Alias>,
    /// The interface in the container; `None`: eth0, eth1, …, in a container of another engine nd0, nd1, ….
    pub ifname: Option<IfName>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Further ports that it serves.
    pub exposed: Vec<Exposure>,
    /// User-defined labels.
    pub labels: BTreeMap<String, String>,
    /// Routes other than the default route.
    pub routes: Vec<Route>,
    /// Whether no default route leads over it: it has no gateways.
    pub no_default_route: bool,
    /// Bandwidth limits.
    pub bandwidth: Option<Bandwidth>,
    /// It may send from addresses that are not its own.
    pub trusted: bool,
    /// Upstreams for names that are not netd's, tried before those of the network.
    pub upstreams: Vec<Upstream>,
    /// Another engine takes the interface into its container itself.
    pub handover: Option<HandoverSpec>,
    /// What it may begin to send to the outside and to the host.
    pub egress: Egress,
}

/// Who asks for an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requester {
    /// A person, or a program that uses the API as a person would. What the network cannot do is refused.
    Person(PersonRequest),
    /// A container runtime. A repeated request changes nothing, and a name or port that the network cannot have does not
    /// make its container fail to start.
    Runtime(Box<RuntimeRequest>),
}

/// The network and the container that a person means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonRequest {
    /// Name or id of the network.
    pub network: String,
    /// The container.
    pub container: ContainerRef,
    /// The reservation that the endpoint consumes. It determines addresses, MAC address and ports.
    pub reservation: Option<ReservationId>,
}

/// The attachment that a runtime asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRequest {
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
    /// The source of the interface and its addresses.
    pub interface: InterfaceSource,
    /// The process that asks, if it is known: the plugin, which the runtime has started.
    pub process: Option<u32>,
}

impl EndpointSpec {
    /// A request in which all choices are left to netd.
    pub fn of(requester: Requester) -> Self {
        Self {
            requester,
            addresses: Vec::new(),
            ranges: Vec::new(),
            mac: None,
            aliases: Vec::new(),
            ifname: None,
            ports: Vec::new(),
            exposed: Vec::new(),
            labels: BTreeMap::new(),
            routes: Vec::new(),
            no_default_route: false,
            bandwidth: None,
            trusted: false,
            upstreams: Vec::new(),
            handover: None,
            egress: Egress::default(),
        }
    }

    /// The runtime's network that owns the endpoint; `None` if a person asks.
    pub fn owner(&self) -> Option<&NetworkName> {
        match &self.requester {
            Requester::Person(_) => None,
            Requester::Runtime(runtime) => Some(&runtime.key.owner),
        }
    }

    /// Says which process asks for a runtime.
    pub fn asked_by(mut self, process: Option<u32>) -> Self {
        if let Requester::Runtime(runtime) = &mut self.requester {
            runtime.process = process;
        }
        self
    }

    /// The process that asks for a runtime.
    pub fn process(&self) -> Option<u32> {
        match &self.requester {
            Requester::Person(_) => None,
            Requester::Runtime(runtime) => runtime.process,
        }
    }

    /// The reservation that the endpoint consumes.
    pub fn reservation(&self) -> Option<&ReservationId> {
        match &self.requester {
            Requester::Person(person) => person.reservation.as_ref(),
            Requester::Runtime(_) => None,
        }
    }

    /// Whether it gets the requested addresses only: a family without a requested one gets none.
    pub fn has_exact_addresses(&self) -> bool {
        match &self.requester {
            Requester::Person(_) => false,
            Requester::Runtime(runtime) => runtime.interface != InterfaceSource::Made,
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
    /// Where another engine will make it, or has made it, for its container.
    Sandbox(PathBuf),
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

/// Attachments of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachments {
    /// The container, by the id that its runtime uses.
    pub container: ContainerId,
    /// Owner and interface of each; `None`: all attachments of the container.
    pub only: Option<BTreeSet<(NetworkName, IfName)>>,
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
    pub fn of(request: &RuntimeRequest) -> Self {
        let RuntimeRequest { key, netns, .. } = request;
        Self { key: key.clone(), netns: netns.clone(), addresses: Vec::new(), mac: None, mtu: None }
    }
}
