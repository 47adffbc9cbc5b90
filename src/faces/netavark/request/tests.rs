//! What becomes of a definition of Podman.

use serde_json::{Value, json};

use super::*;

/// The input of Podman for one network, with these changes of the definition and of what the container gets there.
fn input(definition: &Value, wanted: &Value) -> Options {
    let mut network = json!({"name": "net1", "id": "a".repeat(64), "driver": "bridge", "network_interface": "podman1",
        "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}], "ipv6_enabled": false, "internal": false,
        "dns_enabled": true, "ipam_options": {"driver": "host-local"}});
    let mut options = json!({"interface_name": "eth0", "static_ips": ["10.89.0.5"]});
    for (object, changes) in [(&mut network, definition), (&mut options, wanted)] {
        for (key, value) in changes.as_object().unwrap() {
            object[key] = value.clone();
        }
    }
    let whole = json!({"container_id": "c1", "container_name": "web", "networks": {"net1": options},
        "network_info": {"net1": network}, "dns_servers": ["9.9.9.9"]});
    Options::read(whole.to_string().as_bytes()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "literals at each call")]
fn asked(definition: Value, wanted: Value) -> Result<Value, String> {
    let attached = attach(&input(&definition, &wanted), "/run/netns/a");
    attached.map(|(wanted, _)| serde_json::to_value(&wanted.attachments[0]).unwrap()).map_err(|Failure(why)| why)
}

#[test]
fn a_definition_becomes_a_network_on_demand() {
    let definition = json!({"options": {"mtu": "1400", "isolate": "strict"}, "network_dns_servers": ["1.1.1.1"],
        "labels": {"a": "b"}, "routes": [{"destination": "10.1.0.0/16", "gateway": "10.89.0.9", "metric": 7}]});
    let wanted = json!({"static_mac": "aa:bb:cc:dd:ee:ff", "aliases": ["www"]});
    let expected = json!({
        "ifname": "eth0", "interface": "given", "mac": "aa:bb:cc:dd:ee:ff", "aliases": ["www"], "dns": ["9.9.9.9"],
        "addresses": [{"address": "10.89.0.5"}],
        "routes": [{"destination": "10.1.0.0/16", "gateway": "10.89.0.9", "priority": 7}],
        "network": {"name": "net1", "subnets": [{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}], "ipv6": false,
            "internal": false, "mtu": 1400, "labels": {"a": "b"}, "dns": ["1.1.1.1"], "on_demand": true,
            "options": {"bridge": "podman1"}},
    });
    assert_eq!(asked(definition, wanted).unwrap(), expected);
}

#[test]
fn interfaces_and_bridges_of_the_host_are_named_as_netd_has_it() {
    let network = |definition| asked(definition, json!({})).unwrap()["network"].clone();
    let no_gateway = json!([{"subnet": "10.89.0.0/24"}]);
    let macvlan = network(json!({"driver": "macvlan", "network_interface": "eth0", "options": {"mode": "private"},
        "subnets": no_gateway}));
    assert_eq!(macvlan["driver"], "macvlan");
    assert_eq!(macvlan["options"], json!({"parent": "eth0", "mode": "private"}));
    assert_eq!(macvlan["subnets"], no_gateway, "none is invented");
    let unmanaged = network(json!({"network_interface": "br0", "options": {"mode": "unmanaged", "vlan": "7"}}));
    assert_eq!(unmanaged["options"], json!({"bridge": "br0", "mode": "unmanaged", "vlan": "7"}));
    let server = json!({"driver": "macvlan", "network_interface": "eth0", "ipam_options": {"driver": "dhcp"}});
    let asked = asked(server, json!({"static_ips": null})).unwrap();
    assert_eq!(asked["network"]["options"], json!({"parent": "eth0", "ipam": "dhcp"}));
    assert_eq!(asked.get("addresses"), None, "of the server");
    let source = network(json!({"options": {"outbound_addr4": "192.0.2.7"}}));
    assert_eq!(source["options"], json!({"bridge": "podman1", "outbound_addr4": "192.0.2.7"}));
}

