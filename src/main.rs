//! The `netd` program: arguments to the daemon, the configuration, a client verb, or the hidden child of `netd run`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use netd::app::Ended;
use netd::app::containers::HostContainers;
use netd::app::sandbox::Sandboxes;
use netd::app::teardown::Local;
use netd::base::telemetry;
use netd::faces::cli;
use netd::faces::cli::{Daemon, Host, Verb};
use netd::kernel::netns::sandbox;
use netd::os::sys;
use netd::{app, config, faces};

/// The exit code of a daemon after `netd teardown`; `dist/netd.service` does not restart it.
const TORN_DOWN: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some((verb, rest)) = args.get(1..).and_then(|args| args.split_first())
        && verb == sandbox::VERB
    {
        return become_command(rest);
    }
    let cli = match cli::parse(args) {
        Ok(cli) => cli,
        Err(misuse) => return misuse.report(),
    };
    let socket = cli.socket();
    match cli.verb {
        Verb::Daemon(verb) => daemon(&verb, cli.socket.as_deref()),
        Verb::Teardown(args) => {
            let remover = Local { args: &args.daemon, socket: cli.socket.as_deref() };
            cli::teardown(&args, socket, &remover)
        }
        Verb::Config(verb) => cli::finish(config::command(&verb, cli.socket.as_deref())),
        Verb::Client(verb) => {
            let host = Host { sandbox: &Sandboxes, containers: &HostContainers, variables: &config::variable };
            cli::run(verb, socket, host, sys::terminal_width(std::io::stdout()))
        }
    }
}

fn daemon(verb: &Daemon, socket: Option<&Path>) -> ExitCode {
    let journal = telemetry::is_journal(config::journal_stream().as_deref());
    let run = || {
        let config = config::load(&verb.config, socket).map_err(|error| error.to_string())?;
        telemetry::start(&config.log, faces::dns::LOG_DIRECTIVES, journal)?;
        app::daemon(&config, verb.rebuild).map_err(|error| error.to_string())
    };
    match run() {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::TornDown) => ExitCode::from(TORN_DOWN),
        Err(error) if journal => {
            // Nothing was logged yet where the configuration is wrong.
            let _ = telemetry::start(telemetry::DEFAULT, faces::dns::LOG_DIRECTIVES, journal);
            tracing::error!("netd: {error}");
            ExitCode::FAILURE
        }
        Err(error) => cli::finish(Err(error)),
    }
}

/// Returns only when the command could not be started.
fn become_command(args: &[OsString]) -> ExitCode {
    match sandbox::child(args) {
        Ok(never) => match never {},
        Err(failure) => match failure.message {
            Some(message) => {
                cli::finish(Err(message));
                ExitCode::from(failure.code)
            }
            None => ExitCode::from(failure.code),
        },
    }
}
