//! From the entries of a table to the elements that they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Set, Value, element};
use crate::model::host::element::Element;

/// The set and the data of one of the entries that have the same key and form one element.
type Half = (Set, Option<Value>);

/// The inverse of [`super::entries`] for all entries of a table: the elements, and how many entries belong to none (half of a
/// published port, subnets that do not match).
pub fn elements(entries: impl IntoIterator<Item = Entry>) -> (BTreeSet<Element>, usize) {
    // Sorted once: a dump of a large map is in no order.
    let mut elements = Vec::new();
    let mut pairs: BTreeMap<(&[Set], Vec<Value>), Vec<Half>> = BTreeMap::new();
    let mut undecodable = 0;
    let mut add = |whole: Option<Element>| match whole {
        Some(element) => elements.push(element),
        None => undecodable += 1,
    };
    for Entry { set, key, data } in entries {
        match set.with_same_element() {
            [_] => add(element(set, &key, &[data])),
            pair => pairs.entry((pair, key)).or_default().push((set, data)),
        }
    }
    for ((pair, key), mut halves) in pairs {
        // A dump may list an entry twice while the kernel resizes the set.
        halves.sort();
        halves.dedup();
        let (sets, data): (Vec<Set>, Vec<_>) = halves.into_iter().unzip();
        add(sets.first().filter(|_| sets == pair).and_then(|set| element(*set, &key, &data)));
    }
    (elements.into_iter().collect(), undecodable)
}
