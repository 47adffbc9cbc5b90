//! Carries out what is decided for a slot: starts, replaces and stops tasks so that no request is lost. A new task is used
//! once it is a ready member of its service; one that is to stop is drained first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use bollard::models as wire;
use tokio::time::{sleep, timeout};

use super::container::{aliases, body};
use super::digest::digest;
use super::find;
use super::policy::grace;
use super::task::{Health, Made, Phase, Task, millis};
use super::template::Node;
use crate::base::clock::{self, unix_seconds};
use crate::engine::proxy::listening::{Question, look};
use crate::faces::engine_api::EngineApi;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::upstream::Upstream;
use crate::model::desired::Attached;
use crate::model::host::backend::Backend;
use crate::model::ids::ContainerId;
use crate::model::publication::Protocol;
use crate::model::request::{MemberAction, MemberChange};
use crate::model::service::{Health as Checked, Mode, Service};

/// The pauses between two looks at a task that becomes ready: at first, and at most.
const FIRST: Duration = Duration::from_millis(20);
const LAST: Duration = Duration::from_secs(1);
/// How long a drained task goes on, so that requests that have reached it are answered.
const SETTLE: Duration = Duration::from_secs(1);
/// The same where clients know its address: as long as they may remember an answer of the name service.
const REMEMBERED: Duration = Duration::from_secs(5);
/// For how many milliseconds after its start a task is not used because nobody listens at its ports.
const LISTENS_MOST: u64 = 10_000;
/// How many tasks of a slot that could not be made are kept.
const REJECTED: usize = 5;

/// What came of a step.
pub(super) struct Outcome {
    /// The slot that is free again.
    pub(super) slot: Option<u32>,
    /// Whether it was a part of an update.
    pub(super) updated: bool,
    pub(super) done: Result<(), Failure>,
}

impl Outcome {
    pub(super) fn of(slot: u32, done: Result<(), Failure>) -> Self {
        Self { slot: Some(slot), updated: false, done }
    }
}

/// A step for a service as it was when the step was decided.
pub(super) struct Job {
    pub(super) api: Arc<EngineApi>,
    pub(super) service: Arc<Service>,
    pub(super) digest: String,
}

/// What became of a new task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    Ready,
    /// It has ended, or its health check fails.
    Failed,
    /// The service is gone, or says something else by now.
    Superseded,
}

impl Job {
    fn engine(&self) -> Result<&Upstream, Failure> {
        let missing =
            || Failure::new(StatusCode::NOT_IMPLEMENTED, "no engine is configured: see [engine] in netd.toml(5)");
        self.api.engine.as_ref().ok_or_else(missing)
    }

    /// Whether the service still says what it said.
    fn is_current(&self) -> bool {
        let now = find(&self.api.handle.snapshot(), self.service.id.as_str());
        now.is_some_and(|now| digest(&now).as_ref() == Some(&self.digest))
    }

    /// Makes and starts the next task of the slot, and waits until it is ready, or is known not to become so.
    pub(super) async fn start(&self, slot: u32, attempt: u64) -> Result<(), Failure> {
        let id = self.launch(slot, attempt).await?;
        self.ready(&id).await.map(drop)
    }

    /// Makes and starts the next task of the slot; the container's id.
    async fn launch(&self, slot: u32, attempt: u64) -> Result<String, Failure> {
        let node = self.api.node();
        let made = Made::new(&self.service, &node.id, slot, self.digest.clone(), attempt);
        let service = self.service.id.to_string();
        self.api.tasks.lock().preparing.entry(service.clone()).or_default().push(made.clone());
        let done = self.make_and_start(&made, &node).await;
        let mut inner = self.api.tasks.lock();
        if let Some(preparing) = inner.preparing.get_mut(&service) {
            preparing.retain(|other| other.id != made.id);
        }
        if let Err(failure) = &done {
            let rejected = inner.rejected.entry(service).or_default();
            rejected.push(Task::rejected(&self.service, made, failure.message.clone(), millis(clock::now())));
            let of_slot = rejected.iter().filter(|task| task.slot == slot).count();
            let mut surplus = of_slot.saturating_sub(REJECTED);
            rejected.retain(|task| {
                let goes = task.slot == slot && surplus > 0;
                surplus -= usize::from(goes);
                !goes
            });
        }
        drop(inner);
        self.api.tasks.changed();
        done
    }

    async fn make_and_start(&self, made: &Made, node: &Node) -> Result<String, Failure> {
        let (engine, service) = (self.engine()?, &self.service);
        let tasks = service.tasks.as_ref().ok_or_else(|| Failure::bad("the service has no tasks"))?;
        let body = body(service, tasks, made, node).map_err(Failure::bad)?;
        let image = tasks.template["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        let id = match engine.make(&self.api.handle, &made.name, &body).await {
            Err(failure) if failure.status == StatusCode::NOT_FOUND && is_image(&failure) => {
                let auth = self.api.tasks.lock().auth.get(service.id.as_str()).cloned();
                if let Err(why) = engine.pull(image, auth.as_deref()).await {
                    tracing::debug!(image, "cannot pull: {}", why.message);
                    return Err(failure);
                }
                engine.make(&self.api.handle, &made.name, &body).await?
            }
            made => made?,
        };
        let started = async {
            for on in service.networks.iter().skip(1) {
                self.join(engine, on.network.as_str(), &id, aliases(service, made)).await?;
            }
            engine.start(&id).await
        };
        if let Err(failure) = started.await {
            // It never ran: what is left of it would only look like a task that is about to start.
            let _ = engine.remove(&id).await;
            return Err(failure);
        }
        Ok(id)
    }

