//! `scripts/bench docker`: what `docker network connect` and `disconnect` cost with netd's driver against Docker's own
//! bridge driver, turn by turn in one run; and netd's side of it: the requests that Docker sends to the driver for one
//! connect and one disconnect, sent by the benchmark. Docker's own share is the rest. Fails when a bound is missed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use netd_testing::wait::{seen, until_within};
use serde_json::{Value, json};

const NETD: &str = env!("CARGO_BIN_EXE_netd");
const PLUGIN: &str = "/run/docker/plugins/netd.sock";
const WORK: &str = "/run/bench";
/// Set for the process that is in namespaces of its own.
const INSIDE: &str = "NETD_BENCH_INSIDE";
/// Turns of each kind.
const MEASURED: usize = 30;
/// How many times as long Docker's bridge driver takes for the whole command as netd for its side.
const RATIO_MIN: f64 = 10.0;

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("this program");
        let done = Command::new("unshare").args(["--mount", "--net", "--"]).arg(own).env(INSIDE, "1").status();
        return if done.is_ok_and(|done| done.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for line in ["mount --make-rprivate /", "mount -t tmpfs bench /run", "ip link set lo up"] {
        run(line);
    }
    fs::create_dir_all(WORK).expect("a folder");
    let log = |name: &str| fs::File::create(format!("{WORK}/{name}.log")).expect("a log");
    let mut netd = Command::new(NETD);
    let mut netd = ended(netd.args(["daemon", "--state-dir", "/run/bench/state"]).stderr(log("netd")));
    let mut dockerd = Command::new("/usr/sbin/dockerd");
    dockerd.args(["--data-root", "/run/bench/docker", "--storage-driver", "vfs", "--cgroup-parent", "/netd-bench"]);
    let mut dockerd = ended(dockerd.stdout(log("dockerd")).stderr(log("dockerd-errors")));
    let held = measure();
    docker("rm -f box");
    for daemon in [&mut dockerd, &mut netd] {
        run(&format!("kill {}", daemon.id()));
        let _ = daemon.wait();
    }
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ended(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).spawn().expect("a daemon starts")
}

fn measure() -> bool {
    until_within(Duration::from_secs(60), "netd and dockerd answer", || {
        seen(Path::new(PLUGIN).exists() && docker("version"), |both| *both)
    });
    run("mkdir -p /run/bench/root/bin");
    run("cp /bin/busybox /run/bench/root/bin/sleep");
    run("tar -C /run/bench/root -cf /run/bench/root.tar .");
    for line in [
        "import /run/bench/root.tar box",
        "network create theirs",
        "network create -d netd --ipam-driver netd ours",
        "run -d --name box --network none box sleep 100000",
        "network disconnect none box",
    ] {
        assert!(docker(line), "docker {line}");
    }
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    for _ in 0..MEASURED {
        for (which, network) in ["ours", "theirs"].into_iter().enumerate() {
            for (step, verb) in ["connect", "disconnect"].into_iter().enumerate() {
                let begin = Instant::now();
                assert!(docker(&format!("network {verb} {network} box")), "docker network {verb} {network} box");
                times[which][step].push(begin.elapsed());
            }
        }
    }
    let [ours, theirs] = times.map(|of| of.map(median));
    let [connect, disconnect] = own_side().map(median);
    println!(
        "docker network connect, {MEASURED} times, p50: netd's driver {:.1?}, Docker's bridge {:.1?}",
        ours[0], theirs[0]
    );
    println!("docker network disconnect: netd's driver {:.1?}, Docker's bridge {:.1?}", ours[1], theirs[1]);
    println!("netd's side: connect {connect:.1?}, disconnect {disconnect:.1?}");
    let ratio = theirs[0].div_duration_f64(connect);
    println!("Docker's bridge takes {ratio:.1} times as long to connect as netd's side (at least {RATIO_MIN})");
    ratio >= RATIO_MIN
}

/// The requests of one connect, and those of one disconnect, on the connection that Docker would keep open.
fn own_side() -> [Vec<Duration>; 2] {
    let (network, pool) = (of_network("{{.Id}}"), of_network("{{(index .IPAM.Config 0).Subnet}}"));
    let mut driver = BufReader::new(UnixStream::connect(PLUGIN).expect("the driver listens"));
    let mut times: [Vec<Duration>; 2] = Default::default();
    for turn in 0..MEASURED {
        let endpoint = format!("{turn:064x}");
        let of = json!({"NetworkID": network, "EndpointID": endpoint});
        let begin = Instant::now();
        let address = ask(&mut driver, "IpamDriver.RequestAddress", &json!({"PoolID": pool, "Address": ""}));
        let interface = json!({"Address": address["Address"]});
        let create = json!({"NetworkID": network, "EndpointID": endpoint, "Interface": interface});
        ask(&mut driver, "NetworkDriver.CreateEndpoint", &create);
        let join =
            json!({"NetworkID": network, "EndpointID": endpoint, "SandboxKey": format!("/run/bench/none{turn}")});
        ask(&mut driver, "NetworkDriver.Join", &join);
        ask(&mut driver, "NetworkDriver.ProgramExternalConnectivity", &of);
        times[0].push(begin.elapsed());
        let begin = Instant::now();
        for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint"] {
            ask(&mut driver, &format!("NetworkDriver.{method}"), &of);
        }
        let ip = address["Address"].as_str().unwrap().split('/').next().unwrap();
        ask(&mut driver, "IpamDriver.ReleaseAddress", &json!({"PoolID": pool, "Address": ip}));
        times[1].push(begin.elapsed());
    }
    times
}

fn ask(driver: &mut BufReader<UnixStream>, method: &str, request: &Value) -> Value {
    let body = request.to_string();
    let head =
        format!("POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    driver.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        driver.read_line(&mut line).unwrap();
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    driver.read_exact(&mut body).unwrap();
    let reply: Value = serde_json::from_slice(&body).unwrap();
    assert!(reply.get("Err").is_none() && reply.get("Error").is_none(), "{method}: {reply}");
    reply
}

/// Whether `docker` with these words succeeds.
fn docker(line: &str) -> bool {
    let mut command = Command::new("/usr/bin/docker");
    command.args(["--host", "unix:///run/docker.sock"]).args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

/// What Docker says about the driver's network.
fn of_network(format: &str) -> String {
    let mut command = Command::new("/usr/bin/docker");
    command.args(["--host", "unix:///run/docker.sock", "network", "inspect", "-f", format, "ours"]);
    String::from_utf8(command.output().expect("docker runs").stdout).unwrap().trim().to_owned()
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let _ = Command::new(words.next().unwrap()).args(words).status();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
