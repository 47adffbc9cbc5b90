//! Endpoints: interfaces and default routes inside containers, addresses, and the lookup of containers.

use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::look::{default_routes, links};
use crate::lab::{Lab, Proto, Server, addresses, ask, ip_json, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("endpoints: eth0, eth1 in order, one default route, which moves on disconnect", several_networks),
        trial("endpoints: an internal network never gives the default route", internal_gives_no_route),
        trial("endpoints: a default route of the container's own stays", own_route_stays),
        trial("endpoints: --ip, --ip6, --mac and --ifname are honoured", as_asked),
        trial("endpoints: an address in use is refused, naming the address and the holder", address_conflict),
        trial("endpoints: a released address is reused last", reused_last),
        trial("endpoints: by path, by process and by name of the namespace", ways_to_name),
        trial("endpoints: an unknown container is refused, naming the searched places", unknown_container),
        trial("endpoints: a second connect and a disconnect without connect are refused", twice),
        trial("endpoints: an interface name in use is refused and leaves nothing", ifname_taken),
        trial("endpoints: a container's name wins over the beginning of an id", hex_name),
        trial("endpoints: the JSON of the API has the documented fields", json),
        trial("endpoints: twenty connected at once get twenty addresses", many),
    ]
}

fn several_networks(lab: &Lab) {
    lab.start_daemon();
    for name in ["b", "a", "c"] {
        lab.netd(&format!("network create {name} --ipv6")).ok();
        lab.connected(name, "web", "");
    }
    assert_eq!(links("web"), ["lo", "eth0", "eth1", "eth2"]);
    let gateways: Vec<Vec<String>> = ["b", "a", "c"]
        .map(|name| {
            let subnets = lab.network(name)["subnets"].as_array().unwrap().clone();
            subnets.iter().map(|subnet| subnet["gateway"].as_str().unwrap().to_owned()).collect()
        })
        .into();
    for (index, network) in ["b", "a", "c"].iter().enumerate() {
        let dev = format!("eth{index}");
        assert_eq!(addresses("web", &dev), lab.address(network, "web"));
        assert_eq!(
            default_routes("web", 4),
            [(gateways[index][0].clone(), dev.clone())],
            "before {network} is disconnected"
        );
        assert_eq!(default_routes("web", 6), [(gateways[index][1].clone(), dev)]);
        lab.netd(&format!("disconnect {network} web")).ok();
    }
    assert!(default_routes("web", 4).is_empty() && default_routes("web", 6).is_empty());
    lab.netd("connect a web").ok();
    assert_eq!(links("web"), ["lo", "eth0"], "the lowest free number");
}

fn internal_gives_no_route(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create hidden --internal").ok();
    lab.netd("network create open").ok();
    lab.connected("hidden", "web", "");
    assert!(default_routes("web", 4).is_empty());
    lab.netd("connect open web").ok();
    let gateway = lab.network("open")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    assert_eq!(default_routes("web", 4), [(gateway, "eth1".to_owned())]);
    lab.netd("disconnect open web").ok();
    assert!(default_routes("web", 4).is_empty());
}

fn own_route_stays(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("web");
    run("ip -n web link add own type veth peer name other").ok();
    run("ip -n web address add 203.0.113.2/24 dev own").ok();
    run("ip -n web link set own up").ok();
    run("ip -n web link set other up").ok();
    run("ip -n web route add default via 203.0.113.1").ok();
    let own = [("203.0.113.1".to_owned(), "own".to_owned())];
    lab.netd("connect net1 web").ok();
    assert_eq!(default_routes("web", 4), own);
    lab.netd("disconnect net1 web").ok();
    assert_eq!(default_routes("web", 4), own);
}

fn as_asked(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24 --subnet fd00:1::/64").ok();
    lab.connected("net1", "web", "--ip 10.1.0.77 --ip6 fd00:1::77 --mac 02:aa:bb:cc:dd:ee --ifname front0");
    let shown: Vec<String> = addresses("web", "front0").iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.1.0.77", "fd00:1::77"]);
    assert_eq!(ip_json("web", "link show front0")[0]["address"], "02:aa:bb:cc:dd:ee");
    for address in ["10.1.1.5", "10.1.0.0", "10.1.0.255", "10.1.0.1"] {
        lab.container("other");
        let line = lab.netd(&format!("connect net1 other --ip {address}")).refused();
        assert!(line.contains("IP address") && line.contains(address), "{line}");
        run("ip netns delete other").ok();
    }
    lab.container("other");
    let line = lab.netd("connect net1 other --mac 02:aa:bb:cc:dd:ee").refused();
    assert!(line.contains("02:aa:bb:cc:dd:ee") && line.contains("web"), "{line}");
}

