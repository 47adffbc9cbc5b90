//! The firewall in the kernel: an `nft` process loads a whole table, netlink batches change elements (0.007 ms each),
//! and both are read back by netlink.
//!
//! An [`Nft`] works in the network namespace of the thread that created it, and is used from that thread.

pub mod conntrack;
mod containers;
mod counted;
mod expected;
pub(super) mod fingerprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod guard;
pub(super) mod monitor;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::monitor::Running;
use super::netlink::netfilter::{Batch, Netfilter, Refused, Reply};
use super::{KernelError, Tell};
use crate::logic::firewall;
use crate::logic::firewall::guard::{Targets, text as guard_text};
use crate::logic::firewall::sets::{Entry, Set, elements, entries};
use crate::model::host::element::{Element, Table};
use crate::model::host::observed::{Firewall, Structure};
use crate::os::descriptors;
use expected::Expected;
use fingerprint::shape;
use monitor::{Own, generation};
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use wire::{Change, DESTROY, decode, list, message, push};

/// What to inspect if the firewall refuses a change.
const LOOK: &str = "see `nft list table inet netd` and `nft list table bridge netd`";

/// The tables `inet netd` and `bridge netd`.
#[derive(Debug)]
pub struct Nft {
    netfilter: Netfilter,
    /// `NFT_MSG_DESTROYSETELEM`, unless the kernel is known to lack it (before Linux 6.3).
    destroy: Option<u8>,
    expected: Expected,
    /// What `table bridge netd` would hold, on a kernel without such tables.
    unguarded: Option<BTreeSet<Element>>,
    own: Arc<Own>,
    watch: Option<Running>,
    /// The monitor of netd's tables in containers.
    containers: Option<Running>,
}

impl Nft {
    /// Opens the socket. Changes nothing.
    pub fn new() -> Result<Self, KernelError> {
        let netfilter = Netfilter::open().map_err(failed("open", "the netfilter socket"))?;
        Ok(Self {
            netfilter,
            destroy: Some(DESTROY),
            expected: Expected::default(),
            unguarded: None,
            own: Arc::default(),
            watch: None,
            containers: None,
        })
    }

    /// Begins what the first observation needs, beside the caller.
    pub fn prepare(&mut self) {
        self.expected.begin();
    }

    /// Replaces a whole table, structure and those of the elements that belong to it, in one transaction.
    pub fn replace_table(&mut self, table: Table, elements: &[Element]) -> Result<(), KernelError> {
        let replaced = self.run("load", table, &Input::of(table, elements));
        match replaced {
            Err(_) if table == Table::Bridge && !guard::is_possible() => {
                self.unguarded = Some(of_table(elements, table));
                Ok(())
            }
            replaced => replaced,
        }
    }

    /// Deletes both tables; a missing one is no error.
    pub fn delete_tables(&mut self) -> Result<(), KernelError> {
        for table in Table::ALL {
            if self.shape(table).map_err(failed("read", table))?.is_some() {
                // Adding an existing table changes nothing, and a missing one can then be deleted.
                self.run("delete", table, &[Input::Text(format!("add {table}\ndelete {table}\n"))])?;
            }
        }
        Ok(())
    }

    /// Runs `nft` for one transaction.
    fn run(&mut self, attempted: &'static str, table: Table, inputs: &[Input]) -> Result<(), KernelError> {
        let failed = failed(attempted, table);
        let own = Arc::clone(&self.own);
        let mut generations = own.lock();
        let before = self.generation().map_err(&failed)?;
        run_first(inputs).map_err(&failed)?;
        // Exactly one transaction happened, and it was netd's. Otherwise it is unknown which one was, and the watch
        // reports a change.
        let after = self.generation().map_err(&failed)?;
        if after == before.wrapping_add(1) {
            generations.insert(after);
        }
        self.expected.forget(table);
        Ok(())
    }

