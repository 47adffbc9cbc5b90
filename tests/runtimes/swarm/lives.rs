//! The lives of tasks: replaced, updated, rolled back, and as they are defined.

use netd_testing::wait::{contains, is};

use super::{
    Engine, SERVE, containers, docker, docker_words, nothing_left, patiently, runs, same, serve, told, with_docker,
};
use crate::lab::probe::Probe;
use crate::lab::{HOST4, Lab};
use crate::world::{fetch, on_host};

fn states(service: &str) -> String {
    told(&[
        "service",
        "ps",
        "--no-trunc",
        "--format",
        "{{.Name}}|{{.DesiredState}}|{{.CurrentState}}|{{.Error}}",
        service,
    ])
}

pub(super) fn replaced(lab: &Lab) {
    let Engine::Docker(mut dockerd) = with_docker(lab) else { unreachable!("it is Docker") };
    docker("swarm init").ok();
    docker("network create -d overlay net1").ok();
    serve("web", "--network net1 --replicas 2 -p 4000:80 --restart-delay 100ms");
    runs("web", 2);
    let first = containers("web");
    docker(&format!("kill {}", first[0].0)).ok();
    patiently("another takes its place", || {
        let now = containers("web");
        if now.len() == 2 && now.iter().all(|one| one.0 != first[0].0) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert!(states("web").contains("task: non-zero exit (137)"), "{}", states("web"));
    // One that somebody removes is replaced as well.
    docker(&format!("rm -f {}", first[1].0)).ok();
    patiently("another takes its place", || {
        let now = containers("web");
        if now.len() == 2 && !now.contains(&first[1]) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    runs("web", 2);
    let before = containers("web");
    // netd and Docker restart: netd keeps what runs, and starts what does not.
    lab.kill_daemon();
    lab.start_daemon();
    patiently("netd has them as they were", || is(containers("web"), &before));
    let process = told(&["inspect", "-f", "{{.State.Pid}}", &before[0].0]);
    lab.kill_daemon();
    on_host(&format!("kill -9 {process}")).ok();
    lab.start_daemon();
    patiently("what ended meanwhile is replaced", || {
        let now = containers("web");
        if now.len() == 2 && !now.contains(&before[0]) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    dockerd.restart();
    runs("web", 2);
    patiently("it answers", || same(fetch("outside", &format!("{HOST4}:4000")), "hi"));
    // A service that is removed while netd is killed leaves nothing.
    docker("service rm web").ok();
    lab.kill_daemon();
    lab.start_daemon();
    patiently("no container is left", || same(told(&["ps", "-aq"]), ""));
    patiently("the network is free", || docker("network rm net1").succeeded());
    nothing_left(lab);
}

pub(super) fn failing(lab: &Lab) {
    let _engine = with_docker(lab);
    docker("swarm init").ok();
    docker("network create -d overlay net1").ok();
    let quick =
        "--network net1 --replicas 2 -p 4000:80 --restart-delay 100ms --update-order start-first --update-monitor 1s";
    serve("web", &format!("{quick} --rollback-monitor 1s"));
    runs("web", 2);
    let state = || told(&["service", "inspect", "-f", "{{json .UpdateStatus}}", "web"]);
    let probe = Probe::http("outside", (HOST4, 4000));
    // A command that ends at once: the update stops, and the old tasks go on.
    docker("service update -d --args false web").ok();
    patiently("the update is paused", || {
        contains(state(), "update paused due to failure or early termination of task")
    });
    assert_eq!(containers("web").len(), 2);
    // An image that is not there.
    docker("service update -d --no-resolve-image --image nope:1 web").ok();
    patiently("it is rejected", || contains(states("web"), "No such image: nope:1"));
    docker("service rollback -d web").ok();
    docker_words(&[
        "service",
        "update",
        "-d",
        "--no-resolve-image",
        "--image",
        "lab",
        "--args",
        &format!("sh -c {SERVE:?}"),
        "web",
    ])
    .ok();
    patiently("both are as they were", || if state().contains("paused") { Err(state()) } else { Ok(()) });
    // It is taken back by itself.
    docker("service update -d --update-failure-action rollback --args false web").ok();
    patiently("the update is rolled back", || contains(state(), "rollback_completed"));
    runs("web", 2);
    probe.finish("requests while updates fail");
    docker("service rm web").ok();
    patiently("the network is free", || docker("network rm net1").succeeded());
    nothing_left(lab);
}

#[expect(clippy::too_many_lines, reason = "a list of requests and their answers")]
pub(super) fn defined(lab: &Lab) {
    let _engine = with_docker(lab);
    docker("swarm init").ok();
    docker("network create -d overlay net1").ok();
    docker("network create -d overlay net2").ok();
    let options = "--mode global --network name=net1,alias=store --network net2 --hostname {{.Service.Name}}-{{.Node.Hostname}} \
                   --env SLOT=x{{.Task.Slot}} --label a=b --container-label c=d --limit-memory 64m --limit-pids 50 \
                   --host db:10.9.9.9 --mount type=tmpfs,target=/scratch --user 0 --workdir /www --stop-grace-period 3s \
                   --publish published=4001,target=80,mode=host --read-only=false --cap-add NET_ADMIN --health-interval 1s";
    let words: Vec<&str> = options.split_whitespace().collect();
    let health = ["--health-cmd", "test -e /w/index.html"];
    let whole = [
        &["service", "create", "-d", "--no-resolve-image", "--name", "web"],
        &words[..],
        &health,
        &["lab", "sh", "-c", SERVE],
    ];
    docker_words(&whole.concat()).ok();
    runs("web", 1);
    let all = containers("web");
    let (id, name) = &all[0];
    let node = told(&["info", "-f", "{{.Swarm.NodeID}}"]);
    assert!(name.starts_with(&format!("web.{node}.")), "{name}");
    let shown = |template: &str| told(&["inspect", "-f", template, id]);
    let host = told(&["node", "inspect", "self", "-f", "{{.Description.Hostname}}"]);
    assert_eq!(
        shown("{{.Config.Hostname}} {{.Config.WorkingDir}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"),
        format!("web-{host} /www 67108864 50")
    );
    assert_eq!(
        shown("{{.HostConfig.ExtraHosts}} {{.HostConfig.CapAdd}} {{.Config.StopTimeout}}"),
        "[db:10.9.9.9] [CAP_NET_ADMIN] 3"
    );
    assert!(shown("{{.Config.Env}}").contains("SLOT=x "), "{}", shown("{{.Config.Env}}"));
    assert_eq!(shown(r#"{{index .Config.Labels "c"}}"#), "d");
    assert_eq!(
        told(&[
            "service",
            "ls",
            "--filter",
            "label=a=b",
            "--filter",
            "mode=global",
            "--format",
            "{{.Name}} {{.Mode}} {{.Replicas}}"
        ]),
        "web global 1/1"
    );
    let networks = shown("{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}");
    assert_eq!(networks.trim(), "net1 net2");
    patiently("its own port answers", || same(fetch("outside", &format!("{HOST4}:4001")), "hi"));
    lab.connected("net1", "plain", "");
    patiently("the alias is found", || {
        let found = crate::lab::Dig::ask("plain", "store");
        if found.answers.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    // Its health check fails: it is replaced.
    docker(&format!("exec {id} busybox rm /w/index.html")).ok();
    patiently("another takes its place", || {
        let now = containers("web");
        if now.len() == 1 && now[0].0 != *id { Ok(()) } else { Err(format!("{now:?}")) }
    });
    runs("web", 1);
    docker("service update -d --network-rm net2 --publish-rm 80 web").ok();
    patiently("it left the network", || {
        let now = containers("web");
        let networks = now.first().map(|(id, _)| {
            docker_words(&["inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}", id])
                .stdout
        });
        same(networks.unwrap_or_default(), "net1")
    });
    docker("service rm web").ok();
    lab.netd("disconnect net1 plain").ok();
    patiently("the networks are free", || docker("network rm net1").succeeded());
    docker("network rm net2").ok();
    nothing_left(lab);
}
