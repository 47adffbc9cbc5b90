//! Decides about services: what a request becomes, and whether it is possible.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::address::{self, Requested};
use super::endpoint::{Choice, publish};
use crate::engine::state::State;
use crate::logic::refusal::{Refusal, ServiceRefusal};
use crate::model::Invalid;
use crate::model::backup::ServiceDefinition;
use crate::model::desired::{Attached, Lookup};
use crate::model::host::observed::HostFacts;
use crate::model::ids::ServiceId;
use crate::model::names::{Alias, ServiceName};
use crate::model::network::{Driver, Network};
use crate::model::publication::{PortRange, PortSpec, Publication, PublishMode};
use crate::model::request::{AddressSpec, MemberAction, ServiceSpec, ServiceUpdate};
use crate::model::service::{Condition, Mode, Origin, Said, Service, ServiceNetwork};

/// How many ports a service may publish: each has elements for all members.
const PORTS_MAX: usize = 64;

/// The service that a request becomes. `now`: seconds since the Unix epoch.
pub(crate) fn create(
    state: &mut State,
    spec: &ServiceSpec,
    id: ServiceId,
    now: u64,
    choice: (&Choice, &HostFacts),
) -> Result<Service, Refusal> {
    if let Some(there) = state.desired.service_called(spec.name.as_str()).filter(|there| there.is_defined()) {
        return Err(ServiceRefusal::Exists(there.name.clone()).into());
    }
    let service = bare(spec, (id, spec.name.clone()), now);
    complete(state, service, spec, None, choice)
}

/// The service that a definition of a backup becomes: as it was, with its id and its virtual addresses.
pub(crate) fn restore(state: &mut State, definition: &ServiceDefinition, now: u64) -> Result<Service, Refusal> {
    let ServiceDefinition { id, spec, addresses } = definition;
    let invalid = |why: String| Refusal::from(Invalid::new("service of the backup", spec.name.as_str(), why));
    if let Some(other) = state.desired.services().find(|service| service.id == *id && service.is_defined()) {
        return Err(invalid(format!("service {} has that id", other.name)));
    }
    let mut service = create(state, spec, id.clone(), now, (&Choice::default(), &HostFacts::default()))?;
    for (name, kept) in addresses {
        let on = service.networks.iter_mut().find(|on| on.network == *name && service.mode == Mode::Vip);
        let on = on.ok_or_else(|| invalid(format!("it has no virtual addresses on network {name}")))?;
        let network = super::find_network(state, name.as_str())?;
        let asked = |ip: &IpAddr| AddressSpec { ip: *ip, prefix: None, gateway: None };
        let asked: Vec<AddressSpec> = kept.iter().map(asked).collect();
        let chosen = address::choose(state, &network, Requested::these(&asked), None)?;
        on.addresses = chosen.iter().map(IpNetwork::ip).collect();
        if let Some(left_out) = kept.iter().find(|ip| !on.addresses.contains(ip)) {
            return Err(invalid(format!("{left_out} is its second address of one family on network {name}")));
        }
    }
    Ok(service)
}

/// The service as an update makes it. What it has and keeps stays the same: addresses, and host ports that the request
/// leaves open.
pub(crate) fn update(
    state: &mut State,
    before: &Service,
    update: &ServiceUpdate,
    now: u64,
    choice: (&Choice, &HostFacts),
) -> Result<Service, Refusal> {
    let spec = &update.spec;
    if let Some(asked) = update.version.filter(|asked| *asked != before.version) {
        return Err(ServiceRefusal::OutOfSequence { name: before.name.clone(), version: before.version, asked }.into());
    }
    if !spec.name.as_str().eq_ignore_ascii_case(before.name.as_str()) {
        return Err(Invalid::new("service name", spec.name.as_str(), "a service keeps its name").into());
    }
    let service = Service {
        previous: Some(Box::new(Service { previous: None, ..before.clone() })),
        created: before.created,
        version: before.version + 1,
        ..bare(spec, (before.id.clone(), before.name.clone()), now)
    };
    complete(state, service, spec, Some(before), choice)
}

