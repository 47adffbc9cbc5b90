//! Whether this kernel has tables of the family bridge (`CONFIG_NF_TABLES_BRIDGE`).

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::nftables::{NfTablesMessage, TableAttribute, TableMessage};
use nix::sched::{CloneFlags, unshare};

use super::wire::message;
use crate::kernel::netlink::netfilter::{Batch, Netfilter, Refused};
use crate::logic::firewall::TABLE;
use crate::model::host::element::Table;

/// Tries it in a temporary network namespace. Only the kernel's word that it knows no such family counts as a no: any
/// other failure may pass.
pub(super) fn is_possible() -> bool {
    let thread = std::thread::Builder::new().name("nft-bridge".into()).spawn(try_it);
    let tried = thread.and_then(|thread| thread.join().unwrap_or(Ok(())));
    !tried.is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP))
}

fn try_it() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut batch = Batch::default();
    let table = TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] };
    batch.push(message(Table::Bridge, NfTablesMessage::NewTable(table)), NLM_F_REQUEST | NLM_F_CREATE, None);
    Netfilter::open()?.commit(&batch).map_err(|Refused { error, .. }| error)
}
