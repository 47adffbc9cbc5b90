//! Floor 5: the configuration. Defaults stand in the types; flags win over the environment (read by the command line's
//! definitions), the environment over the file, the file over the defaults.

pub mod cni;
mod file;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::telemetry;
use crate::faces::cli::{ConfigVerb, DEFAULT_SOCKET, DaemonArgs};
use crate::kernel::dns::sockets;
use crate::model::address::{Pool, Subnet};
use crate::model::host::foreign_firewall::Policy;
use crate::model::names::DnsName;
use crate::model::upstream::Upstream;

/// Where the configuration is looked for when nobody says otherwise; it need not be there.
pub const DEFAULT_FILE: &str = "/etc/netd/netd.toml";

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The unix socket of the API.
    #[serde(deserialize_with = "file::path")]
    pub socket: PathBuf,
    /// The group that may talk to the daemon, besides root.
    pub socket_group: String,
    /// Where networks are kept, over reboots.
    #[serde(deserialize_with = "file::path")]
    pub state_dir: PathBuf,
    /// Where endpoints are kept, until the next boot.
    #[serde(deserialize_with = "file::path")]
    pub runtime_dir: PathBuf,
    /// What is logged: a level, or TARGET=LEVEL parts joined by commas.
    #[serde(deserialize_with = "file::log")]
    pub log: String,
    /// The API on TCP as well, on a loopback address; off when absent. Every program of this host may do everything there.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::listen")]
    pub listen: Option<SocketAddr>,
    /// Where automatic subnets come from.
    pub pools: Pools,
    /// The name service.
    pub dns: Dns,
    /// Other programs' firewalls beside netd's.
    pub firewall: Firewall,
    /// The metrics.
    pub metrics: Metrics,
}

/// Where automatic subnets come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pools {
    /// IPv4 ranges, each cut into subnets of `size` bits of prefix; used in this order.
    #[serde(deserialize_with = "file::ipv4_pools")]
    pub ipv4: Vec<Pool>,
    /// IPv6 ranges that /64 subnets are cut from.
    pub ipv6: Ipv6Pools,
}

/// Where automatic IPv6 subnets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipv6Pools {
    /// A random ULA /48 (RFC 4193), made once and kept.
    Auto,
    /// These, each at most a /64.
    Subnets(Vec<Subnet>),
}

/// The name service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The domain of our names.
    pub domain: DnsName,
    /// How long an answer may be kept, in seconds (0 to 86400).
    #[serde(deserialize_with = "file::ttl")]
    pub ttl: u32,
    /// Where it listens at each network's gateway, UDP and TCP; taken by another program: at the next free port from 61053
    /// on. Containers ask port 53 whichever it is.
    #[serde(deserialize_with = "file::port")]
    pub port: u16,
    /// Who answers other names; empty: the resolvers in the host's resolv.conf, followed as it changes.
    pub upstreams: Vec<Upstream>,
    /// Whether the host finds our names too: its systemd-resolved is told to ask our gateways for them.
    pub resolved: bool,
    /// How much of their answers is kept, in MiB (0 to 4096; 0: nothing).
    #[serde(deserialize_with = "file::cache")]
    pub cache_mib: u32,
    /// Certificates, in PEM form, by which those of `tls://` and `https://` upstreams may be signed, besides the public
    /// ones.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::some_path")]
    pub ca_file: Option<PathBuf>,
    /// Who answers names in these domains instead; the longest domain wins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::split")]
    pub split: BTreeMap<DnsName, Vec<Upstream>>,
}

/// Other programs' firewalls beside netd's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// Where another program's chain drops what our networks need: `adapt` adds an accept of our own to it, `report` says
    /// only which chain it is.
    pub foreign: Policy,
}

