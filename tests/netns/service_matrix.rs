//! The matrix of services: their virtual addresses and published ports, from every place, over both families and
//! protocols, with bridged packets passing iptables hooks and without.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::seen;

use crate::lab::echo::until_proxied;
use crate::lab::{self, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, run, skippable, space, trial, until};
use crate::matrix::{index, link_local};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("service matrix: bridge-nf-call-iptables 0", |lab| matrix(lab, "0", "--ipv6")),
        skippable("service matrix: bridge-nf-call-iptables 1", |lab| matrix(lab, "1", "--ipv6")),
        skippable("service matrix: networks without IPv6, bridge-nf-call-iptables 0", |lab| matrix(lab, "0", "")),
        skippable("service matrix: networks without IPv6, bridge-nf-call-iptables 1", |lab| matrix(lab, "1", "")),
        trial("service matrix: networks without IPv4", without_ipv4),
    ]
}

/// An attempt to reach the service, and whether a member must answer.
struct Cell {
    place: &'static str,
    ns: &'static str,
    to: SocketAddr,
    proto: Proto,
    reaches: bool,
    /// The client's address as the member must see it, where nothing forces another.
    saw: Option<IpAddr>,
}

fn matrix(lab: &Lab, bridge_nf: &str, families: &str) -> Completion {
    if let Err(why) = space::bridge_netfilter(bridge_nf) {
        return Completion::ignored_with(why);
    }
    let _servers = set_up(lab, families);
    let addresses = virtual_addresses(lab, "front");
    assert_eq!(addresses.len(), if families.is_empty() { 1 } else { 2 }, "one of each family: {addresses:?}");
    for address in &addresses {
        // Whoever has a route to it does not reach it, because it is an address of this network.
        let via = if address.is_ipv4() { HOST4 } else { HOST6 };
        run(&format!("ip -n outside route add {address} via {via}")).ok();
    }
    let mut cells = cells(&addresses, &lab.address("net2", "other"));
    cells.extend(of_the_host());
    all_hold(&cells);
    no_member_is_ready(lab);
    Completion::Completed
}

fn without_ipv4(lab: &Lab) {
    let _servers = set_up(lab, "--subnet fd00:77::/64");
    all_hold(&of_the_host());
    no_member_is_ready(lab);
}

/// `front` with its members `w1` and `w2` on net1, and servers in them.
fn set_up(lab: &Lab, families: &str) -> [Server; 2] {
    lab.start_daemon();
    lab.netd(&format!("network create net1 {families}")).ok();
    lab.netd(&format!("network create net2 {}", families.replace(":77:", ":78:"))).ok();
    for (network, container) in [("net1", "w1"), ("net1", "w2"), ("net1", "same"), ("net2", "other")] {
        lab.connected(network, container, "");
    }
    let create = "service create front --network net1 --mode vip --member w1 --member w2 -p 4000:80 -p 4000:80/udp";
    lab.netd(create).ok();
    let servers = [Server::start("w1", "w1", 80), Server::start("w2", "w2", 80)];
    until_proxied(4000);
    servers
}

