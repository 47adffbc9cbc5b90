//! What another engine tells about its networks that are networks of netd.

use crate::model::handover::EngineNetwork;
use crate::model::names::NetworkName;

/// A change of the networks of another engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineNetworkChange {
    /// The engine's network is this one of netd, too.
    Join {
        /// Name or id of netd's network.
        network: String,
        /// The engine's network.
        engine: EngineNetwork,
    },
    /// The engine's network is gone: netd's goes with it if it was made for it. One that is not known is no error.
    Leave {
        /// The engine's id of its network.
        id: String,
    },
    /// The engine's name for its network, which netd's network gets, if it was made for it, has no containers and the name
    /// is free.
    Name {
        /// The engine's id of its network.
        id: String,
        /// The name.
        name: NetworkName,
    },
}
