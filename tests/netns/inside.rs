//! The name service inside containers: without a gateway on the host, on request of the user, and if the host's
//! firewall blocks the gateway.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{contains, is, lacks, seen};

use crate::lab::look::links;
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, Proto, Server, ask, daemon, run, skippable, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("inside: the input policy drops everything", policy_before),
        trial("inside: the input policy is changed later", policy_later),
        skippable("inside: the input policy of iptables", policy_of_iptables),
        trial("inside: a network without an address of the host", isolated),
        trial("inside: configured by the user, with another DNS server in the container", asked_for),
        trial("inside: a container that changes its networks is not confused with another", changes),
        trial("inside: ended containers are released: named namespaces, processes and mounts", ends),
        trial("inside: netd run", netd_run),
    ]
}

fn answer() -> String {
    std::net::Ipv4Addr::from(ANSWER).to_string()
}

/// The name server in the resolv.conf of the named namespace.
pub(crate) fn name_server(name: &str) -> String {
    let text = fs::read_to_string(format!("/etc/netns/{name}/resolv.conf")).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect()
}

/// Names resolve in the container over UDP and TCP; `at`: the server, as an argument of dig.
#[track_caller]
pub(crate) fn resolves(container: &str, at: &str, name: &str, address: &str) {
    for how in ["+notcp", "+tcp"] {
        Dig::expect(container, &format!("{how} {at} {name}"), &[address]);
    }
}

/// Drops all input to the host except replies.
pub(crate) fn close_the_host() {
    run("ip netns exec host nft add table inet closed").ok();
    let chain = [
        "ip",
        "netns",
        "exec",
        "host",
        "nft",
        "add chain inet closed input { type filter hook input priority 0; policy drop; }",
    ];
    crate::lab::command::run_words(&chain).ok();
    let rules =
        "add rule inet closed input iifname lo accept; add rule inet closed input ct state established,related accept";
    crate::lab::command::run_words(&["ip", "netns", "exec", "host", "nft", rules]).ok();
}

/// How often the log contains the text.
pub(crate) fn times_logged(lab: &Lab, what: &str) -> usize {
    lab.log().lines().filter(|line| line.contains(what)).count()
}

pub(crate) const DROPS: &str = "firewall drops DNS queries from network";

/// Configures netd not to add accept rules to other programs' chains.
pub(crate) fn report_only() {
    fs::write(daemon::CONFIG, "[firewall]\nforeign = \"report\"\n").expect("a configuration");
}

/// An internal network and an ordinary one, on a host whose input `close` drops before any container is connected.
fn closed_host(lab: &Lab, close: impl Fn()) {
    let _upstream = Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)));
    report_only();
    lab.start_daemon();
    close();
    lab.netd("network create quiet --internal").ok();
    lab.netd("network create net1").ok();
    for network in ["quiet", "net1"] {
        lab.connected(network, &format!("web-{network}"), "");
        lab.connected(network, &format!("client-{network}"), "");
        let web = lab.address(network, &format!("web-{network}"))[0].to_string();
        let client = format!("client-{network}");
        assert_eq!(name_server(&client), "127.0.0.11");
        resolves(&client, "", &format!("web-{network}"), &web);
        assert_eq!(times_logged(lab, &format!("{DROPS} {network}")), 1, "logged once");
    }
    resolves("client-net1", "", "www.example.com", &answer());
    Dig::expect_none("client-quiet", "www.example.com", "SERVFAIL");
    let problems = lab.netd("status --json").ok().json()["problems"].clone();
    assert_eq!(problems, serde_json::json!([]));
    lab.kill_daemon();
    lab.start_daemon();
    resolves("client-net1", "", "web-net1", &lab.address("net1", "web-net1")[0].to_string());
    assert_eq!(name_server("client-net1"), "127.0.0.11");
}

fn policy_before(lab: &Lab) {
    closed_host(lab, close_the_host);
}

