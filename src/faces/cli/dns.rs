//! The name service: `resolve` and `dns log`.

use serde_json::json as object;

use super::Session;
use super::args::{DnsVerb, Format, LogVerb};
use super::output::{Failure, json};
use super::table::table;
use crate::api::v1;
use crate::api::v1::{LoggedContainer, LoggedQuery, Resolved};
use crate::faces::shared::client::segment;

pub(super) fn resolve(
    session: &mut Session<'_>,
    name: &str,
    kind: Option<&str>,
    from: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let attempt = format!("resolve {name}");
    v1::record(name, kind).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    let mut path = format!("/v1/resolve?name={}", segment(name));
    for (key, value) in [("type", kind), ("from", from)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={}", segment(value)));
        }
    }
    let resolved: Resolved = session.client.get(&path).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &resolved);
    }
    let Resolved { name, kind, status, answers, explanation, .. } = resolved;
    let answers = if answers.is_empty() { vec![String::new()] } else { answers };
    let rows = answers.into_iter().map(|answer| [name.clone(), kind.clone(), status.clone(), answer]);
    table(session, ["NAME", "TYPE", "STATUS", "ANSWER"], rows)?;
    writeln!(session.out)?;
    for line in explanation {
        writeln!(session.out, "{line}")?;
    }
    Ok(())
}

pub(super) fn run(session: &mut Session<'_>, verb: DnsVerb) -> Result<(), Failure> {
    let DnsVerb::Log(verb) = verb;
    match verb {
        LogVerb::On { container } => switch_on(session, &container),
        LogVerb::Off { container } => switch_off(session, &container),
        LogVerb::Ls { format } => list(session, format),
        LogVerb::Show { container, follow: true, format } => follow(session, &container, format),
        LogVerb::Show { container, follow: false, format } => show(session, &container, format),
    }
}

fn path(container: &str) -> String {
    format!("/v1/dns/log/{}", segment(container))
}

fn switch_on(session: &mut Session<'_>, container: &str) -> Result<(), Failure> {
    let attempt = format!("log the queries of {container}");
    let logged: LoggedContainer =
        session.client.put(&path(container), &object!({})).map_err(|error| Failure::of(attempt, error))?;
    let name = logged.container.name;
    Ok(writeln!(session.out, "queries of {name} are logged: see `netd dns log show {name}`")?)
}

fn switch_off(session: &mut Session<'_>, container: &str) -> Result<(), Failure> {
    let attempt = format!("stop logging the queries of {container}");
    session.client.delete(&path(container)).map_err(|error| Failure::of(attempt, error))?;
    Ok(writeln!(session.out, "queries of {container} are not logged")?)
}

fn list(session: &mut Session<'_>, format: Format) -> Result<(), Failure> {
    let attempt = "list the logged containers";
    let logs: Vec<LoggedContainer> = session.client.get("/v1/dns/log").map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &logs);
    }
    let row = |log: LoggedContainer| [log.container.name, log.since, log.entries.to_string(), log.dropped.to_string()];
    table(session, ["CONTAINER", "SINCE", "ENTRIES", "DROPPED"], logs.into_iter().map(row))
}

fn show(session: &mut Session<'_>, container: &str, format: Format) -> Result<(), Failure> {
    let attempt = format!("show the queries of {container}");
    let entries: Vec<LoggedQuery> =
        session.client.get(&path(container)).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &entries);
    }
    entries.iter().try_for_each(|entry| print(session, entry))
}

fn follow(session: &mut Session<'_>, container: &str, format: Format) -> Result<(), Failure> {
    let attempt = format!("follow the queries of {container}");
    let lines = session.client.lines(&format!("{}?follow=true", path(container)));
    for line in lines.map_err(|error| Failure::of(&attempt, error))? {
        let line = line.map_err(|error| Failure::of(&attempt, error))?;
        if format.json {
            writeln!(session.out, "{line}")?;
        } else {
            let entry = serde_json::from_str(&line).map_err(|error| Failure::of(&attempt, error))?;
            print(session, &entry)?;
        }
        session.out.flush()?;
    }
    Ok(())
}

/// Prints an entry as one line, and the number of entries that were lost before it as another.
fn print(session: &mut Session<'_>, entry: &LoggedQuery) -> Result<(), Failure> {
    if entry.dropped_before > 0 {
        writeln!(session.out, "… {} entries dropped", entry.dropped_before)?;
    }
    let source = entry.server.as_ref().map_or(entry.source.clone(), |server| format!("{} {server}", entry.source));
    let more = match entry.answer_count.saturating_sub(entry.answers.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let answers = if entry.answers.is_empty() { "-".to_owned() } else { entry.answers.join(", ") + &more };
    let LoggedQuery { time, transport, name, kind, rcode, duration_us, .. } = entry;
    Ok(writeln!(session.out, "{time}  {transport}  {name} {kind}  {rcode}  {answers}  ({source}, {duration_us} us)")?)
}
