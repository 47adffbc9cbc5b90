//! `[egress]`: how long and how much is open for containers whose egress is denied.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::telemetry::egress::Settings;

/// The longest grace, in seconds: a day. The most addresses of a container.
const GRACE_MAX: u32 = 86_400;
const ADDRESSES_MAX: u32 = 65_536;

/// How long and how much is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// How much longer than its time to live an answered address stays open, in seconds (1 to 86400).
    #[serde(deserialize_with = "grace")]
    pub grace: u32,
    /// How many answered addresses are open for a container at a time (1 to 65536); what was answered longest ago gives way.
    #[serde(deserialize_with = "addresses")]
    pub addresses: u32,
}

impl Default for Egress {
    fn default() -> Self {
        Self { grace: 60, addresses: 1024 }
    }
}

impl Egress {
    /// As the engine has them.
    pub(crate) fn settings(self) -> Settings {
        let addresses = usize::try_from(self.addresses).unwrap_or(usize::MAX);
        Settings { grace: Duration::from_secs(self.grace.into()), addresses }
    }
}

fn grace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, "grace", GRACE_MAX)
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, "addresses", ADDRESSES_MAX)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, name: &str, most: u32) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if !(1..=most).contains(&number) {
        return Err(D::Error::custom(format!("invalid {name} {number}: use 1 to {most}")));
    }
    Ok(number)
}
