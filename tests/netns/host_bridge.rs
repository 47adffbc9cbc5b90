//! Containers on a bridge that the host has, and containers without a network.

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;

use crate::lab::look::{addresses, default_routes, links};
use crate::lab::{Dig, Lab, Proto, Server, ask, echo, ip_json, run, skippable, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("host bridge: containers are ports of a bridge that netd neither makes nor changes", whole),
        skippable("host bridge: containers are kept in the VLAN of their network", vlans),
        trial("host bridge: what is not a bridge of the host is refused, and netd's bridges are", refused),
        trial("host bridge: a network without interfaces gives none", nothing),
    ]
}

/// A bridge of the host with the cable to the outside, as for virtual machines.
fn br0() {
    for line in [
        "link add br0 type bridge",
        "link set uplink master br0",
        "address flush dev uplink",
        "address add 192.0.2.1/24 dev br0",
        "link set br0 up",
    ] {
        run(&format!("ip -n host {line}")).ok();
    }
}

/// What must stay as it is.
fn bridge() -> String {
    let shown = &ip_json("host", "-d address show br0")[0];
    let [name, mtu, alias, group, data] = ["ifname", "mtu", "ifalias", "group", "linkinfo"].map(|key| &shown[key]);
    let addresses = addresses("host", "br0");
    let settings = ["stp_state", "vlan_filtering", "group_fwd_mask"].map(|key| &data["info_data"][key]);
    format!("{name} {mtu} {alias} {group} {settings:?} {addresses:?}")
}

fn whole(lab: &Lab) {
    br0();
    lab.start_daemon();
    let before = bridge();
    lab.netd("network create lan -o mode=unmanaged -o bridge=br0 --subnet 192.0.2.0/24 --ip-range 192.0.2.64/26 --gateway 192.0.2.2")
        .ok();
    assert_eq!(bridge(), before);
    assert_eq!(run("ip netns exec host sysctl -n net.ipv4.ip_forward").ok().stdout.trim(), "0");
    lab.connected("lan", "web", "");
    lab.connected("lan", "client", "");
    let web = lab.address("lan", "web")[0];
    assert_eq!(web.to_string(), "192.0.2.64");
    assert_eq!(default_routes("web", 4), [("192.0.2.2".to_owned(), "eth0".to_owned())]);
    let _servers = [Server::start("web", "web", 80), Server::start("outside", "outside", 82)];
    for proto in [Proto::Tcp, Proto::Udp] {
        for from in ["client", "outside", "host"] {
            assert_eq!(ask(from, proto, (web, 80)).who, "web", "{from} {proto:?}");
        }
        assert_eq!(ask("web", proto, ("192.0.2.2", 82)).saw, web, "nothing is translated");
    }
    Dig::expect("client", "web", &[&web.to_string()]);
    let shown = lab.network("lan");
    assert_eq!((&shown["bridge"], &shown["unmanaged"]), (&"br0".into(), &true.into()), "{shown}");
    // A container cannot take the address of another machine.
    run("ip -n client address add 192.0.2.2/32 dev eth0").ok();
    let spoofed = echo::ask_from(
        "client",
        Some("192.0.2.2".parse().unwrap()),
        Proto::Udp,
        std::net::SocketAddr::new(web, 80),
        std::time::Duration::from_millis(300),
    );
    assert!(spoofed.is_err(), "{spoofed:?}");
    run("ip -n client address del 192.0.2.2/32 dev eth0").ok();
    // Repair puts containers back onto the bridge, and leaves the bridge alone.
    let end = lab.endpoint("lan", "web")["host_ifname"].as_str().unwrap().to_owned();
    run(&format!("ip -n host link set {end} nomaster")).ok();
    until("it is a port again", || is(ip_json("host", &format!("link show {end}"))[0]["master"].clone(), "br0"));
    run("ip -n web link del eth0").ok();
    until("it is made again", || is(addresses("web", "eth0"), &[web][..]));
    until("no drift", || is(lab.diff(), ""));
    lab.container("other");
    let line = lab.netd("connect lan other -p 4000:80").refused();
    assert!(line.contains("reached at their own addresses"), "{line}");
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (web, 80)).who, "web");
    for name in ["web", "client"] {
        lab.netd(&format!("disconnect lan {name}")).ok();
    }
    lab.netd("network rm lan").ok();
    assert_eq!(bridge(), before);
    let netds: Vec<String> = links("host").into_iter().filter(|name| name.starts_with("nd")).collect();
    assert!(netds.is_empty(), "{netds:?}");
}

/// Whether bridges of this kernel can tell VLANs apart.
fn filters_vlans() -> bool {
    let tried = "link add probe type bridge vlan_filtering 1";
    run(&format!("ip -n outside {tried}")).code == Some(0) && run("ip -n outside link del probe").code == Some(0)
}

