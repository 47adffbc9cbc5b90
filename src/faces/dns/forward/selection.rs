//! Selection: which upstreams to ask for a name that is not local.
//!
//! The first of these that exists: the resolver that answers in the client besides netd, and only that one, because
//! without netd it would be the only one; the servers given to the client itself; those of its networks, the first
//! network's first; those to which the configuration gives the name's domain (split DNS, the longest domain wins);
//! those of the configuration; those of the host's resolv.conf. The servers of a container or network are for all of
//! its questions, so they win over split DNS, which belongs to the daemon.
//!
//! Servers that lead back to netd or to the client are left out. A *set* is the servers that are asked together. The
//! cached answers belong to the set: the same servers give the same answers to all clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tracing::error;

use super::resolv_conf::{ResolvConf, Stamp};
use super::upstream::{Maker, Server};
use crate::base::monotonic;
use crate::engine::Snapshot;
use crate::engine::dns::names::UpstreamHealth;
use crate::engine::listener::Resolver;
use crate::faces::dns::Config;
use crate::model::names::DnsName;
use crate::model::upstream::Upstream;

/// A set of a container or network that has not been used for this long is removed when another one is added.
const UNUSED: Duration = Duration::from_secs(3600);

/// Servers that are asked together, in this order.
pub(crate) struct Set {
    /// Unique among all sets.
    pub(crate) id: u64,
    pub(crate) servers: Vec<Arc<Server>>,
    /// Whether cached answers may be served while they are fresh. Not those of a resolver on the host that resolv.conf
    /// names (systemd-resolved): it has its own cache, and it knows when a VPN connects or disconnects, which the file
    /// does not show.
    pub(crate) keeps: bool,
    /// Whether it is the resolver in a container.
    pub(crate) is_beside: bool,
    used: Mutex<Instant>,
}

/// Why these servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// They are the resolver that answers in the container besides netd.
    Beside,
    /// They were given to the container.
    Container,
    /// They were given to one or several of its networks.
    Network,
    /// The configuration gives the name's domain to them.
    Split,
    /// They are in the configuration.
    Configuration,
    /// They are in the host's resolv.conf.
    Host,
}

/// The selected servers.
pub(crate) struct Selected {
    pub(crate) set: Arc<Set>,
    pub(crate) source: Source,
    /// Servers that are not asked because they lead back here.
    pub(crate) left_out: Vec<Upstream>,
}

/// Resolvers in containers, by the address that identifies the container. Replaced as a whole when one comes or goes.
pub(crate) type Beside = HashMap<IpAddr, Arc<Set>>;

/// All servers and sets.
pub(crate) struct Upstreams {
    maker: Option<Maker>,
    servers: Mutex<HashMap<Upstream, Weak<Server>>>,
    sets: ArcSwap<HashMap<Vec<Upstream>, Arc<Set>>>,
    ids: AtomicU64,
    configured: Option<Arc<Set>>,
    /// By domain in wire format and lower case.
    split: HashMap<Box<[u8]>, Arc<Set>>,
    resolv_conf: ResolvConf,
    host: ArcSwap<(Option<Stamp>, Arc<Set>)>,
    beside: ArcSwap<Beside>,
}

impl Upstreams {
    pub(crate) fn new(config: Config) -> Self {
        let maker =
            Maker::new(&config.roots).map_err(|why| error!("prepare TLS: {why}: netd cannot ask upstreams")).ok();
        let nobody = Arc::new(Set {
            id: 0,
            servers: Vec::new(),
            keeps: false,
            is_beside: false,
            used: Mutex::new(monotonic::now()),
        });
        let resolv_conf = ResolvConf(config.resolv_conf);
        let mut made = Self {
            maker,
            servers: Mutex::default(),
            sets: ArcSwap::default(),
            ids: AtomicU64::new(1),
            configured: None,
            split: HashMap::new(),
            resolv_conf,
            host: ArcSwap::from_pointee((None, nobody)),
            beside: ArcSwap::default(),
        };
        made.configured = (!config.upstreams.is_empty()).then(|| made.set(&config.upstreams));
        made.split = config.split.iter().map(|(domain, servers)| (wire(domain), made.set(servers))).collect();
        made
    }

