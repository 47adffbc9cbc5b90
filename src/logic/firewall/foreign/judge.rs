//! Finds traffic that netd's networks need but other programs' base chains would drop.

use std::net::IpAddr;

use super::walk::{Fate, Packet, fate, only};
use crate::model::address::{Family, Subnet};
use crate::model::host::foreign_firewall::{Bridge, Chain, Foreign, Hook, Rule, Table, Traffic, What, state};
use crate::model::names::{IfName, NetworkName};

/// Docker's chain for rules of users.
pub(super) const DOCKER_USER: &str = "DOCKER-USER";

/// One kind of traffic of one bridge that a base chain drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dropped {
    pub traffic: Traffic,
    pub network: NetworkName,
    /// What drops it, for messages.
    pub reason: String,
    /// The rule of the base chain before which an accept must be placed, not counting netd's own.
    pub place: usize,
    /// Whether the rule targets exactly this traffic, and therefore expresses the user's intent.
    pub meant: bool,
}

/// The needed traffic that the base chain drops. With `ours`: after netd's own rules.
pub(super) fn dropped(foreign: &Foreign, bridges: &[Bridge], table: &Table, chain: &Chain, ours: bool) -> Vec<Dropped> {
    let mut found: Vec<Dropped> = Vec::new();
    for family in [Family::V4, Family::V6].into_iter().filter(|family| table.id.family.sees(*family)) {
        for bridge in bridges.iter().filter(|bridge| bridge.has(family)) {
            let subnets: Vec<Subnet> = bridge.subnets.iter().copied().filter(|s| s.family() == family).collect();
            let needs = match chain.base.map(|base| base.hook) {
                Some(Hook::Forward) => forwarded(foreign, bridge, family, &subnets),
                Some(Hook::Input) => asked(bridge, family, &subnets),
                None => Vec::new(),
            };
            for need in &needs {
                let (Fate::Drops(within, rule), place) = fate(table, chain, &need.packet(family), ours) else {
                    continue;
                };
                let top = chain.rules.iter().filter(|rule| ours || rule.mark.is_none()).nth(place);
                let dropped = Dropped {
                    traffic: need.traffic,
                    network: bridge.network.clone(),
                    reason: reason(chain, within, rule),
                    place,
                    meant: within.name == DOCKER_USER || rule.into_iter().chain(top).any(|rule| need.is_meant_by(rule)),
                };
                if !found.contains(&dropped) {
                    found.push(dropped);
                }
            }
        }
    }
    found
}

pub(super) fn reason(base: &Chain, within: &Chain, rule: Option<&Rule>) -> String {
    match rule {
        None => "policy drop".to_owned(),
        Some(rule) if rule.handle.is_none() || within.name == base.name => rule.text.clone(),
        Some(rule) => format!("{} in chain {}", rule.text, within.name),
    }
}

/// A packet that must pass.
struct Need<'a> {
    traffic: Traffic,
    bridge: &'a str,
    came_by: &'a str,
    leaves_by: Option<&'a str>,
    from: Vec<Subnet>,
    to: Vec<Subnet>,
    state: u8,
    protocol: Option<&'static str>,
    port: Option<u16>,
}

impl Need<'_> {
    fn packet(&self, family: Family) -> Packet<'_> {
        Packet {
            family,
            came_by: self.came_by,
            leaves_by: self.leaves_by,
            from: &self.from,
            to: &self.to,
            state: self.state,
            protocol: self.protocol,
            port: self.port,
        }
    }

    /// Whether the rule names netd's bridge, its addresses, or the outgoing interface of the packet.
    fn is_meant_by(&self, rule: &Rule) -> bool {
        let out = self.leaves_by.unwrap_or_default();
        rule.conditions.iter().filter(|condition| !condition.negated).any(|condition| match &condition.what {
            What::In(names) => names.iter().any(|name| name == self.bridge),
            What::Out(names) => names.iter().any(|name| name == self.bridge || name == out),
            What::From(subnets) | What::To(subnets) => subnets.iter().any(|subnet| subnet.prefix() > 0),
            _ => false,
        })
    }
}

fn forwarded<'a>(foreign: &'a Foreign, bridge: &'a Bridge, family: Family, subnets: &[Subnet]) -> Vec<Need<'a>> {
    let name = bridge.name.as_str();
    let need = |traffic, came_by, leaves_by, state| Need {
        traffic,
        bridge: name,
        came_by,
        leaves_by: Some(leaves_by),
        from: if came_by == name { subnets.to_vec() } else { Vec::new() },
        to: if leaves_by == name { subnets.to_vec() } else { Vec::new() },
        state,
        protocol: None,
        port: None,
    };
    let mut needs = Vec::new();
    if !bridge.internal {
        for way in foreign.ways.iter().map(IfName::as_str) {
            needs.push(need(Traffic::Outbound, name, way, state::NEW));
            needs.push(need(Traffic::Outbound, way, name, state::ESTABLISHED | state::SNAT));
            needs.push(need(Traffic::Published, way, name, state::NEW | state::DNAT));
            needs.push(need(Traffic::Published, name, way, state::ESTABLISHED | state::DNAT));
        }
        // Through the host's own address, whether or not frames within a bridge pass the hook.
        needs.push(need(Traffic::Published, name, name, state::NEW | state::DNAT));
    }
    if foreign.bridged.has(family) && bridge.icc {
        needs.push(need(Traffic::Within, name, name, state::NEW));
        needs.push(need(Traffic::Within, name, name, state::ESTABLISHED));
    }
    needs
}

fn asked<'a>(bridge: &'a Bridge, family: Family, subnets: &[Subnet]) -> Vec<Need<'a>> {
    let servers = bridge.name_servers.iter().filter(|(gateway, _)| Family::of(*gateway) == family);
    let both = |(gateway, port): &(IpAddr, u16)| {
        ["udp", "tcp"].map(|protocol| Need {
            traffic: Traffic::Names,
            bridge: bridge.name.as_str(),
            came_by: bridge.name.as_str(),
            leaves_by: None,
            from: subnets.to_vec(),
            to: only(*gateway).into_iter().collect(),
            state: state::UNTRACKED,
            protocol: Some(protocol),
            port: Some(*port),
        })
    };
    servers.flat_map(both).collect()
}
