//! Clients of the name service: the resolvers of glibc, musl and busybox, `dig` and `kdig`; and clients during many
//! changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;

use libtest_mimic::{Completion, Trial};
use netd_testing::wait::seen;

use crate::lab::load::{Load, Pace, Question};
use crate::lab::upstream::{ANSWER, Upstream};
use crate::lab::{Dig, Lab, run, skippable, trial, until};

/// The number of containers that are connected and disconnected meanwhile.
const COMING_AND_GOING: usize = 60;
/// The number of concurrent threads.
const THREADS: usize = 6;
/// The number of containers whose names are looked up meanwhile.
const ASKED_FOR: usize = 5;

/// Types that resolvers, mail servers and browsers query and that no local name has.
const OTHER_TYPES: [&str; 7] = ["AAAA", "MX", "TXT", "SRV", "HTTPS", "CAA", "NAPTR"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("names: no answer is lost or wrong while containers are connected and disconnected", churn),
        trial("names: other types of a known name by dig and kdig", other_types),
        trial("names: getaddrinfo of glibc and busybox", glibc),
        skippable("names: getaddrinfo of musl", musl),
        trial("names: local names win over search domains with every ndots", ndots),
        trial("names: dig and kdig over udp and tcp", transports),
    ]
}

/// net1 with `web` (IPv4 only, alias `www`) and `client`; net2 (dual stack) with `both` and `client`.
fn set_up(lab: &Lab) -> (String, [String; 2]) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.netd("network create net2 --ipv6").ok();
    lab.connected("net1", "web", "--alias www");
    lab.connected("net1", "client", "");
    lab.connected("net2", "both", "");
    lab.connected("net2", "client", "");
    let both = lab.address("net2", "both");
    (lab.address("net1", "web")[0].to_string(), [both[0].to_string(), both[1].to_string()])
}

fn host_resolver() -> Upstream {
    Upstream::start("host", SocketAddr::from(([127, 0, 0, 1], 53)))
}

fn churn(lab: &Lab) {
    lab.start_daemon();
    lab.connected_to_new("net1", "client");
    let mut known: Vec<(String, Ipv4Addr)> = Vec::new();
    for number in 0..ASKED_FOR {
        lab.connected("net1", &format!("web{number}"), &format!("--alias www{number}"));
        let IpAddr::V4(address) = lab.address("net1", &format!("web{number}"))[0] else { panic!("no IPv4 address") };
        known.extend([(format!("web{number}"), address), (format!("www{number}.net1.internal"), address)]);
    }
    for number in 0..COMING_AND_GOING {
        lab.container(&format!("box{number}"));
    }
    let gateway = lab.network("net1")["subnets"][0]["gateway"].as_str().unwrap().parse().unwrap();
    let load = Load::start("client", gateway, Pace { rate: 5000, window: 50 }, move |number| {
        let (name, address) = known[usize::try_from(number).unwrap() % known.len()].clone();
        Question { name, expected: Some(address) }
    });
    until("names are being asked for", || seen(load.answered(), |answered| *answered > 100));
    let begun = load.answered();
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                for number in (first..COMING_AND_GOING).step_by(THREADS) {
                    lab_free_netd(&format!("connect net1 box{number}"));
                    lab_free_netd(&format!("disconnect net1 box{number}"));
                }
            });
        }
    });
    assert!(load.answered() > begun, "nothing was answered meanwhile");
    let tally = load.finish();
    assert!(tally.wrong.is_empty() && tally.lost.is_empty(), "wrong: {:?}, lost: {:?}", tally.wrong, tally.lost);
    assert_eq!(tally.right, tally.asked);
}

/// `netd` from a thread: a [`Lab`] belongs to its test's own.
fn lab_free_netd(words: &str) {
    run(&format!("nsenter --net=/run/netns/host -- {} {words}", crate::lab::daemon::netd())).ok();
}

fn other_types(lab: &Lab) {
    let upstream = host_resolver();
    set_up(lab);
    for name in ["web", "www", "web.net1", "web.net1.internal"] {
        for kind in OTHER_TYPES {
            for transport in ["+notcp", "+tcp"] {
                let dig = Dig::ask("client", &format!("{transport} {name} {kind}"));
                assert!(dig.status == "NOERROR" && dig.answers.is_empty(), "{name} {kind}: {}", dig.text);
                assert!(dig.authority.iter().any(|line| line.contains("SOA")), "{name} {kind}: {}", dig.text);
            }
        }
        let dig = Dig::ask("client", &format!("{name} ANY"));
        assert!(dig.status == "NOERROR" && dig.text.contains("HINFO"), "RFC 8482: {}", dig.text);
    }
    let server = server_of("client");
    for kind in ["AAAA", "MX", "TYPE65"] {
        let output = lab.exec("client", &format!("kdig +retry=0 @{server} web {kind}")).ok().stdout;
        assert!(
            output.contains("status: NOERROR") && output.contains("ANSWER: 0") && output.contains("SOA"),
            "{output}"
        );
    }
    assert!(upstream.asked().is_empty(), "forwarded to the host's resolvers: {:?}", upstream.asked());
}

