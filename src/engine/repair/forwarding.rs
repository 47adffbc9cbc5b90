//! Forwarding on the host: netd turns it on for its networks, and the host becomes no router by that. What others ask for
//! stays: forwarding that was on before, or that the host's configuration asks for.
//!
//! The record that netd turned it on is committed first, then the firewall keeps the host's interfaces apart, then it is
//! turned on; off it goes in the opposite order. So a killed daemon leaves no router, and no forwarding of nobody.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::event::Change;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target;
use crate::model::address::Families;
use crate::model::host::element::Element;
use crate::model::host::observed::{Observed, Structure};
use crate::model::host::routing::{ForwardingFor, TurnedOn};
use crate::model::host::step::Step;
use crate::model::network::Network;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Before a step turns forwarding on for these families: records that netd does, and keeps the host's interfaces
    /// apart. After an error nothing has changed.
    pub(crate) fn before_forwarding(&mut self, needed: Families) -> Result<(), Error> {
        if needed.is_empty() {
            return Ok(());
        }
        self.routing = self.kernel.routing()?;
        let missing = needed.without(self.routing.on);
        if missing.is_empty() {
            return Ok(());
        }
        let record = self.turned_on_with(missing)?;
        self.commit(&[Record::PutTurnedOn(record)])?;
        let applied = self.apply_transit();
        if applied.is_err() {
            self.follow_forwarding();
        }
        applied
    }

    /// The record that netd turns forwarding on for these families too.
    fn turned_on_with(&mut self, families: Families) -> Result<TurnedOn, Error> {
        let mut record = self.state.turned_on.clone();
        record.families = record.families.with(families);
        if families.v6 {
            record.accept_ra.extend(self.kernel.advertised()?);
        }
        Ok(record)
    }

    /// Follows a change of the host's interfaces, its configuration, or netd's networks.
    pub(crate) fn follow_forwarding(&mut self) {
        if self.state.turned_on.families.is_empty() {
            return;
        }
        match self.kernel.routing() {
            Ok(routing) => {
                self.routing = routing;
                self.let_go();
                self.follow_networks();
            }
            Err(error) => {
                let message = format!("cannot see between which interfaces the host forwards: {error}");
                self.problem(Subject::Forwarding, message);
            }
        }
        self.publish();
    }

    /// Keeps apart what does not belong to a network.
    pub(crate) fn follow_networks(&mut self) {
        if let Err(error) = self.apply_transit() {
            let message = format!("cannot say between which interfaces the host must not forward: {error}");
            self.problem(Subject::Forwarding, message);
        }
    }

    /// Turns off what netd turned on, for families in which no network needs it and nobody else may.
    fn let_go(&mut self) {
        let Some(step) = self.stop_forwarding(target::forwarding(&self.state.desired)) else { return };
        let Step::StopForwarding(TurnedOn { families, .. }) = &step else { return };
        if let Err(error) = self.kernel.apply(&step) {
            let message = format!("cannot turn off the forwarding that no network needs any more: {error}");
            return self.problem(Subject::Forwarding, message);
        }
        let left = self.state.turned_on.families.without(*families);
        let accept_ra = if left.v6 { self.state.turned_on.accept_ra.clone() } else { BTreeSet::new() };
        let was_on = families.without(families.without(self.routing.on));
        self.routing.on = self.routing.on.without(*families);
        self.compensate(&[Record::PutTurnedOn(TurnedOn { families: left, accept_ra })]);
        for setting in was_on.forwarding_settings() {
            tracing::info!(setting, "forwarding turned off");
            self.tell(Change::HostChanged(format!("{setting} set to 0: no network needs forwarding any more")));
        }
    }

    /// The step that turns off what netd turned on, if networks need forwarding for these families only. What is off
    /// already is netd's no longer.
    pub(crate) fn stop_forwarding(&self, needed: Families) -> Option<Step> {
        // A network whose definition was lost may need it.
        if self.unexplained.may_have_networks() {
            return None;
        }
        let TurnedOn { families: ours, accept_ra } = &self.state.turned_on;
        let idle = ours.without(needed);
        let kept = if self.routing.others.is_empty() { self.asked() } else { Families::ALL };
        let families = Families::which(|family| idle.has(family) && !(kept.has(family) && self.routing.on.has(family)));
        let accept_ra = if families.v6 { accept_ra.clone() } else { BTreeSet::new() };
        (!families.is_empty()).then_some(Step::StopForwarding(TurnedOn { families, accept_ra }))
    }

    /// The same without these networks, by what the kernel has now.
    pub(crate) fn stop_forwarding_without(&mut self, gone: &[Arc<Network>]) -> Result<Option<Step>, Error> {
        if self.state.turned_on.families.is_empty() {
            return Ok(None);
        }
        self.routing = self.kernel.routing()?;
        let is_left = |network: &&Arc<Network>| !gone.iter().any(|gone| gone.name == network.name);
        let left = self.state.desired.networks().filter(is_left);
        let needed = left.fold(Families::default(), |needed, network| needed.with(target::forwarding_of(network)));
        Ok(self.stop_forwarding(needed))
    }

    /// After a network was removed: says why forwarding stays on that netd turned on for it.
    pub(crate) fn tell_why_forwarding_stays(&self, network: &Network) {
        let idle = self.state.turned_on.families.without(target::forwarding(&self.state.desired));
        let stays = Families::which(|family| idle.has(family) && target::forwarding_of(network).has(family));
        let why = match self.routing.others.first() {
            Some(other) => format!("{other} of another engine may need it"),
            None => "the host is configured to forward".to_owned(),
        };
        for setting in stays.forwarding_settings() {
            tracing::info!(setting, why, "forwarding stays on");
            self.tell(Change::HostChanged(format!("{setting} stays 1, although no network needs it: {why}")));
        }
    }

    /// For which families somebody else asks for forwarding.
    fn asked(&self) -> Families {
        match self.config.forwarding {
            ForwardingFor::Netd => self.routing.asked,
            ForwardingFor::Host => Families::ALL,
        }
    }

    /// The families in which nothing is forwarded between the host's interfaces.
    pub(crate) fn restricted(&self) -> Families {
        self.state.turned_on.families.without(self.asked())
    }

    /// The elements that keep the host's interfaces apart.
    pub(crate) fn transit_elements(&self) -> BTreeSet<Element> {
        let networks = || self.state.desired.networks();
        target::transit(self.restricted(), &self.routing, |name| {
            self.state.host_ifnames.contains_key(name) || networks().any(|network| network.guest_bridge() == Some(name))
        })
    }

    /// Adds and removes what has changed of them. Before the first repair there may be no table.
    pub(crate) fn apply_transit(&mut self) -> Result<(), Error> {
        let wanted = self.transit_elements();
        if wanted == *self.transit {
            return Ok(());
        }
        if !self.adopting {
            let all = self.wanted_elements();
            let remove = self.transit.difference(&wanted).filter(|element| !all.contains(element));
            let (remove, add) = (remove.cloned().collect(), wanted.difference(&self.transit).cloned().collect());
            self.kernel.apply(&Step::Elements { remove, add })?;
        }
        self.transit = Arc::new(wanted);
        Ok(())
    }

    /// Part of a repair, before that of elements: forwarding that is off is netd's once it turns it on.
    pub(crate) fn claim_forwarding(&mut self, observed: &mut Observed) {
        let lost = self.lost_forwarding(observed);
        let missing = target::forwarding(&self.state.desired).without(observed.routing.on);
        let new = lost.with(missing).without(self.state.turned_on.families);
        if !new.is_empty() {
            match self.turned_on_with(new) {
                Ok(record) => self.compensate(&[Record::PutTurnedOn(record)]),
                Err(error) => self.problem(Subject::Forwarding, format!("cannot turn forwarding on: {error}")),
            }
        }
        self.routing = observed.routing.clone();
        self.let_go();
        if observed.firewall.inet != Structure::Intact {
            // The table is made with them.
            self.transit = Arc::new(self.transit_elements());
            return;
        }
        let before = self.transit.clone();
        self.follow_networks();
        if !self.adopting {
            // What was changed just now is no damage.
            observed.firewall.elements.retain(|element| !before.contains(element) || self.transit.contains(element));
            observed.firewall.elements.extend(self.transit.difference(&before).cloned());
        }
    }

    /// What the kernel has of a record that was lost: the interfaces are kept apart.
    pub(crate) fn lost_forwarding(&self, observed: &Observed) -> Families {
        if !observed.links.values().any(|link| link.ours) {
            return Families::default();
        }
        let on = observed.routing.on;
        let is_apart = |element: &Element, of| matches!(element, Element::Uplink(family, _) if *family == of);
        Families::which(|family| {
            on.has(family) && observed.firewall.elements.iter().any(|element| is_apart(element, family))
        })
    }

    /// Part of a repair, after that of elements.
    pub(crate) fn repair_forwarding(&mut self) {
        let missing = target::forwarding(&self.state.desired).without(self.routing.on);
        // Never without the record.
        let missing = missing.without(missing.without(self.state.turned_on.families));
        if !missing.is_empty() && self.repair(&Step::Forwarding(missing), Subject::Forwarding, "forwarding was off") {
            self.routing.on = self.routing.on.with(missing);
        }
    }
}
