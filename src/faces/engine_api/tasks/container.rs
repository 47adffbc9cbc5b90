//! The container of a task, as `POST /containers/create` makes it (moby, daemon/cluster/executor/container).

use serde_json::{Map, Value, json};

use super::digest::host_ports;
use super::policy;
use super::task::{ATTEMPT, DIGEST, Made, NODE_ID, SERVICE_ID, SERVICE_NAME, TASK, TASK_ID, TASK_NAME};
use super::template::{Context, Node};
use crate::model::service::{Service, Tasks};

/// `ContainerSpec` to the container's own settings of another name.
const OWN: [(&str, &str); 8] = [
    ("Image", "Image"),
    ("User", "User"),
    ("Dir", "WorkingDir"),
    ("StopSignal", "StopSignal"),
    ("TTY", "Tty"),
    ("OpenStdin", "OpenStdin"),
    ("Healthcheck", "Healthcheck"),
    ("Args", "Cmd"),
];
/// The same to those of the host's part.
const OF_HOST: [(&str, &str); 9] = [
    ("Groups", "GroupAdd"),
    ("ReadOnly", "ReadonlyRootfs"),
    ("Init", "Init"),
    ("CapabilityAdd", "CapAdd"),
    ("CapabilityDrop", "CapDrop"),
    ("Sysctls", "Sysctls"),
    ("Ulimits", "Ulimits"),
    ("OomScoreAdj", "OomScoreAdj"),
    ("Mounts", "Mounts"),
];

/// The body, with the container on the first network of its service. The error names a placeholder that is not known.
pub(super) fn body(service: &Service, tasks: &Tasks, made: &Made, node: &Node) -> Result<Value, String> {
    let context = Context::new(service, node, made);
    let spec = &tasks.template["ContainerSpec"];
    let mut body = json!({});
    copy(spec, &OWN, &mut body);
    if spec["Command"].as_array().is_some_and(|command| !command.is_empty()) {
        body["Entrypoint"] = spec["Command"].clone();
    }
    body["Env"] = expanded(&spec["Env"], &context)?;
    if let Some(hostname) = spec["Hostname"].as_str().filter(|hostname| !hostname.is_empty()) {
        body["Hostname"] = context.expand(hostname)?.into();
    }
    body["StopTimeout"] = policy::grace(tasks).into();
    body["Labels"] = labels(spec, service, made);
    body["HostConfig"] = host_config(spec, &tasks.template, &context)?;
    let (mut exposed, mut bindings) = (Map::new(), Map::new());
    for port in host_ports(tasks.endpoint.as_ref()) {
        let key = format!("{}/{}", port["TargetPort"], port["Protocol"].as_str().unwrap_or("tcp"));
        let host = port["PublishedPort"].as_u64().filter(|port| *port != 0).map(|port| port.to_string());
        exposed.insert(key.clone(), json!({}));
        bindings.insert(key, json!([{"HostPort": host.unwrap_or_default()}]));
    }
    if !bindings.is_empty() {
        body["ExposedPorts"] = Value::Object(exposed);
        body["HostConfig"]["PortBindings"] = Value::Object(bindings);
    }
    if let Some(on) = service.networks.first() {
        body["HostConfig"]["NetworkMode"] = on.network.as_str().into();
        body["NetworkingConfig"] =
            json!({"EndpointsConfig": {on.network.as_str(): {"Aliases": aliases(service, made)}}});
    }
    Ok(body)
}

/// The task's further names on each network: `web.1`.
pub(super) fn aliases(service: &Service, made: &Made) -> Vec<String> {
    if made.slot == 0 { Vec::new() } else { vec![format!("{}.{}", service.name, made.slot)] }
}

fn copy(from: &Value, keys: &[(&str, &str)], to: &mut Value) {
    for (key, ours) in keys {
        if !from[*key].is_null() {
            to[*ours] = from[*key].clone();
        }
    }
}

/// The texts with what their placeholders stand for.
fn expanded(texts: &Value, context: &Context) -> Result<Value, String> {
    let texts = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
    let texts: Vec<String> = texts.map(|text| context.expand(text)).collect::<Result<_, _>>()?;
    Ok(json!(texts))
}

fn labels(spec: &Value, service: &Service, made: &Made) -> Value {
    let mut labels = spec["Labels"].as_object().cloned().unwrap_or_default();
    let own = [
        (TASK, String::new()),
        (TASK_ID, made.id.clone()),
        (TASK_NAME, made.name.clone()),
        (NODE_ID, made.node.clone()),
        (SERVICE_ID, service.id.to_string()),
        (SERVICE_NAME, service.name.to_string()),
        (DIGEST, made.digest.clone()),
        (ATTEMPT, made.attempt.to_string()),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), Value::from(value))));
    Value::Object(labels)
}

