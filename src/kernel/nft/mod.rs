//! The firewall in the kernel: an `nft` process loads a whole table, netlink batches change elements (0.007 ms each),
//! and both are read back by netlink.
//!
//! An [`Nft`] works in the network namespace of the thread that created it, and is used from that thread.

mod again;
pub mod conntrack;
mod containers;
mod counted;
mod denied;
mod expected;
pub(super) mod fingerprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub(super) mod monitor;
mod opened;
mod possible;
mod program;
mod resend;
mod seen;
mod services;
#[cfg(test)]
mod services_tests;
#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod traffic;
mod verdict;
mod watch;
pub(super) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;
use std::sync::Arc;

use super::KernelError;
use super::monitor::Running;
use super::netlink::netfilter::{Batch, Netfilter, Refused, Reply};
use crate::logic::firewall::sets::{Entry, Set, elements, entries};
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::{Firewall, Structure};
use expected::Expected;
use fingerprint::shape;
use monitor::{Own, generation};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
pub use resend::RESENDING;
use seen::Seen;
use watch::Teller;
use wire::{Change, DESTROY, decode, list, message, push};

/// What to inspect if the firewall refuses a change.
const LOOK: &str = "see `nft list ruleset`";

/// netd's tables.
#[derive(Debug)]
pub struct Nft {
    netfilter: Netfilter,
    /// `NFT_MSG_DESTROYSETELEM`, unless the kernel is known to lack it (before Linux 6.3).
    destroy: Option<u8>,
    expected: Expected,
    /// The tables that this kernel cannot have, with what they would hold.
    impossible: BTreeMap<Table, BTreeSet<Element>>,
    /// The virtual addresses and ports of services in the kernel, as far as is known: without any, their table goes.
    served: BTreeSet<Element>,
    own: Arc<Own>,
    /// Others may have changed what is open since it was read.
    opened_unsure: bool,
    /// What the tables hold, while the watch tells of changes by others; and netd's own transactions since.
    seen: Option<Seen>,
    transactions: u32,
    watch: Option<Running>,
    /// The monitor of netd's tables in containers.
    containers: Option<Running>,
    /// Who sends first packets to strict ports again, from the first such port on.
    resending: Option<Running>,
    tell: Teller,
}

impl Nft {
    /// Opens the socket. Changes nothing.
    pub fn new() -> Result<Self, KernelError> {
        let netfilter = Netfilter::open().map_err(failed("open", "the netfilter socket"))?;
        Ok(Self {
            netfilter,
            destroy: Some(DESTROY),
            expected: Expected::default(),
            impossible: BTreeMap::new(),
            served: BTreeSet::new(),
            own: Arc::default(),
            opened_unsure: true,
            seen: None,
            transactions: 0,
            watch: None,
            containers: None,
            resending: None,
            tell: Teller::default(),
        })
    }

    /// Begins what the first observation needs, beside the caller.
    pub fn prepare(&mut self) {
        // Few hosts have services, and what is there does not change before the observation.
        let has_services = self.shape(Table::Services).is_ok_and(|shape| shape.is_some());
        self.expected.begin(Table::ALL.into_iter().filter(|table| *table != Table::Services || has_services));
    }

    /// Replaces a whole table, structure and those of the elements that belong to it. This is one transaction, unless
    /// these are very many elements of services. A table of services without elements is deleted.
    pub fn replace_table(&mut self, table: Table, elements: &[Element]) -> Result<(), KernelError> {
        let elements = table.of(elements);
        if let Some(held) = self.impossible.get_mut(&table) {
            *held = elements;
            return Ok(());
        }
        let replaced = match table {
            Table::Services => self.replace_services(&elements),
            Table::Inet | Table::Bridge => self.load(table, &elements),
        };
        // What it cannot send again, the next observation reports.
        _ = self.resend_for(&elements);
        self.note(replaced.is_ok(), |seen| seen.replace(table, elements.clone()));
        match replaced {
            Err(_) if !possible::is_possible(table) => {
                self.impossible.insert(table, elements);
                Ok(())
            }
            replaced => replaced,
        }
    }

