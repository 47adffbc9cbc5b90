//! Runs a scenario once without faults, then once with each single fault and each crash point, and judges what is
//! answered and what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use netd::engine::{Error, ErrorKind};
use netd::kernel::KernelEvent;
use netd::kernel::fake::faults::Faults;
use netd::store::memory;

use crate::judge::Judge;
use crate::lab::{Answer, Lab};
use crate::view::View;

/// What the answer of a scenario promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Ok`: it is done. `Err`: nothing has changed for a user.
    Command,
    /// Like a command, but it first releases what has ended or was replaced without netd's knowledge; this stays so if
    /// the rest fails.
    Replacement,
    /// `Ok`: it is done. `Err`: some of it may be done, and repair does the rest of what is.
    Removal,
    /// Nothing is answered, or nothing is promised: repair does it at last.
    Repair,
}

/// A command, an event or a start, and the state in which it comes.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) prepare: fn(&mut Lab),
    pub(crate) act: fn(&mut Lab) -> Answer,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// One call of the kernel fails.
    Call(usize),
    /// This call and all later ones fail.
    CallsFrom(usize),
    /// All calls of one method, or with one step, fail.
    AllOf(&'static str),
    /// One commit fails, or all from there, or the process dies there.
    Commit(usize, memory::Fault),
    /// The process dies after a change of the kernel.
    DeathAfter(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(nth) => write!(f, "call {nth} fails"),
            Self::CallsFrom(nth) => write!(f, "all calls from {nth} on fail"),
            Self::AllOf(name) => write!(f, "all calls of {name} fail"),
            Self::Commit(nth, fault) => write!(f, "commit {nth}: {fault:?}"),
            Self::DeathAfter(changes) => write!(f, "the process dies after change {changes}"),
        }
    }
}

/// The calls whose failure nobody can notice: they answer "no", or that there is nothing.
const UNNOTICED: [&str; 5] = ["has_link", "has_resolver", "is_of_engine", "netns_alive", "written_files"];

/// A fault that was met, and what the command answered.
struct Met {
    /// The calls that failed.
    hits: Vec<String>,
    answer: Answer,
    store_is_broken: bool,
    judge: Judge,
}

/// The course without faults.
pub(crate) struct Course {
    /// What other programs had done to the kernel without telling; only a start looks for all of it.
    damage: Vec<String>,
    before: View,
    after: View,
    /// The sticky addresses in the store, before and after.
    kept: Kept,
    kept_after: Kept,
    calls: usize,
    changes: usize,
    commits: usize,
    names: BTreeSet<&'static str>,
}

