//! Crash points on the real kernel: the daemon is killed before each system call by which its engine changes something,
//! in each command. After a new start a command that was answered is done, every other one is done or never happened,
//! and nothing is left over. `strace` makes the kill (`inject=…:signal=KILL:when=N`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::is;

use crate::lab::look::{everything, same};
use crate::lab::{Lab, cni, skippable, until};

/// What the engine changes something by: netlink, files, the store, ports, threads that enter a container.
const CALLS: &str = "sendto,sendmsg,pwrite64,fdatasync,renameat,renameat2,unlinkat,mkdirat,bind,clone3";
/// More than any command makes.
const POINTS: usize = 400;

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
    let tries = Command::new("strace").args(["-o", "/dev/null", "true"]).stdin(Stdio::null()).output();
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
    kill_at_each(lab, case.name, &does, &|| drop(lab.netd(case.reverts).ok()));
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
    kill_at_each(lab, "ADD", &|| call("ADD"), &|| call("DEL").expect("DEL succeeds"));
    call("ADD").expect("ADD succeeds");
    kill_at_each(lab, "DEL", &|| call("DEL"), &|| call("ADD").expect("ADD succeeds"));
}

/// What foreign programs see, and the reservations.
fn look(lab: &Lab) -> String {
    everything() + &lab.netd("reservation ls").ok().stdout
}

/// Kills the daemon at every point of the command, one after the other.
fn kill_at_each(lab: &Lab, name: &str, does: &dyn Fn() -> Result<(), String>, reverts: &dyn Fn()) {
    let before = look(lab);
    does().expect("it succeeds");
    let after = look(lab);
    assert!(before != after, "{name} changes nothing");
    reverts();
    same(&before, &look(lab));
    for point in 1..=POINTS {
        let mut killer = Killer::at(lab, point);
        let answer = does();
        if !killer.has_killed(lab) {
            answer.expect("nobody hinders it");
            assert!(point > 3, "{name} has only {point} points");
            return;
        }
        lab.kill_daemon();
        lab.start_daemon();
        let now = look(lab);
        let is_done = now == after;
        if !is_done {
            let told = format!("({name}, killed at point {point}, {answer:?})\n");
            same(&format!("{told}{before}"), &format!("{told}{now}"));
        }
        assert!(is_done || answer.is_err(), "{name}, point {point}: answered with success, and not done");
        let diff = lab.netd("diff");
        assert_eq!((diff.code, diff.stdout.as_str()), (Some(0), ""), "{name}, point {point}");
        assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]), "{name}, point {point}");
        if is_done {
            reverts();
        }
    }
    panic!("{name} has more than {POINTS} points");
}

/// `strace` on the engine's thread.
struct Killer(Child);

impl Killer {
    /// Kills the daemon with the engine's system call of that number from now on.
    fn at(lab: &Lab, point: usize) -> Self {
        let engine = engine(lab.daemon_pid().as_raw());
        let inject = format!("inject={CALLS}:signal=KILL:when={point}");
        let trace = format!("trace={CALLS}");
        let mut command = Command::new("strace");
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
        // A command that failed without a word from the daemon was cut off by its death.
        let killed = is_dead() || lab.netd("status").code != Some(0);
        if killed {
            until("the daemon is dead", || is(is_dead(), &true));
        }
        // It may have ended with the daemon.
        let _ = self.0.kill();
        let _ = self.0.wait();
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
