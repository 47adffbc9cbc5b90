//! Refusals: the reasons for which netd rejects a request before anything is changed.

mod kind;
mod lease;
mod service;
mod taken_by;
mod users;

use std::net::IpAddr;

use crate::model::Invalid;
use crate::model::address::{Mac, Subnet};
use crate::model::ids::ContainerId;
use crate::model::names::{ContainerName, IfName, NetworkName, ReservationId, ServiceName};
use crate::model::publication::Publication;
pub use kind::RefusalKind;
pub use lease::LeaseRefusal;
pub use service::ServiceRefusal;
pub use taken_by::TakenBy;

/// What a kernel lacks on which no port can be strict.
pub const HANDS_NOTHING_OVER: &str = "this kernel lacks CONFIG_NFT_LOG or CONFIG_NETFILTER_NETLINK_LOG (nfnetlink_log)";

/// A request that cannot be carried out as given; the caller can fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No endpoint has that id of another engine.
    #[error("no endpoint {0} on networks of netd: see `netd ps`")]
    NoSuchHandover(String),
    /// A value is malformed.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A network with that name exists.
    #[error("network {0} already exists: see `netd network inspect {0}`")]
    NetworkExists(NetworkName),
    /// A network of a backup exists, with other settings.
    #[error("network {0} is not as the backup has it, and would have to be replaced: see `netd network inspect {0}`")]
    DefinedOtherwise(NetworkName),
    /// A runtime defines its network anew, with another value of a setting, while containers use it.
    #[error("network {0} has another {1} than its definition now, and is in use by {list}: stop them first", list = .2.join(", "))]
    DefinedAnew(NetworkName, &'static str, Vec<String>),
    /// No such network.
    #[error("no network {0:?}: see `netd network ls`")]
    NoSuchNetwork(String),
    /// No such policy.
    #[error("no policy {0}: see `netd policy ls`")]
    NoSuchPolicy(u64),
    /// A prefix of several ids.
    #[error("{what} {text:?} is ambiguous: {count} ids begin with it")]
    Ambiguous {
        /// "network", "container" or "service".
        what: &'static str,
        /// The given text.
        text: String,
        /// The number of matches.
        count: usize,
    },
    /// Containers are connected to the network, or something is reserved on it.
    #[error("network {network} is in use by {}", users::users(.containers, .reservations, .services))]
    NetworkInUse {
        /// The network.
        network: NetworkName,
        /// The names of the containers.
        containers: Vec<String>,
        /// The reservations.
        reservations: Vec<ReservationId>,
        /// The services.
        services: Vec<ServiceName>,
    },
    /// A network cannot get other subnets.
    #[error("network {network} is not renumbered: {why}")]
    NotRenumbered {
        /// The network.
        network: NetworkName,
        /// Why not, and what to do.
        why: String,
    },
    /// A subnet overlaps another network or the host.
    #[error("subnet {subnet} overlaps with {with}: choose another with --subnet")]
    SubnetOverlap {
        /// The requested subnet.
        subnet: Subnet,
        /// "network net1 (10.0.0.0/24)" or "route 10.0.0.0/8 over tun0".
        with: String,
    },
    /// The pools are exhausted.
    #[error("no free subnet is left in the pools {pools}: add one to [pools] in netd.toml or give --subnet")]
    NoFreeSubnet {
        /// The pools, as text.
        pools: String,
    },
    /// A range or address is outside all subnets.
    #[error("{what} {value} is in none of the subnets of network {network} ({subnets})")]
    Outside {
        /// "range of addresses in subnet", "IP address".
        what: &'static str,
        /// The value.
        value: String,
        /// The network.
        network: NetworkName,
        /// Its subnets.
        subnets: String,
    },
    /// An address is in use.
    #[error("IP address {address} on network {network} is taken by {holder}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkName,
        /// Who has it.
        holder: TakenBy,
    },
    /// All addresses are in use.
    #[error("no free IP address is left on network {network} ({subnets})")]
    NoFreeAddress {
        /// The network.
        network: NetworkName,
        /// Its subnets or ranges.
        subnets: String,
    },
    /// The kernel's limit of ports per bridge.
    #[error("network {network} is full: its bridge has {used} of {limit} ports in use or reserved")]
    BridgeFull {
        /// The network.
        network: NetworkName,
        /// Ports in use or reserved.
        used: usize,
        /// `BR_MAX_PORTS` - 1.
        limit: usize,
    },
    /// A MAC address is in use.
    #[error("MAC address {mac} on network {network} is taken by {holder}")]
    MacTaken {
        /// The address.
        mac: Mac,
        /// The network.
        network: NetworkName,
        /// Who has it.
        holder: TakenBy,
    },
    /// The kernel cannot let the host's own rules decide about a published port.
    #[error("the host's own rules cannot decide about {0}: {HANDS_NOTHING_OVER}; use publish=open")]
    CannotBeStrict(String),
    /// Another container publishes that port, or it is reserved.
    #[error("port {asked} is already {}", taken_by::taken(.held, .owner))]
    PortTaken {
        /// The requested publication.
        asked: Publication,
        /// The conflicting publication.
        held: Publication,
        /// Who has it.
        owner: TakenBy,
    },
    /// No free host port was found.
    #[error("no free host port for {0}: see `ss -lntu` and net.ipv4.ip_local_port_range")]
    NoFreePort(String),
    /// Publishing on a network that cannot be reached from outside.
    #[error("cannot publish {ports} on network {network}: {why}")]
    CannotPublish {
        /// The ports.
        ports: String,
        /// The network.
        network: NetworkName,
        /// The reason, and the remedy.
        why: String,
    },
    /// The container does not publish that port.
    #[error("container {container} does not publish {port} on {at}: it publishes {published}")]
    NotPublished {
        /// The container.
        container: ContainerName,
        /// The given port.
        port: String,
        /// "network net1", "any network".
        at: String,
        /// What it publishes there.
        published: String,
    },
    /// A runtime attached the container, and decides its ports.
    #[error(
        "a runtime attached container {container} to network {network}, with its ports: change them there, or connect \
         it to a further network (`netd connect`)"
    )]
    PortsOfRuntime {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// An interface name is taken.
    #[error("interface name {ifname} is taken by {holder}")]
    IfNameTaken {
        /// The name.
        ifname: IfName,
        /// The holder.
        holder: String,
    },
    /// The container is already connected to that network.
    #[error("container {container} is already connected to network {network}: see `netd inspect {container}`")]
    AlreadyConnected {
        /// The container.
        container: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// A network cannot be on that interface of the host.
    #[error("cannot use interface {parent} for a network: {why}")]
    Parent {
        /// The interface.
        parent: IfName,
        /// The reason, and the remedy.
        why: String,
    },
    /// The kernel cannot do that.
    #[error("this kernel has no {0}: a network of that kind needs one that has")]
    KernelLacks(String),
    /// Only the program that makes its interfaces can add containers to the network.
    #[error("another CNI plugin makes the interfaces of network {0}: connect containers through that plugin")]
    Adopted(NetworkName),
    /// netd makes this network's interfaces, but another program has made one.
    #[error("netd makes the interfaces of network {0}: other CNI plugins need another network (key \"network\")")]
    NotAdopted(NetworkName),
    /// The interfaces of another program have another bridge or subnet than before.
    #[error("network {0} has another bridge or subnet than this interface: see `netd network inspect {0}`")]
    AdoptedOtherwise(NetworkName),
    /// netd cannot adopt an interface that another program made.
    #[error("cannot add names and ports to interface {ifname}: {why}")]
    CannotAdopt {
        /// The interface in the container.
        ifname: IfName,
        /// The reason.
        why: String,
    },
    /// The runtime attached it before, with a different request.
    #[error("container {container} is already attached as {ifname}; this request differs in {what}: detach it first")]
    AttachedOtherwise {
        /// The container.
        container: ContainerName,
        /// The interface.
        ifname: IfName,
        /// What differs.
        what: &'static str,
    },
    /// There is no such attachment.
    #[error("no attachment {ifname} of container {container} by network {owner}: see `netd ps`")]
    NoAttachment {
        /// The runtime's network.
        owner: NetworkName,
        /// The container's id.
        container: ContainerId,
        /// The interface.
        ifname: IfName,
    },
    /// An attachment differs from what netd made.
    #[error("attachment {ifname} of container {container} was changed: {part}")]
    Changed {
        /// The container.
        container: ContainerName,
        /// The interface.
        ifname: IfName,
        /// The part and its difference.
        part: String,
    },
    /// A reservation with that id exists.
    #[error("reservation {0} already exists: see `netd reservation ls`")]
    ReservationExists(ReservationId),
    /// About a service.
    #[error(transparent)]
    Service(#[from] ServiceRefusal),
    /// About an address of a DHCP server.
    #[error(transparent)]
    Lease(#[from] LeaseRefusal),
    /// No such reservation, or no longer.
    #[error("no reservation {0:?}: see `netd reservation ls`")]
    NoSuchReservation(String),
    /// The reservation is on another network.
    #[error("reservation {id} is on network {on}, not on {network}")]
    ReservedElsewhere {
        /// The reservation.
        id: ReservationId,
        /// Its network.
        on: NetworkName,
        /// The network of the request.
        network: NetworkName,
    },
    /// The container is not connected to that network.
    #[error("container {container:?} is not connected to network {network}: see `netd ps`")]
    NotConnected {
        /// What was given.
        container: String,
        /// The network.
        network: NetworkName,
    },
    /// No container has that name.
    #[error("no container {name:?}: searched {}", .searched.join(", "))]
    NoSuchContainer {
        /// The given name.
        name: String,
        /// The places that were searched.
        searched: Vec<String>,
    },
    /// A name or alias denotes another container by its network.
    #[error("{what} {name} is the name of container {holder} on network {network}: choose another")]
    NameOfAnother {
        /// "container name" or "alias".
        what: &'static str,
        /// In lower case.
        name: String,
        /// The container that the name denotes.
        holder: ContainerName,
        /// The network.
        network: NetworkName,
    },
    /// The namespace belongs to a container with another name.
    #[error(
        "container {name}: {} is the network namespace of container {holder}: use that name, and --alias for another",
        .netns.display()
    )]
    NetnsTaken {
        /// The given name.
        name: ContainerName,
        /// The given namespace.
        netns: std::path::PathBuf,
        /// The container that has it.
        holder: ContainerName,
    },
    /// Another living container has that name.
    #[error("container name {name} is taken by the container {id}: see `netd inspect {name}`")]
    ContainerNameTaken {
        /// The name.
        name: ContainerName,
        /// The id of the container that has it.
        id: String,
    },
}
