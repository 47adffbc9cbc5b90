//! Values of flags: checked by the model's own parsers, so that a bad one stops here with the model's words.

use std::str::FromStr;

use crate::model::Invalid;

/// A text that parses as a `T`.
pub(super) fn checked<T: FromStr<Err = Invalid>>(text: &str) -> Result<String, Invalid> {
    text.parse::<T>().map(|_| text.to_owned())
}

pub(super) fn driver(text: &str) -> Result<String, Invalid> {
    if text == "bridge" {
        return Ok(text.to_owned());
    }
    Err(Invalid::new("driver", text, "the only driver is bridge"))
}

pub(super) fn mtu(text: &str) -> Result<u32, Invalid> {
    text.parse().map_err(|_| Invalid::new("mtu", text, "use a number of bytes, as in 1400"))
}

pub(super) fn seconds(text: &str) -> Result<u32, Invalid> {
    text.parse().map_err(|_| Invalid::new("number of seconds", text, "use a whole number, as in 10"))
}

/// `pid_t` is signed.
pub(super) fn process(text: &str) -> Result<u32, Invalid> {
    let fits = |id: &u32| i32::try_from(*id).is_ok_and(|id| id > 0);
    let wrong = || Invalid::new("process id", text, "use the id of a process in the container, as in 4711");
    text.parse().ok().filter(fits).ok_or_else(wrong)
}

/// `K=V`; as with Docker, `K` alone has an empty value.
pub(super) fn label(text: &str) -> Result<(String, String), Invalid> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(Invalid::new("label", text, "its key is empty, use KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `KEY=VALUE`.
pub(super) fn option(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Invalid::new("option", text, "use KEY=VALUE")),
    }
}
