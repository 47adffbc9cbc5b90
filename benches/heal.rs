//! `scripts/bench heal`: how long after another program's change everything is as before, for each kind of change, and
//! how many probes of a published port, one every 10 ms, failed meanwhile. Then a bridge with 1,023 ports is deleted.
//! Fails when a bound is missed. `NETD_HEAL_KINDS=slow`: only what no notification tells; `quick`: the others; `rebuild`:
//! only the bridge; anything else: the changes whose description contains it. `NETD_HEAL_TIMES`: how often.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netd_testing::lab::command::run_words;
use netd_testing::lab::{self, HOST4, Lab, Server};
use netd_testing::request;

const TABLE: &str = "ip netns exec host nft -s list table inet netd";
/// Without the counter of what containers sent with foreign addresses.
const GUARD: &str = "ip netns exec host nft -s list table bridge netd";

/// What changes, the command that makes the change, and what shows that it is undone: a command and its expected output.
/// `END` is the host end of the container, `LIMITED` that of the container with limits.
const KINDS: &[(&str, &str, &str)] = &[
    ("bridge renamed", "ip -n host link set nd-net1 name br9", "ip -n host -o link show nd-net1"),
    ("bridge down", "ip -n host link set nd-net1 down", "ip -n host -o address show nd-net1"),
    (
        "bridge MTU 576",
        "ip -n host link set nd-net1 mtu 576",
        "ip -n host -o address show nd-net1; ip -n host -o link show nd-net1",
    ),
    ("bridge MAC address", "ip -n host link set nd-net1 address 02:00:00:00:00:99", "ip -n host -o link show nd-net1"),
    ("bridge in another group", "ip -n host link set nd-net1 group default", "ip -n host -o link show nd-net1"),
    (
        "bridge deleted",
        "ip -n host link delete nd-net1",
        "ip -n host -br link show nd-net1; ip -n host -br link show END",
    ),
    (
        "address of a container on the bridge",
        "ip -n host address add 10.77.0.9/24 dev nd-net1",
        "ip -n host -o address show nd-net1",
    ),
    (
        "gateway address removed",
        "ip -n host address del 10.77.0.1/24 dev nd-net1",
        "ip -n host -o address show nd-net1",
    ),
    (
        "IPv6 disabled on the bridge",
        "ip netns exec host sysctl -qw net.ipv6.conf.nd-net1.disable_ipv6=1",
        "ip -n host -o address show nd-net1",
    ),
    (
        "IPv4 forwarding off",
        "ip netns exec host sysctl -qw net.ipv4.ip_forward=0",
        "ip netns exec host sysctl net.ipv4.ip_forward",
    ),
    (
        "IPv6 forwarding off",
        "ip netns exec host sysctl -qw net.ipv6.conf.all.forwarding=0",
        "ip netns exec host sysctl net.ipv6.conf.all.forwarding",
    ),
    (
        "route to the subnet removed",
        "ip -n host route del 10.77.0.0/24 dev nd-net1",
        "ip -n host route show dev nd-net1",
    ),
    ("host end renamed", "ip -n host link set END name veth9", "ip -n host -br link show END"),
    ("host end off its bridge", "ip -n host link set END nomaster", "ip -n host -o link show END"),
    ("host end down", "ip -n host link set END down", "ip -n host -o link show END"),
    (
        "host end isolated",
        "ip netns exec host bridge link set dev END isolated on",
        "ip netns exec host bridge -d link show dev END",
    ),
    ("host end in another group", "ip -n host link set END group default", "ip -n host -o link show END"),
    ("host end MAC address", "ip -n host link set END address 02:00:00:00:00:98", "ip -n host -o link show END"),
    (
        "bandwidth limit removed",
        "ip netns exec host tc qdisc del dev LIMITED root",
        "ip netns exec host tc qdisc show dev LIMITED root | grep -oE 'tbf|rate.*'",
    ),
    ("host end deleted", "ip -n host link delete END", "ip -n web -br address show eth0"),
    ("firewall flushed", "ip netns exec host nft flush ruleset", TABLE),
    (
        "published port deleted from its map",
        "ip netns exec host nft delete element inet netd publish4 '{ tcp . 4000 }'",
        TABLE,
    ),
    ("bridge deleted from its set", "ip netns exec host nft delete element inet netd bridges '{ nd-net1 }'", TABLE),
    (
        "one rule deleted",
        "ip netns exec host sh -c 'nft delete rule inet netd dstnat handle \
         $(nft -a list chain inet netd dstnat | sed -n \"s/.*handle //p\" | tail -1)'",
        TABLE,
    ),
    ("chain flushed", "ip netns exec host nft flush chain inet netd forward", TABLE),
    ("bridge table deleted", "ip netns exec host nft delete table bridge netd", GUARD),
    (
        "address deleted from the bridge table",
        "ip netns exec host nft delete element bridge netd sources4 '{ END . 10.77.0.2 }'",
        GUARD,
    ),
    ("default route removed", "ip -n web route del default", "ip -n web route show"),
    ("addresses flushed", "ip -n web address flush dev eth0", "ip -n web -o address show eth0; ip -n web route show"),
    ("eth0 down", "ip -n web link set eth0 down", "ip -n web -o address show eth0; ip -n web route show"),
    (
        "eth0 down and up",
        "ip netns exec web sh -c 'ip link set eth0 down; ip link set eth0 up'",
        "ip -n web -o address show eth0; ip -n web route show",
    ),
    ("lo down", "ip -n web link set lo down", "ip -n web -o link show lo"),
    ("eth0 MAC address", "ip -n web link set eth0 address 02:00:00:00:00:97", "ip -n web -o link show eth0"),
    ("eth0 MTU", "ip -n web link set eth0 mtu 1300", "ip -n web -o link show eth0"),
    (
        "redirection of DNS queries in a container",
        "ip netns exec inner nft delete table ip netd_dns",
        "ip netns exec inner nft -s list table ip netd_dns",
    ),
];

