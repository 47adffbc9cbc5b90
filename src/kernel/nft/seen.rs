//! What the tables held at a generation of the kernel's firewall, so that they are not read again while nobody has changed
//! them: the kernel lists a map of n elements in a time that grows with the square of n.
//!
//! The kernel counts a generation for each transaction of the namespace (`NFTA_GEN_ID`). Transactions of others that are
//! about other tables change nothing here: the watch says which ones they were about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::monitor::{Heard, Own};
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::Structure;

/// For how long the watch may take to hear of a transaction that has happened.
pub(super) const HEARS: Duration = Duration::from_millis(20);

/// The tables at a generation.
#[derive(Debug)]
pub(super) struct Seen {
    generation: u32,
    heard: Heard,
    tables: BTreeMap<Table, (Structure, BTreeSet<Element>)>,
}

impl Seen {
    /// What was read between two looks at the generation that found this one. `None` unless each table is missing or as
    /// netd writes it: what else there is, is read again.
    pub(super) fn new(
        generation: u32,
        heard: Heard,
        tables: BTreeMap<Table, (Structure, BTreeSet<Element>)>,
    ) -> Option<Self> {
        let all = tables.values().all(|(structure, _)| *structure != Structure::Different);
        all.then_some(Self { generation, heard, tables })
    }

    /// What the table holds, as long as this is current.
    pub(super) fn table(&self, table: Table) -> Option<&(Structure, BTreeSet<Element>)> {
        self.tables.get(&table)
    }

    /// Whether nobody else has changed netd's tables, at this generation, which is the current one.
    pub(super) fn is_current(&mut self, generation: u32, own: &Own) -> bool {
        let heard = own.heard();
        if generation == self.generation {
            return heard.foreign == self.heard.foreign;
        }
        // The watch may just be hearing of it.
        let heard = own.heard_of(generation, HEARS);
        let is_current = heard == Heard { generation, elsewhere: heard.elsewhere, ..self.heard };
        if is_current {
            (self.generation, self.heard) = (generation, heard);
        }
        is_current
    }

    /// netd itself has made up to that many transactions since the last call, and the generation is this one now. False:
    /// somebody else has made some as well.
    pub(super) fn follow(&mut self, generation: u32, transactions: u32) -> bool {
        let follows = generation.wrapping_sub(self.generation) <= transactions;
        self.generation = generation;
        follows
    }

    /// netd has replaced the table.
    pub(super) fn replace(&mut self, table: Table, elements: BTreeSet<Element>) {
        self.tables.insert(table, (structure(table, &elements), elements));
    }

    /// netd has removed and added these.
    pub(super) fn change(&mut self, remove: &[Element], add: &[Element]) {
        for element in remove {
            if let Some((_, elements)) = self.tables.get_mut(&element.table()) {
                elements.remove(element);
            }
        }
        for element in add {
            if let Some((_, elements)) = self.tables.get_mut(&element.table()) {
                elements.insert(element.clone());
            }
        }
        if let Some((there, elements)) = self.tables.get_mut(&Table::Services) {
            *there = structure(Table::Services, elements);
        }
    }
}

/// The table of services is there while it has elements.
fn structure(table: Table, elements: &BTreeSet<Element>) -> Structure {
    if table == Table::Services && elements.is_empty() { Structure::Missing } else { Structure::Intact }
}
