//! Policies: who may begin a flow to whom.

pub mod ruling;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::NetworkName;
use super::publication::{self, PortRange, Protocol};

/// Most ports of a policy: each is an element of its own.
const PORTS_MAX: u32 = 256;
/// Longest name of a subject: that of a domain name.
const NAME_MAX: usize = 253;
/// Longest label of a subject.
const LABEL_MAX: usize = 512;

/// A policy, as it was requested. The durable store keeps it unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Assigned once, from 1 on.
    pub id: u64,
    /// What it says.
    #[serde(flatten)]
    pub rule: Rule,
    /// Seconds since the Unix epoch.
    pub created: u64,
}

/// What a policy says. Two policies with the same rule would be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// What happens to the flows.
    pub action: Action,
    /// Who begins them.
    pub from: Subject,
    /// To whom; for [`Action::DefaultDeny`] a network.
    pub to: Subject,
    /// To which ports; `None`: any, and protocols without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
}

/// What happens to the flows of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They pass, unless another policy denies them.
    Allow,
    /// They do not pass.
    Deny,
    /// They do not pass unless a policy allows them.
    DefaultDeny,
}

/// Ports of one protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// At most 256 ports.
    pub range: PortRange,
}

/// Whom a policy is about. What matches is found anew whenever something changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subject {
    /// Everybody.
    Any,
    /// This host.
    Host,
    /// Everybody who is neither this host nor a container on a network of netd.
    Outside,
    /// The containers of a network.
    Network(NetworkName),
    /// The containers with this label, or with this label and value.
    Label(String, Option<String>),
    /// The members of the service with this name or alias (lower case).
    Service(String),
    /// The containers with this DNS name, and the members of services with it, in lower case; on every network, or with
    /// `.NETWORK` behind it on one.
    Name(String),
}

impl Action {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::DefaultDeny => "default-deny",
        }
    }
}

impl Rule {
    /// What enters the network is denied unless a policy allows it.
    pub fn default_deny(network: NetworkName) -> Self {
        Self { action: Action::DefaultDeny, from: Subject::Any, to: Subject::Network(network), ports: None }
    }

    /// Whether it says anything: no container is concerned by what the host and the outside have with each other.
    pub fn check(&self) -> Result<(), Invalid> {
        let is_elsewhere = |subject: &Subject| matches!(subject, Subject::Host | Subject::Outside);
        if is_elsewhere(&self.from) && is_elsewhere(&self.to) {
            return Err(Invalid::new("policy", self.to_string(), "one side must be containers"));
        }
        if self.action == Action::DefaultDeny && !matches!((&self.from, &self.to), (Subject::Any, Subject::Network(_)))
        {
            return Err(Invalid::new("policy", self.to_string(), "default-deny is for a network"));
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.action, &self.to) {
            (Action::DefaultDeny, Subject::Network(network)) => write!(f, "default-deny {network}"),
            (action, to) => {
                write!(f, "{} {} {to}", action.as_str(), self.from)?;
                self.ports.map_or(Ok(()), |ports| write!(f, ":{ports}"))
            }
        }
    }
}

impl Ports {
    /// Whether it is one of these.
    pub fn contains(self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && self.range.contains(port)
    }
}

impl FromStr for Ports {
    type Err = Invalid;
    /// `PORT[-END][/PROTOCOL]`; TCP if no protocol is given.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new("ports", text, why);
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let range = publication::range(range).map_err(|why| wrong(&why))?.ok_or_else(|| wrong("no port is 0"))?;
        if range.count() > PORTS_MAX {
            return Err(wrong("at most 256 ports; without ports a policy is about all of them"));
        }
        Ok(Self { protocol: protocol.parse()?, range })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.range, self.protocol)
    }
}

