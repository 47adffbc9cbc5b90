//! Forwarding: a question that is not ours to the upstreams that are to be asked for it, or to what is kept of their
//! answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use tokio::time::timeout;
use tracing::debug;

use super::cache::{Age, Cache, Kept};
use super::flights::{Boarded, Flight, Flights, Grounded, Seat};
use super::origin::Origin;
use super::question::{Key, Question};
use super::reply::Reply;
use super::upstream::{PATIENCE, Sent, Server, race};
use super::upstreams::{Because, Route, Set, Upstreams};
use super::wire::{Query, Transport};
use super::{Config, View};
use crate::engine::Snapshot;
use crate::engine::listener::Resolver;
use crate::engine::names::{CacheCounts, UpstreamHealth};
use crate::model::question::Answer;
use crate::model::upstream::Upstream;

/// How long a newer answer is waited for when there is one beyond its time (RFC 8767, 5: the client response timer).
const RENEWED_WITHIN: Duration = Duration::from_millis(1800);
/// How long a question waits for another asker's, where an upstream is on this host: it may be the one that the upstream
/// asks us in turn, by way of another container, and then both would wait for each other.
const LOOPED_AFTER: Duration = Duration::from_millis(1500);

/// What upstreams said: a reply and whose it is; `None`: nobody knew.
type Landed = Option<Arc<(Reply, SocketAddr)>>;

/// Asks upstreams.
pub(super) struct Forwarder {
    upstreams: Upstreams,
    cache: Arc<Cache>,
    /// Questions that were answered from the cache at once, and those that were not.
    hits: AtomicU64,
    misses: AtomicU64,
    flights: Flights<Landed>,
    view: View,
}

/// The place of a question that waits for an upstream.
pub(super) type Place = Seat<Landed>;

/// What would be done with a question that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Explained {
    /// The servers that are asked, in this order; those that were silent lately come last.
    pub(super) servers: Vec<Upstream>,
    /// Why these.
    pub(super) because: Because,
    /// Servers that are not asked because they lead back to netd or to the asker.
    pub(super) left_out: Vec<Upstream>,
}

/// How long a question waits.
#[derive(Debug, Clone, Copy)]
struct Patience {
    whole: Duration,
    /// Where a loop is possible, for another asker's.
    looped: Option<Duration>,
}

impl Forwarder {
    pub(super) fn new(config: Config, view: View) -> Self {
        Self {
            cache: Arc::new(Cache::new(config.cache_bytes)),
            upstreams: Upstreams::new(config),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            flights: Flights::default(),
            view,
        }
    }

    /// A place for a question that will be asked, or why there is none.
    pub(super) fn take_seat(&self, asker: IpAddr, question: &Question) -> Result<Place, Grounded> {
        let from_host = (self.view)().desired.at_gateway(asker).is_some();
        self.flights.take_seat(asker, from_host, &question.key(), &question.as_asked())
    }

    /// See [`Upstreams::set_beside`].
    pub(super) fn set_beside(&self, asker: IpAddr, resolver: Option<Resolver>) {
        self.upstreams.set_beside(asker, resolver);
    }

    /// See [`Upstreams::has_beside`].
    pub(super) fn has_beside(&self, asker: IpAddr) -> bool {
        self.upstreams.has_beside(asker)
    }

    /// Whether the answer is not ours to give: a resolver in the asker may know a name that we do not.
    pub(super) fn defers(&self, asker: IpAddr, answer: &Answer) -> bool {
        matches!(answer, Answer::NxDomain | Answer::Forward) && self.has_beside(asker)
    }

    /// Writes the reply that is kept into `out`: its length, and where it comes from. `None`: there is none, or a look at
    /// more than memory is needed to know. Never waits.
    pub(super) fn kept(
        &self,
        snapshot: &Snapshot,
        asker: IpAddr,
        query: &Query<'_>,
        transport: Transport,
        out: &mut [u8],
    ) -> Option<(usize, Origin)> {
        let key = query.key();
        let route = self.upstreams.route(asker, key.name(), snapshot, true)?;
        let kept = self.cache.get(&key.of_set(route.set.id)).filter(|kept| is_told(kept))?;
        let length = kept.write(query, transport, out)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some((length, kept.origin()))
    }

