//! What the steps do to the world of the fake kernel, and what Linux refuses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{World, io};
use crate::kernel::KernelError;
use crate::logic::firewall::foreign::save;
use crate::model::bandwidth::{LimitedInterface, Shaping};
use crate::model::host::element::Table;
use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, LinkKind, Step, VethPair};
use crate::model::inside::Inside;
use crate::model::names::IfName;

/// Adds the route unless one with that metric exists, on any interface.
fn add_default_route(routes: &mut Vec<DefaultRoute>, route: &DefaultRoute) {
    let key = |route: &DefaultRoute| (route.gateway.is_ipv4(), route.metric);
    if !routes.iter().any(|there| key(there) == key(route)) {
        routes.push(route.clone());
    }
}

fn change_default_routes(routes: &mut Vec<DefaultRoute>, remove: &[DefaultRoute], add: &[DefaultRoute]) {
    routes.retain(|route| !remove.contains(route));
    add.iter().for_each(|route| add_default_route(routes, route));
}

/// The name under which the world has the link.
fn host_end(link: &EndpointLink) -> &IfName {
    link.kind.host_ifname()
}

impl World {
    fn change_virtual(
        &mut self,
        bridge: &IfName,
        remove: &BTreeSet<IpAddr>,
        add: &BTreeSet<IpAddr>,
    ) -> Result<(), KernelError> {
        match self.bridges.get_mut(bridge) {
            Some(there) => {
                there.virtual_addresses.retain(|address| !remove.contains(address));
                there.virtual_addresses.extend(add);
            }
            None if add.is_empty() => {}
            None => return Err(io("add a virtual address to bridge", bridge, "no such device")),
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::Forwarding(families) => self.forwarding = self.forwarding.with(*families),
            Step::StopForwarding(before) => self.forwarding = self.forwarding.without(before.families),
            Step::AddBridge(bridge) => {
                self.down.remove(&bridge.name);
                self.bridges.insert(bridge.name.clone(), bridge.clone());
            }
            Step::Rename { from, to } => self.rename(from, to)?,
            Step::RestorePorts(links) => links.iter().try_for_each(|link| self.restore_port(link))?,
            Step::Restore { link, .. } => self.restore(link)?,
            Step::VirtualAddresses { bridge, remove, add } => self.change_virtual(bridge, remove, add)?,
            Step::DeleteBridge(bridge) => drop(self.bridges.remove(&bridge.name)),
            Step::AddShim(shim) => self.add_shim(shim)?,
            Step::DeleteShim(shim) => drop(self.shims.remove(&shim.name)),
            Step::ShimRoutes { shim, remove, add } => self.change_shim(shim, remove, add)?,
            Step::DeleteInner { netns, ifname } => self.delete_inner(netns, ifname),
            Step::Attach(link) => self.attach(link)?,
            Step::Detach(links) => links.iter().for_each(|link| self.delete_pair(host_end(link))),
            Step::DeleteStray(name) => self.delete(name),
            Step::Address(link) => self.address(link)?,
            Step::RemoveAddresses(link) => self.unaddress(link),
            Step::Adopt(name) if !self.has_foreign(name) => return Err(io("adopt", name, "no such device")),
            Step::Adopt(name) => drop(self.prepared.insert(name.clone())),
            Step::Shape(shaping) if !self.has_host_end(&shaping.host_ifname) => {
                return Err(io("limit", &shaping.host_ifname, "no such device"));
            }
            Step::Shape(shaping) => self.limit(shaping),
            Step::Unshape(shapings) => self.unlimit(shapings),
            Step::DefaultRoutes { netns, remove, add } => {
                change_default_routes(self.routes.entry(netns.id.inode).or_default(), remove, add);
            }
            Step::Elements { remove, add } => {
                let elements =
                    self.elements.as_mut().ok_or_else(|| io("change", &"table inet netd", "no such table"))?;
                elements.retain(|element| !remove.contains(element));
                elements.extend(add.iter().cloned());
            }
            Step::Table(table, new) => {
                let elements = self.elements.get_or_insert_default();
                elements.retain(|element| element.table() != *table);
                elements.extend(new.iter().filter(|element| element.table() == *table).cloned());
                self.structure_differs &= *table != Table::Inet;
            }
            Step::DropTables => (self.elements, self.structure_differs) = (None, false),
            Step::Foreign(change) => {
                let refused = |line: String| io("change", &change.on, &format!("refused: {line}"));
                self.iptables = save::restored(&self.iptables, &change.script).map_err(refused)?;
            }
            Step::Hold(ports) => self.hold(ports)?,
            Step::CheckPortsFree { ports, .. } => self.vacant(ports)?,
            Step::Release(ports) => self.held.retain(|port| !ports.contains(port)),
            Step::ForgetFlows(flows) => self.forgotten.extend(flows.iter().cloned()),
            Step::Resolv { netns, now: Some(content), .. } => {
                self.resolv.insert(netns.clone(), content.clone());
            }
            Step::Resolv { netns, now: None, .. } => drop(self.resolv.remove(netns)),
        }
        Ok(())
    }

