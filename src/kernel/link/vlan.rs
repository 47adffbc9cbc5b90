//! The VLANs of bridge ports (`bridge vlan`): which one a port is kept in, and how it is kept there.
//!
//! Needs `CONFIG_BRIDGE_VLAN_FILTERING`, and a bridge with `vlan_filtering 1`.

use std::collections::HashMap;

use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags as Flags, LinkAttribute, LinkExtentMask, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::KernelError;
use crate::kernel::netlink::socket::{Netlink, Request, failed};
use crate::model::driver::VlanId;

const LOOK: &str = "see `bridge vlan show`";
/// What a port that is kept in one VLAN has there: what comes in without a tag is in it, and what goes out has none.
const ACCESS: Flags = Flags::Pvid.union(Flags::Untagged);

/// The requests that leave the port with this index in one VLAN only: without the others, which a bridge gives a new
/// port and another program may have added, then in this one. Deleting VLANs that the port is not in is no error
/// (`br_process_vlan_info`, net/bridge/br_netlink.c).
pub(super) fn keep_in(index: u32, vlan: VlanId) -> Vec<Request> {
    messages(index, vlan).into_iter().map(Request::plain).collect()
}

fn messages(index: u32, vlan: VlanId) -> [RouteNetlinkMessage; 2] {
    let ranges = [(VlanId::LEAST, vlan.get() - 1), (vlan.get() + 1, VlanId::MOST)];
    let others =
        ranges.into_iter().filter(|(first, last)| first <= last).flat_map(|(first, last)| match first == last {
            true => vec![of(first, Flags::empty())],
            false => vec![of(first, Flags::RangeBegin), of(last, Flags::RangeEnd)],
        });
    let delete = RouteNetlinkMessage::DelLink(message(index, others.collect()));
    let add = RouteNetlinkMessage::SetLink(message(index, vec![of(vlan.get(), ACCESS)]));
    [delete, add]
}

fn of(vid: u16, flags: Flags) -> AfSpecBridge {
    AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid })
}

/// Without `IFLA_BRIDGE_FLAGS` it is about the port of the bridge, not about the interface itself.
fn message(index: u32, vlans: Vec<AfSpecBridge>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(vlans));
    message
}

/// The VLAN in which the port of this message of a bridge is kept; `None` if it is in none or in several, or what it
/// sends there has a tag.
pub(super) fn kept_in(message: &LinkMessage) -> Option<VlanId> {
    let lists = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(list) => Some(list),
        _ => None,
    });
    let mut vlans = lists.flatten().filter_map(|one| match one {
        AfSpecBridge::VlanInfo(vlan) => Some(vlan),
        _ => None,
    });
    let only = vlans.next().filter(|vlan| vlan.flags == ACCESS)?;
    if vlans.next().is_some() {
        return None;
    }
    VlanId::try_from(only.vid).ok()
}

/// The ports that are kept in one VLAN, by their index.
pub(in crate::kernel) fn list(netlink: &mut Netlink) -> Result<HashMap<u32, VlanId>, KernelError> {
    let mut ask = LinkMessage::default();
    ask.header.interface_family = AddressFamily::Bridge;
    ask.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
    let ports = netlink.dump(&RouteNetlinkMessage::GetLink(ask), |message| match message {
        RouteNetlinkMessage::NewLink(port) => Some((port.header.index, kept_in(&port)?)),
        _ => None,
    });
    Ok(ports.map_err(failed("list", "VLANs of bridge ports", LOOK))?.into_iter().collect())
}

#[cfg(test)]
mod tests;
