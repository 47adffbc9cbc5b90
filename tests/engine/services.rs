//! Services in the random sequences: made, updated and removed, and their members drained. Members are the containers on
//! their networks that are listed, or that have a label.

use std::collections::BTreeMap;

use netd::model::names::ServiceName;
use netd::model::request::{MemberAction, MemberChange, ServiceSpec, ServiceUpdate};
use netd::model::service::{MemberState, Mode, Service};

use super::*;

pub(super) const NAMES: [&str; 2] = ["front", "back"];
/// What a service publishes: the port of a container, and a range of which each is published for itself.
const SERVICE_PORTS: usize = 2;

/// What is asked for of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// On the first network, the second, or both.
    pub(super) networks: Vec<usize>,
    pub(super) vip: bool,
    pub(super) port: Option<usize>,
    /// Whether the containers with the label are members, or those that are listed.
    by_label: bool,
    listed: Vec<usize>,
}

impl Asked {
    fn spec(&self, service: usize) -> ServiceSpec {
        let network = |network: &usize| (NETWORKS[*network].to_owned(), Vec::new());
        ServiceSpec {
            networks: self.networks.iter().map(network).collect(),
            select: if self.by_label { label(0) } else { BTreeMap::new() },
            members: self.listed.iter().map(|container| CONTAINERS[*container].to_owned()).collect(),
            mode: if self.vip { Mode::Vip } else { Mode::Dns },
            ports: self.port.iter().map(|port| PORTS[*port].parse().unwrap()).collect(),
            ..ServiceSpec::named(name(service))
        }
    }

    fn has(&self, container: usize, network: usize) -> bool {
        let is_meant = self.listed.contains(&container) || (self.by_label && container.is_multiple_of(2));
        is_meant && self.networks.contains(&network)
    }

    /// Whether it has a virtual address on that network.
    pub(super) fn has_address(&self, network: &str) -> bool {
        self.vip && self.is_on(network)
    }

    pub(super) fn is_on(&self, network: &str) -> bool {
        self.networks.iter().any(|on| NETWORKS[*on] == network)
    }
}

/// The label of every second container.
pub(super) fn label(container: usize) -> BTreeMap<String, String> {
    let labels = container.is_multiple_of(2).then(|| ("tier".to_owned(), "even".to_owned()));
    labels.into_iter().collect()
}

fn name(service: usize) -> ServiceName {
    NAMES[service].parse().unwrap()
}

/// A command about services.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create(usize, Asked),
    /// The last: for a version that the service does not have.
    Update(usize, Asked, bool),
    Remove(usize),
    /// Drains a container, or no longer.
    Say(usize, bool),
}

/// Any action.
pub(super) fn action() -> impl Strategy<Value = Action> {
    let service = 0..NAMES.len();
    let update = (service.clone(), asked(), proptest::bool::weighted(0.1));
    prop_oneof![
        3 => (service.clone(), asked()).prop_map(|(service, asked)| Action::Create(service, asked)),
        2 => update.prop_map(|(service, asked, late)| Action::Update(service, asked, late)),
        1 => service.prop_map(Action::Remove),
        3 => (0..CONTAINERS.len(), any::<bool>()).prop_map(|(container, drain)| Action::Say(container, drain)),
    ]
}

/// Anything that may be asked for.
fn asked() -> impl Strategy<Value = Asked> {
    let networks = prop_oneof![Just(vec![0]), Just(vec![1]), Just(vec![0, 1]), Just(vec![1, 0])];
    let listed = proptest::collection::btree_set(0..CONTAINERS.len(), 0..3);
    let port = proptest::option::weighted(0.4, 0..SERVICE_PORTS);
    (networks, any::<bool>(), port, any::<bool>(), listed).prop_map(|(networks, vip, port, by_label, listed)| Asked {
        networks,
        vip,
        port,
        by_label,
        listed: listed.into_iter().collect(),
    })
}

impl World {
    pub(super) fn act_on_service(&mut self, action: &Action, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        match action {
            Action::Create(service, asked) => self.create_service(*service, asked, fail_in),
            Action::Update(service, asked, late) => self.update_service(*service, asked, *late, fail_in),
            Action::Remove(service) => self.remove_service(*service, fail_in),
            Action::Say(container, drain) => self.say(*container, *drain, fail_in),
        }
    }

    fn create_service(&mut self, service: usize, asked: &Asked, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let may = !self.reference.services.contains_key(&service) && self.has_room(asked, None);
        let done = self.runtime.block_on(self.handle().create_service(asked.spec(service)));
        self.check(done.map(drop), may, fail_in)?;
        if self.last_done() {
            self.reference.services.insert(service, asked.clone());
        }
        Ok(())
    }

