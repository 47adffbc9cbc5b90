//! Other programs' firewall tables, read as far as they decide what may pass from and to netd's bridges, and what netd
//! adds to them.
//!
//! A verdict of one base chain does not end another's: a packet passes a hook only when every base chain there lets it.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::address::{Family, Subnet};
use crate::model::names::{IfName, NetworkName};

/// What to do where another program's chain drops what netd's bridges forward or ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Add an accept of our own to that chain, and say so.
    #[default]
    Adapt,
    /// Say which chain it is, and change nothing.
    Report,
}

/// What wrote a table, and must be used to change it.
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
    /// As users know it.
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
    /// Both.
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

    /// Whether it sees packets of that family.
    pub fn sees(self, family: Family) -> bool {
        matches!((self, family), (Self::Inet, _) | (Self::Ip, Family::V4) | (Self::Ip6, Family::V6))
    }
}

/// A table's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// What wrote it.
    pub tool: Tool,
    /// What it sees.
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
    /// Which.
    pub id: TableId,
    /// Every chain, base chains among them.
    pub chains: Vec<Chain>,
    /// Whether the kernel lets nobody but its owner change it (`flags owner`).
    pub owned: bool,
}

impl Table {
    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// Where a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// What the host forwards; with `bridge-nf-call-iptables`, also frames within a bridge.
    Forward,
    /// What is for the host itself.
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

/// What makes a chain a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Where it is called.
    pub hook: Hook,
    /// Whether what reaches its end is dropped.
    pub drops: bool,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Unique in the table.
    pub name: String,
    /// For base chains at a hook that matters here.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// What happens then.
    pub verdict: Verdict,
    /// For people, and to delete it: the rule as `iptables-save` writes it, or the handle as `nft -a` shows it.
    pub text: String,
    /// Of nft's own tables.
    pub handle: Option<u64>,
    /// Set on netd's own: the comment that it carries.
    pub mark: Option<String>,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Verdict {
    /// The next rule follows: it counts, logs, marks.
    #[default]
    Next,
    /// This base chain lets it pass.
    Accept,
    /// It is dropped or rejected.
    Drop,
    /// Back to the rule after the jump.
    Return,
    /// Another chain, and back.
    Jump(String),
    /// Another chain, and back to where this one was called from.
    Goto(String),
    /// Nobody knows: a queue to a program.
    Unknown,
}

/// What a rule asks of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether the opposite is asked.
    pub negated: bool,
    /// What is asked.
    pub what: What,
}

/// See [`Condition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It came by one of these interfaces; a `*` at the end stands for anything.
    In(Vec<String>),
    /// It leaves by one of these.
    Out(Vec<String>),
    /// It comes from one of these.
    From(Vec<Subnet>),
    /// It goes to one of these.
    To(Vec<Subnet>),
    /// Its connection is in one of these states: bits of [`state`].
    State(u8),
    /// It is of this family.
    Family(Family),
    /// It is of one of these protocols, by their names.
    Protocol(Vec<String>),
    /// It goes to a port in one of these ranges.
    Port(Vec<(u16, u16)>),
    /// It goes to an address of the host.
    ToHost,
    /// Something else.
    Other,
}

/// Bits of a connection's state.
pub mod state {
    /// The first packet of a connection.
    pub const NEW: u8 = 1;
    /// Of a connection that was answered.
    pub const ESTABLISHED: u8 = 2;
    /// Of one that belongs to another.
    pub const RELATED: u8 = 4;
    /// Of none.
    pub const INVALID: u8 = 8;
    /// Not tracked.
    pub const UNTRACKED: u8 = 16;
    /// Its destination was translated (a bit of the connection's status).
    pub const DNAT: u8 = 32;
    /// Its source was translated.
    pub const SNAT: u8 = 64;
}

/// Everything that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreign {
    /// Every table with a chain at one of the hooks, but netd's.
    pub tables: Vec<Table>,
    /// Interfaces by which packets leave the host: not the bridges of other engines, nor what leads to their machines.
    pub ways: Vec<IfName>,
    /// Whether frames within a bridge pass the forward hook (`net.bridge.bridge-nf-call-iptables`, `…-ip6tables`).
    pub bridged: (bool, bool),
}

/// A bridge of ours as another program's rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Its interface.
    pub name: IfName,
    /// The network it carries.
    pub network: NetworkName,
    /// The network's subnets.
    pub subnets: Vec<Subnet>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether its containers reach each other.
    pub icc: bool,
    /// Where its containers ask for names: gateway and port.
    pub name_servers: Vec<(IpAddr, u16)>,
}

impl Bridge {
    /// Whether it carries that family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets.iter().any(|subnet| subnet.family() == family)
    }
}

/// A kind of traffic that netd's networks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// What containers begin towards the outside, and its answers.
    Outbound,
    /// What reaches published ports, and its answers.
    Published,
    /// Between containers of one network.
    Within,
    /// Questions for names to the gateway.
    Names,
}

impl Traffic {
    /// For people, and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Published => "published",
            Self::Within => "within",
            Self::Names => "names",
        }
    }
}

/// A change to another program's table: what netd has there is taken away, and what it wants is put there, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignChange {
    /// The program that makes it, and its arguments.
    pub program: Vec<String>,
    /// What it reads.
    pub script: String,
    /// Which table, for people.
    pub on: String,
}

/// What netd did about another program's chain, or what it could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The table.
    pub table: TableId,
    /// The base chain.
    pub chain: String,
    /// Where it is called.
    pub hook: Hook,
    /// What drops: "policy drop", or the rule.
    pub reason: String,
    /// What is dropped, or would be.
    pub traffic: Vec<Traffic>,
    /// Of which networks.
    pub networks: Vec<NetworkName>,
    /// The chain that has netd's accept; `None`: it is dropped.
    pub accepted_in: Option<String>,
    /// Why netd has no accept there; empty when it has.
    pub why_not: String,
}

impl Note {
    /// "chain FORWARD of table ip filter (policy drop)".
    pub fn place(&self) -> String {
        format!("chain {} of {} ({})", self.chain, self.table, self.reason)
    }

    /// What is dropped, of which networks, and why netd lets it.
    pub fn complaint(&self) -> String {
        let traffic: Vec<&str> = self.traffic.iter().map(|traffic| traffic.as_str()).collect();
        let networks: Vec<&str> = self.networks.iter().map(NetworkName::as_str).collect();
        let (traffic, networks) = (traffic.join(", "), networks.join(", "));
        format!("{} drops traffic of {networks} ({traffic}): {}", self.place(), self.why_not)
    }
}
