//! `/services`: list, inspect, create, update, remove.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::service_json::{shown, spec};
use super::{empty, grpc, invalid, one, out_of_sequence, ports, text, version_of};
use crate::api::v1::boolean;
use crate::engine::{Error, Refusal, ServiceRefusal};
use crate::faces::engine_api::failure::{Failure, json_reply};
use crate::faces::engine_api::filters::Filters;
use crate::faces::engine_api::podman_networks::NetworkIds;
use crate::faces::engine_api::swarm_state::{Course, Stage};
use crate::faces::engine_api::tasks::digest::digest;
use crate::faces::engine_api::tasks::task::{Phase, millis};
use crate::faces::engine_api::version::ApiVersion;
use crate::faces::engine_api::{Asked, EngineApi, body};
use crate::model::request::{ServiceSpec, ServiceUpdate};
use crate::model::service::Service;

const FILTERS: [&str; 5] = ["id", "label", "mode", "name", "runtime"];
/// Keys that may come in another case; what is below `ContainerSpec` is the engine's.
const KEYS: [&str; 8] =
    ["Name", "Labels", "TaskTemplate", "Mode", "UpdateConfig", "RollbackConfig", "EndpointSpec", "Networks"];
const AUTH: &str = "x-registry-auth";

impl EngineApi {
    /// Every service that somebody defined.
    pub(super) fn services(&self) -> Vec<Arc<Service>> {
        let snapshot = self.handle.snapshot();
        snapshot.desired.services().filter(|service| service.is_defined()).cloned().collect()
    }

    pub(super) fn found_service(&self, text: &str) -> Result<Arc<Service>, Failure> {
        self.in_swarm()?;
        one(self.services(), "service", text, |service| [service.id.to_string(), service.name.to_string()])
    }

    fn shown_service(&self, service: &Service, ids: &NetworkIds) -> Value {
        let swarm = self.swarm();
        let course = swarm.as_ref().and_then(|swarm| swarm.updates.get(service.id.as_str()));
        shown(service, &self.handle.snapshot(), ids, course)
    }

    pub(super) async fn list_services(&self, asked: &Asked) -> Result<Response, Failure> {
        let filters = Filters::parse(asked.query("filters"), &FILTERS)?;
        self.in_swarm()?;
        let with_status =
            asked.version >= ApiVersion::one(41) && asked.query("status").and_then(boolean).unwrap_or(false);
        let fits = |service: &&Arc<Service>| {
            let mode = match &service.tasks {
                Some(tasks) if tasks.replicas.is_none() => "global",
                _ => "replicated",
            };
            filters.begins("id", &[service.id.as_str()])
                && filters.begins("name", &[service.name.as_str()])
                && filters.exact("mode", mode)
                && filters.exact("runtime", "container")
                && filters.labels(|key| service.labels.get(key).map(String::as_str))
        };
        let services = self.services();
        let ids = self.network_ids().await;
        let mut listed: Vec<Value> =
            services.iter().filter(fits).map(|service| self.shown_service(service, &ids)).collect();
        if with_status {
            let running = self.running().await;
            for (service, shown) in services.iter().filter(fits).zip(&mut listed) {
                let members = || {
                    self.handle.snapshot().desired.members(service).filter(|member| member.standing.is_ready()).count()
                };
                let (running, desired) = match &service.tasks {
                    Some(tasks) => {
                        let running = running.iter().filter(|of| *of == service.id.as_str()).count();
                        (running, usize::try_from(tasks.count()).unwrap_or(usize::MAX))
                    }
                    None => (members(), self.handle.snapshot().desired.members(service).count()),
                };
                shown["ServiceStatus"] = json!({"RunningTasks": running, "DesiredTasks": desired, "CompletedTasks": 0});
            }
        }
        Ok(json_reply(StatusCode::OK, &Value::Array(listed)))
    }

