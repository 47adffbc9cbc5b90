//! `scripts/bench netavark`: what `netd-netavark` costs: its size, and setup and teardown of a container with one published
//! port, against netavark itself, turn by turn in one run. Both make the bridge for the container and remove it with it.
//! `NETAVARK=FILE` names another netavark than the distribution's. Fails when a bound is missed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use netd_testing::lab::{self, Lab};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_netd-netavark");
/// netavark of the distribution.
const NETAVARK: &str = "/usr/lib/podman/netavark";
/// Turns of each kind.
const MEASURED: usize = 60;
/// The bounds on a machine with two cores.
const SIZE_MAX: u64 = 2 << 20;
const RATIO_MIN: f64 = 8.0;

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let size = std::fs::metadata(PROGRAM).expect("the program is built").len();
    println!("size of netd-netavark: {size} bytes (at most {SIZE_MAX})");
    let peer = std::env::var("NETAVARK").unwrap_or_else(|_| NETAVARK.to_owned());
    let lab = Lab::new();
    lab.start_daemon();
    // [setup, teardown] of each, where the container is the only one on its network, and where another one stays.
    let alone = compare(&peer, false);
    let beside = compare(&peer, true);
    let held = size <= SIZE_MAX && alone >= RATIO_MIN && beside >= RATIO_MIN;
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many times as long the peer takes for setup and teardown together.
fn compare(peer: &str, beside: bool) -> f64 {
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    // Each program has a network of its own, so that neither meets the other's bridge.
    let of = [(PROGRAM, 1u8), (peer, 2)];
    for (program, network) in of.into_iter().filter(|_| beside) {
        namespace(&format!("stays{network}"));
        call(program, "setup", &format!("stays{network}"), &input(network, 3, 9000));
    }
    for turn in 0..MEASURED {
        for (which, (program, network)) in of.into_iter().enumerate() {
            let netns = format!("box{turn}-{network}-{beside}");
            namespace(&netns);
            let input = input(network, 2, 4000 + u16::from(network));
            for (step, command) in ["setup", "teardown"].into_iter().enumerate() {
                let begin = Instant::now();
                call(program, command, &netns, &input);
                times[which][step].push(begin.elapsed());
            }
            lab::run(&format!("ip netns del {netns}")).ok();
        }
    }
    for (program, network) in of.into_iter().filter(|_| beside) {
        call(program, "teardown", &format!("stays{network}"), &input(network, 3, 9000));
    }
    let [[our_setup, our_teardown], [setup, teardown]] = times.map(|of| of.map(median));
    let where_ = if beside { "beside another container" } else { "alone on its network" };
    println!(
        "{where_}, {MEASURED} times, p50: setup {our_setup:.2?} (netavark {setup:.2?}), teardown {our_teardown:.2?} (netavark {teardown:.2?})"
    );
    let ratio = (setup + teardown).div_duration_f64(our_setup + our_teardown);
    println!("netavark takes {ratio:.1} times as long (at least {RATIO_MIN})");
    ratio
}

fn namespace(name: &str) {
    lab::run(&format!("ip netns add {name}")).ok();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// What Podman writes for a container of one network.
fn input(network: u8, host: u8, port: u16) -> Value {
    let name = format!("net{network}");
    json!({
        "container_id": format!("{network:02x}{host:02x}").repeat(16), "container_name": format!("web{network}{host}"),
        "networks": {&name: {"interface_name": "eth0", "static_ips": [format!("10.99.{network}.{host}")]}},
        "network_info": {&name: {"name": name, "id": format!("{network:064x}"), "driver": "bridge",
            "network_interface": format!("nv{network}"), "ipv6_enabled": false, "internal": false, "dns_enabled": true,
            "subnets": [{"subnet": format!("10.99.{network}.0/24"), "gateway": format!("10.99.{network}.1")}],
            "ipam_options": {"driver": "host-local"}}},
        "port_mappings": [{"host_ip": "", "host_port": port, "container_port": 80, "protocol": "tcp", "range": 1}],
    })
}

/// The program as Podman calls it, on the host.
fn call(program: &str, command: &str, netns: &str, input: &Value) {
    let path = format!("PATH={}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let socket = format!("NETD_SOCKET={}", lab::daemon::SOCKET);
    let mut child = Command::new("nsenter")
        .args(["--net=/run/netns/host", "--", "env", "-i", &path, &socket, program])
        .args(["--config", "/run/lab/networks", "--rootless=false", "--aardvark-binary=/nonexistent"])
        .args([command, &format!("/run/netns/{netns}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{program} {command}: {}", String::from_utf8_lossy(&done.stdout));
}
