//! Docker's containers on networks that netd makes for Docker: netd is Docker's network and IPAM driver.

mod requests;
mod restarts;

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, until_within};

use crate::dockerd::{Dockerd, NEEDS, SERVE, docker, in_sandbox, serve};
use crate::lab::look::links;
use crate::lab::{Dig, HOST4, Lab, daemon};
use crate::netavark;
use crate::podman::{podman, podman_run};
use crate::world::{PAGE, fetch, fetches_the_page, on_host, on_host_words, trial, until, until_nothing_left};

/// Where Docker looks for drivers.
const PLUGIN: &str = "/run/docker/plugins/netd.sock";
/// How a network of the driver is created.
const CREATE: &str = "network create -d netd --ipam-driver netd";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docker driver: a container has its network before its first instruction", NEEDS, first_instruction),
        trial("docker driver: names are found both ways, and ports answer", NEEDS, names_and_ports),
        trial("docker driver: what a user asks of a network and of a container is so", NEEDS, options),
        trial("docker driver: networks are connected to and disconnected from a running container", NEEDS, live),
        trial("docker driver: a network of Docker can be one that netd has", NEEDS, joined),
        trial("docker driver: containers of Docker, of Podman and of nobody are on one network", ALL, of_all),
        trial("docker driver: netd is killed while containers start", NEEDS, restarts::killed),
        trial("docker driver: containers outlive restarts of netd, of Docker, and of both", NEEDS, restarts::restarts),
        trial(
            "docker driver: Docker starts without netd, and its networks work once netd is there",
            NEEDS,
            restarts::absent,
        ),
        trial("docker driver: what Docker has forgotten is released", NEEDS, restarts::forgotten),
        trial("docker driver: what others change is healed", NEEDS, healed),
        trial("docker driver: bad requests are refused and change nothing", &["curl"], requests::bad_requests),
    ]
}

/// What Docker and Podman need.
const ALL: &[&str] = &["/usr/sbin/dockerd", "/usr/bin/docker", "containerd", "runc", "iptables", "podman", "conmon"];

/// netd with its driver, and Docker with these options.
fn both(lab: &Lab, options: &str) -> Dockerd {
    start_netd(lab);
    Dockerd::start_with(options)
}

fn start_netd(lab: &Lab) {
    fs::write(daemon::CONFIG, format!("[docker_plugin]\nsocket = {PLUGIN:?}\n")).expect("a file");
    lab.start_daemon();
}

/// Creates a network of the driver, and waits until netd knows its name, which it asks of Docker.
#[track_caller]
fn network(lab: &Lab, name: &str, options: &str) {
    docker(&format!("{CREATE} {options} {name}")).ok();
    named(lab, name);
}

#[track_caller]
fn named(lab: &Lab, name: &str) {
    let row = format!("{name} ");
    until("netd knows the network's name", || contains(lab.netd("network ls").ok().stdout, &row));
}

/// The first address of a container on a network.
fn address(lab: &Lab, network: &str, container: &str) -> String {
    lab.address(network, container)[0].to_string()
}

/// The addresses that a container's own resolver gets for a name.
fn resolved(container: &str, name: &str) -> Vec<String> {
    answers(&docker(&format!("exec {container} nslookup {name}")).stdout)
}

/// The addresses in the words of busybox; the name server's own has its port behind it.
pub(crate) fn answers(text: &str) -> Vec<String> {
    let addresses = text.lines().filter_map(|line| line.strip_prefix("Address: "));
    addresses.filter(|address| !address.contains("127.0.0.11")).map(str::to_owned).collect()
}

/// One value of a container, as Docker tells it.
fn told(container: &str, format: &str) -> String {
    let words = ["/usr/bin/docker", "--host", "unix:///run/docker.sock", "inspect", "-f", format, container];
    on_host_words(&words).ok().stdout.trim().to_owned()
}

/// What Docker says when it refuses; it may be several lines.
#[track_caller]
fn fails(line: &str) -> String {
    match docker(line).succeeded() {
        Ok(_) => panic!("it should have been refused: {line}"),
        Err(out) => out.stderr,
    }
}

