//! Creates, updates and removes services, and follows the changes of their members.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::connect::TRIES;
use crate::engine::Error;
use crate::engine::command::HealthResults;
use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::{self, transaction};
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::plan::States;
use crate::logic::plan::service::follow;
use crate::logic::refusal::{Refusal, ServiceRefusal};
use crate::model::desired::Attached;
use crate::model::host::observed::HostFacts;
use crate::model::ids::{ContainerId, ServiceId};
use crate::model::names::ServiceName;
use crate::model::publication::PortSpec;
use crate::model::request::{MemberChange, ServiceSpec, ServiceUpdate};
use crate::model::service::{Condition, MemberState, Service};
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Creates a service. When the reply arrives, its name resolves, and its addresses and ports answer.
    pub(crate) fn create_service(&mut self, spec: &ServiceSpec) -> Result<Arc<Service>, Error> {
        let service = self.put_service(None, &spec.ports, |worker, choice| worker.decide_service(spec, choice))?;
        tracing::info!(service = %service.name, "service created");
        self.tell(Change::ServiceCreated(service.clone()));
        Ok(service)
    }

    /// Updates a service.
    pub(crate) fn update_service(&mut self, update: &ServiceUpdate) -> Result<Arc<Service>, Error> {
        let before = self.defined_service(&update.service)?;
        let ports = &update.spec.ports;
        let service =
            self.put_service(Some(&before), ports, |worker, choice| worker.decide_update(&before, update, choice))?;
        tracing::info!(service = %service.name, version = service.version, "service updated");
        self.tell(Change::ServiceUpdated(service.clone()));
        Ok(service)
    }

    /// Decides what a request becomes.
    pub(crate) fn decide_service(
        &mut self,
        spec: &ServiceSpec,
        choice: (&Choice, &HostFacts),
    ) -> Result<Service, Refusal> {
        let (id, now) = (ServiceId::from_random(rand::random()), crate::base::clock::unix_seconds());
        self.decided(|state| decide::service::create(state, spec, id.clone(), now, choice))
    }

    /// Decides what an update makes of a service. What the service has is free for it.
    pub(crate) fn decide_update(
        &mut self,
        before: &Service,
        update: &ServiceUpdate,
        choice: (&Choice, &HostFacts),
    ) -> Result<Service, Refusal> {
        let now = crate::base::clock::unix_seconds();
        let kept = self.state.desired.clone();
        self.state.apply(&[Record::DeleteService(before.name.clone())]);
        let decided = self.decided(|state| decide::service::update(state, before, update, now, choice));
        self.state.apply(&[Record::PutService(Box::new(before.clone()))]);
        self.state.desired.settle_as(&kept);
        decided
    }

    /// Makes a service as it is decided. If a port that netd has chosen turns out to be taken, chooses another.
    fn put_service(
        &mut self,
        before: Option<&Service>,
        ports: &[PortSpec],
        mut decide: impl FnMut(&mut Self, (&Choice, &HostFacts)) -> Result<Service, Refusal>,
    ) -> Result<Arc<Service>, Error> {
        let facts = self.facts_for(ports)?;
        let mut choice = Choice { random: rand::random(), ..Choice::default() };
        let mut last = None;
        for _ in 0..TRIES {
            let service = decide(self, (&choice, &facts))?;
            match self.execute(&transaction::put_service(&self.state, before, &service)) {
                Ok(()) => {
                    self.publish();
                    return Ok(Arc::new(service));
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

    /// Removes a service. When the reply arrives, its name is gone and its addresses and ports refuse.
    pub(crate) fn remove_service(&mut self, text: &str) -> Result<Arc<Service>, Error> {
        let service = self.defined_service(text)?;
        let transaction = transaction::remove_service(&self.state, &service);
        self.problems.clear(&Subject::ServicePorts(service.name.clone()));
        let errors = self.remove(&transaction, |_| {})?;
        tracing::info!(service = %service.name, "service removed");
        self.tell(Change::ServiceRemoved(service.clone()));
        self.finish(errors).map(|()| service)
    }

    /// The service, which somebody has defined.
    pub(crate) fn defined_service(&self, text: &str) -> Result<Arc<Service>, Refusal> {
        let service = decide::find_service(&self.state, text)?;
        if service.is_defined() { Ok(service) } else { Err(ServiceRefusal::OfLabels(service.name.clone()).into()) }
    }

    /// Notes what is said of a member. When the reply arrives, names and connections follow it.
    pub(crate) fn change_member(&mut self, change: &MemberChange) -> Result<Arc<Attached>, Error> {
        let attached = decide::service::member(&self.state, &change.member)?;
        let now = crate::base::clock::unix_seconds();
        let condition = decide::service::said(self.condition(&attached.container.id), change.action, now);
        self.put_condition(condition)?;
        Ok(attached)
    }

    /// Notes the results of health checks. Containers and services that are gone by now are left out.
    pub(crate) fn note_health(&mut self, results: HealthResults) {
        let mut conditions: BTreeMap<ContainerId, Condition> = BTreeMap::new();
        for ((container, service), health) in results {
            if self.state.desired.container(&container).is_none() {
                continue;
            }
            let condition = conditions.entry(container).or_insert_with_key(|container| self.condition(container));
            match service {
                Some(name) if self.state.desired.service(&name).is_none() => {}
                Some(name) => {
                    let health = health.after(condition.probed.get(&name));
                    condition.probed.insert(name, health);
                }
                None => condition.engine = Some(health.after(condition.engine.as_ref())),
            }
        }
        if let Err(error) = self.put_conditions(conditions.into_values()) {
            tracing::warn!(%error, "results of health checks are not stored");
        }
    }

    /// Notes the labels that its engine has for a container.
    pub(crate) fn note_labels(&mut self, container: &ContainerId, labels: BTreeMap<String, String>) {
        if self.state.desired.container(container).is_none() {
            return;
        }
        let condition = Condition { labels, ..self.condition(container) };
        if let Err(error) = self.put_condition(condition) {
            tracing::warn!(%container, %error, "the labels of a container are not stored");
        }
    }

    /// What is known of a container.
    pub(super) fn condition(&self, container: &ContainerId) -> Condition {
        let known = self.state.desired.condition(container);
        known.map_or_else(|| Condition::new(container.clone()), |known| known.as_ref().clone())
    }

    fn put_condition(&mut self, condition: Condition) -> Result<(), Error> {
        self.put_conditions(std::iter::once(condition))
    }

    fn put_conditions(&mut self, conditions: impl Iterator<Item = Condition>) -> Result<(), Error> {
        let record = |condition: Condition| match condition.is_empty() {
            true => Record::DeleteCondition(condition.container),
            false => Record::PutCondition(Box::new(condition)),
        };
        let news = conditions.filter(|condition| *condition != self.condition(&condition.container));
        let records: Vec<Record> = news.map(record).collect();
        if records.is_empty() {
            return Ok(());
        }
        self.commit(&records)?;
        self.follow_services();
        self.publish();
        Ok(())
    }

    /// Makes the kernel follow the changes of members since the last call. A step that fails is a problem, which the
    /// next repair mends.
    pub(crate) fn follow_services(&mut self) {
        let touched = self.take_touched();
        if touched.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.served, self.state.desired.clone());
        self.tell_members(&before, &touched);
        let steps = follow(States { before: &before, after: &self.served }, &touched);
        for step in steps {
            if let Err(error) = self.kernel.apply(&step) {
                self.problem(Subject::Elements, format!("services do not follow their members: {error}"));
                self.agenda.look_at_host();
            }
        }
        touched.iter().for_each(|name| self.proxy_service(name));
    }

    /// Notes that the kernel follows the services as they are, without a step; the proxy does from now on.
    pub(crate) fn served_as_it_is(&mut self) {
        let touched = self.take_touched();
        let before = std::mem::replace(&mut self.served, self.state.desired.clone());
        self.tell_members(&before, &touched);
        touched.iter().for_each(|name| self.proxy_service(name));
    }

    /// Sends an event for each member whose state has changed.
    fn tell_members(&self, before: &crate::model::desired::Desired, touched: &[ServiceName]) {
        let states = |desired: &crate::model::desired::Desired, name: &ServiceName| {
            let service = desired.service(name).cloned();
            let members = service.iter().flat_map(|service| desired.members(service));
            let states = members.map(|member| (member.endpoint.key(), (member.endpoint.clone(), member.standing)));
            states.collect::<BTreeMap<_, _>>()
        };
        for name in touched {
            let (old, new) = (states(before, name), states(&self.state.desired, name));
            for (key, (endpoint, standing)) in new {
                let was: Option<MemberState> = old.get(&key).map(|(_, standing)| standing.state);
                if was != Some(standing.state) {
                    let (service, state, why) = (name.clone(), standing.state, standing.why);
                    self.tell(Change::Member { service, endpoint, state, why });
                }
            }
        }
    }
}
