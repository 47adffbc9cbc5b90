//! Messages of DHCP: those that a client sends, and what answers say. The crate dhcproto has the wire format; of answers
//! only the options that were asked for are read, so that another one, however broken, does no harm.

use std::net::Ipv4Addr;

use dhcproto::Encodable as _;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, borrowed};
use ipnetwork::Ipv4Network;

use crate::model::address::Mac;
use crate::model::endpoint::Endpoint;
use crate::model::lease::Lease;

/// The hardware type of Ethernet (RFC 1700).
const ETHERNET: u8 = 1;
/// Shorter messages are dropped by some relays and servers (RFC 1542, 2.1).
const SHORTEST: usize = 300;
/// What a host name in option 12 can have at most: one label.
const LABEL: usize = 63;
/// The shortest lease that is taken, in seconds, and what a shorter one has.
const SHORTEST_LEASE: u32 = 5;
const TOO_SHORT: &str = "a lease time of less than 5 s";
/// The smallest T1 of a lease that is long enough, in seconds.
const OFTEN: u32 = 60;
/// How much of a server's own words is shown.
const WORDS: usize = 120;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The MAC address of its interface.
    pub mac: Mac,
    /// The MAC address that it had first, which is its identifier: that of the interface may be changed.
    pub id: Mac,
    /// The name by which the server may know it.
    pub name: String,
}

impl From<&Endpoint> for Client {
    fn from(endpoint: &Endpoint) -> Self {
        let (mac, id) = (endpoint.learned_mac.unwrap_or(endpoint.mac), endpoint.mac);
        Self { mac, id, name: endpoint.main_name().to_owned() }
    }
}

/// What is said to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// Who has an address, preferably this one?
    Discover(Option<Ipv4Addr>),
    /// I take this address of this server.
    Take(Ipv4Addr, Ipv4Addr),
    /// I want to keep this address.
    Keep(Ipv4Addr),
    /// I do not need this address of this server any more.
    Release(Ipv4Addr, Ipv4Addr),
    /// This address of this server belongs to somebody else.
    Decline(Ipv4Addr, Ipv4Addr),
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It offers, or grants, an address.
    Address(Kind, Terms),
    /// The server, if it was said, refuses what was asked for, in these words.
    Refusal(Option<Ipv4Addr>, String),
    /// It is of no use, for this reason.
    Useless(&'static str),
}

/// How binding an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may be asked for.
    Offer,
    /// It is granted.
    Grant,
}

/// The terms of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The address.
    pub address: Ipv4Addr,
    /// The prefix length of its subnet, if it was said.
    pub prefix: Option<u8>,
    /// The first router.
    pub router: Option<Ipv4Addr>,
    /// The server, if it was said.
    pub server: Option<Ipv4Addr>,
    /// Seconds.
    pub seconds: Option<u32>,
    /// T1, in seconds.
    pub renew: Option<u32>,
    /// T2, in seconds.
    pub rebind: Option<u32>,
}

impl Client {
    /// The bytes of a message. `xid`: the number that answers repeat; `secs`: since the first message.
    pub fn encode(&self, say: Say, xid: u32, secs: u16) -> Vec<u8> {
        let mut message = Message::default();
        message.set_opcode(Opcode::BootRequest).set_xid(xid).set_secs(secs).set_chaddr(&self.mac.bytes());
        if let Say::Keep(own) | Say::Release(own, _) = say {
            message.set_ciaddr(own);
        }
        let kind = match say {
            Say::Discover(_) => MessageType::Discover,
            Say::Take(..) | Say::Keep(_) => MessageType::Request,
            Say::Release(..) => MessageType::Release,
            Say::Decline(..) => MessageType::Decline,
        };
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        let id = [&[ETHERNET][..], &self.id.bytes()].concat();
        options.insert(DhcpOption::ClientIdentifier(id));
        if let Say::Discover(Some(wanted)) | Say::Take(wanted, _) | Say::Decline(wanted, _) = say {
            options.insert(DhcpOption::RequestedIpAddress(wanted));
        }
        if let Say::Take(_, server) | Say::Release(_, server) | Say::Decline(_, server) = say {
            options.insert(DhcpOption::ServerIdentifier(server));
        }
        if !matches!(say, Say::Release(..) | Say::Decline(..)) {
            let label: String = self.name.chars().take_while(|c| *c != '.').take(LABEL).collect();
            if !label.is_empty() {
                options.insert(DhcpOption::Hostname(label));
            }
            options.insert(DhcpOption::ParameterRequestList(vec![
                OptionCode::SubnetMask,
                OptionCode::Router,
                OptionCode::AddressLeaseTime,
                OptionCode::ServerIdentifier,
                OptionCode::Renewal,
                OptionCode::Rebinding,
            ]));
        }
        // It fails for names that cannot be encoded only, and there is none.
        let mut bytes = message.to_vec().unwrap_or_default();
        bytes.resize(bytes.len().max(SHORTEST), 0);
        bytes
    }

