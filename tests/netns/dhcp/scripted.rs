//! What a DHCP server says whose answers are made by hand, and what becomes of it: what dnsmasq never says, and leases of
//! seconds.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use netd_testing::wait::{is, seen};

use super::LAN;
use super::server::{Asked, DECLINE, DISCOVER, NAK, OFFER, RELEASE, REQUEST, Said, Scripted, gives};
use crate::lab::frames::{IPV4, Wire, frame, ipv4, udp};
use crate::lab::look::{addresses, default_routes, links};
use crate::lab::{Dig, Lab, run, trial, until, until_within};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("dhcp: a lease is prolonged in time, with the server that gave it", prolonged),
        trial("dhcp: a lease counts from the question, not from a late answer", late),
        trial("dhcp: another address is taken over when the server gives one", another),
        trial("dhcp: an address that a killed daemon was taking off is taken off after a start", half_changed),
        trial("dhcp: a refused lease is given up at once, and another one asked for", given_up),
        trial("dhcp: a lease that ends takes the address away, until a server is back", ends),
        trial("dhcp: a container whose lease has ended cannot take an address by itself", guarded),
        trial("dhcp: a restart prolongs at once what is due", due_at_start),
        trial("dhcp: senseless answers are refused, and said", senseless),
        trial("dhcp: an address that another container has is declined, and the next one taken", doubled),
        trial("dhcp: an address of the host is declined, if the server gives no other one it is said", of_the_host),
        trial("dhcp: a lease prolonged with another's address is lost, and that address declined", renewed_doubled),
        trial("dhcp: a LAN without a server does not keep another one waiting", silent_lan),
        trial("dhcp: a caller that does not wait leaves nothing behind", hung_up),
    ]
}

/// The network, and `web` on it.
fn set_up(lab: &Lab) {
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.connected("lan", "web", "");
}

fn has(last: u8) -> Vec<std::net::IpAddr> {
    vec![[192, 0, 2, last].into()]
}

fn prolonged(lab: &Lab) {
    let server = Scripted::start(gives(7, 6));
    set_up(lab);
    let first = lab.endpoint("lan", "web")["lease"].clone();
    for _ in 0..2 {
        let asked = server.hears("a request for more time", Asked::keeps);
        assert_eq!(asked.own, Ipv4Addr::new(192, 0, 2, 7));
    }
    until("the lease lasts longer", || {
        seen(lab.endpoint("lan", "web")["lease"].clone(), |lease| lease["expires"].as_str() > first["expires"].as_str())
    });
    assert_eq!((addresses("web", "eth0"), lab.diff()), (has(7), String::new()));
    lab.netd("disconnect lan web").ok();
    server.hears("that the address is free", |asked| asked.kind == RELEASE);
}

fn late(lab: &Lab) {
    let _server = Scripted::start(|asked| {
        if asked.kind == REQUEST {
            let asked = Instant::now();
            until("it has waited", || seen(asked.elapsed(), |passed| *passed > Duration::from_secs(3)));
        }
        gives(7, 3600)(asked)
    });
    set_up(lab);
    let now = run("date -u -d -2seconds +%Y-%m-%dT%H:%M:%SZ").ok().stdout;
    let granted = lab.endpoint("lan", "web")["lease"]["granted"].clone();
    assert!(granted.as_str() <= Some(now.trim()), "{granted}, after {now}");
}

fn another(lab: &Lab) {
    let server = Scripted::start(gives(7, 6));
    set_up(lab);
    server.says(gives(9, 3600));
    until("it has the other address", || is(addresses("web", "eth0"), &has(9)[..]));
    until("names follow", || is(lab.address("lan", "web"), &has(9)[..]));
    Dig::expect("web", "web", &["192.0.2.9"]);
    assert_eq!(lab.diff(), "");
}

/// As if the daemon had been killed between its commit and the changes of the interface, when the server gave .7 instead of
/// .9. An address of somebody else stays.
fn half_changed(lab: &Lab) {
    let _server = Scripted::start(gives(7, 3600));
    set_up(lab);
    lab.kill_daemon();
    {
        let database = redb::Database::create("/run/lab/runtime/endpoints.redb").expect("the store");
        let transaction = database.begin_write().expect("a transaction");
        let definition = redb::TableDefinition::<&str, &[u8]>::new("endpoints");
        let mut table = transaction.open_table(definition).expect("the endpoints");
        let (key, mut record) = {
            let row = redb::ReadableTable::first(&table).expect("a table").expect("an endpoint");
            (row.0.value().to_owned(), row.1.value().to_vec())
        };
        let mut endpoint: serde_json::Value = serde_json::from_slice(&record[1..]).expect("JSON");
        let mut former = endpoint["dhcp"]["lease"].clone();
        former["address"] = "192.0.2.9/24".into();
        endpoint["dhcp"]["leaving"] = serde_json::json!([former]);
        record.truncate(1);
        record.extend(serde_json::to_vec(&endpoint).expect("JSON"));
        table.insert(key.as_str(), record.as_slice()).expect("a row");
        drop(table);
        transaction.commit().expect("a commit");
    }
    // The former one is the first of its subnet: the kernel takes the others away with it.
    for line in ["address flush dev eth0", "address add 192.0.2.9/24 dev eth0", "address add 198.51.100.9/24 dev eth0"]
    {
        run(&format!("ip -n web {line}")).ok();
    }
    lab.start_daemon();
    let wanted: Vec<std::net::IpAddr> = vec![[192, 0, 2, 7].into(), [198, 51, 100, 9].into()];
    let sorted = || {
        let mut all = addresses("web", "eth0");
        all.sort();
        all
    };
    until("it has its address, and not its former one", || is(sorted(), &wanted[..]));
    until("with the route", || seen(default_routes("web", 4), |routes| routes.len() == 1));
}

