//! What follows from asking gateways: containers are told to ask within themselves, or at the gateway again.
//!
//! A container that was told to ask within itself is answered there as long as it is on the network, because its programs
//! read their resolv.conf once. It was told so if netd writes its resolv.conf, or if it was connected while its network
//! was blocked.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::event::Change;
use crate::engine::state::State;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::target::Blocked;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::names::NetworkName;
use crate::store::{Record, Store};

/// What was found about networks and containers, as far as it is new.
#[derive(Debug, Default)]
pub(super) struct Found {
    blocked: Vec<(NetworkName, IpAddr, DroppedBy)>,
    opened: Vec<(NetworkName, Vec<IpAddr>)>,
    /// Containers that get no answer on a network that others may ask at the gateway.
    alone: Vec<(EndpointKey, IpAddr)>,
}

/// Who drops the questions of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DroppedBy {
    /// The host's firewall: netd's own question was dropped.
    Host,
    /// Containers were not answered, and their own firewalls decide too.
    Unknown,
}

impl Found {
    /// netd's own question was not answered.
    pub(super) fn blocked_by_firewall(&mut self, known: &Blocked, network: NetworkName, gateway: IpAddr) {
        if !known.contains(&network) {
            self.blocked.push((network, gateway, DroppedBy::Host));
        }
    }

    /// Containers were not answered.
    pub(super) fn blocked_for_all(&mut self, known: &Blocked, network: NetworkName, gateway: IpAddr) {
        if !known.contains(&network) {
            self.blocked.push((network, gateway, DroppedBy::Unknown));
        }
    }

    /// Questions from the network are answered, by these gateways.
    pub(super) fn opened(&mut self, known: &Blocked, network: NetworkName, gateways: Vec<IpAddr>) {
        if known.contains(&network) {
            self.opened.push((network, gateways));
        }
    }

    /// These containers were not answered, each by that gateway.
    pub(super) fn blocked_alone(&mut self, silent: Vec<(EndpointKey, IpAddr)>) {
        self.alone.extend(silent);
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.blocked.is_empty() && self.opened.is_empty() && self.alone.is_empty()
    }

    fn is_blocked(&self, network: &NetworkName) -> bool {
        self.blocked.iter().any(|(blocked, ..)| blocked == network)
    }

    fn is_opened(&self, network: &NetworkName) -> bool {
        self.opened.iter().any(|(opened, _)| opened == network)
    }
}

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Stores what was found, and serves containers accordingly. `connecting`: the endpoint that is being connected, whose
    /// container is not told anything before this returns.
    pub(super) fn follow(&mut self, found: &Found, connecting: Option<&EndpointKey>) {
        let mut blocked = Blocked::clone(&self.state.gateway_blocked);
        blocked.extend(found.blocked.iter().map(|(name, ..)| name.clone()));
        blocked.retain(|name| !found.is_opened(name));
        let mut records = self.told_records(found, connecting);
        if blocked != *self.state.gateway_blocked {
            records.push(State::blocked_record(&blocked));
        }
        self.compensate(&records);
        self.serve_all_inside();
        self.write_files();
        self.publish();
        self.tell_found(found);
    }

    /// The records of the endpoints whose containers are told something else from now on.
    fn told_records(&self, found: &Found, connecting: Option<&EndpointKey>) -> Vec<Record> {
        let told = |endpoint: &Arc<Endpoint>| {
            let key = endpoint.key();
            let (network, is_connecting) = (&key.network, connecting == Some(&key));
            let is_alone = found.alone.iter().any(|(alone, _)| *alone == key);
            let is_told_now = || is_connecting || endpoint.container.netns.name().is_some();
            let is_told = if is_alone || (found.is_blocked(network) && is_told_now()) {
                true
            } else {
                endpoint.told_inside && !(found.is_opened(network) && is_connecting)
            };
            // What a network's record said about its containers ends with that record.
            let is_stored = is_told == endpoint.told_inside && !(is_told && found.is_opened(network));
            let changed = || Endpoint { told_inside: is_told, ..Endpoint::clone(endpoint) };
            (!is_stored).then(|| Record::PutEndpoint(Box::new(changed())))
        };
        self.state.desired.endpoints().filter_map(told).collect()
    }

    fn tell_found(&self, found: &Found) {
        for (name, gateway, by) in &found.blocked {
            let within = "netd serves DNS inside its containers, at 127.0.0.11";
            let message = match by {
                DroppedBy::Host => format!(
                    "the host's firewall drops DNS queries from network {name} to {gateway}: {within} (see `nft list \
                     ruleset` and `iptables -S INPUT`)"
                ),
                DroppedBy::Unknown => format!(
                    "containers of network {name} get no answer to DNS queries from {gateway}: {within} (see `nft list \
                     ruleset` on the host and in a container)"
                ),
            };
            self.repaired("container", &message);
        }
        for (key, gateway) in &found.alone {
            let Some(endpoint) = self.state.desired.endpoint(key) else { continue };
            self.repaired("container", &format!(
                "container {} gets no answer to DNS queries from {gateway} on network {}: netd serves DNS inside this \
                 container, at 127.0.0.11 (see `nft list ruleset` in it and on the host)",
                endpoint.container.name, key.network
            ));
        }
        for (name, gateways) in &found.opened {
            let gateways: Vec<String> = gateways.iter().map(IpAddr::to_string).collect();
            let at = if gateways.is_empty() { "their gateway".to_owned() } else { gateways.join(" and ") };
            let message = format!(
                "DNS queries from network {name} to {at} are answered again: new containers ask there; those that were \
                 told 127.0.0.11 go on asking inside"
            );
            tracing::info!("{message}");
            self.tell(Change::HostChanged(message));
        }
    }
}
