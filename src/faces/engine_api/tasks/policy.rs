//! What a service says about restarts and updates of its tasks, with Docker's defaults (swarmkit, api/defaults/service.go).

use serde_json::Value;

use crate::model::service::Tasks;

/// Nanoseconds of a millisecond: Docker's durations are in nanoseconds, netd's in milliseconds.
const NANOS: u64 = 1_000_000;

/// When an ended task is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Restart {
    pub(super) condition: Condition,
    /// Milliseconds.
    pub(super) delay: u64,
    /// 0: any number.
    pub(super) attempts: u64,
    /// Attempts count that ended within so many milliseconds; 0: all do.
    pub(super) window: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    OnFailure,
    Any,
}

/// How tasks are replaced by those of a newer definition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Update {
    /// How many at a time; 0: all.
    pub(super) parallelism: usize,
    /// Milliseconds between two.
    pub(super) delay: u64,
    pub(super) action: Action,
    /// For how many milliseconds the end of a new task is a failure of the update.
    pub(super) monitor: u64,
    /// The part of failed tasks that is borne.
    pub(super) ratio: f64,
    /// Whether the new one starts before the old one is stopped.
    pub(super) start_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pause,
    Continue,
    Rollback,
}

fn millis(value: &Value) -> Option<u64> {
    value.as_u64().map(|nanos| nanos / NANOS)
}

impl Restart {
    pub(super) fn of(tasks: &Tasks) -> Self {
        let policy = &tasks.template["RestartPolicy"];
        Self {
            condition: match policy["Condition"].as_str() {
                Some("none") => Condition::None,
                Some("on-failure") => Condition::OnFailure,
                _ => Condition::Any,
            },
            delay: millis(&policy["Delay"]).unwrap_or(5_000),
            attempts: policy["MaxAttempts"].as_u64().unwrap_or(0),
            window: millis(&policy["Window"]).unwrap_or(0),
        }
    }
}

impl Update {
    /// `UpdateConfig` or `RollbackConfig`.
    pub(super) fn of(config: Option<&Value>) -> Self {
        let absent = Value::Null;
        let config = config.unwrap_or(&absent);
        Self {
            parallelism: if config.is_null() { 1 } else { parallelism(&config["Parallelism"]) },
            delay: millis(&config["Delay"]).unwrap_or(0),
            action: match config["FailureAction"].as_str() {
                Some("continue") => Action::Continue,
                Some("rollback") => Action::Rollback,
                _ => Action::Pause,
            },
            monitor: millis(&config["Monitor"]).filter(|monitor| *monitor > 0).unwrap_or(5_000),
            ratio: config["MaxFailureRatio"].as_f64().unwrap_or(0.0),
            start_first: config["Order"].as_str() == Some("start-first"),
        }
    }
}

fn parallelism(value: &Value) -> usize {
    value.as_u64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

/// For how many seconds a task may take to stop.
pub(super) fn grace(tasks: &Tasks) -> u64 {
    let given = millis(&tasks.template["ContainerSpec"]["StopGracePeriod"]);
    given.map_or(10, |grace| grace.div_ceil(1000))
}