    /// The service of each task that runs; none if the engine cannot be asked.
    async fn running(&self) -> Vec<String> {
        let tasks = self.tasks().await.unwrap_or_default();
        tasks.into_iter().filter(|task| task.phase == Phase::Running).map(|task| task.service).collect()
    }

    pub(super) async fn inspect_service(&self, id: &str) -> Result<Response, Failure> {
        let service = self.found_service(id)?;
        Ok(json_reply(StatusCode::OK, &self.shown_service(&service, &self.network_ids().await)))
    }

    pub(super) async fn create_service(&self, _asked: &Asked, request: Request) -> Result<Response, Failure> {
        let auth = header(&request);
        let given = body::as_it_is(request).await.map(canonical)?;
        let swarm = self.in_swarm()?;
        if self.engine.is_none() {
            return Ok(Self::no_engine("services/create"));
        }
        let name = text(&given, "Name");
        if self.services().iter().any(|known| known.name.as_str().eq_ignore_ascii_case(name)) {
            let why = format!("name conflicts with an existing object: service {name} already exists");
            return Err(grpc(StatusCode::CONFLICT, "AlreadyExists", why));
        }
        let wanted = self.read_spec(&given, &swarm).await?;
        ports::check_free(&self.handle.snapshot(), &wanted.ports, None)?;
        let service = self.handle.create_service(wanted).await.map_err(failure)?;
        self.tasks.authorize(&service, auth);
        self.tasks.changed();
        Ok(json_reply(StatusCode::CREATED, &json!({"ID": service.id.as_str()})))
    }

