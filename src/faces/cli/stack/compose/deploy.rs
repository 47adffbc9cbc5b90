//! `deploy` of a service: how many tasks, how they are replaced, what they may use.

use serde_json::{Map, Value, json};

use super::container::without_nothing;
use super::part::Part;

const KEYS: [&str; 9] = [
    "mode",
    "replicas",
    "labels",
    "update_config",
    "rollback_config",
    "resources",
    "restart_policy",
    "placement",
    "endpoint_mode",
];

/// `Mode`.
pub(super) fn mode(deploy: &Part<'_>) -> Result<Value, String> {
    deploy.only(&KEYS)?;
    let (mode, replicas) = (deploy.at("mode").text()?, deploy.at("replicas").integer()?);
    match mode.as_deref().unwrap_or("replicated") {
        "replicated" | "" => {
            let count = replicas.unwrap_or(1);
            if count < 0 {
                return Err(deploy.at("replicas").wrong("must be at least 0"));
            }
            Ok(json!({"Replicated": {"Replicas": count}}))
        }
        "global" if replicas.is_some_and(|replicas| replicas != 0) => {
            Err("replicas can only be used with replicated or replicated-job mode".into())
        }
        "global" => Ok(json!({"Global": {}})),
        "replicated-job" => Ok(json!({"ReplicatedJob": {"MaxConcurrent": replicas, "TotalCompletions": replicas}})),
        "global-job" => Ok(json!({"GlobalJob": {}})),
        other => Err(format!("Unknown mode: {other}")),
    }
}

/// `UpdateConfig` or `RollbackConfig`.
pub(super) fn update(config: &Part<'_>) -> Result<Value, String> {
    if !config.is_given() {
        return Ok(Value::Null);
    }
    config.only(&["parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"])?;
    let mut read = json!({"Parallelism": config.at("parallelism").integer()?.unwrap_or(1)});
    put(&mut read, "Delay", config.at("delay").nanos()?);
    put(&mut read, "FailureAction", config.at("failure_action").text()?);
    put(&mut read, "Monitor", config.at("monitor").nanos()?);
    put(&mut read, "MaxFailureRatio", config.at("max_failure_ratio").number()?);
    put(&mut read, "Order", config.at("order").text()?);
    Ok(read)
}

fn put(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

/// `RestartPolicy`.
pub(super) fn restart(policy: &Part<'_>) -> Result<Value, String> {
    policy.only(&["condition", "delay", "max_attempts", "window"])?;
    let mut read = json!({});
    put(&mut read, "Condition", policy.at("condition").text()?);
    put(&mut read, "Delay", policy.at("delay").nanos()?);
    put(&mut read, "MaxAttempts", policy.at("max_attempts").integer()?);
    put(&mut read, "Window", policy.at("window").nanos()?);
    Ok(read)
}

/// `Resources`.
pub(super) fn resources(resources: &Part<'_>) -> Result<Value, String> {
    resources.only(&["limits", "reservations"])?;
    let (limits, reservations) = (resources.at("limits"), resources.at("reservations"));
    limits.only(&["cpus", "memory", "pids"])?;
    reservations.only(&["cpus", "memory", "generic_resources"])?;
    if reservations.at("generic_resources").is_given() {
        return Err(reservations.at("generic_resources").wrong("cannot be used: netd knows no such resources"));
    }
    Ok(without_nothing(json!({"Limits": amounts(&limits)?, "Reservations": amounts(&reservations)?})))
}

fn amounts(part: &Part<'_>) -> Result<Value, String> {
    let mut read = json!({});
    put(&mut read, "NanoCPUs", part.at("cpus").number()?.map(|cpus| (cpus * 1e9).round() as i64));
    put(&mut read, "MemoryBytes", part.at("memory").bytes()?);
    put(&mut read, "Pids", part.at("pids").integer()?);
    Ok(read)
}

/// `Placement`.
pub(super) fn placement(placement: &Part<'_>) -> Result<Value, String> {
    placement.only(&["constraints", "preferences", "max_replicas_per_node"])?;
    let mut preferences = Vec::new();
    for preference in placement.at("preferences").items()? {
        preference.only(&["spread"])?;
        preferences.push(json!({"Spread": {"SpreadDescriptor": preference.at("spread").text_or_empty()?}}));
    }
    let mut read = json!({"Constraints": placement.at("constraints").texts()?, "Preferences": preferences});
    put(&mut read, "MaxReplicas", placement.at("max_replicas_per_node").integer()?);
    Ok(without_nothing(read))
}

/// `LogDriver`.
pub(super) fn logging(logging: &Part<'_>) -> Result<Value, String> {
    logging.only(&["driver", "options"])?;
    let mut read = Map::new();
    if let Some(driver) = logging.at("driver").text()? {
        read.insert("Name".into(), driver.into());
    }
    let options = logging.at("options").labels()?;
    if !options.is_empty() {
        read.insert("Options".into(), Value::Object(options));
    }
    Ok(Value::Object(read))
}
