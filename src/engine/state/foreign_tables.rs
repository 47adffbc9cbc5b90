//! What the engine knows of other programs' firewall tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::deadline::Deadline;
use crate::model::host::foreign_firewall::{Foreign, Note};

/// What is known of other programs' tables.
#[derive(Debug, Default)]
pub(crate) struct ForeignTables {
    /// As they were seen last; `None`: not since somebody changed them.
    pub(crate) seen: Option<Foreign>,
    /// What they drop, and what was done about it.
    pub(crate) notes: Arc<Vec<Note>>,
    /// How often each table was put right, and since when it is counted.
    pub(crate) tries: BTreeMap<String, (u32, Deadline)>,
}
