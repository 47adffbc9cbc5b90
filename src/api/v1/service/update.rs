//! The request that updates a service: only what is given changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::request::{aliases, grace, members, networks};
use super::{HealthRequest, ServiceNetworkRequest};
use crate::api::v1::{PortRequest, parse, text};
use crate::model::names::Alias;
use crate::model::publication::PortSpec;
use crate::model::request::{ServiceSpec, ServiceUpdate};
use crate::model::service::{Affinity, Mode, Service, Target, WhenNoneReady};
use crate::model::{Invalid, publication};

/// What of a service to change. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateService {
    /// The version that the caller has seen: if the service has another by now, nothing changes. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// All of its networks from now on. On those that it keeps, it keeps its virtual addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<ServiceNetworkRequest>>,
    /// Its further names: on each of `networks`, besides those that are given there, or else all of them on each network
    /// that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<text::DomainName>>)]
    pub aliases: Option<Vec<Alias>>,
    /// All labels that make a container a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<text::EndpointLabelKey, String>>)]
    pub select: Option<BTreeMap<String, String>>,
    /// All members by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<text::AnyContainer>>)]
    pub members: Option<Vec<String>>,
    /// Further members by name or id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::AnyContainer>)]
    pub member_add: Vec<String>,
    /// Those of its listed members that it no longer lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::AnyContainer>)]
    pub member_rm: Vec<String>,
    /// `dns` or `vip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ServiceMode>)]
    pub mode: Option<Mode>,
    /// All published ports. One without host port keeps that which it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortRequest>>,
    /// Further ports to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish_add: Vec<PortRequest>,
    /// Ports that are no longer published. What is left out of one means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish_rm: Vec<PortRequest>,
    /// The port that its members serve; `null`: not said.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Target>)]
    pub target: Option<Option<Target>>,
    /// `none` or `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ServiceAffinity>)]
    pub affinity: Option<Affinity>,
    /// For how many seconds the connections of a drained member stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 86400)]
    pub grace: Option<u32>,
    /// What of its health check to change.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "super::request::object")]
    pub health: Option<HealthRequest>,
    /// `empty` or `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::WhenNoneReady>)]
    pub when_none_ready: Option<WhenNoneReady>,
    /// All labels of the service itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<text::EndpointLabelKey, String>>)]
    pub labels: Option<BTreeMap<String, String>>,
}

impl UpdateService {
    /// The update of the service as the caller sees it, which is refused if it has changed since.
    pub fn of(self, service: &Service) -> Result<ServiceUpdate, Invalid> {
        let version = Some(self.version.unwrap_or(service.version));
        let mut spec = ServiceSpec::from(service);
        match (self.networks, self.aliases) {
            (Some(given), names) => spec.networks = networks(given, &names.unwrap_or_default())?,
            (None, Some(names)) => {
                let names = aliases(names)?;
                spec.networks.iter_mut().for_each(|(_, aliases)| aliases.clone_from(&names));
            }
            (None, None) => {}
        }
        spec.select = self.select.map_or(Ok(spec.select), parse::labels)?;
        spec.members = members_of(service, self.members.unwrap_or(spec.members), self.member_add, self.member_rm)?;
        spec.mode = self.mode.unwrap_or(spec.mode);
        let all = |ports: Vec<PortRequest>| publication::distinct(ports.into_iter().map(PortRequest::spec));
        let ports = self.ports.map_or(Ok(spec.ports), all)?;
        spec.ports = ports_of(service, ports, all(self.publish_add)?, all(self.publish_rm)?)?;
        spec.target = self.target.unwrap_or(spec.target);
        spec.affinity = self.affinity.unwrap_or(spec.affinity);
        spec.grace = self.grace.map_or(Ok(spec.grace), grace)?;
        spec.health = self.health.unwrap_or_default().over(spec.health)?;
        spec.when_none_ready = self.when_none_ready.unwrap_or(spec.when_none_ready);
        spec.labels = self.labels.map_or(Ok(spec.labels), parse::labels)?;
        Ok(ServiceUpdate { service: service.name.to_string(), version, spec })
    }
}

fn members_of(
    service: &Service,
    mut listed: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
) -> Result<Vec<String>, Invalid> {
    for gone in remove {
        let before = listed.len();
        listed.retain(|member| !member.eq_ignore_ascii_case(&gone));
        if listed.len() == before {
            let why = match listed.is_empty() {
                true => format!("service {} lists no members", service.name),
                false => format!("service {} does not list it: it lists {}", service.name, listed.join(", ")),
            };
            return Err(Invalid::new("member", gone, why));
        }
    }
    listed.extend(add);
    members(listed)
}

fn ports_of(
    service: &Service,
    mut ports: Vec<PortSpec>,
    add: Vec<PortSpec>,
    remove: Vec<PortSpec>,
) -> Result<Vec<PortSpec>, Invalid> {
    for gone in remove {
        let before = ports.len();
        ports.retain(|port| !is_meant(&gone, port));
        if ports.len() == before {
            let published: Vec<String> = service.publications.iter().map(ToString::to_string).collect();
            let published = if published.is_empty() { "nothing".to_owned() } else { published.join(", ") };
            let why = format!("service {} does not publish it: it publishes {published}", service.name);
            return Err(Invalid::new("port", gone.to_string(), why));
        }
    }
    ports.extend(add);
    publication::distinct(ports.into_iter().map(Ok))
}

/// Whether what is left out of `given` means the port.
fn is_meant(given: &PortSpec, port: &PortSpec) -> bool {
    let host = match (given.host, port.host) {
        (None, _) => true,
        (Some(given), Some(port)) => given.first() <= port.first() && port.last() <= given.last(),
        (Some(_), None) => false,
    };
    let container =
        given.container.first() <= port.container.first() && port.container.last() <= given.container.last();
    host && container && given.protocol == port.protocol && (given.host_ip.is_none() || given.host_ip == port.host_ip)
}

/// Tells `null` from absence.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
