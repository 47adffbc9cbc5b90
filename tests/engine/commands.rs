//! The commands that people and runtimes give, and what the reference model says of their answers.

use super::reservations::is_taken;
use super::*;

impl World {
    pub(crate) fn remove(&mut self, network: usize, fail_in: Option<usize>) -> Result<(), TestCaseError> {
        let name = NETWORKS[network];
        let done = self.runtime.block_on(self.handle().remove_network(name)).map(drop);
        let may = self.reference.networks.contains(name) && self.reference.used(name).0 == 0;
        // A deletion whose kernel step failed is stored nevertheless.
        let gone = done.is_ok() || done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Kernel);
        self.check(done, may, fail_in)?;
        if gone && may {
            self.reference.networks.remove(name);
            if network == sticky::STICKY {
                self.reference.kept.forget();
            }
        }
        Ok(())
    }

    pub(crate) fn connect(
        &mut self,
        container: usize,
        network: usize,
        (port, ip): (Option<usize>, Option<u8>),
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        let handle = self.handle();
        let snapshot = handle.snapshot();
        let subnet = snapshot.desired.network(&NETWORKS[network].parse().unwrap()).map(|n| n.subnets[0].clone());
        let asked = ip.zip(subnet.as_ref()).and_then(|(ip, subnet)| {
            let number = subnet.subnet.bounds().0 + u128::from(ip);
            subnet.subnet.address(number)
        });
        let container_ref = ContainerRef { name: CONTAINERS[container].into(), netns: None, id: None };
        let spec = EndpointSpec {
            ports: port.iter().map(|port| PORTS[*port].parse::<PortSpec>().unwrap()).collect(),
            addresses: asked.map(|ip| AddressSpec { ip, prefix: None, gateway: None }).into_iter().collect(),
            ..person(NETWORKS[network], container_ref)
        };
        let taken = asked.is_some_and(|ip| is_taken(&snapshot, ip) || snapshot.desired.at_gateway(ip).is_some());
        let may = self.reference.networks.contains(NETWORKS[network])
            && !self.reference.endpoints.contains_key(&(container, network))
            && !port.is_some_and(|port| self.reference.ports_collide(port, None))
            && self.reference.used(NETWORKS[network]).1 < 5
            && !taken;
        let done = self.runtime.block_on(handle.connect(spec)).map(drop);
        self.check(done, may, fail_in)?;
        if self.last_done() {
            self.reference.endpoints.insert((container, network), (port, ip));
            let after = handle.snapshot();
            if let Some(got) = after.desired.endpoints().find(|e| {
                network == sticky::STICKY
                    && e.network.as_str() == NETWORKS[network]
                    && e.container.name.as_str() == CONTAINERS[container]
            }) {
                let got = (Some(CONTAINERS[container]), got.addresses[0].ip(), asked.is_some());
                self.reference.kept.judge(&snapshot, &after, got)?;
            }
        }
        Ok(())
    }

    pub(crate) fn attach(
        &mut self,
        (pod, network): (usize, usize),
        requested: AttachChoice,
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        use InterfaceSource::{Found, Given, Made, Unaddressed};
        let handle = self.handle();
        let snapshot = handle.snapshot();
        let name = requested.network(network);
        let address = self.address_for(pod, network, requested);
        let is_free = address.is_some_and(|at| !is_taken(&snapshot, at.ip));
        let before = self.reference.attachments.get(&(pod, network)).copied();
        let there = snapshot.attachment(&key(pod, network)).filter(|_| before.is_some());
        let has = |at: AddressSpec| there.as_ref().is_some_and(|e| e.addresses.iter().any(|has| has.ip() == at.ip));
        let may = match before {
            Some((asked, addressed)) => {
                let same =
                    asked.network(network) == name && (asked.port, asked.limits) == (requested.port, requested.limits);
                same && match requested.how {
                    Unaddressed => true,
                    Made => addressed,
                    Given | Found => address.is_some_and(|at| has(at) || (!addressed && is_free)),
                }
            }
            None => {
                let room = match requested.how {
                    Unaddressed => true,
                    Made => self.reference.used(name).1 < 5,
                    Given => is_free && self.reference.networks.contains(name),
                    Found => is_free,
                };
                room && !requested.port.is_some_and(|port| self.reference.ports_collide(port, Some(pod)))
            }
        };
        if requested.how == Found && before.is_none() {
            self.add_adoptable(pod, network, address.unwrap());
        }
        let spec = attach_spec((pod, network), name, requested, address);
        let done = self.runtime.block_on(handle.connect(spec)).map(drop);
        self.check(done, may, fail_in)?;
        if self.last_done() {
            self.reference.networks.insert(name);
            let after = handle.snapshot();
            let made = after.attachment(&key(pod, network)).filter(|_| before.is_none() && requested.how == Made);
            if let Some(made) = made.filter(|made| made.network.as_str() == NETWORKS[sticky::STICKY]) {
                // It is named by its id, which is not used again.
                self.reference.kept.judge(&snapshot, &after, (None, made.addresses[0].ip(), false))?;
            }
            let addressed = requested.how != Unaddressed || before.is_some_and(|(_, addressed)| addressed);
            let asked = before.map_or(requested, |(asked, _)| asked);
            self.reference.attachments.insert((pod, network), (asked, addressed));
        }
        Ok(())
    }

    /// The address that a runtime gives, or another program has given.
    pub(crate) fn address_for(&self, pod: usize, network: usize, requested: AttachChoice) -> Option<AddressSpec> {
        let last = 5 + pod as u8;
        let snapshot = self.handle().snapshot();
        match requested.how {
            InterfaceSource::Made | InterfaceSource::Unaddressed => None,
            InterfaceSource::Found => {
                let [ip, gateway] = [last, 1].map(|last| [10, 22 + network as u8, 0, last].into());
                Some(AddressSpec { ip, prefix: Some(16), gateway: Some(gateway) })
            }
            InterfaceSource::Given => {
                let there = snapshot.desired.network(&NETWORKS[network].parse().unwrap());
                // The first network gets the first subnet of the pool.
                let subnet = there.map(|network| network.subnets[0].subnet);
                let ip = match subnet {
                    Some(subnet) => subnet.address(subnet.bounds().0 + u128::from(last))?,
                    None => [10, 99, 0, last].into(),
                };
                Some(AddressSpec { ip, prefix: None, gateway: None })
            }
        }
    }

    /// Other programs delete the interfaces without an attachment.
    pub(crate) fn remove_adoptable(&self) {
        let mut guard = self.fake.world();
        let world = &mut *guard;
        let names = (0..PODS.len()).flat_map(|pod| (0..NETWORKS.len()).map(move |network| (pod, network)));
        for (pod, network) in names.filter(|at| !self.reference.attachments.contains_key(at)) {
            let inode = world.namespaces[&std::path::PathBuf::from(format!("/run/netns/{}", PODS[pod]))];
            let ifname: netd::model::names::IfName = format!("eth{network}").parse().unwrap();
            if world.found.remove(&(inode, ifname.clone())).is_some()
                && let Some(routes) = world.routes.get_mut(&inode)
            {
                routes.retain(|route| route.ifname != ifname);
            }
        }
    }

    /// Another program makes an interface in the pod.
    pub(crate) fn add_adoptable(&self, pod: usize, network: usize, at: AddressSpec) {
        let mut world = self.fake.world();
        let inode = world.namespaces[&std::path::PathBuf::from(format!("/run/netns/{}", PODS[pod]))];
        let bridge: netd::model::names::IfName = format!("cni{network}").parse().unwrap();
        let gateway = IpNetwork::new(at.gateway.unwrap(), 16).unwrap();
        world.facts.addresses = vec![(gateway, bridge.clone())];
        let seen = ObservedInterface {
            mac: Some(netd::model::address::Mac::for_address(at.ip)),
            up: true,
            loopback_up: true,
            link_local: true,
            mtu: 1500,
            addresses: vec![IpNetwork::new(at.ip, 16).unwrap()],
            routes: Vec::new(),
            unrouted: Vec::new(),
            default_elsewhere: Vec::new(),
            host_end: Some(HostEnd {
                name: format!("veth{pod}{network}").parse().unwrap(),
                bridge: Some(bridge),
                up: true,
                isolated: false,
                vlan: None,
            }),
        };
        world.found.insert((inode, format!("eth{network}").parse().unwrap()), seen);
    }

    /// Compares the result with the reference model; after a failing step, any failure is accepted.
    pub(crate) fn check(
        &mut self,
        done: Result<(), engine::Error>,
        may: bool,
        fail_in: Option<usize>,
    ) -> Result<(), TestCaseError> {
        LAST.with(|last| last.set(done.is_ok()));
        match done {
            Ok(()) => prop_assert!(may, "done, but the reference refuses"),
            Err(error) if error.kind() == ErrorKind::Kernel => prop_assert!(fail_in.is_some(), "failed: {error}"),
            Err(error) => prop_assert!(!may, "refused, but the reference allows: {error}"),
        }
        Ok(())
    }

    pub(crate) fn last_done(&self) -> bool {
        LAST.with(std::cell::Cell::get)
    }
}
