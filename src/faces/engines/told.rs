//! Tells netd's engine what an engine knows of a container, if it is news.

use std::collections::BTreeMap;

use crate::base::clock::unix_seconds;
use crate::engine::Handle;
use crate::engine::containers::{Check, Known};
use crate::model::ids::ContainerId;
use crate::model::service::{
    COMPOSE_ONE_OFF, COMPOSE_PROJECT, COMPOSE_SERVICE, Health, PODMAN_PROJECT, PODMAN_SERVICE, TASK_DIGEST,
    TASK_SERVICE,
};

/// How many labels of a container are taken over, and how many bytes they may have altogether.
const LABELS_MAX: usize = 128;
const BYTES_MAX: usize = 16 << 10;
/// These before all others.
const FIRST: [&str; 6] =
    [COMPOSE_PROJECT, COMPOSE_SERVICE, COMPOSE_ONE_OFF, PODMAN_PROJECT, PODMAN_SERVICE, TASK_SERVICE];

/// Health first: a service that follows from labels uses a member of whose health nothing is known.
pub(super) async fn tell(handle: &Handle, id: &ContainerId, Known { labels, check }: Known) {
    let snapshot = handle.snapshot();
    let condition = snapshot.desired.condition(id);
    let (healthy, why) = said(check);
    let is_known = condition
        .and_then(|condition| condition.engine.as_ref())
        .is_some_and(|known| (known.healthy, &known.why) == (healthy, &why));
    // A task is not healthy before somebody listens at its service's ports, which who runs it finds out.
    if !is_known && !labels.contains_key(TASK_DIGEST) {
        let health = Health { healthy, since: unix_seconds(), why };
        handle.note_health([((id.clone(), None), health)].into()).await;
    }
    let labels = bounded(labels);
    if condition.map(|condition| &condition.labels).is_none_or(|known| *known != labels) {
        handle.note_labels(id.clone(), labels).await;
    }
}

/// Whether the container counts as healthy, and why not. That nobody checks its health is no reason against it.
fn said(check: Check) -> (bool, String) {
    match check {
        Check::None | Check::Healthy => (true, String::new()),
        Check::Starting => (false, "its engine's health check has not succeeded yet".to_owned()),
        Check::Unhealthy(why) if why.is_empty() => (false, "its engine's health check fails".to_owned()),
        Check::Unhealthy(why) => (false, format!("its engine's health check fails: {why}")),
    }
}

fn bounded(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let first: Vec<_> = FIRST.iter().filter_map(|key| labels.remove_entry(*key)).collect();
    let mut bytes = 0;
    let fits = |(key, value): &(String, String)| {
        let size = key.len() + value.len();
        let fits = bytes + size <= BYTES_MAX;
        bytes += if fits { size } else { 0 };
        fits
    };
    first.into_iter().chain(labels).filter(fits).take(LABELS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_bound_and_those_of_compose_come_first() {
        let own = (COMPOSE_SERVICE.to_owned(), "web".to_owned());
        let many: BTreeMap<String, String> =
            (0..1000).map(|number| (format!("a{number:04}"), "x".to_owned())).chain([own.clone()]).collect();
        let kept = bounded(many);
        assert_eq!((kept.len(), kept.get(&own.0)), (LABELS_MAX, Some(&own.1)));
        let large = [("a".to_owned(), "x".repeat(BYTES_MAX)), own.clone(), ("b".to_owned(), "y".to_owned())];
        assert_eq!(
            bounded(large.into()),
            [own, ("b".to_owned(), "y".to_owned())].into(),
            "what is too large is left out"
        );
    }
}
