//! The fake kernel: a stateful stand-in for Linux that holds links, elements and ports, refuses what Linux refuses, and
//! fails at a step that a test selects. netd runs on it in tests that need no root.

mod monitors;
mod observed;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DnsSockets, Kernel, KernelError, KernelEvent};
use crate::model::address::{Family, Subnet};
use crate::model::bandwidth::Shaping;
use crate::model::endpoint::Netns;
use crate::model::host::element::Element;
use crate::model::host::foreign_firewall::{Foreign, ForeignChange};
use crate::model::host::observed::{HostEnd, HostFacts, Observed, ObservedInterface, Structure};
use crate::model::host::step::{BridgeLink, DefaultRoute, EndpointLink, HostPort, Step};
use crate::model::ids::NetnsId;
use crate::model::inside::Inside;
use crate::model::names::IfName;
use crate::model::route::Route;

/// The port of the name service within containers.
const INSIDE_PORT: u16 = 5353;

/// The state of the fake kernel. Tests inspect it, and change it without the engine's knowledge.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Bridges by name.
    pub bridges: BTreeMap<IfName, BridgeLink>,
    /// Veth pairs by host name.
    pub links: BTreeMap<IfName, EndpointLink>,
    /// Interfaces that other programs made in containers, by namespace inode and name.
    pub found: BTreeMap<(u64, IfName), ObservedInterface>,
    /// Interfaces of other programs that were prepared.
    pub prepared: BTreeSet<IfName>,
    /// Limits by the host's interface.
    pub shapings: BTreeMap<IfName, Shaping>,
    /// Default routes by namespace inode.
    pub routes: BTreeMap<u64, Vec<DefaultRoute>>,
    /// The table's elements; `None`: no table.
    pub elements: Option<BTreeSet<Element>>,
    /// Ports that netd holds.
    pub held: BTreeSet<HostPort>,
    /// Ports that other processes hold.
    pub foreign_ports: BTreeSet<HostPort>,
    /// Interfaces that exist in containers besides netd's, by namespace inode.
    pub foreign_ifnames: BTreeSet<(u64, IfName)>,
    /// Named namespaces that exist, by path, with their inode.
    pub namespaces: BTreeMap<std::path::PathBuf, u64>,
    /// The last inode number assigned.
    pub last_inode: u64,
    /// Forwarding, per address family.
    pub forwarding: (bool, bool),
    /// Namespaces that other engines made, by inode.
    pub of_engines: BTreeSet<u64>,
    /// Namespaces in which another resolver answers at 127.0.0.11, by inode.
    pub resolvers: BTreeSet<u64>,
    /// The redirection to the name service within containers, by namespace inode.
    pub inside: BTreeMap<u64, Inside>,
    /// Whether the host's firewall drops containers' questions to their gateways.
    pub drops_questions: bool,
    /// Other programs' firewall tables.
    pub foreign: Foreign,
    /// The changes made to them.
    pub foreign_changes: Vec<ForeignChange>,
    /// Content of each `/etc/netns/NAME/resolv.conf`.
    pub resolv: BTreeMap<String, String>,
    /// The facts of the host, to which links and forwarding are added.
    pub facts: HostFacts,
    /// How many steps succeed before one fails; `None`: none fails.
    pub fail_in: Option<usize>,
}

/// The fake kernel; a clone shares the same world.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    monitors: monitors::Monitors,
}

impl Fake {
    /// Locks the world, for reading or changing it.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panicking test has failed already; other users of the lock only read.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a namespace as `ip netns add` does; a new inode each time.
    pub fn add_namespace(&self, name: &str) {
        self.add_namespace_at(Path::new("/run/netns").join(name));
    }

    /// Creates a namespace at that path.
    pub fn add_namespace_at(&self, path: impl AsRef<Path>) {
        let mut world = self.world();
        world.last_inode += 1;
        let inode = world.last_inode;
        world.namespaces.insert(path.as_ref().to_owned(), inode);
    }

    /// Deletes a namespace and the interfaces in it, as the kernel does.
    pub fn delete_namespace(&self, name: &str) {
        let mut world = self.world();
        if let Some(inode) = world.namespaces.remove(&Path::new("/run/netns").join(name)) {
            world.links.retain(|_, link| link.netns.id.inode != inode);
            world.found.retain(|(found, _), _| *found != inode);
            world.routes.remove(&inode);
            world.inside.remove(&inode);
        }
    }
}

