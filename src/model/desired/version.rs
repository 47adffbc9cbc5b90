//! Versions of the desired state: whether two states are the same one.

use std::sync::{Arc, OnceLock};

use super::Desired;
use crate::model::policy::ruling::Ruling;

/// Identifies a state: each change makes another one, and clones of the state share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Version(Arc<OnceLock<Ruling>>);

impl Version {
    /// What follows from the policies of that state, found once.
    pub(super) fn ruling(&self, find: impl FnOnce() -> Ruling) -> &Ruling {
        self.0.get_or_init(find)
    }
}

impl Desired {
    /// Whether one is a clone of the other, and neither was changed since. Two states that were changed apart are
    /// different even if they have the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.version.0, &other.version.0)
    }

    /// Makes this state the same as the earlier one again ([`Self::is_same`]), if a change was undone since and both have
    /// the same networks, endpoints, reservations, services, conditions and policies.
    pub fn settle_as(&mut self, earlier: &Self) {
        let has_same_content = self.networks == earlier.networks
            && self.endpoints == earlier.endpoints
            && self.reservations().eq(earlier.reservations())
            && self.services().eq(earlier.services())
            && self.conditions().eq(earlier.conditions())
            && self.policies().eq(earlier.policies());
        if has_same_content {
            *self = earlier.clone();
        }
    }
}
