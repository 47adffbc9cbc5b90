//! Health checks: when a member of a service is ready.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Invalid;

/// When a member is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(default)]
    pub kind: HealthKind,
    /// Milliseconds between two probes of a member.
    pub interval: u32,
    /// Milliseconds after which a probe has failed.
    pub timeout: u32,
    /// After how many failed probes in a row a ready member is unhealthy. One that succeeds makes it ready.
    pub retries: u32,
}

impl HealthCheck {
    /// Milliseconds.
    pub const INTERVAL: u32 = 2_000;
    /// Milliseconds.
    pub const TIMEOUT: u32 = 1_000;
    /// Failed probes in a row.
    pub const RETRIES: u32 = 3;

    /// What is asked, with the default times.
    pub fn of(kind: HealthKind) -> Self {
        Self { kind, interval: Self::INTERVAL, timeout: Self::TIMEOUT, retries: Self::RETRIES }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self::of(HealthKind::None)
    }
}

/// What is asked for a member's health: `none`, `engine`, `tcp[:PORT]` or `http[:PORT]/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HealthKind {
    /// Nothing: a connected member is ready.
    #[default]
    None,
    /// The engine's own health check of the container.
    Engine,
    /// Whether its port takes a connection; `None`: the target of the service, or its first published port.
    Tcp(Option<u16>),
    /// Whether `GET` of the path is answered with a status from 200 to 399.
    Http {
        /// As of [`HealthKind::Tcp`].
        port: Option<u16>,
        /// Begins with a slash.
        path: String,
    },
}

/// The longest path of a check in bytes.
const PATH_MAX: usize = 1024;

impl FromStr for HealthKind {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("health check", text, why);
        let port = |port: &str| {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(|| bad("the port is not from 1 to 65535"))
        };
        match text.split_at(text.find([':', '/']).unwrap_or(text.len())) {
            ("none", "") => Ok(Self::None),
            ("engine", "") => Ok(Self::Engine),
            ("tcp", "") => Ok(Self::Tcp(None)),
            ("tcp", rest) if rest.starts_with(':') => Ok(Self::Tcp(Some(port(&rest[1..])?))),
            ("http", rest) => {
                let (at, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let path = if path.is_empty() { "/" } else { path };
                if path.len() > PATH_MAX || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(bad("the path has at most 1024 bytes, without spaces"));
                }
                let port = at.strip_prefix(':').map(port).transpose()?;
                Ok(Self::Http { port, path: path.to_owned() })
            }
            _ => Err(bad("use tcp:PORT, http:PORT/PATH, engine or none")),
        }
    }
}

impl fmt::Display for HealthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |port: &Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
        match self {
            Self::None => f.write_str("none"),
            Self::Engine => f.write_str("engine"),
            Self::Tcp(port) => write!(f, "tcp{}", at(port)),
            Self::Http { port, path } => write!(f, "http{}{path}", at(port)),
        }
    }
}

impl TryFrom<String> for HealthKind {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<HealthKind> for String {
    fn from(kind: HealthKind) -> String {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_a_word_with_port_and_path() {
        for (text, whole) in [
            ("none", "none"),
            ("engine", "engine"),
            ("tcp", "tcp"),
            ("tcp:80", "tcp:80"),
            ("http", "http/"),
            ("http:8080", "http:8080/"),
            ("http:8080/healthz?full=1", "http:8080/healthz?full=1"),
            ("http/ready", "http/ready"),
        ] {
            let kind: HealthKind = text.parse().unwrap();
            assert_eq!(kind.to_string(), whole, "{text}");
            assert_eq!(whole.parse::<HealthKind>().unwrap(), kind);
        }
        for bad in ["", "tcp:", "tcp:0", "tcp:65536", "tcp:80/x", "http:x/", "http:80/a b", "none:1", "engine/", "icmp"]
        {
            let error = bad.parse::<HealthKind>().expect_err(bad).to_string();
            assert!(error.starts_with(&format!("invalid health check {bad:?}: ")), "{error}");
        }
    }
}
