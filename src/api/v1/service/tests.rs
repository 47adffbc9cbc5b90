//! Tests of the JSON of services: what is shown, what a request becomes, what an update leaves as it is.

use serde_json::{Value, json};

use super::*;
use crate::logic::samples;
use crate::model::ids::ServiceId;
use crate::model::request::{MemberAction, ServiceSpec};
use crate::model::service::{Condition, Mode, Origin};

fn spec(json: Value) -> Result<ServiceSpec, String> {
    let request: CreateService = serde_json::from_value(json).map_err(|error| error.to_string())?;
    ServiceSpec::try_from(request).map_err(|error| error.to_string())
}

/// As the engine makes it of a request with whole ports.
fn made(spec: &ServiceSpec) -> service::Service {
    let network = |(name, aliases): &(String, Vec<_>)| service::ServiceNetwork {
        network: name.parse().unwrap(),
        aliases: aliases.clone(),
        addresses: if spec.mode == Mode::Vip { vec!["10.0.0.9".parse().unwrap()] } else { Vec::new() },
    };
    let port = |port: &crate::model::publication::PortSpec| crate::model::publication::Publication {
        host_ip: port.host_ip,
        host: port.host.unwrap(),
        container: port.container,
        protocol: port.protocol,
        mode: port.mode,
    };
    service::Service {
        tasks: None,
        previous: None,
        id: ServiceId::from_random([7; 16]),
        name: spec.name.clone(),
        networks: spec.networks.iter().map(network).collect(),
        select: spec.select.clone(),
        members: spec.members.clone(),
        mode: spec.mode,
        publications: spec.ports.iter().map(port).collect(),
        target: spec.target,
        affinity: spec.affinity,
        grace: spec.grace,
        health: spec.health.clone(),
        when_none_ready: spec.when_none_ready,
        labels: spec.labels.clone(),
        created: 1_767_323_045,
        updated: 1_767_323_046,
        version: 3,
        origin: Origin::Defined,
    }
}

fn full() -> Value {
    json!({
        "name": "web", "networks": ["net1", {"network": "net2", "aliases": ["api"]}], "aliases": ["www"],
        "select": {"app": "web"}, "members": ["w3"], "mode": "vip", "ports": ["4000:80", "53:53/udp"],
        "target": "80", "affinity": "client", "grace": 30,
        "health": {"kind": "http:80/ok", "interval": 0.5, "timeout": 2, "retries": 5},
        "when_none_ready": "all", "labels": {"team": "red"},
    })
}

#[test]
fn everything_of_a_request_is_shown_again() {
    let service = made(&spec(full()).unwrap());
    let shown = serde_json::to_value(Service::new(&Desired::default(), &service)).unwrap();
    let expected = json!({
        "name": "web", "id": service.id.as_str(),
        "networks": [
            {"network": "net1", "addresses": ["10.0.0.9"], "aliases": ["www"]},
            {"network": "net2", "addresses": ["10.0.0.9"], "aliases": ["api", "www"]},
        ],
        "mode": "vip", "select": {"app": "web"}, "members": ["w3"],
        "ports": [
            {"host_ip": null, "host_port": 4000, "container_port": 80, "protocol": "tcp"},
            {"host_ip": null, "host_port": 53, "container_port": 53, "protocol": "udp"},
        ],
        "target": "80/tcp", "affinity": "client", "grace": 30,
        "health": {"kind": "http:80/ok", "interval": 0.5, "timeout": 2, "retries": 5},
        "when_none_ready": "all", "labels": {"team": "red"},
        "created": "2026-01-02T03:04:05Z", "updated": "2026-01-02T03:04:06Z", "version": 3, "origin": "defined",
        "replicas": {"ready": 0, "all": 0},
    });
    assert_eq!(shown, expected);
    let read: Service = serde_json::from_value(shown).unwrap();
    assert_eq!(read.summary(), "web on net1, net2: 10.0.0.9, 10.0.0.9, *:4000->80/tcp, *:53->53/udp");
}

