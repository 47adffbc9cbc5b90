//! What engines (Docker, Podman) know of containers that are endpoints of netd: their labels, which make them members of
//! services, and the results of their engines' health checks.
//!
//! An engine is asked for a container when the container is connected and when the engine gives notice of a change; now and
//! then if it checks the container's health, and never for others. One that is absent, hangs or restarts is tried again with growing pauses, and holds up nothing.

mod asking;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::base::monotonic;
use crate::engine::Handle;
use crate::engine::containers::{Containers, Notices};
use crate::model::desired::{Attached, Desired};
use crate::model::ids::ContainerId;
use asking::Asking;

/// How often to look for the socket of an engine that may have containers of netd.
const LOOK: Duration = Duration::from_secs(5);
/// The pause after the engine did not answer, and the longest one; each is twice as long as the one before.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Between two looks at the snapshot, at least.
const REST: Duration = Duration::from_millis(20);

/// The containers of engines, each with the number of its first endpoint: one that is connected anew has another.
type Wanted = BTreeMap<ContainerId, u64>;

/// Follows the engines until it is cancelled.
pub async fn run(handle: Handle, engines: Vec<Arc<dyn Containers>>) {
    join_all(engines.into_iter().map(|engine| follow(handle.clone(), engine))).await;
}

async fn follow(handle: Handle, engine: Arc<dyn Containers>) {
    let mut revisions = handle.revisions();
    let mut pause = RETRY;
    // Containers that the engine does not have.
    let mut strangers = Wanted::new();
    loop {
        // It is not asked as long as there is nothing to ask for.
        while wanted(&handle.snapshot().desired).iter().all(|(id, first)| strangers.get(id) == Some(first)) {
            if revisions.changed().await.is_err() {
                return;
            }
        }
        if !engine.may_answer() {
            tokio::select! {
                () = sleep(LOOK) => {}
                changed = revisions.changed() => if changed.is_err() { return },
            }
            sleep(REST).await;
            continue;
        }
        let why = match engine.notices().await {
            Ok(notices) => {
                pause = RETRY;
                strangers = Wanted::new();
                match session(&handle, &engine, notices, &mut revisions).await {
                    Some(asked) => {
                        strangers = asked;
                        continue;
                    }
                    None => "it has ended the connection".to_owned(),
                }
            }
            Err(why) => why,
        };
        tracing::debug!(engine = engine.name(), "the labels and the health of its containers are unknown: {why}");
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Asks for every container once, and again whenever there is notice of it, until the notices end. Returns the containers if
/// the engine has none of them.
async fn session(
    handle: &Handle,
    engine: &Arc<dyn Containers>,
    notices: Notices,
    revisions: &mut watch::Receiver<u64>,
) -> Option<Wanted> {
    let mut notices = pin!(notices);
    let mut asking = Asking::new(engine.clone());
    let (mut changed, mut rested) = (true, monotonic::now());
    loop {
        asking.begin();
        if !changed && asking.is_useless() {
            return Some(asking.into_wanted());
        }
        let again = asking.again();
        tokio::select! {
            alive = revisions.changed(), if !changed => match alive {
                Ok(()) => changed = true,
                Err(_) => return None,
            },
            () = sleep_until(rested.into()), if changed => {
                changed = false;
                revisions.mark_unchanged();
                asking.follow(&wanted(&handle.snapshot().desired));
                rested = monotonic::now() + REST;
            }
            notice = notices.next() => match notice {
                Some(id) => asking.noticed(&id),
                None => return None,
            },
            Some(answer) = asking.answer() => if let Some((id, known)) = answer {
                told::tell(handle, &id, known).await;
            },
            () = sleep_until(again.unwrap_or_else(monotonic::now).into()), if again.is_some() => {}
        }
    }
}

/// The containers that an engine may know.
fn wanted(desired: &Desired) -> Wanted {
    let of_engine = |attached: &&Arc<Attached>| {
        let asked = attached.endpoints.iter().any(|endpoint| endpoint.owner.is_some() || endpoint.handover.is_some());
        asked || attached.container.of_engine
    };
    let first = |attached: &Arc<Attached>| attached.endpoints.first().map_or(0, |endpoint| endpoint.sequence);
    let engines = desired.containers().filter(of_engine);
    engines.map(|attached| (attached.container.id.clone(), first(attached))).collect()
}
