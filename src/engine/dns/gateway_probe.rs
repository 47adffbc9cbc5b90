//! Whether the host's own firewall lets containers ask for names at their gateway: a question is sent from within one of
//! a network's containers, for the first of them and again whenever somebody changed the firewall. Where it does not,
//! the network's containers ask within, from then on and as long as the network is there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::engine::listener::Listening;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target;
use crate::model::endpoint::Netns;
use crate::model::names::NetworkName;
use crate::model::network::{DnsListen, Network};
use crate::store::Store;

/// How long the name service may take to say that it is there.
const ALIVE: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Asks from within the network's first container; later ones find the outcome.
    pub(crate) fn try_gateway(&mut self, network: &Network) {
        if !self.reached.contains(&network.name) {
            self.try_gateways(vec![network.name.clone()]);
        }
    }

    /// Somebody changed the firewall: what got through may not any more.
    pub(crate) fn firewall_changed(&mut self) {
        if self.look_at_foreign() {
            self.publish();
        }
        self.reached.clear();
        self.try_gateways(self.state.used.keys().cloned().collect());
    }

    /// Asks from within one container of each network that does not ask within already.
    fn try_gateways(&mut self, mut names: Vec<NetworkName>) {
        let mut refused = Vec::new();
        // What is not answered is asked again, once the name service is known to be there: it may not be serving yet.
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

    /// A container of the network, and the gateway that it would ask.
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
        let (tell, told) = channel();
        self.listening.send(Listening::Alive(tell)).is_ok() && told.recv_timeout(ALIVE).is_ok()
    }

    /// From now on the containers of these networks ask within.
    fn ask_within(&mut self, networks: &[(NetworkName, IpAddr)]) {
        let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
        blocked.extend(networks.iter().map(|(name, _)| name.clone()));
        let record = self.state.set_blocked(blocked);
        if let Err(error) = self.store.commit(&[record]) {
            // Found out again after a restart.
            tracing::warn!(%error, "it is not kept which networks ask for names within their containers");
        }
        self.serve_all_inside();
        self.write_files();
        self.publish();
        for (name, gateway) in networks {
            self.repaired(&format!(
                "the host's firewall drops questions for names from network {name} to {gateway}: its containers are \
                 answered within, at 127.0.0.11 (see `nft list ruleset` and `iptables -S INPUT`)"
            ));
        }
    }

    /// A network that is gone, or comes again, starts anew.
    pub(crate) fn forget_gateway(&mut self, name: &NetworkName) {
        self.reached.remove(name);
        if self.state.gateway_blocked.contains(name) {
            let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
            blocked.remove(name);
            let record = self.state.set_blocked(blocked);
            self.compensate(&[record]);
        }
    }
}
