//! Floor 6: the assembly. Takes the locks that keep a second daemon away, binds all sockets, then serves; a lock or socket
//! that is already taken is a start error.
//!
//! Tasks: the API on the unix socket (and on TCP with TLS if configured), the metrics if configured, the name service, and the
//! registration with the host's systemd-resolved if configured. The drain's token stops each of them; a command stops
//! the engine's thread. If any of them ends by itself, the daemon ends with an error. Networks and traffic stay as they
//! are.

mod memory;
mod owner;
pub mod plugins;
pub mod sandbox;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::gethostname;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::base::descriptors::Capacity;
use crate::config::{Api, Config, Dns, Ipv6Pools};
use crate::engine;
use crate::engine::Engine;
use crate::faces::shared::server::serve;
use crate::faces::shared::server::tls::{Tls, TlsError};
use crate::faces::{dns, http, resolved};
use crate::kernel::Kernel;
use crate::kernel::linux::Linux;
use crate::model::address::Pool;
use crate::model::names::DnsName;
use crate::os::descriptors;
use crate::runtimes::{Runtimes, Sockets};
use crate::store::Store;
use crate::store::embedded::{Embedded, Folders, Opening};

use self::owner::Owner;

/// How long requests in progress may take after the stop signal.
const DRAIN: Duration = Duration::from_secs(10);
/// Prefix length of IPv6 subnets (RFC 4291, section 2.5.4).
const IPV6_SUBNET: u8 = 64;

