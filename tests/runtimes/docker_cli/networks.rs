//! The rows of `docker network`.

use super::table::{IGNORED, NAME, OWNER, Row, SAYS, UNSUPPORTED, WORDS, differs, same};

/// Networks are created, or not.
pub(super) const MAKING: &[Row] = &[
    same("docker network inspect -f '{{.Name}}' bridge"),
    same("docker network create plain"),
    same("docker network create plain"),
    same("docker network create --driver bridge --subnet 10.66.0.0/24 --gateway 10.66.0.7 --ip-range 10.66.0.128/25 --label tier=back ranged"),
    differs(
        "docker network create --subnet 10.66.0.0/25 overlapping",
        "Pool overlaps with other one on this address space",
        "subnet 10.66.0.0/25 overlaps with network ranged (10.66.0.0/24): choose another with --subnet",
        OWNER,
    ),
    differs(
        "docker network create --subnet 10.67.0.0/24 --aux-address printer=10.67.0.5 aux",
        "[0] ID",
        "netd does not support auxiliary addresses (printer): keep addresses out with an IP range, or with `netd reservation create`",
        "a reservation keeps an address, and says for whom",
    )
    .undo("docker network rm aux"),
    same("docker network create --subnet 10.68.0.0/24 --internal --label tier=back --label loud inner"),
    same("docker network create --attachable attachable"),
    same("docker network create --ipv6 --subnet 10.69.0.0/24 --subnet 2001:db8:66::/64 six"),
    differs(
        "docker network create --ipv6 sixes",
        "could not find an available, non-overlapping IPv6 address pool",
        "[0] ID",
        "netd chooses an IPv6 subnet by itself, as newer Docker does",
    )
    .undo("docker network rm sixes"),
    differs(
        "docker network create --subnet 2001:db8:67::/64 unasked",
        "[0] ID",
        "IPv6 is not enabled: set EnableIPv6 (--ipv6) for an IPv6 subnet",
        "Docker does not use the subnet",
    )
    .undo("docker network rm unasked"),
    same("docker network create --subnet 10.70.0.0/24 -o com.docker.network.bridge.name=lab0 -o com.docker.network.driver.mtu=1400 -o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.enable_ip_masquerade=false options"),
    differs(
        "docker network create -o com.docker.network.bridge.enable_icc=maybe wrong",
        "failed to parse com.docker.network.bridge.enable_icc value: maybe",
        r#"invalid option "com.docker.network.bridge.enable_icc=maybe": use true or false"#,
        SAYS,
    ),
    differs(
        "docker network create -o com.docker.network.driver.mtu=big wrong",
        "failed to parse com.docker.network.driver.mtu value: big",
        r#"invalid mtu "big": use a number of bytes, as in 1400"#,
        SAYS,
    ),
    differs(
        "docker network create -o nonsense=1 unknown-option",
        "[0] ID",
        r#"invalid option "nonsense": the bridge driver knows"#,
        IGNORED,
    )
    .undo("docker network rm unknown-option"),
    differs(
        "docker network create -o com.docker.network.bridge.nonsense=1 unknown-option-of-docker",
        "[0] ID",
        "netd does not support the network option com.docker.network.bridge.nonsense=1: leave it out",
        IGNORED,
    )
    .undo("docker network rm unknown-option-of-docker"),
    same("docker network create --ipam-driver default --subnet 10.71.0.0/24 ipam"),
    differs(
        "docker network create --ipam-opt a=b ipam-option",
        "[0] ID",
        "netd does not support the IPAM option a: leave it out",
        IGNORED,
    )
    .undo("docker network rm ipam-option"),
    same("docker network create --scope local local"),
    same("docker network create --scope swarm wrong"),
    differs(
        "docker network create --ingress wrong",
        "Ingress network can only be global scope network",
        "netd does not support ingress networks (Ingress)",
        UNSUPPORTED,
    ),
    differs(
        "docker network create --config-only --subnet 10.72.0.0/24 template",
        "[0] ID",
        "netd does not support config-only networks (ConfigOnly)",
        UNSUPPORTED,
    ),
    differs(
        "docker network create --config-from template from-template",
        "[0] ID",
        "netd does not support networks from a config-only one (ConfigFrom)",
        UNSUPPORTED,
    )
    .undo("docker network rm from-template template"),
    same("docker network create -d overlay wrong"),
    same("docker network create -d host wrong"),
    differs(
        "docker network create -d macvlan wrong",
        "operation not supported",
        r#"netd does not support the network driver "macvlan" for containers of Docker"#,
        UNSUPPORTED,
    ),
    same("docker network create bridge"),
    same("docker network create host"),
    same("docker network create"),
    differs(
        "docker network create ''",
        "network with name  already exists",
        "invalid network name: name is empty",
        "netd says what is wrong",
    ),
    differs("docker network create 'a b'", "[0] ID", r#"invalid network name "a b""#, NAME).undo("docker network rm 'a b'"),
    differs("docker network create -- -x", "[0] ID", r#"invalid network name "-x""#, NAME).undo("docker network rm -- -x"),
    differs(
        "docker network create --subnet nonsense wrong",
        "Invalid subnet nonsense",
        "invalid subnet nonsense: invalid CIDR block notation",
        WORDS,
    ),
    differs(
        "docker network create --subnet 10.73.0.1/24 host-bits",
        "[0] ID",
        "invalid subnet 10.73.0.1/24: it should be 10.73.0.0/24",
        WORDS,
    )
    .undo("docker network rm host-bits"),
    same("docker network create --gateway 10.73.0.1 wrong"),
    same("docker network create --subnet 10.73.0.0/24 --gateway 10.74.0.1 wrong"),
    same("docker network create --subnet 10.73.0.0/24 --ip-range 10.74.0.0/24 wrong"),
    differs(
        "docker network create --subnet 10.73.0.0/24 --subnet 10.74.0.0/24 two-subnets",
        "bridge driver doesn't support multiple subnets",
        "[0] ID",
        "a network of netd can have several",
    )
    .undo("docker network rm two-subnets"),
    same("docker network create --subnet 10.73.0.0/24 --gateway nope wrong"),
    same("docker network create --nonsense wrong"),
    same("docker events --since 0 --until $(date +%s.%N) --filter type=network --filter network=plain --filter network=local --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{.Scope}}'"),
];

/// Networks are listed and inspected.
pub(super) const LOOKING: &[Row] = &[
    same("docker network ls"),
    same("docker network ls -q | wc -l"),
    same("docker network ls --no-trunc --filter name=plain"),
    same("docker network ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}}'"),
    same("docker network ls --format '{{.Name}} {{.Labels}}' --filter name=ranged"),
    same("docker network ls --filter driver=bridge --format '{{.Name}}'"),
    same("docker network ls --filter driver=null --format '{{.Name}}'"),
    same("docker network ls --filter id=$(docker network inspect -f '{{.Id}}' plain) --format '{{.Name}}'"),
    same("docker network ls --filter label=tier=back --format '{{.Name}}'"),
    same("docker network ls --filter label=loud --filter label=tier --format '{{.Name}}'"),
    same("docker network ls --filter name=^p --format '{{.Name}}'"),
    same("docker network ls --filter scope=local --filter name=plain --format '{{.Name}}'"),
    same("docker network ls --filter scope=swarm"),
    same("docker network ls --filter type=builtin --format '{{.Name}}'"),
    same("docker network ls --filter type=custom --format '{{.Name}}'"),
    differs(
        "docker network ls --filter type=nope",
        "invalid filter: 'type'='nope'",
        "invalid filter 'type=nope'",
        WORDS,
    ),
    same("docker network ls --filter dangling=true --format '{{.Name}}'"),
    same("docker network ls --filter dangling=false --format '{{.Name}}'"),
    differs("docker network ls --filter nope=1", "Invalid filter 'nope'", "invalid filter 'nope'", WORDS),
    same("docker network inspect plain"),
    differs(
        "docker network inspect ranged inner",
        r#""Subnet": "10.68.0.0/24""#,
        r#""Gateway": "10.68.0.1""#,
        "an internal network of netd has a gateway: its name service answers there",
    ),
    same("docker network inspect -f '{{json .IPAM}}' ranged"),
    same("docker network inspect -f '{{json .Options}} {{.EnableIPv6}} {{.Internal}}' options six inner"),
    same("docker network inspect -v plain"),
    same("docker network inspect nope plain nope2 -f '{{.Name}}'"),
    same("docker network inspect -f '{{.Nope}}' plain"),
    differs(
        "docker network inspect bridge",
        r#""com.docker.network.bridge.name": "docker0""#,
        r#""com.docker.network.bridge.default_bridge": "true""#,
        "`bridge` is a network of netd: `docker0` is not used",
    ),
    same("docker network inspect host none"),
    differs(
        "docker network inspect -f '{{.Attachable}} {{.Ingress}} {{.ConfigOnly}}' attachable",
        "[0] true false false",
        "[0] false false false",
        "it means nothing outside of a cluster, and is not kept",
    ),
    same("docker inspect --type network -f '{{.Name}}' plain"),
    same("ip -br link show lab0 | wc -l"),
    same("docker run --rm --network options lab ip link show eth0 | grep -o 'mtu [0-9]*'"),
];

/// Containers are connected and disconnected.
pub(super) const CONNECTING: &[Row] = &[
    same("docker network connect ranged web"),
    same("docker network connect ranged web"),
    same("docker network connect --ip 10.66.0.30 --alias one --alias two ranged db"),
    differs(
        "docker network connect --ip 10.66.0.30 ranged lone",
        "Address already in use",
        "IP address 10.66.0.30 on network ranged is taken by container db",
        OWNER,
    ),
    differs(
        "docker network connect --ip 10.99.0.30 ranged lone",
        "Invalid address 10.99.0.30: It does not belong to any of this network's subnets",
        "no configured subnet contains IP address 10.99.0.30",
        WORDS,
    ),
    differs(
        "docker network connect --ip nope ranged lone",
        "Invalid IPv4 address: nope",
        "invalid IPv4 address: nope",
        WORDS,
    ),
    same("docker network connect --ip6 2001:db8:66::99 six lone"),
    differs(
        "docker network connect --link web:www inner db",
        "[0]",
        "netd does not support links (Links): use an alias",
        UNSUPPORTED,
    )
    .undo("docker network disconnect -f inner db"),
    differs(
        "docker network connect --link-local-ip 169.254.34.68 inner web",
        "[0]",
        "netd does not support link-local addresses (LinkLocalIPs)",
        UNSUPPORTED,
    )
    .undo("docker network disconnect -f inner web"),
    differs(
        "docker network connect --driver-opt com.example=1 inner lone",
        "[0]",
        "netd does not support the endpoint option com.example=1: leave it out",
        IGNORED,
    )
    .undo(
        "docker network disconnect -f inner lone; docker network connect inner lone; docker network connect inner db",
    ),
    same("docker network connect nope web"),
    same("docker network connect plain nope"),
    differs(
        "docker network connect host web",
        "container cannot be disconnected from host network or connected to host network",
        "cannot connect container to host network - container must be created in host network mode",
        WORDS,
    ),
    same("docker network connect none web"),
    same("docker network connect plain once"),
    same("docker network connect ranged made"),
    same("until docker exec web nslookup two; do :; done | grep -c '^Name'"),
    same(
        "docker inspect --format '{{range $name, $end := .NetworkSettings.Networks}}{{$name}} {{$end.IPAddress}} {{$end.GlobalIPv6Address}} {{json $end.Aliases}};{{end}}' web db made",
    ),
    same(
        "docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}};{{end}}' lone",
    ),
    same(
        r"docker network inspect -f '{{range .Containers}}{{.Name}} {{.IPv6Address}};{{end}}' six | tr ';' '\n' | sort",
    ),
    same(r"docker ps --filter name=lone --format '{{.Networks}}' | tr , '\n' | sort"),
    differs(
        "docker network rm ranged",
        "network ranged id ID has active endpoints",
        "network ranged has active endpoints (name:",
        WORDS,
    ),
    same("docker network disconnect ranged web"),
    same("docker network disconnect ranged web"),
    same("docker network disconnect -f ranged db"),
    same("docker network disconnect nope web"),
    same("docker network disconnect plain nope"),
    differs(
        "docker network disconnect host web",
        "container ID is not connected to network host",
        "cannot disconnect container from host network - container was created in host network mode",
        WORDS,
    ),
    same("docker network disconnect bridge lone"),
    same("docker network connect bridge lone"),
    same("docker network disconnect six lone"),
    same("docker network disconnect inner db"),
    differs(
        "docker events --since 0 --until $(date +%s.%N) --filter network=six --filter type=network --format '{{.Action}} {{.Actor.Attributes.name}}'",
        "connect six\ndisconnect six\ndisconnect six",
        "connect six\ndisconnect six",
        "Docker tells one disconnection twice",
    ),
    same(
        "docker events --since 0 --until $(date +%s.%N) --filter network=ranged --filter container=lone --filter event=start --format '{{.Type}} {{.Action}}'",
    ),
];
