//! Probes whether the host's own firewall lets containers reach the name service at their gateway. netd sends a
//! question from one container of each network, for the network's first container and again after each firewall change.
//! If the probe fails, the network's containers are served within their namespaces for as long as the network exists.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::engine::listener::Listening;
use crate::engine::state::State;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target;
use crate::model::endpoint::Netns;
use crate::model::names::NetworkName;
use crate::model::network::{DnsListen, Network};
use crate::store::Store;

/// How long the name service may take to confirm that it is serving.
const ALIVE: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Probes from the network's first container; later containers use the result.
    pub(crate) fn try_gateway(&mut self, network: &Network) {
        if !self.reached.contains(&network.name) {
            self.try_gateways(vec![network.name.clone()]);
        }
    }

    /// Handles a firewall change: a gateway that was reachable may be blocked now.
    pub(crate) fn firewall_changed(&mut self) {
        if self.look_at_foreign() {
            self.publish();
        }
        self.reached.clear();
        self.try_gateways(self.state.used.keys().cloned().collect());
    }

    /// Probes from one container of each network whose containers are not served within their namespaces yet.
    fn try_gateways(&mut self, mut names: Vec<NetworkName>) {
        let mut refused = Vec::new();
        // An unanswered probe is repeated once the name service has confirmed that it serves; it may not have started
        // yet.
        for last in [false, true] {
            let asked: BTreeMap<NetworkName, (Netns, IpAddr)> =
                names.iter().filter_map(|name| Some((name.clone(), self.client(name)?))).collect();
            let asks: Vec<(Netns, IpAddr)> = asked.values().cloned().collect();
            let answers = self.kernel.reaches(&asks);
            let outcomes = asked.into_iter().zip(answers).filter_map(|(asked, answer)| Some((asked, answer?)));
            let (reached, silent): (Vec<_>, Vec<_>) = outcomes.partition(|(_, answered)| *answered);
            self.reached.extend(reached.into_iter().map(|((name, _), _)| name));
            if silent.is_empty() || (!last && !self.is_name_service_there()) {
                return;
            }
            names = silent.iter().map(|((name, _), _)| name.clone()).collect();
            refused = silent.into_iter().map(|((name, (_, gateway)), _)| (name, gateway)).collect();
        }
        self.ask_within(&refused);
    }

    /// A container of the network, and the gateway that it would query.
    fn client(&self, name: &NetworkName) -> Option<(Netns, IpAddr)> {
        let network = self.state.desired.network(name)?;
        if network.dns.listen != DnsListen::Auto || target::asks_inside(network, &self.state.gateway_blocked) {
            return None;
        }
        self.state.desired.endpoints_of(name).find_map(|endpoint| {
            let gateways = endpoint.addresses.iter().filter_map(|address| network.gateway_for(address.ip()));
            Some((endpoint.container.netns.clone(), gateways.min_by_key(IpAddr::is_ipv6)?))
        })
    }

    fn is_name_service_there(&self) -> bool {
        let (sender, receiver) = channel();
        self.listening.send(Listening::Alive(sender)).is_ok() && receiver.recv_timeout(ALIVE).is_ok()
    }

    /// Serves the containers of these networks within their namespaces from now on.
    fn ask_within(&mut self, networks: &[(NetworkName, IpAddr)]) {
        let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
        blocked.extend(networks.iter().map(|(name, _)| name.clone()));
        self.compensate(&[State::blocked_record(&blocked)]);
        self.serve_all_inside();
        self.write_files();
        self.publish();
        for (name, gateway) in networks {
            self.repaired(&format!(
                "the host's firewall drops DNS queries from network {name} to {gateway}: netd serves DNS inside its \
                 containers, at 127.0.0.11 (see `nft list ruleset` and `iptables -S INPUT`)"
            ));
        }
    }

    /// A removed network that is created again is probed again.
    pub(crate) fn forget_gateway(&mut self, name: &NetworkName) {
        self.reached.remove(name);
        if self.state.gateway_blocked.contains(name) {
            let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
            blocked.remove(name);
            self.compensate(&[State::blocked_record(&blocked)]);
        }
    }
}
