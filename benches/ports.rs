//! `scripts/bench ports`: what published ports cost. A new TCP connection with 10,000 publications on the host against
//! one, the throughput of a published port against the same way routed, a connect with 206 ports, and a connect on a host
//! with 1,000 containers and those 10,000 publications. Fails when a bound is missed. `NETD_PORTS=connections`, `single`,
//! `throughput` or `crowded`: only that.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use netd_testing::lab::{self, HOST4, Lab, iperf, run};
use netd_testing::request;

/// Publications for the first measurement, IPv4 only because each family takes a descriptor, and the containers that
/// have them.
const PUBLICATIONS: usize = 10_000;
const HOLDERS: usize = 20;
/// Connections in a round, and rounds of each kind, in turns.
const CONNECTIONS: usize = 1000;
const ROUNDS: usize = 5;
/// Seconds and rounds of each throughput measurement, in turns.
const SECONDS: u32 = 3;
const FLOWS: usize = 5;
/// A Minecraft server with a voice chat, say: ports that do not form a range.
const SINGLE: usize = 206;
const TIMES: usize = 20;
/// Containers that are there, and connects that are measured before and after.
const CROWD: usize = 1000;
const MEASURED: usize = 200;
/// The bounds.
const CONNECTION_MAX: f64 = 1.05;
const THROUGHPUT_MIN: f64 = 0.95;
const CROWDED_MAX: f64 = 2.0;
const SINGLE_MAX: Duration = Duration::from_millis(5);

/// Prints what it measured; returns whether the bound held.
type Measure = fn(&Lab) -> bool;

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.0.0/16").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 5201:5201");
    for number in 0..HOLDERS {
        lab.container(&format!("holder{number}"));
    }
    let only = std::env::var("NETD_PORTS").unwrap_or_default();
    let kinds: [(&str, Measure); 4] = [
        ("connections", connections),
        ("single", single_ports),
        ("crowded", crowded),
        // It ends the daemon.
        ("throughput", throughput),
    ];
    let held: Vec<bool> =
        kinds.iter().filter(|(name, _)| only.is_empty() || only == *name).map(|(_, measure)| measure(&lab)).collect();
    let held = held.iter().all(|held| *held);
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A new connection to a published port, alone and among many.
fn connections(lab: &Lab) -> bool {
    std::thread::spawn(|| {
        lab::space::inside("web", || {
            let listener = TcpListener::bind(("0.0.0.0", 80)).expect("a listener");
            listener.incoming().for_each(drop);
        });
    });
    let (mut alone, mut among) = (Vec::new(), Vec::new());
    round(&mut Vec::new());
    for _ in 0..ROUNDS {
        round(&mut alone);
        publish_many(lab);
        round(&mut among);
        for number in 0..HOLDERS {
            lab.netd(&format!("disconnect net1 holder{number}")).ok();
        }
    }
    let (alone, among) = (median(&mut alone), median(&mut among));
    let ratio = among.as_secs_f64() / alone.as_secs_f64();
    println!(
        "a new TCP connection, median of {}: {alone:.1?} with 2 publications, {among:.1?} with {PUBLICATIONS} more: \
         {ratio:.3} (at most {CONNECTION_MAX})",
        CONNECTIONS * ROUNDS
    );
    ratio <= CONNECTION_MAX
}

/// Publishes all of [`PUBLICATIONS`].
fn publish_many(lab: &Lab) {
    for number in 0..HOLDERS {
        let each = PUBLICATIONS / HOLDERS;
        let ports = (0..each).map(|port| format!("0.0.0.0:{}:80", 20_000 + number * each + port));
        let bare = request::connect("net1", &format!("holder{number}"));
        let request = ports.fold(bare, |request, port| request.publish(&port));
        lab::daemon::call("POST", &request.path(), &request.body());
    }
    let there = lab.netd("status --json").ok().json()["publications"].clone();
    assert_eq!(there, PUBLICATIONS + 2);
}

