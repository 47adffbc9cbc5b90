//! Probes whether the host's own firewall lets containers reach the name service at their gateway. netd sends a
//! question from one container of each network, for the network's first container, at a start, and after each firewall
//! change.
//! If it gets no answer, the network's containers are served within their namespaces for as long as the network exists.
//! A question that could not be sent is a problem, and is sent with the next repair or tick.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::engine::listener::Listening;
use crate::engine::state::State;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::{Kernel, KernelError};
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
        self.probe_all();
    }

    /// Probes from every network. Also at a start: the daemon before may have been killed before it did, and the firewall
    /// may have changed since.
    pub(crate) fn probe_all(&mut self) {
        self.try_gateways(self.state.used.keys().cloned().collect());
    }

    /// Probes from one container of each network whose containers are not served within their namespaces yet.
    fn try_gateways(&mut self, names: Vec<NetworkName>) {
        let problems = self.problems.clone();
        let refused = self.refused(names);
        if !refused.is_empty() {
            self.ask_within(&refused);
        } else if self.problems != problems {
            self.publish();
        }
    }

    /// Probes from one container of each of these networks. Returns those whose questions are dropped, each with its
    /// gateway.
    fn refused(&mut self, mut names: Vec<NetworkName>) -> Vec<(NetworkName, IpAddr)> {
        let mut refused = Vec::new();
        // An unanswered probe is repeated once the name service has confirmed that it serves; it may not have started
        // yet.
        for last in [false, true] {
            let asked: BTreeMap<NetworkName, (Netns, IpAddr)> =
                names.iter().filter_map(|name| Some((name.clone(), self.client(name)?))).collect();
            if asked.is_empty() {
                return Vec::new();
            }
            let asks: Vec<(Netns, IpAddr)> = asked.values().cloned().collect();
            let answers = self.kernel.reaches(&asks);
            let outcomes: Vec<_> = asked
                .into_iter()
                .zip(answers)
                .filter_map(|(asked, answer)| self.probed(&asked.0, answer).map(|answered| (asked, answered)))
                .collect();
            let (reached, silent): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(_, answered)| *answered);
            self.reached.extend(reached.into_iter().map(|((name, _), _)| name));
            names = silent.iter().map(|((name, _), _)| name.clone()).collect();
            if names.is_empty() {
                return Vec::new();
            }
            if !last && !self.is_name_service_there() {
                names.iter().for_each(|name| self.not_known(name, "the name service does not confirm that it serves"));
                return Vec::new();
            }
            refused = silent.into_iter().map(|((name, (_, gateway)), _)| (name, gateway)).collect();
        }
        refused
    }

    /// Whether the question from the network was answered; `None` if it was not sent.
    fn probed(&mut self, network: &NetworkName, answer: Result<bool, KernelError>) -> Option<bool> {
        let subject = Subject::GatewayProbe(network.clone());
        match answer {
            Ok(answered) => {
                self.problems.clear(&subject);
                Some(answered)
            }
            // The container is about to be released.
            Err(KernelError::NoNetns { .. }) => None,
            Err(error) => {
                self.not_known(network, &error.to_string());
                None
            }
        }
    }

    fn not_known(&mut self, network: &NetworkName, why: &str) {
        let message = format!("cannot check whether containers of network {network} reach their gateway: {why}");
        self.problem(Subject::GatewayProbe(network.clone()), message);
    }

    /// Sends the questions that could not be sent before.
    pub(crate) fn probe_again(&mut self) {
        self.end_probe_problems();
        let unknown = |name: &&NetworkName| self.problems.has(&Subject::GatewayProbe((*name).clone()));
        let names: Vec<NetworkName> = self.state.used.keys().filter(unknown).cloned().collect();
        if !names.is_empty() {
            self.try_gateways(names);
        }
    }

    /// Ends the problems of networks that no container can ask from any more.
    pub(crate) fn end_probe_problems(&mut self) {
        if !self.problems.any(|subject| matches!(subject, Subject::GatewayProbe(_))) {
            return;
        }
        let asked: BTreeSet<NetworkName> =
            self.state.used.keys().filter(|name| self.client(name).is_some()).cloned().collect();
        self.problems.retain(|subject| !matches!(subject, Subject::GatewayProbe(name) if !asked.contains(name)));
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
            self.repaired("container", &format!(
                "the host's firewall drops DNS queries from network {name} to {gateway}: netd serves DNS inside its \
                 containers, at 127.0.0.11 (see `nft list ruleset` and `iptables -S INPUT`)"
            ));
        }
    }

    /// A removed network that is created again is probed again.
    pub(crate) fn forget_gateway(&mut self, name: &NetworkName) {
        self.reached.remove(name);
        self.problems.clear(&Subject::GatewayProbe(name.clone()));
        if self.state.gateway_blocked.contains(name) {
            let mut blocked = target::Blocked::clone(&self.state.gateway_blocked);
            blocked.remove(name);
            self.compensate(&[State::blocked_record(&blocked)]);
        }
    }
}