    /// What the message says to this client; `None` if it is for another, or an answer to another question.
    pub fn decode(&self, bytes: &[u8], xid: u32) -> Option<Answer> {
        let message = borrowed::Message::new(bytes).ok()?;
        // The length of the address comes first: dhcproto trusts it.
        let is_ours = message.opcode() == Opcode::BootReply
            && (u8::from(message.htype()), message.hlen()) == (ETHERNET, 6)
            && message.xid() == xid
            && message.chaddr() == self.mac.bytes();
        if !is_ours {
            return None;
        }
        let mut kind = None;
        let mut words = String::new();
        let mut terms = Terms {
            address: message.yiaddr(),
            prefix: None,
            router: None,
            server: None,
            seconds: None,
            renew: None,
            rebind: None,
        };
        for option in message.opts() {
            let data = option.data();
            match option.code() {
                OptionCode::MessageType => kind = data.first().copied().map(MessageType::from),
                OptionCode::SubnetMask => terms.prefix = address(data).and_then(prefix),
                OptionCode::Router => terms.router = data.get(..4).and_then(address),
                OptionCode::ServerIdentifier => terms.server = address(data),
                OptionCode::AddressLeaseTime => terms.seconds = number(data),
                OptionCode::Renewal => terms.renew = number(data),
                OptionCode::Rebinding => terms.rebind = number(data),
                OptionCode::Message => words = shown(data),
                _ => {}
            }
        }
        match kind {
            Some(MessageType::Offer) => Some(terms.answer(Kind::Offer)),
            Some(MessageType::Ack) => Some(terms.answer(Kind::Grant)),
            Some(MessageType::Nak) => Some(Answer::Refusal(terms.server, words)),
            _ => Some(Answer::Useless("an answer of no known kind")),
        }
    }
}

impl Terms {
    fn answer(self, kind: Kind) -> Answer {
        if is_host(self.address) { Answer::Address(kind, self) } else { Answer::Useless("no usable address") }
    }

    /// The lease that they become; `before`: the one that is prolonged, which has what a server leaves out. `asked`: when it
    /// was asked for, from which it counts (RFC 2131, 4.4.1), in seconds since the boot and since the Unix epoch.
    pub fn lease(self, (server_mac, before): (Mac, Option<&Lease>), asked: (u64, u64)) -> Result<Lease, &'static str> {
        let prefix = self.prefix.or(before.map(|before| before.address.prefix())).ok_or("no subnet mask")?;
        let address = Ipv4Network::new(self.address, prefix).map_err(|_| "no subnet mask")?;
        if prefix < 31 && [address.network(), address.broadcast()].contains(&self.address) {
            return Err("the address of a whole subnet");
        }
        let server = self.server.filter(|server| is_host(*server)).or(before.map(|before| before.server));
        let seconds = self.seconds.filter(|seconds| *seconds > 0).ok_or("no lease time")?;
        if seconds < SHORTEST_LEASE {
            return Err(TOO_SHORT);
        }
        let router =
            self.router.filter(|router| address.contains(*router) && is_host(*router) && *router != self.address);
        let (renew, rebind) = self.times(seconds);
        let server = server.ok_or("no server identifier")?;
        let (granted, granted_at) = asked;
        Ok(Lease { address, router, server, server_mac, granted, granted_at, seconds, renew, rebind })
    }

    /// T1 and T2 of a lease of so many seconds, T1 < T2 < end (RFC 2131, 4.4.5). A server that wants to be asked all the time
    /// is asked each minute, or after half of a shorter lease.
    fn times(&self, seconds: u32) -> (u32, u32) {
        let half = seconds / 2;
        let most = u32::try_from(u64::from(seconds) * 7 / 8).unwrap_or(half);
        match (self.renew.unwrap_or(half), self.rebind.unwrap_or(most)) {
            (renew, rebind) if renew < rebind && rebind < seconds => {
                let renew = renew.max(half.min(OFTEN));
                (renew, rebind.max(renew + 1))
            }
            _ => (half, most),
        }
    }
}

/// Whether it can be the address of a host.
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from)
}

fn number(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_be_bytes)
}

/// The length of a mask without gaps.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    ipnetwork::ipv4_mask_to_prefix(mask).ok().filter(|prefix| *prefix > 0)
}

fn shown(data: &[u8]) -> String {
    String::from_utf8_lossy(data).chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

#[cfg(test)]
mod tests;
