//! `scripts/bench restart`: how long the daemon takes from its start to "ready" with 1,000 endpoints, after kill -9 and
//! after SIGTERM, and for how long questions of containers are lost. Fails when a bound is missed.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use netd_testing::lab::load::{Load, Pace, Question};
use netd_testing::lab::manager::{Manager, NOTIFY};
use netd_testing::lab::{self, Lab};
use netd_testing::wait::seen;

/// Endpoints, on two networks, since a bridge has 1,023 ports; each with a published port.
const ENDPOINTS: usize = 1000;
const NETWORKS: usize = 2;
/// Starts of each kind.
const STARTS: usize = 7;
/// The bounds on a machine with two cores: from the start of the program to "ready", and for how long questions are
/// lost, without a service manager that keeps the sockets.
const READY_MAX: Duration = Duration::from_millis(300);
const SILENCE_MAX: Duration = Duration::from_millis(200);
/// Questions in a second.
const RATE: u32 = 1000;

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    println!("making {ENDPOINTS} endpoints");
    for network in 0..NETWORKS {
        lab.netd(&format!("network create n{network} --subnet 10.{}.0.0/16", 100 + network)).ok();
    }
    for number in 0..ENDPOINTS {
        lab::run(&format!("ip netns add box{number}")).ok();
        let body = format!(r#"{{"container":"box{number}","ports":["{}:80"]}}"#, 10_000 + number);
        lab::daemon::call("POST", &format!("/v1/networks/n{}/endpoints", number % NETWORKS), &body);
    }
    let killed: Vec<Restart> = (0..STARTS).map(|_| restart(&lab, Lab::kill_daemon)).collect();
    let stopped: Vec<Restart> = (0..STARTS).map(|_| restart(&lab, Lab::stop_daemon)).collect();
    let status = lab.netd("status --json").ok().json();
    assert_eq!(status["endpoints"], ENDPOINTS, "{status}");
    assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{status}");
    let mut held = true;
    for (after, restarts) in [("kill -9", killed), ("SIGTERM", stopped)] {
        let ready = Times::of(restarts.iter().map(|restart| restart.ready));
        let silence = Times::of(restarts.iter().map(|restart| restart.silence));
        println!("{after} and a start: ready after {ready} (median at most {} ms)", READY_MAX.as_millis());
        println!("{after} and a start: questions lost for {silence} (median at most {} ms)", SILENCE_MAX.as_millis());
        held &= ready.median <= READY_MAX && silence.median <= SILENCE_MAX;
    }
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What one restart cost.
struct Restart {
    /// From the start of the program until it told the service manager that it is ready.
    ready: Duration,
    /// How long questions of a container were lost.
    silence: Duration,
}

struct Times {
    median: Duration,
    max: Duration,
}

impl Times {
    fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort();
        Self { median: times[times.len() / 2], max: times[times.len() - 1] }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "median {} ms, maximum {} ms", self.median.as_millis(), self.max.as_millis())
    }
}

fn restart(lab: &Lab, end: impl Fn(&Lab)) -> Restart {
    let pace = Pace { rate: RATE, window: 20 * RATE as usize };
    let gateway = "10.100.0.1".parse().expect("an address");
    let load = Load::start("box0", gateway, pace, |_| Question { name: "box2".to_owned(), expected: None });
    lab::until("questions are answered", || seen(load.answered(), |answered| *answered > u64::from(RATE) / 10));
    end(lab);
    let manager = Manager::new();
    let mut command = lab::daemon::command(lab::daemon::netd());
    command.env("NOTIFY_SOCKET", NOTIFY);
    let begin = Instant::now();
    lab.launch(command);
    let ready = manager.told("READY=1", Duration::from_secs(60)).expect("it becomes ready") - begin;
    let before = load.answered();
    lab::until("questions are answered", || {
        seen(load.answered(), |answered| *answered > before + u64::from(RATE) / 10)
    });
    let lost = load.finish().lost.len();
    Restart { ready, silence: Duration::from_secs(lost as u64) / RATE }
}
