//! The host's systemd-resolved: it resolves netd's names through netd, and containers
//! resolve through netd what it resolves. With the real one if available, and with one that records its
//! calls.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{is, seen};

use crate::lab::daemon::CONFIG;
use crate::lab::resolve1::{StandIn, calls};
use crate::lab::resolved::{Resolved, resolvectl, start_bus};
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, OUTSIDE4, ip_json, run, skippable, trial, until};

/// What the server of the domain `corp` answers.
const CORP: [u8; 4] = [203, 0, 113, 13];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        with_resolved("the host resolves names through systemd-resolved, and its own servers are unchanged", found),
        with_resolved(
            "names resolve again after a restart of systemd-resolved or netd, and after a new bridge",
            came_again,
        ),
        with_resolved("no question loops between systemd-resolved and netd", no_loop),
        with_resolved(
            "a container resolves what systemd-resolved on the host resolves, including split DNS",
            split_dns,
        ),
        trial("systemd-resolved gets the settings of each bridge once, and their removal", told_once),
        trial("without a bus netd works and reports it, and continues when there is one", no_bus),
        trial("a systemd-resolved of another network namespace gets no settings", elsewhere),
        trial("systemd-resolved gets no settings unless the user enables it", opt_in),
    ]
}

fn with_resolved(name: &'static str, test: fn(&Lab)) -> Trial {
    skippable(name, move |lab| match Resolved::missing() {
        Some(why) => Completion::ignored_with(why),
        None => {
            test(lab);
            Completion::Completed
        }
    })
}

/// Starts a daemon with the integration of systemd-resolved.
fn start_daemon(lab: &Lab) {
    fs::write(CONFIG, "[dns]\nresolved = true\n").unwrap();
    lab.start_daemon();
}

/// The host's default server, outside.
fn default_server() -> Upstream {
    Upstream::start("outside", SocketAddr::from((OUTSIDE4.parse::<IpAddr>().unwrap(), 53)))
}

/// The one address that the host finds under the name; none when it finds none.
fn host_finds(name: &str) -> Option<String> {
    // Excludes its cache.
    let out = resolvectl(&format!("query --cache=no -4 {name}"));
    let line = out.stdout.lines().next().filter(|_| out.code == Some(0))?;
    line.strip_prefix(&format!("{name}: "))?.split_whitespace().next().map(str::to_owned)
}

#[track_caller]
fn until_found(name: &str, address: &str) {
    until(&format!("the host finds {name}"), || is(host_finds(name), &Some(address.to_owned())));
}

/// The status of all links except netd's.
fn other_links() -> String {
    let all = ["dns", "domain", "default-route", "llmnr", "mdns", "dnssec"].map(|what| resolvectl(what).ok().stdout);
    let of_others =
        |line: &&str| ["Global:", "Link "].iter().any(|head| line.starts_with(head)) && !line.contains("(nd");
    all.iter().flat_map(|text| text.lines()).filter(of_others).map(|line| format!("{line}\n")).collect()
}

fn found(lab: &Lab) {
    let (default, _bus) = (default_server(), start_bus());
    let _resolved = Resolved::start(OUTSIDE4);
    let before = other_links();
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    lab.connected_to_new("net2", "db");
    let (web, db) = (lab.address("net1", "web")[0].to_string(), lab.address("net2", "db")[0].to_string());
    until_found("web.net1.internal", &web);
    until_found("db.net2.internal", &db);
    Dig::expect("host", "web.net1.internal", &[&web]);
    let reverse = resolvectl(&format!("query {web}")).ok().stdout;
    assert!(reverse.contains("web.net1.internal"), "{reverse}");
    let getent = lab.exec("host", "getent ahostsv4 db.net2.internal").ok().stdout;
    assert!(getent.starts_with(&db), "{getent}");

    assert_eq!(other_links(), before, "the host's own servers and domains");
    for bridge in ["nd-net1", "nd-net2"] {
        let default = resolvectl(&format!("default-route {bridge}")).ok().stdout;
        assert!(default.trim_end().ends_with(": no"), "{default}");
    }
    let foreign = Ipv4Addr::from(ANSWER).to_string();
    // A cloud's names lie below the default domain too.
    for name in ["www.example.com", "metadata.google.internal", "1.0.0.10.in-addr.arpa.example"] {
        assert_eq!(host_finds(name).as_ref(), Some(&foreign), "{name}");
    }
    let asked = default.asked();
    assert!(asked.iter().all(|name| !name.contains("net1") && !name.contains("net2")), "{asked:?}");

    lab.netd("disconnect net2 db").ok();
    lab.netd("network rm net2").ok();
    lab.stop_daemon();
    let status = resolvectl("status nd-net1").ok().stdout;
    assert!(!status.contains("DNS Servers") && !status.contains("DNS Domain"), "{status}");
    assert_eq!(host_finds("web.net1.internal"), Some(foreign), "like any external name");
}

