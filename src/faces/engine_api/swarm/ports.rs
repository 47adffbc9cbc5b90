//! `EndpointSpec`: the mode of a service's name, and its published ports (swarmkit, controlapi/service.go).

use serde_json::{Value, json};

use super::{invalid, text};
use crate::engine::Snapshot;
use crate::faces::engine_api::failure::Failure;
use crate::model::publication::{PortRange, PortSpec, Protocol, Publication};
use crate::model::service::{Mode, Service};

/// The mode, and the ports that the service publishes itself (`PublishMode` ingress).
pub(super) fn read(endpoint: &Value) -> Result<(Mode, Vec<PortSpec>), Failure> {
    let mode = match text(endpoint, "Mode") {
        "" | "vip" => Mode::Vip,
        "dnsrr" => Mode::Dns,
        other => return Err(Failure::bad(format!("invalid EndpointSpec.Mode {other:?}: use vip or dnsrr"))),
    };
    let (mut ports, mut published) = (Vec::new(), Vec::new());
    for port in endpoint["Ports"].as_array().into_iter().flatten() {
        let (target, host) = (number(port, "TargetPort")?, number(port, "PublishedPort")?);
        let is_host = match text(port, "PublishMode") {
            "" | "ingress" => false,
            "host" => true,
            other => return Err(Failure::bad(format!("invalid PublishMode {other:?}: use ingress or host"))),
        };
        if mode == Mode::Dns && !is_host {
            return Err(invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode"));
        }
        let protocol: Protocol =
            Some(text(port, "Protocol")).filter(|text| !text.is_empty()).unwrap_or("tcp").parse()?;
        if host != 0 && published.contains(&(protocol, host)) {
            return Err(invalid("EndpointSpec: duplicate published ports provided"));
        }
        published.push((protocol, host));
        let container =
            PortRange::single(target).ok_or_else(|| invalid("EndpointSpec: a port needs its target (TargetPort)"))?;
        if !is_host {
            ports.push(PortSpec { host_ip: None, host: PortRange::single(host), container, protocol, mode: None });
        }
    }
    Ok((mode, ports))
}

fn number(port: &Value, key: &str) -> Result<u16, Failure> {
    let wrong = || Failure::bad(format!("invalid {key} {}: use a number up to 65535", port[key]));
    match &port[key] {
        Value::Null => Ok(0),
        value => value.as_u64().and_then(|number| u16::try_from(number).ok()).ok_or_else(wrong),
    }
}

/// Refuses a port that another service publishes, in Docker's words.
pub(super) fn check_free(snapshot: &Snapshot, ports: &[PortSpec], own: Option<&Service>) -> Result<(), Failure> {
    let others = snapshot.desired.services().filter(|other| own.is_none_or(|own| own.id != other.id));
    for other in others {
        let has = |port: &&PortSpec| {
            let same = |known: &Publication| known.protocol == port.protocol && Some(known.host) == port.host;
            other.publications.iter().any(same)
        };
        if let Some(port) = ports.iter().find(has).and_then(|port| port.host) {
            let (name, id) = (&other.name, &other.id);
            return Err(invalid(format!(
                "port '{port}' is already in use by service '{name}' ({id}) as an ingress port"
            )));
        }
    }
    Ok(())
}

/// `EndpointSpec`, as it was given, or as it would make the service.
pub(super) fn spec(service: &Service) -> Value {
    let given = service.tasks.as_ref().and_then(|tasks| tasks.endpoint.clone());
    given.filter(|given| makes(given, service)).unwrap_or_else(|| match published(service).as_slice() {
        [] => json!({"Mode": mode(service)}),
        ports => json!({"Mode": mode(service), "Ports": ports}),
    })
}

/// Whether it says what the service is: ports and mode can be changed with netd's own commands, too.
fn makes(given: &Value, service: &Service) -> bool {
    let Ok((mode, ports)) = read(given) else { return false };
    let has = |port: &PortSpec| {
        let known = service.publications.iter();
        let mut known = known.filter(|known| (known.protocol, known.container) == (port.protocol, port.container));
        known.any(|known| port.host.is_none_or(|host| host == known.host))
    };
    mode == service.mode && ports.len() == service.publications.len() && ports.iter().all(has)
}

fn mode(service: &Service) -> &'static str {
    match service.mode {
        Mode::Vip => "vip",
        Mode::Dns => "dnsrr",
    }
}

