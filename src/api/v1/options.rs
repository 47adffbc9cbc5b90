//! `-o KEY=VALUE`: the options of each driver under Docker's names and under short ones, and those of every network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::parse;
use crate::model::Invalid;
use crate::model::address::Family;
use crate::model::egress::{Allowance, Stance};
use crate::model::names::IfName;
use crate::model::network::{DnsListen, HostAccess, IpvlanMode, MacvlanMode, VlanId};
use crate::model::publication::PublishMode;
use crate::model::relay::Relay;
use crate::model::upstream::Upstream;

/// The drivers that can be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bridge: netd's own, or one of the host.
    #[default]
    Bridge,
    /// Interfaces on top of one of the host's, each with a MAC address.
    Macvlan,
    /// The same, without.
    Ipvlan,
    /// No interfaces.
    Nothing,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 4] = [Self::Bridge, Self::Macvlan, Self::Ipvlan, Self::Nothing];

    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Nothing => "none",
        }
    }

    /// The driver with that name.
    pub(super) fn named(name: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| Invalid::new("driver", name, "use bridge, macvlan, ipvlan or none"))
    }
}

/// What becomes of addresses where the host is the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayMode {
    /// The host translates them.
    Nat,
    /// The same, and what is not published is reached too.
    Unprotected,
    /// It routes, and nothing is translated.
    Routed,
    /// It has no address on the network.
    Isolated,
}

/// What the options said; `None`: not mentioned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The bridge's interface name.
    pub(super) bridge: Option<IfName>,
    /// Whether the bridge is the host's.
    pub(super) unmanaged: Option<bool>,
    pub(super) vlan: Option<VlanId>,
    /// The interface that those of containers are on top of.
    pub(super) parent: Option<IfName>,
    /// How those with MAC addresses reach each other.
    pub(super) macvlan: Option<MacvlanMode>,
    /// How those without do.
    pub(super) ipvlan: Option<IpvlanMode>,
    /// Bytes, not yet checked for sense.
    pub(super) mtu: Option<u32>,
    /// Whether containers of the network reach each other.
    pub(super) icc: Option<bool>,
    /// Whether outgoing traffic is masqueraded with the host's address.
    pub(super) masquerade: Option<bool>,
    /// Where the name service listens.
    pub(super) listen: Option<DnsListen>,
    /// Who is asked for names that are not ours.
    pub(super) servers: Option<Vec<Upstream>>,
    /// Whether addresses are kept for those who had them.
    pub(super) sticky: Option<bool>,
    /// Whether containers may send from addresses that are not their own.
    pub(super) trusted: Option<bool>,
    /// Who decides about packets to published ports.
    pub(super) publish: Option<PublishMode>,
    /// What becomes of addresses at the gateway.
    pub(super) gateway_mode: Option<GatewayMode>,
    /// What outgoing traffic gets instead of the host's address, one per family.
    pub(super) source: Vec<IpAddr>,
    /// What containers reach on the host.
    pub(super) host_access: Option<HostAccess>,
    /// The host's addresses on a network of stacked interfaces.
    pub(super) host_addresses: Vec<IpAddr>,
    /// The discovery protocols that are relayed.
    pub(super) relay: Option<Relay>,
    /// What its containers may send, and what all the same.
    pub(super) egress: (Option<Stance>, Vec<Allowance>),
    /// Whether a DHCP server gives containers their addresses.
    pub(super) dhcp: Option<bool>,
}

