//! The rows of swarms: one node, services, tasks, stacks. They stand last, when everything else is removed.

use super::table::{Row, WORDS, differs, same};

/// There is one node.
const ONE: &str = "one host is a swarm of one node";
/// A task would never run.
const NEVER: &str = "what no task of this node can be is refused at once, not left pending";
/// Defaults.
const DEFAULTS: &str = "what was not asked for is not shown; it is as in Docker";
/// What Docker distributes to nodes.
const FILES: &str = "the node is this host: its files can be mounted";

/// A swarm is made.
pub(super) const NODE: &[Row] = &[
    differs(
        "docker swarm join --token SWMTKN-1-x-y 127.0.0.1:2377",
        "invalid join token",
        "netd does not support swarms of several nodes: make one of this node with `docker swarm init`",
        ONE,
    ),
    differs(
        "docker swarm init --advertise-addr 127.0.0.1 --autolock | head -1",
        "Swarm initialized: current node (ID) is now a manager.",
        "netd does not support locked swarms (AutoLockManagers): what it stores has no keys",
        "netd's state has no encryption of its own",
    )
    .undo("docker swarm leave --force"),
    same("docker swarm leave"),
    same("docker network create -d overlay net1"),
    same("docker swarm init --advertise-addr 127.0.0.1"),
    same("docker swarm init"),
    same("docker swarm join --token SWMTKN-1-x-y 127.0.0.1:2377"),
    same(
        "docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.Nodes}} {{.Swarm.Managers}}'",
    ),
    same("docker node ls --format '{{.Self}} {{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}'"),
    same(
        "docker node inspect --format '{{.Spec.Role}} {{.Status.State}} {{.Status.Addr}} {{.ManagerStatus.Addr}}' self",
    ),
    same("docker node inspect nope"),
    same("docker node demote $(docker node ls -q)"),
    same("docker node rm $(docker node ls -q)"),
    same("docker node update --label-add disk=ssd $(docker node ls -q) | wc -l"),
    same("docker node ls --filter node.label=disk=ssd --format '{{.Status}}'"),
    same("docker swarm join-token worker"),
    same("docker swarm update --task-history-limit 2"),
    same("docker swarm unlock-key"),
    differs(
        "docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'",
        "docker_gwbridge bridge local\nhost host local\ningress overlay swarm",
        "bridge bridge local\nhost host local\nnone null local",
        "nothing leaves a network of netd through a second one, and `ingress` is there while a service needs it",
    ),
    differs(
        "echo x | docker secret create s -",
        "[0] ID",
        "netd does not support secrets: give the task a file with a bind mount or a volume",
        FILES,
    )
    .undo("docker secret rm s"),
    differs(
        "echo x | docker config create c -",
        "[0] ID",
        "netd does not support configs: give the task a file with a bind mount or a volume",
        FILES,
    )
    .undo("docker config rm c"),
];