/// A connect with one port on a host with few containers, and on one with many and their ports.
fn crowded(lab: &Lab) -> bool {
    let name = |number: usize| format!("box{number}");
    for number in 0..CROWD + MEASURED {
        run(&format!("ip netns add {}", name(number))).ok();
    }
    for (network, subnet) in [("few", "10.81.0.0/16"), ("crowd", "10.82.0.0/16"), ("many", "10.83.0.0/16")] {
        lab.netd(&format!("network create {network} --subnet {subnet}")).ok();
    }
    let connect = |network: &str, number: usize, port: Option<usize>| {
        let bare = request::connect(network, &name(number));
        let request = match port {
            Some(port) => bare.publish(&format!("{port}:80")),
            None => bare,
        };
        let (path, body) = (request.path(), request.body());
        let begin = Instant::now();
        lab::daemon::call("POST", &path, &body);
        begin.elapsed()
    };
    let mut few: Vec<Duration> = (0..MEASURED).map(|number| connect("few", number, Some(10_000 + number))).collect();
    for number in 0..MEASURED {
        lab.netd(&format!("disconnect few {}", name(number))).ok();
    }
    publish_many(lab);
    for number in 0..CROWD {
        connect("crowd", MEASURED + number, None);
    }
    let mut many: Vec<Duration> = (0..MEASURED).map(|number| connect("many", number, Some(10_000 + number))).collect();
    few.sort();
    many.sort();
    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let ratio = p99(&many).as_secs_f64() / p99(&few).as_secs_f64();
    println!(
        "connect with one port, {MEASURED} times: median {:.2?}, p99 {:.2?}; with {CROWD} containers and {PUBLICATIONS} \
         publications more: median {:.2?}, p99 {:.2?}, ratio of p99 {ratio:.2} (at most {CROWDED_MAX})",
        few[few.len() / 2],
        p99(&few),
        many[many.len() / 2],
        p99(&many),
    );
    ratio <= CROWDED_MAX
}

fn round(times: &mut Vec<Duration>) {
    let to = SocketAddr::new(HOST4.parse().expect("an address"), 4000);
    lab::space::inside("outside", || {
        for _ in 0..CONNECTIONS {
            let begin = Instant::now();
            let connected = TcpStream::connect_timeout(&to, Duration::from_secs(5));
            times.push(begin.elapsed());
            drop(connected.expect("a connection"));
        }
    });
}

/// Connects a container with many ports that do not form a range.
fn single_ports(lab: &Lab) -> bool {
    lab.container("game");
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        for (times, protocol) in [(&mut tcp, "tcp"), (&mut udp, "udp")] {
            let bare = request::connect("net1", "game");
            let ports = (0..SINGLE).map(|port| format!("{}:{}/{protocol}", 20_000 + 2 * port, 1000 + port));
            let request = ports.fold(bare, |request, port| request.publish(&port));
            let (path, body) = (request.path(), request.body());
            let begin = Instant::now();
            lab::daemon::call("POST", &path, &body);
            times.push(begin.elapsed());
            lab.netd("disconnect net1 game").ok();
        }
    }
    let (tcp, udp) = (median(&mut tcp), median(&mut udp));
    println!(
        "connect with {SINGLE} single ports, median of {TIMES}: TCP {tcp:.2?} (at most {SINGLE_MAX:?}), UDP {udp:.2?}"
    );
    tcp <= SINGLE_MAX
}

/// Sends to the container by its published port and, routed, by its address. The daemon has ended by then: it would
/// remove the rule that lets the latter in.
fn throughput(lab: &Lab) -> bool {
    let address = lab.address("net1", "web")[0].to_string();
    let _server = iperf::Server::start("web");
    run(&format!("ip -n outside route add 10.77.0.0/16 via {HOST4}")).ok();
    lab.stop_daemon();
    run("ip netns exec host nft insert rule inet netd forward tcp dport 5201 accept").ok();
    let rate = |to: &str| iperf::rate("outside", to, SECONDS);
    let (mut published, mut routed) = (Vec::new(), Vec::new());
    for _ in 0..FLOWS {
        published.push(rate(HOST4));
        routed.push(rate(&address));
    }
    let (published, routed) = (iperf::middle(published), iperf::middle(routed));
    let ratio = published / routed;
    println!(
        "iperf3, median of {FLOWS}: {published:.2} Gbit/s published, {routed:.2} routed: {ratio:.3} (at least \
         {THROUGHPUT_MIN})"
    );
    ratio >= THROUGHPUT_MIN
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