/// The same, for what the kernel sends no notification of.
const SLOW: &[(&str, &str, &str)] = &[
    (
        "route_localnet off",
        "ip netns exec host sysctl -qw net.ipv4.conf.nd-net1.route_localnet=0",
        "ip netns exec host sysctl net.ipv4.conf.nd-net1.route_localnet",
    ),
    (
        "IPv6 enabled on a host end",
        "ip netns exec host sysctl -qw net.ipv6.conf.END.disable_ipv6=0",
        "ip netns exec host sysctl net.ipv6.conf.END.disable_ipv6; ip -n host -o address show END",
    ),
    ("resolv.conf deleted", "rm /etc/netns/web/resolv.conf", "cat /etc/netns/web/resolv.conf"),
];
/// How often each change is made.
const TIMES: usize = 100;
/// Between two changes: netd leaves alone what is changed more often than twice a second.
const PACE: Duration = Duration::from_millis(550);
/// The bounds.
const P99_MAX: Duration = Duration::from_secs(1);
/// netd looks at what is slow every 10 s, and does the rest of its look first.
const SLOW_MAX: Duration = Duration::from_secs(11);
const REBUILD_MAX: Duration = Duration::from_secs(1);
/// The ports of a Linux bridge.
const PORTS: usize = 1023;
const PROBE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let times = std::env::var("NETD_HEAL_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(TIMES);
    let kinds = std::env::var("NETD_HEAL_KINDS").unwrap_or_default();
    let mut held = kinds == "rebuild" || table(times, &kinds);
    if !matches!(kinds.as_str(), "" | "rebuild") {
        return ended(held);
    }
    let (deleted, rebuilt) = rebuild();
    println!(
        "a bridge with {PORTS} ports deleted, which takes the kernel {deleted:.2?}: all are ports again after another \
         {rebuilt:.2?} (at most {REBUILD_MAX:?})"
    );
    held &= rebuilt <= REBUILD_MAX;
    ended(held)
}

