//! The laboratory: one per test, with a mount namespace of its own in which `host` represents the host (the daemon runs
//! there), `outside` another machine, and every further named network namespace a container.
//!
//! Because `/run` and `/etc` are private, every test may call its container `web`. Everything ends with the test: the
//! daemon by its process id, the namespaces with the last reference to them.

pub mod cni;
pub mod command;
pub mod daemon;
pub mod echo;
pub mod frames;
pub mod iperf;
pub mod load;
pub mod look;
pub mod manager;
mod panics;
pub mod probe;
pub mod resolve1;
pub mod resolved;
pub mod space;
pub mod steady;
pub mod upstream;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use libtest_mimic::{Completion, Failed, Trial};

use crate::wait;
pub use crate::wait::{until, until_within};
pub use command::{Out, run};
pub use echo::{Proto, Server, ask, ask_from};
pub use look::{Dig, addresses, ip_json};

use daemon::Daemon;

/// The host's addresses on the link to the outside.
pub const HOST4: &str = "192.0.2.1";
/// See [`HOST4`].
pub const HOST6: &str = "2001:db8::1";
/// The outside's addresses on the link to the host.
pub const OUTSIDE4: &str = "192.0.2.2";
/// See [`OUTSIDE4`].
pub const OUTSIDE6: &str = "2001:db8::2";

/// The laboratory of one test.
pub struct Lab {
    daemon: RefCell<Option<Daemon>>,
    /// Why something differs that netd made, while it does.
    differs: Cell<Option<&'static str>>,
}

/// Whether a command with these words changes what netd makes.
fn changes(words: &[&str]) -> bool {
    let is_plan = words.contains(&"--dry-run");
    !is_plan
        && matches!(
            words,
            ["connect" | "disconnect", ..]
                | ["network" | "reservation", "create" | "rm" | "prune", ..]
                | ["port", "add" | "rm", ..]
                | ["policy", "allow" | "deny" | "default-deny" | "rm" | "apply", ..]
        )
}

/// A test without special requirements.
pub fn trial(name: &'static str, test: fn(&Lab)) -> Trial {
    skippable(name, move |lab| {
        test(lab);
        Completion::Completed
    })
}

/// A test that may be skipped at run time, for example for lack of a kernel feature.
pub fn skippable<F>(name: &'static str, test: F) -> Trial
where
    F: FnOnce(&Lab) -> Completion + Send + 'static,
{
    Trial::ignorable_test(name, move || {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || in_a_lab(test))?;
        thread.join().unwrap_or_else(|_| Err("the laboratory could not be taken down".into()))
    })
}

fn in_a_lab(test: impl FnOnce(&Lab) -> Completion) -> Result<Completion, Failed> {
    panics::remember();
    let lab = match catch_unwind(Lab::new) {
        Ok(lab) => lab,
        Err(_) => return Err(format!("no laboratory: {}", panics::last()).into()),
    };
    catch_unwind(AssertUnwindSafe(|| test(&lab))).map_err(|_| {
        let failure = panics::last();
        let log = daemon::log();
        let look = space::stop_for_inspection();
        format!("{failure}\n--- the daemon's log\n{log}\n--- to look inside\n{look}").into()
    })
}

impl Lab {
    /// Host and outside, joined by a cable; no daemon yet.
    #[expect(clippy::new_without_default, reason = "it changes the thread's namespaces: nothing to do by default")]
    pub fn new() -> Self {
        space::private_run_and_etc();
        run("ip netns add host").ok();
        run("ip netns add outside").ok();
        run("ip -n host link add uplink type veth peer name uplink netns outside").ok();
        for (ns, v4, v6) in [("host", HOST4, HOST6), ("outside", OUTSIDE4, OUTSIDE6)] {
            let commands = format!(
                "link set lo up\nlink set uplink up\naddress add {v4}/24 dev uplink\naddress add {v6}/64 dev uplink nodad\n"
            );
            command::ip_batch(ns, &commands);
            // A new namespace copies IPv4 settings from the machine's: begin from what a fresh host has.
            space::sysctl(ns, "net/ipv4/ip_forward", "0");
            space::sysctl(ns, "net/ipv6/conf/all/forwarding", "0");
        }
        run(&format!("ip -n host route add default via {OUTSIDE4}")).ok();
        run(&format!("ip -n host -6 route add default via {OUTSIDE6}")).ok();
        Self { daemon: RefCell::new(None), differs: Cell::new(None) }
    }

    /// Host and outside with a running daemon.
    pub fn start_daemon(&self) {
        self.start_program(daemon::netd());
    }

    /// The same with another file of the program.
    pub fn start_program(&self, program: &str) {
        self.launch(daemon::command(program));
        self.netd(&format!("status --wait {}", 10 * wait::slowness())).ok();
    }

