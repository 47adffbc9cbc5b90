//! Query logs: the logged containers and the last entries of each. Switched at run time and not stored: they end with
//! the container or the daemon.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use super::Origin;
use crate::model::desired::Desired;
use crate::model::endpoint::Container;
use crate::model::ids::ContainerId;

/// How many entries of one container are kept; the oldest are dropped first.
pub const KEPT: usize = 1000;
/// How many entries a slow follower may lag behind before it loses some.
const LAG: usize = 1024;

/// The logged containers, by id.
pub type Logging = BTreeMap<ContainerId, Arc<Logged>>;

/// The set of logged containers.
#[derive(Debug, Default)]
pub struct QueryLog(ArcSwap<Logging>);

/// The log of one container.
#[derive(Debug)]
pub struct Logged {
    /// The container.
    pub container: Container,
    /// When the log was switched on.
    pub since: SystemTime,
    recorded: Mutex<Recorded>,
    dropped: AtomicU64,
    /// The dropped entries that no later entry has reported yet.
    unreported: AtomicU64,
}

#[derive(Debug)]
struct Recorded {
    entries: VecDeque<Arc<Entry>>,
    live: broadcast::Sender<Arc<Entry>>,
}

/// One query and its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the reply was ready.
    pub time: SystemTime,
    /// "udp" or "tcp".
    pub transport: &'static str,
    /// The queried name, without the final dot; empty if the message could not be parsed.
    pub name: String,
    /// The queried type; empty if the message could not be parsed.
    pub kind: String,
    /// The response code ("NXDOMAIN").
    pub code: String,
    /// The data of the first answers.
    pub answers: Vec<String>,
    /// The total number of answers.
    pub answer_count: usize,
    /// The origin of the reply.
    pub origin: Origin,
    /// The time from the arrival of the query until its reply was ready.
    pub duration: Duration,
    /// How many entries right before this one were lost because they came faster than they could be written.
    pub dropped_before: u64,
}

impl QueryLog {
    /// Logs the container from now on; an existing log is continued.
    pub fn switch_on(&self, container: &Container, now: SystemTime) -> Arc<Logged> {
        let fresh = Arc::new(Logged::new(container.clone(), now));
        self.0.rcu(|logging| {
            let mut logging = Logging::clone(logging);
            logging.entry(container.id.clone()).or_insert_with(|| fresh.clone());
            logging
        });
        self.of(&container.id).unwrap_or(fresh)
    }

    /// Stops logging, discards the entries and ends the followers' streams.
    pub fn switch_off(&self, container: &ContainerId) {
        self.0.rcu(|logging| {
            let mut logging = Logging::clone(logging);
            logging.remove(container);
            logging
        });
    }

    /// The log of a container; `None` if it is not logged.
    pub fn of(&self, container: &ContainerId) -> Option<Arc<Logged>> {
        self.0.load().get(container).cloned()
    }

    /// The currently logged containers; costs one atomic load.
    pub fn now(&self) -> arc_swap::Guard<Arc<Logging>> {
        self.0.load()
    }

    /// Removes the logs of containers that no longer exist.
    pub(crate) fn keep(&self, desired: &Desired) {
        let gone = |logging: &Logging| logging.keys().any(|id| desired.container(id).is_none());
        if gone(&self.0.load()) {
            self.0.rcu(|logging| {
                let mut logging = Logging::clone(logging);
                logging.retain(|id, _| desired.container(id).is_some());
                logging
            });
        }
    }
}

impl Logged {
    fn new(container: Container, since: SystemTime) -> Self {
        let recorded = Recorded { entries: VecDeque::new(), live: broadcast::channel(LAG).0 };
        Self {
            container,
            since,
            recorded: Mutex::new(recorded),
            dropped: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
        }
    }

    /// Adds an entry and sends it to followers.
    pub fn add(&self, mut entry: Entry) -> Arc<Entry> {
        entry.dropped_before = self.unreported.swap(0, Ordering::Relaxed);
        let entry = Arc::new(entry);
        let mut recorded = self.lock();
        if recorded.entries.len() == KEPT {
            recorded.entries.pop_front();
        }
        recorded.entries.push_back(entry.clone());
        // Fails if there are no followers.
        let _ = recorded.live.send(entry.clone());
        entry
    }

    /// Counts an entry that could not be written; the next entry reports it.
    pub fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.unreported.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of entries that could not be written so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The last entries, oldest first.
    pub fn recent(&self) -> Vec<Arc<Entry>> {
        self.lock().entries.iter().cloned().collect()
    }

    /// The last entries, and a receiver of all further ones.
    pub fn follow(&self) -> (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>) {
        let recorded = self.lock();
        (recorded.entries.iter().cloned().collect(), recorded.live.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        // A poisoned lock is safe to use: no statement that holds it can panic halfway through a change.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::logic::samples;
    use crate::model::endpoint::Endpoint;

    fn endpoint(container: &str) -> Endpoint {
        let network = samples::network("net1", &["10.0.0.0/24"]);
        samples::endpoint(&network, container, 1, &["10.0.0.2"], &[])
    }

    fn container(name: &str) -> Container {
        endpoint(name).container
    }

    fn entry(name: &str) -> Entry {
        Entry {
            time: UNIX_EPOCH,
            transport: "udp",
            name: name.into(),
            kind: "A".into(),
            code: "NOERROR".into(),
            answers: Vec::new(),
            answer_count: 0,
            origin: Origin::Local,
            duration: Duration::ZERO,
            dropped_before: 0,
        }
    }

    fn names(entries: &[Arc<Entry>]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[tokio::test]
    async fn the_last_entries_are_kept_and_followers_miss_none() {
        let log = QueryLog::default();
        let web = log.switch_on(&container("web"), UNIX_EPOCH);
        for n in 0..=KEPT {
            web.add(entry(&format!("n{n}")));
        }
        let again = log.switch_on(&container("web"), UNIX_EPOCH);
        assert!(Arc::ptr_eq(&web, &again), "switching on what is on changes nothing");
        let recent = web.recent();
        assert_eq!((recent.len(), recent[0].name.as_str()), (KEPT, "n1"), "the oldest went");
        let (before, mut live) = web.follow();
        assert_eq!(before, recent);
        web.drop_one();
        web.drop_one();
        web.add(entry("after"));
        web.add(entry("later"));
        assert_eq!((live.recv().await.unwrap().dropped_before, live.recv().await.unwrap().dropped_before), (2, 0));
        assert_eq!((names(&web.recent()[KEPT - 2..]), web.dropped()), (vec!["after", "later"], 2));
        log.switch_off(&web.container.id);
        drop((web, again));
        assert!(live.recv().await.is_err(), "followers end with the log");
        assert!(log.now().is_empty());
    }

    #[test]
    fn a_log_goes_with_its_container() {
        let (log, mut desired) = (QueryLog::default(), Desired::default());
        let endpoint = desired.insert_endpoint(endpoint("web"));
        log.switch_on(&container("web"), UNIX_EPOCH);
        log.switch_on(&container("gone"), UNIX_EPOCH);
        log.keep(&desired);
        assert_eq!(log.now().keys().collect::<Vec<_>>(), [&endpoint.container.id]);
        desired.remove_endpoint(&endpoint.key());
        log.keep(&desired);
        assert!(log.now().is_empty());
    }
}
