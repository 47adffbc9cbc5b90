//! Egress: what a container may begin to send to the outside and to this host, by name and by address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::address::Subnet;
use super::names::DnsName;
use super::policy::Ports;
use super::publication::Protocol;

/// Most allowances of one list.
pub const LIST_MAX: usize = 256;
/// Most ports of an allowance for a name: each is an element for each of its addresses.
const NAMED_PORTS_MAX: u32 = 16;
/// What a wildcard begins with.
const WILDCARD: &str = "*.";

/// What was requested of a network or of a container on it. The stores keep it unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Egress {
    /// Whether anything but `allow` passes; `None`: nobody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stance: Option<Stance>,
    /// What passes all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allowance>,
}

/// Whether anything but allowances passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stance {
    /// Everything passes; what is asked is noted.
    Open,
    /// Nothing passes but what is allowed.
    Deny,
}

/// One allowance: `NAME[:PORTS]`, `*.NAME[:PORTS]`, `ADDRESS[:PORTS]` or `SUBNET[:PORTS]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Allowance {
    /// To whom.
    pub to: To,
    /// To which ports; `None`: any, and protocols without ports.
    pub ports: Option<Ports>,
}

/// Whom an allowance is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// The addresses of this name (lower case).
    Name(String),
    /// Those of the names below this one (lower case), at any depth, and not its own.
    Below(String),
    /// These addresses.
    Subnet(Subnet),
}

/// What has been opened for a container: one address, and one port or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    /// The container's address.
    pub from: IpAddr,
    /// The address that was answered, of the same family.
    pub to: IpAddr,
    /// `None`: every protocol and port.
    pub port: Option<(Protocol, u16)>,
}

impl Egress {
    /// Parsed from its parts. A list without a stance means deny.
    pub fn new(stance: Option<Stance>, allow: Vec<Allowance>) -> Result<Self, Invalid> {
        if allow.len() > LIST_MAX {
            return Err(Invalid::new("egress", allow.len().to_string(), format!("at most {LIST_MAX} allowances")));
        }
        let stance = stance.or((!allow.is_empty()).then_some(Stance::Deny));
        Ok(Self { stance, allow })
    }

    /// Whether nobody has said anything.
    pub fn is_unsaid(&self) -> bool {
        *self == Self::default()
    }
}

impl Stance {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Stance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stance {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = [Self::Open, Self::Deny].into_iter().find(|stance| stance.as_str() == text);
        found.ok_or_else(|| Invalid::new("egress", text, "use open or deny"))
    }
}

impl Allowance {
    /// Whether it is about this name, in lower case and without the final dot.
    pub fn covers(&self, name: &str) -> bool {
        match &self.to {
            To::Name(own) => own == name,
            To::Below(above) => {
                let before = name.strip_suffix(above.as_str()).and_then(|before| before.strip_suffix('.'));
                before.is_some_and(|before| !before.is_empty())
            }
            To::Subnet(_) => false,
        }
    }
}

impl FromStr for Allowance {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: String| Invalid::new("allowance", text, why);
        let (to, ports) = parts(text).ok_or_else(|| wrong("use [IPV6]:PORT or [IPV6/LENGTH]:PORT".into()))?;
        let to = to_of(to).map_err(|invalid| wrong(invalid.why))?;
        let ports = ports.map(str::parse::<Ports>).transpose().map_err(|invalid| wrong(invalid.why))?;
        let is_named = !matches!(to, To::Subnet(_));
        if is_named && ports.is_some_and(|ports| ports.range.count() > NAMED_PORTS_MAX) {
            let why = format!("at most {NAMED_PORTS_MAX} ports of a name; without ports it is about all of them");
            return Err(wrong(why));
        }
        Ok(Self { to, ports })
    }
}

