//! Services on the real kernel, as clients see them: in containers on a bridge, on another bridge, and on the host.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use netd_testing::wait::until;

use super::Nft;
use crate::kernel::testing::lab::{Parked, in_own_netns};
use crate::kernel::testing::throwaway::run;
use crate::logic::slots::{port_elements, vip_elements};
use crate::model::address::{Family, Subnet};
use crate::model::host::element::{Element, Published, Table, Verdict};
use crate::model::names::IfName;
use crate::model::publication::Protocol;

/// A refusal comes at once; an answer to a packet that was dropped never does.
const AT_ONCE: Duration = Duration::from_secs(1);
const VIPS: [&str; 2] = ["10.77.0.200", "fd00:77::200"];
const GATEWAYS: [&str; 2] = ["10.77.0.1", "fd00:77::1"];

/// The host, the calling thread: a bridge with three containers, and another bridge with one.
struct World {
    nft: Nft,
    containers: BTreeMap<u8, Parked>,
    stranger: Parked,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bridge() -> IfName {
    "nd-net1".parse().unwrap()
}

/// The containers' addresses end with these numbers.
fn member(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => [10, 77, 0, number].into(),
        Family::V6 => [0xfd00, 0x77, 0, 0, 0, 0, 0, u16::from(number)].into(),
    }
}

impl World {
    /// `bridged`: frames within a bridge pass the hooks of IP, too.
    fn new(bridged: &str) -> Self {
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
        }
        // As netd's own bridges: their addresses are usable at once.
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        for family in ["iptables", "ip6tables"] {
            // Not there without br_netfilter.
            _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), bridged);
        }
        run("ip link set lo up");
        for (name, net) in [("nd-net1", 77), ("nd-net2", 78)] {
            run(&format!("ip link add {name} type bridge"));
            run(&format!("ip addr add 10.{net}.0.1/24 dev {name}"));
            run(&format!("ip addr add fd00:{net}::1/64 dev {name} nodad"));
            run(&format!("ip link set {name} up"));
        }
        run("ip addr add 10.77.0.200/32 dev nd-net1");
        // Deprecated: otherwise masquerading would choose it for others, whose connections would end with the service.
        run("ip addr add fd00:77::200/128 dev nd-net1 nodad preferred_lft 0");
        let containers = (2..=4).map(|number| (number, container("nd-net1", 77, number))).collect();
        let mut world = Self { nft: Nft::new().unwrap(), containers, stranger: container("nd-net2", 78, 2) };
        let elements: Vec<Element> = ["nd-net1", "nd-net2"].into_iter().flat_map(network).collect();
        world.nft.replace_table(Table::Inet, &elements).unwrap();
        for number in [3, 4] {
            world.containers[&number].run(move || serve(number));
        }
        until("the network carries packets", || {
            let from = |number| world.containers[&number].run(|| tcp(ip("fd00:77::4"), 80));
            from(2).map(|_| ()).and_then(|()| from(3).map(|_| ())).map_err(|error| error.to_string())
        });
        world
    }

    fn service(&mut self, before: &[u8], after: &[u8], affinity: bool) {
        let elements = |numbers: &[u8]| {
            let both = [Family::V4, Family::V6];
            let members: Vec<IpAddr> =
                both.iter().flat_map(|family| numbers.iter().map(|number| member(*family, *number))).collect();
            let mut elements: Vec<Element> =
                VIPS.iter().flat_map(|vip| vip_elements(ip(vip), &bridge(), affinity, &members)).collect();
            for (family, protocol) in
                both.iter().flat_map(|family| [(*family, Protocol::Tcp), (*family, Protocol::Udp)])
            {
                elements.extend(port_elements((protocol, 8080), 80, affinity, &members, family));
            }
            elements
        };
        self.nft.change(&elements(before), &elements(after)).unwrap();
    }

    fn ask<T: Send + 'static>(
        &self,
        number: u8,
        ask: impl Fn(IpAddr, u16) -> T + Send + 'static,
        to: (IpAddr, u16),
    ) -> T {
        self.containers[&number].run(move || ask(to.0, to.1))
    }
}

fn network(bridge: &str) -> Vec<Element> {
    let name: IfName = bridge.parse().unwrap();
    let mut elements = vec![Element::Bridge(name.clone()), Element::Allowed(name.clone(), name)];
    let net = &bridge[bridge.len() - 1..].replace('1', "77").replace('2', "78");
    for subnet in [format!("10.{net}.0.0/24"), format!("fd00:{net}::/64")] {
        let subnet: Subnet = subnet.parse().unwrap();
        elements.extend([Element::Masquerade(subnet), Element::Hairpin(subnet)]);
    }
    elements
}

