//! What is not relayed: without the option, in circles, from elsewhere, and more than a sender may send.

use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use super::peer::{MDNS4, Peer, SSDP4, name, notify, question, response, search, until_relayed};
use super::{begin, counted};
use crate::lab::daemon::netd;
use crate::lab::resolved::start;
use crate::lab::{Lab, run, trial, until};

const TWO: &str = "--socket /run/lab/two/netd.sock --state-dir /run/lab/two/state --runtime-dir /run/lab/two/run";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("relay: nothing is relayed without the option, or for a protocol that it does not name", without),
        trial("relay: nothing goes from one interface of the LAN to another", not_between_outer),
        trial("relay: messages do not go in circles between two hosts", circles),
        trial("relay: a search that other relays sent on is sent on once", relayed_searches),
        trial("relay: what comes from elsewhere, or is no message, is not relayed", foreign),
        trial("relay: a sender has a limit, and others do not suffer", limits),
        trial("relay: what cannot be relayed is refused", refused),
    ]
}

fn without(lab: &Lab) {
    begin(lab, "-o relay=mdns");
    lab.netd("network create net2").ok();
    lab.connected("net2", "other", "");
    let (web, other) = (Peer::new("web", "eth0", MDNS4), Peer::new("other", "eth0", MDNS4));
    let device = Peer::new("outside", "uplink", MDNS4);
    let (web_ssdp, tv) = (Peer::new("web", "eth0", SSDP4), Peer::new("outside", "uplink", SSDP4));
    until_relayed(&web, &device);
    other.spread(&question(&name("other"), 1));
    web_ssdp.spread(&notify(&name("ssdp")));
    tv.spread(&notify(&name("ssdp")));
    let asked = question(&name("after"), 1);
    web.spread(&asked);
    assert_eq!(device.all_until(&asked), Vec::<Vec<u8>>::new());
    device.spread(&response(&name("device")));
    let silence = Duration::from_millis(300);
    for (who, peer) in [("the other network", &other), ("the LAN", &tv), ("the container", &web_ssdp)] {
        assert_eq!(peer.within(silence), Vec::<Vec<u8>>::new(), "{who}");
    }
}

fn not_between_outer(lab: &Lab) {
    run("ip -n host link add lan2 type veth peer name lan2 netns outside").ok();
    for (ns, address) in [("host", "198.51.100.1/24"), ("outside", "198.51.100.2/24")] {
        run(&format!("ip -n {ns} address add {address} dev lan2")).ok();
        run(&format!("ip -n {ns} link set lan2 up")).ok();
    }
    begin(lab, "-o relay=mdns -o relay_interfaces=uplink,lan2");
    let web = Peer::new("web", "eth0", MDNS4);
    let (one, two) = (Peer::new("outside", "uplink", MDNS4), Peer::new("outside", "lan2", MDNS4));
    until_relayed(&one, &web);
    until_relayed(&two, &web);
    let (of_one, of_web) = (question(&name("one"), 1), question(&name("web"), 1));
    one.spread(&of_one);
    web.expect(&of_one);
    web.spread(&of_web);
    one.expect(&of_web);
    assert_eq!(two.all_until(&of_web), Vec::<Vec<u8>>::new(), "only what the container sent");
}

