//! The daemon's own state: `status`, `diff`, `events`, `dump`, `version`.

use std::time::Duration;

use super::Session;
use super::args::Format;
use super::filter::Filter;
use super::format::Spec;
use super::output::{Failure, json, objects};
use super::{filter, listing};
use crate::api::v1::{Difference, Dump, Event, Status, Version};
use crate::base::deadline::Deadline;

/// The polling interval while the daemon is not ready. It is short compared to its start of about ten milliseconds.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How long the daemon may take to report its status, which it only has to read.
const AT_ONCE: Duration = Duration::from_secs(2);

pub(super) fn status(session: &mut Session<'_>, wait: Option<u32>, format: Format) -> Result<(), Failure> {
    let attempt = "get the daemon's status";
    let deadline = Deadline::after(Duration::from_secs(wait.unwrap_or(0).into()));
    let status = loop {
        // The rest of the wait, but at least [`AT_ONCE`]: a daemon that hangs must not prolong the wait much.
        let patience = deadline.remaining().unwrap_or(AT_ONCE).max(AT_ONCE);
        let reply = session.client.with_patience(patience).get::<Status>("/v1/status");
        if reply.as_ref().is_ok_and(|status| status.ready) || !deadline.pause(ASK_AGAIN) {
            break reply.map_err(|error| Failure::of(attempt, error))?;
        }
    };
    if format.json {
        json(session.out, &status)?;
    } else {
        objects(session.out, std::slice::from_ref(&status))?;
    }
    if status.ready {
        return Ok(());
    }
    let how = if wait.is_some() { "still not ready" } else { "not ready yet, use `netd status --wait 10` to wait" };
    let socket = session.client.socket().display();
    Err(Failure::of(attempt, format!("the daemon at {socket} is {how}: see its log")))
}

pub(super) fn events(
    session: &mut Session<'_>,
    filters: Vec<Filter>,
    Format { json }: Format,
    format: Option<&Spec>,
) -> Result<(), Failure> {
    let attempt = "follow the daemon's events";
    let failed = |error| Failure::of(attempt, error);
    let format = format.filter(|format| !format.is_default());
    let read = |line: &str| serde_json::from_str::<Event>(line).map_err(|error| Failure::of(attempt, error));
    let unfiltered = filters.is_empty();
    let lines = session.client.lines("/v1/events").map_err(failed)?;
    let fits = filter::events(session, filters).map_err(failed)?;
    for line in lines {
        let line = line.map_err(failed)?;
        if !unfiltered && !fits(&read(&line)?) {
            continue;
        }
        match format {
            _ if json => writeln!(session.out, "{line}")?,
            Some(format) => {
                let object = serde_json::from_str(&line).map_err(|error| Failure::of(attempt, error))?;
                listing::line::<Event>(session, attempt, format, &object)?;
            }
            None => {
                let event = read(&line)?;
                writeln!(session.out, "{}  {:14}  {}", event.time, event.kind.as_str(), event.message)?;
            }
        }
        session.out.flush()?;
    }
    Ok(())
}

/// Fails if there is a difference, as diff(1) does.
pub(super) fn diff(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let attempt = "compare what netd made with what is there";
    let found: Vec<Difference> = session.client.get("/v1/diff").map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        json(session.out, &found)?;
    } else {
        for Difference { object, text, .. } in &found {
            writeln!(session.out, "{object}: {text}")?;
        }
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

pub(super) fn dump(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let dump: Dump = session.client.get("/v1/dump").map_err(|error| Failure::of("dump the state", error))?;
    if format.json { json(session.out, &dump) } else { objects(session.out, &[dump]) }
}

pub(super) fn version(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let daemon = session.client.with_patience(AT_ONCE).get::<Status>("/v1/status").ok().map(|status| status.version);
    let version = Version { version: env!("CARGO_PKG_VERSION").into(), daemon, api: "v1".into() };
    if format.json {
        return json(session.out, &version);
    }
    writeln!(session.out, "netd {}", version.version)?;
    match version.daemon {
        Some(daemon) => writeln!(session.out, "daemon {daemon}")?,
        None => writeln!(session.out, "daemon not reached at {}", session.client.socket().display())?,
    }
    Ok(())
}
