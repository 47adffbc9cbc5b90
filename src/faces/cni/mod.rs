//! The CNI plugin `netd-cni`: translates what container runtimes ask (CNI spec 1.1.0) to the daemon's attachments.
//! All work is the daemon's; what is here blocks, and needs no runtime and no threads.
//!
//! # The configuration
//!
//! ```text
//! network        netd's network to join; default: the configuration's name. Made by the first ADD of:
//! subnets        "10.77.0.0/24", or a list of such or of {"subnet", "gateway", "ipRange"}; default: netd's choice
//! gateway        an address or a list of them
//! internal, icc, ipMasq, ipv6    true or false, also as strings
//! mtu            bytes; 0 says nothing
//! aliases        further names of every container
//! bandwidth      limits where the runtime gives none: {"ingressRate", "ingressBurst", "egressRate", "egressBurst"}, in
//!                bits per second and bits; a rate needs its burst
//! upstreams      who is asked for names that are not ours: "9.9.9.9", or a list; "tls://IP#NAME", "https://IP/PATH#NAME"
//! dnsListen      where the name service listens: "auto", "gateway" or "container"
//! hostAccess     what of the host the containers reach: "none", "ports" or "all"; default: "none" with `internal`
//! sticky         true or false: a container that comes again under its name gets its address again
//! dns            {"nameservers", "domain", "search", "options"}, merged into the result
//! ipam           another plugin gives the addresses; absent or {}: netd does
//! socket         the daemon's; default /run/netd/netd.sock
//! runtimeConfig  portMappings, ips, mac, aliases, bandwidth, dns, ipRanges (CNI's CONVENTIONS.md)
//! args.cni       ips, mac, aliases
//! CNI_ARGS       IP and GATEWAY (lists, joined by commas), MAC, K8S_POD_NAME, K8S_POD_NAMESPACE, IgnoreUnknown
//! ```
//!
//! `runtimeConfig` counts before `args.cni`, that before `CNI_ARGS`, that before the configuration's own keys; aliases
//! add up in that order. `aliases` in `runtimeConfig` may also be an object of lists by network, as Podman sends it.
//! The container is called by `K8S_POD_NAME` within `K8S_POD_NAMESPACE`, else by the first alias that can be a
//! container's name, else by its id; names that DNS means something else by (`localhost`, `host.internal`) are left out.
//! `ipRanges` has one list for each address family; a network that is made now, and
//! has no `subnets`, is made of them. The container's `dns` is netd's, then the configuration's, then that of the IPAM
//! plugin or the plugin before, then the runtime's, without doubles. Its domain is the configuration's, else netd's;
//! other domains are searched.
//!
//! # Decisions
//!
//! - Input is decoded as Go does, on which runtimes rely (`fields`): keys without regard to case, `null` as absent.
//! - `ADD` and `STATUS` refuse keys of the configuration that they do not know (code 2): a misspelt `internal` would
//!   open a network. Keys with a dot or a slash and keys that begin with `_` are others'. What `runtimeConfig` and `args`
//!   hold besides is the runtime's: it is ignored, with a line on standard error, which runtimes log. `DEL`, `CHECK` and
//!   `GC` read only what they need, and `CNI_ARGS` is `ADD`'s alone: what keeps a container from coming must not keep it
//!   from going.
//! - A port that the network cannot have (it is internal, or lacks the address family) is skipped, with a line on standard
//!   error: Podman says a container's ports for each of its networks.
//! - `CNI_PATH` is needed where an IPAM plugin is to be found, as the spec says, not everywhere, as libcni's skel does.
//! - `ADD` again makes whole what lost a part since, or fails with 102: its answer never promises more than there is.
//! - `CHECK` expects the MAC address and the MTU that `prevResult` tells of the interface: a later plugin of the chain
//!   may have set them.
//! - `DEL` does not look at `CNI_NETNS` at all. `ADD` refuses one that is not there (3) and the plugin's own (8), the
//!   latter unless `CNI_NETNS_OVERRIDE` is set.
//! - With `prevResult`, `ADD` takes the interface for another plugin's: netd adds names, ports, firewall and limits,
//!   and the result is the previous one with `dns` merged. Addresses, ranges and MAC are then that plugin's business,
//!   and `ipam` besides is refused (7).
//! - With `ipam`, the requested addresses are the IPAM plugin's business: it gets the same environment and input. Its
//!   plain default routes become gateways, its other routes are netd's to set. `dhcp` works through the interface,
//!   which is therefore made first. After a failed `ADD` it is told `DEL`, but not while nobody knows whether the daemon
//!   has made the attachment (11): as long as that the lease stands. It is called for `DEL`, `CHECK`, `GC` and `STATUS`
//!   after the daemon, also when the daemon failed (but for `STATUS`), and both errors are told. A plugin that is too
//!   old for the command is an error like any other: with such a configuration it would refuse `ADD` as well.
//! - `STATUS` is good while the daemon is ready, whatever its problems elsewhere, and the network, if it exists, has
//!   room (not asked with `ipam`). `VERSION` answers the version on standard input, 1.1.0 where there is none.
//!
//! # Codes
//!
//! The spec's, and those of `failure`:
//!
//! ```text
//! 1    the version is not supported, or does not have the command      2   unsupported field
//! 3    the network namespace is not there                              4   environment
//! 5    standard input cannot be read, the IPAM plugin not be run       6   not JSON; an IPAM result that is none
//! 7    a wrong value of a key; the daemon's `invalid`; no such IPAM plugin
//! 8    CNI_NETNS is the plugin's own namespace
//! 11   the daemon does not answer, or says `unavailable`: try again later
//! 50   STATUS: daemon not reachable or not ready, network full, IPAM plugin not ready
//! 51   STATUS: daemon not ready and with problems; the IPAM plugin's 51
//! 100  the daemon's `conflict`: a port, address, name, subnet or interface belongs to something else
//! 101  the daemon's `exhausted`: no address or subnet is left
//! 102  CHECK, and ADD again: the daemon's `changed`, or it knows no such attachment
//! 103  the daemon's `kernel`: the kernel, or a program that the daemon needs, refused what could not be foreseen
//! 999  everything else: the daemon tried and failed
//! ```

