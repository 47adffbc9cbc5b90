//! Requests that Docker does not send.

use std::fs;

use super::{PLUGIN, start_netd};
use crate::lab::Lab;
use crate::world::on_host_words;

/// One request as Docker sends it: the status, and the body.
fn ask(method: &str, body: &str) -> (String, String) {
    let url = format!("http://plugin.moby.localhost/{method}");
    let words = ["curl", "-sS", "--max-time", "20", "--unix-socket", PLUGIN, "-w", "\n%{http_code}", "-H"];
    let more = ["Accept: application/vnd.docker.plugins.v1.2+json", "-H", "Content-Type:", "--data-binary", body, &url];
    let out = on_host_words(&[&words[..], &more[..]].concat()).stdout;
    let (body, status) = out.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.trim().to_owned())
}

pub(super) fn bad_requests(lab: &Lab) {
    start_netd(lab);
    let activated = ask("Plugin.Activate", "");
    assert_eq!(activated, ("200".into(), r#"{"Implements":["NetworkDriver","IpamDriver"]}"#.into()));
    let before = lab.everything();
    fs::write("/run/lab/huge", vec![b' '; 8 << 20]).expect("a file");
    let unknown = "0".repeat(64);
    for (method, body, words) in [
        ("NetworkDriver.CreateNetwork", "{", "EOF"),
        ("NetworkDriver.CreateNetwork", "[]", "invalid"),
        ("NetworkDriver.CreateNetwork", r#"{"NetworkID":7}"#, "invalid type"),
        ("NetworkDriver.CreateNetwork", r#"{"NetworkID":"x","IPv4Data":[{"Pool":"10.0.0.0/99"}]}"#, "10.0.0.0/99"),
        ("NetworkDriver.CreateNetwork", r#"{"NetworkID":"x","Options":{"com.docker.network.generic":7}}"#, "generic"),
        ("NetworkDriver.CreateEndpoint", &format!(r#"{{"NetworkID":"{unknown}","EndpointID":"e"}}"#), "no network"),
        (
            "NetworkDriver.Join",
            &format!(r#"{{"NetworkID":"{unknown}","EndpointID":"e","SandboxKey":"/x"}}"#),
            "no network",
        ),
        ("NetworkDriver.ProgramExternalConnectivity", r#"{"NetworkID":"x","EndpointID":"e"}"#, "no endpoint e"),
        ("IpamDriver.RequestPool", r#"{"Pool":"x"}"#, "\"Error\""),
        ("IpamDriver.RequestAddress", r#"{"PoolID":"x"}"#, "\"Error\""),
        ("NetworkDriver.Nonsense", "{}", "no method"),
        ("Nonsense", "{}", "no method"),
        ("NetworkDriver.CreateNetwork", "@/run/lab/huge", "larger than"),
    ] {
        let (status, answer) = ask(method, body);
        assert!(answer.contains(words), "{method} {body}: {status} {answer}");
    }
    // What is gone already is no error.
    for method in ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "DeleteNetwork", "EndpointOperInfo"] {
        let body = format!(r#"{{"NetworkID":"{unknown}","EndpointID":"{unknown}"}}"#);
        let (status, answer) = ask(&format!("NetworkDriver.{method}"), &body);
        assert!(status == "200" && !answer.contains("Err"), "{method}: {status} {answer}");
    }
    lab.unchanged_since(&before);
}
