//! Podman with its CNI backend: containers of an image made of busybox.

use std::fs;

use libtest_mimic::Trial;
use netd_testing::wait::is;

use crate::lab::command::Out;
use crate::lab::{HOST4, HOST6, Lab, Proto, Server, ask};
use crate::machine;
use crate::world::{
    CONF_DIR, PAGE, PLUGIN_DIR, Traces, fetch, fetches_the_page, layer, nothing_left, on_host, on_host_words, ours,
    start, trial, until, until_nothing_left,
};

pub(crate) const NEEDS: &[&str] = &["podman", "runc", "conmon"];
/// What `web` runs.
pub(crate) const SERVE: &str = "lab busybox httpd -f -p 80 -h /www";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("podman: containers find each other by name, ports are reachable, and nothing remains", NEEDS, job),
        trial("podman: a container joins a second network, leaves it, and keeps its ports", NEEDS, second_network),
        trial("podman: a container connected by netd joins a second network of Podman", NEEDS, connected_besides),
        trial("podman: a container that is detached and attached keeps its ports", NEEDS, attached_again),
        trial("podman: a container on two networks publishes its ports once", NEEDS, on_two),
        trial(
            "podman: a container on an internal and an ordinary network publishes its port on the latter",
            NEEDS,
            front_back,
        ),
        trial("podman: a port in use on the host is refused", NEEDS, taken),
        trial("podman: an address, a MAC address and names chosen by the user", NEEDS, chosen),
        trial("podman: a restarted container is connected again, a killed one is released", NEEDS, restarted),
        trial("podman: a container removed while netd is dead is released after its restart", NEEDS, while_dead),
    ]
}

/// Podman's own settings and the image; the daemon runs, the plugin is in place.
pub(crate) fn ready(lab: &Lab) {
    start(lab, &["10-podman.conflist"]);
    fs::create_dir_all("/etc/containers").expect("a folder");
    let settings = format!(
        r#"[containers]
pids_limit = 0
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{PLUGIN_DIR}"]
network_config_dir = "{CONF_DIR}"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#
    );
    fs::write("/etc/containers/containers.conf", settings).expect("a file");
    let storage =
        "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/lab/podman/run\"\ngraphroot = \"/run/lab/podman/graph\"\n";
    fs::write("/etc/containers/storage.conf", storage).expect("a file");
    podman(&format!("import {} lab", layer())).ok();
}

pub(crate) fn podman(line: &str) -> Out {
    on_host(&format!("podman {line}"))
}

/// `podman run` with these arguments; its cgroups end with the tests.
#[track_caller]
pub(crate) fn podman_run(line: &str) -> Out {
    podman(&format!("run --cgroup-parent /{}/podman {line}", machine::cgroup())).ok()
}

/// What a container on a network gets from an address, itself ending with it.
fn fetch_from(network: &str, address: &str) -> Out {
    let cgroup = machine::cgroup();
    podman(&format!("run --cgroup-parent /{cgroup}/podman --rm --network {network} lab wget -qO- http://{address}/"))
}

/// The page comes from this name or address to a new container on the network.
#[track_caller]
pub(crate) fn page_comes_to(network: &str, address: &str) {
    assert_eq!(fetch_from(network, address).ok().stdout.trim(), PAGE, "{network}: http://{address}/");
}

pub(crate) fn inspect(container: &str, format: &str) -> String {
    on_host_words(&["podman", "inspect", "-f", format, container]).ok().stdout.trim().to_owned()
}

fn job(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    // Its conmon has the port over IPv4, netd over IPv6.
    fetches_the_page("host", "[::1]:4000");
    fetches_the_page("outside", &format!("[{HOST6}]:4000"));
    page_comes_to("podman", "web");
    assert_eq!(podman("port web").ok().stdout.trim(), "80/tcp -> 0.0.0.0:4000");
    let address = lab.address("podman", "web")[0].to_string();
    assert_eq!(inspect("web", "{{.NetworkSettings.IPAddress}}"), address);
    let shown = lab.netd("ps --json").ok().json();
    assert_eq!((shown[0]["name"].as_str(), shown.as_array().map(Vec::len)), (Some("web"), Some(1)), "{shown}");
    assert_eq!(lab.endpoint("podman", "web")["container"]["id"], inspect("web", "{{.Id}}"));
    let id = inspect("web", "{{.Id}}");
    page_comes_to("podman", &id[..12]);
    let traces = Traces::of(lab, "podman", "web", &[4000]);
    podman_run("-d --name client lab sleep 1000");
    assert!(resolves("client", "web"));
    podman("rm -t 0 -f web").ok();
    traces.are_gone(lab);
    assert!(!resolves("client", "web"), "the name still resolves");
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), "");
    podman("rm -t 0 -f client").ok();
    nothing_left(lab);
}

