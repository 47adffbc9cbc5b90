//! What has been opened for containers: elements with timeouts, in sets that are in no [`Set`](crate::logic::firewall::sets::Set),
//! because the kernel takes them away by itself.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList, SetElementMessage,
};

use super::wire::{DATA_VALUE, KEY, LIST_ELEMENTS, PER_MESSAGE, message};
use super::{Nft, failed};
use crate::kernel::KernelError;
use crate::kernel::netlink::netfilter::{Batch, Refused, Reply, attributes};
use crate::logic::firewall::egress::opened;
use crate::model::address::Family;
use crate::model::egress::Opening;
use crate::model::host::element::Table;
use crate::model::publication::Protocol;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// `NFTA_SET_ELEM_EXPIRATION`, in milliseconds.
const EXPIRATION: u16 = 5;

impl Nft {
    /// Closes and opens, in one transaction. What is open already gets the new timeout; closing what is not open is no error.
    pub fn open(&mut self, close: &[Opening], open: &[(Opening, Duration)]) -> Result<(), KernelError> {
        if close.is_empty() && open.is_empty() {
            return Ok(());
        }
        let done = match self.destroy {
            Some(destroy) => {
                let removed: Vec<Opening> = close.iter().copied().chain(open.iter().map(|(one, _)| *one)).collect();
                match self.change_opened(&removed, open, Some(destroy)) {
                    // An older kernel lacks this message type.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        self.destroy = None;
                        self.open_one_by_one(close, open)
                    }
                    done => done,
                }
            }
            None => self.open_one_by_one(close, open),
        };
        self.note(done.is_ok(), |_| {});
        done.map_err(failed("open a way out in", Table::Inet))
    }

    /// The same on a kernel that refuses to delete what is not there: a transaction for each.
    fn open_one_by_one(&mut self, close: &[Opening], open: &[(Opening, Duration)]) -> io::Result<()> {
        let is_missing = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        for one in close {
            match self.change_opened(&[*one], &[], None) {
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        for one in open {
            match self.change_opened(&[one.0], &[*one], None) {
                Err(error) if is_missing(&error) => self.change_opened(&[], &[*one], None)?,
                done => done?,
            }
        }
        Ok(())
    }

    fn change_opened(
        &mut self,
        remove: &[Opening],
        add: &[(Opening, Duration)],
        destroy: Option<u8>,
    ) -> io::Result<()> {
        let mut batch = Batch::default();
        for set in FAMILIES.into_iter().flat_map(opened) {
            let gone: Vec<_> = remove.iter().filter(|one| name(one) == set).map(|one| element(one, None)).collect();
            for some in gone.chunks(PER_MESSAGE) {
                let message = message(Table::Inet, NfTablesMessage::DeleteSetElement(of_set(set, some)));
                batch.push(message, NLM_F_REQUEST, destroy);
            }
            let new: Vec<_> =
                add.iter().filter(|(one, _)| name(one) == set).map(|(one, left)| element(one, Some(*left))).collect();
            for some in new.chunks(PER_MESSAGE) {
                let message = message(Table::Inet, NfTablesMessage::NewSetElement(of_set(set, some)));
                batch.push(message, NLM_F_REQUEST | NLM_F_CREATE, None);
            }
        }
        self.netfilter.commit(&batch).map_err(|Refused { error, .. }| error)?;
        self.transactions += 1;
        Ok(())
    }

    /// What is open, and for how long. Sets that are not there have nothing open.
    pub fn opened(&mut self) -> Result<Vec<(Opening, Duration)>, KernelError> {
        let mut found = Vec::new();
        self.opened_unsure = false;
        for family in FAMILIES {
            for set in opened(family) {
                let get = NfTablesMessage::GetSetElement(SetElementMessage { attributes: address_of(set) });
                match self.netfilter.ask(&message(Table::Inet, get), NLM_F_DUMP) {
                    Ok(replies) => found.extend(decode(&replies, family)),
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(failed("read", Table::Inet)(error)),
                }
            }
        }
        Ok(found)
    }
}

/// The set that it is in.
fn name(one: &Opening) -> &'static str {
    let [ported, any] = opened(Family::of(one.from));
    if one.port.is_some() { ported } else { any }
}

fn address_of(set: &str) -> Vec<SetElementList> {
    vec![SetElementList::Table(Table::Inet.name().to_owned()), SetElementList::Set(set.to_owned())]
}

