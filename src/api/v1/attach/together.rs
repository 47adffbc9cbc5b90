//! One container on several networks: attached to all of them, or to none.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AddressRange, AddressRequest, Attach, Attachment, Bandwidth, CreateNetwork, Interface, PortRequest, Route,
    attachment_key, text,
};
use crate::model::Invalid;
use crate::model::address::Mac;
use crate::model::egress::{Allowance, Stance};
use crate::model::exposure::Exposure;
use crate::model::ids::ContainerId;
use crate::model::names::{Alias, IfName, NetworkName};
use crate::model::request::{Attachments, EndpointSpec};
use crate::model::upstream::Upstream;

/// Maximum number of attachments in one request; a container with more networks needs several.
const ATTACHMENTS_MAX: usize = 64;

/// A container to attach to several networks (`PUT /v1/attachments/{container}`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachTogether {
    /// Absolute path of its network namespace.
    #[schema(value_type = text::NamespacePath)]
    pub netns: String,
    /// The container's name, as for a single attachment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ContainerName>)]
    pub name: Option<String>,
    /// The scope of its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::DomainName>)]
    pub scope: Option<String>,
    /// 1 to 64, in this order: the first that leads outside has the default route.
    #[schema(min_items = 1, max_items = 64)]
    pub attachments: Vec<AttachOne>,
}

/// One of the attachments of a container. The fields that a single attachment has too mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachOne {
    /// The runtime's network; absent: the name of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::NetworkName>)]
    pub owner: Option<String>,
    /// The interface in the container.
    #[schema(value_type = text::InterfaceName)]
    pub ifname: String,
    /// The network to join, by name; created from this description if it does not exist.
    pub network: CreateNetwork,
    /// Further DNS names on this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Alias>)]
    pub aliases: Vec<Alias>,
    /// Who makes the interface and chooses its addresses.
    #[serde(default)]
    pub interface: Interface,
    /// Addresses to take, at most one per family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRequest>,
    /// Where automatic addresses are taken from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
    /// Routes besides the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Whether the container's default route never leads over this interface, and its ports not to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// The interface's MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MacAddress>)]
    pub mac: Option<Mac>,
    /// Ports to publish. They may be the same for each network of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
    /// Ports that it serves without publishing them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::ExposedPort>)]
    pub expose: Vec<Exposure>,
    /// Labels of the user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::EndpointLabelKey, String>)]
    pub labels: BTreeMap<String, String>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Upstreams for external names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::NameServer>)]
    pub dns: Vec<Upstream>,
    /// Whether anything but what is allowed may be sent to the outside and to the host: `open` or `deny`; absent:
    /// as its network says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::EgressStance>)]
    pub egress: Option<Stance>,
    /// What may be sent all the same, besides what the network allows: `NAME`, `*.NAME` (the names below it), an address or a prefix, each with
    /// `:PORT[-END][/PROTOCOL]` if wanted, an IPv6 one then in brackets. Without `egress` it means deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Allowance>)]
    pub egress_allow: Vec<Allowance>,
}

/// The completed attachments of one request, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachedTogether {
    /// One for each that was asked for.
    pub attachments: Vec<Attachment>,
}

impl AttachTogether {
    /// Parses the request for the container with that id.
    pub fn into_specs(self, container: &str) -> Result<Vec<EndpointSpec>, Invalid> {
        let count = self.attachments.len();
        if !(1..=ATTACHMENTS_MAX).contains(&count) {
            let why = format!("use 1 to {ATTACHMENTS_MAX}");
            return Err(Invalid::new("number of attachments", count.to_string(), why));
        }
        let Self { netns, name, scope, attachments } = self;
        let mut seen = BTreeSet::new();
        let spec = |one: AttachOne| {
            if !seen.insert(one.ifname.clone()) {
                return Err(Invalid::new("interface", &one.ifname, "two attachments have it"));
            }
            let key = attachment_key(one.owner.as_ref().unwrap_or(&one.network.name), container, &one.ifname)?;
            one.single(netns.clone(), name.clone(), scope.clone()).into_spec(key)
        };
        attachments.into_iter().map(spec).collect()
    }
}

impl AttachOne {
    /// The same as a request for a single attachment.
    fn single(self, netns: String, name: Option<String>, scope: Option<String>) -> Attach {
        Attach {
            netns,
            network: self.network,
            name,
            scope,
            aliases: self.aliases,
            interface: self.interface,
            addresses: self.addresses,
            ranges: self.ranges,
            routes: self.routes,
            no_default_route: self.no_default_route,
            mac: self.mac,
            ports: self.ports,
            expose: self.expose,
            labels: self.labels,
            bandwidth: self.bandwidth,
            dns: self.dns,
            egress: self.egress,
            egress_allow: self.egress_allow,
        }
    }
}

/// The attachments of a container that `only` names, joined by commas, each as `OWNER/IFNAME`; absent: all of them.
pub fn attachments_of(container: &str, only: Option<&str>) -> Result<Attachments, Invalid> {
    let container: ContainerId = container.parse()?;
    let one = |text: &str| {
        let (owner, ifname) = text.split_once('/').ok_or_else(|| Invalid::new("only", text, "use OWNER/IFNAME"))?;
        Ok((owner.parse::<NetworkName>()?, ifname.parse::<IfName>()?))
    };
    let only = only.map(|text| text.split(',').map(one).collect::<Result<_, Invalid>>()).transpose()?;
    Ok(Attachments { container, only })
}
