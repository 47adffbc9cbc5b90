//! What became of the lease of an endpoint, as the DHCP client tells it.

use crate::logic::dhcp::message::Client;
use crate::model::endpoint::EndpointKey;
use crate::model::lease::Lease;

/// What became of an endpoint's lease.
#[derive(Debug)]
pub struct LeaseNews {
    /// The endpoint.
    pub key: EndpointKey,
    /// Its place in the order of connecting: another endpoint may have the same key by now.
    pub sequence: u64,
    /// Who has asked.
    pub client: Client,
    /// What became of it.
    pub fate: LeaseFate,
}

/// What became of a lease.
#[derive(Debug)]
pub enum LeaseFate {
    /// The server has granted or prolonged it.
    Granted(Box<Lease>),
    /// Nobody has, for this reason; a lease that there was lasts.
    Failed(String),
    /// It must be given up, for this reason.
    Lost(String),
    /// Its time is over, unless it was prolonged meanwhile.
    Ended,
}
