//! The messages about VLANs, compared with those of iproute2, and what is read from the kernel's.

use netlink_packet_core::Emitable as _;

use super::*;

/// What a request says, without netlink's header.
fn bytes(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

/// `AF_BRIDGE`, the index, and the list of VLANs, each with its flags, as `bridge vlan` of iproute2 sends it
/// (`strace -e trace=sendmsg bridge vlan del dev v0 vid 1-9`).
fn as_bridge_sends_it(index: u32, vlans: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = vec![7, 0, 0, 0];
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0; 8]);
    let length = u16::try_from(4 + 8 * vlans.len()).unwrap();
    bytes.extend([length, 26].map(u16::to_ne_bytes).concat());
    for (flags, vid) in vlans {
        bytes.extend([8, 2, *flags, *vid].map(u16::to_ne_bytes).concat());
    }
    bytes
}

const PVID_UNTAGGED: u16 = 6;
const BEGIN: u16 = 8;
const END: u16 = 16;

#[test]
fn the_requests_are_those_of_iproute2() {
    for (vlan, others) in [
        (10, &[(BEGIN, 1), (END, 9), (BEGIN, 11), (END, 4094)][..]),
        (1, &[(BEGIN, 2), (END, 4094)]),
        (2, &[(0, 1), (BEGIN, 3), (END, 4094)]),
        (4094, &[(BEGIN, 1), (END, 4093)]),
    ] {
        let [delete, add] = messages(7, vlan.try_into().unwrap());
        assert!(matches!((&delete, &add), (RouteNetlinkMessage::DelLink(_), RouteNetlinkMessage::SetLink(_))));
        assert_eq!(bytes(&delete), as_bridge_sends_it(7, others), "VLAN {vlan}");
        assert_eq!(bytes(&add), as_bridge_sends_it(7, &[(PVID_UNTAGGED, vlan)]), "VLAN {vlan}");
    }
}

#[test]
fn a_port_is_kept_in_a_vlan_that_is_its_only_one_and_without_a_tag() {
    let vlan = |flags, vid| of(vid, Flags::from_bits_retain(flags));
    for (vlans, kept) in [
        (vec![], None),
        (vec![vlan(PVID_UNTAGGED, 10)], Some(10)),
        (vec![vlan(PVID_UNTAGGED, 10), vlan(0, 20)], None),
        (vec![vlan(PVID_UNTAGGED | BEGIN, 10), vlan(PVID_UNTAGGED | END, 12)], None),
        (vec![vlan(0, 10)], None),
    ] {
        let seen = kept_in(&message(7, vlans.clone()));
        assert_eq!(seen.map(VlanId::get), kept, "{vlans:?}");
    }
}
