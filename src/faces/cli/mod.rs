//! The command line: parses arguments, sends requests to the daemon over its socket, and prints tables or JSON.
//!
//! Exit status: 0 success (also if the reader of the output has gone), 1 refused or failed, 2 wrong usage. Every error
//! is one line on stderr: `netd: what was attempted, on what, why, and what to check`.

mod args;
mod backup;
mod container;
mod dns;
mod egress;
mod engine;
mod filter;
mod format;
mod generate;
mod hook;
mod listing;
mod misuse;
mod network;
mod output;
mod plan;
mod policy;
mod port;
mod reservation;
mod run;
mod service;
mod stack;
mod stacked;
mod state;
mod table;
mod teardown;
mod ways;

use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

pub use args::{
    BackupArgs, ChangePortArgs, Cli, ClientVerb, ConfigVerb, ConnectArgs, CreateArgs, CreateServiceArgs,
    DEFAULT_SOCKET, Daemon, DaemonArgs, DeployArgs, DnsVerb, EndpointArgs, EngineSocket, Format, Inspected, Listed,
    LogVerb, MemberArgs, NetworkVerb, Output, PortArgs, PortVerb, ReservationVerb, ReserveArgs, RestoreArgs, RunArgs,
    ServiceArgs, ServiceVerb, StackVerb, TaskArgs, TeardownArgs, UpdateServiceArgs, Verb,
};
pub use filter::{BadFilter, Filter};
pub use format::{BadTemplate, Spec};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use hook::fuzz as fuzz_hook;
pub use hook::{Containers, Prepared};
pub use misuse::Misuse;
pub use run::{Running, Sandbox};
pub use teardown::Remover;

use super::shared::client::Client;
use output::Failure;

/// Parses the arguments. The first is the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Misuse> {
    let args: Vec<OsString> = args.into_iter().collect();
    Cli::try_parse_from(&args).map_err(|error| Misuse::new(&error, &args))
}

/// Carries out a verb with the daemon at `socket`, and with what `host` provides. `width` is that of the terminal, if
/// stdout is one.
pub fn run(verb: ClientVerb, socket: PathBuf, host: Host<'_>, width: Option<usize>) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut session = Session { client: Client::new(socket), width, out: &mut out, err: &mut io::stderr() };
    ExitCode::from(run_in(verb, &mut session, host))
}

/// Carries out `netd teardown` with the daemon at `socket`, or with `remover` if none runs.
pub fn teardown(args: &TeardownArgs, socket: PathBuf, remover: &dyn Remover) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut session = Session { client: Client::new(socket), width: None, out: &mut out, err: &mut io::stderr() };
    let mut stdin = io::stdin().lock();
    let terminal = stdin.is_terminal().then_some(&mut stdin as &mut dyn BufRead);
    let done = teardown::teardown(&mut session, args, remover, terminal);
    let flushed = session.out.flush().map_err(Failure::from);
    ExitCode::from(exit(done.and(flushed).map(|()| 0), session.err))
}

/// Finishes a verb that is carried out elsewhere: the text goes to stdout or, as a one-line error, to stderr.
pub fn finish(outcome: Result<String, String>) -> ExitCode {
    let written = outcome.map_err(Failure::Failed).and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?));
    ExitCode::from(exit(written.map(|()| 0), &mut io::stderr()))
}

/// What some verbs do on this host besides asking the daemon.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Where `netd run` starts its command.
    pub sandbox: &'a dyn Sandbox,
    /// The containers of `netd hook`.
    pub containers: &'a dyn Containers,
    /// The environment that compose files refer to.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

/// What a verb works with.
struct Session<'a> {
    client: Client,
    /// The columns of the terminal, if `out` is one.
    width: Option<usize>,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Session<'_> {
    /// Reports a failure that does not end the verb.
    fn complain(&mut self, line: &str) {
        say(self.err, line);
    }

    /// Prints a note that is not part of the verb's output.
    fn note(&mut self, line: &str) {
        say(self.err, line);
    }
}

fn say(err: &mut dyn Write, line: &str) {
    // Ignore the error: there is no other place to report it.
    let _ = writeln!(err, "netd: {line}");
}

fn run_in(verb: ClientVerb, session: &mut Session<'_>, host: Host<'_>) -> u8 {
    let done = carry_out(verb, session, host);
    let flushed = session.out.flush().map_err(Failure::from);
    exit(done.and_then(|code| flushed.map(|()| code)), session.err)
}

fn exit(outcome: Result<u8, Failure>, err: &mut dyn Write) -> u8 {
    match outcome {
        Ok(code) => code,
        Err(Failure::ClosedPipe) => 0,
        Err(Failure::Told) => 1,
        Err(Failure::Failed(why)) => {
            say(err, &why);
            1
        }
        Err(Failure::Usage(why)) => {
            say(err, &why);
            2
        }
    }
}

fn carry_out(verb: ClientVerb, session: &mut Session<'_>, host: Host<'_>) -> Result<u8, Failure> {
    match verb {
        ClientVerb::Run(args) => return run::run(session, host.sandbox, *args),
        ClientVerb::Status { wait, format } => state::status(session, wait, format),
        ClientVerb::Network(verb) => network::run(session, verb),
        ClientVerb::Connect(args) => container::connect(session, *args),
        ClientVerb::Disconnect { network, container, keep, dry_run } => {
            container::disconnect(session, (network, container), keep, dry_run)
        }
        ClientVerb::Reservation(verb) => reservation::run(session, verb),
        ClientVerb::Service(verb) => service::run(session, verb),
        ClientVerb::Policy(verb) => policy::run(session, verb),
        ClientVerb::Egress(verb) => egress::run(session, verb),
        ClientVerb::Stack(verb) => stack::run(session, verb, host.variables),
        ClientVerb::Ps { filter, listed } => container::ps(session, &filter, &listed),
        ClientVerb::Port(args) => port::run(session, args),
        ClientVerb::Inspect { names, output } => container::inspect(session, names, &output),
        ClientVerb::Resolve { name, kind, from, format } => {
            dns::resolve(session, &name, kind.as_deref(), from.as_deref(), format)
        }
        ClientVerb::Dns(verb) => dns::run(session, verb),
        ClientVerb::Events { filter, json, format } => state::events(session, filter, json, format.as_ref()),
        ClientVerb::Diff { format } => state::diff(session, format),
        ClientVerb::Dump { format } => state::dump(session, format),
        ClientVerb::Backup(args) => backup::back_up(session, &args),
        ClientVerb::Restore(args) => backup::restore(session, &args),
        ClientVerb::Hook => hook::run(session, host.containers, io::stdin().lock()),
        ClientVerb::Version { format } => state::version(session, format),
        ClientVerb::Completions { shell } => generate::completions(session, shell),
        ClientVerb::Man { directory } => generate::man(&directory),
    }
    .map(|()| 0)
}

#[cfg(test)]
mod tests;