fn given_up(lab: &Lab) {
    let server = Scripted::start(gives(7, 6));
    set_up(lab);
    server.says(|asked| {
        let refuses = asked.keeps().then_some(Said { kind: NAK, address: [0; 4], seconds: 0 });
        refuses.or_else(|| gives(8, 3600)(asked))
    });
    server.hears("a request for more time", Asked::keeps);
    server.hears("a question for another address", |asked| asked.kind == DISCOVER);
    until("it has the other address", || is(addresses("web", "eth0"), &has(8)[..]));
    until("names follow", || is(lab.address("lan", "web"), &has(8)[..]));
    until("nothing is wrong", || seen(lab.netd("status").stdout, |status| !status.contains("lost its address")));
    assert_eq!(lab.diff(), "");
}

fn ends(lab: &Lab) {
    let server = Scripted::start(gives(7, 6));
    set_up(lab);
    server.says(|_| None);
    server.hears("a request for more time", Asked::keeps);
    until_within(Duration::from_secs(20), "the address is gone", || is(addresses("web", "eth0").len(), &0));
    let lost = "web on lan has lost its address 192.0.2.7/24: its lease has ended";
    until("it is a problem", || seen(lab.netd("status").stdout, |status| status.contains(lost)));
    assert_eq!((lab.diff(), links("web")), (String::new(), vec!["lo".to_owned(), "eth0".to_owned()]));
    assert!(lab.address("lan", "web").is_empty());
    server.says(gives(7, 3600));
    until("it has an address again", || is(addresses("web", "eth0"), &has(7)[..]));
    until("nothing is wrong", || seen(lab.netd("status").stdout, |status| !status.contains("lost its address")));
}

fn guarded(lab: &Lab) {
    super::bridge("");
    let server = Scripted::start(gives(7, 6));
    lab.start_daemon();
    lab.netd("network create lan -o mode=unmanaged -o bridge=br0 -o ipam=dhcp").ok();
    lab.connected("lan", "web", "");
    server.says(|_| None);
    until_within(Duration::from_secs(20), "the address is gone", || is(addresses("web", "eth0").len(), &0));
    let mac: Vec<u8> = lab.endpoint("lan", "web")["mac"]
        .as_str()
        .map(|mac| mac.split(':').map(|pair| u8::from_str_radix(pair, 16).expect("a byte")).collect())
        .expect("a MAC address");
    let datagram = |from: [u8; 4], ports: (u16, u16)| {
        let packet = ipv4(from.into(), Ipv4Addr::BROADCAST, 17, &udp(ports.0, ports.1, b"x"));
        frame([0xff; 6], mac.clone().try_into().expect("six bytes"), IPV4, &packet)
    };
    let (taken, question) = (datagram([192, 0, 2, 66], (1000, 1000)), datagram([0; 4], (68, 67)));
    let (inside, outside) = (Wire::open("web", "eth0"), Wire::open("outside", "uplink"));
    [&taken, &question].into_iter().for_each(|frame| inside.send(frame));
    assert!(!outside.sees_before(&taken, &question), "it sends from an address that it took by itself");
    server.says(gives(7, 3600));
    until("it has an address again", || is(addresses("web", "eth0"), &has(7)[..]));
}

fn due_at_start(lab: &Lab) {
    let server = Scripted::start(gives(7, 8));
    set_up(lab);
    let given = Instant::now();
    lab.kill_daemon();
    while server.heard.try_recv().is_ok() {}
    until("half of the lease is over", || seen(given.elapsed(), |passed| *passed > Duration::from_secs(4)));
    lab.start_daemon();
    server.hears("a request for more time", Asked::keeps);
    assert_eq!(addresses("web", "eth0"), has(7));
}

