//! The name service as dig and kdig see it.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;

use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, RecordType};
use libtest_mimic::Trial;
use netd::engine::Snapshot;
use netd::model::endpoint::Endpoint;
use netd_testing::dns::{Lab, Upstream, add, endpoint, insert, record, state};
use netd_testing::harness::trial;

use crate::block_on;

const WEB: &str = "127.1.0.2";
const DB: &str = "127.1.0.3";
const FAR: &str = "127.2.0.4";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("dig: every form of a name over UDP and TCP", || block_on(dig_finds_every_form_over_udp_and_tcp())),
        trial("dig: clients with IPv6 are known", || block_on(clients_with_ipv6_are_known_too())),
        trial("dig: services with their addresses and labels", || {
            block_on(dig_finds_services_with_their_addresses_and_labels())
        }),
        trial("dig and kdig: two hundred addresses", || block_on(two_hundred_addresses_by_dig_and_kdig())),
        trial("dig: unknown options do no harm and the case is kept", || {
            block_on(unknown_options_are_ignored_and_the_case_is_kept())
        }),
        trial("dig: an answer of an upstream is kept", || block_on(an_answer_is_kept_for_dig_too())),
    ]
}

/// What dig prints. `Err`: why it does not run.
async fn dig(lab: &Lab, from: &str, arguments: &[&str]) -> Result<String, String> {
    output(lab, "dig", from, &["+tries=1", "+time=5"], arguments).await
}

/// What kdig prints. `Err`: why it does not run.
async fn kdig(lab: &Lab, from: &str, arguments: &[&str]) -> Result<String, String> {
    output(lab, "kdig", from, &["+retry=0", "+time=5"], arguments).await
}

async fn output(
    lab: &Lab,
    program: &'static str,
    from: &str,
    fixed: &[&str],
    arguments: &[&str],
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["-b", from, &format!("@{}", lab.server.ip()), "-p", &lab.server.port().to_string()]).args(fixed);
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.map_err(|error| format!("{program} does not run: {error} (scripts/test installs it)"))?;
    Ok(String::from_utf8(output.stdout).unwrap())
}

async fn dig_finds_every_form_over_udp_and_tcp() -> Result<(), String> {
    let lab = Lab::start(vec![]).await;
    for transport in ["+notcp", "+tcp"] {
        for name in ["web", "web.net1", "web.net1.internal", "www", "www.net1.internal", "web-01234567"] {
            let response = dig(&lab, DB, &[transport, "+short", name]).await?;
            assert_eq!(response, "127.1.0.2\n", "{name} {transport}");
            assert_eq!(dig(&lab, DB, &[transport, "+short", name, "AAAA"]).await?, "fd01::2\n", "{name}");
        }
        let reverse = dig(&lab, DB, &[transport, "+short", "-x", WEB]).await?;
        assert_eq!(reverse, "web.\nweb.net1.internal.\n", "{transport}");
        assert_eq!(dig(&lab, DB, &[transport, "+short", "-x", "fd01::2"]).await?, reverse, "{transport}");
    }
    let response = dig(&lab, DB, &["WeB.net1"]).await?;
    assert!(response.contains("status: NOERROR") && response.contains("flags: qr aa rd ra;"), "{response}");
    assert!(response.lines().any(|line| line.split_whitespace().eq(["WeB.net1.", "5", "IN", "A", WEB])), "{response}");
    assert!(response.contains("EDNS: version: 0, flags:; udp: 1232"), "{response}");
    let response = dig(&lab, DB, &["db", "AAAA"]).await?;
    assert!(response.contains("status: NOERROR") && response.contains("ANSWER: 0, AUTHORITY: 1"), "{response}");
    assert!(response.contains("SOA\thost.internal. hostmaster.internal. 7 3600 600 86400 5"), "{response}");
    let response = dig(&lab, DB, &["nosuch.internal"]).await?;
    assert!(response.contains("status: NXDOMAIN") && response.contains("internal.\t\t5\tIN\tSOA"), "{response}");
    Ok(())
}

async fn clients_with_ipv6_are_known_too() -> Result<(), String> {
    let lab = Lab::at("::1", vec![]).await;
    for transport in ["+notcp", "+tcp"] {
        let response = dig(&lab, "::1", &[transport, "+short", "far"]).await?;
        assert_eq!(response, "127.2.0.4\n", "{transport}");
        assert_eq!(dig(&lab, "::1", &[transport, "+short", "self.net2", "AAAA"]).await?, "::1\n", "{transport}");
        assert!(dig(&lab, "::1", &[transport, "web"]).await?.contains("status: NXDOMAIN"), "{transport}");
    }
    Ok(())
}

/// Adds `api` on net1 and net2: serves 8080/tcp as http, and has labels.
fn with_services(lab: &Lab) {
    let mut desired = lab.snapshot.load().desired.clone();
    for (network, address, labels) in [
        ("net1", "127.1.0.60/24", vec![("tier", "front".to_owned()), ("long", "x".repeat(600))]),
        ("net2", "127.2.0.60/24", vec![("side", "back".to_owned())]),
    ] {
        let aliases = vec!["*.api".parse().unwrap()];
        let exposed = ["8080/tcp=http", "9/udp"].map(|exposure| exposure.parse().unwrap()).into();
        let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let api = Endpoint { aliases, exposed, labels, ..endpoint("API", network, &[address]) };
        insert(&mut desired, api);
    }
    lab.snapshot.store(Arc::new(Snapshot { desired, domain: "internal".into(), ..Snapshot::default() }));
}

