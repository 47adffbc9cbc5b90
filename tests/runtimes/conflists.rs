//! Every file in `cni-conf`, loaded and run as a runtime would, against the real daemon and real reference plugins.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::look::{default_routes, links};
use crate::lab::{Dig, HOST4, HOST6, Lab, OUTSIDE4, Proto, Server, addresses, ask, echo, run};
use crate::libcni::{Attachment, ConfList};
use crate::world::{CONF_DIR, REFERENCE_PLUGINS, Traces, nothing_left, ours, runtime, start, trial};

const NEEDS: &[&str] = &[REFERENCE_PLUGINS, "tc"];

/// A file of `cni-conf`, what its test shows, and the test.
type File = (&'static str, &'static str, fn(&Lab));

const FILES: &[File] = &[
    ("10-netd.conflist", "names, ports, CHECK, GC, STATUS", everyday),
    ("10-netd-dual-stack.conflist", "both families", dual_stack),
    ("10-netd-internal.conflist", "no way out", internal),
    ("10-netd-bandwidth.conflist", "limits", bandwidth),
    ("10-netd-behind-bridge.conflist", "names and ports behind the reference plugins", behind_bridge),
    ("10-podman.conflist", "names as Podman sends them", podman),
    ("10-netd-cri.conflist", "pods in their namespaces", cri),
];

pub(crate) fn trials() -> Vec<Trial> {
    let run = FILES.iter().map(|(file, what, test)| {
        let name: &'static str = format!("conflists: {file}: {what}").leak();
        trial(name, NEEDS, *test)
    });
    let complete = Trial::test("conflists: every file is tested and described in the README", || {
        complete();
        Ok(())
    });
    run.chain([complete]).collect()
}

fn complete() {
    let readme = fs::read_to_string(ours("cni-conf/README.md")).expect("a text");
    let mut names = Vec::new();
    for entry in fs::read_dir(ours("cni-conf")).expect("the folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        if file == "README.md" {
            continue;
        }
        assert!(FILES.iter().any(|(tested, ..)| *tested == file), "no test runs cni-conf/{file}");
        assert!(readme.contains(&format!("`{file}`")), "cni-conf/README.md does not name {file}");
        let list = ConfList::load(&path);
        assert!(list.types().contains(&"netd-cni"), "{file}: {:?}", list.types());
        names.push(list.name);
    }
    assert_eq!(names.len(), FILES.len(), "a test without its file");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), FILES.len(), "two files have the same network");
}

/// The daemon runs, and the file is installed; as a runtime reads it.
fn installed(lab: &Lab, file: &str) -> ConfList {
    start(lab, &[file]);
    ConfList::load(format!("{CONF_DIR}/{file}"))
}

/// An attached container, with a server at port 80 (`who` is its name).
struct Pod {
    attachment: Attachment,
    _server: Server,
}

impl Pod {
    #[track_caller]
    fn attach(lab: &Lab, list: &ConfList, name: &str, change: impl FnOnce(Attachment) -> Attachment) -> Self {
        lab.container(name);
        let mut attachment = change(Attachment::of(name, &format!("{name}-0123456789ab")));
        let result = runtime().add(list, &mut attachment).unwrap();
        assert_eq!(result["cniVersion"], list.version.as_str(), "{result}");
        runtime().check(list, &attachment).unwrap();
        Self { attachment, _server: Server::start(name, name, 80) }
    }

    #[track_caller]
    fn detach(&self, list: &ConfList) {
        for _ in 0..2 {
            runtime().del(list, &self.attachment).unwrap();
        }
    }

    /// The container's name server, asked for a name of this type; all answers.
    #[track_caller]
    fn look_up(&self, ns: &str, name: &str, kind: &str) -> Vec<String> {
        let servers = self.attachment.nameservers();
        assert_eq!(servers.len(), 1, "one name server: {:?}", self.attachment.result);
        Dig::ask(ns, &format!("@{} {name} {kind}", servers[0])).answers
    }
}

fn ports(host: u16) -> Value {
    json!([{"hostPort": host, "containerPort": 80, "protocol": "tcp"}])
}

