//! The CNI plugin `netd-cni`: translates the requests of container runtimes (CNI spec 1.1.0) to attachments of the
//! daemon. The daemon does all the work; the plugin blocks, and needs no async runtime and no threads.
//!
//! # The configuration
//!
//! ```text
//! network        netd's network to join; default: the configuration's name. The first ADD creates it from:
//! driver         "bridge" (default), "macvlan", "ipvlan" or "none"; options: an object, as `netd network create -o`
//! subnets        "10.77.0.0/24", or a list of such or of {"subnet", "gateway", "ipRange"}; default: netd's choice
//! gateway        an address or a list of addresses
//! internal, icc, ipMasq, ipv6    true or false, also as strings
//! mtu            bytes; 0 means unspecified
//! aliases        further names of every container
//! labels         labels of every container: an object, or a list of {"key", "value"}
//! bandwidth      limits if the runtime gives none: {"ingressRate", "ingressBurst", "egressRate", "egressBurst"}, in
//!                bits per second and bits; a rate needs its burst
//! upstreams      servers for names that are not local: "9.9.9.9", or a list; "tls://IP#NAME", "https://IP/PATH#NAME"
//! dnsListen      where the name service listens: "auto", "gateway" or "container"
//! hostAccess     what the containers reach of the host: "none", "ports" or "all"; default: "none" with `internal`
//! trusted        true or false: its containers may send from addresses that are not theirs, as routers do
//! publish        open or strict: who decides which packets reach published ports, netd or the host's own rules
//! egress         "open" or "deny": whether every container may send only what is allowed
//! egressAllow    what all the same: "NAME", "*.NAME", an address or a prefix, each with ":PORT", or a list of such
//! sticky         true or false: a container that is attached again with its name gets its address again
//! dns            {"nameservers", "domain", "search", "options"}, merged into the result
//! ipam           another plugin that gives the addresses; if absent or {}, netd does
//! socket         the daemon's socket; default /run/netd/netd.sock
//! runtimeConfig  portMappings, ips, mac, aliases, bandwidth, dns, ipRanges (CNI's CONVENTIONS.md)
//!                io.kubernetes.cri.pod-annotations: the annotation netd.label, "LABEL=VALUE,…",
//!                netd.egress and netd.egress-allow, "NAME:PORT,…"
//! args           labels, egress, egressAllow
//! args.cni       ips, mac, aliases, labels (CNI's CONVENTIONS.md), egress, egressAllow
//! CNI_ARGS       IP and GATEWAY (lists, joined by commas), MAC, K8S_POD_NAME, K8S_POD_NAMESPACE, IgnoreUnknown
//! ```
//!
//! `runtimeConfig` takes precedence over `args.cni`, that over `CNI_ARGS`, and that over the configuration's own keys;
//! aliases are combined in that order, and labels as well, where of several values of one label that of the annotation
//! counts, then that of `args.cni`, of `args`, and of the configuration. `aliases` in `runtimeConfig` may also be an object of lists by network, as
//! Podman sends it. The container's name is `K8S_POD_NAME` within `K8S_POD_NAMESPACE`, else the first alias that is a
//! valid container name, else its id. Names with another meaning in DNS (`localhost`, `host.internal`) are left out.
//! `ipRanges` has one list for each address family; a network that is created now and has no `subnets` gets its subnets
//! from them. The container's `dns` is netd's, then the configuration's, then that of the IPAM plugin or the previous
//! plugin, then the runtime's, without duplicates. Its domain is the configuration's, else netd's; other domains are
//! searched.
//!
//! # Decisions
//!
//! - Input is decoded as in Go, on which runtimes rely (`fields`): keys are case-insensitive, `null` counts as absent.
//! - `ADD` and `STATUS` refuse unknown keys of the configuration (code 2): a misspelt `internal` would open a network.
//!   Keys with a dot or a slash and keys that begin with `_` belong to other programs. Unknown keys in `runtimeConfig`
//!   and `args` belong to the runtime: they are ignored, with a line on standard error, which runtimes log. `DEL`,
//!   `CHECK` and `GC` read only what they need, and only `ADD` reads `CNI_ARGS`: an error that prevents attaching a
//!   container must not prevent detaching it.
//! - A port that the network cannot publish (it is internal, or lacks the address family) is skipped, with a line on
//!   standard error: Podman sends a container's ports for each of its networks.
//! - `CNI_PATH` is required only to find an IPAM plugin, as in the spec, not always, as in libcni's skel.
//! - A repeated `ADD` restores missing parts of the attachment, or fails with 102: its result is never more than
//!   exists.
//! - `CHECK` expects the MAC address and the MTU of the interface in `prevResult`: a later plugin of the chain may have
//!   set them.
//! - `DEL` ignores `CNI_NETNS`. `ADD` refuses one that does not exist (3) and the plugin's own (8), the latter unless
//!   `CNI_NETNS_OVERRIDE` is set.
//! - With `prevResult`, `ADD` assumes that another plugin has made the interface: netd adds names, ports, firewall and
//!   limits, and the result is the previous one with `dns` merged. That plugin is responsible for addresses, ranges and
//!   MAC, and `ipam` in addition is refused (7).
//! - With `ipam`, the IPAM plugin handles the requested addresses: it gets the same environment and input. Its plain
//!   default routes become gateways; netd sets its other routes. `dhcp` works through the interface, which is therefore
//!   made first. After a failed `ADD` the plugin is called with `DEL`, but not while it is unknown whether the daemon
//!   has made the attachment (11): until then the lease remains. It is called for `DEL`, `CHECK`, `GC` and `STATUS`
//!   after the daemon, also if the daemon failed (except for `STATUS`), and both errors are reported. A plugin that
//!   does not support the command of the configuration's version is an error like any other: with such a configuration
//!   it would refuse `ADD` as well.
//! - `STATUS` succeeds if the daemon is ready, whatever its problems elsewhere, and the network, if it exists, has room
//!   (not checked with `ipam`). `VERSION` replies with the version on standard input, or 1.1.0 if there is none.
//!
//! # Codes
//!
//! The codes of the spec, and those of `failure`:
//!
//! ```text
//! 1    the version is not supported, or does not have the command      2   unsupported field
//! 3    the network namespace does not exist                            4   environment
//! 5    standard input cannot be read or has more than 8 MiB, the IPAM plugin cannot be run
//! 6    not JSON; an invalid IPAM result
//! 7    a wrong value of a key; the daemon's `invalid`; no such IPAM plugin
//! 8    CNI_NETNS is the plugin's own namespace
//! 11   the daemon does not reply, or replies `unavailable`: try again later
//! 50   STATUS: daemon not reachable or not ready, network full, IPAM plugin not ready
//! 51   STATUS: daemon not ready and with problems; the IPAM plugin's 51
//! 100  the daemon's `conflict`: a port, address, name, subnet or interface belongs to something else
//! 101  the daemon's `exhausted`: no address or subnet is left
//! 102  CHECK, and ADD again: the daemon's `changed`, or it knows no such attachment
//! 103  the daemon's `kernel`: the kernel, or a program that the daemon needs, refused an operation unexpectedly
//! 999  everything else: the daemon tried and failed
//! ```

