//! Tasks: netd creates, watches, replaces, updates and removes the containers that the engine runs for services.
//!
//! The engine is the truth. Each service has a keeper, which looks at the engine's containers with the service's labels,
//! decides ([`plan`]) and carries out ([`work`]); then it looks again. What it does not know after a restart of netd or of
//! the engine follows from the containers: slot, definition ([`digest`]) and attempts are in their names and labels.

mod container;
pub(super) mod digest;
mod keeper;
mod look;
mod plan;
mod policy;
pub(super) mod task;
pub(super) mod template;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use self::look::Looks;
use self::task::{Made, Task};
use super::EngineApi;
use super::failure::Failure;
use crate::engine::Snapshot;
use crate::model::service::Service;

/// What is known of tasks besides the engine's containers.
#[derive(Debug)]
pub(super) struct Tasks {
    looks: Looks,
    /// Counts the reasons to look again.
    changes: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Containers that netd has stopped: they did not fail.
    stopped: BTreeSet<String>,
    /// Tasks whose container could not be made, by the id of their service.
    rejected: BTreeMap<String, Vec<Task>>,
    /// Tasks whose container is being made, with the image that may have to be pulled.
    preparing: BTreeMap<String, Vec<Made>>,
    /// What clients sent to pull the images of services.
    auth: BTreeMap<String, String>,
}

/// A task that has no container yet.
#[derive(Debug, Clone)]
pub(super) struct Preparing {
    pub(super) id: String,
    pub(super) slot: u32,
    pub(super) name: String,
    pub(super) digest: String,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { looks: Looks::default(), changes: watch::channel(0).0, inner: Mutex::default() }
    }
}

impl Tasks {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Each change is a single call.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may be different.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Notes how the images of a service are pulled.
    pub(super) fn authorize(&self, service: &Service, auth: Option<String>) {
        if let Some(auth) = auth {
            self.lock().auth.insert(service.id.to_string(), auth);
        }
    }

    /// Whether netd has stopped the container.
    pub(super) fn has_stopped(&self, container: &str) -> bool {
        self.lock().stopped.contains(container)
    }

    /// The tasks of a service whose container is being made.
    pub(super) fn preparing(&self, service: &str) -> Vec<Preparing> {
        let of = |made: &Made| Preparing {
            id: made.id.clone(),
            slot: made.slot,
            name: made.name.clone(),
            digest: made.digest.clone(),
        };
        self.lock().preparing.get(service).into_iter().flatten().map(of).collect()
    }

    /// Forgets what is known of a service.
    fn forget(&self, service: &str) {
        let mut inner = self.lock();
        inner.rejected.remove(service);
        inner.preparing.remove(service);
        inner.auth.remove(service);
    }
}

/// The service with that id, if it still has tasks.
pub(super) fn find(snapshot: &Snapshot, id: &str) -> Option<Arc<Service>> {
    snapshot.desired.services().find(|service| service.id.as_str() == id && service.tasks.is_some()).cloned()
}

impl EngineApi {
    /// The tasks that there are: the engine's containers, and what could not be made.
    pub(super) async fn tasks(&self) -> Result<Vec<Task>, Failure> {
        let Some(engine) = &self.engine else { return Ok(Vec::new()) };
        let found = self.tasks.looks.look(engine).await?;
        let rejected: Vec<Task> = self.tasks.lock().rejected.values().flatten().cloned().collect();
        Ok(found.iter().cloned().chain(rejected).collect())
    }

    /// Removes the containers of a service that is gone.
    pub(super) async fn remove_tasks(self: &Arc<Self>, service: &str) -> Result<(), Failure> {
        let tasks = self.tasks().await?.into_iter().filter(|task| task.service == service);
        let removed = tasks.map(|task| work::end(self.clone(), task));
        let removed = futures_util::future::join_all(removed).await;
        self.tasks.forget(service);
        removed.into_iter().collect()
    }
}
