//! Decides what is done for a service's tasks: compares those that the engine has with those that there are to be. It is
//! pure: what is done is looked at again, so that whatever was missed is decided anew.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::{Action, Condition, Restart, Update};
use super::task::{Health, Phase, Task};
use crate::faces::engine_api::swarm_state::{Availability, Course, Stage};

/// What there is to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) digest: String,
    /// Which slots there are to be.
    pub(super) slots: Vec<u32>,
    /// Whether the node runs tasks.
    pub(super) node: Availability,
    pub(super) restart: Restart,
    pub(super) update: Update,
    pub(super) rollback: Update,
    /// How many tasks of a slot are kept; `None`: all.
    pub(super) history: Option<usize>,
    /// Whether the service can be rolled back.
    pub(super) has_previous: bool,
}

/// What is known besides the engine's containers.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    /// Slots for which something is being done.
    pub(super) busy: BTreeSet<u32>,
    /// How many slots are being updated, their delay included.
    pub(super) updating: usize,
    /// Containers that netd has stopped: they did not fail.
    pub(super) stopped: BTreeSet<String>,
    pub(super) course: Option<&'a Course>,
    /// Milliseconds since the Unix epoch.
    pub(super) now: u64,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are few of them, and not for long")]
pub(super) enum Step {
    /// Nothing runs in the slot.
    Start { slot: u32, attempt: u64 },
    /// Made, but not started.
    Resume(Task),
    /// Another definition runs in the slot.
    Replace { slot: u32, old: Vec<Task>, start_first: bool, delay: u64 },
    /// It runs beside older ones, which it replaces once it is ready.
    Finish { slot: u32, current: String, old: Vec<Task> },
    /// Superfluous in the slot, or unhealthy; with `remove`, nothing is left of it.
    Stop { slot: u32, tasks: Vec<Task>, remove: bool },
    /// Ended long ago.
    Forget(Vec<Task>),
}

/// What is to be done, and what becomes of the update.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// How the update goes on, if that changes.
    pub(super) course: Option<Course>,
    /// The update has failed: the service becomes as it was.
    pub(super) roll_back: bool,
    /// After how many milliseconds it is to be decided anew.
    pub(super) again: Option<u64>,
}

/// The tasks of one slot, the newest first.
type Slots<'a> = BTreeMap<u32, Vec<&'a Task>>;

pub(super) fn plan(wanted: &Wanted, tasks: &[Task], known: &Known<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut slots: Slots<'_> = wanted.slots.iter().map(|slot| (*slot, Vec::new())).collect();
    tasks.iter().for_each(|task| slots.entry(task.slot).or_default().push(task));
    let mut dirty = Vec::new();
    for (slot, tasks) in &mut slots {
        tasks.sort_by_key(|task| std::cmp::Reverse(task.created));
        if known.busy.contains(slot) {
            continue;
        }
        if !wanted.slots.contains(slot) {
            plan.steps.push(Step::Stop { slot: *slot, tasks: owned(tasks.iter()), remove: true });
            continue;
        }
        match settle(*slot, tasks, wanted, known) {
            Settled::Step(step) => plan.steps.push(step),
            Settled::Later(after) => soonest(&mut plan.again, after),
            Settled::Dirty(old) => dirty.push((*slot, old)),
            Settled::Right => {}
        }
        plan.steps.extend(forgotten(tasks, wanted.history));
    }
    follow_update(&mut plan, wanted, tasks, known, dirty);
    if wanted.node != Availability::Active {
        plan.steps.retain(|step| !matches!(step, Step::Start { .. } | Step::Replace { .. } | Step::Resume(_)));
    }
    plan
}

fn owned<'a>(tasks: impl Iterator<Item = &'a &'a Task>) -> Vec<Task> {
    tasks.map(|task| (*task).clone()).collect()
}

fn soonest(again: &mut Option<u64>, after: u64) {
    *again = Some(again.map_or(after, |known| known.min(after)));
}

/// What one slot needs.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Settled {
    Right,
    Step(Step),
    /// Something, after so many milliseconds.
    Later(u64),
    /// Only tasks of another definition run there.
    Dirty(Vec<Task>),
}

fn settle(slot: u32, tasks: &[&Task], wanted: &Wanted, known: &Known<'_>) -> Settled {
    let alive = || tasks.iter().filter(|task| task.is_alive());
    if wanted.node == Availability::Drain {
        let tasks = owned(alive());
        let step = (!tasks.is_empty()).then_some(Step::Stop { slot, tasks, remove: false });
        return step.map_or(Settled::Right, Settled::Step);
    }
    let unhealthy = alive().filter(|task| task.health == Health::Unhealthy);
    let unhealthy = owned(unhealthy.filter(|task| task.digest == wanted.digest));
    if !unhealthy.is_empty() {
        return Settled::Step(Step::Stop { slot, tasks: unhealthy, remove: false });
    }
    let running = alive().find(|task| task.digest == wanted.digest && task.phase == Phase::Running);
    if let Some(current) = running {
        let old = owned(alive().filter(|task| task.container != current.container));
        let step = (!old.is_empty()).then(|| Step::Finish { slot, current: current.container.clone(), old });
        return step.map_or(Settled::Right, Settled::Step);
    }
    // What ended before another definition, or because netd stopped it, does not delay its successor.
    let last = tasks.iter().find(|task| !task.is_alive()).filter(|last| last.digest == wanted.digest);
    let last = last.filter(|last| !known.stopped.contains(&last.container));
    let left = last.map_or(0, |last| (last.ended + wanted.restart.delay).saturating_sub(known.now));
    if let Some(made) = alive().find(|task| task.digest == wanted.digest) {
        return Settled::Step(Step::Resume((*made).clone()));
    }
    if alive().next().is_some() {
        return if left > 0 { Settled::Later(left) } else { Settled::Dirty(owned(alive())) };
    }
    let Some(last) = last else { return Settled::Step(Step::Start { slot, attempt: 0 }) };
    let is_due = match wanted.restart.condition {
        Condition::None => false,
        Condition::OnFailure => !last.has_succeeded(),
        Condition::Any => true,
    };
    let lived = last.ended.saturating_sub(last.started.max(last.created));
    let counts = wanted.restart.window == 0 || lived <= wanted.restart.window;
    let attempt = if counts { last.attempt + 1 } else { 1 };
    if !is_due || (wanted.restart.attempts > 0 && attempt > wanted.restart.attempts) {
        return Settled::Right;
    }
    if left > 0 { Settled::Later(left) } else { Settled::Step(Step::Start { slot, attempt }) }
}

