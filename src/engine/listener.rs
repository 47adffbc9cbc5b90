//! What the engine sends to the name service: on which addresses to start and stop answering.

use std::net::IpAddr;

use tokio::sync::mpsc;

pub use crate::kernel::dns::shards::{QUARANTINE_MAX, steer};
pub use crate::kernel::{DnsSockets, Resolver};
pub use crate::os::datagrams::{ANSWER_MAX, BATCH, Backlog, Batch, backlog};
pub use crate::os::poller::{Poller, WOKEN, Waker};
pub use crate::os::priority::Precedence;

/// A change to the addresses on which the name service answers. The engine opens the sockets, because only the engine
/// uses the kernel. Changes of records are not sent here.
#[derive(Debug)]
pub enum Listening {
    /// Answer on these sockets; they replace those at the same address.
    Serve(DnsSockets),
    /// Confirm that questions are being answered.
    Alive(std::sync::mpsc::Sender<()>),
    /// Close the sockets at this address, then drop `closed`. An address that is not served is no error.
    Stop {
        /// As in [`DnsSockets`].
        address: IpAddr,
        /// The engine waits until this is dropped, so that the address can be bound again at once.
        closed: std::sync::mpsc::Sender<()>,
    },
}

/// The engine's end of the channel. Unbounded: at most two messages per gateway are in flight, and the engine must not
/// wait for a face.
pub type ListeningSender = mpsc::UnboundedSender<Listening>;

/// The name service's end of the channel.
pub type ListeningReceiver = mpsc::UnboundedReceiver<Listening>;
