//! What a network's containers can reach on the host (`--host-access`): services, published ports, the name service; at
//! every address of the host, over both families and protocols.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};

use crate::lab::look::elements;
use crate::lab::{
    Dig, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, ask_from, ip_json, skippable, space, trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("host access: bridge-nf-call-iptables 0", |lab| matrix(lab, "0")),
        skippable("host access: bridge-nf-call-iptables 1", |lab| matrix(lab, "1")),
        trial("host access: link-local addresses of the host are closed", link_local),
        trial("host access: rules are removed with their network and restored after a crash", comes_and_goes),
    ]
}

const BOTH: [Proto; 2] = [Proto::Tcp, Proto::Udp];

/// A network, and what its containers can reach at the host's addresses.
struct Kind {
    name: &'static str,
    flags: &'static str,
    services: bool,
    ports: bool,
    /// Whether the network is internal: no published ports and no outgoing connections.
    internal: bool,
}

const KINDS: [Kind; 5] = [
    Kind { name: "plain", flags: "", services: true, ports: true, internal: false },
    Kind { name: "ports", flags: "--host-access ports", services: false, ports: true, internal: false },
    Kind { name: "none", flags: "--host-access none", services: false, ports: false, internal: false },
    Kind { name: "hidden", flags: "--internal", services: false, ports: false, internal: true },
    Kind { name: "shown", flags: "--internal --host-access all", services: true, ports: false, internal: true },
];

/// A connection attempt, and the expected server.
struct Cell {
    what: &'static str,
    ns: String,
    to: SocketAddr,
    proto: Proto,
    who: Option<String>,
}

fn matrix(lab: &Lab, bridge_nf: &str) -> Completion {
    if let Err(why) = space::bridge_netfilter(bridge_nf) {
        return Completion::ignored_with(why);
    }
    lab.start_daemon();
    lab.netd("network create open --ipv6").ok();
    lab.connected("open", "web", "-p 4000:80 -p 4000:80/udp");
    let mut servers = vec![Server::start("web", "web", 80), Server::start("outside", "outside", 8080)];
    for uplink in [HOST4, HOST6].map(|text| text.parse().unwrap()) {
        servers.extend([53, 9000].map(|port| Server::at("host", "host", SocketAddr::new(uplink, port))));
    }
    servers.extend(services_at_gateways(lab, "open"));
    let mut cells = Vec::new();
    for (kind, own) in KINDS.iter().zip(4100..) {
        lab.netd(&format!("network create {} --ipv6 {}", kind.name, kind.flags)).ok();
        let publish = if kind.internal { String::new() } else { format!("-p {own}:80 -p {own}:80/udp") };
        lab.connected(kind.name, &client(kind), &publish);
        servers.push(Server::start(&client(kind), kind.name, 80));
        servers.extend(services_at_gateways(lab, kind.name));
        if kind.internal {
            // The container has no route to other addresses of the host; adding one must not give access.
            for gateway in gateways(lab, kind.name) {
                crate::lab::run(&format!("ip -n {} route add default via {gateway}", client(kind))).ok();
            }
        }
        cells.extend(cells_of(lab, kind, own));
    }
    judge_all(&cells);
    KINDS.iter().for_each(|kind| names(lab, kind));
    Completion::Completed
}

fn client(kind: &Kind) -> String {
    format!("at-{}", kind.name)
}

fn gateways(lab: &Lab, network: &str) -> Vec<IpAddr> {
    let network = lab.network(network);
    let subnets = network["subnets"].as_array().unwrap().iter();
    subnets.map(|subnet| subnet["gateway"].as_str().unwrap().parse().unwrap()).collect()
}

/// Services of the host, each at one address: a UDP server at all addresses might answer from another one.
fn services_at_gateways(lab: &Lab, network: &str) -> Vec<Server> {
    gateways(lab, network).into_iter().map(|ip| Server::at("host", "host", SocketAddr::new(ip, 9000))).collect()
}

/// `own` is the host port of the network's own container, where it publishes one.
fn cells_of(lab: &Lab, kind: &Kind, own: u16) -> Vec<Cell> {
    let mut cells = Vec::new();
    let hosts = [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)]
        .map(|pair| -> (IpAddr, IpAddr) { (pair.0.parse().unwrap(), pair.1.parse().unwrap()) });
    let (at_own, at_other) = (gateways(lab, kind.name), gateways(lab, "open"));
    for (family, (uplink, outside)) in hosts.into_iter().enumerate() {
        let (gateway, other) = (at_own[family], at_other[family]);
        let address = lab.address(kind.name, &client(kind))[family];
        for proto in BOTH {
            let mut add = |what, ns: &str, ip: IpAddr, port: u16, who: Option<&str>| {
                let to = SocketAddr::new(ip, port);
                cells.push(Cell { what, ns: ns.to_owned(), to, proto, who: who.map(str::to_owned) });
            };
            let from = client(kind);
            let service = kind.services.then_some("host");
            add("a service of the host at the gateway", &from, gateway, 9000, service);
            add("a service of the host at its uplink", &from, uplink, 9000, service);
            add("a service of the host at another gateway", &from, other, 9000, service);
            add("the host's own name server at its uplink", &from, uplink, 53, service);
            let port = kind.ports.then_some("web");
            add("a published port at the gateway", &from, gateway, 4000, port);
            add("a published port at the uplink", &from, uplink, 4000, port);
            add("a published port at another gateway", &from, other, 4000, port);
            add("the container from the host", "host", address, 80, Some(kind.name));
            if kind.internal {
                add("the outside", &from, outside, 8080, None);
            } else {
                add("its own published port at the uplink", &from, uplink, own, kind.ports.then_some(kind.name));
                add("its own published port at the gateway", &from, gateway, own, kind.ports.then_some(kind.name));
                add("its published port from outside", "outside", uplink, own, Some(kind.name));
                add("the outside", &from, outside, 8080, Some("outside"));
            }
        }
    }
    cells
}

