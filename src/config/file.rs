//! Reads the file. Each setting is checked while it is parsed, so that an error has a line number.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Api, Config, ConfigError, Ipv6Pools};
use crate::base::telemetry;
use crate::faces::engine_api::version::{ApiVersion, NEWEST, OLDEST};
use crate::model::address::{Family, Pool, Subnet};
use crate::model::names::DnsName;
use crate::model::upstream::Upstream;

/// Longest prefix of an automatic IPv4 subnet: enough addresses for a gateway and one container.
const SIZE_MAX: u8 = 30;
/// Automatic IPv6 subnets have this prefix length.
const IPV6_SIZE: u8 = 64;
/// Maximum size of the answer cache, in MiB.
const CACHE_MAX: u32 = 4096;
/// Maximum time to live of an answer, in seconds: a day.
const TTL_MAX: u32 = 86_400;

pub(super) fn read(file: &Path) -> Result<Config, ConfigError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Read { file: name.clone(), why: error.to_string() })?;
    parse(&name, &text)
}

pub(super) fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map(|span| text.as_bytes()[..span.start.min(text.len())].split(|b| *b == b'\n').count());
        let key = line.and_then(|line| key(text, line));
        let why = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
        let why = why.replace(char::is_control, "?");
        ConfigError::Wrong { file: file.to_owned(), line, key, why }
    })
}

/// The text before the `=` of a line, or within its brackets.
fn key(text: &str, line: usize) -> Option<String> {
    let line = text.lines().nth(line - 1)?.trim();
    let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
    (!key.is_empty() && key.len() <= 64 && !key.contains(char::is_control)).then(|| key.to_owned())
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if !path.is_absolute() {
        return Err(D::Error::custom(format!("invalid path {path:?}: give an absolute path")));
    }
    Ok(path)
}

pub(super) fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

/// The API is not served without authentication.
pub(super) fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Infallible>, D::Error> {
    IgnoredAny::deserialize(deserializer)?;
    let instead = "use the table [api] with listen, cert, key and client_ca, see netd.toml(5)";
    Err(D::Error::custom(format!("the API over TCP needs mutual TLS: {instead}")))
}

/// All settings of the table, or none.
pub(super) fn api<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Api>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        listen: Option<SocketAddr>,
        #[serde(default, deserialize_with = "some_path")]
        cert: Option<PathBuf>,
        #[serde(default, deserialize_with = "some_path")]
        key: Option<PathBuf>,
        #[serde(default, deserialize_with = "some_path")]
        client_ca: Option<PathBuf>,
    }
    match Given::deserialize(deserializer)? {
        Given { listen: Some(listen), cert: Some(cert), key: Some(key), client_ca: Some(client_ca) } => {
            Ok(Some(Api { listen, cert, key, client_ca }))
        }
        Given { listen: None, cert: None, key: None, client_ca: None } => Ok(None),
        Given { listen, cert, key, client_ca } => {
            let given = [
                ("listen", listen.is_some()),
                ("cert", cert.is_some()),
                ("key", key.is_some()),
                ("client_ca", client_ca.is_some()),
            ];
            let missing: Vec<&str> = given.iter().filter(|(_, given)| !given).map(|(name, _)| *name).collect();
            let missing = missing.join(", ");
            Err(D::Error::custom(format!("missing: {missing}; the table has listen, cert, key and client_ca, or none")))
        }
    }
}

pub(super) fn api_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ApiVersion, D::Error> {
    let version = ApiVersion::deserialize(deserializer)?;
    if !(OLDEST..=NEWEST).contains(&version) {
        return Err(D::Error::custom(format!("invalid API version {version}: use {OLDEST} to {NEWEST}")));
    }
    Ok(version)
}

pub(super) fn cache<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = u32::deserialize(deserializer)?;
    if size > CACHE_MAX {
        return Err(D::Error::custom(format!("invalid cache_mib {size}: use 0 to {CACHE_MAX} MiB")));
    }
    Ok(size)
}

