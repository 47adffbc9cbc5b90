//! Other programs' firewall tables, read as far as they affect traffic from and to netd's bridges, and what netd adds
//! to them.
//!
//! An accept in one base chain does not end another: a packet passes a hook only if every base chain there accepts it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::address::{Families, Family, Subnet};
use crate::model::names::{IfName, NetworkName};

/// The command if another program's chain drops traffic or questions of netd's bridges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Add an accept to that chain and report it.
    #[default]
    Adapt,
    /// Report the chain and change nothing.
    Report,
}

/// The tool that wrote a table, and that must be used to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tool {
    /// `nft`.
    Nft,
    /// `iptables-nft`, `ip6tables-nft`.
    IptablesNft,
    /// `iptables-legacy`, `ip6tables-legacy`.
    IptablesLegacy,
}

impl Tool {
    /// The name that users know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::IptablesNft => "iptables-nft",
            Self::IptablesLegacy => "iptables-legacy",
        }
    }
}

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
}

impl TableFamily {
    /// As nft writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        }
    }

    /// Whether it sees packets of that address family.
    pub fn sees(self, family: Family) -> bool {
        matches!((self, family), (Self::Inet, _) | (Self::Ip, Family::V4) | (Self::Ip6, Family::V6))
    }
}

/// A table's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The tool that wrote it.
    pub tool: Tool,
    /// The packets that it sees.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let legacy = if self.tool == Tool::IptablesLegacy { " (iptables-legacy)" } else { "" };
        write!(f, "table {} {}{legacy}", self.family.as_str(), self.name)
    }
}

/// A table of another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its identity.
    pub id: TableId,
    /// All chains, including base chains.
    pub chains: Vec<Chain>,
    /// Whether only its owner can change it (`flags owner`).
    pub owned: bool,
}

impl Table {
    /// The chain with that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// The hook of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Forwarded packets; with `bridge-nf-call-iptables` also frames within a bridge.
    Forward,
    /// Packets for the host itself.
    Input,
}

impl Hook {
    /// As nft writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Input => "input",
        }
    }
}

/// The base-chain properties of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its hook.
    pub hook: Hook,
    /// Whether packets that reach its end are dropped.
    pub drops: bool,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Unique in the table.
    pub name: String,
    /// Set for base chains at a relevant hook.
    pub base: Option<Base>,
    /// In evaluation order.
    pub rules: Vec<Rule>,
}

/// A rule, as far as netd understands it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Conditions, all of which must hold.
    pub conditions: Vec<Condition>,
    /// The verdict if they hold.
    pub verdict: Verdict,
    /// For messages, and to delete the rule: its text from `iptables-save`, or its handle from `nft -a`.
    pub text: String,
    /// Handle of a rule in nft's own tables.
    pub handle: Option<u64>,
    /// The comment of one of netd's own rules.
    pub mark: Option<String>,
}

/// The verdict of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Continue with the next rule: the rule counts, logs or marks.
    #[default]
    Next,
    /// This base chain accepts the packet.
    Accept,
    /// The packet is dropped or rejected.
    Drop,
    /// Return to the rule after the jump.
    Return,
    /// Continue in another chain, then return.
    Jump(String),
    /// Continue in another chain, then return to the caller of this one.
    Goto(String),
    /// Unknown: a queue to a program.
    Unknown,
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether the condition is negated.
    pub negated: bool,
    /// The condition.
    pub what: What,
}

/// See [`Condition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The packet arrived on one of these interfaces; a `*` at the end matches any suffix.
    In(Vec<String>),
    /// It leaves through one of these interfaces.
    Out(Vec<String>),
    /// Its source is in one of these subnets.
    From(Vec<Subnet>),
    /// Its destination is in one of these subnets.
    To(Vec<Subnet>),
    /// Its connection is in one of these states: bits of [`state`].
    State(u8),
    /// It is of this address family.
    Family(Family),
    /// It has one of these protocols, given by name.
    Protocol(Vec<String>),
    /// Its destination port is in one of these ranges.
    Port(Vec<(u16, u16)>),
    /// Its destination is an address of the host.
    ToHost,
    /// Any other condition.
    Other,
}