fn policy_of_iptables(lab: &Lab) -> Completion {
    if run("ip netns exec outside iptables -P INPUT DROP").code != Some(0) {
        return Completion::ignored_with("iptables does not work here");
    }
    closed_host(lab, || {
        for rule in
            ["-A INPUT -i lo -j ACCEPT", "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", "-P INPUT DROP"]
        {
            run(&format!("ip netns exec host iptables {rule}")).ok();
        }
    });
    Completion::Completed
}

fn policy_later(lab: &Lab) {
    report_only();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let (web, gateway) = (lab.address("net1", "web")[0].to_string(), name_server("client"));
    assert_ne!(gateway, "127.0.0.11");
    resolves("client", "", "web", &web);
    close_the_host();
    until("netd has detected it", || is(name_server("client"), "127.0.0.11"));
    resolves("client", "", "web", &web);
    // A container whose runtime wrote its resolv.conf keeps using the gateway.
    resolves("client", &format!("@{gateway}"), "web", &web);
    assert_eq!(times_logged(lab, DROPS), 1);
    lab.connected("net1", "third", "");
    resolves("third", "", "web", &web);
    lab.netd("disconnect net1 third").ok();
    let ruleset = lab.exec("third", "nft list ruleset").ok().stdout;
    assert!(!ruleset.contains("netd_dns"), "{ruleset}");
    assert_eq!(lab.exec("third", "ss -Hlntu").ok().stdout, "", "a socket remains");
}

fn isolated(lab: &Lab) {
    lab.start_daemon();
    let refused = lab.netd("network create lone -o gateway_mode=isolated");
    assert!(refused.code == Some(2) && refused.stderr.contains("--internal"), "{refused:?}");
    lab.netd("network create lone --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated --ipv6").ok();
    lab.connected("lone", "web", "");
    lab.connected("lone", "client", "");
    let web = lab.address("lone", "web")[0].to_string();
    let bridge = lab.network("lone")["bridge"].as_str().unwrap().to_owned();
    let on_host = run(&format!("ip -n host -br address show scope global dev {bridge}")).ok().stdout;
    assert!(!on_host.contains('/'), "the host has no address there: {on_host}");
    resolves("client", "", "web", &web);
    let found = lab.exec("client", "getent ahostsv4 web").ok().stdout;
    assert!(found.starts_with(&web), "{found}");
    let _server = Server::start("web", "web", 80);
    for bridged in ["0", "1"] {
        // The setting exists once the module is loaded.
        let line = format!(
            "test ! -e /proc/sys/net/bridge/bridge-nf-call-iptables || echo {bridged} > /proc/sys/net/bridge/bridge-nf-call-iptables"
        );
        lab.shell("host", &line).ok();
        assert_eq!(ask("client", Proto::Tcp, (&web, 80)).who, "web");
    }
    lab.kill_daemon();
    lab.start_daemon();
    resolves("client", "", "web", &web);
}

fn asked_for(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string();
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    assert_eq!(name_server("client"), "127.0.0.11");
    let holds = || {
        resolves("client", "", "web", &web);
        resolves("client", &format!("@{gateway}"), "web", &web);
    };
    holds();
    let own = Server::at("client", "own", SocketAddr::from(([0, 0, 0, 0], 53)));
    assert_eq!(ask("web", Proto::Udp, (&lab.address("net1", "client")[0].to_string(), 53)).who, "own");
    holds();
    lab.kill_daemon();
    lab.start_daemon();
    holds();
    drop(own);
}

fn changes(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container --subnet 10.7.0.0/29").ok();
    lab.netd("network create net2").ok();
    lab.netd("network create net3").ok();
    lab.connected("net1", "mover", "");
    lab.connected("net2", "mover", "");
    lab.connected("net1", "one", "");
    lab.connected("net2", "two", "");
    lab.connected("net3", "three", "");
    let address = |network: &str, name: &str| lab.address(network, name)[0].to_string();
    resolves("mover", "@127.0.0.11", "one", &address("net1", "one"));
    resolves("mover", "@127.0.0.11", "two", &address("net2", "two"));
    let first = address("net1", "mover");
    lab.netd("connect net3 mover").ok();
    lab.netd("disconnect net1 mover").ok();
    // Only net1 has the name service inside its containers.
    assert_eq!(lab.exec("mover", "ss -Hlntu").ok().stdout, "");
    resolves("mover", "", "three", &address("net3", "three"));
    lab.netd("connect net1 mover").ok();
    lab.netd("disconnect net2 mover").ok();
    lab.container("heir");
    lab.netd(&format!("connect net2 heir --ip {}", "10.77.0.2")).ok();
    resolves("mover", "", "one", &address("net1", "one"));
    for how in ["+notcp", "+tcp"] {
        Dig::expect_none("mover", &format!("{how} two"), "NXDOMAIN");
        Dig::expect_none("mover", &format!("{how} heir"), "NXDOMAIN");
    }
    assert_ne!(first, "");
}

