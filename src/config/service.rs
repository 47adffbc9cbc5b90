//! What the service manager has put into the environment of the daemon (sd_notify(3), sd_watchdog_enabled(3),
//! sd_listen_fds_with_names(3)).

use std::env;
use std::time::Duration;

use crate::os::service::Environment;

/// Reads it. Variables that are meant for another process, or make no sense, count as absent.
pub fn environment() -> Environment {
    let notify = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
    let (text, own) = (|name: &str| env::var(name).ok(), std::process::id());
    Environment { notify, watchdog: watchdog(&text, own), given: given(&text, own) }
}

fn watchdog(text: &impl Fn(&str) -> Option<String>, own: u32) -> Option<Duration> {
    let micros = text("WATCHDOG_USEC")?.parse().ok().filter(|micros| *micros > 0)?;
    let is_own = text("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
    is_own.then(|| Duration::from_micros(micros))
}

fn given(text: &impl Fn(&str) -> Option<String>, own: u32) -> Vec<String> {
    let is_own = text("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(own));
    let count = text("LISTEN_FDS").and_then(|count| count.parse().ok()).filter(|_| is_own).unwrap_or(0);
    let names = text("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).filter(|name| !name.is_empty());
    names.chain(std::iter::repeat("unknown".to_owned())).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_have_names_and_those_of_another_process_do_not_count() {
        let read = |pid: &'static str, count: &'static str, names: &'static str| {
            let text = |name: &str| {
                let value = match name {
                    "LISTEN_PID" => pid,
                    "LISTEN_FDS" => count,
                    _ => names,
                };
                Some(value.to_owned())
            };
            given(&text, 77)
        };
        assert_eq!(read("77", "2", "api:dns-10.0.0.1-tcp1"), ["api", "dns-10.0.0.1-tcp1"]);
        assert_eq!(read("77", "2", ""), ["unknown", "unknown"]);
        assert_eq!(read("77", "1", "api:more"), ["api"]);
        assert_eq!((read("78", "2", "api:x"), read("77", "few", "api")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_is_for_another_process_counts_as_absent() {
        let read = |micros: &'static str, pid: Option<&'static str>| {
            let text = |name: &str| if name == "WATCHDOG_PID" { pid } else { Some(micros) }.map(str::to_owned);
            watchdog(&text, 77)
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!((read("1000000", Some("77")), read("1000000", None)), (second, second));
        assert_eq!((read("1000000", Some("78")), read("0", None), read("soon", None)), (None, None, None));
    }
}