fn address_conflict(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24 --subnet fd00:1::/64").ok();
    lab.connected("net1", "web", "--ip 10.1.0.5 --ip6 fd00:1::5");
    lab.container("other");
    let before = lab.everything();
    for (option, address) in [("--ip", "10.1.0.5"), ("--ip6", "fd00:1::5")] {
        let line = lab.netd(&format!("connect net1 other {option} {address}")).refused();
        assert!(["IP address", address, "web"].iter().all(|part| line.contains(part)), "{line}");
    }
    let line = lab.netd("connect net1 other --ip 10.1.0.1").refused();
    assert!(line.contains("IP address") && line.contains("gateway"), "{line}");
    lab.unchanged_since(&before);
}

fn reused_last(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/29").ok();
    let connect = |name: &str| {
        lab.connected("net1", name, "");
        lab.address("net1", name)[0].to_string()
    };
    assert_eq!([connect("a"), connect("b")], ["10.1.0.2", "10.1.0.3"]);
    lab.netd("disconnect net1 b").ok();
    lab.netd("disconnect net1 a").ok();
    // Five usable addresses: the three never used come first, then the one that was released first.
    let got = [connect("c"), connect("d"), connect("e"), connect("f"), connect("g")];
    assert_eq!(got, ["10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.3", "10.1.0.2"]);
}

