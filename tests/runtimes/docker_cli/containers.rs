//! The rows that run containers and look at them.

use super::table::{OWNER, Row, differs, same};

/// Containers are created on networks, or not.
pub(super) const RUNNING: &[Row] = &[
    same("docker run -d --name web --network plain -p 4000:80 -l tier=front lab busybox httpd -f -p 80 -h /www"),
    same("docker run -d --name web --network plain lab"),
    same("docker run -d --name db --network plain --network-alias store --expose 5432 lab"),
    same("docker run -d --name fixed --network ranged --ip 10.66.0.20 --mac-address 02:00:00:00:00:20 lab"),
    same("docker run -d --name lone lab"),
    same("docker run -d --name open -P --expose 81 lab"),
    same("docker run -d --name many -p 127.0.0.1:4010-4012:80-82 -p 4013:83/udp lab"),
    same("docker run -d --name random -p 127.0.0.1::80 --expose 90-92 lab"),
    same("docker run -d --name sixth --network six --ip6 2001:db8:66::77 -p 4030:80 lab"),
    same("docker run -d --name linked --network plain --link web:www --expose 99/udp lab"),
    differs(
        "docker run -d --name taken --network ranged --ip 10.66.0.20 lab",
        "Address already in use",
        "IP address 10.66.0.20 on network ranged is taken by container fixed",
        OWNER,
    )
    .undo("docker rm -f taken")
    .debian_only(),
    same("docker run -d --name outside --network ranged --ip 10.99.0.20 lab").undo("docker rm -f outside"),
    same("docker run -d --name badip --network ranged --ip nope lab").undo("docker rm -f badip"),
    differs(
        "docker run -d --name noip --network plain --ip 10.66.0.21 lab",
        "user specified IP address is supported only when connecting to networks with user configured subnets",
        "Invalid address 10.66.0.21: It does not belong to any of this network's subnets",
        "any address of a network can be asked for, whoever chose the subnet",
    )
    .undo("docker rm -f noip"),
    same("docker run -d --name defip --ip 172.17.0.99 lab").undo("docker rm -f defip").debian_only(),
    differs(
        "docker run -d --name port --network plain -p 4000:81 lab",
        "Bind for 0.0.0.0:4000 failed: port is already allocated",
        "port *:4000->81/tcp is already published by container web (*:4000->80/tcp): see `netd port web`",
        OWNER,
    )
    .undo("docker rm -f port"),
    differs(
        "docker run -d --name nonet --network nope lab",
        "[125] ID",
        "[125] docker: Error response from daemon: network nope not found",
        "it is refused when the container is created: none is left behind",
    )
    .undo("docker rm nonet"),
    same("docker run -d --name badmac --network plain --mac-address nope lab").undo("docker rm -f badmac"),
    same("docker run -d --name badport -p 70000:80 lab").undo("docker rm -f badport"),
    same("docker run -d --name noimage --pull never nope:nope"),
    same("docker run -d --name defalias --network-alias x lab"),
    same("docker create --name made --network plain -p 4020:80 lab"),
    same("docker run --rm --network host lab ip -o link show lo | cut -c 1-5"),
    same("docker run --rm --network none lab ip -o link | wc -l"),
    same("docker run --rm --network container:web lab sh -c 'until wget -qO- http://127.0.0.1/; do :; done'"),
    same("docker run --rm --network plain lab wget -qO- http://web/"),
    same("docker run --rm --network plain lab nslookup store | grep -c '^Name'"),
    same("docker run --rm --network plain --link db:database lab nslookup database | grep -c '^Name'"),
    same("docker run --rm --network plain lab cat /etc/resolv.conf"),
    same(
        "docker run --rm --network plain --dns 192.0.2.53 --dns-search example.org --hostname me lab cat /etc/resolv.conf /etc/hostname",
    ),
    same("docker run --rm lab sh -c 'exit 7'"),
    same("docker run --rm lab nope 2>/dev/null"),
    same("echo hi | docker run -i --rm lab cat"),
    same("docker run -d --name once --network plain lab busybox echo done"),
    same("docker wait once"),
    same("docker logs once"),
    same(
        "docker events --since 0 --until $(date +%s.%N) --filter event=connect --filter event=start --format '{{.Type}} {{.Action}}' | tail -6",
    ),
    same("docker events --since 0 --until $(date +%s.%N) --filter container=once --format '{{.Type}} {{.Action}}'"),
    same("docker events --since 0 --until $(date +%s.%N) --filter container=once --filter event=die"),
    same(
        "docker events --since 0 --until $(date +%s.%N) --filter label=tier=front --filter event=start --format '{{.Action}}'",
    ),
];

