//! The real kernel: [`Linux`] passes each step to the module that implements it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::dns::kept::Kept;
use super::dns::resolv_conf::Files;
use super::dns::{in_container, probe, resolver, sockets};
use super::host::interfaces::Interfaces;
use super::host::kept_ports::KeptPorts;
use super::host::port_holder::Ports;
use super::host::{facts, foreign_firewalls};
use super::link::inner::Followed;
use super::link::stand_in::Leaving;
use super::link::{address, bridge, container, inner, inspect, monitor, neighbour, parent, shim, stacked, trace, veth};
use super::monitor::Running;
use super::netlink::socket::{Netlink, failed};
use super::netns::find::Holders;
use super::netns::monitor::NetnsWatch;
use super::netns::{engines, wire};
use super::nft::Nft;
use super::nft::conntrack::Conntrack;
use super::sysctl::Sysctl;
use super::{DnsSockets, Kernel, KernelError, KernelEvent, PortSocket, Tell, link, netns, tc};
use crate::model::bandwidth::Shaping;
use crate::model::egress::Opening;
use crate::model::endpoint::Netns;
use crate::model::host::foreign_firewall::Foreign;
use crate::model::host::observed::{DeniedFlow, HostFacts, Inner, Observed, ObservedInterface, Traced};
use crate::model::host::parent::{Device, Parent};
use crate::model::host::probe::{OnBridge, Probe};
use crate::model::host::routing::Routing;
use crate::model::host::step::{EndpointLink, HostPort, LinkKind, Step};
use crate::model::inside::Inside;
use crate::model::names::IfName;

/// Where `ip netns exec` expects the files of a namespace.
const NETNS_FILES: &str = "/etc/netns";
/// The folder with the host's configuration.
const ROOT: &str = "/";
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";

/// The host: the network namespace of the thread that created this. It must be used on threads of that namespace only.
#[derive(Debug)]
pub struct Linux {
    netlink: Netlink,
    sysctl: Sysctl,
    nft: Nft,
    /// How often other programs had changed their tables when these were read.
    foreign_read: Option<(u64, u64)>,
    conntrack: Conntrack,
    ports: Ports,
    files: Files,
    /// Watches namespaces with sockets of the name service, once the engine watches for changes.
    namespaces: Option<NetnsWatch>,
    /// The owners of the tables in namespaces with another resolver, by path.
    owners: BTreeMap<PathBuf, in_container::Owner>,
    /// Where namespaces are whose paths are gone.
    holders: Holders,
    /// The monitor of links, once the engine watches for changes.
    links: Option<Running>,
    /// Stops the ticks when it is dropped.
    ticking: Option<Sender<()>>,
    /// The sockets of gateways that the service manager has.
    kept: Kept,
    /// What is being removed after a probe.
    leaving: Leaving,
    /// The interfaces in containers that have no other end.
    followed: Followed,
}

impl Linux {
    /// Opens what every step needs; changes nothing.
    pub fn new() -> Result<Self, KernelError> {
        let netlink = Netlink::open().map_err(failed("open", "an rtnetlink socket", "netd needs root"))?;
        Ok(Self {
            netlink,
            sysctl: Sysctl::open(),
            nft: Nft::new()?,
            foreign_read: None,
            conntrack: Conntrack::default(),
            ports: Ports::default(),
            files: Files::new(NETNS_FILES, NAMESPACES, &super::sysctl::boot_id()?),
            namespaces: None,
            owners: BTreeMap::new(),
            holders: Holders::default(),
            links: None,
            ticking: None,
            kept: Kept::default(),
            leaving: Leaving::default(),
            followed: Followed::default(),
        })
    }

    /// The same with sockets of the name service and of published ports that the service manager has kept, and will
    /// keep.
    pub fn with_kept(self, kept: Kept, ports: KeptPorts) -> Self {
        Self { kept, ports: Ports::new(ports), ..self }
    }
}

