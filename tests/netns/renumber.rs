//! `netd network renumber`: a network leaves subnets that a VPN uses, with its containers, names, ports and services.

use std::net::IpAddr;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, is, lacks};

use crate::lab::echo::answers;
use crate::lab::{self, Lab, Proto, Server, run, trial, until, until_within};

/// netd looks at the host every 10 s.
const A_LOOK: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("renumber: out of the way of a VPN, with names, ports and services", out_of_the_way),
        trial("renumber: what others keep a record of is refused, and nothing changes", refused),
    ]
}

fn addresses(ns: &str) -> Vec<String> {
    let shown = run(&format!("ip -n {ns} -j address show scope global")).ok().json();
    let infos =
        shown.as_array().into_iter().flatten().flat_map(|link| link["addr_info"].as_array().into_iter().flatten());
    let text =
        |info: &serde_json::Value| format!("{}/{}", info["local"].as_str().unwrap_or_default(), info["prefixlen"]);
    infos.filter(|info| info["local"].is_string()).map(text).collect()
}

fn of_bridge() -> Vec<String> {
    let shown = run("ip -n host -j address show dev nd-net1 scope global").ok().json();
    let infos = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    infos.iter().map(|info| info["local"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A network with containers, a published port, a second network, and a service with a virtual address.
fn world(lab: &Lab) -> Server {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.1.0/24 --ipv6 --subnet fd00:77::/64").ok();
    lab.netd("network create net2 --subnet 10.79.0.0/24").ok();
    lab.connected("net1", "web", "-p 4000:80 --ip 10.77.1.9");
    lab.connected("net1", "api", "");
    lab.netd("connect net2 api").ok();
    lab.netd("service create front --network net1 --mode vip --member web -p 4001:80").ok();
    Server::start("web", "web", 80)
}

/// Everything that a user has of these: names, addresses, ports.
fn works(lab: &Lab, web: &str, old: &str) {
    let resolved = |name: &str| lab.netd(&format!("resolve {name} --from api")).ok().stdout;
    assert!(resolved("web").contains(web), "{}", resolved("web"));
    let vip: IpAddr = lab.netd("service inspect front --json").ok().json()[0]["networks"][0]["addresses"][0]
        .as_str()
        .and_then(|address| address.parse().ok())
        .expect("a virtual address");
    assert!(!vip.to_string().starts_with(old), "the service is at {vip}");
    let asked = |from: &str, to: (&str, u16)| answers(from, Proto::Tcp, to).map(|reply| reply.who);
    for (from, to) in [
        ("api", (web, 80)),
        ("api", (&*vip.to_string(), 80)),
        ("outside", (lab::HOST4, 4000)),
        ("outside", (lab::HOST4, 4001)),
        ("host", ("127.0.0.1", 4000)),
    ] {
        until(&format!("{from} reaches {to:?}"), || is(asked(from, to), &Some("web".to_owned())));
    }
    for ns in ["web", "api", "host"] {
        let left: Vec<String> = addresses(ns).into_iter().filter(|address| address.starts_with(old)).collect();
        assert_eq!(left, Vec::<String>::new(), "former addresses in {ns}");
    }
    let routes = run("ip -n host route").ok().stdout;
    assert!(!routes.lines().any(|route| route.starts_with(old) && route.contains("nd-net1")), "{routes}");
    let dns = run("ip netns exec api nslookup web").ok().stdout;
    assert!(dns.contains(web), "{dns}");
    assert_eq!(lab.diff(), "");
}

fn out_of_the_way(lab: &Lab) {
    let _server = world(lab);
    let before = lab.netd("network renumber net1");
    assert!(before.stderr.contains("no route and no address of the host overlaps"), "{}", before.stderr);
    run("ip -n host link add tun0 type veth peer name tun1").ok();
    run("ip -n host link set tun0 up").ok();
    run("ip -n host route add 10.77.0.0/16 dev tun0 metric 5").ok();
    let problems = || lab.netd("status --json").ok().json()["problems"].to_string();
    until_within(A_LOOK, "it is reported", || contains(problems(), "netd network renumber"));
    lab.netd("network renumber net1").ok();
    {
        let subnet = lab.netd("network inspect net1 --json").ok().json()[0]["subnets"][0]["subnet"].clone();
        let subnet = subnet.as_str().expect("a subnet").to_owned();
        let web = subnet.replace(".0/24", ".9");
        assert!(!subnet.starts_with("10.77.") && addresses("web").contains(&format!("{web}/24")), "{subnet}");
        works(lab, &web, "10.77.");
    }
    until_within(A_LOOK, "the problem is over", || lacks(problems(), "overlaps"));
    // Where the user wants it; the other family stays.
    lab.netd("network renumber net1 --subnet 10.201.3.0/24").ok();
    assert_eq!(of_bridge()[..1], ["10.201.3.1".to_owned()]);
    assert!(addresses("web").iter().any(|address| address.starts_with("fd00:77::")), "{:?}", addresses("web"));
    works(lab, "10.201.3.9", "10.202.");
    lab.connected("net1", "later", "");
    assert!(addresses("later").iter().any(|address| address.starts_with("10.201.3.")), "{:?}", addresses("later"));
    lab.stop_daemon();
    lab.start_daemon();
    works(lab, "10.201.3.9", "10.77.");
}

fn refused(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.77.1.0/24").ok();
    lab.netd("network create net2 --subnet 10.79.0.0/24").ok();
    lab.netd("network create none --driver none").ok();
    lab.connected("net1", "web", "");
    let before = lab.netd("network inspect net1 --json").ok().stdout;
    for (words, said) in [
        ("net1 --subnet 10.79.0.0/24", "overlaps with network net2"),
        ("net1 --subnet 10.78.0.0/16", "every address keeps its place"),
        ("net1 --subnet 10.78.0.0/24 --subnet 10.80.0.0/24", "fits none of its subnets"),
        ("net1 --subnet fd00::/64", "fits none of its subnets"),
        ("net1 --subnet here", "subnet"),
        ("none --subnet 10.78.0.0/24", "not netd's to choose"),
        ("net9", "no network"),
    ] {
        let refused = lab.netd(&format!("network renumber {words}"));
        assert!(refused.code != Some(0) && refused.stderr.contains(said), "{words}: {}", refused.stderr);
    }
    assert_eq!(lab.netd("network inspect net1 --json").ok().stdout, before);
    assert_eq!(lab.diff(), "");
}
