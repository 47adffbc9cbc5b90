//! Compares the host's own interface on a network of stacked interfaces.

use ipnetwork::IpNetwork;

use super::compare::properties;
use super::{Drift, Link};
use crate::model::host::observed::{Observed, ObservedKind};
use crate::model::host::step::ShimLink;

/// Every difference. [`Drift::Gone`] and [`Drift::Unfinished`] stand alone.
pub fn shim(target: &ShimLink, observed: &Observed) -> Vec<Drift> {
    let name = || Link::Shim(target.name.clone());
    let Some(link) = observed.links.get(&target.name) else { return vec![Drift::Gone(name())] };
    if !link.ours || link.kind != ObservedKind::Macvlan {
        let drift = if link.alias.as_ref() == Some(&target.alias()) { Drift::Group } else { Drift::Unfinished };
        return vec![drift(name())];
    }
    let mut drift = properties(&name(), link, (target.mtu, target.mac()));
    let lost = target.addresses.iter().filter(|own| !link.addresses.contains(&IpNetwork::from(**own)));
    drift.extend(lost.map(|lost| Drift::Address { link: name(), address: lost.to_string() }));
    // The kernel removes them with the interface going down.
    let lost = target.routes.iter().filter(|to| !link.routes.contains(to));
    drift.extend(lost.map(|to| Drift::HostRoute { shim: target.name.clone(), to: *to }));
    let stray = link.routes.iter().filter(|to| !target.routes.contains(to));
    drift.extend(stray.map(|to| Drift::StrayRoute { shim: target.name.clone(), to: *to }));
    drift
}
