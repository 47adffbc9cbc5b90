//! Until when the connections of drained members stay, for each service of a member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::deadline::Deadline;
use crate::model::desired::Desired;
use crate::model::ids::ContainerId;
use crate::model::names::ServiceName;

/// After a failure to end connections.
const AGAIN: Duration = Duration::from_secs(1);

/// The graces of drained members. A service that leads no connections to its members gives none.
#[derive(Debug, Default)]
pub(crate) struct Graces(BTreeMap<ServiceName, BTreeMap<ContainerId, Grace>>);

/// The grace of one member.
#[derive(Debug, Clone, Copy)]
struct Grace {
    /// The second since the Unix epoch at which it ends.
    end: u64,
    /// When that is; `None`: it has ended.
    due: Option<Deadline>,
}

impl Graces {
    /// Takes over the drained members of these services. A grace that goes on is as it was; one that began before a start
    /// of the daemon goes on from when it began. `now`: seconds since the Unix epoch.
    pub(crate) fn follow(&mut self, desired: &Desired, services: &[ServiceName], now: u64) {
        for name in services {
            let before = self.0.remove(name).unwrap_or_default();
            let Some(service) = desired.service(name).filter(|service| service.is_balanced()) else { continue };
            let drained = desired.members(service).filter_map(|member| {
                let id = &member.endpoint.container.id;
                let since = desired.condition(id)?.draining?;
                let end = since.saturating_add(service.grace.into());
                let left = end.saturating_sub(now).min(service.grace.into());
                let fresh = || Grace { end, due: Some(Deadline::after(Duration::from_secs(left))) };
                let known = before.get(id).filter(|known| known.end == end).copied();
                Some((id.clone(), known.unwrap_or_else(fresh)))
            });
            let drained: BTreeMap<ContainerId, Grace> = drained.collect();
            if !drained.is_empty() {
                self.0.insert(name.clone(), drained);
            }
        }
    }

    /// When the next grace ends.
    pub(crate) fn next(&self) -> Option<Deadline> {
        let due = self.0.values().flat_map(BTreeMap::values).filter_map(|grace| grace.due);
        due.min_by_key(|due| due.remaining().unwrap_or_default())
    }

    /// Takes the graces that have ended.
    pub(crate) fn take_ended(&mut self) -> BTreeMap<ServiceName, BTreeSet<ContainerId>> {
        let mut ended: BTreeMap<ServiceName, BTreeSet<ContainerId>> = BTreeMap::new();
        for (service, drained) in &mut self.0 {
            for (container, grace) in drained {
                if grace.due.take_if(|due| due.remaining().is_none()).is_some() {
                    ended.entry(service.clone()).or_default().insert(container.clone());
                }
            }
        }
        ended
    }

    /// The connections of these could not be ended: tries again soon.
    pub(crate) fn again(&mut self, failed: &BTreeMap<ServiceName, BTreeSet<ContainerId>>) {
        for (service, containers) in failed {
            let Some(drained) = self.0.get_mut(service) else { continue };
            for grace in drained.iter_mut().filter(|(id, _)| containers.contains(*id)).map(|(_, grace)| grace) {
                grace.due = Some(Deadline::after(AGAIN));
            }
        }
    }
}