/// Fails, naming them, when cells are wrong.
#[track_caller]
fn judge_all(cells: &[Cell]) {
    let failures: Vec<String> = thread::scope(|scope| {
        let asking: Vec<_> = cells.iter().map(|cell| scope.spawn(|| judge(cell))).collect();
        asking.into_iter().filter_map(|thread| thread.join().expect("no cell panics")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cells are wrong:\n{}", failures.len(), cells.len(), failures.join("\n"));
}

fn judge(cell: &Cell) -> Option<String> {
    let Cell { what, ns, to, proto, who } = cell;
    let patience = Duration::from_millis(if who.is_some() { 4000 } else { 900 });
    let reply = ask_from(ns, None, *proto, *to, patience);
    let wrong = |why: String| Some(format!("  {what}: {ns} -> {to} {proto:?}: {why}"));
    match (reply, who) {
        (Err(error), Some(_)) => wrong(format!("no answer: {error}")),
        (Ok(reply), None) => wrong(format!("reached: {reply:?}")),
        (Ok(reply), Some(who)) if reply.who != *who => wrong(format!("answered by {reply:?}")),
        _ => None,
    }
}

/// The name service at the gateway answers with every setting, over both families and protocols.
fn names(lab: &Lab, kind: &Kind) {
    let address = lab.address(kind.name, &client(kind))[0].to_string();
    for gateway in gateways(lab, kind.name) {
        for transport in ["+notcp", "+tcp"] {
            Dig::expect(&client(kind), &format!("@{gateway} {transport} {}", client(kind)), &[&address]);
        }
    }
}

fn link_local(lab: &Lab) {
    lab.start_daemon();
    let (mut servers, mut cells) = (Vec::new(), Vec::new());
    for (name, flags) in [("plain", ""), ("shut", "--host-access ports"), ("hidden", "--internal")] {
        let (bridge, ns) = (format!("br-{name}"), format!("at-{name}"));
        lab.netd(&format!("network create {name} --ipv6 -o bridge={bridge} {flags}")).ok();
        lab.connected(name, &ns, "");
        let address = own_link_local("host", &bridge);
        for port in [9000, 53] {
            servers.push(Server::at("host", "host", at(address, port, "host", &bridge)));
            let to = at(address, port, &ns, "eth0");
            let who = (name == "plain").then(|| "host".to_owned());
            let cell = |proto| Cell {
                what: "the host by its link-local address",
                ns: ns.clone(),
                to,
                proto,
                who: who.clone(),
            };
            cells.extend(BOTH.map(cell));
        }
    }
    judge_all(&cells);
}

/// The link-local address of an interface, once duplicate address detection has finished.
fn own_link_local(ns: &str, ifname: &str) -> Ipv6Addr {
    crate::lab::until(&format!("{ifname} has a link-local address"), || {
        let shown = ip_json(ns, &format!("-6 address show dev {ifname} scope link -tentative"));
        let addresses = shown.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        let mut addresses = addresses.filter_map(|address| address["local"].as_str()?.parse::<Ipv6Addr>().ok());
        addresses.find(Ipv6Addr::is_unicast_link_local)
    })
}

fn at(address: Ipv6Addr, port: u16, ns: &str, ifname: &str) -> SocketAddr {
    let index = ip_json(ns, &format!("link show dev {ifname}"))[0]["ifindex"].as_u64().unwrap();
    SocketAddrV6::new(address, port, 0, u32::try_from(index).unwrap()).into()
}

fn comes_and_goes(lab: &Lab) {
    lab.start_daemon();
    let before = elements();
    lab.netd("network create shut --host-access none").ok();
    lab.connected("shut", "web", "");
    let _server = Server::at("host", "host", SocketAddr::new(HOST4.parse().unwrap(), 9000));
    let shut = |lab: &Lab| {
        crate::lab::echo::expect_no_answer("web", Proto::Udp, (HOST4, 9000));
        Dig::expect("web", "web", &[&lab.address("shut", "web")[0].to_string()]);
    };
    shut(lab);
    lab.kill_daemon();
    crate::lab::run("ip netns exec host nft delete table inet netd").ok();
    assert_eq!(ask("web", Proto::Udp, (HOST4, 9000)).who, "host", "only netd's table blocks it");
    lab.start_daemon();
    shut(lab);
    lab.netd("disconnect shut web").ok();
    lab.netd("network rm shut").ok();
    assert_eq!(elements(), before);
}
