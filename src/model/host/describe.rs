//! The text of steps and elements, as `--dry-run` shows them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::element::{Element, NameServer, PortSlot, Published, PublishedRange, ServicePort, Table, Verdict, VipSlot};
use super::routing::TurnedOn;
use super::step::{
    DefaultRoute, EndpointLink, Flows, HostPort, HostPorts, LinkKind, ShimLink, StackedLink, Step, Through, VethPair,
};
use crate::model::address::Family;

/// Items separated by a comma and a space.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Step {
    /// The kind of the step, in the published JSON.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Forwarding(_) | Self::StopForwarding(_) => "forwarding",
            Self::AddBridge(_) => "add-bridge",
            Self::DeleteBridge(_) => "delete-bridge",
            Self::AddShim(_) => "add-host-interface",
            Self::DeleteShim(_) => "delete-host-interface",
            Self::ShimRoutes { .. } => "change-host-routes",
            Self::VirtualAddresses { .. } => "change-virtual-addresses",
            Self::Rename { .. } => "rename-interface",
            Self::RestorePorts(_) => "restore-ports",
            Self::Restore { .. } => "restore-interface",
            Self::Attach(_) => "add-interface",
            Self::Detach(_) | Self::DeleteStray(_) | Self::DeleteInner { .. } => "delete-interfaces",
            Self::Address(_) => "add-addresses",
            Self::RemoveAddresses(_) => "remove-addresses",
            Self::Adopt(_) => "adopt-interface",
            Self::Shape(_) => "limit-bandwidth",
            Self::Unshape(_) => "remove-limits",
            Self::Foreign(_) => "change-foreign-firewall",
            Self::DefaultRoutes { .. } => "change-default-routes",
            Self::Elements { .. } => "change-elements",
            Self::Table(..) => "replace-table",
            Self::DropTables => "delete-table",
            Self::Hold(_) => "hold-ports",
            Self::CheckPortsFree { .. } => "check-ports",
            Self::Release(_) => "release-ports",
            Self::ForgetFlows(_) => "delete-conntrack-entries",
            Self::Resolv { .. } => "write-resolv-conf",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarding(on) => write!(f, "set {} to 1 unless it is", List(&on.forwarding_settings())),
            Self::StopForwarding(TurnedOn { families, .. }) => {
                write!(f, "set {} to 0", List(&families.forwarding_settings()))
            }
            Self::AddBridge(bridge) => {
                write!(f, "add bridge {} with {} and MTU {}", bridge.name, List(&bridge.addresses), bridge.mtu)
            }
            Self::DeleteBridge(bridge) => write!(f, "delete bridge {}", bridge.name),
            Self::VirtualAddresses { bridge, remove, add } => {
                changed(f, &format!("virtual addresses of bridge {bridge}"), remove, add)
            }
            Self::AddShim(shim) => add_shim(f, shim),
            Self::DeleteShim(shim) => write!(f, "delete interface {}", shim.name),
            Self::ShimRoutes { shim, remove, add } => changed(f, &format!("routes over {}", shim.name), remove, add),
            Self::Attach(link) => attach(f, link),
            Self::Detach(links) => {
                let names: Vec<_> = links.iter().map(deleted).collect();
                write!(f, "delete interfaces {}", List(&names))
            }
            Self::Rename { from, to } => write!(f, "rename interface {from} to {to}"),
            Self::RestorePorts(links) => {
                let names: Vec<_> = links.iter().map(|link| link.kind.host_ifname()).collect();
                write!(f, "restore bridge ports {}", List(&names))
            }
            Self::Restore { link, .. } => write!(f, "restore interface {} in {}", link.ifname, link.container),
            Self::DeleteStray(name) => write!(f, "delete interface {name}"),
            Self::DeleteInner { netns, ifname } => write!(f, "delete interface {ifname} in {}", netns.path.display()),
            Self::Address(link) => write!(f, "add {} to {} in {}", List(&link.addresses), link.ifname, link.container),
            Self::RemoveAddresses(link) => {
                write!(f, "remove {} from {} in {}", List(&link.addresses), link.ifname, link.container)
            }
            Self::Adopt(name) => write!(f, "set net.ipv4.conf.{name}.route_localnet to 1"),
            Self::Shape(shaping) => write!(f, "limit the bandwidth of {}", shaping.host_ifname),
            Self::Unshape(interfaces) => {
                let names: Vec<_> = interfaces.iter().map(|limited| &limited.host_ifname).collect();
                write!(f, "remove the bandwidth limits of {}", List(&names))
            }
            Self::Foreign(change) => write!(f, "change the firewall of another program: {change:?}"),
            Self::DefaultRoutes { netns, remove, add } => {
                let (old, new) = (gateways(remove), gateways(add));
                write!(f, "in {}: remove default routes [{}], add [{}]", netns.path.display(), List(&old), List(&new))
            }
            Self::Elements { remove, add } => elements(f, remove, add),
            Self::Table(table, elements) => {
                let count = elements.iter().filter(|element| element.table() == *table).count();
                write!(f, "replace {table}, with {count} elements")
            }
            Self::DropTables => {
                let [inet, bridge, services] = Table::ALL;
                write!(f, "delete {inet}, {bridge} and {services}")
            }
            Self::Hold(ports) => hold(f, ports),
            Self::CheckPortsFree { ports, .. } => write!(f, "check that no other process has {}", List(ports)),
            Self::Release(ports) => write!(f, "release {}", List(ports)),
            Self::ForgetFlows(flows) => write!(f, "delete the conntrack entries {}", List(flows)),
            Self::Resolv { netns, now: Some(_), .. } => write!(f, "write /etc/netns/{netns}/resolv.conf"),
            Self::Resolv { netns, now: None, .. } => write!(f, "remove /etc/netns/{netns}/resolv.conf"),
        }
    }
}

