//! The CNI plugin with Debian's IPAM plugins. The daemon is a thread that records what it is asked.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use netd_testing::cni::{Call, Daemon, conf};
use netd_testing::harness::trial;
use serde_json::{Value, json};

/// Where Debian puts containernetworking-plugins.
const DEBIANS: &str = "/usr/lib/cni";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ipam: host-local gives and takes back", debians_host_local_gives_and_takes_back),
        trial("ipam: static gives what was asked", debians_static_gives_what_was_asked),
    ]
}

/// Whether there is Debian's plugin of that name; else the reason to ignore the test.
fn installed(kind: &str) -> Result<(), String> {
    let path = Path::new(DEBIANS).join(kind);
    if path.exists() {
        return Ok(());
    }
    Err(format!("{} is not installed (scripts/test installs containernetworking-plugins)", path.display()))
}

/// Debian's plugins speak up to 1.0.0.
fn debian_call(daemon: &Daemon, command: &str, more: Value) -> Call {
    let mut call = Call::new(netd_testing::programs!().plugin, command, &conf(daemon).version("1.0.0").with(more));
    call.set("CNI_PATH", DEBIANS);
    call
}

fn debians_host_local_gives_and_takes_back() -> Result<(), String> {
    installed("host-local")?;
    let daemon = Daemon::start();
    let leases = daemon.folder.path().join("leases");
    let held = || fs::read_dir(leases.join("dbnet")).unwrap().any(|entry| entry.unwrap().file_name() == "10.1.0.2");
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/16", "dataDir": leases,
                      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.2.0.0/16"}]});
    let result = debian_call(&daemon, "ADD", json!({"ipam": ipam})).run().good();
    assert_eq!(result["ips"][0], json!({"address": "10.1.0.2/16", "gateway": "10.1.0.1", "interface": 2}));
    let routes = json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.2.0.0/16", "gw": "10.1.0.1"}]);
    assert_eq!(result["routes"], routes);
    assert!(held());
    let keys = json!({"ipam": ipam, "prevResult": result});
    debian_call(&daemon, "CHECK", keys.clone()).run().good();
    for _ in 0..2 {
        debian_call(&daemon, "DEL", keys.clone()).run().good();
        assert!(!held());
    }
    debian_call(&daemon, "CHECK", keys).run().failed(999, "host-local: Failed to find address");
    daemon.refuses("PUT", 500, "failed");
    debian_call(&daemon, "ADD", json!({"ipam": ipam})).run().failed(999, "the daemon says failed");
    assert!(fs::read_dir(leases.join("dbnet")).unwrap().all(|entry| {
        let name = entry.unwrap().file_name();
        name == "lock" || name.to_string_lossy().starts_with("last_reserved_ip")
    }));
    // It is too old for what it would be told with 1.1.0, and says so.
    let mut call = Call::new(netd_testing::programs!().plugin, "ADD", &conf(&daemon).with(json!({"ipam": ipam})));
    call.set("CNI_PATH", DEBIANS).run().failed(1, "host-local: incompatible CNI versions");
    Ok(())
}

fn debians_static_gives_what_was_asked() -> Result<(), String> {
    installed("static")?;
    let daemon = Daemon::start();
    let addresses = json!([{"address": "10.1.0.9/16", "gateway": "10.1.0.1"}, {"address": "fd00:1::9/64"}]);
    let keys = json!({"ipam": {"type": "static", "addresses": addresses, "dns": {"domain": "lease.example"}}});
    let result = debian_call(&daemon, "ADD", keys).run().good();
    assert_eq!(result["ips"][1], json!({"address": "fd00:1::9/64", "interface": 2}));
    assert_eq!(result["ips"][0]["gateway"], "10.1.0.1");
    let keys = json!({"ipam": {"type": "static"}, "runtimeConfig": {"ips": ["10.1.0.8/16"]}});
    let result = debian_call(&daemon, "ADD", keys).run().good();
    assert_eq!(result["ips"], json!([{"address": "10.1.0.8/16", "interface": 2}]));
    Ok(())
}
