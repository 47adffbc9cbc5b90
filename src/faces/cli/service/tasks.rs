//! `netd service scale` and `netd service logs`, which are about the containers that a service starts itself, its tasks.
//! The services of this netd have none: it looks whether there is such a service, and says so.

use super::path;
use crate::api::v1::Service;
use crate::faces::cli::Session;
use crate::faces::cli::output::Failure;

pub(super) fn scale(session: &mut Session<'_>, to: &[(String, u32)]) -> Result<(), Failure> {
    to.iter().try_for_each(|(name, count)| {
        let what = "start or stop containers with their labels, or list them with `netd service update --member-add`";
        without_tasks(session, &format!("scale service {name} to {count}"), name, what)
    })
}

pub(super) fn logs(session: &mut Session<'_>, name: &str) -> Result<(), Failure> {
    let what = "ask their engine for the logs of its members (`netd service ps`)";
    without_tasks(session, &format!("show the logs of service {name}"), name, what)
}

fn without_tasks(session: &mut Session<'_>, attempt: &str, name: &str, instead: &str) -> Result<(), Failure> {
    let service: Service = session.client.get(&path(name)).map_err(|error| Failure::of(attempt, error))?;
    let why = format!("service {} has no tasks, because netd does not start its containers: {instead}", service.name);
    Err(Failure::of(attempt, why))
}