async fn dig_finds_services_with_their_addresses_and_labels() -> Result<(), String> {
    let lab = Lab::start(vec![]).await;
    with_services(&lab);
    let response = dig(&lab, DB, &["_Http._tcp.api", "SRV"]).await?;
    let lines: Vec<Vec<&str>> = response.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        "_Http._tcp.api. 5 IN SRV 0 1 8080 API.net1.internal.",
        "_Http._tcp.api. 5 IN SRV 1 1 8080 API.net2.internal.",
        "API.net1.internal. 5 IN A 127.1.0.60",
        "API.net2.internal. 5 IN A 127.2.0.60",
    ] {
        assert!(lines.contains(&line.split(' ').collect()), "{line}: {response}");
    }
    assert!(response.contains("ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 3"), "{response}");
    assert_eq!(dig(&lab, WEB, &["+short", "_http._tcp.x.y.api", "SRV"]).await?, "0 1 8080 API.net1.internal.\n");
    assert_eq!(dig(&lab, WEB, &["+short", "_9._udp.api.net1", "SRV"]).await?, "0 1 9 API.net1.internal.\n");
    assert_eq!(dig(&lab, FAR, &["+short", "api", "TXT"]).await?, "\"side=back\"\n");
    let long = dig(&lab, WEB, &["+short", "api", "TXT"]).await?;
    let text = |n: usize| "x".repeat(n);
    assert_eq!(long, format!("\"long={}\" \"{}\" \"{}\"\n\"tier=front\"\n", text(250), text(255), text(95)));
    Ok(())
}

/// A laboratory with 200 containers under the alias `crowd`.
async fn crowd() -> Lab {
    let lab = Lab::start(vec![]).await;
    let mut desired = state();
    for n in 0..200 {
        add(&mut desired, &format!("q{n}"), "net1", &[&format!("127.1.1.{n}/16")], "crowd");
    }
    lab.snapshot.store(Arc::new(Snapshot { desired, domain: "internal".into(), ..Snapshot::default() }));
    lab
}

async fn two_hundred_addresses_by_dig_and_kdig() -> Result<(), String> {
    let lab = crowd().await;
    for (size, options) in [(512, &["+noedns"][..]), (512, &["+bufsize=512"]), (1232, &["+bufsize=1232"])] {
        let arguments = [&["+ignore", "+notcp", "crowd"], options].concat();
        let response = dig(&lab, WEB, &arguments).await?;
        assert!(response.contains("flags: qr aa tc rd ra;"), "{options:?}: {response}");
        let (_, received) = response.split_once("MSG SIZE  rcvd: ").unwrap();
        assert!(received.trim().parse::<usize>().unwrap() <= size, "{options:?}: {response}");
        assert_eq!(response.contains("EDNS: version: 0"), options != ["+noedns"], "{response}");
    }
    let whole = |response: &str| response.lines().collect::<BTreeSet<_>>().len();
    assert_eq!(whole(&dig(&lab, WEB, &["+tcp", "+short", "crowd"]).await?), 200);
    assert_eq!(whole(&dig(&lab, WEB, &["+short", "crowd"]).await?), 200, "it comes again over TCP by itself");
    let response = kdig(&lab, WEB, &["+tcp", "+short", "crowd"]).await?;
    assert_eq!(whole(&response), 200);
    let response = kdig(&lab, WEB, &["+edns", "+bufsize=4096", "+dnssec", "+nsid", "+padding=128", "db"]).await?;
    assert!(response.contains("Version: 0; flags: do; UDP size: 1232 B") && response.contains(DB), "{response}");
    let response = kdig(&lab, WEB, &["+edns=1", "db"]).await?;
    assert!(response.contains("status: BADVERS") && response.contains("Version: 0;"), "{response}");
    Ok(())
}

async fn unknown_options_are_ignored_and_the_case_is_kept() -> Result<(), String> {
    let lab = Lab::start(vec![]).await;
    let response =
        dig(&lab, WEB, &["+ednsopt=65001:0123456789", "+cookie", "+dnssec", "+bufsize=4096", "wEB.nET1"]).await?;
    assert!(response.contains("EDNS: version: 0, flags: do; udp: 1232"), "{response}");
    assert!(response.lines().any(|line| line.split_whitespace().eq([";wEB.nET1.", "IN", "A"])), "{response}");
    assert!(response.lines().any(|line| line.split_whitespace().eq(["wEB.nET1.", "5", "IN", "A", WEB])), "{response}");
    assert!(!response.contains("WARNING") && !response.contains("OPT=65001"), "{response}");
    Ok(())
}

async fn an_answer_is_kept_for_dig_too() -> Result<(), String> {
    let upstream = Upstream::saying(|reply| {
        reply.add_answer(record("www.example", 60, RData::A(A::new(192, 0, 2, 1))));
    })
    .await;
    let lab = Lab::start(vec![upstream.address]).await;
    lab.ask(WEB, "www.example", RecordType::A).await;
    assert_eq!(upstream.asked().len(), 1);
    let response = dig(&lab, WEB, &["www.example"]).await?;
    assert!(response.contains("status: NOERROR") && response.contains("EDNS: version: 0"), "{response}");
    // dig sets AD, which makes it another question.
    assert_eq!(upstream.asked().len(), 2);
    let again = dig(&lab, WEB, &["www.example"]).await?;
    assert!(again.contains("192.0.2.1") && !again.contains("WARNING"), "{again}");
    assert_eq!(upstream.asked().len(), 2);
    Ok(())
}
