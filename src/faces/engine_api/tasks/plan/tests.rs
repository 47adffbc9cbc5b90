//! What is decided for tasks.

use std::collections::BTreeMap;

use super::*;

const NOW: u64 = 1_000_000;

fn wanted(slots: u32) -> Wanted {
    let restart = Restart { condition: Condition::Any, delay: 5_000, attempts: 0, window: 0 };
    let update =
        Update { parallelism: 1, delay: 0, action: Action::Pause, monitor: 5_000, ratio: 0.0, start_first: true };
    Wanted {
        digest: "new".into(),
        slots: (1..=slots).collect(),
        node: Availability::Active,
        restart,
        update,
        rollback: Update { action: Action::Rollback, ..update },
        history: Some(5),
        has_previous: true,
    }
}

fn task(slot: u32, digest: &str, phase: Phase, created: u64) -> Task {
    let container = format!("{slot}-{digest}-{created}");
    Task {
        id: format!("t{container}"),
        container,
        service: "s".into(),
        node: "n".into(),
        slot,
        name: String::new(),
        digest: digest.into(),
        attempt: 0,
        phase,
        created,
        started: created,
        ended: if phase == Phase::Ended { created + 1_000 } else { 0 },
        exit: 0,
        error: String::new(),
        health: Health::Unchecked,
        pid: 0,
        image: String::new(),
        tty: false,
        labels: BTreeMap::new(),
    }
}

fn known(course: Option<&Course>) -> Known<'_> {
    Known { now: NOW, course, ..Known::default() }
}

fn course(stage: Stage, started: u64, slots: usize) -> Course {
    Course { stage, started, completed: None, message: String::new(), slots }
}

fn steps(wanted: &Wanted, tasks: &[Task]) -> Vec<Step> {
    plan(wanted, tasks, &known(None)).steps
}

#[test]
fn missing_tasks_are_started_and_superfluous_ones_removed() {
    let there = [task(1, "new", Phase::Running, 1), task(3, "new", Phase::Running, 1), task(3, "new", Phase::Ended, 0)];
    let found = steps(&wanted(2), &there);
    let removed = Step::Stop { slot: 3, tasks: vec![there[1].clone(), there[2].clone()], remove: true };
    assert_eq!(found, [Step::Start { slot: 2, attempt: 0 }, removed]);
    let busy = Known { busy: BTreeSet::from([2, 3]), ..known(None) };
    assert_eq!(plan(&wanted(2), &there, &busy).steps, []);
}

#[test]
fn ended_tasks_are_replaced_as_the_policy_says() {
    let ended = |exit: i64, age: u64| Task { exit, ..task(1, "new", Phase::Ended, NOW - 1_000 - age) };
    let with = |change: fn(&mut Restart)| {
        let mut wanted = wanted(1);
        change(&mut wanted.restart);
        wanted
    };
    let start = |attempt| vec![Step::Start { slot: 1, attempt }];
    assert_eq!(steps(&wanted(1), &[ended(0, 6_000)]), start(1));
    let soon = plan(&wanted(1), &[ended(1, 2_000)], &known(None));
    assert_eq!((soon.steps, soon.again), (vec![], Some(3_000)));
    let none = with(|restart| restart.condition = Condition::None);
    assert_eq!(steps(&none, &[ended(1, 6_000)]), []);
    let on_failure = with(|restart| restart.condition = Condition::OnFailure);
    assert_eq!((steps(&on_failure, &[ended(0, 6_000)]), steps(&on_failure, &[ended(1, 6_000)])), (vec![], start(1)));
    let twice = with(|restart| restart.attempts = 2);
    let tried = |attempt| Task { attempt, ..ended(1, 6_000) };
    assert_eq!((steps(&twice, &[tried(1)]), steps(&twice, &[tried(2)])), (start(2), vec![]));
    let within = with(|restart| (restart.attempts, restart.window) = (2, 500));
    assert_eq!(steps(&within, &[tried(2)]), start(1), "it lived longer than the window");
    let stopped = Known { stopped: BTreeSet::from([ended(0, 6_000).container]), ..known(None) };
    assert_eq!(plan(&none, &[ended(0, 6_000)], &stopped).steps, start(0), "netd stopped it itself");
}

#[test]
fn unhealthy_tasks_are_stopped_and_left_to_the_policy() {
    let ill = Task { health: Health::Unhealthy, ..task(1, "new", Phase::Running, 1) };
    assert_eq!(
        steps(&wanted(1), std::slice::from_ref(&ill)),
        [Step::Stop { slot: 1, tasks: vec![ill], remove: false }]
    );
}

#[test]
fn an_update_replaces_some_at_a_time() {
    let old: Vec<Task> = (1..=3).map(|slot| task(slot, "old", Phase::Running, 1)).collect();
    let replace = |slot: usize| Step::Replace {
        slot: u32::try_from(slot).unwrap(),
        old: vec![old[slot - 1].clone()],
        start_first: true,
        delay: 0,
    };
    let begun = plan(&wanted(3), &old, &known(None));
    assert_eq!(begun.steps, [replace(1)]);
    let begun = begun.course.unwrap();
    assert_eq!((begun.stage, begun.slots, begun.message.as_str()), (Stage::Updating, 3, "update in progress"));
    let one = Known { busy: BTreeSet::from([1]), updating: 1, ..known(Some(&begun)) };
    assert_eq!(plan(&wanted(3), &old, &one).steps, []);
    let all = Wanted { update: Update { parallelism: 0, ..wanted(3).update }, ..wanted(3) };
    assert_eq!(plan(&all, &old, &known(Some(&begun))).steps, [replace(1), replace(2), replace(3)]);
    // A new task runs beside the old one, and netd has restarted in between.
    let both = [task(1, "new", Phase::Running, 2), old[0].clone()];
    let finish = Step::Finish { slot: 1, current: both[0].container.clone(), old: vec![old[0].clone()] };
    assert_eq!(plan(&wanted(1), &both, &known(Some(&begun))).steps, [finish]);
}

