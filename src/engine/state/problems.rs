//! What netd cannot put right at the moment, for `netd status`. Each problem has a subject, and a subject has one problem
//! at most: a new message replaces the old one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::endpoint::EndpointKey;
use crate::model::host::element::Table;
use crate::model::host::foreign_firewall::Note;
use crate::model::ids::ContainerId;
use crate::model::names::{IfName, NetworkName, ReservationId, ServiceName};

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The kernel cannot be observed.
    Observation,
    /// The store refuses changes.
    Store,
    /// A file of the store was set aside; the sentence about it.
    SetAside(String),
    /// The daemon may open too few files.
    Descriptors,
    /// Another process has what tells a second daemon in this network namespace that it is one.
    Owner,
    /// A monitor of the kernel's notifications does not run.
    Monitor(&'static str),
    /// Docker cannot reach netd's driver.
    DockerPlugin,
    /// Docker's tools cannot reach the Engine API.
    EngineApi,
    /// The host's resolver is not configured with netd's name service.
    HostResolver,
    /// Discovery is not relayed for this network as it should be.
    Relay(NetworkName),
    /// The name service has no socket at this gateway.
    Gateway(IpAddr),
    /// The name service has no socket within this container.
    WithinContainer(ContainerId),
    /// It is not known whether the containers of this network reach the name service at their gateway.
    GatewayProbe(NetworkName),
    /// The DHCP server of its network does not give this endpoint an address any more.
    Lease(EndpointKey),
    /// Forwarding is off.
    Forwarding,
    /// An interface that netd left behind, or one that must be made or changed: a bridge, or the host end of a pair.
    Interface(IfName),
    /// The container's end of the pair with this host end.
    ContainerEnd(IfName),
    /// The bandwidth limits of this host end.
    Limits(IfName),
    /// One of netd's tables. Each by itself: what flushes the ruleset damages both at once.
    Table(Table),
    /// Elements of netd's tables.
    Elements,
    /// The kernel has no tables of the family bridge.
    Guard,
    /// Nobody reaches strict ports.
    Strict,
    /// The kernel cannot lead connections to members of services.
    Services,
    /// Containers that have ended cannot be released.
    Release,
    /// Ports that no container and no reservation has any more are still bound.
    StalePorts,
    /// The published ports of this container are not bound.
    Ports(ContainerId),
    /// netd does not receive what the kernel does not translate at published ports of this container.
    Proxy(ContainerId),
    /// The same for ports of this service.
    ServiceProxy(ServiceName),
    /// The ports of this reservation are not bound.
    ReservedPorts(ReservationId),
    /// The ports of this service are not bound.
    ServicePorts(ServiceName),
    /// The host leads to addresses of this network elsewhere, over this interface.
    Overlap(NetworkName, Option<IfName>),
    /// The host does not have the address from which this network's containers are to be seen.
    Source(NetworkName, IpAddr),
    /// The resolv.conf of this named namespace.
    ResolvConf(String),
    /// Other programs' firewall tables cannot be read.
    ForeignTables,
    /// A rule of netd in another program's table cannot be removed.
    ForeignRemoval,
    /// A chain of another program drops the traffic of a network: table, chain, reason.
    ForeignChain(String, String, String),
}

impl Subject {
    /// The chain that a note is about.
    pub(crate) fn of_note(note: &Note) -> Self {
        Self::ForeignChain(note.table.to_string(), note.chain.to_string(), note.reason.to_string())
    }

    /// Whether observing the kernel and repairing it finds the problem again, if it is still there. The others are set
    /// and cleared where they arise.
    fn is_found_by_repair(&self) -> bool {
        match self {
            Self::Store
            | Self::SetAside(_)
            | Self::Descriptors
            | Self::Owner
            | Self::Monitor(_)
            | Self::DockerPlugin
            | Self::EngineApi
            | Self::HostResolver
            | Self::Relay(_)
            | Self::Gateway(_)
            | Self::WithinContainer(_)
            | Self::GatewayProbe(_)
            | Self::Lease(_) => false,
            Self::Observation
            | Self::Forwarding
            | Self::Interface(_)
            | Self::ContainerEnd(_)
            | Self::Limits(_)
            | Self::Table(_)
            | Self::Elements
            | Self::Guard
            | Self::Services
            | Self::Strict
            | Self::Release
            | Self::StalePorts
            | Self::Ports(_)
            | Self::Proxy(_)
            | Self::ServiceProxy(_)
            | Self::ReservedPorts(_)
            | Self::ServicePorts(_)
            | Self::Overlap(..)
            | Self::Source(..)
            | Self::ResolvConf(_)
            | Self::ForeignTables
            | Self::ForeignRemoval
            | Self::ForeignChain(..) => true,
        }
    }

    /// Whether something that netd made differs from the target, and could not be repaired.
    pub(crate) fn is_about_what_netd_made(&self) -> bool {
        let is_of_host =
            matches!(self, Self::Guard | Self::Services | Self::Strict | Self::Overlap(..) | Self::Source(..));
        self.is_found_by_repair() && !self.is_foreign_firewall() && !is_of_host
    }

