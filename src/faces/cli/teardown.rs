//! `netd teardown`: removes everything that netd made, through the daemon, or without it if none runs.

use std::io::{self, BufRead};

use super::Session;
use super::args::TeardownArgs;
use super::output::{Failure, json};
use super::plan::lines;
use crate::api::v1::{PlannedStep, Teardown};
use crate::faces::shared::client::ClientError;

const ATTEMPT: &str = "tear down netd";

/// Removes everything when no daemon runs.
pub trait Remover {
    /// Removes everything, and returns what it was; with `dry_run`, only returns it. The error is one line.
    fn teardown(&self, dry_run: bool) -> Result<Vec<PlannedStep>, String>;
}

/// `terminal`: where a person answers, if there is one.
pub(super) fn teardown(
    session: &mut Session<'_>,
    args: &TeardownArgs,
    remover: &dyn Remover,
    terminal: Option<&mut dyn BufRead>,
) -> Result<(), Failure> {
    let (dry_run, json_wanted) = (args.dry_run.dry_run, args.format.json);
    if !args.yes && !dry_run && terminal.is_none() {
        return Err(Failure::usage(ATTEMPT, "it removes all of netd's networks: confirm it with --yes"));
    }
    let standing = remove(session, remover, true)?;
    if dry_run {
        return if json_wanted {
            json(session.out, &standing)
        } else {
            Ok(write!(session.out, "{}", lines(&standing))?)
        };
    }
    if let (Some(terminal), false, false) = (terminal, args.yes, standing.is_empty()) {
        write!(session.err, "{}netd: remove all of this? [y/N] ", lines(&standing))?;
        let mut answer = String::new();
        terminal.read_line(&mut answer)?;
        if !["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
            return Err(Failure::of(ATTEMPT, "not confirmed: nothing was removed"));
        }
    }
    let removed = if standing.is_empty() { standing } else { remove(session, remover, false)? };
    if json_wanted {
        return json(session.out, &removed);
    }
    match removed.len() {
        0 => writeln!(session.out, "netd has made nothing here")?,
        count => writeln!(session.out, "{}{count} objects removed", lines(&removed))?,
    }
    Ok(())
}

fn remove(session: &Session<'_>, remover: &dyn Remover, dry_run: bool) -> Result<Vec<PlannedStep>, Failure> {
    let no_daemon =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
    match session.client.post("/v1/teardown", &Teardown { dry_run }) {
        Err(ClientError::Connect { source, .. }) if no_daemon(&source) => {
            remover.teardown(dry_run).map_err(|why| Failure::of(ATTEMPT, why))
        }
        outcome => outcome.map_err(|error| Failure::of(ATTEMPT, error)),
    }
}
