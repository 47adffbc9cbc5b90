//! Other programs' firewalls: which of their base chains drop traffic that netd's networks need, and the accept that
//! netd adds there.
//!
//! An accept in netd's table does not end another table's base chain, and Docker, ufw, firewalld and libvirt drop
//! unknown traffic by default. netd therefore adds one marked rule to such a chain: at the end of `DOCKER-USER` if
//! Docker has made one, else right before the dropping rule, so that everything that the chain refuses for another
//! reason stays refused.

mod content;
mod judge;
mod reach;
pub mod ruleset;
pub mod save;
mod script;
#[cfg(test)]
mod tests;
mod walk;

use content::content;
use judge::{DOCKER_USER, Dropped, dropped};
pub use reach::{reach, together};
use script::Change;

use crate::model::host::foreign_firewall::{
    Bridge, Chain, Foreign, ForeignChange, Hook, Note, Policy, Rule, Table, Verdict,
};
use crate::model::names::NetworkName;

/// The prefix of the comments of netd's rules.
const MARK: &str = "netd: its bridges";

/// The comment, if it is one of netd's.
fn mark_of(comment: &str) -> Option<String> {
    comment.starts_with(MARK).then(|| comment.to_owned())
}

/// A change to make, and the message that reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The command to run.
    pub change: ForeignChange,
    /// The note of its base chain.
    pub note: Option<Note>,
    /// A description for messages.
    pub says: String,
}

/// The changes to make, and the notes to report when they are done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes; none if everything matches.
    pub changes: Vec<Planned>,
    /// One for each base chain that drops needed traffic, or would without netd's accept.
    pub notes: Vec<Note>,
}

/// Plans the changes of these tables for these bridges.
pub fn plan(foreign: &Foreign, bridges: &[Bridge], policy: Policy) -> Plan {
    // The bridge of an adopted network counts as netd's here.
    let ways = foreign.ways.iter().filter(|way| !bridges.iter().any(|bridge| bridge.name == **way));
    let foreign = &Foreign { ways: ways.cloned().collect(), ..foreign.clone() };
    let mut plan = Plan::default();
    for table in &foreign.tables {
        for hook in [Hook::Forward, Hook::Input] {
            let at = |chain: &&Chain| chain.base.is_some_and(|base| base.hook == hook);
            let bases: Vec<&Chain> = table.chains.iter().filter(at).collect();
            Site { foreign, bridges, policy, table, hook }.plan(&bases, &mut plan);
        }
    }
    plan
}

/// One table at one hook.
struct Site<'a> {
    foreign: &'a Foreign,
    bridges: &'a [Bridge],
    policy: Policy,
    table: &'a Table,
    hook: Hook,
}

impl<'a> Site<'a> {
    fn plan(&self, bases: &[&'a Chain], plan: &mut Plan) {
        let mut wants: Option<(&'a Chain, Vec<Dropped>)> = None;
        for base in bases {
            let all = dropped(self.foreign, self.bridges, self.table, base, false);
            let (meant, other): (Vec<Dropped>, Vec<Dropped>) = all.into_iter().partition(|dropped| dropped.meant);
            if !meant.is_empty() {
                plan.notes.push(self.note(base, &meant, None, "the rule names this traffic explicitly"));
            }
            if other.is_empty() {
                continue;
            }
            // No tool makes two chains of one table at one hook.
            if self.may_adapt().is_none() && wants.is_none() {
                wants = Some((base, other));
            } else {
                plan.notes.push(self.note(
                    base,
                    &other,
                    None,
                    self.may_adapt().unwrap_or("the table has two such chains"),
                ));
            }
        }
        match wants {
            Some((base, dropped)) => self.accept(base, &dropped, plan),
            None => self.remove(plan),
        }
    }

    /// Why netd adds nothing there; `None` if it may.
    fn may_adapt(&self) -> Option<&'static str> {
        match self.policy {
            Policy::Report => Some("the configuration says [firewall] foreign = \"report\""),
            Policy::Adapt if self.table.owned => Some("only its owner may change the table"),
            Policy::Adapt => None,
        }
    }

    fn jumps(&self) -> Vec<(&'a Chain, &'a Rule)> {
        let own = content::chains(self.table.id.tool, self.hook)[0];
        let is_own = |rule: &&Rule| rule.mark.is_some() && matches!(&rule.verdict, Verdict::Jump(to) if to == own);
        self.table
            .chains
            .iter()
            .flat_map(|chain| chain.rules.iter().filter(is_own).map(move |rule| (chain, rule)))
            .collect()
    }

    fn there(&self) -> Vec<&'static str> {
        let own = content::chains(self.table.id.tool, self.hook).iter().copied();
        own.filter(|name| self.table.chain(name).is_some()).collect()
    }