/// The first version of a service, without networks and ports.
fn bare(spec: &ServiceSpec, (id, name): (ServiceId, ServiceName), now: u64) -> Service {
    Service {
        id,
        name,
        networks: Vec::new(),
        select: spec.select.clone(),
        members: spec.members.clone(),
        mode: spec.mode,
        publications: Vec::new(),
        target: spec.target,
        affinity: spec.affinity,
        grace: spec.grace,
        health: spec.health.clone(),
        when_none_ready: spec.when_none_ready,
        tasks: spec.tasks.clone(),
        previous: None,
        labels: spec.labels.clone(),
        created: now,
        updated: now,
        version: 1,
        origin: Origin::Defined,
    }
}

/// Adds networks, virtual addresses and ports. The state must not have the service as it was.
fn complete(
    state: &mut State,
    mut service: Service,
    spec: &ServiceSpec,
    before: Option<&Service>,
    choice: (&Choice, &HostFacts),
) -> Result<Service, Refusal> {
    if spec.networks.is_empty() {
        return Err(Invalid::new("service", spec.name.as_str(), "it needs a network: --network").into());
    }
    for (name, aliases) in &spec.networks {
        let network = super::find_network(state, name)?;
        if service.on(&network.name).is_some() {
            return Err(Invalid::new("service", spec.name.as_str(), format!("network {name} is given twice")).into());
        }
        let on = on_network(state, &service, &network, aliases, before)?;
        service.networks.push(on);
    }
    service.publications = publications(state, &service, spec, before, choice)?;
    Ok(service)
}

fn on_network(
    state: &mut State,
    service: &Service,
    network: &Network,
    aliases: &[Alias],
    before: Option<&Service>,
) -> Result<ServiceNetwork, Refusal> {
    let name = service.name.as_str().to_ascii_lowercase();
    let named = state.desired.named(&network.name, &name).iter().find(|endpoint| endpoint.is_own_name(&name));
    if let Some(holder) = named {
        let (service, container) = (service.name.clone(), holder.container.name.clone());
        return Err(ServiceRefusal::NameTaken { service, container, network: network.name.clone() }.into());
    }
    if let Some(alias) = aliases.iter().find(|alias| alias.as_str().starts_with("*.")) {
        return Err(Invalid::new("alias of a service", alias.as_str(), "it covers one name only").into());
    }
    let kept = before.and_then(|before| before.on(&network.name)).map(|on| on.addresses.clone()).unwrap_or_default();
    let addresses = match service.mode {
        Mode::Dns => Vec::new(),
        Mode::Vip if !kept.is_empty() => kept,
        Mode::Vip => virtual_addresses(state, &service.name, network)?,
    };
    Ok(ServiceNetwork { network: network.name.clone(), aliases: aliases.to_vec(), addresses })
}

fn virtual_addresses(state: &mut State, service: &ServiceName, network: &Network) -> Result<Vec<IpAddr>, Refusal> {
    let impossible =
        |why| Refusal::from(ServiceRefusal::Network { service: service.clone(), network: network.name.clone(), why });
    match &network.driver {
        Driver::Bridge(bridge) if bridge.isolated => {
            Err(impossible("the host has no address there to take connections at: use --mode dns"))
        }
        Driver::Bridge(_) => {
            let chosen = address::choose(state, network, Requested::ANY, None)?;
            Ok(chosen.iter().map(IpNetwork::ip).collect())
        }
        Driver::Adopted(_) => Err(impossible("another CNI plugin assigns its addresses: use --mode dns")),
        Driver::Stacked(_) | Driver::Unmanaged(_) | Driver::Nothing => {
            Err(impossible("its containers are beside the host, which takes no connections for them: use --mode dns"))
        }
    }
}