/// The ports that are published: those of the service, and those of its tasks.
pub(super) fn published(service: &Service) -> Vec<Value> {
    let names = |protocol: Protocol, target: u16| {
        let given = service.tasks.as_ref()?.endpoint.as_ref()?["Ports"].as_array()?;
        let is_it = |port: &&Value| {
            port["TargetPort"] == target
                && matches!(text(port, "Protocol"), known if known == protocol.as_str() || known.is_empty() && protocol == Protocol::Tcp)
        };
        given.iter().find(is_it).map(|port| text(port, "Name").to_owned()).filter(|name| !name.is_empty())
    };
    let own = service.publications.iter().map(|publication| {
        let (protocol, target) = (publication.protocol, publication.container.first());
        let mut port = json!({
            "Protocol": protocol.as_str(), "TargetPort": target, "PublishedPort": publication.host.first(), "PublishMode": "ingress",
        });
        if let Some(name) = names(protocol, target) {
            port["Name"] = name.into();
        }
        port
    });
    let endpoint = service.tasks.as_ref().and_then(|tasks| tasks.endpoint.as_ref());
    own.chain(crate::faces::engine_api::tasks::digest::host_ports(endpoint)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_the_services_or_the_tasks() {
        let read = |endpoint: Value| read(&endpoint);
        let (mode, ports) = read(json!({"Ports": [
            {"TargetPort": 80, "PublishedPort": 4000}, {"TargetPort": 53, "Protocol": "udp"},
            {"TargetPort": 81, "PublishedPort": 4001, "PublishMode": "host"},
        ]}))
        .unwrap();
        assert_eq!(mode, Mode::Vip);
        let shown: Vec<String> = ports.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["4000:80/tcp", "53/udp"], "netd chooses the second");
        assert_eq!(read(json!({})), Ok((Mode::Vip, Vec::new())));
        assert_eq!(read(json!({"Mode": "dnsrr"})).map(|(mode, _)| mode), Ok(Mode::Dns));
        let why = |endpoint: Value| read(endpoint).unwrap_err().message;
        assert!(why(json!({"Mode": "dnsrr", "Ports": [{"TargetPort": 80}]})).contains("can't be used with dnsrr mode"));
        assert!(
            why(json!({"Ports": [{"TargetPort": 80, "PublishedPort": 1}, {"TargetPort": 81, "PublishedPort": 1}]}))
                .contains("duplicate published ports")
        );
        for wrong in [
            json!({"Mode": "x"}),
            json!({"Ports": [{}]}),
            json!({"Ports": [{"TargetPort": 70000}]}),
            json!({"Ports": [{"TargetPort": 1, "PublishMode": "x"}]}),
        ] {
            assert!(!why(wrong).is_empty());
        }
    }

    /// A service with these published ports that was asked for with this `EndpointSpec`.
    fn service(ports: &[(u16, u16)], endpoint: &Value) -> Service {
        let published = |&(host, container): &(u16, u16)| {
            let range = |port: u16| json!({"first": port, "last": port});
            json!({"host": range(host), "container": range(container), "protocol": "tcp"})
        };
        let service = json!({
            "id": "a".repeat(25), "name": "web", "mode": Mode::Vip, "grace": 10, "networks": [{"network": "net1"}],
            "publications": ports.iter().map(published).collect::<Vec<_>>(),
            "tasks": {"replicas": 2, "template": {}, "endpoint": endpoint}, "created": 0, "updated": 0, "version": 1,
        });
        serde_json::from_value(service).unwrap()
    }

    #[test]
    fn the_definition_shows_ports_that_were_changed_by_others() {
        let one = json!({"TargetPort": 80, "PublishedPort": 4000, "Protocol": "tcp", "Name": "page"});
        let own = json!({"TargetPort": 81, "PublishedPort": 4009, "Protocol": "tcp", "PublishMode": "host"});
        let given = json!({"Mode": "vip", "Ports": [one, own]});
        assert_eq!(spec(&service(&[(4000, 80)], &given)), given, "as it was given");
        let shown = |ports: &[(u16, u16)], given: &Value| {
            let shown = spec(&service(ports, given));
            let ports = shown["Ports"].as_array().cloned().unwrap_or_default();
            let pair =
                |port: &Value| format!("{}:{} {}", port["PublishedPort"], port["TargetPort"], text(port, "Name"));
            ports.iter().map(pair).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[(4000, 80), (4001, 80)], &given), ["4000:80 page", "4001:80 page", "4009:81 "]);
        assert_eq!(shown(&[(4002, 80)], &given), ["4002:80 page", "4009:81 "]);
        assert_eq!(shown(&[], &given), ["4009:81 "], "the ports of its tasks stay");
        let any = json!({"Ports": [{"TargetPort": 80}]});
        assert_eq!(spec(&service(&[(30000, 80)], &any)), any, "netd chose the port");
        let other = json!({"Mode": "dnsrr"});
        assert_eq!(spec(&service(&[], &other)), json!({"Mode": "vip"}), "the mode is shown as it is, too");
    }
}
