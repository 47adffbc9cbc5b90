//! Addresses of a DHCP server on the host's network: dnsmasq in the namespace `outside`, and a server whose answers are
//! made by hand for what dnsmasq never says.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};
use serde_json::json;

use crate::lab::cni::call;
use crate::lab::look::{addresses, default_routes, links};
use crate::lab::{Dig, Lab, OUTSIDE4, Proto, Server, ask, ip_json, run, trial, until};

mod scripted;
mod server;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("dhcp: a container on macvlan gets its address, and gives it back", whole),
        trial("dhcp: the same on a bridge of the host", on_a_bridge),
        trial("dhcp: the same on a bridge whose new ports do not forward for a while", on_a_slow_bridge),
        trial("dhcp: without a server there is one error, and nothing is left", no_server),
        trial("dhcp: two containers have two addresses, and the pool ends", exhausted),
        trial("dhcp: leases survive a restart and a kill of the daemon", restarts),
        trial("dhcp: a container that returns gets its former address", returns),
        trial("dhcp: a CNI configuration has it: ADD, CHECK, a repeated ADD, DEL", of_cni),
        trial("dhcp: what cannot be is refused, and changes nothing", refused),
    ];
    trials.extend(scripted::trials());
    trials
}

const LAN: &str = "network create lan -d macvlan -o parent=uplink -o ipam=dhcp";

/// dnsmasq in the namespace `outside`, with these addresses to give; it ends when dropped.
struct Dnsmasq {
    child: Child,
    log: PathBuf,
    leases: PathBuf,
}

