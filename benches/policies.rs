//! `scripts/bench policies`: what policies cost. A new TCP connection and the throughput between two containers with 1,024
//! allowed pairs and everything else denied, against the same without policies: within a bridge, and from a container to a
//! port that another network publishes. Fails when a bound is missed.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use netd_testing::lab::{self, HOST4, Lab, iperf};

/// Containers that may send, and containers that they may send to: 1,024 pairs.
const EACH: usize = 32;
/// Connections in a round, and rounds of each kind, in turns.
const CONNECTIONS: usize = 1000;
const ROUNDS: usize = 7;
/// Seconds and rounds of each throughput measurement, in turns.
const SECONDS: u32 = 1;
const FLOWS: usize = 21;
/// The bounds.
const CONNECTION_MAX: f64 = 1.05;
const THROUGHPUT_MIN: f64 = 0.97;

/// A client's namespace, and the address and the port that it connects to.
struct Way {
    name: &'static str,
    from: &'static str,
    to: SocketAddr,
}

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.0.0/16").ok();
    lab.netd("network create net2 --subnet 10.78.0.0/16").ok();
    for number in 0..EACH {
        lab.connected("net1", &format!("from{number}"), "--label side=from");
        let ports = if number == 0 { "-p 4000:80 -p 5201:5201" } else { "" };
        lab.connected("net1", &format!("to{number}"), &format!("--label side=to {ports}"));
    }
    lab.connected("net2", "other", "--label side=from");
    let address = lab.address("net1", "to0")[0];
    let published = |port| SocketAddr::new(HOST4.parse().expect("an address"), port);
    let ways = [
        Way { name: "within a bridge", from: "from0", to: SocketAddr::new(address, 80) },
        Way { name: "to a published port of another network", from: "other", to: published(4000) },
    ];
    std::thread::spawn(|| {
        lab::space::inside("to0", || {
            let listener = TcpListener::bind(("0.0.0.0", 80)).expect("a listener");
            listener.incoming().for_each(drop);
        });
    });
    let _server = iperf::Server::start("to0");
    let held: Vec<bool> = ways.iter().flat_map(|way| [connections(&lab, way), throughput(&lab, way)]).collect();
    let held = held.iter().all(|held| *held);
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn allow_pairs(lab: &Lab) {
    for words in ["default-deny net1", "allow side=from side=to:80", "allow side=from side=to:5201"] {
        lab.netd(&format!("policy {words}")).ok();
    }
}

fn allow_everything(lab: &Lab) {
    let policies = lab.netd("policy ls --json").ok().json();
    for policy in policies.as_array().expect("a list") {
        lab.netd(&format!("policy rm {}", policy["id"])).ok();
    }
}

/// What `measure` finds without and with policies, in turns.
fn in_turns<T>(lab: &Lab, rounds: usize, mut measure: impl FnMut() -> T) -> (Vec<T>, Vec<T>) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(measure());
        allow_pairs(lab);
        with.push(measure());
        allow_everything(lab);
    }
    (without, with)
}

fn connections(lab: &Lab, way: &Way) -> bool {
    let round = || {
        lab::space::inside(way.from, || {
            let connected = (0..CONNECTIONS).map(|_| {
                let begin = Instant::now();
                let connected = TcpStream::connect_timeout(&way.to, Duration::from_secs(5));
                let took = begin.elapsed();
                drop(connected.expect("a connection"));
                took
            });
            connected.collect::<Vec<Duration>>()
        })
    };
    round();
    let (without, with) = in_turns(lab, ROUNDS, round);
    let median = |times: Vec<Vec<Duration>>| {
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort();
        times[times.len() / 2]
    };
    let (without, with) = (median(without), median(with));
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!(
        "a new TCP connection {}, median of {}: {without:.1?} without policies, {with:.1?} with {} allowed pairs: {ratio:.3} \
         (at most {CONNECTION_MAX})",
        way.name,
        CONNECTIONS * ROUNDS,
        EACH * EACH
    );
    ratio <= CONNECTION_MAX
}

fn throughput(lab: &Lab, way: &Way) -> bool {
    let to = way.to.ip().to_string();
    let rate = || iperf::rate(way.from, &to, SECONDS);
    let (without, with) = in_turns(lab, FLOWS, rate);
    // Of the turns: what else the machine does changes the rate more than policies do, but seldom from one second to the next.
    let mut ratios: Vec<f64> = without.iter().zip(&with).map(|(without, with)| with / without).collect();
    ratios.sort_by(f64::total_cmp);
    let (least, ratio, most) = (ratios[0], ratios[FLOWS / 2], ratios[FLOWS - 1]);
    println!(
        "iperf3 {}: {:.2} Gbit/s without policies, {:.2} with, medians; the turns' ratio, median of {FLOWS}: {ratio:.3} \
         ({least:.2} to {most:.2}; at least {THROUGHPUT_MIN})",
        way.name,
        iperf::middle(without),
        iperf::middle(with),
    );
    ratio >= THROUGHPUT_MIN
}
