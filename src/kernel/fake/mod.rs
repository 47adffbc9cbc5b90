//! The fake kernel: a stateful stand-in for Linux that holds links, elements and ports, refuses what Linux refuses, and
//! has the faults that a test selects. netd runs on it in tests that need no root.

pub mod faults;
mod observed;
mod ports;
mod stacked;
mod steps;
mod world;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnetwork::IpNetwork;

use self::faults::Faults;
pub use self::world::World;
use super::{DnsSockets, Kernel, KernelError, KernelEvent, PortSocket};
use crate::logic::firewall::foreign::save;
use crate::model::address::{Families, Mac};
use crate::model::bandwidth::Shaping;
use crate::model::endpoint::Netns;
use crate::model::host::foreign_firewall::{Foreign, TableFamily, Tool};
use crate::model::host::observed::{HostFacts, Inner, Observed, ObservedInterface, ObservedKind, Traced};
use crate::model::host::parent::{Device, Parent};
use crate::model::host::probe::{OnBridge, Probe};
use crate::model::host::routing::Routing;
use crate::model::host::step::{EndpointLink, HostPort, Step};
use crate::model::ids::NetnsId;
use crate::model::inside::Inside;
use crate::model::names::IfName;

/// The path of the host's namespace.
const OWN: &str = "/proc/self/ns/net";
/// The port of the name service within containers.
const INSIDE_PORT: u16 = 5353;

/// The callback of the engine.
#[derive(Default)]
struct Watcher(Option<Box<dyn Fn(KernelEvent) + Send>>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

/// The fake kernel; a clone shares the same world.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    watcher: Arc<Mutex<Watcher>>,
    dead: Arc<AtomicBool>,
}

impl Fake {
    /// The kernel of a process that can die at any change: `dead` is true from then on. Its store must share `dead`.
    pub fn of_process(dead: Arc<AtomicBool>) -> Self {
        Self { dead, ..Self::default() }
    }

    /// Locks the world, for reading or changing it.
    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panicking test has failed already; other users of the lock only read.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a change to the engine that watches; without one, nobody hears it.
    pub fn emit(&self, event: &KernelEvent) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        watcher.0.iter().for_each(|tell| tell(event.clone()));
    }

    /// After the end of the process, whichever way it ended: its sockets are closed, and the next process has no faults.
    pub fn process_ended(&self) {
        let mut world = self.world();
        world.held.clear();
        // Beside another resolver the redirection belongs to a socket of the process.
        world.inside.retain(|_, inside| !inside.beside);
        world.faults = Faults::default();
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).0 = None;
        self.dead.store(false, Ordering::SeqCst);
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

    /// Adds a network card of the host that is up, with these addresses.
    pub fn add_card(&self, name: IfName, addresses: Vec<IpNetwork>) {
        let card = Parent {
            name: name.clone(),
            kind: ObservedKind::Hardware,
            up: true,
            mtu: 1500,
            mac: Some(Mac::for_address(IpAddr::from([192, 0, 2, 1]))),
            master: None,
            loopback: false,
            wireless: false,
            filters_vlans: None,
            settles: 0,
            addresses,
        };
        self.world().parents.insert(name, card);
    }

    /// Deletes a namespace and the interfaces in it, as the kernel does.
    pub fn delete_namespace(&self, name: &str) {
        let mut world = self.world();
        if let Some(inode) = world.namespaces.remove(&Path::new("/run/netns").join(name)) {
            world.links.retain(|_, link| link.netns.id.inode != inode);
            world.found.retain(|(found, _), _| *found != inode);
            world.forget_limits();
            world.routes.remove(&inode);
            world.inside.remove(&inode);
        }
    }

    /// Counts a call of that method, and locks the world if the call does not fail.
    fn call(&self, method: &'static str, step: Option<&Step>) -> Result<MutexGuard<'_, World>, KernelError> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(io("call", &method, "the process is dead"));
        }
        let mut world = self.world();
        if world.faults.fails(method, step) {
            return Err(io(method, &step.map_or("the world", faults::name), "told to fail"));
        }
        Ok(world)
    }

    /// Counts a change of the world, after which the process may die.
    fn changed(&self, mut world: MutexGuard<'_, World>, method: &'static str, step: Option<&Step>) {
        if world.faults.changed(method, step) {
            self.dead.store(true, Ordering::SeqCst);
        }
    }
}

fn io(attempted: &'static str, on: &impl ToString, what: &str) -> KernelError {
    let source = std::io::Error::other(what.to_owned());
    KernelError::Io { attempted, on: on.to_string(), source, look: "the fake kernel" }
}

