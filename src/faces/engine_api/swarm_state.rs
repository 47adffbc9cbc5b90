//! netd's swarm, which has one node: what `docker swarm init` makes. It is kept in the store, so that ids, tokens and the
//! course of updates survive restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::EngineApi;
use super::create_network::NO_SWARM;
use super::failure::Failure;
use crate::base::clock;
use crate::engine::Snapshot;
use crate::model::ids::ServiceId;
use axum::http::StatusCode;

/// The key of what is kept.
const KEY: &str = "swarm";
/// How many tasks of a slot are kept, as in Docker.
const HISTORY: i64 = 5;

/// The swarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SwarmState {
    pub(super) id: String,
    /// The id of the one node.
    pub(super) node: String,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) updated: String,
    pub(super) version: u64,
    /// The address at which others would reach it.
    pub(super) address: String,
    /// `Spec` of Docker's `Swarm`.
    pub(super) spec: Value,
    /// The tokens for workers and managers: [`join_token`].
    pub(super) tokens: [String; 2],
    /// `DefaultAddrPool`, `SubnetSize` and `DataPathPort`.
    pub(super) pools: Vec<String>,
    pub(super) subnet_size: u32,
    pub(super) data_path_port: u32,
    /// What was said of the node.
    pub(super) node_spec: NodeSpec,
    pub(super) node_version: u64,
    pub(super) node_updated: String,
    /// The course of the last update of each service, by its id.
    #[serde(default)]
    pub(super) updates: BTreeMap<String, Course>,
}

/// `NodeSpec` of Docker's `Node`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct NodeSpec {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) availability: Availability,
}

/// Whether the node runs tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Availability {
    #[default]
    Active,
    /// Those that it runs stay.
    Pause,
    /// It runs none.
    Drain,
}

impl Availability {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        }
    }

    /// The one with that name; none is active.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text.to_ascii_lowercase().as_str() {
            "" | "active" => Ok(Self::Active),
            "pause" => Ok(Self::Pause),
            "drain" => Ok(Self::Drain),
            _ => Err(Failure::bad(format!("invalid Availability: {text:?}"))),
        }
    }
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }

    pub(super) fn is_rollback(self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }

    /// Whether tasks are being replaced.
    pub(super) fn is_running(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }

    pub(super) fn is_paused(self) -> bool {
        matches!(self, Self::Paused | Self::RollbackPaused)
    }
}

/// The course of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Course {
    pub(super) stage: Stage,
    /// Milliseconds since the Unix epoch.
    pub(super) started: u64,
    pub(super) completed: Option<u64>,
    pub(super) message: String,
    /// How many slots it replaces.
    pub(super) slots: usize,
}

/// The current time as the API shows it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_nanos(clock::now()).to_string()
}

/// A new id, as swarms have them.
pub(super) fn new_id() -> String {
    ServiceId::from_random(rand::random()).to_string()
}

/// A new token of the form that Docker's have: a digest of the certificate authority, and a secret.
pub(super) fn join_token(swarm: &str) -> String {
    let digest = format!("{}{swarm}", ServiceId::from_name(swarm));
    format!("SWMTKN-1-{digest}-{}", new_id())
}

impl SwarmState {
    /// A new swarm.
    pub(super) fn new(address: String, spec: &Value) -> Self {
        let (id, now) = (new_id(), now());
        Self {
            tokens: [join_token(&id), join_token(&id)],
            id,
            node: new_id(),
            created: now.clone(),
            updated: now.clone(),
            version: 1,
            address,
            spec: spec_with_defaults(spec),
            pools: vec!["10.0.0.0/8".into()],
            subnet_size: 24,
            data_path_port: 4789,
            node_spec: NodeSpec::default(),
            node_version: 1,
            node_updated: now,
            updates: BTreeMap::new(),
        }
    }

    /// The one that is kept.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let kept = snapshot.kept.get(KEY).filter(|kept| !kept.is_empty())?;
        serde_json::from_str(kept)
            .map_err(|error| tracing::error!("the swarm that was kept cannot be read: {error}"))
            .ok()
    }

    /// How many tasks of a slot are kept; `None`: all.
    pub(super) fn history(&self) -> Option<usize> {
        let limit = self.spec.pointer("/Orchestration/TaskHistoryRetentionLimit").and_then(Value::as_i64);
        usize::try_from(limit.unwrap_or(HISTORY)).ok()
    }
}

/// The settings of a swarm, with Docker's defaults for those that are not given (swarmkit, api/defaults).
pub(super) fn spec_with_defaults(given: &Value) -> Value {
    let mut spec = json!({
        "Name": "default",
        "Labels": {},
        "Orchestration": {"TaskHistoryRetentionLimit": HISTORY},
        "Raft": {
            "SnapshotInterval": 10000, "KeepOldSnapshots": 0, "LogEntriesForSlowFollowers": 500,
            "ElectionTick": 10, "HeartbeatTick": 1,
        },
        "Dispatcher": {"HeartbeatPeriod": 5_000_000_000_u64},
        "CAConfig": {"NodeCertExpiry": 7_776_000_000_000_000_u64},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": false},
    });
    for (part, values) in given.as_object().into_iter().flatten() {
        match (values, spec[part.as_str()].as_object_mut()) {
            (Value::Object(values), Some(known)) => {
                let set = values.iter().filter(|(_, value)| !value.is_null() && **value != json!(0));
                known.extend(set.map(|(key, value)| (key.clone(), value.clone())));
            }
            (Value::Null, _) | (Value::String(_), _) => {}
            (value, _) => spec[part.as_str()] = value.clone(),
        }
    }
    spec
}

impl EngineApi {
    /// The swarm, if this node is in one.
    pub(super) fn swarm(&self) -> Option<SwarmState> {
        SwarmState::of(&self.handle.snapshot())
    }

    /// The swarm; what needs one is refused without.
    pub(super) fn in_swarm(&self) -> Result<SwarmState, Failure> {
        self.swarm().ok_or_else(|| Failure::new(StatusCode::SERVICE_UNAVAILABLE, NO_SWARM))
    }

    /// Makes the first swarm, or leaves it (`None`).
    pub(super) async fn set_swarm(&self, state: Option<&SwarmState>) -> Result<(), Failure> {
        let _changing = self.swarm_changes.lock().await;
        self.keep_swarm(state).await
    }

    /// Changes the swarm, if there is one.
    pub(super) async fn change_swarm<T>(
        &self,
        change: impl FnOnce(&mut SwarmState) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _changing = self.swarm_changes.lock().await;
        let before = self.in_swarm()?;
        let mut state = before.clone();
        let done = change(&mut state)?;
        if state != before {
            self.keep_swarm(Some(&state)).await?;
        }
        Ok(done)
    }

    async fn keep_swarm(&self, state: Option<&SwarmState>) -> Result<(), Failure> {
        // A structure of texts and numbers always serializes.
        let value = state.map(|state| serde_json::to_string(state).unwrap_or_default()).unwrap_or_default();
        Ok(self.handle.keep(KEY, value).await?)
    }
}
