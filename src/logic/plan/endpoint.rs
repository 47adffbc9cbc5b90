//! Plans that attach endpoints, assign addresses later, and detach endpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Change, Difference, ResolvConf, States, egress, stale_flows};
use crate::logic::firewall::sets::entries;
use crate::logic::target::{self, Interface};
use crate::model::desired::Desired;
use crate::model::endpoint::Endpoint;
use crate::model::host::element::Element;
use crate::model::host::step::{DefaultRoute, Flows, HostPorts, Step};
use crate::model::names::IfName;
use crate::model::network::Network;

/// A container that loses endpoints.
#[derive(Debug)]
pub struct Detached {
    /// All its endpoints before the change.
    pub before: Vec<Arc<Endpoint>>,
    /// The endpoints that remain.
    pub after: Vec<Arc<Endpoint>>,
    /// Its resolv.conf.
    pub resolv_conf: ResolvConf,
}

/// Makes the endpoint's interface, or adopts it, and publishes its names and ports. `reserved`: the ports that netd holds
/// already, for the reservation that the endpoint consumes. They stay held if a step fails and the others are undone.
pub fn attach(
    states: States<'_>,
    network: &Network,
    endpoint: &Arc<Endpoint>,
    (change, reserved): (Change<'_>, &BTreeSet<HostPorts>),
    resolv_conf: ResolvConf,
) -> Vec<Step> {
    let difference = Difference::of(states, change).with_policies(states);
    let vacant: Vec<HostPorts> =
        target::unheld_ports(change.after).difference(&target::unheld_ports(change.before)).copied().collect();
    let stale = stale_flows(&difference.add).into_iter().chain(egress::ended(change.before, &difference.add)).collect();
    let hold = difference.hold.into_iter().filter(|port| !reserved.contains(port)).collect();
    let mut steps = ports(endpoint, vacant, hold);
    // Before the interface: its first packets are checked, and none of them is dropped.
    steps.push(Step::Elements { remove: difference.remove, add: difference.add });
    steps.extend(match target::interface(network, endpoint, change.after) {
        Interface::Own(link) => Some(Step::Attach(link)),
        // Done each time, because another program may have recreated its interface since.
        Interface::Adopted(name) => Some(Step::Adopt(name.clone())),
        Interface::Nothing => None,
    });
    steps.extend(target::shim_routes(network, &[], &[endpoint]));
    steps.extend(target::shaping(network, endpoint).map(|shaping| Step::Shape(Box::new(shaping))));
    steps.push(Step::ForgetFlows(stale));
    steps.extend(resolv_conf.step(Some(endpoint)));
    steps.retain(|step| !step.is_noop());
    steps
}

/// Assigns addresses to an endpoint whose interface netd made without them.
pub fn address(
    states: States<'_>,
    network: &Network,
    endpoint: &Arc<Endpoint>,
    change: Change<'_>,
    resolv_conf: ResolvConf,
) -> Vec<Step> {
    let difference = Difference::of(states, change).with_policies(states);
    let unheld = target::unheld_ports(change.after);
    let vacant = unheld.difference(&target::unheld_ports(change.before)).copied().collect();
    let flows = stale_flows(&difference.add).into_iter().chain(egress::ended(change.before, &difference.add)).collect();
    let mut steps = ports(endpoint, vacant, difference.hold);
    // Before the addresses: packets from them are not dropped.
    steps.push(Step::Elements { remove: difference.remove, add: difference.add });
    steps.extend(match target::interface(network, endpoint, change.after) {
        Interface::Own(link) => Some(Step::Address(link)),
        Interface::Adopted(_) | Interface::Nothing => None,
    });
    steps.extend(target::shim_routes(network, &[], &[endpoint]));
    let (old, new) = (target::default_routes(change.before), target::default_routes(change.after));
    steps.push(Step::DefaultRoutes {
        netns: endpoint.container.netns.clone(),
        remove: old.iter().filter(|route| !new.contains(route)).cloned().collect(),
        add: new.iter().filter(|route| !old.contains(route)).cloned().collect(),
    });
    steps.push(Step::ForgetFlows(flows));
    steps.extend(resolv_conf.step(Some(endpoint)));
    steps.retain(|step| !step.is_noop());
    steps
}

/// Takes the ports. Those of attachments are only checked: their runtime may bind them itself.
fn ports(endpoint: &Endpoint, vacant: Vec<HostPorts>, hold: Vec<HostPorts>) -> Vec<Step> {
    let container = endpoint.runtime_id().clone();
    vec![Step::CheckPortsFree { ports: vacant, container, plugin: None }, Step::Hold(hold)]
}

/// Removes what belongs to the `gone` endpoints, of all these containers together. `reserved`: the ports that stay held,
/// for the reservations that some of them become.
pub fn detach(
    states: States<'_>,
    containers: Vec<Detached>,
    gone: &[Arc<Endpoint>],
    reserved: &BTreeSet<HostPorts>,
) -> Vec<Step> {
    let (mut all, mut last) = (Difference::default(), Vec::new());
    for Detached { before, after, resolv_conf } in containers {
        let difference = Difference::of(states, Change { before: &before, after: &after });
        all.remove.extend(difference.remove);
        all.add.extend(difference.add);
        all.release.extend(difference.release.into_iter().filter(|port| !reserved.contains(port)));
        all.hold.extend(difference.hold);
        last.extend(default_routes(states.before, &before, &after, gone));
        last.extend(resolv_conf.step(before.first()));
    }
    let all = all.with_policies(states);
    let flows = gone.iter().flat_map(|endpoint| endpoint.addresses.iter().map(|ip| Flows::Of(ip.ip()))).collect();
    let (mut links, mut limits, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    for endpoint in gone {
        let Some(network) = states.before.network(&endpoint.network) else { continue };
        links.extend(target::interface(network, endpoint, &[]).own().map(|link| *link));
        limits.extend(target::shaping(network, endpoint).map(|shaping| shaping.interface()));
        routes.extend(target::shim_routes(network, &[endpoint], &[]));
    }
    // An interface is guarded and held as long as it exists. What gets other data is removed and added together.
    let keys = |element: &Element| entries(element).into_iter().map(|entry| (entry.set, entry.key)).collect::<Vec<_>>();
    let renewed: BTreeSet<_> = all.add.iter().flat_map(keys).collect();
    let stays = |element: &Element| element.restrains() && !keys(element).iter().any(|key| renewed.contains(key));
    let (guard, remove) = all.remove.into_iter().partition(stays);
    let mut steps = vec![Step::Elements { remove, add: all.add }, Step::Detach(links)];
    let more = [
        Step::Elements { remove: guard, add: Vec::new() },
        Step::Unshape(limits),
        Step::Release(all.release),
        Step::Hold(all.hold),
        Step::ForgetFlows(flows),
    ];
    steps.extend(routes.into_iter().chain(more).filter(|step| !step.is_noop()));
    steps.extend(last);
    steps
}

/// The default routes that a container gets on its remaining networks.
fn default_routes(
    desired: &Desired,
    before: &[Arc<Endpoint>],
    after: &[Arc<Endpoint>],
    gone: &[Arc<Endpoint>],
) -> Option<Step> {
    let container = &before.first()?.container;
    let (old, new) = (target::default_routes(before), target::default_routes(after));
    let add: Vec<_> = new.iter().filter(|route| !old.contains(route)).cloned().collect();
    if add.is_empty() {
        return None;
    }
    // The old routes were removed with their interface, or remain on one that stays, such as another program's.
    let stays_there =
        |endpoint: &Endpoint| desired.network(&endpoint.network).is_some_and(|network| !network.makes_interfaces());
    let kept = |ifname: &IfName| {
        let of = |endpoint: &Endpoint| endpoint.ifname == *ifname && endpoint.container.id == container.id;
        after.iter().any(|endpoint| of(endpoint)) || gone.iter().any(|endpoint| of(endpoint) && stays_there(endpoint))
    };
    let stays = |route: &&DefaultRoute| !new.contains(route) && kept(&route.ifname);
    let remove = old.iter().filter(stays).cloned().collect();
    Some(Step::DefaultRoutes { netns: container.netns.clone(), remove, add })
}
