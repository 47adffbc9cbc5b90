//! The snapshot: what every reader sees, swapped whole after each command.

use crate::logic::zone;
use crate::model::desired::Desired;
use crate::model::question::{Answer, Asker, RecordType};

/// An immutable view of the state.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Networks, containers, endpoints.
    pub desired: Desired,
    /// Counts changes since the daemon started.
    pub revision: u64,
    /// What is not as it must be, one line each; empty when all is well.
    pub problems: Vec<String>,
    /// The domain of our names ("internal").
    pub domain: String,
    /// Search domains of the host, for resolv.conf.
    pub search: Vec<String>,
}

impl Snapshot {
    /// What the zone answers.
    pub fn resolve(&self, asker: Asker, name: &str, kind: RecordType) -> Answer {
        zone::answer(&self.desired, &self.domain, asker, name, kind)
    }
}
