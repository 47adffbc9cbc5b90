//! Routes of a container other than those that follow from its networks.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::address::{Family, Subnet};

/// linux/rtnetlink.h.
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_TABLE_MAIN: u32 = 254;
/// The default metric of an IPv6 route (linux/ipv6_route.h).
const IP6_RT_PRIO_USER: u32 = 1024;

/// A route on an endpoint's interface, as CNI describes it (spec 1.1.0, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub destination: Subnet,
    /// Next hop; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// MTU towards the destination, in bytes.
    pub mtu: Option<u32>,
    /// Largest TCP segment announced towards the destination, in bytes.
    pub advmss: Option<u32>,
    /// Metric: among routes to the same destination the lowest has precedence.
    pub priority: Option<u32>,
    /// Routing table; `None`: main.
    pub table: Option<u32>,
    /// `RT_SCOPE_*` (linux/rtnetlink.h); `None`: the one that suits the gateway.
    pub scope: Option<u8>,
}

impl Route {
    /// A route to a destination through a gateway; everything else is left to the kernel.
    pub fn via(destination: Subnet, gateway: Option<IpAddr>) -> Self {
        Self { destination, gateway, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }

    /// The normal form, without explicit defaults: two routes that are the same to the kernel become equal. Observed
    /// routes have this form.
    pub fn normal(self) -> Self {
        let v6 = self.destination.family() == Family::V6;
        let gateway = self.gateway.filter(|gateway| !gateway.is_unspecified());
        let fitting = if gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
        let given = |value: Option<u32>| value.filter(|value| *value != 0);
        Self {
            destination: self.destination,
            gateway,
            mtu: given(self.mtu),
            advmss: given(self.advmss),
            priority: given(self.priority).filter(|priority| !(v6 && *priority == IP6_RT_PRIO_USER)),
            table: given(self.table).filter(|table| *table != RT_TABLE_MAIN),
            // IPv6 routes have no scope: a given one is not stored.
            scope: self.scope.filter(|scope| !v6 && *scope != fitting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        let plain = Route::via("10.0.0.0/8".parse().unwrap(), Some("192.0.2.1".parse().unwrap()));
        let wordy = Route { mtu: Some(0), priority: Some(0), table: Some(254), scope: Some(0), ..plain.clone() };
        assert_eq!(wordy.normal(), plain);
        let on_link = Route { gateway: None, scope: Some(253), ..plain.clone() };
        assert_eq!(on_link.normal().scope, None);
        for kept in
            [Route { table: Some(100), priority: Some(1024), ..plain.clone() }, Route { scope: Some(253), ..plain }]
        {
            assert_eq!(kept.clone().normal(), kept);
        }
        let v6 = Route::via("fd00::/8".parse().unwrap(), None);
        assert_eq!(Route { priority: Some(1024), scope: Some(253), ..v6.clone() }.normal(), v6);
    }
}
