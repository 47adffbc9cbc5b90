//! The request that creates a service, and what is said of a member.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Seconds;
use crate::api::v1::{PortRequest, parse, text};
use crate::model::names::Alias;
use crate::model::request::{MemberAction, MemberChange, ServiceSpec};
use crate::model::service::{Affinity, HealthCheck, HealthKind, Mode, Target, WhenNoneReady};
use crate::model::{Invalid, publication};

/// Most networks of a service, and most of its names on one of them: a change of a member costs a bit for each.
const NETWORKS_MAX: usize = 64;
/// Most members by name.
const MEMBERS_MAX: usize = 1024;
/// The longest that connections of a drained member may stay, in seconds: a day.
const GRACE_MAX: u32 = 24 * 60 * 60;
/// The shortest time between two probes of a member, in milliseconds.
const INTERVAL_MIN: u32 = 100;
/// Most failed probes in a row that do not make a member unhealthy.
const RETRIES_MAX: u32 = 100;

/// A service to create. Name and networks are required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateService {
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 63 bytes, unique on the host without regard to case.
    #[schema(value_type = text::ServiceName)]
    pub name: String,
    /// Where it is; at least one, at most 64.
    #[schema(min_items = 1, max_items = 64)]
    pub networks: Vec<ServiceNetworkRequest>,
    /// Further names on each of its networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::DomainName>, max_items = 64)]
    pub aliases: Vec<Alias>,
    /// The labels that make a container on its networks a member, all of them, at most 16 KiB; absent: none is by its
    /// labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::EndpointLabelKey, String>)]
    pub select: BTreeMap<String, String>,
    /// Further members, by name or id. They need not exist yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::AnyContainer>, max_items = 1024)]
    pub members: Vec<String>,
    /// `dns`, also when absent, or `vip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ServiceMode>)]
    pub mode: Option<Mode>,
    /// Ports to publish at every address of the host, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
    /// The port that its members serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Target>)]
    pub target: Option<Target>,
    /// `none`, also when absent, or `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ServiceAffinity>)]
    pub affinity: Option<Affinity>,
    /// For how many seconds the connections of a drained member stay; absent: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400)]
    pub grace: Option<u32>,
    /// When a member is ready; absent: when it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub health: Option<HealthRequest>,
    /// `empty`, also when absent, or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::WhenNoneReady>)]
    pub when_none_ready: Option<WhenNoneReady>,
    /// Labels of the service itself, at most 16 KiB.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::EndpointLabelKey, String>)]
    pub labels: BTreeMap<String, String>,
}

/// An object or null: serde would take the items of a list for the fields of an object.
pub(super) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HealthRequest>, D::Error> {
    match Option::<serde_json::Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(value) if value.is_object() => serde_json::from_value(value).map(Some).map_err(D::Error::custom),
        Some(_) => Err(D::Error::custom("expected an object")),
    }
}

/// When a member is ready. What is absent has its default, or stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthRequest {
    /// `none`, `engine`, `tcp[:PORT]` or `http[:PORT]/PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::HealthKind>)]
    pub kind: Option<HealthKind>,
    /// Seconds between two probes of a member: 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0.1, maximum = 86400)]
    pub interval: Option<Seconds>,
    /// Seconds after which a probe has failed: 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0.001, maximum = 86400)]
    pub timeout: Option<Seconds>,
    /// After how many failed probes in a row a ready member is unhealthy: 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub retries: Option<u32>,
}

/// A network of a service: its name or id, or an object with further names there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ServiceNetworkRequest {
    /// Its name or id.
    #[schema(value_type = text::AnyNetwork)]
    Name(String),
    /// With names.
    Object(ServiceNetworkObject),
}

/// A network of a service, with the service's names there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceNetworkObject {
    /// Name or id of the network.
    #[schema(value_type = text::AnyNetwork)]
    pub network: String,
    /// Further names of the service on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::DomainName>, max_items = 64)]
    pub aliases: Vec<Alias>,
}

/// What to say of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMember {
    /// `drain`: nothing new reaches it; `undrain`; `ready` or `unready`, whatever its health checks say; `checked`: they
    /// decide again.
    #[schema(value_type = text::MemberAction)]
    pub action: MemberAction,
}

impl ChangeMember {
    /// The change of the container with this name or id.
    pub fn of(self, container: &str) -> Result<MemberChange, Invalid> {
        Ok(MemberChange { member: parse::container_reference(container)?, action: self.action })
    }
}

impl TryFrom<CreateService> for ServiceSpec {
    type Error = Invalid;
    fn try_from(request: CreateService) -> Result<Self, Invalid> {
        let spec = Self::named(request.name.parse()?);
        Ok(Self {
            networks: networks(request.networks, &request.aliases)?,
            select: parse::labels(request.select)?,
            members: members(request.members)?,
            mode: request.mode.unwrap_or_default(),
            ports: publication::distinct(request.ports.into_iter().map(PortRequest::spec))?,
            target: request.target,
            affinity: request.affinity.unwrap_or_default(),
            grace: request.grace.map_or(Ok(spec.grace), grace)?,
            health: request.health.unwrap_or_default().over(HealthCheck::default())?,
            when_none_ready: request.when_none_ready.unwrap_or_default(),
            labels: parse::labels(request.labels)?,
            ..spec
        })
    }
}

