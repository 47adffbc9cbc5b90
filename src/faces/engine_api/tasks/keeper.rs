//! The keepers: one for each service with tasks, and who starts them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::digest::digest;
use super::find;
use super::plan::{Known, Plan, Step, Wanted, plan};
use super::policy::{Restart, Update};
use super::task::{NODE_ID, Task, millis};
use super::work::{self, Outcome};
use crate::base::clock;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::swarm_state::{Course, SwarmState};
use crate::faces::engine_api::{Asked, EngineApi};
use crate::faces::shared::client::segment;
use crate::model::request::{ServiceSpec, ServiceUpdate};
use crate::model::service::Service;

/// How often it is looked at, whatever is told.
const EVERY: Duration = Duration::from_secs(5);
/// After which pause the engine's events are followed again.
const AGAIN: Duration = Duration::from_secs(1);

impl EngineApi {
    /// Keeps the tasks of all services until `stop` is cancelled.
    pub async fn keep_tasks(self: Arc<Self>, stop: CancellationToken) {
        if self.engine.is_none() {
            return stop.cancelled().await;
        }
        let keeping = async { tokio::join!(self.clone().supervise(), self.follow_engine(), self.follow_netd()) };
        stop.run_until_cancelled(keeping).await;
    }

    /// Starts a keeper for each service that has none, and removes what services that are gone have left.
    async fn supervise(self: Arc<Self>) {
        let mut keepers: BTreeMap<String, Keeping> = BTreeMap::new();
        let mut changes = self.tasks.changes.subscribe();
        loop {
            keepers.retain(|_, keeper| !keeper.0.is_finished());
            let snapshot = self.handle.snapshot();
            for service in snapshot.desired.services().filter(|service| service.tasks.is_some()) {
                keepers
                    .entry(service.id.to_string())
                    .or_insert_with(|| Keeping(tokio::spawn(Keeper::new(self.clone(), service.id.to_string()).keep())));
            }
            if let Err(failure) = self.remove_orphans(&keepers).await {
                tracing::debug!("cannot look for tasks that are left: {}", failure.message);
            }
            // A moment, so that many changes are one reason.
            sleep(Duration::from_millis(50)).await;
            let _ = timeout(EVERY, changes.changed()).await;
        }
    }

    /// Removes the tasks of this node whose service is gone: netd was not there when it was removed.
    async fn remove_orphans(self: &Arc<Self>, keepers: &BTreeMap<String, Keeping>) -> Result<(), Failure> {
        let Some(swarm) = self.swarm() else { return Ok(()) };
        let tasks = self.tasks().await?;
        let snapshot = self.handle.snapshot();
        let known: BTreeSet<&str> = snapshot.desired.services().map(|service| service.id.as_str()).collect();
        let is_orphan = |task: &&Task| {
            let is_own = task.labels.get(NODE_ID) == Some(&swarm.node);
            is_own && !known.contains(task.service.as_str()) && !keepers.contains_key(&task.service)
        };
        let gone: BTreeSet<String> = tasks.iter().filter(is_orphan).map(|task| task.service.clone()).collect();
        for service in gone {
            self.remove_tasks(&service).await?;
        }
        Ok(())
    }

