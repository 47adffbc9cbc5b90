//! Floor 6: the assembly. Takes the locks that keep a second daemon away, binds all sockets, then serves; a lock or socket
//! that is already taken is a start error.
//!
//! Tasks: the API on the unix socket (and on TCP with TLS if configured), the metrics if configured, the name service, and the
//! registration with the host's systemd-resolved if configured. If any of them, or the engine's thread, ends by itself,
//! the daemon ends with an error. Networks and traffic stay as they are.

pub mod containers;
mod engine_api;
mod further_socket;
mod memory;
mod owner;
pub mod plugins;
pub mod sandbox;
mod serve;
mod socket;
pub mod teardown;
mod watchdog;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{Mode, umask};
use nix::unistd::gethostname;
use tokio_util::sync::CancellationToken;

use crate::base::descriptors::Capacity;
use crate::config::{self, Api, Config, Dns, Firewall, Ipv6Pools, Others};
use crate::engine;
use crate::engine::Engine;
use crate::faces::dns;
use crate::faces::shared::server::access::Access;
use crate::faces::shared::server::tls::{Tls, TlsError};
use crate::kernel::Kernel;
use crate::kernel::dns::kept::Kept;
use crate::kernel::host::capability;
use crate::kernel::host::kept_ports::KeptPorts;
use crate::kernel::linux::Linux;
use crate::model::address::Pool;
use crate::model::names::DnsName;
use crate::os::descriptors;
use crate::os::service::{self, Manager};
use crate::runtimes::containers::{Containers, EngineSocket};
use crate::runtimes::docker::Socket;
use crate::runtimes::{Runtimes, Sockets};
use crate::store::Store;
use crate::store::embedded::{Embedded, Folders, Opening};

use self::owner::Owner;

/// Prefix length of IPv6 subnets (RFC 4291, section 2.5.4).
const IPV6_SUBNET: u8 = 64;
/// The names that the API's socket has if the service manager gives it: `FileDescriptorName=` of `dist/netd.socket`, and
/// the default of systemd.
const API_NAMES: [&str; 2] = ["api", "netd.socket"];

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
    /// The descriptors of the service manager cannot be taken over.
    #[error("take over the sockets of the service manager (LISTEN_FDS): {0}")]
    Given(#[source] io::Error),
    /// The async runtime or a signal handler could not be created.
    #[error("start the runtime: {0}")]
    Runtime(#[source] io::Error),
}

/// Why the daemon ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, by a signal.
    Stopped,
    /// Everything that netd made was removed (`netd teardown`): it must not be started again by itself.
    TornDown,
}

/// The bound sockets, before any of them serves.
#[derive(Debug)]
pub struct Listeners {
    /// The lock of the network namespace.
    owner: Owner,
    /// The API's unix socket. Dropping it removes its file.
    api: socket::ApiSocket,
    /// Who may do what there.
    access: Access,
    /// The API over TCP, with mutual TLS.
    api_tls: Option<(std::net::TcpListener, Tls)>,
    /// The metrics.
    metrics: Option<std::net::TcpListener>,
}