    pub(super) async fn update_service(&self, asked: &Asked, id: &str, request: Request) -> Result<Response, Failure> {
        let auth = header(&request);
        let given = body::as_it_is(request).await.map(canonical)?;
        let version = version_of(asked, "service")?;
        let service = self.found_service(id)?;
        if version != service.version {
            return Err(out_of_sequence());
        }
        let is_rollback = match asked.query("rollback").unwrap_or_default() {
            "" | "none" => false,
            "previous" => true,
            other => {
                let why = format!("unrecognized rollback option {other}");
                return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
        };
        let wanted = match is_rollback {
            true => previous(&service)?,
            false => self.changed_spec(&service, &given).await?,
        };
        ports::check_free(&self.handle.snapshot(), &wanted.ports, Some(&service))?;
        let update = ServiceUpdate { service: service.id.to_string(), version: Some(version), spec: wanted };
        let updated = self.handle.update_service(update).await.map_err(failure)?;
        self.tasks.authorize(&updated, auth);
        self.begin_update(&service, &updated, is_rollback).await?;
        self.tasks.changed();
        Ok(json_reply(StatusCode::OK, &json!({})))
    }

    /// Forgets the course of the update before, and notes a rollback, which follows other rules.
    async fn begin_update(&self, before: &Service, after: &Service, is_rollback: bool) -> Result<(), Failure> {
        let replaces = digest(before) != digest(after);
        let course = (is_rollback && replaces).then(|| Course {
            stage: Stage::RollbackStarted,
            started: millis(crate::base::clock::now()),
            completed: None,
            message: "manually requested rollback".into(),
            slots: after.tasks.as_ref().map_or(1, |tasks| usize::try_from(tasks.count()).unwrap_or(1)),
        });
        let id = after.id.to_string();
        self.change_swarm(move |swarm| {
            match course {
                Some(course) => drop(swarm.updates.insert(id, course)),
                None => drop(swarm.updates.remove(&id)),
            }
            Ok(())
        })
        .await
    }

    /// The service as an update makes it.
    async fn changed_spec(&self, service: &Service, given: &Value) -> Result<ServiceSpec, Failure> {
        if text(given, "Name") != service.name.as_str() {
            return Err(grpc(StatusCode::NOT_IMPLEMENTED, "Unimplemented", "renaming services is not supported"));
        }
        let Some(tasks) = &service.tasks else { return self.changed_network(service, given).await };
        let wanted = self.read_spec(given, &self.in_swarm()?).await?;
        let is_global = |replicas: Option<Option<u32>>| replicas == Some(None);
        if is_global(Some(tasks.replicas)) != is_global(wanted.tasks.as_ref().map(|tasks| tasks.replicas)) {
            return Err(grpc(StatusCode::NOT_IMPLEMENTED, "Unimplemented", "service mode change is not allowed"));
        }
        Ok(wanted)
    }

    /// The same for a service whose members others make: only what is networking can change.
    async fn changed_network(&self, service: &Service, given: &Value) -> Result<ServiceSpec, Failure> {
        let known = spec(service, &self.handle.snapshot(), &NetworkIds::default());
        for key in ["Mode", "UpdateConfig", "RollbackConfig"] {
            if !given[key].is_null() && given[key] != known[key] {
                return Err(no_tasks(service, key));
            }
        }
        let template = |spec: &Value| {
            let mut template = spec["TaskTemplate"].clone();
            template.as_object_mut().map(|fields| fields.shift_remove("Networks"));
            digest_of(&template)
        };
        if template(given) != template(&known) {
            return Err(no_tasks(service, "TaskTemplate"));
        }
        let (mode, ports) = ports::read(&given["EndpointSpec"])?;
        let mut networks = Vec::new();
        for wanted in given["TaskTemplate"]["Networks"].as_array().into_iter().flatten() {
            let network = self.service_network(text(wanted, "Target")).await?;
            let aliases = wanted["Aliases"].as_array().into_iter().flatten().filter_map(Value::as_str);
            networks.push((network.name.to_string(), aliases.map(str::parse).collect::<Result<_, _>>()?));
        }
        let labels = given["Labels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        Ok(ServiceSpec { mode, ports, networks, labels, ..ServiceSpec::from(service) })
    }

    pub(super) async fn remove_service(&self, id: &str) -> Result<Response, Failure> {
        let service = self.found_service(id)?;
        self.handle.remove_service(service.id.as_str()).await.map_err(failure)?;
        let id = service.id.to_string();
        self.change_swarm(move |swarm| {
            let _: () = drop(swarm.updates.remove(&id));
            Ok(())
        })
        .await?;
        self.tasks.changed();
        Ok(empty())
    }
}

fn header(request: &Request) -> Option<String> {
    let value = request.headers().get(AUTH)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

/// The upper keys in Docker's case.
fn canonical(given: Value) -> Value {
    let Value::Object(fields) = given else { return json!({}) };
    let fields = fields.into_iter().map(|(key, value)| {
        let known = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&key));
        (known.map_or(key, |known| (*known).to_owned()), value)
    });
    Value::Object(fields.collect())
}

fn previous(service: &Service) -> Result<ServiceSpec, Failure> {
    let previous = service.previous.as_ref().filter(|previous| previous.tasks.is_some());
    let missing = || {
        let why = format!("service {} does not have a previous spec", service.id);
        grpc(StatusCode::BAD_REQUEST, "FailedPrecondition", why)
    };
    previous.map(|previous| ServiceSpec::from(previous.as_ref())).ok_or_else(missing)
}

fn no_tasks(service: &Service, key: &str) -> Failure {
    let why =
        "netd does not make its containers: only its networks, ports, mode of names and labels can be changed here";
    invalid(format!("{key} of service {}: {why}", service.name))
}

/// What a value says, whichever way it is written.
fn digest_of(value: &Value) -> String {
    crate::faces::engine_api::tasks::digest::of(value)
}

/// Docker's words for what the engine refuses.
fn failure(error: Error) -> Failure {
    match &error {
        Error::Refused(Refusal::Service(ServiceRefusal::Exists(name))) => {
            let why = format!("name conflicts with an existing object: service {name} already exists");
            grpc(StatusCode::CONFLICT, "AlreadyExists", why)
        }
        Error::Refused(Refusal::Service(ServiceRefusal::OutOfSequence { .. })) => out_of_sequence(),
        _ => Failure::from(error),
    }
}