    /// Selects the servers for a question of the client about a name (in wire format and lower case). `None` if `quick`
    /// and the selection requires more than a look into memory.
    pub(crate) fn select(&self, client: IpAddr, name: &[u8], snapshot: &Snapshot, quick: bool) -> Option<Selected> {
        let (set, source) = self.of(client, name, snapshot, quick)?;
        let leads_back = |server: &&Arc<Server>| leads_back(server.upstream.address.ip(), client, snapshot);
        if !set.servers.iter().any(|server| leads_back(&server)) {
            return Some(Selected { set, source, left_out: Vec::new() });
        }
        let (out, left): (Vec<_>, Vec<_>) = set.servers.iter().partition(leads_back);
        let upstreams = |servers: Vec<&Arc<Server>>| -> Vec<Upstream> {
            servers.iter().map(|server| server.upstream.clone()).collect()
        };
        Some(Selected { set: self.known(&upstreams(left), quick)?, source, left_out: upstreams(out) })
    }

    fn of(&self, client: IpAddr, name: &[u8], snapshot: &Snapshot, quick: bool) -> Option<(Arc<Set>, Source)> {
        if let Some(set) = self.beside.load().get(&client) {
            return Some((set.clone(), Source::Beside));
        }
        match given(client, snapshot) {
            Given::ToContainer(list) => return Some((self.known(list, quick)?, Source::Container)),
            Given::ToNetworks(list) => return Some((self.known(&list, quick)?, Source::Network)),
            Given::Nothing => {}
        }
        if let Some(set) = suffixes(name).find_map(|suffix| self.split.get(suffix)).filter(|_| !self.split.is_empty()) {
            return Some((set.clone(), Source::Split));
        }
        match &self.configured {
            Some(set) => Some((set.clone(), Source::Configuration)),
            None => Some((self.host(quick)?, Source::Host)),
        }
    }

    /// Sets the resolver to ask when the client asks for a name that netd does not know. `None` removes it.
    pub(crate) fn set_beside(&self, client: IpAddr, resolver: Option<Resolver>) {
        let known = self.beside.load_full();
        if resolver.is_none() && !known.contains_key(&client) {
            return;
        }
        let mut all = HashMap::clone(&known);
        all.remove(&client);
        if let Some(resolver) = resolver {
            // Not cached: its answers change as its containers come and go, but have long TTLs.
            let id = self.ids.fetch_add(1, Ordering::Relaxed);
            let servers = vec![Arc::new(Server::within(resolver))];
            all.insert(
                client,
                Arc::new(Set { id, servers, keeps: false, is_beside: true, used: Mutex::new(monotonic::now()) }),
            );
        }
        // Only the server task changes it, so that no update is lost.
        self.beside.store(Arc::new(all));
    }

    /// The resolvers in containers: another value once they have changed.
    pub(crate) fn beside(&self) -> Arc<Beside> {
        self.beside.load_full()
    }

    /// Whether a resolver answers the client besides netd.
    pub(crate) fn has_beside(&self, client: IpAddr) -> bool {
        self.beside.load().contains_key(&client)
    }

    /// The host's current servers. A stat(2) for each question is the price for using a new server from the next
    /// question on.
    fn host(&self, quick: bool) -> Option<Arc<Set>> {
        let host = self.host.load();
        let stamp = self.resolv_conf.stamp();
        // The id is 0 until the file has been read once, even if it does not exist.
        if stamp == host.0 && (stamp.is_some() || host.1.id != 0) {
            return Some(host.1.clone());
        }
        if quick {
            return None;
        }
        // Two questions that notice a change at once both read the file, which is harmless: the contents are the same.
        // The new set has an id of its own, so that answers of the previous servers are no longer served, even if the
        // file names them again.
        let servers = self.resolv_conf.read();
        let keeps = !servers.iter().any(|server| server.address.ip().is_loopback());
        let set = Arc::new(Set { keeps, ..self.made(&servers) });
        self.host.store(Arc::new((stamp, set.clone())));
        Some(set)
    }

    /// The set of exactly these servers.
    fn known(&self, list: &[Upstream], quick: bool) -> Option<Arc<Set>> {
        if let Some(set) = self.sets.load().get(list) {
            return Some(set.clone());
        }
        (!quick).then(|| self.set(list))
    }

    fn set(&self, list: &[Upstream]) -> Arc<Set> {
        let made = Arc::new(self.made(list));
        let mut set = made.clone();
        self.sets.rcu(|sets| {
            // Another thread may have added it meanwhile.
            if let Some(known) = sets.get(list) {
                set = known.clone();
                return sets.clone();
            }
            let now = monotonic::now();
            let lately = |set: &Set| now.saturating_duration_since(*lock(&set.used)) < UNUSED;
            let mut sets: HashMap<_, _> =
                sets.iter().filter(|(_, set)| lately(set)).map(|(list, set)| (list.clone(), set.clone())).collect();
            set = made.clone();
            sets.insert(list.to_vec(), made.clone());
            Arc::new(sets)
        });
        set
    }

