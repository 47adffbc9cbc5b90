//! Attempts to get round a deny. None may pass: nothing of them arrives outside or at the host, and no name server learns of
//! them. Each is a line of the table; what arrives is counted outside, whatever the container sees.

mod table;

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::rr::RecordType;

use super::upstream::{Upstream, address};
use crate::lab::space::sysctl;
use crate::lab::{self, Dig, Lab, run, until};
use crate::policy::flow::{Server, TCP, UDP, begins, open};

/// What is answered for the name that is allowed, for one that another container may reach, and what nobody has asked for.
const ALLOWED4: &str = "198.51.100.1";
const ALLOWED6: &str = "2001:db8:5::1";
const BRIEF4: &str = "198.51.100.2";
const OTHERS4: &str = "198.51.100.3";
const OTHERS6: &str = "2001:db8:5::3";
const NOBODYS4: &str = "198.51.100.9";
const NOBODYS6: &str = "2001:db8:5::9";
const RESOLVER4: &str = "198.51.100.53";
const RESOLVER6: &str = "2001:db8:5::53";
const METADATA: &str = "169.254.169.254";
const GATEWAY4: &str = "10.77.0.1";

type Attempt = (&'static str, Box<dyn Fn(&World) -> bool>);

/// Who tries, and what it knows.
struct World {
    who: &'static str,
    own4: IpAddr,
    own6: IpAddr,
    friend4: IpAddr,
    friend6: IpAddr,
    gateway6: String,
    host_link_local: String,
}

fn zone(name: &str, kind: RecordType) -> Option<Vec<(String, u32, hickory_proto::rr::RData)>> {
    let all: &[&str] = match name {
        "example.test" => &[ALLOWED4, ALLOWED6],
        "brief.test" => &[BRIEF4],
        "other.test" => &[OTHERS4, OTHERS6],
        "near.wild.test" => &["127.0.0.1", METADATA, GATEWAY4, lab::HOST4, "0.0.0.0", "10.77.0.255", "255.255.255.255"],
        "near6.wild.test" => &["::1", lab::HOST6, "::ffff:198.51.100.9", "fe80::1", "ff02::1"],
        _ => &[NOBODYS4, NOBODYS6],
    };
    let ttl = if name == "brief.test" { 1 } else { 3600 };
    let is_kind = |to: &&&str| to.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) == (kind == RecordType::A);
    let asked = matches!(kind, RecordType::A | RecordType::AAAA);
    let found = all.iter().filter(|_| asked).filter(is_kind).map(|to| (name.to_owned(), ttl, address(to)));
    Some(found.collect())
}

/// How many packets that begin a flow have arrived outside.
fn arrived() -> u64 {
    let shown = run("ip netns exec outside nft -j list counter inet seen begun").ok().json();
    let all = shown["nftables"].as_array().cloned().unwrap_or_default();
    all.iter().find_map(|one| one["counter"]["packets"].as_u64()).expect("a counter")
}

fn count_outside() {
    let rules = "table inet seen { counter begun { }; chain in { type filter hook prerouting priority 10; \
                 icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept; \
                 meta l4proto igmp accept; ct state established,related accept; iifname uplink counter name begun; }\n }\n";
    lab::command::run_with_input(&["ip", "netns", "exec", "outside", "nft", "-f", "-"], rules).ok();
}

/// How many datagrams the host's server has heard.
fn heard() -> u64 {
    HEARD.with(|heard| heard.borrow().as_ref().map_or(0, Server::heard))
}

thread_local! {
    static HEARD: std::cell::RefCell<Option<Server>> = const { std::cell::RefCell::new(None) };
}

fn prepare(lab: &Lab) -> World {
    for network in ["198.51.100.0/24", METADATA] {
        run(&format!("ip -n outside route add local {network} dev lo")).ok();
        run(&format!("ip -n host route add {network} via {}", lab::OUTSIDE4)).ok();
    }
    run("ip -n outside -6 route add local 2001:db8:5::/64 dev lo").ok();
    sysctl("outside", "net/ipv4/conf/all/accept_source_route", "1");
    std::fs::write(lab::daemon::CONFIG, "[egress]\ngrace = 1\n").expect("a configuration");
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.0.0/24 --subnet fd00:77::/64").ok();
    let allow = "example.test:443,*.wild.test:443,brief.test:443";
    lab.connected("net1", "web", &format!("--egress deny --egress-allow {allow}"));
    lab.connected("net1", "friend", "--egress-allow other.test:443,other.test:443/udp");
    lab.connected("net1", "free", "");
    let (web, friend) = (lab.address("net1", "web"), lab.address("net1", "friend"));
    let bridge = lab.network("net1")["bridge"].as_str().expect("a bridge").to_owned();
    let shown = lab::ip_json("host", &format!("address show dev {bridge}"));
    let all = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let local = all.iter().find(|one| one["scope"] == "link").and_then(|one| one["local"].as_str());
    let local = local.unwrap_or_else(|| panic!("a link-local address: {shown:?}")).to_owned();
    World {
        who: "web",
        own4: web[0],
        own6: web[1],
        friend4: friend[0],
        friend6: friend[1],
        gateway6: "fd00:77::1".parse::<Ipv6Addr>().expect("IPv6").to_string(),
        host_link_local: local,
    }
}

