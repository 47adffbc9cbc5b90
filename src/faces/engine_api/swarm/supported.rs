//! What of a service's definition netd can do. The rest is refused by name, never swallowed.

use serde_json::Value;

use super::invalid;
use super::text;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::tasks::template::Context;

/// Parts of `ContainerSpec` that become parts of the container.
const CONTAINER: [&str; 25] = [
    "Image",
    "Command",
    "Args",
    "Env",
    "Dir",
    "User",
    "Groups",
    "Hostname",
    "Labels",
    "Mounts",
    "Hosts",
    "DNSConfig",
    "StopSignal",
    "StopGracePeriod",
    "Healthcheck",
    "Init",
    "ReadOnly",
    "TTY",
    "OpenStdin",
    "CapabilityAdd",
    "CapabilityDrop",
    "Sysctls",
    "Ulimits",
    "OomScoreAdj",
    "Isolation",
];
/// Parts of `TaskTemplate`.
const TEMPLATE: [&str; 8] =
    ["ContainerSpec", "Resources", "RestartPolicy", "Placement", "Networks", "LogDriver", "ForceUpdate", "Runtime"];
/// Parts of `Resources`.
const RESOURCES: [&str; 4] = ["Limits", "Reservations", "SwapBytes", "MemorySwappiness"];
const LIMITS: [&str; 3] = ["NanoCPUs", "MemoryBytes", "Pids"];
const MOUNTS: [&str; 3] = ["bind", "volume", "tmpfs"];
/// Bytes: less starts no program.
const MEMORY_MIN: i64 = 4 << 20;

/// Refuses what netd cannot do.
pub(super) fn check(template: &Value) -> Result<(), Failure> {
    let spec = &template["ContainerSpec"];
    if !spec.is_object() {
        return Err(invalid("TaskSpec: missing runtime"));
    }
    if !matches!(text(template, "Runtime"), "" | "container") {
        return Err(Failure::bad(format!(
            "netd does not support tasks of the runtime {:?}",
            text(template, "Runtime")
        )));
    }
    known("TaskTemplate", template, &TEMPLATE)?;
    if text(spec, "Image").is_empty() {
        return Err(invalid("ContainerSpec: image reference must be provided"));
    }
    if !matches!(text(spec, "Isolation"), "" | "default") {
        return Err(Failure::bad(
            "netd does not support isolation (ContainerSpec.Isolation): it means something on Windows only",
        ));
    }
    known("ContainerSpec", spec, &CONTAINER)?;
    resources(&template["Resources"])?;
    let mut targets = Vec::new();
    for mount in spec["Mounts"].as_array().into_iter().flatten() {
        let kind = text(mount, "Type");
        if !MOUNTS.contains(&kind) {
            return Err(Failure::bad(format!(
                "netd does not support mounts of the type {kind:?}: use {}",
                MOUNTS.join(", ")
            )));
        }
        if targets.contains(&text(mount, "Target")) {
            return Err(invalid(format!("ContainerSpec: duplicate mount point: {}", text(mount, "Target"))));
        }
        targets.push(text(mount, "Target"));
    }
    placeholders(spec)
}

/// Every part must be one of these, or say nothing.
fn known(what: &str, value: &Value, known: &[&str]) -> Result<(), Failure> {
    let fields = value.as_object().into_iter().flatten();
    let mut unknown = fields.filter(|(key, value)| !known.contains(&key.as_str()) && says_something(value));
    match unknown.next() {
        Some((key, _)) => Err(Failure::bad(format!("netd does not support {what}.{key}: leave it out"))),
        None => Ok(()),
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
        Value::Bool(true) => true,
    }
}

fn resources(resources: &Value) -> Result<(), Failure> {
    known("Resources", resources, &RESOURCES)?;
    for part in ["Limits", "Reservations"] {
        known(&format!("Resources.{part}"), &resources[part], &LIMITS)?;
        let number = |key: &str| resources[part][key].as_i64().unwrap_or_default();
        let cpus = number("NanoCPUs");
        if cpus != 0 && cpus < 1_000_000 {
            return Err(invalid(format!("invalid cpu value {}: Must be at least 0.001", cpus as f64 / 1e9)));
        }
        let memory = number("MemoryBytes");
        if memory != 0 && memory < MEMORY_MIN {
            return Err(invalid(format!("invalid memory value {memory}: Must be at least 4MiB")));
        }
    }
    Ok(())
}

fn placeholders(spec: &Value) -> Result<(), Failure> {
    let context = Context::any();
    let mounts = spec["Mounts"].as_array().into_iter().flatten();
    let mounts = mounts.flat_map(|mount| [&mount["Source"], &mount["Target"]]);
    let texts = spec["Env"].as_array().into_iter().flatten().chain(mounts).chain([&spec["Hostname"]]);
    for text in texts.filter_map(Value::as_str) {
        context.expand(text).map_err(Failure::bad)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
    fn why(template: Value) -> String {
        check(&template).unwrap_err().message
    }

    #[test]
    fn what_netd_cannot_do_is_named() {
        let with = |key: &str, value: Value| json!({"ContainerSpec": {"Image": "lab", key: value}});
        for (key, value) in [
            ("Secrets", json!([{"SecretName": "s"}])),
            ("Configs", json!([{"ConfigName": "c"}])),
            ("Privileges", json!({"CredentialSpec": null, "SELinuxContext": {"Disable": true}})),
            ("Nonsense", json!(1)),
        ] {
            assert_eq!(why(with(key, value)), format!("netd does not support ContainerSpec.{key}: leave it out"));
        }
        assert!(why(with("Isolation", json!("hyperv"))).contains("Isolation"));
        assert!(why(with("Mounts", json!([{"Type": "npipe", "Target": "/x"}]))).contains("npipe"));
        assert!(
            why(with("Mounts", json!([{"Type": "bind", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}])))
                .contains("duplicate mount point: /x")
        );
        assert!(why(with("Env", json!(["A={{.Nope}}"]))).contains("{{.Nope}}"));
        assert!(
            why(json!({"ContainerSpec": {"Image": "x"}, "PluginSpec": {"Name": "p"}}))
                .contains("TaskTemplate.PluginSpec")
        );
        let generic =
            json!({"Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "GPU", "Value": 1}}]}});
        assert!(why(json!({"ContainerSpec": {"Image": "x"}, "Resources": generic})).contains("GenericResources"));
        assert!(
            why(json!({"ContainerSpec": {"Image": "x"}, "Resources": {"Limits": {"MemoryBytes": 5}}})).contains("4MiB")
        );
        assert!(why(json!({"ContainerSpec": {}})).contains("image reference must be provided"));
        assert!(why(json!({})).contains("missing runtime"));
    }

    #[test]
    fn what_the_command_line_sends_by_itself_is_no_wish() {
        let sent = json!({
            "ContainerSpec": {
                "Image": "lab", "Init": false, "Isolation": "default", "Privileges": {"NoNewPrivileges": false, "Seccomp": null},
                "Secrets": null, "Configs": [], "DNSConfig": {}, "Healthcheck": null,
            },
            "Resources": {"Limits": {}, "Reservations": {"GenericResources": null}},
            "Placement": {"Platforms": [{"OS": "linux"}]}, "ForceUpdate": 0, "Runtime": "container",
        });
        assert_eq!(check(&sent), Ok(()));
    }
}
