//! `-o KEY=VALUE`: the bridge driver's options under Docker's names and under short ones, and those of every network.

use std::collections::BTreeMap;

use super::parse;
use crate::model::Invalid;
use crate::model::names::IfName;
use crate::model::network::DnsListen;
use crate::model::upstream::Upstream;

/// What the options said; `None`: not mentioned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The bridge's interface name.
    pub(super) bridge: Option<IfName>,
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
    /// Whether the host has no address on the network.
    pub(super) isolated: Option<bool>,
}

/// Short name and, where it has such an option, Docker's (moby, daemon/libnetwork/netlabel/labels.go and
/// drivers/bridge/labels.go).
const KEYS: [(&str, Option<&str>); 10] = [
    ("bridge", Some("com.docker.network.bridge.name")),
    ("mtu", Some("com.docker.network.driver.mtu")),
    ("icc", Some("com.docker.network.bridge.enable_icc")),
    ("masquerade", Some("com.docker.network.bridge.enable_ip_masquerade")),
    ("dns.listen", None),
    ("dns.servers", None),
    ("sticky", None),
    ("trusted", None),
    ("gateway_mode", Some("com.docker.network.bridge.gateway_mode_ipv4")),
    ("gateway_mode", Some("com.docker.network.bridge.gateway_mode_ipv6")),
];

/// Reads the options. A key that is unknown, or given under both names, is refused.
pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Options, Invalid> {
    let mut read = Options::default();
    for (key, value) in options {
        let Some((short, docker)) =
            KEYS.into_iter().find(|(short, docker)| key == short || Some(key.as_str()) == *docker)
        else {
            let known = KEYS.iter().map(|(short, docker)| match docker {
                Some(docker) => format!("{short} ({docker})"),
                None => (*short).to_owned(),
            });
            let known: Vec<String> = known.collect();
            return Err(Invalid::new("option", key, format!("the bridge driver knows {}", known.join(", "))));
        };
        if Some(key.as_str()) == docker && options.contains_key(short) {
            return Err(Invalid::new("option", key, format!("it is also given as {short}")));
        }
        match short {
            "bridge" => read.bridge = Some(value.parse::<IfName>()?.for_new()?),
            "mtu" => {
                let mtu = value.parse().map_err(|_| Invalid::new("mtu", value, "use a number of bytes, as in 1400"))?;
                read.mtu = Some(mtu);
            }
            "icc" => read.icc = Some(boolean(key, value)?),
            "masquerade" => read.masquerade = Some(boolean(key, value)?),
            "dns.listen" => read.listen = Some(value.parse()?),
            "dns.servers" => {
                let servers = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                read.servers = Some(parse::upstreams(servers)?);
            }
            "gateway_mode" => {
                let isolated = isolated(key, value)?;
                if read.isolated.is_some_and(|other| other != isolated) {
                    return Err(Invalid::new("option", format!("{key}={value}"), "the other family has another mode"));
                }
                read.isolated = Some(isolated);
            }
            "trusted" => read.trusted = Some(boolean(key, value)?),
            _ => read.sticky = Some(boolean(key, value)?),
        }
    }
    Ok(read)
}

/// Docker's mode in which the host has no address on the network, or its usual one.
fn isolated(key: &str, value: &str) -> Result<bool, Invalid> {
    match value {
        "isolated" => Ok(true),
        "nat" => Ok(false),
        _ => Err(Invalid::new("option", format!("{key}={value}"), "use nat or isolated")),
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, Invalid> {
    parse::boolean(value).ok_or_else(|| Invalid::new("option", format!("{key}={value}"), "use true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Options, Invalid> {
        read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
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
            read(&pairs.iter().map(|(key, value)| (key.clone(), (*value).to_owned())).collect())
        };
        assert_eq!(of(&[("gateway_mode".into(), "isolated")]).unwrap().isolated, Some(true));
        assert_eq!(of(&[docker(4, "isolated"), docker(6, "isolated")]).unwrap().isolated, Some(true));
        assert_eq!(of(&[docker(6, "nat")]).unwrap().isolated, Some(false));
        for pairs in [[docker(4, "isolated"), docker(6, "nat")], [docker(4, "routed"), docker(6, "routed")]] {
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
}