/// Containers are listed and inspected.
pub(super) const LOOKING: &[Row] = &[
    same("docker ps -a --format '{{.Names}} {{.Image}} {{.Ports}} {{.Networks}} {{.Status}}'"),
    same("docker ps"),
    same("docker ps -q | wc -l"),
    same("docker ps -a -n 1 --format '{{.Names}}'"),
    same("docker ps --no-trunc --filter name=web --format '{{.ID}} {{.Names}} {{.Command}}'"),
    same("docker ps --filter name=^/db$ --format '{{.Names}}'"),
    same("docker ps --filter id=$(docker inspect -f '{{.Id}}' web) --format '{{.Names}}'"),
    same("docker ps -a --filter status=exited --format '{{.Names}} {{.Status}}'"),
    same("docker ps -a --filter status=created --format '{{.Names}} {{.Ports}}'"),
    same("docker ps --filter network=plain --format '{{.Names}}'"),
    same("docker ps --filter network=bridge --format '{{.Names}}'"),
    same("docker ps --filter network=$(docker network inspect -f '{{.Id}}' plain) --format '{{.Names}}'"),
    same("docker ps -a --filter network=plain --format '{{.Names}} {{.Networks}}'"),
    same("docker ps --filter network=nope"),
    same("docker ps --filter publish=4000 --format '{{.Names}}'"),
    same("docker ps --filter publish=80/tcp --format '{{.Names}}'"),
    same("docker ps --filter publish=80-83/udp --format '{{.Names}}'"),
    same("docker ps --filter expose=5432 --format '{{.Names}}'"),
    same("docker ps --filter expose=80 --format '{{.Names}}'"),
    same("docker ps --filter label=tier=front --format '{{.Names}} {{.Labels}}'"),
    differs(
        "docker ps --filter publish=nope",
        "error while looking up for publish nope",
        "invalid filter 'publish=nope'",
        "netd tells every wrong filter this way",
    ),
    same("docker ps --filter nope=1"),
    same("docker container ls --format '{{.Names}} {{.Ports}}' --filter name=many"),
    same("docker port web"),
    same("docker port web 80"),
    same("docker port web 80/tcp"),
    same("docker port web 81"),
    same("docker port many | sort"),
    same("docker port random"),
    same("docker port sixth"),
    same(
        "docker inspect --format '{{.NetworkSettings.Networks.six.GlobalIPv6Address}}/{{.NetworkSettings.Networks.six.GlobalIPv6PrefixLen}}' sixth",
    ),
    same("docker port open"),
    same("docker port db"),
    same("docker port nope"),
    same("docker inspect web"),
    same("docker inspect --format '{{json .NetworkSettings.Ports}}' web many db made once"),
    same(
        "docker inspect --format '{{range $name, $end := .NetworkSettings.Networks}}{{$name}} {{json $end.Aliases}} {{json $end.IPAMConfig}}{{end}}' web db fixed",
    ),
    same(
        "docker inspect --format '{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.Networks.ranged.IPAddress}} {{.NetworkSettings.Networks.ranged.MacAddress}} {{.NetworkSettings.Networks.ranged.IPPrefixLen}} {{.NetworkSettings.Networks.ranged.Gateway}}' fixed",
    ),
    same("docker inspect --format '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}}' lone"),
    differs(
        "docker inspect --format '{{.HostConfig.NetworkMode}}' lone",
        "[0] default",
        "[0] bridge",
        "newer Docker says it so",
    ),
    differs(
        "docker inspect --format '{{json .NetworkSettings.Networks.bridge.Aliases}}' lone",
        "null",
        "ID",
        "containers on `bridge` find each other by name",
    ),
    same(
        "docker inspect --format '{{.HostConfig.NetworkMode}} {{json .HostConfig.PortBindings}} {{json .Config.ExposedPorts}}' web db",
    ),
    same("docker inspect nope"),
    same("docker inspect --size --type container -f '{{.Name}}' web nope"),
    same("docker network inspect -f '{{range .Containers}}{{.Name}} {{end}}' ranged"),
    same("docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{end}}' ranged"),
    same("docker network inspect -f '{{len .Containers}}' plain"),
];
