//! From what a container asks for to the request to the daemon.

use super::OWNER;
use super::annotations::{OnNetwork, Wanted};
use crate::api::v1::{AddressRequest, AttachOne, AttachTogether, CreateNetwork, Endpoint, Network, PortRequest};

/// The attachments to these networks, which are those that are wanted, each with its interface.
pub(super) fn of(wanted: Wanted, networks: Vec<Network>, netns: &str, mut names: Interfaces) -> AttachTogether {
    wanted.networks.iter().filter_map(|on| on.ifname.as_ref()).for_each(|name| names.take(name.as_str()));
    // As with Docker: published where the outside reaches it.
    let outward = networks.iter().position(|network| !network.internal).unwrap_or_default();
    let one = |(index, (mut on, network)): (usize, (OnNetwork, Network))| {
        if index == outward {
            on.ports.splice(0..0, wanted.ports.iter().cloned());
        }
        let ifname = on.ifname.as_ref().map(ToString::to_string);
        let ifname = ifname.unwrap_or_else(|| names.of(&network.name));
        on.into_request(network.name, ifname)
    };
    let attachments = wanted.networks.into_iter().zip(networks).enumerate().map(one).collect();
    AttachTogether { netns: netns.to_owned(), name: wanted.name, scope: None, attachments }
}

impl OnNetwork {
    fn into_request(self, network: String, ifname: String) -> AttachOne {
        let addresses = [self.ip.map(|ip| ip.to_string()), self.ip6.map(|ip| ip.to_string())];
        let addresses = addresses.into_iter().flatten().map(|address| AddressRequest { address, gateway: None });
        AttachOne {
            owner: Some(OWNER.to_owned()),
            ifname,
            network: CreateNetwork { name: network, ..CreateNetwork::default() },
            aliases: self.aliases,
            addresses: addresses.collect(),
            mac: self.mac,
            ports: self.ports.into_iter().map(PortRequest::Spec).collect(),
            expose: self.expose,
            dns: self.dns,
            labels: self.labels,
            ..AttachOne::default()
        }
    }
}

/// The names of interfaces in a container.
pub(super) struct Interfaces {
    taken: Vec<String>,
    prefix: &'static str,
    /// The networks that hooks attached it to already, and the interface on each.
    known: Vec<(String, String)>,
}

impl Interfaces {
    /// `there`: those in the container now. In a container of an engine that counts eth0, eth1, … for itself, netd's are
    /// nd0, nd1, ….
    pub(super) fn new(there: Vec<String>, known: &[Endpoint]) -> Self {
        let is_ours = |name: &String| known.iter().any(|endpoint| endpoint.ifname == *name);
        let is_engines = there.iter().any(|name| name.starts_with("eth") && !is_ours(name));
        let taken = there.into_iter().chain(known.iter().map(|endpoint| endpoint.ifname.clone())).collect();
        let known = known.iter().map(|endpoint| (endpoint.network.clone(), endpoint.ifname.clone())).collect();
        Self { taken, prefix: if is_engines { "nd" } else { "eth" }, known }
    }

    fn take(&mut self, name: &str) {
        self.taken.push(name.to_owned());
    }

    /// The interface on this network: the one that is there, or the next that is free.
    pub(super) fn of(&mut self, network: &str) -> String {
        if let Some((_, ifname)) = self.known.iter().find(|(known, _)| known == network) {
            return ifname.clone();
        }
        let mut numbers = (0u32..).map(|number| format!("{}{number}", self.prefix));
        let name = numbers.find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.take(&name);
        name
    }
}