#[test]
fn what_netd_cannot_do_is_refused_by_name() {
    let none = || json!({});
    for (definition, wanted, named) in [
        (json!({"driver": "macvlan", "network_interface": ""}), none(), "driver macvlan"),
        (json!({"driver": "mine"}), none(), "driver \"mine\""),
        (json!({"ipam_options": {"driver": "mine"}}), none(), "ipam driver \"mine\""),
        (json!({"ipam_options": {"driver": "none"}}), none(), "ipam driver \"none\""),
        (json!({"options": {"vlan": "7"}}), none(), "option vlan=7"),
        (json!({"options": {"vrf": "red"}}), none(), "option vrf=red"),
        (json!({"options": {"mode": "mine"}}), none(), "option mode=mine"),
        (json!({"options": {"isolate": "false"}}), none(), "option isolate=false"),
        (json!({"options": {"new": "x"}}), none(), "option new=x"),
        (json!({"options": {"mtu": "-1"}}), none(), "option mtu=-1"),
        (json!({"routes": [{"destination": "10.1.0.0/16", "route_type": "blackhole"}]}), none(), "type blackhole"),
        (none(), json!({"options": {"host_interface_name": "veth-x"}}), "option \"host_interface_name\""),
        (none(), json!({"static_ips": null}), "no static ips"),
        (none(), json!({"static_mac": "xx"}), "MAC address"),
    ] {
        let error = asked(definition.clone(), wanted.clone()).unwrap_err();
        assert!(error.contains(named), "{definition} {wanted}: {error}");
    }
}

#[test]
fn the_host_has_no_address_where_podman_has_no_gateway() {
    let definition = json!({"internal": true, "dns_enabled": false, "subnets": [{"subnet": "10.89.0.0/24"}]});
    let network = &asked(definition, json!({})).unwrap()["network"];
    assert_eq!(network["options"]["gateway_mode"], "isolated");
    assert_eq!(network["subnets"][0]["gateway"], "10.89.0.254", "not the first, which Podman may give");
}

#[test]
fn a_name_that_is_too_long_is_cut_and_told_apart() {
    let long = "n".repeat(80);
    let definition = json!({"name": long});
    let name = asked(definition, json!({})).unwrap()["network"]["name"].as_str().unwrap().to_owned();
    assert_eq!(name, format!("{}-{}", "n".repeat(50), "a".repeat(12)));
    name.parse::<NetworkName>().unwrap();
}

#[test]
fn the_lowest_metric_has_the_default_route() {
    let (mut options, second) = (
        input(&json!({}), &json!({})),
        input(&json!({"options": {"metric": "50"}}), &json!({"interface_name": "eth1"})),
    );
    options.networks.extend(second.networks);
    let (wanted, _) = attach(&options, "/run/netns/a").unwrap();
    let order: Vec<&str> = wanted.attachments.iter().map(|one| one.ifname.as_str()).collect();
    assert_eq!(order, ["eth1", "eth0"]);
}

#[test]
fn ranges_and_protocols_become_ports() {
    let mapping = |protocol: &str, range| PortMapping {
        host_ip: "127.0.0.1".into(),
        host_port: 4000,
        container_port: 80,
        protocol: protocol.into(),
        range,
    };
    let shown = |mapping| {
        let ports = ports(&[mapping]).map_err(|Failure(why)| why)?;
        Ok::<_, String>(ports.into_iter().map(|port| port.spec().unwrap().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(
        shown(mapping("tcp,udp", 3)).unwrap(),
        ["127.0.0.1:4000-4002:80-82/tcp", "127.0.0.1:4000-4002:80-82/udp"]
    );
    assert_eq!(shown(mapping("", 0)).unwrap(), ["127.0.0.1:4000:80/tcp"]);
    assert!(shown(mapping("tcp", 65000)).unwrap_err().contains("65535"));
    assert!(shown(mapping("icmp", 1)).unwrap_err().contains("tcp, udp or sctp"));
    assert!(shown(PortMapping { host_port: 0, ..mapping("tcp", 1) }).unwrap_err().contains("0 is no port"));
    assert!(shown(PortMapping { host_ip: "here".into(), ..mapping("tcp", 1) }).unwrap_err().contains("host address"));
}
