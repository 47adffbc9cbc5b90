//! An engine over the fake kernel and the memory store, which die together, and the commands of the scenarios.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipnetwork::IpNetwork;
use netd::api::v1::attachment_key;
use netd::engine::listener::Listening;
use netd::engine::{self, Engine, Error, Snapshot};
use netd::kernel::KernelEvent;
use netd::kernel::fake::{Fake, World};
use netd::model::address::Mac;
use netd::model::backup::Backup;
use netd::model::host::observed::{HostEnd, ObservedInterface};
use netd::model::names::IfName;
use netd::model::network::DnsListen;
use netd::model::request::{
    AttachmentKey, Attachments, CheckSpec, MemberAction, MemberChange, NetnsRef, NetworkSpec, PolicyChange, PortAction,
    PortChange, Requester, ServiceSpec, ServiceUpdate,
};
use netd::runtimes::NoRuntimes;
use netd::store::memory::Memory;
use netd::store::{Record, Store as _};
use netd_testing::clock::Clock;
use netd_testing::request::{Attach, connect, reserve};

use crate::model;
use crate::view::View;

/// What a command answered.
pub(crate) type Answer = Result<(), Error>;

pub(crate) struct Lab {
    pub(crate) fake: Fake,
    pub(crate) store: Memory,
    dead: Arc<AtomicBool>,
    engine: Option<Engine>,
    /// Stopped: how often the engine looks at the kernel must not depend on how busy the machine is.
    _clock: Clock,
    runtime: tokio::runtime::Runtime,
}

impl Lab {
    /// A running engine without networks, and a few network namespaces.
    pub(crate) fn new() -> Self {
        let dead = Arc::<AtomicBool>::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (fake, store) = (Fake::of_process(dead.clone()), Memory::of_process(dead.clone()));
        let clock = runtime.block_on(async { Clock::stop() });
        let mut lab = Self { fake, store, dead, engine: None, _clock: clock, runtime };
        lab.fake.world().ways = vec!["eth0".parse().unwrap()];
        ["web", "db", "pod1", "pod2"].iter().for_each(|name| lab.fake.add_namespace(name));
        lab.start().unwrap();
        lab
    }

    pub(crate) fn start(&mut self) -> Answer {
        // The engine has the clock of this runtime.
        let _runtime = self.runtime.enter();
        // Subnets of five addresses, so that one that is lost is missed.
        let mut engine =
            engine::start(crate::support::config(29), self.fake.clone(), self.store.clone(), Arc::new(NoRuntimes))?;
        let (_, nothing) = tokio::sync::mpsc::unbounded_channel();
        let mut listening = std::mem::replace(&mut engine.listening, nothing);
        // A name service that has no sockets, but confirms that it serves. It ends with the engine.
        std::thread::spawn(move || {
            while let Some(message) = listening.blocking_recv() {
                if let Listening::Alive(told) = message {
                    let _ = told.send(());
                }
            }
        });
        self.engine = Some(engine);
        // Refused after the engine's own first work; the second, after what the engine does after each command.
        let _ = self.capacity("?");
        let _ = self.capacity("?");
        Ok(())
    }

    /// Ends the process, if it runs. What it did until then stays; the next one has no faults.
    pub(crate) fn end(&mut self) {
        if let Some(engine) = self.engine.take() {
            self.runtime.block_on(engine.handle.stop());
            engine.thread.join().expect("the engine's thread panicked");
        }
        self.fake.process_ended();
        self.store.set_fault(None);
    }

    pub(crate) fn restart(&mut self) {
        self.end();
        self.start().expect("a start without faults");
    }