fn container(bridge: &str, net: u8, number: u8) -> Parked {
    let (container, end) = (Parked::new(), format!("c{net}{number}"));
    run(&format!("ip link add {end} type veth peer name eth0 netns {}", container.path.display()));
    run(&format!("ip link set {end} master {bridge}"));
    // As netd's own ports: a container may reach itself.
    run(&format!("ip link set {end} type bridge_slave hairpin on"));
    run(&format!("ip link set {end} up"));
    container.run(move || {
        run("ip link set lo up");
        run(&format!("ip addr add 10.{net}.0.{number}/24 dev eth0"));
        run(&format!("ip addr add fd00:{net}::{number}/64 dev eth0 nodad"));
        run("ip link set eth0 up");
        run(&format!("ip route add default via 10.{net}.0.1"));
        run(&format!("ip route add default via fd00:{net}::1"));
    });
    container
}

/// Answers every question, on TCP and UDP, with its number and the address of who asks.
fn serve(number: u8) {
    let listener = TcpListener::bind("[::]:80").unwrap();
    let socket = UdpSocket::bind("[::]:80").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream, number));
        }
    });
    std::thread::spawn(move || {
        let mut question = [0; 8];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            socket.send_to(format!("{number} {}", from.ip().to_canonical()).as_bytes(), from).unwrap();
        }
    });
}

fn answer(mut stream: TcpStream, number: u8) -> io::Result<()> {
    let from = stream.peer_addr()?.ip().to_canonical();
    let mut question = [0; 8];
    while stream.read(&mut question)? > 0 {
        stream.write_all(format!("{number} {from}").as_bytes())?;
    }
    Ok(())
}

/// Who answers, and whom it sees.
type Answer = io::Result<(u8, IpAddr)>;

fn tcp(to: IpAddr, port: u16) -> Answer {
    asked(&mut connect(to, port)?)
}

fn connect(to: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), AT_ONCE)?;
    stream.set_read_timeout(Some(AT_ONCE))?;
    Ok(stream)
}

fn asked(stream: &mut TcpStream) -> Answer {
    stream.write_all(b"?")?;
    let mut text = [0; 64];
    let read = stream.read(&mut text)?;
    Ok(parse(&text[..read]))
}

fn udp(to: IpAddr, port: u16) -> Answer {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(AT_ONCE))?;
    socket.connect((to, port))?;
    socket.send(b"?")?;
    let mut text = [0; 64];
    let read = socket.recv(&mut text)?;
    Ok(parse(&text[..read]))
}

fn parse(text: &[u8]) -> (u8, IpAddr) {
    let (number, from) = std::str::from_utf8(text).unwrap().split_once(' ').unwrap();
    (number.parse().unwrap(), from.parse().unwrap())
}

/// Who answers that many questions, and how often.
fn answers(ask: fn(IpAddr, u16) -> Answer, count: usize) -> impl Fn(IpAddr, u16) -> BTreeMap<u8, usize> {
    move |to, port| {
        let mut answers = BTreeMap::new();
        for _ in 0..count {
            *answers.entry(ask(to, port).unwrap_or_else(|error| panic!("{to} {port}: {error}")).0).or_default() += 1;
        }
        answers
    }
}

fn refused(ask: fn(IpAddr, u16) -> Answer) -> impl Fn(IpAddr, u16) + Send + Copy {
    move |to, port| {
        let began = Instant::now();
        let kind = ask(to, port).map_err(|error| error.kind());
        assert!(kind == Err(ErrorKind::ConnectionRefused), "{to} {port}: {kind:?}");
        assert!(began.elapsed() < AT_ONCE / 2, "{to} {port}: refused after {:?}", began.elapsed());
    }
}

/// The test on hosts of both kinds.
fn on_hosts(test: fn(World)) {
    for bridged in ["0", "1"] {
        in_own_netns(move || test(World::new(bridged)));
    }
}

