//! What policies have denied, as the rules note it in sets of both tables.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementList, SetElementMessage};

use super::counted::counters;
use super::wire::message;
use super::{Nft, failed};
use crate::kernel::KernelError;
use crate::logic::firewall::{policy, within};
use crate::model::address::Family;
use crate::model::host::element::Table;
use crate::model::host::observed::{DeniedFlow, DeniedKey};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Nft {
    /// The packets that policies have denied, by sender and receiver. Sets that are not there have counted nothing.
    pub fn denied(&mut self) -> Result<Vec<DeniedFlow>, KernelError> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let inet = policy::counted(family).map(|(name, _)| (Table::Inet, name));
            let within = within::counted(family).map(|name| (Table::Bridge, name));
            for (table, name) in inet.into_iter().chain(within) {
                let get = NfTablesMessage::GetSetElement(SetElementMessage { attributes: address_of(table, name) });
                match self.netfilter.ask(&message(table, get), NLM_F_DUMP) {
                    Ok(replies) => {
                        let read =
                            |(key, packets): (&[u8], u64)| Some(DeniedFlow { key: key_of(key, family)?, packets });
                        found.extend(counters(&replies).into_iter().filter_map(read));
                    }
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(failed("read", table)(error)),
                }
            }
        }
        Ok(found)
    }
}

fn address_of(table: Table, set: &str) -> Vec<SetElementList> {
    vec![SetElementList::Table(table.name().to_owned()), SetElementList::Set(set.to_owned())]
}

/// The fields of a key, each padded to 4 bytes: sender, receiver, protocol, and a port if there is one.
fn key_of(key: &[u8], family: Family) -> Option<DeniedKey> {
    let size = if family == Family::V4 { 4 } else { 16 };
    let address = |bytes: &[u8]| match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let (from, rest) = key.split_at_checked(size)?;
    let (to, rest) = rest.split_at_checked(size)?;
    let (number, port) = rest.split_first()?;
    let port = port.get(3..5).map(|port| u16::from_be_bytes([port[0], port[1]]));
    Some(DeniedKey { from: address(from)?, to: address(to)?, number: *number, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_padded_fields() {
        let key = [10, 0, 0, 2, 10, 0, 0, 3, 6, 0, 0, 0, 0x15, 0x38, 0, 0];
        let whole = key_of(&key, Family::V4).unwrap();
        assert_eq!((whole.from.to_string(), whole.number, whole.port), ("10.0.0.2".into(), 6, Some(5432)));
        assert_eq!(key_of(&key[..12], Family::V4).unwrap().port, None);
        assert_eq!(key_of(&key[..8], Family::V4), None);
    }
}
