//! Forwarding on the host: what the kernel does, who asks for it, and what netd turned on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::address::Families;
use crate::model::names::IfName;

/// For whom the host forwards where netd turned forwarding on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingFor {
    /// For netd's networks: between other interfaces nothing is forwarded, and forwarding goes off with the last network
    /// that needs it.
    #[default]
    Netd,
    /// For whoever uses the host as a router, too.
    Host,
}

/// What the host has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`.
    pub on: Families,
    /// For which the host's own configuration asks (sysctl.d(5), `/etc/sysctl.conf`).
    pub asked: Families,
    /// The interfaces through which packets leave the host, without those that lead to one container or machine.
    pub uplinks: BTreeSet<IfName>,
    /// Those of them that are bridges: with `bridge-nf-call-iptables`, frames within them pass the forward hook.
    pub bridges: BTreeSet<IfName>,
    /// Bridges of other engines, and interfaces that lead to one of their containers or machines.
    pub others: BTreeSet<IfName>,
}

/// Forwarding that netd turned on in this boot, and what it changed with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnedOn {
    /// The address families.
    pub families: Families,
    /// Interfaces whose `net.ipv6.conf.IF.accept_ra` was 1 and became 2.
    #[serde(default)]
    pub accept_ra: BTreeSet<IfName>,
}
