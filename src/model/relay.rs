//! What a network relays: discovery by multicast between its bridge and other interfaces of the host.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::names::{IfName, NetworkName};

/// Most interfaces that a network names.
const INTERFACES_MOST: usize = 8;

/// A protocol by which devices are discovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Multicast DNS (RFC 6762).
    Mdns,
    /// The Simple Service Discovery Protocol of UPnP.
    Ssdp,
}

/// The setting of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// At least one.
    pub protocols: BTreeSet<Protocol>,
    /// Interfaces of the host, or networks, in whose place their bridges are; empty: the interfaces of the host's default
    /// routes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub interfaces: BTreeSet<String>,
}

impl Protocol {
    /// All.
    pub const ALL: [Self; 2] = [Self::Mdns, Self::Ssdp];

    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Ssdp => "ssdp",
        }
    }
}

impl Relay {
    /// Reads the options `relay` and `relay_interfaces`, each a list with commas.
    pub fn parse(protocols: Option<&str>, interfaces: Option<&str>) -> Result<Option<Self>, Invalid> {
        let Some(protocols) = protocols else {
            let alone = |_| Invalid::new("option", "relay_interfaces", "it needs relay=mdns, relay=ssdp or both");
            return interfaces.map_or(Ok(None), |text| Err(alone(text)));
        };
        let known = |word: &str| Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == word);
        let protocol = |word| known(word).ok_or_else(|| Invalid::new("relay", word, "use mdns, ssdp or mdns,ssdp"));
        let protocols = protocols.split(',').map(protocol).collect::<Result<_, _>>()?;
        let interfaces = interfaces.map(names).transpose()?.unwrap_or_default();
        Ok(Some(Self { protocols, interfaces }))
    }

    /// The value of the option `relay`.
    pub fn protocols_text(&self) -> String {
        self.protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>().join(",")
    }

    /// The value of the option `relay_interfaces`; `None`: it is left out.
    pub fn interfaces_text(&self) -> Option<String> {
        let names: Vec<&str> = self.interfaces.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| names.join(","))
    }

    /// Refuses what the network cannot relay.
    pub fn check(&self, network: &NetworkName, internal: bool) -> Result<(), Invalid> {
        if internal {
            let why =
                "containers on an internal network reach nothing that is discovered outside: leave out --internal";
            return Err(Invalid::new("relay", self.protocols_text(), why));
        }
        match self.interfaces.iter().find(|name| *name == network.as_str()) {
            Some(own) => Err(Invalid::new("relay_interfaces", own, "it is the network itself: name another one")),
            None => Ok(()),
        }
    }
}

fn names(text: &str) -> Result<BTreeSet<String>, Invalid> {
    let name = |word: &str| {
        let is_name = word.parse::<IfName>().is_ok() || word.parse::<NetworkName>().is_ok();
        let why = "use names of interfaces of the host or of networks, as in eth0,wlan0";
        if is_name { Ok(word.to_owned()) } else { Err(Invalid::new("relay_interfaces", word, why)) }
    };
    let names: BTreeSet<String> = text.split(',').map(name).collect::<Result<_, _>>()?;
    if names.len() > INTERFACES_MOST {
        return Err(Invalid::new("relay_interfaces", text, format!("at most {INTERFACES_MOST}")));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_written_alike() {
        let relay = Relay::parse(Some("ssdp,mdns"), Some("wlan0,eth0")).unwrap().unwrap();
        assert_eq!(relay.protocols_text(), "mdns,ssdp");
        assert_eq!(relay.interfaces_text().as_deref(), Some("eth0,wlan0"));
        assert_eq!(Relay::parse(Some("mdns"), None).unwrap().unwrap().interfaces_text(), None);
        assert_eq!(Relay::parse(None, None).unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].join(",");
        for (relay, interfaces) in [
            (Some("bonjour"), None),
            (Some(""), None),
            (Some("mdns,"), None),
            (None, Some("eth0")),
            (Some("mdns"), Some("")),
            (Some("mdns"), Some("a/b")),
            (Some("mdns"), Some(many.as_str())),
        ] {
            assert!(Relay::parse(relay, interfaces).is_err(), "{relay:?} {interfaces:?}");
        }
    }

    #[test]
    fn a_network_that_cannot_relay_is_told() {
        let relay = Relay::parse(Some("mdns"), Some("net1")).unwrap().unwrap();
        assert!(relay.check(&"net1".parse().unwrap(), false).is_err());
        assert!(relay.check(&"net2".parse().unwrap(), true).is_err());
        assert!(relay.check(&"net2".parse().unwrap(), false).is_ok());
    }
}
