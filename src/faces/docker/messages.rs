//! The messages of Docker's plugin protocol: libnetwork's remote driver (docs/remote.md of libnetwork, drivers/remote/api)
//! and its remote IPAM driver (ipams/remote/api). What Docker leaves out or sends as `null` is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The options of libnetwork, in requests for networks, endpoints and sandboxes (netlabel/labels.go).
pub(super) const GENERIC: &str = "com.docker.network.generic";
pub(super) const INTERNAL: &str = "com.docker.network.internal";
pub(super) const PORT_MAP: &str = "com.docker.network.portmap";
pub(super) const EXPOSED: &str = "com.docker.network.endpoint.exposedports";
pub(super) const GATEWAY: &str = "com.docker.network.gateway";
/// The option with which Docker's network becomes one of netd that exists.
pub(super) const JOIN: &str = "netd.network";

pub(super) type Options = Option<Map<String, Value>>;

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(default)]
    pub(super) options: Options,
    #[serde(default, rename = "IPv4Data")]
    pub(super) ipv4: Option<Vec<Pool>>,
    #[serde(default, rename = "IPv6Data")]
    pub(super) ipv6: Option<Vec<Pool>>,
}

/// A pool of a network.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pool {
    #[serde(default)]
    pub(super) pool: Option<String>,
    /// With the prefix length of the pool.
    #[serde(default)]
    pub(super) gateway: Option<String>,
    /// Each with the prefix length of the pool.
    #[serde(default)]
    pub(super) aux_addresses: Option<BTreeMap<String, String>>,
}

/// `NetworkDriver.DeleteNetwork`.
#[derive(Debug, Deserialize)]
pub(super) struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) interface: Option<Interface>,
}

/// The interface of an endpoint: addresses with prefix lengths, and the MAC address; empty: not chosen as yet.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Interface {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    #[serde(default, rename = "AddressIPv6", skip_serializing_if = "Option::is_none")]
    pub(super) address_v6: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mac_address: Option<String>,
}

/// `NetworkDriver.EndpointOperInfo`, `DeleteEndpoint`, `Leave`, `RevokeExternalConnectivity`.
#[derive(Debug, Deserialize)]
pub(super) struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Join {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    pub(super) sandbox_key: String,
    #[serde(default)]
    pub(super) options: Options,
}

/// The reply to [`Join`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub(super) interface_name: InterfaceName,
    pub(super) gateway: String,
    #[serde(rename = "GatewayIPv6")]
    pub(super) gateway_v6: String,
    /// Otherwise Docker connects a container without gateway to a bridge of its own.
    pub(super) disable_gateway_service: bool,
}

/// Which interface Docker takes into the container, and how its name there begins.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub(super) src_name: String,
    pub(super) dst_prefix: &'static str,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Program {
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
    #[serde(default)]
    pub(super) options: Options,
}

/// A published port (libnetwork types.PortBinding).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    pub(super) proto: u8,
    #[serde(default, rename = "IP")]
    pub(super) ip: Option<String>,
    pub(super) port: u16,
    /// Empty: every address of the host.
    #[serde(default, rename = "HostIP")]
    pub(super) host_ip: Option<String>,
    /// 0: the driver chooses.
    #[serde(default)]
    pub(super) host_port: u16,
    /// The last of the host ports among which the driver chooses.
    #[serde(default)]
    pub(super) host_port_end: u16,
}

/// A port that the container exposes (libnetwork types.TransportPort).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TransportPort {
    pub(super) proto: u8,
    pub(super) port: u16,
}

/// `IpamDriver.RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestPool {
    #[serde(default)]
    pub(super) pool: Option<String>,
    #[serde(default)]
    pub(super) sub_pool: Option<String>,
    #[serde(default)]
    pub(super) v6: bool,
}

/// `IpamDriver.ReleasePool`, `RequestAddress` and `ReleaseAddress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OfPool {
    #[serde(rename = "PoolID")]
    pub(super) pool: String,
    #[serde(default)]
    pub(super) address: Option<String>,
    #[serde(default)]
    pub(super) options: Option<BTreeMap<String, String>>,
}

/// The option of an address that is for the gateway.
pub(super) const ADDRESS_TYPE: &str = "RequestAddressType";

/// A text that is not empty.
pub(super) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
