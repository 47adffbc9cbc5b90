//! What the rest of the daemon may ask of the forwarding: how upstreams do, who would be asked, and what they say.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Query;
use hickory_proto::rr::{Name, RecordType};

use super::forward::Explained;
use super::handler::Handler;
use super::origin::Origin;
use super::question::{Flags, Question};
use super::upstream::UpstreamHealth;
use crate::model::question::Asker;

/// The forwarding of a [`Server`](super::Server).
#[derive(Clone)]
pub struct Forwarding(pub(super) Handler);

/// What upstreams say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The response code's name as dig shows it ("NXDOMAIN").
    pub code: String,
    /// The records of the answer, as in a zone file.
    pub answers: Vec<String>,
    /// Where the reply comes from.
    pub origin: Origin,
}

impl Forwarding {
    /// How every upstream does that was asked or is configured, by address.
    pub fn health(&self) -> Vec<UpstreamHealth> {
        self.0.forwarder().health()
    }

    /// What would be done with a question for this name and type (its number), if it is not ours; `None`: it is no name.
    pub fn explain(&self, asker: Asker, name: &str, kind: u16) -> Option<Explained> {
        self.0.forwarder().explain(address(asker), &question(name, kind)?)
    }

    /// Asks on behalf of the asker, as if it had asked; whether it may is for the caller to know. `None`: it is no name,
    /// or too much is under way.
    pub async fn ask(&self, asker: Asker, name: &str, kind: u16) -> Option<Said> {
        let (asker, question, forwarder) = (address(asker), question(name, kind)?, self.0.forwarder());
        let _place = forwarder.take_seat(asker, &question).ok()?;
        let (reply, origin) = forwarder.ask(asker, &question).await;
        // hickory's words for codes are sentences.
        let code = format!("{:?}", reply.code).to_uppercase();
        Some(Said { code, answers: reply.answers.iter().map(ToString::to_string).collect(), origin })
    }
}

/// The address an asker is known by. No network is the host's own: nothing was said about the unspecified address.
fn address(asker: Asker) -> IpAddr {
    match asker {
        Asker::Address(address) => address.to_canonical(),
        Asker::Host => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn question(name: &str, kind: u16) -> Option<Question> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    let flags = Flags { recursion_desired: true, ..Flags::default() };
    Some(Question { query: Query::query(name, RecordType::from(kind)), flags })
}
