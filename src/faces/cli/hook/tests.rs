//! What runtimes send, and what users write into annotations.

use super::annotations::Wanted;
use super::state::{Annotations, Config, Phase, State};
use super::*;
use crate::model::names::Alias;

fn wanted(annotations: &[(&str, &str)]) -> Result<Option<Wanted>, String> {
    let annotations: Annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Wanted::read(&annotations)
}

#[test]
fn annotations_become_a_request_for_each_network() {
    let wanted = wanted(&[
        ("netd.network", " net1, a.b\tnet2 "),
        ("netd.name", "shop"),
        ("netd.publish", "4000:80,[::1]:4001:80/udp  published=5000,target=50"),
        ("netd.alias", "www *.app"),
        ("netd.a.b.alias", "db"),
        ("netd.a.b.ip", "10.0.0.5"),
        ("netd.a.b.publish", "6000:60"),
        ("netd.net2.ifname", "side"),
        ("netd.label", "app=web, tier=front"),
        ("netd.a.b.label", "app=db"),
        ("netd.dns", ""),
        ("netd.files", "keep"),
    ]);
    let wanted = wanted.unwrap().unwrap();
    let names: Vec<&str> = wanted.networks.iter().map(|on| on.network.as_str()).collect();
    assert_eq!((names, wanted.name.as_deref(), wanted.keeps_files), (vec!["net1", "a.b", "net2"], Some("shop"), true));
    let ports: Vec<String> = wanted.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["4000:80/tcp", "[::1]:4001:80/udp", "5000:50/tcp"]);
    let aliases = |index: usize| wanted.networks[index].aliases.iter().map(Alias::as_str).collect::<Vec<_>>();
    assert_eq!((aliases(0), aliases(1).len()), (vec!["www", "*.app"], 3));
    assert_eq!(wanted.networks[1].ip.unwrap().to_string(), "10.0.0.5");
    assert_eq!((wanted.networks[1].ports.len(), wanted.networks[0].ip), (1, None));
    assert_eq!(wanted.networks[2].ifname.as_ref().unwrap().as_str(), "side");
    assert!(wanted.networks.iter().all(|on| on.dns.is_empty()));
    let label = |index: usize| wanted.networks[index].labels["app"].as_str();
    assert_eq!((label(0), label(1), wanted.networks[1].labels["tier"].as_str()), ("web", "db", "front"));
}

#[test]
fn a_container_without_annotations_is_none_of_netds() {
    assert_eq!(wanted(&[]), Ok(None));
}

#[test]
fn what_is_wrong_with_an_annotation_is_named() {
    let net1 = ("netd.network", "net1");
    let two = ("netd.network", "net1,net2");
    for (annotations, words) in [
        (&[("netd.publish", "80")][..], "annotation netd.publish needs netd.network"),
        (&[("netd.network", " , ")], "it names no network"),
        (&[("netd.network", "net1 net1")], "net1 is there twice"),
        (&[("netd.network", "a/b")], "invalid network name \"a/b\""),
        (&[net1, ("netd.networks", "x")], "unknown annotation netd.networks"),
        (&[net1, ("netd.net1.name", "x")], "unknown annotation netd.net1.name"),
        (&[net1, ("netd.", "x")], "unknown annotation netd."),
        (&[net1, ("netd.net2.ip", "10.0.0.5")], "\"net2\" is not in netd.network"),
        (&[net1, ("netd.publish", "80:80:80")], "annotation netd.publish is \"80:80:80\": invalid port"),
        (&[net1, ("netd.ip", "fd00::1")], "give it as ip6"),
        (&[net1, ("netd.ip6", "10.0.0.1")], "give it as ip"),
        (&[net1, ("netd.mac", "02:00")], "invalid MAC address"),
        (&[net1, ("netd.alias", "a..b")], "invalid DNS name"),
        (&[net1, ("netd.ifname", "all")], "the kernel reserves"),
        (&[net1, ("netd.name", "a b")], "invalid container name"),
        (&[net1, ("netd.files", "off")], "the only value is keep"),
        (&[net1, ("netd.expose", "http")], "invalid exposed port"),
        (&[net1, ("netd.dns", "one.one")], "invalid name server"),
        (&[net1, ("netd.label", "a=b app")], "annotation netd.label is \"app\": use LABEL=VALUE"),
        (&[two, ("netd.ip", "10.0.0.5")], "joins 2 networks: use netd.NETWORK.ip"),
        (&[two, ("netd.ifname", "eth0")], "joins 2 networks: use netd.NETWORK.ifname"),
    ] {
        let error = wanted(annotations).expect_err(words);
        assert!(error.contains(words), "{words}: {error}");
    }
    let many: Vec<String> = (0..65).map(|number| format!("net{number}")).collect();
    assert!(wanted(&[("netd.network", &many.join(","))]).unwrap_err().contains("at most 64"));
    assert!(wanted(&[net1, ("netd.ip", &"x".repeat(9999))]).unwrap_err().len() < 400);
}

