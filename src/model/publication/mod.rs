//! Published ports: the `-p` grammar ([`PortSpec`]) and the result ([`Publication`]).

mod long_form;
mod mode;
pub mod skipped;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::Family;
pub use mode::PublishMode;

/// A transport protocol with ports; the value is its IP protocol number (IANA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

impl Protocol {
    /// Lower-case name, as nft and Docker write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// From the IP protocol number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }
}

impl FromStr for Protocol {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Invalid::new("protocol", text, "use tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One or more consecutive ports, both ends included, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ends")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A range as it is stored.
#[derive(Deserialize)]
struct Ends {
    first: u16,
    last: u16,
}

impl TryFrom<Ends> for PortRange {
    type Error = Invalid;
    fn try_from(Ends { first, last }: Ends) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("port range", format!("{first}-{last}"), "use the lower port first, and none of them 0");
        Self::new(first, last).ok_or_else(wrong)
    }
}

impl PortRange {
    /// `None` if a port is 0 or the end is before the start.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    /// A single port; `None` for 0.
    pub fn single(port: u16) -> Option<Self> {
        Self::new(port, port)
    }

    /// First port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Last port, included.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports (1 to 65535).
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Every port.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Whether the port is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether the two ranges share a port.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A requested publication: `[[HOST_IP:][HOST_PORT[-END]]:]CONTAINER_PORT[-END][/PROTOCOL]` (Docker's grammar), or
/// Docker's long form, `published=HOST_PORT,target=CONTAINER_PORT,protocol=tcp`. A missing or empty host port and 0
/// mean "any free port". IPv6 host addresses are in brackets; an IPv4-mapped one means the IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSpec {
    /// `None`: every local IPv4 and IPv6 address.
    pub host_ip: Option<IpAddr>,
    /// `None`: netd chooses. As many ports as in `container`, or more for a single container port (the first free one
    /// is used).
    pub host: Option<PortRange>,
    /// The container's ports.
    pub container: PortRange,
    /// tcp if not given.
    pub protocol: Protocol,
    /// Who decides about its packets; `None`: as the network has it. Only the long form can say so.
    pub mode: Option<PublishMode>,
}

impl PortSpec {
    /// Whether netd can pass on what arrives there in a family that the container has no address of.
    pub fn can_be_proxied(&self) -> bool {
        is_proxied(self.protocol, self.container.count())
    }

    /// Refuses host addresses at which nothing can be published, and port ranges of different lengths.
    pub fn new(
        host_ip: Option<IpAddr>,
        host: Option<PortRange>,
        container: PortRange,
        protocol: Protocol,
    ) -> Result<Self, Invalid> {
        let spec = Self { host_ip: host_ip.map(|ip| ip.to_canonical()), host, container, protocol, mode: None };
        let bad = |why: String| Err(Invalid::new("port", spec.to_string(), why));
        if let Some(why) = spec.host_ip.and_then(unpublishable) {
            return bad(why);
        }
        match host {
            Some(host) if host.count() != container.count() && container.count() != 1 => bad(format!(
                "host ports {host} and container ports {container} differ in number ({} and {})",
                host.count(),
                container.count()
            )),
            _ => Ok(spec),
        }
    }
}

impl FromStr for PortSpec {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: String| Invalid::new("port", text, why);
        let parts = if text.contains('=') { long_form::parts(text) } else { short_form(text) };
        let Parts { host_ip, host, container, protocol, mode } = parts.map_err(bad)?;
        let protocol = protocol.map_or(Ok(Protocol::Tcp), str::parse).map_err(|error| bad(error.to_string()))?;
        if container.is_empty() {
            return Err(bad("the container port is missing".into()));
        }
        let container = range(container).map_err(bad)?.ok_or_else(|| bad("container port 0 does not exist".into()))?;
        let host = if host.is_empty() { None } else { range(host).map_err(bad)? };
        let mode = mode.map(str::parse).transpose().map_err(|error: Invalid| bad(error.to_string()))?;
        let spec = Self::new(host_ip, host, container, protocol).map_err(|error| bad(error.why))?;
        Ok(Self { mode, ..spec })
    }
}

/// What both forms of `-p` consist of. Empty host ports: netd chooses.
struct Parts<'a> {
    host_ip: Option<IpAddr>,
    host: &'a str,
    container: &'a str,
    protocol: Option<&'a str>,
    mode: Option<&'a str>,
}

fn short_form(text: &str) -> Result<Parts<'_>, String> {
    let (ports, protocol) = match text.split_once('/') {
        Some((_, protocol)) if protocol.contains('/') => return Err("more than one '/'".into()),
        Some((ports, protocol)) => (ports, Some(protocol)),
        None => (text, None),
    };
    let (head, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (ip, host) = head.rsplit_once(':').unwrap_or(("", head));
    let host_ip = if ip.is_empty() { None } else { Some(host_address(ip)?) };
    Ok(Parts { host_ip, host, container, protocol, mode: None })
}