    fn load<'a>(&mut self, table: Table, elements: impl IntoIterator<Item = &'a Element>) -> Result<(), KernelError> {
        let elements: Vec<Element> = elements.into_iter().cloned().collect();
        self.run("load", table, || program::load(table, &elements).map(drop))
    }

    /// Notes what netd has written, unless that is not certain.
    fn note(&mut self, is_done: bool, written: impl FnOnce(&mut Seen)) {
        let transactions = std::mem::take(&mut self.transactions);
        if let Some(mut seen) = self.seen.take().filter(|_| is_done)
            && self.generation().is_ok_and(|generation| seen.follow(generation, transactions))
        {
            written(&mut seen);
            self.seen = Some(seen);
        }
    }

    /// Deletes all tables; a missing one is no error.
    pub fn delete_tables(&mut self) -> Result<(), KernelError> {
        self.seen = None;
        for table in Table::ALL {
            if self.shape(table).map_err(failed("read", table))?.is_some() {
                // Adding an existing table changes nothing, and a missing one can then be deleted.
                self.run("delete", table, || program::delete(table))?;
            }
        }
        self.served.clear();
        Ok(())
    }

    /// Runs `nft` for one transaction.
    fn run(
        &mut self,
        attempted: &'static str,
        table: Table,
        transaction: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), KernelError> {
        let failed = failed(attempted, table);
        let own = Arc::clone(&self.own);
        let mut generations = own.lock();
        let before = self.generation().map_err(&failed)?;
        transaction().map_err(&failed)?;
        // Exactly one transaction happened, and it was netd's. Otherwise it is unknown which one was, and the watch
        // reports a change.
        let after = self.generation().map_err(&failed)?;
        if after == before.wrapping_add(1) {
            generations.insert(after);
        }
        self.transactions += 1;
        self.expected.forget(table);
        Ok(())
    }

    /// Removes and adds elements in one transaction. Removing a missing element and adding an existing one are no
    /// errors; a host port that already leads elsewhere fails the transaction. The table of services is there while it has
    /// elements.
    pub fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<(), KernelError> {
        self.resend_for(add)?;
        let changed = self.change_elements(remove, add);
        self.note(changed.is_ok(), |seen| seen.change(remove, add));
        changed
    }

    fn change_elements(&mut self, remove: &[Element], add: &[Element]) -> Result<(), KernelError> {
        for (table, elements) in &mut self.impossible {
            remove.iter().for_each(|element| _ = elements.remove(element));
            elements.extend(table.of(add));
        }
        let (mut from, mut to) = (self.by_set(remove), self.by_set(add));
        if from.is_empty() && to.is_empty() {
            return Ok(());
        }
        let changed = match self.attempt(&from, &to) {
            Err(Refusal { place: Some((_, set)), error }) if self.lacks_services(set, &error) => {
                from.retain(|set, _| set.table() != Table::Services);
                self.begin_services(&mut to, add)?;
                self.attempt(&from, &to).inspect_err(|_| self.end_services())
            }
            changed => changed,
        };
        self.outcome(changed, &from, &to)?;
        self.served_now(remove, add);
        Ok(())
    }

    /// The entries of the tables that this kernel can have.
    fn by_set(&self, elements: &[Element]) -> BTreeMap<Set, Vec<Entry>> {
        let mut sets: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
        for entry in elements.iter().filter(|element| !self.impossible.contains_key(&element.table())).flat_map(entries)
        {
            sets.entry(entry.set).or_default().push(entry);
        }
        sets
    }

    fn attempt(&mut self, remove: &BTreeMap<Set, Vec<Entry>>, add: &BTreeMap<Set, Vec<Entry>>) -> Result<(), Refusal> {
        if let Some(destroy) = self.destroy {
            match self.commit(Change::Destroy(destroy), remove, add) {
                // An older kernel lacks this message type.
                Err(Refusal { place: Some((Change::Destroy(_), _)), error })
                    if error.raw_os_error() == Some(libc::EINVAL) =>
                {
                    self.destroy = None;
                }
                outcome => return outcome,
            }
        }
        let mut there = BTreeMap::new();
        for (set, entries) in remove {
            let place = Some((Change::Delete, *set));
            let (present, _) = self.entries(*set).map_err(|error| Refusal { place, error })?;
            let present: BTreeSet<Entry> = present.into_iter().collect();
            there.insert(*set, entries.iter().filter(|entry| present.contains(entry)).cloned().collect());
        }
        self.commit(Change::Delete, &there, add)
    }

    /// Behaves as on a kernel that cannot have this table.
    #[cfg(test)]
    fn forgo(&mut self, table: Table) {
        self.impossible.insert(table, BTreeSet::new());
    }

    /// Behaves as on a kernel before Linux 6.3.
    #[cfg(test)]
    pub(super) fn forget_destroy(&mut self) {
        self.destroy = Some(u8::MAX);
    }

    fn commit(
        &mut self,
        removal: Change,
        remove: &BTreeMap<Set, Vec<Entry>>,
        add: &BTreeMap<Set, Vec<Entry>>,
    ) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        let mut places = Vec::new();
        for (change, sets) in [(removal, remove), (Change::Add, add)] {
            for (set, entries) in sets {
                let count = push(&mut batch, change, *set, &entries.iter().collect::<Vec<_>>());
                places.extend((0..count).map(|_| (change, *set)));
            }
        }
        self.netfilter.commit(&batch).map_err(|Refused { message, error }| {
            let place = usize::try_from(message).ok().and_then(|message| places.get(message.checked_sub(1)?)).copied();
            Refusal { place, error }
        })?;
        self.transactions += 1;
        Ok(())
    }

    /// Removing elements from missing tables succeeds; any other failure is returned. A transaction that failed for one
    /// table has removed nothing from the others either.
    fn outcome(
        &mut self,
        outcome: Result<(), Refusal>,
        remove: &BTreeMap<Set, Vec<Entry>>,
        add: &BTreeMap<Set, Vec<Entry>>,
    ) -> Result<(), KernelError> {
        let Err(Refusal { place, error }) = outcome else { return Ok(()) };
        let mut gone = || remove.keys().all(|set| matches!(self.shape(set.table()), Ok(None)));
        if add.is_empty() && error.raw_os_error() == Some(libc::ENOENT) && gone() {
            return Ok(());
        }
        let of = |set: Set| format!("{} of {}", set.name(), set.table());
        let (attempted, on) = match place {
            Some((Change::Add, set)) => ("add to", of(set)),
            Some((_, set)) => ("remove from", of(set)),
            None => ("change", "the firewall".to_owned()),
        };
        Err(KernelError::Io { attempted, on, source: error, look: LOOK })
    }

    /// The kernel's state: whether the structure of each table is as this netd writes it, and the elements. Entries that
    /// form no element make the structure different and are not returned.
    pub fn observe(&mut self) -> Result<Firewall, KernelError> {
        let mut firewall = Firewall::new(Structure::Missing);
        let failed = failed("read", "the firewall");
        let (generation, heard) = (self.generation().map_err(&failed)?, self.own.heard());
        let own = Arc::clone(&self.own);
        let seen = self.seen.take().and_then(|mut seen| seen.is_current(generation, &own).then_some(seen));
        let mut read = BTreeMap::new();
        for table in Table::ALL {
            let (structure, mut elements) = match (self.impossible.get(&table), &seen) {
                (Some(elements), _) => (Structure::Intact, elements.clone()),
                (None, Some(seen)) => seen.table(table).cloned().unwrap_or((Structure::Missing, BTreeSet::new())),
                (None, None) => {
                    let table_read = self.observe_table(table)?;
                    read.insert(table, table_read.clone());
                    table_read
                }
            };
            firewall.elements.append(&mut elements);
            match table {
                Table::Inet => firewall.inet = structure,
                Table::Bridge => firewall.bridge = structure,
                Table::Services => firewall.services = structure,
            }
        }
        firewall.refused = counted::by_interface(&self.dump(Set::Guarded).map_err(&failed)?);
        self.opened_unsure |= seen.is_none();
        firewall.opened_unsure = self.opened_unsure;
        firewall.unguarded = self.impossible.contains_key(&Table::Bridge);
        firewall.no_services = self.impossible.contains_key(&Table::Services);
        firewall.hands_nothing_over = !self.hands_over();
        firewall.resends_nothing = self.resends_nothing(&firewall.elements);
        self.served = firewall.elements.iter().filter(|element| services::is_served(element)).cloned().collect();
        self.transactions = 0;
        self.seen = match seen {
            None if self.watch.is_some() && self.generation().map_err(&failed)? == generation => {
                Seen::new(generation, heard, read)
            }
            seen => seen,
        };
        Ok(firewall)
    }

    fn observe_table(&mut self, table: Table) -> Result<(Structure, BTreeSet<Element>), KernelError> {
        let failed = failed("read", table);
        let Some(shape) = self.shape(table).map_err(&failed)? else {
            return Ok((Structure::Missing, BTreeSet::new()));
        };
        if shape != self.expected.of(table).map_err(self::failed("try", table))? {
            return Ok((Structure::Different, BTreeSet::new()));
        }
        let (mut all, mut undecodable) = (Vec::new(), 0);
        for set in Set::all().into_iter().filter(|set| set.table() == table) {
            let (entries, undecoded) = self.entries(set).map_err(&failed)?;
            all.extend(entries);
            undecodable += undecoded;
        }
        let (elements, alone) = elements(all);
        Ok((if undecodable + alone == 0 { Structure::Intact } else { Structure::Different }, elements))
    }

    fn shape(&mut self, table: Table) -> io::Result<Option<Vec<u8>>> {
        shape(&mut self.netfilter, table)
    }

    fn entries(&mut self, set: Set) -> io::Result<(Vec<Entry>, usize)> {
        Ok(decode(set, &self.dump(set)?))
    }

    fn dump(&mut self, set: Set) -> io::Result<Vec<Reply>> {
        match self.netfilter.ask(&list(set), NLM_F_DUMP) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            replies => replies,
        }
    }

    fn generation(&mut self) -> io::Result<u32> {
        let replies = self
            .netfilter
            .ask(&message(Table::Inet, NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() })), 0)?;
        replies.first().and_then(generation).ok_or_else(|| io::Error::other("the kernel told no generation"))
    }
}

/// A change that the kernel refused, and its location.
struct Refusal {
    place: Option<(Change, Set)>,
    error: io::Error,
}

fn failed(attempted: &'static str, on: impl Display) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Io { attempted, on: on.to_string(), source, look: LOOK }
}
