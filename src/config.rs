//! Floor 5: the configuration. The types contain the defaults; flags override the environment (the command line's
//! definitions read it), the environment overrides the file, and the file overrides the defaults.

pub mod cni;
mod docker;
mod egress;
mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod netavark;
pub mod service;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::docker::{ContainerEngine, DockerApi, DockerPlugin};
pub use self::egress::Egress;
use crate::base::telemetry;
use crate::faces::cli::{ConfigVerb, DEFAULT_SOCKET, DaemonArgs};
use crate::faces::dns::Roots;
use crate::faces::shared::server::tls::{Tls, TlsError};
use crate::kernel::dns::sockets;
use crate::model::address::{Pool, Subnet};
use crate::model::host::foreign_firewall::Policy;
use crate::model::host::routing::ForwardingFor;
use crate::model::names::DnsName;
use crate::model::publication::PublishMode;
use crate::model::upstream::Upstream;

/// The default path of the configuration; the file is optional there.
pub const DEFAULT_FILE: &str = "/etc/netd/netd.toml";

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The unix socket of the API.
    #[serde(deserialize_with = "file::path")]
    pub socket: PathBuf,
    /// The group that may connect to the daemon, besides root.
    pub socket_group: String,
    /// What everyone else may do there: `nothing`, or `read`.
    pub socket_others: Others,
    /// Where networks are stored across reboots.
    #[serde(deserialize_with = "file::path")]
    pub state_dir: PathBuf,
    /// Where endpoints are stored until the next boot.
    #[serde(deserialize_with = "file::path")]
    pub runtime_dir: PathBuf,
    /// The log filter: a level, or TARGET=LEVEL parts joined by commas.
    #[serde(deserialize_with = "file::log")]
    pub log: String,
    /// Not a setting: who wants the API over TCP is told what to use.
    #[serde(skip_serializing, deserialize_with = "file::listen")]
    listen: Option<Infallible>,
    /// Also serves the API on TCP, with mutual TLS; off if absent.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::api")]
    pub api: Option<Api>,
    /// The source of automatic subnets.
    pub pools: Pools,
    /// The name service.
    pub dns: Dns,
    /// How to treat other programs' firewalls, and what the host forwards.
    pub firewall: Firewall,
    /// How long and how much is open for containers whose egress is denied.
    pub egress: Egress,
    /// The metrics.
    pub metrics: Metrics,
    /// Docker's driver.
    pub docker_plugin: DockerPlugin,
    /// Docker's Engine API; off if absent, unless an engine is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_api: Option<DockerApi>,
    /// The engine that runs containers for the Engine API; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<ContainerEngine>,
}

/// What users may do at the API's unix socket who are neither root nor members of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Others {
    /// They cannot connect.
    #[default]
    Nothing,
    /// They may read everything and change nothing.
    Read,
}

/// The API over TCP, with mutual TLS. Every client whose certificate an authority of `client_ca` has signed has full
/// control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Api {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate of the daemon, followed by those of intermediate authorities, in PEM form.
    pub cert: PathBuf,
    /// The private key of the certificate, in PEM form.
    pub key: PathBuf,
    /// The certificates of the authorities that sign those of clients, in PEM form.
    pub client_ca: PathBuf,
}

impl Api {
    /// Reads the certificates and the key.
    pub fn tls(&self) -> Result<Tls, TlsError> {
        Tls::read(&self.cert, &self.key, &self.client_ca)
    }
}

/// The source of automatic subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pools {
    /// IPv4 ranges, each divided into subnets of prefix length `size`; used in this order.
    #[serde(deserialize_with = "file::ipv4_pools")]
    pub ipv4: Vec<Pool>,
    /// IPv6 ranges that are divided into /64 subnets.
    pub ipv6: Ipv6Pools,
}

/// The source of automatic IPv6 subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ipv6Pools {
    /// A random ULA /48 (RFC 4193), drawn once and stored.
    Auto,
    /// These ranges, each of prefix length 64 or shorter.
    Subnets(Vec<Subnet>),
}

