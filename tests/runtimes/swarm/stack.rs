//! The stack of Docker's tutorial: deployed, scaled, updated under traffic, and removed.

use std::fs;

use netd_testing::wait::{contains, is};

use super::{Engine, SERVE, containers, docker, docker_words, nothing_left, patiently, runs, same, told};
use crate::lab::probe::Probe;
use crate::lab::{HOST4, Lab};
use crate::world::{fetch, on_host};

const FILE: &str = "/run/lab/docker-compose.yml";

/// The file, with the command's output as a mark of the release.
fn compose(mark: &str) -> String {
    let serve = SERVE.replace("begun", mark);
    format!(
        r#"
version: "3.8"
services:
  web:
    image: lab
    command: ["sh", "-c", "{serve}"]
    ports: ["4000:80"]
    networks: [webnet]
    deploy:
      replicas: 5
      update_config: {{order: start-first, parallelism: 2}}
  visualizer:
    image: lab
    command: ["sh", "-c", "{serve}"]
    ports: ["8080:80"]
    networks: {{webnet: {{aliases: [viewer]}}}}
    deploy:
      placement: {{constraints: [node.role == manager]}}
networks:
  webnet:
"#
    )
}

fn deploy(mark: &str) {
    fs::write(FILE, compose(mark)).expect("a file");
    docker(&format!("stack deploy --resolve-image never -c {FILE} getstartedlab")).ok();
}

pub(super) fn tutorial(lab: &Lab, _engine: &Engine) {
    docker("swarm init").ok();
    deploy("first");
    runs("getstartedlab_web", 5);
    runs("getstartedlab_visualizer", 1);
    assert_eq!(told(&["stack", "ls", "--format", "{{.Name}} {{.Services}}"]), "getstartedlab 2");
    let services = told(&[
        "stack",
        "services",
        "--format",
        "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}",
        "getstartedlab",
    ]);
    for line in [
        "getstartedlab_web replicated 5/5 lab:latest *:4000->80/tcp",
        "getstartedlab_visualizer replicated 1/1 lab:latest *:8080->80/tcp",
    ] {
        assert!(services.lines().any(|shown| shown == line), "{line}: {services}");
    }
    let tasks = told(&["stack", "ps", "--format", "{{.Name}} {{.DesiredState}}", "getstartedlab"]);
    let mut tasks: Vec<&str> = tasks.lines().collect();
    tasks.sort_unstable();
    let web = (1..=5).map(|slot| format!("getstartedlab_web.{slot} Running"));
    let expected: Vec<String> = ["getstartedlab_visualizer.1 Running".to_owned()].into_iter().chain(web).collect();
    assert_eq!(tasks, expected);
    assert_eq!(
        told(&["network", "ls", "--filter", "name=getstartedlab", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]),
        "getstartedlab_webnet overlay swarm"
    );
    names(lab);
    ids();
    patiently("it answers at its port", || same(fetch("outside", &format!("{HOST4}:4000")), "hi"));
    let probe = Probe::http("outside", (HOST4, 4000));
    for count in [3, 6] {
        docker(&format!("service scale -d getstartedlab_web={count}")).ok();
        runs("getstartedlab_web", count);
        patiently("no other runs", || is(containers("getstartedlab_web").len(), &count));
    }
    // A file changes the number again, and the definition.
    deploy("second");
    patiently("the update is complete", || {
        let status = docker_words(&["service", "inspect", "-f", "{{.UpdateStatus.State}}", "getstartedlab_web"]).stdout;
        same(status, "completed")
    });
    runs("getstartedlab_web", 5);
    probe.finish("requests during scaling and an update");
    let history = told(&["service", "ps", "--format", "{{.Name}} {{.DesiredState}}", "getstartedlab_web"]);
    assert!(history.lines().any(|line| line == "getstartedlab_web.1 Shutdown"), "{history}");
    logs();
    docker("stack rm getstartedlab").ok();
    nothing_left(lab);
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), "");
    assert_eq!(told(&["stack", "ls", "--format", "{{.Name}}"]), "");
    docker("swarm leave --force").ok();
}

/// Names of services and tasks are found from within.
fn names(lab: &Lab) {
    let all = containers("getstartedlab_web");
    let from = &all[0].0;
    for name in ["web", "getstartedlab_web", "viewer", "visualizer", "tasks.web", "getstartedlab_web.2"] {
        patiently(&format!("{name} is found"), || {
            let got = docker_words(&["exec", from, "wget", "-qO-", &format!("http://{name}/")]);
            same(&got.stdout, "hi").map_err(|_| format!("{got:?}\n{}", lab.netd("ps").stdout))
        });
    }
}

/// Containers and tasks name each other.
fn ids() {
    let task = told(&["service", "ps", "-q", "--no-trunc", "getstartedlab_visualizer"]);
    let container = told(&["inspect", "--format", "{{.Status.ContainerStatus.ContainerID}}", &task]);
    let back = told(&["inspect", "--format", r#"{{index .Config.Labels "com.docker.swarm.task.id"}}"#, &container]);
    assert_eq!(back, task);
    let name = told(&["inspect", "--format", "{{.Name}}", &container]);
    assert_eq!(name.trim_start_matches('/'), format!("getstartedlab_visualizer.1.{task}"));
}

fn logs() {
    let logs = docker("service logs --no-trunc getstartedlab_web").ok().stdout;
    for slot in 1..=5 {
        let is_it = |line: &&str| line.starts_with(&format!("getstartedlab_web.{slot}.")) && line.ends_with("| second");
        assert!(logs.lines().any(|line| is_it(&line)), "slot {slot}: {logs}");
    }
    let task = told(&["service", "ps", "-q", "--no-trunc", "getstartedlab_visualizer"]);
    let task = task.lines().next().unwrap_or_default();
    let one = docker(&format!("service logs --raw {task}")).ok().stdout;
    assert_eq!(one.trim(), "second");
    let timed = docker("service logs -t --tail 1 getstartedlab_visualizer").ok().stdout;
    assert!(timed.starts_with("20") && contains(timed.as_str(), "second").is_ok(), "{timed}");
    on_host(&format!("rm {FILE}")).ok();
}