#[track_caller]
fn all_hold(cells: &[Cell]) {
    let failures: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = cells.iter().map(|cell| scope.spawn(|| judge(cell))).collect();
        asking.into_iter().filter_map(|thread| thread.join().expect("no cell panics")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cells are wrong:\n{}", failures.len(), cells.len(), failures.join("\n"));
}

/// The published ports refuse at every address while no member is ready, and answer again.
fn no_member_is_ready(lab: &Lab) {
    assert_eq!(lab.diff(), "", "nothing differs from the target");
    let both = |is: &str| ["w1", "w2"].iter().for_each(|member| drop(lab.netd(&format!("service {is} {member}")).ok()));
    both("unready");
    let refused: Vec<Cell> = of_the_host().into_iter().map(|cell| Cell { reaches: false, ..cell }).collect();
    for Cell { ns, to, .. } in refused.iter().filter(|cell| cell.proto == Proto::Tcp) {
        // netd's proxy is told, and stops listening in a moment.
        let refused = || {
            let tried = lab::ask_from(ns, None, Proto::Tcp, *to, Duration::from_secs(1)).map_err(|error| error.kind());
            seen(tried, |tried| *tried == Err(ErrorKind::ConnectionRefused)).map(drop)
        };
        until(&format!("{ns} is refused at {to}"), refused);
    }
    all_hold(&refused);
    assert_eq!(lab.diff(), "", "nothing differs from the target");
    both("ready");
    all_hold(&of_the_host());
}

/// The virtual addresses of a service.
pub(crate) fn virtual_addresses(lab: &Lab, service: &str) -> Vec<IpAddr> {
    let shown = lab.netd(&format!("service inspect {service} --json")).ok().json();
    let addresses = shown[0]["networks"][0]["addresses"].as_array().expect("addresses").clone();
    addresses.iter().map(|address| address.as_str().unwrap().parse().unwrap()).collect()
}

fn cells(virtual_addresses: &[IpAddr], other: &[IpAddr]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for proto in [Proto::Tcp, Proto::Udp] {
        let mut add = |place, ns, to: SocketAddr, reaches, saw| cells.push(Cell { place, ns, to, proto, reaches, saw });
        for address in virtual_addresses {
            let at = |port| SocketAddr::new(*address, port);
            for (place, ns) in [("the same network", "same"), ("a member itself", "w1"), ("the host", "host")] {
                add(place, ns, at(80), true, None);
                add(place, ns, at(81), false, None);
            }
            add("another network, at the virtual address", "other", at(80), false, None);
            add("outside, at the virtual address", "outside", at(80), false, None);
        }
        for (host, outside) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)] {
            let at = |port| SocketAddr::new(host.parse().expect("an address"), port);
            let outside: IpAddr = outside.parse().expect("an address");
            // Where the networks have no IPv6, netd passes on what others send to the host's IPv6 addresses.
            if !virtual_addresses.iter().any(|address| address.is_ipv4() == outside.is_ipv4()) {
                continue;
            }
            let other = other.iter().copied().find(|address| address.is_ipv4() == outside.is_ipv4());
            add("published, from outside", "outside", at(4000), true, Some(outside));
            add("published, from another network", "other", at(4000), true, other);
            for (place, ns) in [("the same network", "same"), ("a member itself", "w1")] {
                add(place, ns, at(4000), true, None);
            }
        }
    }
    cells
}

/// The published ports at every address of the host, and others there.
fn of_the_host() -> Vec<Cell> {
    let (host, outside) = (link_local("host"), index("outside"));
    let mut cells = Vec::new();
    for proto in [Proto::Tcp, Proto::Udp] {
        let mut add = |place, ns, of: SocketAddr| {
            for (port, reaches) in [(4000, true), (80, false)] {
                let to = match of {
                    SocketAddr::V4(of) => SocketAddr::new((*of.ip()).into(), port),
                    SocketAddr::V6(of) => SocketAddrV6::new(*of.ip(), port, 0, of.scope_id()).into(),
                };
                cells.push(Cell { place, ns, to, proto, reaches, saw: None });
            }
        };
        for host in [HOST4, HOST6] {
            let of = SocketAddr::new(host.parse().expect("an address"), 0);
            add("the host's address, from outside", "outside", of);
            add("the host's address, from the host", "host", of);
        }
        for loopback in ["127.0.0.1", "::1"] {
            add("the host by its loopback", "host", SocketAddr::new(loopback.parse().expect("an address"), 0));
        }
        add("the host by its link-local address", "host", host.into());
        add("outside by the host's link-local address", "outside", SocketAddrV6::new(*host.ip(), 0, 0, outside).into());
    }
    cells
}

/// Asks several times, so that each member answers.
fn judge(cell: &Cell) -> Option<String> {
    let Cell { place, ns, to, proto, reaches, saw } = cell;
    let wrong = |what: String| Some(format!("  {place}: {ns} -> {to} {proto:?}: {what}"));
    let patience = Duration::from_millis(if *reaches { 4000 } else { 900 });
    let mut members = BTreeSet::new();
    for _ in 0..if *reaches { 40 } else { 1 } {
        match (lab::ask_from(ns, None, *proto, *to, patience), reaches) {
            (Err(error), true) => return wrong(format!("no answer: {error}")),
            (Ok(reply), false) => return wrong(format!("reached: {reply:?}")),
            (Err(_), false) => {}
            (Ok(reply), true) => {
                if saw.is_some_and(|saw| saw != reply.saw) {
                    return wrong(format!("the member saw {} instead", reply.saw));
                }
                members.insert(reply.who);
            }
        }
    }
    let both: BTreeSet<String> = ["w1", "w2"].map(str::to_owned).into();
    (*reaches && members != both).then(|| wrong(format!("only {members:?} answered 40 times")))?
}