/// An option: its short name, other programs' name of it, and the drivers that have it.
struct Key(&'static str, Option<&'static str>, &'static [Kind]);

const BRIDGE: &[Kind] = &[Kind::Bridge];
const MACVLAN: &[Kind] = &[Kind::Macvlan];
const IPVLAN: &[Kind] = &[Kind::Ipvlan];
const STACKED: &[Kind] = &[Kind::Macvlan, Kind::Ipvlan];
const WITH_INTERFACES: &[Kind] = &[Kind::Bridge, Kind::Macvlan, Kind::Ipvlan];
const EVERY: &[Kind] = &Kind::ALL;

/// Docker's names are in moby, daemon/libnetwork/netlabel/labels.go and drivers/bridge/labels.go; netavark's in
/// src/network/constants.rs.
const KEYS: [Key; 29] = [
    Key("bridge", Some("com.docker.network.bridge.name"), BRIDGE),
    Key("mode", None, WITH_INTERFACES),
    Key("parent", None, STACKED),
    Key("macvlan_mode", None, MACVLAN),
    Key("ipvlan_mode", None, IPVLAN),
    Key("mtu", Some("com.docker.network.driver.mtu"), WITH_INTERFACES),
    Key("icc", Some("com.docker.network.bridge.enable_icc"), BRIDGE),
    Key("masquerade", Some("com.docker.network.bridge.enable_ip_masquerade"), BRIDGE),
    Key("dns.listen", None, WITH_INTERFACES),
    Key("dns.servers", None, WITH_INTERFACES),
    Key("sticky", None, WITH_INTERFACES),
    Key("ipam", None, WITH_INTERFACES),
    Key("trusted", None, BRIDGE),
    Key("publish", None, BRIDGE),
    Key("egress", None, BRIDGE),
    Key("egress-allow", None, BRIDGE),
    Key("relay", None, BRIDGE),
    Key("relay_interfaces", None, BRIDGE),
    Key("gateway_mode", Some("com.docker.network.bridge.gateway_mode_ipv4"), BRIDGE),
    Key("gateway_mode", Some("com.docker.network.bridge.gateway_mode_ipv6"), BRIDGE),
    Key("host_ipv4", Some("com.docker.network.host_ipv4"), BRIDGE),
    Key("host_ipv6", Some("com.docker.network.host_ipv6"), BRIDGE),
    Key("host_ipv4", Some("outbound_addr4"), BRIDGE),
    Key("host_ipv6", Some("outbound_addr6"), BRIDGE),
    Key("host_access", None, EVERY),
    Key("host_address", None, MACVLAN),
    // They are said by the flags.
    Key("com.docker.network.enable_ipv4", None, EVERY),
    Key("com.docker.network.enable_ipv6", None, EVERY),
    Key("vlan", None, BRIDGE),
];

/// Reads the options of a driver. A key that it does not have, or that is given under both names, is refused.
pub(super) fn read(options: &BTreeMap<String, String>, kind: Kind) -> Result<Options, Invalid> {
    let mut read = Options::default();
    for (key, value) in options {
        let fits = |one: &&Key| (key == one.0 || Some(key.as_str()) == one.1) && one.2.contains(&kind);
        let Some(Key(short, other, _)) = KEYS.iter().find(fits) else { return Err(unknown(key, kind)) };
        if Some(key.as_str()) == *other && options.contains_key(*short) {
            return Err(Invalid::new("option", key, format!("it is also given as {short}")));
        }
        read.set((key, short, value), kind)?;
    }
    let text = |key| options.get(key).map(String::as_str);
    read.relay = Relay::parse(text("relay"), text("relay_interfaces"))?;
    Ok(read)
}

fn unknown(key: &str, kind: Kind) -> Invalid {
    let known = KEYS.iter().filter(|one| one.2.contains(&kind)).map(|Key(short, other, _)| match other {
        Some(other) => format!("{short} ({other})"),
        None => (*short).to_owned(),
    });
    let known: Vec<String> = known.collect();
    Invalid::new("option", key, format!("the {} driver knows {}", kind.name(), known.join(", ")))
}

impl Options {
    fn set(&mut self, (key, short, value): (&str, &str, &str), kind: Kind) -> Result<(), Invalid> {
        match short {
            "bridge" => self.bridge = Some(value.parse::<IfName>()?.for_new()?),
            "parent" => self.parent = Some(value.parse()?),
            "mode" => self.mode(value, kind)?,
            "macvlan_mode" => self.macvlan = Some(value.parse()?),
            "ipvlan_mode" => self.ipvlan = Some(value.parse()?),
            "mtu" => {
                let mtu = value.parse().map_err(|_| Invalid::new("mtu", value, "use a number of bytes, as in 1400"))?;
                self.mtu = Some(mtu);
            }
            "icc" => self.icc = Some(boolean(key, value)?),
            "masquerade" => self.masquerade = Some(boolean(key, value)?),
            "dns.listen" => self.listen = Some(value.parse()?),
            "dns.servers" => {
                let servers = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                self.servers = Some(parse::upstreams(servers)?);
            }
            "gateway_mode" => {
                let mode = gateway_mode(key, value)?;
                if self.gateway_mode.is_some_and(|other| other != mode) {
                    return Err(Invalid::new("option", format!("{key}={value}"), "the other family has another mode"));
                }
                self.gateway_mode = Some(mode);
            }
            "host_ipv4" => self.source(value, Family::V4)?,
            "host_ipv6" => self.source(value, Family::V6)?,
            "host_access" => self.host_access = Some(value.parse()?),
            "host_address" => {
                let address = |text: &str| parse::address("host_address", text);
                self.host_addresses = value.split(',').map(address).collect::<Result<_, _>>()?;
            }
            "trusted" => self.trusted = Some(boolean(key, value)?),
            // Both together, when everything is read.
            "relay" | "relay_interfaces" => {}
            "egress" => self.egress.0 = Some(value.parse()?),
            "egress-allow" => self.egress.1 = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "publish" => self.publish = Some(value.parse()?),
            "sticky" => self.sticky = Some(boolean(key, value)?),
            "ipam" => {
                self.dhcp = Some(match value {
                    "dhcp" => true,
                    "netd" => false,
                    _ => return Err(Invalid::new("option", format!("{key}={value}"), "use netd or dhcp")),
                });
            }
            // As with netavark, 0 is none.
            "vlan" => self.vlan = (value != "0").then(|| value.parse()).transpose()?,
            _ => drop(boolean(key, value)?),
        }
        Ok(())
    }

    /// netavark's word for several things.
    fn mode(&mut self, value: &str, kind: Kind) -> Result<(), Invalid> {
        match (kind, value) {
            (Kind::Macvlan, mode) => self.macvlan = Some(mode.parse()?),
            (Kind::Ipvlan, mode) => self.ipvlan = Some(mode.parse()?),
            (_, "managed") => self.unmanaged = Some(false),
            (_, "unmanaged") => self.unmanaged = Some(true),
            _ => return Err(Invalid::new("option", format!("mode={value}"), "use managed or unmanaged")),
        }
        Ok(())
    }

    fn source(&mut self, value: &str, family: Family) -> Result<(), Invalid> {
        let what = if family == Family::V4 { "host_ipv4" } else { "host_ipv6" };
        let address = parse::address(what, value)?;
        if Family::of(address) != family || address.is_unspecified() || address.is_loopback() || address.is_multicast()
        {
            return Err(Invalid::new(what, value, "use an address of the host in that family"));
        }
        self.source.push(address);
        Ok(())
    }
}

/// Docker's modes.
fn gateway_mode(key: &str, value: &str) -> Result<GatewayMode, Invalid> {
    match value {
        "isolated" => Ok(GatewayMode::Isolated),
        "routed" => Ok(GatewayMode::Routed),
        "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::Unprotected),
        _ => Err(Invalid::new("option", format!("{key}={value}"), "use nat, nat-unprotected, routed or isolated")),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, Invalid> {
    parse::boolean(value).ok_or_else(|| Invalid::new("option", format!("{key}={value}"), "use true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Options, Invalid> {
        read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), Kind::Bridge)
    }

    #[test]
    fn dockers_names_and_short_ones_mean_the_same() {
        let docker = of(&[
            ("com.docker.network.bridge.name", "br0"),
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.bridge.enable_icc", "F"),
            ("com.docker.network.bridge.enable_ip_masquerade", "TRUE"),
        ]);
        let short = of(&[("bridge", "br0"), ("mtu", "1400"), ("icc", "false"), ("masquerade", "1")]);
        assert_eq!(docker, short);
        assert_eq!(docker.unwrap().icc, Some(false));
    }

    #[test]
    fn the_host_is_on_a_network_or_not_for_both_families() {
        let docker = |family, mode| (format!("com.docker.network.bridge.gateway_mode_ipv{family}"), mode);
        let of = |pairs: &[(String, &str)]| {
            read(&pairs.iter().map(|(key, value)| (key.clone(), (*value).to_owned())).collect(), Kind::Bridge)
        };
        assert_eq!(of(&[("gateway_mode".into(), "isolated")]).unwrap().gateway_mode, Some(GatewayMode::Isolated));
        assert_eq!(
            of(&[docker(4, "isolated"), docker(6, "isolated")]).unwrap().gateway_mode,
            Some(GatewayMode::Isolated)
        );
        assert_eq!(of(&[docker(6, "nat")]).unwrap().gateway_mode, Some(GatewayMode::Nat));
        for pairs in [[docker(4, "isolated"), docker(6, "nat")], [docker(4, "routed"), docker(6, "nat")]] {
            assert!(of(&pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn an_unknown_key_names_the_known_ones() {
        let error = of(&[("mut", "1400")]).unwrap_err().to_string();
        assert!(error.contains("\"mut\"") && error.contains("com.docker.network.driver.mtu"), "{error}");
    }

    #[test]
    fn bad_values_are_refused() {
        for (key, value) in [("icc", "yes"), ("icc", ""), ("mtu", "big"), ("mtu", "-1"), ("bridge", "a/b")] {
            assert!(of(&[(key, value)]).is_err(), "{key}={value}");
        }
        assert!(of(&[("mtu", "1400"), ("com.docker.network.driver.mtu", "1500")]).is_err());
    }

    #[test]
    fn each_driver_has_its_own_options() {
        let of = |kind, pairs: &[(&str, &str)]| {
            read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), kind)
        };
        let docker = of(Kind::Macvlan, &[("parent", "eth0"), ("macvlan_mode", "private")]).unwrap();
        assert_eq!(docker.macvlan, Some(MacvlanMode::Private));
        assert_eq!(docker, of(Kind::Macvlan, &[("parent", "eth0"), ("mode", "private")]).unwrap(), "netavark's name");
        assert_eq!(of(Kind::Bridge, &[("mode", "unmanaged")]).unwrap().unmanaged, Some(true));
        for (kind, key, value, words) in [
            (Kind::Bridge, "parent", "eth0", "the bridge driver knows bridge"),
            (Kind::Macvlan, "icc", "true", "the macvlan driver knows mode, parent"),
            (Kind::Macvlan, "macvlan_mode", "l2", "use bridge, private, vepa or passthru"),
            (Kind::Ipvlan, "ipvlan_mode", "bridge", "use l2, l3 or l3s"),
            (Kind::Nothing, "mtu", "1400", "the none driver knows"),
            (Kind::Bridge, "host_ipv4", "fd00::1", "in that family"),
            (Kind::Bridge, "host_ipv6", "here", "host_ipv6"),
            (Kind::Bridge, "vlan", "4095", "from 1 to 4094"),
        ] {
            let error = of(kind, &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(words), "{key}={value}: {error}");
        }
    }
}
