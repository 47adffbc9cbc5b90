//! Requests whose endpoints have no address of their DHCP server yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::command::{Gone, Reply};
use super::error::Error;
use crate::model::endpoint::{Endpoint, EndpointKey};
use crate::model::names::NetworkName;

/// A request whose endpoints wait for their addresses.
pub(crate) struct Waiting {
    /// Those that have none yet.
    pub(super) left: BTreeSet<EndpointKey>,
    /// What the request has made, and what is removed again if one gets none.
    pub(super) made: Vec<EndpointKey>,
    /// The networks that it has made.
    pub(super) networks: Vec<NetworkName>,
    /// Whether its caller has disconnected.
    pub(super) gone: Gone,
    /// Who waits.
    pub(super) answer: Answer,
}

impl Waiting {
    /// Whether nobody waits any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.gone.is_gone() || self.answer.is_closed()
    }
}

/// Who waits for which endpoints.
pub(super) enum Answer {
    One(EndpointKey, Reply<Arc<Endpoint>>),
    All(Vec<EndpointKey>, Reply<Vec<Arc<Endpoint>>>),
}

impl Answer {
    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::One(_, reply) => oneshot::Sender::is_closed(reply),
            Self::All(_, reply) => oneshot::Sender::is_closed(reply),
        }
    }

    /// Whether the endpoint is one of those.
    pub(super) fn wants(&self, key: &EndpointKey) -> bool {
        match self {
            Self::One(own, _) => own == key,
            Self::All(all, _) => all.contains(key),
        }
    }

    /// Tells why nothing comes of it.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::One(_, reply) => drop(reply.send(Err(error))),
            Self::All(_, reply) => drop(reply.send(Err(error))),
        }
    }
}