/// Bits of a connection's state.
pub mod state {
    /// The first packet of a connection.
    pub const NEW: u8 = 1;
    /// A packet of a connection that was answered.
    pub const ESTABLISHED: u8 = 2;
    /// A packet of a connection that is related to another.
    pub const RELATED: u8 = 4;
    /// A packet of no known connection.
    pub const INVALID: u8 = 8;
    /// Not tracked.
    pub const UNTRACKED: u8 = 16;
    /// The destination was translated (a bit of the connection's status).
    pub const DNAT: u8 = 32;
    /// The source was translated.
    pub const SNAT: u8 = 64;
}

/// All foreign tables, and related host state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// All tables with a chain at one of the hooks, except netd's.
    pub tables: Vec<Table>,
    /// Interfaces through which packets leave the host, without the bridges of other engines and the interfaces of
    /// their machines.
    pub ways: Vec<IfName>,
    /// Whether frames within a bridge pass the forward hook (`net.bridge.bridge-nf-call-iptables`, `…-ip6tables`).
    pub bridged: Families,
}

/// A bridge of netd from the perspective of another program's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its interface.
    pub name: IfName,
    /// The network that it carries.
    pub network: NetworkName,
    /// The network's subnets.
    pub subnets: Vec<Subnet>,
    /// Whether it has no outside access.
    pub internal: bool,
    /// Whether its containers can reach each other.
    pub icc: bool,
    /// The name servers of its containers: gateway and port.
    pub name_servers: Vec<(IpAddr, u16)>,
}

impl Bridge {
    /// Whether it carries that address family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets.iter().any(|subnet| subnet.family() == family)
    }
}

/// A kind of traffic that netd's networks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// Connections that containers open to the outside, and the replies.
    Outbound,
    /// Traffic to published ports, and the replies.
    Published,
    /// Between containers of one network.
    Within,
    /// DNS questions to the gateway.
    Names,
}

impl Traffic {
    /// The label for messages and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Published => "published",
            Self::Within => "within",
            Self::Names => "names",
        }
    }
}

/// A change to another program's table, in one transaction: removes netd's rules there and adds the wanted ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignChange {
    /// The program to run, and its arguments.
    pub program: Vec<String>,
    /// The program's input.
    pub script: String,
    /// Table and hook, for messages.
    pub on: String,
}

impl ForeignChange {
    /// Where a change is made, as in [`ForeignChange::on`].
    pub fn place(table: &TableId, hook: Hook) -> String {
        format!("{table} at hook {}", hook.as_str())
    }
}

/// What netd did about another program's chain, or could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The table.
    pub table: TableId,
    /// The base chain.
    pub chain: String,
    /// Its hook.
    pub hook: Hook,
    /// What drops the traffic: "policy drop", or the rule.
    pub reason: String,
    /// The traffic that is dropped, or would be.
    pub traffic: Vec<Traffic>,
    /// The affected networks.
    pub networks: Vec<NetworkName>,
    /// The chain that contains netd's accept; `None` if the traffic is dropped.
    pub accepted_in: Option<String>,
    /// Why netd has no accept there; empty if it has one.
    pub why_not: String,
}

impl Note {
    /// "chain FORWARD of table ip filter (policy drop)".
    pub fn place(&self) -> String {
        format!("chain {} of {} ({})", self.chain, self.table, self.reason)
    }

    /// Describes the dropped traffic, the affected networks, and why netd has no accept there.
    pub fn complaint(&self) -> String {
        let traffic: Vec<&str> = self.traffic.iter().map(|traffic| traffic.as_str()).collect();
        let networks: Vec<&str> = self.networks.iter().map(NetworkName::as_str).collect();
        let (traffic, networks) = (traffic.join(", "), networks.join(", "));
        format!("{} drops traffic of {networks} ({traffic}): {}", self.place(), self.why_not)
    }
}
