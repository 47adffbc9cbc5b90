//! Forwarding: answers a question about a name that is not local, from its upstreams or from the cache of their
//! answers.

pub(super) mod cache;
pub(super) mod cache_key;
pub(super) mod failures;
pub(super) mod in_flight;
pub(super) mod resolv_conf;
pub(super) mod selection;
pub(super) mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_proto::op::ResponseCode;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::message::origin::Origin;
use super::message::reply::Reply;
use super::message::wire::{Query, Transport};
use super::{Config, View};
use crate::base::shares::Shares;
use crate::engine::Snapshot;
use crate::engine::dns::names::{CacheCounts, UpstreamHealth};
use crate::engine::listener::Resolver;
use crate::model::question::Answer;
use crate::model::upstream::Upstream;
use cache::{Age, Cache, Cached};
use cache_key::Question;
use failures::Failures;
use in_flight::{InFlight, Joined, Leading, NotAdmitted, Permit};
use selection::{Beside, Selected, Set, Source, Upstreams};
use upstream::{PATIENCE, Sent, Server, race};

/// How long to wait for a newer answer if there is a stale one (RFC 8767, 5: the client response timer).
const RENEWED_WITHIN: Duration = Duration::from_millis(1800);
/// How long a follower of another client's question waits if an upstream is on this host. The follower may be the
/// question that the upstream asks netd in turn, through another container, and then both would wait for each other.
const LOOPED_AFTER: Duration = Duration::from_millis(1500);

/// The result of asking upstreams: a reply and the server that gave it. `None` if no server had an answer.
type Completed = Option<Arc<(Reply, SocketAddr)>>;

/// Asks upstreams.
pub(super) struct Forwarder {
    upstreams: Upstreams,
    cache: Arc<Cache>,
    failures: Arc<Failures>,
    /// Questions that were answered from the cache at once, and those that were not.
    hits: AtomicU64,
    misses: AtomicU64,
    in_flight: InFlight<Completed>,
    /// The memory of in-flight questions and of replies to be written.
    waiting: Arc<Shares<IpAddr>>,
    view: View,
}

/// How a question about a name that is not local would be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explained {
    /// The servers to ask, in this order. Those that were silent lately come last.
    pub(super) servers: Vec<Upstream>,
    /// Why these servers.
    pub(super) source: Source,
    /// Servers that are not asked because they lead back to netd or to the client.
    pub(super) left_out: Vec<Upstream>,
}

/// A question that has been begun, and the cached answer to serve if no upstream answers.
pub(super) struct Begun(Wait, Option<Arc<Cached>>);

/// What a question waits for.
enum Wait {
    /// Nothing: this is the reply.
    Ready(Box<(Reply, Origin)>),
    /// Nothing, and there is no answer: see [`InFlight::loops`].
    Nobody,
    /// Its own question to the upstreams: it is the leader.
    Own(BoxFuture<'static, Completed>),
    /// The answer to an in-flight question, for at most this long. After that the question with this key seems to loop.
    Others(watch::Receiver<Option<Completed>>, Duration, Option<Box<[u8]>>),
}

impl Forwarder {
    pub(super) fn new(config: Config, view: View) -> Self {
        let waiting = Shares::new(in_flight::BYTES, in_flight::ALONE);
        Self {
            cache: Arc::new(Cache::new(config.cache_bytes)),
            failures: Arc::new(Failures::new(config.cache_bytes > 0)),
            upstreams: Upstreams::new(config),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            in_flight: InFlight::new(waiting.clone()),
            waiting,
            view,
        }
    }

    /// Takes a permit for a question that is to be forwarded.
    pub(super) fn take_permit(&self, client: IpAddr, question: &Question) -> Result<Permit, NotAdmitted> {
        let from_host = (self.view)().desired.at_gateway(client).is_some();
        self.in_flight.take_permit(client, from_host, &question.key(), &question.as_asked())
    }

    /// See [`Upstreams::set_beside`].
    pub(super) fn set_beside(&self, client: IpAddr, resolver: Option<Resolver>) {
        self.upstreams.set_beside(client, resolver);
    }

    /// See [`Upstreams::beside`].
    pub(super) fn beside(&self) -> Arc<Beside> {
        self.upstreams.beside()
    }

    /// See [`Upstreams::has_beside`].
    pub(super) fn has_beside(&self, client: IpAddr) -> bool {
        self.upstreams.has_beside(client)
    }

    /// Whether to leave the answer to a resolver in the client's container, which may know a name that netd does not.
    pub(super) fn defers(&self, client: IpAddr, answer: &Answer) -> bool {
        matches!(answer, Answer::NxDomain | Answer::Forward) && self.has_beside(client)
    }

