//! The invariants, with the eyes of foreign programs: what was acknowledged is there, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::command::run_words;
use crate::lab::{HOST4, Proto, echo, run, space};
use crate::world::{CONTAINERS, NETWORKS, World, inside, text};

/// How long everything may take to be right: a look every 10 s, and another one for what it made possible.
const PATIENCE: Duration = Duration::from_secs(25);
/// What a daemon needs at most, idle, and for a network and an endpoint each.
const DESCRIPTORS: (usize, usize) = (96, 64);
const THREADS: usize = 64;

/// What differs.
pub(crate) enum Difference {
    Lost(String),
    Leaked(String),
}

/// Returns once all is right; otherwise counts what is lost and leaked, and fails.
pub(crate) fn settled(world: &mut World<'_>) {
    let start = Instant::now();
    loop {
        let found = differences(world);
        if found.is_empty() {
            return;
        }
        if start.elapsed() > PATIENCE {
            world.tally.lost += found.iter().filter(|one| matches!(one, Difference::Lost(_))).count();
            world.tally.leaked += found.iter().filter(|one| matches!(one, Difference::Leaked(_))).count();
            let lines = found.iter().map(|one| match one {
                Difference::Lost(text) => format!("lost: {text}\n"),
                Difference::Leaked(text) => format!("leaked: {text}\n"),
            });
            panic!("step {} ({}), after {PATIENCE:?}:\n{}", world.step, world.doing, lines.collect::<String>());
        }
    }
}

fn differences(world: &World<'_>) -> Vec<Difference> {
    let mut found = Vec::new();
    api(world, &mut found);
    host(world, &mut found);
    for (name, guest) in &world.guests {
        container(world, name, &guest.path, &mut found);
    }
    elements(world, &mut found);
    guard(world, &mut found);
    files(world, &mut found);
    ports(world, &mut found);
    names(world, &mut found);
    daemon(world, &mut found);
    found
}

/// Both ways between two sets.
fn compare<T: Ord + std::fmt::Debug>(
    what: &str,
    wanted: &BTreeSet<T>,
    there: &BTreeSet<T>,
    found: &mut Vec<Difference>,
) {
    found.extend(wanted.difference(there).map(|one| Difference::Lost(format!("{what}: {one:?}"))));
    found.extend(there.difference(wanted).map(|one| Difference::Leaked(format!("{what}: {one:?}"))));
}

/// netd's own view: networks, endpoints, no problem, no difference.
fn api(world: &World<'_>, found: &mut Vec<Difference>) {
    let (nets, ends) = world.shown();
    compare("network in the API", &world.nets.keys().collect(), &nets.keys().collect(), found);
    compare("endpoint in the API", &world.ends.keys().collect(), &ends.keys().collect(), found);
    for (pair, end) in &world.ends {
        if ends.get(pair).is_some_and(|shown| shown != end) {
            found.push(Difference::Lost(format!("endpoint {pair:?} was {end:?} and is {:?}", ends[pair])));
        }
    }
    let diff = world.lab.netd("diff");
    if diff.code != Some(0) || !diff.stdout.is_empty() {
        found.push(Difference::Lost(format!("netd diff: {}{}", diff.stdout, diff.stderr)));
    }
    let status = world.lab.netd("status --json").ok().json();
    if status["ready"] != true || status["problems"] != serde_json::json!([]) {
        found.push(Difference::Lost(format!("netd status: {status}")));
    }
}

/// `ip -j address show`, by interface.
fn links(shown: &str) -> BTreeMap<String, Value> {
    let all: Vec<Value> = serde_json::from_str(shown).unwrap_or_default();
    all.into_iter().map(|link| (text(&link["ifname"]), link)).collect()
}

fn global(link: &Value) -> BTreeSet<String> {
    let all = link["addr_info"].as_array().cloned().unwrap_or_default();
    let global = all.iter().filter(|one| one["scope"] == "global");
    global.map(|one| format!("{}/{}", text(&one["local"]), one["prefixlen"])).collect()
}

