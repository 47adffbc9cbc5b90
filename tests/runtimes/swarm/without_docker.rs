//! `netd stack` and `netd service` with images: the stack of the tutorial and a service from its creation to its end,
//! typed without Docker's command line.

use std::fs;

use netd_testing::wait::is;

use super::{Engine, SERVE, containers, docker, nothing_left, patiently, same, told};
use crate::lab::probe::Probe;
use crate::lab::{HOST4, Lab};
use crate::world::{fetch, on_host};

const FILE: &str = "/run/lab/compose.yml";
const STACK: &str = "getstartedlab";

/// The file of the tutorial, with what its containers print first.
fn compose(mark: &str) -> String {
    let serve = SERVE.replace("begun", mark);
    format!(
        r#"
version: "3.8"
services:
  web:
    image: lab
    command: ["sh", "-c", "{serve}"]
    restart: always
    ports: ["4000:80"]
    networks: [webnet]
    stop_grace_period: 1s
    deploy:
      replicas: ${{REPLICAS:-5}}
      update_config: {{order: start-first, parallelism: 2}}
      resources: {{limits: {{cpus: "0.5", memory: 64M}}}}
      restart_policy: {{condition: on-failure}}
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

/// Deploys the file; what that prints.
#[track_caller]
fn deploy(lab: &Lab) -> String {
    let out = lab.netd(&format!("stack deploy -c {FILE} {STACK}"));
    assert!(out.stderr.contains("Ignoring unsupported options: restart"), "{out:?}");
    out.ok().stdout
}

/// What a command of netd prints, without the line's end.
#[track_caller]
fn says(lab: &Lab, words: &[&str]) -> String {
    lab.netd_words(words).ok().stdout.trim().to_owned()
}

/// Waits until so many tasks of a service run, of as many.
#[track_caller]
fn runs(lab: &Lab, service: &str, count: usize) {
    patiently(&format!("{service} has {count} tasks"), || {
        let words = ["service", "ls", "-f", &format!("name=^{service}$"), "--format", "{{.Replicas}}"];
        let all = containers(service);
        let ready = same(says(lab, &words), &format!("{count}/{count}"));
        let ready = ready.and_then(|()| same(all.len().to_string(), &count.to_string()));
        ready.map_err(|why| format!("{why}\n{all:?}\n{}", lab.netd(&format!("service ps {service}")).stdout))
    });
}

/// As a user sees it: names, desired states and errors of the stack's tasks.
fn tasks(lab: &Lab, filters: &[&str]) -> Vec<String> {
    let words = [&["stack", "ps", STACK, "--format", "{{.Name}} {{.DesiredState}} {{.Image}}{{.Error}}"], filters];
    let mut tasks: Vec<String> = says(lab, &words.concat()).lines().map(str::to_owned).collect();
    tasks.sort();
    tasks
}

pub(super) fn stack(lab: &Lab, _engine: &Engine) {
    fs::write(FILE, compose("first")).expect("a file");
    assert_eq!(
        deploy(lab),
        "Creating network getstartedlab_webnet\nCreating service getstartedlab_web\nCreating service getstartedlab_visualizer\n"
    );
    runs(lab, "getstartedlab_web", 5);
    runs(lab, "getstartedlab_visualizer", 1);
    listed(lab);
    patiently("it answers at its port", || same(fetch("outside", &format!("{HOST4}:4000")), "hi"));
    same(fetch("outside", &format!("{HOST4}:8080")), "hi").expect("the other answers at its own");
    // The same file changes nothing.
    let (before, networks) = (all_containers(), told(&["network", "ls", "-q", "--no-trunc"]));
    let unchanged = "service getstartedlab_web is unchanged\nservice getstartedlab_visualizer is unchanged\n";
    assert_eq!(deploy(lab), unchanged);
    let probe = Probe::http("outside", (HOST4, 4000));
    assert_eq!(says(lab, &["service", "scale", "getstartedlab_web=3"]), "getstartedlab_web scaled to 3");
    runs(lab, "getstartedlab_web", 3);
    says(lab, &["service", "scale", "getstartedlab_web=6", "getstartedlab_visualizer=1"]);
    runs(lab, "getstartedlab_web", 6);
    // What was changed by hand is as the file says again, and what was not stays.
    let again = deploy(lab);
    let expected = "service getstartedlab_visualizer is unchanged\n";
    assert!(again.starts_with("Updating service getstartedlab_web (id: ") && again.ends_with(expected), "{again}");
    runs(lab, "getstartedlab_web", 5);
    assert_eq!(told(&["network", "ls", "-q", "--no-trunc"]), networks, "no further network");
    let kept = all_containers().iter().filter(|one| before.contains(one)).count();
    assert_eq!(kept, 4, "those that were never one too many, of {before:?}");
    // A file changes the definition: all tasks are replaced, and no request notices.
    fs::write(FILE, compose("second")).expect("a file");
    assert_eq!(deploy(lab).matches("Updating service").count(), 2);
    patiently("the update is complete", || {
        let status = docker("service inspect -f {{.UpdateStatus.State}} getstartedlab_web").stdout;
        same(status, "completed")
    });
    runs(lab, "getstartedlab_web", 5);
    runs(lab, "getstartedlab_visualizer", 1);
    probe.finish("requests during scaling and an update");
    assert!(all_containers().iter().all(|one| !before.contains(one)), "all are new");
    assert!(tasks(lab, &["-f", "desired-state=shutdown"]).contains(&"getstartedlab_web.1 Shutdown lab".into()));
    let logs = lab.netd("service logs getstartedlab_web").ok().stdout;
    for slot in 1..=5 {
        let line = format!("getstartedlab_web.{slot} | second");
        assert!(logs.lines().any(|shown| shown == line), "{line}: {logs}");
    }
    pruned(lab);
    let removed = lab.netd(&format!("stack rm {STACK}")).ok().stdout;
    assert_eq!(removed, "Removing service getstartedlab_web\nRemoving network getstartedlab_webnet\n");
    nothing_left(lab);
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), "");
    assert_eq!(says(lab, &["stack", "ls", "--format", "{{.Name}}"]), "");
    let nothing = lab.netd(&format!("stack rm {STACK}"));
    assert!(nothing.stderr.contains("Nothing found in stack: getstartedlab"), "{nothing:?}");
    on_host(&format!("rm {FILE}")).ok();
}

