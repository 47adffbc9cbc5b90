//! Floor 2: the only code that uses Linux interfaces. The engine uses the trait [`Kernel`] and never its
//! implementation.

pub mod dns;
pub mod fake;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod link;
pub mod linux;
mod monitor;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod sysctl;
pub mod tc;
#[cfg(test)]
mod testing;

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::bandwidth::Shaping;
use crate::model::egress::Opening;
use crate::model::endpoint::Netns;
use crate::model::host::foreign_firewall::Foreign;
use crate::model::host::observed::{DeniedFlow, HostFacts, Inner, Observed, ObservedInterface, Traced};
use crate::model::host::parent::{Device, Parent};
use crate::model::host::probe::{OnBridge, Probe};
use crate::model::host::routing::Routing;
#[cfg(doc)]
use crate::model::host::routing::TurnedOn;
use crate::model::host::step::{EndpointLink, HostPort, Step};
use crate::model::inside::Inside;
use crate::model::names::IfName;

pub use crate::kernel::dns::resolver::Resolver;
pub use crate::kernel::host::port_owner::{PortOwner, find as find_port_owners};
pub use crate::kernel::nft::RESENDING;

/// A step or query that failed, and where to find the cause.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// An interface with that name exists and netd must not replace it. `within`: "the host" or the container's name.
    #[error("interface {ifname} already exists in {within}: see `ip link show {ifname}` there")]
    NameTaken {
        /// The name.
        ifname: IfName,
        /// Where the interface exists.
        within: String,
    },
    /// A host port is bound by a process.
    #[error("port {}/{} on {} is in use by {owner}", .port.port, .port.protocol, .port.address)]
    PortTaken {
        /// The port.
        port: HostPort,
        /// The owner: "sshd (pid 812)", or "a process that netd cannot see", or not searched for yet.
        owner: PortOwner,
    },
    /// The network namespace does not exist, or no longer, or the path is not one.
    #[error("no network namespace at {}: {why}", .path.display())]
    NoNetns {
        /// The path that was opened.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A port is to be published on an address that the host does not have.
    #[error("cannot publish on {address}: the host has no such address (see `ip address`)")]
    NoAddress {
        /// The address.
        address: IpAddr,
    },
    /// The kernel refuses a route that the request asked for: it leads nowhere, or another is in its place.
    #[error("add the route to {on}: {source} (see `ip address` and `ip route show table all` in the container)")]
    NoRoute {
        /// The route ("10.0.0.0/8 over eth0 in web").
        on: String,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
    },
    /// Any other error of the kernel or of a program.
    #[error("{attempted} {on}: {source} ({look})")]
    Io {
        /// What was attempted ("create veth").
        attempted: &'static str,
        /// The object ("ndv-web-net1").
        on: String,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
        /// What to inspect.
        look: &'static str,
    },
}

/// The path of a process's network namespace.
pub fn netns_of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// A change that netd did not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A link of the host's namespace was removed: netd's own, or a pair or bridge of another program.
    LinkGone(IfName),
    /// There is no network namespace at that path any more, or it is a different one. Sent only for namespaces in which
    /// the name service has sockets, which keep the namespace and its interfaces alive in the kernel.
    NetnsGone(PathBuf),
    /// Another program changed a firewall table other than netd's; sent after a short delay, once for many changes.
    FirewallChanged,
    /// A link of another program appeared or changed; sent after a short delay, once for many changes.
    LinksChanged,
    /// An interface of another program that may lead out of the host appeared, or its name, its bridge or its addresses
    /// changed; sent after a short delay, once for many changes.
    UplinksChanged,
    /// Sent periodically, for checks of changes without notifications.
    Tick,
    /// Another program changed netd's table or a link of netd, or notifications were lost: reconcile everything.
    Changed,
    /// Another program changed the container's end of a pair, its addresses or its routes, or took `lo` down: the host
    /// ends of the pairs.
    ContainersChanged(BTreeSet<IfName>),
    /// Another program may have changed netd's firewall table within containers: the numbers of their namespaces; none if
    /// notifications were lost: any container.
    ContainerTablesChanged(BTreeSet<i32>),
    /// A monitor stopped: until it runs again, some changes are not reported.
    MonitorStopped {
        /// What it reads: "link", "namespace" or "firewall".
        monitor: &'static str,
        /// The reason.
        why: String,
    },
    /// That monitor runs again: look at everything, because changes in the meantime were not reported.
    MonitorRuns(&'static str),
}

/// The callback of the monitors.
pub type Tell = std::sync::Arc<dyn Fn(KernelEvent) + Send + Sync>;

