//! `netd egress`.

use std::collections::BTreeSet;

use super::Session;
use super::args::{EgressVerb, Format};
use super::output::{Failure, json};
use super::table::table;
use crate::api::v1::EgressLine;
use crate::faces::shared::client::segment;

pub(super) fn run(session: &mut Session<'_>, verb: EgressVerb) -> Result<(), Failure> {
    match verb {
        EgressVerb::Log { container, as_allow, format } => log(session, &container, as_allow, format),
    }
}

fn log(session: &mut Session<'_>, container: &str, as_allow: bool, format: Format) -> Result<(), Failure> {
    let attempt = format!("show the egress of {container}");
    let path = format!("/v1/egress/{}/log", segment(container));
    let lines: Vec<EgressLine> = session.client.get(&path).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &lines);
    }
    if as_allow {
        let allowances: BTreeSet<String> = lines.iter().filter_map(EgressLine::as_allowance).collect();
        return allowances.iter().try_for_each(|allowance| Ok(writeln!(session.out, "{allowance}")?));
    }
    let row = |line: EgressLine| {
        let EgressLine { verdict, name, kind, to, service, count, last, .. } = line;
        let what = kind.or(service).unwrap_or_default();
        [verdict, name.unwrap_or_default(), what, to.unwrap_or_default(), count.to_string(), last]
    };
    table(session, ["VERDICT", "NAME", "WHAT", "TO", "COUNT", "LAST"], lines.into_iter().map(row))
}
