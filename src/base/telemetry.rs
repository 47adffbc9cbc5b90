//! Logs: one line per event on stderr, filtered.

use tracing_subscriber::EnvFilter;

/// What is logged where a filter says nothing ("info", "netd=debug,info").
pub const DEFAULT: &str = "info";

/// Checks a filter: a level, or targets with levels. The error says what is wrong.
pub fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    let why = "use error, warn, info, debug or trace, or TARGET=LEVEL parts joined by commas";
    // The filter's own parser takes any word for a target and then logs nothing of it.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        levels.iter().any(|known| known.eq_ignore_ascii_case(level))
    };
    if filter.split(',').any(|part| !known(part)) {
        return Err(format!("invalid log filter {filter:?}: {why}"));
    }
    EnvFilter::builder().parse(filter).map_err(|error| format!("invalid log filter {filter:?}: {error}"))
}

/// Starts logging; later calls in the same process change nothing. `quieter`: directives for libraries that say too
/// much, which the user's own directives win over.
pub fn start(filter: &str, quieter: &str) -> Result<(), String> {
    use std::io::IsTerminal as _;
    check(filter)?;
    let filter = parse(&format!("{quieter},{filter}"))?;
    let colour = std::io::stderr().is_terminal();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // Fails only when a subscriber is there already.
    let _ = logs.with_target(false).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_targets_with_levels() {
        for good in ["info", "DEBUG", "netd=debug,info", "netd::engine=trace,warn", "off"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "netd=loud", "netd=", "info,", "info,,warn"] {
            assert!(check(bad).unwrap_err().contains("log filter"), "{bad}");
        }
    }
}