impl From<ServiceSpec> for CreateService {
    /// The request for exactly this service.
    fn from(spec: ServiceSpec) -> Self {
        let network = |(network, aliases)| ServiceNetworkRequest::Object(ServiceNetworkObject { network, aliases });
        Self {
            name: spec.name.into(),
            networks: spec.networks.into_iter().map(network).collect(),
            aliases: Vec::new(),
            select: spec.select,
            members: spec.members,
            mode: Some(spec.mode),
            ports: spec.ports.into_iter().map(PortRequest::Spec).collect(),
            target: spec.target,
            affinity: Some(spec.affinity),
            grace: Some(spec.grace),
            health: Some(HealthRequest {
                kind: Some(spec.health.kind),
                interval: Some(Seconds::from_millis(spec.health.interval)),
                timeout: Some(Seconds::from_millis(spec.health.timeout)),
                retries: Some(spec.health.retries),
            }),
            when_none_ready: Some(spec.when_none_ready),
            labels: spec.labels,
        }
    }
}

impl HealthRequest {
    /// The check that differs from `check` in what is given.
    pub(super) fn over(self, check: HealthCheck) -> Result<HealthCheck, Invalid> {
        let interval = self.interval.map_or(check.interval, Seconds::as_millis);
        if interval < INTERVAL_MIN {
            let why = "probes are at least 0.1 s apart";
            return Err(Invalid::new("interval", format!("{} s", f64::from(interval) / 1000.0), why));
        }
        let retries = self.retries.unwrap_or(check.retries);
        if !(1..=RETRIES_MAX).contains(&retries) {
            return Err(Invalid::new("retries", retries.to_string(), format!("use 1 to {RETRIES_MAX}")));
        }
        let timeout = self.timeout.map_or(check.timeout, Seconds::as_millis);
        Ok(HealthCheck { kind: self.kind.unwrap_or(check.kind), interval, timeout, retries })
    }
}

/// Networks with the service's names there: those of each, and those of all.
pub(super) fn networks(
    networks: Vec<ServiceNetworkRequest>,
    everywhere: &[Alias],
) -> Result<Vec<(String, Vec<Alias>)>, Invalid> {
    if networks.len() > NETWORKS_MAX {
        let why = format!("a service is on at most {NETWORKS_MAX}");
        return Err(Invalid::new("number of networks", networks.len().to_string(), why));
    }
    let network = |request| {
        let ServiceNetworkObject { network, aliases: own } = match request {
            ServiceNetworkRequest::Name(network) => ServiceNetworkObject { network, aliases: Vec::new() },
            ServiceNetworkRequest::Object(object) => object,
        };
        let given = own.into_iter().chain(everywhere.iter().cloned());
        Ok((parse::network_reference(&network)?, aliases(given)?))
    };
    networks.into_iter().map(network).collect()
}

/// Further names on one network; one that is said again counts once.
pub(super) fn aliases(given: impl IntoIterator<Item = Alias>) -> Result<Vec<Alias>, Invalid> {
    let mut aliases: Vec<Alias> = Vec::new();
    for alias in given {
        if aliases.iter().any(|there| there.key() == alias.key()) {
            continue;
        }
        if aliases.len() == NETWORKS_MAX {
            let why = format!("a service has at most {NETWORKS_MAX} of them on a network");
            return Err(Invalid::new("alias of a service", alias.as_str(), why));
        }
        aliases.push(alias);
    }
    Ok(aliases)
}

/// Members by name or id; one that is said again counts once.
pub(super) fn members(given: Vec<String>) -> Result<Vec<String>, Invalid> {
    let mut members: Vec<String> = Vec::new();
    for member in given {
        let member = parse::container_reference(&member)?;
        if members.iter().any(|there| there.eq_ignore_ascii_case(&member)) {
            continue;
        }
        if members.len() == MEMBERS_MAX {
            let why = format!("a service lists at most {MEMBERS_MAX} of them: select by label");
            return Err(Invalid::new("member", member, why));
        }
        members.push(member);
    }
    Ok(members)
}

pub(super) fn grace(seconds: u32) -> Result<u32, Invalid> {
    if seconds > GRACE_MAX {
        return Err(Invalid::new("grace", seconds.to_string(), format!("use at most {GRACE_MAX} seconds")));
    }
    Ok(seconds)
}

// Not `untagged`: its error would not name the unknown field of the object.
impl<'de> Deserialize<'de> for ServiceNetworkRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ServiceNetworkRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a network, or an object with network and aliases")
            }
            fn visit_str<E>(self, name: &str) -> Result<ServiceNetworkRequest, E> {
                Ok(ServiceNetworkRequest::Name(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ServiceNetworkRequest, A::Error> {
                ServiceNetworkObject::deserialize(MapAccessDeserializer::new(map)).map(ServiceNetworkRequest::Object)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
