//! Tests of the changes of other programs' tables, with the output of their tools.

use serde_json::{Value as Json, json};

use super::*;
use crate::model::address::{Families, Family};
use crate::model::host::foreign_firewall::{TableFamily, Tool, Traffic};
use crate::model::host::reach::{HostPortAsked, Reach};
use crate::model::publication::Protocol;

const DOCKER: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n:DOCKER - [0:0]\n\
    -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n-A DOCKER-USER -j RETURN\nCOMMIT\n";

fn bridge() -> Bridge {
    Bridge {
        name: "nd-net1".parse().unwrap(),
        network: "net1".parse().unwrap(),
        subnets: vec!["10.77.0.0/24".parse().unwrap()],
        internal: false,
        icc: true,
        name_servers: vec![("10.77.0.1".parse().unwrap(), 61053)],
    }
}

fn read(text: &str) -> Foreign {
    Foreign {
        tables: save::tables(Tool::IptablesNft, TableFamily::Ip, text),
        ways: vec!["eth0".parse().unwrap()],
        bridged: Families::ALL,
    }
}

fn planned(text: &str) -> Plan {
    plan(&read(text), &[bridge()], Policy::Adapt)
}

/// What iptables-save would print after the script.
fn after(text: &str, change: &ForeignChange) -> String {
    save::restored(text, &change.script).unwrap()
}

#[test]
fn docker_means_users_to_use_its_own_chain() {
    let first = planned(DOCKER);
    let note = &first.notes[0];
    assert_eq!(note.place(), "chain FORWARD of table ip filter (policy drop)");
    assert_eq!(note.accepted_in.as_deref(), Some("DOCKER-USER"));
    assert_eq!(note.traffic, [Traffic::Outbound, Traffic::Published, Traffic::Within]);
    let text = after(DOCKER, &first.changes[0].change);
    let user: Vec<&str> = text.lines().filter(|line| line.starts_with("-A DOCKER-USER")).collect();
    assert!(user.len() == 2 && user[0].contains("NETD-FORWARD") && user[1].ends_with("RETURN"), "{user:?}");
    let again = planned(&text);
    assert_eq!(again.changes, [], "it is as it must be:\n{text}");
    assert_eq!(again.notes, first.notes);
}

#[test]
fn nothing_is_accepted_between_our_bridges_and_those_of_another_engine() {
    let text = after(DOCKER, &planned(DOCKER).changes[0].change);
    let foreign = read(&text);
    let table = &foreign.tables[0];
    let own: Vec<&str> = ["NETD-FORWARD-OUT", "NETD-FORWARD-IN"]
        .iter()
        .flat_map(|name| table.chain(name).unwrap().rules.iter().map(|rule| rule.text.as_str()))
        .collect();
    assert_eq!(
        own,
        [
            "-A NETD-FORWARD-OUT -o nd-net1 -j ACCEPT",
            "-A NETD-FORWARD-OUT -o eth0 -j ACCEPT",
            "-A NETD-FORWARD-IN -i eth0 -j ACCEPT"
        ]
    );
}

#[test]
fn it_goes_when_it_is_not_needed() {
    let text = after(DOCKER, &planned(DOCKER).changes[0].change);
    for (why, text, bridges, policy) in [
        ("the policy accepts again", text.replace("FORWARD DROP", "FORWARD ACCEPT"), vec![bridge()], Policy::Adapt),
        ("there is no network", text.clone(), vec![], Policy::Adapt),
        ("the configuration says so", text.clone(), vec![bridge()], Policy::Report),
    ] {
        let plan = plan(&read(&text), &bridges, policy);
        assert_eq!(plan.changes.len(), 1, "{why}");
        let left = after(&text, &plan.changes[0].change);
        assert!(!left.contains("NETD") && !left.contains("netd"), "{why}: {left}");
    }
}

#[test]
fn what_was_lost_comes_back() {
    let text = after(DOCKER, &planned(DOCKER).changes[0].change);
    for (why, broken) in [
        ("the jump", text.lines().filter(|line| !line.contains("netd: ")).collect::<Vec<_>>().join("\n")),
        ("a rule", text.replace("-A NETD-FORWARD-OUT -o eth0 -j ACCEPT\n", "")),
        ("its effect", text.replacen("-A FORWARD -j DOCKER-USER", "-A FORWARD -j DROP\n-A FORWARD -j DOCKER-USER", 1)),
    ] {
        let changes = planned(&broken).changes;
        assert_eq!(changes.len(), 1, "{why}");
        assert_eq!(planned(&after(&broken, &changes[0].change)).changes, [], "{why}: {}", changes[0].change.script);
    }
}