/// The name service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The domain of netd's names.
    pub domain: DnsName,
    /// The time to live of answers, in seconds (0 to 86400).
    #[serde(deserialize_with = "file::ttl")]
    pub ttl: u32,
    /// The port of the name service at each network's gateway, UDP and TCP; if another program has it, the next free
    /// port from 61053 on. Containers use port 53 in any case.
    #[serde(deserialize_with = "file::port")]
    pub port: u16,
    /// Upstreams for other names; empty: the resolvers in the host's resolv.conf, which is watched for changes.
    pub upstreams: Vec<Upstream>,
    /// Whether the host resolves netd's names too: its systemd-resolved is configured to query netd's gateways for
    /// them.
    pub resolved: bool,
    /// The size of the cache of upstream answers, in MiB (0 to 4096; 0: no cache).
    #[serde(deserialize_with = "file::cache")]
    pub cache_mib: u32,
    /// Additional trusted certificates, in PEM form, for `tls://` and `https://` upstreams, besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "file::some_path")]
    pub ca_file: Option<PathBuf>,
    /// Upstreams for names in these domains; the longest matching domain wins.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "file::split")]
    pub split: BTreeMap<DnsName, Vec<Upstream>>,
}

/// The host's firewalls, and what it forwards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Firewall {
    /// What to do if another program's chain drops traffic that netd's networks need: `adapt` adds an accept of netd to
    /// it, `report` only reports the chain.
    pub foreign: Policy,
    /// For whom the host forwards where netd turned forwarding on: `netd`, for its networks, or `host`, for whoever uses
    /// it as a router too.
    pub forwarding: ForwardingFor,
    /// Who decides which packets reach published ports, unless a network or a port says otherwise: `open`, netd, or
    /// `strict`, the host's own rules about packets to itself.
    pub publish: PublishMode,
}

/// The metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The address of `GET /metrics` over TCP; off if absent (it is always available on the API's socket).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Names of this machine that clients of `listen` may use, besides its addresses, names without a dot, and the
    /// name that the kernel has.
    pub hosts: Vec<DnsName>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            socket_group: "netd".into(),
            socket_others: Others::Nothing,
            state_dir: "/var/lib/netd".into(),
            runtime_dir: "/run/netd".into(),
            log: telemetry::DEFAULT.into(),
            listen: None,
            api: None,
            pools: Pools::default(),
            dns: Dns::default(),
            firewall: Firewall::default(),
            egress: Egress::default(),
            metrics: Metrics::default(),
            docker_plugin: DockerPlugin::default(),
            docker_api: None,
            engine: None,
        }
    }
}

impl Default for Pools {
    #[expect(clippy::expect_used, reason = "the literals are subnets, a test reads them")]
    fn default() -> Self {
        let pool = |base: &str, size| Pool { base: base.parse().expect("a subnet"), size };
        // Outside Podman's 10.88.0.0/15 and above; the last one is for hosts on which a VPN routes all of 10.0.0.0/8.
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

/// Why the configuration could not be loaded: the source, the position, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {file}: {why}")]
    Read {
        /// The file.
        file: String,
        /// The kernel's error.
        why: String,
    },
    /// The file contains an invalid setting.
    #[error("read the configuration {file}: {}{why}", place(.line, .key))]
    Wrong {
        /// The file.
        file: String,
        /// Line number, counted from 1, if known.
        line: Option<usize>,
        /// The text before the `=` of that line, if there is one.
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
        // A missing default file is no error, but an unreadable one is.
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

/// The stream that the service manager reports as connected to the journal (systemd.exec(5), `JOURNAL_STREAM`).
pub fn journal_stream() -> Option<String> {
    std::env::var("JOURNAL_STREAM").ok()
}

/// A variable of the environment, if it is one of text.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether the certificates and keys that the settings name can be read and belong together. The daemon reads them when it
/// starts.
fn check_files(config: &Config) -> Result<(), String> {
    config.api.iter().try_for_each(|api| api.tls().map(drop)).map_err(|error| format!("[api] {error}"))?;
    let ca_file = config.dns.ca_file.iter();
    ca_file
        .map(|file| Roots::read(file))
        .try_for_each(|read| read.map(drop))
        .map_err(|why| format!("[dns] ca_file: {why}"))
}

/// `netd config`: returns the text to print, or the error.
pub fn command(verb: &ConfigVerb, socket: Option<&Path>) -> Result<String, String> {
    match verb {
        ConfigVerb::Check { file } => {
            let config = file::read(file).map_err(|error| error.to_string())?;
            let wrong = |why: String| format!("{} names a file that cannot be used: {why}", file.display());
            check_files(&config).map_err(wrong)?;
            Ok(format!("{} is good\n", file.display()))
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
