//! The swarm itself, its node, and what is refused.

use netd_testing::wait::is;

use super::{docker, docker_words, get, nothing_left, patiently, runs, same, serve, told, with_docker};
use crate::lab::Lab;

#[track_caller]
fn refused(line: &str, why: &str) {
    let out = docker(line);
    assert!(out.code != Some(0) && out.stderr.contains(why), "docker {line}: {out:?}");
}

pub(super) fn one_node(lab: &Lab) {
    let _engine = with_docker(lab);
    refused("node ls", "This node is not a swarm manager. Use \"docker swarm init\"");
    refused("swarm leave", "This node is not part of a swarm");
    refused("network create -d overlay net1", "This node is not a swarm manager");
    assert_eq!(told(&["info", "-f", "{{.Swarm.LocalNodeState}}"]), "inactive");
    docker("swarm init --advertise-addr 192.0.2.1").ok();
    refused("swarm init", "This node is already part of a swarm");
    refused("swarm join --token SWMTKN-1-x-y 192.0.2.9:2377", "This node is already part of a swarm");
    let node = told(&["info", "-f", "{{.Swarm.NodeID}}"]);
    assert_eq!(
        told(&["info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Nodes}}"]),
        "active true 1"
    );
    let listed =
        told(&["node", "ls", "--format", "{{.ID}} {{.Self}} {{.Status}} {{.Availability}} {{.ManagerStatus}}"]);
    assert_eq!(listed, format!("{node} true Ready Active Leader"));
    assert_eq!(told(&["node", "inspect", "self", "-f", "{{.Status.Addr}} {{.Spec.Role}}"]), "192.0.2.1 manager");
    let token = told(&["swarm", "join-token", "-q", "worker"]);
    assert!(token.starts_with("SWMTKN-1-"), "{token}");
    let rotated = told(&["swarm", "join-token", "-q", "--rotate", "worker"]);
    assert!(rotated.starts_with("SWMTKN-1-") && rotated != token, "{rotated}");
    docker("swarm update --task-history-limit 2").ok();
    // It survives a restart of netd.
    lab.kill_daemon();
    lab.start_daemon();
    patiently("the swarm is there again", || is(told(&["info", "-f", "{{.Swarm.NodeID}}"]), &node));
    assert!(docker("info").ok().stdout.contains("Task History Retention Limit: 2"));
    // A node that is drained runs nothing, and everything again afterwards.
    serve("web", "--replicas 2 -p 4000:80");
    runs("web", 2);
    assert_eq!(told(&["node", "ps", "--format", "{{.Name}}", "self"]).lines().count(), 2);
    docker(&format!("node update --availability drain {node}")).ok();
    patiently("no task runs", || same(told(&["ps", "-q"]), ""));
    docker(&format!("node update --availability active {node}")).ok();
    runs("web", 2);
    refused("swarm leave", "Removing the last manager erases all current state of the swarm");
    docker("swarm leave --force").ok();
    assert_eq!(told(&["info", "-f", "{{.Swarm.LocalNodeState}}"]), "inactive");
    nothing_left(lab);
}

pub(super) fn refusals(lab: &Lab) {
    let _engine = with_docker(lab);
    refused("swarm join --token SWMTKN-1-x-y 192.0.2.9:2377", "netd does not support swarms of several nodes");
    refused("swarm init --autolock", "netd does not support locked swarms");
    docker("swarm init").ok();
    let create = "service create -d --no-resolve-image --name web";
    for (options, why) in [
        ("--constraint node.role==worker lab", "does not fulfil the constraint \"node.role==worker\""),
        ("--mode replicated-job lab", "netd does not support jobs"),
        ("--endpoint-mode dnsrr -p 4000:80 lab", "can't be used with dnsrr mode"),
        ("--generic-resource gpu=1 lab", "GenericResources"),
        ("--mount type=npipe,source=x,target=/y lab", "npipe"),
        ("--env A={{.Nope}} lab", "{{.Nope}}"),
        ("--network nope lab", "No such network: nope"),
        ("--limit-memory 1m lab", "Must be at least 4MiB"),
        ("--replicas 5 --replicas-max-per-node 2 lab", "netd's swarm has one node"),
    ] {
        refused(&format!("{create} {options}"), why);
    }
    let secret = docker_words(&["secret", "create", "s", "/etc/hostname"]);
    assert!(secret.stderr.contains("netd does not support secrets"), "{secret:?}");
    assert_eq!(
        (get("/secrets"), get("/configs"), get("/services")),
        (serde_json::json!([]), serde_json::json!([]), serde_json::json!([]))
    );
    docker("network create -d overlay net1").ok();
    docker(&format!("{create} -p 4000:80 --network net1 lab busybox sleep 1000")).ok();
    refused(&format!("{create} lab"), "name conflicts with an existing object: service web already exists");
    let second = "service create -d --no-resolve-image --name other -p 4000:80 --network net1 lab";
    refused(second, "port '4000' is already in use by service 'web'");
    refused("network rm net1", "is in use by service");
    refused("service inspect nope", "no such service: nope");
    refused("service rollback web", "does not have a previous spec");
    let spec = get("/services/web")["Spec"].to_string();
    let update = |version: &str| {
        let url = format!("http://netd/services/web/update?version={version}");
        let words =
            ["curl", "-sS", "--unix-socket", super::API, "-H", "content-type: application/json", "-d", &spec, &url];
        crate::world::on_host_words(&words).ok().stdout
    };
    assert!(update("99").contains("update out of sequence"));
    assert!(update("x").contains("invalid service version 'x'"));
    docker("service rm web").ok();
    // As with Docker: a task that was just being started may still be on it.
    patiently("the network is free", || docker("network rm net1").succeeded());
    nothing_left(lab);
}
