//! Floor 2: the only place that touches Linux. The engine knows the trait [`Kernel`], never what is behind it.

pub mod dns;
pub mod fake;
pub mod host;
pub mod link;
pub mod linux;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod sysctl;
pub mod tc;
#[cfg(test)]
mod testing;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use crate::model::bandwidth::Shaping;
use crate::model::endpoint::Netns;
use crate::model::host::foreign_firewall::Foreign;
use crate::model::host::observed::{HostFacts, Observed, ObservedInterface};
use crate::model::host::step::{HostPort, Step};
use crate::model::inside::Inside;
use crate::model::names::IfName;

pub use crate::kernel::dns::resolver::Resolver;

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
    /// No network namespace of that path is there any more, or it is another one. Only told of namespaces in which the
    /// name service has sockets: the kernel keeps them, and their interfaces, for as long as it has.
    NetnsGone(PathBuf),
    /// Another table of the firewall than netd's was changed by somebody else: told a moment later, once for many.
    FirewallChanged,
    /// A link of another program came or changed: told a moment later, once for many.
    LinksChanged,
    /// Some seconds have passed: look at what changes without anybody being told.
    Tick,
    /// The firewall was changed by somebody else, or netd cannot tell what was missed: look at everything.
    Changed,
}

/// Whom monitors tell.
pub type Tell = std::sync::Arc<dyn Fn(KernelEvent) + Send + Sync>;

/// Sockets on which the name service answers at one address.
#[derive(Debug)]
pub struct DnsSockets {
    /// Where: a gateway. Within a container: the address that stands for it ([`ContainerId::own_address`]).
    ///
    /// [`ContainerId::own_address`]: crate::model::ids::ContainerId::own_address
    pub address: IpAddr,
    /// Of both.
    pub port: u16,
    /// Bound, non-blocking: one, or a group of lanes, of which the last is the one apart ([`dns::shards`]).
    pub udp: Vec<UdpSocket>,
    /// Listening, non-blocking.
    pub tcp: TcpListener,
    /// Who asks there, whatever the source; `None`: whom the source address tells.
    pub client: Option<IpAddr>,
    /// The resolver that would answer there otherwise: it is asked for what we do not know.
    pub beside: Option<Resolver>,
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

    /// Whether another engine made that namespace for a container of its own, and may give it interfaces later.
    fn is_of_engine(&mut self, netns: &Netns) -> bool;

    /// Whether another resolver answers questions for names within that namespace, at 127.0.0.11. `own`: the port of the
    /// name service's sockets there.
    fn has_resolver(&mut self, netns: &Netns, own: Option<u16>) -> bool;

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

    /// Opens the name service's sockets at a gateway, UDP and TCP on this port, or on another one where somebody has it.
    /// Returns which port it is; no sockets where nothing listens at all.
    fn dns_sockets(&mut self, address: IpAddr, port: u16) -> Result<(u16, Option<DnsSockets>), KernelError>;

    /// Opens the name service's sockets within a container and leads its questions there. The end of the namespace is told
    /// from now on ([`KernelEvent::NetnsGone`]). Returns the port, for `lead_inside`; no sockets where nothing listens at
    /// all. Fails with `NoNetns`, leaving nothing, when that very namespace is gone.
    fn open_inside(&mut self, inside: &Inside) -> Result<(u16, Option<DnsSockets>), KernelError>;

    /// Leads a container's questions to the sockets within that are on this port, in place of what was led there before.
    fn lead_inside(&mut self, inside: &Inside, port: u16) -> Result<(), KernelError>;

    /// Leads a container's questions nowhere any more, once its sockets are closed. A namespace that is gone is fine.
    fn leave_inside(&mut self, netns: &Netns) -> Result<(), KernelError>;

    /// For each container and gateway whether a question for a name gets through to the name service there and back, over
    /// UDP and TCP; `None` where it could not be tried. Takes a quarter of a second where one does not.
    fn reaches(&mut self, asked: &[(Netns, IpAddr)]) -> Vec<Option<bool>>;

    /// From now on the files that this daemon writes say so: another one neither replaces nor removes them. `instance`: what
    /// tells this daemon from every other.
    fn sign(&mut self, instance: &str);

    /// Other programs' firewall tables.
    fn foreign(&mut self) -> Result<Foreign, KernelError>;

    /// Whether there are tables whose changes nobody tells.
    fn has_silent_tables(&mut self) -> bool;

    /// Calls `tell` for every foreign change from now on, from a thread of its own.
    fn watch(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError>;
}
