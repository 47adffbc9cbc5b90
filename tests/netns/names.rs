//! Names: answers to `dig` inside containers, and questions forwarded to the host's resolvers.

use std::fs;
use std::net::SocketAddr;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, Proto, Server, ask, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("names: every form of a name", forms),
        trial("names: PTR of container and gateway addresses, the container's own name first", pointers),
        trial("names: a name without that type is NOERROR with SOA, an unknown one NXDOMAIN", negative),
        trial("names: only names of the client's networks resolve", shared_networks),
        trial("names: an alias of two containers answers with both", shared_alias),
        trial("names: host.internal is the host", the_host),
        trial("names: external names are forwarded to the host's resolvers, single labels are not", upstream),
        trial("names: changes of the host's resolv.conf take effect", resolv_conf_changes),
        trial("names: without an upstream external names get SERVFAIL, and local names resolve", no_upstream),
        trial("names: resolv.conf of a named namespace, without overwriting a foreign file", resolv_conf),
        trial("names: getent resolves a name through glibc", getent),
    ]
}

/// net1 (dual stack) with `web` (alias `www`) and `client`; net2 with `other`.
fn set_up(lab: &Lab) -> (String, String) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2").ok();
    lab.connected("net1", "web", "--alias www --alias Deep.Name");
    lab.connected("net1", "client", "");
    lab.connected("net2", "other", "");
    let addresses = lab.address("net1", "web");
    (addresses[0].to_string(), addresses[1].to_string())
}

fn forms(lab: &Lab) {
    let (v4, v6) = set_up(lab);
    let id = lab.endpoint("net1", "web")["container"]["id"].as_str().unwrap()[..12].to_owned();
    for name in ["web", "web.net1", "web.net1.internal", "www", "www.net1", "www.net1.internal", "deep.name", &id] {
        for name in [name.to_owned(), name.to_uppercase(), format!("{name}.")] {
            Dig::expect("client", &name, &[&v4]);
            Dig::expect("client", &format!("{name} AAAA"), &[&v6]);
        }
        Dig::expect("client", &format!("+tcp {name}"), &[&v4]);
    }
    Dig::expect("web", "web", &[&v4]);
    let ttl = Dig::ask("client", "web").text;
    assert!(ttl.lines().any(|line| line.starts_with("web.") && line.contains("\t5\tIN")), "TTL 5: {ttl}");
    assert!(Dig::ask("client", "web").text.contains("flags: qr aa"), "authoritative");
}

fn pointers(lab: &Lab) {
    let (v4, v6) = set_up(lab);
    for address in [&v4, &v6] {
        Dig::expect("client", &format!("-x {address}"), &["web.", "web.net1.internal."]);
        Dig::expect("web", &format!("-x {address}"), &["web.", "web.net1.internal."]);
        // Programs take the first for the host's name; answers of addresses are rotated, these are not.
        let first = |_| Dig::ask("client", &format!("-x {address}")).answers[0].clone();
        assert_eq!([0; 4].map(first), ["web."; 4]);
    }
    Dig::expect("client", "-x 127.0.0.1", &["localhost."]);
    Dig::expect_none("client", "-x 169.254.1.1", "NXDOMAIN");
    Dig::expect_none("client", "-x 10.77.0.200", "NXDOMAIN");
    let elsewhere = lab.address("net2", "other")[0];
    Dig::expect_none("client", &format!("-x {elsewhere}"), "NXDOMAIN");
}

fn negative(lab: &Lab) {
    set_up(lab);
    lab.connected("net2", "second", "");
    for question in ["second AAAA", "second MX", "second TXT", "second.net2.internal AAAA"] {
        let dig = Dig::ask("other", question);
        assert!(dig.status == "NOERROR" && dig.answers.is_empty(), "{question}: {}", dig.text);
        assert!(dig.authority.iter().any(|line| line.contains("SOA")), "{question}: {}", dig.text);
    }
    for question in ["nobody", "nobody AAAA", "nobody.net1", "nobody.net1.internal", "a.internal", "web.net9.internal"]
    {
        let dig = Dig::ask("client", question);
        assert!(dig.status == "NXDOMAIN" && dig.answers.is_empty(), "{question}: {}", dig.text);
    }
}

