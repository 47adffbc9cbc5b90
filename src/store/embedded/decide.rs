//! Decides at a start what becomes of the two files, from what they hold. Nothing has changed by then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::rows::{Change, ENDPOINTS, NETWORKS, RESERVATIONS, Rows, STICKY, endpoint_key, values};
use super::{Cause, copy};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;
use crate::model::network::Network;
use crate::model::reservation::Reservation;

/// A file that was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    Nothing,
    Good(&'a Rows),
    /// The rows that can still be read.
    Damaged(&'a Rows),
}

/// The decision.
#[derive(Debug)]
pub(super) struct Decision {
    /// What the durable file is to hold.
    pub(super) durable: Rows,
    /// Where that comes from, if the durable file must be made; `None`: it is there.
    pub(super) made: Option<String>,
    /// Changes of what the runtime file holds, or will hold.
    pub(super) runtime: Vec<Change>,
    /// Whether endpoints of this boot may be missing.
    pub(super) incomplete: bool,
}

/// What is known of this boot.
struct Boot<'a> {
    /// The path of the runtime file, for sentences.
    at: &'a Path,
    /// Its rows.
    held: Rows,
    /// Its copy of the durable file; `None` if it has none.
    copied: Option<Rows>,
    networks: Vec<Network>,
    endpoints: Vec<Endpoint>,
    reservations: Vec<Reservation>,
}

/// Decides. `runtime`: the file of this boot, at that path. `rebuild`: see [`super::Opening`]. The error says why a start
/// would lose something, and what to do.
pub(super) fn decide(durable: Known<'_>, runtime: Known<'_>, at: &Path, rebuild: bool) -> Result<Decision, String> {
    let boot = Boot::of(runtime, at).map_err(|error| error.to_string())?;
    let (rows, made) = match durable {
        Known::Good(rows) => boot.complete(rows, rebuild)?,
        Known::Nothing => {
            let is_damaged = matches!(runtime, Known::Damaged(_));
            if !rebuild && (is_damaged || boot.knows_something()) {
                return Err(boot.missing(is_damaged));
            }
            (boot.copied.clone().unwrap_or_default(), Some(boot.copied_again()))
        }
        Known::Damaged(left) => boot.rebuild(left),
    };
    let orphans = boot.orphans(&rows).map_err(|error| error.to_string())?;
    if let Some(first) = orphans.first().filter(|_| !rebuild) {
        return Err(format!(
            "network {} is not in it, to which {} of this boot belongs ({} in all), nor in the copy in {}. Put back the file \
             that has it and start again; or start once with `netd daemon --rebuild`, which leaves interfaces as they are \
             and forgets endpoints and reservations without a network",
            first.network,
            first.what,
            orphans.len(),
            at.display()
        ));
    }
    let no_copy = made.is_some() && boot.copied.is_none();
    Ok(Decision {
        durable: rows,
        made,
        incomplete: no_copy || !orphans.is_empty() || !matches!(runtime, Known::Good(_)),
        runtime: orphans.into_iter().map(|orphan| orphan.deletion).collect(),
    })
}

/// What belongs to a network that is not there.
struct Orphan<'a> {
    network: &'a NetworkName,
    what: String,
    deletion: Change,
}

impl<'a> Boot<'a> {
    fn of(runtime: Known<'_>, at: &'a Path) -> Result<Self, Cause> {
        let held = match runtime {
            Known::Nothing => Rows::new(),
            Known::Good(rows) | Known::Damaged(rows) => rows.clone(),
        };
        let copied = copy::of(&held);
        let networks = values(copied.as_ref().unwrap_or(&Rows::new()), NETWORKS)?;
        let (endpoints, reservations) = (values(&held, ENDPOINTS)?, values(&held, RESERVATIONS)?);
        Ok(Self { at, copied, networks, endpoints, reservations, held })
    }

    fn knows_something(&self) -> bool {
        let sticky = self.copied.as_ref().and_then(|copy| copy.get(STICKY));
        !self.networks.is_empty()
            || !self.endpoints.is_empty()
            || !self.reservations.is_empty()
            || sticky.is_some_and(|rows| !rows.is_empty())
    }

    fn knowledge(&self) -> String {
        let (networks, endpoints) = (self.networks.len(), self.endpoints.len());
        format!("{} knows {networks} networks and {endpoints} endpoints of this boot", self.at.display())
    }

    fn copied_again(&self) -> String {
        format!("it was made again from the copy in {}, with {} networks", self.at.display(), self.networks.len())
    }