    /// Starts the daemon with this command; it need not be ready.
    pub fn launch(&self, command: std::process::Command) {
        let daemon = Daemon::start(command);
        assert!(self.daemon.replace(Some(daemon)).is_none(), "a daemon was running");
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> nix::unistd::Pid {
        self.daemon.borrow().as_ref().expect("a daemon runs").pid()
    }

    /// Ends the daemon as a crash would: SIGKILL.
    pub fn kill_daemon(&self) {
        self.daemon.take().expect("a daemon runs").kill();
    }

    /// Ends the daemon as a service manager would: SIGTERM, and it must end soon, with success.
    pub fn stop_daemon(&self) {
        self.terminate_daemon();
        self.daemon_ends();
    }

    /// Sends SIGTERM to the daemon.
    pub fn terminate_daemon(&self) {
        self.daemon.borrow().as_ref().expect("a daemon runs").terminate();
    }

    /// Waits until the daemon has ended, with success.
    pub fn daemon_ends(&self) {
        let code = self.daemon_status();
        assert_eq!(code, Some(0), "the daemon's exit code");
    }

    /// Waits until the daemon has ended; its exit code.
    pub fn daemon_status(&self) -> Option<i32> {
        self.daemon.take().expect("a daemon runs").ends().code()
    }

    /// The daemon's log so far.
    pub fn log(&self) -> String {
        daemon::log()
    }

    /// `netd` with these words (split at white space) as a user on the host.
    pub fn netd(&self, words: &str) -> Out {
        self.netd_words(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// `netd` with exactly these arguments.
    pub fn netd_words(&self, words: &[&str]) -> Out {
        let mut line = vec!["nsenter", "--net=/run/netns/host", "--", daemon::netd()];
        line.extend(words);
        let out = command::run_words(&line);
        if out.code == Some(0) && changes(words) {
            self.no_drift();
        }
        out
    }

    /// From now on something differs that netd made, for this reason, and is not to be compared after each command.
    pub fn differs(&self, why: &'static str) {
        self.differs.set(Some(why));
    }

    /// After each command that changed something: all that netd makes is there, and nothing else (`netd diff`).
    #[track_caller]
    fn no_drift(&self) {
        if self.differs.get().is_none() && self.daemon.borrow().is_some() {
            wait::until("netd diff is empty", || wait::is(self.diff(), ""));
        }
    }

    /// What `netd diff` prints.
    pub fn diff(&self) -> String {
        let out = command::run_words(&["nsenter", "--net=/run/netns/host", "--", daemon::netd(), "diff"]);
        out.stdout + &out.stderr
    }

    /// A container: a named network namespace with its loopback up.
    pub fn container(&self, name: &str) {
        run(&format!("ip netns add {name}")).ok();
        run(&format!("ip -n {name} link set lo up")).ok();
    }

    /// A container on the network, with these further arguments.
    pub fn connected(&self, network: &str, name: &str, more: &str) {
        if !std::path::Path::new("/run/netns").join(name).exists() {
            self.container(name);
        }
        self.netd(&format!("connect {network} {name} {more}")).ok();
    }

    /// A network and a container on it.
    pub fn connected_to_new(&self, network: &str, name: &str) {
        self.netd(&format!("network create {network}")).ok();
        self.connected(network, name, "");
    }

    /// A program in a namespace, as `ip netns exec` starts it (so `/etc/netns/NAME` counts).
    pub fn exec(&self, ns: &str, line: &str) -> Out {
        run(&format!("ip netns exec {ns} {line}"))
    }

    /// A shell line in a namespace.
    pub fn shell(&self, ns: &str, line: &str) -> Out {
        command::run_words(&["ip", "netns", "exec", ns, "sh", "-c", line])
    }

    /// The daemon's API: `curl` with a method, a path and a body; the reply's status and body.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = format!("http://netd{path}");
        let mut line = vec!["curl", "-sS", "--max-time", "10", "--unix-socket", daemon::SOCKET, "-X", method];
        if !body.is_empty() {
            line.extend(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        line.extend(["-w", "\n%{http_code}", &url]);
        let reply = command::run_words(&line).ok().stdout;
        let (body, status) = reply.rsplit_once('\n').expect("curl prints the status last");
        (status.parse().expect("a status"), body.to_owned())
    }

    /// The endpoint of a container on a network, as the API shows it.
    pub fn endpoint(&self, network: &str, container: &str) -> serde_json::Value {
        let (status, body) = self.http("GET", &format!("/v1/networks/{network}/endpoints"), "");
        assert_eq!(status, 200, "{body}");
        let endpoints: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a JSON array");
        let found = endpoints.into_iter().find(|endpoint| endpoint["container"]["name"] == container);
        found.unwrap_or_else(|| panic!("{container} is not on {network}: {body}"))
    }

    /// The container's addresses on a network, without prefix lengths.
    pub fn address(&self, network: &str, container: &str) -> Vec<std::net::IpAddr> {
        let endpoint = self.endpoint(network, container);
        let addresses = endpoint["addresses"].as_array().expect("an array");
        let ip = |text: &serde_json::Value| text.as_str()?.split('/').next()?.parse().ok();
        addresses.iter().map(|text| ip(text).expect("ADDRESS/PREFIX")).collect()
    }

    /// One network as `netd network inspect` shows it.
    pub fn network(&self, name: &str) -> serde_json::Value {
        let shown = self.netd(&format!("network inspect {name} --json")).ok().json();
        shown.as_array().expect("an array")[0].clone()
    }

    /// Everything a refused command must leave as it was: rules, links, addresses and routes of all namespaces here,
    /// settings, files, and netd's own state.
    pub fn everything(&self) -> String {
        look::everything() + &self.netd("dump").ok().stdout
    }

    /// Fails, showing the difference, unless [`Lab::everything`] is as it was.
    #[track_caller]
    pub fn unchanged_since(&self, before: &str) {
        look::same(before, &self.everything());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }
}