fn everyday(lab: &Lab) {
    let list = installed(lab, "10-netd.conflist");
    assert_eq!(list.version, "1.1.0");
    runtime().status(&list).unwrap();
    let web = Pod::attach(lab, &list, "web", |web| {
        web.with("portMappings", ports(4000)).with("aliases", json!(["www"])).with("mac", json!("02:00:00:00:00:77"))
    });
    let client = Pod::attach(lab, &list, "client", |client| client);
    let address = web.attachment.addresses().remove(0);
    assert_eq!(addresses("web", "eth0"), [address.parse::<std::net::IpAddr>().unwrap()]);
    for name in ["web", "www", "web.netd"] {
        assert_eq!(client.look_up("client", name, "A"), [address.as_str()], "{name}");
    }
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(default_routes("client", 4).len(), 1);
    runtime().check(&list, &web.attachment).unwrap();
    run("ip -n web link set eth0 address 02:00:00:00:00:78").ok();
    let refusal = runtime().check(&list, &web.attachment).unwrap_err();
    assert!(refusal.message.contains("02:00:00:00:00:7"), "the error names the change: {refusal:?}");

    let traces = Traces::of(lab, "netd", "web", &[4000]);
    runtime().gc(&list, &[(&client.attachment.id, "eth0")]).unwrap();
    traces.are_gone(lab);
    assert_eq!(links("web"), ["lo"]);
    assert_eq!(client.look_up("client", "web", "A"), Vec::<String>::new());
    assert_eq!(client.look_up("client", "client", "A"), client.attachment.addresses());
    web.detach(&list);
    client.detach(&list);
    nothing_left(lab);
    lab.kill_daemon();
    let refusal = runtime().status(&list).unwrap_err();
    assert_eq!(refusal.code, Some(50), "{refusal:?}");
    let refusal = runtime().add(&list, &mut client.attachment.clone()).unwrap_err();
    assert_eq!(refusal.code, Some(11), "{refusal:?}");
}

fn dual_stack(lab: &Lab) {
    let list = installed(lab, "10-netd-dual-stack.conflist");
    let web = Pod::attach(lab, &list, "web", |web| web.with("portMappings", ports(4000)));
    let client = Pod::attach(lab, &list, "client", |client| client);
    let (v4, v6): (Vec<String>, Vec<String>) =
        web.attachment.addresses().into_iter().partition(|address| address.contains('.'));
    assert_eq!((v4.len(), v6.len()), (1, 1));
    assert_eq!((client.look_up("client", "web", "A"), client.look_up("client", "web", "AAAA")), (v4, v6.clone()));
    assert_eq!(ask("client", Proto::Tcp, (&v6[0], 80)).who, "web");
    for host in [HOST4, HOST6] {
        assert_eq!(ask("outside", Proto::Tcp, (host, 4000)).who, "web");
    }
    let traces = Traces::of(lab, "netd-dual-stack", "web", &[4000]);
    [&web, &client].into_iter().for_each(|pod| pod.detach(&list));
    traces.are_gone(lab);
    nothing_left(lab);
}

fn internal(lab: &Lab) {
    let list = installed(lab, "10-netd-internal.conflist");
    let web = Pod::attach(lab, &list, "web", |web| web);
    let client = Pod::attach(lab, &list, "client", |client| client);
    let address = web.attachment.addresses().remove(0);
    assert_eq!(client.look_up("client", "web", "A"), [address.as_str()]);
    assert_eq!(ask("client", Proto::Tcp, (&address, 80)).who, "web");
    let _server = Server::start("outside", "outside", 80);
    assert!(default_routes("client", 4).is_empty());
    echo::expect_no_answer("client", Proto::Tcp, (OUTSIDE4, 80));
    [&web, &client].into_iter().for_each(|pod| pod.detach(&list));
    nothing_left(lab);
}

/// The rates of token buckets on the host's interfaces, in bits per second: those on `ifname`, and on the others.
fn rates(ifname: &str) -> (Vec<u64>, Vec<u64>) {
    let qdiscs = run("nsenter --net=/run/netns/host -- tc -j qdisc show").ok().json();
    let qdiscs = qdiscs.as_array().expect("an array").clone();
    let (own, others): (Vec<Value>, Vec<Value>) =
        qdiscs.into_iter().filter(|qdisc| qdisc["kind"] == "tbf").partition(|qdisc| qdisc["dev"] == ifname);
    // `tc` tells bytes.
    let rate = |qdisc: &Value| qdisc["options"]["rate"].as_u64().expect("a rate") * 8;
    (own.iter().map(rate).collect(), others.iter().map(rate).collect())
}

fn bandwidth(lab: &Lab) {
    let list = installed(lab, "10-netd-bandwidth.conflist");
    let web = Pod::attach(lab, &list, "web", |web| web);
    let host_ifname =
        |name: &str| lab.endpoint("netd-bandwidth", name)["host_ifname"].as_str().expect("a name").to_owned();
    assert_eq!(rates(&host_ifname("web")), (vec![100_000_000], vec![50_000_000]));
    web.detach(&list);
    assert_eq!(rates("none"), (Vec::new(), Vec::new()));
    let own = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000});
    let client = Pod::attach(lab, &list, "client", |client| client.with("bandwidth", own));
    assert_eq!(rates(&host_ifname("client")), (vec![8_000_000], vec![]));
    client.detach(&list);
    nothing_left(lab);
}

