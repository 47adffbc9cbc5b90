//! What the engine sends to the proxy (`faces::proxy`): which ports to serve, and where to pass on what arrives there.
//!
//! The engine has the sockets, because they hold the ports; the proxy gets duplicates of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener};

use tokio::sync::{mpsc, watch};

pub use crate::kernel::PortSocket;
pub use crate::kernel::host::listener;
pub use crate::kernel::netns::listening;
use crate::model::endpoint::Netns;
use crate::model::host::backend::Backend;
use crate::model::host::step::HostPort;
use crate::model::ids::ContainerId;
use crate::model::names::ServiceName;
pub use crate::os::addressed;

/// A change to what the proxy serves.
#[derive(Debug)]
pub enum Proxying {
    /// Pass on what these sockets receive. All ports of a container at once: each message wakes the proxy.
    Serve(Vec<Served>, Netns),
    /// Pass on what these sockets of a service's ports receive, by the way to its members.
    ServeService(Vec<(HostPort, PortSocket)>, Way),
    /// The same namespace is at another path now.
    Moved(Netns),
    /// Close these sockets and what they have accepted, then drop `closed`.
    Stop {
        /// A port that is not served is no error.
        ports: Vec<HostPort>,
        /// What was accepted stays, until [`Self::Left`] for this container.
        drain: Option<ContainerId>,
        /// The engine waits until this is dropped, so that the ports can be bound again at once.
        closed: std::sync::mpsc::Sender<()>,
    },
    /// The container no longer has these addresses: end what still drains to them, then drop `closed`.
    Left {
        /// The container.
        container: ContainerId,
        /// Its addresses.
        addresses: BTreeSet<IpAddr>,
        /// The engine waits until this is dropped, so that both ends are told while there is a way.
        closed: std::sync::mpsc::Sender<()>,
    },
}

/// A port to serve.
#[derive(Debug)]
pub struct Served {
    /// The port; none is served twice.
    pub port: HostPort,
    /// A duplicate of the socket that holds it.
    pub socket: PortSocket,
    /// The container's address and port.
    pub to: Backend,
}

/// The address of the host at which the kernel leads connections of the host to a service's members, at the ports that the
/// service publishes; `None` while no member is used.
pub type Way = watch::Receiver<Option<IpAddr>>;

/// The engine's end of the channel. Unbounded: one message for each change of a container's ports, and the engine must not wait for a
/// face.
pub type ProxyingSender = mpsc::UnboundedSender<Proxying>;

/// The proxy's end of the channel.
pub type ProxyingReceiver = mpsc::UnboundedReceiver<Proxying>;

/// What is proxied, by the container to which it is passed on.
pub(crate) type Proxied = BTreeMap<ContainerId, BTreeMap<HostPort, Backend>>;

/// Where connections of ports that are no longer published may still lead, by container.
pub(crate) type Draining = BTreeMap<ContainerId, BTreeSet<IpAddr>>;

/// Ports that runtimes asked for and that netd holds if nobody else does: whether it does, by container.
pub(crate) type Shared = BTreeMap<ContainerId, BTreeMap<HostPort, bool>>;

/// What is proxied of a service.
#[derive(Debug)]
pub(crate) struct ProxiedService {
    pub(super) ports: BTreeSet<HostPort>,
    /// Duplicates of the sockets of those that are TCP.
    pub(super) listeners: BTreeMap<HostPort, TcpListener>,
    /// The other end of [`Way`].
    pub(super) way: watch::Sender<Option<IpAddr>>,
}

/// The same of all services.
pub(crate) type ProxiedServices = BTreeMap<ServiceName, ProxiedService>;
