//! `/_ping`, `/version` and `/info`: netd's own, or the engine's with netd's part.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bollard::models as wire;
use serde_json::{Value, json};

use super::failure::{Failure, json_reply};
use super::network_json::OVERLAY;
use super::version::ApiVersion;
use super::{Asked, EngineApi};

/// The version of netd.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The drivers of networks.
const DRIVERS: [&str; 3] = ["bridge", "host", "null"];

/// What this machine is.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The host's name.
    pub name: String,
    /// The kernel's version, as in `uname -r`.
    pub kernel: String,
    /// As Go names it: `amd64`.
    pub architecture: &'static str,
    /// How many processors it has.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// Where automatic subnets come from: prefix, and the prefix length of each.
    pub pools: Vec<(String, u8)>,
}

impl EngineApi {
    pub(super) async fn ping(&self, method: &Method) -> Response {
        let builder = match &self.engine {
            Some(engine) if !engine.about().await.is_ok_and(|about| about.buildkit) => "1",
            _ => "2",
        };
        let body = if method == Method::HEAD { Body::empty() } else { Body::from("OK") };
        let mut reply = Response::new(body);
        let headers = reply.headers_mut();
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("builder-version", builder),
            ("swarm", if self.swarm().is_some() { "active/manager" } else { "inactive" }),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if method == Method::HEAD {
            headers.insert("content-length", HeaderValue::from_static("0"));
        }
        reply
    }

    pub(super) async fn version(&self, asked: &Asked) -> Result<Response, Failure> {
        let (newest, oldest) = (self.newest().await, self.oldest);
        let details = [("ApiVersion", newest.to_string()), ("MinAPIVersion", oldest.to_string())];
        let details = details.map(|(key, value)| (key.to_owned(), value));
        let own = wire::SystemVersionComponents {
            name: "netd".into(),
            version: VERSION.into(),
            details: Some(HashMap::from(details)),
        };
        if let Some(engine) = &self.engine {
            let mut theirs =
                engine.get(&asked.upstream).await?.as_object().cloned().map_or_else(|| json!({}), Value::Object);
            theirs["ApiVersion"] = newest.to_string().into();
            theirs["MinAPIVersion"] = oldest.to_string().into();
            if let Some(components) = theirs["Components"].as_array_mut() {
                components.push(serde_json::to_value(own).unwrap_or_default());
            }
            return Ok(json_reply(StatusCode::OK, &theirs));
        }
        let version = wire::SystemVersion {
            platform: Some(wire::SystemVersionPlatform { name: "netd".into() }),
            components: Some(vec![own]),
            version: Some(VERSION.into()),
            api_version: Some(newest.to_string()),
            min_api_version: Some(oldest.to_string()),
            git_commit: Some(String::new()),
            go_version: Some(String::new()),
            os: Some("linux".into()),
            arch: Some(self.facts.architecture.into()),
            kernel_version: Some(self.facts.kernel.clone()),
            build_time: Some(String::new()),
            ..wire::SystemVersion::default()
        };
        let value = serde_json::to_value(version).unwrap_or_default();
        Ok(json_reply(StatusCode::OK, &value))
    }

    pub(super) async fn info(&self, asked: &Asked) -> Result<Response, Failure> {
        let mut info = match &self.engine {
            Some(engine) => engine.get(&asked.upstream).await?,
            None => self.own_info(),
        };
        if !info.is_object() {
            info = json!({});
        }
        if !info["Plugins"].is_object() {
            info["Plugins"] = json!({});
        }
        let overlay = self.swarm().is_some().then_some(OVERLAY);
        info["Plugins"]["Network"] = DRIVERS.into_iter().chain(overlay).collect();
        let pools = self.facts.pools.iter().map(|(base, size)| json!({"Base": base, "Size": size}));
        info["DefaultAddressPools"] = Value::Array(pools.collect());
        if asked.version >= ApiVersion::one(49) {
            info["FirewallBackend"] = json!({"Driver": "nftables", "Info": [["Table", "inet netd"]]});
        }
        info["Swarm"] = self.swarm_info();
        let problems = self.handle.snapshot().problems.clone();
        let mut warnings = info["Warnings"].as_array().cloned().unwrap_or_default();
        warnings.extend(problems.into_iter().map(|problem| Value::from(format!("WARNING: netd: {problem}"))));
        info["Warnings"] = if warnings.is_empty() { Value::Null } else { Value::Array(warnings) };
        Ok(json_reply(StatusCode::OK, &info))
    }

    fn own_info(&self) -> Value {
        let snapshot = self.handle.snapshot();
        let running = i64::try_from(snapshot.desired.containers().count()).unwrap_or(i64::MAX);
        let now = humantime::format_rfc3339_nanos(crate::base::clock::now()).to_string();
        let info = wire::SystemInfo {
            id: Some(super::network_json::stable_id(&["host", &self.facts.name])[..36].to_owned()),
            containers: Some(running),
            containers_running: Some(running),
            containers_paused: Some(0),
            containers_stopped: Some(0),
            images: Some(0),
            driver: Some(String::new()),
            plugins: Some(wire::PluginsInfo::default()),
            ipv4_forwarding: Some(true),
            system_time: Some(now),
            kernel_version: Some(self.facts.kernel.clone()),
            operating_system: Some("Linux".into()),
            os_type: Some("linux".into()),
            architecture: Some(self.facts.architecture.into()),
            ncpu: i64::try_from(self.facts.processors).ok(),
            mem_total: i64::try_from(self.facts.memory).ok(),
            name: Some(self.facts.name.clone()),
            server_version: Some(VERSION.into()),
            live_restore_enabled: Some(true),
            ..wire::SystemInfo::default()
        };
        serde_json::to_value(info).unwrap_or_default()
    }

    /// The reply to a request that needs an engine, where none is configured.
    pub(super) fn no_engine(path: &str) -> Response {
        let why = format!(
            "netd does not run containers itself, so that {path} is not supported: name the engine that does, Docker or \
             Podman, with `socket` of [engine] in netd.toml(5)"
        );
        Failure::new(StatusCode::NOT_IMPLEMENTED, why).into_response()
    }
}
