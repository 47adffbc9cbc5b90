//! Logs: one line per event on stderr, filtered. If stderr is the journal, which adds times and priorities itself,
//! lines have no time and begin with their priority.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer, format};
use tracing_subscriber::fmt::{FmtContext, SubscriberBuilder};
use tracing_subscriber::registry::LookupSpan;

/// The default filter ("info", "netd=debug,info").
pub const DEFAULT: &str = "info";

/// Checks a filter: a level, or targets with levels. The error describes what is wrong.
pub fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    let why = "use error, warn, info, debug or trace, or TARGET=LEVEL parts joined by commas";
    // The filter's own parser accepts any word as a target, and then logs nothing for it.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    // Its parser also reads fields of spans, as patterns that take it minutes to compile; netd has no spans.
    let is_target =
        |target: &str| target.trim().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte));
    let known = |part: &str| {
        let (target, level) = part.rsplit_once('=').unwrap_or(("", part));
        is_target(target) && levels.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    };
    if filter.split(',').any(|part| !known(part)) {
        return Err(format!("invalid log filter {filter:?}: {why}"));
    }
    EnvFilter::builder().parse(filter).map_err(|error| format!("invalid log filter {filter:?}: {error}"))
}

/// Starts logging; later calls in the same process have no effect. `quieter`: directives for verbose libraries, which
/// the user's own directives override. `journal`: stderr is the journal ([`is_journal`]).
pub fn start(filter: &str, quieter: &str, journal: bool) -> Result<(), String> {
    use std::io::IsTerminal as _;
    check(filter)?;
    let filter = parse(&format!("{quieter},{filter}"))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Fails only if a subscriber is already set.
    let _ = if journal {
        let logs: SubscriberBuilder<_, _, _, _> = logs.with_ansi(false);
        logs.event_format(Prioritised).try_init()
    } else {
        logs.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    Ok(())
}

/// Whether stderr is the stream that the service manager connected to the journal: `stream` is its `JOURNAL_STREAM`,
/// device and inode in decimal (systemd.exec(5)).
pub fn is_journal(stream: Option<&str>) -> bool {
    let same = |(device, inode): (&str, &str)| {
        let stderr = nix::sys::stat::fstat(std::io::stderr()).ok()?;
        Some(device.parse() == Ok(stderr.st_dev) && inode.parse() == Ok(stderr.st_ino))
    };
    stream.and_then(|stream| stream.split_once(':')).and_then(same).unwrap_or(false)
}

/// The line format of sd-daemon(3): prefix `<PRIORITY>` (syslog(3)), no time, no level.
struct Prioritised;

impl<S, N> FormatEvent<S, N> for Prioritised
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        format().without_time().with_level(false).with_target(false).format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_is_the_journal_when_its_device_and_inode_are() {
        let stderr = nix::sys::stat::fstat(std::io::stderr()).unwrap();
        let (device, inode) = (stderr.st_dev, stderr.st_ino);
        assert!(is_journal(Some(&format!("{device}:{inode}"))));
        for other in
            [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1), inode.to_string(), "a:b".into()]
        {
            assert!(!is_journal(Some(&other)), "{other}");
        }
        assert!(!is_journal(None));
    }

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
