//! Values of flags: checked by the model's own parsers, so that a bad one stops here with the model's words.

use std::str::FromStr;

use crate::api::v1::{self, ServiceNetworkObject};
use crate::model::Invalid;
use crate::model::names::Alias;

/// A text that parses as a `T`.
pub(super) fn checked<T: FromStr<Err = Invalid>>(text: &str) -> Result<String, Invalid> {
    text.parse::<T>().map(|_| text.to_owned())
}

pub(super) fn driver(text: &str) -> Result<String, Invalid> {
    v1::driver(text).map(str::to_owned)
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

/// A label that selects members: `LABEL=VALUE`.
pub(super) fn selector(text: &str) -> Result<(String, String), Invalid> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Invalid::new("label to select by", text, "use LABEL=VALUE")),
    }
}

/// A value that may be empty, which stands for none.
pub(super) fn optional<T>(
    parse: impl Fn(&str) -> Result<T, Invalid> + Clone,
) -> impl Fn(&str) -> Result<Option<T>, Invalid> + Clone {
    move |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// A network of a service: `NETWORK[,alias=NAME]…`, or Docker's long form `name=NETWORK,alias=NAME`.
pub(super) fn service_network(text: &str) -> Result<ServiceNetworkObject, Invalid> {
    let wrong = |why: &str| Invalid::new("network of a service", text, why);
    let (mut network, mut aliases) = (None, Vec::new());
    for (index, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            Some(("alias", name)) => aliases.push(name.parse::<Alias>()?),
            Some(("name", name)) if network.is_none() => network = Some(v1::network_reference(name)?),
            None if index == 0 => network = Some(v1::network_reference(part)?),
            _ => return Err(wrong("use NETWORK[,alias=NAME]...")),
        }
    }
    let network = network.ok_or_else(|| wrong("use NETWORK[,alias=NAME]..."))?;
    Ok(ServiceNetworkObject { network, aliases })
}

/// A service and the number of its tasks.
pub(super) fn scale(text: &str) -> Result<(String, u32), Invalid> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let parsed = parts.and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    parsed.ok_or_else(|| Invalid::new("number of tasks", text, "use NAME=N, as in web=3"))
}
