//! Values that have no type of their own in the model: references to things, addresses by family, DNS questions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Invalid;
use crate::model::address::Subnet;
use crate::model::egress::{Allowance, Egress, Stance};
use crate::model::ids::ContainerId;
use crate::model::names::{ContainerName, DnsName, NetworkName};
use crate::model::question::RecordType;
use crate::model::request::AddressSpec;
use crate::model::upstream::Upstream;

/// Longest network id: 64 hex digits.
const NETWORK_ID_MAX: usize = 64;

/// Most name servers of one network or container: each that fails takes its time before the next is asked.
const UPSTREAMS_MAX: usize = 16;

/// The labels of one endpoint together, in bytes: all of them are told in one answer of DNS, which has 64 KiB.
const LABELS_MAX: usize = 16 << 10;

/// A truth value in the spellings of Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// The address that an option has.
pub(super) fn address(what: &'static str, text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid::new(what, text, "use an IP address"))
}

/// Name servers (`--dns`), in this order; one that is said again counts once.
pub(super) fn upstreams(given: Vec<Upstream>) -> Result<Vec<Upstream>, Invalid> {
    let mut upstreams = Vec::new();
    for upstream in given {
        if upstreams.contains(&upstream) {
            continue;
        }
        if upstreams.len() == UPSTREAMS_MAX {
            let why = format!("at most {UPSTREAMS_MAX} are asked");
            return Err(Invalid::new("name server", upstream.to_string(), why));
        }
        upstreams.push(upstream);
    }
    Ok(upstreams)
}

/// Labels of an endpoint.
pub(super) fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Invalid> {
    if let Some((key, value)) = labels.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
        let why =
            if key.is_empty() { "its key is empty" } else { "its key contains '=', which separates key and value" };
        return Err(Invalid::new("label", format!("{key}={value}"), why));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len() + 1).sum();
    if bytes > LABELS_MAX {
        let why = format!("all labels together have {bytes} bytes, at most {LABELS_MAX} are allowed");
        return Err(Invalid::new("labels", labels.into_keys().next().unwrap_or_default(), why));
    }
    Ok(labels)
}

/// A text that may be a network's name, its id, or the beginning of its id.
pub fn network_reference(text: &str) -> Result<String, Invalid> {
    let id = !text.is_empty() && text.len() <= NETWORK_ID_MAX && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !id {
        text.parse::<NetworkName>()?;
    }
    Ok(text.to_owned())
}

/// A text that may be a container's name, its id, or the beginning of its id.
pub fn container_reference(text: &str) -> Result<String, Invalid> {
    if text.parse::<ContainerId>().is_err() {
        text.parse::<ContainerName>()?;
    }
    Ok(text.to_owned())
}

/// A gateway (`--gateway`).
pub fn gateway(text: &str) -> Result<IpAddr, Invalid> {
    text.parse().map_err(|_| Invalid::new("gateway", text, "use an IP address, as in 10.77.0.1"))
}

/// Where automatic addresses come from (`--ip-range`).
pub(super) fn ip_range(text: &str) -> Result<Subnet, Invalid> {
    text.parse().map_err(|error: Invalid| Invalid { what: "ip range", ..error })
}

/// What may be sent, from its parts.
pub(super) fn egress(stance: Option<Stance>, allow: Vec<Allowance>) -> Result<Egress, Invalid> {
    Egress::new(stance, allow)
}

/// An address that an interface can have (`--ip`).
pub fn ipv4(text: &str) -> Result<Ipv4Addr, Invalid> {
    let address: Ipv4Addr = text.parse().map_err(|_| {
        let other = text.parse::<Ipv6Addr>().is_ok();
        let why = if other { "that is IPv6: give it as ip6" } else { "use an IPv4 address, as in 10.77.0.5" };
        Invalid::new("IP address", text, why)
    })?;
    unicast(address.into(), text)?;
    Ok(address)
}

/// An address that an interface can have (`--ip6`).
pub fn ipv6(text: &str) -> Result<Ipv6Addr, Invalid> {
    let address: Ipv6Addr = text.parse().map_err(|_| {
        let other = text.parse::<Ipv4Addr>().is_ok();
        let why = if other { "that is IPv4: give it as ip" } else { "use an IPv6 address, as in fd00:1::5" };
        Invalid::new("IP address", text, why)
    })?;
    unicast(address.into(), text)?;
    Ok(address)
}

/// Fixed addresses, at most one of each family.
pub(super) fn addresses(ip: Option<String>, ip6: Option<String>) -> Result<Vec<AddressSpec>, Invalid> {
    let ip = ip.map(|ip| ipv4(&ip).map(IpAddr::V4)).transpose()?;
    let ip6 = ip6.map(|ip| ipv6(&ip).map(IpAddr::V6)).transpose()?;
    let both = ip.into_iter().chain(ip6);
    Ok(both.map(|ip| AddressSpec { ip, prefix: None, gateway: None }).collect())
}

