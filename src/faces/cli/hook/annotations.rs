//! What a container asks for by annotations.
//!
//! | annotation | is |
//! |---|---|
//! | `netd.network` | the networks to join, in this order |
//! | `netd.name` | the container's name; absent: its id |
//! | `netd.publish` | ports to publish, as `-p` of `netd connect` |
//! | `netd.alias`, `netd.expose`, `netd.dns`, `netd.label` | on each network, as the options of `netd connect` |
//! | `netd.ip`, `netd.ip6`, `netd.mac`, `netd.ifname` | likewise; on one network only |
//! | `netd.NETWORK.KEY` | the same on this network; each but `network`, `name`, `files` |
//! | `netd.files` | `keep`: the container's resolv.conf and hosts stay as they are |
//!
//! Lists are separated by commas or white space. An empty value counts as absent.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::state::Annotations;
use crate::api::v1;
use crate::model::Invalid;
use crate::model::address::Mac;
use crate::model::exposure::Exposure;
use crate::model::names::{Alias, ContainerName, IfName};
use crate::model::publication::PortSpec;
use crate::model::upstream::Upstream;

/// Networks of one container; the daemon's own limit.
const NETWORKS_MAX: usize = 64;
/// How much of a value an error shows, in characters.
const VALUE_SHOWN: usize = 100;
/// The annotations that may be given for one network.
const OF_NETWORK: [&str; 9] = ["publish", "alias", "expose", "dns", "label", "ip", "ip6", "mac", "ifname"];
/// Those of them that only one interface can have.
const OF_INTERFACE: [&str; 4] = ["ip", "ip6", "mac", "ifname"];

/// What a container asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Option<String>,
    /// Whether its own resolv.conf and hosts stay.
    pub(super) keeps_files: bool,
    /// At least one.
    pub(super) networks: Vec<OnNetwork>,
    /// Ports that are not for one particular network.
    pub(super) ports: Vec<PortSpec>,
}

/// What it asks for on one network.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct OnNetwork {
    /// Its name, or the beginning of its id.
    pub(super) network: String,
    pub(super) ports: Vec<PortSpec>,
    pub(super) aliases: Vec<Alias>,
    pub(super) expose: Vec<Exposure>,
    pub(super) dns: Vec<Upstream>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) ip6: Option<Ipv6Addr>,
    pub(super) mac: Option<Mac>,
    pub(super) ifname: Option<IfName>,
}

impl Wanted {
    /// Reads the annotations for netd. `None` if there is none.
    pub(super) fn read(annotations: &Annotations) -> Result<Option<Self>, String> {
        if annotations.is_empty() {
            return Ok(None);
        }
        let value = |key: &str| annotations.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
        let Some(names) = value("netd.network") else {
            let first = annotations.keys().next().map_or("", String::as_str);
            return Err(format!("annotation {first} needs netd.network, the networks to join"));
        };
        let mut wanted = Self::default();
        for name in words(names) {
            v1::network_reference(name).map_err(wrong("netd.network", names))?;
            if wanted.networks.iter().any(|known| known.network == name) {
                return Err(format!("annotation netd.network is {names:?}: {name} is there twice"));
            }
            wanted.networks.push(OnNetwork { network: name.to_owned(), ..OnNetwork::default() });
        }
        if wanted.networks.is_empty() {
            return Err(wrong("netd.network", names)("it names no network"));
        }
        if wanted.networks.len() > NETWORKS_MAX {
            return Err(format!(
                "annotation netd.network has {} networks: use at most {NETWORKS_MAX}",
                wanted.networks.len()
            ));
        }
        for key in annotations.keys().filter(|key| *key != "netd.network") {
            let known = wanted.place(key)?;
            if let Some(value) = value(key) {
                wanted.set(key, known, value)?;
            }
        }
        Ok(Some(wanted))
    }