/// `netd stack ls`, `services` and `ps` of the stack as it was deployed first.
fn listed(lab: &Lab) {
    assert_eq!(says(lab, &["stack", "ls", "--format", "{{.Name}} {{.Services}}"]), "getstartedlab 2");
    let format = "{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}} {{.Ports}}";
    let mut services: Vec<String> =
        says(lab, &["stack", "services", STACK, "--format", format]).lines().map(str::to_owned).collect();
    services.sort();
    assert_eq!(
        services,
        [
            "getstartedlab_visualizer replicated 1/1 lab *:8080->80/tcp",
            "getstartedlab_web replicated 5/5 lab *:4000->80/tcp"
        ]
    );
    let web = says(lab, &["service", "inspect", "getstartedlab_web", "--format", "{{.ID}}"]);
    assert_eq!(says(lab, &["stack", "services", STACK, "-q", "--no-trunc", "-f", "name=_web"]), web);
    assert_eq!(says(lab, &["stack", "services", STACK, "-q", "-f", "mode=global"]), "");
    let node = told(&["node", "inspect", "self", "-f", "{{.Description.Hostname}}"]);
    let words = ["stack", "ps", STACK, "--format", "{{.Node}} {{.CurrentState}}", "-f", "name=visualizer"];
    assert_eq!(says(lab, &words), format!("{node} Running"));
    let web = (1..=5).map(|slot| format!("getstartedlab_web.{slot} Running lab"));
    let all: Vec<String> = ["getstartedlab_visualizer.1 Running lab".into()].into_iter().chain(web).collect();
    assert_eq!(tasks(lab, &[]), all);
    let short = says(lab, &["stack", "ps", STACK, "-q"]);
    let whole = says(lab, &["stack", "ps", STACK, "-q", "--no-trunc"]);
    assert_eq!(short.lines().count(), 6);
    assert!(short.lines().zip(whole.lines()).all(|(short, whole)| short == &whole[..12] && whole.len() == 25));
    let table = lab.netd(&format!("stack ps {STACK}")).ok().stdout;
    assert_eq!(table.lines().filter(|line| line.contains("Running")).count(), 6, "{table}");
}

/// A service that the file no longer has goes with `--prune` only.
fn pruned(lab: &Lab) {
    let whole = compose("second");
    let (before, rest) = whole.split_once("  visualizer:").expect("its name");
    let (_, after) = rest.split_once("networks:\n  webnet").expect("the networks");
    fs::write(FILE, format!("{before}networks:\n  webnet{after}")).expect("a file");
    assert_eq!(deploy(lab), "service getstartedlab_web is unchanged\n");
    assert_eq!(containers("getstartedlab_visualizer").len(), 1);
    let pruned = lab.netd(&format!("stack deploy -c {FILE} --prune {STACK}")).ok().stdout;
    assert_eq!(pruned, "Removing service getstartedlab_visualizer\nservice getstartedlab_web is unchanged\n");
    patiently("its container is gone", || is(containers("getstartedlab_visualizer").len(), &0));
}