fn gateways(routes: &[DefaultRoute]) -> Vec<String> {
    routes.iter().map(|route| format!("{} over {}", route.gateway, route.ifname)).collect()
}

fn add_shim(f: &mut fmt::Formatter<'_>, shim: &ShimLink) -> fmt::Result {
    let ShimLink { name, parent, mtu, addresses, .. } = shim;
    write!(f, "add interface {name} on {parent} with {} and MTU {mtu}", List(addresses))
}

fn changed(f: &mut fmt::Formatter<'_>, what: &str, remove: &BTreeSet<IpAddr>, add: &BTreeSet<IpAddr>) -> fmt::Result {
    let (old, new): (Vec<_>, Vec<_>) = (remove.iter().collect(), add.iter().collect());
    write!(f, "{what}: remove [{}], add [{}]", List(&old), List(&new))
}

fn elements(f: &mut fmt::Formatter<'_>, remove: &[Element], add: &[Element]) -> fmt::Result {
    f.write_str("firewall:")?;
    if !remove.is_empty() {
        write!(f, " remove {}", List(remove))?;
    }
    let and = if remove.is_empty() || add.is_empty() { "" } else { ";" };
    if add.is_empty() { Ok(()) } else { write!(f, "{and} add {}", List(add)) }
}

fn hold(f: &mut fmt::Formatter<'_>, ports: &[HostPorts]) -> fmt::Result {
    let (bound, watched): (Vec<HostPorts>, Vec<HostPorts>) = ports.iter().partition(|ports| ports.single().is_some());
    if !bound.is_empty() {
        write!(f, "bind {}", List(&bound))?;
    }
    let and = if bound.is_empty() || watched.is_empty() { "" } else { "; " };
    if watched.is_empty() { Ok(()) } else { write!(f, "{and}check and watch {}", List(&watched)) }
}

/// The interface that is deleted: its host end, or it itself.
fn deleted(link: &EndpointLink) -> String {
    match &link.kind {
        LinkKind::Veth(pair) => pair.host_ifname.to_string(),
        LinkKind::Stacked(_) => format!("{} in {}", link.ifname, link.container),
    }
}

fn attach(f: &mut fmt::Formatter<'_>, link: &EndpointLink) -> fmt::Result {
    let EndpointLink { ifname, container, mac, mtu, addresses, default_gateways, kind, .. } = link;
    write!(f, "add interface {ifname} in {container}, ")?;
    match kind {
        LinkKind::Veth(VethPair { bridge, host_ifname, .. }) => {
            write!(f, "a veth pair with {host_ifname} on bridge {bridge}")?;
        }
        LinkKind::Stacked(StackedLink { parent, mode, .. }) => write!(f, "{mode} on {parent}")?,
    }
    write!(f, ": MAC {mac}, MTU {mtu}, addresses [{}]", List(addresses))?;
    if default_gateways.is_empty() { Ok(()) } else { write!(f, ", default route via {}", List(default_gateways)) }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", std::net::SocketAddr::new(self.address, self.port), self.protocol)
    }
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(ip) => write!(f, "{ip}:{}/{}", self.ports, self.protocol),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}/{}", self.ports, self.protocol),
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(port) => write!(f, "to {port}"),
            Self::Of(address) => write!(f, "of {address}"),
            Self::Denied(_) => f.write_str("that policies deny"),
            Self::Through(through) => {
                let Through { family: _, address, protocol, port, member } = through;
                f.write_str("through")?;
                address.iter().try_for_each(|address| write!(f, " {address}"))?;
                port.iter().try_for_each(|port| write!(f, " port {port}"))?;
                protocol.iter().try_for_each(|protocol| write!(f, " {protocol}"))?;
                member.iter().try_for_each(|member| write!(f, " to {member}"))
            }
        }
    }
}

/// The address of the host, and a space; nothing for all of them.
fn at(host_ip: Option<IpAddr>) -> String {
    host_ip.map(|ip| format!("{ip} ")).unwrap_or_default()
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_ip, protocol, port, to, to_port } = self;
        write!(f, "{}{port}/{protocol} : {}", at(*host_ip), SocketAddr::new(*to, *to_port))
    }
}

