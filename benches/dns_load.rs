//! `scripts/bench dns-load`: what a container's names cost it while others make trouble: another one has 20,000 names
//! under way to a resolver that never answers, and then 500 containers come and go. Fails when a bound is missed.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use netd_testing::lab::load::{Load, Pace, Question, Tally};
use netd_testing::lab::{self, Lab};
use netd_testing::zone::{self, CLIENT, NAMES, NETWORK, Zone};

/// Times that it is measured without the outstanding questions, and with them, turn by turn.
const ROUNDS: usize = 5;
/// How long each of them.
const TURN: Duration = Duration::from_secs(4);
/// Questions of the container that is measured.
const ASKED: Pace = Pace { rate: 1000, window: 1000 };
/// Questions for other names that are to be under way, and how fast they may be asked.
const OUTSTANDING: usize = 20_000;
const FLOOD: Pace = Pace { rate: 10_000, window: OUTSTANDING };
/// How long that number may take to be reached.
const FILLING: Duration = Duration::from_secs(10);
/// The bound on the ratio of the medians of the 99th percentiles.
const RATIO_MAX: f64 = 2.0;
/// Containers that come and go, from so many threads, while so much is asked.
const COMING_AND_GOING: usize = 500;
const THREADS: usize = 8;
const ASKED_MEANWHILE: Pace = Pace { rate: 5000, window: 5000 };

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    std::fs::write("/etc/resolv.conf", format!("nameserver {}\n", lab::OUTSIDE4)).expect("a resolv.conf");
    // A resolver that takes everything and says nothing.
    let _hole = lab::space::inside("outside", || UdpSocket::bind(SocketAddr::from(([0; 4], 53)))).expect("a socket");
    lab.start_daemon();
    let zone = Zone::make(&lab);
    lab.connected(NETWORK, "flooder", "");
    let held = outstanding(&zone) & churn(&zone);
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Names of the zone in turn.
fn known(zone: &Zone) -> impl FnMut(u64) -> Question + Send + 'static {
    let names = zone.names.clone();
    move |number| {
        let (name, address) = names[number as usize % NAMES].clone();
        Question { name, expected: Some(address) }
    }
}

fn outstanding(zone: &Zone) -> bool {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut lost = 0;
    let mut reached = u64::MAX;
    for round in 0..ROUNDS {
        let quiet = measure(zone);
        let other = move |number| Question { name: format!("name{number}.turn{round}.example"), expected: None };
        let flood = Load::start("flooder", zone.gateway, FLOOD, other);
        let begun = Instant::now();
        while flood.waiting() < OUTSTANDING as u64 && begun.elapsed() < FILLING {
            thread::park_timeout(Duration::from_millis(20));
        }
        let before = flood.waiting();
        let busy = measure(zone);
        reached = reached.min(before).min(flood.waiting());
        drop(flood);
        println!(
            "turn {round}: p50 and p99 of a name of ours: {:.0?} and {:.0?}; with {before} others under way: {:.0?} and {:.0?}",
            percentile(&quiet, 50),
            percentile(&quiet, 99),
            percentile(&busy, 50),
            percentile(&busy, 99)
        );
        lost += quiet.lost.len() + busy.lost.len() + quiet.wrong.len() + busy.wrong.len();
        without.push(percentile(&quiet, 99));
        with.push(percentile(&busy, 99));
    }
    let (without, with) = (median(without), median(with));
    let ratio = with.div_duration_f64(without);
    println!(
        "p99 with {reached} or more under way: {ratio:.2} times that without (at most {RATIO_MAX}); {lost} lost or wrong"
    );
    // Those that were given up are replaced as fast as the flood's rate allows.
    let enough = reached >= OUTSTANDING as u64 * 9 / 10;
    if !enough {
        println!("{OUTSTANDING} were never under way together: the others were refused");
    }
    ratio <= RATIO_MAX && lost == 0 && enough
}

fn measure(zone: &Zone) -> Tally {
    let load = Load::start(CLIENT, zone.gateway, ASKED, known(zone));
    let begun = Instant::now();
    while begun.elapsed() < TURN {
        thread::park_timeout(TURN.saturating_sub(begun.elapsed()));
    }
    load.finish()
}

fn percentile(tally: &Tally, percent: usize) -> Duration {
    let mut times = tally.times.clone();
    times.sort();
    times[times.len() * percent / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn churn(zone: &Zone) -> bool {
    for number in 0..COMING_AND_GOING {
        lab::run(&format!("ip netns add guest{number}")).ok();
    }
    let load = Load::start(CLIENT, zone.gateway, ASKED_MEANWHILE, known(zone));
    let begun = Instant::now();
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                for number in (first..COMING_AND_GOING).step_by(THREADS) {
                    zone::connect(&format!("guest{number}"), &format!("visitor{number}"));
                    zone::disconnect(&format!("guest{number}"));
                }
            });
        }
    });
    let took = begun.elapsed();
    let tally = load.finish();
    println!(
        "while {COMING_AND_GOING} containers came and went in {took:.1?}: {} questions, {:.0} a second, {} lost, {} wrong; \
         p99 {:.0?}",
        tally.asked,
        tally.asked as f64 / took.as_secs_f64(),
        tally.lost.len(),
        tally.wrong.len(),
        percentile(&tally, 99)
    );
    tally.lost.is_empty() && tally.wrong.is_empty()
}