/// Whom, and the ports behind a colon. An IPv6 address or subnet with ports is in brackets.
fn parts(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (to, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(ports) => Some((to, Some(ports))),
            None => after.is_empty().then_some((to, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((to, ports)) => Some((to, Some(ports))),
        None => Some((text, None)),
    }
}

fn to_of(text: &str) -> Result<To, Invalid> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let one = Subnet::containing(address, bits);
        return one.map(To::Subnet).ok_or_else(|| Invalid::new("address", text, "it is no address"));
    }
    if text.contains('/') {
        return Ok(To::Subnet(text.parse()?));
    }
    let name = |text: &str| Ok(text.strip_suffix('.').unwrap_or(text).parse::<DnsName>()?.key());
    match text.strip_prefix(WILDCARD) {
        Some(above) => Ok(To::Below(name(above)?)),
        // What looks like an address is none of a name: no resolver asks for it.
        None if has_numbers_last(text.strip_suffix('.').unwrap_or(text)) => {
            Err(Invalid::new("address", text, "use NAME, *.NAME, an address or a subnet, each with :PORT if wanted"))
        }
        None => Ok(To::Name(name(text)?)),
    }
}

/// As addresses have them.
fn has_numbers_last(text: &str) -> bool {
    text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, needs_brackets) = match &self.to {
            To::Name(name) => (name.clone(), false),
            To::Below(name) => (format!("{WILDCARD}{name}"), false),
            To::Subnet(subnet) => {
                let bits = if subnet.network().is_ipv4() { 32 } else { 128 };
                let is_one = subnet.prefix() == bits;
                let text = if is_one { subnet.network().to_string() } else { subnet.to_string() };
                (text, subnet.network().is_ipv6())
            }
        };
        match self.ports {
            None => f.write_str(&to),
            Some(ports) if needs_brackets => write!(f, "[{to}]:{ports}"),
            Some(ports) => write!(f, "{to}:{ports}"),
        }
    }
}

impl TryFrom<String> for Allowance {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Allowance> for String {
    fn from(allowance: Allowance) -> Self {
        allowance.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowances_are_read_and_written() {
        for (text, written) in [
            ("Example.Test", "example.test"),
            ("example.test.", "example.test"),
            ("example.test:443", "example.test:443/tcp"),
            ("*.example.test:443-445/udp", "*.example.test:443-445/udp"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.0/24:80", "192.0.2.0/24:80/tcp"),
            ("2001:db8::7", "2001:db8::7"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::7]:53/udp", "[2001:db8::7]:53/udp"),
            ("[2001:db8::/32]:1-256", "[2001:db8::/32]:1-256/tcp"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            let allowance: Allowance = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(allowance.to_string(), written);
            assert_eq!(written.parse::<Allowance>().unwrap(), allowance);
        }
        for text in [
            "",
            "*",
            "*.",
            "a b",
            ":443",
            "example.test:",
            "example.test:0",
            "example.test:1-17",
            "192.0.2.0/33",
            "192.0.2.1/24",
            "[2001:db8::7",
            "[2001:db8::7]443",
            "*.*.test",
            "x.*.test",
            "1.2.3",
            "192.0.2.256",
            "example.test:443/icmp",
            "example..test",
        ] {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_covered_label_by_label() {
        let covers = |allowance: &str, name: &str| allowance.parse::<Allowance>().unwrap().covers(name);
        assert!(covers("example.test", "example.test") && covers("*.example.test:1", "a.b.example.test"));
        for (allowance, name) in [
            ("example.test", "evilexample.test"),
            ("example.test", "example.test.evil"),
            ("example.test", "a.example.test"),
            ("*.example.test", "example.test"),
            ("*.example.test", ".example.test"),
            ("*.example.test", "evilexample.test"),
            ("*.example.test", "a.example.test.evil"),
            ("192.0.2.7", "192.0.2.7"),
        ] {
            assert!(!covers(allowance, name), "{allowance} {name}");
        }
    }

    #[test]
    fn a_list_without_a_stance_means_deny() {
        let allow = vec!["example.test".parse().unwrap()];
        assert_eq!(Egress::new(None, allow.clone()).unwrap().stance, Some(Stance::Deny));
        assert_eq!(Egress::new(Some(Stance::Open), allow).unwrap().stance, Some(Stance::Open));
        assert!(Egress::new(None, Vec::new()).unwrap().is_unsaid());
    }
}
