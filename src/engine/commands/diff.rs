//! Compares everything that netd makes with what is there, and changes nothing (`netd diff`).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::engine::worker::Worker;
use crate::engine::{Difference, Error};
use crate::kernel::{Kernel, KernelError};
use crate::logic::drift::{self, Drift, Link};
use crate::logic::target::{self, Interface};
use crate::model::endpoint::Endpoint;
use crate::model::host::observed::Observed;
use crate::model::network::Network;
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Every difference; empty if all is as it must be. It enters each container, which takes about half a millisecond.
    pub(crate) fn diff(&mut self) -> Result<Vec<Difference>, Error> {
        let observed = self.kernel.observe()?;
        let mut all = Vec::new();
        self.diff_host(&observed, &mut all);
        let endpoints: Vec<Arc<Endpoint>> = self.state.desired.endpoints().cloned().collect();
        for endpoint in endpoints {
            let Some(network) = self.state.desired.network(&endpoint.network).cloned() else { continue };
            self.diff_endpoint(&network, &endpoint, &observed, &mut all)?;
        }
        let ports = self.ports_to_hold().into_iter().flat_map(|(.., ports)| ports);
        let ports: BTreeSet<_> = ports.chain(self.shared_ports()).collect();
        all.extend(drift::host_ports(&ports, &observed).iter().map(|drift| difference("port", "host", drift)));
        self.diff_files(&mut all)?;
        Ok(all)
    }

    fn diff_host(&mut self, observed: &Observed, all: &mut Vec<Difference>) {
        self.routing = observed.routing.clone();
        let needed = target::forwarding(&self.state.desired);
        let missing = needed.without(self.routing.on);
        if !missing.is_empty() {
            all.push(Difference { kind: "forwarding", object: "host".into(), text: "forwarding is off".into() });
        }
        if self.stop_forwarding(needed).is_some() {
            let text = "forwarding is on, and no network needs it any more".into();
            all.push(Difference { kind: "forwarding", object: "host".into(), text });
        }
        for bridge in self
            .state
            .desired
            .networks()
            .filter_map(|network| target::bridge_with_services(&self.state.desired, network))
        {
            let drift = drift::bridge(&bridge, observed);
            all.extend(drift.iter().map(|drift| difference("bridge", bridge.name.as_str(), drift)));
        }
        for network in self.state.desired.networks() {
            let Some(shim) = target::shim_with_routes(&self.state.desired, network) else { continue };
            let drift = drift::shim(&shim, observed);
            all.extend(drift.iter().map(|drift| difference("interface", shim.name.as_str(), drift)));
        }
        for name in self.strays(observed) {
            let text = format!("interface {name} belongs to no network and no container");
            all.push(Difference { kind: "stray", object: name.to_string(), text });
        }
        let elements = self.wanted_elements();
        let tables = drift::tables(&elements, observed);
        all.extend(tables.iter().map(|(table, drift)| difference("table", &table.to_string(), drift)));
        let missing = drift::elements(&elements, observed);
        all.extend(missing.iter().map(|drift| difference("element", "firewall", drift)));
        let extra = observed.firewall.elements.difference(&elements).map(|element| Difference {
            kind: "element",
            object: "firewall".into(),
            text: format!("nft: an element of {} is too many ({element:?})", element.table()),
        });
        all.extend(extra);
    }

    fn diff_endpoint(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        observed: &Observed,
        all: &mut Vec<Difference>,
    ) -> Result<(), Error> {
        let object = format!("{}/{}", endpoint.container.name, endpoint.ifname);
        let siblings = self.state.endpoints_of(&endpoint.container.id);
        let drift = match target::interface(network, endpoint, &siblings) {
            Interface::Own(link) => {
                let seen = observed.links.get(&endpoint.host_ifname);
                let on_host = || drift::host_link(&link, network, endpoint, seen);
                let mut drift = if link.kind.pair().is_some() { on_host() } else { Vec::new() };
                match self.kernel.interface(&endpoint.container.netns, &endpoint.ifname) {
                    Ok(None) => drift.push(Drift::Gone(Link::Container(endpoint.ifname.clone()))),
                    Ok(Some(seen)) => drift.extend(drift::inside(network, endpoint, &siblings, &seen)),
                    Err(KernelError::NoNetns { path, .. }) => all.push(Difference {
                        kind: "namespace",
                        object: object.clone(),
                        text: format!("the container's network namespace is not at {}", path.display()),
                    }),
                    Err(error) => return Err(error.into()),
                }
                drift
            }
            Interface::Adopted(_) if self.kernel.has_link(&endpoint.host_ifname) => Vec::new(),
            Interface::Adopted(_) => vec![Drift::Gone(Link::HostEnd(endpoint.host_ifname.clone()))],
            Interface::Nothing => Vec::new(),
        };
        all.extend(drift.iter().map(|drift| difference("interface", &object, drift)));
        if let Some(shaping) = target::shaping(network, endpoint)
            && let Some(text) = self.kernel.shaping_differs(&shaping)?
        {
            all.push(Difference { kind: "limits", object, text });
        }
        Ok(())
    }

    fn diff_files(&mut self, all: &mut Vec<Difference>) -> Result<(), Error> {
        let mut named = BTreeSet::new();
        let attached: Vec<_> = self.state.desired.containers().cloned().collect();
        for attached in attached {
            let Some(netns) = attached.container.netns.name() else { continue };
            named.insert(netns.to_owned());
            let content = self.resolv_conf(&attached.endpoints);
            if self.kernel.file_differs(netns, content.as_deref())? {
                let text = "it is missing, or not as netd writes it".into();
                all.push(Difference { kind: "file", object: format!("/etc/netns/{netns}/resolv.conf"), text });
            }
        }
        for netns in self.kernel.written_files().into_iter().filter(|netns| !named.contains(netns)) {
            let text = "it was left behind: no container has that namespace".into();
            all.push(Difference { kind: "file", object: format!("/etc/netns/{netns}/resolv.conf"), text });
        }
        Ok(())
    }
}

fn difference(kind: &'static str, object: &str, drift: &Drift) -> Difference {
    Difference { kind, object: object.to_owned(), text: drift.to_string() }
}
