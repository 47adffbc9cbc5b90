//! Opens what the name service has answered to containers whose egress is denied, before the reply leaves; closes it with the
//! container; and takes it up again after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::monotonic;
use crate::engine::Handle;
use crate::engine::command::{Command, Waiting};
use crate::engine::state::denied::DeniedFlow;
use crate::engine::state::problems::Subject;
use crate::engine::telemetry::egress::Answered;
use crate::engine::telemetry::egress::opened::Changes;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::desired::egress::Restraint;
use crate::model::egress::Opening;
use crate::model::host::element::Element;
use crate::model::host::step::Step;
use crate::store::Store;

/// Most answers that are opened together.
const TOGETHER: usize = 256;

impl Handle {
    /// Opens the addresses of an answer. False: the reply must not leave.
    pub async fn open(&self, answered: Answered) -> bool {
        let is_open = {
            let wanted = wanted(&self.snapshot.load().desired, &answered);
            wanted.is_empty() || self.telemetry.egress.opened().has(&wanted, monotonic::now())
        };
        if is_open {
            return true;
        }
        let (tell, told) = oneshot::channel();
        let sent = self.commands.send(Command::Open((Box::new(answered), tell))).await;
        sent.is_ok() && told.await.unwrap_or(false)
    }
}

/// What an answer opens: for each address of the container those of the same family. Nothing once the container is gone.
fn wanted(desired: &Desired, answered: &Answered) -> BTreeMap<Opening, Duration> {
    let attached = desired.container(&answered.container);
    let restraint = attached.and_then(|attached| Restraint::of(desired, &attached.endpoints));
    let mut wanted = BTreeMap::new();
    let Some(restraint) = restraint.filter(Restraint::denies) else { return wanted };
    let ports = |ports: &Vec<crate::model::policy::Ports>| {
        let each = ports.iter().flat_map(|ports| ports.range.ports().map(|port| Some((ports.protocol, port))));
        each.collect::<Vec<_>>()
    };
    let ports = answered.ports.as_ref().map_or_else(|| vec![None], ports);
    for from in restraint.addresses() {
        for (to, left) in answered.addresses.iter().filter(|(to, _)| Family::of(*to) == Family::of(from)) {
            wanted.extend(ports.iter().map(|port| (Opening { from, to: *to, port: *port }, *left)));
        }
    }
    wanted
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Opens what this one and those right behind it wait for.
    pub(crate) fn open_all(&mut self, first: Waiting, waiting: &mut VecDeque<Command>) {
        let mut group = vec![first];
        while group.len() < TOGETHER && matches!(waiting.front(), Some(Command::Open(_))) {
            group.extend(waiting.pop_front().and_then(Command::opened));
        }
        self.open_ways(group);
    }

    /// Opens what these wait for, in one transaction.
    fn open_ways(&mut self, waiting: Vec<Waiting>) {
        let (telemetry, now) = (self.telemetry.clone(), monotonic::now());
        let mut all: BTreeMap<Opening, Duration> = BTreeMap::new();
        for (answered, _) in &waiting {
            for (one, left) in wanted(&self.state.desired, answered) {
                let longest = all.entry(one).or_default();
                *longest = left.max(*longest);
            }
        }
        let changes = telemetry.egress.opened().changes(&all, now);
        let is_open = self.apply_ways(&changes);
        for (_, tell) in waiting {
            // Who asked may have given up.
            let _ = tell.send(is_open);
        }
    }

    fn apply_ways(&mut self, changes: &Changes) -> bool {
        let now = monotonic::now();
        match self.kernel.open(&changes.close, &changes.open) {
            Ok(()) => {
                self.telemetry.egress.opened().note(changes, now);
                true
            }
            Err(error) => {
                self.problem(
                    Subject::Elements,
                    format!("ways out of containers do not follow what is answered: {error}"),
                );
                self.ways_out_unsure = true;
                self.agenda.look_at_host();
                false
            }
        }
    }

    /// Closes what was open for addresses that these steps have given up, before somebody else gets them.
    pub(crate) fn close_ways(&mut self, steps: &[Step]) {
        if self.telemetry.egress.opened().is_empty() {
            return;
        }
        let removed = steps.iter().filter_map(|step| match step {
            Step::Elements { remove, .. } => Some(remove),
            _ => None,
        });
        let address = |element: &Element| match element {
            Element::Egress(address) => Some(*address),
            _ => None,
        };
        let gone: Vec<IpAddr> = removed.flatten().filter_map(address).collect();
        let close = {
            let opened = self.telemetry.egress.opened();
            gone.into_iter().flat_map(|address| opened.of(address)).collect::<Vec<_>>()
        };
        if !close.is_empty() {
            self.apply_ways(&Changes { close, open: Vec::new() });
        }
    }

    /// Takes up what a former daemon has opened for containers whose egress is denied now.
    pub(crate) fn take_up_ways(&mut self) {
        let Some(there) = self.ways_there() else { return };
        let open = there.into_iter().filter(|(one, _)| self.may_be_open(one)).collect();
        self.telemetry.egress.opened().note(&Changes { close: Vec::new(), open }, monotonic::now());
        // Closes the rest.
        self.ways_out_unsure = true;
    }

    /// Opens what is not open any more, and closes what others have opened. `lost`: the table was replaced.
    pub(crate) fn look_at_ways(&mut self, lost: bool) {
        let now = monotonic::now();
        let all = self.telemetry.egress.opened().all(now);
        if all.is_empty() && !self.adopting && !self.state.desired.has_stances() {
            return;
        }
        // Who gets the address of a container that is gone must ask for itself.
        let (known, lapsed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(one, _)| self.may_be_open(one));
        let forgotten = Changes { close: lapsed.into_keys().collect(), open: Vec::new() };
        self.telemetry.egress.opened().note(&forgotten, now);
        let Some(there) = self.ways_there() else {
            self.ways_out_unsure = true;
            return;
        };
        let close = there.keys().filter(|one| !known.contains_key(one)).copied().collect();
        let missing = known.into_iter().filter(|(one, _)| lost || !there.contains_key(one));
        let open = missing.collect();
        self.apply_ways(&Changes { close, open });
    }

    fn ways_there(&mut self) -> Option<BTreeMap<Opening, Duration>> {
        let there = self.kernel.opened();
        let failed =
            |error| self.problem(Subject::Elements, format!("cannot read what is open for containers: {error}"));
        there.map_err(failed).ok().map(|there| there.into_iter().collect())
    }

    fn may_be_open(&self, one: &Opening) -> bool {
        self.state.desired.restraint_at(one.from).is_some_and(|(_, restraint)| restraint.denies())
    }

    /// Notes what the kernel has counted of packets that egress denied.
    pub(crate) fn note_denied_ways(&self, flows: &[DeniedFlow]) {
        for flow in flows.iter().filter(|flow| flow.policy.is_none()) {
            let Some(attached) = self.state.desired.exact_container(&flow.from) else { continue };
            let is_held = Restraint::of(&self.state.desired, &attached.endpoints).is_some_and(|r| r.denies());
            if let Some(to) = flow.address.filter(|_| is_held) {
                let (id, service) = (&attached.container.id, flow.service.clone());
                self.telemetry.egress.logs().denied(id, to, service, flow.packets);
            }
        }
    }
}
