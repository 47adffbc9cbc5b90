//! The table of services: it is loaded with its first element and deleted with its last one, and may have more elements
//! than an `nft` process could load in time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};

use super::wire::message;
use super::{Nft, failed, possible};
use crate::kernel::KernelError;
use crate::kernel::netlink::netfilter::Batch;
use crate::logic::firewall::sets::{Entry, Set};
use crate::model::host::element::{Element, Table};

/// Up to this many elements are loaded by `nft` together with the structure, so that no connection sees the table without
/// them.
const AT_ONCE: usize = 2000;
/// The elements of a transaction when there are more.
const PER_TRANSACTION: usize = 20_000;

/// Whether a rule sends packets to the maps of slots because of this element.
pub(super) fn is_served(element: &Element) -> bool {
    matches!(element, Element::Vip(_) | Element::ServicePort(_))
}

impl Nft {
    /// Replaces the table. Many elements follow in transactions of their own, addresses and ports first: until its slots
    /// follow, a service refuses connections, and nothing else of the host answers them.
    pub(super) fn replace_services(&mut self, elements: &BTreeSet<Element>) -> Result<(), KernelError> {
        self.served.clear();
        if elements.is_empty() {
            return self.delete_services().map_err(failed("delete", Table::Services));
        }
        if elements.len() <= AT_ONCE {
            self.load(Table::Services, elements)?;
        } else {
            self.load(Table::Services, [])?;
            let (served, slots): (Vec<_>, Vec<_>) = elements.iter().cloned().partition(is_served);
            for some in [served, slots].concat().chunks(PER_TRANSACTION) {
                let (none, entries) = (BTreeMap::new(), self.by_set(some));
                let added = self.attempt(&none, &entries);
                self.outcome(added, &none, &entries)?;
            }
        }
        self.served = elements.iter().filter(|element| is_served(element)).cloned().collect();
        Ok(())
    }

    /// Whether the kernel refused a change because that table is not there.
    pub(super) fn lacks_services(&mut self, set: Set, error: &io::Error) -> bool {
        set.table() == Table::Services
            && error.raw_os_error() == Some(libc::ENOENT)
            && matches!(self.shape(Table::Services), Ok(None))
    }

    /// Loads the table, empty, if these entries belong to it; if the kernel cannot have it, they are taken out.
    pub(super) fn begin_services(
        &mut self,
        entries: &mut BTreeMap<Set, Vec<Entry>>,
        elements: &[Element],
    ) -> Result<(), KernelError> {
        if !entries.keys().any(|set| set.table() == Table::Services) {
            return Ok(());
        }
        match self.load(Table::Services, []) {
            Err(_) if !possible::is_possible(Table::Services) => {
                entries.retain(|set, _| set.table() != Table::Services);
                self.impossible.insert(Table::Services, Table::Services.of(elements));
                Ok(())
            }
            loaded => loaded,
        }
    }

    /// Deletes the table that a failed change has begun. What cannot be deleted is empty and changes no packet.
    pub(super) fn end_services(&mut self) {
        _ = self.delete_services();
    }

    /// Notes which services are there, and deletes the table after the last one.
    pub(super) fn served_now(&mut self, remove: &[Element], add: &[Element]) {
        let gone = remove.iter().any(|element| element.table() == Table::Services);
        remove.iter().for_each(|element| _ = self.served.remove(element));
        self.served.extend(add.iter().filter(|element| is_served(element)).cloned());
        if gone && self.served.is_empty() && self.has_no_service() {
            self.end_services();
        }
    }

    /// Another program may have added elements.
    fn has_no_service(&mut self) -> bool {
        let mut sets = Set::all().into_iter().filter(|set| set.table() == Table::Services);
        sets.all(|set| self.entries(set).is_ok_and(|(entries, undecodable)| entries.is_empty() && undecodable == 0))
    }

    fn delete_services(&mut self) -> io::Result<()> {
        let mut batch = Batch::default();
        let table = TableMessage { attributes: vec![TableAttribute::Name(Table::Services.name().to_owned())] };
        batch.push(message(Table::Services, NfTablesMessage::DeleteTable(table)), NLM_F_REQUEST, None);
        match self.netfilter.commit(&batch) {
            Err(refused) if refused.error.raw_os_error() != Some(libc::ENOENT) => Err(refused.error),
            _ => {
                self.transactions += 1;
                Ok(())
            }
        }
    }
}
