//! The slots of services: which member each of them leads to, and the firewall elements of that.
//!
//! Slots are assigned by rendezvous hashing with bounded loads: every slot prefers the members in an order of its own,
//! every member the slots likewise, and a member takes no more than its share. The result depends on the set of members
//! only, so it is the same on every host, after every restart and in every version; and when a member comes or goes, few
//! other slots move. The hash is written out here for that reason.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::IpAddr;

use crate::model::address::Family;
use crate::model::host::element::{Element, PortSlot, ServicePort, Slots, VipSlot};
use crate::model::names::IfName;
use crate::model::publication::Protocol;

/// The member of each slot; empty if there are no members. The same key and members give the same slots, in whatever order
/// the members are, and whether or not one is named twice.
pub fn assign(key: &[u8], members: &[IpAddr]) -> (Slots, Vec<IpAddr>) {
    let members: Vec<IpAddr> = members.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let slots = Slots::of(members.len());
    if members.is_empty() {
        return (slots, Vec::new());
    }
    let key = hash(key);
    let seeds: Vec<u64> = members.iter().map(|member| mix(key ^ hash(&octets(*member)))).collect();
    let of_slot = preferences(slots, &shares(slots, &seeds), &seeds);
    (slots, of_slot.into_iter().filter_map(|member| members.get(member).copied()).collect())
}

/// The elements of a virtual address that the containers on `bridge` use. Members of the other family do not count.
pub fn vip_elements(vip: IpAddr, bridge: &IfName, affinity: bool, members: &[IpAddr]) -> Vec<Element> {
    let (slots, to) = assign(&octets(vip), &of(Family::of(vip), members));
    let fixed = [Element::Vip(vip), Element::VipFrom(bridge.clone(), vip), Element::OwnVip(bridge.clone(), vip)];
    let slot = |(slot, to)| Element::VipSlot(VipSlot { vip, slots, affinity, slot, to });
    fixed.into_iter().chain((0..).zip(to).map(slot)).collect()
}

/// The elements of a published port in one family. Members of the other family do not count.
pub fn port_elements(
    (protocol, port): (Protocol, u16),
    to_port: u16,
    affinity: bool,
    members: &[IpAddr],
    family: Family,
) -> Vec<Element> {
    let key = [&[protocol.number()], port.to_be_bytes().as_slice()].concat();
    let (slots, to) = assign(&key, &of(family, members));
    let fixed = Element::ServicePort(ServicePort { family, protocol, port, to_port });
    let slot = |(slot, to)| Element::PortSlot(PortSlot { protocol, port, slots, affinity, slot, to });
    std::iter::once(fixed).chain((0..).zip(to).map(slot)).collect()
}

fn of(family: Family, members: &[IpAddr]) -> Vec<IpAddr> {
    members.iter().copied().filter(|member| Family::of(*member) == family).collect()
}

/// How many slots each member takes: all the same number, and some of them, by their hash, one more.
fn shares(slots: Slots, seeds: &[u64]) -> Vec<usize> {
    let all = usize::from(slots.count());
    let (share, rest) = (all / seeds.len(), all % seeds.len());
    let mut order: Vec<usize> = (0..seeds.len()).collect();
    order.sort_by_key(|member| (Reverse(seeds[*member]), *member));
    let mut shares = vec![share; seeds.len()];
    order.iter().take(rest).for_each(|member| shares[*member] += 1);
    shares
}

/// How much a slot and a member want each other. The member's number makes it distinct.
type Score = (u64, usize);

/// The member of each slot. Each slot asks the members in its order of preference; a member that has its share gives up the
/// slot that it wants least. Whichever slot asks first, the result is the same: there is one stable matching.
fn preferences(slots: Slots, shares: &[usize], seeds: &[u64]) -> Vec<usize> {
    let score = |slot: u16, member: usize| (mix(seeds[member].wrapping_add(u64::from(slot))), member);
    let mut taken: Vec<BinaryHeap<Reverse<(Score, u16)>>> = vec![BinaryHeap::new(); seeds.len()];
    // A slot, and the score of the last member that refused it.
    let mut asking: Vec<(u16, Option<Score>)> = (0..slots.count()).map(|slot| (slot, None)).collect();
    while let Some((slot, refused)) = asking.pop() {
        let scores = (0..seeds.len()).map(|member| score(slot, member));
        // The shares add up to the number of slots, so a slot is not refused by all.
        let Some(best) = scores.filter(|score| refused.is_none_or(|refused| *score < refused)).max() else { continue };
        let of_member = &mut taken[best.1];
        of_member.push(Reverse((best, slot)));
        if of_member.len() > shares[best.1]
            && let Some(Reverse((score, slot))) = of_member.pop()
        {
            asking.push((slot, Some(score)));
        }
    }
    let mut of_slot = vec![0; usize::from(slots.count())];
    for (member, slots) in taken.into_iter().enumerate() {
        slots.into_iter().for_each(|Reverse((_, slot))| of_slot[usize::from(slot)] = member);
    }
    of_slot
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The output function of SplitMix64: similar numbers become unrelated ones.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
