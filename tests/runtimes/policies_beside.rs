//! Policies and egress beside a real Docker, Podman's own netavark, ufw and firewalld, all of which started first: what is
//! allowed passes and nothing else does, also after the other one has written its rules again and after netd was killed.

use libtest_mimic::Trial;
use netd_testing::lab::upstream::Upstream;
use netd_testing::wait::is;

use crate::dockerd::{self, Dockerd};
use crate::firewalls::Firewalld;
use crate::lab::echo::answers;
use crate::lab::resolved::start_bus;
use crate::lab::{Dig, HOST4, Lab, OUTSIDE4, Proto, Server, run};
use crate::netavark;
use crate::podman::{self, SERVE, podman_run};
use crate::world::{fetches_the_page, on_host, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("firewalls: policies and egress beside Docker", dockerd::NEEDS, beside_docker),
        trial(
            "firewalls: policies and egress beside Podman's netavark",
            &["podman", "runc", "conmon", netavark::NETAVARK, "iptables"],
            beside_podman,
        ),
        trial("firewalls: policies and egress beside ufw", &["/usr/sbin/ufw", "iptables"], beside_ufw),
        trial(
            "firewalls: policies and egress beside firewalld",
            &["/usr/sbin/firewalld", "dbus-daemon"],
            beside_firewalld,
        ),
    ]
}

/// The name that `held` may reach, on this port alone.
const ALLOWED: &str = "example.test";

/// What runs for the whole of a test.
struct World<'a> {
    lab: &'a Lab,
    _servers: Vec<Server>,
    _upstream: Upstream,
    /// The network namespace of a container of the other engine, and the address of its page.
    others: Option<(String, String)>,
}

/// net1, which is denied by default: `web` and `shut` are published, `held` may send to [`ALLOWED`] only. `client` is on net2.
fn set_up(lab: &Lab, others: Option<(String, String)>) -> World<'_> {
    let upstream = Upstream::answering("host", ([127, 0, 0, 1], 53).into(), [192, 0, 2, 2]);
    lab.start_daemon();
    for network in ["net1", "net2"] {
        lab.netd(&format!("network create {network}")).ok();
    }
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net1", "shut", "-p 4001:80");
    lab.connected("net1", "peer", "");
    lab.connected("net1", "held", &format!("--egress deny --egress-allow {ALLOWED}:9000"));
    lab.connected("net2", "client", "");
    for policy in ["default-deny net1", "allow outside web:80", "allow peer web:80", "allow client web:81"] {
        lab.netd(&format!("policy {policy}")).ok();
    }
    let at = [("web", 80), ("web", 81), ("shut", 80), ("outside", 9000), ("outside", 9001)];
    let servers = at.map(|(who, port)| Server::start(who, who, port)).into();
    World { lab, _servers: servers, _upstream: upstream, others }
}

