//! The relay of discovery: passes messages of mDNS and SSDP on between the bridges of networks that have the option `relay`
//! and other interfaces of the host.
//!
//! A task follows the snapshot and the host's interfaces (`plan`) and opens the sockets of each interface (`link`). One
//! reader for each tap hands packets to `pass`, which decides about them (`guard`, `message`) and keeps who waits for
//! answers by unicast (`search`). Nothing is kept on disk: after a restart, whoever searches asks again.

mod guard;
mod link;
mod message;
mod pass;
mod plan;
mod search;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::base::monotonic;
use crate::engine::relay::{Looked, look};
use crate::engine::{Error, Handle, Subject};
use crate::model::names::{IfName, NetworkName};
use crate::os::multicast::Tap;
use pass::{Opened, Relay};
use plan::Wanted;

/// Between two looks at the interfaces while something is relayed: links come, go and get addresses.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a packet: a message of mDNS has at most 9,000 with its headers (RFC 6762, 17).
const PACKET: usize = 9216;

type Shared = Arc<Mutex<Relay>>;

/// Relays until the engine ends.
pub async fn run(handle: Handle) {
    let mut revisions = handle.revisions();
    let mut follower = Follower { handle, relay: Shared::default(), told: BTreeMap::new(), failed: BTreeMap::new() };
    follower.follow().await;
    loop {
        let changed = revisions.changed();
        let has_ended = if follower.is_idle() {
            changed.await.is_err()
        } else {
            matches!(timeout(LOOK, changed).await, Ok(Err(_)))
        };
        if has_ended {
            return;
        }
        follower.follow().await;
    }
}

/// Keeps the relay as networks and interfaces want it.
struct Follower {
    handle: Handle,
    relay: Shared,
    /// The problems that `netd status` shows.
    told: BTreeMap<NetworkName, String>,
    /// Interfaces whose sockets could not be opened, and why: logged once.
    failed: BTreeMap<IfName, String>,
}

impl Follower {
    fn is_idle(&self) -> bool {
        lock(&self.relay).is_idle() && self.told.is_empty()
    }

    async fn follow(&mut self) {
        let wanted = plan::wanted(&self.handle.snapshot().desired);
        if wanted.is_empty() && self.is_idle() {
            return;
        }
        let names = plan::interfaces(&wanted);
        let looked = if wanted.is_empty() { Ok(Looked::default()) } else { look_at(names).await };
        match looked {
            Ok(looked) => {
                self.apply(&wanted, looked.clone());
                self.tell(&wanted, &looked).await;
            }
            Err(error) => tracing::warn!(%error, "cannot look at the interfaces between which discovery is relayed"),
        }
    }

    fn apply(&mut self, wanted: &[Wanted], looked: Looked) {
        let ways = plan::ways(wanted, &looked);
        let networks: BTreeSet<NetworkName> = wanted.iter().map(|one| one.network.clone()).collect();
        let counts = self.handle.telemetry().relays.of(&networks);
        let (opened, failed) = lock(&self.relay).follow(monotonic::now(), (ways, counts), looked.up);
        self.read(opened);
        let failed: BTreeMap<IfName, String> =
            failed.into_iter().map(|(name, error)| (name, error.to_string())).collect();
        for (interface, error) in failed.iter().filter(|(name, error)| self.failed.get(*name) != Some(*error)) {
            tracing::warn!(%interface, %error, "cannot relay discovery at this interface; tried again each second");
        }
        self.failed = failed;
    }

    fn read(&self, opened: Opened) {
        for (name, taps) in opened {
            let read = |tap| tokio::spawn(read(self.relay.clone(), name.clone(), tap)).abort_handle();
            let readers = taps.into_iter().map(read).collect();
            if let Some(link) = lock(&self.relay).link(&name) {
                link.read_by(readers);
            }
        }
    }

    /// Tells the problems of each network.
    async fn tell(&mut self, wanted: &[Wanted], looked: &Looked) {
        let problem = |one: &Wanted| Some((one.network.clone(), one.problem(looked)?));
        let now: BTreeMap<NetworkName, String> = wanted.iter().filter_map(problem).collect();
        let before = std::mem::replace(&mut self.told, now);
        for (network, problem) in self.told.iter().filter(|(network, problem)| before.get(*network) != Some(*problem)) {
            self.handle.report(Subject::Relay(network.clone()), Some(problem.clone())).await;
        }
        for network in before.keys().filter(|network| !self.told.contains_key(*network)) {
            self.handle.report(Subject::Relay(network.clone()), None).await;
        }
    }
}

async fn look_at(names: BTreeSet<IfName>) -> Result<Looked, Error> {
    // The task neither panics nor is aborted.
    spawn_blocking(move || look(&names)).await.unwrap_or_else(|_| Ok(Looked::default()))
}

/// A poisoned lock is safe to use: at worst a message is lost.
fn lock(relay: &Shared) -> MutexGuard<'_, Relay> {
    relay.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a tap until its interface is no longer used.
async fn read(relay: Shared, at: IfName, tap: Tap) {
    let mut buffer = vec![0; PACKET];
    loop {
        // An error tells once that the interface has gone down or away; the follower decides about it.
        if let Ok(Some((length, cast))) = tap.receive(&mut buffer).await {
            lock(&relay).receive(monotonic::now(), &at, cast, buffer.get(..length).unwrap_or_default());
        }
    }
}