impl Course {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let mut lab = Lab::new();
        (scenario.prepare)(&mut lab);
        let (before, kept) = (lab.view(), kept_addresses(&lab));
        let damage = if lab.is_running() { lab.differences() } else { Vec::new() };
        lab.world().faults = Faults::default();
        lab.store.set_fault(None);
        let answer = (scenario.act)(&mut lab);
        assert!(answer.is_ok(), "{}: {answer:?}", scenario.name);
        let faults = lab.world().faults.clone();
        let commits = lab.store.commits();
        let wrong = differences_and_problems(&lab);
        assert!(wrong.is_empty(), "{}: without a fault: {wrong:#?}", scenario.name);
        if lab.world().drops_questions && lab.snapshot().desired.counts().2 > 0 {
            assert!(!lab.world().inside.is_empty(), "{}: the drop was not noticed", scenario.name);
        }
        let (calls, changes, names) = (faults.calls(), faults.changes(), faults.names().clone());
        Self {
            damage,
            before,
            after: lab.view(),
            kept,
            kept_after: kept_addresses(&lab),
            calls,
            changes,
            commits,
            names,
        }
    }

    /// Every single fault that can hit the scenario.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        use memory::Fault::{DiesAfter, DiesBefore, Fails, FailsForGood};
        let calls = (0..self.calls).flat_map(|nth| [Fault::Call(nth), Fault::CallsFrom(nth)]);
        let names = self.names.iter().map(|name| Fault::AllOf(name));
        let commits = (0..self.commits)
            .flat_map(|nth| [Fails, FailsForGood, DiesBefore, DiesAfter].map(|fault| Fault::Commit(nth, fault)));
        let deaths = (1..=self.changes).map(Fault::DeathAfter);
        calls.chain(names).chain(commits).chain(deaths).collect()
    }

    /// Runs the scenario with the fault; the error says what is wrong afterwards. A daemon that lives on is judged twice:
    /// after a restart, and as it is, with what it has in memory. Returns what is known to be wrong, and is.
    pub(crate) fn drive(&self, scenario: &Scenario, fault: Fault) -> Result<BTreeSet<usize>, String> {
        let (lives, mut known) = self.drive_once(scenario, fault, true)?;
        if lives {
            let again = self.drive_once(scenario, fault, false);
            known.extend(again.map_err(|why| format!("without a restart: {why}"))?.1);
        }
        Ok(known)
    }

    /// Also returns whether the daemon lived on.
    fn drive_once(&self, scenario: &Scenario, fault: Fault, restarts: bool) -> Result<(bool, BTreeSet<usize>), String> {
        let mut lab = Lab::new();
        (scenario.prepare)(&mut lab);
        lab.world().faults = match fault {
            Fault::Call(nth) => Faults::call(nth),
            Fault::CallsFrom(nth) => Faults::call(nth).for_good(),
            Fault::AllOf(name) => Faults::call_of(name, 0).for_good(),
            Fault::DeathAfter(changes) => Faults::abort_after(changes),
            Fault::Commit(..) => Faults::default(),
        };
        lab.store.set_fault(match fault {
            Fault::Commit(nth, fault) => Some((nth, fault)),
            _ => None,
        });
        let answer = (scenario.act)(&mut lab);
        let hits = match fault {
            Fault::Commit(nth, _) if lab.store.commits() > nth => vec!["commit".to_owned()],
            Fault::Commit(..) => Vec::new(),
            _ => lab.world().faults.hits().to_vec(),
        };
        let first = hits.first().cloned().ok_or("the fault was not met")?;
        let store_is_broken = matches!(fault, Fault::Commit(_, memory::Fault::FailsForGood));
        let mut met = Met { hits, answer, store_is_broken, judge: Judge::of(scenario.name, fault, &first) };
        let lives = !lab.is_dead();
        let judged = match lives {
            false => self.after_death(&mut lab, scenario, &mut met),
            true => self.alive(&mut lab, scenario, &mut met, restarts),
        };
        let judged = judged.and_then(|()| self.at_last(&mut lab, scenario, &mut met.judge));
        judged
            .map(|()| (lives, met.judge.met))
            .map_err(|why| format!("{first}, answered {}: {why}", shown(&met.answer)))
    }

    /// The process lives: the answer is true, what is wrong is a problem, and repair corrects it.
    fn alive(&self, lab: &mut Lab, scenario: &Scenario, met: &mut Met, restarts: bool) -> Result<(), String> {
        let now = lab.view();
        let wrong = match (scenario.kind, &met.answer) {
            (Kind::Repair, _) | (Kind::Removal, Err(_)) => now.not_one_of(&self.before, &self.after),
            (_, Ok(())) => now.differs(&self.after),
            // A store that refuses everything refuses to take back what it accepted before.
            (Kind::Replacement, Err(_)) if met.store_is_broken => now.not_one_of_or_gone(&self.before, &self.after),
            (_, Err(_)) if met.store_is_broken => now.not_one_of(&self.before, &self.after),
            (Kind::Replacement, Err(_)) => now.not_one_of_or_gone(&self.before, &self.before),
            (Kind::Command, Err(_)) => now.differs(&self.before),
        };
        let judge = &mut met.judge;
        judge.none("a user sees", wrong)?;
        if !lab.is_running() {
            // A start that failed is repeated.
            lab.restart();
            return judge.none("after the next start", differences_and_problems(lab));
        }
        let is_noticed = met.hits.iter().any(|hit| !UNNOTICED.contains(&hit.as_str()));
        if lab.snapshot().problems.is_empty() && is_noticed {
            judge.none("no problem is shown, but", self.beyond_damage(lab.differences()))?;
        }
        lab.world().faults = Faults::default();
        lab.store.set_fault(None);
        lab.emit(&KernelEvent::Changed);
        judge.none("after a repair", self.beyond_damage(differences_and_problems(lab)))?;
        let seen = lab.view();
        if scenario.kind != Kind::Repair {
            judge.none("after a repair, a user sees", seen.not_one_of_or_gone(&now, &now))?;
        }
        self.keeps_addresses(lab, scenario)?;
        if !restarts {
            return Ok(());
        }
        lab.restart();
        judge.none("after a restart", differences_and_problems(lab))?;
        judge.none("after a restart, a user sees", lab.view().differs(&seen))
    }

    /// The sticky addresses are those from before the command, or those after it.
    fn keeps_addresses(&self, lab: &Lab, scenario: &Scenario) -> Result<(), String> {
        let now = kept_addresses(lab);
        let one_of = now == self.kept || now == self.kept_after || scenario.kind == Kind::Replacement;
        if one_of { Ok(()) } else { Err(format!("sticky addresses: {now:?}, not {:?}", self.kept_after)) }
    }

    fn beyond_damage(&self, mut differences: Vec<String>) -> Vec<String> {
        differences.retain(|line| !self.damage.contains(line));
        differences
    }

    /// The process died, and another one starts.
    fn after_death(&self, lab: &mut Lab, scenario: &Scenario, met: &mut Met) -> Result<(), String> {
        lab.restart();
        met.judge.none("after the start", differences_and_problems(lab))?;
        let now = lab.view();
        let wrong = match scenario.kind {
            Kind::Command | Kind::Replacement | Kind::Removal if met.answer.is_ok() => now.differs(&self.after),
            Kind::Replacement => now.not_one_of_or_gone(&self.before, &self.after),
            _ => now.not_one_of(&self.before, &self.after),
        };
        met.judge.none("after the start, a user sees", wrong)
    }

    /// Nothing is lost: the command can be given again, all addresses can be assigned, and all can be removed.
    fn at_last(&self, lab: &mut Lab, scenario: &Scenario, judge: &mut Judge) -> Result<(), String> {
        if scenario.kind != Kind::Repair {
            let again = (scenario.act)(lab);
            let done = again.as_ref().map_or_else(is_done, |()| true);
            if !done {
                return Err(format!("given again, it answers {}", shown(&again)));
            }
            judge.none("given again", differences_and_problems(lab))?;
        }
        judge.none("at last, a user sees", lab.view().differs_in_kind(&self.after))?;
        crate::leftovers::all_can_be_assigned(lab, judge)?;
        crate::leftovers::all_can_be_removed(lab, judge)
    }
}

/// Network and address, and the name that it is kept for.
type Kept = BTreeMap<(String, String), String>;

fn kept_addresses(lab: &Lab) -> Kept {
    let stored = lab.store.stored().sticky.into_iter();
    stored.map(|(network, address, name)| ((network.to_string(), address.to_string()), name.to_string())).collect()
}

/// Whether the error says that there is nothing left to do.
fn is_done(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict)
}

pub(crate) fn differences_and_problems(lab: &Lab) -> Vec<String> {
    let mut wrong = lab.differences();
    wrong.extend(lab.snapshot().problems.iter().map(|problem| format!("problem: {problem}")));
    wrong
}

fn shown(answer: &Answer) -> String {
    answer.as_ref().map_or_else(|error| format!("\"{error}\""), |()| "Ok".into())
}
