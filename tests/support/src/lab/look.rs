//! Observation with other programs: `ip -j`, `nft` and `dig`.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use super::command::run;
use super::space;
use crate::wait::within;

/// `ip -j` in a namespace.
#[track_caller]
pub fn ip_json(ns: &str, words: &str) -> Vec<serde_json::Value> {
    let out = run(&format!("ip -n {ns} -j {words}")).ok();
    if out.stdout.trim().is_empty() { Vec::new() } else { out.json().as_array().expect("an array").clone() }
}

/// Names of the interfaces in a namespace, without those from which netd asks for a moment.
pub fn links(ns: &str) -> Vec<String> {
    let names = ip_json(ns, "link show");
    let names = names.iter().map(|link| link["ifname"].as_str().expect("a name").to_owned());
    names.filter(|name| !name.starts_with("ndp-")).collect()
}

/// The global addresses of an interface; none when there is no such interface.
pub fn addresses(ns: &str, ifname: &str) -> Vec<IpAddr> {
    let all = ip_json(ns, "address show");
    let link = all.iter().find(|link| link["ifname"] == ifname);
    let addresses = link.and_then(|link| link["addr_info"].as_array().cloned()).unwrap_or_default();
    let global = addresses.iter().filter(|address| address["scope"] == "global");
    global.map(|address| address["local"].as_str().expect("text").parse().expect("an address")).collect()
}

/// The default routes of a namespace: (gateway, interface), IPv4 or IPv6.
pub fn default_routes(ns: &str, family: u8) -> Vec<(String, String)> {
    let text = |route: &serde_json::Value, key: &str| route[key].as_str().unwrap_or_default().to_owned();
    let routes = ip_json(ns, &format!("-{family} route show default"));
    routes.iter().map(|route| (text(route, "gateway"), text(route, "dev"))).collect()
}

/// The host's whole ruleset without counters, in the order of the tables' names: nft lists them in the order in which
/// they were made.
pub fn ruleset() -> String {
    let tables = run("ip netns exec host nft list tables").ok().stdout;
    let mut tables: Vec<&str> = tables.lines().collect();
    tables.sort();
    // A table that is deleted meanwhile has no rules.
    tables.into_iter().map(|table| run(&format!("ip netns exec host nft -s list {table}")).stdout).collect()
}

/// The elements of netd's sets and maps, in nft's JSON, as text.
pub fn elements() -> String {
    let objects = run("ip netns exec host nft -j list ruleset").ok().json();
    let objects = objects["nftables"].as_array().expect("an array").clone();
    let sets = objects.iter().flat_map(|object| [&object["set"], &object["map"]]).filter(|set| set["table"] == "netd");
    let mut lines: Vec<String> = sets.map(|set| format!("{} {}\n", set["name"], set["elem"])).collect();
    lines.sort();
    lines.concat()
}

/// Those of published ports only: random addresses and numbers in the others may contain any digits.
pub fn published() -> String {
    elements().lines().filter(|line| line.starts_with("\"publish")).collect::<Vec<_>>().join("\n")
}

/// Returns when what is looked at is as before; fails, showing the lines that differ, when it is not within twenty seconds.
#[track_caller]
pub fn until_same(what: &str, before: &str, mut look: impl FnMut() -> String) {
    let mut now = String::new();
    let is_same = || {
        now = look();
        (now == before).then_some(())
    };
    if within(Duration::from_secs(20), is_same).is_err() {
        same(&format!("({what})\n{before}"), &now);
    }
}

/// Fails, showing the lines that differ, unless the two texts have the same lines, in any order.
#[track_caller]
pub fn same(before: &str, after: &str) {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let only = |one: &str, other: &str, sign: &str| -> String {
        let there: std::collections::HashSet<&str> = other.lines().collect();
        one.lines().filter(|line| !there.contains(line)).map(|line| format!("{sign} {line}\n")).collect()
    };
    assert!(sorted(before) == sorted(after), "changed:\n{}{}", only(before, after, "-"), only(after, before, "+"));
}