impl Linux {
    /// Deletes all of them, and reports the first error.
    fn detach(&mut self, links: &[EndpointLink]) -> Result<(), KernelError> {
        let pairs: Vec<&IfName> =
            links.iter().filter_map(|link| link.kind.pair()).map(|pair| &pair.host_ifname).collect();
        let mut done = if pairs.is_empty() { Ok(()) } else { link::delete(&mut self.netlink, &pairs) };
        for link in links.iter().filter(|link| link.kind.pair().is_none()) {
            self.followed.remove(link.kind.host_ifname());
            done = done.and(stacked::delete(&link.netns, &link.ifname));
        }
        done
    }
}

impl Kernel for Linux {
    fn prepare(&mut self) {
        self.nft.prepare();
    }

    fn search(&mut self) -> Vec<String> {
        facts::search_domains()
    }

    fn facts(&mut self) -> Result<HostFacts, KernelError> {
        facts::read(&mut self.netlink, &self.sysctl)
    }

    fn observe(&mut self) -> Result<Observed, KernelError> {
        self.leaving.wait();
        let interfaces = Interfaces::read(&mut self.netlink)?;
        let routing = interfaces.routing(&self.sysctl, Path::new(ROOT))?;
        let links = facts::links(&mut self.netlink, &self.sysctl, interfaces)?;
        let limited = tc::limited(&mut self.netlink)?;
        let firewall = self.nft.observe()?;
        let held = self.ports.held()?;
        Ok(Observed { links, limited, firewall, routing, held })
    }

    fn routing(&mut self) -> Result<Routing, KernelError> {
        Interfaces::read(&mut self.netlink)?.routing(&self.sysctl, Path::new(ROOT))
    }

    fn advertised(&mut self) -> Result<BTreeSet<IfName>, KernelError> {
        self.sysctl.advertised()
    }

    fn netns(&mut self, path: &Path) -> Result<Netns, KernelError> {
        netns::identify(path)
    }

    fn own_netns(&mut self) -> Result<Netns, KernelError> {
        netns::own()
    }

    fn netns_alive(&mut self, netns: &Netns) -> bool {
        netns::alive(netns)
    }

    fn find_netns(&mut self, netns: &Netns) -> Option<Netns> {
        self.holders.find(netns)
    }

    fn is_of_engine(&mut self, netns: &Netns) -> bool {
        engines::made(&netns.path)
    }

    fn has_resolver(&mut self, netns: &Netns, own: Option<u16>) -> bool {
        resolver::is_there(netns, own)
    }

    fn denied(&mut self) -> Result<Vec<DeniedFlow>, KernelError> {
        self.nft.denied()
    }

    fn parent(&mut self, name: &IfName) -> Result<Option<Parent>, KernelError> {
        parent::get(&mut self.netlink, name)
    }

    fn has_device(&mut self, device: Device) -> Result<bool, KernelError> {
        parent::has_device(&mut self.netlink, device)
    }

    fn follow(&mut self, link: &EndpointLink) -> Result<(), KernelError> {
        self.followed.add(&mut self.netlink, link)
    }

    fn inner(&mut self) -> Result<Vec<Inner>, KernelError> {
        inner::all(Path::new(NAMESPACES))
    }

    fn open(&mut self, close: &[Opening], open: &[(Opening, Duration)]) -> Result<(), KernelError> {
        self.nft.open(close, open)
    }

    fn opened(&mut self) -> Result<Vec<(Opening, Duration)>, KernelError> {
        self.nft.opened()
    }

    fn has_link(&mut self, name: &IfName) -> bool {
        link::index(name).is_ok()
    }

    fn interface(&mut self, netns: &Netns, ifname: &IfName) -> Result<Option<ObservedInterface>, KernelError> {
        inspect::interface(&mut self.netlink, netns, ifname)
    }

    fn trace(&mut self) -> Result<Vec<Traced>, KernelError> {
        trace::all(&mut self.netlink, Path::new(NAMESPACES))
    }

    fn trace_into(&mut self, host_ifname: &IfName, path: &Path) -> Result<Option<Traced>, KernelError> {
        trace::into(&mut self.netlink, host_ifname, path)
    }

    fn written_files(&mut self) -> Vec<String> {
        self.files.written()
    }

