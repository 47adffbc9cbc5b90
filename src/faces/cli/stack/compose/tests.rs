//! Compose files in, requests out.

use serde_json::json;

use super::*;

fn variables(name: &str) -> Option<String> {
    [("TAG", "1.2"), ("HOME", "/root"), ("FROM_HERE", "yes")]
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.to_owned())
}

fn file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/srv/web.env") => Ok("# none\nA=file\nC=3\n".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn try_read(text: &str) -> Result<Stack, String> {
    read(text, &Source { stack: "lab", directory: "/srv".into(), variables: &variables, read: &file })
}

fn parsed(text: &str) -> Stack {
    try_read(text).unwrap_or_else(|why| panic!("{why}"))
}

fn spec(text: &str) -> Value {
    match parsed(text).services.remove(0).kind {
        Kind::Tasks(spec) => spec,
        Kind::Select(_) => panic!("it has no image"),
    }
}

fn why(text: &str) -> String {
    try_read(text).map(drop).unwrap_err()
}

/// A service with further lines.
fn web(lines: &str) -> String {
    format!("services:\n  web:\n    image: lab\n    {}\n", lines.replace('\n', "\n    "))
}

#[test]
fn the_file_of_the_tutorial() {
    let text = "version: \"3\"\nservices:\n  web:\n    image: lab:${TAG}\n    deploy:\n      replicas: 5\n      \
                resources: {limits: {cpus: \"0.1\", memory: 50M}}\n      restart_policy: {condition: on-failure}\n    \
                ports: [\"4000:80\"]\n    networks: [webnet]\nnetworks:\n  webnet:\n";
    let stack = parsed(text);
    assert_eq!(
        stack.networks[0].body,
        json!({"Name": "lab_webnet", "Driver": "overlay", "Labels": {NAMESPACE: "lab"}})
    );
    let expected = json!({
        "Name": "lab_web",
        "Labels": {NAMESPACE: "lab", IMAGE: "lab:1.2"},
        "TaskTemplate": {
            "ContainerSpec": {"Image": "lab:1.2", "Labels": {NAMESPACE: "lab"}},
            "Resources": {"Limits": {"NanoCPUs": 100_000_000, "MemoryBytes": 50 << 20}},
            "RestartPolicy": {"Condition": "on-failure"},
            "Networks": [{"Target": "lab_webnet", "Aliases": ["web"]}],
        },
        "Mode": {"Replicated": {"Replicas": 5}},
        "EndpointSpec": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 4000, "PublishMode": "ingress"}]},
    });
    assert_eq!(spec(text), expected);
}

#[test]
fn a_container_has_what_the_file_says() {
    let lines = "command: httpd -f\nentrypoint: [/bin/sh, -c]\nenvironment: {A: 1, B: true, FROM_HERE: , NONE: }\n\
                 env_file: web.env\nlabels: [a=b]\nhostname: h\nuser: \"1:2\"\nworking_dir: /w\nstop_grace_period: 1m30s\n\
                 stop_signal: SIGINT\nextra_hosts: [\"db:10.0.0.9\", \"v6=[::1]\"]\ndns: 10.0.0.53\ndns_search: [a.b]\n\
                 init: true\nread_only: true\ntty: true\nstdin_open: true\ncap_add: [NET_ADMIN]\ncap_drop: [ALL]\n\
                 sysctls: {net.core.somaxconn: 1024}\nulimits: {nproc: 65, nofile: {soft: 1, hard: 2}}\ntmpfs: /t\n\
                 healthcheck: {test: curl x, interval: 5s, timeout: 500ms, retries: 2, start_period: 1s}\n\
                 logging: {driver: json-file, options: {max-file: 2}}";
    let template = &spec(&web(lines))["TaskTemplate"];
    let expected = json!({
        "Image": "lab",
        "Labels": {"a": "b", NAMESPACE: "lab"},
        "Command": ["/bin/sh", "-c"], "Args": ["httpd", "-f"],
        "Env": ["A=1", "B=true", "C=3", "FROM_HERE=yes", "NONE"],
        "Hostname": "h", "Dir": "/w", "User": "1:2", "StopSignal": "SIGINT",
        "Init": true, "ReadOnly": true, "TTY": true, "OpenStdin": true,
        "StopGracePeriod": 90_000_000_000_u64,
        "Mounts": [{"Type": "tmpfs", "Target": "/t"}],
        "Healthcheck": {
            "Test": ["CMD-SHELL", "curl x"], "Interval": 5_000_000_000_u64, "Timeout": 500_000_000, "StartPeriod": 1_000_000_000,
            "Retries": 2,
        },
        "Hosts": ["10.0.0.9 db", "::1 v6"],
        "DNSConfig": {"Nameservers": ["10.0.0.53"], "Search": ["a.b"]},
        "CapabilityAdd": ["NET_ADMIN"], "CapabilityDrop": ["ALL"],
        "Sysctls": {"net.core.somaxconn": "1024"},
        "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}, {"Name": "nproc", "Hard": 65, "Soft": 65}],
    });
    assert_eq!(template["ContainerSpec"], expected);
    assert_eq!(template["LogDriver"], json!({"Name": "json-file", "Options": {"max-file": "2"}}));
    assert_eq!(
        spec(&web("healthcheck: {disable: true}"))["TaskTemplate"]["ContainerSpec"]["Healthcheck"],
        json!({"Test": ["NONE"]})
    );
}

