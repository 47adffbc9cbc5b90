//! Plans a command about services without carrying it out (`--dry-run`). What it does besides changing the kernel is the
//! first line.

use super::plan::planned;
use crate::engine::decide::endpoint::Choice;
use crate::engine::decide::{self, transaction};
use crate::engine::worker::Worker;
use crate::engine::{Error, Planned};
use crate::kernel::Kernel;
use crate::logic::plan::States;
use crate::logic::plan::service::follow;
use crate::model::host::step::Step;
use crate::model::request::{MemberAction, MemberChange, ServiceSpec, ServiceUpdate};
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Plans a service to create.
    pub(super) fn plan_create_service(&mut self, spec: &ServiceSpec) -> Result<Vec<Planned>, Error> {
        let facts = self.facts_for(&spec.ports)?;
        let choice = Choice { random: rand::random(), ..Choice::default() };
        let service = self.decide_service(spec, (&choice, &facts))?;
        let steps = transaction::put_service(&self.state, None, &service).steps;
        Ok(with("create-service", format!("create service {}", service.name), &steps))
    }

    /// Plans the update of a service.
    pub(super) fn plan_update_service(&mut self, update: &ServiceUpdate) -> Result<Vec<Planned>, Error> {
        let before = self.defined_service(&update.service)?;
        let facts = self.facts_for(&update.spec.ports)?;
        let choice = Choice { random: rand::random(), ..Choice::default() };
        let service = self.decide_update(&before, update, (&choice, &facts))?;
        let steps = transaction::put_service(&self.state, Some(&before), &service).steps;
        let text = format!("update service {} to version {}", service.name, service.version);
        Ok(with("update-service", text, &steps))
    }

    /// Plans the removal of a service.
    pub(super) fn plan_remove_service(&self, service: &str) -> Result<Vec<Planned>, Error> {
        let service = self.defined_service(service)?;
        let steps = transaction::remove_service(&self.state, &service).steps;
        Ok(with("remove-service", format!("remove service {}", service.name), &steps))
    }

    /// Plans what is said of a member.
    pub(super) fn plan_member(&mut self, change: &MemberChange) -> Result<Vec<Planned>, Error> {
        let attached = decide::service::member(&self.state, &change.member)?;
        let now = crate::base::clock::unix_seconds();
        let condition = decide::service::said(self.condition(&attached.container.id), change.action, now);
        let before = self.state.desired.clone();
        _ = self.state.desired.take_touched();
        // In the copy of the state that a plan has.
        self.state.apply(&[Record::PutCondition(Box::new(condition))]);
        let touched = self.state.desired.take_touched();
        let steps = follow(States { before: &before, after: &self.state.desired }, &touched);
        let name = &attached.container.name;
        let (action, text) = match change.action {
            MemberAction::Drain => ("drain-member", format!("drain {name}")),
            MemberAction::Undrain => ("undrain-member", format!("no longer drain {name}")),
            MemberAction::Ready => ("ready-member", format!("say that {name} is ready")),
            MemberAction::Unready => ("unready-member", format!("say that {name} is not ready")),
            MemberAction::Checked => ("checked-member", format!("let health checks decide about {name}")),
        };
        Ok(with(action, text, &steps))
    }
}

fn with(action: &'static str, text: String, steps: &[Step]) -> Vec<Planned> {
    [Planned { action, text }].into_iter().chain(planned(steps)).collect()
}
