//! The scenarios, each with the state in which its command comes.

mod attachments;
mod connects;
mod events;
mod firewalls;
mod networks;
mod reservations;
mod starts;

use crate::drive::Scenario;

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let all =
        [networks::ALL, connects::ALL, reservations::ALL, attachments::ALL, events::ALL, firewalls::ALL, starts::ALL];
    all.concat()
}
