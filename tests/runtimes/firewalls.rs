//! Real firewalls and a real dockerd beside netd, in every order of start: published ports, names and outgoing
//! connections work for both, and containers cannot reach unpublished ports of the other engine.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks, seen};

use crate::dockerd::{Dockerd, NEEDS, docker, in_sandbox, sandbox, serve};
use crate::lab::resolved::start_bus;
use crate::lab::{Dig, HOST4, Lab, OUTSIDE4, Proto, Server, ask, run};
use crate::world::{fetch, fetches_the_page, on_host, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("firewalls: Docker starts before netd", NEEDS, docker_first),
        trial("firewalls: Docker starts after netd", NEEDS, docker_later),
        trial("firewalls: ufw with its default configuration", &["/usr/sbin/ufw", "iptables"], ufw),
        trial(
            "firewalls: firewalld with its default configuration",
            &["/usr/sbin/firewalld", "dbus-daemon"],
            firewalld,
        ),
    ]
}

/// net1 with `net`, which is published on port 4000, and a server outside.
fn netd_works(lab: &Lab) -> Vec<Server> {
    lab.netd("network create net1").ok();
    lab.connected("net1", "net", "-p 4000:80");
    vec![Server::start("net", "net", 80), Server::start("outside", "outside", 9000)]
}

/// Asserts that ports, names and outgoing connections work.
#[track_caller]
fn all_works(lab: &Lab) {
    until("the published port answers", || crate::lab::echo::answers("outside", Proto::Tcp, (HOST4, 4000)));
    until("outgoing connections work", || crate::lab::echo::answers("net", Proto::Tcp, (OUTSIDE4, 9000)));
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "net");
    assert_eq!(ask("host", Proto::Tcp, (HOST4, 4000)).who, "net");
    let address = lab.address("net1", "net")[0].to_string();
    until("names are answered", || is(Dig::ask("net", "net").answers, &[address.as_str()]));
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
}

/// Docker's containers work as without netd: `web` is published on port 8080, `shut` is not.
#[track_caller]
fn dockers_own_work(isolated: bool) {
    fetches_the_page("outside", &format!("{HOST4}:8080"));
    // After a restart of Docker, each container comes back at its time.
    until("Docker has started the other container", || {
        is(docker("inspect -f {{.State.Running}} shut").ok().stdout, "true\n")
    });
    let out = in_sandbox("shut", &format!("busybox nc -w 3 {OUTSIDE4} 9000"));
    assert_eq!(out.code, Some(0), "the way out of Docker's containers: {out:?}");
    assert_eq!(
        fetch("net", &format!("{HOST4}:8080")),
        crate::world::PAGE,
        "netd's containers reach a published port of Docker"
    );
    let shut = docker("inspect -f {{.NetworkSettings.IPAddress}} shut").ok().stdout.trim().to_owned();
    if isolated {
        assert_eq!(fetch("net", &shut), "", "unpublished ports of Docker are unreachable");
    }
    assert!(!sandbox("shut").is_empty());
}

/// Asserts that Docker's containers cannot reach unpublished ports of netd's.
#[track_caller]
fn netds_own_are_shut(lab: &Lab) {
    let address = lab.address("net1", "net")[0];
    let asked = in_sandbox("shut", &format!("busybox nc -w 2 {address} 80"));
    assert_ne!(asked.code, Some(0), "{asked:?}");
}

fn docker_first(lab: &Lab) {
    let mut dockerd = Dockerd::start();
    serve("web", "-p 8080:80 --restart always");
    serve("shut", "--restart always");
    lab.start_daemon();
    let _servers = netd_works(lab);
    let holds = || {
        all_works(lab);
        dockers_own_work(true);
        netds_own_are_shut(lab);
    };
    holds();
    let user = on_host("iptables -S DOCKER-USER").ok().stdout;
    assert!(user.contains("netd: "), "{user}");
    dockerd.restart();
    holds();
    lab.kill_daemon();
    dockerd.restart();
    lab.start_daemon();
    holds();
    on_host("iptables -F DOCKER-USER").ok();
    all_works(lab);
    lab.netd("disconnect net1 net").ok();
    lab.netd("network rm net1").ok();
    let rules = on_host("iptables-save").ok().stdout;
    assert!(!rules.contains("netd: ") && !rules.contains("NETD"), "{rules}");
    fetches_the_page("outside", &format!("{HOST4}:8080"));
}

fn docker_later(lab: &Lab) {
    lab.start_daemon();
    let _servers = netd_works(lab);
    let mut dockerd = Dockerd::start();
    serve("web", "-p 8080:80 --restart always");
    serve("shut", "--restart always");
    all_works(lab);
    // Docker sets the policy DROP only if it enabled forwarding itself.
    dockers_own_work(false);
    netds_own_are_shut(lab);
    on_host("iptables -P FORWARD DROP").ok();
    all_works(lab);
    dockers_own_work(true);
    dockerd.restart();
    all_works(lab);
    dockers_own_work(true);
    netds_own_are_shut(lab);
}

fn ufw(lab: &Lab) {
    lab.start_daemon();
    let _servers = netd_works(lab);
    all_works(lab);
    on_host("ufw --force enable").ok();
    let holds = || {
        until("netd has adapted", || {
            seen(lab.netd("status --json").ok().json(), |status| !status["firewall"].as_array().unwrap().is_empty())
        });
        all_works(lab);
    };
    holds();
    on_host("ufw reload").ok();
    holds();
    lab.kill_daemon();
    lab.start_daemon();
    holds();
    on_host("ufw disable").ok();
    until("nothing of netd is left", || lacks(on_host("iptables-save").ok().stdout, "NETD"));
    all_works(lab);
}

/// The real program, which ends when dropped.
pub(crate) struct Firewalld(Child);

impl Firewalld {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("nsenter");
        command.args([
            "--net=/run/netns/host",
            "--",
            "/usr/sbin/firewalld",
            "--nofork",
            "--nopid",
            "--log-file",
            "/run/lab/firewalld.log",
        ]);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("firewalld");
        let started = Self(child);
        for _ in 0..10 {
            if on_host("firewall-cmd --state").stdout.contains("running") {
                break;
            }
        }
        until("firewalld runs", || contains(on_host("firewall-cmd --state").stdout, "running"));
        started
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.0.wait();
    }
}

fn firewalld(lab: &Lab) {
    let _bus = start_bus();
    let first = Firewalld::start();
    lab.start_daemon();
    let _servers = netd_works(lab);
    let holds = || {
        until("netd has adapted", || contains(lab.netd("status --json").ok().stdout, "filter_FORWARD"));
        all_works(lab);
    };
    holds();
    on_host("firewall-cmd --reload").ok();
    holds();
    drop(first);
    until("nothing needs adapting", || lacks(lab.netd("status --json").ok().stdout, "filter_FORWARD"));
    all_works(lab);
    let _again = Firewalld::start();
    holds();
    run("ip netns exec host nft list table inet firewalld").ok();
}
