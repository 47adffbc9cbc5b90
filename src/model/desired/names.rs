//! The names on one network: their holders, the holders of everything below a name, and names that only have others
//! below them.

use std::sync::Arc;

use rpds::HashTrieMapSync as Map;

use super::{Desired, insert_in_order};
use crate::model::endpoint::Endpoint;
use crate::model::names::NetworkName;

/// The prefix of an alias for everything below a name.
pub(super) const WILDCARD: &str = "*.";

impl Desired {
    /// The endpoints with a DNS name (lower case) on a network, in the order in which they were connected.
    pub fn named(&self, network: &NetworkName, name: &str) -> &[Arc<Endpoint>] {
        self.names.get(network).map_or(&[], |names| names.exact(name))
    }

    /// The endpoints whose aliases on a network cover every name (lower case) below this one.
    pub fn named_below(&self, network: &NetworkName, name: &str) -> &[Arc<Endpoint>] {
        self.names.get(network).map_or(&[], |names| names.below(name))
    }

    /// The endpoints of all networks that have exactly this DNS name (lower case), which contains a dot.
    pub fn dotted(&self, name: &str) -> &[Arc<Endpoint>] {
        self.dotted.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the networks has an alias that covers every name below another name.
    pub fn have_wildcards<'a>(&self, mut networks: impl Iterator<Item = &'a NetworkName>) -> bool {
        self.with_wildcards > 0 && networks.any(|network| self.names.get(network).is_some_and(Names::has_wildcards))
    }

    /// Whether the network has a DNS name below this one (lower case).
    pub fn is_above_names(&self, network: &NetworkName, name: &str) -> bool {
        self.names.get(network).is_some_and(|names| names.is_above(name))
    }
}

/// Every key is in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    exact: Map<String, Vec<Arc<Endpoint>>>,
    /// The endpoints with the alias `*.app`, under `app`.
    below: Map<String, Vec<Arc<Endpoint>>>,
    /// How many names are below a name.
    above: Map<String, usize>,
}

impl Names {
    /// The endpoints with exactly this name.
    pub(super) fn exact(&self, name: &str) -> &[Arc<Endpoint>] {
        self.exact.get(name).map_or(&[], Vec::as_slice)
    }

    /// The endpoints with an alias for every name below this one.
    pub(super) fn below(&self, name: &str) -> &[Arc<Endpoint>] {
        self.below.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether any endpoint has an alias for every name below another name.
    pub(super) fn has_wildcards(&self) -> bool {
        !self.below.is_empty()
    }

    /// Whether some name is below this one.
    pub(super) fn is_above(&self, name: &str) -> bool {
        self.above.contains_key(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    pub(super) fn insert(&mut self, name: &str, endpoint: &Arc<Endpoint>) {
        for parent in parents(name) {
            let count = self.above.get(parent).copied().unwrap_or(0);
            self.above.insert_mut(parent.to_owned(), count + 1);
        }
        let (map, key) = self.place(name);
        let mut holders = map.get(key).cloned().unwrap_or_default();
        insert_in_order(&mut holders, endpoint);
        map.insert_mut(key.to_owned(), holders);
    }

    pub(super) fn remove(&mut self, name: &str, endpoint: &Endpoint) {
        for parent in parents(name) {
            match self.above.get(parent).copied() {
                Some(count) if count > 1 => self.above.insert_mut(parent.to_owned(), count - 1),
                _ => _ = self.above.remove_mut(parent),
            }
        }
        let key = endpoint.key();
        let (map, name) = self.place(name);
        let mut holders = map.get(name).cloned().unwrap_or_default();
        holders.retain(|holder| holder.key() != key);
        if holders.is_empty() {
            map.remove_mut(name);
        } else {
            map.insert_mut(name.to_owned(), holders);
        }
    }

    /// The map that the name belongs to, and its key there.
    fn place<'n>(&mut self, name: &'n str) -> (&mut Map<String, Vec<Arc<Endpoint>>>, &'n str) {
        match name.strip_prefix(WILDCARD) {
            Some(parent) => (&mut self.below, parent),
            None => (&mut self.exact, name),
        }
    }
}

/// Every name above this one except the root.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}
