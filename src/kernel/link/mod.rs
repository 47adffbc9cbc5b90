//! Links: the kernel's list, and their deletion, many at once by link group.

pub mod address;
pub mod bridge;
pub(super) mod changes;
pub mod container;
pub mod container_route;
pub mod inner;
pub mod inspect;
pub mod monitor;
pub mod neighbour;
mod notice;
pub mod parent;
pub mod route;
pub mod shim;
pub mod stacked;
pub mod stand_in;
pub mod trace;
pub mod veth;
pub mod vlan;

use std::fs::File;
use std::os::fd::AsRawFd as _;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::KernelError;
use super::netlink::socket::{Netlink, NetlinkError, Outcome, Request, failed};
use crate::model::address::Mac;
use crate::model::host::observed::ObservedKind;
use crate::model::names::IfName;

/// The link group (`IFLA_GROUP`, `ip link show group 28260`) of every link that netd has made: "nd".
pub const LINK_GROUP: u32 = 0x6e64;
/// The group of links that are about to be deleted together: "ne".
pub const DELETE_GROUP: u32 = 0x6e65;

/// The group of links that are being made: "nf". A killed daemon leaves its unfinished links in it.
pub const UNFINISHED_GROUP: u32 = 0x6e66;

const LOOK: &str = "see `ip -d link` and `dmesg`";

/// The index of the interface with that name in the calling thread's namespace; `None` if there is none.
pub fn index_of(name: &IfName) -> Option<i32> {
    if_nametoindex(name.as_str()).ok().and_then(|index| i32::try_from(index).ok())
}

/// A link of the host's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// `ifindex`.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Its kind.
    pub kind: ObservedKind,
    /// Link group.
    pub group: u32,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Bridge port isolation.
    pub isolated: bool,
    /// For a bridge: whether it tells VLANs apart (`IFLA_BR_VLAN_FILTERING`); `None` if the kernel cannot, which sends no
    /// `IFLA_BR_VLAN_DEFAULT_PVID` then (`br_fill_info`, net/bridge/br_netlink.c).
    pub filters_vlans: Option<bool>,
    /// IPv6 is enabled on it.
    pub ipv6: bool,
    /// `None` if it has no address of six bytes.
    pub mac: Option<Mac>,
    /// Index of the other end of a veth pair (`IFLA_LINK`).
    pub peer: Option<u32>,
    /// The namespace of the other end, as this end's namespace numbers it (`IFLA_LINK_NETNSID`); `None` if both ends
    /// are in the same one.
    pub peer_netns: Option<i32>,
}

impl Link {
    /// Whether netd made the link.
    pub fn ours(&self) -> bool {
        ours(self.group)
    }

    /// Reads the relevant attributes of the kernel's message.
    pub fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: ObservedKind::Hardware,
            group: 0,
            alias: None,
            master: None,
            up: message.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            isolated: false,
            filters_vlans: None,
            ipv6: false,
            mac: None,
            peer: None,
            peer_netns: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Controller(master) => link.master = Some(*master),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().ok().and_then(Mac::from_bytes);
                }
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = Some(*id),
                LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| link.read_info(info)),
                LinkAttribute::AfSpecUnspec(families) => link.ipv6 = families.iter().any(enables_ipv6),
                _ => {}
            }
        }
        link
    }

    fn read_info(&mut self, info: &LinkInfo) {
        match info {
            LinkInfo::Kind(kind) => self.kind = observed_kind(kind),
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                self.isolated = port.contains(&InfoBridgePort::Isolated(true));
            }
            LinkInfo::Data(InfoData::Bridge(data)) => {
                let knows_vlans = data.iter().any(|one| matches!(one, InfoBridge::VlanDefaultPvid(_)));
                self.filters_vlans = knows_vlans.then(|| data.contains(&InfoBridge::VlanFiltering(true)));
            }
            _ => {}
        }
    }
}

fn enables_ipv6(family: &AfSpecUnspec) -> bool {
    let AfSpecUnspec::Inet6(parts) = family else { return false };
    parts.iter().any(|part| matches!(part, AfSpecInet6::DevConf(settings) if settings.disable_ipv6 == 0))
}

fn observed_kind(kind: &InfoKind) -> ObservedKind {
    match kind {
        InfoKind::Bridge => ObservedKind::Bridge,
        InfoKind::Veth => ObservedKind::Veth,
        InfoKind::Ifb => ObservedKind::Ifb,
        InfoKind::Tun => ObservedKind::Tun,
        InfoKind::Netkit => ObservedKind::Netkit,
        InfoKind::MacVlan => ObservedKind::Macvlan,
        other => ObservedKind::Other(other.to_string()),
    }
}

/// Whether the group shows that netd made the link.
pub fn ours(group: u32) -> bool {
    matches!(group, LINK_GROUP | DELETE_GROUP | UNFINISHED_GROUP)
}

/// Requests a link without its counters.
fn get_request(link: LinkMessageBuilder<LinkUnspec>) -> Request {
    let link = link.append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])).build();
    Request::plain(RouteNetlinkMessage::GetLink(link))
}

fn read(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(Link::read(link)),
        _ => None,
    }
}

