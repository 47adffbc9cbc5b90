//! Interprets rtnetlink notifications: which of them show that another program changed what netd made.
//!
//! A link of netd is *settled* at the end of the first window that ends [`MAKING`] or longer after its first notification:
//! what happens to it before is how netd makes it, and what happens to it later is the work of another program, or a
//! repair by netd. The engine looks at what is reported, so a report too many costs one look and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use netlink_packet_core::Nla as _;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkProtoInfoBridge};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::container::LOOPBACK;
use super::inner::Followed;
use super::notice::{concerned, index_after_family, mentions_forwarding};
use super::{LINK_GROUP, Link, vlan};
use crate::base::monotonic;
use crate::kernel::KernelEvent;
use crate::kernel::netlink::socket::{Parts, parsed};
use crate::model::address::Mac;
use crate::model::driver::VlanId;
use crate::model::host::observed::ObservedKind;
use crate::model::names::IfName;

/// Message types (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const DEL_ROUTE: u16 = 25;
/// `RTM_NEWQDISC`, `RTM_DELQDISC`, `RTM_NEWTFILTER`, `RTM_DELTFILTER`.
const LIMITS: [u16; 4] = [36, 37, 44, 45];
const NEW_CONFIGURATION: u16 = 80;
/// The types that [`Changes::hear_host`] reads.
pub(in crate::kernel) const HOST_TYPES: [u16; 10] = [
    NEW_LINK,
    DEL_LINK,
    NEW_ADDRESS,
    DEL_ADDRESS,
    DEL_ROUTE,
    LIMITS[0],
    LIMITS[1],
    LIMITS[2],
    LIMITS[3],
    NEW_CONFIGURATION,
];
/// The types that [`Changes::hear_container`] reads: what a container adds concerns nobody.
pub(in crate::kernel) const CONTAINER_TYPES: [u16; 4] = [NEW_LINK, DEL_LINK, DEL_ADDRESS, DEL_ROUTE];
/// `IFLA_BRPORT_MODE` (hairpin) and `IFLA_BRPORT_ISOLATED` (linux/if_link.h).
const PORT_HAIRPIN: u16 = 4;
const PORT_ISOLATED: u16 = 33;

/// netd makes an endpoint within this time, unless the machine is very busy.
const MAKING: Duration = Duration::from_millis(20);

/// What a link's messages say about it, as far as netd sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    name: String,
    group: u32,
    master: Option<u32>,
    up: bool,
    mtu: u32,
    mac: Option<Mac>,
}

/// A link of netd on the host.
#[derive(Debug)]
struct OwnLink {
    now: Shape,
    /// When its first message was read.
    since: Instant,
    /// At the end of the last window; `None` until the link is settled.
    settled: Option<Shape>,
    /// Hairpin mode, isolation and VLAN, once a message mentions them.
    port: Option<(bool, bool, Option<VlanId>)>,
    /// The other end: the number of its namespace, and its index there.
    peer: Option<(i32, u32)>,
    /// The other end, once a message mentions it.
    inside: Option<Shape>,
}

/// What was heard since the last window ended.
#[derive(Debug, Default)]
struct Window {
    /// Links of netd with a message.
    touched: BTreeSet<u32>,
    /// Host ends of containers in which something changed.
    containers: BTreeSet<u32>,
    /// Interfaces without another end about which something was heard.
    inner: BTreeSet<IfName>,
    /// Something of netd's on the host changed.
    host: bool,
    /// A pair of another program appeared or changed.
    pairs: bool,
    /// An interface of another program that is no pair appeared or changed, or the addresses of one.
    uplinks: bool,
}

/// The links of netd, and what changed about them.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Changes {
    links: HashMap<u32, OwnLink>,
    /// Name and bridge of the links of other programs, except pairs.
    others: HashMap<u32, (String, Option<u32>)>,
    /// The port id of the socket with which netd changes addresses, and changes and reads limits: the kernel sends a
    /// notification to everybody also when somebody reads them (`tc_get_qdisc`, net/sched/sch_api.c). A look at
    /// everything after each virtual address would cost more the more services there are.
    own: u32,
    /// The interfaces in containers that have no other end.
    followed: Followed,
    /// The host ends that lead to a namespace.
    by_netns: HashMap<i32, BTreeSet<u32>>,
    window: Window,
}

impl Changes {
    /// Knows these links, all settled. `own`: the port id of netd's socket.
    pub(in crate::kernel) fn of_settled(links: &[Link], own: u32, followed: Followed) -> Self {
        let mut changes = Self { own, followed, ..Self::default() };
        for link in links.iter().filter(|link| link.ours()) {
            changes.learn(link);
        }
        for link in changes.links.values_mut() {
            link.settled = Some(link.now.clone());
        }
        changes.window = Window::default();
        changes
    }

