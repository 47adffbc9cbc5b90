//! Firewalls of other programs: netd adapts chains that drop its networks' traffic, or reports them.

use std::fs;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::{contains, seen};
use serde_json::Value;

use crate::lab::command::{run_with_input, run_words};
use crate::lab::echo::{answers, expect_no_answer};
use crate::lab::{
    Dig, HOST4, HOST6, Lab, OUTSIDE4, OUTSIDE6, Proto, Server, ask, daemon, run, skippable, space, trial, until,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("foreign: a policy of DROP of iptables, both families, before netd", policies_of_iptables),
        skippable("foreign: a policy of DROP of iptables-legacy", policies_of_legacy),
        skippable(
            "foreign: netd's accept rule is at the end of DOCKER-USER, and opens no bridge of another engine",
            docker_user,
        ),
        trial("foreign: an nft chain with a final reject is adapted, its explicit rules are respected", chain_of_nft),
        trial("foreign: a network made right after another firewall has begun to drop works at once", at_once),
        trial("foreign: a removed accept rule is restored, and an unneeded one removed", lost_and_needless),
        trial("foreign: with report, netd changes nothing, and status and port name the chain", report),
        trial("foreign: a rule that names netd's bridge is respected and reported", meant),
        trial("foreign: netd stops restoring an accept rule that another program keeps removing", again_and_again),
        trial("foreign: DNS queries are accepted at the gateway", names),
        skippable("foreign: frames within a bridge that pass iptables", within),
    ]
}

/// net1 with `web` that is published on port 4000, and a server outside.
struct World {
    _servers: Vec<Server>,
}

impl World {
    fn new(lab: &Lab) -> Self {
        lab.netd("network create net1 --ipv6").ok();
        lab.connected("net1", "web", "-p 4000:80");
        Self { _servers: vec![Server::start("web", "web", 80), Server::start("outside", "outside", 9000)] }
    }
}

/// Asserts that published ports work from outside and inside, and outgoing connections.
#[track_caller]
fn all_works() {
    for proto in [Proto::Tcp, Proto::Udp] {
        if proto == Proto::Tcp {
            assert_eq!(ask("outside", proto, (HOST4, 4000)).who, "web");
            assert_eq!(ask("outside", proto, (HOST6, 4000)).who, "web");
            assert_eq!(ask("web", proto, (HOST4, 4000)).who, "web");
        }
        assert_eq!(ask("web", proto, (OUTSIDE4, 9000)).who, "outside");
        assert_eq!(ask("web", proto, (OUTSIDE6, 9000)).who, "outside");
    }
}

fn works_at_last() {
    until("the published port answers", || answers("outside", Proto::Tcp, (HOST4, 4000)));
    all_works();
}

fn nft(script: &str) {
    run_with_input(&["ip", "netns", "exec", "host", "nft", "-f", "-"], script).ok();
}

fn host(line: &str) -> String {
    run(&format!("ip netns exec host {line}")).ok().stdout
}

fn status(lab: &Lab) -> Value {
    lab.netd("status --json").ok().json()
}

