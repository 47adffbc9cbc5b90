//! The policies, whom they are about, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::{Desired, Version};
use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::policy::ruling::{Decisions, Edge, Ruling};
use crate::model::policy::{Action, Policy, Subject};

/// Whom a subject stands for.
#[derive(Debug, Default)]
struct Party<'a> {
    endpoints: Vec<&'a Arc<Endpoint>>,
    edges: &'static [Edge],
}

impl Desired {
    /// Every policy, by id.
    pub fn policies(&self) -> impl ExactSizeIterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// The policy with that id.
    pub fn policy(&self, id: u64) -> Option<&Arc<Policy>> {
        self.policies.get(&id)
    }

    /// Adds the policy, or replaces the one with the same id.
    pub fn insert_policy(&mut self, policy: Policy) {
        self.version = Version::default();
        self.policies.insert_mut(policy.id, Arc::new(policy));
    }

    /// Removes the policy.
    pub fn remove_policy(&mut self, id: u64) {
        self.version = Version::default();
        self.policies.remove_mut(&id);
    }

    /// What follows from all policies. It is found once for each state, and costs nothing without policies.
    pub fn ruling(&self) -> &Ruling {
        self.version.ruling(|| self.rule())
    }

    /// The endpoints that a subject stands for, in no particular order. Only on bridges, where netd sees all traffic.
    pub fn endpoints_meant<'a>(&'a self, subject: &Subject) -> Vec<&'a Arc<Endpoint>> {
        self.party(subject).endpoints
    }

    fn party(&self, subject: &Subject) -> Party<'_> {
        let mut party = Party::default();
        match subject {
            Subject::Any => (party.endpoints, party.edges) = (self.endpoints().collect(), &Edge::ALL),
            Subject::Host => party.edges = &[Edge::Host],
            Subject::Outside => party.edges = &[Edge::Outside],
            Subject::Network(name) => {
                let network = self.network(name).into_iter();
                party.endpoints = network.flat_map(|network| self.endpoints_of(&network.name)).collect();
            }
            Subject::Label(key, value) => {
                let fits = |found: &String| value.as_ref().is_none_or(|value| value == found);
                let has = |endpoint: &&Arc<Endpoint>| self.labels(endpoint).get(key).is_some_and(fits);
                party.endpoints = self.endpoints().filter(has).collect();
            }
            Subject::Service(name) => {
                for network in self.networks() {
                    let services = self.services_named(&network.name, name);
                    let members = services.flat_map(|service| self.members(service)).map(|member| member.endpoint);
                    party.endpoints.extend(members);
                }
            }
            Subject::Name(name) => party.endpoints = self.called(name),
        }
        let is_on_bridge = |endpoint: &&Arc<Endpoint>| {
            self.network(&endpoint.network).is_some_and(|network| network.bridge().is_some())
        };
        party.endpoints.retain(is_on_bridge);
        party
    }

    /// By a DNS name (lower case), on every network or, with `.NETWORK` behind it, on one.
    fn called(&self, name: &str) -> Vec<&Arc<Endpoint>> {
        let mut found = Vec::new();
        let (bare, of) = name.rsplit_once('.').unwrap_or((name, ""));
        for network in self.networks() {
            let is_of = !of.is_empty() && network.name.as_str().eq_ignore_ascii_case(of);
            for name in [Some(name), is_of.then_some(bare)].into_iter().flatten() {
                found.extend(self.named(&network.name, name));
                let services = self.services_named(&network.name, name);
                found.extend(services.flat_map(|service| self.members(service)).map(|member| member.endpoint));
            }
        }
        found
    }

    fn rule(&self) -> Ruling {
        let mut ruling = Ruling::default();
        let mut parties: BTreeMap<&Subject, Party<'_>> = BTreeMap::new();
        for policy in self.policies() {
            for subject in [&policy.rule.from, &policy.rule.to] {
                parties.entry(subject).or_insert_with(|| self.party(subject));
            }
        }
        for policy in self.policies() {
            if let (Action::DefaultDeny, Subject::Network(network)) = (policy.rule.action, &policy.rule.to) {
                ruling.policed.insert(network.clone());
                ruling.shut.entry(network.clone()).or_insert(policy.id);
                continue;
            }
            let (Some(from), Some(to)) = (parties.get(&policy.rule.from), parties.get(&policy.rule.to)) else {
                continue;
            };
            add(&mut ruling, policy, from, to);
        }
        self.shut(&mut ruling);
        ruling.settle();
        ruling
    }

    /// What follows from the networks that are denied by default: a container reaches itself all the same.
    fn shut(&self, ruling: &mut Ruling) {
        for (network, by) in ruling.shut.clone() {
            for endpoint in self.endpoints_of(&network) {
                for address in endpoint.addresses.iter().map(IpNetwork::ip) {
                    ruling.shut_addresses.insert(address, by);
                    ruling.pairs.entry((address, address)).or_default().add(Action::Allow, None, by);
                }
            }
        }
    }
}

fn add(ruling: &mut Ruling, policy: &Policy, from: &Party<'_>, to: &Party<'_>) {
    let say = |decisions: &mut Decisions| decisions.add(policy.rule.action, policy.rule.ports, policy.id);
    let concerned = from.endpoints.iter().chain(&to.endpoints).map(|endpoint| endpoint.network.clone());
    // Each name would be cloned for each endpoint otherwise.
    ruling.policed.extend(concerned.collect::<BTreeSet<_>>());
    for sender in addresses(from) {
        for receiver in addresses(to).filter(|receiver| *receiver != sender) {
            if Family::of(sender) == Family::of(receiver) {
                say(ruling.pairs.entry((sender, receiver)).or_default());
            }
        }
        to.edges.iter().for_each(|edge| say(ruling.sent.entry((*edge, sender)).or_default()));
    }
    for receiver in addresses(to) {
        from.edges.iter().for_each(|edge| say(ruling.received.entry((*edge, receiver)).or_default()));
    }
}

fn addresses<'a>(party: &'a Party<'_>) -> impl Iterator<Item = IpAddr> + 'a {
    party.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().map(IpNetwork::ip))
}
