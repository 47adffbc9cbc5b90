//! `ports` of a service in the form of `EndpointSpec` (docker/cli, cli/compose/loader).

use serde_json::{Value, json};

use super::part::Part;

/// All ports, by published port.
pub(super) fn read(ports: &Part<'_>) -> Result<Vec<Value>, String> {
    let mut read = Vec::new();
    for port in ports.items()? {
        match port.value() {
            Value::Object(_) => read.push(long(&port)?),
            _ => short(&port, &mut read)?,
        }
    }
    read.sort_by_key(|port: &Value| port["PublishedPort"].as_u64().unwrap_or(0));
    Ok(read)
}

fn long(port: &Part<'_>) -> Result<Value, String> {
    port.only(&["target", "published", "protocol", "mode", "name", "app_protocol", "host_ip"])?;
    if port.at("host_ip").text()?.is_some_and(|ip| !ip.is_empty()) {
        return Err(address(port));
    }
    let number = |key: &str| -> Result<u16, String> {
        let part = port.at(key);
        let number = part.integer()?.unwrap_or(0);
        u16::try_from(number).map_err(|_| part.wrong("must be a port up to 65535"))
    };
    let text = |key: &str, default: &str| -> Result<String, String> {
        Ok(port.at(key).text()?.unwrap_or_else(|| default.to_owned()))
    };
    let target = number("target")?;
    if target == 0 {
        return Err(port.wrong("needs a target"));
    }
    let mode = text("mode", "ingress")?;
    if mode != "ingress" && mode != "host" {
        return Err(port.at("mode").wrong("must be ingress or host"));
    }
    Ok(shown((target, number("published")?), &text("protocol", "tcp")?, &mode))
}

fn shown((target, published): (u16, u16), protocol: &str, mode: &str) -> Value {
    let mut shown = json!({"Protocol": protocol.to_ascii_lowercase(), "TargetPort": target});
    if published != 0 {
        shown["PublishedPort"] = published.into();
    }
    shown["PublishMode"] = mode.into();
    shown
}

/// `[PUBLISHED:]TARGET[/PROTOCOL]`, of which both may be ranges.
fn short(port: &Part<'_>, into: &mut Vec<Value>) -> Result<(), String> {
    let text = port.text_or_empty()?;
    let wrong = || port.wrong(format!("is no port: {text:?}"));
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((&text, "tcp"));
    let (published, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    if published.contains(':') {
        return Err(address(port));
    }
    let targets = range(target).ok_or_else(wrong)?;
    if published.is_empty() {
        into.extend(targets.into_iter().map(|target| shown((target, 0), protocol, "ingress")));
        return Ok(());
    }
    let published = range(published).ok_or_else(wrong)?;
    if published.len() != targets.len() {
        return Err(port.wrong(format!("invalid ranges specified for container and host Ports: {text}")));
    }
    into.extend(targets.into_iter().zip(published).map(|ports| shown(ports, protocol, "ingress")));
    Ok(())
}

fn range(text: &str) -> Option<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then(|| (first..=last).collect())
}

/// A port at one address of the host: without the address it would be open to all.
fn address(port: &Part<'_>) -> String {
    port.wrong("names an address of the host: a service's ports are at all of them")
}

/// A port as netd's own API writes it.
pub(super) fn spec(port: &Value) -> Result<String, String> {
    if port["PublishMode"] == "host" {
        return Err("its port has the mode host, which needs tasks: use ingress".into());
    }
    let (target, protocol) = (&port["TargetPort"], port["Protocol"].as_str().unwrap_or("tcp"));
    Ok(match &port["PublishedPort"] {
        Value::Null => format!("{target}/{protocol}"),
        published => format!("{published}:{target}/{protocol}"),
    })
}
