//! The scenarios, each with the state in which its command comes.

mod attachments;
mod connects;
mod events;
mod firewalls;
mod networks;
mod starts;

use crate::drive::Scenario;

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    [networks::ALL, connects::ALL, attachments::ALL, events::ALL, firewalls::ALL, starts::ALL].concat()
}
