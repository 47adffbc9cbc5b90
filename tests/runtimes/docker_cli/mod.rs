//! Docker's own command line at netd's socket. A script of commands is typed twice: against a dockerd, and, on a host as
//! fresh as that one, against netd with the same dockerd behind it. Each command must end and say the same, but for the
//! differences that its row in the table states; `docs/engine-api.md` lists these.

mod containers;
mod document;
mod lives;
mod networks;
mod normal;
mod swarm;
mod table;

use std::fmt::Write as _;
use std::fs;

use libtest_mimic::{Completion, Trial};

use self::normal::Normal;
use self::table::{Row, Said};
use crate::dockerd::Dockerd;
use crate::lab::{self, Lab, daemon};
use crate::world::{PAGE, find, on_host_words, private_folders, trial};

/// What the tests need beside a client.
const NEEDS: &[&str] = &["/usr/sbin/dockerd", DEBIAN, "containerd", "runc", "iptables", "bash"];
/// Debian's client.
const DEBIAN: &str = "/usr/bin/docker";
/// A newer client, on machines that have one.
const NEWER: &str = "/usr/local/bin/docker";
/// Where the commands find files.
const FOLDER: &str = "/run/lab/cli";
/// The engine, alone or behind netd.
const DOCKER: &str = "/run/docker.sock";
/// Where Docker looks for netd's driver.
const PLUGIN: &str = "/run/docker/plugins/netd.sock";
/// netd's socket of the Engine API.
const NETD: &str = "/run/lab/runtime/docker.sock";

/// A compose file.
const STACK: &str = "version: '3.8'\nservices:\n  web: {image: lab, ports: ['4102:80'], networks: [net3]}\n  \
                     db: {image: lab, networks: [net3]}\nnetworks: {net3: }\n";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("docker command line: netd's socket says what Docker says", NEEDS, |_| compare(DEBIAN)),
        lab::skippable("docker command line: a newer client finds the same", |_| {
            if find(NEWER).is_none() {
                return Completion::ignored_with(format!("{NEWER} is not there"));
            }
            if let Some(program) = NEEDS.iter().find(|program| find(program).is_none()) {
                return Completion::ignored_with(format!("{program} is not installed"));
            }
            private_folders();
            compare(NEWER);
            Completion::Completed
        }),
        Trial::test(
            "docker command line: a difference without a reason fails, and a reason without a difference",
            || {
                table::judges();
                Ok(())
            },
        ),
        Trial::test("docker command line: docs/engine-api.md lists the differences", || {
            document::is_up_to_date(&[
                document::Table { name: "differences", rows: rows().collect() },
                document::Table { name: "differences of swarms", rows: swarms().collect() },
            ])
            .map_err(Into::into)
        }),
    ]
}

/// The script without swarms.
fn rows() -> impl Iterator<Item = &'static Row> {
    let networks = [networks::MAKING, networks::LOOKING];
    let containers = [containers::RUNNING, containers::LOOKING, networks::CONNECTING];
    let rest = [lives::LIVES, lives::IMAGES, lives::REST, lives::END];
    networks.into_iter().chain(containers).chain(rest).flatten()
}

/// Its end: a swarm.
fn swarms() -> impl Iterator<Item = &'static Row> {
    [swarm::NODE, swarm::SERVICES, swarm::STACKS].into_iter().flatten()
}

/// Types the script with this client at Docker and at netd.
fn compare(client: &str) {
    let rows: Vec<&Row> = rows().chain(swarms()).filter(|row| client == DEBIAN || !row.debian_only).collect();
    let alone = {
        let _dockerd = Dockerd::start();
        typed(&rows, client, DOCKER)
    };
    // Another host, on which nothing has run, takes the place of the first.
    let fresh = Lab::new();
    private_folders();
    let config = format!("[engine]\nsocket = {DOCKER:?}\n[docker_plugin]\nsocket = {PLUGIN:?}\n");
    fs::write(daemon::CONFIG, config).expect("a file");
    fresh.start_daemon();
    let _dockerd = Dockerd::start();
    let behind = typed(&rows, client, NETD);
    let mut wrong = String::new();
    for ((row, docker), netd) in rows.iter().zip(&alone).zip(&behind) {
        if let Err(why) = row.judge(docker, netd) {
            let _ = writeln!(wrong, "\n$ {}\n{why}", row.command);
        }
    }
    assert!(wrong.is_empty(), "Docker's command line at netd and at Docker:\n{wrong}");
    assert_eq!(fresh.netd("ps --json").ok().json(), serde_json::json!([]), "no container is left");
    assert_eq!(fresh.diff(), "");
}

/// What each command says at this socket.
fn typed(rows: &[&Row], client: &str, socket: &str) -> Vec<Said> {
    let bin = format!("{FOLDER}/bin");
    let context = format!("{FOLDER}/context");
    for folder in [&bin, &context] {
        fs::create_dir_all(folder).expect("a folder");
    }
    std::os::unix::fs::symlink(client, format!("{bin}/docker")).expect("a link");
    for (file, text) in [
        ("index.html", PAGE),
        ("Dockerfile", "FROM scratch\nCOPY index.html /x\n"),
        ("stack.yml", STACK),
        ("Dockerfile.run", "FROM lab\nRUN cat /www/index.html\n"),
    ] {
        fs::write(format!("{context}/{file}"), text).expect("a file");
    }
    let environment = format!(
        "cd {FOLDER}; export PATH={bin}:$PATH DOCKER_HOST=unix://{socket} DOCKER_BUILDKIT=0 DOCKER_CLI_HINTS=false; "
    );
    let run = |command: &str| on_host_words(&["bash", "-c", &format!("{environment}{command}")]);
    let normal = Normal::new();
    let say = |row: &&Row| {
        let out = run(row.command);
        if let Some(undo) = row.undo {
            run(undo);
        }
        Said { code: out.code, stdout: normal.of(&out.stdout), stderr: normal.of(&out.stderr) }
    };
    rows.iter().map(say).collect()
}
