//! Networks on an interface of the host: macvlan, with the host's own interface among them, and what is refused.

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{is, seen};
use serde_json::json;

use crate::lab::cni::call;
use crate::lab::look::{addresses, default_routes, links};
use crate::lab::{Dig, HOST4, Lab, OUTSIDE4, Proto, Server, ask, echo, ip_json, run, skippable, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("macvlan: containers are on the host's network, with names, and the host reaches them", whole),
        trial("macvlan: without a gateway there is no default route, and no address is kept for one", no_gateway),
        trial("macvlan: what another program deletes or changes is made again", heals),
        trial("macvlan: restarts, kills and the ends of containers leave what lives and nothing else", ends),
        trial("macvlan: the mode passthru is for one container, with the interface's MAC address", passthru),
        trial("macvlan: containers in the mode private do not reach each other", private),
        trial("macvlan: a CNI configuration has one: ADD, CHECK, a repeated ADD, DEL", of_cni),
        trial("macvlan: what cannot be is refused in one line and changes nothing", refused),
        skippable("ipvlan: containers have the interface's MAC address, and names", |lab| ipvlan(lab, "l2")),
        skippable("ipvlan: the same in the mode l3", |lab| ipvlan(lab, "l3")),
    ]
}

/// The network that the host is on, with the outside as its router.
const LAN: &str = "-o parent=uplink --subnet 192.0.2.0/24 --ip-range 192.0.2.64/26 --gateway 192.0.2.2";

/// Routes of the host over its own interface on the network.
fn routes() -> Vec<String> {
    let routes = run("ip -n host -4 route show dev nd-lan").stdout;
    routes.lines().filter_map(|route| Some(route.split_whitespace().next()?.to_owned())).collect()
}

