//! The small libcni, tested with the reference plugins.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::lab::look::links;
use crate::lab::{HOST4, Lab, Proto, Server, addresses, ask};
use crate::libcni::{Attachment, ConfList};
use crate::world::{REFERENCE_PLUGINS, runtime, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("libcni: the newest common version is used", || {
            versions();
            Ok(())
        }),
        trial("libcni: the reference plugins attach, check and detach through it", &[REFERENCE_PLUGINS], chain),
        trial("libcni: the failure of a plugin is reported with its code", &[REFERENCE_PLUGINS], failure),
    ]
}

fn versions() {
    let spoken = |versions: &str| {
        let text = format!(r#"{{"name":"n",{versions}"plugins":[{{"type":"bridge"}}]}}"#);
        ConfList::parse(&text).map(|list| list.version)
    };
    for (versions, expected) in [
        (r#""cniVersion":"0.4.0","#, "0.4.0"),
        (r#""cniVersion":"1.0.0","cniVersions":["1.0.0","1.1.0"],"#, "1.1.0"),
        (r#""cniVersion":"1.0.0","cniVersions":["1.1.0","1.2.0"],"#, "1.1.0"),
        (r#""cniVersions":["0.3.1"],"#, "0.3.1"),
        ("", "0.1.0"),
    ] {
        assert_eq!(spoken(versions).as_deref(), Ok(expected), "{versions}");
    }
    for wrong in ["{}", r#"{"name":"n"}"#, r#"{"name":"n","plugins":[]}"#, r#"{"name":"n","plugins":[{}]}"#] {
        assert!(ConfList::parse(wrong).is_err(), "{wrong}");
    }
    let odd = r#"{"name":"n","disableCheck":"yes","plugins":[{"type":"bridge"}]}"#;
    assert!(ConfList::parse(odd).is_err());
}

fn list(more: &[Value]) -> ConfList {
    let ranges = json!([[{"subnet": "10.74.0.0/24"}]]);
    let bridge = json!({
        "type": "bridge", "bridge": "ref0", "isGateway": true, "hairpinMode": true, "capabilities": {"ips": true},
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/lab/ipam"},
    });
    let plugins: Vec<&Value> = [&bridge].into_iter().chain(more).collect();
    let list = json!({"cniVersion": "1.0.0", "name": "reference", "plugins": plugins});
    ConfList::parse(&list.to_string()).expect("a good list")
}

fn chain(lab: &Lab) {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    // CHECK without portmap: that of version 1.1 looks for IPv6 rules which it did not make.
    let (runtime, list, bridge) = (runtime(), list(&[portmap]), list(&[]));
    lab.container("web");
    let ports = json!([{"hostPort": 4000, "containerPort": 80, "protocol": "tcp"}]);
    let mut web = Attachment::of("web", "c0ffee").with("portMappings", ports).with("ips", json!(["10.74.0.9"]));
    let result = runtime.add(&list, &mut web).unwrap();
    assert_eq!((web.addresses(), result["cniVersion"].as_str()), (vec!["10.74.0.9".to_owned()], Some("1.0.0")));
    assert_eq!(addresses("web", "eth0"), ["10.74.0.9".parse::<std::net::IpAddr>().unwrap()]);
    let server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    drop(server);
    runtime.check(&bridge, &web).unwrap();
    lab.exec("web", "ip address flush dev eth0").ok();
    let refusal = runtime.check(&bridge, &web).unwrap_err();
    assert!(refusal.what == "bridge CHECK" && refusal.code.is_some(), "{refusal:?}");
    runtime.status(&list).unwrap();
    runtime.gc(&list, &[]).unwrap();
    for _ in 0..2 {
        runtime.del(&list, &web).unwrap();
    }
    assert_eq!(links("web"), ["lo"]);
    assert!(!fs::exists("/run/lab/ipam/reference/10.74.0.9").unwrap());
}

fn failure(lab: &Lab) {
    lab.container("web");
    let mut web = Attachment::of("web", "c0ffee");
    let refusal = runtime().add(&list(&[]).speaking("reference", "9.9.9"), &mut web).unwrap_err();
    assert_eq!((refusal.code, refusal.what.as_str()), (Some(1), "bridge ADD"), "{refusal:?}");
    web.netns = "/run/netns/none".to_owned();
    let refusal = runtime().add(&list(&[]), &mut web).unwrap_err();
    assert!(refusal.message.contains("none"), "{refusal:?}");
    assert_eq!(links("web"), ["lo"]);
}
