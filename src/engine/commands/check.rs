//! Checking an attachment: what the kernel has of it against what netd made, part by part; the first difference is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::logic::target;
use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::{Observed, ObservedInterface, Structure};
use crate::model::network::Network;
use crate::model::question::{Answer, Asker, RecordType};
use crate::model::request::CheckSpec;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Looks at everything that belongs to the attachment; changes nothing.
    pub(crate) fn check(&mut self, spec: &CheckSpec) -> Result<(), Error> {
        let Some(endpoint) = self.find_attachment(&spec.key) else {
            let (owner, container) = (spec.key.owner.clone(), spec.key.container.clone());
            return Err(Refusal::NoAttachment { owner, container, ifname: spec.key.ifname.clone() }.into());
        };
        match self.first_difference(&endpoint, spec)? {
            None => Ok(()),
            Some(part) => {
                let container = endpoint.container.name.clone();
                Err(Refusal::Changed { container, ifname: endpoint.ifname.clone(), part }.into())
            }
        }
    }

    fn first_difference(&mut self, endpoint: &Arc<Endpoint>, spec: &CheckSpec) -> Result<Option<String>, Error> {
        if let Some(part) = self.kernel_difference(endpoint, spec)? {
            return Ok(Some(part));
        }
        let network = self.find_network(endpoint.network.as_str())?;
        Ok(self.names(endpoint, &network))
    }

    /// The first part of it that the kernel does not have as it was made.
    pub(crate) fn kernel_difference(
        &mut self,
        endpoint: &Arc<Endpoint>,
        spec: &CheckSpec,
    ) -> Result<Option<String>, Error> {
        if self.kernel.netns(&spec.netns)?.id != endpoint.container.netns.id {
            return Ok(Some(format!("{} is another network namespace", spec.netns.display())));
        }
        let network = self.find_network(endpoint.network.as_str())?;
        let Some(seen) = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)? else {
            return Ok(Some(format!("interface {} is gone", endpoint.ifname)));
        };
        let all = self.state.endpoints_of(&endpoint.container.id);
        let inside = interface(&network, endpoint, spec, &seen)
            .or_else(|| addresses(endpoint, &spec.addresses, &seen))
            .or_else(|| routes(&network, endpoint, &all, &seen))
            .or_else(|| host_end(&network, endpoint, &seen));
        if inside.is_some() {
            return Ok(inside);
        }
        if let Some(shaping) = target::shaping(&network, endpoint)
            && let Some(what) = self.kernel.shaping_differs(&shaping)?
        {
            return Ok(Some(format!("limits: {what}")));
        }
        let observed = self.kernel.observe()?;
        let elements = target::container_elements(&self.state.desired, &all);
        let elements = &(&elements | &target::network_elements(&network));
        let outside = bridge(&network, &observed).or_else(|| firewall(elements, &observed));
        Ok(outside.or_else(|| {
            let lost: Vec<_> = target::host_ports(&all).difference(&observed.held).copied().collect();
            lost.first().map(|port| format!("host port {}/{} is not held", port.port, port.protocol))
        }))
    }

    /// What the name service answers the container itself.
    fn names(&self, endpoint: &Endpoint, network: &Network) -> Option<String> {
        let served = |ip: &IpAddr| self.problems.contains_key(&format!("dns {ip}"));
        if let Some(deaf) = network.subnets.iter().map(|subnet| subnet.gateway).find(served) {
            return Some(format!("DNS: no name service at {deaf}"));
        }
        let own = endpoint.addresses.first()?.ip();
        let snapshot = self.snapshot.load();
        let kind = if own.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
        let told = |name: &String| match snapshot.resolve(Asker::Address(own), name, kind) {
            Answer::A(addresses) => addresses.iter().any(|ip| IpAddr::V4(*ip) == own),
            Answer::Aaaa(addresses) => addresses.iter().any(|ip| IpAddr::V6(*ip) == own),
            _ => false,
        };
        endpoint
            .dns_names()
            .iter()
            .find(|name| !told(name))
            .map(|name| format!("DNS name {name} does not lead to {own}"))
    }
}

