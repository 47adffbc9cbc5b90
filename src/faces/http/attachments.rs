//! `/v1/attachments`: the requests of container runtimes. The path identifies an attachment, so that a request can be
//! repeated safely.

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use crate::api::v1;
use crate::api::v1::{
    Attach, AttachTogether, AttachedTogether, Attachment, AttachmentRef, CheckAttachment, Collected, Dns, ErrorBody,
    KeepAttachments, attachment_key, attachments_of, text,
};
use crate::engine::{ErrorKind, Snapshot};
use crate::faces::shared::server::caller::Caller;
use crate::faces::shared::server::extract::{Body, Params, Segments};
use crate::faces::shared::server::problem::Problem;
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;

/// Resolver options of a container: a name is first queried as it was typed.
const OPTIONS: &str = "ndots:0";

/// The largest list of valid attachments, in bytes. A runtime lists all of its attachments, with about 120 bytes each.
const LIST_MAX: usize = 4 << 20;

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(attach, attachment, detach))
        .routes(routes!(attach_together, detach_together))
        .routes(routes!(check))
        .routes(routes!(collect))
}

/// Attaches a container. When the reply arrives, its name resolves and its ports answer. Repeating the request changes
/// nothing.
#[utoipa::path(put, path = "/v1/attachments/{owner}/{container}/{ifname}", tag = "attachments", request_body = Attach,
    params(
        ("owner" = inline(text::NetworkName), Path, description = "The runtime's network (CNI: the configuration's name)"),
        ("container" = inline(text::ContainerId), Path, description = "The container's id"),
        ("ifname" = inline(text::InterfaceName), Path, description = "The interface in the container")),
    responses(
        (status = 200, body = Attachment, description = "Attached, now or earlier", links(
            ("attachment" = (operation_id = "attachment", parameters(("owner" = "$request.path.owner"), ("container" = "$request.path.container"), ("ifname" = "$request.path.ifname")))),
            ("check" = (operation_id = "check", parameters(("owner" = "$request.path.owner"), ("container" = "$request.path.container"), ("ifname" = "$request.path.ifname")))),
            ("detach" = (operation_id = "detach", parameters(("owner" = "$request.path.owner"), ("container" = "$request.path.container"), ("ifname" = "$request.path.ifname")))))),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network namespace"),
        (status = 409, body = ErrorBody, description = "A resource is taken or exhausted, or the existing attachment differs")))]
async fn attach(
    State(shared): State<Shared>,
    caller: Option<Extension<ConnectInfo<Caller>>>,
    Segments((owner, container, ifname)): Segments<(String, String, String)>,
    Body(request): Body<Attach>,
) -> Result<Json<Attachment>, Problem> {
    let key = attachment_key(&owner, &container, &ifname)?;
    // A runtime whose plugin has ended may have sent the opposite request since.
    let caller = caller.map(|Extension(ConnectInfo(caller))| caller).unwrap_or_default();
    let spec = request.into_spec(key)?.asked_by(caller.process());
    let endpoint = shared.handle.connect_unless(spec, move || caller.is_gone()).await?;
    let snapshot = shared.handle.snapshot();
    let gone = || Problem::new(ErrorKind::NotFound, format!("{ifname} of {container} was detached again meanwhile"));
    Ok(Json(shown(&snapshot, &endpoint).ok_or_else(gone)?))
}

/// Attaches a container to several networks, or to none of them. Repeating the request changes nothing. Attachments that
/// existed before a request that fails stay.
#[utoipa::path(put, path = "/v1/attachments/{container}", tag = "attachments", request_body = AttachTogether,
    params(("container" = inline(text::ContainerId), Path, description = "The container's id")),
    responses(
        (status = 200, body = AttachedTogether, description = "All are attached, now or earlier", links(
            ("detach" = (operation_id = "detach_together", parameters(("container" = "$request.path.container")))))),
        (status = 400, body = ErrorBody, description = "Invalid request"),
        (status = 404, body = ErrorBody, description = "No such network namespace"),
        (status = 409, body = ErrorBody, description = "A resource is taken or exhausted, or an existing attachment differs")))]
async fn attach_together(
    State(shared): State<Shared>,
    caller: Option<Extension<ConnectInfo<Caller>>>,
    Segments(container): Segments<String>,
    Body(request): Body<AttachTogether>,
) -> Result<Json<AttachedTogether>, Problem> {
    let gone = move || caller.as_ref().is_some_and(|Extension(ConnectInfo(caller))| caller.is_gone());
    let endpoints = shared.handle.connect_together(request.into_specs(&container)?, gone).await?;
    let snapshot = shared.handle.snapshot();
    let gone = || Problem::new(ErrorKind::NotFound, format!("{container} was detached again meanwhile"));
    let shown = endpoints.iter().map(|endpoint| shown(&snapshot, endpoint).ok_or_else(gone));
    Ok(Json(AttachedTogether { attachments: shown.collect::<Result<_, _>>()? }))
}

/// What to detach.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Detach {
    /// The attachments, each as `OWNER/IFNAME`, joined by commas; absent: all that runtimes made.
    #[param(value_type = Option<text::AttachmentList>, inline)]
    only: Option<String>,
}

/// Detaches a container from several networks at once. When the reply arrives, names, ports, interfaces and addresses
/// are gone.
#[utoipa::path(delete, path = "/v1/attachments/{container}", tag = "attachments",
    params(("container" = inline(text::ContainerId), Path, description = "The container's id"), Detach),
    responses(
        (status = 204, description = "Detached, now or earlier"),
        (status = 400, body = ErrorBody, description = "Invalid request")))]