#[test]
fn what_a_request_leaves_out_has_its_default() {
    let spec = spec(json!({"name": "web", "networks": ["net1"]})).unwrap();
    let service = made(&spec);
    let shown = serde_json::to_value(Service::new(&Desired::default(), &service)).unwrap();
    for (field, value) in [
        ("mode", json!("dns")),
        ("target", Value::Null),
        ("affinity", json!("none")),
        ("grace", json!(10)),
        ("health", json!({"kind": "none", "interval": 2, "timeout": 1, "retries": 3})),
        ("when_none_ready", json!("empty")),
        ("ports", json!([])),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
}

#[test]
fn a_definition_passes_through_its_request() {
    let first = spec(full()).unwrap();
    let json = serde_json::to_value(CreateService::from(first.clone())).unwrap();
    assert_eq!(spec(json).unwrap(), first);
}

#[test]
fn what_is_wrong_is_named() {
    let with = |field: &str, value: Value| {
        let mut request = json!({"name": "web", "networks": ["net1"]});
        request[field] = value;
        spec(request)
    };
    let many = |count: usize, text: &str| (0..count).map(|n| format!("{text}{n}")).collect::<Vec<_>>();
    for (field, value, words) in [
        ("name", json!("a b"), "invalid service name \"a b\""),
        ("networks", json!(["a b"]), "invalid network name \"a b\""),
        ("networks", json!([7]), "the name of a network, or an object"),
        ("networks", json!([{"network": "net1", "alias": "x"}]), "unknown field `alias`"),
        ("networks", json!(many(65, "n")), "at most 64"),
        ("aliases", json!(many(65, "a")), "at most 64"),
        ("aliases", json!(["a b"]), "invalid DNS name"),
        ("select", json!({"": "x"}), "its key is empty"),
        ("select", json!({"a": "x".repeat(20_000)}), "at most 16384"),
        ("labels", json!({"a=b": "x"}), "'='"),
        ("members", json!(["a b"]), "invalid container name"),
        ("members", json!(many(1025, "m")), "at most 1024"),
        ("mode", json!("vips"), "unknown variant `vips`, expected `dns` or `vip`"),
        ("ports", json!(["x"]), "invalid port \"x\""),
        ("target", json!("0"), "invalid target \"0\""),
        ("affinity", json!("both"), "unknown variant"),
        ("grace", json!(86401), "use at most 86400"),
        ("grace", json!(-1), "invalid value"),
        ("health", json!({"kind": "icmp"}), "invalid health check \"icmp\""),
        ("health", json!({"interval": 0.05}), "at least 0.1 s apart"),
        ("health", json!({"timeout": 0}), "use 0.001 to 86400"),
        ("health", json!({"retries": 0}), "use 1 to 100"),
        ("health", json!({"path": "/"}), "unknown field `path`"),
        ("when_none_ready", json!("some"), "unknown variant"),
        ("network", json!("net1"), "unknown field `network`"),
    ] {
        let error = with(field, value.clone()).expect_err(field);
        assert!(error.contains(words), "{field}: {value}: {error}");
    }
    assert!(spec(json!({"name": "web"})).unwrap_err().contains("missing field `networks`"));
}

/// The request of the service after an update.
fn updated(service: &service::Service, update: Value) -> Result<ServiceSpec, String> {
    let update: UpdateService = serde_json::from_value(update).map_err(|error| error.to_string())?;
    update.of(service).map(|update| update.spec).map_err(|error| error.to_string())
}

#[test]
fn an_update_changes_only_what_it_gives() {
    let before = spec(full()).unwrap();
    let service = made(&before);
    assert_eq!(updated(&service, json!({})).unwrap(), before);
    let expect = |update: Value, change: &dyn Fn(&mut ServiceSpec)| {
        let mut expected = before.clone();
        change(&mut expected);
        assert_eq!(updated(&service, update.clone()).unwrap(), expected, "{update}");
    };
    let ports = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    expect(json!({"mode": "dns"}), &|spec| spec.mode = Mode::Dns);
    expect(json!({"target": null}), &|spec| spec.target = None);
    expect(json!({"target": "53/udp"}), &|spec| spec.target = "53/udp".parse().ok());
    expect(json!({"grace": 0}), &|spec| spec.grace = 0);
    expect(json!({"health": {"interval": 7}}), &|spec| spec.health.interval = 7000);
    expect(json!({"health": {"kind": "none"}}), &|spec| spec.health.kind = service::HealthKind::None);
    expect(json!({"select": {}}), &|spec| spec.select.clear());
    expect(json!({"aliases": ["x"]}), &|spec| {
        spec.networks.iter_mut().for_each(|(_, a)| *a = vec!["x".parse().unwrap()]);
    });
    expect(json!({"networks": ["net3"], "aliases": ["x"]}), &|spec| {
        spec.networks = vec![("net3".into(), vec!["x".parse().unwrap()])];
    });
    expect(json!({"networks": ["net1"]}), &|spec| spec.networks = vec![("net1".into(), Vec::new())]);
    expect(json!({"publish_add": ["443"]}), &|spec| spec.ports = ports(&["4000:80", "53:53/udp", "443"]));
    expect(json!({"publish_rm": ["80"]}), &|spec| spec.ports = ports(&["53:53/udp"]));
    expect(json!({"publish_rm": ["4000:80"], "publish_add": ["4001:80"]}), &|spec| {
        spec.ports = ports(&["53:53/udp", "4001:80"]);
    });
    expect(json!({"ports": []}), &|spec| spec.ports.clear());
    expect(json!({"member_add": ["w4", "W3"], "labels": {}}), &|spec| {
        spec.members = vec!["w3".into(), "w4".into()];
        spec.labels.clear();
    });
    expect(json!({"member_rm": ["W3"]}), &|spec| spec.members.clear());
}

#[test]
fn an_update_of_what_is_not_there_is_refused() {
    let service = made(&spec(full()).unwrap());
    for (update, words) in [
        (json!({"publish_rm": ["81"]}), "service web does not publish it: it publishes *:4000->80/tcp, *:53->53/udp"),
        (json!({"publish_rm": ["4001:80"]}), "does not publish it"),
        (json!({"publish_rm": ["80/udp"]}), "does not publish it"),
        (json!({"member_rm": ["w1"]}), "service web does not list it: it lists w3"),
        (json!({"name": "other"}), "unknown field `name`"),
        (json!({"health": {"retries": 101}}), "use 1 to 100"),
    ] {
        let error = updated(&service, update.clone()).expect_err(words);
        assert!(error.contains(words), "{update}: {error}");
    }
}

#[test]
fn an_update_is_for_the_version_that_was_seen() {
    let service = made(&spec(full()).unwrap());
    let version = |update: UpdateService| update.of(&service).unwrap().version;
    assert_eq!(version(UpdateService::default()), Some(3));
    assert_eq!(version(UpdateService { version: Some(2), ..UpdateService::default() }), Some(2));
}

#[test]
fn members_and_replicas_follow_from_conditions() {
    let mut desired = Desired::default();
    let network = samples::network("net1", &["10.0.0.0/24"]);
    desired.insert_network(network.clone());
    let service = made(&spec(json!({"name": "web", "networks": ["net1"], "members": ["w1", "w2"]})).unwrap());
    desired.insert_service(service.clone());
    for (sequence, name) in ["w1", "w2"].into_iter().enumerate() {
        let address = format!("10.0.0.{}", sequence + 2);
        desired.insert_endpoint(samples::endpoint(&network, name, sequence as u64, &[&address], &[]));
    }
    let id = desired.members(&service).next().unwrap().endpoint.container.id.clone();
    desired.insert_condition(Condition { draining: Some(1_767_323_045), ..Condition::new(id.clone()) });
    assert_eq!(Replicas::of(&desired, &service), Replicas { ready: 1, all: 2 });
    let members: Vec<Member> = desired.members(&service).map(|member| Member::new(&service.name, member)).collect();
    assert_eq!(
        serde_json::to_value(&members[0]).unwrap(),
        json!({
            "service": "web", "container": {"id": id.as_str(), "name": "w1"}, "network": "net1",
            "addresses": ["10.0.0.2/24"], "state": "draining", "since": "2026-01-02T03:04:05Z",
            "why": "it is drained: see `netd service undrain`",
        })
    );
    assert_eq!((members[1].since.as_deref(), members[1].why.as_str()), (None, ""));
    assert_eq!(members[1].summary(), "w2 of web on net1 is ready");
}

#[test]
fn an_action_is_a_word() {
    for (word, action) in [("drain", MemberAction::Drain), ("checked", MemberAction::Checked)] {
        let change: ChangeMember = serde_json::from_value(json!({ "action": word })).unwrap();
        assert_eq!(change.of("w1").unwrap().action, action);
    }
    assert!(
        serde_json::from_value::<ChangeMember>(json!({"action": "stop"})).unwrap_err().to_string().contains("stop")
    );
}
