//! `ContainerSpec` of a service (docker/cli, cli/compose/convert/service.go).

use serde_json::{Map, Value, json};

use super::part::{Part, pair};
use super::{Source, mounts};

/// The whole part. What the file does not say is not there.
pub(super) fn read(service: &Part<'_>, volumes: &Part<'_>, source: &Source<'_>) -> Result<Value, String> {
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value| {
        if !is_nothing(&value) {
            spec.insert(key.to_owned(), value);
        }
    };
    put("Image", json!(service.at("image").text()?));
    put("Labels", source.labels(service.at("labels").labels()?));
    put("Command", json!(service.at("entrypoint").command()?));
    put("Args", json!(service.at("command").command()?));
    put("Env", environment(service, source)?);
    for (key, ours) in [
        ("hostname", "Hostname"),
        ("working_dir", "Dir"),
        ("user", "User"),
        ("stop_signal", "StopSignal"),
        ("isolation", "Isolation"),
    ] {
        put(ours, json!(service.at(key).text()?));
    }
    for (key, ours) in [("init", "Init"), ("read_only", "ReadOnly"), ("tty", "TTY"), ("stdin_open", "OpenStdin")] {
        put(ours, json!(service.at(key).truth()?));
    }
    put("StopGracePeriod", json!(service.at("stop_grace_period").nanos()?));
    put("OomScoreAdj", json!(service.at("oom_score_adj").integer()?));
    put("Mounts", json!(mounts::read(service, volumes, source)?));
    put("Healthcheck", health(&service.at("healthcheck"))?);
    put("Hosts", hosts(&service.at("extra_hosts"))?);
    let dns = json!({"Nameservers": service.at("dns").texts()?, "Search": service.at("dns_search").texts()?});
    put("DNSConfig", without_nothing(dns));
    put("CapabilityAdd", json!(service.at("cap_add").texts()?));
    put("CapabilityDrop", json!(service.at("cap_drop").texts()?));
    put("Sysctls", Value::Object(service.at("sysctls").labels()?));
    put("Ulimits", ulimits(&service.at("ulimits"))?);
    Ok(Value::Object(spec))
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The object without what says nothing.
pub(super) fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(fields.into_iter().filter(|(_, value)| !is_nothing(value)).collect()),
        other => other,
    }
}

/// `KEY=VALUE`, sorted. A key without a value has that of this process; `KEY` alone says that it has none.
fn environment(service: &Part<'_>, source: &Source<'_>) -> Result<Value, String> {
    let mut found: std::collections::BTreeMap<String, Option<String>> = Default::default();
    for file in service.at("env_file").texts()? {
        let path = source.directory.join(&file);
        let text = (source.read)(&path).map_err(|error| service.at("env_file").wrong(format!("{file}: {error}")))?;
        let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        found.extend(lines.map(pair));
    }
    found.extend(service.at("environment").pairs()?);
    let lines = found.into_iter().map(|(key, value)| match value.or_else(|| (source.variables)(&key)) {
        Some(value) => format!("{key}={value}"),
        None => key,
    });
    Ok(json!(lines.collect::<Vec<_>>()))
}

fn health(check: &Part<'_>) -> Result<Value, String> {
    if !check.is_given() {
        return Ok(Value::Null);
    }
    check.only(&["disable", "test", "interval", "timeout", "retries", "start_period", "start_interval"])?;
    let test = check.at("test");
    if check.at("disable").truth()? == Some(true) {
        if test.is_given() {
            return Err("test and disable can't be set at the same time".into());
        }
        return Ok(json!({"Test": ["NONE"]}));
    }
    let mut health = Map::new();
    match test.value() {
        Value::Null => {}
        Value::String(text) => drop(health.insert("Test".into(), json!(["CMD-SHELL", text]))),
        _ => drop(health.insert("Test".into(), json!(test.texts()?))),
    }
    for (key, ours) in [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ] {
        if let Some(nanos) = check.at(key).nanos()? {
            health.insert(ours.into(), nanos.into());
        }
    }
    if let Some(retries) = check.at("retries").integer()? {
        health.insert("Retries".into(), retries.into());
    }
    Ok(Value::Object(health))
}

/// `ADDRESS NAME` for each `NAME:ADDRESS`.
fn hosts(hosts: &Part<'_>) -> Result<Value, String> {
    if hosts.value().is_object() {
        let pairs = hosts.pairs()?.into_iter();
        return Ok(json!(
            pairs.map(|(name, address)| format!("{} {name}", address.unwrap_or_default())).collect::<Vec<_>>()
        ));
    }
    let lines = hosts.texts()?.into_iter().map(|text| match text.split_once(['=', ':']) {
        Some((name, address)) => Ok(format!("{} {name}", address.trim_matches(['[', ']']))),
        None => Err(hosts.wrong(format!("bad format for extra host {text:?}: use NAME:ADDRESS"))),
    });
    Ok(json!(lines.collect::<Result<Vec<_>, _>>()?))
}

fn ulimits(limits: &Part<'_>) -> Result<Value, String> {
    let mut read = Vec::new();
    for (name, limit) in limits.entries()? {
        let (soft, hard) = match limit.value() {
            Value::Object(_) => {
                limit.only(&["soft", "hard"])?;
                (limit.at("soft").integer()?, limit.at("hard").integer()?)
            }
            _ => (limit.integer()?, limit.integer()?),
        };
        let missing = || limit.wrong("needs soft and hard");
        read.push(json!({"Name": name, "Hard": hard.ok_or_else(missing)?, "Soft": soft.ok_or_else(missing)?}));
    }
    read.sort_by_key(|limit| limit["Name"].as_str().unwrap_or_default().to_owned());
    Ok(json!(read))
}
