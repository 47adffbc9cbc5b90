//! `netd stack rm`: services first, then the networks that they were on.

use std::time::Duration;

use super::compose::NAMESPACE;
use super::{has_tasks, networks, services_of};
use crate::api::v1::Service;
use crate::base::deadline::Deadline;
use crate::faces::cli::Session;
use crate::faces::cli::engine::Engine;
use crate::faces::cli::output::Failure;
use crate::faces::shared::client::segment;

/// For how long a network is tried again while tasks leave it: longer than most are given to stop.
const LEAVING: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(250);

pub(super) fn run(session: &mut Session<'_>, engine: &Engine, names: &[String]) -> Result<(), Failure> {
    let mut failed = false;
    for name in names {
        let attempt = |why: String| Failure::of(format!("remove stack {name}"), why);
        let there = Some(engine).filter(|engine| engine.is_there());
        let services = services_of(session, name).map_err(|error| attempt(error.to_string()))?;
        let networks = networks(session, there).map_err(attempt)?;
        let networks: Vec<String> =
            networks.into_iter().filter(|(_, labels)| labels[NAMESPACE] == *name).map(|(name, _)| name).collect();
        if services.is_empty() && networks.is_empty() {
            // Docker's words, and no failure.
            let _ = writeln!(session.err, "Nothing found in stack: {name}");
            continue;
        }
        let mut wrong = Vec::new();
        for of_stack in &services {
            wrong.extend(service(session, engine, of_stack).err());
        }
        let had_tasks = services.iter().any(has_tasks);
        for of_stack in &networks {
            wrong.extend(network(session, there, of_stack, had_tasks).err());
        }
        for why in &wrong {
            session.complain(why);
        }
        if !wrong.is_empty() {
            failed = true;
            session.complain(&format!("Failed to remove some resources from stack: {name}"));
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// Removes one service of a stack.
pub(super) fn service(session: &mut Session<'_>, engine: &Engine, service: &Service) -> Result<(), String> {
    let (name, id) = (&service.name, segment(&service.id));
    say(session, &format!("Removing service {name}"))?;
    let removed = match has_tasks(service) {
        true => engine.delete(&format!("/services/{id}")).map_err(|refused| refused.why),
        false => session.client.delete(&format!("/v1/services/{id}")).map_err(|error| error.to_string()),
    };
    removed.map_err(|why| format!("Failed to remove service {name}: {why}"))
}

/// Removes one network, once the tasks that are being stopped have left it.
fn network(session: &mut Session<'_>, engine: Option<&Engine>, name: &str, had_tasks: bool) -> Result<(), String> {
    say(session, &format!("Removing network {name}"))?;
    let deadline = Deadline::after(LEAVING);
    loop {
        let removed = match engine {
            Some(engine) => engine.delete(&format!("/networks/{}", segment(name))).map_err(|refused| refused.why),
            None => {
                session.client.delete(&format!("/v1/networks/{}", segment(name))).map_err(|error| error.to_string())
            }
        };
        match removed {
            Err(why) if had_tasks && why.contains("active endpoints") && deadline.pause(AGAIN) => {}
            Err(why) => return Err(format!("Failed to remove network {name}: {why}")),
            Ok(()) => return Ok(()),
        }
    }
}

fn say(session: &mut Session<'_>, line: &str) -> Result<(), String> {
    writeln!(session.out, "{line}").and_then(|()| session.out.flush()).map_err(|error| error.to_string())
}