    /// Whether the process has died at a fault.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.engine.is_some()
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.fake.world()
    }

    pub(crate) fn handle(&self) -> engine::Handle {
        self.engine.as_ref().expect("a running engine").handle.clone()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.handle().snapshot()
    }

    /// What a user sees; while nothing runs, what the next start finds.
    pub(crate) fn view(&self) -> View {
        if self.is_running() { View::of_snapshot(&self.snapshot()) } else { View::of_store(&self.store.stored()) }
    }

    /// How the kernel differs from what the engine says that there is.
    pub(crate) fn differences(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        model::differences(&snapshot, &self.world())
    }

    /// Emits the event, and returns when the engine has handled it.
    pub(crate) fn emit(&self, event: &KernelEvent) {
        self.fake.emit(event);
        // Refused without a look at kernel or store, after everything before it.
        let _ = self.capacity("?");
    }

    pub(crate) fn create(&self, name: &str, change: impl FnOnce(&mut NetworkSpec)) -> Answer {
        let mut spec = NetworkSpec::named(name.parse().unwrap());
        change(&mut spec);
        self.runtime.block_on(self.handle().create_network(spec)).map(drop)
    }

    pub(crate) fn remove(&self, name: &str) -> Answer {
        self.runtime.block_on(self.handle().remove_network(name)).map(drop)
    }

    pub(crate) fn prune(&self) -> Answer {
        self.runtime.block_on(self.handle().prune_networks()).map(drop)
    }

    pub(crate) fn backup(&self) -> Backup {
        self.runtime.block_on(self.handle().backup()).unwrap()
    }

    pub(crate) fn restore(&self, backup: Backup) -> Answer {
        self.runtime.block_on(self.handle().restore(backup)).map(drop)
    }

    pub(crate) fn connect(&self, network: &str, container: &str, ports: &[&str]) -> Answer {
        let request = ports.iter().fold(connect(network, container), |request, port| request.publish(port));
        self.runtime.block_on(self.handle().connect(request.spec())).map(drop)
    }

    /// Connects a container that another engine made.
    pub(crate) fn connect_docked(&self, network: &str, container: &str, pid: u32) -> Answer {
        let mut spec = connect(network, container).spec();
        let Requester::Person(request) = &mut spec.requester else { unreachable!("a person's request") };
        request.container.netns = Some(NetnsRef::OfEngine(pid));
        self.runtime.block_on(self.handle().connect(spec)).map(drop)
    }

    /// Creates a service on the networks, of which the containers are members.
    pub(crate) fn create_service(&self, spec: ServiceSpec) -> Answer {
        self.runtime.block_on(self.handle().create_service(spec)).map(drop)
    }

    /// Changes the service in the version that it has before the first update, so that a second try is late.
    pub(crate) fn update_service(&self, spec: ServiceSpec) -> Answer {
        let update = ServiceUpdate { service: spec.name.to_string(), version: Some(1), spec };
        self.runtime.block_on(self.handle().update_service(update)).map(drop)
    }

    pub(crate) fn remove_service(&self, name: &str) -> Answer {
        self.runtime.block_on(self.handle().remove_service(name)).map(drop)
    }

    pub(crate) fn change_member(&self, member: &str, action: MemberAction) -> Answer {
        let change = MemberChange { member: member.to_owned(), action };
        self.runtime.block_on(self.handle().change_member(change)).map(drop)
    }

    pub(crate) fn change_policies(&self, change: PolicyChange) -> Answer {
        self.runtime.block_on(self.handle().change_policies(change)).map(drop)
    }

    /// Publishes a further port of the container, or stops publishing one.
    pub(crate) fn change_port(&self, container: &str, port: &str, action: PortAction) -> Answer {
        let change = PortChange { container: container.to_owned(), network: None, port: port.parse().unwrap(), action };
        self.runtime.block_on(self.handle().change_port(change)).map(drop)
    }

    pub(crate) fn reserve(&self, network: &str, id: &str, ports: &[&str]) -> Answer {
        let request = ports.iter().fold(reserve(network, id), |request, port| request.publish(port));
        self.runtime.block_on(self.handle().reserve(request.spec())).map(drop)
    }

    pub(crate) fn release(&self, id: &str) -> Answer {
        self.runtime.block_on(self.handle().release_reservation(id)).map(drop)
    }

    /// Connects the container with a reservation.
    pub(crate) fn connect_reserved(&self, network: &str, container: &str, id: &str) -> Answer {
        self.runtime.block_on(self.handle().connect(connect(network, container).reservation(id).spec())).map(drop)
    }

    pub(crate) fn disconnect(&self, network: &str, container: &str) -> Answer {
        self.runtime.block_on(self.handle().disconnect(network, container)).map(drop)
    }

    /// Its reservation is the one with this id afterwards.
    pub(crate) fn disconnect_keeping(&self, network: &str, container: &str, id: &str) -> Answer {
        let keep = Some(id.parse().unwrap());
        self.runtime.block_on(self.handle().disconnect_keeping(network, container, keep)).map(drop)
    }

    /// The two requests wait together, so that the engine carries them out together.
    pub(crate) fn disconnect_both(&self, one: (&str, &str), two: (&str, &str)) -> Answer {
        let handle = self.handle();
        // The engine waits for the world in a command that looks at the host and is refused, until both are in its mailbox.
        let world = self.world();
        let (first, second, ()) = self.runtime.block_on(async {
            let release = async { drop(world) };
            let look = handle.create_network(NetworkSpec::named(one.0.parse().unwrap()));
            let (_, first, second, ()) =
                tokio::join!(look, handle.disconnect(one.0, one.1), handle.disconnect(two.0, two.1), release);
            (first, second, ())
        });
        first.and(second).map(drop)
    }

    /// Attaches the namespace as the container of the same name, with its `eth0`.
    pub(crate) fn attach(&self, request: Attach) -> Answer {
        self.attach_at("eth0", request)
    }

    pub(crate) fn attach_at(&self, ifname: &str, request: Attach) -> Answer {
        let key = key(request.netns(), ifname);
        self.runtime.block_on(self.handle().connect(request.spec(key))).map(drop)
    }

    /// Attaches the container to several networks, with `eth0`, `eth1`, ….
    pub(crate) fn attach_together(&self, requests: Vec<Attach>) -> Answer {
        let spec = |(nth, request): (usize, Attach)| request.clone().spec(key(request.netns(), &format!("eth{nth}")));
        let specs = requests.into_iter().enumerate().map(spec).collect();
        self.runtime.block_on(self.handle().connect_together(specs, || false)).map(drop)
    }

    pub(crate) fn detach_together(&self, attachments: Attachments) -> Answer {
        self.runtime.block_on(self.handle().detach_together(attachments))
    }

    pub(crate) fn detach(&self, key: AttachmentKey) -> Answer {
        self.runtime.block_on(self.handle().detach(key))
    }

    pub(crate) fn check(&self, netns: &str) -> Answer {
        self.runtime.block_on(self.handle().check(check_spec(netns)))
    }

    pub(crate) fn capacity(&self, network: &str) -> Answer {
        self.runtime.block_on(self.handle().capacity(network))
    }

    /// Detaches everything but the `eth0` of that container.
    pub(crate) fn gc(&self, keep: &str) -> Answer {
        let AttachmentKey { owner, container, ifname } = key(keep, "eth0");
        self.runtime.block_on(self.handle().gc(owner, vec![(container, ifname)])).map(drop)
    }

    /// The machine boots: what lives until then is gone, and the namespaces are new ones.
    pub(crate) fn reboot(&mut self) {
        let stored = self.store.stored();
        let mut records: Vec<Record> = stored.endpoints.iter().map(|e| Record::DeleteEndpoint(e.key())).collect();
        records.extend(stored.reservations.iter().map(|reserved| Record::DeleteReservation(reserved.id.clone())));
        let released = stored.released.into_iter();
        records.extend(released.map(|(network, address, _)| Record::DeleteReleased(network, address)));
        self.store.commit(&records).unwrap();
        let names: Vec<_> = self.world().namespaces.keys().cloned().collect();
        *self.world() = World { last_inode: 100, ..World::default() };
        names.iter().for_each(|path| self.fake.add_namespace_at(path));
    }

    /// The files of netd are deleted.
    pub(crate) fn empty_store(&mut self) {
        self.store = Memory::of_process(self.dead.clone());
    }

    /// The record of the container's endpoints is lost, and what they have stays.
    pub(crate) fn forget(&mut self, container: &str) {
        let endpoints = self.store.stored().endpoints;
        let of_container = endpoints.iter().filter(|endpoint| endpoint.container.name.as_str() == container);
        let records: Vec<Record> = of_container.map(|endpoint| Record::DeleteEndpoint(endpoint.key())).collect();
        self.store.commit(&records).unwrap();
    }

    /// The record of the network is lost.
    pub(crate) fn forget_network(&mut self, network: &str) {
        self.store.commit(&[Record::DeleteNetwork(network.parse().unwrap())]).unwrap();
    }

    /// Another program deletes the pair, and with it the routes over it and its limits.
    pub(crate) fn delete_link(&self, name: &str) {
        let mut world = self.world();
        let name: IfName = name.parse().unwrap();
        let link = world.links.remove(&name).unwrap();
        world.shapings.remove(&name);
        let routes = world.routes.get_mut(&link.netns.id.inode).unwrap();
        routes.retain(|route| route.ifname != link.ifname);
    }

    /// Another program makes `eth0` in the namespace, with this address of 10.22.0.0/16, on its bridge if it has one.
    pub(crate) fn make_found(&self, netns: &str, address: &str, bridge: Option<&str>) {
        let mut world = self.world();
        let inode = world.namespaces[&std::path::PathBuf::from(format!("/run/netns/{netns}"))];
        let bridge: Option<IfName> = bridge.map(|bridge| bridge.parse().unwrap());
        let host: IfName = format!("veth{netns}").parse().unwrap();
        let gateway: IpNetwork = "10.22.0.1/16".parse().unwrap();
        world.facts.addresses = vec![(gateway, bridge.clone().unwrap_or_else(|| host.clone()))];
        let address = IpNetwork::new(address.parse().unwrap(), 16).unwrap();
        let seen = ObservedInterface {
            mac: Some(Mac::for_address(address.ip())),
            up: true,
            loopback_up: true,
            link_local: true,
            mtu: 1500,
            addresses: vec![address],
            routes: Vec::new(),
            unrouted: Vec::new(),
            default_elsewhere: Vec::new(),
            host_end: Some(HostEnd { name: host, bridge, up: true, isolated: false, vlan: None }),
        };
        world.found.insert((inode, "eth0".parse().unwrap()), seen);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// How the runtime knows the attachment.
pub(crate) fn key(container: &str, ifname: &str) -> AttachmentKey {
    attachment_key("podman", container, ifname).unwrap()
}

/// The name service listens within the containers.
pub(crate) fn within(spec: &mut NetworkSpec) {
    spec.dns.listen = DnsListen::Container;
}

fn check_spec(netns: &str) -> CheckSpec {
    let path = format!("/run/netns/{netns}").into();
    CheckSpec { key: key(netns, "eth0"), netns: path, addresses: Vec::new(), mac: None, mtu: None }
}