fn came_again(lab: &Lab) {
    let (_default, _bus) = (default_server(), start_bus());
    let mut resolved = Resolved::start(OUTSIDE4);
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    let web = lab.address("net1", "web")[0].to_string();
    until_found("web.net1.internal", &web);
    resolved.restart();
    until_found("web.net1.internal", &web);
    run("ip -n host link delete nd-net1").ok();
    until_found("web.net1.internal", &web);
    lab.kill_daemon();
    lab.start_daemon();
    until_found("web.net1.internal", &web);
    let status = lab.netd("status --json").ok().json();
    assert_eq!(status["problems"].as_array().map(Vec::len), Some(0), "{status}");
}

fn no_loop(lab: &Lab) {
    let (default, _bus) = (default_server(), start_bus());
    let _resolved = Resolved::start(OUTSIDE4);
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string();
    until_found("web.net1.internal", &web);
    Dig::expect("client", "www.example.com", &[&Ipv4Addr::from(ANSWER).to_string()]);
    let zone = web.split('.').rev().skip(1).collect::<Vec<_>>().join(".");
    let nobody = format!("-x {}.200", web.rsplit_once('.').unwrap().0);
    for question in ["nobody.net1.internal", &nobody, &format!("lb._dns-sd._udp.0.{zone}.in-addr.arpa PTR")] {
        Dig::expect_none("client", question, "NXDOMAIN");
        Dig::expect_none("host", question, "NXDOMAIN");
    }
    let ours = |name: &&String| name.ends_with("net1.internal") || name.contains(&zone);
    let asked = default.asked();
    assert_eq!(asked.iter().find(ours), None, "{asked:?}");
    let of_ours = asked.iter().filter(|name| *name == "www.example.com").count();
    assert!((1..=2).contains(&of_ours), "asked once, or once more without EDNS: {asked:?}");
}

fn split_dns(lab: &Lab) {
    let (default, _bus) = (default_server(), start_bus());
    run("ip -n host link add tun0 type veth peer name tun0 netns outside").ok();
    for (ns, address) in [("host", "198.18.0.1/24"), ("outside", "198.18.0.2/24")] {
        run(&format!("ip -n {ns} address add {address} dev tun0")).ok();
        run(&format!("ip -n {ns} link set tun0 up")).ok();
    }
    let corp = Upstream::answering("outside", SocketAddr::from(([198, 18, 0, 2], 53)), CORP);
    let _resolved = Resolved::start(OUTSIDE4);
    for words in ["dns tun0 198.18.0.2", "domain tun0 ~corp", "default-route tun0 false"] {
        until("resolved knows the link", || resolvectl(words).succeeded());
    }
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    let inside = Ipv4Addr::from(CORP).to_string();
    until_found("x.corp", &inside);
    Dig::expect("web", "x.corp", &[&inside]);
    Dig::expect("web", "+tcp deep.x.corp", &[&inside]);
    Dig::expect("web", "www.example.com", &[&Ipv4Addr::from(ANSWER).to_string()]);
    let leaked: Vec<String> = default.asked().into_iter().filter(|name| name.ends_with("corp")).collect();
    assert!(leaked.is_empty(), "the default server was asked for {leaked:?}");
    let strange: Vec<String> = corp.asked().into_iter().filter(|name| !name.ends_with("corp")).collect();
    assert!(strange.is_empty(), "the server of corp was asked for {strange:?}");
    // The tunnel is removed: the next question uses the changed servers.
    run("ip -n host link delete tun0").ok();
    let outside = Ipv4Addr::from(ANSWER).to_string();
    until("the container follows", || is(Dig::ask("web", "y.corp").answers, &[outside.as_str()]));
}

