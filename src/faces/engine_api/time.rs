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
    let (text, offset) = without_offset(text);
    let text = if text.len() == DATE { format!("{text}T00:00:00") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&text).map_err(|_| wrong())?;
    seconds(time).map(|seconds| seconds - offset).map_err(|_| wrong())
}

/// The length of a date without a time.
const DATE: usize = "2023-11-14".len();

/// A time without the offset at its end (`+02:00`), and that in seconds.
fn without_offset(text: &str) -> (&str, f64) {
    let split = text.len().checked_sub("+00:00".len()).and_then(|at| text.split_at_checked(at));
    let parsed = split.and_then(|(time, offset)| {
        let (hours, minutes) = offset.get(1..)?.split_once(':')?;
        let seconds = hours.parse::<u32>().ok()? * 3600 + minutes.parse::<u32>().ok()? * 60;
        match offset.as_bytes()[0] {
            b'+' => Some((time, f64::from(seconds))),
            b'-' if time.contains('T') => Some((time, -f64::from(seconds))),
            _ => None,
        }
    });
    parsed.unwrap_or((text, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_are_read() {
        assert_eq!(parse("1700000000.5"), Ok(1_700_000_000.5));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(1_700_000_000.0));
        assert_eq!(parse("2023-11-14T23:13:20.5+01:00"), Ok(1_700_000_000.5));
        assert_eq!(parse("2023-11-14T17:13:20-05:00"), Ok(1_700_000_000.0));
        assert_eq!(parse("2023-11-14"), Ok(1_699_920_000.0));
        let now = parse("0s").unwrap();
        assert!((now - parse("10m").unwrap() - 600.0).abs() < 5.0);
        for wrong in ["", "yesterday", "inf", "NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
