//! The engine's knowledge of other programs' firewall tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::deadline::Deadline;
use crate::model::host::foreign_firewall::{Foreign, Note};

/// The state of other programs' tables.
#[derive(Debug, Default)]
pub(crate) struct ForeignTables {
    /// The last observation; `None` if another program changed them since.
    pub(crate) observed: Option<Foreign>,
    /// The same, from the last time when they could be read: it is replaced only by others.
    pub(crate) last: Arc<Foreign>,
    /// Whether the last look, or a change that it found necessary, failed: then the next repair or tick looks again.
    pub(crate) unsettled: bool,
    /// What they drop, and what was done about it.
    pub(crate) notes: Arc<Vec<Note>>,
    /// How often each table was repaired, and since when this is counted.
    pub(crate) tries: BTreeMap<String, (u32, Deadline)>,
}