#[test]
fn an_update_is_complete_once_its_tasks_have_been_watched() {
    let running = course(Stage::Updating, NOW - 60_000, 1);
    let young = plan(&wanted(1), &[task(1, "new", Phase::Running, NOW - 2_000)], &known(Some(&running)));
    assert_eq!((young.course, young.again), (None, Some(3_000)));
    let done = plan(&wanted(1), &[task(1, "new", Phase::Running, NOW - 6_000)], &known(Some(&running))).course.unwrap();
    assert_eq!((done.stage, done.completed, done.message.as_str()), (Stage::Completed, Some(NOW), "update completed"));
    let back = course(Stage::RollbackStarted, NOW - 60_000, 1);
    let done = plan(&wanted(1), &[task(1, "new", Phase::Running, NOW - 6_000)], &known(Some(&back))).course.unwrap();
    assert_eq!(done.stage, Stage::RollbackCompleted);
}

#[test]
fn an_update_that_fails_is_paused_or_rolled_back_or_goes_on() {
    let running = course(Stage::Updating, NOW - 60_000, 2);
    let failed = Task { exit: 1, ..task(1, "new", Phase::Ended, NOW - 10_000) };
    let there = [failed.clone(), task(1, "old", Phase::Running, 1), task(2, "old", Phase::Running, 1)];
    let with = |action| Wanted { update: Update { action, ..wanted(2).update }, ..wanted(2) };
    let paused = plan(&wanted(2), &there, &known(Some(&running)));
    let course_of = |plan: &Plan| plan.course.clone().unwrap();
    assert_eq!((course_of(&paused).stage, paused.steps), (Stage::Paused, vec![]));
    assert!(course_of(&plan(&wanted(2), &there, &known(Some(&running)))).message.contains(&failed.id));
    let back = plan(&with(Action::Rollback), &there, &known(Some(&running)));
    assert_eq!((back.roll_back, course_of(&back).stage), (true, Stage::RollbackStarted));
    let on = plan(&with(Action::Continue), &there, &known(Some(&running)));
    assert!(on.course.is_none() && on.steps.len() == 1, "{on:?}");
    // A part of the tasks may fail; the end of a task after the time of watching is no failure.
    let half = Wanted { update: Update { ratio: 0.5, ..wanted(2).update }, ..wanted(2) };
    assert!(plan(&half, &there, &known(Some(&running))).course.is_none());
    let late = Task { ended: failed.started + 6_000, ..failed };
    assert!(plan(&wanted(2), &[late, there[1].clone(), there[2].clone()], &known(Some(&running))).course.is_none());
    // Nothing goes on by itself after that, and a rollback is not rolled back.
    let stopped = course(Stage::Paused, NOW - 60_000, 2);
    assert_eq!(plan(&wanted(2), &there, &known(Some(&stopped))).steps, []);
    let again = course(Stage::RollbackStarted, NOW - 60_000, 2);
    let paused = plan(&with(Action::Rollback), &there, &known(Some(&again)));
    assert_eq!((paused.roll_back, course_of(&paused).stage), (false, Stage::RollbackPaused));
}

#[test]
fn old_tasks_are_forgotten_and_the_newest_are_kept() {
    let mut there: Vec<Task> = (1..=6).map(|age| task(1, "old", Phase::Ended, 100 - age)).collect();
    there.push(task(1, "new", Phase::Running, 200));
    let found = steps(&wanted(1), &there);
    assert_eq!(found, [Step::Forget(vec![there[4].clone(), there[5].clone()])]);
    let all = Wanted { history: None, ..wanted(1) };
    assert_eq!(steps(&all, &there), []);
    let none = Wanted { history: Some(0), ..wanted(1) };
    let ended = [Task { exit: 1, ..task(1, "new", Phase::Ended, NOW) }];
    assert_eq!(steps(&none, &ended), [], "the newest says when the slot is started again");
}

#[test]
fn a_node_that_is_drained_runs_nothing_and_a_paused_one_nothing_new() {
    let there = [task(1, "old", Phase::Running, 1)];
    let on = |node| Wanted { node, ..wanted(2) };
    assert_eq!(steps(&on(Availability::Drain), &there), [Step::Stop { slot: 1, tasks: there.to_vec(), remove: false }]);
    let paused = plan(&on(Availability::Pause), &there, &known(None));
    assert_eq!((paused.steps, paused.course), (vec![], None));
}

#[test]
fn a_task_that_was_made_is_started() {
    let made = task(1, "new", Phase::Made, 1);
    assert_eq!(steps(&wanted(1), std::slice::from_ref(&made)), [Step::Resume(made)]);
}
