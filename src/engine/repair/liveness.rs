//! Whether a container lives: as long as its network namespace does, whichever path leads to it. A name under
//! `/run/netns` may be deleted while a process is in the namespace, and the process that was connected may end while
//! others stay.

use std::sync::Arc;

use crate::engine::proxy::Proxying;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::model::endpoint::{Endpoint, Netns};
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Whether the namespace is at its path, or a process, a mount or a descriptor holds it elsewhere. Then its containers
    /// are known by that path from now on.
    pub(crate) fn is_alive(&mut self, netns: &Netns) -> bool {
        if self.kernel.netns_alive(netns) {
            return true;
        }
        // A former path of a namespace that has been found before.
        let current = self.state.container_in(netns).map(|container| container.netns.clone());
        if let Some(current) = current.filter(|current| current.path != netns.path)
            && self.kernel.netns_alive(&current)
        {
            return true;
        }
        let Some(found) = self.kernel.find_netns(netns) else { return false };
        if !self.planning {
            self.moved(&found);
        }
        true
    }

    /// From time to time: the path by which a container is known may have gone while its namespace stays, such as that of
    /// a process that has ended; nothing reports this.
    pub(crate) fn follow_paths(&mut self) {
        let containers: Vec<Netns> =
            self.state.desired.containers().map(|attached| attached.container.netns.clone()).collect();
        for netns in containers {
            // The kernel reports the end of one that is found nowhere.
            self.is_alive(&netns);
        }
    }

    /// Records the path at which a namespace is now.
    fn moved(&mut self, netns: &Netns) {
        let keys = self.state.namespaces.get(&netns.id).cloned().unwrap_or_default();
        let endpoints: Vec<Arc<Endpoint>> =
            keys.iter().filter_map(|key| self.state.desired.endpoint(key)).cloned().collect();
        let Some(first) = endpoints.first() else { return };
        let (name, id, before) =
            (&first.container.name, first.container.id.clone(), first.container.netns.path.display());
        tracing::info!("the namespace of {name} is not at {before} any more, but at {}", netns.path.display());
        let at_new_path = |endpoint: &Arc<Endpoint>| {
            let mut endpoint = endpoint.as_ref().clone();
            endpoint.container.netns = netns.clone();
            Record::PutEndpoint(Box::new(endpoint))
        };
        let records: Vec<Record> = endpoints.iter().map(at_new_path).collect();
        self.compensate(&records);
        // The name service's sockets there are opened anew, and the end of the namespace is watched at its new path.
        self.serve_inside(&id);
        // Without a proxy, nothing is proxied.
        let _ = self.proxying.send(Proxying::Moved(netns.clone()));
        self.publish();
    }

    /// Whether the endpoint's container still lives although no path leads to it: something that has no path, such as a
    /// socket, holds the namespace, and with it the pair. The kernel reports when the pair is gone. Not so if the name
    /// service's own sockets hold it.
    pub(crate) fn is_held(&mut self, endpoint: &Endpoint) -> bool {
        !self.in_container.contains_key(&endpoint.container.id) && self.kernel.has_link(&endpoint.host_ifname)
    }
}
