//! What becomes of addresses where the host is the gateway: routed and unprotected networks, and another source address.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use libtest_mimic::Trial;
use netd_testing::lab::space::inside;
use netd_testing::wait::{contains, is, lacks};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::{HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, echo, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("gateway modes: routed: open ports are reached at the container's address, others are not", routed),
        trial("gateway modes: nat-unprotected: everything is reached at the container's address", unprotected),
        trial("gateway modes: a source address of the host takes the place of masquerading", source),
    ]
}

const BOTH: [Proto; 2] = [Proto::Tcp, Proto::Udp];

/// The outside routes to the container.
fn route_to(address: IpAddr) {
    let via = if address.is_ipv4() { HOST4 } else { HOST6 };
    run(&format!("ip -n outside route replace {address} via {via}")).ok();
}

/// Whether an echo request (RFC 792, RFC 4443) is answered.
fn pings(ns: &str, to: IpAddr) -> bool {
    let (family, protocol, request) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, [8, 0, 0xf7, 0xfd, 0, 1, 0, 1]),
        // The kernel computes the checksum.
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, [128, 0, 0, 0, 0, 1, 0, 1]),
    };
    inside(ns, || {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 300_000)).unwrap();
        let at = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(socket.as_raw_fd(), &request, &at, MsgFlags::empty()).unwrap();
        let mut reply = [0; 128];
        while let Ok(length) = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()) {
            // IPv4 comes with its header.
            let kind = if to.is_ipv4() { reply[..length].get(20) } else { reply[..length].first() };
            if matches!(kind, Some(0 | 129)) {
                return true;
            }
        }
        false
    })
}

/// Who answers a ping, a published and an unpublished port at the container's own address.
fn reached(from: &str, address: IpAddr) -> (bool, bool, bool) {
    let answers = |port| BOTH.iter().all(|proto| echo::answers(from, *proto, (address, port)).is_some());
    (pings(from, address), answers(80), answers(81))
}

fn routed(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o com.docker.network.bridge.gateway_mode_ipv4=routed").ok();
    lab.netd("network create net2 --ipv6").ok();
    let line = lab.netd("connect net1 web -p 4000:80 -p 4000:80/udp");
    assert!(line.code != Some(0), "no such container as yet");
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    // The host port counts for nothing, so nobody is in the way of another.
    lab.connected("net1", "second", "-p 4000:80");
    lab.connected("net2", "other", "");
    let _servers: Vec<Server> = [80, 81].iter().map(|port| Server::start("web", "web", *port)).collect();
    let _outside = Server::start("outside", "outside", 8080);
    let shown = lab.endpoint("net1", "web");
    assert_eq!(
        (&shown["opened_ports"], &shown["ports"]),
        (&serde_json::json!(["80/tcp", "80/udp"]), &serde_json::json!([]))
    );
    assert_eq!(lab.network("net1")["gateway_mode"], "routed");
    assert_eq!(lab.netd("ps --filter name=web --format {{.Ports}}").ok().stdout.trim(), "80/tcp, 80/udp");
    for (address, to) in lab.address("net1", "web").into_iter().zip([OUTSIDE4, OUTSIDE6]) {
        route_to(address);
        for from in ["outside", "other"] {
            assert_eq!(reached(from, address), (true, true, false), "{from} {address}");
        }
        assert_eq!(ask("web", Proto::Tcp, (to, 8080)).saw, address, "nothing is translated");
    }
    echo::expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    // Ports are opened and closed later, too.
    let web = lab.address("net1", "web")[0];
    lab.netd("port add web 81").ok();
    until("the port is open", || echo::answers("outside", Proto::Tcp, (web, 81)));
    lab.netd("port rm web 81").ok();
    echo::expect_no_answer("outside", Proto::Tcp, (web, 81));
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(reached("outside", web), (true, true, false), "after a restart");
    lab.netd("disconnect net1 web").ok();
    assert!(!crate::lab::look::elements().contains(&web.to_string()), "nothing of it stays");
}

fn unprotected(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o gateway_mode=nat-unprotected").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net2", "other", "");
    let _servers: Vec<Server> = [80, 81].iter().map(|port| Server::start("web", "web", *port)).collect();
    let _outside = Server::start("outside", "outside", 8080);
    for (address, (to, host)) in lab.address("net1", "web").into_iter().zip([(OUTSIDE4, HOST4), (OUTSIDE6, HOST6)]) {
        route_to(address);
        for from in ["outside", "other"] {
            assert_eq!(reached(from, address), (true, true, true), "{from} {address}");
        }
        assert_eq!(ask("outside", Proto::Tcp, (host, 4000)).who, "web", "published as ever");
        assert_eq!(ask("web", Proto::Tcp, (to, 8080)).saw.to_string(), host, "masqueraded as ever");
    }
}

fn source(lab: &Lab) {
    lab.start_daemon();
    for (address, length) in [("192.0.2.7", 24), ("2001:db8::7", 64)] {
        // Not preferred, so that nothing else is sent from it.
        let more = if length == 64 { "nodad preferred_lft 0" } else { "" };
        run(&format!("ip -n host address add {address}/{length} dev uplink {more}")).ok();
    }
    lab.netd("network create net1 --ipv6 -o host_ipv4=192.0.2.7 -o com.docker.network.host_ipv6=2001:db8::7").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net2", "other", "");
    let _servers = [Server::start("outside", "outside", 8080), Server::start("web", "web", 80)];
    for proto in BOTH {
        for (to, from, host) in [(OUTSIDE4, "192.0.2.7", HOST4), (OUTSIDE6, "2001:db8::7", HOST6)] {
            assert_eq!(ask("web", proto, (to, 8080)).saw.to_string(), from, "{proto:?}");
            assert_eq!(ask("other", proto, (to, 8080)).saw.to_string(), host, "other networks as ever");
        }
    }
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("web", Proto::Tcp, (HOST4, 4000)).who, "web", "its own port");
    let status = || lab.netd("status").ok().stdout;
    until("no problem", || lacks(status(), "192.0.2.7"));
    lab.differs("nothing that netd made, but the host's address is gone");
    run("ip -n host address del 192.0.2.7/24 dev uplink").ok();
    let patience = std::time::Duration::from_secs(15);
    crate::lab::until_within(patience, "the lost address is a problem", || contains(status(), "192.0.2.7"));
    run("ip -n host address add 192.0.2.7/24 dev uplink").ok();
    crate::lab::until_within(patience, "it ends", || lacks(status(), "192.0.2.7"));
    lab.netd("disconnect net1 web").ok();
    lab.netd("network rm net1").ok();
    until("nothing stays", || is(crate::lab::look::elements().contains("192.0.2.7"), &false));
}