    fn remove(&self, plan: &mut Plan) {
        let change =
            Change { table: self.table, hook: self.hook, jumps: self.jumps(), there: self.there(), target: None };
        if !change.jumps.is_empty() || !change.there.is_empty() {
            let says = format!(
                "netd removed its accept rule at hook {} from {}: nothing drops netd's traffic there",
                self.hook.as_str(),
                self.table.id
            );
            plan.changes.push(Planned { change: change.render(), note: None, says });
        }
    }

    fn accept(&self, base: &'a Chain, needed: &[Dropped], plan: &mut Plan) {
        let place = needed.iter().map(|dropped| dropped.place).min().unwrap_or(0);
        let (into, place) = self.docker_user(base, place).unwrap_or((base, place));
        let content = content(self.table.id.tool, self.table.id.family, self.hook, self.foreign, self.bridges);
        let (jumps, there) = (self.jumps(), self.there());
        let rules: usize = there.iter().filter_map(|name| self.table.chain(name)).map(|chain| chain.rules.len()).sum();
        let stands = matches!(jumps.as_slice(), [(chain, rule)]
            if chain.name == into.name && rule.mark.as_deref() == Some(content.mark.as_str()));
        let works = || dropped(self.foreign, self.bridges, self.table, base, true).iter().all(|dropped| dropped.meant);
        let note = self.note(base, needed, Some(into.name.clone()), "");
        if !stands || rules != content.rules.len() || !works() {
            let says = format!(
                "{} drops traffic of netd's networks: netd added its accept rule to chain {}",
                note.place(),
                into.name
            );
            let change =
                Change { table: self.table, hook: self.hook, jumps, there, target: Some((&content, into, place)) };
            plan.changes.push(Planned { change: change.render(), note: Some(note.clone()), says });
        }
        plan.notes.push(note);
    }

    /// The end of Docker's chain for users, if the base chain jumps to it early enough.
    fn docker_user(&self, base: &Chain, place: usize) -> Option<(&'a Chain, usize)> {
        let chain = self.table.chain(DOCKER_USER).filter(|_| self.hook == Hook::Forward)?;
        let others = |chain: &'a Chain| chain.rules.iter().filter(|rule| rule.mark.is_none());
        let leads = |rule: &&Rule| rule.conditions.is_empty() && rule.verdict == Verdict::Jump(DOCKER_USER.to_owned());
        let at = base.rules.iter().filter(|rule| rule.mark.is_none()).position(|rule| leads(&rule))?;
        let end = others(chain).position(|rule| rule.conditions.is_empty() && rule.verdict == Verdict::Return);
        (at < place).then(|| (chain, end.unwrap_or_else(|| others(chain).count())))
    }

    fn note(&self, base: &Chain, dropped: &[Dropped], accepted_in: Option<String>, why_not: &str) -> Note {
        let mut traffic: Vec<_> = dropped.iter().map(|dropped| dropped.traffic).collect();
        let mut networks: Vec<NetworkName> = dropped.iter().map(|dropped| dropped.network.clone()).collect();
        let mut reasons: Vec<&str> = dropped.iter().map(|dropped| dropped.reason.as_str()).collect();
        traffic.sort_unstable();
        traffic.dedup();
        networks.sort_unstable();
        networks.dedup();
        reasons.sort_unstable();
        reasons.dedup();
        Note {
            table: self.table.id.clone(),
            chain: base.name.clone(),
            hook: self.hook,
            reason: reasons.join(", "),
            traffic,
            networks,
            accepted_in,
            why_not: why_not.to_owned(),
        }
    }
}
