//! The scenarios, each with the state in which its command comes.

mod attachments;
mod connects;
mod events;
mod firewalls;
mod networks;
mod policies;
mod ports;
mod reservations;
mod services;
mod stacked;
mod starts;
mod together;

use crate::drive::Scenario;

/// All of them.
pub(crate) fn all() -> Vec<Scenario> {
    let commands =
        [networks::ALL, connects::ALL, ports::ALL, reservations::ALL, services::ALL, stacked::ALL, policies::ALL];
    let attachments = [attachments::ALL, together::ALL];
    let all = [commands.concat(), attachments.concat(), events::ALL.into(), firewalls::ALL.into(), starts::ALL.into()];
    all.concat()
}