fn vlans(lab: &Lab) -> Completion {
    if !filters_vlans() {
        return Completion::ignored_with("this kernel has no CONFIG_BRIDGE_VLAN_FILTERING");
    }
    if run("ip -n outside link add link uplink name uplink.10 type vlan id 10").code != Some(0) {
        return Completion::ignored_with("this kernel has no CONFIG_VLAN_8021Q");
    }
    br0();
    run("ip -n host link set br0 type bridge vlan_filtering 1").ok();
    run("ip netns exec host bridge vlan add dev uplink vid 10").ok();
    run("ip -n outside address add 198.51.100.2/24 dev uplink.10").ok();
    run("ip -n outside link set uplink.10 up").ok();
    lab.start_daemon();
    for (name, vlan, subnet) in [("red", 10, "198.51.100"), ("blue", 20, "203.0.113")] {
        lab.netd(&format!(
            "network create {name} -o mode=unmanaged -o bridge=br0 -o vlan={vlan} --subnet {subnet}.0/24 --gateway \
             {subnet}.2"
        ))
        .ok();
        assert_eq!(lab.network(name)["vlan"], vlan);
    }
    lab.connected("red", "web", "");
    lab.connected("red", "client", "");
    lab.connected("blue", "other", "");
    let web = lab.address("red", "web")[0];
    let _server = Server::start("web", "web", 80);
    for from in ["client", "outside"] {
        assert_eq!(ask(from, Proto::Tcp, (web, 80)).who, "web", "{from}");
    }
    let end = lab.endpoint("red", "web")["host_ifname"].as_str().unwrap().to_owned();
    let of_end = || -> serde_json::Value {
        let shown = run(&format!("ip netns exec host bridge -j vlan show dev {end}")).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()[0]["vlans"].clone()
    };
    let wants = serde_json::json!([{"vlan": 10, "flags": ["PVID", "Egress Untagged"]}]);
    assert_eq!(of_end(), wants);
    // What another program changes is as before a moment later.
    for change in ["add dev {} vid 20", "del dev {} vid 10", "add dev {} vid 20 pvid untagged", "add dev {} vid 10"] {
        run(&format!("ip netns exec host bridge vlan {}", change.replace("{}", &end))).ok();
        until(change, || is(of_end(), &wants));
    }
    until("no drift", || is(lab.diff(), ""));
    run(&format!("ip -n host link set {end} nomaster")).ok();
    until("it is a port again, in its VLAN", || is(of_end(), &wants));
    lab.kill_daemon();
    run(&format!("ip netns exec host bridge vlan add dev {end} vid 20")).ok();
    lab.start_daemon();
    assert_eq!((of_end(), lab.diff()), (wants, String::new()));
    assert_eq!(ask("outside", Proto::Tcp, (web, 80)).who, "web");
    // Nothing is kept in a VLAN by a bridge that does not tell them apart.
    run("ip -n host link set br0 type bridge vlan_filtering 0").ok();
    lab.container("late");
    let line = lab.netd("connect red late").refused();
    assert!(line.contains("type bridge vlan_filtering 1"), "{line}");
    Completion::Completed
}

fn refused(lab: &Lab) {
    br0();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let before = lab.everything();
    for (options, words) in [
        ("-o bridge=br9", "the host has no such interface"),
        ("-o bridge=uplink", "it is no bridge"),
        ("-o bridge=nd-net1", "it is the bridge of network net1"),
    ] {
        let line = lab.netd(&format!("network create n -o mode=unmanaged {options}")).refused();
        assert!(line.contains(words), "{options}: {line}");
    }
    let line = lab.netd("network create n -o mode=unmanaged -o bridge=br0 -o vlan=10").refused();
    let words = if filters_vlans() { "type bridge vlan_filtering 1" } else { "CONFIG_BRIDGE_VLAN_FILTERING" };
    assert!(line.contains(words), "{line}");
    for (options, words) in [
        ("-o vlan=10", "it is for one of the host"),
        ("-o mode=unmanaged -o bridge=br0 -o vlan=4095", "from 1 to 4094"),
    ] {
        let refused = lab.netd(&format!("network create n {options}"));
        assert!(refused.code == Some(2) && refused.stderr.contains(words), "{refused:?}");
    }
    lab.unchanged_since(&before);
}

fn nothing(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create alone --driver none").ok();
    lab.netd("network create net1").ok();
    lab.connected("alone", "web", "");
    assert_eq!(links("web"), ["lo"]);
    assert!(lab.address("alone", "web").is_empty());
    let line = lab.netd("connect alone web -p 80:80").refused();
    assert!(line.contains("already connected"), "{line}");
    lab.netd("connect net1 web").ok();
    assert_eq!(links("web"), ["lo", "eth0"], "another network gives it one");
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(lab.diff(), "");
    lab.netd("disconnect alone web").ok();
    run("ip netns del web").ok();
    until("the container is released", || is(lab.netd("ps -q").ok().stdout, ""));
    lab.netd("network rm alone").ok();
}