    /// Connects a container that has not been started to a further network.
    async fn join(&self, engine: &Upstream, network: &str, id: &str, aliases: Vec<String>) -> Result<(), Failure> {
        let settings = wire::EndpointSettings { aliases: Some(aliases), ..wire::EndpointSettings::default() };
        let snapshot = self.api.handle.snapshot();
        let known = snapshot.desired.networks_called(&network.to_ascii_lowercase()).first().cloned();
        if engine.connect_defined_if_podman(network, id, &settings).await? {
            return Ok(());
        }
        let known = known.ok_or_else(|| Failure::no_network(network))?;
        match engine.connect(&known, id, &settings).await? {
            true => Ok(()),
            false => Err(Failure::no_container(id)),
        }
    }

    /// Waits until the container is a ready member on all of the service's networks.
    async fn ready(&self, id: &str) -> Result<Became, Failure> {
        let (engine, mut pause) = (self.engine()?, FIRST);
        let mut changes = self.api.tasks.changes.subscribe();
        loop {
            if !self.is_current() {
                return Ok(Became::Superseded);
            }
            let task = engine.inspect(id).await?.as_ref().and_then(Task::of);
            let Some(task) = task.filter(|task| task.is_alive() && task.health != Health::Unhealthy) else {
                return Ok(Became::Failed);
            };
            note(&self.api, &self.service, std::slice::from_ref(&task)).await;
            if self.is_ready(id) {
                return Ok(Became::Ready);
            }
            let _ = timeout(pause, changes.changed()).await;
            // Changes may come at once: the engine is not asked without a pause.
            sleep(FIRST).await;
            pause = (pause * 2).min(LAST);
        }
    }

    fn is_ready(&self, id: &str) -> bool {
        let snapshot = self.api.handle.snapshot();
        let Some(service) = find(&snapshot, self.service.id.as_str()) else { return false };
        let own = snapshot.desired.members(&service).filter(|member| member.endpoint.container.id.as_str() == id);
        own.filter(|member| member.standing.is_ready()).count() >= service.networks.len()
    }

    /// Starts a task that was made.
    pub(super) async fn resume(&self, task: &Task) -> Result<(), Failure> {
        let engine = self.engine()?;
        if let Err(failure) = engine.start(&task.container).await {
            let _ = engine.remove(&task.container).await;
            return Err(failure);
        }
        self.ready(&task.container).await.map(drop)
    }

    /// Puts a task of the service's definition in the place of older ones.
    pub(super) async fn replace(&self, slot: u32, old: Vec<Task>, start_first: bool) -> Outcome {
        let done = match start_first {
            true => self.start_first(slot, &old).await,
            false => match self.retire(&old).await {
                Ok(()) => self.start(slot, 0).await,
                failed => failed,
            },
        };
        Outcome { slot: Some(slot), updated: true, done }
    }

    async fn start_first(&self, slot: u32, old: &[Task]) -> Result<(), Failure> {
        let id = self.launch(slot, 0).await?;
        self.take_over(&id, old).await
    }

    /// Stops the old tasks once the new one is ready. If that fails, they go on.
    pub(super) async fn take_over(&self, new: &str, old: &[Task]) -> Result<(), Failure> {
        match self.ready(new).await? {
            Became::Ready => self.retire(old).await,
            Became::Failed => {
                // An unhealthy one is stopped; it counts as failed.
                self.engine()?.stop(new, None).await
            }
            Became::Superseded => Ok(()),
        }
    }

    /// Drains and stops tasks; with `remove`, nothing is left of them.
    pub(super) async fn stop(&self, tasks: &[Task], remove: bool) -> Result<(), Failure> {
        self.retire(tasks).await?;
        if remove { self.forget(tasks).await } else { Ok(()) }
    }

    /// Removes ended tasks.
    pub(super) async fn forget(&self, tasks: &[Task]) -> Result<(), Failure> {
        let engine = self.engine()?;
        for task in tasks {
            if !task.container.is_empty() {
                engine.remove(&task.container).await?;
            }
            let mut inner = self.api.tasks.lock();
            inner.stopped.remove(&task.container);
            if let Some(rejected) = inner.rejected.get_mut(&task.service) {
                rejected.retain(|other| other.id != task.id);
            }
        }
        Ok(())
    }

