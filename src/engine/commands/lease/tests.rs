//! Leases over the fake kernel: what the client tells, and what becomes of endpoints and of those who wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::task::JoinHandle;

use crate::engine::event::{Change, Event};
use crate::engine::lease::{Client, LeaseFate, LeaseNews};
use crate::engine::{Config, Engine, Error, Handle, begin};
use crate::kernel::fake::Fake;
use crate::logic::dhcp::message::Say;
use crate::model::endpoint::Endpoint;
use crate::model::lease::Lease;
use crate::model::network::{MacvlanMode, StackedMode};
use crate::model::request::{
    AttachmentKey, ContainerRef, DriverSpec, EndpointSpec, InterfaceSource, NetworkSpec, PersonRequest, Requester,
    RuntimeRequest,
};
use crate::runtimes::NoRuntimes;
use crate::store::memory::Memory;

/// An engine with the networks `lan` on eth0, where the host has 192.0.2.1, and `other` on eth1.
struct World {
    fake: Fake,
    handle: Handle,
    events: Receiver<Arc<Event>>,
}

/// A caller that may give up.
struct Caller<T> {
    gone: Arc<AtomicBool>,
    call: JoinHandle<Result<T, Error>>,
}

impl<T> Caller<T> {
    fn hangs_up(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

impl World {
    async fn new() -> Self {
        let fake = Fake::default();
        ["web", "db"].into_iter().for_each(|name| fake.add_namespace(name));
        for (name, address) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
            fake.add_card(name.parse().unwrap(), vec![address.parse().unwrap()]);
        }
        let Engine { handle, mut listening, .. } =
            begin(Config::default(), fake.clone(), Memory::default(), Arc::new(NoRuntimes)).unwrap();
        listening.close();
        for (name, parent) in [("lan", "eth0"), ("other", "eth1")] {
            handle.create_network(network(name, parent)).await.unwrap();
        }
        let events = handle.events();
        Self { fake, handle, events }
    }

    /// Connects the first container of "lan", which gets this address.
    async fn leased(&self, container: &str, address: &str) -> Arc<Endpoint> {
        let caller = self.connect("lan", container);
        let endpoint = self.made("lan", 0).await;
        self.granted(&endpoint, address).await;
        caller.call.await.unwrap().unwrap()
    }

    fn connect(&self, network: &str, container: &str) -> Caller<Arc<Endpoint>> {
        let container = ContainerRef { name: container.into(), netns: None, id: None };
        let request = PersonRequest { network: network.into(), container, reservation: None };
        let (handle, spec) = (self.handle.clone(), EndpointSpec::of(Requester::Person(request)));
        let gone = Arc::new(AtomicBool::new(false));
        let is_gone = gone.clone();
        let call =
            tokio::spawn(async move { handle.connect_unless(spec, move || is_gone.load(Ordering::SeqCst)).await });
        Caller { gone, call }
    }

    /// A runtime attaches `web` to these networks.
    fn attach(&self, networks: &[(&str, &str)]) -> Caller<Vec<Arc<Endpoint>>> {
        let spec = |(index, (name, parent)): (usize, &(&str, &str))| {
            let ifname = format!("eth{index}").parse().unwrap();
            let key = AttachmentKey { owner: name.parse().unwrap(), container: "pod".parse().unwrap(), ifname };
            let ifname = Some(key.ifname.clone());
            let request = RuntimeRequest {
                key,
                netns: "/run/netns/web".into(),
                network: network(name, parent),
                name: None,
                scope: None,
                interface: InterfaceSource::Made,
                process: None,
            };
            EndpointSpec { ifname, ..EndpointSpec::of(Requester::Runtime(Box::new(request))) }
        };
        let specs = networks.iter().enumerate().map(spec).collect();
        let (handle, gone) = (self.handle.clone(), Arc::new(AtomicBool::new(false)));
        let is_gone = gone.clone();
        let call =
            tokio::spawn(async move { handle.connect_together(specs, move || is_gone.load(Ordering::SeqCst)).await });
        Caller { gone, call }
    }

    fn endpoint(&self, network: &str, after: u64) -> Option<Arc<Endpoint>> {
        let snapshot = self.handle.snapshot();
        snapshot.desired.endpoints_of(&network.parse().unwrap()).find(|endpoint| endpoint.sequence > after).cloned()
    }

    /// The first endpoint on the network that is made after the one with that sequence.
    async fn made(&self, network: &str, after: u64) -> Arc<Endpoint> {
        let mut revisions = self.handle.revisions();
        loop {
            if let Some(endpoint) = self.endpoint(network, after) {
                return endpoint;
            }
            let changed = tokio::time::timeout(Duration::from_secs(10), revisions.changed()).await;
            changed.expect("it is not made").unwrap();
        }
    }

    async fn told(&self, endpoint: &Endpoint, fate: LeaseFate) -> Option<String> {
        let (client, key) = (Client::from(endpoint), endpoint.key());
        self.handle.note_lease(LeaseNews { key, sequence: endpoint.sequence, client, fate }).await
    }

    async fn granted(&self, endpoint: &Endpoint, address: &str) -> Option<String> {
        self.told(endpoint, LeaseFate::Granted(Box::new(lease(address)))).await
    }

    /// The events since the last look, in short.
    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.events.try_recv().ok())
            .map(|event| match &event.change {
                Change::Connected(endpoint) => format!("connected {}", endpoint.container.name),
                Change::Disconnected { endpoint, .. } => format!("disconnected {}", endpoint.container.name),
                Change::Lease { message, .. } | Change::Problem(message) => message.clone(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    /// Kind and interface of the messages that were sent by the engine.
    fn sent(&self) -> Vec<(u8, String)> {
        let frames = self.fake.world().frames.clone();
        frames.iter().map(|(_, ifname, frame)| (frame[42 + 240 + 2], ifname.to_string())).collect()
    }

    fn addresses(&self) -> Vec<String> {
        let world = self.fake.world();
        world.links.values().flat_map(|link| link.addresses.iter().map(ToString::to_string)).collect()
    }
}

fn network(name: &str, parent: &str) -> NetworkSpec {
    let mode = StackedMode::Macvlan(MacvlanMode::Bridge);
    let driver = DriverSpec::Stacked { parent: parent.parse().unwrap(), mode, host: Vec::new() };
    NetworkSpec { driver, dhcp: true, ..NetworkSpec::named(name.parse().unwrap()) }
}

fn lease(address: &str) -> Lease {
    Lease {
        address: format!("{address}/24").parse().unwrap(),
        router: None,
        server: [192, 0, 2, 2].into(),
        server_mac: "02:00:00:00:00:99".parse().unwrap(),
        granted: 0,
        granted_at: 0,
        seconds: 3600,
        renew: 1800,
        rebind: 3150,
    }
}

const RELEASE: u8 = 7;

#[tokio::test]
async fn a_caller_gets_its_endpoint_once_an_address_is_granted_and_the_server_has_it_back_in_the_end() {
    let mut world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    assert_eq!((endpoint.addresses.len(), world.heard()), (0, Vec::new()));
    assert_eq!(world.granted(&endpoint, "192.0.2.7").await, None);
    assert_eq!(web.call.await.unwrap().unwrap().addresses[0].to_string(), "192.0.2.7/24");
    assert_eq!((world.heard(), world.addresses()), (vec!["connected web".into()], vec!["192.0.2.7/24".into()]));
    assert_eq!(world.sent(), []);
    world.handle.disconnect("lan", "web").await.unwrap();
    assert_eq!((world.heard(), world.sent()), (vec!["disconnected web".into()], vec![(RELEASE, "eth0".into())]));
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_declined_and_the_caller_waits_for_another() {
    let world = World::new().await;
    let web = world.leased("web", "192.0.2.7").await;
    // The parent that was looked at last is that of another network.
    let elsewhere = world.connect("other", "db");
    world.made("other", 0).await;
    let db = world.connect("lan", "db");
    let endpoint = world.made("lan", web.sequence).await;
    let on_other = world.made("other", 0).await;
    for (endpoint, address, why) in [
        (&endpoint, "192.0.2.7", "container web has it"),
        (&on_other, "198.51.100.1", "the host has it"),
        (&endpoint, "192.0.2.1", "the host has it"),
    ] {
        let told = world.granted(endpoint, address).await;
        assert!(told.as_deref().is_some_and(|told| told.contains(why)), "{address}: {told:?}");
    }
    assert_eq!(world.granted(&endpoint, "192.0.2.8").await, None);
    assert_eq!(db.call.await.unwrap().unwrap().addresses[0].to_string(), "192.0.2.8/24");
    assert_eq!(world.granted(&on_other, "198.51.100.7").await, None);
    assert!(elsewhere.call.await.unwrap().is_ok());
}

#[tokio::test]
async fn the_address_of_a_container_that_has_ended_unnoticed_can_be_granted_to_another() {
    let world = World::new().await;
    let web = world.leased("web", "192.0.2.7").await;
    let db = world.connect("lan", "db");
    let endpoint = world.made("lan", web.sequence).await;
    world.fake.delete_namespace("web");
    assert_eq!(world.granted(&endpoint, "192.0.2.7").await, None);
    assert_eq!(db.call.await.unwrap().unwrap().addresses[0].to_string(), "192.0.2.7/24");
}

#[tokio::test]
async fn what_is_granted_to_an_endpoint_that_has_gone_is_given_back_from_the_host() {
    let world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    world.handle.disconnect("lan", "web").await.unwrap();
    let refused = web.call.await.unwrap().unwrap_err().to_string();
    assert_eq!(refused, "web was disconnected from network lan before it had an address");
    assert_eq!(world.granted(&endpoint, "192.0.2.7").await, None);
    assert_eq!(world.sent(), [(RELEASE, "eth0".to_owned())]);
    assert_eq!(world.fake.world().frames[0].0, 1, "in the namespace of the host");
}

#[tokio::test]
async fn a_lease_prolonged_with_an_address_that_cannot_be_used_is_lost_and_the_end_of_an_endpoint_is_told_then_too() {
    let mut world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    world.granted(&endpoint, "192.0.2.7").await;
    web.call.await.unwrap().unwrap();
    world.heard();
    assert!(world.granted(&endpoint, "192.0.2.1").await.is_some());
    assert_eq!(world.addresses(), [""; 0]);
    let heard = world.heard();
    assert!(
        heard.iter().any(|line| line.contains("the server gives 192.0.2.1 instead, but the host has it")),
        "{heard:?}"
    );
    world.handle.disconnect("lan", "web").await.unwrap();
    assert_eq!(world.heard(), ["disconnected web"], "it had been connected");
}

#[tokio::test]
async fn an_endpoint_whose_lease_has_ended_has_no_address_and_gets_one_again() {
    let mut world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    world.granted(&endpoint, "192.0.2.7").await;
    web.call.await.unwrap().unwrap();
    world.heard();
    assert_eq!(world.told(&endpoint, LeaseFate::Lost("it has ended".into())).await, None);
    assert_eq!((world.addresses(), world.handle.snapshot().problems.len()), (Vec::<String>::new(), 1));
    world.granted(&endpoint, "192.0.2.9").await;
    assert_eq!(world.addresses(), ["192.0.2.9/24"]);
    assert_eq!(world.handle.snapshot().problems, [""; 0]);
}

#[tokio::test]
async fn a_lease_that_was_prolonged_in_the_last_moment_has_not_ended() {
    let world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    let lasts = |seconds| LeaseFate::Granted(Box::new(Lease { seconds, ..lease("192.0.2.7") }));
    world.told(&endpoint, lasts(Lease::FOREVER)).await;
    web.call.await.unwrap().unwrap();
    world.told(&endpoint, LeaseFate::Ended).await;
    assert_eq!(world.addresses(), ["192.0.2.7/24"]);
    world.told(&endpoint, lasts(0)).await;
    world.told(&endpoint, LeaseFate::Ended).await;
    assert_eq!(world.addresses(), [""; 0]);
}

#[tokio::test]
async fn an_endpoint_that_gets_no_address_is_removed_and_the_caller_told_why() {
    let mut world = World::new().await;
    let web = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    world.told(&endpoint, LeaseFate::Failed("nobody answers".into())).await;
    let refused = web.call.await.unwrap().unwrap_err().to_string();
    assert_eq!(refused, "no address for web on network lan, which is on eth0: nobody answers");
    assert!(world.endpoint("lan", 0).is_none());
    assert_eq!((world.heard(), world.fake.world().links.len()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_caller_that_has_died_takes_nothing_from_another_that_waits_for_the_same() {
    let world = World::new().await;
    let first = world.attach(&[("lan", "eth0")]);
    let endpoint = world.made("lan", 0).await;
    let second = world.attach(&[("lan", "eth0")]);
    // Commands are carried out in their order.
    world.handle.backup().await.unwrap();
    first.hangs_up();
    assert_eq!(world.granted(&endpoint, "192.0.2.7").await, None);
    assert_eq!(second.call.await.unwrap().unwrap()[0].sequence, endpoint.sequence);
    assert_eq!(world.addresses(), ["192.0.2.7/24"]);
    drop(first);
}

#[tokio::test]
async fn who_has_given_up_can_ask_again_and_waits_again() {
    let world = World::new().await;
    let first = world.connect("lan", "web");
    let endpoint = world.made("lan", 0).await;
    first.hangs_up();
    let again = world.connect("lan", "web");
    let anew = world.made("lan", endpoint.sequence).await;
    assert_eq!(world.granted(&anew, "192.0.2.7").await, None);
    assert_eq!(again.call.await.unwrap().unwrap().sequence, anew.sequence);
    // One that still waits is not disturbed.
    let db = world.connect("other", "db");
    let endpoint = world.made("other", 0).await;
    let refused = world.connect("other", "db").call.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("already"), "{refused}");
    world.granted(&endpoint, "198.51.100.7").await;
    assert!(db.call.await.unwrap().is_ok());
}

#[tokio::test]
async fn if_one_of_several_is_disconnected_while_they_wait_the_rest_is_undone() {
    let world = World::new().await;
    let both = world.attach(&[("lan", "eth0"), ("other", "eth1")]);
    let (first, _second) = (world.made("lan", 0).await, world.made("other", 0).await);
    assert_eq!(world.granted(&first, "192.0.2.7").await, None);
    world.handle.disconnect("lan", "pod").await.unwrap();
    let refused = both.call.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("was disconnected from network lan"), "{refused}");
    assert!(world.endpoint("other", 0).is_none());
    assert_eq!(world.fake.world().links.len(), 0);
}

#[test]
fn a_frame_has_its_kind_where_these_tests_look_for_it() {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let client = Client { mac, id: mac, name: String::new() };
    let message = client.encode(Say::Release([192, 0, 2, 7].into(), [192, 0, 2, 2].into()), 1, 0);
    assert_eq!(message[240..243], [53, 1, RELEASE]);
}
