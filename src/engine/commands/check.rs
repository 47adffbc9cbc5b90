//! Checks an attachment: compares each part in the kernel with what netd made, and reports the first difference.

use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::Error;
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::refusal::Refusal;
use crate::logic::{drift, target};
use crate::model::endpoint::Endpoint;
use crate::model::network::{Driver, Network};
use crate::model::question::{Answer, Client, RecordType};
use crate::model::request::CheckSpec;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Inspects everything that belongs to the attachment; changes nothing.
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

    /// Returns the first part of the attachment that differs in the kernel.
    pub(crate) fn kernel_difference(
        &mut self,
        endpoint: &Arc<Endpoint>,
        spec: &CheckSpec,
    ) -> Result<Option<String>, Error> {
        if self.kernel.netns(&spec.netns)?.id != endpoint.container.netns.id {
            return Ok(Some(format!("{} is another network namespace", spec.netns.display())));
        }
        let network = self.find_network(endpoint.network.as_str())?;
        if network.driver == Driver::Nothing {
            return Ok(None);
        }
        let Some(observed) = self.kernel.interface(&endpoint.container.netns, &endpoint.ifname)? else {
            return Ok(Some(format!("interface {} is gone", endpoint.ifname)));
        };
        let all = self.state.endpoints_of(&endpoint.container.id);
        let mut pair = drift::interface(&network, endpoint, spec, &observed);
        pair.extend(drift::addresses(endpoint, &spec.addresses, &observed));
        pair.extend(drift::routes(&network, endpoint, &all, &observed));
        if network.has_host_ends() {
            pair.extend(drift::host_end(&network, endpoint, observed.host_end.as_ref()));
        }
        if let Some(drift) = pair.first() {
            return Ok(Some(drift.to_string()));
        }
        if let Some(shaping) = target::shaping(&network, endpoint)
            && let Some(what) = self.kernel.shaping_differs(&shaping)?
        {
            return Ok(Some(format!("limits: {what}")));
        }
        let observed = self.kernel.observe()?;
        let elements = target::container_elements(&self.state.desired, &all);
        let elements = &(&elements | &target::network_elements(&self.state.desired, &network));
        let bridge = target::bridge_with_services(&self.state.desired, &network);
        let mut drift = bridge.map_or_else(Vec::new, |bridge| drift::bridge(&bridge, &observed));
        if let Some(shim) = target::shim_with_routes(&self.state.desired, &network) {
            drift.extend(drift::shim(&shim, &observed));
        }
        drift.extend(drift::tables(elements, &observed).into_iter().map(|(_, drift)| drift));
        drift.extend(drift::elements(elements, &observed));
        let ports = &target::host_ports(&all) | &self.shared_with(&endpoint.container.id).collect();
        drift.extend(drift::host_ports(&ports, &observed));
        Ok(drift.first().map(ToString::to_string))
    }

    /// Checks the name service's answers to the container itself.
    fn names(&self, endpoint: &Endpoint, network: &Network) -> Option<String> {
        let served = |ip: &IpAddr| self.problems.has(&Subject::Gateway(*ip));
        if let Some(deaf) = network.host_gateways().find(served) {
            return Some(format!("DNS: no name service at {deaf}"));
        }
        let own = endpoint.addresses.first()?.ip();
        let snapshot = self.snapshot.load();
        let kind = if own.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
        let resolves = |name: &String| match snapshot.resolve(Client::Address(own), name, kind) {
            Answer::A(addresses) => addresses.iter().any(|ip| IpAddr::V4(*ip) == own),
            Answer::Aaaa(addresses) => addresses.iter().any(|ip| IpAddr::V6(*ip) == own),
            _ => false,
        };
        endpoint
            .dns_names()
            .iter()
            .find(|name| !resolves(name))
            .map(|name| format!("DNS name {name} does not resolve to {own}"))
    }
}