fn senseless(lab: &Lab) {
    let _server = Scripted::start(|asked| {
        let said = Said { kind: OFFER, address: [0; 4], seconds: 3600 };
        (asked.kind == DISCOVER).then_some(said)
    });
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.container("web");
    let line = lab.netd("connect lan web").refused();
    assert!(line.contains("heard no usable address from "), "{line}");
    assert_eq!((links("web"), lab.diff()), (vec!["lo".to_owned()], String::new()));
}

fn doubled(lab: &Lab) {
    let server = Scripted::start(gives(7, 3600));
    set_up(lab);
    lab.container("other");
    server.says(gives_unless_declined(7));
    lab.netd("connect lan other").ok();
    assert_eq!((addresses("other", "eth0"), addresses("web", "eth0")), (has(8), has(7)));
    let declined = server.hears("that the address cannot be used", |asked| asked.kind == DECLINE);
    assert_eq!((declined.wants, declined.own), (Some([192, 0, 2, 7]), Ipv4Addr::UNSPECIFIED));
}

/// Gives the first address that was not declined, from this one on, for an hour.
fn gives_unless_declined(first: u8) -> impl FnMut(Asked) -> Option<Said> + Send + 'static {
    let mut next = first;
    move |asked| {
        if asked.kind == DECLINE && asked.wants == Some([192, 0, 2, next]) {
            next += 1;
        }
        gives(next, 3600)(asked)
    }
}

fn of_the_host(lab: &Lab) {
    let server = Scripted::start(gives(1, 3600));
    lab.start_daemon();
    lab.netd(LAN).ok();
    // What another network is on is not what counts.
    run("ip -n host link add other type bridge").ok();
    run("ip -n host link set other up").ok();
    lab.netd("network create beside -d macvlan -o parent=other --subnet 10.9.0.0/24").ok();
    let caller = connecting(lab, "lan", "web");
    until("it is made", || is(links("web"), &["lo", "eth0"][..]));
    lab.connected("beside", "second", "");
    let line = caller.wait_with_output().expect("netd connect").stderr;
    let line = String::from_utf8_lossy(&line);
    assert!(line.contains("192.0.2.1 from 192.0.2.2, which cannot be used: the host has it"), "{line}");
    server.hears("that the address cannot be used", |asked| asked.kind == DECLINE);
    assert_eq!(links("web"), ["lo"]);
}

fn renewed_doubled(lab: &Lab) {
    let server = Scripted::start(gives(8, 3600));
    lab.start_daemon();
    lab.netd(LAN).ok();
    lab.connected("lan", "other", "");
    server.says(gives(7, 6));
    lab.connected("lan", "web", "");
    server.says(gives_unless_declined(8));
    let declined = server.hears("that the address cannot be used", |asked| asked.kind == DECLINE);
    assert_eq!(declined.wants, Some([192, 0, 2, 8]));
    until("it has the next address", || is(addresses("web", "eth0"), &has(9)[..]));
    assert_eq!(addresses("other", "eth0"), has(8));
}

fn silent_lan(lab: &Lab) {
    let _server = Scripted::start(gives(7, 3600));
    lab.start_daemon();
    lab.netd(LAN).ok();
    run("ip -n host link add other type bridge").ok();
    run("ip -n host link set other up").ok();
    lab.netd("network create silent -d macvlan -o parent=other -o ipam=dhcp").ok();
    let mut callers: Vec<_> = (0..70).map(|n| connecting(lab, "silent", &format!("silent{n}"))).collect();
    for n in 0..70 {
        until("all of them wait", || is(links(&format!("silent{n}")), &["lo", "eth0"][..]));
    }
    lab.container("web");
    let began = Instant::now();
    lab.netd("connect lan web").ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for caller in &mut callers {
        caller.kill().expect("kill netd connect");
        caller.wait().expect("netd connect");
    }
}

/// A container that is being connected.
fn connecting(lab: &Lab, network: &str, container: &str) -> std::process::Child {
    lab.container(container);
    let mut caller = std::process::Command::new("nsenter");
    caller.args(["--net=/run/netns/host", "--", crate::lab::daemon::netd(), "connect", network, container]);
    caller.args(["--socket", crate::lab::daemon::SOCKET]).stderr(std::process::Stdio::piped());
    caller.spawn().expect("netd connect")
}

fn hung_up(lab: &Lab) {
    let server = Scripted::start(|_| None);
    lab.start_daemon();
    lab.netd(LAN).ok();
    let mut caller = connecting(lab, "lan", "web");
    server.hears("a question", |asked| asked.kind == DISCOVER);
    // Nobody else waits: the question is asked for ten seconds.
    let began = Instant::now();
    lab.netd("network create other").ok();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    caller.kill().expect("kill netd connect");
    caller.wait().expect("netd connect");
    server.says(gives(7, 3600));
    until("nothing of it is left", || is(links("web"), &["lo"][..]));
    server.hears("that the address is free", |asked| asked.kind == RELEASE);
    assert_eq!(lab.diff(), "");
}
