//! Repairs what netd makes on interfaces of the host: its own interfaces there, and what a killed daemon left in
//! containers, of which nothing is seen on the host.

use std::sync::Arc;

use super::links::listed;
use crate::engine::state::problems::Subject;
use crate::engine::state::unexplained::Unexplained;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::drift;
use crate::logic::target;
use crate::model::host::observed::{Inner, Observed};
use crate::model::host::step::{EndpointLink, Step};
use crate::model::names::IfName;
use crate::model::network::Network;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Makes the host's own interfaces match, with their routes.
    pub(super) fn repair_shims(&mut self, observed: &Observed) {
        let networks: Vec<Arc<Network>> = self.state.desired.networks().cloned().collect();
        for network in networks {
            let Some(shim) = target::shim_with_routes(&self.state.desired, &network) else { continue };
            let drift = drift::shim(&shim, observed);
            if !drift.is_empty() {
                let subject = Subject::Interface(shim.name.clone());
                self.repair(&Step::AddShim(shim), subject, &listed(&drift));
            }
        }
    }

    /// Whether it is the host's own interface on a network.
    pub(super) fn is_shim(&self, name: &IfName) -> bool {
        let mut shims = self.state.desired.networks().filter_map(|network| network.stacked()?.shim.as_ref());
        shims.any(|shim| shim.name == *name)
    }

    /// Removes interfaces in containers that belong to no endpoint, unless they may belong to records that were lost. There
    /// are none without a network of that kind: one that is removed has had no endpoint since this daemon began.
    pub(super) fn look_for_inner_strays(&mut self) {
        let stacked = self.state.desired.networks().any(|network| network.stacked().is_some());
        if stacked && self.unexplained == Unexplained::Nothing {
            self.remove_inner_strays();
        }
    }

    /// The daemon was killed between the end of an endpoint and that of its interface.
    pub(crate) fn remove_inner_strays(&mut self) {
        let found = match self.kernel.inner() {
            Ok(found) => found,
            Err(error) => {
                self.look_inside = true;
                return tracing::warn!("cannot look for interfaces that were left in containers: {error}");
            }
        };
        for Inner { netns, ifname } in found {
            let mut known = self.state.namespaces.get(&netns.id).into_iter().flatten();
            if known.any(|key| key.ifname == ifname) {
                continue;
            }
            let what = format!("stray interface {ifname} in {}", netns.path.display());
            let step = Step::DeleteInner { netns, ifname: ifname.clone() };
            if !self.repair(&step, Subject::Interface(ifname), &what) {
                self.look_inside = true;
            }
        }
    }

    /// Has changes of the interface reported that has no other end on the host.
    pub(super) fn follow_inner(&mut self, link: &EndpointLink) {
        if let Err(error) = self.kernel.follow(link) {
            tracing::warn!("changes of {} in {} are noticed late: {error}", link.ifname, link.container);
        }
    }
}