/// Why the daemon did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Another daemon works in this network namespace.
    #[error("start: {0}")]
    Owned(String),
    /// A socket cannot be bound.
    #[error("listen on {on}: {source} ({look})")]
    Listen {
        /// The path or address.
        on: String,
        /// The reason.
        #[source]
        source: io::Error,
        /// What to inspect.
        look: &'static str,
    },
    /// The engine did not start.
    #[error("start: {0}")]
    Engine(#[from] engine::Error),
    /// The kernel cannot be reached.
    #[error("start: {0}")]
    Kernel(#[from] crate::kernel::KernelError),
    /// The store cannot be opened.
    #[error("start: {0}")]
    Store(#[from] crate::store::StoreError),
    /// The certificates of `dns.ca_file` cannot be read.
    #[error("start: {0}")]
    Certificates(String),
    /// The certificates or the key of the API over TCP cannot be used.
    #[error("start the API over TCP: [api] {0}")]
    Tls(#[from] TlsError),
    /// A task that must keep running has ended.
    #[error("{0} ended unexpectedly: see the log above; networks and traffic stay as they are")]
    Ended(&'static str),
    /// The limit of open files cannot be read or raised.
    #[error("raise the limit of open files (ulimit -n): {0}")]
    Descriptors(#[source] io::Error),
    /// The async runtime or a signal handler could not be created.
    #[error("start the runtime: {0}")]
    Runtime(#[source] io::Error),
}

/// The bound sockets, before any of them serves.
#[derive(Debug)]
pub struct Listeners {
    /// The lock of the network namespace.
    owner: Owner,
    /// The API's unix socket. Dropping it removes its file.
    api: socket::ApiSocket,
    /// The API over TCP, with mutual TLS.
    api_tls: Option<(std::net::TcpListener, Tls)>,
    /// The metrics.
    metrics: Option<std::net::TcpListener>,
}

impl Listeners {
    /// Reads the certificates of the API over TCP, and binds the configured sockets. A socket file without a listener is replaced.
    fn bind(config: &Config, owner: Owner) -> Result<Self, AppError> {
        let tls = config.api.as_ref().map(Api::tls).transpose()?;
        let api = socket::bind(&config.socket, &config.socket_group).map_err(|source| AppError::Listen {
            on: config.socket.display().to_string(),
            look: match source.kind() {
                io::ErrorKind::PermissionDenied => "run netd as root, or choose another path with --socket",
                _ => "another netd may run: `netd status`",
            },
            source,
        })?;
        let tcp = |address: Option<SocketAddr>| {
            let listen = |address: SocketAddr| {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true).map(|()| listener)
            };
            let failed = |address: SocketAddr| {
                move |source| AppError::Listen { on: address.to_string(), source, look: "see `ss -lnpt`" }
            };
            address.map(|address| listen(address).map_err(failed(address))).transpose()
        };
        let api_tcp = tcp(config.api.as_ref().map(|api| api.listen))?;
        Ok(Self { owner, api, api_tls: api_tcp.zip(tls), metrics: tcp(config.metrics.listen)? })
    }
}

/// A daemon with loaded state and bound sockets.
pub struct Bound {
    engine: Engine,
    listeners: Listeners,
    dns: dns::Config,
    /// Whether the host's systemd-resolved is configured by netd.
    resolved: bool,
    /// Names of this machine for clients of the metrics.
    hosts: Vec<DnsName>,
    socket: PathBuf,
    /// The limit of open descriptors.
    descriptors: u64,
}

/// Loads the state, makes the kernel match it, and starts the engine. `descriptors`: the limit of open descriptors.
pub fn build(
    config: &Config,
    kernel: impl Kernel,
    store: impl Store,
    runtimes: Arc<dyn Runtimes>,
    listeners: Listeners,
    descriptors: u64,
) -> Result<Bound, AppError> {
    let dns = dns::Config { capacity: Capacity::of(descriptors), ..name_service(&config.dns)? };
    let mut pools = config.pools.ipv4.clone();
    if let Ipv6Pools::Subnets(subnets) = &config.pools.ipv6 {
        pools.extend(subnets.iter().map(|base| Pool { base: *base, size: IPV6_SUBNET }));
    }
    let ula = matches!(config.pools.ipv6, Ipv6Pools::Auto);
    let domain = config.dns.domain.key();
    let engine_config =
        engine::Config { pools, ula, domain, dns_port: config.dns.port, foreign: config.firewall.foreign };
    let engine = engine::start(engine_config, kernel, store, runtimes)?;
    let (resolved, socket) = (config.dns.resolved, config.socket.clone());
    let hosts = config.metrics.hosts.iter().cloned().chain(own_name()).collect();
    Ok(Bound { engine, listeners, dns, resolved, hosts, socket, descriptors })
}

/// The name of this machine that the kernel has (gethostname(2)), if it can be a DNS name.
fn own_name() -> Option<DnsName> {
    gethostname().ok()?.to_str()?.parse().ok()
}

fn name_service(config: &Dns) -> Result<dns::Config, AppError> {
    let roots = config.ca_file.as_deref().map(dns::Roots::read).transpose().map_err(AppError::Certificates)?;
    Ok(dns::Config {
        ttl: config.ttl,
        upstreams: config.upstreams.clone(),
        split: config.split.clone(),
        cache_bytes: u64::from(config.cache_mib) << 20,
        roots: roots.unwrap_or_default(),
        ..dns::Config::default()
    })
}

impl Bound {
    /// Serves until `stop` is cancelled, then drains.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), AppError> {
        let Self { engine: Engine { handle, listening, thread }, listeners, dns, resolved, hosts, socket, descriptors } =
            self;
        let capacity = dns.capacity;
        let ready = Arc::new(AtomicBool::new(false));
        let mut tasks: JoinSet<&'static str> = JoinSet::new();
        let snapshots = handle.clone();
        let server =
            dns::Server::new(dns, Arc::new(move || snapshots.snapshot()), listening, handle.telemetry().clone());
        let names = server.names();
        let dns_stop = stop.clone();
        tasks.spawn(async move {
            server.run(dns_stop).await;
            "the name service"
        });
        if resolved {
            let (handle, stop) = (handle.clone(), stop.clone());
            tasks.spawn(async move {
                resolved::run(handle, stop).await;
                "the link to systemd-resolved"
            });
        }
        let router = http::router(handle.clone(), names.clone(), ready.clone());
        // A stale file would only make the next client's error less clear.
        let (api, _file) = (listeners.api.listener, listeners.api.file);
        let api = tokio::net::UnixListener::from_std(api).map_err(AppError::Runtime)?;
        tasks.spawn(ended("the API", serve::serve_unix(api, router.clone(), capacity, stop.clone().cancelled_owned())));
        if let Some((tcp, tls)) = listeners.api_tls {
            let tcp = TcpListener::from_std(tcp).map_err(AppError::Runtime)?;
            let served = serve::serve_tls(tcp, tls, router, capacity, stop.clone().cancelled_owned());
            tasks.spawn(ended("the API over TCP", served));
        }
        if let Some(tcp) = listeners.metrics {
            let router = http::metrics_router(handle.clone(), names.clone(), ready.clone());
            let tcp = TcpListener::from_std(tcp).map_err(AppError::Runtime)?;
            let stopped = stop.clone().cancelled_owned();
            let served = async move { serve::serve_public(tcp, &hosts, router, capacity, stopped).await };
            tasks.spawn(ended("the metrics", served));
        }
        // Dropping it ends them.
        let _beside = beside(listeners.owner, names.clone(), &handle);
        let engine_ended = tokio::task::spawn_blocking(move || thread.join().is_ok());
        handle.report(engine::Subject::Descriptors, too_few(descriptors)).await;
        ready.store(true, Ordering::Release);
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        tracing::info!(socket = %socket.display(), "ready");
        let outcome = tokio::select! {
            // The same token stops the tasks, so its cancellation is checked first.
            biased;
            () = stop.cancelled() => Ok(()),
            Some(task) = tasks.join_next() => Err(AppError::Ended(task.unwrap_or("a task"))),
            _ = engine_ended => Err(AppError::Ended("the engine")),
        };
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        ready.store(false, Ordering::Release);
        stop.cancel();
        if tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("requests were still in hand after {} s", DRAIN.as_secs());
        }
        handle.stop().await;
        outcome
    }
}

/// Starts what only ends with the daemon: dropping the set ends it.
fn beside(owner: Owner, names: Arc<dyn engine::dns::names::Names>, handle: &engine::Handle) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(memory::give_back(names));
    tasks.spawn(owner.keep(handle.clone()));
    tasks
}

/// Describes the problem if the limit of open files is too low.
fn too_few(limit: u64) -> Option<String> {
    (limit < descriptors::ENOUGH).then(|| {
        format!(
            "netd may open only {limit} files (ulimit -Hn), and should {}: published ports and connections take one \
             each; see LimitNOFILE in systemd.exec(5)",
            descriptors::ENOUGH
        )
    })
}

async fn ended(what: &'static str, served: impl Future<Output = io::Result<()>>) -> &'static str {
    if let Err(error) = served.await {
        tracing::error!("{what}: {error}");
    }
    what
}

fn tell_systemd(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Runs the daemon in the foreground until SIGTERM or SIGINT; a second signal ends it at once. `rebuild`: see [`Opening`].
pub fn daemon(config: &Config, rebuild: bool) -> Result<(), AppError> {
    crate::kernel::host::capability::check()?;
    // Files that other users may read get their mode explicitly.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let descriptors = descriptors::raise().map_err(AppError::Descriptors)?;
    // A second daemon is refused by one of these, in this order, before anything has changed.
    let owner = Owner::claim().map_err(AppError::Owned)?;
    let folders = Folders::claim(&config.state_dir, &config.runtime_dir)?;
    let listeners = Listeners::bind(config, owner)?;
    let boot = crate::kernel::sysctl::boot_id()?;
    let store = Embedded::open(folders, Opening { boot_id: &boot, rebuild })?;
    let bound = build(config, Linux::new()?, store, Arc::new(Sockets::default()), listeners, descriptors)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime)?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let serving = bound.serve(stop.clone());
        let mut signals = Signals::new().map_err(AppError::Runtime)?;
        tokio::pin!(serving);
        tokio::select! {
            done = &mut serving => return done,
            () = signals.next() => stop.cancel(),
        }
        tokio::select! {
            done = &mut serving => done,
            () = signals.next() => Ok(()),
        }
    })
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
