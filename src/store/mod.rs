//! Floor 2: where desired state survives. The engine knows the trait [`Store`], never what is behind it.

pub mod embedded;
pub mod memory;

use std::net::IpAddr;

use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::names::{ContainerName, NetworkName};
use crate::model::network::Network;

/// One change to what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Add or replace a network (durable: fsync).
    PutNetwork(Network),
    /// Forget a network and the addresses that it keeps (durable: fsync). One that is not there is fine.
    DeleteNetwork(NetworkName),
    /// An address of the network is kept for the containers of that name (durable: fsync).
    PutSticky(NetworkName, IpAddr, ContainerName),
    /// An address is kept for nobody any more (durable: fsync). One that is not kept is fine.
    DeleteSticky(NetworkName, IpAddr),
    /// Add or replace an endpoint (until the next boot: page cache).
    PutEndpoint(Box<Endpoint>),
    /// Forget an endpoint. One that is not there is fine.
    DeleteEndpoint(EndpointKey),
    /// Remember that an address of a network was given back as the `order`th: it is reused last (until the next boot).
    PutReleased(NetworkName, IpAddr, u64),
    /// The address is in use again, or its network is gone.
    DeleteReleased(NetworkName, IpAddr),
    /// A value that must survive a reboot under a name of its own (the random ULA prefix; durable).
    PutSetting(String, String),
}

/// Everything stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// By name.
    pub networks: Vec<Network>,
    /// By network and container; empty after a reboot.
    pub endpoints: Vec<Endpoint>,
    /// (network, address, order of its release); empty after a reboot.
    pub released: Vec<(NetworkName, IpAddr, u64)>,
    /// (network, address, for whom it is kept).
    pub sticky: Vec<(NetworkName, IpAddr, ContainerName)>,
    /// By name.
    pub settings: std::collections::BTreeMap<String, String>,
}

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} {path}: {source} ({look})")]
pub struct StoreError {
    /// "open", "read", "commit to".
    pub attempted: &'static str,
    /// The file.
    pub path: String,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// What to look at.
    pub look: &'static str,
}

/// Desired state that survives a killed process, and the durable part of it a power cut.
///
/// Contract: `commit` is all or nothing for the records of one lifetime (durable records, records until the next boot);
/// where a transaction holds both, the durable ones are written first. When it returns `Ok`, a `load` after a kill -9
/// sees the records; the durable ones also after a power cut. When it returns an error nothing of a single-lifetime
/// transaction was written. Records until the next boot are discarded when the boot id has changed.
pub trait Store: Send + 'static {
    /// Everything stored. Called once, before the first commit.
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Writes the records, in their order.
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError>;
}
