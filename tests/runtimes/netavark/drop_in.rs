//! What users of Podman do with its networks.

use libtest_mimic::Trial;
use netd_testing::wait::is;

use super::{NEEDS, all_gone, podman_in, ready};
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, run};
use crate::machine;
use crate::podman::{SERVE, inspect, page_comes_to, podman, podman_run, resolves};
use crate::world::{PAGE, Traces, fetch, fetches_the_page, on_host, on_host_words, trial, until};

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("netavark: run -p, the default network has names too", NEEDS, default_network),
        trial("netavark: names both ways, aliases, also with a container of netd", NEEDS, names),
        trial("netavark: two networks, connect and disconnect of a running container", NEEDS, two_networks),
        trial("netavark: an address, a MAC address, ranges of ports, a host address", NEEDS, chosen),
        trial("netavark: an internal network, and one with IPv6", NEEDS, internal_and_ipv6),
        trial("netavark: MTU, routes and name servers of a network", NEEDS, options),
        trial("netavark: a port that is taken is refused, and nothing is left", NEEDS, taken),
        trial("netavark: what netd cannot do is refused by name", NEEDS, refused),
        trial("netavark: a network on an interface of the host", NEEDS, on_an_interface),
        trial("netavark: a network that was made again with another subnet", NEEDS, made_again),
        trial("netavark: a pod shares its networks", NEEDS, pod),
    ]
}

fn default_network(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    fetches_the_page("host", "127.0.0.1:4000");
    assert_eq!(podman("port web").ok().stdout.trim(), "80/tcp -> 0.0.0.0:4000");
    let address = inspect("web", "{{.NetworkSettings.IPAddress}}");
    assert_eq!(lab.address("podman", "web")[0].to_string(), address);
    assert_eq!(inspect("web", "{{.NetworkSettings.Gateway}}"), "10.88.0.1");
    page_comes_to("podman", &address);
    // Podman itself has no names there. It takes the resolv.conf that netd keeps for the namespace for the host's.
    page_comes_to("podman", "web");
    assert!(on_host("ip link show podman0").code == Some(0), "the bridge has the name that Podman gives it");
    let traces = Traces::of(lab, "podman", "web", &[4000]);
    podman("rm -t 0 -f web").ok();
    traces.are_gone(lab);
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), "");
    all_gone(lab);
}

fn names(lab: &Lab) {
    ready(lab);
    podman("network create net1").ok();
    podman_run(&format!("-d --name web --network net1 --network-alias store -p 4000:80 {SERVE}"));
    for name in ["web", "store", &inspect("web", "{{.Id}}")[..12]] {
        page_comes_to("net1", name);
    }
    // A container that Podman does not know, on the same network.
    lab.container("plain");
    lab.netd("connect net1 plain").ok();
    let _server = Server::start("plain", "plain", 81);
    let address = lab.address("net1", "plain")[0].to_string();
    assert!(resolves("web", "plain"), "Podman's container finds the other");
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let web = lab.address("net1", "web")[0].to_string();
    assert_eq!(Dig::ask("plain", &format!("@{gateway} web A")).answers, [web.as_str()]);
    assert_eq!(Dig::ask("plain", &format!("@{gateway} store.net1 A")).answers, [web.as_str()]);
    assert_eq!(ask("host", Proto::Tcp, (&address, 81)).who, "plain");
    let resolv = podman("exec web cat /etc/resolv.conf").ok().stdout;
    assert!(resolv.contains(&format!("nameserver {gateway}")) && resolv.contains("internal"), "{resolv}");
    podman("rm -t 0 -f web").ok();
    assert_eq!(lab.network("net1")["name"], "net1", "another container keeps the network");
    lab.netd("disconnect net1 plain").ok();
    all_gone(lab);
}