fn gone(lab: &Lab, names: &str) {
    docker(&format!("rm -f {names}")).ok();
    until_nothing_left(lab);
    assert_eq!(lab.netd("reservation ls --json").ok().json(), serde_json::json!([]));
}

fn first_instruction(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(lab, "net1", "");
    lab.connected("net1", "plain", "");
    let plain = address(lab, "net1", "plain");
    for _ in 0..5 {
        let words =
            ["/usr/bin/docker", "--host", "unix:///run/docker.sock", "run", "--rm", "--network", "net1", "--name"];
        let script = "ip -o -4 address show eth0; ip route; nslookup web; nslookup plain";
        let out = on_host_words(&[&words[..], &["web", "lab", "sh", "-c", script]].concat()).ok().stdout;
        assert!(out.contains("inet 10.") && out.contains("default via 10."), "{out}");
        let found = answers(&out);
        assert_eq!((found.len(), found.last()), (2, Some(&plain)), "{out}");
    }
    lab.netd("disconnect net1 plain").ok();
    until_nothing_left(lab);
}

fn names_and_ports(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(lab, "net1", "");
    lab.connected("net1", "plain", "--alias store");
    let web = serve("web", "--network net1 --network-alias www -p 4000:80 -p 127.0.0.1:4001:80");
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    for at in [format!("{HOST4}:4000"), "127.0.0.1:4000".into(), "[::1]:4000".into(), "127.0.0.1:4001".into()] {
        fetches_the_page("host", &at);
    }
    assert_eq!(fetch("outside", &format!("{HOST4}:4001")), "");
    let (plain, own) = (address(lab, "net1", "plain"), address(lab, "net1", "web"));
    assert_eq!(told("web", "{{.NetworkSettings.Networks.net1.IPAddress}}"), own);
    for name in ["plain", "store", "plain.net1", "plain.net1.internal"] {
        until(&format!("web finds {name}"), || is(resolved("web", name), std::slice::from_ref(&plain)));
    }
    // Docker tells the alias once the container has started.
    for name in ["web", "www", "web.net1", &web[..12]] {
        until(&format!("plain finds {name}"), || {
            let found = Dig::ask("plain", name);
            is(found.answers, std::slice::from_ref(&own))
        });
    }
    let listed = lab.netd("ps --json").ok().stdout;
    assert!(listed.contains(&web) && listed.contains("4000"), "{listed}");
    assert_eq!(lab.diff(), "");
    docker("rename web page").ok();
    until_within(std::time::Duration::from_secs(30), "the new name is found", || {
        is(Dig::ask("plain", "page").answers, std::slice::from_ref(&own))
    });
    lab.netd("disconnect net1 plain").ok();
    gone(lab, "page");
    docker("network rm net1").ok();
    assert_eq!(lab.netd("network ls --json").ok().json(), serde_json::json!([]));
    assert_eq!(links("host").iter().filter(|name| name.starts_with("nd")).count(), 0);
}

