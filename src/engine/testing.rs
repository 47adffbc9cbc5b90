//! An engine for the tests of faces: keeps networks and endpoints in memory, touches no kernel and no store.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc};

use super::event::Change;
use super::{Command, Error, Event, Handle, MAILBOX, Snapshot};
use crate::logic::refusal::Refusal;
use crate::model::desired::{Desired, Lookup};
use crate::model::endpoint::{Container, Endpoint, Netns};
use crate::model::ids::{ContainerId, NetnsId, NetworkId};
use crate::model::names::ContainerName;
use crate::model::network::{Bridge, Driver, Network, NetworkSubnet};
use crate::model::publication::{PortRange, Publication};
use crate::model::request::{ConnectSpec, NetworkSpec};

/// A handle to a fresh one; it ends with the last handle.
pub(crate) fn engine() -> Handle {
    let (commands, mut mailbox) = mpsc::channel(MAILBOX);
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot { domain: "internal".into(), ..Snapshot::default() }));
    let (events, _) = broadcast::channel(16);
    let mut state = State { snapshot: snapshot.clone(), events: events.clone(), desired: Desired::default(), count: 0 };
    tokio::spawn(async move {
        while let Some(command) = mailbox.recv().await {
            state.handle(command);
        }
    });
    Handle { commands, snapshot, events }
}

struct State {
    snapshot: Arc<ArcSwap<Snapshot>>,
    events: broadcast::Sender<Arc<Event>>,
    desired: Desired,
    count: u8,
}

impl State {
    fn handle(&mut self, command: Command) {
        match command {
            Command::CreateNetwork(spec, reply) => drop(reply.send(self.create(*spec))),
            Command::RemoveNetwork(name, reply) => drop(reply.send(self.remove(&name))),
            Command::PruneNetworks(reply) => {
                let names: Vec<_> = self.desired.networks().map(|network| network.name.clone()).collect();
                drop(reply.send(Ok(names.into_iter().filter(|name| self.remove(name.as_str()).is_ok()).collect())));
            }
            Command::Connect(spec, reply) => drop(reply.send(self.connect(*spec))),
            Command::Disconnect { network, container, reply } => {
                drop(reply.send(self.disconnect(&network, &container)));
            }
            _ => {}
        }
    }

    fn publish(&mut self, change: Change) {
        let before = self.snapshot.load_full();
        let revision = before.revision + 1;
        self.snapshot.store(Arc::new(Snapshot { desired: self.desired.clone(), revision, ..Snapshot::clone(&before) }));
        drop(self.events.send(Arc::new(Event { time: SystemTime::UNIX_EPOCH, change })));
    }

    fn network(&self, name: &str) -> Result<Arc<Network>, Error> {
        match self.desired.find_network(name) {
            Lookup::One(network) => Ok(network),
            _ => Err(Refusal::NoSuchNetwork(name.to_owned()).into()),
        }
    }

    fn create(&mut self, spec: NetworkSpec) -> Result<Arc<Network>, Error> {
        if self.desired.network(&spec.name).is_some() {
            return Err(Refusal::NetworkExists(spec.name).into());
        }
        self.count += 1;
        let subnet = spec.subnets.first().copied().unwrap_or_else(|| "10.89.0.0/24".parse().unwrap());
        let gateway = subnet.address(subnet.bounds().0 + 1).unwrap();
        let network = self.desired.insert_network(Network {
            id: NetworkId::from_random([self.count; 32]),
            driver: Driver::Bridge(Bridge {
                name: format!("nd-{}", spec.name).parse().unwrap(),
                icc: spec.icc,
                masquerade: spec.masquerade,
            }),
            name: spec.name,
            subnets: vec![NetworkSubnet { subnet, gateway, range: None }],
            internal: spec.internal,
            mtu: spec.mtu.unwrap_or(1500),
            labels: spec.labels,
            created: 1_767_323_045,
        });
        self.publish(Change::NetworkCreated(network.clone()));
        Ok(network)
    }

    fn remove(&mut self, name: &str) -> Result<Arc<Network>, Error> {
        let network = self.network(name)?;
        let holders: Vec<String> =
            self.desired.endpoints_of(&network.name).map(|endpoint| endpoint.container.name.to_string()).collect();
        if !holders.is_empty() {
            return Err(Refusal::NetworkInUse { network: network.name.clone(), holders }.into());
        }
        self.desired.remove_network(&network.name);
        self.publish(Change::NetworkRemoved(network.clone()));
        Ok(network)
    }

    fn connect(&mut self, spec: ConnectSpec) -> Result<Arc<Endpoint>, Error> {
        let network = self.network(&spec.network)?;
        let name: ContainerName = spec.target.container.parse().map_err(Refusal::from)?;
        if spec.target.place.is_none() {
            let looked = vec!["the containers netd knows".into(), "/run/netns".into()];
            return Err(Refusal::NoSuchContainer { name: name.to_string(), looked }.into());
        }
        self.count += 1;
        let subnet = network.subnets[0].subnet;
        let ip = spec.ip.map(Into::into).or_else(|| subnet.address(subnet.bounds().0 + 1 + u128::from(self.count)));
        let ip = ip.unwrap();
        let publish = |port: &crate::model::publication::PortSpec| Publication {
            host_ip: port.host_ip,
            host: port.host.unwrap_or_else(|| PortRange::single(49153).unwrap()),
            container: port.container,
            protocol: port.protocol,
        };
        let endpoint = self.desired.insert_endpoint(Endpoint {
            network: network.name.clone(),
            container: Container {
                id: spec.target.id.unwrap_or_else(|| ContainerId::from_random([self.count; 32])),
                netns: Netns {
                    path: format!("/run/netns/{name}").into(),
                    id: NetnsId { device: 4, inode: u64::from(self.count), cookie: None },
                },
                name,
            },
            sequence: u64::from(self.count),
            ifname: spec.ifname.unwrap_or_else(|| "eth0".parse().unwrap()),
            host_ifname: format!("ve{}", self.count).parse().unwrap(),
            addresses: vec![subnet.interface(ip)],
            gateways: vec![network.subnets[0].gateway],
            mac: crate::model::address::Mac::for_address(ip),
            aliases: spec.aliases,
            publications: spec.ports.iter().map(publish).collect(),
        });
        self.publish(Change::Connected(endpoint.clone()));
        Ok(endpoint)
    }

    fn disconnect(&mut self, network: &str, container: &str) -> Result<Arc<Endpoint>, Error> {
        let network = self.network(network)?;
        let not_connected = || Refusal::NotConnected { container: container.into(), network: network.name.clone() };
        let Lookup::One(attached) = self.desired.find_container(container) else {
            return Err(not_connected().into());
        };
        let mut endpoints = attached.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.network == network.name).ok_or_else(not_connected)?.clone();
        self.desired.remove_endpoint(&endpoint.key());
        self.publish(Change::Disconnected { endpoint: endpoint.clone(), asked: true });
        Ok(endpoint)
    }
}
