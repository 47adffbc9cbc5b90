//! Floor 2: the only place that touches Linux. The engine knows the trait [`Kernel`], never what is behind it.

pub mod address;
pub mod addressing;
pub mod attach;
pub mod bridge;
pub mod conntrack;
pub mod container_route;
pub mod datagrams;
pub mod dns_sockets;
pub mod facts;
pub mod fake;
#[cfg(test)]
mod lab;
pub mod link;
pub mod linux;
pub mod look;
pub mod netlink;
pub mod netns;
mod nfnetlink;
pub mod nft;
mod nft_shape;
#[cfg(test)]
mod nft_tests;
mod nft_watch;
mod nft_wire;
pub mod own_netns;
pub mod owner;
pub mod poller;
pub mod ports;
pub mod priority;
pub mod program;
pub mod resolv;
pub mod route;
pub mod runtimes;
pub mod sandbox;
pub mod sys;
pub mod sysctl;
pub mod tc;
mod tc_text;
mod tc_wire;
#[cfg(test)]
mod throwaway;
pub mod watch;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use crate::model::endpoint::Netns;
use crate::model::names::IfName;
use crate::model::observed::{HostFacts, Observed, ObservedInterface};
use crate::model::shape::Shaping;
use crate::model::step::{HostPort, Step};

pub use runtimes::Runtimes;

/// A step or a look that did not work, and what to look at.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// An interface of that name exists and is not ours to replace. `within`: "the host" or the container's name.
    #[error("interface {ifname} already exists in {within}: see `ip link show {ifname}` there")]
    NameTaken {
        /// The name.
        ifname: IfName,
        /// Where.
        within: String,
    },
    /// A host port is bound by a process.
    #[error("port {}/{} on {} is in use by {owner}", .port.port, .port.protocol, .port.address)]
    PortTaken {
        /// The port.
        port: HostPort,
        /// Who has it: "sshd (pid 812)", or "a process that netd cannot see".
        owner: String,
    },
    /// The network namespace does not exist (any more), or the path is none.
    #[error("no network namespace at {}: {why}", .path.display())]
    NoNetns {
        /// The path that was opened.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The host's address a port is to be published on is not there.
    #[error("cannot publish on {address}: the host has no such address (see `ip address`)")]
    NoAddress {
        /// The address.
        address: IpAddr,
    },
    /// Anything else the kernel or a program said.
    #[error("{attempted} {on}: {source} ({look})")]
    Io {
        /// What was attempted ("create veth").
        attempted: &'static str,
        /// On what ("ndv-web-net1").
        on: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
        /// What to look at.
        look: &'static str,
    },
}

/// The path of a process's network namespace.
pub fn netns_of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

/// Something changed that netd did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A link of the host's namespace is gone: one of ours, or a pair or bridge of another program.
    LinkGone(IfName),
    /// The firewall was changed by somebody else, or netd cannot tell what was missed: look at everything.
    Changed,
}

/// Sockets on which the name service answers at one address.
#[derive(Debug)]
pub struct DnsSockets {
    /// Where: a gateway.
    pub address: IpAddr,
    /// Bound to port 53, non-blocking.
    pub udp: UdpSocket,
    /// Listening on port 53, non-blocking.
    pub tcp: TcpListener,
}

/// The kernel as the engine sees it. One thread calls it, blocking; each call is complete when it returns.
pub trait Kernel: Send + 'static {
    /// What a decision must know about the host.
    fn facts(&mut self) -> Result<HostFacts, KernelError>;

    /// What the kernel has of netd.
    fn observe(&mut self) -> Result<Observed, KernelError>;

    /// Opens the namespace file and tells who it is.
    fn netns(&mut self, path: &std::path::Path) -> Result<Netns, KernelError>;

    /// Whether that very namespace is still at its path.
    fn netns_alive(&mut self, netns: &Netns) -> bool;

    /// Whether the host has an interface of that name.
    fn has_link(&mut self, name: &IfName) -> bool;

    /// The interface of that name in the container; `None` when there is none. Fails with `NoNetns` when that very
    /// namespace is gone.
    fn interface(&mut self, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError>;

    /// Names of namespaces that are gone, for which netd's resolv.conf is left.
    fn forgotten_files(&mut self) -> Vec<String>;

    /// What the limits of an interface differ in from what they must be, in words; `None` when they are as they must be.
    fn shaping_differs(&mut self, shaping: &Shaping) -> Result<Option<String>, KernelError>;

    /// Does the step. When it returns an error, what the step changed before is taken back, except for
    /// [`Step::Detach`], which goes on to the end and reports the first error.
    fn apply(&mut self, step: &Step) -> Result<(), KernelError>;

    /// Opens the name service's sockets at a gateway (its port 53, UDP and TCP); `None` where nothing listens at all.
    fn dns_sockets(&mut self, address: IpAddr) -> Result<Option<DnsSockets>, KernelError>;

    /// Calls `tell` for every foreign change from now on, from a thread of its own.
    fn watch(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError>;
}
