//! The fake kernel as an observer sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{World, io};
use crate::kernel::KernelError;
use crate::model::address::{Family, Mac, Subnet};
use crate::model::bandwidth::Shaping;
use crate::model::endpoint::Netns;
use crate::model::host::element::Table;
use crate::model::host::observed::{
    Firewall, HostEnd, Observed, ObservedInterface, ObservedKind, ObservedLink, Structure, Traced,
};
use crate::model::host::probe::{Asker, Probe, StandIn};
use crate::model::host::routing::Routing;
use ipnetwork::IpNetwork;

use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, ShimLink, VethPair};
use crate::model::names::IfName;
use crate::model::route::Route;

impl World {
    pub(super) fn observe(&self) -> Observed {
        let bridges = self.bridges.iter().map(|(name, there)| (name.clone(), self.bridge(name, there)));
        let links = self.links.iter().filter_map(|(name, there)| Some((name.clone(), self.link(name, there)?)));
        let shims = self.shims.iter().map(|(name, there)| (name.clone(), self.shim(name, there)));
        let ifbs = self.ifbs.iter().map(|(name, shaping)| (name.clone(), ifb(shaping)));
        Observed {
            links: bridges.chain(links).chain(ifbs).chain(shims).collect(),
            limited: self.shapings.keys().filter(|name| self.has_host_end(name)).cloned().collect(),
            firewall: self.firewall(),
            routing: self.routing(),
            held: self.held(),
        }
    }

    fn firewall(&self) -> Firewall {
        let Some(elements) = self.elements.clone() else { return Firewall::new(Structure::Missing) };
        let inet = if self.structure_differs { Structure::Different } else { Structure::Intact };
        let refused = self.refused.clone();
        // As Linux has it: while it has elements.
        let has_services = elements.iter().any(|element| element.table() == Table::Services);
        let services = if has_services || self.no_services { Structure::Intact } else { Structure::Missing };
        Firewall {
            inet,
            bridge: Structure::Intact,
            services,
            elements,
            refused,
            opened_unsure: true,
            unguarded: self.unguarded,
            no_services: self.no_services,
            hands_nothing_over: self.hands_nothing_over,
            resends_nothing: None,
        }
    }

    pub(super) fn routing(&self) -> Routing {
        Routing {
            on: self.forwarding,
            asked: self.asked,
            uplinks: self.ways.iter().cloned().collect(),
            bridges: BTreeSet::new(),
            others: self.engines.clone(),
        }
    }

    pub(super) fn is_alive(&self, netns: &Netns) -> bool {
        self.namespaces.get(&netns.path) == Some(&netns.id.inode) || netns.path == std::path::Path::new(super::OWN)
    }

    /// Fails if that very namespace no longer exists.
    pub(super) fn require(&self, netns: &Netns) -> Result<(), KernelError> {
        let gone = || KernelError::NoNetns { path: netns.path.clone(), why: "no such file".into() };
        self.is_alive(netns).then_some(()).ok_or_else(gone)
    }

    /// The first gateway that does not answer; all answer, or none.
    pub(super) fn silent(&self, probe: &Probe) -> Result<Option<IpAddr>, KernelError> {
        let drops = match &probe.asker {
            Asker::Container(netns) => {
                self.require(netns)?;
                self.own_firewalls.contains(&netns.id.inode)
            }
            Asker::StandIn(stand_in) => {
                let StandIn { bridge, addresses, .. } = stand_in;
                let holds = |link: &EndpointLink| link.addresses.iter().any(|address| addresses.contains(address));
                let is_there = self.bridges.contains_key(bridge) || self.gateways.contains_key(bridge);
                if !is_there || self.links.values().any(holds) {
                    return Err(io("ask from", bridge, "no such bridge, or an address that a container has"));
                }
                false
            }
        };
        Ok(probe.gateways.first().copied().filter(|_| drops || self.drops_questions))
    }

    /// Whether another program made an interface with that name: a bridge, or a host end.
    pub(super) fn has_foreign(&self, name: &IfName) -> bool {
        let mut ends = self.found.values().filter_map(|seen| seen.host_end.as_ref());
        ends.any(|end| end.name == *name || end.bridge.as_ref() == Some(name))
    }

    /// Whether the host has that end of a pair, whichever program made it.
    pub(super) fn has_host_end(&self, name: &IfName) -> bool {
        let found = self.found.values().filter_map(|interface| interface.host_end.as_ref());
        let staged = |link: &&EndpointLink| link.netns.path == std::path::Path::new(super::OWN) && link.ifname == *name;
        self.links.get(name).is_some_and(|link| link.kind.pair().is_some())
            || self.links.values().any(|link| staged(&link))
            || found.into_iter().any(|end| end.name == *name)
    }