    /// The kind under which its repair is counted (`telemetry::repairs`).
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::Interface(_) => "interface",
            Self::ContainerEnd(_) | Self::WithinContainer(_) => "container",
            Self::Limits(_) => "limits",
            Self::Table(_) | Self::Elements => "table",
            Self::Ports(_)
            | Self::Proxy(_)
            | Self::ServiceProxy(_)
            | Self::ReservedPorts(_)
            | Self::ServicePorts(_)
            | Self::StalePorts => "ports",
            Self::ResolvConf(_) => "resolv_conf",
            Self::ForeignTables | Self::ForeignRemoval | Self::ForeignChain(..) => "foreign_firewall",
            Self::Observation
            | Self::Store
            | Self::SetAside(_)
            | Self::Descriptors
            | Self::Owner
            | Self::Monitor(_)
            | Self::DockerPlugin
            | Self::EngineApi
            | Self::HostResolver
            | Self::Relay(_)
            | Self::Gateway(_)
            | Self::GatewayProbe(_)
            | Self::Lease(_)
            | Self::Guard
            | Self::Services
            | Self::Strict
            | Self::Overlap(..)
            | Self::Source(..)
            | Self::Release => "",
        }
    }

    /// Whether a later repair may end the problem by itself: the cause may pass, as a full disk or a taken port does.
    pub(crate) fn is_tried_again(&self) -> bool {
        match self {
            Self::Store
            | Self::Observation
            | Self::Strict
            | Self::Gateway(_)
            | Self::WithinContainer(_)
            | Self::Forwarding
            | Self::Interface(_)
            | Self::ContainerEnd(_)
            | Self::Limits(_)
            | Self::Table(_)
            | Self::Elements
            | Self::Release
            | Self::StalePorts
            | Self::Ports(_)
            | Self::Proxy(_)
            | Self::ServiceProxy(_)
            | Self::ReservedPorts(_)
            | Self::ServicePorts(_)
            | Self::ResolvConf(_)
            | Self::ForeignTables
            | Self::ForeignRemoval => true,
            // Others end these: the administrator, the monitor itself, the link to systemd-resolved. A chain that drops
            // traffic is looked at whenever firewalls change, and a gateway is asked again with the next tick.
            Self::SetAside(_)
            | Self::Descriptors
            | Self::Owner
            | Self::Monitor(_)
            | Self::DockerPlugin
            | Self::EngineApi
            | Self::HostResolver
            | Self::Relay(_)
            | Self::GatewayProbe(_)
            | Self::Lease(_)
            | Self::Guard
            | Self::Services
            | Self::Overlap(..)
            | Self::Source(..)
            | Self::ForeignChain(..) => false,
        }
    }

    /// Whether it is about other programs' firewall tables.
    pub(crate) fn is_foreign_firewall(&self) -> bool {
        matches!(self, Self::ForeignTables | Self::ForeignRemoval | Self::ForeignChain(..))
    }
}

/// The current problems.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problems {
    current: BTreeMap<Subject, String>,
    /// Those before the last repair: one that persists is not reported again.
    previous: BTreeMap<Subject, String>,
}

/// The problems are the same if they are the same now, whatever they were before.
impl PartialEq for Problems {
    fn eq(&self, other: &Self) -> bool {
        self.current == other.current
    }
}

impl Problems {
    /// Records a problem. Returns whether it is new, with this message.
    pub(crate) fn add(&mut self, subject: Subject, message: &str) -> bool {
        let known = self.current.get(&subject).or_else(|| self.previous.get(&subject));
        let is_new = known.is_none_or(|known| known != message);
        self.current.insert(subject, message.to_owned());
        is_new
    }

    /// Ends a problem; if it recurs, it is new.
    pub(crate) fn clear(&mut self, subject: &Subject) {
        self.current.remove(subject);
        self.previous.remove(subject);
    }

    /// Ends the problems for which this returns false.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&Subject) -> bool) {
        self.current.retain(|subject, _| stays(subject));
        self.previous.retain(|subject, _| stays(subject));
    }

    /// Begins a repair, which finds again what is still wrong.
    pub(crate) fn begin_repair(&mut self) {
        self.previous = std::mem::take(&mut self.current);
        let elsewhere = self.previous.iter().filter(|(subject, _)| !subject.is_found_by_repair());
        self.current = elsewhere.map(|(subject, message)| (subject.clone(), message.clone())).collect();
    }

    /// Whether there is a problem with that subject.
    pub(crate) fn has(&self, subject: &Subject) -> bool {
        self.current.contains_key(subject)
    }

    /// Whether there is a problem with such a subject.
    pub(crate) fn any(&self, which: impl Fn(&Subject) -> bool) -> bool {
        self.current.keys().any(which)
    }

    /// The number of problems with such a subject.
    pub(crate) fn count(&self, which: impl Fn(&Subject) -> bool) -> usize {
        self.current.keys().filter(|subject| which(subject)).count()
    }

    /// One line each.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.current.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_that_persists_is_reported_once() {
        let mut problems = Problems::default();
        assert!(problems.add(Subject::Elements, "nft failed"));
        assert!(!problems.add(Subject::Elements, "nft failed"));
        problems.begin_repair();
        assert!(!problems.has(&Subject::Elements), "the repair finds it again");
        assert!(!problems.add(Subject::Elements, "nft failed"), "known from before the repair");
        assert!(problems.add(Subject::Elements, "nft is missing"), "another message");
        problems.clear(&Subject::Elements);
        assert!(problems.add(Subject::Elements, "nft is missing"), "it was over in between");
    }

    #[test]
    fn a_repair_keeps_what_it_cannot_see() {
        let mut problems = Problems::default();
        problems.add(Subject::Store, "disk full");
        problems.add(Subject::Monitor("link"), "stopped");
        problems.add(Subject::Forwarding, "read-only /proc");
        problems.begin_repair();
        assert_eq!(problems.messages(), ["disk full", "stopped"]);
    }
}
