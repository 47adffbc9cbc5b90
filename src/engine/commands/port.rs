//! Changes the published ports of a connected container.

use std::sync::Arc;

use super::connect::TRIES;
use crate::engine::Error;
use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::port::Changed;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::refusal::Refusal;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::HostFacts;
use crate::model::host::step::Step;
use crate::model::publication::{PortSpec, Publication};
use crate::model::request::{PortAction, PortChange};
use crate::store::Store;

/// The endpoint as it is now, and what was added or removed.
type Done = (Arc<Endpoint>, Vec<Publication>);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Publishes a port of a connected container, or stops publishing it.
    pub(crate) fn change_port(&mut self, change: &PortChange) -> Result<Done, Error> {
        self.release_if_ended(change);
        match change.action {
            PortAction::Publish => self.publish_port(change),
            PortAction::Unpublish { drain } => self.unpublish_port(change, drain),
        }
    }

    /// The steps of the change.
    pub(crate) fn plan_port(&mut self, change: &PortChange) -> Result<Vec<Step>, Error> {
        self.release_if_ended(change);
        match change.action {
            PortAction::Publish => {
                let facts = self.facts_for(std::slice::from_ref(&change.port))?;
                let choice = Choice { random: rand::random(), ..Choice::default() };
                let changed = self.decide_port(change, (&choice, &facts))?;
                Ok(transaction::publish(&self.state, &changed.endpoint).steps)
            }
            PortAction::Unpublish { drain } => {
                let changed = decide::port::remove(&self.state, change)?;
                Ok(transaction::unpublish(&self.state, &changed.endpoint, drain).steps)
            }
        }
    }

    /// The end of the container may not have been reported yet.
    fn release_if_ended(&mut self, change: &PortChange) {
        if let Ok(attached) = decide::port::container(&self.state, change)
            && !self.is_alive(&attached.container.netns)
        {
            self.release_container(&attached.container.id);
        }
    }

    fn decide_port(&mut self, change: &PortChange, choice: (&Choice, &HostFacts)) -> Result<Changed, Refusal> {
        self.decided(|state| decide::port::add(state, change, choice))
    }

    fn publish_port(&mut self, change: &PortChange) -> Result<Done, Error> {
        self.publish_ports(std::slice::from_ref(&change.port), |worker, choice| worker.decide_port(change, choice))
    }

    /// Publishes what is decided for these ports. If a port that netd has chosen turns out to be taken, chooses another.
    pub(super) fn publish_ports(
        &mut self,
        ports: &[PortSpec],
        mut decide: impl FnMut(&mut Self, (&Choice, &HostFacts)) -> Result<Changed, Refusal>,
    ) -> Result<Done, Error> {
        let facts = self.facts_for(ports)?;
        let mut choice = Choice { random: rand::random(), ..Choice::default() };
        let mut last = None;
        for _ in 0..TRIES {
            let Changed { endpoint, publications } = decide(self, (&choice, &facts))?;
            match self.execute(&transaction::publish(&self.state, &endpoint)) {
                Ok(()) => {
                    self.proxy(&endpoint.container.id);
                    self.publish();
                    if !publications.is_empty() {
                        self.log_ports("published", &endpoint, &publications);
                        self.tell(Change::Published { endpoint: endpoint.clone(), publications: publications.clone() });
                    }
                    return Ok((endpoint, publications));
                }
                Err(Error::Kernel { error: KernelError::PortTaken { port, owner }, undo })
                    if choice.avoid_port(&port, ports) =>
                {
                    last = Some(Error::Kernel { error: KernelError::PortTaken { port, owner }, undo });
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Stopped))
    }

    fn unpublish_port(&mut self, change: &PortChange, drain: bool) -> Result<Done, Error> {
        let changed = decide::port::remove(&self.state, change)?;
        self.unpublish_ports(changed, drain)
    }

    /// Stops publishing what the endpoint has lost.
    pub(super) fn unpublish_ports(&mut self, changed: Changed, drain: bool) -> Result<Done, Error> {
        let Changed { endpoint, publications } = changed;
        let transaction = transaction::unpublish(&self.state, &endpoint, drain);
        let errors = self.remove(&transaction, |worker| worker.proxy_or_drain(&endpoint.container.id, drain))?;
        if !publications.is_empty() {
            self.log_ports("no longer published", &endpoint, &publications);
            self.tell(Change::Unpublished { endpoint: endpoint.clone(), publications: publications.clone() });
        }
        if self.problems.has(&Subject::Ports(endpoint.container.id.clone())) {
            // The port that could not be held may be this one.
            self.reconcile();
        }
        self.finish(errors).map(|()| (endpoint, publications))
    }

    fn log_ports(&self, what: &str, endpoint: &Endpoint, publications: &[Publication]) {
        for publication in publications {
            tracing::info!(network = %endpoint.network, container = %endpoint.container.name, %publication, "{what}");
        }
    }
}