async fn detach_together(
    State(shared): State<Shared>,
    Segments(container): Segments<String>,
    Params(Detach { only }): Params<Detach>,
) -> Result<StatusCode, Problem> {
    shared.handle.detach_together(attachments_of(&container, only.as_deref())?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One attachment.
#[utoipa::path(get, path = "/v1/attachments/{owner}/{container}/{ifname}", tag = "attachments",
    params(
        ("owner" = inline(text::NetworkName), Path, description = "The runtime's network (CNI: the configuration's name)"),
        ("container" = inline(text::ContainerId), Path, description = "The container's id"),
        ("ifname" = inline(text::InterfaceName), Path, description = "The interface in the container")),
    responses(
        (status = 200, body = Attachment, description = "The attachment"),
        (status = 404, body = ErrorBody, description = "No such attachment")))]
async fn attachment(
    State(shared): State<Shared>,
    Segments((owner, container, ifname)): Segments<(String, String, String)>,
) -> Result<Json<Attachment>, Problem> {
    let key = attachment_key(&owner, &container, &ifname)?;
    let snapshot = shared.handle.snapshot();
    let found = snapshot.attachment(&key).and_then(|endpoint| shown(&snapshot, &endpoint));
    let none = || Problem::new(ErrorKind::NotFound, format!("no attachment {ifname} of {container} by {owner}"));
    Ok(Json(found.ok_or_else(none)?))
}

/// All that a runtime needs of an attachment. `None` if the container is gone.
fn shown(snapshot: &Snapshot, endpoint: &Endpoint) -> Option<Attachment> {
    let network = snapshot.desired.network(&endpoint.network)?;
    let attached = snapshot.desired.container(&endpoint.container.id)?;
    Some(Attachment {
        endpoint: endpoint.into(),
        bridge: network.bridge().map(ToString::to_string),
        host_mac: Some(network)
            .filter(|network| network.makes_interfaces() && network.has_host_ends())
            .map(|_| endpoint.mac.of_host_end().to_string()),
        mtu: network.mtu,
        nameservers: snapshot.nameservers_on(endpoint),
        routes: snapshot.routes(endpoint).iter().map(v1::Route::from).collect(),
        dns: Dns {
            nameservers: snapshot.nameserver(attached).into_iter().collect(),
            domain: snapshot.domain.clone(),
            search: snapshot.search(),
            options: vec![OPTIONS.to_owned()],
        },
    })
}

/// Detaches a container. When the reply arrives, name, ports, interface and addresses are gone.
#[utoipa::path(delete, path = "/v1/attachments/{owner}/{container}/{ifname}", tag = "attachments",
    params(
        ("owner" = inline(text::NetworkName), Path, description = "The runtime's network (CNI: the configuration's name)"),
        ("container" = inline(text::ContainerId), Path, description = "The container's id"),
        ("ifname" = inline(text::InterfaceName), Path, description = "The interface in the container")),
    responses((status = 204, description = "Detached, now or earlier")))]
async fn detach(
    State(shared): State<Shared>,
    Segments((owner, container, ifname)): Segments<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    shared.handle.detach(attachment_key(&owner, &container, &ifname)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Compares an attachment with the state of the host and the container.
#[utoipa::path(post, path = "/v1/attachments/{owner}/{container}/{ifname}/check", tag = "attachments",
    request_body = CheckAttachment,
    params(
        ("owner" = inline(text::NetworkName), Path, description = "The runtime's network (CNI: the configuration's name)"),
        ("container" = inline(text::ContainerId), Path, description = "The container's id"),
        ("ifname" = inline(text::InterfaceName), Path, description = "The interface in the container")),
    responses(
        (status = 204, description = "Unchanged"),
        (status = 404, body = ErrorBody, description = "No such attachment or namespace"),
        (status = 409, body = ErrorBody, description = "Code `changed`; the message names the first difference")))]
async fn check(
    State(shared): State<Shared>,
    Segments((owner, container, ifname)): Segments<(String, String, String)>,
    Body(request): Body<CheckAttachment>,
) -> Result<StatusCode, Problem> {
    let key = attachment_key(&owner, &container, &ifname)?;
    shared.handle.check(request.into_spec(key)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Detaches every attachment of an owner except the valid ones.
#[utoipa::path(post, path = "/v1/attachments/{owner}/gc", tag = "attachments", request_body = KeepAttachments,
    params(("owner" = inline(text::NetworkName), Path, description = "The runtime's network (CNI: the configuration's name)")),
    responses((status = 200, body = Collected, description = "The detached attachments")))]
async fn collect(
    State(shared): State<Shared>,
    Segments(owner): Segments<String>,
    Body(request): Body<KeepAttachments, LIST_MAX>,
) -> Result<Json<Collected>, Problem> {
    let owner: NetworkName = owner.parse()?;
    let key = |valid: &AttachmentRef| Ok((valid.container.parse()?, valid.ifname.parse()?));
    let valid = request.valid.iter().map(key).collect::<Result<Vec<_>, Problem>>()?;
    let gone = shared.handle.gc(owner, valid).await?;
    let shown = |endpoint: &std::sync::Arc<Endpoint>| AttachmentRef {
        container: endpoint.runtime_id().to_string(),
        ifname: endpoint.ifname.to_string(),
    };
    Ok(Json(Collected { released: gone.iter().map(shown).collect() }))
}