impl fmt::Display for PublishedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host_ip, protocol, ports, to } = self;
        write!(f, "{}{ports}/{protocol} : {to}", at(*host_ip))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(name) => write!(f, "bridges {{ {name} }}"),
            Self::Direct(name) => write!(f, "direct {{ {name} }}"),
            Self::Internal(name) => write!(f, "internal {{ {name} }}"),
            Self::Leaving(name, verdict) => write!(f, "leaving {{ {name} : {verdict} }}"),
            Self::Entering(name, verdict) => write!(f, "entering {{ {name} : {verdict} }}"),
            Self::ToHost(name, verdict) => write!(f, "to_host {{ {name} : {verdict} }}"),
            Self::FromHost(name, verdict) => write!(f, "from_host {{ {name} : {verdict} }}"),
            Self::Within(from, to) => write!(f, "within {{ {from} . {to} }}"),
            Self::PairPort(pair) => write!(f, "policy {{ {pair} }}"),
            Self::Pair(pair) => write!(f, "policy {{ {pair} }}"),
            Self::SentPort(sent) => write!(f, "sent {{ {sent} }}"),
            Self::Sent(sent) => write!(f, "sent {{ {sent} }}"),
            Self::ReceivedPort(received) => write!(f, "received {{ {received} }}"),
            Self::Received(received) => write!(f, "received {{ {received} }}"),
            Self::Shut(address) | Self::ShutWithin(address) => write!(f, "shut {{ {address} }}"),
            Self::Policed(address) => write!(f, "policed {{ {address} }}"),
            Self::Receiver(subnet, address) => write!(f, "receivers {{ {subnet} . {address} }}"),
            Self::Egress(address) => write!(f, "egress {{ {address} }}"),
            Self::EgressMac(mac) => write!(f, "egress_macs {{ {mac} }}"),
            Self::EgressToPorts(to) => write!(f, "egress_to {{ {to} }}"),
            Self::EgressTo(to) => write!(f, "egress_to {{ {to} }}"),
            Self::PortsClosed(name) => write!(f, "ports_closed {{ {name} }}"),
            Self::Uplink(Family::V4, name) => write!(f, "uplinks4 {{ {name} }}"),
            Self::Uplink(Family::V6, name) => write!(f, "uplinks6 {{ {name} }}"),
            Self::Isolated(name) => write!(f, "isolated {{ {name} }}"),
            Self::Allowed(from, to) => write!(f, "allowed {{ {from} . {to} }}"),
            Self::Masquerade(subnet) => write!(f, "masquerade {{ {subnet} }}"),
            Self::Outbound(subnet, source) => write!(f, "outbound {{ {subnet} : {source} }}"),
            Self::Routed(name) => write!(f, "routed {{ {name} }}"),
            Self::Unprotected(name) => write!(f, "unprotected {{ {name} }}"),
            Self::Opened(to, protocol, ports) => write!(f, "opened {{ {to} {ports}/{protocol} }}"),
            Self::Hairpin(subnet) => write!(f, "hairpin {{ {subnet} }}"),
            Self::Publish(published) => write!(f, "publish {{ {published} }}"),
            Self::PublishRange(published) => write!(f, "publish {{ {published} }}"),
            Self::Strict(Family::V4, protocol, ports) => write!(f, "strict4 {{ {ports}/{protocol} }}"),
            Self::Strict(Family::V6, protocol, ports) => write!(f, "strict6 {{ {ports}/{protocol} }}"),
            Self::StrictAt(address, protocol, ports) => write!(f, "strict {{ {address} {ports}/{protocol} }}"),
            Self::StrictService(_, protocol, port) => write!(f, "service_strict {{ {port}/{protocol} }}"),
            Self::AskAt(NameServer { gateway, port }) => write!(f, "dns {{ {gateway} : {port} }}"),
            Self::AnswerFrom(NameServer { gateway, port }) => write!(f, "dns_from {{ {gateway} . {port} }}"),
            Self::Guarded(host_end) => write!(f, "guarded {{ {host_end} }}"),
            Self::Mac(host_end, mac) => write!(f, "macs {{ {host_end} . {mac} }}"),
            Self::Target(host_end, address) => write!(f, "targets6 {{ {host_end} . {address} }}"),
            Self::Source(host_end, address, Verdict::Accept) => write!(f, "sources {{ {host_end} . {address} }}"),
            Self::Source(host_end, address, verdict) => {
                write!(f, "sources {{ {host_end} . {address} : {verdict} }}")
            }
            Self::OwnVip(bridge, vip) => write!(f, "own_vips {{ {bridge} . {vip} }}"),
            Self::Vip(vip) => write!(f, "vips {{ {vip} }}"),
            Self::VipFrom(bridge, vip) => write!(f, "vip_from {{ {bridge} . {vip} }}"),
            Self::VipSlot(VipSlot { vip, slot, to, .. }) => write!(f, "vip slots {{ {vip} . {slot} : {to} }}"),
            Self::ServicePort(ServicePort { protocol, port, to_port, .. }) => {
                write!(f, "service_ports {{ {port}/{protocol} : {to_port} }}")
            }
            Self::PortSlot(PortSlot { protocol, port, slot, to, .. }) => {
                write!(f, "port slots {{ {port}/{protocol} . {slot} : {to} }}")
            }
        }
    }
}