fn ways_to_name(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("named");
    lab.container("lone");
    std::fs::create_dir_all("/run/elsewhere").unwrap();
    std::fs::write("/run/elsewhere/ns", "").unwrap();
    run("mount --bind /run/netns/lone /run/elsewhere/ns").ok();
    lab.container("process");
    let mut sleeper = Command::new("nsenter")
        .args(["--net=/run/netns/process", "--", "sleep", "60"])
        .stdin(Stdio::null())
        .spawn()
        .expect("a process");
    let pid = sleeper.id();
    crate::lab::until("the process is in its namespace", || {
        let is_sleep = |exe: &Path| exe.ends_with("sleep") || exe.ends_with("coreutils");
        seen(std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default(), |exe| is_sleep(exe))
    });
    lab.netd("connect net1 named").ok();
    lab.netd("connect net1 bypath --netns /run/elsewhere/ns").ok();
    lab.netd(&format!("connect net1 bypid --pid {pid}")).ok();
    for (ns, name) in [("named", "named"), ("lone", "bypath"), ("process", "bypid")] {
        assert_eq!(addresses(ns, "eth0"), lab.address("net1", name), "{name}");
        let shown = lab.netd(&format!("inspect {name} --json")).ok().json();
        assert_eq!(shown.as_array().map(Vec::len), Some(1));
    }
    let id = lab.endpoint("net1", "bypath")["container"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    lab.netd(&format!("disconnect net1 {}", &id[..12])).ok();
    assert_eq!(links("lone"), ["lo"]);
    lab.netd("disconnect net1 bypid").ok();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

fn unknown_container(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let line = lab.netd("connect net1 nobody").refused();
    assert!(["nobody", "/run/netns", "docker.sock"].iter().all(|part| line.contains(part)), "{line}");
    let line = lab.netd("connect net1 x --netns /run/nothing/there").refused();
    assert!(line.contains("/run/nothing/there"), "{line}");
    let line = lab.netd("connect net1 x --netns /etc/passwd").refused();
    assert!(line.contains("/etc/passwd"), "{line}");
    let line = lab.netd("connect net1 x --pid 4194304").refused();
    assert!(line.contains("4194304"), "{line}");
    lab.container("web");
    let line = lab.netd("connect nonet web").refused();
    assert!(line.contains("nonet"), "{line}");
}

fn twice(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "web", "");
    let before = lab.everything();
    let line = lab.netd("connect net1 web").refused();
    assert!(line.contains("web") && line.contains("net1") && line.contains("already"), "{line}");
    let line = lab.netd("disconnect net2 web").refused();
    assert!(line.contains("web") && line.contains("net2"), "{line}");
    lab.netd("disconnect net1 nobody").refused();
    lab.unchanged_since(&before);
}

fn ifname_taken(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    lab.container("web");
    run("ip -n web link add foreign type veth peer name other").ok();
    let before = lab.everything();
    let line = lab.netd("connect net1 web --ifname foreign -p 4000:80").refused();
    assert!(line.contains("foreign"), "{line}");
    lab.unchanged_since(&before);
    run("ip -n web link set other name eth0").ok();
    lab.netd("connect net1 web").ok();
    assert_eq!(lab.endpoint("net1", "web")["ifname"], "eth1", "the first number that is free in the container");
}

fn hex_name(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.container("first");
    lab.container("second");
    let id = "cafe".repeat(16);
    let body = format!(r#"{{"container":"first","id":"{id}","netns":"/run/netns/first"}}"#);
    let (status, reply) = lab.http("POST", "/v1/networks/net1/endpoints", &body);
    assert!((200..300).contains(&status), "{reply}");
    lab.netd("connect net1 cafe --netns /run/netns/second").ok();
    assert_eq!(addresses("second", "eth0"), lab.address("net1", "cafe"));
    assert_eq!(addresses("first", "eth0"), lab.address("net1", "first"));
    lab.netd("disconnect net1 cafe").ok();
    assert_eq!((links("first").len(), links("second").len()), (2, 1), "a name wins over the beginning of an id");
    lab.netd("disconnect net1 cafe").ok();
    assert_eq!(links("first").len(), 1, "now it is the beginning of an id");
}

fn json(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24").ok();
    lab.connected("net1", "web", "-p 4000:80 --alias www");
    let shown = lab.endpoint("net1", "web");
    for (key, value) in [
        ("network", serde_json::json!("net1")),
        ("netns", "/run/netns/web".into()),
        ("ifname", "eth0".into()),
        ("addresses", serde_json::json!(["10.1.0.2/24"])),
        ("gateways", serde_json::json!(["10.1.0.1"])),
        ("aliases", serde_json::json!(["www"])),
        ("mac", ip_json("web", "link show eth0")[0]["address"].clone()),
    ] {
        assert_eq!(shown[key], value, "{key} in {shown}");
    }
    let port = serde_json::json!({"host_ip": null, "host_port": 4000, "container_port": 80, "protocol": "tcp"});
    assert_eq!(shown["ports"], serde_json::json!([port]));
    let (status, body) = lab.http("GET", "/v1/endpoints", "");
    assert_eq!((status, serde_json::from_str::<serde_json::Value>(&body).unwrap()), (200, serde_json::json!([shown])));
    for path in ["/v1/containers", "/v1/status", "/v1/dump"] {
        let (status, body) = lab.http("GET", path, "");
        assert!(status == 200 && body.contains("web") || path == "/v1/status", "{path}: {status} {body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }
    let (status, _) = lab.http("DELETE", "/v1/networks/net1/endpoints/web", "");
    assert!((200..300).contains(&status), "{status}");
    assert_eq!(links("web"), ["lo"]);
}

fn many(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let names: Vec<String> = (0..20).map(|number| format!("box{number}")).collect();
    for name in &names {
        lab.container(name);
    }
    std::thread::scope(|scope| {
        for chunk in names.chunks(5) {
            scope.spawn(move || {
                for name in chunk {
                    lab_free_netd(&format!("connect net1 {name}"));
                }
            });
        }
    });
    let mut seen = std::collections::BTreeSet::new();
    for name in &names {
        let address = addresses(name, "eth0")[0];
        assert!(seen.insert(address), "{address} twice");
    }
    let _server = Server::start("box0", "box0", 80);
    assert_eq!(ask("box19", Proto::Tcp, (addresses("box0", "eth0")[0], 80)).who, "box0");
}

/// As [`Lab::netd`], from a thread of its own (a [`Lab`] stays on its thread).
fn lab_free_netd(words: &str) {
    run(&format!("nsenter --net=/run/netns/host -- {} {words}", crate::lab::daemon::netd())).ok();
}