fn behind_bridge(lab: &Lab) {
    let list = installed(lab, "10-netd-behind-bridge.conflist");
    assert_eq!(list.types(), ["bridge", "netd-cni"]);
    let web = Pod::attach(lab, &list, "web", |web| {
        web.with("portMappings", ports(4000)).with("aliases", json!(["www"])).with("ips", json!(["10.22.0.77"]))
    });
    let client = Pod::attach(lab, &list, "client", |client| client);
    assert_eq!(web.attachment.addresses(), ["10.22.0.77"]);
    let result = web.attachment.result.as_ref().expect("a result");
    let names: Vec<&str> =
        result["interfaces"].as_array().expect("interfaces").iter().flat_map(|i| i["name"].as_str()).collect();
    assert!(
        names[0] == "cni0" && names[2] == "eth0" && names.len() == 3,
        "as in the result of the bridge plugin: {names:?}"
    );
    for name in ["web", "www"] {
        assert_eq!(client.look_up("client", name, "A"), ["10.22.0.77"], "{name}");
    }
    assert_eq!(ask("client", Proto::Tcp, ("10.22.0.77", 80)).who, "web");
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (HOST4, 4000)).who, "web", "a neighbour, by the host's address");
    assert_eq!(ask("web", Proto::Tcp, (HOST4, 4000)).who, "web", "itself, by the host's address");
    let outside = Server::start("outside", "outside", 80);
    let reply = ask("client", Proto::Tcp, (OUTSIDE4, 80));
    assert_eq!((reply.who.as_str(), reply.saw.to_string().as_str()), ("outside", HOST4), "masqueraded");
    drop(outside);
    let traces = Traces::of(lab, "netd-behind-bridge", "web", &[4000]);
    web.detach(&list);
    traces.are_gone(lab);
    assert!(links("host").contains(&"cni0".to_owned()), "netd removed the bridge of another plugin");
    assert_eq!(client.look_up("client", "client", "A"), client.attachment.addresses());
    client.detach(&list);
    nothing_left(lab);
    let left = fs::read_dir("/var/lib/cni/networks/netd-behind-bridge").expect("host-local's folder");
    let left: Vec<_> = left
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains("10.22."))
        .collect();
    assert!(left.is_empty(), "host-local still holds {left:?}");
}

fn podman(lab: &Lab) {
    let list = installed(lab, "10-podman.conflist");
    assert_eq!((list.name.as_str(), list.version.as_str()), ("podman", "1.0.0"));
    // Podman 4 sends a list of aliases for each network, and the container's static address in CNI_ARGS.
    let web = Pod::attach(lab, &list, "web", |web| {
        web.with("portMappings", ports(4000)).with("aliases", json!({"podman": ["www", "web-01234567"]}))
    });
    let address = web.attachment.addresses().remove(0);
    let expected = format!("{}.88", address.rsplit_once('.').expect("an IPv4 address").0);
    let client = Pod::attach(lab, &list, "client", |mut client| {
        let chosen = [("IP", expected.as_str()), ("MAC", "02:00:00:00:00:88")];
        client.args.extend(chosen.map(|(key, value)| (key.to_owned(), value.to_owned())));
        client
    });
    assert_eq!(client.attachment.addresses(), [expected]);
    for name in ["web", "www", "web-01234567"] {
        assert_eq!(client.look_up("client", name, "A"), [address.as_str()], "{name}");
    }
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    [&web, &client].into_iter().for_each(|pod| pod.detach(&list));
    nothing_left(lab);
}

fn cri(lab: &Lab) {
    let list = installed(lab, "10-netd-cri.conflist");
    assert_eq!((list.name.as_str(), list.version.as_str()), ("pods", "1.1.0"));
    let pod = |ns: &'static str, name: &'static str, space: &'static str| {
        Pod::attach(lab, &list, ns, move |mut pod| {
            let pod_args =
                [("K8S_POD_NAME", name), ("K8S_POD_NAMESPACE", space), ("K8S_POD_INFRA_CONTAINER_ID", "0123")];
            pod.args = pod_args.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            pod.args.push(("IgnoreUnknown".to_owned(), "1".to_owned()));
            pod
        })
    };
    let (shop, blog) = (pod("pod1", "web", "shop"), pod("pod2", "web", "blog"));
    let client = pod("pod3", "client", "shop");
    let [shop_web, blog_web] = [&shop, &blog].map(|pod| pod.attachment.addresses());
    assert_eq!(client.look_up("pod3", "web.shop", "A"), shop_web);
    assert_eq!(client.look_up("pod3", "web.blog", "A"), blog_web);
    assert_eq!(client.look_up("pod3", "web", "A"), shop_web, "the pod of its own namespace");
    assert_eq!(ask("pod3", Proto::Tcp, (&shop_web[0], 80)).who, "pod1");
    [&shop, &blog, &client].into_iter().for_each(|pod| pod.detach(&list));
    nothing_left(lab);
}
