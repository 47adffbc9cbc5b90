//! Upstreams: name servers for names that are not netd's, in their text form.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::DnsName;

/// Default ports (RFC 1035, 4.2; RFC 7858, 3.1; RFC 8484, 4).
const PLAIN_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;
/// The default path of DNS over HTTPS (RFC 8484, 4.1.1, by convention).
const QUERY_PATH: &str = "/dns-query";

/// A name server: `1.1.1.1`, `1.1.1.1:5353`, `[2606:4700::1111]:53`, `tls://1.1.1.1#one.one.one.one`,
/// `https://1.1.1.1/dns-query#one.one.one.one`. The part after `#` is the name that its certificate must have; without
/// it, the certificate must be for the address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Upstream {
    /// Its address and port.
    pub address: SocketAddr,
    /// The transport for queries.
    pub transport: Transport,
}

/// The transport for queries to a name server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP, and TCP for long messages (RFC 1035, 4.2).
    Plain,
    /// TLS (RFC 7858).
    Tls {
        /// The name in its certificate; `None`: its address.
        name: Option<DnsName>,
    },
    /// HTTPS (RFC 8484).
    Https {
        /// The name in its certificate; `None`: its address.
        name: Option<DnsName>,
        /// The path of queries, with the leading `/`.
        path: String,
    },
}

impl Upstream {
    /// A server that is queried without encryption.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Plain }
    }
}

impl FromStr for Upstream {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("name server", text, why);
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (rest, name) = match rest.split_once('#') {
            Some((rest, name)) => {
                (rest, Some(name.parse().map_err(|error: Invalid| bad(&format!("its certificate's name: {error}")))?))
            }
            None => (rest, None),
        };
        let (rest, path) = rest.split_once('/').map_or((rest, None), |(rest, path)| (rest, Some(format!("/{path}"))));
        let (transport, port) = match (scheme, name, path) {
            ("", None, None) => (Transport::Plain, PLAIN_PORT),
            ("tls", name, None) => (Transport::Tls { name }, TLS_PORT),
            ("https", name, path) => {
                let path = path.filter(|path| path != "/").unwrap_or_else(|| QUERY_PATH.into());
                if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(bad("its path has characters that a URL cannot have"));
                }
                (Transport::Https { name, path }, HTTPS_PORT)
            }
            _ => return Err(bad("use IP, IP:PORT, tls://IP[:PORT][#NAME] or https://IP[:PORT][/PATH][#NAME]")),
        };
        let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
        let with_port = rest.parse::<SocketAddr>().ok();
        let address = with_port.or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)));
        let address = address.ok_or_else(|| bad("use an IP address, as in 1.1.1.1 or [2606:4700::1111]:53"))?;
        if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
            return Err(bad("it is not an address of a name server"));
        }
        Ok(Self { address, transport })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port, name, path) = match &self.transport {
            Transport::Plain => ("", PLAIN_PORT, &None, ""),
            Transport::Tls { name } => ("tls://", TLS_PORT, name, ""),
            Transport::Https { name, path } => ("https://", HTTPS_PORT, name, path.as_str()),
        };
        f.write_str(scheme)?;
        let scoped = matches!(self.address, SocketAddr::V6(address) if address.scope_id() != 0);
        match self.address.ip() {
            _ if self.address.port() != port || scoped => write!(f, "{}", self.address)?,
            IpAddr::V6(ip) if !scheme.is_empty() => write!(f, "[{ip}]")?,
            ip => write!(f, "{ip}")?,
        }
        f.write_str(path)?;
        name.iter().try_for_each(|name| write!(f, "#{name}"))
    }
}

impl TryFrom<String> for Upstream {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Upstream> for String {
    fn from(upstream: Upstream) -> String {
        upstream.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_in_the_shortest_way() {
        for (text, whole) in [
            ("1.1.1.1", "1.1.1.1"),
            ("1.1.1.1:53", "1.1.1.1"),
            ("1.1.1.1:5353", "1.1.1.1:5353"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("[::1]:54", "[::1]:54"),
            // A link-local address is one of an interface.
            ("[fe80::1%2]:53", "[fe80::1%2]:53"),
            ("tls://[fe80::1%2]:85", "tls://[fe80::1%2]:85"),
            ("tls://1.1.1.1", "tls://1.1.1.1"),
            ("tls://[fd00::1]:853#dns.example", "tls://[fd00::1]#dns.example"),
            ("tls://1.1.1.1:8853", "tls://1.1.1.1:8853"),
            ("https://1.1.1.1", "https://1.1.1.1/dns-query"),
            ("https://1.1.1.1/", "https://1.1.1.1/dns-query"),
            ("https://1.1.1.1:8443/q/x#one.one", "https://1.1.1.1:8443/q/x#one.one"),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.to_string(), whole, "{text}");
            assert_eq!(whole.parse::<Upstream>().unwrap(), upstream, "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for bad in [
            "",
            "one",
            "1.1.1",
            "1.1.1.1:0",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "1.1.1.1/x",
            "1.1.1.1#x",
            "ftp://1.1.1.1",
            "tls://1.1.1.1/x",
            "tls://dns.example",
            "https://1.1.1.1/a b",
            "tls://1.1.1.1#a b",
        ] {
            let error = bad.parse::<Upstream>().expect_err(bad).to_string();
            assert!(error.starts_with(&format!("invalid name server {bad:?}: ")), "{error}");
        }
    }
}
