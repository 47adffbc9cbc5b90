//! Sticky addresses: a container that returns under its name gets its address again.

use std::net::IpAddr;

use libtest_mimic::Trial;

use crate::lab::{Dig, Lab, addresses, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sticky: the same address after other containers, a crash and a reboot", again),
        trial("sticky: addresses that are not reserved are assigned first", spared),
        trial("sticky: a full network assigns the address that was free for longest", full),
        trial("sticky: only on a sticky network, and only during its lifetime", forgotten),
    ]
}

/// Connects a new container of that name; its addresses as the container sees them.
fn comes(lab: &Lab, name: &str, more: &str) -> Vec<IpAddr> {
    lab.connected("net1", name, more);
    addresses(name, "eth0")
}

/// The container is removed, as its runtime does.
fn goes(lab: &Lab, name: &str) {
    lab.netd(&format!("disconnect net1 {name}")).ok();
    run(&format!("ip netns delete {name}")).ok();
}

fn again(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --sticky --ipv6").ok();
    let [web, db, api] = ["web", "db", "api"].map(|name| comes(lab, name, ""));
    assert_eq!((web.len(), db.len(), api.len()), (2, 2, 2));
    goes(lab, "web");
    for other in ["one", "two", "three"] {
        let got = comes(lab, other, "");
        assert!(!got.iter().any(|ip| web.contains(ip)), "{other} got {got:?}");
    }
    assert_eq!(comes(lab, "web", ""), web);
    Dig::expect("db", "web", &[&web[0].to_string()]);

    goes(lab, "db");
    lab.kill_daemon();
    lab.start_daemon();
    let four = comes(lab, "four", "");
    assert!(!four.iter().any(|ip| db.contains(ip)), "{four:?}");
    assert_eq!(comes(lab, "db", ""), db);

    // Its runtime recreates the namespace before the daemon has noticed.
    run("ip netns delete api").ok();
    assert_eq!(comes(lab, "api", ""), api);

    // A reboot removes the namespaces, the links and the files under /run.
    lab.kill_daemon();
    for name in ["web", "db", "api", "one", "two", "three", "four"] {
        run(&format!("ip netns delete {name}")).ok();
    }
    run("ip -n host link delete nd-net1").ok();
    std::fs::remove_dir_all("/run/lab/runtime").unwrap();
    lab.start_daemon();
    let five = comes(lab, "five", "");
    assert!(![&web, &db, &api, &four].into_iter().flatten().any(|ip| five.contains(ip)), "{five:?}");
    assert_eq!([comes(lab, "api", ""), comes(lab, "db", ""), comes(lab, "WEB", "")], [api, db, web]);
}

/// Addresses without a reservation are assigned before reserved ones, however long those have been free.
fn spared(lab: &Lab) {
    lab.start_daemon();
    // Five addresses, one of them unreserved.
    lab.netd("network create net1 --sticky --subnet 10.7.0.0/29").ok();
    let web = comes(lab, "web", "");
    goes(lab, "web");
    let db = comes(lab, "db", "");
    goes(lab, "db");
    comes(lab, "db", "--ip 10.7.0.6");
    comes(lab, "three", "");
    comes(lab, "four", "");
    assert_eq!(comes(lab, "new", ""), db, "it has another address now");
    assert_eq!(comes(lab, "web", ""), web);
}

fn full(lab: &Lab) {
    lab.start_daemon();
    // Five addresses.
    lab.netd("network create net1 --sticky --subnet 10.7.0.0/29").ok();
    let names = ["one", "two", "three", "four", "five"];
    let had = names.map(|name| comes(lab, name, ""));
    // The last address is used once more: it has been free for the shortest time.
    names.iter().for_each(|name| goes(lab, name));
    assert_eq!(comes(lab, "one", ""), had[0]);
    goes(lab, "one");
    let [new, newer] = ["new", "newer"].map(|name| comes(lab, name, ""));
    assert_eq!((&new, &newer), (&had[1], &had[2]), "free for longest");
    assert_eq!([comes(lab, "five", ""), comes(lab, "one", "")], [had[4].clone(), had[0].clone()]);
    assert_eq!(comes(lab, "two", ""), had[3], "its own address is assigned, and this one is left");
    lab.container("late");
    let refused = lab.netd("connect net1 late").refused();
    assert!(refused.contains("10.7.0.0/29"), "{refused}");
    // From now on the address is reserved for the new name.
    goes(lab, "new");
    goes(lab, "five");
    assert_eq!(comes(lab, "new", ""), new);
}

fn forgotten(lab: &Lab) {
    lab.start_daemon();
    let first = "10.7.0.2".parse::<IpAddr>().unwrap();
    for (flags, kept) in [("", false), ("--sticky", true), ("-o sticky=true", true), ("--sticky", true)] {
        lab.netd(&format!("network create net1 --subnet 10.7.0.0/24 {flags}")).ok();
        assert_eq!(lab.network("net1")["sticky"], kept);
        assert_eq!(comes(lab, "other", ""), [first], "reservations end with their network");
        let asked = "10.7.0.77".parse::<IpAddr>().unwrap();
        assert_eq!(comes(lab, "web", "--ip 10.7.0.77"), [asked]);
        goes(lab, "web");
        assert_eq!(comes(lab, "web", "") == [asked], kept, "{flags}");
        goes(lab, "web");
        goes(lab, "other");
        lab.netd("network rm net1").ok();
    }
}
