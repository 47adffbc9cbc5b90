//! What a set counts for each of its elements (`counter` in its declaration).

use std::collections::BTreeMap;

use super::wire::{DATA_VALUE, KEY, LIST_ELEMENTS};
use crate::kernel::netlink::netfilter::{Reply, attributes, text};
use crate::model::names::IfName;

/// `NFTA_SET_ELEM_EXPR`, `NFTA_SET_ELEM_EXPRESSIONS`: the kernel lists a single expression with the first one.
const EXPRESSION: u16 = 7;
const EXPRESSIONS: u16 = 11;
/// `NFTA_EXPR_DATA`.
const EXPRESSION_DATA: u16 = 2;
/// `NFTA_COUNTER_PACKETS`.
const PACKETS: u16 = 2;

/// The packets of each interface that the dumped set has; without those that have none.
pub(super) fn by_interface(replies: &[Reply]) -> BTreeMap<IfName, u64> {
    counters(replies).into_iter().filter_map(|(key, packets)| Some((text(key).parse().ok()?, packets))).collect()
}

/// The packets of each key that the dumped set has; without those that have none.
pub(super) fn counters(replies: &[Reply]) -> Vec<(&[u8], u64)> {
    let lists = replies.iter().flat_map(|reply| attributes(&reply.attributes));
    let elements = lists.filter(|(kind, _)| *kind == LIST_ELEMENTS).flat_map(|(_, list)| attributes(list));
    elements.filter_map(|(_, element)| element_of(element)).collect()
}

fn element_of(element: &[u8]) -> Option<(&[u8], u64)> {
    let key = nested(nested(element, KEY)?, DATA_VALUE)?;
    let expression = nested(element, EXPRESSION)
        .or_else(|| attributes(nested(element, EXPRESSIONS)?).next().map(|(_, expression)| expression))?;
    let packets = nested(nested(expression, EXPRESSION_DATA)?, PACKETS)?;
    let packets = u64::from_be_bytes(*packets.first_chunk()?);
    (packets > 0).then_some((key, packets))
}

fn nested(attribute: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(attribute).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}
