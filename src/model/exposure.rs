//! Ports that a container declares to serve, published or not: with publications, the source of SRV records.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::SrvName;
use super::publication::Protocol;

/// A port that a container serves: `PORT[/tcp|udp|sctp][=SERVICE]`. Without a service it has the conventional name of
/// the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Exposure {
    /// Never 0.
    pub port: u16,
    /// tcp if not given.
    pub protocol: Protocol,
    /// The service on that port.
    pub service: Option<SrvName>,
}

impl FromStr for Exposure {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid::new("exposed port", text, why);
        let (port, service) = match text.split_once('=') {
            Some((port, service)) => (port, Some(service.parse().map_err(|error: Invalid| bad(error.to_string()))?)),
            None => (text, None),
        };
        let (port, protocol) = match port.split_once('/') {
            Some((port, protocol)) => (port, protocol.parse().map_err(|error: Invalid| bad(error.to_string()))?),
            None => (port, Protocol::Tcp),
        };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0);
        let port = port.ok_or_else(|| bad("use PORT[/PROTOCOL][=SERVICE], as in 8080/tcp=http".into()))?;
        Ok(Self { port, protocol, service })
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)?;
        self.service.iter().try_for_each(|service| write!(f, "={service}"))
    }
}

impl TryFrom<String> for Exposure {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Exposure> for String {
    fn from(exposure: Exposure) -> String {
        exposure.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_say_its_protocol_and_its_service() {
        for (text, whole) in [
            ("80", "80/tcp"),
            ("53/udp", "53/udp"),
            ("8080=http", "8080/tcp=http"),
            ("8080/TCP=web-ui", "8080/tcp=web-ui"),
            ("9/sctp=x1", "9/sctp=x1"),
        ] {
            let exposure: Exposure = text.parse().unwrap();
            assert_eq!(exposure.to_string(), whole, "{text}");
            assert_eq!(whole.parse::<Exposure>().unwrap(), exposure, "{text}");
        }
    }

    #[test]
    fn what_is_no_such_port_is_refused() {
        for bad in
            ["", "0", "65536", "+80", "-1", "80-90", "80/icmp", "80/", "80=", "80=8080", "80=a b", "http", "80/tcp/udp"]
        {
            let error = bad.parse::<Exposure>().expect_err(bad).to_string();
            assert!(error.starts_with(&format!("invalid exposed port {bad:?}: ")), "{error}");
        }
    }
}
