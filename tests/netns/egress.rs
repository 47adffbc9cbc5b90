//! Egress by domain, seen with real flows: what a container may send follows what the name service has answered to it.

mod attempts;
mod life;
mod raw;
mod upstream;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::space::inside;
use crate::lab::{Dig, Lab, OUTSIDE4, OUTSIDE6, run, trial, until};
use crate::policy::flow::{Server, TCP, UDP, begins};
use upstream::{Upstream, Zone, address, alias, hints, text};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("egress: an address is reachable once it was answered for an allowed name", answered),
        trial("egress: no attempt to get round a deny passes", attempts::none_passes),
        trial("egress: the first connection after an answer never loses the race", first_connections),
        trial("egress: aliases, hints, subnets and the host's names are followed, at most so many addresses", kinds),
        trial("egress: a restart, a kill and a flushed ruleset change nothing", life::survives),
        trial("egress: it is held until its interface is gone", life::until_the_end),
        trial("egress: an address that is given again opens nothing", life::given_again),
        trial("egress: a network's stance and its containers' own", life::of_networks),
        trial("egress: by CNI", life::by_cni),
        trial("egress: the log says what was asked and denied", life::logged),
        trial("egress: a network without it passes not one rule more", life::not_one_rule_more),
    ]
}

/// Two addresses outside, under every name of `test`.
fn zone() -> Box<Zone> {
    Box::new(|name, kind| {
        let both = [(RecordType::A, OUTSIDE4), (RecordType::AAAA, OUTSIDE6)];
        let found = both.into_iter().filter(|(of, _)| *of == kind).map(|(_, to)| (name.to_owned(), 30, address(to)));
        (name.ends_with("test")).then(|| found.collect())
    })
}

/// A running daemon, a network with IPv6, and a name server of the host.
fn set_up(lab: &Lab) -> Upstream {
    let upstream = Upstream::start("host", "127.0.0.1:53", zone());
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    upstream
}

/// Every address of these networks is one of the machine outside.
fn many_outside() {
    run("ip -n outside route add local 198.51.100.0/24 dev lo").ok();
    run("ip -n outside route add local 198.18.0.0/15 dev lo").ok();
    run("ip -n outside -6 route add local 2001:db8:5::/64 dev lo").ok();
}

fn answered(lab: &Lab) {
    let upstream = set_up(lab);
    let _servers = [Server::start("outside", 443), Server::start("outside", 80)];
    lab.connected("net1", "web", "--egress deny --egress-allow example.test:443");
    lab.connected("net1", "free", "");
    let both = |ns: &str, port| [OUTSIDE4, OUTSIDE6].map(|to| begins(ns, TCP, to, port));
    until("the other one gets out", || is(both("free", 443), &[true; 2]));
    assert_eq!(both("web", 443), [false; 2], "before it has asked");
    let asked = Dig::ask("web", "EXAMPLE.test");
    assert_eq!((asked.status.as_str(), asked.answers), ("NOERROR", vec![OUTSIDE4.to_owned()]), "{}", asked.text);
    assert_eq!(both("web", 443), [true, false]);
    assert_eq!(Dig::ask("web", "example.test. AAAA +tcp").answers, [OUTSIDE6]);
    assert_eq!((both("web", 443), both("web", 80)), ([true; 2], [false; 2]));
    assert!(!begins("web", UDP, OUTSIDE4, 443));
    upstream.asked();
    let refused = Dig::ask("web", "other.test");
    assert!(refused.status == "REFUSED" && refused.text.contains("EDE: 18"), "{}", refused.text);
    // With what a resolver's search list puts behind it.
    assert_eq!(Dig::ask("web", "example.test.corp.test").status, "NXDOMAIN");
    assert_eq!(upstream.asked(), [""; 0]);
    assert!(run("ip netns exec host nft list set inet netd answered4").ok().stdout.contains(OUTSIDE4));
    assert!(Dig::ask("web", "web").answers.len() == 1, "netd's own names are answered");
    assert!(!begins("web", TCP, "10.77.0.1", 22));
    lab.netd("connect net1 free --trusted --egress deny").refused();
    assert_eq!(lab.diff(), "");
}

/// Questions for a name with another address each time, from one container, each followed by a connection at once.
fn first_connections(lab: &Lab) {
    let count = std::env::var("NETD_EGRESS_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(500_u64);
    many_outside();
    let next = AtomicU64::new(0);
    let rotating = move |name: &str, _: RecordType| {
        let n = next.fetch_add(1, Ordering::Relaxed) % 60_000;
        let to = format!("198.18.{}.{}", n / 250, n % 250 + 1);
        Some(vec![(name.to_owned(), 0, address(&to))])
    };
    let _upstream = Upstream::start("host", "127.0.0.1:53", Box::new(rotating));
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "--egress-allow *.cdn.test:443");
    let listener = inside("outside", || TcpListener::bind("0.0.0.0:443").expect("a listener"));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let (mut lost, mut slowest, begin) = (Vec::new(), Duration::ZERO, Instant::now());
    inside("web", || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("10.77.0.1:53").expect("the gateway");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        for n in 0..count {
            let asked = Instant::now();
            let to = ask_for(&socket, &format!("host{n}.cdn.test."));
            slowest = slowest.max(asked.elapsed());
            // A lost first packet is sent again after a second.
            let connected = TcpStream::connect_timeout(&SocketAddr::new(to, 443), Duration::from_millis(900));
            if let Err(error) = connected {
                lost.push(format!("{n} {to}: {error}"));
            }
        }
    });
    let took = begin.elapsed();
    let shown = format!("{} of {count} lost in {took:?}; the slowest answer took {slowest:?}", lost.len());
    assert!(lost.is_empty(), "{shown}: {:?}", &lost[..lost.len().min(5)]);
    assert!(slowest < Duration::from_secs(1), "{shown}");
    assert_eq!(lab.diff(), "");
}

