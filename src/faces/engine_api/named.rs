//! Which network a request names.

use std::sync::Arc;

use serde_json::Value;

use super::failure::Failure;
use super::network_json::{BRIDGE, HOST, NONE, PODMAN, Predefined};
use crate::engine::Snapshot;
use crate::model::desired::Lookup;
use crate::model::network::Network;

/// A network that a request names.
pub(super) enum Named {
    Ours(Arc<Network>),
    Predefined(Predefined),
    /// One that Podman defines, which netd makes with the first container.
    Podman(Value),
}

/// netd's network by whole id, whole name or unique beginning of the id.
pub(super) fn find(snapshot: &Snapshot, text: &str) -> Result<Named, Failure> {
    for predefined in [HOST, NONE] {
        if text == predefined.name || text == predefined.id() {
            return Ok(Named::Predefined(predefined));
        }
    }
    match snapshot.desired.find_network(text) {
        Lookup::One(network) => Ok(Named::Ours(network)),
        Lookup::None => {
            let begins = |predefined: &Predefined| text.len() >= 4 && predefined.id().starts_with(text);
            let found = [HOST, NONE].into_iter().find(begins);
            found.map(Named::Predefined).ok_or_else(|| Failure::no_network(text))
        }
        Lookup::Ambiguous(count) => Err(ambiguous(text, count)),
    }
}

pub(super) fn ambiguous(text: &str, count: usize) -> Failure {
    Failure::bad(format!("network {text} is ambiguous ({count} matches found based on ID prefix)"))
}

/// The name of netd's network for Podman's. Podman calls its default network `bridge` here, and `podman` when it calls
/// netd.
pub(super) fn of_podman(name: &str) -> &str {
    if name == BRIDGE { PODMAN } else { name }
}