#[test]
fn what_stands_before_the_drop_stays_before_our_accept() {
    let text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:end - [0:0]\n-A FORWARD -m set --match-set bad src -j DROP\n\
        -A FORWARD -s 203.0.113.0/24 -j DROP\n-A FORWARD -j end\n-A end -j LOG\n-A end -j REJECT --reject-with x\nCOMMIT\n";
    let plan = planned(text);
    assert_eq!(plan.notes[0].place(), "chain FORWARD of table ip filter (-A end -j REJECT --reject-with x)");
    let text = after(text, &plan.changes[0].change);
    let order: Vec<&str> = text.lines().filter(|line| line.starts_with("-A FORWARD")).collect();
    assert!(order[2].contains("NETD-FORWARD") && order[3] == "-A FORWARD -j end", "{order:?}");
}

#[test]
fn what_the_user_means_is_respected_and_named() {
    for rule in ["-i nd-net1 -j DROP", "-s 10.77.0.0/16 -j REJECT", "-o eth0 -j DROP"] {
        let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD {rule}\nCOMMIT\n");
        let plan = planned(&text);
        assert_eq!(plan.changes, [], "{rule}");
        assert!(plan.notes[0].accepted_in.is_none() && plan.notes[0].reason.contains(rule), "{:?}", plan.notes);
    }
    let text = DOCKER.replace("-A DOCKER-USER -j RETURN", "-A DOCKER-USER -i eth0 -j DROP\n-A DOCKER-USER -j RETURN");
    let plan = planned(&text);
    assert!(plan.notes.iter().any(|note| note.accepted_in.is_none() && note.reason.contains("-i eth0 -j DROP")));
}

#[test]
fn who_is_let_through_already_needs_nothing() {
    for text in [
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i nd-+ -j ACCEPT\n-A FORWARD -o nd-+ -j ACCEPT\nCOMMIT\n",
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -s 10.77.0.0/16 -j ACCEPT\n-A FORWARD -d 10.77.0.0/16 -j ACCEPT\nCOMMIT\n",
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n",
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -o virbr0 -j REJECT\n-A FORWARD -p tcp -m tcp --dport 25 -j DROP\nCOMMIT\n",
    ] {
        assert_eq!(planned(text), Plan::default(), "{text}");
    }
}

#[test]
fn names_are_let_in_at_the_gateway_and_nothing_else_is() {
    let text = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n";
    let plan = planned(text);
    assert_eq!(plan.notes[0].traffic, [Traffic::Names]);
    let text = after(text, &plan.changes[0].change);
    let own: Vec<&str> = text.lines().filter(|line| line.starts_with("-A NETD-INPUT")).collect();
    assert_eq!(
        own,
        [
            "-A NETD-INPUT -d 10.77.0.1 -i nd-net1 -p udp -m udp --dport 61053 -j ACCEPT",
            "-A NETD-INPUT -d 10.77.0.1 -i nd-net1 -p tcp -m tcp --dport 61053 -j ACCEPT"
        ]
    );
    assert_eq!(planned(&text).changes, []);
}

#[test]
fn a_table_that_only_its_owner_may_change_is_named() {
    let mut foreign = read(DOCKER);
    foreign.tables[0].owned = true;
    let plan = plan(&foreign, &[bridge()], Policy::Adapt);
    assert!(plan.changes.is_empty() && plan.notes[0].why_not.contains("owner"), "{plan:?}");
}

fn asked(family: Family, protocol: Protocol, port: u16) -> HostPortAsked {
    HostPortAsked { family, protocol, port, at: None }
}

/// "anyone", "nobody" or "some", and the reasons.
fn told(reach: Reach) -> String {
    match reach {
        Reach::Anyone => "anyone".to_owned(),
        Reach::Some(why) => format!("some: {}", why.join("; ")),
        Reach::Nobody(why) => format!("nobody: {}", why.join("; ")),
    }
}

