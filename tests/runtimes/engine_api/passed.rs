//! What netd passes on to the engine: terminals, streams, large bodies, builds, and what happens when an end of it ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use super::{API_URL, CLIENT, docker, docker_words, with_docker};
use crate::dockerd::NEEDS;
use crate::lab::Lab;
use crate::world::{on_host, on_host_words, trial, until, until_nothing_left};

/// More than netd may keep of a stream, in MiB.
const LARGE: u64 = 100;
/// By how much the daemon may grow while such a stream passes, in KiB.
const GROWTH: u64 = 16 << 10;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("engine api: a terminal, input, exit codes", TERMINAL, terminal),
        trial("engine api: large streams pass both ways and are not kept", NEEDS, large),
        trial("engine api: images are built, tagged and removed", NEEDS, images),
        trial("engine api: clients that go away leave nothing behind", NEEDS, aborted),
        trial("engine api: an engine that restarts", NEEDS, restarted),
    ]
}

const TERMINAL: &[&str] = &["/usr/sbin/dockerd", CLIENT, "containerd", "runc", "iptables", "script"];

fn terminal(lab: &Lab) {
    let _dockerd = with_docker(lab);
    // script(1) gives docker a terminal.
    let typed = |line: &str, input: &str| {
        let words = ["script", "-qec", line, "/dev/null"];
        let all = [&["nsenter", "--net=/run/netns/host", "--"], &words[..]].concat();
        crate::lab::command::run_with_input(&all, input)
    };
    let base = format!("{CLIENT} --host {API_URL}");
    let out = typed(&format!("{base} run -it --rm lab sh -c 'tty; read a; echo got-$a; exit 7'"), "hello\n");
    assert!(out.code == Some(7) && out.stdout.contains("/dev/pts/") && out.stdout.contains("got-hello"), "{out:?}");
    docker("run -d --name web lab sleep 1000").ok();
    let out = typed(&format!("{base} exec -it web sh -c 'read a; echo got-$a; exit 3'"), "there\n");
    assert!(out.code == Some(3) && out.stdout.contains("got-there"), "{out:?}");
    // The end of the input is passed on, and the output still comes.
    let words = [
        "nsenter",
        "--net=/run/netns/host",
        "--",
        CLIENT,
        "--host",
        API_URL,
        "run",
        "-i",
        "--rm",
        "lab",
        "sh",
        "-c",
        "cat; echo end",
    ];
    let out = crate::lab::command::run_with_input(&words, "input\n").ok();
    assert_eq!(out.stdout, "input\nend\n");
    docker("rm -f web").ok();
    until_nothing_left(lab);
}

fn large(lab: &Lab) {
    let _dockerd = with_docker(lab);
    let pid = lab.daemon_pid();
    docker("run -d --name web lab sleep 1000").ok();
    on_host(&format!("dd if=/dev/urandom of=/run/lab/big bs=1M count={LARGE}")).ok();
    let digest = on_host("sha256sum /run/lab/big").ok().stdout[..64].to_owned();
    let before = memory(pid);
    docker("cp /run/lab/big web:/big").ok();
    let inside = docker("exec web busybox sha256sum /big").ok().stdout;
    assert_eq!(inside[..64], digest);
    docker("cp web:/big /run/lab/back").ok();
    assert_eq!(on_host("sha256sum /run/lab/back").ok().stdout[..64], digest);
    docker("commit web big").ok();
    docker("save -o /run/lab/image.tar big").ok();
    docker("rmi big").ok();
    docker("load -q -i /run/lab/image.tar").ok();
    let after = memory(pid);
    assert!(after < before + GROWTH, "the daemon grew from {before} KiB to {after} KiB");
    docker("rm -f web").ok();
    until_nothing_left(lab);
}

/// The memory that the process has in use, in KiB.
fn memory(pid: nix::unistd::Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

fn images(lab: &Lab) {
    let _dockerd = with_docker(lab);
    fs::create_dir_all("/run/lab/built").expect("a folder");
    fs::write("/run/lab/built/Dockerfile", "FROM scratch\nCOPY page /page\n").expect("a file");
    fs::write("/run/lab/built/page", "a page").expect("a file");
    let words = ["env", "DOCKER_BUILDKIT=0", CLIENT, "--host", API_URL, "build", "-t", "built", "/run/lab/built"];
    let built = on_host_words(&words).ok().stdout;
    assert!(built.contains("Successfully tagged built:latest"), "{built}");
    docker("tag built again:2").ok();
    let listed = docker_words(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]).ok().stdout;
    assert!(listed.contains("again:2") && listed.contains("built:latest"), "{listed}");
    docker("image rm again:2 built").ok();
    docker("volume create kept").ok();
    docker("volume rm kept").ok();
    // No registry is there: the engine says so, through netd.
    let pushed = docker("push localhost:9/none");
    assert!(pushed.code == Some(1) && pushed.stderr.contains("localhost:9/none"), "{pushed:?}");
}

/// A client that goes on until it is killed; its first line has come.
fn client(words: &[&str]) -> Child {
    let all = [&["--net=/run/netns/host", "--", CLIENT, "--host", API_URL], words].concat();
    let mut command = Command::new("nsenter");
    let mut child = command
        .args(all)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("docker starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(!line.is_empty(), "nothing came from {words:?}");
    child
}

fn aborted(lab: &Lab) {
    let _dockerd = with_docker(lab);
    docker_words(&["run", "-d", "--name", "chat", "lab", "sh", "-c", "while true; do echo line; sleep 0.1; done"]).ok();
    let before = descriptors(lab);
    let mut clients: Vec<Child> = (0..4).map(|_| client(&["logs", "-f", "chat"])).collect();
    clients.push(client(&["exec", "chat", "sh", "-c", "echo begun; sleep 1000"]));
    clients.push(client(&["attach", "--no-stdin", "chat"]));
    assert!(descriptors(lab) >= before + 12, "each has a connection, and one to the engine");
    for mut client in clients {
        client.kill().expect("it runs");
        client.wait().expect("it ends");
    }
    // Meanwhile netd may have begun to follow the engine itself: its events, and a connection for questions.
    until("the daemon has closed both", || {
        let now = descriptors(lab);
        if now <= before + 2 { Ok(()) } else { Err(format!("{now} instead of {before}")) }
    });
    docker("rm -f chat").ok();
    until_nothing_left(lab);
}

fn descriptors(lab: &Lab) -> usize {
    fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).expect("the daemon runs").count()
}

fn restarted(lab: &Lab) {
    let mut dockerd = with_docker(lab);
    docker("network create net1").ok();
    docker("run -d --name web --network net1 lab sleep 1000").ok();
    let mut events = client(&["events", "--since", "1h"]);
    dockerd.stop();
    assert!(events.wait().expect("it ends").success(), "its stream ended with the engine's");
    let refused = docker("ps");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("the engine at /run/docker.sock does not answer"),
        "{refused:?}"
    );
    let listed = docker_words(&["network", "ls", "--format", "{{.Name}}"]).ok().stdout;
    assert!(listed.contains("net1"), "networks are netd's: {listed}");
    dockerd.start_again();
    docker("start web").ok();
    assert_eq!(docker("exec web busybox echo again").ok().stdout, "again\n");
    docker("rm -f web").ok();
    docker("network rm net1").ok();
    until_nothing_left(lab);
}