    fn attach(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        let inode = link.netns.id.inode;
        self.require(&link.netns)?;
        let host_ifname = link.kind.host_ifname();
        match &link.kind {
            LinkKind::Veth(VethPair { bridge, .. }) if !self.has_bridge(bridge) => {
                return Err(io("attach to", bridge, "no such device"));
            }
            LinkKind::Veth(_) => {}
            LinkKind::Stacked(stacked) => self.stack(stacked)?,
        }
        if self.links.contains_key(host_ifname) || self.bridges.contains_key(host_ifname) {
            return Err(KernelError::NameTaken { ifname: host_ifname.clone(), within: "the host".into() });
        }
        let same = |other: &EndpointLink| other.netns.id == link.netns.id && other.ifname == link.ifname;
        if self.links.values().any(same) || self.foreign_ifnames.contains(&(inode, link.ifname.clone())) {
            return Err(KernelError::NameTaken { ifname: link.ifname.clone(), within: link.container.to_string() });
        }
        self.add_default_routes(link);
        // A new interface has no limits.
        self.shapings.remove(host_ifname);
        self.links.insert(host_ifname.clone(), link.clone());
        Ok(())
    }

    fn rename(&mut self, from: &IfName, to: &IfName) -> Result<(), KernelError> {
        if self.bridges.contains_key(to) || self.links.contains_key(to) {
            return Err(io("rename", from, "the name exists"));
        }
        if let Some(bridge) = self.bridges.remove(from) {
            for pair in self.links.values_mut().filter_map(|link| link.kind.pair_mut()) {
                if pair.bridge == *from {
                    pair.bridge = to.clone();
                }
            }
            self.bridges.insert(to.clone(), BridgeLink { name: to.clone(), ..bridge });
        } else if let Some(mut link) = self.links.remove(from) {
            link.kind.pair_mut().into_iter().for_each(|pair| pair.host_ifname = to.clone());
            self.links.insert(to.clone(), link);
        } else {
            return Err(io("rename", from, "no such device"));
        }
        Ok(())
    }

    fn restore(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        self.address(link)?;
        self.down_inside.remove(host_end(link));
        self.unrouted_inside.remove(host_end(link));
        Ok(())
    }

    fn restore_port(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        let Some(VethPair { bridge, host_ifname, .. }) = link.kind.pair() else { return Ok(()) };
        if !self.has_bridge(bridge) {
            return Err(io("join", bridge, "no such device"));
        }
        let there = self.links.get_mut(host_ifname).ok_or_else(|| io("join", host_ifname, "no such device"))?;
        (there.kind, there.mtu) = (link.kind.clone(), link.mtu);
        self.down.remove(host_ifname);
        self.with_ipv6.remove(host_ifname);
        Ok(())
    }

    fn add_default_routes(&mut self, link: &EndpointLink) {
        let routes = self.routes.entry(link.netns.id.inode).or_default();
        for gateway in &link.default_gateways {
            let (ifname, metric) = (link.ifname.clone(), link.default_metric);
            add_default_route(routes, &DefaultRoute { ifname, gateway: *gateway, metric });
        }
    }

    fn address(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        self.require(&link.netns)?;
        match self.links.get_mut(host_end(link)) {
            Some(there) => *there = link.clone(),
            None => return Err(io("address", &link.ifname, "no such device")),
        }
        self.add_default_routes(link);
        Ok(())
    }

    fn unaddress(&mut self, link: &EndpointLink) {
        if let Some(there) = self.links.get_mut(host_end(link)) {
            there.addresses.clear();
            there.default_gateways.clear();
            there.routes.clear();
        }
        if let Some(routes) = self.routes.get_mut(&link.netns.id.inode) {
            routes.retain(|route| route.ifname != link.ifname);
        }
    }

    /// Deletes the link with that name, whatever it is.
    fn delete(&mut self, name: &IfName) {
        self.bridges.remove(name);
        self.shims.remove(name);
        self.ifbs.remove(name);
        self.delete_pair(name);
    }

    fn limit(&mut self, shaping: &Shaping) {
        self.shapings.insert(shaping.host_ifname.clone(), shaping.clone());
        match shaping.bandwidth.egress {
            Some(_) => self.ifbs.insert(shaping.ifb.clone(), shaping.clone()),
            None => self.ifbs.remove(&shaping.ifb),
        };
    }

    fn unlimit(&mut self, limited: &[LimitedInterface]) {
        self.shapings.retain(|name, _| !limited.iter().any(|one| one.host_ifname == *name));
        self.ifbs.retain(|name, _| !limited.iter().any(|one| one.ifb == *name));
    }

    /// What limits an interface is deleted with it, except for the intermediate device.
    pub(super) fn forget_limits(&mut self) {
        let gone: Vec<IfName> = self.shapings.keys().filter(|name| !self.has_host_end(name)).cloned().collect();
        gone.iter().for_each(|name| drop(self.shapings.remove(name)));
    }

    fn delete_pair(&mut self, host_ifname: &IfName) {
        if let Some(link) = self.links.remove(host_ifname)
            && let Some(routes) = self.routes.get_mut(&link.netns.id.inode)
        {
            routes.retain(|route| route.ifname != link.ifname);
        }
        self.forget_limits();
    }

    pub(super) fn lead_inside(&mut self, inside: &Inside) -> Result<(), KernelError> {
        self.require(&inside.netns)?;
        self.inside.insert(inside.netns.id.inode, inside.clone());
        Ok(())
    }
}
