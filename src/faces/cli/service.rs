//! `netd service`.

mod logs;
mod request;
mod spec;
mod tasks;

use super::Session;
use super::args::{CreateServiceArgs, DryRun, Inspected, Listed, MemberArgs, ServiceVerb, UpdateServiceArgs};
use super::engine::Engine;
use super::filter::Filter;
use super::output::{Failure, json, sentence};
use super::{filter, listing, plan};
use crate::api::v1::{ChangeMember, Member, PlanRequest, Service};
use crate::faces::shared::client::{ClientError, segment};
use crate::model::request::{MemberAction, ServiceSpec};

pub(super) fn run(session: &mut Session<'_>, verb: ServiceVerb) -> Result<(), Failure> {
    match verb {
        ServiceVerb::Create(args) => create(session, *args),
        ServiceVerb::Ls { filter, listed } => {
            let failed = |error| Failure::of("list services", error);
            let mut services: Vec<Service> = session.client.get("/v1/services").map_err(failed)?;
            filter::services(&mut services, &filter);
            listing::services(session, services, &listed)
        }
        ServiceVerb::Inspect { names, output } => inspect(session, names, &output),
        ServiceVerb::Ps { name, filter, listed } => ps(session, &name, &filter, &listed),
        ServiceVerb::Update(args) => update(session, *args),
        ServiceVerb::Rm { names, dry_run } => remove(session, names, dry_run),
        ServiceVerb::Drain(args) => say(session, args, MemberAction::Drain, "drain"),
        ServiceVerb::Undrain(args) => say(session, args, MemberAction::Undrain, "undrain"),
        ServiceVerb::Ready(args) => say(session, args, MemberAction::Ready, "make ready"),
        ServiceVerb::Unready(args) => say(session, args, MemberAction::Unready, "make unready"),
        ServiceVerb::Checked(args) => say(session, args, MemberAction::Checked, "let health checks decide about"),
        ServiceVerb::Scale { to, socket } => tasks::scale(session, &Engine::new(session, &socket), &to),
        ServiceVerb::Logs { name, follow, tail, timestamps, socket } => {
            let engine = Engine::new(session, &socket);
            tasks::expect(
                session,
                &format!("show the logs of service {name}"),
                &name,
                "ask their engine for the logs of its members (`netd service ps`)",
            )?;
            logs::run(session, &engine, &name, logs::Wanted { follow, tail, timestamps })
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/services/{}", segment(name))
}

fn create(session: &mut Session<'_>, args: CreateServiceArgs) -> Result<(), Failure> {
    let attempt = format!("create service {}", args.name);
    if args.tasks.are_given() {
        return tasks::create(session, &attempt, &args);
    }
    let (format, dry_run) = (args.format, args.dry_run.dry_run);
    let request = request::create(args);
    ServiceSpec::try_from(request.clone()).map_err(|invalid| Failure::usage(&attempt, invalid))?;
    if dry_run {
        return plan::show(session, &attempt, &PlanRequest::CreateService(Box::new(request)), format);
    }
    let service: Service =
        session.client.post("/v1/services", &request).map_err(|error| Failure::of(&attempt, error))?;
    if format.json {
        return json(session.out, &service);
    }
    Ok(writeln!(session.out, "{}", service.summary())?)
}

fn update(session: &mut Session<'_>, args: UpdateServiceArgs) -> Result<(), Failure> {
    let (name, format, dry_run) = (args.name.clone(), args.format, args.dry_run.dry_run);
    let attempt = format!("update service {name}");
    if args.rollback || args.tasks.are_given() {
        return tasks::update(session, &attempt, &args);
    }
    let update = request::update(args);
    if dry_run {
        let request = PlanRequest::UpdateService { service: name, update: Box::new(update) };
        return plan::show(session, &attempt, &request, format);
    }
    let service: Service = session.client.patch(&path(&name), &update).map_err(|error| Failure::of(&attempt, error))?;
    if format.json {
        return json(session.out, &service);
    }
    Ok(writeln!(session.out, "{}", service.summary())?)
}

fn inspect(session: &mut Session<'_>, names: Vec<String>, output: &Inspected) -> Result<(), Failure> {
    let mut found = Vec::new();
    let mut missing = false;
    for name in names {
        match session.client.get::<Service>(&path(&name)) {
            Ok(service) => found.push(service),
            Err(error) if error.status().is_some() => {
                missing = true;
                session.complain(&sentence(format!("inspect service {name}"), error));
            }
            Err(error) => return Err(Failure::of(format!("inspect service {name}"), error)),
        }
    }
    listing::inspected(session, &found, output, listing::add)?;
    if missing { Err(Failure::Told) } else { Ok(()) }
}

fn ps(session: &mut Session<'_>, name: &str, filters: &[Filter], listed: &Listed) -> Result<(), Failure> {
    let failed = |error: ClientError| Failure::of(format!("list the members of service {name}"), error);
    let mut members: Vec<Member> = session.client.get(&format!("{}/members", path(name))).map_err(failed)?;
    filter::members(&mut members, filters);
    listing::members(session, members, listed)
}

/// Removes as many as possible, and reports each failure.
fn remove(session: &mut Session<'_>, names: Vec<String>, DryRun { dry_run }: DryRun) -> Result<(), Failure> {
    let mut failed = false;
    for name in names {
        let attempt = format!("remove service {name}");
        let removed = if dry_run {
            plan::steps(session, &PlanRequest::RemoveService(name)).map(|steps| plan::lines(&steps))
        } else {
            session.client.delete(&path(&name)).map(|()| format!("{name}\n"))
        };
        match removed {
            Ok(text) => write!(session.out, "{text}")?,
            Err(error) if error.status().is_some() => {
                failed = true;
                session.complain(&sentence(attempt, error));
            }
            Err(error) => return Err(Failure::of(attempt, error)),
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}

/// Says something of a member, and prints what it is in each of its services from then on.
fn say(session: &mut Session<'_>, args: MemberArgs, action: MemberAction, verb: &str) -> Result<(), Failure> {
    let MemberArgs { member, dry_run, format } = args;
    let attempt = format!("{verb} {member}");
    if dry_run.dry_run {
        return plan::show(session, &attempt, &PlanRequest::ChangeMember { container: member, action }, format);
    }
    let path = format!("/v1/members/{}", segment(&member));
    let members: Vec<Member> =
        session.client.post(&path, &ChangeMember { action }).map_err(|error| Failure::of(&attempt, error))?;
    if format.json {
        return json(session.out, &members);
    }
    members.iter().try_for_each(|member| Ok(writeln!(session.out, "{}", member.summary())?))
}
