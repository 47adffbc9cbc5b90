//! Network namespaces, as containers have them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::NetnsId;

/// A network namespace: its identity, and its last known path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// A path that led to it (`/run/netns/web`, `/proc/812/ns/net`). It may lead elsewhere by now; compare `id`.
    pub path: PathBuf,
    /// Its identity.
    pub id: NetnsId,
}

impl Netns {
    /// The name under `/run/netns` (`ip netns`), if its path is there.
    pub fn name(&self) -> Option<&str> {
        let parent = self.path.parent()?.to_str()?;
        matches!(parent, "/run/netns" | "/var/run/netns").then(|| self.path.file_name()?.to_str())?
    }
}
