//! Crash points on the real kernel: the daemon is killed before each system call by which its engine changes something,
//! in each command. After a new start a command that was answered is done, every other one is done or never happened,
//! and nothing is left over. `strace` makes the kill (`inject=…:signal=KILL:when=N`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{self, Child, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;

use crate::lab::look::{everything, same};
use crate::lab::{Lab, cni, skippable, until};

/// What the engine changes something by: netlink, files, the store, ports, threads that enter a container.
const CALLS: [&str; 9] =
    ["sendto", "sendmsg", "pwrite64", "fdatasync", "renameat", "unlinkat", "mkdirat", "bind", "clone3"];
/// Each command has at least so many points.
const LEAST: usize = 5;

/// A command and its inverse.
struct Command<'a> {
    name: &'a str,
    does: &'a dyn Fn() -> Result<(), String>,
    reverts: &'a dyn Fn(),
}

/// One command, and how to make the state before it and after it.
struct Case {
    name: &'static str,
    /// Makes what the command needs, once.
    prepare: &'static [&'static str],
    /// The command.
    does: &'static str,
    /// Reverts it.
    reverts: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "network create",
        // Forwarding stays on.
        prepare: &["network create net0 --subnet 10.90.0.0/24 --ipv6"],
        does: "network create net1 --subnet 10.91.0.0/24 --ipv6 --subnet fd91::/64",
        reverts: "network rm net1",
    },
    Case {
        name: "network rm",
        prepare: &["network create net1 --subnet 10.91.0.0/24"],
        does: "network rm net1",
        reverts: "network create net1 --subnet 10.91.0.0/24",
    },
    Case {
        name: "connect",
        prepare: &["network create net1 --subnet 10.91.0.0/24"],
        does: "connect net1 web --ip 10.91.0.9 -p 4000:80 -p 5000:53/udp --alias www",
        reverts: "disconnect net1 web",
    },
    Case {
        name: "connect to a second network",
        prepare: &[
            "network create net1 --subnet 10.91.0.0/24",
            "network create net2 --subnet 10.92.0.0/24",
            "connect net1 web --ip 10.91.0.9 -p 4000:80",
        ],
        does: "connect net2 web --ip 10.92.0.9",
        reverts: "disconnect net2 web",
    },
    Case {
        name: "disconnect",
        prepare: &[
            "network create net1 --subnet 10.91.0.0/24",
            "connect net1 web --ip 10.91.0.9 -p 4000:80 --alias www",
        ],
        does: "disconnect net1 web",
        reverts: "connect net1 web --ip 10.91.0.9 -p 4000:80 --alias www",
    },
    Case {
        name: "port add",
        prepare: &["network create net1 --subnet 10.91.0.0/24", "connect net1 web --ip 10.91.0.9 -p 4000:80"],
        does: "port add web 5000:53/udp",
        reverts: "port rm web 5000:53/udp",
    },
    Case {
        name: "port rm",
        prepare: &["network create net1 --subnet 10.91.0.0/24", "connect net1 web --ip 10.91.0.9 -p 5000:53/udp"],
        does: "port rm web 5000:53/udp",
        reverts: "port add web 5000:53/udp",
    },
    Case {
        name: "network renumber",
        prepare: &[
            "network create net1 --subnet 10.91.0.0/24",
            "connect net1 web --ip 10.91.0.9 -p 4000:80",
            "service create front --network net1 --mode vip --member web",
        ],
        does: "network renumber net1 --subnet 10.93.0.0/24",
        reverts: "network renumber net1 --subnet 10.91.0.0/24",
    },
    Case {
        name: "reservation create",
        prepare: &["network create net1 --subnet 10.91.0.0/24"],
        does: "reservation create net1 mail --ip 10.91.0.9 -p 2500:25",
        reverts: "reservation rm mail",
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = CASES
        .iter()
        .map(|case| {
            let name = format!("crash points: {}", case.name);
            skippable(name.leak(), move |lab| with_strace(|| each_point(lab, case)))
        })
        .collect();
    trials.push(skippable("crash points: ADD and DEL of the CNI plugin", |lab| with_strace(|| plugin(lab))));
    trials
}

