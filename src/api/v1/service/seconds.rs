//! Durations in seconds, with decimals where they need some.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Invalid;

/// A duration as the JSON has it: `2`, `0.5`. Kept to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u32);

impl Seconds {
    /// The longest, in milliseconds: a day.
    const MAX: u32 = 24 * 60 * 60 * 1000;

    /// So many milliseconds.
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u32 {
        self.0
    }

    /// At least a millisecond, at most a day.
    fn checked(seconds: f64) -> Option<Self> {
        let millis = Duration::try_from_secs_f64(seconds).ok()?.as_millis();
        u32::try_from(millis).ok().filter(|millis| (1..=Self::MAX).contains(millis)).map(Self)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % 1000 {
            0 => serializer.serialize_u32(self.0 / 1000),
            _ => serializer.serialize_f64(f64::from(self.0) / 1000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let wrong = || Invalid::new("number of seconds", seconds.to_string(), "use 0.001 to 86400");
        Self::checked(seconds).ok_or_else(|| serde::de::Error::custom(wrong()))
    }
}

impl FromStr for Seconds {
    type Err = Invalid;
    /// As on the command line: `2s`, `500ms`, `1m30s`, or a number of seconds.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let plain = text.parse::<f64>().ok();
        let seconds = plain.or_else(|| humantime::parse_duration(text).ok().map(|duration| duration.as_secs_f64()));
        let wrong = || Invalid::new("duration", text, "use 1ms to 24h, as in 500ms, 2s or 1m30s");
        seconds.and_then(Self::checked).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_of_seconds() {
        for (json, millis) in [("2", 2000), ("0.5", 500), ("0.001", 1), ("86400", 86_400_000), ("0.29", 290)] {
            let seconds: Seconds = serde_json::from_str(json).unwrap();
            assert_eq!(seconds.as_millis(), millis, "{json}");
            assert_eq!(serde_json::to_string(&seconds).unwrap(), json);
        }
        for bad in ["0", "-1", "86401", "1e300", "\"2s\"", "0.0001"] {
            let error = serde_json::from_str::<Seconds>(bad).expect_err(bad).to_string();
            assert!(error.contains("use 0.001 to 86400") || error.contains("invalid type"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_duration_on_the_command_line_has_a_unit_or_is_in_seconds() {
        for (text, millis) in
            [("2s", 2000), ("500ms", 500), ("1m30s", 90_000), ("3", 3000), ("0.5", 500), ("24h", 86_400_000)]
        {
            assert_eq!(text.parse::<Seconds>().map(Seconds::as_millis).expect(text), millis, "{text}");
        }
        for bad in ["", "soon", "0", "0s", "25h", "-1s", "NaN", "inf", "1us"] {
            let error = bad.parse::<Seconds>().expect_err(bad).to_string();
            assert!(error.contains("invalid duration") && error.contains("500ms"), "{error}");
        }
    }
}
