//! Questions by which netd finds out whether containers reach the name service at their gateway.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::model::endpoint::Netns;
use crate::model::names::IfName;

/// Who asks, where, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Who asks.
    pub asker: Asker,
    /// Each is asked over UDP and over TCP, one after the other; not empty.
    pub gateways: Vec<IpAddr>,
    /// How long each answer may take.
    pub patience: Duration,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A container, whose own firewall decides too.
    Container(Netns),
    /// A namespace of netd's own on the network's bridge, where nobody but the host decides.
    StandIn(StandIn),
}

/// A namespace that stands for a container of the network as long as it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// The network's bridge, whichever program made it.
    pub bridge: IfName,
    /// The name of the interface that becomes a port of the bridge.
    pub host_ifname: IfName,
    /// Addresses that nobody else has while it asks: one in the subnet of each gateway that it asks. Not empty.
    pub addresses: Vec<IpNetwork>,
}

/// What is on a bridge of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnBridge {
    /// The bridge's own addresses.
    pub own: Vec<IpAddr>,
    /// The addresses that the host has seen somebody use there lately.
    pub neighbours: Vec<IpAddr>,
}