fn is_up(link: &Value) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()))
}

fn host(world: &World<'_>, found: &mut Vec<Difference>) {
    let links = links(&run("ip -n host -j address show").ok().stdout);
    let mut wanted: BTreeSet<String> = ["lo".to_owned(), "uplink".to_owned()].into();
    for (name, net) in &world.nets {
        wanted.insert(net.bridge.clone());
        let Some(link) = links.get(&net.bridge) else { continue };
        let there: BTreeSet<String> = global(link).iter().map(|one| without_length(one)).collect();
        compare(&format!("address of the bridge of {name}"), &net.gateways, &there, found);
        if !is_up(link) {
            found.push(Difference::Lost(format!("the bridge of {name} is down")));
        }
    }
    for ((net, container), end) in &world.ends {
        wanted.insert(end.host_ifname.clone());
        let Some(link) = links.get(&end.host_ifname) else { continue };
        if link["master"] != world.nets[net].bridge || !is_up(link) {
            found.push(Difference::Lost(format!("{container} on {net}: {link}")));
        }
    }
    compare("interface of the host", &wanted, &links.keys().cloned().collect(), found);
}

fn without_length(address: &str) -> String {
    address.split('/').next().unwrap_or_default().to_owned()
}

fn container(world: &World<'_>, name: &str, path: &str, found: &mut Vec<Difference>) {
    let links = links(&inside(path, &["ip", "-j", "address", "show"]).ok().stdout);
    let ends = world.ends_of(name);
    let mut wanted: BTreeSet<String> = ends.iter().map(|(_, end)| end.ifname.clone()).collect();
    wanted.insert("lo".to_owned());
    compare(&format!("interface of {name}"), &wanted, &links.keys().cloned().collect(), found);
    for (_, end) in &ends {
        let Some(link) = links.get(&end.ifname) else { continue };
        compare(&format!("address of {} of {name}", end.ifname), &end.addresses, &global(link), found);
        if link["address"] != end.mac.as_str() || !is_up(link) {
            found.push(Difference::Lost(format!("{name}: {} with {} is {link}", end.ifname, end.mac)));
        }
    }
    for family in ["-4", "-6"] {
        let of_family = |address: &&String| address.contains(':') == (family == "-6");
        let open = ends.iter().filter(|(net, _)| !net.internal);
        let gateways: BTreeSet<&String> = open.flat_map(|(net, _)| net.gateways.iter().filter(of_family)).collect();
        let shown = inside(path, &["ip", family, "-j", "route", "show", "default"]).ok().stdout;
        let routes: Vec<Value> = serde_json::from_str(&shown).unwrap_or_default();
        let via: BTreeSet<String> =
            routes.iter().map(|route| route["gateway"].as_str().unwrap_or("-").to_owned()).collect();
        if via.is_empty() != gateways.is_empty() {
            found.push(Difference::Lost(format!("{name}: default routes {family} are {via:?} of {gateways:?}")));
        }
        let strange = via.iter().filter(|gateway| !gateways.contains(gateway));
        found.extend(strange.map(|gateway| Difference::Leaked(format!("{name}: default route via {gateway}"))));
    }
}

