//! `--dry-run` of the changing verbs.

use super::Session;
use super::args::Format;
use super::output::{Failure, json};
use crate::api::v1::{PlanRequest, PlannedStep};

/// Prints the changes that the request would make, one per line. `attempt` begins the error message.
pub(super) fn show(
    session: &mut Session<'_>,
    attempt: &str,
    request: &PlanRequest,
    format: Format,
) -> Result<(), Failure> {
    let steps: Vec<PlannedStep> =
        session.client.post("/v1/plan", request).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &steps);
    }
    steps.iter().try_for_each(|step| Ok(writeln!(session.out, "{}", step.text)?))
}
