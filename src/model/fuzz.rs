//! The fuzz target `spec`: any text as a published port (`-p`), an exposed port and a name server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Invalid;
use super::exposure::Exposure;
use super::publication::{PortSpec, distinct};
use super::upstream::Upstream;

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(spec) = read::<PortSpec>("port", text) {
        port(&spec);
    }
    let _ = read::<Exposure>("exposed port", text);
    let _ = read::<Upstream>("name server", text);
    let lines = text.lines().map(str::parse::<PortSpec>);
    if let Ok(specs) = distinct(lines.clone()) {
        let mut all: Vec<PortSpec> = lines.map(|spec| spec.expect("all of them are ports")).collect();
        let expected: Vec<PortSpec> = std::mem::take(&mut all).into_iter().fold(Vec::new(), |mut list, spec| {
            if !list.contains(&spec) {
                list.push(spec);
            }
            list
        });
        assert_eq!(specs, expected, "each once, in the order in which they were given");
    }
}

/// What is accepted is written in one way, as text and in JSON, and read again as the same; what is refused is
/// explained in one line that shows it.
fn read<T>(what: &str, text: &str) -> Option<T>
where
    T: FromStr<Err = Invalid> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            assert_eq!(written.parse::<T>().as_ref(), Ok(&value), "{written:?}");
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value, "{json}");
            Some(value)
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with(&format!("invalid {what} {text:?}: ")), "{error}");
            assert!(!error.contains(char::is_control), "{error:?} for {text:?}");
            None
        }
    }
}

/// A published port makes sense, and its long form means the same.
fn port(spec: &PortSpec) {
    let PortSpec { host_ip, host, container, protocol, mode } = spec;
    for ports in [Some(*container), *host].into_iter().flatten() {
        assert!(ports.first() > 0 && ports.first() <= ports.last(), "{ports}");
    }
    assert!(host.is_none_or(|host| container.count() == 1 || host.count() == container.count()), "{spec}");
    assert!(host_ip.is_none_or(|ip| ip.to_canonical() == ip && !ip.is_multicast()), "{spec}");
    let host = host.map(|host| format!(",published={host}")).unwrap_or_default();
    let host_ip = host_ip.map(|ip| format!(",host_ip={ip}")).unwrap_or_default();
    let mode = mode.map(|mode| format!(",publish={mode}")).unwrap_or_default();
    let long = format!("target={container}{host}{host_ip},protocol={protocol},mode=host{mode}");
    assert_eq!(long.parse::<PortSpec>().as_ref(), Ok(spec), "{long}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn specs_of_ports_keep_their_promises() {
        netd_testing::inputs::attack("spec", super::attack);
    }
}
