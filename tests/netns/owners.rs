//! One daemon per network namespace, directory and socket: a second one is refused with a sentence, changes nothing and
//! leaves nothing.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{contains, lacks};

use crate::files::Second;
use crate::lab::command::{Out, run_words};
use crate::lab::daemon::{SOCKET, netd};
use crate::lab::{Lab, run, skippable, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("owners: a second daemon in the network namespace is refused and leaves nothing", same_namespace),
        trial("owners: a daemon can start when the one before it was killed", after_a_kill),
        trial("owners: a second daemon on a directory or socket is refused and leaves nothing", same_places),
        trial("owners: daemons in other network namespaces are undisturbed", other_namespaces),
        skippable("owners: another user cannot keep the daemon from starting", squatter),
    ]
}

/// The abstract socket that a daemon has in its network namespace.
const NAME: &str = "netd-owns-this-network-namespace";
/// Its presence makes this program a process that has that socket.
pub(crate) const SQUATTER: &str = "NETD_TESTS_SQUATTER";
const TWO: &str = "--socket /run/lab/two/netd.sock --state-dir /run/lab/two/state --runtime-dir /run/lab/two/run";

/// Starts a daemon in the namespace that must end by itself.
fn daemon(ns: &str, places: &str) -> Out {
    let mut words = vec!["timeout", "10", "nsenter"];
    let net = format!("--net=/run/netns/{ns}");
    words.extend([net.as_str(), "--", netd(), "daemon"]);
    words.extend(places.split(' '));
    run_words(&words)
}

fn entries(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).map(|all| all.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
    let mut names: Vec<String> = entries.into_iter().flatten().collect();
    names.sort();
    names
}

fn same_namespace(lab: &Lab) {
    lab.start_daemon();
    lab.connected_to_new("net1", "web");
    let before = (lab.everything(), entries("/run/lab"));
    let line = daemon("host", TWO).refused();
    let pid = lab.daemon_pid();
    assert!(line.contains(&format!("another netd (pid {pid}) works in this network namespace")), "{line}");
    assert_eq!(entries("/run/lab"), before.1);
    lab.unchanged_since(&before.0);
    // However often it is tried.
    for _ in 0..200 {
        let line = daemon("host", TWO).refused();
        assert!(line.contains("another netd"), "{line}");
    }
    until("the first one names itself again", || contains(daemon("host", TWO).stderr, &format!("(pid {pid})")));
    lab.netd("status").ok();
}

fn after_a_kill(lab: &Lab) {
    for _ in 0..5 {
        lab.start_daemon();
        lab.kill_daemon();
    }
}

fn same_places(lab: &Lab) {
    lab.start_daemon();
    lab.connected_to_new("net1", "web");
    let before = (lab.everything(), entries("/run/lab"));
    let (state, runtime) = ("--state-dir /run/lab/state", "--runtime-dir /run/lab/runtime");
    for (places, expected) in [
        (format!("{state} --runtime-dir /run/lab/two/run --socket /run/lab/two/netd.sock"), "/run/lab/state"),
        (format!("--state-dir /run/lab/two/state {runtime} --socket /run/lab/two/netd.sock"), "/run/lab/runtime"),
        (
            "--state-dir /run/lab/runtime --runtime-dir /run/lab/two --socket /run/lab/2.sock".to_owned(),
            "/run/lab/runtime",
        ),
        (format!("--state-dir /run/lab/two/state --runtime-dir /run/lab/two/run --socket {SOCKET}"), SOCKET),
    ] {
        let line = daemon("outside", &places).refused();
        assert!(line.contains("another netd") && line.contains(expected), "{places}: {line}");
        assert_eq!(entries("/run/lab"), before.1, "{places}");
        lab.unchanged_since(&before.0);
    }
    lab.netd("status").ok();
}

fn other_namespaces(lab: &Lab) {
    lab.start_daemon();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/outside", "--", netd(), "daemon"]).args(TWO.split(' '));
    let log = fs::File::create("/run/lab/two.log").unwrap();
    let _second = Second(command.stderr(log).spawn().expect("a second daemon"));
    lab.netd("--socket /run/lab/two/netd.sock status --wait 10").ok();
    lab.netd("status").ok();
}

/// Binds the name and waits to be killed.
pub(crate) fn squat() -> ExitCode {
    let address = SocketAddr::from_abstract_name(NAME).expect("a name");
    let _socket = UnixListener::bind_addr(&address).expect("a free name");
    loop {
        std::thread::park();
    }
}

fn squatter(lab: &Lab) -> Completion {
    // The other user cannot reach this program where it is.
    fs::write("/run/lab/squatter", "").unwrap();
    let own = std::env::current_exe().expect("this program");
    run(&format!("mount --bind {} /run/lab/squatter", own.display())).ok();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", "setpriv", "--reuid=65534", "--clear-groups", "/run/lab/squatter"]);
    command.env(SQUATTER, "1").stdin(Stdio::null()).stdout(Stdio::null());
    let mut squatter = Second(command.spawn().expect("another user's process"));
    let listens = || run("ip netns exec host ss -xlH").ok().stdout.contains(NAME).then_some(true);
    let ended = |process: &mut Second| process.0.try_wait().expect("a child").map(|_| false);
    if !until("it has the name", || listens().or_else(|| ended(&mut squatter))) {
        return Completion::ignored_with("cannot become another user");
    }
    lab.start_daemon();
    let status = || lab.netd("status").stdout;
    let expected = format!("process {} of user 65534", squatter.0.id());
    until("it is a problem", || contains(status(), &expected));
    drop(squatter);
    until("the daemon has the name", || lacks(status(), "65534"));
    let line = daemon("host", TWO).refused();
    assert!(line.contains(&format!("pid {}", lab.daemon_pid())), "{line}");
    Completion::Completed
}