/// A second host in the same LAN with netd and its own network, whose bridge somebody has joined with the first one's by a
/// cable: whatever each relays reaches the other twice.
fn circles(lab: &Lab) {
    run("ip netns add host2").ok();
    run("ip netns add lan").ok();
    run("ip -n lan link add lanbr type bridge mcast_snooping 0").ok();
    run("ip -n lan link set lanbr up").ok();
    for (ns, address) in [("host", "203.0.113.1/24"), ("host2", "203.0.113.2/24"), ("outside", "203.0.113.3/24")] {
        run(&format!("ip -n {ns} link add lan0 type veth peer name {ns} netns lan")).ok();
        run(&format!("ip -n lan link set {ns} master lanbr up")).ok();
        run(&format!("ip -n {ns} address add {address} dev lan0")).ok();
        run(&format!("ip -n {ns} link set lan0 up")).ok();
    }
    begin(lab, "--subnet 10.99.0.0/24 -o relay=mdns,ssdp -o relay_interfaces=lan0");
    let _second = start(Command::new("ip").args(["netns", "exec", "host2", netd(), "daemon"]).args(TWO.split(' ')));
    let of_second =
        |words: &str| run(&format!("ip netns exec host2 {} --socket /run/lab/two/netd.sock {words}", netd()));
    of_second("status --wait 10").ok();
    of_second(
        "network create net9 --subnet 10.99.0.0/24 --gateway 10.99.0.254 -o relay=mdns,ssdp -o relay_interfaces=lan0",
    )
    .ok();
    run("ip -n host link add cable type veth peer name cable netns host2").ok();
    for (ns, bridge) in [("host", "nd-net1"), ("host2", "nd-net9")] {
        run(&format!("ip -n {ns} link set cable master {bridge} up")).ok();
    }
    lab.differs("a cable that is not netd's");
    let (web, device) = (Peer::new("web", "eth0", MDNS4), Peer::new("outside", "lan0", MDNS4));
    let (web_ssdp, tv) = (Peer::new("web", "eth0", SSDP4), Peer::new("outside", "lan0", SSDP4));
    until_relayed(&web, &device);
    until_relayed(&device, &web);
    until_relayed(&tv, &web_ssdp);
    until_relayed(&web_ssdp, &tv);
    // What is on its way from the beginning comes to an end.
    for peer in [&web, &device, &web_ssdp, &tv] {
        until("silence", || is(peer.within(Duration::from_millis(300)), &[] as &[Vec<u8>]));
    }
    let asker = Peer::asker("web", "eth0", SSDP4);
    let (asked, announced, wanted) = (question(&name("q"), 1), notify(&name("tv")), search(&name("urn"), 1));
    device.spread(&asked);
    tv.spread(&announced);
    asker.spread(&wanted);
    let copies = |peer: &Peer, message: &Vec<u8>| {
        let all = peer.within(Duration::from_secs(1));
        all.iter().filter(|got| *got == message).count()
    };
    let at_web = copies(&web, &asked);
    assert!((1..=2).contains(&at_web), "by each host once at most: {at_web}");
    let at_web = web_ssdp.within(Duration::from_millis(500));
    let announcements = at_web.iter().filter(|got| **got == announced).count();
    let searches = at_web.iter().filter(|got| **got == wanted).count();
    assert!((1..=2).contains(&announcements) && searches <= 2, "{announcements} and {searches}");
    let at_tv = copies(&tv, &wanted);
    assert!((1..=2).contains(&at_tv), "by each host once at most: {at_tv}");
    assert!(counted("duplicate") > 0);
}

/// Two relays that are joined on both sides heard each other's copy of a search before the search itself: each copy came
/// from another port, was taken for another program's search, and went to and fro.
fn relayed_searches(lab: &Lab) {
    begin(lab, "-o relay=mdns,ssdp");
    for group in [SSDP4, MDNS4] {
        let (web, device) = (Peer::new("web", "eth0", group), Peer::new("outside", "uplink", group));
        until_relayed(&device, &web);
        let of_relay = |port| Peer::asker_from("outside", "uplink", group, port);
        let (relays, programs) = ([61100, 61101, 61227].map(of_relay), [0, 0].map(of_relay));
        let about = |what: &str| if group == SSDP4 { search(&name(what), 1) } else { question(&name(what), 1) };
        let (relayed, own, last) = (about("relayed"), about("own"), about("last"));
        relays.iter().for_each(|relay| relay.spread(&relayed));
        // Equal searches of several programs have answers of their own.
        programs.iter().for_each(|program| program.spread(&own));
        device.spread(&last);
        let all = web.all_until(&last);
        let copies = |message: &Vec<u8>| all.iter().filter(|got| *got == message).count();
        assert_eq!((copies(&relayed), copies(&own)), (1, 2), "{group}");
    }
}

