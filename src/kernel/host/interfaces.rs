//! Where the interfaces of the host lead: out of it, or to containers and machines of other engines.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::asked_forwarding;
use crate::kernel::link::address::InterfaceAddress;
use crate::kernel::link::{Link, address, route};
use crate::kernel::netlink::socket::Netlink;
use crate::kernel::sysctl::Sysctl;
use crate::kernel::{KernelError, link};
use crate::model::host::observed::ObservedKind;
use crate::model::host::routing::Routing;
use crate::model::names::IfName;

/// Addresses that only a default route leads to; nothing is sent there.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111))];
/// Names that systemd gives the host's ends of pairs (systemd-nspawn(1)) and of taps (systemd-vmspawn(1)).
const OF_SYSTEMD: [&str; 2] = ["ve-", "vt-"];

/// The interfaces of the host.
#[derive(Debug)]
pub struct Interfaces {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// Indices of the interfaces of default routes.
    default: Vec<u32>,
    /// Indices of bridges, each with whether one of its ports leads to others than containers and machines.
    bridges: HashMap<u32, bool>,
    /// Indices of interfaces with an address, each with whether one is of a larger subnet than itself. Those that the
    /// kernel assigns itself do not count.
    addressed: HashMap<u32, bool>,
}

impl Interfaces {
    /// Lists them, in the calling thread's namespace.
    pub fn read(netlink: &mut Netlink) -> Result<Self, KernelError> {
        let (links, addresses) = (link::list(netlink)?, address::list(netlink, None)?);
        let default = OUTSIDE.into_iter().filter_map(|to| route::interface_towards(netlink, to)).collect();
        let of_bridge = |link: &&Link| link.kind == ObservedKind::Bridge;
        let mut bridges: HashMap<u32, bool> = links.iter().filter(of_bridge).map(|link| (link.index, false)).collect();
        for port in links.iter().filter(|link| !is_inner(link)) {
            if let Some(outside) = port.master.and_then(|master| bridges.get_mut(&master)) {
                *outside = true;
            }
        }
        let mut addressed = HashMap::new();
        for InterfaceAddress { index, address } in &addresses {
            if !address::link_local(address.ip()) {
                let is_host = address.prefix() == if address.is_ipv4() { 32 } else { 128 };
                *addressed.entry(*index).or_default() |= !is_host;
            }
        }
        Ok(Self { links, addresses, default, bridges, addressed })
    }

    /// The interfaces through which packets leave the host.
    pub fn ways(&self) -> Vec<IfName> {
        self.links.iter().filter(|link| self.is_way(link)).filter_map(name).collect()
    }

    /// Forwarding, and where the interfaces lead. `root`: the folder with the host's configuration, `/`.
    pub fn routing(&self, sysctl: &Sysctl, root: &Path) -> Result<Routing, KernelError> {
        let (uplinks, inner): (Vec<&Link>, Vec<&Link>) = self.links.iter().partition(|link| self.is_uplink(link));
        let names = |links: &[&Link], is_in: &dyn Fn(&Link) -> bool| -> BTreeSet<IfName> {
            links.iter().filter(|link| is_in(link)).filter_map(|link| name(link)).collect()
        };
        let is_bridge = |link: &Link| link.kind == ObservedKind::Bridge;
        let is_other = |link: &Link| {
            !link.ours() && !self.is_port(link) && (is_inner(link) || self.bridges.get(&link.index) == Some(&false))
        };
        Ok(Routing {
            on: sysctl.forwarding()?,
            asked: asked_forwarding::read(root),
            uplinks: names(&uplinks, &|_| true),
            bridges: names(&uplinks, &is_bridge),
            others: names(&inner, &is_other),
        })
    }

    fn is_way(&self, link: &Link) -> bool {
        if link.ours() || link.name == "lo" || self.is_port(link) {
            return false;
        }
        self.default.contains(&link.index)
            || match link.kind {
                // A bridge whose ports lead only to containers belongs to another engine.
                ObservedKind::Bridge => self.bridges.get(&link.index) == Some(&true),
                _ => !is_inner(link) || self.addressed.contains_key(&link.index),
            }
    }