#[test]
fn deploy_says_how_many_and_how() {
    let lines = "deploy:\n  labels: {x: y}\n  endpoint_mode: dnsrr\n  placement: {constraints: [node.role == manager]}\n  \
                 update_config: {parallelism: 2, delay: 10s, order: start-first, failure_action: rollback}\n  \
                 rollback_config: {delay: 1s}\n  restart_policy: {condition: any, delay: 5s, max_attempts: 3, window: 2m}";
    let spec_of = spec(&web(lines));
    assert_eq!(spec_of["Labels"], json!({"x": "y", NAMESPACE: "lab", IMAGE: "lab"}));
    assert_eq!(spec_of["EndpointSpec"], json!({"Mode": "dnsrr"}));
    assert_eq!(spec_of["Mode"], json!({"Replicated": {"Replicas": 1}}));
    let update =
        json!({"Parallelism": 2, "Delay": 10_000_000_000_u64, "FailureAction": "rollback", "Order": "start-first"});
    assert_eq!(spec_of["UpdateConfig"], update);
    assert_eq!(spec_of["RollbackConfig"], json!({"Parallelism": 1, "Delay": 1_000_000_000}));
    assert_eq!(spec_of["TaskTemplate"]["Placement"], json!({"Constraints": ["node.role == manager"]}));
    let restart =
        json!({"Condition": "any", "Delay": 5_000_000_000_u64, "MaxAttempts": 3, "Window": 120_000_000_000_u64});
    assert_eq!(spec_of["TaskTemplate"]["RestartPolicy"], restart);
    assert_eq!(spec(&web("deploy: {mode: global}"))["Mode"], json!({"Global": {}}));
    assert!(why(&web("deploy: {mode: global, replicas: 2}")).contains("replicas can only be used with replicated"));
}

#[test]
fn ports_volumes_and_networks_have_two_forms() {
    let text = web("ports: [\"53:53/udp\", \"8000-8001:80-81\", 90, {target: 1, published: 2, mode: host}]\n\
                    volumes: [\"data:/d:ro\", ./x:/x, ~/h:/h, /anon, {type: tmpfs, target: /t, tmpfs: {size: 1M}}, \"out:/o\"]\n\
                    networks: {net1: {aliases: [www]}, ext: }")
        + "volumes:\n  data: {driver: local, driver_opts: {a: b}}\n  out: {external: true, name: outside}\n\
           networks:\n  net1: {ipam: {config: [{subnet: 10.9.0.0/24}]}, internal: true, attachable: true, driver_opts: {o: 1}}\n  \
           ext: {external: true}\n  unused: {}\n";
    let of_file = spec(&text);
    let port = |protocol: &str, target: u16, published: u16, mode: &str| json!({"Protocol": protocol, "TargetPort": target, "PublishedPort": published, "PublishMode": mode});
    let expected = json!([
        {"Protocol": "tcp", "TargetPort": 90, "PublishMode": "ingress"}, port("tcp", 1, 2, "host"),
        port("udp", 53, 53, "ingress"), port("tcp", 80, 8000, "ingress"), port("tcp", 81, 8001, "ingress"),
    ]);
    assert_eq!(of_file["EndpointSpec"]["Ports"], expected);
    let labels = json!({NAMESPACE: "lab"});
    let expected = json!([
        {"Type": "volume", "Target": "/d", "Source": "lab_data", "ReadOnly": true, "VolumeOptions": {"Labels": labels, "DriverConfig": {"Name": "local", "Options": {"a": "b"}}}},
        {"Type": "bind", "Target": "/x", "Source": "/srv/x"},
        {"Type": "bind", "Target": "/h", "Source": "/root/h"},
        {"Type": "volume", "Target": "/anon"},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20}},
        {"Type": "volume", "Target": "/o", "Source": "outside"},
    ]);
    assert_eq!(of_file["TaskTemplate"]["ContainerSpec"]["Mounts"], expected);
    let on = json!([{"Target": "ext", "Aliases": ["web"]}, {"Target": "lab_net1", "Aliases": ["www", "web"]}]);
    assert_eq!(of_file["TaskTemplate"]["Networks"], on);
    let stack = parsed(&text);
    let names: Vec<(&str, bool)> =
        stack.networks.iter().map(|network| (network.name.as_str(), network.external)).collect();
    assert_eq!(names, [("lab_net1", false), ("ext", true)], "one that no service uses is not made");
    let body = json!({
        "Name": "lab_net1", "Driver": "overlay", "Internal": true, "Attachable": true,
        "IPAM": {"Driver": "", "Config": [{"Subnet": "10.9.0.0/24"}]}, "Options": {"o": "1"}, "Labels": labels,
    });
    assert_eq!(stack.networks[0].body, body);
}