/// The sets and maps of `table inet netd`: the bridges and published ports exactly, and in all the others no interface,
/// address or subnet that is nobody's.
fn elements(world: &World<'_>, found: &mut Vec<Difference>) {
    let out = run("ip netns exec host nft -j list table inet netd");
    let Ok(objects) = serde_json::from_str::<Value>(&out.stdout) else {
        return found.push(Difference::Lost(format!("table inet netd: {}", out.stderr)));
    };
    let objects = objects["nftables"].as_array().cloned().unwrap_or_default();
    let sets = objects.iter().flat_map(|object| [&object["set"], &object["map"]]).filter(|set| !set.is_null());
    let sets: BTreeMap<String, Value> = sets.map(|set| (text(&set["name"]), set["elem"].clone())).collect();
    let of = |name: &str| sets.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let bridges: BTreeSet<String> = world.nets.values().map(|net| net.bridge.clone()).collect();
    compare("element of the set bridges", &bridges, &of("bridges").iter().map(text).collect(), found);
    let port =
        |element: &Value| element[0]["concat"][1].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    let wanted: BTreeSet<u16> = world.ends.values().flat_map(|end| end.ports.clone()).collect();
    for map in ["publish4", "publish4_port"] {
        compare(&format!("element of the map {map}"), &wanted, &of(map).iter().map(port).collect(), found);
    }
    let mut known: BTreeSet<String> = bridges;
    known.extend(world.nets.values().flat_map(|net| net.gateways.iter().chain(&net.subnets).cloned()));
    known.extend(world.ends.values().flat_map(|end| end.addresses.iter().map(|one| without_length(one))));
    for (set, element) in &sets {
        let mut words = BTreeSet::new();
        words_of(element, &mut words);
        let of_somebody = |word: &&String| word.starts_with("nd-") || without_length(word).parse::<IpAddr>().is_ok();
        let strange = words.iter().filter(of_somebody).filter(|word| !known.contains(*word));
        found.extend(strange.map(|word| Difference::Leaked(format!("{word} in {set} of table inet netd"))));
    }
}

/// The sets of `table bridge netd`: the host ends, and the MAC and IPv4 address of each, exactly.
fn guard(world: &World<'_>, found: &mut Vec<Difference>) {
    let out = run("ip netns exec host nft -j list table bridge netd");
    let Ok(objects) = serde_json::from_str::<Value>(&out.stdout) else {
        return found.push(Difference::Lost(format!("table bridge netd: {}", out.stderr)));
    };
    let objects = objects["nftables"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| -> BTreeSet<String> {
        let mut sets = objects.iter().flat_map(|object| [&object["set"], &object["map"]]);
        let set = sets.find(|set| set["name"] == name);
        let elements = set.and_then(|set| set["elem"].as_array()).cloned().unwrap_or_default();
        let text = |element: &Value| match element["concat"].as_array() {
            Some(fields) => fields.iter().map(text).collect::<Vec<_>>().join(" "),
            None => text(&element["elem"]["val"]),
        };
        // An element of a map is a pair of key and verdict.
        elements.iter().map(|element| text(element.get(0).unwrap_or(element))).collect()
    };
    let ends = || world.ends.values().filter(|end| !end.addresses.is_empty());
    compare("guarded host end", &ends().map(|end| end.host_ifname.clone()).collect(), &of("guarded"), found);
    let macs = ends().map(|end| format!("{} {}", end.host_ifname, end.mac)).collect();
    compare("guarded MAC address", &macs, &of("macs"), found);
    let mut own = BTreeSet::new();
    for (key, end) in world.ends.iter().filter(|(_, end)| !end.addresses.is_empty()) {
        let of_container = world.ends.iter().filter(|(other, _)| other.1 == key.1);
        let all = of_container.flat_map(|(_, end)| end.addresses.iter().map(|one| without_length(one)));
        own.extend(all.filter(|one| !one.contains(':')).map(|one| format!("{} {one}", end.host_ifname)));
    }
    compare("guarded IPv4 address", &own, &of("sources4"), found);
}

/// All texts in it; a prefix is one text.
fn words_of(value: &Value, words: &mut BTreeSet<String>) {
    if let Some(prefix) = value.get("prefix") {
        words.insert(format!("{}/{}", text(&prefix["addr"]), prefix["len"]));
    } else if let Some(word) = value.as_str() {
        words.insert(word.to_owned());
    } else if let Some(all) = value.as_array() {
        all.iter().for_each(|one| words_of(one, words));
    } else if let Some(all) = value.as_object() {
        all.values().for_each(|one| words_of(one, words));
    }
}

fn files(world: &World<'_>, found: &mut Vec<Difference>) {
    let there: BTreeSet<String> = fs::read_dir("/etc/netns")
        .expect("/etc/netns")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // A container whose namespace lost its name may keep the file until it ends.
        .filter(|name| world.guests.get(name).is_none_or(|guest| guest.named))
        .collect();
    let connected = |name: &&String| world.guests[*name].named && !world.ends_of(name).is_empty();
    compare("/etc/netns", &world.guests.keys().filter(connected).cloned().collect(), &there, found);
    for name in there {
        let file = format!("/etc/netns/{name}/resolv.conf");
        if !fs::read_to_string(&file).is_ok_and(|text| text.contains("nameserver")) {
            found.push(Difference::Lost(file));
        }
    }
}

/// The host ports: published ones are held and answer, all others are free.
fn ports(world: &World<'_>, found: &mut Vec<Difference>) {
    let published: BTreeSet<u16> = world.ends.values().flat_map(|end| end.ports.clone()).collect();
    let all = (0..NETWORKS.len()).flat_map(|net| (0..CONTAINERS.len()).map(move |container| port(net, container)));
    let held: BTreeSet<u16> =
        space::inside("host", || all.filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_err()).collect());
    compare("host port", &published, &held, found);
    for ((net, container), end) in &world.ends {
        for port in &end.ports {
            let reply = echo::answers("outside", Proto::Tcp, (HOST4, *port));
            if reply.as_ref().is_none_or(|reply| reply.who != *container) {
                found.push(Difference::Lost(format!("{container} on {net} at port {port}: {reply:?}")));
            }
        }
    }
}

