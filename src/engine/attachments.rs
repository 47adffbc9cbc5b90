//! The commands for attachments of runtimes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Handle;
use super::command::{Command, Gone};
use super::error::Error;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::ForeignNetwork;
use crate::model::ids::ContainerId;
use crate::model::names::{IfName, NetworkName};
use crate::model::request::{
    AttachmentKey, Attachments, CheckSpec, EndpointSpec, InterfaceSource, Requester, RuntimeRequest,
};

impl Handle {
    /// Attaches one container to several networks, in this order, or to none of them. A repeated request changes nothing.
    /// Does nothing if the caller has disconnected before its turn, as [`Self::connect_unless`].
    pub async fn connect_together(
        &self,
        specs: Vec<EndpointSpec>,
        gone: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Vec<Arc<Endpoint>>, Error> {
        let requests: Vec<&RuntimeRequest> = specs.iter().filter_map(runtime).collect();
        let foreign = self.foreign_for(&requests).await;
        let gone = Gone::new(gone);
        self.ask(|reply| Command::ConnectTogether { specs, foreign, gone, reply }).await
    }

    /// The networks of other programs, if one of the attachments creates its network. The runtime's own definitions of
    /// these networks are left out.
    pub(super) async fn foreign_for(&self, requests: &[&RuntimeRequest]) -> Vec<ForeignNetwork> {
        let snapshot = self.snapshot();
        // The runtime that defines a network on demand has compared its subnets, and may hold a lock that its own answer
        // needs (Podman).
        let creates = |request: &&RuntimeRequest| {
            let spec = &request.network;
            let is_compared = spec.on_demand && !spec.subnets.as_slice().is_empty();
            let is_new = snapshot.desired.network(&spec.name).is_none();
            is_new && !is_compared && request.interface != InterfaceSource::Found
        };
        if !requests.iter().any(creates) {
            return Vec::new();
        }
        let mut foreign = self.runtimes.networks().await;
        let is_own = |foreign: &ForeignNetwork, request: &&RuntimeRequest| {
            [request.network.name.as_str(), request.key.owner.as_str()].contains(&foreign.name.as_str())
        };
        foreign.retain(|foreign| !requests.iter().any(|request| is_own(foreign, request)));
        foreign
    }

    /// Detaches what a runtime attached. An attachment that does not exist is no error.
    pub async fn detach(&self, key: AttachmentKey) -> Result<(), Error> {
        let AttachmentKey { owner, container, ifname } = key;
        self.detach_together(Attachments { container, only: Some(BTreeSet::from([(owner, ifname)])) }).await
    }

    /// Detaches several attachments of a container at once. Those that do not exist are no error.
    pub async fn detach_together(&self, attachments: Attachments) -> Result<(), Error> {
        self.ask(|reply| Command::Detach(Box::new(attachments), reply)).await
    }

    /// Compares an attachment with the kernel; the error names the first part that differs.
    pub async fn check(&self, spec: CheckSpec) -> Result<(), Error> {
        self.ask(|reply| Command::Check(Box::new(spec), reply)).await
    }

    /// Detaches all attachments of the owner except those of these containers and interfaces.
    pub async fn gc(&self, owner: NetworkName, valid: Vec<(ContainerId, IfName)>) -> Result<Vec<Arc<Endpoint>>, Error> {
        self.ask(|reply| Command::Gc { owner, valid, reply }).await
    }
}

fn runtime(spec: &EndpointSpec) -> Option<&RuntimeRequest> {
    match &spec.requester {
        Requester::Person(_) => None,
        Requester::Runtime(request) => Some(request),
    }
}
