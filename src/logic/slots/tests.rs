//! What the assignment of slots promises.

use std::collections::BTreeMap;
use std::time::Instant;

use super::*;

fn members(count: u8) -> Vec<IpAddr> {
    (2..2 + u16::from(count)).map(|host| IpAddr::from([10, 77, (host >> 8) as u8, host as u8])).collect()
}

fn loads(of_slot: &[IpAddr]) -> BTreeMap<IpAddr, usize> {
    let mut loads = BTreeMap::new();
    of_slot.iter().for_each(|member| *loads.entry(*member).or_default() += 1);
    loads
}

/// Hosts of a cluster compute the slots each for themselves, with different versions of netd: none of this may change.
#[test]
fn slots_are_the_same_on_every_host_and_in_every_version() {
    let (slots, to) = assign(b"web", &members(2));
    let last = |to: &[IpAddr]| to.iter().map(|to| to.to_string().rsplit('.').next().unwrap().to_owned()).collect();
    let last: Vec<String> = last(&to);
    assert_eq!((slots, last.join(" ").as_str()), (Slots::Few, "2 2 3 2 3 3 3 2"));
    let sum = |to: Vec<IpAddr>| to.iter().zip(1u64..).fold(0u64, |sum, (to, at)| mix(sum ^ hash(&octets(*to)) ^ at));
    assert_eq!(sum(assign(b"web", &members(10)).1), 2_152_660_750_444_227_123);
    let v6: Vec<IpAddr> = (2..40u16).map(|host| [0xfd00, 0, 0, 0, 0, 0, 0, host].into()).collect();
    assert_eq!(sum(assign(&[6, 0x1f, 0x90], &v6).1), 17_598_262_832_901_462_524);
}

#[test]
fn the_order_of_the_members_and_naming_one_twice_do_not_matter() {
    let sorted = members(7);
    let mut other: Vec<IpAddr> = sorted.iter().rev().copied().collect();
    other.push(sorted[3]);
    assert_eq!(assign(b"web", &sorted), assign(b"web", &other));
    assert_ne!(assign(b"web", &sorted), assign(b"mail", &sorted), "another service, other slots");
}

#[test]
fn every_member_has_its_share() {
    for count in (1..=20).chain([64, 255]) {
        let (slots, to) = assign(b"web", &members(count));
        let (all, count) = (usize::from(slots.count()), usize::from(count));
        let loads = loads(&to);
        assert_eq!((to.len(), loads.len()), (all, count));
        assert!(loads.values().all(|load| (all / count..=all.div_ceil(count)).contains(load)), "{loads:?}");
    }
    assert_eq!(assign(b"web", &[]), (Slots::Few, Vec::new()));
    let many: Vec<IpAddr> = (0..2000u32).map(|host| IpAddr::from((0x0a4d_0000 | host).to_be_bytes())).collect();
    let (slots, to) = assign(b"web", &many);
    assert_eq!((slots, to.len()), (Slots::Many, 1024));
    assert!(loads(&to).values().all(|load| *load == 1));
}

/// What moves beyond the share of the member that changed are connections' slots that go elsewhere for no reason.
#[test]
fn few_slots_move_when_one_member_is_replaced_comes_or_goes() {
    // With several hundred members a share is five slots, and more of them are in the way of each other.
    for (count, bound) in [(2, 1.5), (3, 2.0), (5, 2.0), (10, 2.5), (15, 3.0), (16, 3.0), (40, 3.0), (200, 5.5)] {
        let (mut replaced, mut removed, services) = (0, 0, 40u32);
        let all = members(count);
        for service in 0..services {
            let key = service.to_be_bytes();
            let changed = |other: &[IpAddr]| {
                let (before, after) = (assign(&key, &all), assign(&key, other));
                assert_eq!(before.0, after.0);
                before.1.iter().zip(&after.1).filter(|(before, after)| before != after).count()
            };
            let at = service as usize % all.len();
            let mut other = all.clone();
            other[at] = "192.0.2.1".parse().unwrap();
            replaced += changed(&other);
            other.remove(at);
            if Slots::of(other.len()) == Slots::of(all.len()) {
                removed += changed(&other);
            }
        }
        let share = f64::from(Slots::of(all.len()).count()) / f64::from(count);
        let [replaced, removed] = [replaced, removed].map(|moved| moved as f64 / f64::from(services) / share);
        println!("{count} members, moved in shares of one: {replaced:.2} when replaced, {removed:.2} when removed");
        // Of a replacement, one share is what the old member had, and one is what the new one has.
        assert!(replaced <= bound && removed <= bound, "{count} members: {replaced:.2}, {removed:.2} shares moved");
    }
}

#[test]
fn elements_are_of_the_family_of_the_address() {
    let both: Vec<IpAddr> = ["10.77.0.2", "fd00::2", "10.77.0.3"].map(|ip| ip.parse().unwrap()).into();
    let bridge: IfName = "nd-net1".parse().unwrap();
    let elements = vip_elements("10.77.0.9".parse().unwrap(), &bridge, false, &both);
    assert_eq!(elements.len(), 3 + 8);
    let elements = vip_elements("fd00::9".parse().unwrap(), &bridge, true, &both);
    let all_v6 = |to: IpAddr| to == both[1];
    assert!(elements.iter().all(|element| match element {
        Element::VipSlot(slot) => slot.affinity && all_v6(slot.to),
        _ => true,
    }));
    let elements = port_elements((Protocol::Udp, 53), 5353, false, &both, Family::V6);
    assert_eq!(elements.len(), 1 + 8);
    // Without members the port is still one that refuses.
    assert_eq!(port_elements((Protocol::Udp, 53), 5353, false, &[], Family::V4).len(), 1);
}

#[test]
#[ignore = "a measurement: run it in release"]
fn how_long_an_assignment_takes() {
    for (count, rounds) in [(2, 10_000), (10, 10_000), (16, 10_000), (40, 1000), (255, 100)] {
        let all = members(count);
        let began = Instant::now();
        for round in 0..rounds {
            std::hint::black_box(assign(&u32::to_be_bytes(round), &all));
        }
        println!("{count} members: {:?}", began.elapsed() / rounds);
    }
}