    /// Drains the tasks that run, waits until nothing is on its way to them, and stops them.
    async fn retire(&self, tasks: &[Task]) -> Result<(), Failure> {
        let engine = self.engine()?;
        let grace = self.service.tasks.as_ref().map(grace);
        let stopped = tasks.iter().filter(|task| task.is_alive()).map(|task| async move {
            if task.phase == Phase::Running && drain(&self.api, &task.container).await {
                sleep(settling(&self.service)).await;
            }
            if task.health != Health::Unhealthy {
                self.api.tasks.lock().stopped.insert(task.container.clone());
            }
            engine.stop(&task.container, grace).await
        });
        let stopped = futures_util::future::join_all(stopped).await;
        stopped.into_iter().collect()
    }

    /// Waits for the pause between two updates of slots, unless the service says something else by then.
    pub(super) async fn pause(&self, millis: u64) {
        let wait = async {
            let mut changes = self.api.tasks.changes.subscribe();
            while self.is_current() && changes.changed().await.is_ok() {}
        };
        let _ = timeout(Duration::from_millis(millis), wait).await;
    }
}

/// Stops a task whose service is gone, and removes it.
pub(super) async fn end(api: Arc<EngineApi>, task: Task) -> Result<(), Failure> {
    let Some(engine) = api.engine.as_ref().filter(|_| !task.container.is_empty()) else { return Ok(()) };
    if task.is_alive() {
        // Another service may have it as a member.
        drain(&api, &task.container).await;
        engine.stop(&task.container, None).await?;
    }
    engine.remove(&task.container).await?;
    api.tasks.lock().stopped.remove(&task.container);
    Ok(())
}

/// Nothing new reaches the container from now on. False: nothing did before.
async fn drain(api: &EngineApi, container: &str) -> bool {
    let change = MemberChange { member: container.to_owned(), action: MemberAction::Drain };
    api.handle.change_member(change).await.is_ok()
}

/// How long requests may still be on their way to a drained member.
fn settling(service: &Service) -> Duration {
    if service.mode == Mode::Dns { REMEMBERED } else { SETTLE }
}

/// Tells netd what the engine knows of tasks: their labels, by which they are members, and their health.
pub(super) async fn note(api: &EngineApi, service: &Service, tasks: &[Task]) {
    let snapshot = api.handle.snapshot();
    let mut results = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.phase == Phase::Running) {
        let Ok(id) = task.container.parse::<ContainerId>() else { continue };
        let Some(attached) = snapshot.desired.container(&id) else { continue };
        let is_labelled = attached.endpoints.iter().all(|end| {
            let labels = snapshot.desired.labels(end);
            service.select.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        if !is_labelled {
            api.handle.note_labels(id.clone(), task.labels.clone()).await;
        }
        let known = snapshot.desired.condition(&id).and_then(|condition| condition.engine.as_ref());
        let known = known.map(|known| known.healthy);
        let healthy = match task.health {
            Health::Starting => continue,
            Health::Unhealthy => false,
            Health::Unchecked | Health::Healthy => known == Some(true) || listens(task, attached, service).await,
        };
        if !healthy && task.health != Health::Unhealthy {
            continue;
        }
        if known != Some(healthy) {
            let why = if healthy { String::new() } else { "its engine's health check fails".to_owned() };
            results.insert((id, None), Checked { healthy, since: unix_seconds(), why });
        }
    }
    if !results.is_empty() {
        api.handle.note_health(results).await;
    }
}

/// Whether somebody listens at the ports that the service publishes, so that nobody is refused there; a task that has run
/// for a while is used as it is. The kernel is asked: a connection would be the program's first.
async fn listens(task: &Task, attached: &Attached, service: &Service) -> bool {
    if millis(clock::now()).saturating_sub(task.started) > LISTENS_MOST {
        return true;
    }
    let ports = || service.publications.iter().filter(|publication| publication.protocol == Protocol::Tcp);
    let ends = attached.endpoints.iter().filter(|end| service.on(&end.network).is_some());
    let ends = ends.filter_map(|end| Some((end, end.addresses.first()?.ip())));
    let backends: Vec<Backend> = ends
        .flat_map(|(end, ip)| {
            let at = ports().map(move |port| SocketAddr::new(ip, port.container.first()));
            at.map(|at| Backend { at, ifname: end.ifname.clone() })
        })
        .collect();
    if backends.is_empty() {
        return true;
    }
    let question = Question { netns: attached.container.netns.clone(), backends };
    let looked = tokio::task::spawn_blocking(move || look(vec![question])).await;
    match looked {
        Ok(Ok(answers)) => match answers.into_iter().next() {
            Some(Ok(Some(found))) => found.into_iter().all(|listens| listens),
            Some(Ok(None)) | None => false,
            // What cannot be found out must not keep a task from being used.
            Some(Err(_)) => true,
        },
        Ok(Err(_)) | Err(_) => true,
    }
}

/// Whether it says that the image is missing.
fn is_image(failure: &Failure) -> bool {
    // Docker: "No such image"; Podman: "image not known".
    failure.message.to_ascii_lowercase().contains("image")
}