mod commands;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod input;
mod ipam;
mod output;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use failure::{Failure, IO};
use input::configuration::Configuration;
use input::environment::{Command, Environment};
use input::version::Version;

/// The longest standard input, in bytes: twice what the daemon takes of the largest request, the list of `GC`.
const STDIN_MAX: u64 = 8 << 20;

/// The input of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// All environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// All of standard input.
    pub stdin: Vec<u8>,
}

/// The output of the plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The result or the error.
    pub stdout: Vec<u8>,
    /// Messages for people, including those of the IPAM plugin.
    pub stderr: Vec<u8>,
    /// The exit code: 0 or 1.
    pub code: u8,
}

/// The outcome of a program that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// The exit code. `None` if a signal killed it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// What the plugin needs of the host besides the daemon.
pub trait Programs {
    /// Finds the first program of that name in a list of folders separated by `:`.
    fn find(&self, name: &str, path: &OsStr) -> Option<PathBuf>;
    /// Runs a program with exactly this environment and input, and waits until it ends.
    fn run(&self, program: &Path, environment: &[(OsString, OsString)], stdin: &[u8]) -> io::Result<Ran>;
    /// Whether the file is the network namespace of this process. Fails if it is no namespace.
    fn is_own_netns(&self, path: &Path) -> io::Result<bool>;
}

/// A command in progress.
struct Call<'a> {
    invocation: &'a Invocation,
    programs: &'a dyn Programs,
    stderr: Vec<u8>,
}

impl Call<'_> {
    /// Writes a message for people: runtimes copy standard error to their log.
    fn note(&mut self, text: &str) {
        self.stderr.extend_from_slice(format!("netd-cni: {}\n", failure::line(text)).as_bytes());
    }
}