/// Services are made, looked at, changed.
pub(super) const SERVICES: &[Row] = &[
    same("docker network create -d overlay net1"),
    same("docker network create -d overlay --attachable net2"),
    differs(
        "docker network inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Attachable}}' net1 net2",
        "net1 overlay swarm false",
        "net1 overlay swarm true",
        "every network of netd takes containers besides tasks",
    ),
    same(
        "docker service create -d --no-resolve-image --name web --network net1 --replicas 2 -p 4100:80 -l tier=front --restart-delay 0s lab busybox httpd -f -p 80 -h /www",
    ),
    same("timeout 60 sh -c 'until docker service ls | grep -q 2/2; do sleep 0.2; done'"),
    same("docker service ls --format '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}'"),
    same("docker service ls --filter label=tier=front --filter mode=replicated --format '{{.Name}}'"),
    differs("docker service ls --filter nope=1", "Invalid filter 'nope'", "invalid filter 'nope'", WORDS),
    same(
        "docker service ps --format '{{.Name}} {{.Image}} {{.Node}} {{.DesiredState}} {{.Error}} {{.Ports}}' web | sort",
    ),
    same("docker service ps --filter desired-state=running --filter node=self -q web | wc -l"),
    same("docker service ps --filter desired-state=odd web"),
    same("docker service ps nope"),
    differs(
        "docker service inspect --format '{{json .Spec.TaskTemplate.ContainerSpec}} {{json .Spec.Mode}}' web",
        r#""Init":false,"StopGracePeriod":10000000000,"DNSConfig":{},"Isolation":"default""#,
        r#""Init":false,"DNSConfig":{}}"#,
        DEFAULTS,
    ),
    same("docker service inspect --format '{{json .Spec.EndpointSpec}} {{json .Endpoint.Ports}}' web"),
    differs("docker service inspect --pretty web", "Update order:  stop-first", "Placement:\nContainerSpec:", DEFAULTS),
    same("docker service inspect nope"),
    differs(
        "docker service inspect --format '{{len .Endpoint.VirtualIPs}}' web",
        "[0] 2",
        "[0] 1",
        "ports lead to the tasks on the service's own networks: it is not on `ingress` besides",
    ),
    same(
        "docker inspect --format '{{.Slot}} {{.Status.State}} {{.DesiredState}}' $(docker service ps -q --filter name=web.1 web)",
    ),
    same("docker ps --format '{{.Image}} {{.Command}}'"),
    same("docker service create -d --no-resolve-image --name web lab"),
    same("docker service create -d --no-resolve-image --name other -p 4100:80 lab"),
    same("docker service create -d --no-resolve-image --name other --network nope lab"),
    same("docker service create -d --no-resolve-image --name other --endpoint-mode dnsrr -p 4101:80 lab"),
    same("docker service create -d --no-resolve-image --name other --limit-memory 1m lab"),
    same("docker service create -d --no-resolve-image --name a.b lab"),
    differs(
        "docker service create -d --no-resolve-image --name other --env 'A={{.Nope}}' lab",
        "can't evaluate field Nope in type *template.Context",
        "{{.Nope}}",
        "netd says what would be right",
    ),
    differs(
        "docker service create -d --no-resolve-image --name other --constraint node.role==worker lab",
        "[0] ID",
        "does not fulfil the constraint \"node.role==worker\"",
        NEVER,
    )
    .undo("docker service rm other"),
    differs(
        "docker service create -d --no-resolve-image --name other --replicas 5 --replicas-max-per-node 2 lab",
        "[0] ID",
        "max replicas per node limit exceed: netd's swarm has one node, for 5 tasks",
        NEVER,
    )
    .undo("docker service rm other"),
    differs(
        "docker service create -d --no-resolve-image --name other --generic-resource gpu=1 lab",
        "[0] ID",
        "GenericResources",
        NEVER,
    )
    .undo("docker service rm other"),
    differs(
        "docker service create -d --no-resolve-image --name other --mount type=npipe,source=x,target=/y lab",
        "[0] ID",
        "netd does not support mounts of the type \"npipe\"",
        NEVER,
    )
    .undo("docker service rm other"),
    differs(
        "docker service create -d --no-resolve-image --name other --mode replicated-job lab",
        "[0] ID",
        "netd does not support jobs (Mode.ReplicatedJob): run a container instead",
        "netd keeps networking alive: what ends is a container",
    )
    .undo("docker service rm other"),
    same("docker service rollback -d web"),
    same("docker service scale -d web=1"),
    same("docker service scale -d nope=1"),
    same("timeout 60 sh -c 'until docker service ls | grep -q 1/1; do sleep 0.2; done'"),
    same("docker service update -d --label-add tier=back --publish-add 4101:80 web"),
    same("docker service inspect --format '{{.Spec.Labels}} {{json .Spec.EndpointSpec.Ports}}' web"),
    same("docker service rollback -d web"),
    same("docker service inspect --format '{{.Spec.Labels}} {{json .Spec.EndpointSpec.Ports}}' web"),
    same("docker service logs nope"),
    same("docker network rm net2"),
];

/// A stack, and the end.
pub(super) const STACKS: &[Row] = &[
    same("docker stack deploy -c context/stack.yml lab 2>/dev/null | sort"),
    same("docker stack deploy -c context/stack.yml lab | sed 's/(id: .*)//' | sort"),
    same("docker stack ls --format '{{.Name}} {{.Services}}'"),
    same("docker stack services --format '{{.Name}} {{.Mode}} {{.Image}} {{.Ports}}' lab | sort"),
    same("docker stack services nope"),
    same("docker stack ps nope"),
    same("docker stack rm lab | sort"),
    same("docker stack rm nope"),
    same("docker service rm web"),
    same("docker service rm web"),
    same("timeout 60 sh -c 'until docker network rm net1 2>/dev/null; do sleep 0.2; done'"),
    same("docker swarm leave"),
    same("docker swarm leave --force"),
    same("docker info --format '{{.Swarm.LocalNodeState}}'"),
    same("docker service ls"),
];
