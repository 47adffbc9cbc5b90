//! Attachments: how container runtimes (CNI) attach containers. The path of an attachment is its key, so that asking
//! again for the same changes nothing: `/v1/attachments/{owner}/{container}/{ifname}`, and `/v1/attachments/{container}`
//! for several networks together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CreateNetwork, Endpoint, PortRequest, text};
use crate::model::address::Mac;
use crate::model::egress::{Allowance, Stance};
use crate::model::exposure::Exposure;
use crate::model::names::Alias;
use crate::model::upstream::Upstream;

mod spec;
mod together;

pub use spec::attachment_key;
pub use together::{AttachOne, AttachTogether, AttachedTogether, attachments_of};

/// A container to attach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Absolute path of its network namespace.
    #[schema(value_type = text::NamespacePath)]
    pub netns: String,
    /// The network to join, by name; created from this description if it does not exist.
    pub network: CreateNetwork,
    /// The container's name; absent: its id. If another living container has this name, the container is named by its
    /// id and has this name as an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ContainerName>)]
    pub name: Option<String>,
    /// The scope of its name: the container is called NAME.SCOPE, and NAME within the same scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::DomainName>)]
    pub scope: Option<String>,
    /// Further DNS names on this network. `*.app` stands for every name below `app`, at any depth, that no container
    /// has literally.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Alias>)]
    pub aliases: Vec<Alias>,
    /// Who makes the interface and chooses its addresses.
    #[serde(default)]
    pub interface: Interface,
    /// Addresses to take, at most one per family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRequest>,
    /// Where automatic addresses are taken from, tried in order; each in a subnet of the network. Empty: the network's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
    /// Routes besides the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Whether the container's default route never leads over this interface, and its ports not to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// The interface's MAC address; absent: derived from its IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MacAddress>)]
    pub mac: Option<Mac>,
    /// Ports to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
    /// Ports that it serves without publishing them, `"PORT[/tcp|udp|sctp][=SERVICE]"`: DNS announces them (SRV) like
    /// published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::ExposedPort>)]
    pub expose: Vec<Exposure>,
    /// Labels of the user, at most 16 KiB; DNS announces them as TXT records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::EndpointLabelKey, String>)]
    pub labels: BTreeMap<String, String>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Upstreams for external names, asked before those of the network; as `dns` of a network.
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

/// Who makes an attachment's interface and chooses its addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// netd makes the interface, with the requested addresses and otherwise the next free ones.
    #[default]
    Made,
    /// netd makes the interface without addresses; `given` follows, once an IPAM plugin that works through the
    /// interface has them.
    Unaddressed,
    /// netd makes the interface (or has made it as `unaddressed`), with exactly the requested addresses.
    Given,
    /// Another program made the interface, with the listed addresses: netd adds names, ports, firewall elements and
    /// limits.
    Found,
}

/// A requested address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRequest {
    /// With or without prefix length.
    #[schema(value_type = text::InterfaceAddress)]
    pub address: String,
    /// Absent: the network's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub gateway: Option<IpAddr>,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The subnet.
    #[schema(value_type = text::Prefix)]
    pub subnet: String,
    /// The first address; absent: the subnet's first usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub first: Option<IpAddr>,
    /// The last address; absent: the subnet's last usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub last: Option<IpAddr>,
}

/// A route over the attachment's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination, as in `10.0.0.0/8`.
    #[schema(value_type = text::Prefix)]
    pub destination: String,
    /// Absent: the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub gateway: Option<IpAddr>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4294967295u32)]
    pub mtu: Option<u32>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4294967295u32)]
    pub advmss: Option<u32>,
    /// Metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4294967295u32)]
    pub priority: Option<u32>,
    /// Absent: main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4294967295u32)]
    pub table: Option<u32>,
    /// `RT_SCOPE_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 255)]
    pub scope: Option<u8>,
}

/// Limits, seen from the container; a rate needs its burst. Zero is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Towards the container, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<u64>,
    /// Bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    /// From the container, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<u64>,
    /// Bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
}

/// A completed attachment: all that the runtime needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The bridge; absent if the interface is not a bridge port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The MAC address of the interface on the host; absent if another program made the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mac: Option<String>,
    /// The MTU of the interface, in bytes.
    pub mtu: u32,
    /// Every route that netd set over the interface, the default ones first.
    pub routes: Vec<Route>,
    /// The content of the container's resolv.conf.
    pub dns: Dns,
    /// Where netd answers this container on this network, for a runtime that lists the name servers of each network: the
    /// gateway for each of its addresses, or 127.0.0.11 if it is answered within. One is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub nameservers: Vec<IpAddr>,
}

/// The content of a container's resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// At most one: netd's name server, which answers for all networks of the container.
    #[schema(value_type = Vec<String>)]
    pub nameservers: Vec<IpAddr>,
    /// The domain of netd's names.
    pub domain: String,
    /// That domain, then the host's search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What the runtime knows of an attachment (`POST …/check`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckAttachment {
    /// Absolute path of its network namespace.
    #[schema(value_type = text::NamespacePath)]
    pub netns: String,
    /// Addresses that it must have, with or without prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::InterfaceAddress>)]
    pub addresses: Vec<String>,
    /// The MAC address that it must have; absent: the one that netd assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MacAddress>)]
    pub mac: Option<String>,
    /// The MTU that it must have, in bytes; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Int64, maximum = 4294967295u32)]
    pub mtu: Option<u32>,
}

/// An attachment of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRef {
    /// The container's id.
    #[schema(value_type = text::ContainerId)]
    pub container: String,
    /// The interface in the container.
    #[schema(value_type = text::InterfaceName)]
    pub ifname: String,
}

/// The attachments that an owner still has (`POST /v1/attachments/{owner}/gc`); its others are detached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepAttachments {
    /// The attachments to keep.
    pub valid: Vec<AttachmentRef>,
}

/// The result of a garbage collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// The detached attachments.
    pub released: Vec<AttachmentRef>,
}