pub(super) fn split<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<DnsName, Vec<Upstream>>, D::Error> {
    struct Domains;
    impl<'de> Visitor<'de> for Domains {
        type Value = BTreeMap<DnsName, Vec<Upstream>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("domains with their servers, such as \"corp.example\" = [\"10.0.0.53\"]")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut all = Self::Value::new();
            while let Some(domain) = entries.next_key::<DnsName>()? {
                let Servers(servers) = entries.next_value()?;
                if all.keys().any(|known| known.key() == domain.key()) {
                    return Err(A::Error::custom(format!("the domain {domain} has its servers already")));
                }
                all.insert(domain, servers);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Domains)
}

/// The servers for one domain, at least one.
struct Servers(Vec<Upstream>);

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let servers = Vec::<Upstream>::deserialize(deserializer)?;
        if servers.is_empty() {
            return Err(D::Error::custom("a domain without servers: give at least one, such as [\"10.0.0.53\"]"));
        }
        Ok(Self(servers))
    }
}

pub(super) fn log<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let filter = String::deserialize(deserializer)?;
    telemetry::check(&filter).map_err(D::Error::custom)?;
    Ok(filter)
}

pub(super) fn ttl<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let ttl = u32::deserialize(deserializer)?;
    if ttl > TTL_MAX {
        return Err(D::Error::custom(format!("invalid ttl {ttl}: use 0 to {TTL_MAX} seconds")));
    }
    Ok(ttl)
}

pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let port = u16::deserialize(deserializer)?;
    if port == 0 {
        return Err(D::Error::custom("invalid port 0: use 1 to 65535"));
    }
    Ok(port)
}

pub(super) fn ipv4_pools<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pool>, D::Error> {
    let pools = Vec::<Pool>::deserialize(deserializer)?;
    let refuse = |pool: &Pool, why: String| Err(D::Error::custom(format!("invalid pool {}: {why}", pool.base)));
    for (index, pool) in pools.iter().enumerate() {
        if pool.base.family() != Family::V4 {
            return refuse(pool, "it is not IPv4".into());
        }
        if pool.size < pool.base.prefix() || pool.size > SIZE_MAX {
            let least = pool.base.prefix();
            return refuse(pool, format!("size {} is not a prefix length of {least} to {SIZE_MAX}", pool.size));
        }
        if let Some(other) = pools.iter().take(index).find(|other| other.base.overlaps(pool.base)) {
            return refuse(pool, format!("it overlaps with the pool {}", other.base));
        }
    }
    Ok(pools)
}

fn ipv6_pool<E: Error>(text: &str) -> Result<Subnet, E> {
    let subnet: Subnet = text.parse().map_err(E::custom)?;
    if subnet.family() != Family::V6 || subnet.prefix() > IPV6_SIZE {
        return Err(E::custom(format!("invalid pool {subnet}: use IPv6 with a prefix of at most /{IPV6_SIZE}")));
    }
    Ok(subnet)
}

impl<'de> Deserialize<'de> for Ipv6Pools {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Ipv6Pools;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\", or IPv6 subnets such as [\"fd00:1::/48\"]")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Ipv6Pools, E> {
                match text {
                    "auto" => Ok(Ipv6Pools::Auto),
                    subnet => Ok(Ipv6Pools::Subnets(vec![ipv6_pool(subnet)?])),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Ipv6Pools, A::Error> {
                let mut subnets = Vec::new();
                while let Some(text) = items.next_element::<String>()? {
                    subnets.push(ipv6_pool(&text)?);
                }
                Ok(Ipv6Pools::Subnets(subnets))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Ipv6Pools {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Subnets(subnets) => {
                let mut list = serializer.serialize_seq(Some(subnets.len()))?;
                subnets.iter().try_for_each(|subnet| list.serialize_element(subnet))?;
                list.end()
            }
        }
    }
}