    /// Removes and adds elements in one transaction. Removing a missing element and adding an existing one are no
    /// errors; a host port that already leads elsewhere fails the transaction.
    pub fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<(), KernelError> {
        if let Some(elements) = &mut self.unguarded {
            remove.iter().for_each(|element| _ = elements.remove(element));
            elements.extend(of_table(add, Table::Bridge));
        }
        let present = |set: &Set| self.unguarded.is_none() || set.table() == Table::Inet;
        let (mut remove, mut add) = (by_set(remove), by_set(add));
        remove.retain(|set, _| present(set));
        add.retain(|set, _| present(set));
        if remove.is_empty() && add.is_empty() {
            return Ok(());
        }
        if let Some(destroy) = self.destroy {
            match self.commit(Change::Destroy(destroy), &remove, &add) {
                // An older kernel lacks this message type.
                Err((Some(Change::Destroy(_)), refused)) if refused.error.raw_os_error() == Some(libc::EINVAL) => {
                    self.destroy = None;
                }
                outcome => return self.outcome(outcome, &remove, &add),
            }
        }
        let mut there = BTreeMap::new();
        for (set, entries) in remove {
            let (present, _) = self.entries(set).map_err(failed("list", set.table()))?;
            let present: BTreeSet<Entry> = present.into_iter().collect();
            there.insert(set, entries.into_iter().filter(|entry| present.contains(entry)).collect());
        }
        let outcome = self.commit(Change::Delete, &there, &add);
        self.outcome(outcome, &there, &add)
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
    ) -> Result<(), (Option<Change>, Failed)> {
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
            (place.map(|(change, _)| change), Failed { place, error })
        })
    }

    /// Removing elements from missing tables succeeds; any other failure is returned. A transaction that failed for one
    /// table has removed nothing from the other one either.
    fn outcome(
        &mut self,
        outcome: Result<(), (Option<Change>, Failed)>,
        remove: &BTreeMap<Set, Vec<Entry>>,
        add: &BTreeMap<Set, Vec<Entry>>,
    ) -> Result<(), KernelError> {
        let Err((_, Failed { place, error })) = outcome else { return Ok(()) };
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
        firewall.inet = self.observe_table(Table::Inet, &mut firewall)?;
        firewall.bridge = match &self.unguarded {
            Some(elements) => {
                firewall.elements.extend(elements.iter().cloned());
                firewall.unguarded = true;
                Structure::Intact
            }
            None => self.observe_table(Table::Bridge, &mut firewall)?,
        };
        Ok(firewall)
    }

    /// Adds the elements of the table, and what its sets count.
    fn observe_table(&mut self, table: Table, firewall: &mut Firewall) -> Result<Structure, KernelError> {
        let failed = failed("read", table);
        let Some(shape) = self.shape(table).map_err(&failed)? else { return Ok(Structure::Missing) };
        if shape != self.expected.of(table).map_err(self::failed("try", table))? {
            return Ok(Structure::Different);
        }
        let (mut all, mut undecodable) = (Vec::new(), 0);
        for set in Set::all().into_iter().filter(|set| set.table() == table) {
            let replies = self.dump(set).map_err(&failed)?;
            let (entries, undecoded) = decode(set, &replies);
            all.extend(entries);
            undecodable += undecoded;
            if set == Set::Guarded {
                firewall.refused = counted::by_interface(&replies);
            }
        }
        let (elements, alone) = elements(all);
        firewall.elements.extend(elements);
        Ok(if undecodable + alone == 0 { Structure::Intact } else { Structure::Different })
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

    /// Calls `tell` from a separate thread whenever another program changed netd's table, until this `Nft` is dropped.
    pub fn monitor(&mut self, tell: Tell) -> Result<(), KernelError> {
        let inner = containers::monitor(tell.clone());
        self.containers = Some(inner.map_err(failed("watch", "the firewall of containers"))?);
        let monitor = monitor::monitor(Arc::clone(&self.own), self.netfilter.port(), tell);
        self.watch = Some(monitor.map_err(failed("watch", "the firewall"))?);
        Ok(())
    }
}

/// A change that the kernel refused, and its location.
struct Failed {
    place: Option<(Change, Set)>,
    error: io::Error,
}

fn failed(attempted: &'static str, on: impl Display) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Io { attempted, on: on.to_string(), source, look: LOOK }
}

fn by_set(elements: &[Element]) -> BTreeMap<Set, Vec<Entry>> {
    let mut sets: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
    for entry in elements.iter().flat_map(entries) {
        sets.entry(entry.set).or_default().push(entry);
    }
    sets
}

fn of_table(elements: &[Element], table: Table) -> BTreeSet<Element> {
    elements.iter().filter(|element| element.table() == table).cloned().collect()
}

/// What `nft -f` reads.
enum Input {
    Json(String),
    Text(String),
}

impl Input {
    /// The transaction that replaces a table, for each version of nft.
    fn of(table: Table, elements: &[Element]) -> Vec<Self> {
        match table {
            Table::Inet => {
                vec![Self::Json(firewall::json(&firewall::table(&elements.iter().cloned().collect())).to_string())]
            }
            Table::Bridge => {
                [Targets::Named, Targets::Numbers].map(|targets| Self::Text(guard_text(elements, targets))).into()
            }
        }
    }
}

/// Runs the first of these transactions that this version of nft understands.
fn run_first(inputs: &[Input]) -> io::Result<()> {
    let mut outcome = Ok(());
    for input in inputs {
        outcome = run_nft(input);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Runs `nft -f -`. The helper of the nftables crate would discard nft's stderr.
fn run_nft(input: &Input) -> io::Result<()> {
    let mut nft = Command::new("nft");
    let (options, input) = match input {
        Input::Json(json) => (["-j", "-f", "-"].as_slice(), json),
        Input::Text(text) => (["-f", "-"].as_slice(), text),
    };
    nft.args(options).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    descriptors::give_back(&mut nft);
    let mut nft = nft.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "the program nft is not installed"),
        _ => error,
    })?;
    // nft reads all input before it writes anything, so neither waits for the other. If it exited early, the pipe is
    // closed; its own message is then more useful.
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        let lines = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
        return Err(io::Error::other(format!("nft said: {}", lines.join(" / "))));
    }
    written
}
