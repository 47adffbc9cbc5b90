//! The plan that changes the address of an endpoint that exists: its DHCP server gives another one, or none any more.

use std::sync::Arc;

use super::{Change, Difference, ResolvConf, States, stale_flows};
use crate::logic::target;
use crate::model::endpoint::Endpoint;
use crate::model::host::step::{EndpointLink, Flows, Step};
use crate::model::lease::Lease;
use crate::model::network::Network;

/// Takes the addresses of former leases off the interface, with the default routes that no other lease has.
pub fn leave(network: &Network, endpoint: &Arc<Endpoint>) -> Vec<Step> {
    let leases = endpoint.dhcp.iter().flat_map(|dhcp| &dhcp.leaving);
    let link = |lease: &Lease| {
        let link = *target::interface(network, endpoint, &[]).own()?;
        let default_gateways = lease.gateways().filter(|gateway| !endpoint.gateways.contains(gateway)).collect();
        let addresses = vec![lease.interface()];
        Some(Step::RemoveAddresses(Box::new(EndpointLink { addresses, default_gateways, routes: Vec::new(), ..link })))
    };
    leases.filter_map(link).collect()
}

/// Takes the former addresses off the interface, and puts those that it has now onto it.
pub fn change(
    states: States<'_>,
    network: &Network,
    (old, new): (&Arc<Endpoint>, &Arc<Endpoint>),
    change: Change<'_>,
    resolv_conf: ResolvConf,
) -> Vec<Step> {
    let Difference { remove, add, release, hold } = Difference::of(states, change).with_policies(states);
    let mut flows = stale_flows(&add);
    let lost = old.addresses.iter().filter(|address| !new.addresses.contains(address));
    flows.extend(lost.map(|address| Flows::Of(address.ip())));
    let link = |endpoint: &Arc<Endpoint>, all| {
        let link = target::interface(network, endpoint, all).own();
        link.filter(|link| !link.addresses.is_empty())
    };
    let mut steps = vec![Step::Hold(hold), Step::Elements { remove, add }];
    steps.extend(link(old, change.before).map(Step::RemoveAddresses));
    steps.extend(link(new, change.after).map(Step::Address));
    let (before, after) = (target::default_routes(change.before), target::default_routes(change.after));
    steps.push(Step::DefaultRoutes {
        netns: new.container.netns.clone(),
        remove: before.iter().filter(|route| !after.contains(route)).cloned().collect(),
        add: after.iter().filter(|route| !before.contains(route)).cloned().collect(),
    });
    steps.extend([Step::Release(release), Step::ForgetFlows(flows)]);
    steps.extend(resolv_conf.step(Some(new)));
    steps.retain(|step| !step.is_noop());
    steps
}
