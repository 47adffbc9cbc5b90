//! CHECK: one part is changed, and the message names it. What netd repairs immediately may go unreported.

use libtest_mimic::Trial;
use netd_testing::wait::seen;
use serde_json::Value;

use crate::lab::cni::{Call, call};
use crate::lab::{Lab, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("cni: CHECK names what was changed in the container", inside),
        trial("cni: CHECK names what was changed on the host", outside),
        trial("cni: CHECK during a repair succeeds or names the difference", healed),
        trial("cni: CHECK leaves a default route of another program alone", other_default),
    ]
}

fn attached(lab: &Lab) -> (Call, Value) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24").ok();
    lab.container("web");
    let result = call("ADD", "web").port(4000, 80).run().ok();
    let check = call("CHECK", "web").port(4000, 80).prev_result(&result);
    check.run().ok();
    (check, result)
}

/// Breaks one part, expects CHECK to name it unless netd has repaired it by then, restores it, and expects CHECK to
/// succeed.
fn named(check: &Call, breaking: &str, mending: &str, part: &str) {
    let repairs = || crate::lab::daemon::log().matches("repaired: ").count();
    let before = repairs();
    breaking.lines().for_each(|line| drop(run(line.trim()).ok()));
    let answer = check.run();
    let message = answer.json["msg"].as_str().unwrap_or_default();
    let is_repaired = answer.code == Some(0) && repairs() > before;
    assert!(is_repaired || (answer.code == Some(1) && message.contains(part)), "{breaking}: {answer}");
    // netd may be faster here too.
    mending.lines().for_each(|line| drop(run(line.trim())));
    crate::lab::until("CHECK succeeds again", || seen(check.run(), |answer| answer.code == Some(0)));
}

fn inside(lab: &Lab) {
    let (check, result) = attached(lab);
    let mac = result["interfaces"][2]["mac"].as_str().unwrap();
    let address = "address add 10.1.0.2/24 dev eth0";
    let route = "route add default via 10.1.0.1";
    named(
        &check,
        "ip -n web address del 10.1.0.2/24 dev eth0",
        &format!("ip -n web {address}\nip -n web {route}"),
        "address 10.1.0.2/24",
    );
    named(&check, "ip -n web route del default", &format!("ip -n web {route}"), "default route by 10.1.0.1");
    named(
        &check,
        "ip -n web link set eth0 address 02:00:00:00:00:99",
        &format!("ip -n web link set eth0 address {mac}"),
        "MAC address",
    );
    named(&check, "ip -n web link set eth0 mtu 1300", "ip -n web link set eth0 mtu 1500", "MTU");
    named(
        &check,
        "ip -n web link set eth0 down",
        &format!("ip -n web link set eth0 up\nip -n web {route}"),
        "eth0 is down",
    );
    let rename = |from: &str, to: &str| format!("ip -n web link set {from} down\nip -n web link set {from} name {to}");
    // Not up as well: netd may have made another eth0 by then.
    named(
        &check,
        &rename("eth0", "moved"),
        &(rename("moved", "eth0") + &format!("\nip -n web link set eth0 up\nip -n web {route}")),
        "interface eth0 is gone",
    );
    lab.netd("disconnect net1 web").ok();
    let answer = check.run();
    assert!(answer.json["msg"].as_str().unwrap().contains("no attachment eth0"), "{answer}");
}

fn outside(lab: &Lab) {
    let (check, _) = attached(lab);
    let host_end = lab.endpoint("net1", "web")["host_ifname"].as_str().unwrap().to_owned();
    let port = |words: &str| format!("ip -n host link set {host_end} {words}");
    let master = format!("{}\nip netns exec host bridge link set dev {host_end} hairpin on", port("master nd-net1"));
    named(&check, &port("nomaster"), &master, "bridge port");
    named(&check, &port("down"), &port("up"), "is down");
    named(
        &check,
        "ip -n host address del 10.1.0.1/24 dev nd-net1",
        "ip -n host address add 10.1.0.1/24 dev nd-net1",
        "gateway 10.1.0.1/24",
    );
    named(&check, "ip -n host link set nd-net1 down", "ip -n host link set nd-net1 up", "nd-net1 is down");
}

fn healed(lab: &Lab) {
    let (check, _) = attached(lab);
    let breakings = [
        ("ip netns exec host nft delete element inet netd publish4 { tcp . 4000 }", "nft"),
        ("ip netns exec host nft flush ruleset", "nft"),
        ("ip -n host link del nd-net1", "bridge"),
    ];
    for (breaking, part) in breakings {
        run(breaking).ok();
        let answer = check.run();
        let message = answer.json["msg"].as_str().unwrap_or_default().to_owned();
        // netd may have repaired it before the check.
        assert!(answer.code == Some(0) || message.contains(part), "{breaking}: {answer}");
        crate::lab::until("the repair is complete", || seen(check.run(), |answer| answer.code == Some(0)));
    }
}

fn other_default(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24").ok();
    lab.container("web");
    run("ip -n web link add up0 type veth peer name up1").ok();
    run("ip -n web address add 198.51.100.2/24 dev up0").ok();
    run("ip -n web link set up0 up").ok();
    run("ip -n web link set up1 up").ok();
    run("ip -n web route add default via 198.51.100.1").ok();
    let result = call("ADD", "web").run().ok();
    call("CHECK", "web").prev_result(&result).run().ok();
}