impl Dnsmasq {
    fn start(range: &str) -> Self {
        let [log, leases] = ["dnsmasq.log", "dnsmasq.leases"].map(|name| PathBuf::from("/run").join(name));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "outside", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"]);
        command.args([
            "--port=0",
            "--user=root",
            "--pid-file=",
            "--interface=uplink",
            "--bind-interfaces",
            "--no-ping",
        ]);
        command.args(["--log-dhcp", "--dhcp-authoritative", &format!("--dhcp-range={range},1h")]);
        command.args([format!("--log-facility={}", log.display()), format!("--dhcp-leasefile={}", leases.display())]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq");
        let started = Self { child, log, leases };
        until("dnsmasq runs", || seen(started.log(), |log| log.contains("DHCP, sockets bound")));
        started
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its leases: address and host name.
    fn leases(&self) -> Vec<(String, String)> {
        let leases = fs::read_to_string(&self.leases).unwrap_or_default();
        let words = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[2].to_owned(), words[3].to_owned())
        };
        let mut leases: Vec<_> = leases.lines().map(words).collect();
        leases.sort();
        leases
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // It may have ended by itself, which its clients notice.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(lab: &Lab) {
    let dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    let before = lab.everything();
    lab.netd(LAN).ok();
    assert_eq!((&lab.network("lan")["ipam"], &lab.network("lan")["subnets"]), (&"dhcp".into(), &json!([])));
    lab.container("web");
    let said = lab.netd("connect lan web").ok().stdout;
    let web = addresses("web", "eth0")[0];
    assert!(said.contains(&format!("{web}/24")), "{said}");
    lab.connected("lan", "client", "");
    assert_eq!(default_routes("web", 4), [(OUTSIDE4.to_owned(), "eth0".to_owned())]);
    assert_eq!(lab.address("lan", "web"), [web]);
    assert!(dnsmasq.leases().contains(&(web.to_string(), "web".into())), "{:?}", dnsmasq.leases());
    let lease = lab.endpoint("lan", "web")["lease"].clone();
    assert_eq!((&lease["address"], &lease["server"]), (&format!("{web}/24").into(), &OUTSIDE4.into()), "{lease}");
    assert!(lease["expires"].as_str() > lease["granted"].as_str(), "{lease}");
    Dig::expect("client", "web", &[&web.to_string()]);
    let pointer = format!("-x {web}");
    Dig::expect("client", &pointer, &["web.", "web.lan.internal."]);
    let _servers = [Server::start("web", "web", 80), Server::start("outside", "outside", 82)];
    for from in ["client", "outside"] {
        assert_eq!(ask(from, Proto::Tcp, (web, 80)).who, "web", "{from}");
    }
    assert_eq!(ask("web", Proto::Tcp, (OUTSIDE4, 82)).saw, web);
    run("ip -n web address flush dev eth0").ok();
    until("what another program takes away comes back", || is(addresses("web", "eth0"), &[web][..]));
    until("with the route", || is(default_routes("web", 4), &[(OUTSIDE4.to_owned(), "eth0".to_owned())][..]));
    lab.netd("disconnect lan web").ok();
    assert_eq!(links("web"), ["lo"]);
    let release = format!("DHCPRELEASE(uplink) {web}");
    until("the server has its address again", || seen(dnsmasq.log(), |log| log.contains(&release)));
    until("and forgets the lease", || is(dnsmasq.leases().len(), &1));
    lab.netd("disconnect lan client").ok();
    lab.netd("network rm lan").ok();
    for name in ["web", "client"] {
        run(&format!("ip netns del {name}")).ok();
    }
    let without = crate::lab::look::without_revision;
    crate::lab::look::same(&without(&before), &without(&lab.everything()));
}

/// Makes the bridge br0 on the host's network, with these settings.
fn bridge(settings: &str) {
    for line in [
        format!("link add br0 type bridge {settings}").as_str(),
        "link set uplink master br0",
        "address flush dev uplink",
        "address add 192.0.2.1/24 dev br0",
        "link set br0 up",
    ] {
        run(&format!("ip -n host {line}")).ok();
    }
}

/// Six seconds of listening, and six of learning: longer than netd asks elsewhere.
fn on_a_slow_bridge(lab: &Lab) {
    bridge("stp_state 1 forward_delay 600");
    let _dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.netd("network create lan -o mode=unmanaged -o bridge=br0 -o ipam=dhcp").ok();
    lab.connected("lan", "web", "");
    assert_eq!(addresses("web", "eth0"), lab.address("lan", "web"));
}

fn on_a_bridge(lab: &Lab) {
    bridge("");
    let dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.netd("network create lan -o mode=unmanaged -o bridge=br0 -o ipam=dhcp").ok();
    lab.connected("lan", "web", "");
    let web = lab.address("lan", "web")[0];
    assert_eq!(addresses("web", "eth0"), [web]);
    let _server = Server::start("web", "web", 80);
    for from in ["host", "outside"] {
        assert_eq!(ask(from, Proto::Tcp, (web, 80)).who, "web", "{from}");
    }
    lab.netd("disconnect lan web").ok();
    let release = format!("DHCPRELEASE(uplink) {web}");
    until("the server has its address again", || seen(dnsmasq.log(), |log| log.contains(&release)));
}

fn no_server(lab: &Lab) {
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.container("web");
    let before = lab.everything();
    let mut events = Command::new("nsenter");
    events.args(["--net=/run/netns/host", "--", crate::lab::daemon::netd(), "events"]);
    events.args(["--socket", crate::lab::daemon::SOCKET]);
    let mut events = events.stdout(Stdio::piped()).spawn().expect("netd events");
    let line = lab.netd("connect lan web").refused();
    assert!(line.contains("no address for web on network lan, which is on uplink"), "{line}");
    assert!(line.contains("no DHCP server answered within 10 s"), "{line}");
    let without = crate::lab::look::without_revision;
    crate::lab::look::same(&without(&before), &without(&lab.everything()));
    assert_eq!((lab.diff(), links("web")), (String::new(), vec!["lo".to_owned()]));
    // Nobody heard of it, and the name is free.
    events.kill().expect("kill netd events");
    let mut told = String::new();
    events.stdout.take().expect("a pipe").read_to_string(&mut told).expect("events");
    events.wait().expect("netd events");
    assert_eq!(told, "");
    let _dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.netd("connect lan web").ok();
}

fn exhausted(lab: &Lab) {
    let dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.101");
    lab.start_daemon();
    lab.netd(LAN).ok();
    for name in ["one", "two"] {
        lab.connected("lan", name, "");
    }
    let mut both = [lab.address("lan", "one"), lab.address("lan", "two")].concat();
    both.sort();
    assert_eq!(both, ["192.0.2.100", "192.0.2.101"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(
        dnsmasq.leases().iter().map(|(_, name)| name.as_str()).collect::<std::collections::BTreeSet<_>>(),
        ["one", "two"].into()
    );
    lab.container("three");
    let line = lab.netd("connect lan three").refused();
    assert!(line.contains("no address for three on network lan"), "{line}");
    assert_eq!(links("three"), ["lo"]);
    lab.netd("disconnect lan one").ok();
    until("an address is free", || is(dnsmasq.leases().len(), &1));
    lab.netd("connect lan three").ok();
}

fn restarts(lab: &Lab) {
    let dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.connected("lan", "web", "");
    let web = lab.address("lan", "web");
    let lease = lab.endpoint("lan", "web")["lease"].clone();
    let index = ip_json("web", "link show eth0")[0]["ifindex"].clone();
    for end in [Lab::stop_daemon, Lab::kill_daemon] {
        end(lab);
        lab.start_daemon();
        assert_eq!(lab.endpoint("lan", "web")["lease"], lease);
        assert_eq!((addresses("web", "eth0"), lab.diff()), (web.clone(), String::new()));
        assert_eq!(ip_json("web", "link show eth0")[0]["ifindex"], index, "it is the same interface");
    }
    drop(dnsmasq);
    // The daemon is killed while a container waits for its address.
    lab.container("late");
    let mut late = Command::new("nsenter");
    late.args(["--net=/run/netns/host", "--", crate::lab::daemon::netd(), "connect", "lan", "late"]);
    let mut late =
        late.args(["--socket", crate::lab::daemon::SOCKET]).stderr(Stdio::null()).spawn().expect("netd connect");
    until("it is made", || is(links("late"), &["lo", "eth0"][..]));
    lab.kill_daemon();
    assert!(!late.wait().expect("netd connect").success());
    lab.start_daemon();
    until("nobody waits for it any more", || is(links("late"), &["lo"][..]));
    assert_eq!((lab.diff(), lab.address("lan", "web")), (String::new(), web));
}

fn returns(lab: &Lab) {
    let _dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.connected("lan", "web", "");
    let (web, mac) = (lab.address("lan", "web"), lab.endpoint("lan", "web")["mac"].clone());
    lab.netd("disconnect lan web").ok();
    lab.connected("lan", "other", "");
    run("ip netns del web").ok();
    lab.connected("lan", "web", "");
    assert_eq!((lab.address("lan", "web"), &lab.endpoint("lan", "web")["mac"]), (web, &mac));
}

fn of_cni(lab: &Lab) {
    let dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.container("web");
    let on = json!({"name": "lan", "driver": "macvlan", "options": {"parent": "uplink", "ipam": "dhcp"}});
    let web = |command| call(command, "web").with(on.clone());
    let result = web("ADD").run().ok();
    let address = addresses("web", "eth0")[0];
    assert_eq!(result["ips"][0]["address"], format!("{address}/24"), "{result:#}");
    assert_eq!(result["ips"][0]["gateway"], OUTSIDE4, "{result:#}");
    web("CHECK").conf(|conf| conf.prev_result(&result)).run().ok();
    assert_eq!(web("ADD").run().ok(), result);
    web("DEL").run().ok();
    assert_eq!(links("web"), ["lo"]);
    let release = format!("DHCPRELEASE(uplink) {address}");
    until("the server has its address again", || seen(dnsmasq.log(), |log| log.contains(&release)));
    drop(dnsmasq);
    web("ADD").run().error(101);
    assert_eq!((links("web"), lab.diff()), (vec!["lo".to_owned()], String::new()));
}

fn refused(lab: &Lab) {
    let _dnsmasq = Dnsmasq::start("192.0.2.100,192.0.2.150");
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.container("web");
    lab.connected("lan", "held", "");
    let before = lab.everything();
    let stacked = "-d macvlan -o parent=uplink";
    for (command, words) in [
        ("network create n -o ipam=dhcp".to_owned(), "no DHCP server on a network of netd's own"),
        ("network create n -d none -o ipam=dhcp".to_owned(), "the none driver knows"),
        ("network create n -d ipvlan -o parent=uplink -o ipam=dhcp".to_owned(), "use macvlan"),
        (format!("network create n {stacked} -o ipam=dhcp --subnet 192.0.2.0/24"), "leave out --subnet"),
        (format!("network create n {stacked} -o ipam=dhcp --ipv6"), "IPv4 only"),
        (format!("network create n {stacked} -o ipam=dhcp --host-access all"), "leave out --host-access"),
        (format!("network create n {stacked} -o ipam=static"), "use netd or dhcp"),
        ("connect lan web --ip 192.0.2.120".to_owned(), "the DHCP server chooses"),
        ("reservation create lan r1".to_owned(), "the DHCP server reserves addresses"),
        ("disconnect lan held --keep r1".to_owned(), "the DHCP server reserves addresses"),
    ] {
        let line = lab.netd(&command);
        assert!(line.code != Some(0) && line.stderr.contains(words), "{command}: {line:?}");
    }
    lab.unchanged_since(&before);
}
