//! The program `netd-netavark`: takes the place of Podman's netavark, or is a plugin of it, and translates both to
//! attachments of the daemon. The daemon does all the work; the program blocks, and needs no async runtime.
//!
//! # As netavark
//!
//! ```text
//! setup NETNS          the container gets all of its networks, or none; prints a status for each
//! teardown NETNS       it loses them; NETNS may be gone. SIGTERM and SIGINT are ignored
//! update NETWORK --network-dns-servers A,B    changes who is asked for external names
//! create               completes the definition of a new network
//! version, info        who this is
//! firewalld-reload, firewall-reload           nothing: netd repairs its firewall table itself
//! -f, --file FILE      the input, instead of standard input
//! --rootless true      becomes Podman's own netavark
//! --config, --aardvark-binary, --plugin-directory, --firewall-driver      ignored
//! ```
//!
//! As a plugin (the file is called `netd`): `create`, `setup`, `teardown`, `info`, with a plugin's input for one network.
//!
//! # Decisions
//!
//! - Podman's definition of a network comes with each container. netd makes the network on demand, with the definition's
//!   name, bridge, subnets and gateways, and removes it with the last container, as netavark does with its bridge: nothing
//!   is left of a network that Podman has removed, because netd is not told of that.
//! - Podman gives the addresses. A network of the driver `netd` without `--subnet` gets them from netd.
//! - Name servers and search domains are netd's, where Podman enables names (`dns_enabled`).
//! - Ports are passed for each network, as netavark gets them; netd does not hold them, because Podman does.
//! - What the definition asks for and netd cannot do is refused with the name of the option. What the daemon does not take
//!   as a name (an alias with a blank) is left out, with a line on standard error.
//! - An error is `{"error":"…"}` on standard output, in one line, and the exit code 1.

mod arguments;
mod call;
mod commands;
mod create;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod input;
mod plugin;
mod request;
mod status;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arguments::{Arguments, Command};
use failure::Failure;

/// The longest input, in bytes; the daemon takes less.
const INPUT_MAX: u64 = 4 << 20;
/// The daemon's socket, unless the environment names another.
const SOCKET: &str = "/run/netd/netd.sock";
/// Where Podman's own netavark is (containers-common, `helper_binaries_dir`).
const FOLDERS: &str = "/usr/local/libexec/podman:/usr/local/lib/podman:/usr/libexec/podman:/usr/lib/podman";

/// The network that netd makes for Podman's definition, as Podman's own API shows it (`GET /libpod/networks/NAME/json`).
pub(in crate::faces) fn definition(defined: serde_json::Value) -> Result<crate::api::v1::CreateNetwork, String> {
    let network: input::Network = serde_json::from_value(defined).map_err(|error| error.to_string())?;
    request::defined(&network).map_err(|failure| failure.0)
}

/// How the program was called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// All environment variables.
    pub environment: Vec<(OsString, OsString)>,
}

/// The output of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The result or the error.
    pub stdout: Vec<u8>,
    /// Messages for people.
    pub stderr: Vec<u8>,
    /// The exit code: 0 or 1.
    pub code: u8,
}

/// What the program needs of the host besides the daemon.
pub trait Host {
    /// The names of all interfaces of the host.
    fn interfaces(&self) -> Vec<String>;
    /// From now on SIGTERM and SIGINT are ignored.
    fn ignore_interrupts(&self);
    /// Whether both paths are the same file, or the first is this program.
    fn is_this_program(&self, file: &Path) -> bool;
    /// Finds the first program of that name in a list of folders separated by `:`.
    fn find(&self, name: &str, path: &OsStr) -> Option<PathBuf>;
    /// Becomes the program. Returns only if that fails.
    fn become_program(&self, program: &Path, arguments: &[OsString]) -> io::Error;
}