/// Whether a running container gets an address for the name.
pub(crate) fn resolves(container: &str, name: &str) -> bool {
    podman(&format!("exec {container} nslookup {name}")).code == Some(0)
}

/// A second network for Podman: the same file under another name.
fn network_two() {
    let text = fs::read_to_string(ours("cni-conf/10-podman.conflist")).expect("a text");
    let text = text.replace("\"name\": \"podman\"", "\"name\": \"two\"");
    fs::write(format!("{CONF_DIR}/20-two.conflist"), text).expect("a file");
}

fn second_network(lab: &Lab) {
    ready(lab);
    network_two();
    let networks = podman("network ls -q").ok().stdout;
    assert_eq!(networks.split_whitespace().collect::<Vec<_>>(), ["podman", "two"]);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    podman_run("-d --name probe --network two lab sleep 1000");
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    assert!(!resolves("probe", "web"), "web is not on two yet");

    podman("network connect --alias store two web").ok();
    let traces = Traces::of(lab, "two", "web", &[]);
    for name in ["web", "store"] {
        page_comes_to("two", name);
        assert!(resolves("probe", name), "{name}");
    }
    page_comes_to("podman", "web");
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), PAGE, "the port as before");
    let interfaces = podman("exec web ip -o link").ok().stdout;
    assert!(interfaces.contains("eth0") && interfaces.contains("eth1"), "{interfaces}");

    podman("network disconnect two web").ok();
    traces.are_gone(lab);
    assert!(!resolves("probe", "web") && !resolves("probe", "store"));
    page_comes_to("podman", "web");
    assert_eq!(fetch("outside", &format!("{HOST4}:4000")), PAGE, "the port is the first network's");
    podman("network connect two web").ok();
    podman("rm -t 0 -f web probe").ok();
    nothing_left(lab);
}