#[test]
fn a_service_without_an_image_selects_its_members() {
    let text = "services:\n  web:\n    labels: {netd.select: \"app=web,tier=a\"}\n    ports: [\"8080:80\"]\n";
    let stack = parsed(text);
    assert_eq!(stack.networks[0].native.name, "lab_default");
    let Kind::Select(wanted) = &stack.services[0].kind else { panic!("it has tasks") };
    let wanted = serde_json::to_value(wanted).unwrap();
    assert_eq!(wanted["select"], json!({"app": "web", "tier": "a"}));
    assert_eq!((&wanted["mode"], &wanted["networks"][0]["aliases"]), (&json!("vip"), &json!(["web"])));
    assert!(why("services: {web: {}}").contains("has neither an image nor a label netd.select"));
    assert!(
        why("services: {web: {labels: [netd.select=a=b], command: x}}")
            .contains("services.web.command means nothing without an image")
    );
}

#[test]
fn anchors_and_extensions_are_yaml() {
    let text = "x-base: &base\n  image: lab\n  environment: {A: 1}\nservices:\n  web:\n    <<: *base\n    hostname: h\n    x-own: 1\n";
    let spec = spec(text);
    assert_eq!(
        (&spec["TaskTemplate"]["ContainerSpec"]["Env"], &spec["TaskTemplate"]["ContainerSpec"]["Hostname"]),
        (&json!(["A=1"]), &json!("h"))
    );
}

#[test]
fn ignored_keys_are_named_and_others_refused() {
    assert_eq!(
        parsed(&web("build: .\nlinks: [a]\nrestart: always")).notes,
        ["Ignoring unsupported options: build, links, restart"]
    );
    let notes = parsed(&web("container_name: x")).notes;
    assert_eq!(notes, ["Ignoring deprecated options:\n\ncontainer_name: Setting the container name is not supported."]);
    for (text, words) in [
        (
            web("mem_limit: 5m"),
            "Compose file contains unsupported options: mem_limit: Set resource limits using deploy.resources",
        ),
        (web("volumes_from: [x]"), "volumes_from: To share a volume between services"),
        (web("secrets: [s]"), "services.web.secrets cannot be used"),
        (web("configs: [s]"), "services.web.configs cannot be used"),
        (web("nonsense: 1"), "services.web Additional property nonsense is not allowed"),
        (web("networks: [nope]"), "undefined network \"nope\""),
        (web("volumes: [\"nope:/x\"]"), "undefined volume \"nope\""),
        (web("ports: [\"127.0.0.1:80:80\"]"), "services.web.ports.0 names an address of the host"),
        (web("ports: [x]"), "is no port: \"x\""),
        (web("deploy: {replicas: many}"), "services.web.deploy.replicas must be a integer"),
        (web("env_file: none.env"), "services.web.env_file none.env:"),
        (web("hostname: ${NOPE:?say it}"), "services.web.hostname: required variable NOPE is missing a value: say it"),
        ("version: \"2\"".into(), "unsupported Compose file version: 2"),
        ("secrets: {a: {file: x}}".into(), "secrets cannot be used"),
        ("other: 1".into(), "(root) Additional property other is not allowed"),
        ("a: [".into(), "it is no YAML"),
    ] {
        let why = why(&text);
        assert!(why.contains(words), "{text}: {why}");
    }
}
