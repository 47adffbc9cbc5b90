//! What the engine has of tasks. Several who look at the same time share one look.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::task::{DIGEST, Phase, Task};
use crate::base::monotonic;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::upstream::Upstream;

/// How many containers are asked for at the same time.
const AT_ONCE: usize = 8;

/// The tasks of all services, as they were found last.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: tokio::sync::Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// When the look began.
    at: Option<Instant>,
    tasks: Arc<Vec<Task>>,
}

impl Looks {
    /// The tasks as they are now.
    pub(super) async fn look(&self, engine: &Upstream) -> Result<Arc<Vec<Task>>, Failure> {
        let asked = monotonic::now();
        let mut last = self.last.lock().await;
        if last.at.is_some_and(|at| at >= asked) {
            return Ok(last.tasks.clone());
        }
        engine.is_there().await?;
        let at = monotonic::now();
        let listed = engine.labelled(DIGEST).await?;
        // What has ended does not change any more.
        let ended = last.tasks.iter().filter(|task| task.phase == Phase::Ended);
        let known: HashMap<&str, &Task> = ended.map(|task| (task.container.as_str(), task)).collect();
        let looks: Vec<_> = listed.iter().map(|listed| one(engine, listed, &known)).collect();
        let tasks: Vec<Option<Task>> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
        let tasks: Vec<Task> = tasks.into_iter().flatten().collect();
        *last = Last { at: Some(at), tasks: Arc::new(tasks) };
        Ok(last.tasks.clone())
    }
}

async fn one(engine: &Upstream, listed: &Value, known: &HashMap<&str, &Task>) -> Result<Option<Task>, Failure> {
    let id = listed["Id"].as_str().unwrap_or_default();
    let has_ended = matches!(listed["State"].as_str(), Some("exited" | "dead"));
    if let Some(known) = known.get(id).filter(|_| has_ended) {
        return Ok(Some((*known).clone()));
    }
    // It may be gone by now.
    Ok(engine.inspect(id).await?.as_ref().and_then(Task::of))
}
