//! The DHCP client: asks the server of a network for the addresses of its containers, and prolongs them (RFC 2131).
//!
//! It follows the snapshot: an endpoint that waits for an address is asked for at once, one that has a lease when the lease
//! says so. Nothing of it is kept here, so that it goes on after a restart as if there had been none. What comes of it goes
//! to the engine, which changes the interface and answers the caller.

mod converse;

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::base::clock::boot_seconds;
use crate::engine::Handle;
use crate::engine::lease::schedule::{self, Ask};
use crate::engine::lease::{Client, LeaseFate};
use crate::model::endpoint::{Endpoint, EndpointKey, Netns};
use crate::model::lease::Dhcp;
use crate::model::names::{IfName, NetworkName};
use converse::{Teller, converse};

/// Conversations at a time on one network; each has a socket.
const MOST: usize = 16;
/// Between two looks at what is due, at most: the timer does not count the time that the machine sleeps.
const LOOK: Duration = Duration::from_secs(30);

/// Gives addresses until the engine ends.
pub async fn run(handle: Handle) {
    let mut revisions = handle.revisions();
    let mut clients = Clients::new(handle);
    loop {
        revisions.mark_unchanged();
        clients.follow();
        clients.begin_what_is_due().await;
        let pause = clients.pause();
        tokio::select! {
            alive = revisions.changed() => if alive.is_err() { return },
            Some(ended) = clients.running.join_next_with_id() => clients.ended(ended),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// An endpoint, and its place in the order of connecting: another one may have the same key later.
type Key = (EndpointKey, u64);

struct Clients {
    handle: Handle,
    known: HashMap<Key, Known>,
    running: JoinSet<()>,
    of_tasks: HashMap<Id, Key>,
}

/// An endpoint that has its address of a server.
struct Known {
    target: Target,
    dhcp: Dhcp,
    /// Whether it has an address.
    has_address: bool,
    /// When it was asked for last, in seconds since the boot.
    asked: Option<u64>,
    /// When the engine was told last that its lease has ended.
    told: Option<u64>,
    running: Option<AbortHandle>,
}

impl Known {
    /// When its address is to be taken away unless its lease is prolonged before; again and again if that fails.
    fn ends(&self) -> Option<u64> {
        let ends = self.dhcp.lease.as_ref().filter(|_| self.has_address)?.ends()?;
        Some(self.told.map_or(ends, |told| ends.max(told + LOOK.as_secs())))
    }
}

/// Where to ask, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    netns: Netns,
    ifname: IfName,
    client: Client,
}

impl Target {
    fn of(endpoint: &Endpoint) -> Self {
        let client = Client::from(endpoint);
        Self { netns: endpoint.container.netns.clone(), ifname: endpoint.ifname.clone(), client }
    }
}

impl Clients {
    fn new(handle: Handle) -> Self {
        Self { handle, known: HashMap::new(), running: JoinSet::new(), of_tasks: HashMap::new() }
    }

    /// Takes over the endpoints as they are now.
    fn follow(&mut self) {
        let snapshot = self.handle.snapshot();
        let on = snapshot.desired.networks().filter(|network| network.dhcp);
        let endpoints = on.flat_map(|network| snapshot.desired.endpoints_of(&network.name));
        let mut now: HashMap<Key, _> =
            endpoints.map(|endpoint| ((endpoint.key(), endpoint.sequence), endpoint)).collect();
        self.known.retain(|key, known| {
            let stays = now.remove(key).and_then(|endpoint| Some((endpoint, endpoint.dhcp.as_ref()?)));
            let Some((endpoint, dhcp)) = stays else {
                // Its socket would keep the container's namespace.
                known.running.iter().for_each(AbortHandle::abort);
                return false;
            };
            let lost = known.has_address && endpoint.addresses.is_empty();
            if lost || known.dhcp != *dhcp {
                (known.dhcp, known.asked, known.told) = (dhcp.clone(), None, None);
            }
            known.target = Target::of(endpoint);
            known.has_address = !endpoint.addresses.is_empty();
            true
        });
        for (key, endpoint) in now {
            let Some(dhcp) = endpoint.dhcp.clone() else { continue };
            let (target, has_address) = (Target::of(endpoint), !endpoint.addresses.is_empty());
            self.known.insert(key, Known { target, dhcp, has_address, asked: None, told: None, running: None });
        }
    }

    /// Takes away what has ended, and begins the conversations that are due.
    async fn begin_what_is_due(&mut self) {
        self.end_what_has_ended().await;
        let now = boot_seconds();
        let is_due = |known: &Known| {
            known.running.is_none() && schedule::next(&known.dhcp, known.asked, now).is_some_and(|due| due <= now)
        };
        let mut due: Vec<(Option<u64>, Key)> = self
            .known
            .iter()
            .filter(|(_, known)| is_due(known))
            .map(|(key, known)| (known.asked, key.clone()))
            .collect();
        // Those that were asked for last come last.
        due.sort();
        let mut busy = self.busy();
        for (_, key) in due {
            let Some(known) = self.known.get_mut(&key) else { continue };
            let Some(ask) = schedule::ask(&known.dhcp, now) else { continue };
            if matches!(ask, Ask::Anew(_)) && known.has_address {
                // The engine could not take it away.
                known.asked = Some(now);
                continue;
            }
            let busy = busy.entry(key.0.network.clone()).or_default();
            if *busy >= MOST {
                continue;
            }
            *busy += 1;
            known.asked = Some(now);
            let span = schedule::span(&known.dhcp, now);
            let teller = Teller::new(self.handle.clone(), key.clone(), known.target.client.clone());
            let task = self.running.spawn(converse(known.target.clone(), ask, span, teller));
            self.of_tasks.insert(task.id(), key);
            known.running = Some(task);
        }
    }

    /// How many conversations there are on each network.
    fn busy(&self) -> HashMap<NetworkName, usize> {
        let mut busy = HashMap::new();
        for (key, _) in self.known.iter().filter(|(_, known)| known.running.is_some()) {
            *busy.entry(key.0.network.clone()).or_default() += 1;
        }
        busy
    }

    /// Tells that leases have ended. They are asked for again once the engine has taken the addresses away.
    async fn end_what_has_ended(&mut self) {
        let now = boot_seconds();
        let has_ended = |known: &Known| known.ends().is_some_and(|ends| ends <= now);
        let mut lost = Vec::new();
        for (key, known) in self.known.iter_mut().filter(|(_, known)| has_ended(known)) {
            known.running.take().iter().for_each(AbortHandle::abort);
            (known.asked, known.told) = (Some(now), Some(now));
            lost.push((key.clone(), known.target.client.clone()));
        }
        for (key, client) in lost {
            Teller::new(self.handle.clone(), key, client).tell(LeaseFate::Ended).await;
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let (now, busy) = (boot_seconds(), self.busy());
        let is_full = |key: &Key| busy.get(&key.0.network).is_some_and(|busy| *busy >= MOST);
        // One that ends makes room for the next.
        let idle = self.known.iter().filter(|(key, known)| known.running.is_none() && !is_full(key));
        let asks = idle.filter_map(|(_, known)| schedule::next(&known.dhcp, known.asked, now));
        let ends = self.known.values().filter_map(Known::ends);
        let next = asks.chain(ends).min();
        next.map_or(LOOK, |next| Duration::from_secs(next.saturating_sub(now)).min(LOOK))
    }

    /// Takes note of the end of a conversation.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        let Some(key) = self.of_tasks.remove(&id) else { return };
        let Some(known) = self.known.get_mut(&key) else { return };
        known.running.take_if(|running| running.id() == id);
    }
}
