//! Floor 2: stores desired state. The engine uses the trait [`Store`] and never its implementation.

pub mod embedded;
pub mod memory;

use std::net::IpAddr;

use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::host::routing::TurnedOn;
use crate::model::ids::ContainerId;
use crate::model::names::{ContainerName, NetworkName, ReservationId, ServiceName};
use crate::model::network::Network;
use crate::model::policy::Policy;
use crate::model::reservation::Reservation;
use crate::model::service::{Condition, Service};

/// One change to the stored data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Add or replace a network (durable: fsync).
    PutNetwork(Box<Network>),
    /// Delete a network and its sticky addresses (durable: fsync). A missing one is no error.
    DeleteNetwork(NetworkName),
    /// Make an address of the network sticky for containers with that name (durable: fsync).
    PutSticky(NetworkName, IpAddr, ContainerName),
    /// An address is no longer sticky (durable: fsync). A missing record is no error.
    DeleteSticky(NetworkName, IpAddr),
    /// Add or replace a service (durable: fsync).
    PutService(Box<Service>),
    /// Delete a service (durable: fsync). A missing one is no error.
    DeleteService(ServiceName),
    /// Add or replace a policy (durable: fsync).
    PutPolicy(Policy),
    /// Delete a policy, by id (durable: fsync). A missing one is no error.
    DeletePolicy(u64),
    /// Add or replace an endpoint (until the next boot: page cache).
    PutEndpoint(Box<Endpoint>),
    /// Delete an endpoint. A missing one is no error.
    DeleteEndpoint(EndpointKey),
    /// Add or replace a reservation (until the next boot: page cache).
    PutReservation(Box<Reservation>),
    /// Delete a reservation. A missing one is no error.
    DeleteReservation(ReservationId),
    /// Replace what is known of a container (until the next boot: page cache).
    PutCondition(Box<Condition>),
    /// Forget what is known of a container. A missing one is no error.
    DeleteCondition(ContainerId),
    /// Store that an address of a network was the `order`th to be released: it is reused last (until the next boot).
    PutReleased(NetworkName, IpAddr, u64),
    /// The address is in use again, or its network no longer exists.
    DeleteReleased(NetworkName, IpAddr),
    /// Replace what netd turned on (until the next boot).
    PutTurnedOn(TurnedOn),
    /// A named value that must survive a reboot (such as the random ULA prefix; durable).
    PutSetting(String, String),
}

/// All stored data.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// By name.
    pub networks: Vec<Network>,
    /// By name.
    pub services: Vec<Service>,
    /// By id.
    pub policies: Vec<Policy>,
    /// By container; empty after a reboot.
    pub conditions: Vec<Condition>,
    /// By network and container; empty after a reboot.
    pub endpoints: Vec<Endpoint>,
    /// By id; empty after a reboot.
    pub reservations: Vec<Reservation>,
    /// (network, address, order of its release); empty after a reboot.
    pub released: Vec<(NetworkName, IpAddr, u64)>,
    /// Forwarding that netd turned on; nothing after a reboot.
    pub turned_on: TurnedOn,
    /// (network, address, name of the container that it is kept for).
    pub sticky: Vec<(NetworkName, IpAddr, ContainerName)>,
    /// By name.
    pub settings: std::collections::BTreeMap<String, String>,
    /// Whether endpoints of this boot may be missing, because their file is new or was lost: an interface in the kernel
    /// without an endpoint is not necessarily left over.
    pub incomplete: bool,
}

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[error("{attempted} {path}: {source} ({look})")]
pub struct StoreError {
    /// "open", "read", "commit to".
    pub attempted: &'static str,
    /// The file.
    pub path: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// What to inspect.
    pub look: &'static str,
}

/// A store of desired state: all of it survives a killed process, and the durable part a power failure.
///
/// Contract: `commit` is all or nothing for the records of one lifetime (durable records, records until the next boot);
/// if a transaction contains both, the durable ones are written first. When it returns `Ok`, a `load` after a kill -9
/// returns the records, and after a power failure the durable ones. When it returns an error, nothing of a
/// single-lifetime transaction was written. Records until the next boot are discarded if the boot id has changed.
pub trait Store: Send + 'static {
    /// Loads all stored data.
    fn load(&mut self) -> Result<Stored, StoreError>;

    /// Writes the records in order. Without records it tries whether the store can be written.
    fn commit(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// Notes that no endpoints of this boot are missing any more ([`Stored::incomplete`]).
    fn complete(&mut self) -> Result<(), StoreError>;

    /// Why the store cannot be written at the moment, if that is known without a change. Tries to open and mend its files.
    fn trouble(&mut self) -> Option<StoreError>;

    /// A sentence for each file that was set aside because it could not be used.
    fn set_aside(&self) -> Vec<String>;
    /// The files that exist because of this store, for people.
    fn files(&self) -> Vec<String>;

    /// Removes everything, files included. The last call.
    fn destroy(&mut self) -> Result<(), StoreError>;
}