fn io(attempted: &'static str, on: &impl ToString, what: &str) -> KernelError {
    let source = std::io::Error::other(what.to_owned());
    KernelError::Io { attempted, on: on.to_string(), source, look: "the fake kernel" }
}

impl Kernel for Fake {
    fn facts(&mut self) -> Result<HostFacts, KernelError> {
        let world = self.world();
        let mut facts = world.facts.clone();
        facts.interfaces.extend(world.bridges.keys().chain(world.links.keys()).cloned());
        facts.interfaces.extend(world.ifbs().map(|shaping| shaping.ifb.clone()));
        facts.forwarding = world.forwarding;
        Ok(facts)
    }

    fn observe(&mut self) -> Result<Observed, KernelError> {
        let world = self.world();
        let bridges = world.bridges.values().map(|bridge| (bridge.name.clone(), observed::bridge(bridge)));
        let links = world.links.values().map(|link| (link.host_ifname.clone(), observed::link(link)));
        let ifbs = world.ifbs().map(|shaping| (shaping.ifb.clone(), observed::ifb(shaping)));
        Ok(Observed {
            links: bridges.chain(links).chain(ifbs).collect(),
            structure: if world.elements.is_some() { Structure::Intact } else { Structure::Missing },
            elements: world.elements.clone().unwrap_or_default(),
            forwarding: world.forwarding,
            held: world.held.clone(),
        })
    }

    fn netns(&mut self, path: &Path) -> Result<Netns, KernelError> {
        let gone = || KernelError::NoNetns { path: path.to_owned(), why: "no such file".into() };
        let inode = *self.world().namespaces.get(path).ok_or_else(gone)?;
        Ok(Netns { path: path.to_owned(), id: NetnsId { device: 4, inode, cookie: Some(inode) } })
    }

    fn netns_alive(&mut self, netns: &Netns) -> bool {
        self.world().namespaces.get(&netns.path) == Some(&netns.id.inode)
    }

    fn is_of_engine(&mut self, netns: &Netns) -> bool {
        self.world().of_engines.contains(&netns.id.inode)
    }

    fn has_resolver(&mut self, netns: &Netns, _: Option<u16>) -> bool {
        self.world().resolvers.contains(&netns.id.inode)
    }

    fn has_link(&mut self, name: &IfName) -> bool {
        let world = self.world();
        let ifb = world.ifbs().any(|shaping| shaping.ifb == *name);
        ifb || world.has_host_end(name) || world.bridges.contains_key(name)
    }

    fn interface(&mut self, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError> {
        if !self.netns_alive(netns) {
            return Err(KernelError::NoNetns { path: netns.path.clone(), why: "no such file".into() });
        }
        Ok(self.world().interface(netns.id.inode, ifname))
    }

    fn forgotten_files(&mut self) -> Vec<String> {
        let world = self.world();
        let gone = |name: &&String| !world.namespaces.contains_key(&Path::new("/run/netns").join(name));
        world.resolv.keys().filter(gone).cloned().collect()
    }

    fn shaping_differs(&mut self, shaping: &Shaping) -> Result<Option<String>, KernelError> {
        let world = self.world();
        if !world.has_host_end(&shaping.host_ifname) {
            return Ok(Some(format!("interface {} is gone", shaping.host_ifname)));
        }
        let same = world.shapings.get(&shaping.host_ifname) == Some(shaping);
        Ok((!same).then(|| format!("{} has other limits", shaping.host_ifname)))
    }

    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        self.world().apply(step)
    }

    fn dns_sockets(&mut self, _: IpAddr, port: u16) -> Result<(u16, Option<DnsSockets>), KernelError> {
        Ok((port, None))
    }

    fn open_inside(&mut self, inside: &Inside) -> Result<(u16, Option<DnsSockets>), KernelError> {
        self.lead_inside(inside, INSIDE_PORT)?;
        Ok((INSIDE_PORT, None))
    }

