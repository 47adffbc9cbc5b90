//! The verbs of `netd service` that are about tasks: containers that the engine makes for a service.

use super::{path, spec};
use crate::api::v1::Service;
use crate::faces::cli::Session;
use crate::faces::cli::args::{CreateServiceArgs, UpdateServiceArgs};
use crate::faces::cli::engine::Engine;
use crate::faces::cli::output::{Failure, json};
use crate::faces::cli::stack::has_tasks;

/// Changes the numbers of tasks; reports each failure.
pub(super) fn scale(session: &mut Session<'_>, engine: &Engine, to: &[(String, u32)]) -> Result<(), Failure> {
    for (name, count) in to {
        let attempt = format!("scale service {name} to {count}");
        let what = "start or stop containers with their labels, or list them with `netd service update --member-add`";
        expect(session, &attempt, name, what)?;
        let failed = |why: String| Failure::of(&attempt, why);
        let service = engine.service(name).map_err(|refused| failed(refused.why))?;
        let mut wanted = service["Spec"].clone();
        spec::scale(&mut wanted, *count).map_err(failed)?;
        engine.update(&service, &wanted).map_err(|refused| failed(refused.why))?;
        writeln!(session.out, "{name} scaled to {count}")?;
    }
    Ok(())
}

/// Refuses a service that has no tasks.
pub(super) fn expect(session: &Session<'_>, attempt: &str, name: &str, instead: &str) -> Result<(), Failure> {
    let service: Service = session.client.get(&path(name)).map_err(|error| Failure::of(attempt, error))?;
    if has_tasks(&service) {
        return Ok(());
    }
    let why = format!("service {} has no tasks, because netd does not start its containers: {instead}", service.name);
    Err(Failure::of(attempt, why))
}

pub(super) fn create(session: &mut Session<'_>, attempt: &str, args: &CreateServiceArgs) -> Result<(), Failure> {
    let failed = |why: String| Failure::of(attempt, why);
    let wanted = spec::create(args).map_err(|why| Failure::usage(attempt, why))?;
    if args.dry_run.dry_run {
        return Err(Failure::usage(attempt, "--dry-run shows nothing of what an engine does: leave out one of them"));
    }
    let engine = Engine::new(session, &args.tasks.socket);
    engine.prepare().map_err(|refused| failed(refused.why))?;
    engine.post("/services/create", &wanted).map_err(|refused| failed(refused.why))?;
    show(session, attempt, &args.name, args.format.json)
}

pub(super) fn update(session: &mut Session<'_>, attempt: &str, args: &UpdateServiceArgs) -> Result<(), Failure> {
    let failed = |why: String| Failure::of(attempt, why);
    let networking = spec::without_meaning(&args.options).is_some()
        || args.options.mode.is_some()
        || !(args.options.ports.is_empty() && args.options.label.is_empty() && args.options.aliases.is_empty())
        || !(args.networks.is_empty() && args.publish_add.is_empty() && args.publish_rm.is_empty())
        || !(args.member_add.is_empty() && args.member_rm.is_empty());
    if networking || args.dry_run.dry_run {
        let why = "options of tasks go with none of networking and not with --dry-run: use two commands";
        return Err(Failure::usage(attempt, why));
    }
    if args.rollback && args.tasks.are_given() {
        return Err(Failure::usage(attempt, "--rollback goes with no other change"));
    }
    expect(session, attempt, &args.name, "change the containers at their engine")?;
    let engine = Engine::new(session, &args.tasks.socket);
    let mut service = engine.service(&args.name).map_err(|refused| failed(refused.why))?;
    if let Some(version) = args.if_version {
        // The daemon compares it again, with what it has by then.
        service["Version"]["Index"] = version.into();
    }
    let mut wanted = service["Spec"].clone();
    let done = match args.rollback {
        true => engine.roll_back(&service),
        false => {
            spec::change(&mut wanted, &args.tasks).map_err(failed)?;
            engine.update(&service, &wanted)
        }
    };
    done.map_err(|refused| failed(refused.why))?;
    show(session, attempt, &args.name, args.format.json)
}

/// Shows the service as it is now.
fn show(session: &mut Session<'_>, attempt: &str, name: &str, as_json: bool) -> Result<(), Failure> {
    let service: Service = session.client.get(&path(name)).map_err(|error| Failure::of(attempt, error))?;
    if as_json {
        return json(session.out, &service);
    }
    Ok(writeln!(session.out, "{}", service.summary())?)
}
