//! An interface of the host on which a network is to be, and kinds of interfaces that a kernel may lack.

use std::fmt;

use ipnetwork::IpNetwork;

use super::kind::ObservedKind;
use crate::model::address::Mac;
use crate::model::names::IfName;

/// An interface of the host on which a network is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub name: IfName,
    /// Its kind.
    pub kind: ObservedKind,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// `None` if it has no address of six bytes.
    pub mac: Option<Mac>,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// Whether it is `lo`.
    pub loopback: bool,
    /// Whether it is a station of a wireless network: access points take no frames of other MAC addresses from it.
    pub wireless: bool,
    /// For a bridge: whether it tells VLANs apart; `None` if the kernel cannot.
    pub filters_vlans: Option<bool>,
    /// For a bridge with the spanning tree protocol: how many seconds a new port listens and learns before it forwards; 0
    /// otherwise.
    pub settles: u64,
    /// The host's addresses on it.
    pub addresses: Vec<IpNetwork>,
}

/// A kind of interface that a kernel may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// `CONFIG_MACVLAN`.
    Macvlan,
    /// `CONFIG_IPVLAN`.
    Ipvlan,
    /// `CONFIG_VLAN_8021Q`.
    Vlan,
}

impl Device {
    /// Its kind, as `ip link add … type KIND` has it.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Vlan => "vlan",
        }
    }
}

/// Formats the kind and the option with which a kernel is built that has it.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self {
            Self::Macvlan => "CONFIG_MACVLAN",
            Self::Ipvlan => "CONFIG_IPVLAN",
            Self::Vlan => "CONFIG_VLAN_8021Q",
        };
        write!(f, "{} interfaces ({option})", self.kind())
    }
}