    /// Looks again whenever the engine tells of a container of a task.
    async fn follow_engine(&self) {
        let Some(engine) = &self.engine else { return };
        loop {
            if engine.is_there().await.is_ok()
                && let Ok(about) = engine.about().await
            {
                let filters = json!({"type": ["container"], "label": [super::task::DIGEST]}).to_string();
                let uri = format!("/v{}/events?filters={}", about.version, segment(&filters)).parse();
                if let Ok(upstream) = uri {
                    let asked = Asked { version: about.version, query: Default::default(), upstream };
                    if let Ok(mut events) = engine.events(&asked, None, None).await {
                        self.tasks.changed();
                        while events.next().await.is_some() {
                            self.tasks.changed();
                        }
                    }
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Looks again whenever services are changed.
    async fn follow_netd(&self) {
        use crate::engine::event::Change;
        let mut events = self.handle.events();
        loop {
            match events.recv().await {
                Ok(event) => match event.change {
                    Change::ServiceCreated(_) | Change::ServiceUpdated(_) | Change::ServiceRemoved(_) => {
                        self.tasks.changed();
                    }
                    _ => {}
                },
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => self.tasks.changed(),
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// A running keeper; it ends with its value.
struct Keeping(JoinHandle<()>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the tasks of one service.
struct Keeper {
    api: Arc<EngineApi>,
    /// The service's id.
    id: String,
    /// What is being done.
    running: JoinSet<Outcome>,
    busy: BTreeSet<u32>,
    updating: usize,
}

impl Keeper {
    fn new(api: Arc<EngineApi>, id: String) -> Self {
        Self { api, id, running: JoinSet::new(), busy: BTreeSet::new(), updating: 0 }
    }

    /// Runs until the service is gone.
    async fn keep(mut self) {
        let mut changes = self.api.tasks.changes.subscribe();
        while let Some(service) = find(&self.api.handle.snapshot(), &self.id) {
            changes.mark_unchanged();
            let mut pause = EVERY;
            match self.round(&service).await {
                Ok(again) => pause = again.map_or(EVERY, |again| Duration::from_millis(again).min(EVERY)),
                Err(failure) => {
                    tracing::debug!(service = %service.name, "cannot look at its tasks: {}", failure.message);
                }
            }
            tokio::select! {
                Some(done) = self.running.join_next() => self.done(done),
                _ = changes.changed() => {}
                () = sleep(pause) => {}
            }
        }
        // What has begun sees that, and ends: a request that is cut off could still make a container.
        while self.running.join_next().await.is_some() {}
        while let Err(failure) = self.api.remove_tasks(&self.id).await {
            tracing::debug!("cannot remove the tasks of a service that is gone: {}", failure.message);
            sleep(AGAIN).await;
        }
        self.api.settle_networks().await;
    }

    /// Looks, decides, and begins what is to be done. Returns after how many milliseconds it is to look again.
    async fn round(&mut self, service: &Arc<Service>) -> Result<Option<u64>, Failure> {
        let Some(swarm) = self.api.swarm() else { return Ok(None) };
        let Some(wanted) = wanted(service, &swarm) else { return Ok(None) };
        let tasks: Vec<Task> = self.api.tasks().await?.into_iter().filter(|task| task.service == self.id).collect();
        work::note(&self.api, service, &tasks).await;
        let course = swarm.updates.get(&self.id);
        let stopped = self.api.tasks.lock().stopped.clone();
        let (busy, updating, now) = (self.busy.clone(), self.updating, millis(clock::now()));
        let Plan { steps, course, roll_back, again } =
            plan(&wanted, &tasks, &Known { busy, updating, stopped, course, now });
        if let Some(course) = course {
            self.set_course(service, course, roll_back).await?;
            if roll_back {
                return Ok(Some(0));
            }
        }
        for step in steps {
            self.begin(service, &wanted, step);
        }
        Ok(again)
    }

    /// Stores how the update goes on, and makes the service as it was if it has failed.
    async fn set_course(&self, service: &Service, course: Course, roll_back: bool) -> Result<(), Failure> {
        tracing::info!(service = %service.name, state = course.stage.as_str(), "{}", course.message);
        let id = self.id.clone();
        self.api
            .change_swarm(move |swarm| {
                let _: () = drop(swarm.updates.insert(id, course));
                Ok(())
            })
            .await?;
        if let Some(previous) = service.previous.as_ref().filter(|_| roll_back) {
            let spec = ServiceSpec::from(previous.as_ref());
            let update = ServiceUpdate { service: self.id.clone(), version: Some(service.version), spec };
            self.api.handle.update_service(update).await?;
        }
        Ok(())
    }

    fn begin(&mut self, service: &Arc<Service>, wanted: &Wanted, step: Step) {
        let job = work::Job { api: self.api.clone(), service: service.clone(), digest: wanted.digest.clone() };
        match step {
            Step::Start { slot, attempt } => {
                self.busy.insert(slot);
                self.running.spawn(async move { Outcome::of(slot, job.start(slot, attempt).await.map(drop)) });
            }
            Step::Resume(task) => {
                self.busy.insert(task.slot);
                self.running.spawn(async move { Outcome::of(task.slot, job.resume(&task).await) });
            }
            Step::Replace { slot, old, start_first, delay } => {
                self.busy.insert(slot);
                self.updating += 1;
                self.running.spawn(async move {
                    let outcome = job.replace(slot, old, start_first).await;
                    job.pause(delay).await;
                    outcome
                });
            }
            Step::Finish { slot, current, old } => {
                self.busy.insert(slot);
                self.running.spawn(async move { Outcome::of(slot, job.take_over(&current, &old).await) });
            }
            Step::Stop { slot, tasks, remove } => {
                self.busy.insert(slot);
                self.running.spawn(async move { Outcome::of(slot, job.stop(&tasks, remove).await) });
            }
            Step::Forget(tasks) => {
                self.running
                    .spawn(async move { Outcome { slot: None, updated: false, done: job.forget(&tasks).await } });
            }
        }
    }

    fn done(&mut self, done: Result<Outcome, tokio::task::JoinError>) {
        match done {
            Ok(Outcome { slot, updated, done }) => {
                if let Some(slot) = slot {
                    self.busy.remove(&slot);
                }
                if updated {
                    self.updating = self.updating.saturating_sub(1);
                }
                if let Err(failure) = done {
                    tracing::warn!(service = self.id, "a task: {}", failure.message);
                }
            }
            // What panicked has left its slot as the engine shows it.
            Err(error) => {
                tracing::error!(service = self.id, "a task: {error}");
                (self.busy, self.updating) = (BTreeSet::new(), 0);
            }
        }
    }
}

fn wanted(service: &Service, swarm: &SwarmState) -> Option<Wanted> {
    let tasks = service.tasks.as_ref()?;
    Some(Wanted {
        digest: digest(service)?,
        slots: match tasks.replicas {
            Some(replicas) => (1..=replicas).collect(),
            None => vec![0],
        },
        node: swarm.node_spec.availability,
        restart: Restart::of(tasks),
        update: Update::of(tasks.update.as_ref()),
        rollback: Update::of(tasks.rollback.as_ref()),
        history: swarm.history(),
        has_previous: service.previous.as_ref().is_some_and(|previous| previous.tasks.is_some()),
    })
}
