//! Identities that do not change during the lifetime of networks, containers and network namespaces.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest container id: runtimes use 64 hex digits, CNI callers any identifier; the rest is reserve.
pub(super) const CONTAINER_ID_MAX: usize = 128;

/// A network's id: 64 random hex digits, assigned at creation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkId(String);

impl NetworkId {
    /// From 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(hex(&bytes))
    }

    /// 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("network id", text, "use 64 hex digits in lower case"))
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service's id: 25 digits and lower-case letters, as Docker's swarm has them (swarmkit, identity/randomid.go).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId(String);

impl ServiceId {
    /// How many digits there are.
    const LEN: usize = 25;

    /// From 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut left = u128::from_be_bytes(bytes);
        let digits = (0..Self::LEN).map(|_| {
            // A remainder of 36 fits, and is an index of `DIGITS`.
            let digit = DIGITS[usize::try_from(left % 36).unwrap_or_default()];
            left /= 36;
            char::from(digit)
        });
        Self(digits.collect())
    }

    /// The id of a service that nobody defined: it follows from the service's name.
    pub fn from_name(name: &str) -> Self {
        let hash =
            |basis: u64| name.bytes().fold(basis, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let (high, low) = (hash(0xcbf2_9ce4_8422_2325), hash(0x9e37_79b9_7f4a_7c15));
        Self::from_random(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let good = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
        if text.len() == Self::LEN && text.bytes().all(good) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid::new("service id", text, "use 25 digits and lower-case letters"))
    }
}

impl TryFrom<String> for ServiceId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ServiceId> for String {
    fn from(id: ServiceId) -> String {
        id.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A container's id from its runtime, or 64 random hex digits if there is no runtime.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// From 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(hex(&bytes))
    }

    /// Sorts before every valid id, and is not a valid id itself.
    pub(super) fn lowest() -> Self {
        Self(String::new())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An address that stands for the container alone and that no network has (RFC 6666, 100::/64): it identifies the
    /// client of a socket within the container.
    pub fn own_address(&self) -> IpAddr {
        // FNV-1a suffices: ids differ, and a collision has no benefit for an attacker.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = self.0.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
        IpAddr::from(((0x0100u128 << 112) | u128::from(hash)).to_be_bytes())
    }

    /// The first 12 characters: what `docker ps` shows and what DNS answers.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl FromStr for ContainerId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if text.is_empty() || text.len() > CONTAINER_ID_MAX {
            let why = format!("it has {} bytes, 1 to {CONTAINER_ID_MAX} are allowed", text.len());
            return Err(Invalid::new("container id", text, why));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(good) {
            let why = "use letters, digits, '_', '.' and '-', beginning with a letter or digit";
            return Err(Invalid::new("container id", text, why));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network namespace, identified by its nsfs inode (never by its path) and, if the kernel provides it, by the cookie
/// that is unique within one boot (`SO_NETNS_COOKIE`, Linux 5.14), because inode numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// `st_dev` of the nsfs file.
    pub device: u64,
    /// `st_ino` of the nsfs file.
    pub inode: u64,
    /// `SO_NETNS_COOKIE`, if the kernel provides it.
    pub cookie: Option<u64>,
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