#[test]
fn connections_to_a_virtual_address_reach_all_members_from_everywhere_in_the_network() {
    on_hosts(|mut world| {
        world.service(&[], &[3, 4], false);
        for (vip, gateway) in VIPS.into_iter().map(ip).zip(GATEWAYS.into_iter().map(ip)) {
            for ask in [tcp, udp] {
                // A container that is no member, and a member, which may reach itself.
                for number in [2, 3] {
                    let answers = world.ask(number, answers(ask, 100), (vip, 80));
                    assert!(answers.len() == 2 && answers.values().all(|count| *count >= 25), "{vip}: {answers:?}");
                    assert_eq!(world.ask(number, ask, (vip, 80)).unwrap().1, gateway);
                }
                assert_eq!(answers(ask, 50)(vip, 80).len(), 2, "from the host");
                // It is an address of its own network only.
                world.stranger.run(move || refused(ask)(vip, 80));
            }
        }
        // The kernel tells hosts whose packets it forwards back into their bridge where to send them instead. That must
        // never lead them past the translation: it does not tell it of IPv4, and of IPv6 about the members only.
        for (number, container) in &world.containers {
            let routes = container.run(|| VIPS.map(|vip| run(&format!("ip route get {vip}"))));
            assert!(routes.iter().all(|route| !route.contains(" via ")), "container {number}: {routes:?}");
        }
    });
}

#[test]
fn a_service_without_members_refuses_at_once() {
    on_hosts(|mut world| {
        // Somebody publishes the same port: at the service's address that is not the answer.
        let publish = |number| {
            let to = member(Family::V4, number);
            Element::Publish(Published { host_ip: None, protocol: Protocol::Tcp, port: 80, to, to_port: 80 })
        };
        world.nft.change(&[], &[publish(3)]).unwrap();
        world.service(&[], &[], false);
        assert_eq!(world.stranger.run(|| tcp(ip("10.78.0.1"), 80)).unwrap().0, 3);
        for (vip, gateway) in VIPS.into_iter().map(ip).zip(GATEWAYS.into_iter().map(ip)) {
            for ask in [tcp, udp] {
                for to in [(vip, 80), (vip, 81), (gateway, 8080)] {
                    world.ask(2, refused(ask), to);
                    refused(ask)(to.0, to.1);
                }
            }
        }
        // As soon as it has one, it answers; without it, it refuses again, and who is connected stays.
        world.service(&[], &[4], false);
        assert_eq!(world.ask(2, answers(udp, 10), (ip(VIPS[0]), 80)), BTreeMap::from([(4, 10)]));
        let mut stream = world.ask(2, connect, (ip(VIPS[0]), 80)).unwrap();
        world.service(&[4], &[], false);
        world.ask(2, refused(tcp), (ip(VIPS[0]), 80));
        assert_eq!(asked(&mut stream).unwrap().0, 4);
    });
}

#[test]
fn a_published_port_of_a_service_leads_to_all_members_on_their_port() {
    on_hosts(|mut world| {
        world.service(&[], &[3, 4], false);
        for (ask, host) in [(tcp as fn(IpAddr, u16) -> Answer, "10.78.0.1"), (udp, "fd00:78::1")] {
            let answers_there = world.stranger.run(move || answers(ask, 50)(ip(host), 8080));
            assert_eq!(answers_there.len(), 2, "{host}: {answers_there:?}");
            // The client's own address is what the members see.
            let (_, from) = world.stranger.run(move || ask(ip(host), 8080)).unwrap();
            assert_eq!(from, ip(&host.replace("0.1", "0.2").replace("::1", "::2")));
            assert_eq!(answers(ask, 50)(ip(host), 8080).len(), 2, "from the host");
        }
    });
}

#[test]
fn with_affinity_a_client_stays_with_its_member() {
    on_hosts(|mut world| {
        world.service(&[], &[3, 4], true);
        for (vip, ask) in VIPS.into_iter().map(ip).zip([tcp, udp]) {
            let first = world.ask(2, answers(ask, 50), (vip, 80));
            assert_eq!(first.len(), 1, "{first:?}");
        }
    });
}

/// Containers of internal networks reach nothing of the host, and their services.
#[test]
fn containers_to_which_the_host_is_closed_reach_the_services_of_their_network() {
    on_hosts(|mut world| {
        let _listener = TcpListener::bind("[::]:9000").unwrap();
        world.service(&[], &[3, 4], false);
        world.nft.change(&[], &[Element::ToHost(bridge(), Verdict::Closed), Element::PortsClosed(bridge())]).unwrap();
        for (vip, gateway) in VIPS.into_iter().map(ip).zip(GATEWAYS.into_iter().map(ip)) {
            assert_eq!(world.ask(2, answers(tcp, 50), (vip, 80)).len(), 2);
            for port in [8080, 9000] {
                let outcome = world.ask(2, tcp, (gateway, port)).map_err(|error| error.kind());
                assert_eq!(outcome, Err(ErrorKind::TimedOut), "{gateway} {port}");
            }
        }
        world.service(&[3, 4], &[], false);
        for vip in VIPS.map(ip) {
            // 9000: nothing of the host answers at a service's address.
            [80, 9000].into_iter().for_each(|port| world.ask(2, refused(tcp), (vip, port)));
        }
    });
}
