//! Repair while the daemon runs: another program flushes the firewall or deletes links, and netd restores traffic.

use libtest_mimic::Trial;
use netd_testing::wait::{is, lacks, seen};

use crate::lab::look::{links, published, ruleset};
use crate::lab::{Dig, HOST4, HOST6, Lab, Proto, Server, addresses, ask, echo, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("heal: nft flush ruleset", flushed),
        trial("heal: nft delete table inet netd", table_deleted),
        trial("heal: a rule or an element is deleted", one_rule),
        trial("heal: the bridge is deleted", bridge_deleted),
        trial("heal: a container's veth is deleted", veth_deleted),
        trial("heal: a container whose namespace is deleted is released", namespace_goes),
        trial("heal: a foreign bridge with netd's name is not taken over", foreign_bridge),
    ]
}

pub(crate) fn set_up(lab: &Lab) -> Server {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp");
    lab.connected("net1", "client", "");
    let server = Server::start("web", "web", 80);
    works(lab);
    server
}

/// Waits until names and ports work and netd reports no problem.
pub(crate) fn works(lab: &Lab) {
    let answers = || {
        let replies = [HOST4, HOST6].map(|host| echo::answers("outside", Proto::Tcp, (host, 4000)));
        seen(replies, |replies| replies.iter().all(|reply| reply.as_ref().is_some_and(|reply| reply.who == "web")))
    };
    until("the published port answers", answers);
    for address in lab.address("net1", "web") {
        let answers = || echo::answers("client", Proto::Tcp, (address, 80)).map(|reply| reply.who);
        until("the peer answers", || is(answers(), &Some("web".to_owned())));
        assert_eq!(ask("client", Proto::Udp, (address, 80)).who, "web");
    }
    let address = lab.address("net1", "web")[0].to_string();
    until("the name answers", || is(Dig::ask("client", "web").answers, &[address.as_str()]));
}

fn flushed(lab: &Lab) {
    let _server = set_up(lab);
    let before = ruleset();
    for _ in 0..3 {
        run("ip netns exec host nft flush ruleset").ok();
        until("the table is back", || is(ruleset(), &before));
        works(lab);
    }
    let dump = lab.netd("status").ok().stdout;
    assert!(dump.contains("ready"), "{dump}");
}

fn table_deleted(lab: &Lab) {
    let _server = set_up(lab);
    let before = ruleset();
    run("ip netns exec host nft delete table inet netd").ok();
    until("the table is back", || is(ruleset(), &before));
    works(lab);
}

fn one_rule(lab: &Lab) {
    let _server = set_up(lab);
    let before = ruleset();
    let chains = run("ip netns exec host nft -j list chains").ok().json();
    let objects = chains["nftables"].as_array().unwrap().clone();
    let chain = objects
        .iter()
        .map(|object| &object["chain"])
        .find(|chain| chain["table"] == "netd" && chain["hook"] == "prerouting" && chain["type"] == "nat");
    let chain = chain.expect("a nat chain in prerouting")["name"].as_str().unwrap().to_owned();
    run(&format!("ip netns exec host nft flush chain inet netd {chain}")).ok();
    until("the rules are back", || is(ruleset(), &before));
    works(lab);
}

fn bridge_deleted(lab: &Lab) {
    let _server = set_up(lab);
    run("ip -n host link delete nd-net1").ok();
    until("the bridge is back", || seen(links("host"), |links| links.contains(&"nd-net1".to_owned())));
    works(lab);
}

fn veth_deleted(lab: &Lab) {
    let _server = set_up(lab);
    let address = addresses("web", "eth0");
    let host_ifname = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    run(&format!("ip -n host link delete {host_ifname}")).ok();
    until("the interface is back, with its address", || is(addresses("web", "eth0"), &address));
    works(lab);
    run("ip -n web link delete eth0").ok();
    until("the interface is back, with its address", || is(addresses("web", "eth0"), &address));
    works(lab);
}

fn namespace_goes(lab: &Lab) {
    let server = set_up(lab);
    drop(server);
    run("ip netns delete web").ok();
    until("it is released", || lacks(lab.netd("ps").ok().stdout, "web"));
    Dig::expect_none("client", "web", "NXDOMAIN");
    // The name goes first, then what the kernel has of it.
    until("its port is not published any more", || lacks(published(), "4000"));
    lab.connected("net1", "other", "-p 4000:80");
}

fn foreign_bridge(lab: &Lab) {
    run("ip -n host link add nd-net1 type bridge").ok();
    run("ip -n host address add 172.20.0.1/16 dev nd-net1").ok();
    lab.start_daemon();
    let out = lab.netd("network create net1");
    if out.code == Some(0) {
        let bridge = lab.network("net1")["bridge"].as_str().unwrap().to_owned();
        assert_ne!(bridge, "nd-net1", "netd took over a foreign bridge");
    } else {
        assert!(out.refused().contains("nd-net1"));
    }
    assert_eq!(addresses("host", "nd-net1").len(), 1, "a foreign bridge keeps its address");
}
