//! Strict ports beside real firewalls with their default configuration: their own commands open and close a published port.

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is};

use crate::firewalls::Firewalld;
use crate::lab::echo::answers;
use crate::lab::resolved::start_bus;
use crate::lab::{HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, until};
use crate::world::{on_host, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("firewalls: ufw opens and closes strict ports", &["/usr/sbin/ufw", "iptables"], ufw),
        trial("firewalls: firewalld opens and closes strict ports", &["/usr/sbin/firewalld", "dbus-daemon"], firewalld),
    ]
}

/// `web`, which publishes port 4000 strictly and 4001 openly, and another container.
fn set_up(lab: &Lab) -> Server {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6 -o publish=strict").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "-p 4000:80 -p 4000:80/udp -p published=4001,target=80,publish=open");
    lab.connected("net2", "other", "");
    Server::start("web", "web", 80)
}

/// Asserts who reaches port 4000 by that protocol, and that the open port and the host are not concerned.
#[track_caller]
fn reached(lab: &Lab, proto: Proto, open: bool) {
    let web = Some("web".to_owned());
    for (host, outside) in [(HOST4, OUTSIDE4), (HOST6, OUTSIDE6)] {
        for ns in ["outside", "other"] {
            let reached = || answers(ns, proto, (host, 4000)).is_some();
            until(&format!("{ns} at {host} by {proto:?} is {open}"), || is(reached(), &open));
        }
        if open {
            let saw = answers("outside", proto, (host, 4000)).map(|reply| reply.saw.to_string());
            assert_eq!(saw.as_deref(), Some(outside), "the client's address");
        }
        let at = |ns, port| answers(ns, Proto::Tcp, (host, port)).map(|reply| reply.who);
        until("the open port answers", || is(at("outside", 4001), &web));
        until("the host reaches it", || is(at("host", 4000), &web));
    }
    assert_eq!(lab.netd("status --json").ok().json()["problems"], serde_json::json!([]));
}

/// What `netd port` says of the TCP port.
#[track_caller]
fn says(lab: &Lab, words: &str) {
    let shown = || {
        let ports = lab.netd("port web --json").ok().json();
        ports[0]["reachable_by"].as_str().unwrap_or_default().to_owned()
    };
    until(&format!("netd port says {words:?}"), || contains(shown(), words));
}

fn ufw(lab: &Lab) {
    let _server = set_up(lab);
    reached(lab, Proto::Tcp, true);
    says(lab, "every host that reaches this one");
    on_host("ufw --force enable").ok();
    reached(lab, Proto::Tcp, false);
    reached(lab, Proto::Udp, false);
    says(lab, "this host only: ");
    on_host("ufw allow 4000/tcp").ok();
    reached(lab, Proto::Tcp, true);
    reached(lab, Proto::Udp, false);
    says(lab, "every host that reaches this one");
    on_host("ufw allow 4000/udp").ok();
    reached(lab, Proto::Udp, true);
    on_host("ufw delete allow 4000/tcp").ok();
    reached(lab, Proto::Tcp, false);
    says(lab, "this host only: ");
    on_host(&format!("ufw allow from {OUTSIDE4} to any port 4000 proto tcp")).ok();
    until("the one host", || is(answers("outside", Proto::Tcp, (HOST4, 4000)).is_some(), &true));
    assert!(answers("other", Proto::Tcp, (HOST4, 4000)).is_none(), "no other");
    says(lab, &format!("over IPv4 this host and some others: from {OUTSIDE4}/32"));
    lab.kill_daemon();
    lab.start_daemon();
    until("the one host", || is(answers("outside", Proto::Tcp, (HOST4, 4000)).is_some(), &true));
    on_host("ufw disable").ok();
    reached(lab, Proto::Tcp, true);
}

fn firewalld(lab: &Lab) {
    let _bus = start_bus();
    let firewalld = Firewalld::start();
    let _server = set_up(lab);
    reached(lab, Proto::Tcp, false);
    reached(lab, Proto::Udp, false);
    says(lab, "this host only: ");
    on_host("firewall-cmd --add-port=4000/tcp").ok();
    reached(lab, Proto::Tcp, true);
    reached(lab, Proto::Udp, false);
    says(lab, "every host that reaches this one");
    on_host("firewall-cmd --add-port=4000/udp").ok();
    reached(lab, Proto::Udp, true);
    on_host("firewall-cmd --remove-port=4000/tcp").ok();
    reached(lab, Proto::Tcp, false);
    says(lab, "this host only: ");
    drop(firewalld);
    reached(lab, Proto::Tcp, true);
}