fn unicast(address: IpAddr, text: &str) -> Result<(), Invalid> {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
        return Err(Invalid::new("IP address", text, "a container cannot have an address of this kind"));
    }
    Ok(())
}

/// A record type a user may ask for, and what it is to the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordName {
    /// In upper case, as zone files write it.
    pub name: String,
    /// What the zone knows of it.
    pub kind: RecordType,
}

/// Types that people ask for and that no name of ours has.
const OTHERS: [&str; 8] = ["CAA", "CNAME", "HTTPS", "MX", "NAPTR", "NS", "SOA", "SVCB"];

/// A DNS question: the name without its final dot and the record type. An IP address asks for its names (PTR).
/// Without a type, addresses ask for PTR and names for A.
pub fn record(name: &str, kind: Option<&str>) -> Result<(String, RecordName), Invalid> {
    let address = name.parse::<IpAddr>().ok();
    let kind = kind.map(str::to_ascii_uppercase).unwrap_or_else(|| if address.is_some() { "PTR" } else { "A" }.into());
    let record = match kind.as_str() {
        "A" => RecordType::A,
        "AAAA" => RecordType::Aaaa,
        "PTR" => RecordType::Ptr,
        "SRV" => RecordType::Srv,
        "TXT" => RecordType::Txt,
        "ANY" => RecordType::Any,
        other if OTHERS.contains(&other) => RecordType::Other,
        _ => {
            return Err(Invalid::new(
                "record type",
                kind,
                "use A, AAAA, PTR, SRV, TXT, ANY or another type such as MX",
            ));
        }
    };
    let name = match address {
        Some(address) if record == RecordType::Ptr => reverse(address),
        _ => name.strip_suffix('.').unwrap_or(name).parse::<DnsName>()?.to_string(),
    };
    Ok((name, RecordName { name: kind, kind: record }))
}

/// The name that is asked for the names of an address (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: String = digits.map(|digit| format!("{digit:x}.")).collect();
            format!("{labels}ip6.arpa")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_or_ids() {
        assert!(network_reference(&"a1".repeat(32)).is_ok());
        assert!(network_reference("net1").is_ok());
        for bad in ["", "a b", "-x", "a/b", &"g".repeat(64)] {
            assert!(network_reference(bad).is_err(), "{bad}");
        }
        assert!(container_reference(&"f".repeat(64)).is_ok());
        for bad in ["", "a b", "../x", "-x"] {
            assert!(container_reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers_keep_their_order_and_their_number_is_bounded() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Upstream>>();
        let read = upstreams(all(&["9.9.9.9", "tls://1.1.1.1#one.one", "9.9.9.9:53"])).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["9.9.9.9", "tls://1.1.1.1#one.one"]);
        let many: Vec<Upstream> = (1..=17).map(|number| format!("10.0.0.{number}").parse().unwrap()).collect();
        assert!(upstreams(many[..16].to_vec()).is_ok());
        assert!(upstreams(many).unwrap_err().to_string().contains("10.0.0.17"));
    }

    #[test]
    fn an_address_of_the_wrong_family_says_so() {
        assert!(ipv4("fd00::1").unwrap_err().to_string().contains("IPv6"));
        assert!(ipv6("10.0.0.1").unwrap_err().to_string().contains("IPv4"));
        for bad in ["", "1.2.3", "10.0.0.256", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "010.0.0.1"] {
            let error = ipv4(bad).unwrap_err().to_string();
            assert!(error.contains("IP address"), "{error}");
        }
        assert!(ipv6("::1").is_err());
        assert!(ipv6("ff02::1").is_err());
    }

    #[test]
    fn a_question_about_an_address_asks_for_its_reverse_name() {
        let (name, kind) = record("10.77.0.2", None).unwrap();
        assert_eq!((name.as_str(), kind.kind), ("2.0.77.10.in-addr.arpa", RecordType::Ptr));
        let (name, _) = record("fd00::2", None).unwrap();
        assert!(name.starts_with("2.0.0.0.") && name.ends_with(".0.d.f.ip6.arpa"), "{name}");
        assert_eq!(name.split('.').count(), 34);
        let (name, kind) = record("web.net1.", Some("aaaa")).unwrap();
        assert_eq!((name.as_str(), kind.name.as_str(), kind.kind), ("web.net1", "AAAA", RecordType::Aaaa));
        assert!(record("web", Some("WEB")).is_err());
        assert!(record("a b", None).is_err());
        assert!(record("", None).is_err());
    }
}
