//! The end of the daemon: SIGTERM lets the command in hand finish, and a command that hangs does not delay it for long.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::daemon::{SOCKET, command, netd};
use crate::lab::manager::{Manager, NOTIFY};
use crate::lab::{Dig, Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("stop: the command in hand is finished, others get 503, and names resolve until the end", slow_command),
        trial("stop: a command that hangs delays the end by ten seconds at most", hanging_command),
        trial("stop: a daemon whose engine hangs gives the service manager no signs of life", signs_of_life),
    ]
}

/// An `nft` that waits as long as a file is there whose text its input contains, and says in another file that it does.
const SLOW_NFT: &str = "#!/bin/sh\n\
    input=$(cat)\n\
    if [ -e /run/lab/nft-waits ]; then case $input in *\"$(cat /run/lab/nft-waits)\"*)\n\
        echo >> /run/lab/nft-begun\n\
        while [ -e /run/lab/nft-waits ]; do sleep 0.05; done\n\
    esac; fi\n\
    printf '%s\\n' \"$input\" | PATH=${PATH#*:} nft \"$@\"\n";

/// The command of a daemon that runs such an `nft`, which does not wait as yet.
fn with_slow_nft() -> Command {
    fs::create_dir("/run/lab/bin").unwrap();
    fs::write("/run/lab/bin/nft", SLOW_NFT).unwrap();
    fs::set_permissions("/run/lab/bin/nft", fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = command(netd());
    command.env("PATH", format!("/run/lab/bin:{}", std::env::var("PATH").unwrap()));
    command
}

/// From now on `nft` waits if its input contains this; returns when the daemon has begun such a one.
fn nft_waits<T>(with: &str, begin: impl FnOnce() -> T) -> T {
    fs::write("/run/lab/nft-waits", with).unwrap();
    let begun = begin();
    until("the daemon runs nft", || fs::read("/run/lab/nft-begun"));
    begun
}

/// Begins a verb of `netd`.
fn begin(words: &str) -> Child {
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", netd()]).args(words.split(' ')).env("NETD_SOCKET", SOCKET);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn slow_command(lab: &Lab) {
    // With this, creating a network runs nft, which adds an accept rule for its bridge.
    run("ip netns exec host nft add table inet filter").ok();
    let base = "{ type filter hook forward priority 0 ; policy drop ; }";
    run(&format!("ip netns exec host nft add chain inet filter forward {base}")).ok();
    lab.launch(with_slow_nft());
    lab.netd("status --wait 10").ok();
    lab.connected_to_new("net1", "web");
    let web = lab.address("net1", "web")[0].to_string();
    let slow = nft_waits("nd-net2", || begin("network create net2"));
    // It waits for its turn behind the slow one.
    let next = begin("network create net3");
    lab.terminate_daemon();
    until("new requests are refused", || is(lab.http("GET", "/v1/networks", "").0, &503));
    let line = lab.netd("network create net4").refused();
    assert!(line.contains("netd is stopping") && line.contains("try again"), "{line}");
    Dig::expect("web", "web", &[&web]);
    fs::remove_file("/run/lab/nft-waits").unwrap();
    let (slow, next) = (slow.wait_with_output().unwrap(), next.wait_with_output().unwrap());
    assert!(slow.status.success(), "{slow:?}");
    let line = String::from_utf8(next.stderr).unwrap();
    assert!(!next.status.success() && line.contains("netd is stopping"), "{line}");
    lab.daemon_ends();
    lab.start_daemon();
    let networks = lab.netd("network ls --json").ok().json();
    let names: Vec<&str> = networks.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["net1", "net2"]);
}

fn hanging_command(lab: &Lab) {
    lab.launch(with_slow_nft());
    lab.netd("status --wait 10").ok();
    lab.connected_to_new("net1", "web");
    nft_waits("", || run("ip netns exec host nft flush ruleset").ok());
    let begin = Instant::now();
    lab.terminate_daemon();
    lab.daemon_ends();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    fs::remove_file("/run/lab/nft-waits").unwrap();
    lab.start_daemon();
    Dig::expect("web", "web", &[&lab.address("net1", "web")[0].to_string()]);
}

fn signs_of_life(lab: &Lab) {
    let manager = Manager::new();
    let mut command = with_slow_nft();
    command.env("NOTIFY_SOCKET", NOTIFY).env("WATCHDOG_USEC", "300000");
    lab.launch(command);
    let second = Duration::from_secs(1);
    manager.told("READY=1", 10 * second).expect("it becomes ready");
    lab.connected_to_new("net1", "web");
    manager.told("WATCHDOG=1", 5 * second).expect("a sign of life");
    nft_waits("", || run("ip netns exec host nft flush ruleset").ok());
    // Some may have been on their way.
    while manager.told("WATCHDOG=1", second / 5).is_some() {}
    assert!(manager.told("WATCHDOG=1", second).is_none(), "a sign of life, and the engine hangs");
    fs::remove_file("/run/lab/nft-waits").unwrap();
    manager.told("WATCHDOG=1", 5 * second).expect("a sign of life again");
    lab.stop_daemon();
    manager.told("STOPPING=1", second).expect("its end");
}