/// A later plugin of the chain may have given the interface another MAC address or MTU; the runtime's result says so.
fn interface(network: &Network, endpoint: &Endpoint, spec: &CheckSpec, seen: &ObservedInterface) -> Option<String> {
    let ifname = &endpoint.ifname;
    if !seen.up {
        return Some(format!("interface {ifname} is down"));
    }
    let mac = spec.mac.unwrap_or(endpoint.mac);
    if seen.mac != Some(mac) {
        let now = seen.mac.map_or("none".into(), |mac| mac.to_string());
        return Some(format!("MAC address of {ifname} is {now} instead of {mac}"));
    }
    let mtu = spec.mtu.filter(|mtu| !network.is_adopted() && seen.mtu != *mtu)?;
    Some(format!("MTU of {ifname} is {} instead of {mtu}", seen.mtu))
}

/// The first address that is gone: of those it was given, then of those told besides.
pub(crate) fn addresses(endpoint: &Endpoint, told: &[IpAddr], seen: &ObservedInterface) -> Option<String> {
    let ours = endpoint.addresses.iter().find(|address| !seen.addresses.contains(address)).map(ToString::to_string);
    let has = |ip: &IpAddr| seen.addresses.iter().any(|address| address.ip() == *ip);
    let theirs = || told.iter().find(|ip| !has(ip)).map(ToString::to_string);
    ours.or_else(theirs).map(|address| format!("address {address} of {} is gone", endpoint.ifname))
}

/// The first route that is gone.
pub(crate) fn routes(
    network: &Network,
    endpoint: &Endpoint,
    all: &[Arc<Endpoint>],
    seen: &ObservedInterface,
) -> Option<String> {
    if network.is_adopted() {
        return None;
    }
    // A default route over an interface of another program is left in place when a container is attached; in a container
    // of another engine ours stands behind it.
    let elsewhere =
        |gateway: &IpAddr| !endpoint.is_beside_engine() && seen.default_elsewhere.contains(&Family::of(*gateway));
    let over_this = target::default_routes(all).into_iter().filter(|route| route.ifname == endpoint.ifname);
    let mut expected = over_this.map(|route| route.gateway).filter(|gateway| !elsewhere(gateway));
    let has_default = |gateway: &IpAddr| {
        seen.routes.iter().any(|route| route.destination.prefix() == 0 && route.gateway == Some(*gateway))
    };
    if let Some(gateway) = expected.find(|gateway| !has_default(gateway)) {
        return Some(format!("default route by {gateway} over {} is gone", endpoint.ifname));
    }
    let lost = endpoint.routes.iter().find(|route| !seen.routes.contains(&(*route).clone().normal()))?;
    Some(format!("route to {} over {} is gone", lost.destination, endpoint.ifname))
}

fn host_end(network: &Network, endpoint: &Endpoint, seen: &ObservedInterface) -> Option<String> {
    let name = &endpoint.host_ifname;
    let Some(end) = &seen.host_end else { return Some(format!("the host's end {name} is gone")) };
    if end.name != *name {
        return Some(format!("the host's end is {} instead of {name}", end.name));
    }
    if !end.up {
        return Some(format!("the host's end {name} is down"));
    }
    if end.bridge.as_ref() != network.bridge() {
        let wanted = network.bridge().map_or("none", |bridge| bridge.as_str());
        let now = end.bridge.as_ref().map_or("none", |bridge| bridge.as_str());
        return Some(format!("bridge port {name}: its bridge is {now} instead of {wanted}"));
    }
    let isolated = network.own_bridge().map(|bridge| !bridge.icc)?;
    (end.isolated != isolated).then(|| format!("bridge port {name}: its isolation was changed"))
}

fn bridge(network: &Network, observed: &Observed) -> Option<String> {
    let wanted = target::bridge_link(network)?;
    let Some(link) = observed.links.get(&wanted.name) else { return Some(format!("bridge {} is gone", wanted.name)) };
    if !link.up {
        return Some(format!("bridge {} is down", wanted.name));
    }
    let lost = wanted.addresses.iter().find(|address| !link.addresses.contains(address))?;
    Some(format!("gateway {lost} of bridge {} is gone", wanted.name))
}

fn firewall(elements: &BTreeSet<crate::model::host::element::Element>, observed: &Observed) -> Option<String> {
    match observed.structure {
        Structure::Missing => return Some("nft: table inet netd is gone".into()),
        Structure::Different => return Some("nft: table inet netd is not as netd writes it".into()),
        Structure::Intact => {}
    }
    let lost = elements.difference(&observed.elements).next()?;
    Some(format!("nft: an element of table inet netd is gone ({lost:?})"))
}