/// The metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Where `GET /metrics` is served over TCP; off when absent (it is always on the API's socket).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            socket_group: "netd".into(),
            state_dir: "/var/lib/netd".into(),
            runtime_dir: "/run/netd".into(),
            log: telemetry::DEFAULT.into(),
            listen: None,
            pools: Pools::default(),
            dns: Dns::default(),
            firewall: Firewall::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Pools {
    #[expect(clippy::expect_used, reason = "the literals are subnets, a test reads them")]
    fn default() -> Self {
        let pool = |base: &str, size| Pool { base: base.parse().expect("a subnet"), size };
        // Not Podman's 10.88.0.0/15 and above; the last one is for hosts on which a VPN routes all of 10.0.0.0/8.
        let ipv4 = vec![pool("10.77.0.0/16", 24), pool("10.78.0.0/16", 24), pool("172.30.0.0/15", 24)];
        Self { ipv4, ipv6: Ipv6Pools::Auto }
    }
}

impl Default for Dns {
    #[expect(clippy::expect_used, reason = "the literal is a DNS name, a test reads it")]
    fn default() -> Self {
        Self {
            domain: "internal".parse().expect("a DNS name"),
            ttl: 5,
            port: sockets::PORT,
            upstreams: Vec::new(),
            resolved: false,
            cache_mib: 16,
            ca_file: None,
            split: BTreeMap::new(),
        }
    }
}

/// Why there is no configuration: what was read, where it is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {file}: {why}")]
    Read {
        /// The file.
        file: String,
        /// What the kernel said.
        why: String,
    },
    /// The file says something that is not understood.
    #[error("read the configuration {file}: {}{why}", place(.line, .key))]
    Wrong {
        /// The file.
        file: String,
        /// Counted from 1, where it is known.
        line: Option<usize>,
        /// The text of that line before its `=`, where there is one.
        key: Option<String>,
        /// What is wrong.
        why: String,
    },
    /// A flag or variable is wrong.
    #[error("read the flags and environment: {0}")]
    Flag(String),
}

fn place(line: &Option<usize>, key: &Option<String>) -> String {
    match (line, key) {
        (Some(line), Some(key)) => format!("line {line}, {key}: "),
        (Some(line), None) => format!("line {line}: "),
        _ => String::new(),
    }
}

/// The effective configuration of a daemon that is started with these arguments. `socket`: `--socket` or its variable.
pub fn load(args: &DaemonArgs, socket: Option<&Path>) -> Result<Config, ConfigError> {
    let mut config = match &args.config {
        Some(file) => file::read(file)?,
        // Not to have the default file is fine, not to be able to read it is not.
        None if Path::new(DEFAULT_FILE).try_exists().unwrap_or(true) => file::read(Path::new(DEFAULT_FILE))?,
        None => Config::default(),
    };
    let directories = [
        (socket, &mut config.socket),
        (args.state_dir.as_deref(), &mut config.state_dir),
        (args.runtime_dir.as_deref(), &mut config.runtime_dir),
    ];
    for (given, setting) in directories {
        if let Some(given) = given {
            *setting = given.to_owned();
        }
        let absolute = std::path::absolute(&*setting);
        *setting = absolute.map_err(|error| ConfigError::Flag(format!("{}: {error}", setting.display())))?;
    }
    if let Some(log) = &args.log {
        telemetry::check(log).map_err(ConfigError::Flag)?;
        config.log.clone_from(log);
    }
    Ok(config)
}

/// The stream that the service manager connected to the journal, as it says (systemd.exec(5), `JOURNAL_STREAM`).
pub fn journal_stream() -> Option<String> {
    std::env::var("JOURNAL_STREAM").ok()
}

/// `netd config`: what to print, or what is wrong.
pub fn command(verb: &ConfigVerb, socket: Option<&Path>) -> Result<String, String> {
    match verb {
        ConfigVerb::Check { file } => {
            file::read(file).map(|_| format!("{} is good\n", file.display())).map_err(|error| error.to_string())
        }
        ConfigVerb::Show { daemon, format } => {
            let config = load(daemon, socket).map_err(|error| error.to_string())?;
            if format.json {
                serde_json::to_string_pretty(&config).map(|text| text + "\n").map_err(|error| error.to_string())
            } else {
                toml::to_string(&config).map_err(|error| error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests;
