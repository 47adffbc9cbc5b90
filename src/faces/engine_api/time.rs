//! Points in time in queries: seconds since the epoch, RFC 3339, or a duration before now (moby, api/types/time).

use std::time::UNIX_EPOCH;

use super::failure::Failure;
use crate::base::clock;

/// Seconds since the epoch, with a fraction.
pub(super) fn parse(text: &str) -> Result<f64, Failure> {
    let wrong =
        || Failure::bad(format!("parsing time {text:?}: use seconds since 1970, RFC 3339, or a duration as in 10m"));
    if let Ok(seconds) = text.parse::<f64>() {
        return if seconds.is_finite() { Ok(seconds) } else { Err(wrong()) };
    }
    let seconds = |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs_f64());
    if let Ok(before) = humantime::parse_duration(text) {
        return Ok(seconds(clock::now()).unwrap_or_default() - before.as_secs_f64());
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
    seconds(time).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_read() {
        assert_eq!(parse("1700000000.5"), Ok(1_700_000_000.5));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(1_700_000_000.0));
        let now = parse("0s").unwrap();
        assert!((now - parse("10m").unwrap() - 600.0).abs() < 5.0);
        for wrong in ["", "yesterday", "inf", "NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
