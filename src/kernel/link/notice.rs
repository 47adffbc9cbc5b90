//! Reads what a single rtnetlink notification is about.

use netlink_packet_core::NlasIterator;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use super::address;
use crate::kernel::netlink::socket::parsed;

/// `NETCONFA_FORWARDING` (linux/netconf.h).
const FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX`, and its value for the setting of the host. Each new interface sends its own, too.
const INTERFACE: u16 = 1;
const ALL_INTERFACES: i32 = -1;
/// `sizeof(struct netconfmsg)`, padded.
const CONFIGURATION_HEADER: usize = 4;

/// The interface of an address or route that was added or removed, unless the kernel manages it: link-local addresses,
/// and the routes to them and to multicast groups.
pub(super) fn concerned(kind: u16, payload: &[u8]) -> Option<u32> {
    match parsed(kind, payload)? {
        RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message) => {
            let AddressMessage { header, attributes, .. } = message;
            let is_local = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(ip) if address::link_local(*ip));
            (!attributes.iter().any(is_local)).then_some(header.index)
        }
        RouteNetlinkMessage::DelRoute(RouteMessage { attributes, .. }) => {
            let is_kernels = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(ip)) if ip.is_unicast_link_local() || ip.is_multicast());
            if attributes.iter().any(is_kernels) {
                return None;
            }
            attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        }
        _ => None,
    }
}

/// The interface of a `struct tcmsg` (linux/rtnetlink.h): a family, three bytes of padding, an int.
pub(super) fn index_after_family(payload: &[u8]) -> Option<u32> {
    payload.get(4..8)?.first_chunk().map(|index| u32::from_ne_bytes(*index))
}

/// Whether a `RTM_NEWNETCONF` is about forwarding: it was switched on or off.
pub(super) fn mentions_forwarding(payload: &[u8]) -> bool {
    let Some(attributes) = payload.get(CONFIGURATION_HEADER..) else { return false };
    let has = |kind: u16, value: Option<&[u8]>| {
        let mut all = NlasIterator::new(attributes).flatten();
        all.any(|attribute| attribute.kind() == kind && value.is_none_or(|value| attribute.value() == value))
    };
    has(FORWARDING, None) && has(INTERFACE, Some(&ALL_INTERFACES.to_ne_bytes()))
}
