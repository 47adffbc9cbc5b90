//! The description of the sets: both directions of the conversion.

use std::collections::BTreeSet;

use super::*;
use crate::logic::{firewall, samples};

/// A dump that lists half of a published port twice made repair replace the whole table.
#[test]
fn an_entry_that_is_listed_twice_is_one() {
    let (expected, _) = elements(samples::entries());
    let twice = samples::entries().into_iter().chain(samples::entries());
    assert_eq!(elements(twice), (expected, elements(samples::entries()).1));
}

#[test]
fn an_entry_of_every_set_becomes_an_element_and_the_same_entry_again() {
    let (elements, undecodable) = elements(samples::entries());
    let mut again: Vec<Entry> = elements.iter().flat_map(entries).collect();
    again.sort();
    let mut expected = samples::entries();
    expected.sort();
    assert_eq!((again, undecodable), (expected, 0));
}

#[test]
fn half_a_published_port_and_a_pair_of_different_subnets_are_no_elements() {
    for entry in samples::entries().into_iter().filter(|entry| entry.set.with_same_element().len() > 1) {
        assert_eq!(elements([entry.clone()]), (BTreeSet::new(), 1), "{entry:?}");
    }
    let key = ["10.0.1.0/24", "10.0.2.0/24"].map(|subnet| Value::Subnet(subnet.parse().unwrap())).into();
    assert_eq!(elements([Entry { set: Set::Hairpin(Family::V4), key, data: None }]), (BTreeSet::new(), 1));
}

#[test]
fn every_set_has_a_name_of_its_own_and_is_looked_up_by_a_rule() {
    let inet = firewall::structure().to_string().replace('"', " ");
    let bridge = firewall::guard::text([], firewall::guard::Targets::Named);
    let services = firewall::services::text([]);
    let mut names = BTreeSet::new();
    for set in Set::all() {
        assert!(names.insert(set.name()), "two sets have the name {}", set.name());
        let structure = match set.table() {
            Table::Inet => &inet,
            Table::Bridge => &bridge,
            Table::Services => &services,
        };
        assert!(structure.replace('\n', " ").contains(&format!("@{} ", set.name())), "no rule looks up {}", set.name());
    }
}