    /// Writes the cached reply into `out`. Returns its length and origin. `None` if there is none, or if finding out
    /// requires more than a look into memory. Never waits.
    pub(super) fn cached(
        &self,
        snapshot: &Snapshot,
        client: IpAddr,
        query: &Query<'_>,
        transport: Transport,
        out: &mut [u8],
    ) -> Option<(usize, Origin)> {
        let key = query.key();
        let selected = self.upstreams.select(client, key.name(), snapshot, true)?;
        let cached = self.cache.get(key.of_set(selected.set.id).as_bytes()).filter(|cached| is_current(cached))?;
        let length = cached.write(query, transport, out)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some((length, cached.origin()))
    }

    /// Returns the first answer of a server, or a cached one. If there is none, the reply is SERVFAIL: NXDOMAIN would
    /// be false, and clients would cache it.
    pub(super) async fn ask(&self, client: IpAddr, question: &Question) -> (Reply, Origin) {
        let begun = self.begin(client, question);
        self.wait(begun).await
    }

    /// Waits for the answer to a question that has been begun. A waiting question holds little memory: see
    /// [`in_flight::QUESTION`].
    pub(super) async fn wait(&self, begun: Begun) -> (Reply, Origin) {
        let Begun(wait, cached) = begun;
        let answer = match wait {
            Wait::Ready(ready) => return *ready,
            Wait::Nobody => None,
            Wait::Own(asked) => asked.await,
            Wait::Others(completed, patience, looped) => Box::pin(self.others(completed, patience, looped)).await,
        };
        match answer {
            Some(answer) => (answer.0.clone(), Origin::Upstream(answer.1)),
            None => {
                cached.iter().for_each(|cached| cached.renew_later());
                cached.as_ref().and_then(from).unwrap_or_else(nobody)
            }
        }
    }

    /// Waits for the answer to an in-flight question.
    async fn others(
        &self,
        mut completed: watch::Receiver<Option<Completed>>,
        patience: Duration,
        looped: Option<Box<[u8]>>,
    ) -> Completed {
        match timeout(patience, completed.wait_for(Option::is_some)).await {
            Ok(answer) => answer.ok().and_then(|answer| answer.clone()).flatten(),
            Err(_) => {
                if let Some(key) = looped {
                    debug!("a question loops through an upstream on this host");
                    self.in_flight.loops(&key);
                }
                None
            }
        }
    }

    /// Does everything up to waiting for the answer.
    pub(super) fn begin(&self, client: IpAddr, question: &Question) -> Begun {
        let ready = |ready| Begun(Wait::Ready(Box::new(ready)), None);
        let snapshot = (self.view)();
        let key = question.key();
        let Some(selected) = self.upstreams.select(client, key.name(), &snapshot, false) else {
            return ready(nobody());
        };
        let Selected { set, left_out, .. } = selected;
        if !left_out.is_empty() {
            debug!(?left_out, %client, "skipped servers that forward to netd");
        }
        if set.servers.is_empty() {
            return ready(nobody());
        }
        let key = key.of_set(set.id);
        let cached = self.cache.get(key.as_bytes());
        if let Some(known) = cached.as_ref().filter(|cached| is_current(cached)).and_then(from) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return ready(known);
        }
        if self.failures.has(key.as_bytes()) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            let known = cached.as_ref().and_then(from);
            return ready(known.unwrap_or_else(|| (Reply::error(ResponseCode::ServFail), Origin::Cache)));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        set.use_now();
        // Docker knows the names on its networks in one letter case only. No other server could forge its answers.
        let sent = Arc::new(Sent::new(question, !set.is_beside));
        // Docker's resolver may ask netd in turn, at a gateway, and then netd asks other servers: that is no loop.
        let form = if set.is_beside { sent.as_sent.to_ascii_lowercase().into() } else { sent.as_sent.clone() };
        // Slightly longer than the servers get, so that their result arrives first.
        let whole = if cached.is_some() { RENEWED_WITHIN } else { PATIENCE + PATIENCE / 50 };
        let wait = match self.in_flight.join(client, &key, &form) {
            Joined::Follower { loops: true, .. } => Wait::Nobody,
            Joined::Follower { completed, of_other, .. } => {
                let near = || set.servers.iter().any(|server| is_near(server, &snapshot));
                match of_other && LOOPED_AFTER < whole && near() {
                    true => Wait::Others(completed, LOOPED_AFTER, Some(key.as_bytes().into())),
                    false => Wait::Others(completed, whole, None),
                }
            }
            Joined::Leader(leading) => {
                let completed = cached.is_some().then(|| leading.subscribe()).flatten();
                let asked = lead(leading, sent, set, self.cache.clone(), self.failures.clone());
                match completed {
                    // The question stays in flight when the stale answer has been served meanwhile.
                    Some(completed) => {
                        tokio::spawn(asked);
                        Wait::Others(completed, whole, None)
                    }
                    None => Wait::Own(Box::pin(asked)),
                }
            }
        };
        Begun(wait, cached)
    }