/// "adapted ip filter FORWARD", sorted.
fn firewall(lab: &Lab) -> Vec<String> {
    let status = status(lab);
    let text = |chain: &Value, key: &str| chain[key].as_str().unwrap_or("-").to_owned();
    let line = |chain: &Value| ["action", "family", "table", "chain"].map(|key| text(chain, key)).join(" ");
    let mut lines: Vec<String> = status["firewall"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

/// Waits until no other table contains rules of netd.
#[track_caller]
fn nothing_left() {
    let left = || {
        let all = host("nft list ruleset") + &run("ip netns exec host iptables-legacy-save").stdout;
        let other =
            all.lines().filter(|line| line.contains("netd: ") || line.contains("NETD-") || line.contains("netd_"));
        other.map(str::to_owned).collect::<Vec<_>>()
    };
    until("other tables contain no rules of netd", || seen(left(), Vec::is_empty));
}

fn at_once(lab: &Lab) {
    lab.start_daemon();
    // The host's firewalls have been read.
    lab.netd("network create before").ok();
    nft("table inet theirs { chain forward { type filter hook forward priority filter; policy drop; }; }");
    lab.netd("network create net1").ok();
    let chain = host("nft list chain inet theirs forward");
    assert!(chain.contains("jump netd_"), "when the network is acknowledged: {chain}");
    assert_eq!(firewall(lab), ["adapted inet theirs forward"]);
}

fn has(tool: &str) -> Result<(), Completion> {
    let works = run(&format!("ip netns exec outside {tool} -S FORWARD")).code == Some(0);
    if works { Ok(()) } else { Err(Completion::ignored_with(format!("{tool} does not work here"))) }
}

fn policies(lab: &Lab, tools: [&str; 2]) -> Result<(), Completion> {
    tools.into_iter().try_for_each(has)?;
    for tool in tools {
        host(&format!("{tool} -P FORWARD DROP"));
    }
    lab.start_daemon();
    let _world = World::new(lab);
    all_works();
    assert_eq!(firewall(lab), ["adapted ip filter FORWARD", "adapted ip6 filter FORWARD"]);
    assert_eq!(status(lab)["problems"], serde_json::json!([]));
    // Unpublished ports stay closed.
    run(&format!("ip -n outside route add 10.77.0.0/16 via {HOST4}")).ok();
    expect_no_answer("outside", Proto::Tcp, (lab.address("net1", "web")[0], 80));
    lab.kill_daemon();
    all_works();
    lab.start_daemon();
    all_works();
    lab.netd("network create net2").ok();
    lab.connected("net2", "second", "");
    assert_eq!(ask("second", Proto::Tcp, (OUTSIDE4, 9000)).who, "outside");
    lab.netd("disconnect net1 web").ok();
    lab.netd("disconnect net2 second").ok();
    lab.netd("network rm net1").ok();
    lab.netd("network rm net2").ok();
    nothing_left();
    for tool in tools {
        assert!(host(&format!("{tool} -S FORWARD")).contains("-P FORWARD DROP"), "netd does not change the policy");
    }
    Ok(())
}

fn policies_of_iptables(lab: &Lab) -> Completion {
    policies(lab, ["iptables-nft", "ip6tables-nft"]).err().unwrap_or(Completion::Completed)
}

fn policies_of_legacy(lab: &Lab) -> Completion {
    policies(lab, ["iptables-legacy", "ip6tables-legacy"]).err().unwrap_or(Completion::Completed)
}

/// A container of another engine, on its bridge `docker0`, with a server.
fn other_engine() -> Server {
    run("ip netns add theirs").ok();
    let commands = "link add docker0 type bridge\naddress add 172.17.0.1/16 dev docker0\nlink set docker0 up\n\
        link add theirs type veth peer name eth0 netns theirs\nlink set theirs master docker0 up\n";
    crate::lab::command::ip_batch("host", commands);
    crate::lab::command::ip_batch(
        "theirs",
        "link set lo up\nlink set eth0 up\naddress add 172.17.0.2/16 dev eth0\nroute add default via 172.17.0.1\n",
    );
    Server::start("theirs", "theirs", 80)
}

/// The rules of Docker 20.10.
const DOCKER: &[&str] = &[
    "-N DOCKER",
    "-N DOCKER-ISOLATION-STAGE-1",
    "-N DOCKER-ISOLATION-STAGE-2",
    "-N DOCKER-USER",
    "-A DOCKER-USER -j RETURN",
    "-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
    "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
    "-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
    "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
    "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A FORWARD -o docker0 -j DOCKER",
    "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
    "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
    "-P FORWARD DROP",
];

fn docker_user(lab: &Lab) -> Completion {
    if let Err(skipped) = has("iptables-nft") {
        return skipped;
    }
    lab.start_daemon();
    let _world = World::new(lab);
    let _theirs = other_engine();
    for rule in DOCKER {
        host(&format!("iptables-nft {rule}"));
    }
    works_at_last();
    until("the accept rule is in DOCKER-USER", || {
        let user = host("iptables-nft -S DOCKER-USER");
        seen(user, |user| {
            let rules: Vec<&str> = user.lines().skip(1).collect();
            matches!(rules.as_slice(), [ours, last] if ours.contains("netd: ") && last.ends_with("-j RETURN"))
        })
    });
    assert!(!host("iptables-nft -S FORWARD").contains("netd"), "the accept rule is also in FORWARD");
    let web = lab.address("net1", "web")[0];
    expect_no_answer("web", Proto::Tcp, ("172.17.0.2", 80));
    expect_no_answer("theirs", Proto::Tcp, (web, 80));
    assert_eq!(
        ask("theirs", Proto::Tcp, (HOST4, 4000)).who,
        "web",
        "a published port is reachable from other engines' containers"
    );
    // The user's own rule wins.
    host("iptables-nft -I DOCKER-USER -i uplink -p tcp -m conntrack --ctorigdstport 4000 -j DROP");
    expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    Completion::Completed
}

const REJECTS: &str = "table inet fw {\n\tchain own {\n\t\tct state established,related accept\n\t\ttcp dport 81 drop\n\
    \t\treject with icmpx admin-prohibited\n\t}\n\tchain f {\n\t\ttype filter hook forward priority 10; policy accept;\n\
    \t\ttcp dport 82 drop\n\t\tgoto own\n\t}\n}\n";

fn chain_of_nft(lab: &Lab) {
    nft(REJECTS);
    lab.start_daemon();
    let _world = World::new(lab);
    let _more = [Server::start("outside", "outside", 82)];
    all_works();
    assert_eq!(firewall(lab), ["adapted inet fw f"]);
    expect_no_answer("web", Proto::Tcp, (OUTSIDE4, 82));
    let reason = status(lab)["firewall"][0]["reason"].as_str().unwrap().to_owned();
    let handle = reason.strip_prefix("reject with handle ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let rules = host("nft -a list chain inet fw own");
    assert!(
        rules.contains(&format!("reject # handle {handle}"))
            || rules.contains(&format!("admin-prohibited # handle {handle}")),
        "{reason}: {rules}"
    );
    nft("delete table inet fw\n");
    until("nothing needs adapting", || seen(firewall(lab), Vec::is_empty));
    all_works();
}

fn lost_and_needless(lab: &Lab) {
    lab.start_daemon();
    let _world = World::new(lab);
    nft(REJECTS);
    works_at_last();
    assert_eq!(firewall(lab), ["adapted inet fw f"]);
    nft(&format!("flush table inet fw\n{REJECTS}"));
    works_at_last();
    until("netd logs it", || contains(lab.log(), "netd's accept rule in table inet fw at hook forward was missing"));
    let events = lab.log();
    assert!(events.contains("chain f of table inet fw (reject with handle"), "{events}");
    nft("flush chain inet fw own\n");
    until("nothing needs adapting", || seen(firewall(lab), Vec::is_empty));
    nothing_left();
    all_works();
}

fn report_only() {
    fs::write(daemon::CONFIG, "[firewall]\nforeign = \"report\"\n").expect("a configuration");
}

fn report(lab: &Lab) {
    nft(REJECTS);
    lab.start_daemon();
    let _world = World::new(lab);
    all_works();
    lab.stop_daemon();
    report_only();
    lab.start_daemon();
    nothing_left();
    expect_no_answer("outside", Proto::Tcp, (HOST4, 4000));
    assert_eq!(firewall(lab), ["reported inet fw f"]);
    let problems = status(lab)["problems"].to_string();
    for word in ["chain f of table inet fw", "reject with handle", "in chain own", "net1", "published", "report"] {
        assert!(problems.contains(word), "{word} is missing in {problems}");
    }
    let port = lab.netd("port web").ok().stdout;
    assert!(port.contains("this host only: chain f of table inet fw") && !port.contains("every host"), "{port}");
    assert_eq!(ask("host", Proto::Tcp, ("127.0.0.1", 4000)).who, "web");
    nft("delete table inet fw\n");
    until("the port is reachable again", || {
        contains(lab.netd("port web").ok().stdout, "every host that reaches this one")
    });
    assert_eq!(status(lab)["problems"], serde_json::json!([]));
}

fn meant(lab: &Lab) {
    nft(
        "table inet fw { chain f { type filter hook forward priority 10; policy accept; iifname \"nd-net1\" drop; }; }\n",
    );
    lab.start_daemon();
    let _world = World::new(lab);
    expect_no_answer("web", Proto::Tcp, (OUTSIDE4, 9000));
    assert_eq!(firewall(lab), ["reported inet fw f"]);
    assert!(status(lab)["problems"].to_string().contains("drop with handle"));
    nothing_left();
}

fn again_and_again(lab: &Lab) {
    nft(REJECTS);
    lab.start_daemon();
    let _world = World::new(lab);
    let mut tries = 0;
    while !status(lab)["problems"].to_string().contains("keeps removing netd's accept rule") {
        assert!(tries < 20, "netd does not give up");
        tries += 1;
        let before = lab.log().matches("netd's accept rule in table inet fw at hook forward was missing").count();
        nft(&format!("flush table inet fw\n{REJECTS}"));
        until("the rule is restored, or netd gives up", || {
            let after = lab.log().matches("netd's accept rule in table inet fw at hook forward was missing").count();
            let problems = status(lab)["problems"].to_string();
            let gives_up = problems.contains("keeps removing netd's accept rule");
            seen((after, problems), |(after, _)| *after > before || gives_up)
        });
    }
    assert!(tries > 1, "netd restored it at first");
    assert_eq!(firewall(lab), ["reported inet fw f"]);
}

fn names(lab: &Lab) {
    nft("table inet closed { chain input { type filter hook input priority 0; policy drop; iifname lo accept\n\
        ct state established,related accept; }; }\n");
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.connected("net1", "web", "");
    lab.connected("net1", "client", "");
    let web = lab.address("net1", "web")[0].to_string();
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().to_owned();
    for how in ["+notcp", "+tcp"] {
        Dig::expect("client", &format!("{how} web"), &[&web]);
        Dig::expect("client", &format!("{how} @{gateway} web"), &[&web]);
    }
    let resolv_conf = fs::read_to_string("/etc/netns/client/resolv.conf").unwrap();
    assert!(resolv_conf.contains(&format!("nameserver {gateway}")), "{resolv_conf}");
    assert_eq!(firewall(lab), ["adapted inet closed input"]);
    let _server = Server::start("host", "host", 8080);
    expect_no_answer("client", Proto::Tcp, (&gateway, 8080));
    lab.netd("disconnect net1 web").ok();
    lab.netd("disconnect net1 client").ok();
    lab.netd("network rm net1").ok();
    nothing_left();
}

fn within(lab: &Lab) -> Completion {
    // The setting exists once a rule has loaded the module.
    let words =
        ["ip", "netns", "exec", "host", "iptables-nft", "-A", "FORWARD", "-m", "physdev", "--physdev-is-bridged"];
    run_words(&words);
    if let Err(why) = space::bridge_netfilter("1") {
        return Completion::ignored_with(why);
    }
    lab.start_daemon();
    lab.netd("network create quiet --internal").ok();
    lab.connected("quiet", "one", "");
    lab.connected("quiet", "two", "");
    let _server = Server::start("two", "two", 80);
    let two = lab.address("quiet", "two")[0];
    assert_eq!(ask("one", Proto::Tcp, (two, 80)).who, "two");
    nft("table ip fw { chain f { type filter hook forward priority 10; policy drop; }; }\n");
    until("they reach each other again", || answers("one", Proto::Tcp, (two, 80)));
    assert_eq!(firewall(lab), ["adapted ip fw f"]);
    assert_eq!(status(lab)["firewall"][0]["traffic"], serde_json::json!(["within"]));
    Completion::Completed
}
