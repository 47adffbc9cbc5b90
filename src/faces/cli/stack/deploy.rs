//! `netd stack deploy`: makes what is missing, changes what is different, and says what it did.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::compose::{self, IMAGE, Kind, NAMESPACE, Network, Source, Variables};
use super::{has_tasks, networks, remove, same, services_of};
use crate::api::v1::{CreateService, Service, UpdateService};
use crate::faces::cli::Session;
use crate::faces::cli::args::DeployArgs;
use crate::faces::cli::engine::Engine;
use crate::faces::cli::output::Failure;
use crate::faces::shared::client::segment;

/// The file that stands for standard input.
const STANDARD: &str = "-";

pub(super) fn run(session: &mut Session<'_>, args: &DeployArgs, variables: Variables<'_>) -> Result<(), Failure> {
    let attempt = format!("deploy stack {}", args.name);
    let failed = |why: String| Failure::of(&attempt, why);
    if args.name.trim().is_empty() || args.name.contains(char::is_whitespace) {
        return Err(Failure::usage(&attempt, format!("invalid stack name: {:?}", args.name)));
    }
    let stack = read(args, variables).map_err(failed)?;
    for note in &stack.notes {
        // In Docker's words, which have no program's name in front.
        let _ = writeln!(session.err, "{note}\n");
    }
    let engine = Engine::new(session, &args.socket);
    let has_images = stack.services.iter().any(|service| matches!(service.kind, Kind::Tasks(_)));
    if has_images {
        engine.prepare().map_err(|refused| failed(refused.why))?;
    }
    // Networks that an engine has need its driver's part.
    let with_networks = (has_images || engine.is_there()).then_some(&engine);
    let known = services_of(session, &args.name).map_err(|error| failed(error.to_string()))?;
    if args.prune {
        let gone = known.iter().filter(|known| !stack.services.iter().any(|service| service.name == known.name));
        for service in gone {
            remove::service(session, &engine, service).map_err(failed)?;
        }
    }
    make_networks(session, with_networks.filter(|_| has_images), with_networks, &args.name, &stack.networks)
        .map_err(failed)?;
    for service in &stack.services {
        let known = known.iter().find(|known| known.name == service.name);
        if known.is_some_and(|known| has_tasks(known) != matches!(service.kind, Kind::Tasks(_))) {
            let why = format!(
                "service {} is there, of the other kind, with or without an image: remove it first",
                service.name
            );
            return Err(failed(why));
        }
        match (&service.kind, known) {
            (Kind::Tasks(spec), known) => with_tasks(session, &engine, spec, known).map_err(failed)?,
            (Kind::Select(wanted), known) => selecting(session, wanted, known).map_err(failed)?,
        }
    }
    Ok(())
}

fn read(args: &DeployArgs, variables: Variables<'_>) -> Result<compose::Stack, String> {
    let file = &args.compose_file;
    let is_standard = file.as_os_str() == STANDARD;
    let read = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    let text = if is_standard {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        read(file)
    };
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = text.map_err(|error| failed(&error))?;
    let folder = if is_standard { None } else { file.parent().map(Path::to_path_buf) };
    let directory = std::path::absolute(
        folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from(".")),
    );
    let directory = directory.map_err(|error| failed(&error))?;
    let source = Source { stack: &args.name, directory, variables, read: &read };
    compose::read(&text, &source).map_err(|why| failed(&why))
}