fn two_networks(lab: &Lab) {
    ready(lab);
    for network in ["net1", "net2"] {
        podman(&format!("network create {network}")).ok();
    }
    podman_run(&format!("-d --name web --network net1,net2 -p 4000:80 {SERVE}"));
    podman_run("-d --name probe --network net2 lab sleep 1000");
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    ["net1", "net2"].into_iter().for_each(|network| page_comes_to(network, "web"));
    podman("network disconnect net1 web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    assert!(resolves("probe", "web"));
    podman("network disconnect net2 web").ok();
    assert!(!resolves("probe", "web"), "the name still resolves");
    until("the first network has gone with its last container", || {
        is(lab.netd("network ls --json").ok().stdout.contains("net1"), &false)
    });
    podman("network connect --alias store net2 web").ok();
    assert!(resolves("probe", "web") && resolves("probe", "store"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("network reload web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("net2", "web");
    podman("rm -t 0 -f web probe").ok();
    all_gone(lab);
}

fn chosen(lab: &Lab) {
    ready(lab);
    podman("network create --subnet 10.89.7.0/24 --gateway 10.89.7.1 net1").ok();
    let choice = "--network net1 --ip 10.89.7.77 --mac-address 02:00:00:00:00:77";
    podman_run(&format!(
        "-d --name web {choice} -p 127.0.0.1:4001:80 -p 4002-4003:80-81 -p 4004:80/udp -p 5000-5099:5000-5099 {SERVE}"
    ));
    let interface = podman("exec web ip -o address show eth0").ok().stdout;
    assert!(interface.contains("inet 10.89.7.77/24"), "{interface}");
    let link = podman("exec web ip -o link show eth0").ok().stdout;
    assert!(link.contains("02:00:00:00:00:77"), "{link}");
    for (ns, address) in [("host", "127.0.0.1:4001".to_owned()), ("outside", format!("{HOST4}:4002"))] {
        fetches_the_page(ns, &address);
    }
    assert_eq!(fetch("outside", &format!("{HOST4}:4001")), "", "published on loopback only");
    let ports = lab.netd("port web").ok().stdout;
    assert!(ports.contains("5000-5099") && ports.contains("4004"), "{ports}");
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn internal_and_ipv6(lab: &Lab) {
    ready(lab);
    podman("network create --internal back").ok();
    podman("network create --ipv6 --subnet 10.89.8.0/24 --subnet fd00:89:8::/64 front").ok();
    podman_run(&format!("-d --name web --network back,front -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("back", "web");
    page_comes_to("front", "web");
    let routes = podman("exec web ip route").ok().stdout;
    assert!(routes.contains("default via 10.89.8.1"), "{routes}");
    let addresses = podman("exec web ip -o address").ok().stdout;
    assert!(addresses.contains("inet6 fd00:89:8::"), "{addresses}");
    podman_run("-d --name alone --network back lab sleep 1000");
    assert!(!podman("exec alone ip route").ok().stdout.contains("default"));
    podman("rm -t 0 -f web alone").ok();
    // Without names, the host has no address on an internal network.
    podman("network create --internal --disable-dns --subnet 10.89.9.0/24 closed").ok();
    podman_run(&format!("-d --name web --network closed {SERVE}"));
    page_comes_to("closed", &inspect("web", "{{.NetworkSettings.Networks.closed.IPAddress}}"));
    assert!(!on_host("ip address").ok().stdout.contains("10.89.9."));
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn options(lab: &Lab) {
    ready(lab);
    podman("network create -o mtu=1400 --subnet 10.89.7.0/24 net1").ok();
    podman_run(&format!("-d --name web --network net1 --dns 192.0.2.53 {SERVE}"));
    assert!(podman("exec web ip link show eth0").ok().stdout.contains("mtu 1400"));
    assert_eq!(lab.network("net1")["mtu"], 1400);
    let resolv = podman("exec web cat /etc/resolv.conf").ok().stdout;
    assert!(resolv.contains("nameserver 192.0.2.53"), "{resolv}");
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn taken(lab: &Lab) {
    ready(lab);
    let server = Server::start("host", "host", 4000);
    let run_it = || podman_in("run", &format!("-d --name web -p 4000:80 {SERVE}"));
    let refused = run_it();
    assert!(refused.code != Some(0) && refused.stderr.contains("4000"), "{refused:?}");
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "host", "the host's own server still answers");
    drop(server);
    podman("rm -f web").ok();
    // A port of netd is not held for Podman's container, but it is known.
    lab.netd("network create by-hand").ok();
    lab.container("plain");
    lab.netd("connect by-hand plain -p 4001-4030:80-109").ok();
    let refused = podman_in("run", &format!("-d --name web -p 4002:80 {SERVE}"));
    assert!(refused.code != Some(0) && refused.stderr.contains("plain"), "netd's sentence: {refused:?}");
    lab.netd("disconnect by-hand plain").ok();
    podman("rm -f web").ok();
    lab.netd("network rm by-hand").ok();
    all_gone(lab);
}

fn refused(lab: &Lab) {
    ready(lab);
    podman("network create -d macvlan --subnet 10.89.7.0/24 -o parent=lo mac").ok();
    podman("network create -o vlan=7 tagged").ok();
    podman("network create net1").ok();
    for (networks, named) in
        [("mac", "it is a loopback"), ("tagged", "option vlan=7"), ("net1,tagged", "option vlan=7")]
    {
        let refused = podman_in("run", &format!("--rm --network {networks} lab sleep 1"));
        assert!(refused.code != Some(0) && refused.stderr.contains(named), "{networks}: {refused:?}");
        all_gone(lab);
    }
    lab.kill_daemon();
    let refused = podman_in("run", "--rm lab sleep 1");
    let told = "cannot reach netd at /run/netd/netd.sock";
    assert!(refused.stderr.contains(told) && refused.stderr.contains("systemctl start netd"), "{refused:?}");
}

fn on_an_interface(lab: &Lab) {
    ready(lab);
    let subnet = "--subnet 192.0.2.0/24 --ip-range 192.0.2.64/26 --gateway 192.0.2.2";
    podman(&format!("network create -d macvlan {subnet} -o parent=uplink mac")).ok();
    podman_run(&format!("-d --name web -p 4000:80 --network mac {SERVE}"));
    let address = inspect("web", "{{(index .NetworkSettings.Networks \"mac\").IPAddress}}");
    assert_eq!(lab.address("mac", "web")[0].to_string(), address);
    fetches_the_page("outside", &address);
    assert!(lab.endpoint("mac", "web")["skipped_ports"].is_array(), "a port of the host leads nowhere there");
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
}

fn made_again(lab: &Lab) {
    ready(lab);
    podman("network create --subnet 10.89.7.0/24 net1").ok();
    podman_run("-d --name web --network net1 lab sleep 1000");
    // Podman removes the definition together with its containers; netd is not told.
    podman("network rm -f -t 0 net1").ok();
    podman("network create --subnet 10.89.9.0/24 net1").ok();
    podman_run("-d --name web --network net1 lab sleep 1000");
    assert!(lab.address("net1", "web")[0].to_string().starts_with("10.89.9."));
    // A container that Podman does not know stays on the old network.
    podman("rm -t 0 -f web").ok();
    all_gone(lab);
    podman_run("-d --name web --network net1 lab sleep 1000");
    lab.container("plain");
    lab.netd("connect net1 plain").ok();
    podman("network rm -f -t 0 net1").ok();
    podman("network create --subnet 10.89.10.0/24 net1").ok();
    let refused = podman_in("run", "--rm --network net1 lab sleep 1");
    assert!(refused.code != Some(0), "{refused:?}");
    for named in ["net1", "subnet or gateway", "plain"] {
        assert!(refused.stderr.contains(named), "{named}: {refused:?}");
    }
    run("ip netns del plain").ok();
    until("it can be used once nothing is on the old one", || {
        is(podman_in("run", "--rm --network net1 lab busybox true").code, &Some(0))
    });
    all_gone(lab);
}

fn pod(lab: &Lab) {
    ready(lab);
    podman("network create net1").ok();
    let cgroup = format!("/{}/podman", machine::cgroup());
    let create =
        ["podman", "pod", "create", "--cgroup-parent", &cgroup, "--name", "pod", "--infra-image", "localhost/lab"];
    let more = ["--infra-command", "sleep 100000", "--network", "net1", "--network-alias", "shop", "-p", "4000:80"];
    on_host_words(&[&create[..], &more].concat()).ok();
    podman_run(&format!("-d --pod pod --name web {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("net1", "shop");
    let inside = podman_run("--rm --pod pod lab wget -qO- http://127.0.0.1/").stdout;
    assert_eq!(inside.trim(), PAGE);
    podman("pod rm -t 0 -f pod").ok();
    all_gone(lab);
}
