//! The CNI plugin `netd-cni`: translates what container runtimes ask (CNI spec 1.1.0) to the daemon's attachments.

mod add;
mod configuration;
mod environment;
mod failure;
mod fields;
mod ipam;
mod request;
mod resolver;
mod result;
mod verbs;
mod version;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use configuration::Configuration;
use environment::{Command, Environment};
use failure::{Failure, IO};
use version::Version;

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
    let document = configuration::document(&call.invocation.stdin)?;
    *version = configuration::version_of(&document);
    let conf = Configuration::read(&document)?;
    match (command, target) {
        (Command::Add, Some(target)) => return add::add(call, &conf, &target).map(Some),
        (Command::Check, Some(target)) => {
            conf.since(Version::V0_4_0, "CHECK")?;
            verbs::check(call, &conf, &target)?;
        }
        (_, Some(target)) => verbs::del(call, &conf, &target)?,
        (Command::Gc, None) => {
            conf.since(Version::V1_1_0, "GC")?;
            verbs::gc(call, &conf)?;
        }
        (_, None) => {
            conf.since(Version::V1_1_0, "STATUS")?;
            verbs::status(call, &conf)?;
        }
    }
    Ok(None)
}

fn failed(failure: &Failure, version: Version, stderr: Vec<u8>) -> Outcome {
    Outcome { stdout: text(&failure.json(version)), stderr, code: 1 }
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