/// The host port that a container may publish on a network.
pub(crate) fn port(net: usize, container: usize) -> u16 {
    u16::try_from(4000 + net * 10 + container).expect("a port")
}

/// The names on each network, asked by one of its containers.
fn names(world: &World<'_>, found: &mut Vec<Difference>) {
    for net in world.nets.keys() {
        let ends: Vec<_> = world.ends.iter().filter(|((of, _), _)| of == net).collect();
        let clients: Vec<&String> =
            ends.iter().map(|((_, container), _)| container).filter(|name| world.guests[*name].named).collect();
        let Some(client) = clients.get(usize::try_from(world.step).expect("a number") % clients.len().max(1)) else {
            continue;
        };
        let names = CONTAINERS.iter().map(|name| format!("{name}.{net}"));
        let aliases = ends.iter().flat_map(|(_, end)| end.aliases.iter().map(|alias| format!("{alias}.{net}")));
        let asked: Vec<String> = names.chain(aliases).collect();
        let mut words = vec!["ip", "netns", "exec", client.as_str(), "dig", "+short", "+tries=2", "+time=1"];
        words.extend(asked.iter().map(String::as_str));
        let out = run_words(&words).stdout;
        let mut there: Vec<&str> = out.lines().collect();
        let mut wanted = Vec::new();
        for (_, end) in &ends {
            let v4 = end.addresses.iter().filter(|one| one.contains('.')).map(|one| without_length(one));
            // Once for its name, and once for each alias.
            v4.for_each(|address| wanted.extend(std::iter::repeat_n(address, 1 + end.aliases.len())));
        }
        there.sort_unstable();
        wanted.sort_unstable();
        if there != wanted {
            found.push(Difference::Lost(format!("names on {net}, asked by {client}: {there:?}, not {wanted:?}")));
        }
    }
}

/// Its descriptors and threads, within what so many networks and endpoints may need.
fn daemon(world: &World<'_>, found: &mut Vec<Difference>) {
    let count =
        |what: &str| fs::read_dir(format!("/proc/{}/{what}", world.lab.daemon_pid())).map_or(0, Iterator::count);
    let most = DESCRIPTORS.0 + DESCRIPTORS.1 * (world.nets.len() + world.ends.len());
    for (what, most) in [("fd", most), ("task", THREADS)] {
        let there = count(what);
        if there > most {
            found.push(Difference::Leaked(format!("/proc/PID/{what}: {there}, at most {most}")));
        }
    }
}
