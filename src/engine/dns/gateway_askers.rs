//! Who asks a network's gateway for a name: netd itself, from a namespace that stands for a container on the network's
//! bridge; where that is impossible, containers of the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::engine::state::problems::Subject;
use crate::engine::state::ways::MOST_VOTES;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
use crate::logic::alloc::interfaces;
use crate::logic::alloc::spare::spare;
use crate::model::address::Family;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::probe::{Asker, OnBridge, Probe, StandIn};
use crate::model::names::{IfName, NetworkName};
use crate::model::network::{BRIDGE_PORTS, DnsListen, Network};
use crate::store::Store;

/// How long the first answers may take. They come from this machine, within some tenths of a millisecond.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long they may take where none came before. The engine waits meanwhile, every ten seconds.
const LITTLE_PATIENCE: Duration = Duration::from_millis(50);

/// Who asks for a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// netd itself.
    StandIn,
    /// The container of this endpoint.
    Container(EndpointKey),
}

/// A question from a network.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) network: NetworkName,
    pub(super) who: Who,
    pub(super) probe: Probe,
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// The questions that find out about these networks; the error for a network is a problem.
    pub(super) fn questions(&mut self, names: &[NetworkName]) -> Vec<Question> {
        let mut host_ends = BTreeSet::new();
        let mut questions = Vec::new();
        for name in names {
            let Some(network) = self.state.desired.network(name).cloned().filter(|network| self.may_ask(network))
            else {
                continue;
            };
            match self.stand_in(&network, &mut host_ends) {
                Ok(Some(question)) => questions.push(question),
                Ok(None) => {
                    let of_containers = self.of_containers(&network);
                    if of_containers.is_empty() {
                        // Each has asked already.
                        self.problems.clear(&Subject::GatewayProbe(name.clone()));
                    }
                    questions.extend(of_containers);
                }
                Err(error) => self.not_known(name, &error.to_string()),
            }
        }
        questions
    }

    /// Whether the network has a container that would ask at the gateway.
    pub(super) fn may_ask(&self, network: &Network) -> bool {
        let asks = |endpoint: &Arc<Endpoint>| first_gateway(network, endpoint).is_some();
        network.dns.listen == DnsListen::Auto
            && network.has_gateways()
            && self.state.desired.endpoints_of(&network.name).any(asks)
    }

    fn patience(&self, network: &NetworkName) -> Duration {
        if self.state.gateway_blocked.contains(network) { LITTLE_PATIENCE } else { PATIENCE }
    }

    /// netd's own question; `None` if the network has no bridge, its gateways are elsewhere, or no address or port of the
    /// bridge is free.
    fn stand_in(
        &mut self,
        network: &Network,
        host_ends: &mut BTreeSet<IfName>,
    ) -> Result<Option<Question>, KernelError> {
        let Some(bridge) = network.bridge() else { return Ok(None) };
        if self.state.used.get(&network.name).is_some_and(|used| *used >= BRIDGE_PORTS) {
            return Ok(None);
        }
        let there = self.kernel.on_bridge(bridge)?;
        let Some((addresses, gateways)) = self.spare_addresses(network, &there) else { return Ok(None) };
        let Some(host_ifname) = interfaces::stand_in(network.name.as_str(), |name| host_ends.contains(name)) else {
            return Ok(None);
        };
        host_ends.insert(host_ifname.clone());
        let asker = Asker::StandIn(StandIn { bridge: bridge.clone(), host_ifname, addresses });
        let probe = Probe { asker, gateways, patience: self.patience(&network.name) };
        Ok(Some(Question { network: network.name.clone(), who: Who::StandIn, probe }))
    }

    /// An address that nobody has in the subnet of each gateway that is on the bridge, with these gateways; `None` if there
    /// is none for an address family in which the bridge has a gateway. Nothing is stored: the caller uses them before it
    /// carries out another command.
    fn spare_addresses(&self, network: &Network, there: &OnBridge) -> Option<(Vec<IpNetwork>, Vec<IpAddr>)> {
        let seen: BTreeSet<IpAddr> = there.own.iter().chain(&there.neighbours).copied().collect();
        let kept: BTreeSet<IpAddr> = self.state.sticky.of_network(&network.name).collect();
        let is_taken = |ip: IpAddr| {
            let desired = &self.state.desired;
            desired.at_address(ip).is_some()
                || desired.at_gateway(ip).is_some()
                || desired.reserved_at(ip).is_some()
                || kept.contains(&ip)
                || seen.contains(&ip)
        };
        let rests = |ip: IpAddr| self.state.ipam.released(&network.name, ip).is_some();
        let mut families: BTreeMap<Family, bool> = BTreeMap::new();
        let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
        for subnet in &network.subnets {
            let Some(gateway) = subnet.gateway.filter(|gateway| there.own.contains(gateway)) else { continue };
            let found = spare(subnet.subnet, is_taken, rests);
            *families.entry(subnet.subnet.family()).or_default() |= found.is_some();
            if let Some(address) = found {
                addresses.push(subnet.subnet.interface(address));
                gateways.push(gateway);
            }
        }
        // A container asks over IPv4 if it can.
        gateways.sort_by_key(IpAddr::is_ipv6);
        (!addresses.is_empty() && families.values().all(|found| *found)).then_some((addresses, gateways))
    }

    /// The questions of some containers that have not asked yet, each at the gateway that it would ask.
    fn of_containers(&self, network: &Network) -> Vec<Question> {
        let is_new = |endpoint: &&Arc<Endpoint>| !self.ways.has_asked(&network.name, &endpoint.container.id);
        let question = |endpoint: &Arc<Endpoint>| {
            let asker = Asker::Container(endpoint.container.netns.clone());
            let gateways = vec![first_gateway(network, endpoint)?];
            let probe = Probe { asker, gateways, patience: self.patience(&network.name) };
            Some(Question { network: network.name.clone(), who: Who::Container(endpoint.key()), probe })
        };
        let endpoints = self.state.desired.endpoints_of(&network.name).filter(is_new);
        endpoints.filter_map(question).take(MOST_VOTES).collect()
    }
}

/// The gateway that the endpoint's container would ask.
fn first_gateway(network: &Network, endpoint: &Endpoint) -> Option<IpAddr> {
    let gateways = endpoint.addresses.iter().filter_map(|address| network.name_server_for(address.ip()));
    gateways.min_by_key(IpAddr::is_ipv6)
}
