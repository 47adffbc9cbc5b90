//! The grace of drained members: for how long the connections that a service leads to them stay.

use std::time::Duration;

use netd::model::host::step::{Flows, Through};
use netd::model::request::{MemberAction, MemberChange, ServiceSpec, ServiceUpdate};
use netd::model::service::Mode;
use netd_testing::clock::Clock;

use super::monitors::problems;
use super::*;

const GRACE: u64 = 30;
const MOMENT: Duration = Duration::from_millis(10);

struct Drained {
    /// Ends before the runtime, which waits for it.
    clock: Clock,
    world: World,
}

impl Drained {
    /// The services `shop`, with a virtual address and a port, and `plain`, which leads no connections; `web` and `db` are
    /// members of both.
    fn new() -> Self {
        let world = World::new();
        let clock = world.runtime.block_on(async { Clock::stop() });
        let run = |world: &World| {
            let handle = world.handle();
            world.runtime.block_on(async move {
                handle.create_network(network_spec("net1")).await.unwrap();
                for name in ["web", "db"] {
                    let container = ContainerRef { name: name.into(), netns: None, id: None };
                    handle.connect(person("net1", container)).await.unwrap();
                }
                let ports = vec!["8080:80".parse().unwrap()];
                handle.create_service(ServiceSpec { ports, mode: Mode::Vip, ..spec("shop") }).await.unwrap();
                handle.create_service(spec("plain")).await.unwrap();
            });
        };
        run(&world);
        Self { clock, world }
    }

    fn say(&self, action: MemberAction) {
        let change = MemberChange { member: "web".into(), action };
        self.world.runtime.block_on(self.world.handle().change_member(change)).unwrap();
    }

    /// After this time: what the kernel was told to forget since the last call.
    fn forgotten_after(&self, time: Duration) -> Vec<Flows> {
        self.world.runtime.block_on(self.clock.jump(time));
        // The engine looks at its clock after the first command, and answers the second afterwards.
        problems(&self.world);
        problems(&self.world);
        let mut forgotten = std::mem::take(&mut self.world.fake.world().forgotten);
        // Those of datagrams end with the drain.
        let is_udp =
            |flows: &Flows| matches!(flows, Flows::Through(Through { protocol: Some(p), .. }) if p.number() == 17);
        forgotten.retain(|flows| !is_udp(flows));
        forgotten
    }

    /// All that leads to `web`, of any protocol at the virtual address.
    fn whole(&self) -> Vec<Flows> {
        let snapshot = self.world.handle().snapshot();
        let shop = snapshot.desired.service(&"shop".parse().unwrap()).unwrap().clone();
        let member = snapshot.desired.endpoints().find(|endpoint| endpoint.container.name.as_str() == "web");
        let member = member.map(|endpoint| endpoint.addresses[0].ip());
        let (family, address) = (netd::model::address::Family::V4, shop.addresses().next());
        let port = shop.publications[0].clone();
        let (protocol, at) = (Some(port.protocol), Some(port.host.first()));
        vec![
            Flows::Through(Through { family, address, protocol: None, port: None, member }),
            Flows::Through(Through { family, address: None, protocol, port: at, member }),
        ]
    }
}

fn spec(name: &str) -> ServiceSpec {
    let (networks, members) = (vec![("net1".to_owned(), Vec::new())], vec!["web".to_owned(), "db".to_owned()]);
    let grace = GRACE.try_into().unwrap();
    ServiceSpec { networks, members, grace, ..ServiceSpec::named(name.parse().unwrap()) }
}

#[test]
fn connections_of_a_drained_member_end_when_its_grace_is_over() {
    let drained = Drained::new();
    drained.say(MemberAction::Drain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE - 2)), [], "they have time");
    assert_eq!(drained.forgotten_after(Duration::from_secs(2) + MOMENT), drained.whole());
    // Other changes do not end them again.
    drained.say(MemberAction::Unready);
    drained.say(MemberAction::Drain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE * 2)), []);
}

#[test]
fn what_is_no_longer_drained_keeps_its_connections() {
    let drained = Drained::new();
    drained.say(MemberAction::Drain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE / 2)), []);
    drained.say(MemberAction::Undrain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE * 2)), []);
}

#[test]
fn an_update_of_the_grace_counts_for_members_that_are_drained_already() {
    let drained = Drained::new();
    drained.say(MemberAction::Drain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE / 2)), []);
    let update = |grace| {
        let spec = ServiceSpec { grace, ..ServiceSpec::from(&*service(&drained, "shop")) };
        let update = ServiceUpdate { service: "shop".into(), version: None, spec };
        drained.world.runtime.block_on(drained.world.handle().update_service(update)).unwrap();
    };
    update(2 * u32::try_from(GRACE).unwrap());
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE)), [], "it is longer now");
    update(0);
    assert_eq!(drained.forgotten_after(MOMENT), drained.whole());
}

fn service(drained: &Drained, name: &str) -> Arc<netd::model::service::Service> {
    drained.world.handle().snapshot().desired.service(&name.parse().unwrap()).unwrap().clone()
}

#[test]
fn the_grace_goes_on_after_a_restart_and_a_failure_is_tried_again() {
    let mut drained = Drained::new();
    drained.say(MemberAction::Drain);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE - 2)), []);
    drained.world.stop();
    drained.world.start();
    // The clock of the calendar was not moved.
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE - 2)), []);
    drained.world.fake.world().faults = Faults::call_of("ForgetFlows", 0);
    assert_eq!(drained.forgotten_after(Duration::from_secs(2) + MOMENT), [], "told to fail");
    assert_eq!(drained.forgotten_after(Duration::from_secs(1)), drained.whole());
}

#[test]
fn a_member_that_ended_or_a_service_that_is_gone_has_no_grace() {
    let drained = Drained::new();
    drained.say(MemberAction::Drain);
    let handle = drained.world.handle();
    drained.world.runtime.block_on(handle.disconnect("net1", "web")).unwrap();
    drained.forgotten_after(Duration::ZERO);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE * 2)), []);
    let drained = Drained::new();
    drained.say(MemberAction::Drain);
    drained.world.runtime.block_on(drained.world.handle().remove_service("shop")).unwrap();
    drained.forgotten_after(Duration::ZERO);
    assert_eq!(drained.forgotten_after(Duration::from_secs(GRACE * 2)), []);
}