/// Methods that cannot report a failure answer as those of Linux do when they fail.
impl Kernel for Fake {
    fn search(&mut self) -> Vec<String> {
        self.call("search", None).map(|world| world.facts.search.clone()).unwrap_or_default()
    }

    fn facts(&mut self) -> Result<HostFacts, KernelError> {
        let world = self.call("facts", None)?;
        let mut facts = world.facts.clone();
        let made = world.bridges.keys().chain(world.links.keys()).chain(world.ifbs.keys()).chain(world.shims.keys());
        facts.interfaces.extend(made.cloned());
        facts.forwarding = world.forwarding;
        Ok(facts)
    }

    fn observe(&mut self) -> Result<Observed, KernelError> {
        Ok(self.call("observe", None)?.observe())
    }

    fn routing(&mut self) -> Result<Routing, KernelError> {
        Ok(self.call("routing", None)?.routing())
    }

    /// None: it has no such settings.
    fn advertised(&mut self) -> Result<BTreeSet<IfName>, KernelError> {
        drop(self.call("advertised", None)?);
        Ok(BTreeSet::new())
    }

    fn netns(&mut self, path: &Path) -> Result<Netns, KernelError> {
        let world = self.call("netns", None)?;
        let gone = || KernelError::NoNetns { path: path.to_owned(), why: "no such file".into() };
        let inode = *world.namespaces.get(path).ok_or_else(gone)?;
        Ok(Netns { path: path.to_owned(), id: NetnsId { device: 4, inode, cookie: Some(inode) } })
    }

    fn own_netns(&mut self) -> Result<Netns, KernelError> {
        drop(self.call("own_netns", None)?);
        Ok(Netns { path: OWN.into(), id: NetnsId { device: 4, inode: 1, cookie: Some(1) } })
    }

    /// A namespace that cannot be checked counts as alive.
    fn netns_alive(&mut self, netns: &Netns) -> bool {
        self.call("netns_alive", None).map_or(true, |world| world.is_alive(netns))
    }

    fn find_netns(&mut self, netns: &Netns) -> Option<Netns> {
        let world = self.call("find_netns", None).ok()?;
        let (path, _) = world.namespaces.iter().find(|(_, inode)| **inode == netns.id.inode)?;
        Some(Netns { path: path.clone(), id: netns.id })
    }

    fn is_of_engine(&mut self, netns: &Netns) -> bool {
        self.call("is_of_engine", None).is_ok_and(|world| world.of_engines.contains(&netns.id.inode))
    }

    fn has_resolver(&mut self, netns: &Netns, _: Option<u16>) -> bool {
        self.call("has_resolver", None).is_ok_and(|world| world.resolvers.contains(&netns.id.inode))
    }

    fn parent(&mut self, name: &IfName) -> Result<Option<Parent>, KernelError> {
        Ok(self.call("parent", None)?.parents.get(name).cloned())
    }

    fn has_device(&mut self, device: Device) -> Result<bool, KernelError> {
        Ok(!self.call("has_device", None)?.lacks.contains(&device))
    }

    fn send_frame(&mut self, netns: &Netns, ifname: &IfName, frame: &[u8]) -> Result<(), KernelError> {
        self.call("send_frame", None)?.frames.push((netns.id.inode, ifname.clone(), frame.to_vec()));
        Ok(())
    }

    fn follow(&mut self, _: &EndpointLink) -> Result<(), KernelError> {
        self.call("follow", None).map(drop)
    }

    fn inner(&mut self) -> Result<Vec<Inner>, KernelError> {
        let world = self.call("inner", None)?;
        let inner = world.links.values().filter(|link| link.kind.pair().is_none() && world.is_alive(&link.netns));
        Ok(inner.map(|link| Inner { netns: link.netns.clone(), ifname: link.ifname.clone() }).collect())
    }

    fn has_link(&mut self, name: &IfName) -> bool {
        self.call("has_link", None).is_ok_and(|world| {
            world.has_host_end(name) || world.bridges.contains_key(name) || world.ifbs.contains_key(name)
        })
    }