    /// Explains how a question of the client would be forwarded.
    pub(super) fn explain(&self, client: IpAddr, question: &Question) -> Option<Explained> {
        let key = question.key();
        let selected = self.upstreams.select(client, key.name(), &(self.view)(), false)?;
        let mut servers: Vec<&Arc<Server>> = selected.set.servers.iter().collect();
        servers.sort_by_cached_key(|server| server.health.is_out());
        let servers = servers.into_iter().map(|server| server.upstream.clone()).collect();
        Some(Explained { servers, source: selected.source, left_out: selected.left_out })
    }

    /// The size and the hit counts of the cache. `None` if nothing is cached at all.
    pub(super) fn cache(&self) -> Option<CacheCounts> {
        let (entries, bytes) = self.cache.size()?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(CacheCounts { entries, bytes, hits: count(&self.hits), misses: count(&self.misses) })
    }

    /// The memory of in-flight questions and of replies that wait to be written.
    pub(super) fn waiting(&self) -> &Arc<Shares<IpAddr>> {
        &self.waiting
    }

    /// How much of that memory is in use, in bytes.
    pub(super) fn taken(&self) -> u64 {
        self.failures.forget();
        self.waiting.taken()
    }

    /// The health of every upstream.
    pub(super) fn health(&self) -> Vec<UpstreamHealth> {
        self.upstreams.health()
    }
}

/// Asks the servers, caches the answer and sends it to all followers.
async fn lead(
    leading: Leading<Completed>,
    sent: Arc<Sent>,
    set: Arc<Set>,
    cache: Arc<Cache>,
    failures: Arc<Failures>,
) -> Completed {
    let answer = race(&set.servers, &sent).await.map(Arc::new);
    match &answer {
        Some(answer) => cache.keep(leading.key(), sent.query(), &answer.0, set.keeps),
        None if cache.renew_later(leading.key()) => {}
        None => failures.add(leading.key()),
    }
    leading.complete(answer.clone());
    answer
}

fn nobody() -> (Reply, Origin) {
    (Reply::error(ResponseCode::ServFail), Origin::Nobody)
}

/// Whether the cached answer is served without asking an upstream.
fn is_current(cached: &Cached) -> bool {
    matches!(cached.age(), Age::Fresh | Age::Failed)
}

fn from(cached: &Arc<Cached>) -> Option<(Reply, Origin)> {
    Some((cached.reply()?, cached.origin()))
}

/// Whether a server is on this host, so that its own questions may come back to netd.
fn is_near(server: &Server, snapshot: &Snapshot) -> bool {
    let ip = server.upstream.address.ip().to_canonical();
    ip.is_loopback() || snapshot.desired.at_address(ip).is_some()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::{Name, RecordType};

    use super::cache_key::Flags;
    use super::upstream::{Maker, Roots};
    use super::*;

    /// Bytes that a question uses besides its futures: its task's header and copy of the message, the map entries, what
    /// it sent, and the allocator's overhead for each of about ten allocations.
    const AROUND: usize = 1088;

    #[tokio::test]
    async fn a_waiting_question_takes_no_more_than_it_is_counted_for() {
        let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
        let question = Question { query, flags: Flags::default() };
        let snapshot = Arc::new(Snapshot::default());
        let forwarder = Forwarder::new(Config::default(), Arc::new(move || snapshot.clone()));
        let server = Arc::new(Maker::new(&Roots::default()).unwrap().server(&"192.0.2.1".parse().unwrap()));
        let sent = Arc::new(Sent::new(&question, true));
        let set = forwarder.upstreams.of_one(server.clone());
        let client = "10.0.0.2".parse().unwrap();
        let Joined::Leader(leading) = forwarder.in_flight.join(client, &question.key(), &sent.as_sent) else {
            panic!()
        };
        let futures = [
            size_of_val(&forwarder.wait(Begun(Wait::Nobody, None))),
            size_of_val(&lead(leading, sent.clone(), set, forwarder.cache.clone(), forwarder.failures.clone())),
            size_of_val(&server.ask(&sent)),
        ];
        let sum = futures.iter().sum::<usize>() + AROUND;
        assert!(sum as u64 <= in_flight::QUESTION, "{futures:?} and {AROUND}");
    }
}
