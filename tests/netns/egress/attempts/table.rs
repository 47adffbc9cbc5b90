//! The table of attempts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{
    ALLOWED4, ALLOWED6, Attempt, GATEWAY4, METADATA, NOBODYS4, NOBODYS6, OTHERS4, OTHERS6, RESOLVER4, RESOLVER6, World,
    heard,
};
use crate::egress::raw::{icmp, packet, plain, send, tcp, udp};
use crate::lab::space::inside;
use crate::lab::{self, Dig, run};
use crate::policy::flow::{TCP, UDP, begins};

/// All of them.
pub(super) fn all() -> Vec<Attempt> {
    [directly(), odd(), odd6(), forged(), questions(), to_the_host()].into_iter().flatten().collect()
}

fn direct(name: &'static str, proto: lab::Proto, to: &'static str, port: u16) -> Attempt {
    (name, Box::new(move |world| begins(world.who, proto, to, port)))
}

fn raw4(name: &'static str, make: impl Fn(&World, (IpAddr, IpAddr)) -> Vec<u8> + 'static) -> Attempt {
    (
        name,
        Box::new(move |world| {
            send(world.who, &make(world, (world.own4, NOBODYS4.parse().expect("IPv4"))));
            false
        }),
    )
}

fn raw6(name: &'static str, make: impl Fn((IpAddr, IpAddr)) -> Vec<u8> + 'static) -> Attempt {
    (
        name,
        Box::new(move |world| {
            send(world.who, &make((world.own6, NOBODYS6.parse().expect("IPv6"))));
            false
        }),
    )
}

/// A question that must reach no name server, and get no answer that opens anything.
fn question(name: &'static str, words: &'static str) -> Attempt {
    (
        name,
        Box::new(move |world| {
            let reply = Dig::ask(world.who, words);
            reply.status == "NOERROR" && !reply.answers.is_empty()
        }),
    )
}

fn datagram(who: &str, from: &str, to: &str, prepare: impl Fn(&UdpSocket) + Sync) {
    let to: SocketAddr = to.parse().expect("an address");
    inside(who, || {
        let Ok(socket) = UdpSocket::bind(from) else { return };
        prepare(&socket);
        let _ = socket.send_to(b"hello", to);
    });
}

fn directly() -> Vec<Attempt> {
    vec![
        direct("an IPv4 address that nobody has asked for, TCP", TCP, NOBODYS4, 443),
        direct("the same over UDP", UDP, NOBODYS4, 443),
        direct("an IPv6 address that nobody has asked for, TCP", TCP, NOBODYS6, 443),
        direct("the same over UDP", UDP, NOBODYS6, 443),
        direct("an answered address at another port", TCP, ALLOWED4, 80),
        direct("the same over IPv6", TCP, ALLOWED6, 80),
        direct("QUIC (UDP 443) where only TCP 443 is allowed", UDP, ALLOWED4, 443),
        direct("the same over IPv6", UDP, ALLOWED6, 443),
        direct("the address that was answered to another container", TCP, OTHERS4, 443),
        direct("the same over IPv6", TCP, OTHERS6, 443),
        direct("another resolver, UDP 53", UDP, RESOLVER4, 53),
        direct("another resolver, TCP 53", TCP, RESOLVER4, 53),
        direct("another resolver over IPv6", UDP, RESOLVER6, 53),
        direct("DNS over TLS (853)", TCP, RESOLVER4, 853),
        direct("DNS over QUIC (UDP 853)", UDP, RESOLVER4, 853),
        direct("DNS over HTTPS (443)", TCP, RESOLVER4, 443),
        direct("DNS over HTTPS over IPv6", TCP, RESOLVER6, 443),
        direct("the metadata service of a cloud", TCP, METADATA, 80),
        direct("an IPv4 address as IPv6", TCP, "::ffff:198.51.100.9", 443),
        (
            "from source port 53",
            Box::new(|world| {
                datagram(world.who, "0.0.0.0:53", "198.51.100.9:5353", |_| ());
                false
            }),
        ),
        (
            "from source port 443",
            Box::new(|world| {
                datagram(world.who, "0.0.0.0:443", "198.51.100.9:40000", |_| ());
                false
            }),
        ),
        (
            "a datagram in fragments",
            Box::new(|world| {
                inside(world.who, || {
                    UdpSocket::bind("0.0.0.0:0").map(|socket| socket.send_to(&[7; 8000], (NOBODYS4, 443)))
                })
                .is_err()
            }),
        ),
        (
            "ping",
            Box::new(|world| {
                run(&format!("ip netns exec {} busybox ping -c 1 -W 1 198.51.100.1", world.who)).succeeded().is_ok()
            }),
        ),
        (
            "ping over IPv6",
            Box::new(|world| {
                run(&format!("ip netns exec {} busybox ping -6 -c 1 -W 1 2001:db8:5::1", world.who)).succeeded().is_ok()
            }),
        ),
    ]
}