fn found(outcome: Outcome) -> Result<Option<Link>, NetlinkError> {
    match outcome {
        Ok(messages) => Ok(messages.iter().find_map(read)),
        Err(error) if error.errno == libc::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}

/// The link with that name.
pub fn get(netlink: &mut Netlink, name: &IfName) -> Result<Option<Link>, KernelError> {
    found(netlink.one(get_request(LinkUnspec::new_with_name(name.as_str())))).map_err(failed(
        "look up interface",
        name,
        LOOK,
    ))
}

/// The link with that index.
pub fn get_by_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, KernelError> {
    let outcome = netlink.one(get_request(LinkUnspec::new_with_index(index)));
    found(outcome).map_err(failed("look up interface", format!("number {index}"), LOOK))
}

/// The number that the socket's namespace has assigned to another one; `None` if it has none.
pub fn netns_number(netlink: &mut Netlink, namespace: &File) -> Result<Option<i32>, KernelError> {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(namespace.as_raw_fd().unsigned_abs()));
    let answer = netlink.one(Request::plain(RouteNetlinkMessage::GetNsId(message)));
    let messages = answer.map_err(failed("look up", "the number of a namespace", "see `ip netns list-id`"))?;
    let numbers = messages.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewNsId(message) => Some(&message.attributes),
        _ => None,
    });
    // -1: no number is assigned (`NETNSA_NSID_NOT_ASSIGNED`, linux/net_namespace.h).
    Ok(numbers.flatten().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    }))
}

/// Renames a link.
pub fn rename(netlink: &mut Netlink, from: &IfName, to: &IfName) -> Result<(), KernelError> {
    let index = index(from)?;
    let change = || LinkUnspec::new_with_index(index);
    let set = |link: LinkMessageBuilder<LinkUnspec>| Request::plain(RouteNetlinkMessage::SetLink(link.build()));
    let renamed = match netlink.one(set(change().name(to.as_str()))) {
        // Before Linux 6.2 a link that is up keeps its name.
        Err(error) if error.errno == libc::EBUSY => {
            netlink.all(&[set(change().down()), set(change().name(to.as_str())), set(change().up())])
        }
        outcome => outcome.map(drop),
    };
    renamed.map_err(failed("rename interface", format!("{from} to {to}"), LOOK))
}

/// Every link.
pub fn list(netlink: &mut Netlink) -> Result<Vec<Link>, KernelError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let links = netlink.dump(&RouteNetlinkMessage::GetLink(message), |message| read(&message));
    links.map_err(failed("list", "interfaces", LOOK))
}

/// The index of an interface in the calling thread's namespace.
pub fn index(name: &IfName) -> Result<u32, KernelError> {
    if_nametoindex(name.as_str()).map_err(failed("look up interface", name, "see `ip link`"))
}

/// Deletes those links with these names that are netd's; missing links are no error. Continues after an error and
/// reports the first one.
pub fn delete(netlink: &mut Netlink, names: &[&IfName]) -> Result<(), KernelError> {
    let on = || names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let requests: Vec<Request> =
        names.iter().map(|name| get_request(LinkUnspec::new_with_name(name.as_str()))).collect();
    let outcomes = netlink.send(&requests).map_err(failed("look up interfaces", on(), LOOK))?;
    let (mut doomed, mut first_error) = (Vec::new(), None);
    for outcome in outcomes {
        match found(outcome) {
            Ok(link) => doomed.extend(link.filter(Link::ours).map(|link| link.index)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let deleted = match doomed.as_slice() {
        [] => Ok(()),
        [one] => delete_each(netlink, &[*one]),
        many => delete_group(netlink, many),
    };
    first_error.map_or(deleted, Err).map_err(failed("delete", on(), LOOK))
}

/// One deletion for all: the kernel then waits (21 ms) once for all of them instead of once for each.
fn delete_group(netlink: &mut Netlink, indexes: &[u32]) -> Result<(), NetlinkError> {
    let doom = |index: &u32| {
        let link = LinkUnspec::new_with_index(*index).link_group(DELETE_GROUP).build();
        Request::plain(RouteNetlinkMessage::SetLink(link))
    };
    let moved = gone_is_fine(netlink.send(&indexes.iter().map(doom).collect::<Vec<_>>())?);
    let group = LinkMessageBuilder::<LinkUnspec>::new().link_group(DELETE_GROUP).build();
    let deleted = gone_is_fine(vec![netlink.one(Request::plain(RouteNetlinkMessage::DelLink(group)))]);
    // One link that the kernel refuses to delete stops the whole group: then each is deleted separately.
    if moved.is_ok() && deleted.is_ok() { Ok(()) } else { delete_each(netlink, indexes) }
}

fn delete_each(netlink: &mut Netlink, indexes: &[u32]) -> Result<(), NetlinkError> {
    let delete = |index: &u32| Request::plain(RouteNetlinkMessage::DelLink(LinkUnspec::new_with_index(*index).build()));
    gone_is_fine(netlink.send(&indexes.iter().map(delete).collect::<Vec<_>>())?)
}

fn gone_is_fine(outcomes: Vec<Outcome>) -> Result<(), NetlinkError> {
    outcomes.into_iter().filter_map(Result::err).find(|error| error.errno != libc::ENODEV).map_or(Ok(()), Err)
}