    fn lead_inside(&mut self, inside: &Inside, _: u16) -> Result<(), KernelError> {
        if !self.netns_alive(&inside.netns) {
            return Err(KernelError::NoNetns { path: inside.netns.path.clone(), why: "no such file".into() });
        }
        self.world().inside.insert(inside.netns.id.inode, inside.clone());
        Ok(())
    }

    fn leave_inside(&mut self, netns: &Netns) -> Result<(), KernelError> {
        self.world().inside.remove(&netns.id.inode);
        Ok(())
    }

    fn reaches(&mut self, asked: &[(Netns, IpAddr)]) -> Vec<Option<bool>> {
        let drops = self.world().drops_questions;
        asked.iter().map(|(netns, _)| self.netns_alive(netns).then_some(!drops)).collect()
    }

    fn sign(&mut self, _: &str) {}

    fn foreign(&mut self) -> Result<Foreign, KernelError> {
        Ok(self.world().foreign.clone())
    }

    fn has_silent_tables(&mut self) -> bool {
        false
    }

    fn watch(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError> {
        self.monitors.start(tell);
        Ok(())
    }
}

/// Adds the route unless one with that metric exists, on any interface.
fn add_default_route(routes: &mut Vec<DefaultRoute>, route: &DefaultRoute) {
    let key = |route: &DefaultRoute| (route.gateway.is_ipv4(), route.metric);
    if !routes.iter().any(|there| key(there) == key(route)) {
        routes.push(route.clone());
    }
}

impl World {
    /// The limits that need an intermediate device, which remains when the limited interface is removed.
    fn ifbs(&self) -> impl Iterator<Item = &Shaping> {
        self.shapings.values().filter(|shaping| shaping.bandwidth.egress.is_some())
    }

    /// Whether another program made an interface with that name: a bridge, or a host end.
    fn has_foreign(&self, name: &IfName) -> bool {
        let mut ends = self.found.values().filter_map(|seen| seen.host_end.as_ref());
        ends.any(|end| end.name == *name || end.bridge.as_ref() == Some(name))
    }

    /// Whether the host has that end of a pair, whichever program made it.
    fn has_host_end(&self, name: &IfName) -> bool {
        let found = self.found.values().filter_map(|interface| interface.host_end.as_ref());
        self.links.contains_key(name) || found.into_iter().any(|end| end.name == *name)
    }

    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match self.fail_in {
            Some(0) => {
                self.fail_in = None;
                return Err(io("apply", &format!("{step:?}"), "told to fail"));
            }
            Some(more) => self.fail_in = Some(more - 1),
            None => {}
        }
        match step {
            Step::Forwarding { v4, v6 } => {
                self.forwarding = (self.forwarding.0 || *v4, self.forwarding.1 || *v6);
            }
            Step::AddBridge(bridge) => drop(self.bridges.insert(bridge.name.clone(), bridge.clone())),
            Step::DeleteBridge(bridge) => drop(self.bridges.remove(&bridge.name)),
            Step::Attach(link) => self.attach(link)?,
            Step::Detach(links) => links.iter().for_each(|link| self.detach(link)),
            Step::Address(link) => self.address(link)?,
            Step::RemoveAddresses(link) => self.unaddress(link),
            Step::Adopt(name) if !self.has_foreign(name) => return Err(io("adopt", name, "no such device")),
            Step::Adopt(name) => drop(self.prepared.insert(name.clone())),
            Step::Shape(shaping) if !self.has_host_end(&shaping.host_ifname) => {
                return Err(io("limit", &shaping.host_ifname, "no such device"));
            }
            Step::Shape(shaping) => drop(self.shapings.insert(shaping.host_ifname.clone(), (**shaping).clone())),
            Step::Unshape(shapings) => self.shapings.retain(|name, _| !shapings.iter().any(|s| s.host_ifname == *name)),
            Step::DefaultRoutes { netns, remove, add } => {
                let routes = self.routes.entry(netns.id.inode).or_default();
                routes.retain(|route| !remove.contains(route));
                add.iter().for_each(|route| add_default_route(routes, route));
            }
            Step::Elements { remove, add } => {
                let elements =
                    self.elements.as_mut().ok_or_else(|| io("change", &"table inet netd", "no such table"))?;
                elements.retain(|element| !remove.contains(element));
                elements.extend(add.iter().cloned());
            }
            Step::Table(elements) => self.elements = Some(elements.iter().cloned().collect()),
            Step::Foreign(change) => self.foreign_changes.push(change.clone()),
            Step::Hold(ports) => self.hold(ports)?,
            Step::CheckPortsFree { ports, .. } => self.vacant(ports)?,
            Step::Release(ports) => self.held.retain(|port| !ports.contains(port)),
            Step::ForgetFlows(_) => {}
            Step::Resolv { netns, now: Some(content), .. } => {
                self.resolv.insert(netns.clone(), content.clone());
            }
            Step::Resolv { netns, now: None, .. } => drop(self.resolv.remove(netns)),
        }
        Ok(())
    }

