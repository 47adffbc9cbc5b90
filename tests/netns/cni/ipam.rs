//! Addresses from third-party IPAM plugins.

use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use serde_json::{Value, json};

use super::traces;
use crate::lab::cni::{Call, call, reference};
use crate::lab::look::{default_routes, links};
use crate::lab::{Dig, Lab, addresses, ip_json, run, skippable, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        skippable("cni: addresses from host-local", host_local),
        skippable("cni: addresses from static", from_static),
        skippable("cni: addresses from dhcp, through the interface", dhcp),
    ]
}

const MISSING: &str = "containernetworking-plugins is not installed";

fn with_ipam(call: Call, ipam: &Value) -> Call {
    call.conf(|conf| conf.version("1.0.0").key("ipam", ipam.clone()))
}

fn leases() -> Vec<String> {
    let files = fs::read_dir("/run/lab/ipam/net1").map_or_else(|_| Vec::new(), |files| files.flatten().collect());
    let names = files.iter().map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("10.")).collect()
}

fn host_local(lab: &Lab) -> Completion {
    if reference("host-local").is_none() {
        return Completion::ignored_with(MISSING);
    }
    lab.start_daemon();
    let ipam = json!({"type": "host-local", "dataDir": "/run/lab/ipam", "ranges": [[{"subnet": "10.23.0.0/24",
        "rangeStart": "10.23.0.50"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16", "gw": "10.23.0.7"}]});
    for name in ["web", "client"] {
        lab.container(name);
    }
    let add = with_ipam(call("ADD", "web"), &ipam);
    let result = add.run().ok();
    assert_eq!(result["ips"][0]["address"], "10.23.0.50/24");
    assert_eq!(addresses("web", "eth0"), ["10.23.0.50".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(default_routes("web", 4), [("10.23.0.1".to_owned(), "eth0".to_owned())]);
    assert_eq!(ip_json("web", "route show 10.99.0.0/16")[0]["gateway"], "10.23.0.7");
    assert!(result["routes"].as_array().unwrap().contains(&json!({"dst": "10.99.0.0/16", "gw": "10.23.0.7"})));
    with_ipam(call("ADD", "client"), &ipam).run().ok();
    Dig::expect("client", "@10.23.0.1 web", &["10.23.0.50"]);
    with_ipam(call("CHECK", "web"), &ipam).prev_result(&result).run().ok();

    // A failed attachment releases its address.
    lab.container("late");
    run("ip -n late link add eth0 type veth peer name other").ok();
    let held = leases();
    let answer = with_ipam(call("ADD", "late"), &ipam).run();
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(leases(), held);

    for name in ["web", "client"] {
        with_ipam(call("DEL", name), &ipam).run().ok();
        with_ipam(call("DEL", name), &ipam).run().ok();
    }
    assert!(leases().is_empty(), "{:?}", leases());
    assert_eq!(lab.netd("ps --json").ok().json(), json!([]));
    Completion::Completed
}

fn from_static(lab: &Lab) -> Completion {
    if reference("static").is_none() {
        return Completion::ignored_with(MISSING);
    }
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.24.0.0/24 --subnet fd00:24::/64").ok();
    lab.container("web");
    let before = traces(lab);
    let ipam = json!({"type": "static", "addresses": [{"address": "10.24.0.9/24", "gateway": "10.24.0.254"},
        {"address": "fd00:24::9/64"}], "dns": {"nameservers": ["192.0.2.53"], "search": ["static.example"]}});
    let result = with_ipam(call("ADD", "web"), &ipam).run().ok();
    assert_eq!(addresses("web", "eth0").len(), 2);
    assert_eq!(default_routes("web", 4), [("10.24.0.254".to_owned(), "eth0".to_owned())]);
    assert_eq!(default_routes("web", 6)[0].0, "fd00:24::1");
    assert_eq!(result["dns"]["nameservers"], json!(["10.24.0.1", "192.0.2.53"]));
    with_ipam(call("CHECK", "web"), &ipam).prev_result(&result).run().ok();
    with_ipam(call("DEL", "web"), &ipam).run().ok();
    assert_eq!(traces(lab), before);
    let outside = json!({"type": "static", "addresses": [{"address": "10.25.0.9/24"}]});
    let answer = with_ipam(call("ADD", "web"), &outside).run();
    assert!(answer.json["msg"].as_str().unwrap().contains("10.25.0.9"), "{answer}");
    assert_eq!(links("web"), ["lo"]);
    Completion::Completed
}

fn dhcp(lab: &Lab) -> Completion {
    let Some(program) = reference("dhcp") else { return Completion::ignored_with(MISSING) };
    if !run("busybox --list").stdout.lines().any(|applet| applet == "udhcpd") {
        return Completion::ignored_with("busybox has no udhcpd");
    }
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.26.0.0/24").ok();
    lab.connected("net1", "server", "--ip 10.26.0.250 --trusted");
    let settings = "start 10.26.0.100\nend 10.26.0.109\ninterface eth0\nlease_file /run/lab/leases\n\
                    pidfile /run/lab/udhcpd.pid\noption subnet 255.255.255.0\noption router 10.26.0.1\noption lease 600\n";
    fs::write("/run/lab/udhcpd.conf", settings).unwrap();
    fs::write("/run/lab/leases", "").unwrap();
    let spawn = |ns: &str, words: &[&str]| {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{ns}")).arg("--").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut server = spawn("server", &["busybox", "udhcpd", "-f", "-S", "/run/lab/udhcpd.conf"]);
    let mut daemon = spawn("host", &[&program, "daemon", "-socketpath", "/run/lab/dhcp.sock"]);
    until("the DHCP client listens", || fs::metadata("/run/lab/dhcp.sock"));
    lab.container("web");
    let before = traces(lab);
    let ipam = json!({"type": "dhcp", "daemonSocketPath": "/run/lab/dhcp.sock"});
    let result = with_ipam(call("ADD", "web"), &ipam).run();
    if result.code == Some(0) {
        let result = result.clone().ok();
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        assert!(address.starts_with("10.26.0.10"), "{result:#}");
        assert_eq!(addresses("web", "eth0"), [address.parse::<std::net::IpAddr>().unwrap()]);
        Dig::expect("server", "@10.26.0.1 web", &[&address]);
        with_ipam(call("CHECK", "web"), &ipam).prev_result(&result).run().ok();
    }
    with_ipam(call("DEL", "web"), &ipam).run().ok();
    for child in [&mut server, &mut daemon] {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    assert_eq!(result.code, Some(0), "{result}");
    assert_eq!(traces(lab), before);
    Completion::Completed
}
