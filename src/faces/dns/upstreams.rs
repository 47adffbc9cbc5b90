//! The name servers that queries are forwarded to: read from the host's resolv.conf again whenever it has changed.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use tracing::{debug, warn};

use super::Config;

/// All upstreams together get this long, in equal shares: below the 5 s after which stub resolvers ask again
/// (resolv.conf(5), `timeout`), so that SERVFAIL is heard instead of nothing.
const PATIENCE: Duration = Duration::from_millis(4500);
/// resolv.conf(5): `MAXNS`, further `nameserver` lines are ignored.
const MAX_SERVERS: usize = 3;
/// How long an upstream that did not answer is asked last.
const PENALTY: Duration = Duration::from_secs(10);

/// One name server.
pub(super) struct Upstream {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Asks it: UDP, again over TCP when the answer is truncated. A pool of one server each, because the order of the
    /// servers has a meaning (split DNS) and a pool of several gives the first one all of the time.
    pub(super) pool: NameServerPool<TokioRuntimeProvider>,
    silent: Arc<AtomicBool>,
}

impl Upstream {
    /// Remembers that it did not answer. Must be called within the runtime.
    pub(super) fn was_silent(&self) {
        if !self.silent.swap(true, Ordering::Relaxed) {
            let silent = self.silent.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PENALTY).await;
                silent.store(false, Ordering::Relaxed);
            });
        }
    }
}

/// The name servers, in the order in which they are to be asked.
#[derive(Default)]
pub(super) struct Servers {
    list: Vec<Arc<Upstream>>,
    /// How long each may take.
    pub(super) share: Duration,
    stamp: Option<Stamp>,
}

impl Servers {
    fn new(addresses: &[SocketAddr], stamp: Option<Stamp>) -> Self {
        let share = PATIENCE / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let list = addresses.iter().filter_map(|address| upstream(*address, share)).map(Arc::new).collect();
        Self { list, share, stamp }
    }

    /// Those to ask, in order: as configured, but the ones that were silent lately last.
    pub(super) fn in_order(&self) -> Vec<Arc<Upstream>> {
        let mut servers = self.list.clone();
        // Cached: the flags may change while this sorts, and a sort whose keys change may panic.
        servers.sort_by_cached_key(|server| server.silent.load(Ordering::Relaxed));
        servers
    }
}

/// What tells one version of a file from the next, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (file.dev(), file.ino()),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// Which name servers there are now.
pub(super) struct Upstreams {
    config: Config,
    servers: ArcSwap<Servers>,
}

impl Upstreams {
    pub(super) fn new(config: Config) -> Self {
        let servers = if config.upstreams.is_empty() {
            Servers::read(&config.resolv_conf, Stamp::of(&config.resolv_conf))
        } else {
            let addresses: Vec<SocketAddr> = config.upstreams.iter().map(|upstream| upstream.address).collect();
            Servers::new(&addresses, None)
        };
        Self { config, servers: ArcSwap::from_pointee(servers) }
    }

    /// The servers as of now. One stat(2) (about a microsecond) per forwarded query is the price for the next query to
    /// go to the new server.
    pub(super) fn now(&self) -> Arc<Servers> {
        let servers = self.servers.load_full();
        if !self.config.upstreams.is_empty() {
            return servers;
        }
        let stamp = Stamp::of(&self.config.resolv_conf);
        if stamp == servers.stamp {
            return servers;
        }
        // Two queries that find the change at once both read the file: harmless, the contents are the same.
        let servers = Arc::new(Servers::read(&self.config.resolv_conf, stamp));
        self.servers.store(servers.clone());
        servers
    }
}

