//! Determines the fate of a packet in another program's base chain. A condition that cannot be evaluated may hold or
//! not: a rule with one neither accepts nor drops for certain, and the walk continues after it.

use std::net::IpAddr;

use crate::model::address::{Family, Subnet};
use crate::model::host::foreign_firewall::{Base, Chain, Condition, Rule, Table, Verdict, What};

/// More than any program nests chains; nft allows 16.
const DEPTH: usize = 16;

/// The properties of a packet that rules check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub family: Family,
    pub came_by: &'a str,
    /// The outgoing interface; `None`: it is for the host.
    pub leaves_by: Option<&'a str>,
    /// Subnets of its source; empty: anywhere.
    pub from: &'a [Subnet],
    /// Subnets of its destination; empty: anywhere.
    pub to: &'a [Subnet],
    /// Bits of [`crate::model::host::foreign_firewall::state`].
    pub state: u8,
    /// The protocol; `None`: any.
    pub protocol: Option<&'static str>,
    pub port: Option<u16>,
}

/// The certain effect of a chain on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate<'a> {
    Passes,
    /// The chain, and the rule that drops; `None`: the chain's policy.
    Drops(&'a Chain, Option<&'a Rule>),
    /// A program decides.
    Unknown,
    /// The end of the chain is reached.
    End,
}

/// Walks through a base chain. Returns the fate, and the index of the base chain's rule that led to it (its length for
/// the policy). With `ours`, netd's own rules accept; without, they are ignored and not counted.
pub(super) fn fate<'a>(table: &'a Table, chain: &'a Chain, packet: &Packet<'_>, ours: bool) -> (Fate<'a>, usize) {
    let counted: Vec<&Rule> = chain.rules.iter().filter(|rule| ours || rule.mark.is_none()).collect();
    for (place, rule) in counted.iter().enumerate() {
        match step(table, chain, rule, packet, ours, DEPTH) {
            Step::Next => {}
            Step::Back => break,
            Step::Decided(fate) => return (fate, place),
        }
    }
    let drops = chain.base.is_some_and(|Base { drops, .. }| drops);
    (if drops { Fate::Drops(chain, None) } else { Fate::Passes }, counted.len())
}

enum Step<'a> {
    Next,
    Back,
    Decided(Fate<'a>),
}

fn step<'a>(
    table: &'a Table,
    chain: &'a Chain,
    rule: &'a Rule,
    packet: &Packet<'_>,
    ours: bool,
    depth: usize,
) -> Step<'a> {
    if rule.mark.is_some() {
        return if ours { Step::Decided(Fate::Passes) } else { Step::Next };
    }
    if holds(rule, packet) != Some(true) {
        return Step::Next;
    }
    match &rule.verdict {
        Verdict::Next => Step::Next,
        Verdict::Accept => Step::Decided(Fate::Passes),
        Verdict::Drop => Step::Decided(Fate::Drops(chain, Some(rule))),
        Verdict::Unknown => Step::Decided(Fate::Unknown),
        Verdict::Return => Step::Back,
        Verdict::Jump(name) | Verdict::Goto(name) => {
            let Some(next) = table.chain(name).filter(|_| depth > 0) else { return Step::Next };
            match through(table, next, packet, ours, depth - 1) {
                Fate::End if matches!(rule.verdict, Verdict::Goto(_)) => Step::Back,
                Fate::End => Step::Next,
                fate => Step::Decided(fate),
            }
        }
    }
}

fn through<'a>(table: &'a Table, chain: &'a Chain, packet: &Packet<'_>, ours: bool, depth: usize) -> Fate<'a> {
    for rule in &chain.rules {
        match step(table, chain, rule, packet, ours, depth) {
            Step::Next => {}
            Step::Back => break,
            Step::Decided(fate) => return fate,
        }
    }
    Fate::End
}

/// Whether every condition holds; `None` if uncertain.
pub(super) fn holds(rule: &Rule, packet: &Packet<'_>) -> Option<bool> {
    let mut all = Some(true);
    for Condition { negated, what } in &rule.conditions {
        match judge(what, packet) {
            Some(holds) if holds == *negated => return Some(false),
            Some(_) => {}
            None => all = None,
        }
    }
    all
}

fn judge(what: &What, packet: &Packet<'_>) -> Option<bool> {
    match what {
        What::In(names) => Some(names.iter().any(|name| is_called(packet.came_by, name))),
        What::Out(names) => Some(packet.leaves_by.is_some_and(|out| names.iter().any(|name| is_called(out, name)))),
        What::From(subnets) => lies(packet.from, subnets),
        What::To(subnets) => lies(packet.to, subnets),
        What::State(bits) => Some(packet.state & bits != 0),
        What::Family(family) => Some(packet.family == *family),
        What::Protocol(names) => packet.protocol.map(|protocol| {
            names.iter().any(|name| name.as_str() == protocol || ["all", "0"].contains(&name.as_str()))
        }),
        What::Port(ranges) => {
            packet.port.map(|port| ranges.iter().any(|(first, last)| (*first..=*last).contains(&port)))
        }
        What::ToHost => Some(packet.leaves_by.is_none()),
        What::Other => None,
    }
}

fn is_called(interface: &str, name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(head) => interface.starts_with(head),
        None => interface == name,
    }
}

/// Whether all of these addresses are in one of the subnets.
fn lies(addresses: &[Subnet], subnets: &[Subnet]) -> Option<bool> {
    let whole = |subnet: &Subnet| subnet.prefix() == 0;
    if addresses.is_empty() {
        return subnets.iter().any(whole).then_some(true);
    }
    let within = |inner: &Subnet| {
        subnets.iter().any(|outer| {
            outer.family() == inner.family() && outer.prefix() <= inner.prefix() && outer.contains(inner.network())
        })
    };
    if addresses.iter().all(within) {
        return Some(true);
    }
    let touches = |one: &Subnet| subnets.iter().any(|other| other.family() == one.family() && one.overlaps(*other));
    if addresses.iter().any(touches) { None } else { Some(false) }
}

/// One address as a subnet.
pub(super) fn only(address: IpAddr) -> Option<Subnet> {
    Subnet::containing(address, if address.is_ipv4() { 32 } else { 128 })
}
