//! The daemon's own state: status, dump, and what its DNS answers.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Params;
use super::problem::Problem;
use super::{Shared, find};
use crate::api::v1::{self, Dump, ErrorBody, Resolved, Status};
use crate::model::question::{Answer, Asker, Service};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(dump)).routes(routes!(resolve))
}

/// Whether the daemon works, and on how much.
#[utoipa::path(get, path = "/v1/status", tag = "daemon",
    responses((status = 200, body = Status, description = "Also when it is not ready")))]
async fn status(State(shared): State<Shared>) -> Json<Status> {
    let snapshot = shared.handle.snapshot();
    let (networks, containers, endpoints) = snapshot.desired.counts();
    Json(Status {
        ready: shared.is_ready(),
        version: env!("CARGO_PKG_VERSION").into(),
        networks,
        containers,
        endpoints,
        publications: snapshot.desired.endpoints().map(|endpoint| endpoint.publications.len()).sum(),
        problems: snapshot.problems.clone(),
    })
}

/// Everything, sorted.
#[utoipa::path(get, path = "/v1/dump", tag = "daemon",
    responses((status = 200, body = Dump, description = "One consistent state")))]
async fn dump(State(shared): State<Shared>) -> Json<Dump> {
    let snapshot = shared.handle.snapshot();
    let mut problems = snapshot.problems.clone();
    problems.sort();
    Json(Dump {
        revision: snapshot.revision,
        networks: snapshot.desired.networks().map(|network| network.as_ref().into()).collect(),
        containers: find::sorted_containers(&snapshot),
        endpoints: find::sorted_endpoints(snapshot.desired.endpoints()),
        problems,
    })
}

/// A DNS question.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Question {
    /// The name; an IP address asks for its names.
    name: String,
    /// A, AAAA, PTR, or any other type of RFC 1035 and later; absent: A, for an IP address PTR.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The container that would ask; absent: the host, which sees every network.
    from: Option<String>,
}

/// What the daemon's DNS answers.
#[utoipa::path(get, path = "/v1/resolve", tag = "daemon", params(Question),
    responses(
        (status = 200, body = Resolved, description = "The answer, also when there is no such name"),
        (status = 400, body = ErrorBody, description = "The question is wrong"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn resolve(State(shared): State<Shared>, Params(question): Params<Question>) -> Result<Json<Resolved>, Problem> {
    let (name, record) = v1::record(&question.name, question.kind.as_deref())?;
    let snapshot = shared.handle.snapshot();
    let (asker, from) = match &question.from {
        None => (Asker::Host, None),
        Some(text) => {
            let container = find::container(&snapshot, text)?;
            let address = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).next();
            let address = address.ok_or_else(|| Problem::invalid(format!("container {text:?} has no IP address")))?;
            (Asker::Address(address.ip()), Some(container.container.name.to_string()))
        }
    };
    let (status, answers) = shown(snapshot.resolve(asker, &name, record.kind));
    Ok(Json(Resolved { name, kind: record.name, status: status.into(), answers, from }))
}

fn shown(answer: Answer) -> (&'static str, Vec<String>) {
    match answer {
        Answer::A(addresses) => ("NOERROR", addresses.iter().map(ToString::to_string).collect()),
        Answer::Aaaa(addresses) => ("NOERROR", addresses.iter().map(ToString::to_string).collect()),
        Answer::Ptr(names) => ("NOERROR", names),
        Answer::Srv(services) => {
            let one = |s: &Service| format!("{} 1 {} {}", s.priority, s.port, s.target);
            ("NOERROR", services.iter().map(one).collect())
        }
        Answer::Txt(texts) => ("NOERROR", texts),
        Answer::Any => ("NOERROR", vec!["\"RFC8482\" \"\"".into()]),
        Answer::NoData => ("NODATA", Vec::new()),
        Answer::NxDomain => ("NXDOMAIN", Vec::new()),
        Answer::Forward => ("FORWARD", Vec::new()),
        Answer::Refused => ("REFUSED", Vec::new()),
    }
}