/// Podman numbers its interfaces without checking the namespace.
fn connected_besides(lab: &Lab) {
    ready(lab);
    network_two();
    podman_run(&format!("-d --name web {SERVE}"));
    lab.netd("network create besides").ok();
    lab.netd("connect besides web -p 4000:80").ok();
    podman("network connect two web").ok();
    let interfaces = podman("exec web ip -o link").ok().stdout;
    assert!(["eth0@", "eth1@", "nd0@"].into_iter().all(|name| interfaces.contains(name)), "{interfaces}");
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("two", "web");
    podman("rm -t 0 -f web").ok();
    // The endpoint that Podman did not request ends with the namespace.
    until("netd released it", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
    until_nothing_left(lab);
}

fn attached_again(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    // Podman holds the port all the time.
    podman("network reload web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("podman", "web");
    podman("network disconnect podman web").ok();
    podman("network connect podman web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    page_comes_to("podman", "web");
    podman("rm -t 0 -f web").ok();
    nothing_left(lab);
}

/// Podman sends a container's ports with each of its networks.
fn on_two(lab: &Lab) {
    ready(lab);
    network_two();
    podman_run(&format!("-d --name web --network podman,two -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    ["podman", "two"].into_iter().for_each(|network| page_comes_to(network, "web"));
    // The other network carries the port on.
    podman("network disconnect podman web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("network connect podman web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    let traces = Traces::of(lab, "two", "web", &[4000]);
    podman("rm -t 0 -f web").ok();
    traces.are_gone(lab);
    nothing_left(lab);
}

/// Two networks for Podman, of which one is internal, as in many a compose file.
fn front_and_back() {
    let text = fs::read_to_string(ours("cni-conf/10-podman.conflist")).expect("a text");
    for (name, more) in [("front", ""), ("back", "\"internal\": true, ")] {
        let text = text.replace("\"name\": \"podman\"", &format!("\"name\": \"{name}\""));
        let text = text.replace("\"type\": \"netd-cni\"", &format!("{more}\"type\": \"netd-cni\""));
        assert!(text.contains(more) && text.contains(name), "{text}");
        fs::write(format!("{CONF_DIR}/20-{name}.conflist"), text).expect("a file");
    }
}

/// Podman requests the port on both networks, in any order.
fn front_back(lab: &Lab) {
    ready(lab);
    front_and_back();
    for networks in ["front,back", "back,front"] {
        podman_run(&format!("-d --name web --network {networks} -p 8080:80 {SERVE}"));
        fetches_the_page("outside", &format!("{HOST4}:8080"));
        ["front", "back"].into_iter().for_each(|network| page_comes_to(network, "web"));
        let ports = lab.netd("port web").ok().stdout;
        let line =
            |network: &str| ports.lines().find(|line| line.contains(&format!(" {network} "))).unwrap_or_default();
        assert!(line("front").contains("every host"), "{ports}");
        assert!(line("back").contains("no host over back: it is internal"), "{ports}");
        let traces = Traces::of(lab, "front", "web", &[8080]);
        podman("rm -t 0 -f web").ok();
        traces.are_gone(lab);
        nothing_left(lab);
    }
}

fn taken(lab: &Lab) {
    ready(lab);
    let server = Server::start("host", "host", 4000);
    let run = format!("run --cgroup-parent /{}/podman -d --name web -p 4000:80 {SERVE}", machine::cgroup());
    let refused = podman(&run);
    assert!(refused.code != Some(0) && refused.stderr.contains("4000"), "{refused:?}");
    nothing_left(lab);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "host", "the host's own server still answers");
    drop(server);
    podman("rm -f web").ok();
    podman(&run).ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("rm -t 0 -f web").ok();
    nothing_left(lab);
}

fn chosen(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name first {SERVE}"));
    let first = lab.address("podman", "first")[0].to_string();
    let expected = format!("{}.77", first.rsplit_once('.').expect("an IPv4 address").0);
    let choice = format!("--ip {expected} --mac-address 02:00:00:00:00:77 --network-alias store");
    podman_run(&format!("-d --name web {choice} -p 127.0.0.1:4001:80 -p 4002-4003:80-81 -p 4004:80/udp {SERVE}"));
    let interface = podman("exec web ip -o address show eth0").ok().stdout;
    assert!(interface.contains(&format!("inet {expected}/")), "{interface}");
    let link = podman("exec web ip -o link show eth0").ok().stdout;
    assert!(link.contains("02:00:00:00:00:77"), "{link}");
    page_comes_to("podman", "store");
    for (ns, address) in [("host", "127.0.0.1:4001".to_owned()), ("outside", format!("{HOST4}:4002"))] {
        fetches_the_page(ns, &address);
    }
    assert_eq!(fetch("outside", &format!("{HOST4}:4001")), "", "published on loopback only");
    let taken = podman(&format!("run --cgroup-parent /{}/podman --ip {expected} lab sleep 1", machine::cgroup()));
    assert!(taken.code != Some(0) && taken.stderr.contains(&expected), "{taken:?}");
    podman("rm -t 0 -f -a").ok();
    nothing_left(lab);
}

fn restarted(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    podman("restart -t 0 web").ok();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    fetches_the_page("host", "[::1]:4000");
    page_comes_to("podman", "web");
    let traces = Traces::of(lab, "podman", "web", &[4000]);
    // The container ends without a podman command, and conmon starts the cleanup.
    podman("kill -s KILL web").ok();
    until("the killed container has gone from netd", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
    traces.until_gone(lab);
    podman("start web").ok();
    page_comes_to("podman", "web");
    podman("rm -t 0 -f web").ok();
    nothing_left(lab);
}

fn while_dead(lab: &Lab) {
    ready(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    let traces = Traces::of(lab, "podman", "web", &[4000]);
    lab.kill_daemon();
    let refused = podman(&format!("run --cgroup-parent /{}/podman --rm lab sleep 1", machine::cgroup()));
    assert!(refused.code != Some(0) && refused.stderr.contains("netd.sock"), "the error names the socket: {refused:?}");
    // It may report the failed plugin; the container is removed nevertheless.
    podman("rm -t 0 -f -a");
    assert_eq!(podman("ps -a -q").ok().stdout, "");
    lab.start_daemon();
    until("netd released it", || is(lab.netd("ps --json").ok().json(), &serde_json::json!([])));
    traces.until_gone(lab);
    podman_run(&format!("-d --name web -p 4000:80 {SERVE}"));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    podman("rm -t 0 -f web").ok();
    nothing_left(lab);
}