    /// What the first server says that knows an answer, or what is kept of one. SERVFAIL when none does: NXDOMAIN would
    /// be a lie that gets kept.
    pub(super) async fn ask(&self, asker: IpAddr, question: &Question) -> (Reply, Origin) {
        let snapshot = (self.view)();
        let key = question.key();
        let nobody = || (Reply::error(ResponseCode::ServFail), Origin::Nobody);
        let Some(route) = self.upstreams.route(asker, key.name(), &snapshot, false) else { return nobody() };
        let Route { set, left_out, .. } = route;
        if !left_out.is_empty() {
            debug!(?left_out, %asker, "not asked: the servers lead back here");
        }
        if set.servers.is_empty() {
            return nobody();
        }
        let key = key.of_set(set.id);
        let kept = self.cache.get(&key);
        if let Some(told) = kept.as_ref().filter(|kept| is_told(kept)).and_then(from) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return told;
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        set.use_now();
        let near = set.servers.iter().any(|server| is_near(server, &snapshot));
        drop(snapshot);
        let patience = Patience {
            // A little more than the servers get, so that theirs is the last word.
            whole: if kept.is_some() { RENEWED_WITHIN } else { PATIENCE + PATIENCE / 50 },
            looped: near.then_some(LOOPED_AFTER),
        };
        match self.await_answer(asker, key, question, &set, patience).await {
            Some(answer) => (answer.0.clone(), Origin::Upstream(answer.1)),
            None => {
                kept.iter().for_each(|kept| kept.renew_later());
                kept.as_ref().and_then(from).unwrap_or_else(nobody)
            }
        }
    }

    /// Waits for the answer, and has it asked for if nobody has.
    async fn await_answer(
        &self,
        asker: IpAddr,
        key: Key,
        question: &Question,
        set: &Arc<Set>,
        patience: Patience,
    ) -> Landed {
        // Docker knows the names of its networks in one case only; nobody else can answer in its place.
        let sent = Sent::new(question, !set.is_beside);
        // It may ask us in turn, at a gateway, and then others are asked: that is no loop.
        let form = if set.is_beside { sent.as_sent.to_ascii_lowercase().into() } else { sent.as_sent.clone() };
        let (mut landed, loops_after) = match self.flights.board(asker, key, &form) {
            Boarded::Passenger { loops: true, .. } => return None,
            Boarded::Passenger { landed, of_other, .. } => (landed, patience.looped.filter(|_| of_other)),
            Boarded::Pilot(flight, landed) => {
                tokio::spawn(fly(*flight, key, question.clone(), sent, set.clone(), self.cache.clone()));
                (landed, None)
            }
        };
        let patience = loops_after.map_or(patience.whole, |limit| limit.min(patience.whole));
        match timeout(patience, landed.wait_for(Option::is_some)).await {
            Ok(answer) => answer.ok().and_then(|answer| answer.clone()).flatten(),
            Err(_) => {
                if loops_after == Some(patience) {
                    debug!(%asker, query = %question.query, "seems to loop through an upstream on this host");
                    self.flights.loops(&key);
                }
                None
            }
        }
    }

    /// What would be done with a question of the asker.
    pub(super) fn explain(&self, asker: IpAddr, question: &Question) -> Option<Explained> {
        let key = question.key();
        let route = self.upstreams.route(asker, key.name(), &(self.view)(), false)?;
        let mut servers: Vec<&Arc<Server>> = route.set.servers.iter().collect();
        servers.sort_by_cached_key(|server| server.health.is_out());
        let servers = servers.into_iter().map(|server| server.upstream.clone()).collect();
        Some(Explained { servers, because: route.because, left_out: route.left_out })
    }

    /// What is kept, and of how much use it was; `None`: nothing ever is.
    pub(super) fn cache(&self) -> Option<CacheCounts> {
        let (entries, bytes) = self.cache.size()?;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Some(CacheCounts { entries, bytes, hits: count(&self.hits), misses: count(&self.misses) })
    }

    /// How every upstream does.
    pub(super) fn health(&self) -> Vec<UpstreamHealth> {
        self.upstreams.health()
    }
}

/// Asks, keeps the answer and tells it to all who wait.
async fn fly(flight: Flight<Landed>, key: Key, question: Question, sent: Sent, set: Arc<Set>, cache: Arc<Cache>) {
    let answer = race(&set.servers, sent).await.map(Arc::new);
    match &answer {
        Some(answer) => cache.keep(&key, &question.query, &answer.0, set.keeps),
        None => cache.keep_failure(&key, &question.query),
    }
    flight.land(answer);
}

/// Whether it is told without asking anybody.
fn is_told(kept: &Kept) -> bool {
    matches!(kept.age(), Age::Fresh | Age::Failed)
}

fn from(kept: &Arc<Kept>) -> Option<(Reply, Origin)> {
    Some((kept.reply()?, kept.origin()))
}

/// Whether a server is on this host: what it asks may come back to us.
fn is_near(server: &Server, snapshot: &Snapshot) -> bool {
    let ip = server.upstream.address.ip().to_canonical();
    ip.is_loopback() || snapshot.desired.at_address(ip).is_some()
}