    /// Whether there is something to report at the end of the window.
    pub(in crate::kernel) fn is_pending(&self) -> bool {
        let Window { touched, containers, inner, host, pairs, uplinks } = &self.window;
        !touched.is_empty() || !containers.is_empty() || !inner.is_empty() || *host || *pairs || *uplinks
    }

    /// Reads a datagram of the host. Returns what must be reported at once.
    pub(in crate::kernel) fn hear_host(&mut self, datagram: &[u8]) -> Vec<KernelEvent> {
        let own = self.own;
        let parts = Parts(datagram).flatten();
        let is_own = |kind: u16| LIMITS.contains(&kind) || matches!(kind, NEW_ADDRESS | DEL_ADDRESS);
        let parts = parts.filter(|part| !(is_own(part.message_type()) && part.port_number() == own));
        parts.filter_map(|part| self.host(part.message_type(), part.payload())).collect()
    }

    /// Reads a datagram of the container's namespace with this number.
    pub(in crate::kernel) fn hear_container(&mut self, datagram: &[u8], number: i32) {
        let parts = || Parts(datagram).flatten();
        if self.by_netns.contains_key(&number) {
            parts().for_each(|part| self.inside(number, part.message_type(), part.payload()));
        }
        if !self.followed.within(number).is_empty() {
            parts().for_each(|part| self.without_end(number, part.message_type(), part.payload()));
        }
    }

    /// Notifications of containers were lost: something may have changed in each.
    pub(in crate::kernel) fn lost(&mut self) {
        self.window.containers.extend(self.by_netns.values().flatten());
        self.window.inner.extend(self.followed.all());
    }

    /// Ends the window, and returns what it reports.
    pub(in crate::kernel) fn settle(&mut self) -> Vec<KernelEvent> {
        let Window { touched, containers, inner, mut host, pairs, uplinks } = std::mem::take(&mut self.window);
        let now = monotonic::now();
        for index in touched {
            let Some(link) = self.links.get_mut(&index) else { continue };
            // Links in the other groups are being made or deleted.
            if link.now.group != LINK_GROUP && link.settled.is_none() {
                continue;
            }
            if link.settled.is_none() && now.duration_since(link.since) < MAKING {
                self.window.touched.insert(index);
                continue;
            }
            host |= match &link.settled {
                Some(before) => *before != link.now,
                None => !link.now.up,
            };
            link.settled = Some(link.now.clone());
        }
        let name = |index: &u32| self.links.get(index)?.now.name.parse().ok();
        let containers: BTreeSet<_> = containers.iter().filter_map(name).chain(inner).collect();
        let mut events = Vec::new();
        events.extend(host.then_some(KernelEvent::Changed));
        events.extend((!containers.is_empty()).then_some(KernelEvent::ContainersChanged(containers)));
        events.extend(pairs.then_some(KernelEvent::LinksChanged));
        events.extend(uplinks.then_some(KernelEvent::UplinksChanged));
        events
    }

    /// A message of the host's namespace.
    fn host(&mut self, kind: u16, payload: &[u8]) -> Option<KernelEvent> {
        match kind {
            NEW_LINK | DEL_LINK => match parsed(kind, payload)? {
                RouteNetlinkMessage::NewLink(message) if is_of_bridge(&message) => self.port(&message),
                RouteNetlinkMessage::NewLink(message) => {
                    let link = Link::read(&message);
                    if link.ours() || self.links.contains_key(&link.index) {
                        self.learn(&link);
                    } else if link.kind == ObservedKind::Veth {
                        self.window.pairs = true;
                    } else {
                        let now = (link.name, link.master);
                        self.window.uplinks |= self.others.insert(link.index, now.clone()) != Some(now);
                    }
                }
                RouteNetlinkMessage::DelLink(message) if !is_of_bridge(&message) => {
                    let link = Link::read(&message);
                    self.forget(link.index);
                    self.others.remove(&link.index);
                    let matters = link.ours() || matches!(link.kind, ObservedKind::Veth | ObservedKind::Bridge);
                    return matters.then(|| link.name.parse().ok().map(KernelEvent::LinkGone)).flatten();
                }
                _ => {}
            },
            NEW_ADDRESS | DEL_ADDRESS | DEL_ROUTE => {
                let index = concerned(kind, payload)?;
                self.window.host |= self.is_settled(index);
                self.window.uplinks |= kind != DEL_ROUTE && !self.links.contains_key(&index);
            }
            NEW_CONFIGURATION => self.window.host |= mentions_forwarding(payload) && !self.links.is_empty(),
            kind if LIMITS.contains(&kind) => {
                // Also while netd makes the link: its own socket is told apart.
                self.window.host |= index_after_family(payload).is_some_and(|index| self.links.contains_key(&index));
            }
            _ => {}
        }
        None
    }