/// A dump without the count of changes since the daemon started.
pub fn without_revision(dump: &str) -> String {
    dump.lines().filter(|line| !line.starts_with("revision")).map(|line| format!("{line}\n")).collect()
}

/// Rules, and the links, addresses, routes and forwarding of all namespaces, and netd's files for them.
pub fn everything() -> String {
    let mut text = ruleset();
    let mut names: Vec<String> = fs::read_dir("/run/netns").expect("namespaces").map(name_of).collect();
    names.sort();
    for ns in names {
        for link in ip_json(&ns, "address show") {
            let addresses: Vec<String> = link["addr_info"].as_array().map_or_else(Vec::new, |all| {
                // The kernel makes link-local ones by itself, some time after the link is up.
                let global = all.iter().filter(|address| address["scope"] == "global");
                global.map(|address| format!("{}/{}", address["local"], address["prefixlen"])).collect()
            });
            let (name, master, mtu) = (&link["ifname"], &link["master"], &link["mtu"]);
            // netd asks a gateway, for some milliseconds. `netd diff` shows one that stays.
            if name.as_str().is_some_and(|name| name.starts_with("ndp-")) {
                continue;
            }
            text += &format!("{ns}: {name} {master} {mtu} {} {addresses:?}\n", link["address"]);
        }
        for family in [4, 6] {
            let routes = run(&format!("ip -n {ns} -{family} route show table all")).ok().stdout;
            let by_themselves = |line: &&str| line.contains("fe80::") || line.contains("ff00::/8");
            let routes = routes.lines().filter(|line| !by_themselves(line));
            routes.for_each(|line| text += &format!("{ns}: {}\n", line.replace(" linkdown", "")));
        }
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            text += &format!("{ns}: {key} = {:?}\n", space::setting(&ns, key));
        }
    }
    let mut files: Vec<String> = fs::read_dir("/etc/netns").expect("/etc/netns").map(name_of).collect();
    files.sort();
    text + &format!("{files:?}\n")
}

fn name_of(entry: std::io::Result<fs::DirEntry>) -> String {
    entry.expect("an entry").file_name().to_string_lossy().into_owned()
}

/// The reply that `dig` got.
#[derive(Debug, Clone)]
pub struct Dig {
    /// "NOERROR", "NXDOMAIN", …; empty when there was no reply.
    pub status: String,
    /// The data of the answer section.
    pub answers: Vec<String>,
    /// The owner names and types of the authority section.
    pub authority: Vec<String>,
    /// Its whole output.
    pub text: String,
}

impl Dig {
    /// Asks the name server in the container's own resolv.conf.
    pub fn ask(container: &str, words: &str) -> Self {
        let line = format!("ip netns exec {container} dig +tries=1 +time=3 {words}");
        let text = run(&line).stdout;
        let status = text.split_once("status: ").and_then(|(_, rest)| rest.split(',').next()).unwrap_or_default();
        let section = |name: &str| {
            let start = text.split_once(&format!(";; {name} SECTION:\n")).map_or("", |(_, rest)| rest);
            start.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let data = |line: &String| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        Self {
            status: status.to_owned(),
            answers: section("ANSWER").iter().map(data).collect(),
            authority: section("AUTHORITY"),
            text: text.clone(),
        }
    }

    /// Fails unless the answer is exactly this, in any order.
    #[track_caller]
    pub fn expect(container: &str, words: &str, answers: &[&str]) {
        let mut dig = Self::ask(container, words);
        dig.answers.sort();
        let mut expected = answers.to_vec();
        expected.sort_unstable();
        assert!(dig.status == "NOERROR" && dig.answers == expected, "{container}: dig {words}: {}", dig.text);
    }

    /// Fails unless the status is this one and there is no answer.
    #[track_caller]
    pub fn expect_none(container: &str, words: &str, status: &str) {
        let dig = Self::ask(container, words);
        assert!(dig.status == status && dig.answers.is_empty(), "{container}: dig {words}: {}", dig.text);
    }
}