/// Sockets on which the name service answers at one address.
#[derive(Debug)]
pub struct DnsSockets {
    /// The gateway. Within a container: the address that stands for it ([`ContainerId::own_address`]).
    ///
    /// [`ContainerId::own_address`]: crate::model::ids::ContainerId::own_address
    pub address: IpAddr,
    /// The port of both.
    pub port: u16,
    /// Bound and non-blocking: one socket, or a group of shards, the last of which is the quarantine ([`dns::shards`]).
    pub udp: Vec<UdpSocket>,
    /// Listening and non-blocking.
    pub tcp: TcpListener,
    /// The client of all questions at these sockets; `None`: the source address determines the client.
    pub client: Option<IpAddr>,
    /// The resolver that would answer there otherwise; it is queried for names that netd does not know.
    pub beside: Option<Resolver>,
}

/// A socket that holds a host port, and receives what the kernel did not translate.
#[derive(Debug)]
pub enum PortSocket {
    /// Bound and non-blocking. Whether it listens is the proxy's business ([`host::listener`]): it does not at first,
    /// unless it comes from a former daemon, or drops everything because ended connections have the port.
    Tcp(TcpListener),
    /// Bound and non-blocking; reports the address to which a datagram was sent (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
    Udp(UdpSocket),
}

/// The kernel as the engine sees it. One thread calls it; calls block and are complete when they return.
pub trait Kernel: Send + 'static {
    /// Begins, beside the caller, what the first observation takes long for. It runs programs, which have a copy of the
    /// caller's locked files for a moment: the stores must be open.
    fn prepare(&mut self) {}

    /// The search domains of the host: a part of the facts.
    fn search(&mut self) -> Vec<String>;

    /// The facts about the host that decisions need.
    fn facts(&mut self) -> Result<HostFacts, KernelError>;

    /// The observed state of what netd made.
    fn observe(&mut self) -> Result<Observed, KernelError>;

    /// Forwarding on the host, and where its interfaces lead: a part of the observed state.
    fn routing(&mut self) -> Result<Routing, KernelError>;

    /// The interfaces that would ignore router advertisements if the host forwarded IPv6 ([`TurnedOn::accept_ra`]).
    fn advertised(&mut self) -> Result<BTreeSet<IfName>, KernelError>;

    /// Opens the namespace file and identifies the namespace.
    fn netns(&mut self, path: &std::path::Path) -> Result<Netns, KernelError>;

    /// The namespace of the host, in which this daemon works.
    fn own_netns(&mut self) -> Result<Netns, KernelError>;

    /// Whether that very namespace is still at its path.
    fn netns_alive(&mut self, netns: &Netns) -> bool;

    /// That very namespace at another path, if a process, a mount or a descriptor still holds it. `None` for one that
    /// has ended, or that only sockets keep alive.
    fn find_netns(&mut self, netns: &Netns) -> Option<Netns>;

    /// Whether another engine made that namespace for its own container, and may add interfaces later.
    fn is_of_engine(&mut self, netns: &Netns) -> bool;

    /// Whether another resolver answers DNS questions in that namespace, at 127.0.0.11. `own`: the port of the name
    /// service's sockets there.
    fn has_resolver(&mut self, netns: &Netns, own: Option<u16>) -> bool;

    /// What policies have denied since they were loaded.
    fn denied(&mut self) -> Result<Vec<DeniedFlow>, KernelError> {
        Ok(Vec::new())
    }

    /// The interface of the host with that name, as networks on it need it; `None` if there is none.
    fn parent(&mut self, name: &IfName) -> Result<Option<Parent>, KernelError>;

    /// Whether the kernel has that kind of interfaces. It loads the module if it can.
    fn has_device(&mut self, device: Device) -> Result<bool, KernelError>;

    /// Reports changes of an interface in a container that has no other end on the host, from now on, as
    /// [`KernelEvent::ContainersChanged`] with the name by which it is known. A missing one is no error.
    fn follow(&mut self, link: &EndpointLink) -> Result<(), KernelError>;

    /// The interfaces in containers that netd made, or began to make, and that have no other end on the host.
    fn inner(&mut self) -> Result<Vec<Inner>, KernelError>;
    /// Opens ways out for containers, and closes others, together: what is open already gets the new timeout.
    fn open(&mut self, _close: &[Opening], _open: &[(Opening, Duration)]) -> Result<(), KernelError> {
        Ok(())
    }

    /// What is open, and for how long.
    fn opened(&mut self) -> Result<Vec<(Opening, Duration)>, KernelError> {
        Ok(Vec::new())
    }

    /// Whether the host has an interface with that name.
    fn has_link(&mut self, name: &IfName) -> bool;

    /// The interface with that name in the container; `None` if there is none. Fails with `NoNetns` if that very
    /// namespace no longer exists.
    fn interface(&mut self, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError>;

    /// The finished interfaces of netd whose containers can be found, in the order in which they were made.
    fn trace(&mut self) -> Result<Vec<Traced>, KernelError>;

    /// The container's end of the pair with that host end, if it is in the namespace at that path; `None` if it is not
    /// there.
    fn trace_into(&mut self, host_ifname: &IfName, path: &std::path::Path) -> Result<Option<Traced>, KernelError>;

    /// Names of namespaces with a resolv.conf that this daemon wrote; of those that no longer exist, also if another
    /// netd wrote it. Empty if they cannot be read.
    fn written_files(&mut self) -> Vec<String>;

    /// Whether the resolv.conf of a named namespace is not as this daemon writes it with that content; `None`: there must
    /// be none. A file that this daemon did not write does not differ.
    fn file_differs(&mut self, netns: &str, content: Option<&str>) -> Result<bool, KernelError>;

    /// Describes how the limits of an interface differ from the target; `None` if they match.
    fn shaping_differs(&mut self, shaping: &Shaping) -> Result<Option<String>, KernelError>;

    /// Applies the step. If it fails, its partial changes are undone, except for [`Step::Detach`], which continues and
    /// reports the first error.
    fn apply(&mut self, step: &Step) -> Result<(), KernelError>;

    /// Opens the name service's sockets at a gateway, UDP and TCP, on this port or on another one if it is taken.
    /// Returns the port; no sockets if there is no listener at all.
    fn dns_sockets(&mut self, address: IpAddr, port: u16) -> Result<(u16, Option<DnsSockets>), KernelError>;

    /// Makes the socket that holds a UDP port receive what the kernel does not translate, and returns a duplicate of the
    /// port's socket, which the proxy makes listen if it is a TCP socket; `None` if netd does not hold the port, or the
    /// kernel lacks the protocol.
    fn serve_port(&mut self, port: &HostPort) -> Result<Option<PortSocket>, KernelError>;

    /// Makes the socket that holds the port refuse everything again, after all duplicates are closed. A port that netd
    /// does not hold is no error.
    fn idle_port(&mut self, port: &HostPort) -> Result<(), KernelError>;

    /// Sends a frame from the interface in that namespace. A missing namespace or interface is an error.
    fn send_frame(&mut self, _netns: &Netns, _ifname: &IfName, _frame: &[u8]) -> Result<(), KernelError> {
        Ok(())
    }

    /// Has the service manager close the sockets of ports that it gave to this daemon and that are not held.
    fn release_given_ports(&mut self) {}

    /// Has the service manager close the sockets that it keeps of any other gateway. Those of a gateway that netd does
    /// not serve any more must be closed here before.
    fn keep_dns_sockets(&mut self, _gateways: &BTreeSet<IpAddr>) {}

    /// Opens the name service's sockets within a container and redirects its questions to them. From now on the end of
    /// the namespace is reported ([`KernelEvent::NetnsGone`]). Returns the port, for `lead_inside`; no sockets if there
    /// is no listener at all. Fails with `NoNetns`, leaving nothing behind, if that very namespace no longer exists.
    fn open_inside(&mut self, inside: &Inside) -> Result<(u16, Option<DnsSockets>), KernelError>;

    /// Redirects a container's questions to the inner sockets on this port, replacing the former redirection.
    fn lead_inside(&mut self, inside: &Inside, port: u16) -> Result<(), KernelError>;

    /// Whether a container's questions are redirected to the inner sockets on this port.
    fn is_led_inside(&mut self, inside: &Inside, port: u16) -> Result<bool, KernelError>;

    /// The host ends of the pairs that lead to the namespaces with these numbers.
    fn ends_into(&mut self, namespaces: &BTreeSet<i32>) -> Result<BTreeSet<IfName>, KernelError>;

    /// Removes the redirection of a container's questions, after its sockets are closed. A missing namespace is no
    /// error.
    fn leave_inside(&mut self, netns: &Netns) -> Result<(), KernelError>;

    /// The addresses of a bridge, and those of others that the host has seen there.
    fn on_bridge(&mut self, bridge: &IfName) -> Result<OnBridge, KernelError>;

    /// For each probe: the first gateway from which no answer returns, over UDP or TCP; `None` if each answers; an error
    /// if it could not be tried. All run at once. Takes as long as the patience of a probe that gets no answer. Nobody has
    /// the addresses of stand-ins when it returns, and nothing is left of them when the host is observed.
    fn reaches(&mut self, probes: &[Probe]) -> Vec<Result<Option<IpAddr>, KernelError>>;

    /// Signs the files that this daemon writes from now on, so that another daemon neither replaces nor removes them.
    /// `instance` identifies this daemon.
    fn sign(&mut self, instance: &str);

    /// Other programs' firewall tables.
    fn foreign(&mut self) -> Result<Foreign, KernelError>;

    /// Whether there are tables whose changes the kernel does not report.
    fn has_silent_tables(&mut self) -> bool;

    /// Whether other programs may have changed their tables since [`foreign`](Kernel::foreign) read them. Their
    /// notifications are handled a while later, together.
    fn may_foreign_differ(&mut self) -> bool {
        self.has_silent_tables()
    }

    /// Calls `tell` for every foreign change from now on, from separate threads, which are restarted if they fail.
    fn monitor(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError>;
}