    fn interface(&mut self, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError> {
        let world = self.call("interface", None)?;
        world.require(netns)?;
        Ok(world.interface(netns.id.inode, ifname))
    }

    fn trace(&mut self) -> Result<Vec<Traced>, KernelError> {
        Ok(self.call("trace", None)?.traced())
    }

    fn trace_into(&mut self, host_ifname: &IfName, path: &Path) -> Result<Option<Traced>, KernelError> {
        let there = self.netns(path)?;
        Ok(self.trace()?.into_iter().find(|traced| traced.host_ifname == *host_ifname && traced.netns.id == there.id))
    }

    fn written_files(&mut self) -> Vec<String> {
        self.call("written_files", None).map(|world| world.resolv.keys().cloned().collect()).unwrap_or_default()
    }

    fn file_differs(&mut self, netns: &str, content: Option<&str>) -> Result<bool, KernelError> {
        Ok(self.call("file_differs", None)?.resolv.get(netns).map(String::as_str) != content)
    }

    fn shaping_differs(&mut self, shaping: &Shaping) -> Result<Option<String>, KernelError> {
        let world = self.call("shaping_differs", None)?;
        if !world.has_host_end(&shaping.host_ifname) {
            return Ok(Some(format!("interface {} is gone", shaping.host_ifname)));
        }
        let limited = world.shapings.get(&shaping.host_ifname) == Some(shaping);
        let same = limited && world.ifbs.get(&shaping.ifb) == shaping.bandwidth.egress.map(|_| shaping);
        Ok((!same).then(|| format!("{} has other limits", shaping.host_ifname)))
    }

    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        let mut world = self.call("apply", Some(step))?;
        world.apply(step)?;
        self.changed(world, "apply", Some(step));
        Ok(())
    }

    fn serve_port(&mut self, _: &HostPort) -> Result<Option<PortSocket>, KernelError> {
        Ok(None)
    }

    fn idle_port(&mut self, _: &HostPort) -> Result<(), KernelError> {
        Ok(())
    }

    fn dns_sockets(&mut self, _: IpAddr, port: u16) -> Result<(u16, Option<DnsSockets>), KernelError> {
        self.call("dns_sockets", None).map(|_| (port, None))
    }

    fn open_inside(&mut self, inside: &Inside) -> Result<(u16, Option<DnsSockets>), KernelError> {
        let mut world = self.call("open_inside", None)?;
        world.lead_inside(inside)?;
        self.changed(world, "open_inside", None);
        Ok((INSIDE_PORT, None))
    }

    fn lead_inside(&mut self, inside: &Inside, _: u16) -> Result<(), KernelError> {
        let mut world = self.call("lead_inside", None)?;
        world.lead_inside(inside)?;
        self.changed(world, "lead_inside", None);
        Ok(())
    }

    fn is_led_inside(&mut self, inside: &Inside, _: u16) -> Result<bool, KernelError> {
        let world = self.call("is_led_inside", None)?;
        world.require(&inside.netns)?;
        Ok(world.inside.get(&inside.netns.id.inode) == Some(inside))
    }

    fn ends_into(&mut self, _: &BTreeSet<i32>) -> Result<BTreeSet<IfName>, KernelError> {
        Ok(self.call("ends_into", None)?.links.keys().cloned().collect())
    }

    fn leave_inside(&mut self, netns: &Netns) -> Result<(), KernelError> {
        let mut world = self.call("leave_inside", None)?;
        world.inside.remove(&netns.id.inode);
        self.changed(world, "leave_inside", None);
        Ok(())
    }

    fn on_bridge(&mut self, bridge: &IfName) -> Result<OnBridge, KernelError> {
        let world = self.call("on_bridge", None)?;
        let own = world.bridges.get(bridge).map(|made| made.addresses.iter().map(IpNetwork::ip).collect());
        let of_others = || world.gateways.get(bridge).cloned().unwrap_or_default();
        Ok(OnBridge { own: own.unwrap_or_else(of_others), neighbours: Vec::new() })
    }

    /// One call for all of them.
    fn reaches(&mut self, probes: &[Probe]) -> Vec<Result<Option<IpAddr>, KernelError>> {
        match self.call("reaches", None) {
            Ok(mut world) => {
                world.asked_at_once = world.asked_at_once.max(probes.len());
                probes.iter().map(|probe| world.silent(probe)).collect()
            }
            Err(_) => probes.iter().map(|_| Err(io("ask from", &"a container", "told to fail"))).collect(),
        }
    }

    /// Cannot fail.
    fn sign(&mut self, _: &str) {}

    fn foreign(&mut self) -> Result<Foreign, KernelError> {
        let world = self.call("foreign", None)?;
        let tables = save::tables(Tool::IptablesNft, TableFamily::Ip, &world.iptables);
        Ok(Foreign { tables, ways: world.ways.clone(), bridged: Families::default() })
    }

    /// Cannot fail: there are none.
    fn has_silent_tables(&mut self) -> bool {
        false
    }

    fn monitor(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError> {
        drop(self.call("watch", None)?);
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(tell);
        Ok(())
    }
}
