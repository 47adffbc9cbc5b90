//! Docker's lists of ports as netd's: Docker lists each port of a range, netd publishes ranges.

use serde::de::DeserializeOwned;

use super::messages::{EXPOSED, Options, PORT_MAP, PortBinding, TransportPort, given};
use crate::model::Invalid;
use crate::model::exposure::Exposure;
use crate::model::publication::{PortRange, PortSpec, Protocol, Publication};

/// The ports to publish, each run of consecutive ones as a range.
pub(super) fn published(options: &Options) -> Result<Vec<PortSpec>, Invalid> {
    let mut bindings: Vec<PortBinding> = list(options, PORT_MAP)?;
    let key = |binding: &PortBinding| (binding.proto, binding.host_ip.clone(), binding.host_port, binding.port);
    bindings.sort_by_key(key);
    bindings.dedup();
    let mut runs: Vec<(PortBinding, PortBinding)> = Vec::new();
    for binding in bindings {
        match runs.last_mut().filter(|(_, last)| follows(last, &binding)) {
            Some((_, last)) => *last = binding,
            None => runs.push((binding.clone(), binding)),
        }
    }
    runs.iter().map(|(first, last)| spec(first, last)).collect()
}

/// Whether a range can go on from one binding to the other.
fn follows(last: &PortBinding, next: &PortBinding) -> bool {
    let is_one = |binding: &PortBinding| {
        binding.host_port > 0 && binding.host_port_end.max(binding.host_port) == binding.host_port
    };
    is_one(last)
        && is_one(next)
        && (last.proto, given(&last.host_ip)) == (next.proto, given(&next.host_ip))
        && (last.host_port.checked_add(1), last.port.checked_add(1)) == (Some(next.host_port), Some(next.port))
}

fn spec(first: &PortBinding, last: &PortBinding) -> Result<PortSpec, Invalid> {
    let protocol = protocol(first.proto)?;
    let host_ip =
        given(&first.host_ip).map(|ip| ip.parse().map_err(|_| Invalid::new("host IP", ip, "it is no IP address")));
    let wrong = |port: u16| Invalid::new("port", port.to_string(), "use ports from 1 to 65535");
    let container = PortRange::new(first.port, last.port).ok_or_else(|| wrong(first.port))?;
    let end = if first == last { first.host_port_end.max(first.host_port) } else { last.host_port };
    let host = match first.host_port {
        0 => None,
        start => Some(PortRange::new(start, end).ok_or_else(|| wrong(start))?),
    };
    PortSpec::new(host_ip.transpose()?, host, container, protocol)
}

/// The ports that the container exposes.
pub(super) fn exposed(options: &Options) -> Result<Vec<Exposure>, Invalid> {
    let exposed: Vec<TransportPort> = list(options, EXPOSED)?;
    let exposure =
        |port: TransportPort| Ok(Exposure { port: port.port, protocol: protocol(port.proto)?, service: None });
    exposed.into_iter().filter(|port| port.port != 0).map(exposure).collect()
}

/// The publications as Docker lists them.
pub(super) fn bindings(publications: &[Publication]) -> Vec<PortBinding> {
    let of = |publication: &Publication| {
        let (protocol, host_ip) = (publication.protocol, publication.host_ip.map(|ip| ip.to_string()));
        publication
            .host
            .ports()
            .zip(publication.container.ports())
            .map(move |(host_port, port)| PortBinding {
                proto: protocol as u8,
                ip: None,
                port,
                host_ip: host_ip.clone(),
                host_port,
                host_port_end: host_port,
            })
            .collect::<Vec<_>>()
    };
    publications.iter().flat_map(of).collect()
}

/// Its number in IP (libnetwork types.Protocol).
fn protocol(number: u8) -> Result<Protocol, Invalid> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let found = known.into_iter().find(|protocol| *protocol as u8 == number);
    found.ok_or_else(|| Invalid::new("protocol", number.to_string(), "use 6 (tcp), 17 (udp) or 132 (sctp)"))
}

fn list<T: DeserializeOwned>(options: &Options, key: &str) -> Result<Vec<T>, Invalid> {
    let given = options.as_ref().and_then(|options| options.get(key)).filter(|given| !given.is_null());
    let Some(given) = given else { return Ok(Vec::new()) };
    serde_json::from_value(given.clone()).map_err(|error| Invalid::new("option", key, error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(bindings: &serde_json::Value) -> Result<Vec<String>, String> {
        let options = json!({ PORT_MAP: bindings });
        let options = Some(options.as_object().unwrap().clone());
        let ports = published(&options).map_err(|error| error.to_string())?;
        Ok(ports.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_range_that_docker_lists_port_by_port_is_a_range_again() {
        let one = |host_ip: &str, host: u16, end: u16, port: u16, proto: u8| json!({"Proto": proto, "IP": "", "Port": port, "HostIP": host_ip, "HostPort": host, "HostPortEnd": end});
        let listed = json!([
            one("", 0, 0, 99, 6),
            one("127.0.0.1", 5002, 5002, 92, 17),
            one("127.0.0.1", 5001, 5001, 91, 17),
            one("127.0.0.1", 5000, 5000, 90, 17),
            one("", 4000, 4000, 80, 6),
            one("", 4002, 4002, 81, 6),
            one("", 7000, 7010, 70, 6),
        ]);
        assert_eq!(
            read(&listed).unwrap(),
            ["99/tcp", "4000:80/tcp", "4002:81/tcp", "7000-7010:70/tcp", "127.0.0.1:5000-5002:90-92/udp"]
        );
        let all: Vec<_> = (10_000..=20_000).rev().map(|port| one("", port, port, port, 17)).collect();
        assert_eq!(read(&all.into()).unwrap(), ["10000-20000:10000-20000/udp"]);
        assert_eq!(read(&serde_json::Value::Null).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bindings, words) in [
            (json!("x"), "invalid option \"com.docker.network.portmap\""),
            (json!([{"Proto": 1, "Port": 80}]), "use 6 (tcp), 17 (udp) or 132 (sctp)"),
            (json!([{"Proto": 6, "Port": 0, "HostPort": 4000}]), "use ports from 1 to 65535"),
            (json!([{"Proto": 6, "Port": 80, "HostPort": 4000, "HostIP": "x"}]), "it is no IP address"),
            (json!([{"Proto": 6, "Port": 70000}]), "invalid option"),
        ] {
            let error = read(&bindings).unwrap_err();
            assert!(error.contains(words), "{bindings}: {error}");
        }
    }
}
