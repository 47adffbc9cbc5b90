//! The firewall in the kernel: one `nft` process loads the whole table, netlink batches change its elements (0.007 ms
//! each), and both are read back by netlink.
//!
//! An [`Nft`] works in the network namespace of the thread that created it, and is used from that thread.

pub mod conntrack;
mod containers;
pub(super) mod fingerprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub(super) mod monitor;
#[cfg(test)]
pub(super) mod tests;
pub(super) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use nix::sched::{CloneFlags, unshare};

use super::monitor::Running;
use super::netlink::netfilter::{Batch, Netfilter, Refused};
use super::{KernelError, Tell};
use crate::logic::firewall;
use crate::logic::firewall::sets::{Entry, Set, elements, entries};
use crate::model::host::element::Element;
use crate::model::host::observed::Structure;
use crate::os::descriptors;
use fingerprint::shape;
use monitor::{Own, generation};
use wire::{Change, DESTROY, decode, list, message, push};

/// What to inspect if the firewall refuses a change.
const LOOK: &str = "see `nft list table inet netd`";

/// The table `inet netd`.
#[derive(Debug)]
pub struct Nft {
    netfilter: Netfilter,
    /// `NFT_MSG_DESTROYSETELEM`, unless the kernel is known to lack it (before Linux 6.3).
    destroy: Option<u8>,
    /// The expected shape of the table, once it was needed.
    expected: Option<Vec<u8>>,
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
            expected: None,
            own: Arc::default(),
            watch: None,
            containers: None,
        })
    }

    /// Replaces the whole table, structure and elements, in one transaction.
    pub fn replace_table(&mut self, elements: &[Element]) -> Result<(), KernelError> {
        self.run("load", &firewall::json(&firewall::table(&elements.iter().cloned().collect())).to_string())
    }

    /// Deletes the table; a missing one is no error.
    pub fn delete_table(&mut self) -> Result<(), KernelError> {
        let table = serde_json::json!({"table": {"family": "inet", "name": firewall::TABLE}});
        // Adding an existing table changes nothing.
        self.run("delete", &serde_json::json!({"nftables": [{"add": table}, {"delete": table}]}).to_string())
    }

    /// Runs `nft` for one transaction.
    fn run(&mut self, attempted: &'static str, json: &str) -> Result<(), KernelError> {
        let failed = failed(attempted, "table inet netd");
        let own = Arc::clone(&self.own);
        let mut generations = own.lock();
        let before = self.generation().map_err(&failed)?;
        run_nft(json).map_err(&failed)?;
        // Exactly one transaction happened, and it was netd's. Otherwise it is unknown which one was, and the watch
        // reports a change.
        let after = self.generation().map_err(&failed)?;
        if after == before.wrapping_add(1) {
            generations.insert(after);
        }
        // A different nft may produce a different table.
        self.expected = None;
        Ok(())
    }

    /// Removes and adds elements in one transaction. Removing a missing element and adding an existing one are no
    /// errors; a host port that already leads elsewhere fails the transaction.
    pub fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<(), KernelError> {
        let (remove, add) = (by_set(remove), by_set(add));
        if remove.is_empty() && add.is_empty() {
            return Ok(());
        }
        if let Some(destroy) = self.destroy {
            match self.commit(Change::Destroy(destroy), &remove, &add) {
                // An older kernel lacks this message type.
                Err((Some(Change::Destroy(_)), refused)) if refused.error.raw_os_error() == Some(libc::EINVAL) => {
                    self.destroy = None;
                }
                outcome => return self.outcome(outcome, &add),
            }
        }
        let mut there = BTreeMap::new();
        for (set, entries) in remove {
            let (present, _) = self.entries(set).map_err(failed("list", set.name()))?;
            let present: BTreeSet<Entry> = present.into_iter().collect();
            there.insert(set, entries.into_iter().filter(|entry| present.contains(entry)).collect());
        }
        let outcome = self.commit(Change::Delete, &there, &add);
        self.outcome(outcome, &add)
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

    /// Removing elements from a missing table succeeds; any other failure is returned.
    fn outcome(
        &mut self,
        outcome: Result<(), (Option<Change>, Failed)>,
        add: &BTreeMap<Set, Vec<Entry>>,
    ) -> Result<(), KernelError> {
        let Err((_, Failed { place, error })) = outcome else { return Ok(()) };
        if add.is_empty() && error.raw_os_error() == Some(libc::ENOENT) && matches!(self.shape(), Ok(None)) {
            return Ok(());
        }
        let (attempted, on) = match place {
            Some((Change::Add, set)) => ("add to", format!("{} of table inet netd", set.name())),
            Some((_, set)) => ("remove from", format!("{} of table inet netd", set.name())),
            None => ("change", "table inet netd".to_owned()),
        };
        Err(KernelError::Io { attempted, on, source: error, look: LOOK })
    }

    /// The kernel's state: whether the structure is as this netd writes it, and the elements. Entries that form no
    /// element make the structure different and are not returned.
    pub fn observe(&mut self) -> Result<(Structure, BTreeSet<Element>), KernelError> {
        let failed = failed("read", "table inet netd");
        let Some(shape) = self.shape().map_err(&failed)? else { return Ok((Structure::Missing, BTreeSet::new())) };
        if &shape != self.expected()? {
            return Ok((Structure::Different, BTreeSet::new()));
        }
        let (mut all, mut undecodable) = (Vec::new(), 0);
        for set in Set::all() {
            let (entries, undecoded) = self.entries(set).map_err(&failed)?;
            all.extend(entries);
            undecodable += undecoded;
        }
        let (elements, alone) = elements(all);
        let structure = if undecodable + alone == 0 { Structure::Intact } else { Structure::Different };
        Ok((structure, elements))
    }

    fn shape(&mut self) -> io::Result<Option<Vec<u8>>> {
        shape(&mut self.netfilter)
    }

    /// What the kernel makes of netd's structure, tried in a temporary network namespace that ends with its thread.
    /// Thus it is known without a file that survives a restart, with any versions of nft and kernel.
    fn expected(&mut self) -> Result<&Vec<u8>, KernelError> {
        if self.expected.is_none() {
            let load = || {
                unshare(CloneFlags::CLONE_NEWNET)?;
                run_nft(&firewall::json(&firewall::structure()).to_string())?;
                shape(&mut Netfilter::open()?)
            };
            let gone = || io::Error::other("the thread that tried it is gone");
            let thread = std::thread::Builder::new().name("nft-expected".into()).spawn(load);
            let shape = thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(gone())));
            self.expected = shape.map_err(failed("try", "the structure of table inet netd"))?;
        }
        self.expected.as_ref().ok_or_else(|| {
            let error = io::Error::other("nft loaded no table");
            failed("try", "the structure of table inet netd")(error)
        })
    }

    fn entries(&mut self, set: Set) -> io::Result<(Vec<Entry>, usize)> {
        match self.netfilter.ask(&list(set), NLM_F_DUMP) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((Vec::new(), 0)),
            replies => Ok(decode(set, &replies?)),
        }
    }

    fn generation(&mut self) -> io::Result<u32> {
        let replies =
            self.netfilter.ask(&message(NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() })), 0)?;
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

fn failed(attempted: &'static str, on: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Io { attempted, on: on.to_owned(), source, look: LOOK }
}

fn by_set(elements: &[Element]) -> BTreeMap<Set, Vec<Entry>> {
    let mut sets: BTreeMap<Set, Vec<Entry>> = BTreeMap::new();
    for entry in elements.iter().flat_map(entries) {
        sets.entry(entry.set).or_default().push(entry);
    }
    sets
}

/// Runs `nft -j -f -`. The helper of the nftables crate would discard nft's stderr.
fn run_nft(json: &str) -> io::Result<()> {
    let mut nft = Command::new("nft");
    nft.args(["-j", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    descriptors::give_back(&mut nft);
    let mut nft = nft.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "the program nft is not installed"),
        _ => error,
    })?;
    // nft reads all input before it writes anything, so neither waits for the other. If it exited early, the pipe is
    // closed; its own message is then more useful.
    let written = nft.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(json.as_bytes()));
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        let lines = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
        return Err(io::Error::other(format!("nft said: {}", lines.join(" / "))));
    }
    written
}