fn whole(lab: &Lab) {
    lab.start_daemon();
    let before = lab.everything();
    lab.netd(&format!("network create lan --driver macvlan {LAN} --host-access all")).ok();
    lab.connected("lan", "web", "--alias www");
    lab.connected("lan", "client", "");
    let shown = &ip_json("web", "-d link show eth0")[0];
    assert_eq!(shown["linkinfo"]["info_kind"], "macvlan", "{shown}");
    assert_eq!(shown["linkinfo"]["info_data"]["mode"], "bridge", "{shown}");
    assert_eq!(addresses("host", "nd-lan"), ["192.0.2.64".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(addresses("web", "eth0"), lab.address("lan", "web"));
    assert_eq!(default_routes("web", 4), [(OUTSIDE4.to_owned(), "eth0".to_owned())]);
    let [web, client] = ["web", "client"].map(|name| lab.address("lan", name)[0]);
    assert_eq!(routes(), [web.to_string(), client.to_string()]);
    for name in ["web", "www"] {
        Dig::expect("client", name, &[&web.to_string()]);
    }
    assert_eq!(crate::inside::name_server("client"), "127.0.0.11");
    let _servers =
        [Server::start("web", "web", 80), Server::start("host", "host", 81), Server::start("outside", "outside", 82)];
    for proto in [Proto::Tcp, Proto::Udp] {
        for from in ["client", "outside", "host"] {
            assert_eq!(ask(from, proto, (web, 80)).who, "web", "{from} {proto:?}");
        }
        assert_eq!(ask("web", proto, (OUTSIDE4, 82)).saw, web, "nothing is translated");
        assert_eq!(ask("web", proto, ("192.0.2.64", 81)).who, "host");
    }
    assert_eq!(ask("web", Proto::Tcp, (HOST4, 81)).who, "host", "at its address on the parent too");
    let inspected = lab.network("lan");
    for (key, value) in [("driver", "macvlan"), ("parent", "uplink"), ("mode", "bridge"), ("bridge", "")] {
        assert_eq!(inspected[key], value, "{inspected}");
    }
    assert_eq!(inspected["host_interface"]["name"], "nd-lan", "{inspected}");
    assert_eq!(run("ip netns exec host sysctl -n net.ipv4.ip_forward").ok().stdout.trim(), "0", "nothing is forwarded");
    lab.netd("disconnect lan web").ok();
    assert_eq!((links("web"), routes()), (vec!["lo".to_owned()], vec![client.to_string()]));
    lab.netd("disconnect lan client").ok();
    lab.netd("network rm lan").ok();
    for name in ["web", "client"] {
        run(&format!("ip netns del {name}")).ok();
    }
    let without = crate::lab::look::without_revision;
    crate::lab::look::same(&without(&before), &without(&lab.everything()));
}

fn no_gateway(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create lan -d macvlan -o parent=uplink --subnet 10.9.0.0/29 --subnet fd09::/64").ok();
    lab.connected("lan", "web", "");
    assert_eq!(lab.address("lan", "web")[0].to_string(), "10.9.0.1", "nobody else is on the network");
    assert!(default_routes("web", 4).is_empty() && default_routes("web", 6).is_empty());
    lab.connected("lan", "client", "");
    let _server = Server::start("web", "web", 80);
    for web in lab.address("lan", "web") {
        assert_eq!(ask("client", Proto::Tcp, (web, 80)).who, "web");
    }
    let shown = lab.network("lan");
    assert!(shown["subnets"][0].get("gateway").is_none() && shown.get("host_interface").is_none(), "{shown}");
    // The host's own address is on the network, and is given to nobody.
    run("ip -n host address add 10.9.0.3/29 dev uplink").ok();
    lab.connected("lan", "third", "");
    assert_eq!(lab.address("lan", "third")[0].to_string(), "10.9.0.4");
    lab.container("fourth");
    let line = lab.netd("connect lan fourth --ip 10.9.0.3").refused();
    assert!(line.contains("10.9.0.3") && line.contains("taken by the host"), "{line}");
}

fn heals(lab: &Lab) {
    lab.start_daemon();
    lab.netd(&format!("network create lan -d macvlan {LAN} --host-access all")).ok();
    lab.connected("lan", "web", "");
    let _server = Server::start("web", "web", 80);
    let web = lab.address("lan", "web")[0];
    let healthy = || (addresses("web", "eth0"), default_routes("web", 4), routes(), addresses("host", "nd-lan"));
    let before = healthy();
    for change in [
        "ip -n web link del eth0",
        "ip -n web link set eth0 down",
        "ip -n web address flush dev eth0",
        "ip -n web route del default",
        "ip -n web link set eth0 address 02:00:00:00:00:99",
        "ip -n web link set eth0 mtu 1300",
        "ip -n host link del nd-lan",
        "ip -n host link set nd-lan down",
        "ip -n host link set nd-lan name other9",
        "ip -n host address flush dev nd-lan",
        &format!("ip -n host route del {web} dev nd-lan"),
    ] {
        run(change).ok();
        until(change, || is(healthy(), &before));
        until(change, || is(lab.diff(), ""));
        assert_eq!(ask("outside", Proto::Tcp, (web, 80)).who, "web", "{change}");
        until(change, || echo::answers("host", Proto::Tcp, (web, 80)));
    }
    // A route that comes is found with the next look at the host.
    run("ip -n host route add 192.0.2.99 dev nd-lan").ok();
    let patience = std::time::Duration::from_secs(20);
    crate::lab::until_within(patience, "a route to nobody is gone", || is(healthy(), &before));
    // With the parent everything on top of it goes; it comes back when that does.
    run("ip -n host link del uplink").ok();
    until("a problem is told", || seen(lab.netd("status").stdout, |text| text.contains("uplink")));
    run("ip -n host link add uplink type veth peer name uplink netns outside").ok();
    for (ns, address) in [("host", HOST4), ("outside", OUTSIDE4)] {
        run(&format!("ip -n {ns} address add {address}/24 dev uplink")).ok();
        run(&format!("ip -n {ns} link set uplink up")).ok();
    }
    crate::lab::until_within(patience, "all is back", || is(healthy(), &before));
}

fn ends(lab: &Lab) {
    lab.start_daemon();
    lab.netd(&format!("network create lan -d macvlan {LAN} --host-access all")).ok();
    for name in ["web", "client", "gone"] {
        lab.connected("lan", name, "");
    }
    let _server = Server::start("web", "web", 80);
    let web = lab.address("lan", "web")[0];
    lab.stop_daemon();
    assert_eq!(ask("client", Proto::Tcp, (web, 80)).who, "web", "without a daemon");
    run("ip netns del gone").ok();
    lab.start_daemon();
    until("the container that ended meanwhile is released", || is(routes().len(), &2));
    // What a daemon leaves that is killed between the end of the record and that of the interface.
    lab.kill_daemon();
    run("ip -n host link add link uplink name left type macvlan mode bridge").ok();
    run("ip -n host link set left group 28260 netns client").ok();
    lab.start_daemon();
    until("what was left is removed", || is(links("client"), &["lo", "eth0"][..]));
    assert_eq!(lab.diff(), "");
    Dig::expect("client", "web", &[&web.to_string()]);
    run("ip -n client link del eth0").ok();
    until("it is followed after a restart, too", || is(addresses("client", "eth0"), &lab.address("lan", "client")));
    run("ip netns del client").ok();
    until("the ended container is released", || is(routes(), &[web.to_string()][..]));
    lab.netd("teardown --yes").ok();
    assert_eq!((links("web"), links("host")), (vec!["lo".to_owned()], vec!["lo".to_owned(), "uplink".to_owned()]));
}

fn passthru(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create lan -d macvlan -o parent=uplink -o macvlan_mode=passthru --subnet 10.9.0.0/24").ok();
    let mac = ip_json("host", "link show uplink")[0]["address"].clone();
    lab.connected("lan", "web", "");
    assert_eq!(ip_json("web", "link show eth0")[0]["address"], mac);
    lab.container("second");
    let line = lab.netd("connect lan second").refused();
    assert!(line.contains("uplink") && line.contains("where it is for one container"), "{line}");
    let line = lab.netd("network create other -d macvlan -o parent=uplink").refused();
    assert!(line.contains("network lan is on it"), "{line}");
}

fn private(lab: &Lab) {
    lab.start_daemon();
    lab.netd(&format!("network create lan -d macvlan {LAN} -o macvlan_mode=private")).ok();
    lab.connected("lan", "web", "");
    lab.connected("lan", "client", "");
    let _server = Server::start("web", "web", 80);
    let web = lab.address("lan", "web")[0];
    assert_eq!(ask("outside", Proto::Tcp, (web, 80)).who, "web");
    echo::expect_no_answer("client", Proto::Tcp, (web, 80));
}

fn of_cni(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    let on = json!({"name": "lan", "driver": "macvlan", "options": {"parent": "uplink", "host_access": "all"},
        "subnets": [{"subnet": "192.0.2.0/24", "ipRange": "192.0.2.64/26", "gateway": "192.0.2.2"}]});
    let web = |command| call(command, "web").with(on.clone());
    let result = web("ADD").run().ok();
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 1, "nothing of it is on the host: {result:#}");
    assert_eq!((&result["ips"][0]["interface"], &result["ips"][0]["gateway"]), (&json!(0), &json!("192.0.2.2")));
    let _server = Server::start("web", "web", 80);
    let web_at = lab.address("lan", "web")[0];
    assert_eq!(ask("outside", Proto::Tcp, (web_at, 80)).who, "web");
    web("CHECK").conf(|conf| conf.prev_result(&result)).run().ok();
    let index = ip_json("web", "link show eth0")[0]["ifindex"].clone();
    assert_eq!(web("ADD").run().ok(), result);
    assert_eq!(ip_json("web", "link show eth0")[0]["ifindex"], index, "it is the same interface");
    web("DEL").run().ok();
    assert_eq!(links("web"), ["lo"]);
    assert!(routes().is_empty());
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    run("ip -n host link add br0 type bridge").ok();
    run("ip -n host link add port type veth peer name other").ok();
    run("ip -n host link set port master br0 up").ok();
    lab.netd(&format!("network create lan -d macvlan {LAN}")).ok();
    lab.container("web");
    let before = lab.everything();
    for (command, words) in [
        ("network create n -d macvlan -o parent=eth9", "the host has no such interface"),
        ("network create n -d macvlan -o parent=other", "it is down"),
        ("network create n -d macvlan -o parent=port", "it is a port of br0"),
        ("network create n -d macvlan -o parent=lo", "it is a loopback"),
        ("network create n -d macvlan -o parent=uplink.10", "the host has no such interface"),
        ("network create n -d macvlan -o parent=uplink --mtu 9000", "that of uplink is 1500"),
        ("network create n -d macvlan -o parent=uplink -o macvlan_mode=passthru", "network lan is on it"),
        (
            "network create n -d macvlan -o parent=uplink -o macvlan_mode=private --host-access all",
            "mode bridge of macvlan",
        ),
        ("network create n -d macvlan -o parent=uplink --host-access ports", "use none or all"),
        ("network create n -d macvlan -o parent=uplink --subnet 192.0.2.0/24", "network lan"),
        ("connect lan web -p 4000:80", "reached at their own addresses without the host"),
        ("connect lan web --ip 192.0.2.2", "taken by the gateway"),
    ] {
        let line = lab.netd(command).refused();
        assert!(line.contains(words), "{command}: {line}");
    }
    if run("ip -n host link add link uplink name v9 type vlan id 9").code != Some(0) {
        let line = lab.netd("network create n -d macvlan -o parent=uplink.10").refused();
        assert!(line.contains("this kernel has no vlan interfaces (CONFIG_VLAN_8021Q)"), "{line}");
    }
    if run("ip -n host link add link other name v8 type ipvlan").code != Some(0) {
        let line = lab.netd("network create n -d ipvlan -o parent=uplink").refused();
        assert!(line.contains("this kernel has no ipvlan interfaces (CONFIG_IPVLAN)"), "{line}");
    }
    run("ip -n host link del v9");
    run("ip -n host link del v8");
    lab.unchanged_since(&before);
}

fn ipvlan(lab: &Lab, mode: &str) -> Completion {
    if run("ip -n outside link add link uplink name probe type ipvlan").code != Some(0) {
        return Completion::ignored_with("this kernel has no CONFIG_IPVLAN");
    }
    run("ip -n outside link del probe").ok();
    lab.start_daemon();
    lab.netd(&format!("network create lan --driver ipvlan -o ipvlan_mode={mode} {LAN}")).ok();
    lab.connected("lan", "web", "--alias www");
    lab.connected("lan", "client", "");
    let shown = &ip_json("web", "-d link show eth0")[0];
    assert_eq!(shown["linkinfo"]["info_kind"], "ipvlan", "{shown}");
    assert_eq!(shown["linkinfo"]["info_data"]["mode"], mode, "{shown}");
    assert_eq!(shown["address"], ip_json("host", "link show uplink")[0]["address"]);
    let web = lab.address("lan", "web")[0];
    assert_eq!(addresses("web", "eth0"), [web]);
    if mode == "l3" {
        // Nobody answers ARP there: a router must know the way.
        run(&format!("ip -n outside route add {web}/32 via {HOST4}")).ok();
    }
    for name in ["web", "www"] {
        Dig::expect("client", name, &[&web.to_string()]);
    }
    let _servers = [Server::start("web", "web", 80), Server::start("outside", "outside", 82)];
    for proto in [Proto::Tcp, Proto::Udp] {
        for from in ["client", "outside"] {
            assert_eq!(ask(from, proto, (web, 80)).who, "web", "{from} {proto:?}");
        }
        assert_eq!(ask("web", proto, (OUTSIDE4, 82)).saw, web, "nothing is translated");
    }
    assert_eq!((lab.diff(), lab.network("lan")["mode"].as_str()), (String::new(), Some(mode)));
    run("ip -n web link del eth0").ok();
    until("it is made again", || is(addresses("web", "eth0"), &[web][..]));
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(ask("outside", Proto::Tcp, (web, 80)).who, "web");
    assert_eq!(lab.diff(), "");
    for name in ["web", "client"] {
        lab.netd(&format!("disconnect lan {name}")).ok();
        assert_eq!(links(name), ["lo"]);
    }
    lab.netd("network rm lan").ok();
    Completion::Completed
}
