//! Leases of DHCP servers as they are shown.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339;
use crate::model::lease;

/// An address that a DHCP server granted, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The address, with prefix length.
    pub address: String,
    /// The server.
    #[schema(value_type = String, format = "ip")]
    pub server: Ipv4Addr,
    /// When it was granted or prolonged last, in RFC 3339, UTC, to the second.
    pub granted: String,
    /// When it ends unless it is prolonged before; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl From<&lease::Lease> for Lease {
    fn from(lease: &lease::Lease) -> Self {
        Self {
            address: lease.address.to_string(),
            server: lease.server,
            granted: rfc3339(lease.granted_at),
            expires: lease.ends_at().map(rfc3339),
        }
    }
}
