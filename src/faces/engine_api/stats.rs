//! `GET /containers/{id}/stats` for containers of no engine: the counters of their interfaces.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use bollard::models as wire;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::failure::{Failure, json_reply};
use super::{Asked, EngineApi, containers};
use crate::api::v1::boolean;
use crate::base::clock;
use crate::engine::Handle;
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::Stream;
use crate::model::desired::Attached;
use crate::os::counters;

/// How often the counters are read, as in Docker.
const EVERY: Duration = Duration::from_secs(1);

impl EngineApi {
    pub(super) fn own_stats(
        &self,
        asked: &Asked,
        text: &str,
        stopping: Stopping,
        place: Stream,
    ) -> Result<Response, Failure> {
        let attached = containers::find(&self.handle.snapshot(), text)?;
        let once = asked.query("stream").is_some_and(|stream| boolean(stream) == Some(false));
        if once {
            return Ok(json_reply(StatusCode::OK, &stats(&attached, None)));
        }
        let (handle, id) = (self.handle.clone(), attached.container.id.clone());
        let lines = stream::unfold((handle, None::<String>), move |(handle, before): (Handle, _)| {
            let id = id.clone();
            async move {
                if before.is_some() {
                    tokio::time::sleep(EVERY).await;
                }
                let attached = handle.snapshot().desired.container(&id).cloned()?;
                let value = stats(&attached, before);
                let read = value["read"].as_str().map(str::to_owned);
                Some((Ok::<_, Infallible>(Bytes::from(format!("{value}\n"))), (handle, read)))
            }
        });
        let lines = lines.take_until(Box::pin(stopping.stopped())).map(move |line| {
            let _place = &place;
            line
        });
        Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
    }
}

/// The counters now. What the host's end has sent, the container has received.
fn stats(attached: &Arc<Attached>, before: Option<String>) -> Value {
    let all = counters::all();
    let networks = attached.endpoints.iter().map(|endpoint| {
        let host = all.get(endpoint.host_ifname.as_str()).copied().unwrap_or_default();
        let shown = wire::ContainerNetworkStats {
            rx_bytes: Some(host.sent.bytes),
            rx_packets: Some(host.sent.packets),
            rx_errors: Some(host.sent.errors),
            rx_dropped: Some(host.sent.dropped),
            tx_bytes: Some(host.received.bytes),
            tx_packets: Some(host.received.packets),
            tx_errors: Some(host.received.errors),
            tx_dropped: Some(host.received.dropped),
            ..wire::ContainerNetworkStats::default()
        };
        (endpoint.ifname.to_string(), serde_json::to_value(shown).unwrap_or_default())
    });
    let nothing = json!({"cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}, "system_cpu_usage": 0, "online_cpus": 0});
    json!({
        "id": attached.container.id, "name": format!("/{}", attached.container.name),
        "read": humantime::format_rfc3339_nanos(clock::now()).to_string(),
        "preread": before.unwrap_or_else(|| "0001-01-01T00:00:00Z".into()),
        "networks": networks.collect::<serde_json::Map<String, Value>>(),
        "cpu_stats": nothing, "precpu_stats": nothing, "memory_stats": {}, "pids_stats": {}, "blkio_stats": {},
        "num_procs": 0, "storage_stats": {},
    })
}
