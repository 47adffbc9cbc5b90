//! Ring 2: every command, event and start of the engine, with every single fault and at every crash point. A model of
//! the tests (`tests/support/model.rs`) judges what is left.
//!
//! `FAULTS=TEXT` runs the scenarios whose name contains the text.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

mod drive;
mod lab;
mod leftovers;
#[path = "../support/model.rs"]
mod model;
mod regressions;
mod scenarios;
#[path = "../support/engine.rs"]
mod support;
mod view;

use drive::{Course, Fault, Scenario};

/// Pairs of a scenario and a fault; fewer would mean that faults are no longer met.
const PAIRS: usize = 2500;
/// The scenarios.
const SCENARIOS: usize = 61;

/// What is wrong and stays so for now: a scenario, a part of what its failure says, and the reason.
const KNOWN: [(&str, &str, &str); 3] = [
    (
        "attach, giving the addresses",
        "default route belongs to nobody",
        "a start leaves a default route over another interface as it is, because another program (Multus) may have moved \
         it there; it cannot tell this from a daemon that was killed before it moved the route",
    ),
    (
        "disconnect the only network, where names are answered within",
        "name service within",
        "a start does not know the namespaces of containers without endpoints; the next connect replaces the redirection",
    ),
    (
        "connect where a name is taken in the container, so that it is decided again",
        "after the start: interface",
        "the daemon was killed with the first try in the store; a start cannot tell that the name was taken before, and \
         shows a problem",
    ),
];

/// What is wrong with the pair; `Ok` if nothing is, or only what is known.
fn judge(course: &Course, scenario: &Scenario, fault: Fault, met: &mut [bool]) -> Result<(), String> {
    let Err(why) = course.drive(scenario, fault) else { return Ok(()) };
    let why = format!("{}: {fault}: {why}", scenario.name);
    let known = KNOWN.iter().position(|(name, part, _)| *name == scenario.name && why.contains(part));
    known.map(|index| met[index] = true).ok_or(why)
}

#[test]
fn no_fault_is_silent_and_none_is_for_good() {
    let only = std::env::var("FAULTS").unwrap_or_default();
    let scenarios: Vec<_> = scenarios::all().into_iter().filter(|s| s.name.contains(&only)).collect();
    let (mut pairs, mut wrong, mut met) = (0, Vec::new(), KNOWN.map(|_| false));
    for scenario in &scenarios {
        let course = Course::of(scenario);
        let faults = course.faults();
        pairs += faults.len();
        wrong.extend(faults.into_iter().filter_map(|fault| judge(&course, scenario, fault, &mut met).err()));
    }
    println!("faults: {} commands, {pairs} pairs, {} wrong", scenarios.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {pairs} pairs:\n{}", wrong.len(), wrong.join("\n"));
    if only.is_empty() {
        assert!(pairs >= PAIRS && scenarios.len() >= SCENARIOS, "only {} scenarios, {pairs} pairs", scenarios.len());
        let ended = KNOWN.iter().zip(met).filter(|(_, met)| !met).map(|((name, ..), _)| *name);
        assert_eq!(ended.collect::<Vec<_>>(), Vec::<&str>::new(), "no longer wrong: take it out of KNOWN");
    }
}
