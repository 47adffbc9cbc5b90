//! `netd stack`: compose files, without Docker's command line. Services with an image are the Engine API's; those without
//! one, and networks where there is no engine, are made by netd's own API.

mod compose;
mod deploy;
mod listing;
mod remove;
mod same;

pub(super) use compose::split;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Session;
use super::args::StackVerb;
use super::engine::Engine;
use super::output::Failure;
use crate::api::v1::{Network, Service};
use crate::faces::shared::client::ClientError;
use compose::{NAMESPACE, Variables};

/// The label by which the tasks of a service are its members.
pub(super) const TASKS: &str = "com.docker.swarm.service.name";

pub(super) fn run(session: &mut Session<'_>, verb: StackVerb, variables: Variables<'_>) -> Result<(), Failure> {
    match verb {
        StackVerb::Deploy(args) => deploy::run(session, &args, variables),
        StackVerb::Ls { output } => listing::stacks(session, &output),
        StackVerb::Ps { name, filter, socket, listed } => {
            let engine = Engine::new(session, &socket);
            listing::tasks(session, &engine, &name, &filter, &listed)
        }
        StackVerb::Services { name, filter, socket, listed } => {
            let engine = Engine::new(session, &socket);
            listing::services(session, &engine, &name, &filter, &listed)
        }
        StackVerb::Rm { names, socket } => {
            let engine = Engine::new(session, &socket);
            remove::run(session, &engine, &names)
        }
    }
}

/// Whether something with these labels is the stack's.
fn is_of(labels: &BTreeMap<String, String>, stack: &str) -> bool {
    labels.get(NAMESPACE).is_some_and(|of| of == stack)
}

/// The services of a stack, of both kinds.
fn services_of(session: &Session<'_>, stack: &str) -> Result<Vec<Service>, ClientError> {
    let mut services: Vec<Service> = session.client.get("/v1/services")?;
    services.retain(|service| is_of(&service.labels, stack));
    Ok(services)
}

/// Whether an engine makes its members.
pub(super) fn has_tasks(service: &Service) -> bool {
    service.select.contains_key(TASKS)
}

/// Name and labels of all networks.
fn networks(session: &Session<'_>, engine: Option<&Engine>) -> Result<Vec<(String, Value)>, String> {
    if let Some(engine) = engine {
        let listed = engine.get("/networks").map_err(|refused| refused.why)?;
        let named =
            |network: &Value| (network["Name"].as_str().unwrap_or_default().to_owned(), network["Labels"].clone());
        return Ok(listed.as_array().into_iter().flatten().map(named).collect());
    }
    let networks: Vec<Network> = session.client.get("/v1/networks").map_err(|error| error.to_string())?;
    Ok(networks.into_iter().map(|network| (network.name, serde_json::json!(network.labels))).collect())
}
