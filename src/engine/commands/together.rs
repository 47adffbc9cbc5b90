//! Attaches a container to several networks: to all of them, or to none.

use std::sync::Arc;

use crate::engine::Error;
use crate::engine::commands::disconnect::Removal;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::ForeignNetwork;
use crate::model::names::NetworkName;
use crate::model::request::{EndpointSpec, Requester};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Makes the attachments in this order. If one fails, those that this request made are detached again, and the
    /// networks that it made are removed; what existed before stays.
    pub(crate) fn attach_together(
        &mut self,
        specs: &[EndpointSpec],
        foreign: &[ForeignNetwork],
    ) -> Result<Vec<Arc<Endpoint>>, Error> {
        let mut attached: Vec<Arc<Endpoint>> = Vec::with_capacity(specs.len());
        let (mut made, mut made_networks) = (Vec::new(), Vec::new());
        for spec in specs {
            let Requester::Runtime(request) = &spec.requester else { continue };
            let before = self.find_attachment(&request.key).map(|endpoint| endpoint.sequence);
            let network = &request.network.name;
            let is_new = self.state.desired.network(network).is_none();
            match self.endpoint(spec, foreign.to_vec()) {
                Ok(endpoint) => {
                    if before != Some(endpoint.sequence) {
                        made.push(endpoint.key());
                    }
                    if is_new {
                        made_networks.push(network.clone());
                    }
                    attached.push(endpoint);
                }
                Err(error) => {
                    let made: Vec<Removal> = made.into_iter().map(Removal::undone).collect();
                    self.detach_again(&made, &made_networks);
                    return Err(error);
                }
            }
        }
        Ok(attached)
    }

    /// Removes what a request made that failed.
    pub(super) fn detach_again(&mut self, made: &[Removal], networks: &[NetworkName]) {
        if let Err(error) = self.disconnect(made) {
            tracing::warn!("cannot undo the attachments of a request that failed: {error}");
        }
        for name in networks {
            if let Some(network) = self.state.desired.network(name).cloned() {
                self.forget_network(&network);
            }
        }
    }
}
