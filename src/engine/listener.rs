//! What the engine tells the name service: where to answer, and where no longer.

use std::net::IpAddr;

use tokio::sync::mpsc;

pub use crate::kernel::dns::shards::{QUARANTINE_MAX, steer};
pub use crate::kernel::{DnsSockets, Resolver};
pub use crate::os::datagrams::{ANSWER_MAX, BATCH, Backlog, Batch, backlog};
pub use crate::os::poller::{Poller, WOKEN, Waker};
pub use crate::os::priority::Precedence;

/// A change to the addresses on which names are answered. The engine opens the sockets, because only it knows the
/// kernel; records change without one of these.
#[derive(Debug)]
pub enum Listening {
    /// Answer on these sockets; replaces those at the same address.
    Serve(DnsSockets),
    /// Say that questions are being answered.
    Alive(std::sync::mpsc::Sender<()>),
    /// Close the sockets at this address, then drop `closed`; one that is not served is fine.
    Stop {
        /// As in [`DnsSockets`].
        address: IpAddr,
        /// The engine waits for its end, so that the address can be bound again at once.
        closed: std::sync::mpsc::Sender<()>,
    },
}

/// Where the engine puts them. Unbounded: at most two per gateway are ever under way, and the engine must not wait for
/// a face.
pub type ListeningSender = mpsc::UnboundedSender<Listening>;

/// Where the name service takes them from.
pub type ListeningReceiver = mpsc::UnboundedReceiver<Listening>;
