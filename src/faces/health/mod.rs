//! Health probes: whether members of services take connections or answer HTTP requests, asked within each container at
//! its own address on the service's network.
//!
//! Within, because a firewall of the host does not decide whether a container works, and because an isolated network has
//! no address of the host from which it could be asked. A process that listens at the loopback addresses only is not
//! found there, as it is not found by the service's clients. What is found out goes to the engine when it is news.

mod ask;
mod schedule;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet, spawn_blocking};
use tokio::time::sleep_until;

use crate::base::clock::unix_seconds;
use crate::base::monotonic;
use crate::engine::health::connecting::{self, Wanted};
use crate::engine::{Handle, HealthResults, Snapshot};
use crate::model::address::Family;
use crate::model::service::Health;
use ask::ask;
use schedule::{Known, Schedule};
use targets::{Key, Target, Targets, targets};

/// Probes at a time.
const MOST: usize = 64;
/// Between two rounds of probes, at least: members that are due soon share a thread.
const ROUND: Duration = Duration::from_millis(5);
/// Between two looks at the snapshot, at least, and how many times as long as such a look takes.
const REST: Duration = Duration::from_millis(5);
const SHARE: u32 = 20;

/// Probes until the engine ends.
pub async fn run(handle: Handle) {
    let mut revisions = handle.revisions();
    let mut probes = Probes::new(handle);
    let (mut changed, mut rested) = (true, monotonic::now());
    loop {
        let next = probes.next();
        tokio::select! {
            alive = revisions.changed(), if !changed => match alive {
                Ok(()) => changed = true,
                Err(_) => return,
            },
            () = sleep_until(rested.into()), if changed => {
                changed = false;
                rested = probes.follow(&mut revisions).await;
            }
            Some(ended) = probes.running.join_next_with_id() => probes.ended(ended).await,
            () = until(next), if next.is_some() => probes.round().await,
        }
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at.into()).await;
    }
}

/// A member that is probed.
#[derive(Debug)]
struct Member {
    target: Target,
    schedule: Schedule,
    /// It was never probed.
    is_new: bool,
    /// The probe that runs.
    running: Option<AbortHandle>,
}

/// The result of a probe, and when it began.
struct Ended {
    began: Instant,
    outcome: Result<(), String>,
}

/// All that is probed. A member is either due or probed.
struct Probes {
    handle: Handle,
    /// The revision of the snapshot that the members are of.
    seen: Option<u64>,
    members: HashMap<Key, Member>,
    due: BTreeSet<(Instant, Key)>,
    running: JoinSet<Ended>,
    /// The members that are probed, by the task.
    of_tasks: HashMap<Id, Key>,
    /// When the next round may begin.
    free: Instant,
    /// Whether it was logged that nothing could be found out.
    logged: bool,
}

impl Probes {
    fn new(handle: Handle) -> Self {
        Self {
            handle,
            seen: None,
            members: HashMap::new(),
            due: BTreeSet::new(),
            running: JoinSet::new(),
            of_tasks: HashMap::new(),
            free: monotonic::now(),
            logged: false,
        }
    }

    /// When the next round begins; `None`: as many probes run as may, or none is due.
    fn next(&self) -> Option<Instant> {
        let (due, _) = self.due.first().filter(|_| self.running.len() < MOST)?;
        Some((*due).max(self.free))
    }

    /// Takes over what is to be probed now. Returns when that may be done again.
    async fn follow(&mut self, revisions: &mut watch::Receiver<u64>) -> Instant {
        let began = monotonic::now();
        revisions.mark_unchanged();
        let snapshot = self.handle.snapshot();
        if self.seen.replace(snapshot.zone_revision) != Some(snapshot.zone_revision) {
            let Targets { probed, hopeless } = targets(&snapshot.desired);
            self.take_over(probed);
            let news = hopeless.into_iter().filter(|(key, why)| known(&snapshot, key) != Known::Unhealthy(why));
            let news = news.map(|(key, why)| (key, Err(why.to_owned())));
            self.note(news.collect()).await;
        }
        let now = monotonic::now();
        now + REST.max((now - began) * SHARE)
    }