/// An IPv4 address, or an IPv6 address in brackets.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) if inner.is_some() == ip.is_ipv6() => Ok(ip),
        Ok(ip) => Err(format!("write the host address {ip} {} brackets", if ip.is_ipv6() { "in" } else { "without" })),
        Err(_) => Err(format!("{text:?} is not an IP address")),
    }
}

impl TryFrom<String> for PortSpec {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<PortSpec> for String {
    fn from(spec: PortSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mode) = self.mode {
            return long_form::write(f, self, mode);
        }
        match (self.host_ip, self.host) {
            (None, None) => {}
            (None, Some(host)) => write!(f, "{host}:")?,
            (Some(IpAddr::V6(ip)), None) => write!(f, "[{ip}]::")?,
            (Some(ip), None) => write!(f, "{ip}::")?,
            (Some(IpAddr::V6(ip)), Some(host)) => write!(f, "[{ip}]:{host}:")?,
            (Some(ip), Some(host)) => write!(f, "{ip}:{host}:")?,
        }
        write!(f, "{}/{}", self.container, self.protocol)
    }
}

/// The ports of a request, without repetitions. A request may have tens of thousands.
pub fn distinct(specs: impl IntoIterator<Item = Result<PortSpec, Invalid>>) -> Result<Vec<PortSpec>, Invalid> {
    let mut seen = HashSet::new();
    specs.into_iter().filter(|spec| spec.as_ref().map_or(true, |spec| seen.insert(spec.clone()))).collect()
}

/// Why no host can have the address; `None` for one that a host can have, and for the unspecified ones.
fn unpublishable(ip: IpAddr) -> Option<String> {
    let kind = match ip {
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        // RFC 1122, 3.2.1.3; RFC 1112, section 4.
        IpAddr::V4(v4) if v4.octets()[0] == 0 && !v4.is_unspecified() => "an address of \"this\" network (0.0.0.0/8)",
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => "a reserved address (240.0.0.0/4)",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address, which is ambiguous without its link",
        _ => return None,
    };
    Some(format!("{ip} is {kind}: nothing can be published there"))
}

/// `N` or `N-M`; `None` for a lone 0.
pub(in crate::model) fn range(text: &str) -> Result<Option<PortRange>, String> {
    let port = |text: &str| -> Result<u16, String> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(|| format!("{text:?} is not a port (1 to 65535)"))
    };
    match text.split_once('-') {
        None => Ok(PortRange::single(port(text)?)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            PortRange::new(first, last)
                .map(Some)
                .ok_or_else(|| format!("{text:?} is not a range (lower port first, none of them 0)"))
        }
    }
}

/// Of a publication with at most this many ports, a socket holds each, and netd passes on what arrives there and the
/// kernel does not translate. Of a longer one no socket does: ten thousand cost as many descriptors, 17 MB and 0.3 s.
pub const BOUND_MAX: u32 = 16;

/// Ports of a container that are reached at its own addresses, whatever host ports were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opened {
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortRange,
}

impl From<&PortSpec> for Opened {
    fn from(asked: &PortSpec) -> Self {
        Self { protocol: asked.protocol, ports: asked.container }
    }
}

/// Formats them as they are asked for: "80/tcp", "8000-8010/udp".
impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ports, self.protocol)
    }
}

/// A host address and port range that lead to the same number of container ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publication {
    /// `None`: every local IPv4 and IPv6 address; `0.0.0.0` and `::`: every one of that family.
    pub host_ip: Option<IpAddr>,
    /// Ports on the host.
    pub host: PortRange,
    /// Ports in the container, as many as on the host.
    pub container: PortRange,
    /// The protocol.
    pub protocol: Protocol,
    /// Who decides about its packets; `None`: as the network has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PublishMode>,
}

fn is_proxied(protocol: Protocol, ports: u32) -> bool {
    protocol != Protocol::Sctp && ports <= BOUND_MAX
}

impl Publication {
    /// Whether netd passes on what arrives there and the kernel does not translate.
    pub fn is_proxied(&self) -> bool {
        is_proxied(self.protocol, self.host.count())
    }

    /// Whether netd may hold ports of it that a runtime, which may bind them itself, has asked for: those at every
    /// address.
    pub fn may_be_shared(&self) -> bool {
        self.host_ip.is_none() && self.is_proxied()
    }

    /// Whether it covers addresses of that family.
    pub fn covers(&self, family: Family) -> bool {
        self.host_ip.is_none_or(|ip| Family::of(ip) == family)
    }

    /// The single host address that it is bound to; `None` if it covers all addresses of a family.
    pub fn only_on(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether the two share an (address, protocol, port); an unspecified address covers its whole family.
    pub fn conflicts(&self, other: &Self) -> bool {
        let ports = self.protocol == other.protocol && self.host.overlaps(other.host);
        let families = [Family::V4, Family::V6].into_iter().any(|f| self.covers(f) && other.covers(f));
        let addresses = match (self.only_on(), other.only_on()) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        ports && families && addresses
    }
}

/// In Docker's format: `0.0.0.0:4000->80/tcp`; `*` means every address.
impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => write!(f, "*:")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
        }
        write!(f, "{}->{}/{}", self.host, self.container, self.protocol)
    }
}

#[cfg(test)]
mod tests;