fn shared_networks(lab: &Lab) {
    let (v4, _) = set_up(lab);
    for name in ["web", "web.net1", "web.net1.internal", "www"] {
        Dig::expect_none("other", name, "NXDOMAIN");
    }
    Dig::expect_none("client", "other", "NXDOMAIN");
    lab.netd("connect net2 web --alias second").ok();
    let on_net2 = lab.address("net2", "web")[0].to_string();
    Dig::expect("other", "web", &[&on_net2]);
    Dig::expect("other", "second", &[&on_net2]);
    Dig::expect_none("other", "web.net1", "NXDOMAIN");
    Dig::expect("client", "web", &[&v4]);
    Dig::expect_none("client", "second", "NXDOMAIN");
    let other = lab.address("net2", "other")[0].to_string();
    Dig::expect("web", "other", &[&other]);
    Dig::expect("web", "client", &[&lab.address("net1", "client")[0].to_string()]);
    lab.netd("disconnect net1 web").ok();
    Dig::expect_none("client", "web", "NXDOMAIN");
    Dig::expect("other", "web", &[&on_net2]);
    Dig::expect("web", "other", &[&other]);
    Dig::expect_none("web", "client", "NXDOMAIN");
}

fn shared_alias(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "client", "");
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        lab.connected("net1", name, "--alias pool");
        all.push(lab.address("net1", name)[0].to_string());
    }
    Dig::expect("client", "pool", &all.iter().map(String::as_str).collect::<Vec<_>>());
    let first: std::collections::BTreeSet<String> =
        (0..20).map(|_| Dig::ask("client", "pool").answers[0].clone()).collect();
    assert_eq!(first.len(), 3, "answers are rotated: {first:?}");
    lab.netd("disconnect net1 b").ok();
    Dig::expect("client", "pool", &[&all[0], &all[2]]);
}

fn the_host(lab: &Lab) {
    set_up(lab);
    let _server = Server::start("host", "host", 9000);
    for name in ["host.internal", "host.docker.internal", "host.containers.internal", "host.netd.internal"] {
        let dig = Dig::ask("client", name);
        assert_eq!(dig.answers.len(), 1, "{}", dig.text);
        assert_eq!(ask("client", Proto::Tcp, (&dig.answers[0], 9000)).who, "host");
    }
}

fn upstream(lab: &Lab) {
    let upstream = Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)));
    set_up(lab);
    let answer = std::net::Ipv4Addr::from(ANSWER).to_string();
    Dig::expect("client", "www.example.com", &[&answer]);
    Dig::expect("client", "+tcp tcp.example.com", &[&answer]);
    Dig::expect_none("client", "www.example.com AAAA", "NOERROR");
    for name in ["single", "web", "nobody.net1.internal", "x.internal"] {
        Dig::ask("client", name);
    }
    let asked = upstream.asked();
    assert!(asked.iter().all(|name| name.ends_with("example.com")), "{asked:?}");
    assert!(asked.iter().any(|name| name == "www.example.com"), "{asked:?}");
}

fn resolv_conf_changes(lab: &Lab) {
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.99\n").unwrap();
    set_up(lab);
    let _upstream = Upstream::start("host", SocketAddr::from(([127, 0, 0, 7], 53)));
    fs::write("/etc/resolv.conf", "nameserver 127.0.0.7\n").unwrap();
    let answer = std::net::Ipv4Addr::from(ANSWER).to_string();
    until("the new resolver is asked", || is(Dig::ask("client", "www.example.com").answers, &[answer.as_str()]));
}

fn no_upstream(lab: &Lab) {
    let (v4, _) = set_up(lab);
    let dig = Dig::ask("client", "+time=12 www.example.com");
    assert_eq!(dig.status, "SERVFAIL", "{}", dig.text);
    Dig::expect("client", "web", &[&v4]);
}

fn resolv_conf(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2").ok();
    let read = |name: &str| fs::read_to_string(format!("/etc/netns/{name}/resolv.conf"));
    lab.connected("net1", "web", "");
    lab.netd("connect net2 web").ok();
    let gateway = |network: &str| lab.network(network)["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    let servers = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("nameserver ")).map(str::to_owned).collect()
    };
    assert_eq!(servers(&read("web").unwrap()), [gateway("net1")], "exactly one: the first network's gateway");
    lab.netd("disconnect net1 web").ok();
    assert_eq!(servers(&read("web").unwrap()), [gateway("net2")]);
    lab.netd("disconnect net2 web").ok();
    assert!(read("web").is_err(), "removed with the last network");

    lab.container("own");
    fs::create_dir_all("/etc/netns/own").unwrap();
    fs::write("/etc/netns/own/resolv.conf", "nameserver 9.9.9.9\n").unwrap();
    lab.netd("connect net1 own").ok();
    assert_eq!(read("own").unwrap(), "nameserver 9.9.9.9\n");
    lab.netd("disconnect net1 own").ok();
    assert_eq!(read("own").unwrap(), "nameserver 9.9.9.9\n");
}

fn getent(lab: &Lab) {
    let (v4, _) = set_up(lab);
    for name in ["web", "web.net1", "www"] {
        let found = lab.exec("client", &format!("getent ahostsv4 {name}")).ok().stdout;
        assert!(found.starts_with(&v4), "{name}: {found}");
    }
}
