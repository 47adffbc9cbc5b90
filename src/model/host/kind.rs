//! The kinds of links.

use serde::{Deserialize, Serialize};

/// The kind of a link, as far as netd distinguishes kinds (`IFLA_INFO_KIND`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObservedKind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// An intermediate device, which carries the limit of what another interface receives.
    Ifb,
    /// A TUN or TAP device.
    Tun,
    /// One end of a netkit pair.
    Netkit,
    /// An interface on top of another.
    Macvlan,
    /// A kind that netd treats like hardware.
    Other(String),
    /// Hardware, which has no kind.
    Hardware,
}
