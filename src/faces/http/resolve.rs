//! `GET /v1/resolve`: what the name service answers a container, and why. Upstreams are actually asked for names that
//! are not local.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::explain::Upstream;
use super::{Shared, explain, find};
use crate::api::v1;
use crate::api::v1::{ContainerRef, ErrorBody, Holder, Resolved, text};
use crate::engine::dns::names::Asked;
use crate::engine::telemetry::Origin;
use crate::faces::shared::server::extract::Params;
use crate::faces::shared::server::problem::Problem;
use crate::model::endpoint::Endpoint;
use crate::model::question::{Answer, Client, Service};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(resolve))
}

/// A DNS question.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Question {
    /// The name; for an IP address, its names are looked up (PTR).
    #[param(value_type = text::QuestionName, inline)]
    name: String,
    /// A, AAAA, PTR, or any other type of RFC 1035 and later; absent: A, for an IP address PTR.
    #[serde(rename = "type")]
    #[param(value_type = Option<text::RecordTypeName>, inline)]
    kind: Option<String>,
    /// The container that is the client; absent: the host, which sees every network.
    #[param(value_type = Option<text::AnyContainer>, inline)]
    from: Option<String>,
}

/// What the daemon's DNS answers, and why.
#[utoipa::path(get, path = "/v1/resolve", tag = "dns", params(Question),
    responses(
        (status = 200, body = Resolved, description = "The answer, even if the name does not exist"),
        (status = 400, body = ErrorBody, description = "Invalid question"),
        (status = 404, body = ErrorBody, description = "No such container")))]
async fn resolve(State(shared): State<Shared>, Params(question): Params<Question>) -> Result<Json<Resolved>, Problem> {
    let (name, record) = v1::record(&question.name, question.kind.as_deref())?;
    let snapshot = shared.handle.snapshot();
    let (address, from, beside) = match &question.from {
        None => (None, None, None),
        Some(text) => {
            let container = find::container(&snapshot, text)?;
            let address = container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses).next();
            let address = address.ok_or_else(|| Problem::invalid(format!("container {text:?} has no IP address")))?;
            let own = container.container.id.own_address();
            let beside = shared.names.has_beside(own).then_some(own);
            (Some(address.ip()), Some(container.container.name.to_string()), beside)
        }
    };
    let client = address.map_or(Client::Host, Client::Address);
    let explained = snapshot.explain(client, &name, record.kind);
    let upstream = match explained.answer {
        Answer::Forward | Answer::NxDomain if beside.is_some() => {
            Upstream::Asked(shared.names.ask(beside, &name, &record.name).await)
        }
        Answer::Forward if !snapshot.may_forward(client) => Upstream::Forbidden,
        Answer::Forward => Upstream::Asked(shared.names.ask(address, &name, &record.name).await),
        _ => Upstream::NotConcerned,
    };
    let who = from.as_deref().unwrap_or("the host");
    let explanation = explain::lines(&explained, &upstream, &name, &record.name, who);
    let mut resolved = Resolved {
        name,
        kind: record.name,
        status: String::new(),
        answers: Vec::new(),
        from,
        source: Origin::Local.as_str().into(),
        reason: explain::word(explained.reason).into(),
        networks: explained.networks.iter().map(ToString::to_string).collect(),
        holders: explained.holders.iter().map(|endpoint| holder(endpoint)).collect(),
        hidden: explained.hidden.iter().map(ToString::to_string).collect(),
        server: None,
        ttl: None,
        explanation,
    };
    match upstream {
        Upstream::NotConcerned => {
            let (status, answers) = shown(explained.answer);
            (resolved.status, resolved.answers) = (status.into(), answers);
        }
        Upstream::Forbidden => {
            (resolved.status, resolved.source) = ("SERVFAIL".into(), Origin::Nobody.as_str().into());
        }
        Upstream::Asked(asked) => add_upstream_answer(&mut resolved, asked),
    }
    Ok(Json(resolved))
}

/// Fills in the answer of an upstream.
fn add_upstream_answer(resolved: &mut Resolved, asked: Asked) {
    let Asked { code, answers, origin, ttl, notes: _ } = asked;
    resolved.status = if code == "NOERROR" && answers.is_empty() { "NODATA".into() } else { code };
    (resolved.answers, resolved.source, resolved.ttl) = (answers, origin.as_str().into(), ttl);
    resolved.server = match origin {
        Origin::Upstream(server) => Some(server.to_string()),
        _ => None,
    };
}

fn holder(endpoint: &Endpoint) -> Holder {
    Holder {
        container: ContainerRef::from(&endpoint.container),
        network: endpoint.network.to_string(),
        addresses: endpoint.addresses.iter().map(|address| address.ip().to_string()).collect(),
    }
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
        // The answer of an upstream replaces it.
        Answer::Forward => ("SERVFAIL", Vec::new()),
        Answer::Refused => ("REFUSED", Vec::new()),
    }
}
