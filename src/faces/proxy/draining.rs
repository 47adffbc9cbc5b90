//! Connections and flows of ports that are no longer published: they go on until they end by themselves, or their
//! container leaves. Each keeps its place, so their number is bounded as that of all others.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::Tasks;
use crate::model::ids::ContainerId;

/// What goes on, by container, with the address of the container to which it leads.
#[derive(Debug, Default)]
pub(super) struct Draining(HashMap<ContainerId, Vec<(IpAddr, Tasks)>>);

impl Draining {
    /// What a port has left. What has ended meanwhile is forgotten.
    pub(super) fn add(&mut self, container: &ContainerId, to: IpAddr, left: Tasks) {
        self.0.entry(container.clone()).or_default().push((to, left));
        self.0.retain(|_, ports| {
            ports.retain(|(_, left)| !left.tracker.is_empty());
            !ports.is_empty()
        });
    }

    /// Ends what leads to these addresses of the container; returns when its sockets are closed.
    pub(super) async fn end(&mut self, container: &ContainerId, addresses: &BTreeSet<IpAddr>) {
        let Some(ports) = self.0.get_mut(container) else { return };
        for (_, left) in ports.extract_if(.., |(to, _)| addresses.contains(to)) {
            left.end().await;
        }
        if ports.is_empty() {
            self.0.remove(container);
        }
    }
}