impl Servers {
    /// The stamp was taken before the file is read: a change in between is seen by the next query.
    fn read(path: &Path, stamp: Option<Stamp>) -> Self {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) => {
                warn!("read the host's name servers from {}: {error}: other names get SERVFAIL", path.display());
                return Self::new(&[], stamp);
            }
        };
        // An error means that there is no `nameserver` line.
        let servers = parse_resolv_conf(&content).map(|(config, _)| config.into_parts().2).unwrap_or_default();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for server in servers.iter().take(MAX_SERVERS) {
            addresses.push(SocketAddr::new(server.ip, 53));
        }
        debug!(?addresses, "name servers from {}", path.display());
        Self::new(&addresses, stamp)
    }
}

fn upstream(address: SocketAddr, timeout: Duration) -> Option<Upstream> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let server = NameServerConfig::new(address.ip(), true, connections.into());
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.num_concurrent_reqs = 1;
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    // Ports are taken from the kernel, which draws them at random from a range that the host's firewall knows.
    options.os_port_selection = true;
    let context = match TlsConfig::new() {
        Ok(tls) => Arc::new(PoolContext::new(options, tls)),
        Err(error) => {
            warn!("set up the upstream {address}: {error}");
            return None;
        }
    };
    let pool = NameServerPool::from_config([server], context, TokioRuntimeProvider::default());
    Some(Upstream { address, pool, silent: Arc::default() })
}

/// Whether a name server would lead back to us or to the asker: a gateway of ours, or the asker's own address (a
/// container that is itself the host's resolver).
pub(super) fn leads_back(server: IpAddr, asker: IpAddr, snapshot: &crate::engine::Snapshot) -> bool {
    let server = server.to_canonical();
    if snapshot.desired.at_gateway(server).is_some() || server == asker {
        return true;
    }
    let holder = |address| snapshot.desired.at_address(address).map(|endpoint| &endpoint.container.id);
    holder(server).is_some() && holder(server) == holder(asker)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn addresses(upstreams: &Upstreams) -> Vec<String> {
        upstreams.now().in_order().iter().map(|server| server.address.to_string()).collect()
    }

    #[tokio::test]
    async fn a_changed_resolv_conf_is_followed_by_the_next_query() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        let upstreams = Upstreams::new(Config { resolv_conf: path("resolv.conf"), ..Config::default() });
        assert!(addresses(&upstreams).is_empty(), "no file is no server, not an error");
        write("resolv.conf", "search lan\nnameserver 192.0.2.1\nnameserver ::1\noptions ndots:3\n");
        assert_eq!(addresses(&upstreams), ["192.0.2.1:53", "[::1]:53"]);
        assert!(Arc::ptr_eq(&upstreams.now(), &upstreams.now()), "read again only when it has changed");
        write("resolv.conf", "nameserver 192.0.2.7\nnameserver ::1\noptions ndots:3\nsearch lan\n");
        assert_eq!(addresses(&upstreams), ["192.0.2.7:53", "[::1]:53"], "same length, other content");
        write("vpn.conf", "nameserver 127.0.0.53\n");
        symlink(path("vpn.conf"), path("new")).unwrap();
        std::fs::rename(path("new"), path("resolv.conf")).unwrap();
        assert_eq!(addresses(&upstreams), ["127.0.0.53:53"], "now a symbolic link");
        write("vpn.conf", "nameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\nnameserver 192.0.2.5\n");
        assert_eq!(addresses(&upstreams), ["192.0.2.2:53", "192.0.2.3:53", "192.0.2.4:53"], "its target changed");
        write("vpn.conf", "# nothing\nnameserver nonsense\n");
        assert!(addresses(&upstreams).is_empty());
    }

    #[tokio::test]
    async fn servers_that_are_configured_win() {
        let upstreams = Upstreams::new(Config {
            upstreams: vec!["192.0.2.1:5353".parse().unwrap(), "192.0.2.2:53".parse().unwrap()],
            ..Config::default()
        });
        assert_eq!(addresses(&upstreams), ["192.0.2.1:5353", "192.0.2.2:53"]);
        upstreams.now().in_order()[0].was_silent();
        assert_eq!(addresses(&upstreams), ["192.0.2.2:53", "192.0.2.1:5353"], "a silent one is asked last");
    }
}
