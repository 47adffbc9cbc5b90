//! Whether this kernel can have a table: those of the family bridge need `CONFIG_NF_TABLES_BRIDGE`, that of services
//! `CONFIG_NFT_HASH` and `CONFIG_NFT_REJECT_INET`. And whether a rule can hand packets to netd, which needs `CONFIG_NFT_LOG`
//! and `CONFIG_NETFILTER_NETLINK_LOG`.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage,
};
use nix::sched::{CloneFlags, unshare};

use super::wire::message;
use crate::kernel::netlink::netfilter::{Batch, Netfilter, Refused};
use crate::logic::firewall::strict::GROUP;
use crate::model::host::element::Table;

const CHAIN: &str = "chain";
/// `NFT_REG_1`, `NFT_REG_2`.
const REGISTERS: [u32; 2] = [1, 2];

/// Tries it in a temporary network namespace. Only the kernel's word that it knows no such family or expression counts as
/// a no: any other failure may pass.
pub(super) fn is_possible(table: Table) -> bool {
    match table {
        Table::Inet => true,
        Table::Bridge => knows(table, Vec::new(), libc::EOPNOTSUPP),
        Table::Services => knows(table, expressions().into(), libc::ENOENT),
    }
}

/// The same for the rule that hands packets over.
pub(super) fn hands_over() -> bool {
    // NFTA_LOG_GROUP
    let log = expression("log", vec![DefaultNla::new(1, GROUP.to_be_bytes().to_vec())]);
    knows(Table::Inet, vec![log], libc::ENOENT)
}

fn knows(table: Table, expressions: Vec<ListAttribute<ExpressionAttribute>>, unknown: i32) -> bool {
    let try_it = move || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Netfilter::open()?.commit(&trial(table, &expressions)).map_err(|Refused { error, .. }| error)
    };
    let thread = std::thread::Builder::new().name("nft-possible".into()).spawn(try_it);
    let tried = thread.and_then(|thread| thread.join().unwrap_or(Ok(())));
    !tried.is_err_and(|error| error.raw_os_error() == Some(unknown))
}

/// A part of the table: with a rule if there are expressions.
fn trial(table: Table, expressions: &[ListAttribute<ExpressionAttribute>]) -> Batch {
    let (name, create) = (|| table.name().to_owned(), NLM_F_REQUEST | NLM_F_CREATE);
    let mut batch = Batch::default();
    let new = TableMessage { attributes: vec![TableAttribute::Name(name())] };
    batch.push(message(table, NfTablesMessage::NewTable(new)), create, None);
    if !expressions.is_empty() {
        let attributes = vec![ChainAttribute::Table(name()), ChainAttribute::Name(CHAIN.to_owned())];
        batch.push(message(table, NfTablesMessage::NewChain(ChainMessage { attributes })), create, None);
        let attributes = vec![
            RuleAttribute::Table(name()),
            RuleAttribute::Chain(CHAIN.to_owned()),
            RuleAttribute::Expressions(expressions.to_vec()),
        ];
        let rule = message(table, NfTablesMessage::NewRule(RuleMessage { attributes }));
        batch.push(rule, create | NLM_F_APPEND, None);
    }
    batch
}

fn expressions() -> [ListAttribute<ExpressionAttribute>; 2] {
    let number = |kind, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    let [from, to] = REGISTERS;
    // NFTA_HASH_SREG, _DREG, _LEN, _MODULUS; NFTA_REJECT_TYPE (NFT_REJECT_TCP_RST)
    let hash = vec![number(1, from), number(2, to), number(3, 4), number(4, 8)];
    [expression("hash", hash), expression("reject", vec![number(1, 1)])]
}

fn expression(name: &str, attributes: Vec<DefaultNla>) -> ListAttribute<ExpressionAttribute> {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::throwaway::in_netns;

    #[test]
    fn this_kernel_can_have_every_table_and_says_what_it_does_not_know() {
        assert!(Table::ALL.into_iter().all(is_possible) && hands_over());
        in_netns(|| {
            let unknown = [expression("no-such-thing", Vec::new())];
            let refused = Netfilter::open().unwrap().commit(&trial(Table::Services, &unknown)).unwrap_err();
            assert_eq!(refused.error.raw_os_error(), Some(libc::ENOENT));
        });
    }
}
