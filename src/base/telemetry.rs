//! Logs: one line per event on standard error, fields first, at the level the configuration names.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// A log level or filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("set up logs: {filter:?} is no level or filter ({source}): use error, warn, info, debug or trace")]
pub struct BadFilter {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Sends logs to standard error. `filter` is a level ("info") or directives ("netd=debug,info"); `quieter` are
/// directives for libraries that say too much, which a filter of the user's own comes after.
pub fn start(filter: &str, quieter: &str) -> Result<(), BadFilter> {
    let bad = |source| BadFilter { filter: filter.to_owned(), source };
    let filter = EnvFilter::builder().parse(format!("{quieter},{filter}")).map_err(bad)?;
    let terminal = std::io::stderr().is_terminal();
    // Fails only when somebody set a subscriber before: then theirs stays.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).try_init();
    Ok(())
}