fn foreign(lab: &Lab) {
    begin(lab, "-o relay=mdns,ssdp");
    let (web, device) = (Peer::new("web", "eth0", MDNS4), Peer::new("outside", "uplink", MDNS4));
    let (web_ssdp, tv) = (Peer::new("web", "eth0", SSDP4), Peer::new("outside", "uplink", SSDP4));
    until_relayed(&device, &web);
    until_relayed(&tv, &web_ssdp);
    device.spread(b"hello");
    device.spread(&question(&name("cut"), 1)[..20]);
    tv.spread(b"GET / HTTP/1.1\r\n\r\n");
    tv.spread(b"HTTP/1.1 200 OK\r\n\r\n");
    // A response from another port than 5353 is of nobody who knows mDNS.
    Peer::asker("outside", "uplink", MDNS4).spread(&response(&name("forged")));
    // A router's mistake: it is from another link, and came through all the same.
    run("ip -n outside address flush dev uplink").ok();
    run("ip -n outside address add 198.51.100.7/24 dev uplink").ok();
    let far = Peer::new("outside", "uplink", MDNS4);
    far.spread(&question(&name("far"), 1));
    until("it is counted", || (counted("off_link") >= 1).then_some(()));
    run("ip -n outside address add 192.0.2.2/24 dev uplink").ok();
    run("ip -n outside address del 198.51.100.7/24 dev uplink").ok();
    let (good, announced) = (question(&name("good"), 1), notify(&name("good")));
    device.spread(&good);
    tv.spread(&announced);
    assert_eq!(web.all_until(&good), Vec::<Vec<u8>>::new());
    assert_eq!(web_ssdp.all_until(&announced), Vec::<Vec<u8>>::new());
    assert!(counted("malformed") >= 5);
}

fn limits(lab: &Lab) {
    begin(lab, "-o relay=mdns");
    lab.connected("net1", "db", "");
    let (web, db) = (Peer::new("web", "eth0", MDNS4), Peer::new("db", "eth0", MDNS4));
    let device = Peer::new("outside", "uplink", MDNS4);
    until_relayed(&web, &device);
    let flood: Vec<Vec<u8>> = (0..1000).map(|_| question(&name("flood"), 1)).collect();
    flood.iter().for_each(|message| web.spread(message));
    // Its first one may find the queue full.
    let mut all = Vec::new();
    let calm = until("another is heard", || {
        let calm = question(&name("calm"), 1);
        db.spread(&calm);
        all.extend(device.within(Duration::from_millis(100)));
        all.contains(&calm).then_some(calm)
    });
    let passed = all.iter().filter(|got| flood.contains(got)).count();
    assert!((50..=400).contains(&passed) && !flood.contains(&calm), "{passed} of 1000");
    until("it is counted", || (counted("limited") >= 100).then_some(()));
    // Later it may send again.
    until_relayed(&web, &device);
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    let before = lab.everything();
    for (words, why) in [
        ("-o relay=bonjour", "use mdns, ssdp or mdns,ssdp"),
        ("-o relay_interfaces=uplink", "it needs relay=mdns"),
        ("--internal -o relay=mdns", "internal network"),
        ("-o relay=mdns -o relay_interfaces=net1", "the network itself"),
        ("-o relay=mdns -o relay_interfaces=a/b", "names of interfaces"),
    ] {
        let out = lab.netd(&format!("network create net1 {words}"));
        assert!(out.code == Some(2) && out.stderr.lines().count() == 1 && out.stderr.contains(why), "{out:?}");
    }
    lab.unchanged_since(&before);
}
