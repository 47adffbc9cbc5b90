//! Definitions of services with tasks (`ServiceSpec`), as options make or change them.

use serde_json::{Value, json};

use crate::faces::cli::args::{CreateServiceArgs, ServiceArgs, TaskArgs};
use crate::faces::cli::stack::split;
use crate::model::publication::PortSpec;
use crate::model::service::Mode;

/// A new service.
pub(super) fn create(args: &CreateServiceArgs) -> Result<Value, String> {
    let options = &args.options;
    if let Some(option) = without_meaning(options) {
        return Err(format!(
            "{option} is for services whose containers others make: leave it out, or leave out --image"
        ));
    }
    let Some(image) = &args.tasks.image else { return Err("options of tasks need --image".into()) };
    let further: Vec<String> = options.aliases.iter().flatten().map(ToString::to_string).collect();
    let networks = args.networks.iter().map(|on| {
        let own = on.aliases.iter().map(ToString::to_string);
        json!({"Target": on.network, "Aliases": own.chain(further.clone()).collect::<Vec<_>>()})
    });
    let labels = options.label.iter().flatten().map(|(key, value)| (key.clone(), json!(value)));
    let mut spec = json!({
        "Name": args.name,
        "Labels": Value::Object(labels.collect()),
        "TaskTemplate": {"ContainerSpec": {"Image": image}, "Networks": networks.collect::<Vec<_>>()},
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {
            "Mode": if options.mode == Some(Mode::Dns) { "dnsrr" } else { "vip" },
            "Ports": options.ports.iter().flatten().flat_map(ports).collect::<Vec<_>>(),
        },
    });
    change(&mut spec, &args.tasks)?;
    Ok(spec)
}

/// The options of services without tasks.
pub(super) fn without_meaning(options: &ServiceArgs) -> Option<&'static str> {
    let given = [
        ("--select", !options.select.is_empty()),
        ("--member", !options.member.is_empty()),
        ("--target", options.target.is_some()),
        ("--affinity", options.affinity.is_some()),
        ("--grace", options.grace.is_some()),
        ("--health", options.health.is_some()),
        ("--interval", options.interval.is_some()),
        ("--timeout", options.timeout.is_some()),
        ("--retries", options.retries.is_some()),
        ("--when-none-ready", options.when_none_ready.is_some()),
    ];
    given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
}

fn ports(spec: &PortSpec) -> Vec<Value> {
    let one = |at: u16| {
        let mut port = json!({
            "Protocol": spec.protocol.as_str(), "TargetPort": spec.container.first() + at, "PublishMode": "ingress",
        });
        if let Some(host) = spec.host {
            port["PublishedPort"] = (host.first() + at).into();
        }
        port
    };
    (0..=spec.container.last() - spec.container.first()).map(one).collect()
}

/// Changes what is given.
pub(super) fn change(spec: &mut Value, tasks: &TaskArgs) -> Result<(), String> {
    if let Some(replicas) = tasks.replicas {
        scale(spec, replicas)?;
    }
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    if let Some(image) = &tasks.image {
        container["Image"] = image.as_str().into();
    }
    if let Some(command) = &tasks.command {
        container["Args"] = json!(split(command).map_err(|why| format!("--command {why}"))?);
    }
    for (key, value) in &tasks.env {
        let is_other = |line: &Value| line.as_str().and_then(|line| line.split('=').next()) != Some(key);
        replace(&mut container["Env"], is_other, format!("{key}={value}").into());
    }
    for mount in &tasks.mount {
        replace(&mut container["Mounts"], |known| known["Target"] != mount["Target"], mount.clone());
    }
    if let Some(condition) = &tasks.restart_condition {
        spec["TaskTemplate"]["RestartPolicy"]["Condition"] = condition.as_str().into();
    }
    let update = [
        ("Parallelism", tasks.update_parallelism.map(Value::from)),
        ("Delay", tasks.update_delay.map(Value::from)),
        ("Order", tasks.update_order.clone().map(Value::from)),
    ];
    for (key, value) in update {
        if let Some(value) = value {
            if spec["UpdateConfig"]["Parallelism"].is_null() {
                spec["UpdateConfig"]["Parallelism"] = 1.into();
            }
            spec["UpdateConfig"][key] = value;
        }
    }
    Ok(())
}

/// Puts an element into a list, in the place of those that are not other ones.
fn replace(list: &mut Value, is_other: impl Fn(&Value) -> bool, element: Value) {
    let kept = list.as_array().into_iter().flatten().filter(|known| is_other(known)).cloned();
    *list = kept.chain([element]).collect();
}

/// Sets the number of tasks.
pub(super) fn scale(spec: &mut Value, replicas: u32) -> Result<(), String> {
    if !spec["Mode"]["Replicated"].is_object() {
        return Err("scale can only be used with replicated or replicated-job mode".into());
    }
    spec["Mode"]["Replicated"]["Replicas"] = replicas.into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let mut spec = json!({
            "TaskTemplate": {"ContainerSpec": {"Image": "a", "Env": ["A=1", "B=2"], "Mounts": [{"Target": "/x", "Source": "v"}]}},
            "Mode": {"Replicated": {"Replicas": 1}},
        });
        let tasks = TaskArgs {
            image: Some("b".into()),
            replicas: Some(3),
            env: vec![("A".into(), "9".into())],
            mount: vec![json!({"Target": "/x", "Source": "w"})],
            command: Some("httpd -f 'a b'".into()),
            update_order: Some("start-first".into()),
            ..TaskArgs::default()
        };
        change(&mut spec, &tasks).unwrap();
        let container = &spec["TaskTemplate"]["ContainerSpec"];
        assert_eq!((&container["Image"], &container["Env"]), (&json!("b"), &json!(["B=2", "A=9"])));
        assert_eq!(container["Mounts"], json!([{"Target": "/x", "Source": "w"}]));
        assert_eq!(container["Args"], json!(["httpd", "-f", "a b"]));
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 3);
        assert_eq!(spec["UpdateConfig"], json!({"Parallelism": 1, "Order": "start-first"}));
        assert!(spec["TaskTemplate"]["RestartPolicy"].is_null());
        spec["Mode"] = json!({"Global": {}});
        assert!(scale(&mut spec, 2).is_err());
    }
}