    /// Whether it is a way that does not lead to one container or machine. Engines give the host's end of a pair an
    /// address for the container alone (CNI's `ptp`), and that of a tap one for the machine; a tunnel is no tap.
    fn is_uplink(&self, link: &Link) -> bool {
        let is_of_systemd = || OF_SYSTEMD.iter().any(|prefix| link.name.starts_with(prefix));
        self.is_way(link)
            && (self.default.contains(&link.index)
                || match link.kind {
                    ObservedKind::Veth | ObservedKind::Netkit => {
                        !is_of_systemd() && self.addressed.get(&link.index) == Some(&true)
                    }
                    ObservedKind::Tun => link.mac.is_none(),
                    _ => true,
                })
    }

    /// Whether it is a port of a bridge.
    fn is_port(&self, link: &Link) -> bool {
        link.master.is_some_and(|master| self.bridges.contains_key(&master))
    }
}

/// Whether it is of a kind that leads to containers and virtual machines of this host.
fn is_inner(link: &Link) -> bool {
    match link.kind {
        ObservedKind::Veth | ObservedKind::Tun | ObservedKind::Netkit => true,
        ObservedKind::Bridge
        | ObservedKind::Ifb
        | ObservedKind::Macvlan
        | ObservedKind::Other(_)
        | ObservedKind::Hardware => false,
    }
}

/// A name that contains `+` or `*` could match other interfaces too.
fn name(link: &Link) -> Option<IfName> {
    (!link.name.contains(['+', '*', '"', '\\'])).then(|| link.name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::lab::{Parked, in_own_netns, ip};

    #[test]
    fn uplinks_are_told_from_what_leads_to_containers_and_machines_of_other_engines() {
        in_own_netns(|| {
            let container = Parked::new();
            let pair = |name: &str, more: &str| {
                ip(&format!("link add {name} {more} type veth peer name {name}-c netns {}", container.path.display()));
            };
            // Networks of the host: cards, a tunnel, a bridge with a card, a nested host's network.
            ["eth0", "eth1", "eth2"].iter().for_each(|name| drop(ip(&format!("link add {name} type ifb"))));
            ip("link add br0 type bridge");
            ip("link set eth2 master br0");
            ip("tuntap add tun0 mode tun");
            ip("address add 10.8.0.6/32 dev tun0");
            pair("nested", "");
            ip("address add 192.0.2.2/24 dev nested");
            // Other engines.
            ip("link add docker0 type bridge");
            ip("address add 172.17.0.1/16 dev docker0");
            pair("port", "master docker0");
            ip("link add virbr0 type bridge");
            pair("ptp", "");
            ip("address add 10.22.0.1/32 dev ptp");
            pair("cali1", "");
            pair("ve-web", "");
            ip("address add 192.168.7.1/28 dev ve-web");
            ip("tuntap add tap0 mode tap");
            ip("address add 172.16.0.1/30 dev tap0");
            pair("vm-port", "master br0");
            // netd's own.
            ip("link add nd-net1 group 28260 type bridge");
            let sysctl = Sysctl::open();
            let read = || {
                let interfaces = Interfaces::read(&mut Netlink::open().unwrap()).unwrap();
                interfaces.routing(&sysctl, Path::new("/nowhere")).unwrap()
            };
            let names = |of: BTreeSet<IfName>| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let Routing { uplinks, bridges, others, on, asked } = read();
            assert_eq!(names(uplinks), "br0 eth0 eth1 nested tun0");
            assert_eq!(names(bridges), "br0");
            assert_eq!(names(others), "cali1 docker0 ptp tap0 ve-web virbr0");
            assert!(on.is_empty() && asked.is_empty());
            // A default route makes every interface an uplink.
            ip("link set ptp up");
            ip("route add default dev ptp");
            assert!(read().uplinks.contains(&"ptp".parse().unwrap()));
        });
    }
}
