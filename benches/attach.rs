//! `scripts/bench attach`: what connecting a container with one published port costs, over the API's unix socket, on
//! an empty host and with 2,000 endpoints already there. Fails when a bound is missed.
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use netd_testing::lab::{self, Lab};
use netd_testing::request;

/// Endpoints measured in each round.
const MEASURED: usize = 300;
/// Endpoints that are there before the second round: on four networks, since a bridge has 1,023 ports.
const PRESENT: usize = 2000;
const NETWORKS: usize = 4;
/// The bounds on a machine with two cores.
const P50_MAX: Duration = Duration::from_millis(6);
const RATIO_MAX: f64 = 1.3;

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    for network in 0..NETWORKS {
        // Room for every container in one subnet.
        lab.netd(&format!("network create n{network} --subnet 10.{}.0.0/16", 100 + network)).ok();
    }
    let per_network = PRESENT / NETWORKS;
    let containers: Vec<String> = (0..per_network + 2 * MEASURED).map(|number| format!("box{number}")).collect();
    println!("making {} namespaces", containers.len());
    for name in &containers {
        lab::run(&format!("ip netns add {name}")).ok();
    }

    let first = round("n0", &containers[..MEASURED], 10_000);
    println!("empty host: {first}");
    for (index, name) in containers[MEASURED..per_network].iter().enumerate() {
        connect("n0", name, Some(11_000 + index));
    }
    for network in 1..NETWORKS {
        for name in &containers[..per_network] {
            connect(&format!("n{network}"), name, None);
        }
    }
    let present = lab.netd("status --json").ok().stdout;
    let second = round("n0", &containers[per_network..per_network + MEASURED], 20_000);
    println!("with {PRESENT} endpoints there, {per_network} of them on the same bridge: {second}");
    // What of the growth is the bridge's own (the kernel walks its ports) shows on one that is as empty as the first was.
    lab.netd("network create new --subnet 10.200.0.0/16").ok();
    println!("with those there, on a new network: {}", round("new", &containers[per_network + MEASURED..], 30_000));

    let ratio = second.p50.as_secs_f64() / first.p50.as_secs_f64();
    println!("ratio of the medians: {ratio:.2} (at most {RATIO_MAX}); each median at most {P50_MAX:?}");
    assert!(present.contains(&PRESENT.to_string()), "not {PRESENT} endpoints: {present}");
    let held = first.p50 <= P50_MAX && second.p50 <= P50_MAX && ratio <= RATIO_MAX;
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One round's medians and tails.
struct Times {
    p50: Duration,
    p90: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "connect with one port, {MEASURED} times: p50 {:.2?}, p90 {:.2?}", self.p50, self.p90)
    }
}

fn round(network: &str, containers: &[String], port: usize) -> Times {
    let mut times: Vec<Duration> = Vec::with_capacity(containers.len());
    for (index, name) in containers.iter().enumerate() {
        let begin = Instant::now();
        connect(network, name, Some(port + index));
        times.push(begin.elapsed());
    }
    times.sort();
    Times { p50: times[times.len() / 2], p90: times[times.len() * 9 / 10] }
}

/// Connects over HTTP on a connection of its own, as the command line does.
fn connect(network: &str, container: &str, port: Option<usize>) {
    let bare = request::connect(network, container);
    let request = match port {
        Some(port) => bare.publish(&format!("{port}:80")),
        None => bare,
    };
    lab::daemon::call("POST", &request.path(), &request.body());
}