    fn file_differs(&mut self, netns: &str, content: Option<&str>) -> Result<bool, KernelError> {
        self.files.differs(netns, content)
    }

    fn shaping_differs(&mut self, shaping: &Shaping) -> Result<Option<String>, KernelError> {
        tc::differs(&mut self.netlink, shaping)
    }

    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::Forwarding(families) => self.sysctl.forward(*families),
            Step::StopForwarding(before) => self.sysctl.stop_forwarding(before),
            Step::AddBridge(bridge) => bridge::add(&mut self.netlink, &self.sysctl, bridge),
            Step::DeleteBridge(bridge) => bridge::delete(&mut self.netlink, bridge),
            Step::VirtualAddresses { bridge, remove, add } => {
                bridge::change_virtual_addresses(&mut self.netlink, bridge, remove, add)
            }
            Step::Attach(link) => match &link.kind {
                LinkKind::Veth(pair) => veth::attach(&mut self.netlink, &self.sysctl, link, pair),
                LinkKind::Stacked(on) => {
                    stacked::attach(&mut self.netlink, link, on)?;
                    self.followed.add(&mut self.netlink, link)
                }
            },
            Step::AddShim(shim) => shim::add(&mut self.netlink, &self.sysctl, shim),
            Step::DeleteShim(shim) => shim::delete(&mut self.netlink, &shim.name),
            Step::ShimRoutes { shim, remove, add } => shim::change_routes(&mut self.netlink, shim, remove, add),
            Step::Rename { from, to } => link::rename(&mut self.netlink, from, to),
            Step::RestorePorts(links) => veth::restore_ports(&mut self.netlink, &self.sysctl, links),
            Step::Restore { link, link_layer } => container::restore(link, *link_layer),
            Step::Detach(links) => self.detach(links),
            Step::DeleteInner { netns, ifname } => stacked::delete(netns, ifname),
            Step::DeleteStray(name) => link::delete(&mut self.netlink, &[name]),
            Step::Address(link) => container::add(link),
            Step::RemoveAddresses(link) => container::remove(link),
            Step::Adopt(ifname) => self.sysctl.adopt(ifname.as_str()),
            Step::Shape(shaping) => tc::limit(&mut self.netlink, &self.sysctl, shaping),
            Step::Unshape(interfaces) => tc::unshape(&mut self.netlink, interfaces),
            Step::DefaultRoutes { netns, remove, add } => veth::change_default_routes(netns, remove, add),
            Step::Elements { remove, add } => self.nft.change(remove, add),
            Step::Table(table, elements) => self.nft.replace_table(*table, elements),
            Step::DropTables => self.nft.delete_tables(),
            Step::Foreign(change) => foreign_firewalls::change(change),
            Step::Hold(ports) => self.ports.hold(ports),
            Step::CheckPortsFree { ports, container, plugin } => self.ports.vacant(ports, container, *plugin),
            Step::Release(ports) => {
                self.ports.release(ports);
                Ok(())
            }
            Step::ForgetFlows(flows) => self.conntrack.forget(flows),
            Step::Resolv { netns, before, now } => self.files.apply(netns, before.as_deref(), now.as_deref()),
        }
    }

    fn dns_sockets(&mut self, address: IpAddr, port: u16) -> Result<(u16, Option<DnsSockets>), KernelError> {
        if let Some(sockets) = self.kept.take(address, port) {
            return Ok((port, Some(sockets)));
        }
        let sockets = sockets::open_at_gateway(address, port)?;
        self.kept.keep(&sockets);
        Ok((sockets.port, Some(sockets)))
    }

    fn serve_port(&mut self, port: &HostPort) -> Result<Option<PortSocket>, KernelError> {
        self.ports.serve(port)
    }

    fn send_frame(&mut self, netns: &Netns, ifname: &IfName, frame: &[u8]) -> Result<(), KernelError> {
        wire::send(netns, ifname, frame)
    }

    fn release_given_ports(&mut self) {
        self.ports.release_given();
    }

    fn idle_port(&mut self, port: &HostPort) -> Result<(), KernelError> {
        self.ports.idle(port)
    }

    fn keep_dns_sockets(&mut self, gateways: &BTreeSet<IpAddr>) {
        self.kept.only(gateways);
    }

    fn open_inside(&mut self, inside: &Inside) -> Result<(u16, Option<DnsSockets>), KernelError> {
        let (sockets, owner) = in_container::open(inside)?;
        match self.namespaces.as_ref().map_or(Ok(true), |namespaces| namespaces.add(&inside.netns)) {
            Ok(true) => {
                self.owners.extend(owner.map(|owner| (inside.netns.path.clone(), owner)));
                Ok((sockets.port, Some(sockets)))
            }
            failed => {
                // Without the sockets, the redirection would lead to a closed port.
                if owner.is_none()
                    && let Err(error) = in_container::leave(&inside.netns)
                {
                    tracing::debug!(%error, "cannot remove a redirection of DNS queries");
                }
                Err(failed.err().unwrap_or_else(|| netns::another(&inside.netns)))
            }
        }
    }

    fn lead_inside(&mut self, inside: &Inside, port: u16) -> Result<(), KernelError> {
        in_container::lead(inside, port)
    }

    fn is_led_inside(&mut self, inside: &Inside, port: u16) -> Result<bool, KernelError> {
        in_container::is_led(inside, port)
    }

    fn ends_into(&mut self, namespaces: &BTreeSet<i32>) -> Result<BTreeSet<IfName>, KernelError> {
        let links = link::list(&mut self.netlink)?;
        let leads = |link: &&link::Link| link.peer_netns.is_some_and(|number| namespaces.contains(&number));
        let inner = namespaces.iter().flat_map(|number| self.followed.within(*number));
        Ok(links.iter().filter(leads).filter_map(|link| link.name.parse().ok()).chain(inner).collect())
    }

    fn leave_inside(&mut self, netns: &Netns) -> Result<(), KernelError> {
        if let Some(namespaces) = &self.namespaces {
            namespaces.remove(netns);
        }
        match self.owners.remove(&netns.path) {
            // Dropping the owner removes its table.
            Some(_) => Ok(()),
            None => in_container::leave(netns),
        }
    }

    fn on_bridge(&mut self, bridge: &IfName) -> Result<OnBridge, KernelError> {
        let index = link::index(bridge)?;
        let own = address::list(&mut self.netlink, Some(index))?.into_iter().map(|found| found.address.ip()).collect();
        Ok(OnBridge { own, neighbours: neighbour::list(&mut self.netlink, index)? })
    }

    fn reaches(&mut self, probes: &[Probe]) -> Vec<Result<Option<IpAddr>, KernelError>> {
        probe::reaches(&mut self.netlink, &self.sysctl, probes, &mut self.leaving)
    }

    fn sign(&mut self, instance: &str) {
        self.files.sign(instance);
    }

    fn foreign(&mut self) -> Result<Foreign, KernelError> {
        self.foreign_read = self.nft.elsewhere();
        foreign_firewalls::read(&mut self.netlink, &self.sysctl)
    }

    fn has_silent_tables(&mut self) -> bool {
        foreign_firewalls::is_legacy_there()
    }

    fn may_foreign_differ(&mut self) -> bool {
        let now = self.nft.elsewhere();
        now.is_none() || now != self.foreign_read || self.has_silent_tables()
    }

    fn monitor(&mut self, tell: Box<dyn Fn(KernelEvent) + Send>) -> Result<(), KernelError> {
        // Four threads send events; the mutex serializes them.
        let tell = Mutex::new(tell);
        let tell: Tell = Arc::new(move |event| tell.lock().unwrap_or_else(PoisonError::into_inner)(event));
        self.links = Some(monitor::monitor(self.netlink.port(), self.followed.clone(), tell.clone())?);
        self.ticking = Some(monitor::tick(tell.clone())?);
        self.namespaces = Some(NetnsWatch::start(tell.clone())?);
        self.nft.monitor(tell)
    }
}

#[cfg(test)]
mod tests;