    /// The interfaces of living containers.
    pub(super) fn traced(&self) -> Vec<Traced> {
        let pairs = self.links.iter().filter(|(_, link)| link.kind.pair().is_some());
        let alive = pairs.filter(|(_, link)| self.is_alive(&link.netns));
        let traced = alive.filter_map(|(name, link)| {
            Some(Traced {
                container: link.container.clone(),
                network: link.network.clone(),
                netns: link.netns.clone(),
                ifname: link.ifname.clone(),
                host_ifname: name.clone(),
                inside: self.interface(link.netns.id.inode, &link.ifname)?,
            })
        });
        traced.collect()
    }

    pub(super) fn interface(&self, inode: u64, ifname: &IfName) -> Option<ObservedInterface> {
        let ours = self.links.iter().find(|(_, link)| link.netns.id.inode == inode && link.ifname == *ifname);
        let Some((name, link)) = ours else { return self.found.get(&(inode, ifname.clone())).cloned() };
        let all: &[DefaultRoute] = self.routes.get(&inode).map_or(&[], Vec::as_slice);
        let (over_this, elsewhere): (Vec<&DefaultRoute>, _) = all.iter().partition(|route| route.ifname == *ifname);
        let everywhere = |route: &DefaultRoute| {
            Subnet::containing(route.gateway, 0).map(|subnet| Route::via(subnet, Some(route.gateway)))
        };
        Some(ObservedInterface {
            mac: Some(link.mac),
            up: !self.down_inside.contains(name),
            loopback_up: true,
            link_local: true,
            mtu: link.mtu,
            addresses: link.addresses.clone(),
            routes: over_this.into_iter().filter_map(everywhere).chain(link.routes.iter().cloned()).collect(),
            unrouted: if self.unrouted_inside.contains(name) { link.addresses.clone() } else { Vec::new() },
            default_elsewhere: elsewhere.into_iter().map(|route| Family::of(route.gateway)).collect(),
            host_end: link.kind.pair().map(|VethPair { bridge, host_ifname, isolated, vlan }| HostEnd {
                name: host_ifname.clone(),
                bridge: Some(bridge.clone()),
                up: !self.down.contains(host_ifname),
                isolated: *isolated,
                vlan: *vlan,
            }),
        })
    }

    fn bridge(&self, name: &IfName, bridge: &BridgeLink) -> ObservedLink {
        ObservedLink {
            kind: ObservedKind::Bridge,
            master: None,
            up: !self.down.contains(name),
            mtu: bridge.mtu,
            isolated: false,
            vlan: None,
            ipv6: false,
            addresses: bridge
                .addresses
                .iter()
                .copied()
                .chain(bridge.virtual_addresses.iter().copied().map(IpNetwork::from))
                .collect(),
            ours: true,
            finished: true,
            alias: Some(bridge.alias()),
            mac: bridge.addresses.first().map(|gateway| Mac::for_address(gateway.ip())),
            routes: Vec::new(),
            bridge: None,
        }
    }

    fn shim(&self, name: &IfName, shim: &ShimLink) -> ObservedLink {
        ObservedLink {
            kind: ObservedKind::Macvlan,
            master: None,
            up: !self.down.contains(name),
            mtu: shim.mtu,
            isolated: false,
            vlan: None,
            ipv6: false,
            addresses: shim.addresses.iter().copied().map(IpNetwork::from).collect(),
            ours: true,
            finished: true,
            alias: Some(shim.alias()),
            mac: shim.mac(),
            routes: shim.routes.iter().copied().collect(),
            bridge: None,
        }
    }

    /// The host end.
    fn link(&self, name: &IfName, link: &EndpointLink) -> Option<ObservedLink> {
        let VethPair { bridge, isolated, vlan, .. } = link.kind.pair()?;
        let is_there = |bridge: &IfName| self.bridges.contains_key(bridge) || self.parents.contains_key(bridge);
        Some(ObservedLink {
            kind: ObservedKind::Veth,
            master: Some(bridge.clone()).filter(is_there),
            up: !self.down.contains(name),
            mtu: link.mtu,
            isolated: *isolated,
            vlan: *vlan,
            ipv6: self.with_ipv6.contains(name),
            addresses: Vec::new(),
            ours: true,
            finished: true,
            alias: Some(link.alias()),
            mac: Some(link.mac.of_host_end()),
            routes: Vec::new(),
            bridge: None,
        })
    }
}

fn ifb(shaping: &Shaping) -> ObservedLink {
    ObservedLink {
        kind: ObservedKind::Ifb,
        master: None,
        up: true,
        mtu: shaping.mtu,
        isolated: false,
        vlan: None,
        ipv6: false,
        addresses: Vec::new(),
        ours: true,
        finished: true,
        alias: None,
        mac: None,
        routes: Vec::new(),
        bridge: None,
    }
}