    /// `late`: for a version that the service no longer has.
    fn update_service(
        &mut self,
        service: usize,
        asked: &Asked,
        late: bool,
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let before = self.service(service);
        let version = before.as_ref().map(|before| if late { before.version + 1 } else { before.version });
        let may = !late && before.is_some() && self.has_room(asked, Some(service));
        let update = ServiceUpdate { service: NAMES[service].to_owned(), version, spec: asked.spec(service) };
        let done = self.runtime.block_on(self.handle().update_service(update));
        let after = self.service(service);
        if let (Some(before), Some(after)) = (&before, &after) {
            prop_assert_eq!(after.version, before.version + u64::from(done.is_ok()));
            prop_assert_eq!(&after.id, &before.id);
            for on in &after.networks {
                let kept = before.on(&on.network).map(|on| on.addresses.clone()).unwrap_or_default();
                prop_assert!(
                    kept.is_empty() || on.addresses.is_empty() || on.addresses == kept,
                    "it keeps its addresses"
                );
            }
        }
        self.check(done.map(drop), may, fail_in)?;
        if self.last_done() {
            self.reference.services.insert(service, asked.clone());
        }
        Ok(())
    }

    fn remove_service(&mut self, service: usize, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let done = self.runtime.block_on(self.handle().remove_service(NAMES[service])).map(drop);
        let may = self.reference.services.contains_key(&service);
        self.check(done, may, fail_in)?;
        // A removal whose kernel step failed is stored nevertheless.
        self.reference.services.remove(&service);
        Ok(())
    }

    fn say(&mut self, container: usize, drain: bool, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let action = if drain { MemberAction::Drain } else { MemberAction::Undrain };
        let change = MemberChange { member: CONTAINERS[container].to_owned(), action };
        let done = self.runtime.block_on(self.handle().change_member(change));
        let on = |network: usize| self.reference.endpoints.contains_key(&(container, network));
        let is_member = |asked: &Asked| (0..NETWORKS.len()).any(|network| on(network) && asked.has(container, network));
        let may = self.reference.services.values().any(is_member);
        self.check(done.map(drop), may, fail_in)?;
        if self.last_done() && drain {
            self.reference.drained.insert(container);
        } else if self.last_done() {
            self.reference.drained.remove(&container);
        }
        Ok(())
    }

    fn service(&self, service: usize) -> Option<Service> {
        self.handle().snapshot().desired.service(&name(service)).map(|service| service.as_ref().clone())
    }

    /// Whether there are networks, addresses and ports for it. `own`: the service that it is an update of.
    fn has_room(&self, asked: &Asked, own: Option<usize>) -> bool {
        let reference = &self.reference;
        let own = own.and_then(|own| reference.services.get(&own));
        let has_address = |network: &str| own.is_some_and(|own| own.has_address(network));
        let fits = |network: &usize| {
            let network = NETWORKS[*network];
            let free = !asked.vip || has_address(network) || reference.used(network).1 < 5;
            reference.networks.contains(network) && free
        };
        let others = Reference { services: BTreeMap::new(), ..reference.clone() };
        let mut services = reference.services.values().filter(|other| own.is_none_or(|own| !std::ptr::eq(*other, own)));
        let collides = |port: usize| others.ports_collide(port, None) || services.any(|other| other.port.is_some());
        asked.networks.iter().all(fits) && !asked.port.is_some_and(collides)
    }

    /// Services, members and virtual addresses are those of the reference, in the snapshot and in the store.
    pub(super) fn services_are_right(&self) -> Result<(), TestCaseError> {
        let snapshot = self.handle().snapshot();
        let desired = &snapshot.desired;
        let seen: Vec<&str> = desired.services().map(|service| service.name.as_str()).collect();
        let mut meant: Vec<&str> = self.reference.services.keys().map(|service| NAMES[*service]).collect();
        meant.sort_unstable();
        prop_assert_eq!(seen, meant, "services");
        let stored: BTreeSet<_> =
            self.store.stored().services.into_iter().map(|service| format!("{service:?}")).collect();
        let shown: BTreeSet<_> = desired.services().map(|service| format!("{service:?}")).collect();
        prop_assert_eq!(stored, shown, "stored services");
        let conditions = [desired.conditions().count(), self.store.stored().conditions.len()];
        prop_assert_eq!(conditions, [self.reference.drained.len(); 2], "what is known of containers");
        let mut addresses = BTreeSet::new();
        for (service, asked) in &self.reference.services {
            let there = desired.service(&name(*service)).unwrap();
            for on in &there.networks {
                prop_assert_eq!(on.addresses.len(), usize::from(asked.vip), "{} on {}", &there.name, &on.network);
                for address in &on.addresses {
                    prop_assert!(addresses.insert(*address), "{address} is given to two services");
                    let taken = desired.at_address(*address).is_some() || desired.reserved_at(*address).is_some();
                    prop_assert!(
                        !taken && desired.at_gateway(*address).is_none(),
                        "{address} is not {}'s alone",
                        there.name
                    );
                }
            }
            let members = desired.members(there).map(|member| {
                let endpoint = member.endpoint;
                (endpoint.container.name.to_string(), endpoint.network.to_string(), member.standing.state)
            });
            let meant = self.reference.endpoints.keys().filter(|(container, network)| asked.has(*container, *network));
            let meant = meant.map(|(container, network)| {
                let drained = self.reference.drained.contains(container);
                let state = if drained { MemberState::Draining } else { MemberState::Ready };
                (CONTAINERS[*container].to_owned(), NETWORKS[*network].to_owned(), state)
            });
            prop_assert_eq!(
                members.collect::<BTreeSet<_>>(),
                meant.collect::<BTreeSet<_>>(),
                "the members of {}",
                &there.name
            );
        }
        Ok(())
    }
}