pub(super) fn none_passes(lab: &Lab) {
    let upstream = Upstream::start("host", "127.0.0.1:53", Box::new(zone));
    let beside = Upstream::start("host", "192.0.2.1:53", Box::new(zone));
    let world = prepare(lab);
    let _outside = [53, 80, 443, 853].map(|port| Server::start("outside", port));
    let _host = Server::start("host", 443);
    HEARD.with(|heard| *heard.borrow_mut() = Some(Server::start("host", 22)));
    count_outside();
    until("the other one gets out", || begins("free", TCP, NOBODYS6, 443).then_some(()));
    assert!(begins("free", UDP, GATEWAY4, 22) && begins("free", TCP, lab::HOST4, 443), "and to the host");
    let asked = |ns: &str, words: &str| assert_eq!(Dig::ask(ns, words).status, "NOERROR", "{words}");
    for name in ["example.test", "example.test AAAA", "brief.test", "near.wild.test", "near6.wild.test AAAA"] {
        asked("web", name);
    }
    asked("friend", "other.test");
    asked("friend", "other.test AAAA");
    assert!(begins("web", TCP, ALLOWED4, 443) && begins("web", TCP, ALLOWED6, 443) && begins("web", TCP, BRIEF4, 443));
    assert!(begins("friend", TCP, OTHERS4, 443) && begins("friend", TCP, OTHERS6, 443));
    [&upstream, &beside].iter().for_each(|server| drop(server.asked()));
    let attempts = table::all();
    let tried = |world: &World| -> Vec<String> {
        let mut passed = Vec::new();
        for (name, attempt) in &attempts {
            let before = arrived();
            let is_answered = attempt(world);
            let learned = [upstream.asked(), beside.asked()].concat();
            let outside = arrived() - before;
            if is_answered || outside > 0 || !learned.is_empty() {
                passed.push(format!("{name}: answered {is_answered}, outside {outside}, learned {learned:?}"));
            }
        }
        passed
    };
    let (count, mut passed) = (attempts.len() + 3, tried(&world));
    // What nobody holds does pass, as far as it is anything to the kernels and routers on the way.
    let free = lab.address("net1", "free");
    let control = tried(&World { who: "free", own4: free[0], own6: free[1], ..world });
    assert!(control.len() >= 70, "{} of {count}:\n{}", control.len(), control.join("\n"));
    passed.extend(before_and_within(lab, &upstream));
    // Brief, its grace and what is added to it are over.
    until("the time is over", || (!begins("web", TCP, BRIEF4, 443)).then_some(()));
    assert!(begins("web", TCP, ALLOWED4, 443), "what is allowed still passes");
    assert!(count >= 50, "{count}");
    assert!(passed.is_empty(), "{} of {count} passed:\n{}", passed.len(), passed.join("\n"));
    HEARD.with(|heard| heard.borrow_mut().take());
    assert_eq!(lab.diff(), "");
}

/// A flow of the time before the deny, and questions and flows of a container that asks within itself: what passes.
fn before_and_within(lab: &Lab, upstream: &Upstream) -> Vec<String> {
    let mut passed = Vec::new();
    let asked = |ns: &str, words: &str| assert_eq!(Dig::ask(ns, words).status, "NOERROR", "{words}");
    // A flow of the time before: its container is held as soon as it is on a network that denies.
    lab.netd("network create free1").ok();
    lab.connected("free1", "late", "");
    let mut flows =
        [(TCP, NOBODYS4), (UDP, lab::OUTSIDE4)].map(|(proto, to)| open("late", proto, to, 443).expect("a flow"));
    lab.netd("network create held1 --egress deny").ok();
    lab.connected("held1", "late", "");
    if flows.iter_mut().any(|flow| !flow.has_ended()) || begins("late", TCP, NOBODYS4, 443) {
        passed.push("a flow that was open before".into());
    }
    // Asked within the container.
    lab.netd("network create inner -o dns.listen=container --egress-allow example.test:443").ok();
    lab.connected("inner", "within", "");
    asked("within", "@127.0.0.11 example.test");
    assert!(begins("within", TCP, ALLOWED4, 443));
    upstream.asked();
    let reply = Dig::ask("within", "@127.0.0.11 secret.evil.test TXT");
    if reply.status != "REFUSED" || !upstream.asked().is_empty() || begins("within", TCP, NOBODYS4, 443) {
        passed.push(format!("within the container: {}", reply.text));
    }
    passed
}