impl FromStr for Subject {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Invalid::new("subject", text, why);
        let name = |name: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            let is_name = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(fits);
            is_name
                .then(|| name.to_ascii_lowercase())
                .ok_or_else(|| wrong("use a name, service:NAME, network:NAME, label:KEY=VALUE, host, outside or any"))
        };
        match text.split_once(':') {
            Some(("network", network)) => Ok(Self::Network(network.parse()?)),
            Some(("service", service)) => Ok(Self::Service(name(service)?)),
            Some(("name", text)) => Ok(Self::Name(name(text)?)),
            Some(("label", label)) => label_of(label).ok_or_else(|| wrong("use label:KEY or label:KEY=VALUE")),
            Some(_) => Err(wrong("known prefixes are network:, service:, label: and name:")),
            None if text.contains('=') => label_of(text).ok_or_else(|| wrong("use KEY=VALUE")),
            None => match text {
                "any" | "*" => Ok(Self::Any),
                "host" => Ok(Self::Host),
                "outside" => Ok(Self::Outside),
                text => Ok(Self::Name(name(text)?)),
            },
        }
    }
}

fn label_of(text: &str) -> Option<Subject> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
    let fits = !key.is_empty() && text.len() <= LABEL_MAX && !text.contains(|c: char| c.is_control());
    fits.then(|| Subject::Label(key.to_owned(), value))
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Host => f.write_str("host"),
            Self::Outside => f.write_str("outside"),
            Self::Network(network) => write!(f, "network:{network}"),
            Self::Label(key, None) => write!(f, "label:{key}"),
            Self::Label(key, Some(value)) => write!(f, "label:{key}={value}"),
            Self::Service(service) => write!(f, "service:{service}"),
            Self::Name(name) if matches!(name.as_str(), "any" | "host" | "outside") => write!(f, "name:{name}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// `TO[:PORTS]`: a subject, and ports behind its last colon.
pub fn target(text: &str) -> Result<(Subject, Option<Ports>), Invalid> {
    let is_prefix = |before: &str| matches!(before, "network" | "service" | "label" | "name");
    match text.rsplit_once(':') {
        Some((subject, ports)) if !is_prefix(subject) && ports.starts_with(|c: char| c.is_ascii_digit()) => {
            Ok((subject.parse()?, Some(ports.parse()?)))
        }
        _ => Ok((text.parse()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_and_written() {
        for text in ["any", "host", "outside", "network:net1", "label:a=b=c", "label:a", "service:web", "web.net1"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for (text, written) in [("*", "any"), ("role=db", "label:role=db"), ("Web", "web"), ("name:host", "name:host")]
        {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), written);
        }
        for text in ["", "a b", "network:", "label:=x", "zone:a", "service:"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_stand_behind_the_last_colon() {
        let shown = |text: &str| match target(text) {
            Ok((subject, ports)) => format!("{subject} {}", ports.map_or("all".into(), |ports| ports.to_string())),
            Err(invalid) => invalid.to_string(),
        };
        for (text, expected) in [
            ("db:5432", "db 5432/tcp"),
            ("network:net1:53/udp", "network:net1 53/udp"),
            ("label:a=b:8000-8100", "label:a=b 8000-8100/tcp"),
            ("label:a=b", "label:a=b all"),
            ("network:1net", "network:1net all"),
            ("db:0", "invalid ports \"0\": no port is 0"),
            ("db:1-1000", "invalid ports \"1-1000\": at most 256"),
        ] {
            assert!(shown(text).starts_with(expected), "{text}: {}", shown(text));
        }
    }

    #[test]
    fn a_policy_is_about_containers() {
        let rule = |from: &str, to: &str| Rule {
            action: Action::Deny,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            ports: None,
        };
        assert!(rule("outside", "host").check().is_err());
        assert!(rule("any", "host").check().is_ok());
        let policy = Policy { id: 3, rule: rule("web", "db"), created: 7 };
        let stored = serde_json::to_string(&policy).unwrap();
        assert_eq!(stored, r#"{"id":3,"action":"deny","from":"web","to":"db","created":7}"#);
        assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
    }
}
