//! The fuzz target `engine_api`: any bytes as a request to the Engine API. The first byte selects the route, the rest is its
//! body, or its query.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::sync::OnceLock;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Arc, EngineApi, Facts, answer, version};
use crate::engine::testing;
use crate::faces::shared::client::segment;

const BODIES: [&str; 5] = [
    "/v1.41/networks/create",
    "/networks/create",
    "/networks/none/connect",
    "/networks/known/connect",
    "/networks/known/disconnect",
];
const QUERIES: [&str; 6] = [
    "/networks?filters=",
    "/v1.24/networks?filters=",
    "/containers/json?all=1&filters=",
    "/networks/prune?filters=",
    "/events?until=1&filters=",
    "/events?until=1&since=",
];

/// The API over an engine in memory, with one network.
fn api() -> &'static (Runtime, Arc<EngineApi>) {
    static API: OnceLock<(Runtime, Arc<EngineApi>)> = OnceLock::new();
    API.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let api = runtime.block_on(async {
            let api = EngineApi::new(testing::engine(), None, version::OLDEST, Facts::default());
            let known = Request::post("/networks/create").header("content-type", "application/json");
            let known = known.body(Body::from(r#"{"Name":"known","Labels":{"keep":"1"}}"#)).expect("a request");
            assert_eq!(answer(State(api.clone()), known).await.status(), 201);
            api
        });
        (runtime, api)
    })
}

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let choice = usize::from(*choice) % (BODIES.len() + QUERIES.len() + 1);
    let request = if let Some(path) = BODIES.get(choice) {
        Request::post(*path).header("content-type", "application/json").body(Body::from(rest.to_vec()))
    } else if let Some(path) = QUERIES.get(choice - BODIES.len()) {
        let text = segment(&String::from_utf8_lossy(rest));
        let method = if path.contains("prune") { "POST" } else { "GET" };
        Request::builder().method(method).uri(format!("{path}{text}")).body(Body::empty())
    } else {
        let path = segment(&String::from_utf8_lossy(rest));
        Request::get(format!("/{path}")).body(Body::empty())
    };
    let (runtime, api) = api();
    runtime.block_on(async {
        let reply = answer(State(api.clone()), request.expect("a request")).await;
        let (status, kind) = (reply.status(), reply.headers().get("content-type").cloned());
        assert!(!status.is_server_error() || status == 501 || status == 503, "{status}");
        let bytes = to_bytes(reply.into_body(), 1 << 24).await.expect("an answer with an end");
        if !status.is_success() {
            assert_eq!(kind.expect("a type"), "application/json");
            let told: Value = serde_json::from_slice(&bytes).expect("JSON");
            assert!(told["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn requests_keep_their_promises() {
        netd_testing::inputs::attack("engine_api", super::attack);
    }
}
