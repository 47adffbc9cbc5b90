//! Conditions: what is known of a container that decides whether services use it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{HealthKind, Service};
use crate::model::endpoint::Endpoint;
use crate::model::ids::ContainerId;
use crate::model::names::ServiceName;

/// What people, probes and engines say of a container, for all services. It ends with the container's last endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The container.
    pub container: ContainerId,
    /// Since when it is drained, in seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<u64>,
    /// What was said of it by request; it overrides every health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Said>,
    /// What its engine's health check says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Health>,
    /// The results of the probes for each service that has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probed: BTreeMap<ServiceName, Health>,
    /// Labels that its engine has and that its endpoints do not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Condition {
    /// Of a container of which nothing is known.
    pub fn new(container: ContainerId) -> Self {
        let (labels, probed) = (BTreeMap::new(), BTreeMap::new());
        Self { container, draining: None, said: None, engine: None, probed, labels }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        let Self { draining, said, engine, probed, labels, .. } = self;
        draining.is_none() && said.is_none() && engine.is_none() && probed.is_empty() && labels.is_empty()
    }
}

/// What was said of a member by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Whether it is ready.
    pub ready: bool,
    /// When that was said, in seconds since the Unix epoch.
    pub since: u64,
}

/// The result of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it succeeded.
    pub healthy: bool,
    /// Since when it has this result, in seconds since the Unix epoch.
    pub since: u64,
    /// Why it failed; empty if it did not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Health {
    /// As it is after the one before: if that had the same result, it has it for longer.
    pub fn after(self, before: Option<&Self>) -> Self {
        let since = before.filter(|before| before.healthy == self.healthy).map_or(self.since, |before| before.since);
        Self { since, ..self }
    }
}

/// Whether a service uses a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It has not been found healthy yet.
    Starting,
    /// It is used.
    Ready,
    /// Its health check failed, or it was said to be unready.
    Unhealthy,
    /// It is about to be stopped.
    Draining,
}

impl MemberState {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Unhealthy, Self::Draining];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
        }
    }
}

/// The state of a member, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is used.
    pub state: MemberState,
    /// Since when, in seconds since the Unix epoch; `None`: since it was connected.
    pub since: Option<u64>,
    /// Why it is not used; empty if it is.
    pub why: String,
}

impl Standing {
    /// The standing of an endpoint in a service.
    pub fn of(service: &Service, endpoint: &Endpoint, condition: Option<&Condition>) -> Self {
        let standing = |state, since, why: &str| Self { state, since, why: why.to_owned() };
        if let Some(since) = condition.and_then(|condition| condition.draining) {
            return standing(MemberState::Draining, Some(since), "it is drained: see `netd service undrain`");
        }
        if endpoint.addresses.is_empty() || endpoint.has_no_namespace() {
            return standing(MemberState::Starting, None, "its engine has not started it yet");
        }
        match condition.and_then(|condition| condition.said) {
            Some(Said { ready: true, since }) => return standing(MemberState::Ready, Some(since), ""),
            Some(Said { ready: false, since }) => {
                let why = "it was said to be unready: see `netd service ready`";
                return standing(MemberState::Unhealthy, Some(since), why);
            }
            None => {}
        }
        let (health, unknown) = match &service.health.kind {
            HealthKind::None => return standing(MemberState::Ready, None, ""),
            HealthKind::Engine => {
                let health = condition.and_then(|condition| condition.engine.as_ref());
                if health.is_none() && !service.is_defined() {
                    return standing(MemberState::Ready, None, "");
                }
                (health, "its engine has not said that it is healthy")
            }
            HealthKind::Tcp(_) | HealthKind::Http { .. } => {
                (condition.and_then(|condition| condition.probed.get(&service.name)), "no probe has succeeded yet")
            }
        };
        match health {
            None => standing(MemberState::Starting, None, unknown),
            Some(Health { healthy: true, since, .. }) => standing(MemberState::Ready, Some(*since), ""),
            Some(Health { since, why, .. }) => standing(MemberState::Unhealthy, Some(*since), why),
        }
    }

    /// Whether the member is used.
    pub fn is_ready(&self) -> bool {
        self.state == MemberState::Ready
    }
}