    /// A message of a container's namespace.
    fn inside(&mut self, number: i32, kind: u16, payload: &[u8]) {
        let Some(ends) = self.by_netns.get(&number) else { return };
        let (index, new) = match kind {
            NEW_LINK => match parsed(kind, payload) {
                Some(RouteNetlinkMessage::NewLink(message)) if !is_of_bridge(&message) => {
                    (Some(message.header.index), Some(Shape::of(&Link::read(&message))))
                }
                _ => return,
            },
            DEL_ADDRESS | DEL_ROUTE => (concerned(kind, payload), None),
            _ => return,
        };
        for end in ends {
            let Some(link) = self.links.get_mut(end) else { continue };
            let is_settled = link.settled.is_some();
            // netd makes it with its MAC address; the next plugin of a runtime's chain may change it at once.
            let has_new_mac = match (&new, &link.inside) {
                (Some(now), Some(before)) => index == link.peer.map(|(_, index)| index) && now.mac != before.mac,
                _ => false,
            };
            let changed = match (&new, index) {
                (_, None) => false,
                (Some(shape), Some(LOOPBACK)) => !shape.up,
                (Some(shape), index) if index == link.peer.map(|(_, index)| index) => {
                    let changed = link.inside.as_ref() != Some(shape);
                    link.inside = Some(shape.clone());
                    changed || !shape.up
                }
                (Some(_), _) => false,
                (None, index) => index == link.peer.map(|(_, index)| index),
            };
            if (is_settled && changed) || has_new_mac {
                self.window.containers.insert(*end);
            }
        }
    }

    /// A message of a container's namespace with interfaces that have no other end.
    fn without_end(&mut self, number: i32, kind: u16, payload: &[u8]) {
        let index = match kind {
            NEW_LINK | DEL_LINK => match parsed(kind, payload) {
                Some(RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) => {
                    Some(message.header.index)
                }
                _ => None,
            },
            DEL_ADDRESS | DEL_ROUTE => concerned(kind, payload),
            _ => None,
        };
        match index {
            Some(LOOPBACK) => self.window.inner.extend(self.followed.within(number)),
            Some(index) => self.window.inner.extend(self.followed.at(number, index)),
            None => {}
        }
    }

    /// Notes what a message says about a link of netd.
    fn learn(&mut self, link: &Link) {
        let peer = link.peer_netns.zip(link.peer);
        let now = Shape::of(link);
        if let Some(known) = self.links.get_mut(&link.index) {
            known.now = now;
            let before = std::mem::replace(&mut known.peer, peer);
            self.move_peer(link.index, before, peer);
        } else {
            self.links.insert(
                link.index,
                OwnLink { now, since: monotonic::now(), settled: None, port: None, peer, inside: None },
            );
            self.move_peer(link.index, None, peer);
        }
        self.window.touched.insert(link.index);
    }

    fn move_peer(&mut self, index: u32, before: Option<(i32, u32)>, now: Option<(i32, u32)>) {
        if let Some((number, _)) = before.filter(|_| before != now)
            && let Some(ends) = self.by_netns.get_mut(&number)
        {
            ends.remove(&index);
            if ends.is_empty() {
                self.by_netns.remove(&number);
            }
        }
        if let Some((number, _)) = now {
            self.by_netns.entry(number).or_default().insert(index);
        }
    }

    fn forget(&mut self, index: u32) {
        if let Some(link) = self.links.remove(&index) {
            self.move_peer(index, link.peer, None);
        }
    }

    /// A message about a bridge port (`br_info_notify`, net/bridge/br_netlink.c).
    fn port(&mut self, message: &LinkMessage) {
        let Some(link) = self.links.get_mut(&message.header.index) else { return };
        let Some(port) = port_settings(message) else { return };
        let before = link.port.replace(port);
        self.window.host |= link.settled.is_some() && before != Some(port);
    }

    fn is_settled(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|link| link.settled.is_some())
    }
}

impl Shape {
    fn of(link: &Link) -> Self {
        let Link { name, group, master, up, mtu, mac, .. } = link.clone();
        Self { name, group, master, up, mtu, mac }
    }
}

fn is_of_bridge(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Bridge
}

/// Hairpin mode, isolation, and the VLAN that it is kept in.
fn port_settings(message: &LinkMessage) -> Option<(bool, bool, Option<VlanId>)> {
    let infos = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::ProtoInfoBridge(infos) => Some(infos),
        _ => None,
    })?;
    let flag = |kind: u16| {
        let mut found = infos.iter().filter_map(|info| match info {
            LinkProtoInfoBridge::Other(nla) if nla.kind() == kind => Some(nla),
            _ => None,
        });
        found.next().is_some_and(|nla| {
            let mut value = vec![0; nla.value_len()];
            nla.emit_value(&mut value);
            value.first().is_some_and(|byte| *byte != 0)
        })
    };
    Some((flag(PORT_HAIRPIN), flag(PORT_ISOLATED), vlan::kept_in(message)))
}
