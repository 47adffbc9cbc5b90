//! Ends the connections that services lead to drained members, once their grace is over.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::clock::unix_seconds;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target::services::{Entrance, entrances};
use crate::model::address::Family;
use crate::model::desired::Desired;
use crate::model::host::step::{Flows, Step, Through};
use crate::model::ids::ContainerId;
use crate::model::names::ServiceName;
use crate::model::service::{Condition, Said};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// The services whose members, or their conditions, may have changed since the last call. The graces of drained
    /// members follow them.
    pub(crate) fn take_touched(&mut self) -> Vec<ServiceName> {
        let touched = self.state.desired.take_touched();
        self.agenda.graces.follow(&self.state.desired, &touched, unix_seconds());
        touched
    }

    /// Ends the connections of the members whose grace is over: the kernel forgets where it led them, and their next
    /// packet meets another member, which refuses it.
    pub(crate) fn end_graces(&mut self) {
        let ended = self.agenda.graces.take_ended();
        let step = Step::ForgetFlows(flows(&self.state.desired, &ended));
        if step.is_noop() {
            return;
        }
        match self.kernel.apply(&step) {
            Ok(()) => ended.keys().for_each(|service| {
                tracing::info!(%service, "the grace of drained members is over: their connections have ended");
            }),
            Err(error) => {
                tracing::warn!(%error, "the connections of drained members go on");
                self.agenda.graces.again(&ended);
            }
        }
    }
}

/// What the entrances of these services lead to these drained members.
fn flows(desired: &Desired, drained: &BTreeMap<ServiceName, BTreeSet<ContainerId>>) -> Vec<Flows> {
    let mut flows = Vec::new();
    for (name, containers) in drained {
        // Where connections would be led if the members were used shows where they were led.
        let mut used = desired.clone();
        for condition in containers.iter().filter_map(|id| desired.condition(id)) {
            let said = Some(Said { ready: true, since: 0 });
            used.insert_condition(Condition { draining: None, said, ..condition.as_ref().clone() });
        }
        let led = |desired: &Desired| desired.service(name).map(|service| entrances(desired, service));
        let (now, before) = (led(desired).unwrap_or_default(), led(&used).unwrap_or_default());
        for (entrance, members) in before {
            let still = now.get(&entrance);
            let gone = members.into_iter().filter(|member| !still.is_some_and(|still| still.contains(member)));
            flows.extend(gone.map(|member| {
                Flows::Through(match entrance {
                    Entrance::Address(address) => Through {
                        family: Family::of(address),
                        address: Some(address),
                        protocol: None,
                        port: None,
                        member: Some(member),
                    },
                    Entrance::Port(family, protocol, port) => Through {
                        family,
                        address: None,
                        protocol: Some(protocol),
                        port: Some(port),
                        member: Some(member),
                    },
                })
            }));
        }
    }
    flows
}
