//! Interfaces, networks and the daemon come and go.

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, seen};

use super::peer::{MDNS4, Peer, name, question, until_relayed};
use super::{begin, counted, metrics};
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("relay: an interface that comes later is used, and one that goes is reported", interfaces),
        trial("relay: a link that goes down and up, and one that is made again", links),
        trial("relay: netd is killed, and relays when it is back", restart),
        trial("relay: the bridge of another network is an interface too", networks),
        trial("relay: the options are shown, backed up and counted", shown),
    ]
}

fn problems(lab: &Lab) -> Vec<String> {
    let status = lab.netd("status --json").ok().json();
    status["problems"].as_array().unwrap().iter().map(|problem| problem.as_str().unwrap().to_owned()).collect()
}

fn lan2() {
    run("ip -n host link add lan2 type veth peer name lan2 netns outside").ok();
    for (ns, address) in [("host", "198.51.100.1/24"), ("outside", "198.51.100.2/24")] {
        run(&format!("ip -n {ns} address add {address} dev lan2")).ok();
        run(&format!("ip -n {ns} link set lan2 up")).ok();
    }
}

fn interfaces(lab: &Lab) {
    begin(lab, "-o relay=mdns -o relay_interfaces=uplink,lan2");
    let missing = || seen(problems(lab), |all| all.iter().any(|one| one.contains("no interface and no network lan2")));
    until("the missing one is reported", missing);
    let web = Peer::new("web", "eth0", MDNS4);
    let device = Peer::new("outside", "uplink", MDNS4);
    until_relayed(&web, &device);
    lan2();
    let later = Peer::new("outside", "lan2", MDNS4);
    until_relayed(&web, &later);
    until_relayed(&later, &web);
    until("nothing is missing", || is(problems(lab), &[""; 0]));
    run("ip -n host link delete lan2").ok();
    until("it is missing again", missing);
    let asked = question(&name("still"), 1);
    web.spread(&asked);
    device.expect(&asked);
    lab.netd("disconnect net1 web").ok();
    lab.netd("network rm net1").ok();
    until("there is nothing to report", || is(problems(lab), &[""; 0]));
}

fn links(lab: &Lab) {
    lan2();
    begin(lab, "-o relay=mdns -o relay_interfaces=lan2");
    let web = Peer::new("web", "eth0", MDNS4);
    until_relayed(&web, &Peer::new("outside", "lan2", MDNS4));
    run("ip -n host link set lan2 down").ok();
    run("ip -n host link set lan2 up").ok();
    until_relayed(&web, &Peer::new("outside", "lan2", MDNS4));
    until_relayed(&Peer::new("outside", "lan2", MDNS4), &web);
    run("ip -n host link delete lan2").ok();
    lan2();
    until_relayed(&web, &Peer::new("outside", "lan2", MDNS4));
    run("ip -n host link delete nd-net1").ok();
    until("the bridge is back", || run("ip -n host link show nd-net1").succeeded());
    until_relayed(&web, &Peer::new("outside", "lan2", MDNS4));
    until_relayed(&Peer::new("outside", "lan2", MDNS4), &web);
}

fn restart(lab: &Lab) {
    begin(lab, "-o relay=mdns");
    let (web, device) = (Peer::new("web", "eth0", MDNS4), Peer::new("outside", "uplink", MDNS4));
    until_relayed(&web, &device);
    lab.kill_daemon();
    let while_dead = question(&name("dead"), 1);
    web.spread(&while_dead);
    lab.start_daemon();
    until_relayed(&web, &device);
    until_relayed(&device, &web);
    lab.stop_daemon();
    let sockets = run("ip netns exec host ss -Hlnu").stdout;
    assert!(!sockets.contains(":5353"), "{sockets}");
    lab.start_daemon();
    until_relayed(&device, &web);
}

fn networks(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create iot --internal").ok();
    lab.connected("iot", "lamp", "");
    lab.netd("network create net1 -o relay=mdns -o relay_interfaces=iot").ok();
    lab.connected("net1", "web", "");
    let (web, lamp) = (Peer::new("web", "eth0", MDNS4), Peer::new("lamp", "eth0", MDNS4));
    until_relayed(&web, &lamp);
    until_relayed(&lamp, &web);
    let device = Peer::new("outside", "uplink", MDNS4);
    let asked = question(&name("lamp"), 1);
    web.spread(&asked);
    lamp.expect(&asked);
    assert_eq!(device.within(std::time::Duration::from_millis(300)), Vec::<Vec<u8>>::new(), "not into the LAN");
}

fn shown(lab: &Lab) {
    begin(lab, "-o relay=ssdp,mdns -o relay_interfaces=uplink");
    let network = lab.network("net1");
    assert_eq!(network["relay"], serde_json::json!(["mdns", "ssdp"]));
    assert_eq!(network["relay_interfaces"], serde_json::json!(["uplink"]));
    let (status, backup) = lab.http("GET", "/v1/backup", "");
    assert_eq!(status, 200, "{backup}");
    let backup: serde_json::Value = serde_json::from_str(&backup).unwrap();
    let options = &backup["networks"][0]["network"]["options"];
    assert_eq!((&options["relay"], &options["relay_interfaces"]), (&"mdns,ssdp".into(), &"uplink".into()));
    let (web, device) = (Peer::new("web", "eth0", MDNS4), Peer::new("outside", "uplink", MDNS4));
    until_relayed(&web, &device);
    let line = "netd_relay_packets_total{network=\"net1\",protocol=\"mdns\",direction=\"out\",result=\"relayed\"}";
    until("it is counted", || contains(metrics(), line));
    assert!(counted("relayed") > 0);
}