/// The one name server in a container's resolv.conf.
fn server_of(container: &str) -> String {
    let text = std::fs::read_to_string(format!("/etc/netns/{container}/resolv.conf")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap().to_owned()
}

fn glibc(lab: &Lab) {
    let _upstream = host_resolver();
    let (web, both) = set_up(lab);
    let getent = |database: &str, name: &str| lab.exec("client", &format!("getent {database} {name}"));
    for name in ["web", "www", "web.net1", "WEB", "web.net1.internal."] {
        for database in ["ahosts", "ahostsv4"] {
            let found = getent(database, name).ok().stdout;
            assert!(found.lines().all(|line| line.starts_with(&web)), "{database} {name}: {found}");
        }
        // 2: no such key, as opposed to a resolver that fails.
        let found = getent("ahostsv6", name);
        assert!(found.code == Some(2) || found.stdout.contains(&format!("::ffff:{web}")), "{name}: {found:?}");
    }
    let found = getent("ahosts", "both").ok().stdout;
    assert!(both.iter().all(|address| found.contains(address.as_str())), "{found}");
    assert_eq!(getent("ahosts", "nobody").code, Some(2));
    assert_eq!(getent("hosts", &web).ok().stdout.split_whitespace().nth(1), Some("web"), "by address");
    let found = getent("ahostsv4", "www.example.com").ok().stdout;
    assert!(found.starts_with(&Ipv4Addr::from(ANSWER).to_string()), "{found}");
    // Debian links busybox-static with glibc; its nslookup has a resolver of its own.
    let found = lab.exec("client", "busybox nslookup web").stdout;
    assert!(found.contains(&web) && !found.contains("NXDOMAIN"), "{found}");
}

/// Asks getaddrinfo for any, IPv4 and IPv6 addresses of each argument and prints them, or its error's number.
const ASK_LIBC: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int count, char **words) {
    int families[] = {AF_UNSPEC, AF_INET, AF_INET6};
    for (int word = 1; word < count; word++)
        for (int family = 0; family < 3; family++) {
            struct addrinfo hints = {.ai_family = families[family], .ai_socktype = SOCK_STREAM}, *found = 0, *one;
            int error = getaddrinfo(words[word], 0, &hints, &found);
            char text[64];
            printf("%s %s", words[word], (const char *[]){"any", "4", "6"}[family]);
            if (error) printf(" %s", error == EAI_NONAME ? "NONAME" : error == EAI_AGAIN ? "AGAIN" : error == -5 ? "NODATA" : "ERROR");
            for (one = error ? 0 : found; one; one = one->ai_next) {
                void *address = one->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
                                                          : (void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
                printf(" %s", inet_ntop(one->ai_family, address, text, sizeof text));
            }
            printf("\n");
        }
    return 0;
}
"#;

fn musl(lab: &Lab) -> Completion {
    std::fs::write("/run/lab/ask.c", ASK_LIBC).unwrap();
    let compiler = Command::new("musl-gcc").args(["-static", "-o", "/run/lab/ask", "/run/lab/ask.c"]).status();
    match compiler {
        Err(_) => return Completion::ignored_with("musl-gcc is not installed (scripts/test installs musl-tools)"),
        Ok(status) => assert!(status.success(), "musl-gcc: {status}"),
    }
    let _upstream = host_resolver();
    let (web, [both4, both6]) = set_up(lab);
    let ask = |name: &str| -> Vec<String> {
        let output = lab.exec("client", &format!("/run/lab/ask {name}")).ok().stdout;
        output.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    };
    for name in ["web", "www", "web.net1", "www.net1.internal", "WeB"] {
        // No IPv6 address is no error of the name: the whole lookup would fail with it.
        let output = ask(name);
        assert_eq!(output[..2], [format!("any {web}"), format!("4 {web}")], "{name}");
        assert!(["6 NONAME", "6 NODATA"].contains(&output[2].as_str()), "{name}: {output:?}");
    }
    let any = &ask("both")[0];
    assert!(any.contains(&both4) && any.contains(&both6), "{any}");
    assert_eq!(ask("both")[1..], [format!("4 {both4}"), format!("6 {both6}")]);
    assert_eq!(ask("nobody"), ["any NONAME", "4 NONAME", "6 NONAME"]);
    assert_eq!(ask("nobody.net1.internal"), ["any NONAME", "4 NONAME", "6 NONAME"]);
    assert_eq!(ask("www.example.com")[1], format!("4 {}", Ipv4Addr::from(ANSWER)));
    Completion::Completed
}

fn ndots(lab: &Lab) {
    // The search domain has every name.
    let upstream = host_resolver();
    std::fs::write("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch corp.example\n").unwrap();
    let (web, _) = set_up(lab);
    let server = server_of("client");
    for dots in 0..=15 {
        let text = format!("nameserver {server}\nsearch corp.example\noptions ndots:{dots}\n");
        std::fs::write("/etc/netns/client/resolv.conf", text).unwrap();
        for name in ["web", "www", "web.net1", "web.net1.internal"] {
            let found = lab.exec("client", &format!("getent ahostsv4 {name}")).ok().stdout;
            assert!(found.lines().all(|line| line.starts_with(&web)), "ndots:{dots}: {name}: {found}");
        }
    }
    let asked = upstream.asked();
    let ours = |name: &String| name.starts_with("web") || name.starts_with("www");
    assert!(!asked.iter().any(ours), "{asked:?}");
}

fn transports(lab: &Lab) {
    let (web, _) = set_up(lab);
    let server = server_of("client");
    for options in ["+noedns", "+edns", "+bufsize=512", "+bufsize=4096 +dnssec", "+cookie", "+nsid", "+norecurse"] {
        for transport in ["+notcp", "+tcp"] {
            Dig::expect("client", &format!("{transport} {options} web"), &[&web]);
        }
    }
    for options in ["+tcp +keepopen", "+tcp", "+edns +bufsize=1232", "+tcp +padding=64", "+notcp +nordflag"] {
        // Two questions, over one connection where it is kept open.
        let line = format!("kdig +retry=0 +short {options} @{server} web A www A");
        let output = lab.exec("client", &line).ok().stdout;
        assert_eq!(output.lines().filter(|line| *line == web).count(), 2, "{options}: {output}");
    }
}
