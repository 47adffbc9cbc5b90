//! `--dry-run` of the changing verbs.

use super::Session;
use super::args::Format;
use super::output::{Failure, json};
use crate::api::v1::{PlanRequest, PlannedStep};
use crate::faces::shared::client::ClientError;

/// Prints the changes that the request would make, one per line. `attempt` begins the error message.
pub(super) fn show(
    session: &mut Session<'_>,
    attempt: &str,
    request: &PlanRequest,
    format: Format,
) -> Result<(), Failure> {
    let steps = steps(session, request).map_err(|error| Failure::of(attempt, error))?;
    if format.json {
        return json(session.out, &steps);
    }
    Ok(write!(session.out, "{}", lines(&steps))?)
}

/// The changes that the request would make.
pub(super) fn steps(session: &mut Session<'_>, request: &PlanRequest) -> Result<Vec<PlannedStep>, ClientError> {
    session.client.post("/v1/plan", request)
}

/// The changes, one per line.
pub(super) fn lines(steps: &[PlannedStep]) -> String {
    steps.iter().map(|step| format!("{}\n", step.text)).collect()
}