impl Listeners {
    /// Reads the certificates of the API over TCP, and binds the configured sockets. A socket file without a listener is
    /// replaced. `given`: the API's unix socket, if the service manager has it.
    fn bind(config: &Config, owner: Owner, given: Option<OwnedFd>) -> Result<Self, AppError> {
        let tls = config.api.as_ref().map(Api::tls).transpose()?;
        let (group, everyone) = (socket::group(&config.socket_group), config.socket_others == Others::Read);
        let access = Access { group, group_name: config.socket_group.clone(), others_read: everyone, ..Access::own() };
        let file_access = socket::SocketAccess { group, everyone };
        let api = match given {
            Some(given) => socket::given(given, &config.socket, file_access),
            None => socket::bind(&config.socket, file_access),
        };
        let api = api.map_err(|source| AppError::Listen {
            on: config.socket.display().to_string(),
            look: match source.kind() {
                io::ErrorKind::PermissionDenied => "run netd as root, or choose another path with --socket",
                io::ErrorKind::InvalidInput => "see systemd.socket(5)",
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
        Ok(Self { owner, api, access, api_tls: api_tcp.zip(tls), metrics: tcp(config.metrics.listen)? })
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
    /// Where Docker finds netd's driver, and where Docker's API is.
    docker: Option<(PathBuf, Socket)>,
    engine_api: Option<engine_api::Settings>,
    /// The engines that may have made containers of netd.
    engines: Vec<Arc<dyn Containers>>,
    process: Process,
}

/// What this process was started with.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The service manager.
    pub manager: Manager,
    /// How often the service manager wants a sign of life, if it does.
    pub watchdog: Option<Duration>,
    /// The limit of open descriptors.
    pub descriptors: u64,
}

/// Loads the state and starts the engine, which makes the kernel match it.
pub fn build(
    config: &Config,
    kernel: impl Kernel,
    store: impl Store,
    runtimes: Arc<dyn Runtimes>,
    listeners: Listeners,
    process: Process,
) -> Result<Bound, AppError> {
    let dns = dns::Config { capacity: Capacity::of(process.descriptors), ..name_service(&config.dns)? };
    let engine = engine::begin(engine_config(config), kernel, store, runtimes)?;
    let (resolved, socket) = (config.dns.resolved, config.socket.clone());
    let hosts = config.metrics.hosts.iter().cloned().chain(own_name()).collect();
    let engine_api = engine_api::Settings::of(config);
    let own = engine_api.as_ref().map(|settings| settings.socket().to_owned());
    let further = config.engine.iter().map(|engine| engine.socket.clone()).chain([config.docker_plugin.api.clone()]);
    let engines = EngineSocket::all(further, own.as_deref());
    let engines = engines.into_iter().map(|engine| Arc::new(engine) as Arc<dyn Containers>).collect();
    let docker = config.plugin_socket().map(|plugin| (plugin, Socket { api: config.docker_plugin.api.clone(), own }));
    Ok(Bound { engine, listeners, dns, resolved, hosts, socket, docker, engine_api, engines, process })
}

fn engine_config(config: &Config) -> engine::Config {
    let mut pools = config.pools.ipv4.clone();
    if let Ipv6Pools::Subnets(subnets) = &config.pools.ipv6 {
        pools.extend(subnets.iter().map(|base| Pool { base: *base, size: IPV6_SUBNET }));
    }
    let ula = matches!(config.pools.ipv6, Ipv6Pools::Auto);
    let domain = config.dns.domain.key();
    let Firewall { foreign, forwarding, publish } = config.firewall;
    let egress = config.egress.settings();
    engine::Config { pools, ula, domain, dns_port: config.dns.port, foreign, forwarding, publish, egress }
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

/// Runs the daemon in the foreground until SIGTERM or SIGINT; a second signal ends it at once. `rebuild`: see [`Opening`].
pub fn daemon(config: &Config, rebuild: bool) -> Result<Ended, AppError> {
    let service = config::service::environment();
    let (manager, mut given) = (Manager::new(service.notify), service::take(service.given).map_err(AppError::Given)?);
    capability::check()?;
    capability::restrict()?;
    // Files that other users may read get their mode explicitly.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let descriptors = descriptors::raise().map_err(AppError::Descriptors)?;
    if let Err(error) = descriptors::reserve(descriptors) {
        tracing::debug!(%error, "the first commands that need many descriptors take longer");
    }
    // A second daemon is refused by one of these, in this order, before anything has changed.
    let owner = Owner::claim().map_err(AppError::Owned)?;
    let folders = Folders::claim(&config.state_dir, &config.runtime_dir)?;
    let api = given.extract_if(.., |(name, _)| API_NAMES.contains(&name.as_str())).last();
    let listeners = Listeners::bind(config, owner, api.map(|(_, api)| api))?;
    let ports = KeptPorts::new(manager.clone(), &mut given);
    let kernel = Linux::new()?.with_kept(Kept::new(manager.clone(), given), ports);
    let boot = crate::kernel::sysctl::boot_id()?;
    let store = Embedded::open(folders, Opening { boot_id: &boot, rebuild })?;
    let process = Process { manager, watchdog: service.watchdog, descriptors };
    let bound = build(config, kernel, store, Arc::new(Sockets::default()), listeners, process)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime)?;
    let outcome = runtime.block_on(until_signal(bound));
    // A thread that hangs must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}

async fn until_signal(bound: Bound) -> Result<Ended, AppError> {
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
        () = signals.next() => Ok(Ended::Stopped),
    }
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
