//! Who reaches a port of the host: a walk through other programs' base chains at the input hook with a new connection from
//! anywhere. Where a condition depends on what is not known (the sender, a set), both outcomes count.

use super::judge::reason;
use super::walk::{Packet, holds, only};
use crate::model::address::Subnet;
use crate::model::host::foreign_firewall::{Chain, Condition, Foreign, Hook, Rule, Table, Verdict, What, state};
use crate::model::host::reach::{HostPortAsked, Reach};
use crate::model::names::IfName;

/// More than any program nests chains; nft allows 16.
const DEPTH: usize = 16;
/// How many reasons are told.
const TOLD: usize = 3;

/// Who reaches the port from outside.
pub fn reach(foreign: &Foreign, asked: &HostPortAsked) -> Reach {
    let to: Vec<Subnet> = asked.at.and_then(only).into_iter().collect();
    let by_way = |way: &IfName| {
        let packet = Packet {
            family: asked.family,
            came_by: way.as_str(),
            leaves_by: None,
            from: &[],
            to: &to,
            state: state::NEW,
            protocol: Some(asked.protocol.as_str()),
            port: Some(asked.port),
        };
        let tables = foreign.tables.iter().filter(|table| table.id.family.sees(asked.family));
        let chains = tables.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
        let at_input = chains.filter(|(_, chain)| chain.base.is_some_and(|base| base.hook == Hook::Input));
        at_input.map(|(table, chain)| through_base(table, chain, &packet)).fold(Reach::Anyone, both)
    };
    together(&foreign.ways.iter().map(|way| (format!("over {way}"), by_way(way))).collect::<Vec<_>>())
}

/// One answer for several ways or ports, each with its name.
pub fn together(answers: &[(String, Reach)]) -> Reach {
    let Some((_, first)) = answers.first() else { return Reach::Anyone };
    if answers.iter().all(|(_, answer)| answer == first) {
        return first.clone();
    }
    if answers.iter().all(|(_, answer)| matches!(answer, Reach::Nobody(_))) {
        return first.clone();
    }
    let told = answers.iter().flat_map(|(name, answer)| match answer {
        Reach::Anyone => vec![format!("{name} everyone")],
        Reach::Some(why) => why.iter().map(|why| format!("{name} some: {why}")).collect(),
        Reach::Nobody(why) => why.iter().map(|why| format!("{name} nobody: {why}")).collect(),
    });
    Reach::Some(told.take(TOLD).collect())
}

/// A packet must pass both.
fn both(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (Reach::Nobody(why), _) | (_, Reach::Nobody(why)) => Reach::Nobody(why),
        (Reach::Some(mut why), Reach::Some(more)) => {
            why.extend(more);
            why.truncate(TOLD);
            Reach::Some(why)
        }
        (Reach::Some(why), Reach::Anyone) | (Reach::Anyone, Reach::Some(why)) => Reach::Some(why),
        (Reach::Anyone, Reach::Anyone) => Reach::Anyone,
    }
}

/// The outcomes that are possible so far, each with what leads to them.
struct Outcomes<'a> {
    base: &'a Chain,
    table: &'a Table,
    accepts: Vec<String>,
    drops: Vec<String>,
    /// What is accepted or dropped without a condition that depends on the unknown.
    is_accepted: bool,
}

fn through_base(table: &Table, base: &Chain, packet: &Packet<'_>) -> Reach {
    let mut outcomes = Outcomes { base, table, accepts: Vec::new(), drops: Vec::new(), is_accepted: true };
    if outcomes.through(base, packet, true, DEPTH) {
        let drops = base.base.is_some_and(|base| base.drops);
        outcomes.add(!drops, base, None, true);
    }
    let Outcomes { accepts, drops, is_accepted, .. } = outcomes;
    match (accepts.is_empty(), drops.is_empty()) {
        (_, true) => Reach::Anyone,
        (true, false) => Reach::Nobody(drops.into_iter().take(1).collect()),
        // The exceptions from what else would happen.
        (false, false) if is_accepted => Reach::Some(drops),
        (false, false) => Reach::Some(accepts),
    }
}

impl<'a> Outcomes<'a> {
    /// Returns whether the packet may reach the end of the chain. `certain`: whether it certainly comes here.
    fn through(&mut self, chain: &'a Chain, packet: &Packet<'_>, certain: bool, depth: usize) -> bool {
        let mut may_return = false;
        for rule in chain.rules.iter().filter(|rule| rule.mark.is_none()) {
            let held = holds(rule, packet);
            if held == Some(false) {
                continue;
            }
            let certain = certain && held.is_some();
            let goes_on = match &rule.verdict {
                Verdict::Next => true,
                Verdict::Accept => self.add(true, chain, Some(rule), certain),
                Verdict::Drop => self.add(false, chain, Some(rule), certain),
                Verdict::Unknown => {
                    self.add(true, chain, Some(rule), false);
                    self.add(false, chain, Some(rule), false)
                }
                Verdict::Return => {
                    may_return = true;
                    false
                }
                Verdict::Jump(name) | Verdict::Goto(name) => {
                    let next = self.table.chain(name).filter(|_| depth > 0);
                    let back = next.is_none_or(|next| self.through(next, packet, certain, depth - 1));
                    let is_goto = next.is_some() && matches!(rule.verdict, Verdict::Goto(_));
                    may_return |= is_goto && back;
                    back && !is_goto
                }
            };
            if held.is_some() && !goes_on {
                return may_return;
            }
        }
        true
    }

    /// Notes an outcome. Returns false: the packet goes no further.
    fn add(&mut self, accepted: bool, within: &Chain, rule: Option<&Rule>, certain: bool) -> bool {
        if certain {
            self.is_accepted = accepted;
        }
        let list = if accepted { &mut self.accepts } else { &mut self.drops };
        let told = format!(
            "{}chain {} of {} ({})",
            rule.map(senders).unwrap_or_default(),
            self.base.name,
            self.table.id,
            reason(self.base, within, rule)
        );
        if list.len() < TOLD && !list.contains(&told) {
            list.push(told);
        }
        false
    }
}

/// From whom the rule is about, as far as it says so.
fn senders(rule: &Rule) -> String {
    let from = |condition: &Condition| match &condition.what {
        What::From(subnets) => {
            let subnets: Vec<String> = subnets.iter().map(ToString::to_string).collect();
            Some(format!("{}from {}: ", if condition.negated { "not " } else { "" }, subnets.join(", ")))
        }
        _ => None,
    };
    rule.conditions.iter().find_map(from).unwrap_or_default()
}
