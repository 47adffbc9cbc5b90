//! Addresses of DHCP servers: what the client (`faces::dhcp`) tells the engine, and what it needs of the lower floors.
//!
//! An endpoint on such a network is made without an address, and appears in the snapshot. The client finds it there, asks,
//! and tells what came of it; then the engine gives it the address, or removes it again, and the caller gets the reply.

pub use crate::kernel::netns::wire;
pub use crate::logic::dhcp::conversation::{Conversation, Outcome};
pub use crate::logic::dhcp::message::Client;
pub use crate::logic::dhcp::schedule;

use tokio::sync::oneshot;

use super::Handle;
use super::command::Command;
pub use super::leased::{LeaseFate, LeaseNews};

impl Handle {
    /// Tells what became of an endpoint's lease. Returns why the address that was granted cannot be used: then the server
    /// is to be told so. `None`: the endpoint has it, or it was given back.
    pub async fn note_lease(&self, news: LeaseNews) -> Option<String> {
        let (reply, verdict) = oneshot::channel();
        // An engine that has stopped gives no addresses.
        self.commands.send(Command::NoteLease(Box::new(news), reply)).await.ok()?;
        verdict.await.ok()?
    }
}
