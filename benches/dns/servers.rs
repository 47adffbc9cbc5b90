//! The servers that are compared: all of them in the namespace that plays the host, at netd's gateway, each on a port of
//! its own, with the same names.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use netd::engine::listener::{Batch, Poller};
use netd_testing::lab::{self, Lab};
use netd_testing::wait::seen;
use netd_testing::zone::{self, Zone};
use nix::unistd::Pid;

use super::process::{self, Running};

/// Where Debian has it.
const AARDVARK: &str = "/usr/lib/podman/aardvark-dns";
/// The server that knows no names.
pub(crate) const ECHO_NAME: &str = "UDP echo";
/// What this program is told to be it.
pub(crate) const ECHO: &str = "echo";

/// A server that answers.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    /// netd's cost for an answer may be so many times this one's.
    pub(crate) at_most: Option<f64>,
    pub(crate) pid: Pid,
    _running: Option<Running>,
}

/// Starts all of them; netd, which runs already, comes first.
pub(crate) fn start(lab: &Lab, zone: &Zone) -> Vec<Server> {
    fs::create_dir_all("/run/lab/aardvark").expect("a folder");
    let pid = lab.daemon_pid();
    process::pin(pid, process::SERVER_CPU);
    let netd = Server { name: "netd", port: 53, at_most: None, pid, _running: None };
    let peers = [
        peer(ECHO_NAME, 5300, 1.25, echo(zone.gateway, 5300)),
        peer("dnsmasq", 5301, 0.9, dnsmasq(zone, 5301)),
        peer("unbound", 5302, 0.9, unbound(zone, 5302)),
        peer("aardvark-dns", 5303, 0.65, aardvark(zone, 5303)),
    ];
    let servers: Vec<Server> = std::iter::once(netd).chain(peers).collect();
    for server in &servers {
        let (name, address) = zone.names.first().expect("names");
        let asked = format!("ip netns exec {} dig +short +tries=1 +time=1", zone::CLIENT);
        let asked = format!("{asked} -p {} @{} {name}", server.port, zone.gateway);
        lab::until(&format!("{} answers", server.name), || {
            let right = |answer: &str| server.name == ECHO_NAME || answer.trim() == address.to_string();
            seen(lab::run(&asked), |output| output.code == Some(0) && right(&output.stdout))
        });
    }
    servers
}

fn peer(name: &'static str, port: u16, at_most: f64, running: Running) -> Server {
    Server { name, port, at_most: Some(at_most), pid: running.pid(), _running: Some(running) }
}

fn echo(gateway: IpAddr, port: u16) -> Running {
    let this = std::env::current_exe().expect("the path of this program");
    Running::start(&[this.to_str().expect("UTF-8"), ECHO, &SocketAddr::new(gateway, port).to_string()])
}

/// Sends every question back as a reply to itself, with the socket calls of netd's loop.
pub(crate) fn be_the_echo(address: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(&socket, 0)?;
    let mut batch = Batch::new();
    loop {
        if poller.wait(None)?.any(|key| key == 0) {
            batch.receive(&socket)?;
            batch.answer(|question, _, out| {
                out[..question.len()].copy_from_slice(question);
                // QR, without which dnsperf would not take it.
                out[2] |= 0x80;
                question.len()
            });
            batch.send(&socket);
        }
    }
}

/// Names from a hosts file: it keeps those in a hash table, `host-record` in a list.
fn dnsmasq(zone: &Zone, port: u16) -> Running {
    let hosts = "/run/lab/dnsmasq.hosts";
    fs::write(hosts, zone.lines(|name, address| format!("{address} {name}"))).expect("a file");
    let port = format!("--port={port}");
    let (at, hosts) = (format!("--listen-address={}", zone.gateway), format!("--addn-hosts={hosts}"));
    let fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"];
    let more = ["--user=root", "--pid-file=", "--local-ttl=5", "--cache-size=10000"];
    let words = [&["dnsmasq", &port, &at, &hosts][..], &fixed, &more].concat();
    Running::start(&words)
}

fn unbound(zone: &Zone, port: u16) -> Running {
    let file = "/run/lab/unbound.conf";
    let head = format!(
        "server:\n interface: {}\n port: {port}\n num-threads: 1\n do-daemonize: no\n use-syslog: no\n chroot: \"\"\n \
         username: \"\"\n directory: \"/run/lab\"\n pidfile: \"\"\n logfile: \"\"\n verbosity: 0\n module-config: \
         \"iterator\"\n access-control: 0.0.0.0/0 allow\n local-zone: \".\" static\n",
        zone.gateway
    );
    let data = zone.lines(|name, address| format!(" local-data: \"{name}. 5 IN A {address}\""));
    fs::write(file, head + &data + "remote-control:\n control-enable: no\n").expect("a file");
    Running::start(&["unbound", "-d", "-c", file])
}

/// A file for the network, a line for each container, as netavark writes it.
fn aardvark(zone: &Zone, port: u16) -> Running {
    let folder = "/run/lab/aardvark";
    let mut containers: BTreeMap<Ipv4Addr, Vec<&str>> = BTreeMap::new();
    zone.names.iter().for_each(|(name, address)| containers.entry(*address).or_default().push(name));
    let line = |(number, (address, names)): (usize, (&Ipv4Addr, &Vec<&str>))| {
        format!("{number:064x} {address}  {}\n", names.join(","))
    };
    let lines: String = containers.iter().enumerate().map(line).collect();
    fs::write(format!("{folder}/{}", zone::NETWORK), format!("{}\n{lines}", zone.gateway)).expect("a file");
    let port = port.to_string();
    Running::start_in_background(
        &[AARDVARK, "--config", folder, "--port", &port, "run"],
        &format!("{folder}/aardvark.pid"),
    )
}