fn publications(
    state: &State,
    service: &Service,
    spec: &ServiceSpec,
    before: Option<&Service>,
    choice: (&Choice, &HostFacts),
) -> Result<Vec<Publication>, Refusal> {
    let ports = single_ports(&spec.ports)?;
    let is_internal = |network: &Arc<Network>| network.internal || !network.is_behind_host();
    let internal = |on: &ServiceNetwork| state.desired.network(&on.network).is_none_or(is_internal);
    if let (Some(first), true) = (ports.first(), service.networks.iter().all(internal)) {
        let (ports, network) = (first.to_string(), service.networks[0].network.clone());
        let why = "it is internal: add a network that can be reached from outside".to_owned();
        return Err(Refusal::CannotPublish { ports, network, why });
    }
    let networks = || service.networks.iter().map(|on| &on.network);
    let is_strict = |port: &&PortSpec| state.desired.publish_mode(networks(), port.mode) == PublishMode::Strict;
    if let Some(strict) = ports.iter().find(is_strict).filter(|_| state.hands_nothing_over) {
        return Err(Refusal::CannotBeStrict(format!("port {strict}")));
    }
    let mut chosen: Vec<Publication> = Vec::new();
    let mut served = BTreeSet::new();
    for port in ports {
        let same = |old: &&Publication| {
            port.host.is_none() && (old.protocol, old.container, old.mode) == (port.protocol, port.container, port.mode)
        };
        let kept = before.into_iter().flat_map(|before| &before.publications).find(same);
        match kept.filter(|kept| !chosen.contains(kept)) {
            Some(kept) => chosen.push(kept.clone()),
            None => publish(state, None, &port, &mut chosen, choice)?,
        }
        served.insert((port.protocol, port.container));
    }
    Ok(chosen)
}

/// One port each. Ports at one address of the host belong to no service: its ports answer at every address.
fn single_ports(ports: &[PortSpec]) -> Result<Vec<PortSpec>, Refusal> {
    let mut single = Vec::new();
    for port in ports {
        let invalid = |why: &str| Refusal::from(Invalid::new("port of a service", port.to_string(), why));
        if port.host_ip.is_some() {
            return Err(invalid("a service is published at every address of the host: leave out the address"));
        }
        let count = usize::try_from(port.container.count()).unwrap_or(usize::MAX);
        if single.len().saturating_add(count) > PORTS_MAX {
            return Err(invalid("a service publishes at most 64 ports"));
        }
        let same_length = port.host.is_none_or(|host| host.count() == port.container.count());
        for (index, container) in port.container.ports().enumerate() {
            let at = |host: PortRange| host.ports().nth(index).and_then(PortRange::single);
            let host = if same_length { port.host.and_then(at) } else { port.host };
            let container = PortRange::single(container).ok_or_else(|| invalid("a port is 0"))?;
            single.push(PortSpec { host, container, ..port.clone() });
        }
    }
    Ok(single)
}

/// The container that is meant, which must be a member of a service.
pub(crate) fn member(state: &State, text: &str) -> Result<Arc<Attached>, Refusal> {
    let attached = match state.desired.find_container(text) {
        Lookup::One(attached) => attached,
        Lookup::None => {
            let searched = vec!["containers that netd knows (see `netd ps`)".to_owned()];
            return Err(Refusal::NoSuchContainer { name: text.to_owned(), searched });
        }
        Lookup::Ambiguous(count) => {
            return Err(Refusal::Ambiguous { what: "container", text: text.to_owned(), count });
        }
    };
    if attached.endpoints.iter().all(|endpoint| state.desired.services_with(&endpoint.key()).next().is_none()) {
        let why = "it is a member of no service: see `netd service ls`";
        return Err(Invalid::new("member", attached.container.name.as_str(), why).into());
    }
    Ok(attached)
}

/// What is known of a container after something was said of it.
pub(crate) fn said(before: Condition, action: MemberAction, now: u64) -> Condition {
    match action {
        MemberAction::Drain => Condition { draining: before.draining.or(Some(now)), ..before },
        MemberAction::Undrain => Condition { draining: None, ..before },
        MemberAction::Ready => Condition { said: Some(Said { ready: true, since: now }), ..before },
        MemberAction::Unready => Condition { said: Some(Said { ready: false, since: now }), ..before },
        MemberAction::Checked => Condition { said: None, ..before },
    }
}
