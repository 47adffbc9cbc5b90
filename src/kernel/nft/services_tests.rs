//! The table of services on the real kernel: when it is there, and what many elements cost.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use super::Nft;
use super::tests::{every_kind, observe, set};
use crate::kernel::testing::throwaway::{attempt, in_netns, run};
use crate::logic::slots::{port_elements, vip_elements};
use crate::model::address::Family;
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::Structure;
use crate::model::publication::Protocol;

fn is_there() -> bool {
    attempt("nft list table inet netd_services").1
}

fn members(last: std::ops::Range<u8>) -> Vec<IpAddr> {
    last.map(|last| [10, 77, 0, last].into()).collect()
}

/// Without the element of the other table.
fn vip(number: u32, members: &[IpAddr]) -> Vec<Element> {
    let vip = IpAddr::from((0x0a64_0000 + number).to_be_bytes());
    let mut elements = vip_elements(vip, &"nd-net1".parse().unwrap(), false, members);
    elements.retain(|element| element.table() == Table::Services);
    elements
}

#[test]
fn the_table_is_there_from_the_first_service_to_the_last_one() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let port = port_elements((Protocol::Tcp, 80), 8080, false, &members(2..4), Family::V4);
        let first = vip(1, &members(2..5));
        assert_eq!(nft.observe().unwrap().services, Structure::Missing);
        nft.change(&[], &first).unwrap();
        nft.change(&[], &port).unwrap();
        assert_eq!(nft.observe().unwrap().services, Structure::Intact);
        assert_eq!(nft.observe().unwrap().elements, &set(&first) | &set(&port));
        nft.change(&first, &[]).unwrap();
        assert!(is_there());
        // Another daemon has made it, and this one has looked.
        let mut nft = Nft::new().unwrap();
        assert_eq!(nft.observe().unwrap().elements, set(&port));
        nft.change(&port, &[]).unwrap();
        assert!(!is_there(), "{}", run("nft list ruleset"));
        assert_eq!(nft.observe().unwrap().services, Structure::Missing);
        // The same by whole tables, and what is removed from a missing one is gone.
        nft.replace_table(Table::Services, &first).unwrap();
        assert_eq!(nft.observe().unwrap().elements, set(&first));
        run("nft delete table inet netd_services");
        nft.change(&first, &port).unwrap();
        assert_eq!(nft.observe().unwrap().elements, set(&port));
        nft.replace_table(Table::Services, &[]).unwrap();
        assert!(!is_there());
    });
}

#[test]
fn a_change_that_fails_leaves_no_service_behind() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        // The tables of its other elements are not there.
        let error = nft.change(&[], &every_kind()).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
        assert_eq!(run("nft list ruleset"), "");
        let (one, other) = (vip(1, &members(2..4)), vip(1, &members(4..6)));
        let beside = vip(2, &members(2..4));
        nft.change(&[], &one).unwrap();
        nft.change(&[], &[beside, other].concat()).unwrap_err();
        assert_eq!(nft.observe().unwrap().elements, set(&one), "slots that lead elsewhere are not taken silently");
    });
}

#[test]
fn more_elements_than_nft_loads_in_time_follow_the_structure() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        let all: Vec<Element> = (0..400).flat_map(|number| vip(number, &members(2..12))).collect();
        nft.replace_table(Table::Services, &all).unwrap();
        let firewall = nft.observe().unwrap();
        assert_eq!((firewall.services, firewall.elements.len()), (Structure::Intact, all.len()));
        nft.change(&all, &[]).unwrap();
        assert!(!is_there());
    });
}

#[test]
fn a_kernel_that_cannot_have_the_table_does_everything_else_and_says_so() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        nft.forgo(Table::Services);
        Table::ALL.into_iter().for_each(|table| nft.replace_table(table, &every_kind()).unwrap());
        let firewall = nft.observe().unwrap();
        assert!(firewall.no_services && !firewall.unguarded && !is_there());
        assert_eq!((firewall.services, firewall.elements), (Structure::Intact, set(&every_kind())), "no drift");
        nft.change(&every_kind(), &vip(1, &members(2..4))).unwrap();
        assert_eq!(observe(&mut nft).1, set(&vip(1, &members(2..4))));
        nft.change(&vip(1, &members(2..4)), &[]).unwrap();
        assert_eq!(observe(&mut nft), (Structure::Intact, BTreeSet::new()));
    });
}

/// `cargo test --release --lib -- --ignored --nocapture services_tests`
#[test]
#[ignore = "a measurement: run it in release"]
fn what_ten_thousand_services_cost() {
    in_netns(|| {
        let mut nft = Nft::new().unwrap();
        for (services, members_of_each) in [(5000, 10), (10_000, 2)] {
            let (some, last) = (members(2..2 + members_of_each), 2 + members_of_each);
            let timed = |what: &str, work: &mut dyn FnMut() -> usize| {
                let began = Instant::now();
                let count = work();
                println!("{services} services of {members_of_each}: {what}: {:?} ({count} elements)", began.elapsed());
            };
            let mut all = Vec::new();
            timed("assigned", &mut || {
                all = (0..services).flat_map(|number| vip(number, &some)).collect();
                all.len()
            });
            timed("loaded", &mut || {
                nft.replace_table(Table::Services, &all).unwrap();
                all.len()
            });
            timed("observed", &mut || nft.observe().unwrap().elements.len());
            timed("observed again", &mut || nft.observe().unwrap().elements.len());
            let replaced: Vec<IpAddr> = some[1..].iter().copied().chain(members(last..last + 1)).collect();
            let (before, after) = (set(&vip(7, &some)), set(&vip(7, &replaced)));
            let [remove, add]: [Vec<Element>; 2] =
                [&before - &after, &after - &before].map(|elements| elements.into_iter().collect());
            for _ in 0..3 {
                timed("one member replaced", &mut || {
                    nft.change(&remove, &add).unwrap();
                    add.len()
                });
                nft.change(&add, &remove).unwrap();
            }
            timed("one service added", &mut || {
                let elements = vip(services + 1, &some);
                nft.change(&[], &elements).unwrap();
                elements.len()
            });
            timed("one service removed", &mut || {
                let elements = vip(services + 1, &some);
                nft.change(&elements, &[]).unwrap();
                elements.len()
            });
            timed("all added by one transaction", &mut || {
                nft.replace_table(Table::Services, &[]).unwrap();
                nft.change(&[], &all).unwrap();
                all.len()
            });
            nft.replace_table(Table::Services, &[]).unwrap();
        }
    });
}
