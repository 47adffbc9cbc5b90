//! Versions of the desired state: whether two states are the same one.

use std::sync::Arc;

use super::Desired;

/// Identifies a state: each change makes another one, and clones of the state share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Version(Arc<()>);

impl Desired {
    /// Whether one is a clone of the other, and neither was changed since. Two states that were changed apart are
    /// different even if they have the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.version.0, &other.version.0)
    }

    /// Makes this state the same as the earlier one again ([`Self::is_same`]), if a change was undone since and both have
    /// the same networks, endpoints, reservations, services and conditions.
    pub fn settle_as(&mut self, earlier: &Self) {
        let has_same_content = self.networks == earlier.networks
            && self.endpoints == earlier.endpoints
            && self.reservations().eq(earlier.reservations())
            && self.services().eq(earlier.services())
            && self.conditions().eq(earlier.conditions());
        if has_same_content {
            *self = earlier.clone();
        }
    }
}
