//! `scripts/bench cni`: what the CNI plugin itself costs: its size, VERSION as a whole process, and ADD through it
//! against the same attachment asked of the API, turn by turn in one run. Fails when a bound is missed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use netd_testing::conf::conf;
use netd_testing::lab::{self, Lab};
use netd_testing::request::attach;
use serde_json::json;

const PLUGIN: &str = netd_testing::programs!().plugin;
/// Turns of each kind.
const MEASURED: usize = 300;
/// The bounds on a machine with two cores.
const SIZE_MAX: u64 = 2 << 20;
const VERSION_MAX: Duration = Duration::from_millis(3);
const ADD_MORE_MAX: Duration = Duration::from_millis(4);

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let size = std::fs::metadata(PLUGIN).expect("the plugin is built").len();
    println!("size of netd-cni: {size} bytes (at most {SIZE_MAX})");
    let version = median((0..MEASURED).map(|_| timed(|| plugin("VERSION", 0, r#"{"cniVersion":"1.1.0"}"#))).collect());
    println!("VERSION as a process, {MEASURED} times: p50 {version:.2?} (at most {VERSION_MAX:?})");

    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.100.0.0/16").ok();
    for number in 0..2 * MEASURED {
        lab::run(&format!("ip netns add box{number}")).ok();
    }
    let (mut through_plugin, mut through_api) = (Vec::new(), Vec::new());
    for turn in 0..MEASURED {
        through_plugin.push(timed(|| plugin("ADD", 2 * turn, &configuration(2 * turn))));
        through_api.push(timed(|| api(2 * turn + 1)));
    }
    let (plugin, api) = (median(through_plugin), median(through_api));
    let more = plugin.saturating_sub(api);
    println!("ADD with one port, {MEASURED} times: p50 {plugin:.2?}; the same through the API: {api:.2?}");
    println!("the plugin costs {more:.2?} (at most {ADD_MORE_MAX:?}), {:.2} times", plugin.div_duration_f64(api));
    let held = size <= SIZE_MAX && version <= VERSION_MAX && more <= ADD_MORE_MAX;
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn port(number: usize) -> u16 {
    10_000 + u16::try_from(number).expect("some hundred containers")
}

fn configuration(number: usize) -> String {
    let conf = conf("net1", lab::daemon::SOCKET.as_ref()).version("1.0.0");
    conf.key("capabilities", json!({"portMappings": true})).port(port(number), 80).to_string()
}

/// The plugin as a runtime calls it.
fn plugin(command: &str, number: usize, stdin: &str) {
    let mut plugin = Command::new(PLUGIN)
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", format!("box{number}"))
        .env("CNI_NETNS", format!("/run/netns/box{number}"))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/opt/cni/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the plugin starts");
    plugin.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let done = plugin.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// The same attachment over HTTP, on a connection of its own, as the plugin asks for it.
fn api(number: usize) {
    let request = attach("net1", &format!("box{number}")).publish(&format!("{}:80", port(number)));
    lab::daemon::call("PUT", &format!("/v1/attachments/net1/box{number}/eth0"), &request.body());
}
