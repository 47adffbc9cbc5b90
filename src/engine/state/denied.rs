//! What policies have denied: counted by the kernel for each sender and receiver, here by policy and by names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::desired::Desired;
use crate::model::host::observed::{DeniedFlow as Counted, DeniedKey};
use crate::model::policy::ruling::{Decision, Edge};

/// Most senders and receivers that are known by name.
const MOST: usize = 1024;

/// Packets of one sender to one receiver that policies have denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedFlow {
    /// The sender: a container, `host` or an address.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The protocol and the port, as `5432/tcp`; `ip protocol N` without ports.
    pub service: String,
    /// How many.
    pub packets: u64,
    /// The receiver's address, if it is nobody's of netd.
    pub address: Option<IpAddr>,
    /// The id of the policy that denies them; `None`: it is gone, or the sender's egress is denied.
    pub policy: Option<u64>,
}

/// The counts, for readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeniedPackets {
    /// By policy.
    pub policies: BTreeMap<u64, u64>,
    /// By sender, receiver and service.
    pub flows: BTreeMap<(String, String, String), u64>,
}

/// What the kernel does about policies. Its counts begin anew when its table is replaced, or when a flow has rested.
#[derive(Debug, Default)]
pub(crate) struct Policing {
    /// The state whose policies the kernel follows.
    pub(crate) followed: Desired,
    seen: BTreeMap<DeniedKey, u64>,
    shown: Arc<DeniedPackets>,
}

impl Policing {
    /// What has been denied.
    pub(crate) fn denied(&self) -> Arc<DeniedPackets> {
        self.shown.clone()
    }

    /// Adds what was counted since the last time, and returns it.
    pub(crate) fn count(&mut self, desired: &Desired, counted: Vec<Counted>) -> Vec<DeniedFlow> {
        let (mut seen, mut new) = (BTreeMap::new(), Vec::new());
        for Counted { key, packets } in counted {
            let before = self.seen.get(&key).copied().filter(|before| *before <= packets).unwrap_or_default();
            seen.insert(key.clone(), packets);
            if packets > before {
                new.push(described(desired, &key, packets - before));
            }
        }
        self.seen = seen;
        if !new.is_empty() {
            let shown = Arc::make_mut(&mut self.shown);
            new.iter().for_each(|flow| shown.add(flow));
            shown.policies.retain(|id, _| desired.policy(*id).is_some());
        }
        new
    }
}

impl DeniedPackets {
    fn add(&mut self, flow: &DeniedFlow) {
        if let Some(policy) = flow.policy {
            *self.policies.entry(policy).or_default() += flow.packets;
        }
        let key = (flow.from.clone(), flow.to.clone(), flow.service.clone());
        if self.flows.len() < MOST || self.flows.contains_key(&key) {
            *self.flows.entry(key).or_default() += flow.packets;
        }
    }
}

fn described(desired: &Desired, key: &DeniedKey, packets: u64) -> DeniedFlow {
    let name = |address: IpAddr| match desired.at_address(address) {
        Some(endpoint) => endpoint.container.name.to_string(),
        None if desired.at_gateway(address).is_some() => "host".to_owned(),
        None => address.to_string(),
    };
    let service = match (key.protocol(), key.port) {
        (Some(protocol), Some(port)) => format!("{port}/{protocol}"),
        _ => match key.number {
            1 | 58 => "icmp".to_owned(),
            number => format!("ip protocol {number}"),
        },
    };
    let policy = decided(desired, key).map(|decision| decision.by);
    let address = Some(key.to).filter(|to| desired.at_address(*to).is_none());
    DeniedFlow { from: name(key.from), to: name(key.to), service, packets, address, policy }
}

fn decided(desired: &Desired, key: &DeniedKey) -> Option<Decision> {
    let ruling = desired.ruling();
    let port = key.protocol().zip(key.port);
    let is_container = |address: IpAddr| desired.at_address(address).is_some();
    let decision = match (is_container(key.from), is_container(key.to)) {
        (true, true) => ruling.pair(key.from, key.to, port),
        (true, false) => {
            let host = ruling.sent(key.from, Edge::Host, port).filter(|decision| !decision.permit);
            host.or_else(|| ruling.sent(key.from, Edge::Outside, port))
        }
        (false, _) => {
            let host = ruling.received(Edge::Host, key.to, port).filter(|decision| !decision.permit);
            host.or_else(|| ruling.received(Edge::Outside, key.to, port))
        }
    };
    decision.filter(|decision| !decision.permit)
}
