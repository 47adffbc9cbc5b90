//! Ring 2: every command, event and start of the engine, with every single fault and at every crash point. A model of
//! the tests (`tests/support/src/model.rs`) judges what is left.
//!
//! `FAULTS=TEXT` runs the scenarios whose name contains the text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

mod drive;
mod judge;
mod lab;
mod leftovers;
mod lost;
mod regressions;
mod reservations;
mod scenarios;
mod store;
mod view;

use std::collections::BTreeSet;

use netd_testing::{engine as support, model};

use drive::Course;
use judge::KNOWN;

/// Pairs of a scenario and a fault; fewer would mean that faults are no longer met.
const PAIRS: usize = 5000;
/// The scenarios.
const SCENARIOS: usize = 129;

#[test]
fn no_fault_is_silent_and_none_is_for_good() {
    let only = std::env::var("FAULTS").unwrap_or_default();
    let scenarios: Vec<_> = scenarios::all().into_iter().filter(|s| s.name.contains(&only)).collect();
    let (mut pairs, mut wrong, mut met) = (0, Vec::new(), BTreeSet::new());
    for scenario in &scenarios {
        let course = Course::of(scenario);
        let faults = course.faults();
        pairs += faults.len();
        for fault in faults {
            match course.drive(scenario, fault) {
                Ok(known) => met.extend(known),
                Err(why) => wrong.push(format!("{}: {fault}: {why}", scenario.name)),
            }
        }
    }
    for known in met.iter().map(|index| &KNOWN[*index]) {
        println!("known to be wrong: {}: {}", known.scenario, known.reason);
    }
    println!("faults: {} commands, {pairs} pairs, {} wrong", scenarios.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {pairs} pairs:\n{}", wrong.len(), wrong.join("\n"));
    if only.is_empty() {
        assert!(pairs >= PAIRS && scenarios.len() >= SCENARIOS, "only {} scenarios, {pairs} pairs", scenarios.len());
        let ended = KNOWN.iter().enumerate().filter(|(index, _)| !met.contains(index)).map(|(_, known)| known.scenario);
        assert_eq!(ended.collect::<Vec<_>>(), Vec::<&str>::new(), "no longer wrong: take it out of KNOWN");
    }
}