/// The whole program.
pub fn main(invocation: &Invocation, host: &dyn Host) -> ExitCode {
    let outcome = run(invocation, host, |file| match file {
        None => whole(io::stdin()),
        Some(file) => std::fs::File::open(file).and_then(whole),
    });
    // Ignore the error: a Podman that has gone does not need the rest.
    let _ = io::stderr().write_all(&outcome.stderr);
    let written = io::stdout().write_all(&outcome.stdout).and_then(|()| io::stdout().flush());
    ExitCode::from(if written.is_err() { 1 } else { outcome.code })
}

/// Reads the whole input.
fn whole(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(INPUT_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > INPUT_MAX {
        return Err(io::Error::other(format!("it has more than {} MiB", INPUT_MAX >> 20)));
    }
    Ok(bytes)
}

/// Carries out the command. `input`: reads the file, or standard input.
pub fn run(invocation: &Invocation, host: &dyn Host, input: impl Fn(Option<&Path>) -> io::Result<Vec<u8>>) -> Outcome {
    let mut stderr = Vec::new();
    match perform(invocation, host, input, &mut stderr) {
        Ok(text) if text.is_empty() => Outcome { stdout: Vec::new(), stderr, code: 0 },
        Ok(text) => Outcome { stdout: format!("{text}\n").into_bytes(), stderr, code: 0 },
        Err(failure) => Outcome { stdout: format!("{}\n", failure.json()).into_bytes(), stderr, code: 1 },
    }
}

fn perform(
    invocation: &Invocation,
    host: &dyn Host,
    input: impl Fn(Option<&Path>) -> io::Result<Vec<u8>>,
    stderr: &mut Vec<u8>,
) -> Result<String, Failure> {
    let Arguments { command, file, rootless } = arguments::parse(&invocation.arguments)?;
    if rootless && command != Command::Name {
        return Err(hand_over(invocation, host));
    }
    let read = || {
        let name = file.as_ref().map_or("standard input".into(), |file| file.display().to_string());
        input(file.as_deref()).map_err(|error| Failure(format!("read {name}: {error}")))
    };
    let call = call::Call { socket: socket(invocation), host };
    match command {
        Command::Setup { netns } => {
            let (status, left_out) = call.setup(&netns, &read()?)?;
            for line in left_out {
                stderr.extend_from_slice(format!("netd-netavark: left out: {line}\n").as_bytes());
            }
            Ok(status)
        }
        Command::Teardown { .. } => {
            host.ignore_interrupts();
            call.teardown(&read()?).map(|()| String::new())
        }
        Command::Update { network, servers } => call.update(&network, &servers).map(|()| String::new()),
        Command::Create => call.create(&read()?),
        Command::Version => Ok(commands::version()),
        Command::Name => Ok(format!("netd-netavark {}", env!("CARGO_PKG_VERSION"))),
        Command::Info => Ok(plugin::info()),
        Command::Reload => Ok(String::new()),
    }
}

fn socket(invocation: &Invocation) -> PathBuf {
    let named = invocation.environment.iter().find(|(name, value)| name == "NETD_SOCKET" && !value.is_empty());
    named.map_or_else(|| SOCKET.into(), |(_, value)| value.into())
}

/// Podman without root has its bridges in a network namespace of its own, which the daemon cannot reach.
fn hand_over(invocation: &Invocation, host: &dyn Host) -> Failure {
    let found: Vec<PathBuf> =
        FOLDERS.split(':').filter_map(|folder| host.find("netavark", OsStr::new(folder))).collect();
    // Behind this program, so that two copies of it do not start each other for ever.
    let behind = found.iter().rposition(|file| host.is_this_program(file)).map_or(0, |own| own + 1);
    let Some(program) = found.into_iter().nth(behind) else {
        return Failure(format!(
            "netd is for Podman as root, and Podman's own netavark, which this user needs, is in none of {FOLDERS}: install it"
        ));
    };
    let error = host.become_program(&program, &invocation.arguments);
    Failure(format!("start {}: {error}", program.display()))
}
