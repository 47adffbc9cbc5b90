//! Who decides which packets reach a published port.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Invalid;

/// Who decides which packets of other hosts and networks reach a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// netd: all of them, as with Docker. The host's rules about packets to itself do not see them.
    #[default]
    Open,
    /// The host's own rules about packets to itself, as for any service of the host.
    Strict,
}

impl PublishMode {
    /// The name of the value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Strict => "strict",
        }
    }
}

impl fmt::Display for PublishMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PublishMode {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let found = [Self::Open, Self::Strict].into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| Invalid::new("publish", text, "use open or strict"))
    }
}
