//! The MAC address that a later plugin of a runtime's chain gives an interface of netd (`tuning` of the CNI plugins): the
//! container may send from it, too.

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target;
use crate::model::address::Mac;
use crate::model::endpoint::Endpoint;
use crate::model::host::step::Step;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Takes the MAC address over that the interface has, if a runtime attached it. Never that of somebody else, nor one
    /// that netd could give to somebody else: the container may have set it itself.
    pub(crate) fn learn_mac(&mut self, endpoint: &Endpoint, seen: Option<Mac>) {
        let Some(seen) = seen else { return };
        let known = endpoint.learned_mac.unwrap_or(endpoint.mac);
        // One that changes it again and again would keep netd writing.
        let subject = Subject::ContainerEnd(endpoint.host_ifname.clone());
        if endpoint.owner.is_none() || seen == known || !self.agenda.may_repair(&subject) {
            return;
        }
        let is_own = seen == endpoint.mac;
        if !is_own && (seen.is_of_netd() || self.state.macs.contains_key(&(endpoint.network.clone(), seen))) {
            tracing::warn!(
                container = %endpoint.container.name, %seen,
                "the container has the MAC address of another one, and may not send from it"
            );
            return;
        }
        let id = &endpoint.container.id;
        let before = target::container_elements(&self.state.desired, &self.state.endpoints_of(id));
        let learned = Endpoint { learned_mac: (!is_own).then_some(seen), ..endpoint.clone() };
        let (records, _) = self.state.put_records(&learned, None);
        self.compensate(&records);
        let now = target::container_elements(&self.state.desired, &self.state.endpoints_of(id));
        let remove = before.difference(&now).cloned().collect();
        let add = now.difference(&before).cloned().collect();
        if let Err(error) = self.kernel.apply(&Step::Elements { remove, add }) {
            self.problem(Subject::Elements, error.to_string());
        }
        tracing::info!(container = %endpoint.container.name, mac = %seen, "a later plugin changed the MAC address");
    }
}
