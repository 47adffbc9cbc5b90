//! `-p` as Docker's users write it: where nothing can be published, the long form, and the same port twice.

use libtest_mimic::Trial;

use crate::lab::{HOST4, Lab, Proto, Server, ask, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("publishing: odd host addresses, Docker's long form, the same port twice", specs)]
}

fn specs(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.container("web");
    let before = lab.everything();
    // The outside's and the host's subnet is a /24: its last address is the broadcast address.
    let broadcast = format!("{}.255", HOST4.rsplit_once('.').unwrap().0);
    for (ports, code, words) in [
        ("-p 255.255.255.255:4000:80", 2, "255.255.255.255 is the broadcast address"),
        ("-p 224.0.0.1:4000:80", 2, "multicast"),
        ("-p [ff02::1]:4000:80", 2, "multicast"),
        ("-p 240.0.0.1:4000:80", 2, "reserved"),
        (&format!("-p {broadcast}:4000:80"), 1, "the host has no such address"),
        (&format!("-p {broadcast}:4000:80/udp"), 1, "the host has no such address"),
        ("-p 4000:80 -p 4000:81", 1, "given twice"),
        ("-p 4000:80 -p 127.0.0.1:4000:80", 1, "given twice"),
        ("-p 4000-4001:80 -p 4000:81", 1, "given twice"),
    ] {
        let out = lab.netd(&format!("connect net1 web {ports}"));
        assert!(out.code == Some(code) && out.stderr.lines().count() == 1 && out.stderr.contains(words), "{out:#?}");
        assert!(!out.stderr.contains("published by"), "no container publishes it: {out:#?}");
    }
    let (status, body) =
        lab.http("POST", "/v1/networks/net1/endpoints", r#"{"container":"web","ports":["80:80","80:81"]}"#);
    assert!(status == 400 && body.contains("given twice"), "{body}");
    lab.unchanged_since(&before);

    let ports = "-p published=8922,target=80,protocol=tcp,mode=host -p 8922:80 -p [::ffff:127.0.0.1]:8923:80";
    lab.netd(&format!("connect net1 web {ports}")).ok();
    let shown = lab.netd("port web --json").ok().json();
    let shown: Vec<_> = shown.as_array().unwrap().iter().map(|port| (&port["host_ip"], &port["host_port"])).collect();
    assert_eq!(serde_json::json!(shown), serde_json::json!([[null, 8922], ["127.0.0.1", 8923]]));
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 8922)).who, "web");
    assert_eq!(ask("host", Proto::Tcp, ("127.0.0.1", 8923)).who, "web");
}