fn index(ifname: &str) -> String {
    let links = ip_json("host", "link show");
    let link = links.iter().find(|link| link["ifname"] == ifname).expect("the link");
    link["ifindex"].to_string()
}

fn told_once(lab: &Lab) {
    let _bus = start_bus();
    let resolved = StandIn::start();
    start_daemon(lab);
    lab.netd("network create net1 --subnet 10.77.0.0/24 --subnet fd00:1::/64").ok();
    let net1 = index("nd-net1");
    let of_net1 = [
        "default-route false",
        "domains ~net1.internal ~0.77.10.in-addr.arpa ~0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
        "llmnr no",
        "mdns no",
        "dns-over-tls no",
        "dnssec no",
        "dns 10.77.0.1 fd00:1::1",
    ]
    .map(|call| format!("{net1} {call}"));
    until("net1 is configured", || is(calls(), &of_net1));
    lab.connected("net1", "web", "");
    lab.netd("network create net2 --subnet 10.77.4.0/23").ok();
    let net2 = index("nd-net2");
    let domains = format!("{net2} domains ~net2.internal ~4.77.10.in-addr.arpa ~5.77.10.in-addr.arpa");
    until("net2 is configured", || seen(calls(), |calls| calls.len() == 2 * of_net1.len()));
    assert!(calls()[..of_net1.len()] == of_net1 && calls().contains(&domains), "{:#?}", calls());
    lab.netd("network rm net2").ok();
    until("net2 is forgotten", || seen(calls(), |calls| calls.last() == Some(&format!("{net2} revert"))));

    drop(resolved);
    let _resolved = StandIn::start();
    until("the next one is configured", || is(calls(), &of_net1));
    lab.kill_daemon();
    lab.start_daemon();
    until("the next netd tells it", || is(calls(), &[&of_net1[..], &of_net1].concat()));
    lab.stop_daemon();
    assert_eq!(calls()[2 * of_net1.len()..], [format!("{net1} revert")], "netd reverts the settings at its end");
}

fn problems(lab: &Lab) -> Vec<String> {
    let status = lab.netd("status --json").ok().json();
    let problems = status["problems"].as_array().expect("an array").iter();
    problems.map(|problem| problem.as_str().expect("a line").to_owned()).collect()
}

fn no_bus(lab: &Lab) {
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    Dig::expect("web", "web", &[&lab.address("net1", "web")[0].to_string()]);
    let has = |part: &str| {
        seen(problems(lab), |problems| problems.iter().filter(|problem| problem.contains(part)).count() == 1)
    };
    until("netd reports it", || has("the host cannot resolve netd's names: the system bus: "));
    let bus = start_bus();
    until("netd reports it", || {
        has("the host cannot resolve netd's names: systemd-resolved is not on the system bus: ")
    });
    let resolved = StandIn::start();
    let told = || seen(calls(), |calls| calls.iter().any(|call| call.ends_with("dns 10.77.0.1")));
    until("resolved is configured", told);
    until("there are no problems", || is(problems(lab), &[""; 0]));
    drop((bus, resolved));
    until("netd reports it", || has("the host cannot resolve netd's names: the system bus: "));
    let _bus = start_bus();
    let _resolved = StandIn::start();
    until("resolved is configured again", told);
    let lines = lab.log().lines().filter(|line| line.contains("the host cannot resolve netd's names")).count();
    assert!(lines <= 5, "each problem is logged once:\n{}", lab.log());
}

fn elsewhere(lab: &Lab) {
    let _bus = start_bus();
    let _resolved = StandIn::start_elsewhere();
    start_daemon(lab);
    lab.connected_to_new("net1", "web");
    until("netd reports it", || {
        seen(problems(lab), |problems| problems.iter().any(|p| p.contains("another network namespace than netd")))
    });
    assert_eq!(calls(), [""; 0]);
}

fn opt_in(lab: &Lab) {
    let _bus = start_bus();
    let _resolved = StandIn::start();
    lab.start_daemon();
    lab.connected_to_new("net1", "web");
    lab.stop_daemon();
    assert_eq!(calls(), [""; 0]);
}