#[test]
fn the_state_is_read_as_go_reads_it() {
    let text = r#"{"OciVersion":"1.0.2","ID":"web","Status":"creating","PID":7,"bundle":"/b","extra":[],
                   "annotations":{"netd.network":"net1","netd.ip":null,"org.example":{}}}"#;
    let state = State::read(text.as_bytes()).unwrap();
    assert_eq!((state.id.as_str(), state.phase, state.pid), ("web", Phase::Starts, Some(7)));
    assert_eq!(state.bundle.as_deref(), Some(Path::new("/b")));
    let annotations: Vec<&str> = state.annotations.keys().map(String::as_str).collect();
    assert_eq!((annotations, state.annotations["netd.ip"].as_str()), (vec!["netd.ip", "netd.network"], ""));
    let ended = r#"{"id":"web","status":"stopped","pid":0,"bundle":null,"annotations":null}"#;
    let ended = State::read(ended.as_bytes()).unwrap();
    assert_eq!((ended.phase, ended.pid, ended.bundle), (Phase::Ended, None, None));
    for (text, words) in [
        ("{", "it is not JSON"),
        ("3", "it is not a JSON object"),
        (r#"{"id":7,"status":"created"}"#, "id is 7: use a string"),
        (r#"{"id":"","status":"created"}"#, "no id"),
        (r#"{"id":"web"}"#, "no status"),
        (r#"{"id":"web","status":"dead"}"#, "status is \"dead\""),
        (r#"{"id":"web","status":"created","pid":4294967296}"#, "pid is 4294967296"),
        (r#"{"id":"web","status":"created","bundle":"b"}"#, "use an absolute path"),
        (r#"{"id":"web","status":"created","annotations":[]}"#, "annotations is []: use an object"),
        (r#"{"id":"web","status":"created","annotations":{"netd.ip":1}}"#, "netd.ip is 1: use a string"),
    ] {
        let error = State::read(text.as_bytes()).expect_err(text);
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!(State::read(std::io::repeat(b' ')).unwrap_err().contains("larger than 1048576 bytes"));
}

#[test]
fn the_bundle_says_where_root_file_system_and_namespace_are() {
    let bundle = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        std::fs::write(bundle.path().join("config.json"), text).unwrap();
        Config::read(bundle.path())
    };
    let config = read(
        r#"{"Root":{"Path":"fs"},"annotations":{"netd.network":"net1","x":1},
            "linux":{"namespaces":[null,{"type":"pid","path":"/p"},{"Type":"network","path":"/run/netns/pod"}]}}"#,
    );
    let config = config.unwrap();
    assert_eq!((config.root, config.netns), (bundle.path().join("fs"), Some("/run/netns/pod".into())));
    assert_eq!(config.annotations.len(), 1);
    let plain = read(r#"{"root":{"path":"/abs"},"linux":{"namespaces":[{"type":"network","path":""}]}}"#).unwrap();
    assert_eq!((plain.root, plain.netns), ("/abs".into(), None));
    assert!(read("[]").unwrap_err().contains("config.json: it is not a JSON object"));
    assert!(Config::read(Path::new("/nowhere")).unwrap_err().starts_with("/nowhere/config.json: No such file"));
}

#[test]
fn interfaces_are_counted_as_they_come_and_apart_from_an_engines() {
    let of = |there: &[&str], networks: &[&str]| {
        let mut names = Interfaces::new(there.iter().map(|name| (*name).to_owned()).collect(), &[]);
        networks.iter().map(|network| names.of(network)).collect::<Vec<_>>()
    };
    assert_eq!(of(&["lo", "tunl0"], &["a", "b"]), ["eth0", "eth1"]);
    assert_eq!(of(&["lo", "eth0"], &["a", "b"]), ["nd0", "nd1"]);
    assert_eq!(of(&["lo", "eth0", "nd0"], &["a"]), ["nd1"]);
}