/// The oldest ended tasks of a slot that are more than are kept.
fn forgotten(tasks: &[&Task], history: Option<usize>) -> Option<Step> {
    let ended =
        tasks.iter().enumerate().filter(|(place, task)| history.is_some_and(|most| *place >= most) && !task.is_alive());
    // The newest stays: it says whether and when the slot is started again.
    let old = owned(ended.filter(|(place, _)| *place > 0).map(|(_, task)| task));
    (!old.is_empty()).then_some(Step::Forget(old))
}

fn follow_update(plan: &mut Plan, wanted: &Wanted, tasks: &[Task], known: &Known<'_>, dirty: Vec<(u32, Vec<Task>)>) {
    let is_rollback = known.course.is_some_and(|course| course.stage.is_rollback());
    let update = if is_rollback { &wanted.rollback } else { &wanted.update };
    if known.course.is_some_and(|course| course.stage.is_paused()) {
        return;
    }
    if let Some(course) = known.course.filter(|course| course.stage.is_running()) {
        if let Some(failed) = failed(course, wanted, update, tasks, known) {
            return fail(plan, course, update, failed, wanted.has_previous, known);
        }
        if dirty.is_empty() && known.updating == 0 && known.busy.is_empty() {
            return finish(plan, course, update, tasks, &wanted.digest, known);
        }
    } else if !dirty.is_empty() && wanted.node == Availability::Active {
        let stage = if is_rollback { Stage::RollbackStarted } else { Stage::Updating };
        let message = if is_rollback { "rollback in progress" } else { "update in progress" };
        let course = Course { stage, started: known.now, completed: None, message: message.into(), slots: dirty.len() };
        plan.course = Some(course);
    }
    let most = if update.parallelism == 0 { usize::MAX } else { update.parallelism.saturating_sub(known.updating) };
    let (start_first, delay) = (update.start_first, update.delay);
    plan.steps.extend(dirty.into_iter().take(most).map(|(slot, old)| Step::Replace { slot, old, start_first, delay }));
}

/// The task by which an update has failed.
fn failed<'a>(
    course: &Course,
    wanted: &Wanted,
    update: &Update,
    tasks: &'a [Task],
    known: &Known<'_>,
) -> Option<&'a Task> {
    if update.action == Action::Continue {
        return None;
    }
    let is_failure = |task: &&Task| {
        task.digest == wanted.digest
            && !task.is_alive()
            && task.created >= course.started
            && !known.stopped.contains(&task.container)
            && task.ended.saturating_sub(task.started.max(task.created)) <= update.monitor
    };
    let failures: Vec<&Task> = tasks.iter().filter(is_failure).collect();
    let part = failures.len() as f64 / course.slots.max(1) as f64;
    failures.first().copied().filter(|_| part > update.ratio)
}

fn fail(plan: &mut Plan, course: &Course, update: &Update, failed: &Task, has_previous: bool, known: &Known<'_>) {
    let why = format!("due to failure or early termination of task {}", failed.id);
    let changed = |stage, message: String| Course { stage, message, completed: None, ..course.clone() };
    let is_rollback = course.stage.is_rollback();
    plan.course = Some(match update.action {
        Action::Rollback if !is_rollback && has_previous => {
            plan.roll_back = true;
            let started = known.now;
            Course { started, ..changed(Stage::RollbackStarted, format!("update rolled back {why}")) }
        }
        _ if is_rollback => changed(Stage::RollbackPaused, format!("rollback paused {why}")),
        _ => changed(Stage::Paused, format!("update paused {why}")),
    });
}

/// The update is complete once its last task has lived as long as it is watched.
fn finish(plan: &mut Plan, course: &Course, update: &Update, tasks: &[Task], digest: &str, known: &Known<'_>) {
    let new = tasks.iter().filter(|task| task.digest == digest && task.is_alive());
    let last = new.map(|task| task.started.max(task.created)).max().unwrap_or(0).max(course.started);
    let watched = (last + update.monitor).saturating_sub(known.now);
    if watched > 0 {
        return soonest(&mut plan.again, watched);
    }
    let (stage, message) = match course.stage.is_rollback() {
        true => (Stage::RollbackCompleted, "rollback completed"),
        false => (Stage::Completed, "update completed"),
    };
    plan.course = Some(Course { stage, message: message.into(), completed: Some(known.now), ..course.clone() });
}

#[cfg(test)]
mod tests;