fn options(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(
        lab,
        "net1",
        "--subnet 10.66.0.0/24 --ip-range 10.66.0.128/25 --gateway 10.66.0.7 --aux-address a=10.66.0.129 -o mtu=1400",
    );
    let net1 = lab.network("net1");
    assert_eq!(
        (net1["mtu"].as_u64(), net1["subnets"][0]["gateway"].as_str()),
        (Some(1400), Some("10.66.0.7")),
        "{net1}"
    );
    serve("any", "--network net1");
    serve("more", "--network net1");
    let two = [address(lab, "net1", "any"), address(lab, "net1", "more")];
    assert_eq!(two, ["10.66.0.128", "10.66.0.130"], "from the range, and not what is kept for others");
    serve(
        "web",
        "--network net1 --ip 10.66.0.20 --mac-address 02:00:00:00:00:20 -P --expose 80 -p 5000-5300:5000-5300/udp",
    );
    let seen = in_sandbox("web", "ip address show eth0").ok().stdout;
    for part in ["10.66.0.20/24", "02:00:00:00:00:20", "mtu 1400"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    let endpoint = lab.endpoint("net1", "web");
    let ports = endpoint["ports"].as_array().expect("a list");
    assert_eq!(ports.len(), 2, "the range is one: {endpoint}");
    let random = ports.iter().find(|port| port["container_port"] == 80).expect("the exposed port")["host_port"].clone();
    fetches_the_page("outside", &format!("{HOST4}:{random}"));
    let refused = fails(&format!("run -d --network net1 --name other -p 5100:80/udp {SERVE}"));
    assert!(refused.contains("5100") && refused.contains("web"), "{refused}");
    let taken = fails("run -d --network net1 --ip 10.66.0.20 --name third lab");
    assert!(taken.contains("IP address 10.66.0.20 on network net1 is taken by container web"), "{taken}");
    docker("rm other third").ok();
    // IPv6, and an internal network.
    network(lab, "six", "--ipv6");
    serve("both", "--network six -p 4006:80");
    let addresses = lab.address("six", "both");
    assert!(addresses.len() == 2 && addresses[1].is_ipv6(), "{addresses:?}");
    let seen = in_sandbox("both", "ip -6 address show eth0").ok().stdout;
    assert!(seen.contains(&addresses[1].to_string()), "{seen}");
    fetches_the_page("outside", &format!("{HOST4}:4006"));
    network(lab, "inner", "--internal");
    serve("quiet", "--network inner");
    assert!(!in_sandbox("quiet", "ip route").ok().stdout.contains("default"));
    assert_eq!(lab.network("inner")["internal"], true);
    for (wrong, words) in [
        ("-o nonsense=1", "\"nonsense\""),
        ("-o mtu=big", "use a number of bytes"),
        ("--subnet 10.66.0.0/25", "10.66.0.0"),
    ] {
        let refused = fails(&format!("{CREATE} {wrong} wrong"));
        assert!(refused.contains(words), "{wrong}: {refused}");
    }
    gone(lab, "any more web both quiet");
    docker("network rm net1 six inner").ok();
    assert_eq!(lab.netd("network ls --json").ok().json(), serde_json::json!([]));
}

fn live(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(lab, "net1", "");
    network(lab, "net2", "");
    docker("network create theirs").ok();
    lab.connected("net1", "one", "");
    lab.connected("net2", "two", "");
    serve("web", "--network net1 -p 4000:80");
    let at = format!("{HOST4}:4000");
    fetches_the_page("outside", &at);
    docker("network connect --alias www net2 web").ok();
    until("two finds the alias", || is(Dig::ask("two", "www").answers, &[address(lab, "net2", "web")]));
    until("web finds names of both", || {
        is(
            (resolved("web", "one"), resolved("web", "two")),
            &(vec![address(lab, "net1", "one")], vec![address(lab, "net2", "two")]),
        )
    });
    docker("network connect theirs web").ok();
    assert!(in_sandbox("web", "ip -o link").ok().stdout.contains("eth2@"));
    docker("network disconnect theirs web").ok();
    // The ports go with the default route.
    docker("network disconnect net1 web").ok();
    fetches_the_page("outside", &at);
    assert_eq!(Dig::ask("one", "web").status, "NXDOMAIN");
    docker("network connect net1 web").ok();
    docker("network disconnect net2 web").ok();
    fetches_the_page("outside", &at);
    until("one finds it again", || is(Dig::ask("one", "web").answers, &[address(lab, "net1", "web")]));
    assert_eq!(lab.diff(), "");
    for (network, name) in [("net1", "one"), ("net2", "two")] {
        lab.netd(&format!("disconnect {network} {name}")).ok();
    }
    gone(lab, "web");
}

fn joined(lab: &Lab) {
    let _dockerd = both(lab, "");
    lab.netd("network create net1 --subnet 10.70.0.0/24").ok();
    lab.connected("net1", "plain", "");
    docker(&format!("{CREATE} --subnet 10.70.0.0/24 -o netd.network=net1 known")).ok();
    docker(&format!("{CREATE} -o netd.network=net1 other")).ok();
    let told_subnet = on_host_words(&[
        "/usr/bin/docker",
        "--host",
        "unix:///run/docker.sock",
        "network",
        "inspect",
        "-f",
        "{{(index .IPAM.Config 0).Subnet}}",
        "known",
    ]);
    assert_eq!(told_subnet.ok().stdout.trim(), "10.70.0.0/24");
    serve("web", "--network known --ip 10.70.0.99 -p 4000:80");
    assert_eq!(address(lab, "net1", "web"), "10.70.0.99");
    serve("db", "--network other");
    for name in ["web", "db"] {
        assert!(address(lab, "net1", name).starts_with("10.70.0."), "{name}");
        until("plain finds it", || is(Dig::ask("plain", name).answers, &[address(lab, "net1", name)]));
        until("it finds plain", || is(resolved(name, "plain"), &[address(lab, "net1", "plain")]));
    }
    until("they find each other", || is(resolved("web", "db"), &[address(lab, "net1", "db")]));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    assert!(fails(&format!("{CREATE} -o netd.network=lost wrong")).contains("no network \"lost\""));
    docker("rm -f web db").ok();
    docker("network rm known other").ok();
    assert_eq!(lab.network("net1")["name"], "net1", "it was netd's before, and stays");
    assert_eq!(Dig::ask("plain", "web").status, "NXDOMAIN");
    lab.netd("disconnect net1 plain").ok();
    until_nothing_left(lab);
}

fn of_all(lab: &Lab) {
    start_netd(lab);
    netavark::install_for(lab);
    let _dockerd = Dockerd::start();
    // Podman gives the addresses of its networks itself: they are to be others than netd's.
    podman("network create --subnet 10.70.0.0/24 --ip-range 10.70.0.128/25 net1").ok();
    podman_run(&format!("-d --name seal --network net1 --network-alias otter {SERVE}"));
    lab.connected("net1", "plain", "");
    docker(&format!("{CREATE} --subnet 10.70.0.0/24 -o netd.network=net1 theirs")).ok();
    serve("ship", "--network theirs --network-alias boat");
    let at = |name: &str| address(lab, "net1", name);
    for (name, owner) in [("plain", "plain"), ("seal", "seal"), ("otter", "seal"), ("ship", "ship"), ("boat", "ship")] {
        let expected = [at(owner)];
        until(&format!("plain finds {name}"), || is(Dig::ask("plain", name).answers, &expected));
        until(&format!("ship finds {name}"), || is(resolved("ship", name), &expected));
        until(&format!("seal finds {name}"), || {
            is(answers(&podman(&format!("exec seal nslookup {name}")).stdout), &expected)
        });
    }
    for from in [docker("exec ship wget -qO- http://seal/"), podman("exec seal wget -qO- http://ship/")] {
        assert_eq!(from.ok().stdout.trim(), PAGE);
    }
    podman("rm -t 0 -f seal").ok();
    lab.netd("disconnect net1 plain").ok();
    gone(lab, "ship");
    // Docker still has it, and it works.
    serve("ship", "--network theirs");
    gone(lab, "ship");
    docker("network rm theirs").ok();
    until("it goes with the last that has it", || {
        is(lab.netd("network ls --json").ok().json(), &serde_json::json!([]))
    });
}

/// What another program does, in words, and how.
type Change<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn healed(lab: &Lab) {
    let _dockerd = both(lab, "");
    network(lab, "net1", "");
    serve("web", "--network net1 -p 4000:80");
    let at = format!("{HOST4}:4000");
    fetches_the_page("outside", &at);
    let host_end = lab.endpoint("net1", "web")["host_ifname"].as_str().expect("text").to_owned();
    let inside = |line: &str| drop(in_sandbox("web", line).ok());
    let changes: [Change<'_>; 6] = [
        ("the tables are flushed", Box::new(|| drop(on_host("nft flush ruleset").ok()))),
        (
            "the host end leaves its bridge",
            Box::new(|| drop(on_host(&format!("ip link set {host_end} nomaster")).ok())),
        ),
        ("the interface is down", Box::new(|| inside("ip link set eth0 down"))),
        ("the address is gone", Box::new(|| inside("ip address flush dev eth0"))),
        ("the default route is gone", Box::new(|| inside("ip route delete default"))),
        ("the host end is deleted", Box::new(|| drop(on_host(&format!("ip link delete {host_end}")).ok()))),
    ];
    for (what, change) in changes {
        change();
        until(&format!("nothing differs after: {what}"), || is(lab.diff(), ""));
        fetches_the_page("outside", &at);
    }
    gone(lab, "web");
    docker("network rm net1").ok();
}
