//! After a start whose records lack endpoints: takes them from the interfaces in the kernel, and leaves alone what cannot
//! be explained.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::state::problems::Subject;
use crate::engine::state::unexplained::Unexplained;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::{recovery, target};
use crate::model::endpoint::{Container, Endpoint};
use crate::model::host::observed::{Observed, ObservedKind, Traced};
use crate::model::ids::ContainerId;
use crate::model::names::IfName;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Takes over the endpoints that only the kernel knows. Links that still belong to nothing stay as they are:
    /// definitions that are missing are no order to destroy.
    pub(crate) fn recover(&mut self, observed: &Observed) {
        if self.unexplained == Unexplained::Nothing {
            return;
        }
        let links = self.unexplained.among(self.belonging_to_nothing(observed));
        if !links.is_empty() {
            match self.kernel.trace() {
                Ok(traced) => {
                    traced.iter().filter(|traced| links.contains(&traced.host_ifname)).for_each(|traced| {
                        self.take_over(traced, observed);
                    });
                }
                Err(error) => tracing::warn!("cannot look for endpoints whose records were lost: {error}"),
            }
        }
        self.unexplained = Unexplained::Links(links);
        let left = self.unexplained.among(self.belonging_to_nothing(observed));
        // If the store does not accept that, the next start looks again.
        let done = left.is_empty() && self.store.complete().is_ok();
        self.unexplained = if done { Unexplained::Nothing } else { Unexplained::Links(left) };
    }

    fn take_over(&mut self, traced: &Traced, observed: &Observed) {
        let Some(endpoint) = self.recovered(traced, observed) else { return };
        let (records, _) = self.state.put_records(&endpoint, None);
        self.compensate(&records);
        self.keep_addresses(&[Arc::new(endpoint.clone())]);
        let addresses: Vec<String> = endpoint.addresses.iter().map(|address| address.ip().to_string()).collect();
        let what = format!(
            "the record of {} on {} was lost: taken from its interface, with {} and {} publications; aliases, labels, \
             limits and what a runtime asked for are not known any more",
            traced.container,
            traced.network,
            addresses.join(", "),
            endpoint.publications.len()
        );
        self.repaired(Subject::ContainerEnd(endpoint.host_ifname.clone()).kind(), &what);
    }

    /// The endpoint of the interface, unless that contradicts what is known.
    fn recovered(&mut self, traced: &Traced, observed: &Observed) -> Option<Endpoint> {
        let network = self.state.desired.network(&traced.network)?.clone();
        let container = match self.state.container_in(&traced.netns).cloned() {
            Some(container) => container,
            None => Container {
                id: ContainerId::from_random(rand::random()),
                name: traced.container.clone(),
                netns: traced.netns.clone(),
                scope: None,
                of_engine: self.kernel.is_of_engine(&traced.netns),
            },
        };
        let sequence = self.state.sequence + 1;
        let endpoint = recovery::endpoint(&network, traced, container, sequence, &observed.firewall.elements)?;
        let is_taken = |address: &ipnetwork::IpNetwork| self.state.desired.at_address(address.ip()).is_some();
        (!endpoint.addresses.iter().any(is_taken)).then_some(endpoint)
    }

    /// The links that belong to nothing, with the devices that limit them.
    fn belonging_to_nothing(&self, observed: &Observed) -> BTreeSet<IfName> {
        let strays = self.strays(observed);
        let link = |name: &IfName| observed.links.get(name);
        let is_whole = |name: &&IfName| link(name).is_some_and(|link| link.finished && link.kind != ObservedKind::Ifb);
        let whole: BTreeSet<IfName> = strays.iter().filter(is_whole).cloned().collect();
        let limiting = whole.iter().map(|name| target::limited_interface(name).ifb);
        limiting.filter(|ifb| strays.contains(ifb)).chain(whole.iter().cloned()).collect()
    }

    /// After a network was created: publishes it. If records were lost, its bridge may stand, and its containers with it.
    pub(crate) fn explain(&mut self) {
        if self.unexplained == Unexplained::Nothing {
            return self.publish();
        }
        self.look_inside = true;
        self.reconcile();
    }

    /// Reports a link that stays although it belongs to nothing.
    pub(crate) fn report_unexplained(&mut self, name: &IfName) {
        let message = format!(
            "interface {name} is netd's, but what network or container it belongs to is not known: the record was lost, and \
             it is not found in the kernel. It stays as it is; to remove it: `ip link delete {name}`"
        );
        self.problem(Subject::Interface(name.clone()), message);
    }
}
