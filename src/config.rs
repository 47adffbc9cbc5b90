//! The configuration: flags over environment over `/etc/netd/netd.toml` over defaults. The only reader of the
//! environment. Components get their own `Config` from it in `app`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::address::{Family, Pool, Subnet};
use crate::model::names::DnsName;

/// Where the configuration is when nobody says otherwise.
pub const FILE: &str = "/etc/netd/netd.toml";
/// Where the daemon listens when nobody says otherwise.
pub const SOCKET: &str = "/run/netd/netd.sock";
/// The environment's name for it.
pub const SOCKET_VARIABLE: &str = "NETD_SOCKET";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}: {source} (see `netd config check FILE`)", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, has a key that netd does not know, or a value of the wrong kind.
    #[error("read {}: line {line}: {why}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A value that is well-formed and makes no sense.
    #[error("read {}: {key}: {why}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        key: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// What flags and environment say; it wins over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: must exist when given.
    pub config: Option<PathBuf>,
    /// `--socket` or `NETD_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--runtime-dir`.
    pub runtime_dir: Option<PathBuf>,
}

/// The effective configuration; the file has the same form with every key optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The unix socket of the API.
    pub socket: PathBuf,
    /// Who may talk to the daemon besides root. A group that does not exist leaves it to root.
    pub socket_group: String,
    /// Where what must outlive a reboot is kept.
    pub state_dir: PathBuf,
    /// Where what dies with the boot is kept.
    pub runtime_dir: PathBuf,
    /// A level (error, warn, info, debug, trace) or tracing's directives.
    pub log: String,
    /// A TCP address for the API, without any authentication; off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where automatic subnets come from.
    pub pools: Pools,
    /// The name service.
    pub dns: Dns,
    /// Prometheus metrics.
    pub metrics: Metrics,
}

/// Where automatic subnets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pools {
    /// Tried in this order.
    pub ipv4: Vec<Pool>,
    /// "auto", or pools as for IPv4.
    pub ipv6: Ipv6Pools,
}

/// Where automatic IPv6 subnets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ipv6Pools {
    /// "auto": a random ULA /48 of this host, drawn once and kept.
    Auto(Auto),
    /// These.
    Pools(Vec<Pool>),
}

/// The word "auto".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// "auto".
    Auto,
}

/// The name service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// The domain of our names.
    pub domain: String,
    /// Seconds that an answer may be kept.
    pub ttl: u32,
    /// Where other names are asked for: IP addresses, or address and port. Empty: the host's resolv.conf.
    pub upstreams: Vec<String>,
}

/// Prometheus metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// A TCP address for `GET /metrics`; off when absent. (The unix socket always has it.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: SOCKET.into(),
            socket_group: "netd".into(),
            state_dir: "/var/lib/netd".into(),
            runtime_dir: "/run/netd".into(),
            log: "info".into(),
            listen: None,
            pools: Pools::default(),
            dns: Dns::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Pools {
    fn default() -> Self {
        let pool = |base: [u8; 4], prefix, size| {
            Subnet::containing(IpAddr::from(base), prefix).map(|base| Pool { base, size })
        };
        let ipv4 = [pool([10, 89, 0, 0], 16, 24), pool([172, 30, 0, 0], 15, 24)];
        Self { ipv4: ipv4.into_iter().flatten().collect(), ipv6: Ipv6Pools::Auto(Auto::Auto) }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { domain: "internal".into(), ttl: 5, upstreams: Vec::new() }
    }
}