    /// A set of one server.
    #[cfg(test)]
    pub(crate) fn of_one(&self, server: Arc<Server>) -> Arc<Set> {
        Arc::new(Set {
            id: 1,
            servers: vec![server],
            keeps: true,
            is_beside: false,
            used: Mutex::new(monotonic::now()),
        })
    }

    fn made(&self, list: &[Upstream]) -> Set {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut all = lock(&self.servers);
        all.retain(|_, server| server.strong_count() > 0);
        let servers = list.iter().filter_map(|upstream| {
            let known = all.get(upstream).and_then(Weak::upgrade);
            let server = known.or_else(|| Some(Arc::new(self.maker.as_ref()?.server(upstream))))?;
            all.insert(upstream.clone(), Arc::downgrade(&server));
            Some(server)
        });
        Set { id, servers: servers.collect(), keeps: true, is_beside: false, used: Mutex::new(monotonic::now()) }
    }

    /// The health of every server, sorted by address.
    pub(crate) fn health(&self) -> Vec<UpstreamHealth> {
        let mut all: Vec<Arc<Server>> = lock(&self.servers).values().filter_map(Weak::upgrade).collect();
        all.sort_by_key(|server| server.upstream.address);
        all.iter().map(|server| server.health.report(server.upstream.to_string())).collect()
    }
}

impl Set {
    /// Records that the set is in use.
    pub(crate) fn use_now(&self) {
        *lock(&self.used) = monotonic::now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is consistent between any two statements, so that a poisoned lock still guards consistent data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The upstreams that were given to the client.
enum Given<'a> {
    ToContainer(&'a [Upstream]),
    ToNetworks(std::borrow::Cow<'a, [Upstream]>),
    Nothing,
}

fn given(client: IpAddr, snapshot: &Snapshot) -> Given<'_> {
    let desired = &snapshot.desired;
    let Some(endpoint) = desired.at_address(client) else {
        // The host, through a gateway.
        return match desired.at_gateway(client).filter(|network| !network.dns.upstreams.is_empty()) {
            Some(network) => Given::ToNetworks(network.dns.upstreams.as_slice().into()),
            None => Given::Nothing,
        };
    };
    let endpoints = desired.container(&endpoint.container.id).map_or(&[][..], |attached| attached.endpoints.as_slice());
    if let Some(own) = endpoints.iter().find(|endpoint| !endpoint.upstreams.is_empty()) {
        return Given::ToContainer(&own.upstreams);
    }
    // Questions from an internal network do not leave it.
    let networks = endpoints.iter().filter_map(|endpoint| desired.network(&endpoint.network));
    let lists = networks.filter(|network| !network.internal && !network.dns.upstreams.is_empty());
    let mut lists = lists.map(|network| network.dns.upstreams.as_slice());
    let (Some(first), second) = (lists.next(), lists.next()) else { return Given::Nothing };
    let Some(second) = second else { return Given::ToNetworks(first.into()) };
    let mut all = first.to_vec();
    for upstream in second.iter().chain(lists.flatten()) {
        if !all.contains(upstream) {
            all.push(upstream.clone());
        }
    }
    Given::ToNetworks(all.into())
}

/// Whether a name server would lead back to netd or to the client: a gateway of netd, or an address of the client's own
/// container (a container that is itself the host's resolver).
fn leads_back(server: IpAddr, client: IpAddr, snapshot: &Snapshot) -> bool {
    let server = server.to_canonical();
    if snapshot.desired.at_gateway(server).is_some() || server == client {
        return true;
    }
    let holder = |address| snapshot.desired.at_address(address).map(|endpoint| &endpoint.container.id);
    holder(server).is_some() && holder(server) == holder(client)
}

/// A domain in wire format and lower case.
fn wire(domain: &DnsName) -> Box<[u8]> {
    let domain = domain.key();
    let labels = domain.split('.').filter(|label| !label.is_empty());
    // A label has at most 63 bytes.
    let bytes =
        labels.flat_map(|label| std::iter::once(u8::try_from(label.len()).unwrap_or_default()).chain(label.bytes()));
    bytes.chain([0]).collect()
}

/// The name and every domain that contains it, the longest first, each in wire format.
fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| match name.split_first() {
        Some((0, _)) | None => None,
        Some((length, rest)) => rest.get(usize::from(*length)..),
    })
}
