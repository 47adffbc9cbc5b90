//! Egress: what a container has asked and been denied.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line of a container's log: a name that it has asked for, or a destination that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EgressLine {
    /// `allowed`: the name is allowed, and what was answered was opened. `open`: nothing is denied to the container.
    /// `refused`: the name is not allowed, and was not forwarded. `failed`: what was answered could not be opened.
    /// `denied`: packets were dropped.
    pub verdict: String,
    /// The name that was asked, or for which the destination was last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The type of the question.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The destination of packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What was sent there, as in `443/tcp` or `icmp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How many questions or packets.
    pub count: u64,
    /// When it was seen first: RFC 3339, UTC, to the second.
    #[schema(format = DateTime)]
    pub first: String,
    /// When it was seen last.
    #[schema(format = DateTime)]
    pub last: String,
}

impl EgressLine {
    /// The allowance that would let it pass; `None` if none would, or if it passes.
    pub fn as_allowance(&self) -> Option<String> {
        if let Some(to) = &self.to {
            let whom = self.name.as_ref().unwrap_or(to);
            let port = self.service.as_ref().filter(|service| service.contains('/'));
            let brackets = self.name.is_none() && to.contains(':');
            return Some(match port {
                Some(port) if brackets => format!("[{to}]:{port}"),
                Some(port) => format!("{whom}:{port}"),
                None => whom.clone(),
            });
        }
        let is_address = matches!(self.kind.as_deref(), Some("A" | "AAAA" | "HTTPS" | "SVCB"));
        self.name.clone().filter(|_| is_address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::egress::Allowance;

    #[test]
    fn what_was_seen_becomes_allowances() {
        let line = |name: Option<&str>, kind: Option<&str>, to: Option<&str>, service: Option<&str>| EgressLine {
            verdict: "denied".into(),
            name: name.map(Into::into),
            kind: kind.map(Into::into),
            to: to.map(Into::into),
            service: service.map(Into::into),
            count: 1,
            first: String::new(),
            last: String::new(),
        };
        for (line, expected) in [
            (line(Some("a.test"), Some("A"), None, None), Some("a.test")),
            (line(Some("a.test"), Some("TXT"), None, None), None),
            (line(Some("a.test"), None, Some("192.0.2.7"), Some("80/tcp")), Some("a.test:80/tcp")),
            (line(None, None, Some("192.0.2.7"), Some("53/udp")), Some("192.0.2.7:53/udp")),
            (line(None, None, Some("2001:db8::7"), Some("53/udp")), Some("[2001:db8::7]:53/udp")),
            (line(None, None, Some("2001:db8::7"), Some("icmp")), Some("2001:db8::7")),
        ] {
            assert_eq!(line.as_allowance().as_deref(), expected);
            assert!(expected.is_none_or(|text| text.parse::<Allowance>().is_ok()));
        }
    }
}