#[test]
fn who_reaches_a_port_follows_from_the_rules_of_the_input_hook() {
    let policy = "chain INPUT of table ip filter (policy drop)";
    for (rules, expected) in [
        ("", format!("nobody: {policy}")),
        ("-A INPUT -p tcp -m tcp --dport 4000 -j ACCEPT\n", "anyone".to_owned()),
        ("-A INPUT -p udp -m udp --dport 4000 -j ACCEPT\n", format!("nobody: {policy}")),
        (
            "-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n",
            format!("nobody: {policy}"),
        ),
        ("-A INPUT -i eth0 -p tcp -m multiport --dports 22,3000:5000 -j ACCEPT\n", "anyone".to_owned()),
        (
            "-A INPUT -s 10.0.0.0/8 -p tcp -j ACCEPT\n",
            "some: from 10.0.0.0/8: chain INPUT of table ip filter (-A INPUT -s 10.0.0.0/8 -p tcp -j ACCEPT)"
                .to_owned(),
        ),
        ("-A INPUT -j X\n-A X -p tcp --dport 4000 -j RETURN\n-A X -j DROP\n-A INPUT -j ACCEPT\n", "anyone".to_owned()),
        ("-A INPUT -g X\n-A INPUT -j ACCEPT\n-A X -p udp -j ACCEPT\n", format!("nobody: {policy}")),
        (
            "-A INPUT -p tcp -m set --match-set friends src -j ACCEPT\n-A INPUT -j DROP\n",
            "some: chain INPUT of table ip \
            filter (-A INPUT -p tcp -m set --match-set friends src -j ACCEPT)"
                .to_owned(),
        ),
        ("-A INPUT -j NFQUEUE\n", "some: chain INPUT of table ip filter (-A INPUT -j NFQUEUE)".to_owned()),
    ] {
        let chains = "*filter\n:INPUT DROP [0:0]\n:X - [0:0]\n";
        let foreign = read(&format!("{chains}{rules}COMMIT\n"));
        assert_eq!(told(reach(&foreign, &asked(Family::V4, Protocol::Tcp, 4000))), expected, "{rules}");
        assert_eq!(reach(&foreign, &asked(Family::V6, Protocol::Tcp, 4000)), Reach::Anyone, "no table sees IPv6");
    }
}

#[test]
fn every_chain_and_every_way_counts() {
    let open = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
    let shut = "*security\n:INPUT DROP [0:0]\n-A INPUT -i eth1 -j ACCEPT\nCOMMIT\n";
    let mut foreign = read(&format!("{open}{shut}"));
    let port = asked(Family::V4, Protocol::Udp, 53);
    assert_eq!(told(reach(&foreign, &port)), "nobody: chain INPUT of table ip security (policy drop)");
    foreign.ways.push("eth1".parse().unwrap());
    let expected = "some: over eth0 nobody: chain INPUT of table ip security (policy drop); over eth1 everyone";
    assert_eq!(told(reach(&foreign, &port)), expected);
    foreign.ways.clear();
    assert_eq!(reach(&foreign, &port), Reach::Anyone, "nobody is outside");
}

/// nft leaves out what a header's field says about the packet.
#[test]
fn a_field_of_another_protocol_or_family_is_not_uncertain() {
    let rule =
        |expr: Json| json!({"rule": {"family": "inet", "table": "fw", "chain": "in", "handle": 7, "expr": expr}});
    let field = |protocol: &str, field: &str, right: Json| json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}});
    let mut objects = vec![
        json!({"table": {"family": "inet", "name": "fw", "handle": 1}}),
        json!({"chain": {"family": "inet", "table": "fw", "name": "in", "hook": "input", "policy": "drop"}}),
        rule(json!([field("icmp", "type", json!("echo-request")), {"accept": null}])),
        rule(json!([field("ip6", "saddr", json!({"prefix": {"addr": "fe80::", "len": 10}})), {"accept": null}])),
        rule(json!([field("tcp", "dport", json!(4000)), {"accept": null}])),
    ];
    let reached = |objects: &[Json], family, protocol| {
        let tables = ruleset::tables(&json!({"nftables": objects}));
        told(reach(&Foreign { tables, ..read("") }, &asked(family, protocol, 4000)))
    };
    assert_eq!(reached(&objects, Family::V4, Protocol::Tcp), "anyone");
    assert_eq!(reached(&objects, Family::V4, Protocol::Udp), "nobody: chain in of table inet fw (policy drop)");
    let by_sender = "some: from fe80::/10: chain in of table inet fw (rule with handle 7)";
    assert_eq!(reached(&objects, Family::V6, Protocol::Udp), by_sender);
    let vmap = json!({"vmap": {"key": {"payload": {"protocol": "udp", "field": "dport"}},
        "data": {"set": [[4000, {"accept": null}]]}}});
    objects.push(rule(json!([vmap])));
    assert_eq!(reached(&objects, Family::V4, Protocol::Udp), "anyone");
    assert_eq!(reached(&objects, Family::V4, Protocol::Sctp), "nobody: chain in of table inet fw (policy drop)");
}