/// Runs the test if `strace` may trace here.
fn with_strace(test: impl FnOnce()) -> Completion {
    let tries = process::Command::new("strace").args(["-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
    match tries {
        Ok(out) if out.status.success() => {
            test();
            Completion::Completed
        }
        Ok(out) => cannot_run(&format!("strace cannot trace: {}", String::from_utf8_lossy(&out.stderr))),
        Err(error) => cannot_run(&format!("strace: {error}")),
    }
}

fn cannot_run(why: &str) -> Completion {
    crate::harness::cannot_run(why).unwrap_or_else(|failed| panic!("{failed:?}"))
}

fn each_point(lab: &Lab, case: &Case) {
    lab.differs("the daemon is killed in the middle of a command");
    lab.start_daemon();
    lab.container("web");
    case.prepare.iter().for_each(|line| drop(lab.netd(line).ok()));
    let does = || {
        let out = lab.netd(case.does);
        if out.code == Some(0) { Ok(()) } else { Err(format!("{out:?}")) }
    };
    let reverts = || drop(lab.netd(case.reverts).ok());
    kill_at_each(lab, &Command { name: case.name, does: &does, reverts: &reverts });
}

/// A runtime calls again after a failure; here it gives up, and DEL must remove what ADD left.
fn plugin(lab: &Lab) {
    lab.start_daemon();
    lab.container("web");
    lab.netd("network create net1 --subnet 10.91.0.0/24").ok();
    let call = |command| {
        let answer = cni::call(command, "web").args("IP=10.91.0.9").run();
        if answer.code == Some(0) { Ok(()) } else { Err(answer.to_string()) }
    };
    let (add, delete) = (|| call("ADD").expect("ADD succeeds"), || call("DEL").expect("DEL succeeds"));
    kill_at_each(lab, &Command { name: "ADD", does: &|| call("ADD"), reverts: &delete });
    add();
    kill_at_each(lab, &Command { name: "DEL", does: &|| call("DEL"), reverts: &add });
}

/// What foreign programs see, and the reservations.
fn look(lab: &Lab) -> String {
    let reservations = lab.netd("reservation ls --json").ok().json();
    let all = reservations.as_array().expect("an array").iter();
    let lines = all.map(|one| format!("{} {} {} {}\n", one["id"], one["addresses"], one["mac"], one["ports"]));
    everything() + &lines.collect::<String>()
}

/// Kills the daemon at every point of the command, one after the other.
fn kill_at_each(lab: &Lab, command: &Command<'_>) {
    let Command { name, does, reverts } = command;
    let before = look(lab);
    does().expect("it succeeds");
    let after = look(lab);
    assert!(before != after, "{name} changes nothing");
    reverts();
    same(&before, &look(lab));
    let killed = |call: &str, number| is_killed_at(lab, (&before, &after), (call, number), command);
    let points: usize = CALLS.iter().map(|call| (1..).take_while(|number| killed(call, *number)).count()).sum();
    assert!(points >= LEAST, "{name} has only {points} points");
}

/// Kills the daemon with the engine's system call of that name and number, and judges what is there after a new start.
/// Returns false if the command ends before.
fn is_killed_at(
    lab: &Lab,
    (before, after): (&str, &str),
    (call, number): (&str, usize),
    command: &Command<'_>,
) -> bool {
    let Command { name, does, reverts } = command;
    let what = format!("{name}, killed at {call} {number}");
    let mut killer = Killer::at(lab, call, number);
    let answer = does();
    if !killer.has_killed(lab) {
        answer.expect("nobody hinders it");
        reverts();
        return false;
    }
    lab.kill_daemon();
    lab.start_daemon();
    let now = look(lab);
    let is_done = now == after;
    // Then it never happened.
    if !is_done {
        same(&format!("({what}: {answer:?})\n{before}"), &format!("({what}: {answer:?})\n{now}"));
    }
    assert!(is_done || answer.is_err(), "{what}: answered with success, and not done");
    assert_eq!(lab.diff(), "", "{what}");
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]), "{what}");
    if is_done {
        reverts();
    }
    true
}

/// `strace` on the engine's thread.
struct Killer(Child);

impl Killer {
    /// Kills the daemon with the engine's system call of that name and number, counted from now on.
    fn at(lab: &Lab, call: &str, number: usize) -> Self {
        let engine = engine(lab.daemon_pid().as_raw());
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let trace = format!("trace={call}");
        let mut command = process::Command::new("strace");
        command.args(["-e", &trace, "-e", &inject, "-o", "/dev/null", "-p", &engine.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("strace starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        assert!(first.contains("attached"), "{first}");
        Self(child)
    }

    /// Whether it has; otherwise it does not any more.
    fn has_killed(&mut self, lab: &Lab) -> bool {
        let is_dead = || {
            let state = fs::read_to_string(format!("/proc/{}/stat", lab.daemon_pid())).unwrap_or_default();
            state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['Z', 'X']))
        };
        // It may have ended with the daemon.
        let _ = self.0.kill();
        let _ = self.0.wait();
        // The daemon may be dying.
        let killed = is_dead() || lab.netd("status").code != Some(0);
        if killed {
            until("the daemon is dead", || is(is_dead(), &true));
        }
        killed
    }
}

/// The id of the engine's thread.
fn engine(daemon: i32) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task")).expect("the daemon runs");
    let ids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    let named =
        |id: &i32| fs::read_to_string(format!("/proc/{daemon}/task/{id}/comm")).is_ok_and(|name| name == "engine\n");
    ids.into_iter().find(named).expect("the engine's thread")
}