    /// What an annotation is about: the index of its network, `None` for all of them, and the last part of its key.
    fn place<'a>(&self, key: &'a str) -> Result<(Option<usize>, &'a str), String> {
        let rest = key.strip_prefix("netd.").unwrap_or(key);
        if ["name", "files"].contains(&rest) || OF_NETWORK.contains(&rest) {
            return Ok((None, rest));
        }
        match rest.rsplit_once('.') {
            Some((network, last)) if OF_NETWORK.contains(&last) => {
                let index = self.networks.iter().position(|known| known.network == network);
                let index = index.ok_or_else(|| format!("annotation {key}: {network:?} is not in netd.network"))?;
                Ok((Some(index), last))
            }
            _ => Err(format!(
                "unknown annotation {key}: use netd.network, netd.name, netd.files, and netd.KEY or netd.NETWORK.KEY, where \
                 KEY is one of {}",
                OF_NETWORK.join(", ")
            )),
        }
    }

    fn set(&mut self, key: &str, (network, what): (Option<usize>, &str), value: &str) -> Result<(), String> {
        match what {
            "name" => {
                self.name = Some(parsed::<ContainerName>(key, value)?.into());
                return Ok(());
            }
            "files" if value == "keep" => {
                self.keeps_files = true;
                return Ok(());
            }
            "files" => return Err(wrong(key, value)("the only value is keep")),
            "publish" if network.is_none() => {
                self.ports = ports(key, value)?;
                return Ok(());
            }
            _ => {}
        }
        let count = self.networks.len();
        if network.is_none() && count > 1 && OF_INTERFACE.contains(&what) {
            let why = format!("the container joins {count} networks: use netd.NETWORK.{what}");
            return Err(wrong(key, value)(why));
        }
        let targets = match network {
            Some(index) => &mut self.networks[index..=index],
            None => &mut self.networks[..],
        };
        targets.iter_mut().try_for_each(|target| target.set(key, what, value))
    }
}

impl OnNetwork {
    /// Lists add up; the other values replace.
    fn set(&mut self, key: &str, what: &str, value: &str) -> Result<(), String> {
        match what {
            "publish" => self.ports.extend(ports(key, value)?),
            "alias" => self.aliases.extend(list(key, value)?),
            "expose" => self.expose.extend(list(key, value)?),
            "dns" => self.dns.extend(list(key, value)?),
            "label" => {
                for word in words(value) {
                    let pair = word.split_once('=').filter(|(label, _)| !label.is_empty());
                    let (label, text) = pair.ok_or_else(|| wrong(key, word)("use LABEL=VALUE, joined by commas"))?;
                    // That of one network counts more than that of all, whichever comes first.
                    if key != "netd.label" || !self.labels.contains_key(label) {
                        self.labels.insert(label.to_owned(), text.to_owned());
                    }
                }
            }
            "ip" => self.ip = Some(v1::ipv4(value).map_err(wrong(key, value))?),
            "ip6" => self.ip6 = Some(v1::ipv6(value).map_err(wrong(key, value))?),
            "mac" => self.mac = Some(parsed(key, value)?),
            _ => self.ifname = Some(parsed::<IfName>(key, value)?.for_new().map_err(wrong(key, value))?),
        }
        Ok(())
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

/// Docker's long form contains commas itself, so it stands between white space.
fn ports(key: &str, value: &str) -> Result<Vec<PortSpec>, String> {
    let parts = value.split_whitespace().flat_map(|part| match part.contains('=') {
        true => vec![part],
        false => words(part).collect(),
    });
    parts.map(|part| parsed(key, part)).collect()
}

fn list<T: FromStr<Err = Invalid>>(key: &str, value: &str) -> Result<Vec<T>, String> {
    words(value).map(|word| parsed(key, word)).collect()
}

fn parsed<T: FromStr<Err = Invalid>>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(wrong(key, value))
}

fn wrong<E: Display>(key: &str, value: &str) -> impl FnOnce(E) -> String {
    // The start of a long value is enough to find it. The reason may repeat it.
    let value: String = value.chars().take(VALUE_SHOWN).collect();
    move |why| {
        let why: String = why.to_string().chars().take(2 * VALUE_SHOWN).collect();
        format!("annotation {key} is {value:?}: {why}")
    }
}
