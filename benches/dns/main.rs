//! `scripts/bench dns`: what an answer for a name of ours costs, against other servers with the same 1,000 names, asked
//! by `dnsperf` from a container's namespace, turn by turn in one run. Fails when a bound is missed.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

mod process;
mod servers;

use std::process::ExitCode;
use std::time::Duration;

use netd_testing::lab::{self, Lab};
use netd_testing::zone::{self, Zone};

use process::Spent;
use servers::Server;

/// Turns of every server at every load; the medians are compared.
const ROUNDS: usize = 5;
/// Seconds of one turn.
const SECONDS: u32 = 2;
const QUESTIONS: &str = "/run/lab/questions";

/// How `dnsperf` asks.
struct Load {
    name: &'static str,
    words: &'static str,
}

/// At full speed with more and more sockets and questions under way, and at a rate that leaves every server idle time.
const LOADS: [Load; 4] = [
    Load { name: "full speed, 1 socket, 50 under way", words: "-c 1 -q 50" },
    Load { name: "full speed, 10 sockets, 100 under way", words: "-c 10 -q 100" },
    Load { name: "full speed, 50 sockets, 500 under way", words: "-c 50 -q 500" },
    Load { name: "10,000 a second, 10 sockets", words: "-c 10 -q 100 -Q 10000" },
];

/// One turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Processor time for each answer, in microseconds.
    user: f64,
    system: f64,
    /// Answers in a second.
    rate: f64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, what, address] = words.as_slice()
        && what == servers::ECHO
    {
        let error = servers::be_the_echo(address);
        panic!("{error:?}");
    }
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    let zone = Zone::make(&lab);
    std::fs::write(QUESTIONS, zone.lines(|name, _| format!("{name} A"))).expect("a file");
    let servers = servers::start(&lab, &zone);
    // Turns of one load, then of the next: rounds, then servers.
    let mut medians: Vec<Vec<Turn>> = Vec::new();
    for load in &LOADS {
        for server in &servers {
            let _ = turn(&zone, server, load, 1);
        }
        let rounds: Vec<Vec<Turn>> =
            (0..ROUNDS).map(|_| servers.iter().map(|server| turn(&zone, server, load, SECONDS)).collect()).collect();
        let of = |index: usize| median(&rounds.iter().map(|round| round[index]).collect::<Vec<_>>());
        let of_load: Vec<Turn> = (0..servers.len()).map(of).collect();
        println!("\n{}, {ROUNDS} times {SECONDS} s, medians:", load.name);
        table(&servers, &of_load);
        medians.push(of_load);
    }
    println!("\nnetd's threads: {:?}", process::threads(servers[0].pid));
    let held = verdict(&servers, &medians);
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asks one server for some seconds.
fn turn(zone: &Zone, server: &Server, load: &Load, seconds: u32) -> Turn {
    let before = Spent::by(server.pid);
    let output = lab::run(&format!(
        "nsenter --net=/run/netns/{} -- taskset -c {} dnsperf -s {} -p {} -d {QUESTIONS} -l {seconds} -t 2 {}",
        zone::CLIENT,
        process::CLIENT_CPU,
        zone.gateway,
        server.port,
        load.words
    ))
    .ok();
    let spent = Spent::by(server.pid).since(before);
    let number = |what: &str| -> f64 {
        let rest = output.stdout.split_once(what).unwrap_or_else(|| panic!("no {what:?}: {output:?}")).1;
        rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    let answered = number("Queries completed:");
    let codes = output.stdout.lines().find(|line| line.contains("Response codes:")).unwrap_or_default();
    assert!(codes.contains("NOERROR") && codes.contains("(100.00%)"), "{}: {output:?}", server.name);
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / answered;
    Turn { user: each(spent.user), system: each(spent.system), rate: number("Queries per second:") }
}

fn median(turns: &[Turn]) -> Turn {
    let of = |field: fn(&Turn) -> f64| {
        let mut all: Vec<f64> = turns.iter().map(field).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    // The parts are scaled to the median of their sum, which is what is compared.
    let (user, system, total) = (of(|t| t.user), of(|t| t.system), of(|t| t.user + t.system));
    let scale = total / (user + system);
    Turn { user: user * scale, system: system * scale, rate: of(|t| t.rate) }
}

fn table(servers: &[Server], turns: &[Turn]) {
    println!("{:14} {:>8} {:>8} {:>8} {:>12} {:>10}", "", "us each", "user", "system", "netd is", "answers/s");
    for (server, turn) in servers.iter().zip(turns) {
        let total = turn.user + turn.system;
        let ratio = (turns[0].user + turns[0].system) / total;
        println!(
            "{:14} {total:8.2} {:8.2} {:8.2} {ratio:7.2} times {:10.0}",
            server.name, turn.user, turn.system, turn.rate
        );
    }
}

/// Compares the costs at every load, and the highest rate of each server at any.
fn verdict(servers: &[Server], medians: &[Vec<Turn>]) -> bool {
    let peak = |index: usize| medians.iter().map(|load| load[index].rate).fold(0.0, f64::max);
    let mut held = true;
    for (index, server) in servers.iter().enumerate() {
        let Some(at_most) = server.at_most else { continue };
        let ratios =
            medians.iter().map(|load| (load[0].user + load[0].system) / (load[index].user + load[index].system));
        let worst = ratios.fold(0.0, f64::max);
        let faster = peak(0) / peak(index);
        println!(
            "against {}: {worst:.2} times the cost (at most {at_most}), {faster:.2} times the peak rate",
            server.name
        );
        held &= worst <= at_most && (faster >= 1.0 || server.name == servers::ECHO_NAME);
    }
    held
}