/// The whole program: reads standard input if the command has some, and writes the outcome.
pub fn main(environment: Vec<(OsString, OsString)>, programs: &dyn Programs) -> ExitCode {
    let mut invocation = Invocation { environment, stdin: Vec::new() };
    let read = if reads_stdin(&invocation) { whole(io::stdin()) } else { Ok(Vec::new()) };
    let outcome = match read {
        Ok(stdin) => {
            invocation.stdin = stdin;
            run(&invocation, programs)
        }
        Err(error) => failed(&Failure::new(IO, format!("read standard input: {error}")), Version::NEWEST, Vec::new()),
    };
    // Ignore the error: a runtime that has gone does not need the rest.
    let _ = io::stderr().write_all(&outcome.stderr);
    let written = io::stdout().write_all(&outcome.stdout).and_then(|()| io::stdout().flush());
    ExitCode::from(if written.is_err() { 1 } else { outcome.code })
}

/// Reads standard input to its end.
fn whole(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(STDIN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > STDIN_MAX {
        return Err(io::Error::other(format!("it has more than {} MiB", STDIN_MAX >> 20)));
    }
    Ok(bytes)
}

/// Whether to read standard input. A person who starts the program in a terminal must not have to end its input.
fn reads_stdin(invocation: &Invocation) -> bool {
    match Environment(&invocation.environment).command() {
        Ok(Some(Command::Version)) => !io::stdin().is_terminal(),
        Ok(command) => command.is_some(),
        Err(_) => false,
    }
}

/// Carries out the command.
pub fn run(invocation: &Invocation, programs: &dyn Programs) -> Outcome {
    let environment = Environment(&invocation.environment);
    let mut call = Call { invocation, programs, stderr: Vec::new() };
    let mut version = Version::NEWEST;
    let result = match environment.command() {
        Ok(None) => return about(),
        Ok(Some(Command::Version)) => Ok(Some(Version::answer(&invocation.stdin))),
        Ok(Some(command)) => perform(&mut call, command, &mut version),
        Err(failure) => Err(failure),
    };
    match result {
        Ok(Some(value)) => Outcome { stdout: text(&value), stderr: call.stderr, code: 0 },
        Ok(None) => Outcome { stdout: Vec::new(), stderr: call.stderr, code: 0 },
        Err(failure) => failed(&failure, version, call.stderr),
    }
}

/// Carries out every command except `VERSION` and sets `version` to the configuration's. The environment is checked
/// first, as in libcni's skel.
fn perform(call: &mut Call<'_>, command: Command, version: &mut Version) -> Result<Option<Value>, Failure> {
    let environment = Environment(&call.invocation.environment);
    let target = match command {
        Command::Add | Command::Check => Some(environment.target(true)?),
        Command::Del => Some(environment.target(false)?),
        Command::Gc | Command::Status | Command::Version => None,
    };
    let document = input::configuration::document(&call.invocation.stdin)?;
    *version = input::configuration::version_of(&document);
    let conf = Configuration::read(&document)?;
    match (command, target) {
        (Command::Add, Some(target)) => return commands::add::add(call, &conf, &target).map(Some),
        (Command::Check, Some(target)) => {
            conf.since(Version::V0_4_0, "CHECK")?;
            commands::verbs::check(call, &conf, &target)?;
        }
        (_, Some(target)) => commands::verbs::del(call, &conf, &target)?,
        (Command::Gc, None) => {
            conf.since(Version::V1_1_0, "GC")?;
            commands::verbs::gc(call, &conf)?;
        }
        (_, None) => {
            conf.since(Version::V1_1_0, "STATUS")?;
            commands::verbs::status(call, &conf)?;
        }
    }
    Ok(None)
}

fn failed(failure: &Failure, version: Version, stderr: Vec<u8>) -> Outcome {
    Outcome { stdout: text(&failure.json(version.as_str())), stderr, code: 1 }
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

/// The output for a person who starts the program without a command. Runtimes parse these two lines, which the
/// reference plugins have as well.
fn about() -> Outcome {
    let supported = Version::supported().join(", ");
    let version = env!("CARGO_PKG_VERSION");
    let about = format!("CNI plugin netd-cni v{version}\nCNI protocol versions supported: {supported}\n");
    Outcome { stderr: about.into_bytes(), ..Outcome::default() }
}
