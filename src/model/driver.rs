//! The drivers of networks, each with its own options.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::IfName;

/// How many ports a bridge can have: `BR_MAX_PORTS` - 1 (net/bridge/br_private.h; port 0 is not used).
pub const BRIDGE_PORTS: usize = 1023;

/// The drivers, each with its own options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "lowercase")]
pub enum Driver {
    /// A Linux bridge on this host, made by netd.
    Bridge(Bridge),
    /// Interfaces that another program makes (an earlier CNI plugin in the chain): netd adds names, ports and firewall
    /// elements.
    Adopted(Adopted),
    /// Interfaces on top of one of the host's (macvlan, ipvlan).
    Stacked(Stacked),
    /// A bridge of the host that netd neither makes nor changes.
    Unmanaged(Unmanaged),
    /// No interface but `lo`.
    #[serde(rename = "none")]
    Nothing,
}

impl Driver {
    /// The driver's name, as in `netd network create --driver`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge(_) | Self::Unmanaged(_) => "bridge",
            Self::Adopted(_) => "adopted",
            Self::Stacked(stacked) => stacked.mode.driver(),
            Self::Nothing => "none",
        }
    }
}

/// Options of the bridge driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The bridge's interface name.
    pub name: IfName,
    /// Whether containers of the network can reach each other.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
    /// The host has no address on it: an internal network that the host is not part of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub isolated: bool,
    /// Nothing is translated: published ports are reached at the containers' own addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routed: bool,
    /// What is not published is reached at the containers' own addresses, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unprotected: bool,
    /// What outgoing traffic gets instead of the host's address, at most one per address family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<IpAddr>,
}

/// The properties of an adopted network, whose interfaces another program makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The bridge that they are ports of; `None` if each container has its own interface on the host.
    pub bridge: Option<IfName>,
    /// Whether containers of the network can reach each other; netd controls this only if there is a bridge.
    pub icc: bool,
    /// Whether outgoing traffic gets the host's address.
    pub masquerade: bool,
}

/// Options of the drivers whose interfaces are on top of one of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacked {
    /// The interface of the host.
    pub parent: IfName,
    /// The kind of the interfaces, and how they reach each other.
    pub mode: StackedMode,
    /// The host's own interface among them, by which host and containers reach each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<Shim>,
}

/// An interface of the host on the same parent as the containers': the kernel passes nothing between them and the parent
/// itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shim {
    /// Its name.
    pub name: IfName,
    /// The host's addresses on the network, one per address family.
    pub addresses: Vec<IpAddr>,
}

/// The kind of a stacked interface, with its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StackedMode {
    /// Each has a MAC address of its own.
    Macvlan(MacvlanMode),
    /// All have the parent's MAC address.
    Ipvlan(IpvlanMode),
}

/// How macvlan interfaces reach each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MacvlanMode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// If the switch sends their frames back.
    Vepa,
    /// There is one only, which takes over the parent.
    Passthru,
}

/// What ipvlan interfaces leave to the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpvlanMode {
    /// Frames, as macvlan in the mode bridge.
    #[default]
    L2,
    /// Routing between them.
    L3,
    /// The same, past the host's connection tracking.
    L3s,
}

impl StackedMode {
    /// The name of the driver.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
        }
    }

    /// The name of the mode.
    pub fn mode(self) -> &'static str {
        match self {
            Self::Macvlan(MacvlanMode::Bridge) => "bridge",
            Self::Macvlan(MacvlanMode::Private) => "private",
            Self::Macvlan(MacvlanMode::Vepa) => "vepa",
            Self::Macvlan(MacvlanMode::Passthru) => "passthru",
            Self::Ipvlan(IpvlanMode::L2) => "l2",
            Self::Ipvlan(IpvlanMode::L3) => "l3",
            Self::Ipvlan(IpvlanMode::L3s) => "l3s",
        }
    }

    /// Whether its interface takes over the parent, with its MAC address.
    pub fn takes_over(self) -> bool {
        self == Self::Macvlan(MacvlanMode::Passthru)
    }

    /// Whether its interfaces have the parent's MAC address, and no other.
    pub fn has_mac_of_parent(self) -> bool {
        self.takes_over() || matches!(self, Self::Ipvlan(_))
    }
}

/// Formats driver and mode.
impl fmt::Display for StackedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.driver(), self.mode())
    }
}

impl FromStr for MacvlanMode {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::Bridge, Self::Private, Self::Vepa, Self::Passthru];
        let found = all.into_iter().find(|mode| StackedMode::Macvlan(*mode).mode() == text);
        found.ok_or_else(|| Invalid::new("macvlan_mode", text, "use bridge, private, vepa or passthru"))
    }
}

impl FromStr for IpvlanMode {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let all = [Self::L2, Self::L3, Self::L3s];
        let found = all.into_iter().find(|mode| StackedMode::Ipvlan(*mode).mode() == text);
        found.ok_or_else(|| Invalid::new("ipvlan_mode", text, "use l2, l3 or l3s"))
    }
}

/// Options of a bridge that belongs to the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmanaged {
    /// The bridge's interface name.
    pub bridge: IfName,
    /// Whether containers of the network can reach each other.
    pub icc: bool,
    /// The VLAN that containers are kept in; `None`: what the bridge gives a new port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
}

/// A VLAN identifier (IEEE 802.1Q, 9.6): 1 to 4094.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl VlanId {
    /// The least one.
    pub const LEAST: u16 = 1;
    /// The greatest one.
    pub const MOST: u16 = 4094;

    /// Its number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = Invalid;
    fn try_from(number: u16) -> Result<Self, Invalid> {
        let valid = (Self::LEAST..=Self::MOST).contains(&number).then_some(Self(number));
        valid.ok_or_else(|| Invalid::new("vlan", number.to_string(), VLANS))
    }
}

impl From<VlanId> for u16 {
    fn from(vlan: VlanId) -> Self {
        vlan.0
    }
}

impl FromStr for VlanId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse::<u16>().map_err(|_| Invalid::new("vlan", text, VLANS))?.try_into()
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const VLANS: &str = "use a number from 1 to 4094";