/// A sleeping process in its own network namespace.
pub(crate) fn sleeper() -> Child {
    let child =
        Command::new("unshare").args(["--net", "--", "sleep", "600"]).stdin(Stdio::null()).spawn().expect("unshare");
    let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
    until("it has its namespace", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
        let namespace = fs::read_link(format!("/proc/{}/ns/net", child.id())).unwrap_or_default();
        seen((name, namespace), |(name, namespace)| name == "sleep\n" && *namespace != own)
    });
    child
}

/// A veth pair with one end in the container: the kernel deletes it with the namespace, once there is no reference to
/// it.
fn witness(name: &str, place: &str) {
    run(&format!("ip link add {name} type veth peer name witness netns {place}")).ok();
}

fn ends(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container").ok();
    let before = links("host");
    lab.connected("net1", "client", "");
    lab.connected("net1", "named", "");
    witness("w-named", "named");
    let mut process = sleeper();
    lab.netd(&format!("connect net1 process --pid {}", process.id())).ok();
    witness("w-process", &process.id().to_string());
    let mut other = sleeper();
    let folder = Path::new("/run/lab/podman");
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("netns-1"), "").unwrap();
    run(&format!("mount --bind /proc/{}/ns/net /run/lab/podman/netns-1", other.id())).ok();
    lab.netd("connect net1 mounted --netns /run/lab/podman/netns-1").ok();
    witness("w-mounted", &other.id().to_string());
    other.kill().unwrap();
    other.wait().unwrap();
    for name in ["named", "process", "mounted"] {
        Dig::expect("client", name, &[&lab.address("net1", name)[0].to_string()]);
    }
    run("ip netns delete named").ok();
    process.kill().unwrap();
    process.wait().unwrap();
    run("umount /run/lab/podman/netns-1").ok();
    fs::remove_file(folder.join("netns-1")).unwrap();
    for name in ["named", "process", "mounted"] {
        until(&format!("{name} is released"), || is(Dig::ask("client", name).status, "NXDOMAIN"));
        let witness = format!("/sys/class/net/w-{name}");
        until(&format!("the kernel lets go of {name}"), || is(Path::new(&witness).exists(), &false));
    }
    lab.netd("disconnect net1 client").ok();
    assert_eq!(links("host"), before);
}

fn netd_run(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 -o dns.listen=container").ok();
    lab.connected("net1", "web", "");
    let web = lab.address("net1", "web")[0].to_string();
    let line = "cat /etc/resolv.conf && busybox nslookup web";
    let words = ["run", "--name", "x", "--network", "net1", "--", "sh", "-c", line];
    let shown = lab.netd_words(&words).stdout;
    assert!(shown.contains("nameserver 127.0.0.11\n") && shown.contains(&web), "{shown}");
    let mut command = Command::new("nsenter");
    command.args([
        "--net=/run/netns/host",
        "--",
        daemon::netd(),
        "run",
        "--socket",
        daemon::SOCKET,
        "--name",
        "killed",
    ]);
    command.args(["--network", "net1", "--", "sleep", "600"]).stdin(Stdio::null());
    let mut child = command.spawn().expect("netd run");
    until("it is connected", || contains(lab.netd("ps").ok().stdout, "killed"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    child.wait().unwrap();
    until("it is released", || lacks(lab.netd("ps").ok().stdout, "killed"));
}
