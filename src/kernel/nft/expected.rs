//! What the kernel makes of netd's tables: the shape with which the tables of the host are compared.
//!
//! It is tried in a temporary network namespace that ends with its thread. Thus it is known without a file that survives
//! a restart, with any versions of nft and kernel.

use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

use super::fingerprint::shape;
use super::program::load;
use crate::kernel::netlink::netfilter::Netfilter;
use crate::model::host::element::Table;

/// The shapes, each tried when it is first needed or before.
#[derive(Debug, Default)]
pub(super) struct Expected {
    known: BTreeMap<Table, Vec<u8>>,
    trying: BTreeMap<Table, JoinHandle<io::Result<Tried>>>,
    hands_over: Option<bool>,
}

/// The shape of a table, and whether it has the rule that hands packets to netd.
type Tried = (Vec<u8>, bool);

impl Expected {
    /// Begins to try these: an `nft` process takes 10 to 30 ms, in which the caller can do something else.
    pub(super) fn begin(&mut self, tables: impl IntoIterator<Item = Table>) {
        for table in tables {
            // If there is no thread for it now, `of` tries again.
            self.trying.extend(begin(table).ok().map(|thread| (table, thread)));
        }
    }

    /// The shape of this table.
    pub(super) fn of(&mut self, table: Table) -> io::Result<&[u8]> {
        if !self.known.contains_key(&table) {
            let begun = self.trying.remove(&table).and_then(|thread| end(thread).ok());
            let (shape, hands_over) = begun.map_or_else(|| end(begin(table)?), Ok)?;
            if table == Table::Inet {
                self.hands_over = Some(hands_over);
            }
            self.known.insert(table, shape);
        }
        self.known.get(&table).map(Vec::as_slice).ok_or_else(|| io::Error::other("no shape"))
    }

    /// Whether this kernel can hand packets to netd.
    pub(super) fn hands_over(&mut self) -> io::Result<bool> {
        if self.hands_over.is_none() {
            self.of(Table::Inet)?;
        }
        Ok(self.hands_over.unwrap_or(true))
    }

    /// Must be tried again: a different nft may produce a different table.
    pub(super) fn forget(&mut self, table: Table) {
        self.known.remove(&table);
        self.trying.remove(&table);
    }
}

fn begin(table: Table) -> io::Result<JoinHandle<io::Result<Tried>>> {
    let try_it = move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let hands_over = load(table, &[])?;
        let shape = shape(&mut Netfilter::open()?, table)?;
        Ok((shape.ok_or_else(|| io::Error::other("nft loaded no table"))?, hands_over))
    };
    std::thread::Builder::new().name("nft-expected".into()).spawn(try_it)
}

fn end(thread: JoinHandle<io::Result<Tried>>) -> io::Result<Tried> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried it is gone")))
}