fn of_set(set: &str, elements: &[Vec<SetElementAttribute>]) -> SetElementMessage {
    let mut attributes = address_of(set);
    attributes.push(SetElementList::Elements(elements.iter().cloned().map(ListAttribute::Element).collect()));
    SetElementMessage { attributes }
}

fn element(one: &Opening, left: Option<Duration>) -> Vec<SetElementAttribute> {
    let key = SetElementAttribute::Key(DataAttribute::Value(key_of(one)));
    let timeout = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
    [Some(key), timeout.map(SetElementAttribute::Timeout)].into_iter().flatten().collect()
}

/// Each field is padded to 4 bytes.
fn key_of(one: &Opening) -> Vec<u8> {
    let mut key = Vec::new();
    for address in [one.from, one.to] {
        match address {
            IpAddr::V4(v4) => key.extend(v4.octets()),
            IpAddr::V6(v6) => key.extend(v6.octets()),
        }
    }
    if let Some((protocol, port)) = one.port {
        let [high, low] = port.to_be_bytes();
        key.extend([protocol.number(), 0, 0, 0, high, low, 0, 0]);
    }
    key
}

fn decode(replies: &[Reply], family: Family) -> Vec<(Opening, Duration)> {
    let lists = replies.iter().flat_map(|reply| attributes(&reply.attributes));
    let elements = lists.filter(|(kind, _)| *kind == LIST_ELEMENTS).flat_map(|(_, list)| attributes(list));
    elements.filter_map(|(_, element)| one(element, family)).collect()
}

fn one(element: &[u8], family: Family) -> Option<(Opening, Duration)> {
    let nested = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let key = nested(nested(element, KEY)?, DATA_VALUE)?;
    let left = u64::from_be_bytes(*nested(element, EXPIRATION)?.first_chunk()?);
    let size = if family == Family::V4 { 4 } else { 16 };
    let (from, rest) = key.split_at_checked(size)?;
    let (to, rest) = rest.split_at_checked(size)?;
    let port = match rest {
        [] => None,
        [number, _, _, _, high, low, ..] => Some((Protocol::from_number(*number)?, u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    Some((Opening { from: address(from)?, to: address(to)?, port }, Duration::from_millis(left)))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::throwaway::in_netns;

    fn opening(from: &str, to: &str, port: Option<(Protocol, u16)>) -> Opening {
        Opening { from: from.parse().unwrap(), to: to.parse().unwrap(), port }
    }

    fn seconds(nft: &mut Nft) -> Vec<(Opening, u64)> {
        let mut opened: Vec<_> = nft.opened().unwrap();
        opened.sort();
        opened.into_iter().map(|(one, left)| (one, left.as_millis().div_ceil(1000).try_into().unwrap())).collect()
    }

    #[test]
    fn what_is_opened_has_the_last_timeout_and_is_closed_again() {
        for has_destroy in [true, false] {
            in_netns(move || {
                let mut nft = Nft::new().unwrap();
                assert_eq!(nft.opened().unwrap(), []);
                nft.replace_table(Table::Inet, &[]).unwrap();
                if !has_destroy {
                    nft.forget_destroy();
                }
                let all = [
                    opening("10.0.0.2", "192.0.2.7", None),
                    opening("10.0.0.2", "192.0.2.7", Some((Protocol::Udp, 443))),
                    opening("fd00::2", "2001:db8::7", None),
                    opening("fd00::2", "2001:db8::7", Some((Protocol::Tcp, 443))),
                ];
                let with = |seconds| all.map(|one| (one, Duration::from_secs(seconds)));
                nft.open(&[], &with(100)).unwrap();
                assert_eq!(seconds(&mut nft), all.map(|one| (one, 100)));
                nft.open(&[], &with(200)).unwrap();
                assert_eq!(seconds(&mut nft), all.map(|one| (one, 200)), "again");
                nft.open(&all[..3], &[]).unwrap();
                assert_eq!(seconds(&mut nft), [(all[3], 200)]);
                nft.open(&all, &[]).unwrap();
                assert_eq!(seconds(&mut nft), [], "closed twice");
            });
        }
    }

    #[test]
    fn without_the_table_nothing_can_be_opened() {
        in_netns(|| {
            let one = opening("10.0.0.2", "192.0.2.7", None);
            assert!(Nft::new().unwrap().open(&[], &[(one, Duration::from_secs(1))]).is_err());
        });
    }
}