    /// Why a start without the durable file would lose something.
    fn missing(&self, is_damaged: bool) -> String {
        let known = if is_damaged && !self.knows_something() {
            format!("{}, which may know networks of this boot, is damaged", self.at.display())
        } else {
            self.knowledge()
        };
        format!(
            "it is missing, but {known}. If its file system is not mounted yet, mount it and start again; or start once \
             with `netd daemon --rebuild`, which makes it from the copy in {}",
            self.at.display()
        )
    }

    /// The rows of a damaged file: those of the copy, and others that could still be read.
    fn rebuild(&self, left: &Rows) -> (Rows, Option<String>) {
        let mut rows = left.clone();
        for (table, copied) in self.copied.clone().unwrap_or_default() {
            rows.entry(table).or_default().extend(copied);
        }
        let says = match &self.copied {
            Some(_) => self.copied_again(),
            None => format!(
                "there is no copy of it, and {} of its networks could still be read: create the others again, or restore \
                 them (`netd restore`)",
                left.get(NETWORKS).map_or(0, BTreeMap::len)
            ),
        };
        (rows, Some(says))
    }

    /// The rows of an intact file, with the networks of this boot's endpoints and reservations that are only in the copy.
    /// Networks that differ in both are a reason to refuse, or to take the copy.
    fn complete(&self, rows: &Rows, rebuild: bool) -> Result<(Rows, Option<String>), String> {
        let text = |error: Cause| error.to_string();
        let used = self.endpoints.iter().map(|endpoint| &endpoint.network);
        let used: BTreeSet<&NetworkName> =
            used.chain(self.reservations.iter().map(|reservation| &reservation.network)).collect();
        let there: Vec<Network> = values(rows, NETWORKS).map_err(text)?;
        let mut complete = rows.clone();
        for copied in self.networks.iter().filter(|copied| used.contains(&copied.name)) {
            let conflict = there.iter().find(|network| conflict(network, copied));
            if let Some(network) = conflict.filter(|_| !copy::is_of(rows, &self.held)) {
                let differs = format!("its network {} is not the {} of this boot", network.name, copied.name);
                if rebuild {
                    return Ok((
                        self.copied.clone().unwrap_or_default(),
                        Some(format!("{differs}; {}", self.copied_again())),
                    ));
                }
                return Err(format!(
                    "{differs}, and {}. Put back the file that the containers of this boot were connected with and start \
                     again; or start once with `netd daemon --rebuild`, which sets this file aside and makes it from the \
                     copy",
                    self.knowledge()
                ));
            }
            if !there.iter().any(|network| network.name == copied.name) {
                self.take(copied, &mut complete);
            }
        }
        Ok((complete, None))
    }

    /// Takes a network and its sticky addresses from the copy.
    fn take(&self, network: &Network, into: &mut Rows) {
        let of_network = |table: &str, key: &str| match table {
            NETWORKS => key == network.name.as_str(),
            _ => key.strip_prefix(network.name.as_str()).is_some_and(|rest| rest.starts_with('/')),
        };
        for (table, copied) in self.copied.iter().flatten() {
            let rows = copied.iter().filter(|(key, _)| of_network(table, key));
            into.entry(table.clone()).or_default().extend(rows.map(|(key, value)| (key.clone(), value.clone())));
        }
    }

    /// The endpoints and reservations whose network is not in these rows.
    fn orphans(&self, rows: &Rows) -> Result<Vec<Orphan<'_>>, Cause> {
        let networks: Vec<Network> = values(rows, NETWORKS)?;
        let endpoints = self.endpoints.iter().map(|endpoint| Orphan {
            network: &endpoint.network,
            what: format!("container {}", endpoint.container.name),
            deletion: Change::delete(ENDPOINTS, &endpoint_key(&endpoint.key())),
        });
        let reservations = self.reservations.iter().map(|reservation| Orphan {
            network: &reservation.network,
            what: format!("reservation {}", reservation.id),
            deletion: Change::delete(RESERVATIONS, reservation.id.as_str()),
        });
        let is_there = |orphan: &Orphan<'_>| networks.iter().any(|network| network.name == *orphan.network);
        Ok(endpoints.chain(reservations).filter(|orphan| !is_there(orphan)).collect())
    }
}

/// Whether both cannot be networks of this host, or are one under the same name only.
fn conflict(one: &Network, other: &Network) -> bool {
    let overlap = || one.subnets.iter().any(|a| other.subnets.iter().any(|b| a.subnet.overlaps(b.subnet)));
    one.id != other.id
        && (one.name == other.name
            || one.guest_bridge().is_some_and(|name| other.guest_bridge() == Some(name))
            || overlap())
}
