//! Attachments: how container runtimes (CNI) attach containers. The path of an attachment is its key, so that asking
//! again for the same changes nothing: `/v1/attachments/{owner}/{container}/{ifname}`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CreateNetwork, Endpoint, PortRequest};

mod spec;

pub use spec::attachment_key;

/// A container to attach (`PUT`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Absolute path of its network namespace.
    pub netns: String,
    /// The network to join by its name; made of this when there is none of that name.
    pub network: CreateNetwork,
    /// The container's name; absent: its id. Where another living container has it, the container is named by its id
    /// and has this name as an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A namespace of names: the container is called NAME.SCOPE, and just NAME among those of the same scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Further DNS names on this network. `*.app` stands for every name below `app`, at any depth, that nobody has as
    /// it stands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Where the interface and its addresses come from.
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
    /// The interface's MAC address; absent: from its IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Ports to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
    /// Ports that it serves besides, `"PORT[/tcp|udp|sctp][=SERVICE]"`: DNS tells of them (SRV), as of published ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// Notes of the user's own, 16 KiB at most; DNS tells them as TXT.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Who is asked for names that are not ours, before the network's; as `dns` of a network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// Where an attachment's interface and addresses come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// netd makes the interface, with the addresses asked for and the next free ones.
    #[default]
    Made,
    /// netd makes the interface without addresses; `given` follows, once an IPAM plugin that works through the
    /// interface has them.
    Unaddressed,
    /// netd makes the interface (or has made it, `unaddressed`), with the addresses asked for and no others.
    Given,
    /// Another program made it, with the addresses that are listed: netd adds names, ports, firewall and limits.
    Found,
}

/// An address to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRequest {
    /// With or without prefix length.
    pub address: String,
    /// Absent: the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The subnet.
    pub subnet: String,
    /// The first address; absent: the subnet's first usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub first: Option<IpAddr>,
    /// The last address; absent: the subnet's last usable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub last: Option<IpAddr>,
}

/// A route over the attachment's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The destination, as in `10.0.0.0/8`.
    pub destination: String,
    /// Absent: the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Absent: main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `RT_SCOPE_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// What became of it: all that a runtime must be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The bridge; absent where the interface belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Of the interface on the host; absent where another program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_mac: Option<String>,
    /// Bytes, of the interface.
    pub mtu: u32,
    /// Every route that netd set over the interface, the default ones first.
    pub routes: Vec<Route>,
    /// What the container's resolv.conf must say.
    pub dns: Dns,
}

/// What a container's resolv.conf must say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dns {
    /// At most one: netd's, which answers for all of the container's networks.
    #[schema(value_type = Vec<String>)]
    pub nameservers: Vec<IpAddr>,
    /// The domain of netd's names.
    pub domain: String,
    /// That domain, then the host's search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What the runtime remembers of an attachment (`POST …/check`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckAttachment {
    /// Absolute path of its network namespace.
    pub netns: String,
    /// Addresses that it must have, with or without prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The MAC address that it must have; absent: the one that netd gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The MTU that it must have, in bytes; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// An attachment of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRef {
    /// The container's id.
    pub container: String,
    /// The interface in the container.
    pub ifname: String,
}

/// The attachments that an owner still has (`POST /v1/attachments/{owner}/gc`); all others of that owner go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepAttachments {
    /// Those that stay.
    pub valid: Vec<AttachmentRef>,
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// Those that are gone.
    pub released: Vec<AttachmentRef>,
}