/// Other protocols, segments of no connection, fragments and options.
fn odd() -> Vec<Attempt> {
    let tunnel = |world: &World, ends: (IpAddr, IpAddr), protocol| {
        let allowed = (world.own4, ALLOWED4.parse().expect("IPv4"));
        plain(allowed, protocol, &plain(ends, 17, &udp(ends, 5, 443, b"x")))
    };
    vec![
        raw4("SCTP", |_, ends| plain(ends, 132, &[1, 187, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20])),
        raw4("GRE", |_, ends| plain(ends, 47, &[0; 16])),
        raw4("UDP-Lite", |_, ends| plain(ends, 136, &udp(ends, 5, 443, b"x"))),
        raw4("an unknown protocol", |_, ends| plain(ends, 253, b"hello")),
        raw4("IP in IP to an answered address", move |world, ends| tunnel(world, ends, 4)),
        raw4("IPv6 in IPv4 to an answered address", |world, _| {
            let inner = plain((world.own6, NOBODYS6.parse().expect("IPv6")), 17, &[0; 8]);
            plain((world.own4, ALLOWED4.parse().expect("IPv4")), 41, &inner)
        }),
        raw4("a segment of no connection (ACK)", |_, ends| plain(ends, 6, &tcp(ends, 4000, 443, 0x10))),
        raw4("a segment of no connection (SYN, ACK)", |_, ends| plain(ends, 6, &tcp(ends, 4001, 443, 0x12))),
        raw4("a segment of no connection (RST)", |_, ends| plain(ends, 6, &tcp(ends, 4002, 443, 0x04))),
        raw4("a segment of no connection (FIN)", |_, ends| plain(ends, 6, &tcp(ends, 4003, 443, 0x01))),
        raw4("a segment with no flags", |_, ends| plain(ends, 6, &tcp(ends, 4004, 443, 0))),
        raw4("a first fragment alone", |_, ends| packet(ends, 17, (0, true), &[], &udp(ends, 5, 443, &[0; 16]))),
        raw4("a later fragment alone", |_, ends| packet(ends, 17, (64, false), &[], &[0; 16])),
        raw4("loose source routing over an answered address", |world, (_, to)| {
            let via: Ipv4Addr = ALLOWED4.parse().expect("IPv4");
            let IpAddr::V4(last) = to else { return Vec::new() };
            let route = [&[131, 7, 4][..], &last.octets(), &[0]].concat();
            let ends = (world.own4, via.into());
            packet(ends, 17, (0, false), &route, &udp(ends, 5, 443, b"x"))
        }),
        raw4("an ICMP error about no flow", |_, ends| {
            plain(ends, 1, &icmp(3, 4, &plain((ends.1, ends.0), 17, &udp(ends, 5, 5, b""))))
        }),
        raw4("an ICMP error about an allowed flow, to another address", |world, (own, to)| {
            let quoted = (ALLOWED4.parse().expect("IPv4"), world.own4);
            plain((own, to), 1, &icmp(3, 4, &plain(quoted, 6, &tcp(quoted, 443, 4000, 0x10))))
        }),
        raw4("an ICMP echo reply", |_, ends| plain(ends, 1, &icmp(0, 0, b"hello"))),
    ]
}

/// Headers of IPv6 in front of what is sent.
fn odd6() -> Vec<Attempt> {
    vec![
        raw6("behind hop-by-hop options", |ends| {
            plain(ends, 0, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(ends, 5, 443, b"x")].concat())
        }),
        raw6("behind destination options", |ends| {
            plain(ends, 60, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(ends, 5, 443, b"x")].concat())
        }),
        raw6("behind two options headers", |ends| {
            let options = [&[60, 0, 1, 4, 0, 0, 0, 0][..], &[6, 0, 1, 4, 0, 0, 0, 0]].concat();
            plain(ends, 60, &[&options[..], &tcp(ends, 4000, 443, 2)].concat())
        }),
        raw6("a routing header over an answered address", |(own, to)| {
            let via: IpAddr = ALLOWED6.parse().expect("IPv6");
            let IpAddr::V6(last) = to else { return Vec::new() };
            let route = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &last.octets()].concat();
            plain((own, via), 43, &[&route[..], &udp((own, via), 5, 443, b"x")].concat())
        }),
        raw6("a fragment header", |ends| {
            plain(ends, 44, &[&[17, 0, 0, 0, 0, 0, 0, 7][..], &udp(ends, 5, 443, b"x")].concat())
        }),
        raw6("no next header", |ends| plain(ends, 59, b"hello")),
    ]
}