/// The socket that the environment names.
pub fn socket_from_environment() -> Option<PathBuf> {
    std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Reads a file and tells whether it can be used.
pub fn check(path: &Path) -> Result<(), ConfigError> {
    read(path).map(drop)
}

impl Config {
    /// The effective configuration. The default file may be missing, one that was asked for may not.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => read(path)?,
            None => match read(Path::new(FILE)) {
                Err(ConfigError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Self::default()
                }
                read => read?,
            },
        };
        let flags = flags.clone();
        config.socket = flags.socket.or_else(socket_from_environment).unwrap_or(config.socket);
        config.state_dir = flags.state_dir.unwrap_or(config.state_dir);
        config.runtime_dir = flags.runtime_dir.unwrap_or(config.runtime_dir);
        Ok(config)
    }

    /// As a file that would give this configuration.
    pub fn to_toml(&self) -> String {
        // Every value is text, a number or a list of them, which always serialize.
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// The pools of both families; IPv6 ones only where the file names them.
    pub fn all_pools(&self) -> Vec<Pool> {
        let ipv6 = match &self.pools.ipv6 {
            Ipv6Pools::Auto(_) => &[][..],
            Ipv6Pools::Pools(pools) => pools,
        };
        self.pools.ipv4.iter().chain(ipv6).cloned().collect()
    }

    /// Whether automatic IPv6 subnets come from the host's own ULA prefix.
    pub fn ula(&self) -> bool {
        matches!(self.pools.ipv6, Ipv6Pools::Auto(_))
    }

    /// The name servers, port 53 where none is said.
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        self.dns.upstreams.iter().filter_map(|text| upstream(text)).collect()
    }

    fn validate(&self, path: &Path) -> Result<(), ConfigError> {
        let value = |key, why: String| Err(ConfigError::Value { path: path.to_owned(), key, why });
        let pools = |family, pools: &[Pool]| {
            pools.iter().find_map(|pool| {
                let longest = if family == Family::V4 { 30 } else { 126 };
                if pool.base.family() != family {
                    Some(format!("{} is not of this family", pool.base))
                } else if pool.size < pool.base.prefix() || pool.size > longest {
                    let (base, size) = (pool.base, pool.size);
                    Some(format!("size {size} does not cut {base} (from {} to {longest})", base.prefix()))
                } else {
                    None
                }
            })
        };
        if let Some(why) = pools(Family::V4, &self.pools.ipv4) {
            return value("pools.ipv4", why);
        }
        if let Ipv6Pools::Pools(list) = &self.pools.ipv6
            && let Some(why) = pools(Family::V6, list)
        {
            return value("pools.ipv6", why);
        }
        if let Err(error) = self.dns.domain.parse::<DnsName>() {
            return value("dns.domain", error.to_string());
        }
        if let Some(bad) = self.dns.upstreams.iter().find(|text| upstream(text).is_none()) {
            return value("dns.upstreams", format!("{bad:?} is no IP address (with or without a port)"));
        }
        Ok(())
    }
}

fn upstream(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)))
}

fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let config: Config = toml::from_str(&text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(before).filter(|byte| *byte == b'\n').count() + 1;
        ConfigError::Syntax { path: path.to_owned(), line, why: error.message().replace('\n', " ") }
    })?;
    config.validate(path)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netd.toml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default_and_the_default_reads_back() {
        assert_eq!(read_text("").unwrap(), Config::default());
        assert_eq!(read_text(&Config::default().to_toml()).unwrap(), Config::default());
    }

    #[test]
    fn every_key_of_the_contract_is_known() {
        let config = read_text(
            r#"
            socket = "/tmp/s"
            socket_group = "adm"
            state_dir = "/tmp/a"
            runtime_dir = "/tmp/b"
            log = "debug"
            [pools]
            ipv4 = [{ base = "10.89.0.0/16", size = 24 }]
            ipv6 = [{ base = "fd00::/48", size = 64 }]
            [dns]
            domain = "test"
            ttl = 0
            upstreams = ["9.9.9.9", "[::1]:5353"]
            [metrics]
            listen = "127.0.0.1:9153"
            "#,
        )
        .unwrap();
        assert_eq!(config.upstreams(), ["9.9.9.9:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
        assert!(!config.ula());
        assert_eq!(config.all_pools().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, wanted) in [
            ("\nsokcet = \"x\"", "line 2: unknown field `sokcet`"),
            ("[dns]\nttl = \"x\"", "line 2"),
            ("[dns]\ndomain = \"a b\"", "dns.domain: invalid DNS name"),
            ("[pools]\nipv4 = [{ base = \"10.0.0.0/24\", size = 16 }]", "pools.ipv4: size 16 does not cut 10.0.0.0/24"),
            ("[pools]\nipv4 = [{ base = \"10.0.0.1/24\", size = 25 }]", "maybe you meant 10.0.0.0/24"),
            ("[dns]\nupstreams = [\"dns.example\"]", "dns.upstreams: \"dns.example\" is no IP address"),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