fn ended(held: bool) -> ExitCode {
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures each kind; returns whether the bounds held.
fn table(times: usize, kinds: &str) -> bool {
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let _server = Server::start("web", "web", 80);
    lab.container("limited");
    let limited = request::attach("net1", "limited").name("limited").limit_in(8_000_000);
    let (status, body) = lab.http("PUT", "/v1/attachments/net1/0123456789abcdef/eth0", &limited.body());
    assert!(status < 300, "{status} {body}");
    lab.netd("network create net2 -o dns.listen=container").ok();
    lab.connected("net2", "inner", "");
    let end = |name: &str| lab.endpoint("net1", name)["host_ifname"].as_str().expect("a name").to_owned();
    let (end, limited) = (end("web"), end("limited"));
    let probe = Probe::start();
    println!("{times} times each, milliseconds until all is as before; failed probes, one every 10 ms");
    println!("{:40} {:>8} {:>8} {:>8} {:>14}", "change", "p50", "p99", "max", "failed probes");
    let mut held = true;
    let quick = KINDS.iter().map(|kind| (kind, P99_MAX, "quick"));
    let slow = SLOW.iter().map(|kind| (kind, SLOW_MAX, "slow"));
    for ((what, change, shown), most, group) in quick.chain(slow) {
        if !(kinds == group || what.contains(kinds)) {
            continue;
        }
        let named = |line: &str| line.replace("END", &end).replace("LIMITED", &limited);
        let (change, shown) = (named(change), named(shown));
        let look = || normal(&shell(&shown));
        let before = look();
        let failed = probe.failed();
        let mut spans: Vec<Duration> = (0..times).map(|_| once(what, &change, &before, look)).collect();
        spans.sort();
        let at = |part: usize| spans[(spans.len() - 1) * part / 100];
        held &= at(99) <= most;
        let ms = |span: Duration| format!("{:.0}", span.as_secs_f64() * 1e3);
        let failed = probe.failed() - failed;
        println!("{what:40} {:>8} {:>8} {:>8} {failed:>14}", ms(at(50)), ms(at(99)), ms(at(100)));
    }
    held
}

/// Makes the change and waits until all is as before.
fn once(what: &str, change: &str, before: &str, look: impl Fn() -> String) -> Duration {
    let start = Instant::now();
    let out = run_words(&["sh", "-c", change]);
    assert_eq!(out.code, Some(0), "{what}: {change}: {}", out.stderr);
    loop {
        let now = look();
        if now == before {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not as before: {now}\nbut {before}");
    }
    let took = start.elapsed();
    std::thread::park_timeout(PACE.saturating_sub(took));
    took
}

/// The output without what moves by itself: the indices of links that were made anew, and flags of addresses.
fn normal(text: &str) -> String {
    let is_index = |word: &str| word.strip_suffix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let words = text.split_whitespace().filter(|word| !is_index(word) && !matches!(*word, "nodad" | "linkdown"));
    words.map(|word| word.split("@if").next().unwrap_or_default()).collect::<Vec<_>>().join(" ")
}

fn shell(line: &str) -> String {
    run_words(&["sh", "-c", line]).stdout
}

/// Opens a connection to the published port from outside every 10 ms.
struct Probe {
    failed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Probe {
    fn start() -> Self {
        let (failed, stop): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let (count, end) = (failed.clone(), stop.clone());
        let to: SocketAddr = SocketAddr::new(HOST4.parse().expect("an address"), 4000);
        std::thread::spawn(move || {
            lab::space::inside("outside", || {
                while !end.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    if TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_err() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(PROBE.saturating_sub(start.elapsed()));
                }
            });
        });
        Self { failed, stop }
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Deletes a bridge with as many ports as a bridge can have. Returns how long the kernel took for that, with all
/// configuration of links locked, and from then until all are ports again.
fn rebuild() -> (Duration, Duration) {
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create big --subnet 10.99.0.0/16").ok();
    for number in 0..PORTS {
        let name = format!("box{number}");
        lab::run(&format!("ip netns add {name}")).ok();
        let request = request::connect("big", &name);
        lab::daemon::call("POST", &request.path(), &request.body());
    }
    let ports = || shell("ip -n host -o link show master nd-big | wc -l").trim().parse::<usize>().unwrap_or(0);
    assert_eq!(ports(), PORTS, "ports of the bridge");
    // Once the notifications of the connects are over.
    std::thread::park_timeout(Duration::from_secs(1));
    let start = Instant::now();
    shell("ip -n host link delete nd-big");
    let deleted = start.elapsed();
    while ports() != PORTS {
        assert!(start.elapsed() < Duration::from_secs(60), "{} ports after a minute", ports());
    }
    (deleted, start.elapsed() - deleted)
}
