//! What must be there: what netd acknowledged, as the API showed it right afterwards, and the containers that live.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netd_testing::wait::seen;
use serde_json::Value;

use crate::chance::Chance;
use crate::lab::command::{Out, run_words};
use crate::lab::{Lab, Server, run, until};

/// The names that networks and containers have; containers of `PROCESSES` have no named namespace.
pub(crate) const NETWORKS: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];
pub(crate) const CONTAINERS: [&str; 8] = ["c0", "c1", "c2", "c3", "c4", "c5", "p0", "p1"];

/// An acknowledged network.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) bridge: String,
    pub(crate) internal: bool,
    pub(crate) subnets: BTreeSet<String>,
    pub(crate) gateways: BTreeSet<String>,
}

/// An acknowledged endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) ifname: String,
    pub(crate) host_ifname: String,
    pub(crate) mac: String,
    pub(crate) addresses: BTreeSet<String>,
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) aliases: BTreeSet<String>,
}

/// A living container.
pub(crate) struct Guest {
    /// A path of its namespace.
    pub(crate) path: String,
    /// Whether `/run/netns` has its name.
    pub(crate) named: bool,
    /// The processes in it.
    pub(crate) holders: Vec<Child>,
    /// What answers on port 80 in it.
    pub(crate) server: Option<Server>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.server = None;
        for holder in &mut self.holders {
            end(holder);
        }
    }
}

/// Kills a process and waits for it.
pub(crate) fn end(process: &mut Child) {
    // It may have ended.
    let _ = process.kill();
    let _ = process.wait();
}

/// Everything.
pub(crate) struct World<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) chance: Chance,
    /// What this step does.
    pub(crate) doing: String,
    pub(crate) nets: BTreeMap<String, Net>,
    pub(crate) guests: BTreeMap<String, Guest>,
    /// By network and container.
    pub(crate) ends: BTreeMap<(String, String), End>,
    pub(crate) tally: Tally,
}

/// The line at the end.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) kills: u64,
    pub(crate) flushes: u64,
    /// Until what another program changed was as before.
    pub(crate) healed: Vec<Duration>,
    /// The same for what netd looks at every ten seconds.
    pub(crate) healed_by_look: Vec<Duration>,
    pub(crate) lost: usize,
    pub(crate) leaked: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut healed = self.healed.clone();
        healed.sort();
        let at = |part: usize| healed.get((healed.len() * part / 100).min(healed.len().saturating_sub(1)));
        let ms = |span: Option<&Duration>| span.map_or_else(|| "-".to_owned(), |span| span.as_millis().to_string());
        let Self { operations, kills, flushes, lost, leaked, .. } = self;
        write!(f, "{operations} operations, {kills} kills, {flushes} flushes, {} healed ", healed.len())?;
        write!(f, "p50 {} p99 {} ms", ms(at(50)), ms(at(99)))?;
        write!(f, " (by the look every 10 s: {} ", self.healed_by_look.len())?;
        write!(f, "max {} ms), {lost} lost, {leaked} leaked", ms(self.healed_by_look.iter().max()))
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(lab: &'a Lab, seed: u64) -> Self {
        Self {
            lab,
            seed,
            step: 0,
            chance: Chance::of(seed, 0),
            doing: "start".to_owned(),
            nets: BTreeMap::new(),
            guests: BTreeMap::new(),
            ends: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Makes the container unless it lives.
    pub(crate) fn guest(&mut self, name: &str) {
        if self.guests.contains_key(name) {
            return;
        }
        let named = name.starts_with('c');
        let (path, holders) = if named {
            run(&format!("ip netns add {name}")).ok();
            (format!("/run/netns/{name}"), Vec::new())
        } else {
            let process = sleeper(&["unshare", "--net", "--"]);
            let path = format!("/proc/{}/ns/net", process.id());
            let ours = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
            until("the process has a namespace", || {
                seen(std::fs::read_link(&path).ok(), |link| link.as_ref().is_some_and(|link| *link != ours))
            });
            (path, vec![process])
        };
        inside(&path, &["ip", "link", "set", "lo", "up"]).ok();
        let server = Server::start(&format!("../..{path}"), name, 80);
        self.guests.insert(name.to_owned(), Guest { path, named, holders, server: Some(server) });
    }

    /// The arguments that name the container for `netd connect`.
    pub(crate) fn reference(&self, name: &str) -> String {
        let path = &self.guests[name].path;
        if path.starts_with("/proc") { format!("{name} --netns {path}") } else { name.to_owned() }
    }

    /// The container's endpoints, with their networks.
    pub(crate) fn ends_of(&self, container: &str) -> Vec<(&Net, &End)> {
        let its = self.ends.iter().filter(|((_, of), _)| of == container);
        its.map(|((network, _), end)| (&self.nets[network], end)).collect()
    }

    /// Forgets a container that ended.
    pub(crate) fn gone(&mut self, container: &str) {
        self.guests.remove(container);
        self.ends.retain(|(_, of), _| of != container);
    }

    /// The networks and endpoints that netd shows.
    pub(crate) fn shown(&self) -> (BTreeMap<String, Net>, BTreeMap<(String, String), End>) {
        let get = |path: &str| -> Vec<Value> {
            let (status, body) = self.lab.http("GET", path, "");
            assert_eq!(status, 200, "{path}: {body}");
            serde_json::from_str(&body).expect("a JSON array")
        };
        let (mut nets, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for net in get("/v1/networks") {
            let name = text(&net["name"]);
            for end in get(&format!("/v1/networks/{name}/endpoints")) {
                ends.insert((name.clone(), text(&end["container"]["name"])), end_of(&end));
            }
            nets.insert(name, net_of(&net));
        }
        (nets, ends)
    }

    /// Takes over what netd acknowledged; the command must have left it there.
    pub(crate) fn acknowledge_net(&mut self, name: &str) {
        let net = self.shown().0.remove(name).unwrap_or_else(|| panic!("network {name} was created and is not there"));
        self.nets.insert(name.to_owned(), net);
    }

    /// See [`World::acknowledge_net`].
    pub(crate) fn acknowledge_end(&mut self, pair: &(String, String)) {
        let end = self.shown().1.remove(pair).unwrap_or_else(|| panic!("{pair:?} was connected and is not there"));
        self.ends.insert(pair.clone(), end);
    }
}

fn net_of(net: &Value) -> Net {
    let subnets = net["subnets"].as_array().expect("an array");
    Net {
        bridge: text(&net["bridge"]),
        internal: net["internal"] == true,
        subnets: subnets.iter().map(|one| text(&one["subnet"])).collect(),
        gateways: subnets.iter().map(|one| text(&one["gateway"])).collect(),
    }
}

fn end_of(end: &Value) -> End {
    let all = |key: &str| end[key].as_array().expect("an array").clone();
    let port = |port: &Value| u16::try_from(port["host_port"].as_u64().expect("a number")).expect("a port");
    End {
        ifname: text(&end["ifname"]),
        host_ifname: text(&end["host_ifname"]),
        mac: text(&end["mac"]).to_lowercase(),
        addresses: all("addresses").iter().map(text).collect(),
        ports: all("ports").iter().map(port).collect(),
        aliases: all("aliases").iter().map(text).collect(),
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A program in the network namespace at a path.
pub(crate) fn inside(path: &str, words: &[&str]) -> Out {
    let enter = format!("--net={path}");
    run_words(&[&["nsenter", &enter, "--"], words].concat())
}

/// A process that does nothing, started by these words.
pub(crate) fn sleeper(words: &[&str]) -> Child {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["sleep", "100000"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts")
}
