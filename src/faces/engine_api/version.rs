//! Versions of the Engine API, and where they stand in paths (moby, daemon/server/middleware/version.go).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Invalid;

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// Version 1.`minor`.
    pub const fn one(minor: u16) -> Self {
        Self { major: 1, minor }
    }
}

/// The newest version that netd speaks: that of the wire types (bollard-stubs).
pub const NEWEST: ApiVersion = ApiVersion::one(53);
/// The oldest one that can be configured, and the oldest without configuration, as in Docker.
pub const OLDEST: ApiVersion = ApiVersion::one(24);
/// See [`OLDEST`].
pub const OLDEST_USUAL: ApiVersion = ApiVersion::one(40);

impl FromStr for ApiVersion {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let parsed =
            text.split_once('.').and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }));
        parsed.ok_or_else(|| Invalid::new("API version", text, "use 1.NUMBER, as in 1.41"))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl TryFrom<String> for ApiVersion {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ApiVersion> for String {
    fn from(version: ApiVersion) -> Self {
        version.to_string()
    }
}

/// The version at the beginning of a path, if there is one, and the rest: `/v1.41/networks` is `1.41` and `/networks`.
pub(super) fn split(path: &str) -> (Option<&str>, &str) {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        let numbers = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        numbers.then(|| (version, &rest[version.len()..]))
    });
    versioned.map_or((None, path), |(version, rest)| (Some(version), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_begin_with_a_version() {
        assert_eq!(split("/v1.41/networks/a/b"), (Some("1.41"), "/networks/a/b"));
        assert_eq!(split("/networks"), (None, "/networks"));
        assert_eq!(split("/volumes/v1.2/x"), (None, "/volumes/v1.2/x"));
        assert_eq!(split("/v1.41"), (None, "/v1.41"));
        assert_eq!(split("/v/x"), (None, "/v/x"));
    }

    #[test]
    fn versions_are_numbers_not_texts() {
        let of = |text: &str| text.parse::<ApiVersion>();
        assert!(of("1.9").unwrap() < of("1.24").unwrap());
        assert_eq!(of("1.41").unwrap().to_string(), "1.41");
        for wrong in ["", "1", "1.", ".4", "1.4.2", "1.-4", "1.+4", "1.99999"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