/// From addresses that are not the container's own.
fn forged() -> Vec<Attempt> {
    vec![
        raw4("from the address of an allowed container of the same bridge", |world, _| {
            let ends = (world.friend4, OTHERS4.parse().expect("IPv4"));
            plain(ends, 17, &udp(ends, 5, 443, b"x"))
        }),
        raw4("from the gateway's address", |_, (_, to)| {
            let ends = (GATEWAY4.parse().expect("IPv4"), to);
            plain(ends, 17, &udp(ends, 5, 443, b"x"))
        }),
        raw4("from an address of nobody on the subnet", |_, (_, to)| {
            let ends = ("10.77.0.77".parse().expect("IPv4"), to);
            plain(ends, 17, &udp(ends, 5, 443, b"x"))
        }),
        (
            "IPv6 from the address of an allowed container",
            Box::new(|world| {
                let ends = (world.friend6, OTHERS6.parse().expect("IPv6"));
                send(world.who, &plain(ends, 17, &udp(ends, 5, 443, b"x")));
                false
            }),
        ),
        (
            "with another container's address added to its interface",
            Box::new(|world| {
                run(&format!("ip -n {} address add {}/32 dev eth0", world.who, world.friend4)).ok();
                datagram(world.who, &format!("{}:0", world.friend4), &format!("{OTHERS4}:443"), |_| ());
                run(&format!("ip -n {} address del {}/32 dev eth0", world.who, world.friend4)).ok();
                false
            }),
        ),
    ]
}

fn questions() -> Vec<Attempt> {
    vec![
        question("a name that ends like an allowed one", "evilexample.test"),
        question("an allowed name with a domain behind it", "example.test.evil.test"),
        question("a name below an exact one", "sub.example.test"),
        question("the apex of a wildcard", "wild.test"),
        question("a name that ends like a wildcard's", "evilwild.test"),
        question("a wildcard with a domain behind it", "a.wild.test.evil"),
        question("a dot within a label", r"a\.wild.test"),
        question("a dot within the last labels", r"x.a.wild\.test"),
        question("another case", "EVILEXAMPLE.TEST"),
        question("with a final dot", "other.test."),
        question("a search domain behind it", "+search +domain=evil.test example"),
        question(
            "a tunnel of long labels",
            concat!(
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.",
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.evil.test"
            ),
        ),
        question("a tunnel by TXT", "secret.evil.test TXT"),
        question("a tunnel by NULL", "secret.evil.test NULL"),
        question("a tunnel by ANY", "secret.evil.test ANY"),
        question("a tunnel by CNAME", "secret.evil.test CNAME"),
        question("a tunnel by MX", "secret.evil.test MX"),
        question("a tunnel by SRV", "_secret._tcp.evil.test SRV"),
        question("a tunnel by HTTPS", "secret.evil.test HTTPS"),
        question("a tunnel by a type of no name", "secret.evil.test TYPE65280"),
        question("the name of an address", "-x 198.51.100.9"),
        question("the name of an IPv6 address", "-x 2001:db8:5::9"),
        question("another class", "-c CH secret.evil.test TXT"),
        question("a zone transfer", "example.test AXFR"),
        question("a notification", "+opcode=notify secret.evil.test"),
        question("an update", "+opcode=update secret.evil.test"),
        question("over TCP", "+tcp secret.evil.test"),
        question("over TCP, several on a connection", "+tcp +keepopen secret.evil.test other.test"),
        question("at the gateway of IPv6", "@fd00:77::1 secret.evil.test"),
        question("at netd's own port", "@10.77.0.1 -p 61053 secret.evil.test"),
        question("at the host's own resolver", "@192.0.2.1 secret.evil.test"),
        question("at the host's own resolver over TCP", "@192.0.2.1 +tcp secret.evil.test"),
        question("with the client's subnet", "+subnet=198.51.100.0/24 secret.evil.test"),
        question("with a cookie and padding", "+cookie +padding=128 secret.evil.test"),
        question("without recursion", "+norecurse secret.evil.test"),
    ]
}

fn to_the_host() -> Vec<Attempt> {
    let at = |name: &'static str, to: fn(&World) -> String, port| -> Attempt {
        (
            name,
            Box::new(move |world| begins(world.who, TCP, &to(world), port) || begins(world.who, UDP, &to(world), port)),
        )
    };
    let cast = |name: &'static str, to: &'static str| -> Attempt {
        (
            name,
            Box::new(move |world| {
                let before = heard();
                datagram(world.who, if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }, to, |socket| {
                    let _ = socket.set_broadcast(true);
                });
                std::thread::park_timeout(Duration::from_millis(50));
                heard() > before
            }),
        )
    };
    vec![
        at("the host at the gateway", |_| GATEWAY4.into(), 22),
        at("the host at the gateway, at an allowed port", |_| GATEWAY4.into(), 443),
        at("the host at its other address", |_| lab::HOST4.into(), 443),
        at("the host at the gateway of IPv6", |world| world.gateway6.clone(), 22),
        at("the host at its other IPv6 address", |_| lab::HOST6.into(), 443),
        at("the host at its link-local address", |world| format!("{}%eth0", world.host_link_local), 22),
        at("the loopback of the host (it was answered)", |_| "127.0.0.1".into(), 22),
        at("the metadata service (it was answered)", |_| METADATA.into(), 443),
        cast("the broadcast address of the subnet", "10.77.0.255:22"),
        cast("the broadcast address of all", "255.255.255.255:22"),
        cast("a multicast group", "224.0.0.251:22"),
        cast("all nodes", "[ff02::1]:22"),
    ]
}
