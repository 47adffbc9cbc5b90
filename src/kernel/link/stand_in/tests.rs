//! Stand-ins in namespaces of the tests, observed through `ip -j`.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::kernel::testing::lab::{in_own_netns, ip};
use crate::kernel::testing::throwaway::run;

const GATEWAY: &str = "10.77.0.1";
const GATEWAY6: &str = "fd77::1";

fn stand_in(bridge: &str) -> StandIn {
    StandIn {
        bridge: bridge.parse().unwrap(),
        host_ifname: "ndp-net1".parse().unwrap(),
        addresses: ["10.77.0.254/24", "fd77::ffff/64"].map(|address| address.parse().unwrap()).into(),
    }
}

/// A bridge of another program, without an address of its own and with one port whose address is high.
fn bridge() {
    run("ip link add br0 type bridge");
    run("ip link add one type veth peer name other");
    run("ip link set one address fe:00:00:00:00:01 master br0 up");
    for command in ["link set other up", "link set br0 mtu 1300 up", "address add 10.77.0.1/24 dev br0"] {
        run(&format!("ip {command}"));
    }
    run("ip address add fd77::1/64 dev br0 nodad");
}

/// Names, addresses, groups and MTUs of all links, and the neighbours on the bridge.
fn shown() -> String {
    let links = ip("-d link show");
    let links = links.as_array().unwrap().iter();
    let links: Vec<_> =
        links.map(|l| format!("{} {} {} {}", l["ifname"], l["address"], l["group"], l["mtu"])).collect();
    format!("{links:#?} {}", ip("neighbour show dev br0"))
}

/// Connections that end with a reset, so that the servers send nothing afterwards.
fn connects() -> io::Result<()> {
    for gateway in [GATEWAY, GATEWAY6] {
        let at = std::net::SocketAddr::new(gateway.parse().unwrap(), 53);
        let connection = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    }
    Ok(())
}

#[test]
fn a_stand_in_asks_over_the_bridge_and_leaves_nothing() {
    in_own_netns(|| {
        bridge();
        let _servers = [GATEWAY, GATEWAY6].map(|gateway| TcpListener::bind((gateway, 53)).unwrap());
        let (mut netlink, sysctl) = (Netlink::open().unwrap(), Sysctl::open());
        let before = shown();
        let during = || connects().map(|()| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let stand_ins = StandIns::begin(&mut netlink, &sysctl, vec![(stand_in("br0"), during)]);
        let link = link::get(&mut netlink, &"ndp-net1".parse().unwrap()).unwrap().expect("it is there while it asks");
        assert_eq!((link.group, link.isolated, link.mtu), (link::UNFINISHED_GROUP, true, 1300));
        let bridge = link::get(&mut netlink, &"br0".parse().unwrap()).unwrap().unwrap();
        assert_eq!((bridge.mac.unwrap().to_string().as_str(), bridge.mtu), ("fe:00:00:00:00:01", 1300));
        let mut leaving = Leaving::default();
        let answers = stand_ins.end(&mut netlink, &mut leaving);
        leaving.wait();
        let devices = answers.into_iter().next().unwrap().unwrap();
        assert!(devices.contains("eth0") && !devices.contains("br0"), "{devices}");
        assert_eq!(shown(), before);
    });
}

#[test]
fn a_stand_in_that_cannot_be_made_says_why_and_leaves_nothing() {
    in_own_netns(|| {
        let (mut netlink, sysctl) = (Netlink::open().unwrap(), Sysctl::open());
        bridge();
        type Job = fn() -> io::Result<()>;
        let jobs: [(&str, Job); 2] = [("br1", || Ok(())), ("br0", || Err(io::Error::other("no luck")))];
        let jobs = jobs.map(|(bridge, job)| (stand_in(bridge), job)).into();
        let before = shown();
        let mut leaving = Leaving::default();
        let answers = StandIns::begin(&mut netlink, &sysctl, jobs).end(&mut netlink, &mut leaving).into_iter();
        leaving.wait();
        let mut answers = answers.map(|answer| answer.unwrap_err().to_string());
        assert!(answers.next().unwrap().starts_with("ask from a namespace on br1: there is no such bridge"));
        assert!(answers.next().unwrap().starts_with("ask from a namespace on br0: no luck"));
        assert_eq!(shown(), before);
    });
}

/// What another program gave the name is not touched; what a killed daemon left is replaced.
#[test]
fn the_name_of_the_interface_may_be_taken() {
    in_own_netns(|| {
        bridge();
        let _udp = UdpSocket::bind((GATEWAY, 53)).unwrap();
        let (mut netlink, sysctl) = (Netlink::open().unwrap(), Sysctl::open());
        let mut tried = || {
            let mut leaving = Leaving::default();
            let stand_ins = StandIns::begin(&mut netlink, &sysctl, vec![(stand_in("br0"), || Ok(()))]);
            let answer = stand_ins.end(&mut netlink, &mut leaving).remove(0);
            leaving.wait();
            answer
        };
        run("ip link add ndp-net1 type veth peer name ndp-other");
        let error = tried().unwrap_err().to_string();
        assert!(error.starts_with("create veth pair ndp-net1: "), "{error}");
        run(&format!("ip link set ndp-net1 group {}", link::UNFINISHED_GROUP));
        tried().unwrap();
        assert!(!shown().contains("ndp-"), "{}", shown());
    });
}
