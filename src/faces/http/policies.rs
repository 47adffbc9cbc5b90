//! Policies: `/v1/policies`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1::{ChangePolicies, ErrorBody, Judgement, PoliciesChanged, Policy, policy_id, text};
use crate::engine;
use crate::engine::Snapshot;
use crate::faces::shared::server::extract::{Body, Params, Segments};
use crate::faces::shared::server::problem::Problem;
use crate::model::policy;
use crate::model::policy::{Subject, target};
use crate::model::request::PolicyChange;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(policies, change_policies))
        .routes(routes!(judge))
        .routes(routes!(policy_by_id, remove_policy))
}

fn shown(snapshot: &Snapshot, policy: &Arc<policy::Policy>) -> Policy {
    let names = |subject: &Subject| {
        let meant = snapshot.desired.endpoints_meant(subject).into_iter();
        let names: BTreeSet<String> = meant.map(|endpoint| endpoint.container.name.to_string()).collect();
        names.into_iter().collect()
    };
    Policy {
        from_containers: names(&policy.rule.from),
        to_containers: names(&policy.rule.to),
        denied_packets: snapshot.denied.policies.get(&policy.id).copied().unwrap_or_default(),
        ..policy.as_ref().into()
    }
}

/// Every policy.
#[utoipa::path(get, path = "/v1/policies", tag = "policies",
    responses((status = 200, body = [Policy], description = "Sorted by id")))]
async fn policies(State(shared): State<Shared>) -> Json<Vec<Policy>> {
    let snapshot = shared.handle.snapshot();
    Json(snapshot.desired.policies().map(|policy| shown(&snapshot, policy)).collect())
}

/// Adds and removes policies, all or none. When the reply arrives, new flows follow them, and flows that they deny have
/// ended.
#[utoipa::path(post, path = "/v1/policies", tag = "policies", request_body = ChangePolicies,
    responses(
        (status = 200, body = PoliciesChanged, description = "What changed"),
        (status = 400, body = ErrorBody, description = "Invalid policy"),
        (status = 404, body = ErrorBody, description = "No such network or policy")))]
async fn change_policies(
    State(shared): State<Shared>,
    Body(request): Body<ChangePolicies>,
) -> Result<Json<PoliciesChanged>, Problem> {
    let changed = shared.handle.change_policies(request.into_change()?).await?;
    let snapshot = shared.handle.snapshot();
    let all = |policies: Vec<Arc<policy::Policy>>| policies.iter().map(|policy| shown(&snapshot, policy)).collect();
    let engine::PoliciesChanged { added, removed, unchanged } = changed;
    Ok(Json(PoliciesChanged { added: all(added), removed: all(removed), unchanged: all(unchanged) }))
}

/// One policy.
#[utoipa::path(get, path = "/v1/policies/{id}", tag = "policies",
    params(("id" = inline(text::PolicyId), Path, description = "The id")),
    responses(
        (status = 200, body = Policy, description = "The policy"),
        (status = 404, body = ErrorBody, description = "No such policy")))]
async fn policy_by_id(State(shared): State<Shared>, Segments(id): Segments<String>) -> Result<Json<Policy>, Problem> {
    let (id, snapshot) = (policy_id(&id)?, shared.handle.snapshot());
    let found = snapshot.desired.policy(id).ok_or_else(|| engine::Error::from(engine::Refusal::NoSuchPolicy(id)))?;
    Ok(Json(shown(&snapshot, found)))
}

/// Removes a policy. When the reply arrives, new flows no longer follow it.
#[utoipa::path(delete, path = "/v1/policies/{id}", tag = "policies",
    params(("id" = inline(text::PolicyId), Path, description = "The id")),
    responses(
        (status = 204, description = "Gone"),
        (status = 404, body = ErrorBody, description = "No such policy")))]
async fn remove_policy(State(shared): State<Shared>, Segments(id): Segments<String>) -> Result<StatusCode, Problem> {
    let change = PolicyChange { remove: vec![policy_id(&id)?], ..PolicyChange::default() };
    shared.handle.change_policies(change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who would reach whom?
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Question {
    /// Who would begin the flow.
    #[param(value_type = text::PolicySubject, inline)]
    from: String,
    /// To whom, with `:PORT` for a port; of a range the first one counts.
    #[param(value_type = text::PolicyTarget, inline)]
    to: String,
}

/// Whether a subject reaches another, for each pair of what they stand for: by policies, and otherwise by the networks.
#[utoipa::path(get, path = "/v1/policies/test", tag = "policies", params(Question),
    responses((status = 200, body = [Judgement], description = "Every pair; empty if one of the two stands for nothing")))]
async fn judge(
    State(shared): State<Shared>,
    Params(Question { from, to }): Params<Question>,
) -> Result<Json<Vec<Judgement>>, Problem> {
    let (from, (to, ports)) = (from.parse()?, target(&to)?);
    let judged = shared.handle.snapshot().judge(&from, &to, ports).into_iter();
    let shown =
        judged.map(|engine::Judgement { from, to, allowed, why, policy }| Judgement { from, to, allowed, why, policy });
    Ok(Json(shown.collect()))
}
