//! `netd teardown`: removes everything that netd made, as far as the kernel and the store know it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disconnect::Removal;
use crate::engine::worker::Worker;
use crate::engine::{Error, Planned};
use crate::kernel::Kernel;
use crate::model::endpoint::{Endpoint, Netns};
use crate::model::host::element::Table;
use crate::model::host::observed::{Observed, ObservedKind, Structure};
use crate::model::host::step::Step;
use crate::model::ids::ContainerId;
use crate::model::names::{NetworkName, ReservationId};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Removes everything, and returns what it was; with `dry_run`, only returns it. Afterwards no command is carried out
    /// any more. If something cannot be removed, the store keeps its files, and the command can be repeated.
    pub(crate) fn teardown(&mut self, dry_run: bool) -> Result<Vec<Planned>, Error> {
        let mut standing = self.standing()?;
        let files = self.store.files();
        standing.extend(files.iter().map(|file| planned("remove-store", format!("remove {file}"))));
        if dry_run {
            return Ok(standing);
        }
        let errors = self.remove_everything();
        let left = self.standing()?;
        if !left.is_empty() || !errors.is_empty() {
            return Err(Error::Standing { left: left.into_iter().map(|planned| planned.text).collect(), errors });
        }
        self.store.destroy()?;
        self.stopping.torn_down();
        tracing::warn!("torn down: everything that netd made is removed");
        Ok(standing)
    }

    /// What there is to remove, without the store's files.
    fn standing(&mut self) -> Result<Vec<Planned>, Error> {
        let observed = self.kernel.observe()?;
        let mut standing = Vec::new();
        for endpoint in self.state.desired.endpoints() {
            let (container, network) = (&endpoint.container.name, &endpoint.network);
            standing.push(planned("disconnect", format!("disconnect {container} from {network}")));
        }
        for reservation in self.state.desired.reservations() {
            let (id, network) = (&reservation.id, &reservation.network);
            standing.push(planned("release-reservation", format!("release reservation {id} on {network}")));
        }
        let names = self.state.desired.networks().map(|network| &network.name);
        standing.extend(names.map(|name| planned("remove-network", format!("remove network {name}"))));
        standing.extend(links(&observed));
        standing.extend(self.redirected.values().map(|netns| {
            planned("remove-redirection", format!("remove the redirection of DNS queries in {}", netns.path.display()))
        }));
        let networks: Vec<_> = self.state.desired.networks().cloned().collect();
        let stop = self.stop_forwarding_without(&networks)?;
        standing.extend(stop.iter().map(|step| planned(step.action(), step.to_string())));
        if Table::ALL.iter().any(|table| observed.firewall.structure(*table) != Structure::Missing) {
            standing.push(planned(Step::DropTables.action(), Step::DropTables.to_string()));
        }
        self.foreign.observed = None;
        let foreign = self.plan_foreign(&[]).map_or_else(Vec::new, |plan| plan.changes);
        let foreign = foreign.iter().filter(|planned| planned.note.is_none());
        standing.extend(foreign.map(|change| {
            planned("change-foreign-firewall", format!("remove netd's accept rule from {}", change.change.on))
        }));
        for netns in self.kernel.written_files() {
            let step = Step::Resolv { netns, before: None, now: None };
            standing.push(planned(step.action(), step.to_string()));
        }
        Ok(standing)
    }

    /// Goes on whatever fails; returns what did.
    fn remove_everything(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        let mut note = |outcome: Result<(), String>| errors.extend(outcome.err());
        let containers = self.state.desired.containers().map(|attached| &attached.container);
        let mut served: BTreeMap<ContainerId, Netns> =
            containers.map(|container| (container.id.clone(), container.netns.clone())).collect();
        let endpoints: Vec<Arc<Endpoint>> = self.state.desired.endpoints().cloned().collect();
        let removals: Vec<Removal> = endpoints.iter().map(|endpoint| Removal::requested(endpoint.key())).collect();
        note(self.disconnect(&removals).map(drop).map_err(|error| error.to_string()));
        served.append(&mut self.redirected);
        for (id, netns) in served {
            if let Err(error) = self.kernel.leave_inside(&netns) {
                note(Err(error.to_string()));
                // The store does not know the container any more.
                self.redirected.insert(id, netns);
            }
        }
        let reserved: Vec<ReservationId> =
            self.state.desired.reservations().map(|reservation| reservation.id.clone()).collect();
        for id in reserved {
            note(self.release_reservation(id.as_str()).map(drop).map_err(|error| error.to_string()));
        }
        let networks: BTreeSet<NetworkName> =
            self.state.desired.networks().map(|network| network.name.clone()).collect();
        for name in networks {
            note(self.remove_network(name.as_str()).map(drop).map_err(|error| error.to_string()));
        }
        // What no endpoint and no network explains, such as the remains of a killed daemon with another store.
        match self.kernel.observe() {
            Ok(mut observed) => {
                self.remove_all_strays(&observed);
                self.remove_inner_strays();
                self.claim_forwarding(&mut observed);
            }
            Err(error) => note(Err(error.to_string())),
        }
        let files = self.kernel.written_files().into_iter();
        let files = files.map(|netns| Step::Resolv { netns, before: None, now: None });
        for step in files.chain([Step::DropTables]) {
            note(self.kernel.apply(&step).map_err(|error| error.to_string()));
        }
        self.adapt_foreign();
        errors
    }
}

/// netd's links on the host.
fn links(observed: &Observed) -> impl Iterator<Item = Planned> {
    observed.links.iter().filter(|(_, link)| link.ours).map(|(name, link)| {
        let (action, what) = if link.kind == ObservedKind::Bridge {
            ("delete-bridge", "bridge")
        } else {
            ("delete-interfaces", "interface")
        };
        planned(action, format!("delete {what} {name}"))
    })
}

fn planned(action: &'static str, text: String) -> Planned {
    Planned { action, text }
}