/// Makes the networks that are not there. `make`: by the Engine API. `look`: what else has networks.
fn make_networks(
    session: &mut Session<'_>,
    make: Option<&Engine>,
    look: Option<&Engine>,
    stack: &str,
    wanted: &[Network],
) -> Result<(), String> {
    let known = networks(session, look)?;
    for network in wanted {
        let name = &network.name;
        match known.iter().find(|(known, _)| known == name) {
            Some((_, labels)) if !network.external && labels[NAMESPACE] != stack => {
                return Err(format!(
                    "network {name} is there, and is not of this stack: declare it as external, or remove it"
                ));
            }
            Some(_) => continue,
            None if network.external => {
                return Err(format!(
                    "network {name:?} is declared as external, but could not be found: create it before the stack is deployed"
                ));
            }
            None => {}
        }
        writeln!(session.out, "Creating network {name}")
            .and_then(|()| session.out.flush())
            .map_err(|error| error.to_string())?;
        match (make, &network.driver) {
            (Some(engine), _) => {
                engine.post("/networks/create", &network.body).map(drop).map_err(|refused| refused.why)
            }
            (None, Some(driver)) => Err(format!("the driver of netd's networks is bridge, not {driver:?}")),
            (None, None) => session.client.tell("/v1/networks", &network.native).map_err(|error| error.to_string()),
        }
        .map_err(|why| format!("failed to create network {name}: {why}"))?;
    }
    Ok(())
}

fn say(session: &mut Session<'_>, line: &str) -> Result<(), String> {
    writeln!(session.out, "{line}").and_then(|()| session.out.flush()).map_err(|error| error.to_string())
}

fn with_tasks(session: &mut Session<'_>, engine: &Engine, spec: &Value, known: Option<&Service>) -> Result<(), String> {
    let name = spec["Name"].as_str().unwrap_or_default();
    let Some(known) = known else {
        say(session, &format!("Creating service {name}"))?;
        return engine
            .post("/services/create", spec)
            .map(drop)
            .map_err(|refused| format!("failed to create service {name}: {refused}"));
    };
    let failed = |refused: &dyn std::fmt::Display| format!("failed to update service {name}: {refused}");
    let shown = engine.service(&known.id).map_err(|refused| failed(&refused))?;
    let mut wanted = spec.clone();
    let (before, template) = (&shown["Spec"], &mut wanted["TaskTemplate"]);
    // The image may have been resolved meanwhile, and tasks may have been replaced by force: neither is undone.
    if before["Labels"][IMAGE] == spec["Labels"][IMAGE] && before["TaskTemplate"]["ContainerSpec"]["Image"].is_string()
    {
        template["ContainerSpec"]["Image"] = before["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    }
    template["ForceUpdate"] = before["TaskTemplate"]["ForceUpdate"].clone();
    let networks = engine.get("/networks").map_err(|refused| failed(&refused))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = networks
        .as_array()
        .into_iter()
        .flatten()
        .map(|network| (text(&network["Id"]), text(&network["Name"])))
        .collect();
    if same::tasks(before, &wanted, &names) {
        return say(session, &format!("service {name} is unchanged"));
    }
    say(session, &format!("Updating service {name} (id: {})", known.id))?;
    engine.update(&shown, &wanted).map_err(|refused| failed(&refused))
}

fn selecting(session: &mut Session<'_>, wanted: &CreateService, known: Option<&Service>) -> Result<(), String> {
    let name = &wanted.name;
    let Some(known) = known else {
        say(session, &format!("Creating service {name}"))?;
        return session
            .client
            .tell("/v1/services", wanted)
            .map_err(|error| format!("failed to create service {name}: {error}"));
    };
    if same::selecting(known, wanted) {
        return say(session, &format!("service {name} is unchanged"));
    }
    say(session, &format!("Updating service {name} (id: {})", known.id))?;
    let update = UpdateService {
        version: Some(known.version),
        networks: Some(wanted.networks.clone()),
        // Each network has its own names.
        aliases: Some(Vec::new()),
        select: Some(wanted.select.clone()),
        mode: wanted.mode,
        ports: Some(wanted.ports.clone()),
        labels: Some(wanted.labels.clone()),
        ..UpdateService::default()
    };
    let path = format!("/v1/services/{}", segment(&known.id));
    let updated = session.client.patch::<Service>(&path, &update).map(drop);
    updated.map_err(|error| format!("failed to update service {name}: {error}"))
}
