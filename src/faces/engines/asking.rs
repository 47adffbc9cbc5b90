//! Which containers an engine is asked for, a few at a time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{RETRY, RETRY_MAX, Wanted};
use crate::base::monotonic;
use crate::engine::containers::{Check, Containers, Known};
use crate::model::ids::ContainerId;

/// Questions at a time: an engine may take long to answer for a container that it is just starting.
const MOST: usize = 4;

/// Between two questions about containers whose health the engine checks: it may lose a notice.
const CHECKED: Duration = Duration::from_secs(10);

type Answered = (ContainerId, Result<Option<Known>, String>);

/// The questions for an engine.
pub(super) struct Asking {
    engine: Arc<dyn Containers>,
    wanted: Wanted,
    /// The containers to ask for.
    waiting: BTreeSet<ContainerId>,
    /// Those that are being asked for: never twice at a time, so that the last answer is the newest.
    asked: BTreeSet<ContainerId>,
    running: JoinSet<Answered>,
    /// Those whose health it checks, and when to ask for them again.
    checked: BTreeSet<ContainerId>,
    due: Instant,
    /// Whether the engine knows any.
    knows: bool,
    /// Until when nothing is asked, because the engine did not answer; and the pause.
    rest: Option<(Instant, Duration)>,
}

impl Asking {
    pub(super) fn new(engine: Arc<dyn Containers>) -> Self {
        Self {
            engine,
            wanted: Wanted::new(),
            waiting: BTreeSet::new(),
            asked: BTreeSet::new(),
            running: JoinSet::new(),
            checked: BTreeSet::new(),
            due: monotonic::now() + CHECKED,
            knows: false,
            rest: None,
        }
    }

    /// These are the containers now: asks for those that are new or connected anew.
    pub(super) fn follow(&mut self, wanted: &Wanted) {
        let fresh = wanted.iter().filter(|(id, sequence)| self.wanted.get(*id) != Some(sequence));
        self.waiting.extend(fresh.map(|(id, _)| id.clone()));
        self.waiting.retain(|id| wanted.contains_key(id));
        self.checked.retain(|id| wanted.contains_key(id));
        self.wanted.clone_from(wanted);
    }

    /// The engine says that something has changed, so it answers.
    pub(super) fn noticed(&mut self, id: &str) {
        self.rest = None;
        if let Ok(id) = id.parse::<ContainerId>()
            && self.wanted.contains_key(&id)
        {
            self.waiting.insert(id);
        }
    }

    /// Begins to ask, as much as may be.
    pub(super) fn begin(&mut self) {
        if self.rest.is_some_and(|(until, _)| until > monotonic::now()) {
            return;
        }
        if self.due <= monotonic::now() {
            self.due = monotonic::now() + CHECKED;
            self.waiting.extend(self.checked.iter().cloned());
        }
        while self.running.len() < MOST
            && let Some(id) = self.waiting.iter().find(|id| !self.asked.contains(*id)).cloned()
        {
            self.waiting.remove(&id);
            self.asked.insert(id.clone());
            let engine = self.engine.clone();
            self.running.spawn(async move {
                let known = engine.container(id.as_str()).await;
                (id, known)
            });
        }
    }

    /// All were asked for, and the engine knows none: there is no reason to keep the connection to it, which may keep it
    /// from ending.
    pub(super) fn is_useless(&self) -> bool {
        !self.knows && self.waiting.is_empty() && self.asked.is_empty()
    }

    /// The containers that were asked for.
    pub(super) fn into_wanted(self) -> Wanted {
        self.wanted
    }

    /// When to begin again after a rest, or with what is checked.
    pub(super) fn again(&self) -> Option<Instant> {
        let rested = self.rest.map(|(until, _)| until).filter(|until| *until > monotonic::now());
        match rested {
            Some(until) => (!self.waiting.is_empty() || !self.checked.is_empty()).then_some(until),
            None => (!self.checked.is_empty()).then_some(self.due),
        }
    }

    fn rest_longer(&mut self) {
        let now = monotonic::now();
        let pause = match self.rest {
            // Others were asked for at the same time.
            Some((until, _)) if until > now => return,
            Some((_, pause)) => (pause * 2).min(RETRY_MAX),
            None => RETRY,
        };
        self.rest = Some((now + pause, pause));
    }

    /// The next answer, if it is about a container that the engine knows. `None`: nothing is asked.
    pub(super) async fn answer(&mut self) -> Option<Option<(ContainerId, Known)>> {
        let Ok((id, known)) = self.running.join_next().await? else { return Some(None) };
        self.asked.remove(&id);
        let is_wanted = self.wanted.contains_key(&id);
        match known {
            Ok(known) => {
                self.rest = None;
                self.knows |= known.is_some();
                if known.as_ref().is_some_and(|known| is_wanted && known.check != Check::None) {
                    self.checked.insert(id.clone());
                } else {
                    self.checked.remove(&id);
                }
                Some(known.filter(|_| is_wanted).map(|known| (id, known)))
            }
            Err(why) => {
                tracing::debug!(engine = self.engine.name(), container = %id, "what it knows is not known: {why}");
                self.rest_longer();
                if is_wanted {
                    self.waiting.insert(id);
                }
                Some(None)
            }
        }
    }
}
