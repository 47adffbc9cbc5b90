//! Definitions as Podman gives them, completed or refused.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::faces::netavark::Host;

struct Links;

impl Host for Links {
    fn interfaces(&self) -> Vec<String> {
        vec!["lo".into(), "podman1".into()]
    }
    fn ignore_interrupts(&self) {}
    fn is_this_program(&self, _: &Path) -> bool {
        false
    }
    fn find(&self, _: &str, _: &OsStr) -> Option<PathBuf> {
        None
    }
    fn become_program(&self, _: &Path, _: &[OsString]) -> io::Error {
        io::Error::other("none")
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at each call")]
fn created(change: Value) -> Result<Value, String> {
    let mut network = json!({"name": "net1", "id": "0a".repeat(32), "driver": "bridge", "dns_enabled": true,
        "internal": false, "ipv6_enabled": false});
    for (key, value) in change.as_object().unwrap() {
        network[key] = value.clone();
    }
    let input = json!({"network": network,
        "used": {"interfaces": ["podman2"], "names": {"podman3": "x", "other": "y"}, "subnets": ["10.89.0.0/24"]},
        "options": {"subnet_pools": [{"base": "10.89.0.0/16", "size": 24}], "default_interface_name": "podman",
            "check_used_subnets": true}});
    let call = Call { socket: "/nonexistent/netd.sock".into(), host: &Links };
    complete(input, &call).map(|network| serde_json::to_value(network).unwrap()).map_err(|Failure(why)| why)
}

#[test]
fn a_definition_is_completed() {
    let network = created(json!({"labels": {"a": "b"}, "later": 7})).unwrap();
    assert_eq!(network["network_interface"], "podman4");
    assert_eq!(network["subnets"], json!([{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1"}]));
    assert_eq!(network["ipam_options"], json!({"driver": "host-local"}));
    assert_eq!((&network["labels"], &network["later"]), (&json!({"a": "b"}), &json!(7)));
    assert!(network["created"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn both_families_are_given_where_ipv6_is_asked_for() {
    let network = created(json!({"ipv6_enabled": true})).unwrap();
    let subnets = network["subnets"].as_array().unwrap();
    assert_eq!(subnets.len(), 2);
    assert!(subnets[1]["subnet"].as_str().unwrap().starts_with("fd"), "{network}");
    let given = created(json!({"subnets": [{"subnet": "fd00:1::/64"}]})).unwrap();
    assert_eq!(given["ipv6_enabled"], true);
    assert_eq!(given["subnets"], json!([{"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}]));
}

#[test]
fn an_internal_network_without_names_has_no_gateway() {
    let network = created(json!({"internal": true, "dns_enabled": false})).unwrap();
    assert_eq!(network["subnets"], json!([{"subnet": "10.89.1.0/24"}]));
}

#[test]
fn options_of_docker_are_those_of_podman() {
    let options = json!({"options": {DOCKER_MTU: "1400", DOCKER_BRIDGE: "br7"}});
    let network = created(options).unwrap();
    assert_eq!((&network["options"], &network["network_interface"]), (&json!({"mtu": "1400"}), &json!("br7")));
}

#[test]
fn a_network_of_the_hosts_may_have_the_subnet_of_the_host() {
    for change in [
        json!({"driver": "macvlan", "network_interface": "eth0", "options": {"mode": "private"}}),
        json!({"network_interface": "podman2", "options": {"mode": "unmanaged"}}),
    ] {
        let mut change = change;
        change["subnets"] = json!([{"subnet": "10.89.0.0/24"}]);
        let network = created(change.clone()).unwrap();
        assert_eq!(network["network_interface"], change["network_interface"]);
        assert_eq!(network["subnets"], json!([{"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}]));
    }
}

#[test]
fn a_dhcp_server_gives_the_addresses_on_networks_of_the_host() {
    let dhcp = json!({"driver": "dhcp"});
    for definition in [
        json!({"driver": "macvlan", "network_interface": "eth0", "ipam_options": dhcp}),
        json!({"network_interface": "br0", "options": {"mode": "unmanaged"}, "ipam_options": dhcp}),
    ] {
        let network = created(definition).unwrap();
        assert_eq!((&network["ipam_options"]["driver"], &network["subnets"]), (&json!("dhcp"), &Value::Null));
    }
    let ipvlan = created(json!({"driver": "ipvlan", "network_interface": "eth0", "ipam_options": dhcp})).unwrap_err();
    assert!(ipvlan.contains("use macvlan"), "{ipvlan}");
}

#[test]
fn what_is_wrong_is_named() {
    for (change, named) in [
        (json!({"name": "other"}), "already exists other"),
        (json!({"name": "a b"}), "network name \"a b\""),
        (json!({"name": ""}), "network name"),
        (json!({"id": "12"}), "network id"),
        (json!({"network_interface": "podman2"}), "podman2 already in use"),
        (json!({"network_interface": "a/b"}), "interface name"),
        (json!({"driver": "macvlan"}), "-o parent=eth0"),
        (json!({"driver": "macvlan", "network_interface": "eth0", "options": {"mode": "l2"}}), "macvlan_mode"),
        (json!({"options": {"mode": "unmanaged"}}), "--interface-name br0"),
        (json!({"driver": "other"}), "driver \"other\""),
        (json!({"ipam_options": {"driver": "dhcp"}}), "ipam driver \"dhcp\""),
        (json!({"options": {"vlan": "7"}}), "option vlan=7"),
        (json!({"options": {"mtu": "many"}}), "option mtu=many"),
        (json!({"subnets": [{"subnet": "10.89.0.128/25"}]}), "overlaps 10.89.0.0/24"),
        (json!({"subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]}), "10.2.0.1 is not in it"),
        (json!({"subnets": [{"subnet": "10.1.0.0/31"}]}), "no room"),
        (json!({"subnets": [{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]}), "overlaps"),
        (
            json!({"subnets": [{"subnet": "10.1.0.0/24", "lease_range": {"start_ip": "10.1.0.9", "end_ip": "10.1.0.3"}}]}),
            "lease range begins",
        ),
        (json!({"dns_enabled": false, "network_dns_servers": ["9.9.9.9"]}), "names are disabled"),
        (json!({"routes": [{"destination": "10.5.0.0/16"}]}), "needs a gateway"),
        (json!({"routes": [{"destination": "10.5.0.0/16", "route_type": "blackhole"}]}), "type blackhole"),
        (json!({"dns_enabled": 7}), "failed to load"),
    ] {
        let error = created(change.clone()).unwrap_err();
        assert!(error.contains(named), "{change}: {error}");
    }
}