fn all_containers() -> Vec<(String, String)> {
    [containers("getstartedlab_web"), containers("getstartedlab_visualizer")].concat()
}

pub(super) fn service(lab: &Lab, engine: &Engine) {
    if let Engine::Podman { .. } = engine {
        docker("swarm init").ok();
        docker("network create -d overlay net1").ok();
    } else {
        lab.netd("network create net1").ok();
    }
    // It ends when it is asked to: Podman does not ask in the image's own way.
    let serve =
        SERVE.replace("echo begun;", "echo begun in $PLACE; trap exit TERM;").replace("exec busybox", "busybox");
    let serve = format!("sh -c {:?}", serve + " & wait");
    let create = ["service", "create", "web", "--network", "net1,alias=store", "--image", "lab"];
    let more =
        ["--replicas", "2", "-p", "4000:80", "--env", "PLACE=paris", "--command", &serve, "--label", "tier=front"];
    let order = ["--update-order", "start-first"];
    let created = says(lab, &[&create[..], &more, &order].concat());
    assert!(created.starts_with("web on net1: ") && created.ends_with("*:4000->80/tcp"), "{created}");
    runs(lab, "web", 2);
    let names: Vec<String> = says(lab, &["service", "ps", "web", "--format", "{{.Name}} {{.State}}"])
        .lines()
        .map(|line| line.split_once(".").expect("a slot").0.to_owned() + &line[line.find(' ').expect("a state")..])
        .collect();
    assert_eq!(names, ["web ready", "web ready"]);
    patiently("it answers at its port", || same(fetch("outside", &format!("{HOST4}:4000")), "hi"));
    logged(lab, 2, "begun in paris");
    let first = containers("web");
    let twice = lab.netd_words(&[&create[..], &more].concat()).refused();
    assert!(twice.contains("service web already exists"), "{twice}");
    let probe = Probe::http("outside", (HOST4, 4000));
    // Another environment and another number; the image under another name; then back.
    says(lab, &["service", "update", "web", "--replicas", "3", "--env", "PLACE=rome"]);
    replaced(lab, &first, 3);
    logged(lab, 3, "begun in rome");
    let rome = containers("web");
    says(lab, &["service", "update", "web", "--image", "lab:latest"]);
    replaced(lab, &rome, 3);
    assert_eq!(told(&["service", "inspect", "-f", "{{index .Spec.Labels \"tier\"}}", "web"]), "front");
    says(lab, &["service", "update", "web", "--env", "PLACE=oslo"]);
    logged(lab, 3, "begun in oslo");
    let oslo = containers("web");
    says(lab, &["service", "update", "web", "--rollback"]);
    replaced(lab, &oslo, 3);
    logged(lab, 3, "begun in rome");
    // What netd's other commands change is kept by those that are about tasks.
    says(lab, &["service", "update", "web", "--publish-add", "4001:80"]);
    assert_eq!(told(&["service", "inspect", "-f", "{{len .Spec.EndpointSpec.Ports}}", "web"]), "2");
    let before = containers("web");
    assert_eq!(says(lab, &["service", "scale", "web=2"]), "web scaled to 2");
    runs(lab, "web", 2);
    assert!(containers("web").iter().all(|one| before.contains(one)), "scaling replaces none");
    probe.finish("requests during updates and a rollback");
    for port in [4000, 4001] {
        same(fetch("outside", &format!("{HOST4}:{port}")), "hi").expect("both ports lead to it");
    }
    let gone = lab.netd("service scale nope=2").refused();
    assert!(gone.contains("scale service nope to 2"), "{gone}");
    assert_eq!(says(lab, &["service", "rm", "web"]), "web");
    patiently("its containers are gone", || same(told(&["ps", "-aq"]), ""));
    patiently("the network is free", || docker("network rm net1").succeeded());
    nothing_left(lab);
}

/// Waits until none of these containers runs, and so many others do.
#[track_caller]
fn replaced(lab: &Lab, before: &[(String, String)], count: usize) {
    patiently("all are replaced", || {
        let now = containers("web");
        let done = now.len() == count && now.iter().all(|one| !before.contains(one));
        if done { Ok(()) } else { Err(format!("{now:?} after {before:?}\n{}", docker("service ps web").stdout)) }
    });
    runs(lab, "web", count);
}

/// Waits until each slot has printed this.
#[track_caller]
fn logged(lab: &Lab, slots: usize, what: &str) {
    patiently(&format!("the logs say {what}"), || {
        let logs = lab.netd("service logs web").ok().stdout;
        let missing = (1..=slots).find(|slot| !logs.contains(&format!("web.{slot} | {what}\n")));
        missing.map_or(Ok(()), |slot| Err(format!("slot {slot}: {logs}")))
    });
}