fn ask_for(socket: &UdpSocket, name: &str) -> std::net::IpAddr {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    socket.send(&message.to_vec().expect("a message")).expect("it is sent");
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).expect("an answer");
    let reply = Message::from_vec(&buffer[..length]).expect("a message");
    match &reply.answers.first().expect("an answer").data {
        RData::A(v4) => v4.0.into(),
        other => panic!("{other}"),
    }
}

fn kinds(lab: &Lab) {
    many_outside();
    let zone: Box<Zone> = Box::new(|name, kind| {
        let one = |data| vec![(name.to_owned(), 300, data)];
        Some(match (name, kind) {
            ("alias.test", RecordType::A) => vec![
                ("alias.test".into(), 300, alias("a.cdn.example")),
                ("a.cdn.example".into(), 300, alias("b.cdn.example")),
                ("b.cdn.example".into(), 300, address("198.51.100.10")),
                ("else.example".into(), 300, address("198.51.100.11")),
            ],
            ("hint.test", RecordType::HTTPS) => one(hints("198.51.100.12", "2001:db8:5::12")),
            ("hint.test", RecordType::TXT) => one(text("198.51.100.13")),
            ("any.test", RecordType::A) => one(address("198.51.100.14")),
            (name, RecordType::A) if name.ends_with(".many.test") => {
                let n: u8 = name.split('.').next().and_then(|n| n.parse().ok()).expect("a number");
                one(address(&format!("198.51.100.{n}")))
            }
            _ => Vec::new(),
        })
    });
    let _upstream = Upstream::start("host", "127.0.0.1:53", zone);
    std::fs::write(crate::lab::daemon::CONFIG, "[egress]\naddresses = 4\n").expect("a configuration");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    let allow = "alias.test:443,hint.test:443-444,hint.test:443/udp,any.test,*.many.test:443,198.51.100.20,\
                 198.51.100.24/29:80,[2001:db8:5::20]:80/udp,host.docker.internal:22";
    lab.connected("net1", "web", &format!("--egress-allow {allow}"));
    let servers = [80, 443, 444].map(|port| Server::start("outside", port));
    // It answers from another address than it was asked at.
    let udp = |to: &str, port: u16| {
        let heard = || servers.iter().map(Server::heard).sum::<u64>();
        let before = heard();
        begins("web", UDP, to, port);
        heard() > before
    };
    let _host = [Server::start("host", 22), Server::start("host", 23)];
    let tcp = |to: &str, port| begins("web", TCP, to, port);
    until("by address", || is([tcp("198.51.100.20", 444), tcp("198.51.100.26", 80)], &[true; 2]));
    assert!(udp("198.51.100.20", 80) && udp("2001:db8:5::20", 80) && !udp("2001:db8:5::20", 443));
    assert!(!tcp("198.51.100.26", 443) && !tcp("198.51.100.32", 80) && !tcp("2001:db8:5::20", 80));
    assert!(tcp("10.77.0.1", 22) && !tcp("10.77.0.1", 23), "the host by its name");
    assert_eq!(Dig::ask("web", "alias.test").answers.len(), 4);
    assert!(tcp("198.51.100.10", 443) && !tcp("198.51.100.11", 443), "the end of the chain");
    assert_eq!(Dig::ask("web", "hint.test TXT").answers.len(), 1);
    assert!(!tcp("198.51.100.13", 443));
    assert_eq!(Dig::ask("web", "hint.test HTTPS").status, "NOERROR");
    assert!(tcp("198.51.100.12", 444) && udp("2001:db8:5::12", 443) && !tcp("198.51.100.12", 80));
    assert_eq!(Dig::ask("web", "any.test").status, "NOERROR");
    assert!(tcp("198.51.100.14", 80) && udp("198.51.100.14", 444), "every port");
    for n in 40..44 {
        Dig::ask("web", &format!("{n}.many.test"));
    }
    let open = |range: std::ops::Range<u8>| range.filter(|n| tcp(&format!("198.51.100.{n}"), 443)).count();
    assert_eq!(open(40..44), 4);
    assert!(!tcp("198.51.100.10", 443) && !tcp("198.51.100.14", 443), "what was answered first has given way");
    Dig::ask("web", "40.many.test");
    Dig::ask("web", "50.many.test");
    assert!(tcp("198.51.100.40", 443) && tcp("198.51.100.50", 443) && !tcp("198.51.100.41", 443));
    assert_eq!(lab.diff(), "");
}
