//! containerd as Kubernetes drives it: its CRI, asked by a small gRPC client. It sends Go's field names (`HostPort`,
//! `IngressRate`, `Servers`), which the plugin must understand.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::containerd::{ADDRESS, Containerd, IMAGE, NEEDS};
use crate::grpc::{self, Message};
use crate::lab::{Dig, HOST4, HOST6, Lab, Proto, Server, ask, echo};
use crate::machine;
use crate::world::{CONF_DIR, PLUGIN_DIR, REFERENCE_DIR, Traces, nothing_left, start, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("containerd's CRI: a pod has its hostPort and its limits, and nothing remains", NEEDS, pod),
        trial("containerd's CRI: pods that use the gateway's name server find each other", NEEDS, names),
    ]
}

fn containerd() -> Containerd {
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let settings = format!(
        r#"[{cri}]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[{cri}.cni]
bin_dir = "{PLUGIN_DIR}"
conf_dir = "{CONF_DIR}"
[{cri}.containerd]
snapshotter = "native"
"#
    );
    Containerd::with(&[], &settings, "k8s.io")
}

fn cri(method: &str, request: &Message) -> Result<Message, String> {
    grpc::call(ADDRESS, &format!("runtime.v1.RuntimeService/{method}"), request)
}

/// A message whose first field is the pod's id.
fn of(pod: &str) -> Message {
    Message::default().text(1, pod)
}

fn metadata(name: &str) -> Message {
    Message::default().text(1, name).text(2, &format!("uid-{name}")).text(3, "shop")
}

/// `PodSandboxConfig` (cri-api, pkg/apis/runtime/v1/api.proto).
fn pod_config(name: &str) -> Message {
    let linux = Message::default().text(1, &format!("/{}/pods", machine::cgroup()));
    Message::default().message(1, &metadata(name)).text(2, name).message(8, &linux)
}

/// `PortMapping`: TCP is 0.
fn mapping(protocol: u64, container: u64, host: u64, host_ip: &str) -> Message {
    Message::default().number(1, protocol).number(2, container).number(3, host).text(4, host_ip)
}

fn run_pod(config: &Message) -> Result<String, String> {
    let answer = cri("RunPodSandbox", &Message::default().message(1, config))?;
    Ok(answer.one(1).as_text())
}

/// The daemon with the default configuration for CRI, containerd, and the plugin that containerd requires: it looks for
/// `loopback` in the folder of the others, when the first pod starts.
fn ready(lab: &Lab) -> Containerd {
    start(lab, &["10-netd-cri.conflist"]);
    std::os::unix::fs::symlink(format!("{REFERENCE_DIR}/loopback"), format!("{PLUGIN_DIR}/loopback")).expect("a link");
    let containerd = containerd();
    until("the network is ready", || {
        let conditions = cri("Status", &Message::default()).map(|answer| answer.one(1).all(1))?;
        let ready = |condition: &Message| condition.one(1).as_text() == "NetworkReady" && condition.is(2);
        conditions.iter().any(ready).then_some(()).ok_or(format!("{conditions:?}"))
    });
    containerd
}

/// The name of a pod's namespace under `/run/netns`.
fn namespace(lab: &Lab, pod: &str) -> String {
    let path = lab.endpoint("pods", pod)["netns"].as_str().expect("a path").to_owned();
    path.rsplit('/').next().expect("a name").to_owned()
}

fn resolv_conf(id: &str) -> String {
    let folder = "/run/lab/containerd/root/io.containerd.grpc.v1.cri/sandboxes";
    fs::read_to_string(format!("{folder}/{id}/resolv.conf")).expect("the pod's resolv.conf")
}

fn end(id: &str) {
    // Twice, as the kubelet does.
    for _ in 0..2 {
        cri("StopPodSandbox", &of(id)).unwrap();
    }
    cri("RemovePodSandbox", &of(id)).unwrap();
}

fn pod(lab: &Lab) {
    let _containerd = ready(lab);
    let (tcp, udp) = (mapping(0, 80, 8080, ""), mapping(1, 80, 8081, HOST4));
    let config = pod_config("web").message(5, &tcp).message(5, &udp);
    let config = config.entry(7, "kubernetes.io/ingress-bandwidth", "10M");
    let id = run_pod(&config.entry(7, "kubernetes.io/egress-bandwidth", "8M")).unwrap();
    let status = cri("PodSandboxStatus", &of(&id)).unwrap().one(1);
    let address = lab.address("pods", "web.shop")[0].to_string();
    assert_eq!(status.one(5).one(1).as_text(), address);
    let web = namespace(lab, "web.shop");
    let server = Server::start(&web, "web", 80);
    for (protocol, port) in [(Proto::Tcp, 8080), (Proto::Udp, 8081)] {
        assert_eq!(ask("outside", protocol, (HOST4, port)).who, "web");
    }
    // What the kernel does not translate is passed on, where the pod asked for every address.
    for (ns, address) in [("host", "::1"), ("outside", HOST6)] {
        let reply = until(&format!("{address} answers"), || echo::answers(ns, Proto::Tcp, (address, 8080)));
        assert_eq!(reply.who, "web");
    }
    drop(server);
    let host_ifname = lab.endpoint("pods", "web.shop")["host_ifname"].as_str().expect("a name").to_owned();
    let limits = lab.exec("host", "tc -j qdisc show").ok().json();
    let bucket = |device: &str| {
        let of_device = |found: &&Value| found["kind"] == "tbf" && found["dev"] == device;
        limits.as_array().expect("a list").iter().find(of_device).map(|found| found["options"]["rate"].clone())
    };
    assert_eq!(bucket(&host_ifname), Some(json!(1_250_000)), "bytes per second: {limits}");
    let rates: Vec<&Value> = limits.as_array().expect("a list").iter().map(|found| &found["options"]["rate"]).collect();
    assert!(rates.contains(&&json!(1_000_000)), "what the pod sends: {limits}");

    let traces = Traces::of(lab, "pods", "web.shop", &[]);
    let taken = run_pod(&pod_config("second").message(5, &tcp)).unwrap_err();
    assert!(taken.contains("port *:8080->80/tcp is already published by container web.shop"), "{taken}");
    end(&id);
    traces.are_gone(lab);
    nothing_left(lab);
}

/// The kubelet passes a pod's name servers (`clusterDNS`), and containerd writes them into the pod's resolv.conf.
fn names(lab: &Lab) {
    let _containerd = ready(lab);
    let web = run_pod(&pod_config("web")).unwrap();
    let host = fs::read_to_string("/etc/resolv.conf").expect("the host's");
    assert_eq!(resolv_conf(&web), host, "a pod without name servers gets the host's");
    let gateway = lab.endpoint("pods", "web.shop")["gateways"][0].as_str().expect("a gateway").to_owned();
    let dns = Message::default().text(1, &gateway).text(2, "shop.pods.internal").text(3, "ndots:5");
    let client = run_pod(&pod_config("client").message(4, &dns)).unwrap();
    let resolv = resolv_conf(&client);
    assert!(resolv.contains(&format!("nameserver {gateway}\n")) && resolv.contains("ndots:5"), "{resolv}");
    let address = lab.address("pods", "web.shop")[0].to_string();
    let inside = namespace(lab, "client.shop");
    for name in ["web", "web.shop"] {
        Dig::expect(&inside, &format!("@{gateway} {name}"), &[&address]);
    }
    [web, client].iter().for_each(|id| end(id));
    nothing_left(lab);
}
