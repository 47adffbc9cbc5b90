//! The versions of the CNI spec and their differences.

use serde_json::{Map, Value, json};

use super::fields::Fields;

/// A supported version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(crate) const NEWEST: Self = Self::V1_1_0;
    const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub(crate) fn supported() -> [&'static str; 5] {
        Self::ALL.map(Self::as_str)
    }

    /// Whether `ips[].version` holds the address family.
    pub(crate) fn names_families(self) -> bool {
        self < Self::V1_0_0
    }

    /// Whether interfaces have `mtu`, `socketPath` and `pciID`, and routes more than `dst` and `gw`.
    pub(crate) fn has_details(self) -> bool {
        self >= Self::V1_1_0
    }

    /// The reply to `VERSION`. `cniVersion` is the one on standard input. libcni's skel never reads that, so that empty
    /// input is valid too.
    pub(crate) fn answer(stdin: &[u8]) -> Value {
        let asked = serde_json::from_slice::<Map<String, Value>>(stdin).ok();
        let asked = asked.as_ref().and_then(|asked| Fields::root(asked).get("cniVersion")?.as_str());
        json!({ "cniVersion": asked.unwrap_or(Self::NEWEST.as_str()), "supportedVersions": Self::supported() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_written_and_ordered() {
        let parsed: Vec<Version> = Version::supported().into_iter().filter_map(Version::parse).collect();
        assert_eq!(parsed, Version::ALL);
        assert!(parsed.is_sorted() && parsed.last() == Some(&Version::NEWEST));
        for other in ["", "0.1.0", "0.2.0", "1.1", "1.1.0 ", "v1.1.0", "1.2.0"] {
            assert_eq!(Version::parse(other), None, "{other}");
        }
    }
}