impl World<'_> {
    /// The ways that find an answer, of those that a user of these policies would try.
    fn passing(&self) -> Vec<&'static str> {
        let [web, shut] = ["web", "shut"].map(|name| self.lab.address("net1", name)[0].to_string());
        let ways = [
            ("a published port", "outside", HOST4, 4000),
            ("a published port that nobody may reach", "outside", HOST4, 4001),
            ("within", "peer", &web, 80),
            ("within, to another port", "peer", &web, 81),
            ("within, to another container", "peer", &shut, 80),
            ("within, from another container", "held", &web, 80),
            ("across", "client", &web, 81),
            ("across, to another port", "client", &web, 80),
            ("across, to another container", "client", &shut, 80),
            ("out", "web", OUTSIDE4, 9001),
            ("out to an allowed name", "held", OUTSIDE4, 9000),
            ("out to another port of it", "held", OUTSIDE4, 9001),
            ("out from net2", "client", OUTSIDE4, 9000),
        ];
        let mut found = Vec::new();
        for proto in [Proto::Tcp, Proto::Udp] {
            // Policies and allowances without protocol are about TCP.
            let tried = ways
                .iter()
                .filter(|(way, ..)| proto == Proto::Tcp || way.contains("another") || way.contains("nobody"));
            found.extend(tried.filter(|(_, ns, to, port)| answers(ns, proto, (to, *port)).is_some()).map(|way| way.0));
        }
        found
    }

    /// Asserts what passes and that the state is as it should be; `denied`: the ways that a later policy has closed.
    #[track_caller]
    fn holds(&self, denied: &[&str]) {
        let open = ["a published port", "within", "across", "out", "out to an allowed name", "out from net2"];
        let open: Vec<&str> = open.into_iter().filter(|way| !denied.contains(way)).collect();
        until("the allowed name is answered", || is(Dig::ask("held", ALLOWED).answers, &[OUTSIDE4]));
        until("what is allowed passes", || is(self.passing(), &open));
        assert_eq!(Dig::ask("held", "other.test").status, "REFUSED");
        until("what netd wrote is there", || is(self.lab.diff(), ""));
        assert_eq!(self.lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
        if let Some((ns, page)) = &self.others {
            self.others_are_outside(ns, page);
        }
    }

    /// The other engine's containers reach what it publishes and what netd does, and no container of netd's past a policy.
    #[track_caller]
    fn others_are_outside(&self, ns: &str, page: &str) {
        fetches_the_page("outside", page);
        fetches_the_page("client", page);
        let reaches =
            |to: &str, port: u16| run(&format!("nsenter --net={ns} -- busybox nc -w 2 {to} {port}")).code == Some(0);
        until("its containers get out", || is(reaches(OUTSIDE4, 9000), &true));
        for name in ["shut", "peer", "held"] {
            let address = self.lab.address("net1", name)[0].to_string();
            assert!(!reaches(&address, 80), "its containers do not reach {name}");
        }
        assert!(!reaches(HOST4, 4001), "its containers do not reach a published port that nobody may reach");
        let by_held = run(&format!("ip netns exec held curl -sS --max-time 1 http://{page}/"));
        assert_ne!(by_held.code, Some(0), "a port that the other one publishes is outside to the held container");
    }

    /// Everything that netd and its user do; `again`: lets the other one write its rules again.
    fn lives(&self, mut again: impl FnMut()) {
        self.holds(&[]);
        again();
        self.holds(&[]);
        self.lab.netd("policy deny web outside").ok();
        self.lab.netd("policy deny peer web").ok();
        self.holds(&["out", "within"]);
        again();
        self.holds(&["out", "within"]);
        self.lab.netd("policy rm 5 6").ok();
        self.lab.kill_daemon();
        again();
        self.lab.start_daemon();
        self.holds(&[]);
    }
}

fn beside_docker(lab: &Lab) {
    let mut dockerd = Dockerd::start();
    dockerd::serve("theirs", "-p 8080:80 --restart always");
    let others = || Some((dockerd::sandbox("theirs"), format!("{HOST4}:8080")));
    let mut world = set_up(lab, others());
    world.holds(&[]);
    dockerd.restart();
    until("its container runs again", || {
        is(dockerd::docker("inspect -f {{.State.Running}} theirs").ok().stdout, "true\n")
    });
    world.others = others();
    world.lives(|| {
        // What a user of Docker does beside: a container and a network come and go.
        dockerd::docker("network create coming").ok();
        dockerd::serve("coming", "--network coming -p 8081:80");
        dockerd::docker("rm -f coming").ok();
        dockerd::docker("network rm coming").ok();
    });
}

fn beside_podman(lab: &Lab) {
    netavark::settings();
    podman_run(&format!("-d --name theirs -p 8080:80 {SERVE}"));
    let ns = podman::inspect("theirs", "{{.NetworkSettings.SandboxKey}}");
    let world = set_up(lab, Some((ns, format!("{HOST4}:8080"))));
    world.lives(|| {
        podman_run(&format!("-d --name coming -p 8081:80 {SERVE}"));
        podman::podman("rm -t 0 -f coming").ok();
        podman::podman("network reload theirs").ok();
    });
    podman::podman("rm -t 0 -f theirs").ok();
}

fn beside_ufw(lab: &Lab) {
    on_host("ufw --force enable").ok();
    let world = set_up(lab, None);
    world.lives(|| drop(on_host("ufw reload").ok()));
    on_host("ufw disable").ok();
    world.holds(&[]);
}

fn beside_firewalld(lab: &Lab) {
    let _bus = start_bus();
    let firewalld = Firewalld::start();
    let world = set_up(lab, None);
    world.lives(|| {
        on_host("firewall-cmd --reload").ok();
        on_host("firewall-cmd --complete-reload").ok();
    });
    drop(firewalld);
    world.holds(&[]);
}