mod commands;
mod failure;
mod input;
mod ipam;
mod output;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use failure::{Failure, IO};
use input::configuration::Configuration;
use input::environment::{Command, Environment};
use input::version::Version;

/// What the runtime gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// Every variable.
    pub environment: Vec<(OsString, OsString)>,
    /// All of standard input.
    pub stdin: Vec<u8>,
}

/// What the runtime gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The result or the error.
    pub stdout: Vec<u8>,
    /// Words for people, the IPAM plugin's among them.
    pub stderr: Vec<u8>,
    /// The exit code: 0 or 1.
    pub code: u8,
}

/// What a program left that was run to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// What the plugin needs of the host besides the daemon.
pub trait Programs {
    /// The first program of that name in a list of folders, which `:` separates.
    fn find(&self, name: &str, path: &OsStr) -> Option<PathBuf>;
    /// Runs a program with exactly that environment and input, and waits for its end.
    fn run(&self, program: &Path, environment: &[(OsString, OsString)], stdin: &[u8]) -> io::Result<Ran>;
    /// Whether the file is the network namespace of this process; fails where there is none.
    fn is_own_netns(&self, path: &Path) -> io::Result<bool>;
}

/// A command at work.
struct Call<'a> {
    invocation: &'a Invocation,
    programs: &'a dyn Programs,
    stderr: Vec<u8>,
}

impl Call<'_> {
    /// A line for people: runtimes pass standard error on to their log.
    fn note(&mut self, text: &str) {
        self.stderr.extend_from_slice(format!("netd-cni: {}\n", failure::line(text)).as_bytes());
    }
}

/// The whole program: reads standard input where the command has some, and writes what came of it.
pub fn main(environment: Vec<(OsString, OsString)>, programs: &dyn Programs) -> ExitCode {
    let mut invocation = Invocation { environment, stdin: Vec::new() };
    let read = if reads_stdin(&invocation) { io::stdin().read_to_end(&mut invocation.stdin) } else { Ok(0) };
    let outcome = match read {
        Ok(_) => run(&invocation, programs),
        Err(error) => failed(&Failure::new(IO, format!("read standard input: {error}")), Version::NEWEST, Vec::new()),
    };
    // A runtime that is gone has no use for the rest.
    let _ = io::stderr().write_all(&outcome.stderr);
    let written = io::stdout().write_all(&outcome.stdout).and_then(|()| io::stdout().flush());
    ExitCode::from(if written.is_err() { 1 } else { outcome.code })
}

/// Somebody who looks at the program from a terminal is not to wait for the end of his input.
fn reads_stdin(invocation: &Invocation) -> bool {
    match Environment(&invocation.environment).command() {
        Ok(Some(Command::Version)) => !io::stdin().is_terminal(),
        Ok(command) => command.is_some(),
        Err(_) => false,
    }
}

/// Does what is asked.
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

/// Every command but `VERSION`; `version` becomes the configuration's. The environment is looked at first, as libcni's
/// skel does.
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

/// What somebody sees who just starts the program; runtimes parse these two lines of the reference plugins.
fn about() -> Outcome {
    let supported = Version::supported().join(", ");
    let version = env!("CARGO_PKG_VERSION");
    let about = format!("CNI plugin netd-cni v{version}\nCNI protocol versions supported: {supported}\n");
    Outcome { stderr: about.into_bytes(), ..Outcome::default() }
}