    fn interface(&self, inode: u64, ifname: &IfName) -> Option<ObservedInterface> {
        let ours = self.links.values().find(|link| link.netns.id.inode == inode && link.ifname == *ifname);
        let Some(link) = ours else { return self.found.get(&(inode, ifname.clone())).cloned() };
        let all: &[DefaultRoute] = self.routes.get(&inode).map_or(&[], Vec::as_slice);
        let (over_this, elsewhere): (Vec<&DefaultRoute>, _) = all.iter().partition(|route| route.ifname == *ifname);
        let everywhere = |route: &DefaultRoute| {
            Subnet::containing(route.gateway, 0).map(|subnet| Route::via(subnet, Some(route.gateway)))
        };
        Some(ObservedInterface {
            mac: Some(link.mac),
            up: true,
            mtu: link.mtu,
            addresses: link.addresses.clone(),
            routes: over_this.into_iter().filter_map(everywhere).chain(link.routes.iter().cloned()).collect(),
            default_elsewhere: elsewhere.into_iter().map(|route| Family::of(route.gateway)).collect(),
            host_end: Some(HostEnd {
                name: link.host_ifname.clone(),
                bridge: Some(link.bridge.clone()),
                up: true,
                isolated: link.isolated,
            }),
        })
    }

    fn attach(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        let inode = link.netns.id.inode;
        if self.namespaces.get(&link.netns.path) != Some(&inode) {
            return Err(KernelError::NoNetns { path: link.netns.path.clone(), why: "no such file".into() });
        }
        if !self.bridges.contains_key(&link.bridge) {
            return Err(io("attach to", &link.bridge, "no such device"));
        }
        if self.links.contains_key(&link.host_ifname) || self.bridges.contains_key(&link.host_ifname) {
            return Err(KernelError::NameTaken { ifname: link.host_ifname.clone(), within: "the host".into() });
        }
        let same = |other: &EndpointLink| other.netns.id == link.netns.id && other.ifname == link.ifname;
        if self.links.values().any(same) || self.foreign_ifnames.contains(&(inode, link.ifname.clone())) {
            return Err(KernelError::NameTaken { ifname: link.ifname.clone(), within: link.container.to_string() });
        }
        self.add_default_routes(link);
        self.links.insert(link.host_ifname.clone(), link.clone());
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
        let inode = link.netns.id.inode;
        if self.namespaces.get(&link.netns.path) != Some(&inode) {
            return Err(KernelError::NoNetns { path: link.netns.path.clone(), why: "no such file".into() });
        }
        match self.links.get_mut(&link.host_ifname) {
            Some(there) => *there = link.clone(),
            None => return Err(io("address", &link.ifname, "no such device")),
        }
        self.add_default_routes(link);
        Ok(())
    }

    fn unaddress(&mut self, link: &EndpointLink) {
        if let Some(there) = self.links.get_mut(&link.host_ifname) {
            there.addresses.clear();
            there.default_gateways.clear();
            there.routes.clear();
        }
        if let Some(routes) = self.routes.get_mut(&link.netns.id.inode) {
            routes.retain(|route| route.ifname != link.ifname);
        }
    }

    fn detach(&mut self, link: &EndpointLink) {
        self.shapings.retain(|_, shaping| shaping.ifb != link.host_ifname);
        if let Some(link) = self.links.remove(&link.host_ifname)
            && let Some(routes) = self.routes.get_mut(&link.netns.id.inode)
        {
            routes.retain(|route| route.ifname != link.ifname);
        }
    }
}