fn host_config(spec: &Value, template: &Value, context: &Context) -> Result<Value, String> {
    let mut host = json!({"RestartPolicy": {"Name": "no"}});
    copy(spec, &OF_HOST, &mut host);
    for mount in host["Mounts"].as_array_mut().into_iter().flatten() {
        for key in ["Source", "Target"] {
            if let Some(text) = mount[key].as_str() {
                mount[key] = context.expand(text)?.into();
            }
        }
    }
    let dns = &spec["DNSConfig"];
    copy(dns, &[("Nameservers", "Dns"), ("Search", "DnsSearch"), ("Options", "DnsOptions")], &mut host);
    let hosts = spec["Hosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // `ADDRESS NAME [ALIAS…]`, as in hosts(5); Docker leaves out the aliases.
    let hosts = hosts.filter_map(|entry| entry.split_whitespace().next().zip(entry.split_whitespace().nth(1)));
    let hosts: Vec<String> = hosts.map(|(address, name)| format!("{name}:{address}")).collect();
    if !hosts.is_empty() {
        host["ExtraHosts"] = json!(hosts);
    }
    let resources = &template["Resources"];
    let limits = &resources["Limits"];
    copy(limits, &[("NanoCPUs", "NanoCpus"), ("MemoryBytes", "Memory"), ("Pids", "PidsLimit")], &mut host);
    copy(&resources["Reservations"], &[("MemoryBytes", "MemoryReservation")], &mut host);
    copy(resources, &[("MemorySwappiness", "MemorySwappiness")], &mut host);
    if let Some(swap) = resources["SwapBytes"].as_i64() {
        let memory = limits["MemoryBytes"].as_i64().unwrap_or_default();
        host["MemorySwap"] = if swap < 0 { swap } else { memory.saturating_add(swap) }.into();
    }
    if let Some(driver) = template["LogDriver"]["Name"].as_str().filter(|name| !name.is_empty()) {
        host["LogConfig"] = json!({"Type": driver, "Config": template["LogDriver"]["Options"]});
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Mode;

    #[expect(clippy::needless_pass_by_value, reason = "the tests write it in place")]
    fn service(template: Value, endpoint: Value) -> Service {
        let service = json!({
            "id": "a".repeat(25), "name": "web", "mode": Mode::Vip, "grace": 10,
            "networks": [{"network": "net1"}, {"network": "net2"}],
            "tasks": {"replicas": 2, "template": template, "endpoint": endpoint},
            "created": 0, "updated": 0, "version": 1,
        });
        serde_json::from_value(service).unwrap()
    }

    fn made_of(template: Value, endpoint: Value) -> Result<Value, String> {
        let service = service(template, endpoint);
        let node = Node { id: "n".into(), name: "host1".into(), architecture: "amd64".into() };
        let made =
            Made { id: "t".into(), node: "n".into(), slot: 2, name: "web.2.t".into(), digest: "d".into(), attempt: 3 };
        body(&service, service.tasks.as_ref().unwrap(), &made, &node)
    }

    #[test]
    fn a_task_becomes_a_container() {
        let made = made_of(
            json!({
                "ContainerSpec": {
                    "Image": "lab", "Args": ["serve"], "Env": ["SLOT={{.Task.Slot}}"], "Hostname": "{{.Service.Name}}-{{.Node.Hostname}}",
                    "Labels": {"a": "b", TASK_ID: "forged"}, "StopGracePeriod": 1_500_000_000_u64,
                    "Hosts": ["10.0.0.9 db database"], "DNSConfig": {"Nameservers": ["10.0.0.53"]},
                    "Mounts": [{"Type": "volume", "Source": "data-{{.Task.Slot}}", "Target": "/data"}],
                },
                "Resources": {"Limits": {"NanoCPUs": 500, "MemoryBytes": 64, "Pids": 9}, "SwapBytes": 6},
                "LogDriver": {"Name": "json-file", "Options": {"max-file": "2"}},
            }),
            json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}, {"TargetPort": 81, "PublishMode": "ingress"}]}),
        )
        .unwrap();
        assert_eq!((&made["Image"], &made["Cmd"], &made["StopTimeout"]), (&json!("lab"), &json!(["serve"]), &json!(2)));
        assert_eq!((&made["Env"], &made["Hostname"]), (&json!(["SLOT=2"]), &json!("web-host1")));
        assert_eq!(made["Labels"]["a"], "b");
        assert_eq!((&made["Labels"][TASK_ID], &made["Labels"][ATTEMPT]), (&json!("t"), &json!("3")));
        let host = &made["HostConfig"];
        assert_eq!((&host["ExtraHosts"], &host["Dns"]), (&json!(["db:10.0.0.9"]), &json!(["10.0.0.53"])));
        assert_eq!(host["Mounts"][0]["Source"], "data-2");
        assert_eq!(
            (&host["NanoCpus"], &host["Memory"], &host["MemorySwap"], &host["PidsLimit"]),
            (&json!(500), &json!(64), &json!(70), &json!(9))
        );
        assert_eq!(host["LogConfig"], json!({"Type": "json-file", "Config": {"max-file": "2"}}));
        assert_eq!(host["PortBindings"], json!({"80/tcp": [{"HostPort": "8080"}]}));
        assert_eq!(host["NetworkMode"], "net1");
        assert_eq!(made["NetworkingConfig"], json!({"EndpointsConfig": {"net1": {"Aliases": ["web.2"]}}}));
    }

    #[test]
    fn a_command_takes_the_place_of_the_images() {
        let made =
            made_of(json!({"ContainerSpec": {"Image": "lab", "Command": ["sh"], "Args": ["-c", "x"]}}), Value::Null);
        let made = made.unwrap();
        assert_eq!((&made["Entrypoint"], &made["Cmd"]), (&json!(["sh"]), &json!(["-c", "x"])));
        assert!(made["HostConfig"]["PortBindings"].is_null() && made["Hostname"].is_null());
        assert!(made_of(json!({"ContainerSpec": {"Hostname": "{{.Nope}}"}}), Value::Null).is_err());
    }
}