    fn take_over(&mut self, mut targets: BTreeMap<Key, Target>) {
        let due = &mut self.due;
        self.members.retain(|key, member| {
            let stays = match targets.remove(key) {
                Some(target) if member.target.is_like(&target) => {
                    // The same namespace may be at another path.
                    member.target = target;
                    true
                }
                Some(target) => {
                    // What has changed since is probed at once.
                    targets.insert(key.clone(), target);
                    false
                }
                None => false,
            };
            if !stays {
                due.remove(&(member.schedule.due, key.clone()));
                // Its socket would keep the container's namespace.
                member.running.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        let now = monotonic::now();
        for (key, target) in targets {
            let schedule = Schedule::new(target.times, now);
            self.due.insert((schedule.due, key.clone()));
            self.members.insert(key, Member { target, schedule, is_new: true, running: None });
        }
    }

    /// Begins the probes that are due, as many as may be.
    async fn round(&mut self) {
        let now = monotonic::now();
        self.free = now + ROUND;
        let mut chosen = Vec::new();
        while self.running.len() + chosen.len() < MOST
            && let Some((_, key)) = self.due.first().filter(|(due, _)| *due <= now)
        {
            chosen.push(key.clone());
            self.due.pop_first();
        }
        let wanted: Vec<Wanted> = chosen.iter().filter_map(|key| self.wanted(key)).collect();
        let made = match spawn_blocking(|| connecting::open(wanted)).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => self.nothing(&error),
            Err(error) => self.nothing(&error),
        };
        let mut made = made.into_iter();
        for key in chosen {
            let sockets = made.next().and_then(|made| made.unwrap_or_else(|error| self.nothing(&error)));
            match sockets {
                Some(sockets) => self.begin(key, sockets),
                // The container has ended, or netd lacks something for now: neither says anything of the member.
                None => self.again(&key),
            }
        }
    }

    fn wanted(&self, key: &Key) -> Option<Wanted> {
        let Member { target, is_new, .. } = self.members.get(key)?;
        let families = target.at.iter().flatten().map(|at| Family::of(at.ip())).collect();
        Some(Wanted { netns: target.netns.clone(), families, raise: *is_new })
    }

    fn begin(&mut self, key: Key, sockets: Vec<OwnedFd>) {
        let Some(member) = self.members.get_mut(&key) else { return };
        member.is_new = false;
        let mut sockets = sockets.into_iter();
        let mut with_sockets = |addresses: &Vec<SocketAddr>| addresses.iter().copied().zip(&mut sockets).collect();
        let at: Vec<Vec<(SocketAddr, OwnedFd)>> = member.target.at.iter().map(&mut with_sockets).collect();
        let (what, timeout) = (member.target.ask.clone(), member.target.times.timeout);
        let probe = self.running.spawn(async move {
            let began = monotonic::now();
            Ended { began, outcome: ask(at, &what, timeout).await }
        });
        self.of_tasks.insert(probe.id(), key);
        member.running = Some(probe);
    }

    /// Nothing was found out of the member: it is probed again later.
    fn again(&mut self, key: &Key) {
        if let Some(member) = self.members.get_mut(key) {
            member.running = None;
            member.schedule.again(monotonic::now());
            self.due.insert((member.schedule.due, key.clone()));
        }
    }

    /// Takes the results of this probe and of all others that have ended.
    async fn ended(&mut self, first: Result<(Id, Ended), JoinError>) {
        let snapshot = self.handle.snapshot();
        let (mut news, mut next) = (Vec::new(), Some(first));
        while let Some(ended) = next {
            news.extend(self.judge(&snapshot, ended));
            next = self.running.try_join_next_with_id();
        }
        self.note(news).await;
    }

    /// What is news of the member.
    fn judge(
        &mut self,
        snapshot: &Arc<Snapshot>,
        ended: Result<(Id, Ended), JoinError>,
    ) -> Option<(Key, Result<(), String>)> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let key = self.of_tasks.remove(&id)?;
        // It may have been probed for what it was before.
        let is_current = |member: &&mut Member| member.running.as_ref().is_some_and(|running| running.id() == id);
        let member = self.members.get_mut(&key).filter(is_current)?;
        let Ok((_, Ended { began, outcome })) = ended else {
            self.again(&key);
            return None;
        };
        member.running = None;
        let (known, times) = (known(snapshot, &key), (began, monotonic::now()));
        let told = outcome.as_ref().copied().map_err(String::as_str);
        let news = member.schedule.probed(times, known, told, rand::random());
        self.due.insert((member.schedule.due, key.clone()));
        news.map(|_| (key, outcome))
    }

    async fn note(&self, news: Vec<(Key, Result<(), String>)>) {
        let since = unix_seconds();
        let results: HealthResults = news
            .into_iter()
            .map(|((container, service), outcome)| {
                let (healthy, why) = (outcome.is_ok(), outcome.err().unwrap_or_default());
                ((container, Some(service)), Health { healthy, since, why })
            })
            .collect();
        if !results.is_empty() {
            self.handle.note_health(results).await;
        }
    }

    /// Nothing was found out because of this error, which is logged once.
    fn nothing<T: Default>(&mut self, error: &dyn std::fmt::Display) -> T {
        if !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(%error, "members of services cannot be probed");
        }
        T::default()
    }
}

/// What the snapshot knows of the member.
fn known<'a>(snapshot: &'a Snapshot, (container, service): &Key) -> Known<'a> {
    let health = snapshot.desired.condition(container).and_then(|condition| condition.probed.get(service));
    match health {
        None => Known::Nothing,
        Some(Health { healthy: true, .. }) => Known::Healthy,
        Some(Health { why, .. }) => Known::Unhealthy(why),
    }
}
