//! Leases of DHCP servers (RFC 2131): the addresses of endpoints on networks whose addresses netd does not choose.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use super::address::Mac;

/// What an endpoint has of the DHCP server of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dhcp {
    /// The address to ask for: one that a container of this name had before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Ipv4Addr>,
    /// Whether the server's router is not to be used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// For how many seconds after it was made its port of the host's bridge does not forward yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settles: u64,
    /// Former leases whose addresses the interface may still have: it is being changed, or the daemon was killed then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Lease>,
    /// The last lease; `None`: the container is being connected. It may have ended, and then the endpoint has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}

/// An address that a DHCP server granted, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address, with the prefix length of its subnet.
    pub address: Ipv4Network,
    /// The router there, if the server names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// The server's identifier, which is its address.
    pub server: Ipv4Addr,
    /// The MAC address from which its answer came: its own, or that of a relay or router on the way to it.
    pub server_mac: Mac,
    /// When it was granted, in seconds since the boot.
    pub granted: u64,
    /// The same, in seconds since the Unix epoch, for people: that clock may be set.
    pub granted_at: u64,
    /// How many seconds it lasts; [`Lease::FOREVER`] has no end.
    pub seconds: u32,
    /// After how many seconds its server is asked for more (T1).
    pub renew: u32,
    /// After how many seconds any server is (T2).
    pub rebind: u32,
}

impl Lease {
    /// RFC 2131, 3.3.
    pub const FOREVER: u32 = u32::MAX;

    /// The address, as endpoints have it.
    pub fn interface(&self) -> IpNetwork {
        self.address.into()
    }

    /// The default gateways of the endpoint.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.router.map(IpAddr::from).into_iter()
    }

    /// When it ends, in seconds since the boot; `None`: never.
    pub fn ends(&self) -> Option<u64> {
        (self.seconds != Self::FOREVER).then(|| self.granted + u64::from(self.seconds))
    }

    /// When it ends, in seconds since the Unix epoch, for people.
    pub fn ends_at(&self) -> Option<u64> {
        (self.seconds != Self::FOREVER).then(|| self.granted_at + u64::from(self.seconds))
    }

    /// Whether an interface with the other lease needs no change.
    pub fn is_same_interface(&self, other: &Self) -> bool {
        (self.address, self.router) == (other.address, other.router)
    }
}
