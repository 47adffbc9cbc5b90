//! The request that connects a container.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::{parse, text};
use crate::model::address::Mac;
use crate::model::egress::{Allowance, Stance};
use crate::model::exposure::Exposure;
use crate::model::names::{Alias, ContainerName, IfName, ReservationId};
use crate::model::publication::{PortRange, PortSpec, Protocol, PublishMode};
use crate::model::request::{ContainerRef, EndpointSpec, NetnsRef, PersonRequest, Requester};
use crate::model::upstream::Upstream;
use crate::model::{Invalid, publication};

/// A container to connect to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// A container netd knows (name, id or the beginning of its id), a named network namespace, or a running container
    /// of a runtime on the host. With `netns` or `pid`: the name it gets.
    #[schema(value_type = text::AnyContainer)]
    pub container: String,
    /// The id that the runtime assigned; only with `netns` or `pid`. Absent: random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ContainerId>)]
    pub id: Option<String>,
    /// Absolute path of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::NamespacePath>)]
    pub netns: Option<String>,
    /// A process in its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 2147483647)]
    pub pid: Option<u32>,
    /// The id of a reservation on this network. The endpoint takes its place, with its addresses, MAC address and ports;
    /// therefore without `ip`, `ip6`, `mac` and `ports`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::ReservationId>)]
    pub reservation: Option<ReservationId>,
    /// A fixed IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Ipv4Address>)]
    pub ip: Option<String>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Ipv6Address>)]
    pub ip6: Option<String>,
    /// A fixed MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MacAddress>)]
    pub mac: Option<Mac>,
    /// Further DNS names on this network. `*.app` stands for every name below `app`, at any depth, that no container
    /// has literally. `localhost`, the host's names, and `NAME.NETWORK` of another container are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Alias>)]
    pub aliases: Vec<Alias>,
    /// The interface in the container; absent: the first free of eth0, eth1, …; of nd0, nd1, … in a container of
    /// another engine (Docker, Podman), which numbers its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::InterfaceName>)]
    pub ifname: Option<IfName>,
    /// Ports to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
    /// Ports that it serves without publishing them, `"PORT[/tcp|udp|sctp][=SERVICE]"`: DNS announces them (SRV) like
    /// published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::ExposedPort>)]
    pub expose: Vec<Exposure>,
    /// Labels of the user, at most 16 KiB; DNS announces them as TXT records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<text::EndpointLabelKey, String>)]
    pub labels: BTreeMap<String, String>,
    /// Whether it may send from addresses that are not its own, as routers and DHCP servers do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusted: bool,
    /// Upstreams for external names, asked before those of the network; as `dns` of a network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::NameServer>)]
    pub dns: Vec<Upstream>,
    /// Whether anything but what is allowed may be sent to the outside and to the host: `open` or `deny`; absent:
    /// as its network says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::EgressStance>)]
    pub egress: Option<Stance>,
    /// What may be sent all the same, besides what the network allows: `NAME`, `*.NAME` (the names below it), an address or a prefix, each with
    /// `:PORT[-END][/PROTOCOL]` if wanted, an IPv6 one then in brackets. Without `egress` it means deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<text::Allowance>)]
    pub egress_allow: Vec<Allowance>,
}

/// A port to publish: `"[[HOST_IP:][HOST_PORT[-END]]:]CONTAINER_PORT[-END][/tcp|udp|sctp]"`, Docker's long form
/// (`"published=8080,target=80,protocol=tcp,mode=host"`, also with `publish=open` or `publish=strict`), or an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum PortRequest {
    /// As on the command line.
    #[schema(value_type = text::PortText)]
    Spec(PortSpec),
    /// Field by field.
    Object(PortObject),
}

/// A port to publish, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortObject {
    /// Absent: every local IPv4 and IPv6 address.
    #[serde(default, deserialize_with = "host_ip", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::IpAddress>)]
    pub host_ip: Option<IpAddr>,
    /// Absent or 0: a free port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 65535)]
    pub host_port: Option<u16>,
    /// The last of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub host_port_end: Option<u16>,
    /// The (first) port in the container.
    #[schema(minimum = 1, maximum = 65535)]
    pub container_port: u16,
    /// The last of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 65535)]
    pub container_port_end: Option<u16>,
    /// `tcp`, also when absent, `udp` or `sctp`.
    #[serde(default, deserialize_with = "protocol", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Transport>)]
    pub protocol: Option<Protocol>,
    /// Who decides which packets reach it: `open`, netd, or `strict`, the host's own rules about packets to itself; absent:
    /// as the network has it.
    #[serde(default, deserialize_with = "mode", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::PublishMode>)]
    pub publish: Option<PublishMode>,
}

impl Connect {
    /// Parses the request for the network of that name or id.
    pub fn into_spec(self, network: &str) -> Result<EndpointSpec, Invalid> {
        let netns = netns(self.netns, self.pid)?;
        let container = match &netns {
            Some(_) => resolvable(&self.container, self.id.as_deref())?,
            None => parse::container_reference(&self.container)?,
        };
        if let (Some(id), None) = (&self.id, &netns) {
            return Err(Invalid::new("container id", id, "give netns or pid with it"));
        }
        let id = self.id.map(|id| id.parse()).transpose()?;
        let has_own = self.ip.is_some() || self.ip6.is_some() || self.mac.is_some() || !self.ports.is_empty();
        if let Some(id) = self.reservation.as_ref().filter(|_| has_own) {
            let why = "it determines addresses, MAC address and ports: leave out ip, ip6, mac and ports";
            return Err(Invalid::new("reservation", id.as_str(), why));
        }
        let container = ContainerRef { name: container, netns, id };
        let network = parse::network_reference(network)?;
        let person = PersonRequest { network, container, reservation: self.reservation };
        Ok(EndpointSpec {
            addresses: parse::addresses(self.ip, self.ip6)?,
            ports: publication::distinct(self.ports.into_iter().map(PortRequest::spec))?,
            mac: self.mac,
            aliases: self.aliases,
            ifname: self.ifname.map(IfName::for_new).transpose()?,
            exposed: self.expose,
            labels: parse::labels(self.labels)?,
            trusted: self.trusted,
            no_default_route: false,
            upstreams: parse::upstreams(self.dns)?,
            egress: parse::egress(self.egress, self.egress_allow)?,
            ..EndpointSpec::of(Requester::Person(person))
        })
    }
}

/// A container's name, which DNS must be able to answer, unless it is just its id.
fn resolvable(name: &str, id: Option<&str>) -> Result<String, Invalid> {
    let parsed: ContainerName = name.parse()?;
    if !parsed.resolves() && id != Some(name) {
        return Err(Invalid::new("container name", name, "it is too long for a DNS name: use at most 63 bytes"));
    }
    Ok(parsed.into())
}

fn netns(netns: Option<String>, pid: Option<u32>) -> Result<Option<NetnsRef>, Invalid> {
    match (netns, pid) {
        (Some(path), Some(pid)) => {
            Err(Invalid::new("network namespace", path, format!("process {pid} is given as well: choose one")))
        }
        (Some(path), None) if !path.starts_with('/') || path.contains(char::is_control) => {
            Err(Invalid::new("network namespace", path, "give its absolute path, as in /run/netns/web"))
        }
        (Some(path), None) => Ok(Some(NetnsRef::Path(PathBuf::from(path)))),
        // pid_t is signed; 0 would mean the daemon itself.
        (None, Some(pid)) if pid == 0 || i32::try_from(pid).is_err() => {
            Err(Invalid::new("process id", pid.to_string(), "use the id of a process in the container"))
        }
        (None, Some(pid)) => Ok(Some(NetnsRef::Pid(pid))),
        (None, None) => Ok(None),
    }
}

impl PortRequest {
    /// The port; checks what the fields of an object say together.
    pub fn spec(self) -> Result<PortSpec, Invalid> {
        match self {
            Self::Spec(spec) => Ok(spec),
            Self::Object(port) => port.spec(),
        }
    }
}

impl PortObject {
    fn spec(self) -> Result<PortSpec, Invalid> {
        let range = |first: u16, end: Option<u16>| {
            let wrong = || match end {
                Some(end) => {
                    Invalid::new("port", format!("{first}-{end}"), "use the lower port first, and none of them 0")
                }
                None => Invalid::new("port", first.to_string(), "use 1 to 65535"),
            };
            PortRange::new(first, end.unwrap_or(first)).ok_or_else(wrong)
        };
        let host = match (self.host_port, self.host_port_end) {
            (None, Some(end)) => return Err(Invalid::new("port", end.to_string(), "host_port_end needs host_port")),
            (None | Some(0), None) => None,
            (Some(first), end) => Some(range(first, end)?),
        };
        let container = range(self.container_port, self.container_port_end)?;
        let spec = PortSpec::new(self.host_ip, host, container, self.protocol.unwrap_or(Protocol::Tcp))?;
        Ok(PortSpec { mode: self.publish, ..spec })
    }
}

fn host_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let wrong = |ip: &str| D::Error::custom(Invalid::new("port", ip, "host_ip is not an IP address"));
    text.map(|ip| ip.parse().map_err(|_| wrong(&ip))).transpose()
}

/// In any case, as on the command line.
fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Protocol>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PublishMode>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

// Not `untagged`: its error would not name the unknown field of the object.
impl<'de> Deserialize<'de> for PortRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PortRequest;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port such as \"4000:80/tcp\", or an object with container_port")
            }
            fn visit_str<E: Error>(self, spec: &str) -> Result<PortRequest, E> {
                spec.parse().map(PortRequest::Spec).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PortRequest, A::Error> {
                PortObject::deserialize(MapAccessDeserializer::new(map)).map(PortRequest::Object)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<EndpointSpec, String> {
        let request: Connect = serde_json::from_str(json).map_err(|error| error.to_string())?;
        request.into_spec("net1").map_err(|error| error.to_string())
    }

    #[test]
    fn ports_as_text_and_as_objects_mean_the_same() {
        for (text, object) in [
            ("80", r#"{"container_port":80}"#),
            ("80", r#"{"container_port":80,"host_port":0,"host_ip":null}"#),
            ("4000:80/udp", r#"{"host_port":4000,"container_port":80,"protocol":"UDP"}"#),
            ("127.0.0.1:4000:80", r#"{"host_ip":"::ffff:127.0.0.1","host_port":4000,"container_port":80}"#),
            ("8000-8010:80", r#"{"host_port":8000,"host_port_end":8010,"container_port":80}"#),
            ("[::1]:4000:80", r#"{"host_ip":"::1","host_port":4000,"container_port":80}"#),
            ("published=4000,target=80,publish=strict", r#"{"host_port":4000,"container_port":80,"publish":"strict"}"#),
            ("127.0.0.1::80", r#"{"host_ip":"127.0.0.1","container_port":80}"#),
            (
                "8000-8001:90-91",
                r#"{"host_port":8000,"host_port_end":8001,"container_port":90,"container_port_end":91}"#,
            ),
        ] {
            let one = spec(&format!(r#"{{"container":"web","ports":["{text}"]}}"#)).unwrap();
            let two = spec(&format!(r#"{{"container":"web","ports":[{object}]}}"#)).unwrap();
            assert_eq!(one, two, "{text}");
        }
    }

    #[test]
    fn a_request_survives_its_own_json() {
        let json =
            r#"{"container":"web","ports":["4000:80/tcp",{"host_ip":"::1","container_port":53,"protocol":"udp"}]}"#;
        let request: Connect = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
    }

    #[test]
    fn everything_reaches_the_spec() {
        let spec = spec(
            r#"{"container":"web","id":"abc","pid":7,"ip":"10.0.0.5","ip6":"fd00::5","mac":"02:00:00:00:00:01",
                "aliases":["www","*.app"],"ifname":"net0","expose":["8080=http"],"labels":{"tier":"front"},
                "dns":["9.9.9.9"]}"#,
        )
        .unwrap();
        assert_eq!(spec.reservation(), None);
        let Requester::Person(PersonRequest { container, .. }) = spec.requester else { panic!("not a person") };
        assert_eq!(container.netns, Some(NetnsRef::Pid(7)));
        assert_eq!(container.id.unwrap().as_str(), "abc");
        let addresses: Vec<String> = spec.addresses.iter().map(|address| address.ip.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.5", "fd00::5"]);
        assert_eq!((spec.aliases.len(), spec.ifname.unwrap().as_str()), (2, "net0"));
        assert_eq!((spec.exposed[0].port, spec.labels["tier"].as_str()), (8080, "front"));
        assert_eq!(spec.upstreams[0].to_string(), "9.9.9.9");
    }

    #[test]
    fn a_reservation_comes_without_what_it_determines() {
        let spec = spec(r#"{"container":"web","reservation":"r1","aliases":["www"]}"#).unwrap();
        assert_eq!((spec.reservation().unwrap().as_str(), spec.aliases.len()), ("r1", 1));
        assert!(spec.addresses.is_empty() && spec.ports.is_empty() && spec.mac.is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, words) in [
            (r#"{}"#, "missing field `container`"),
            (r#"{"container":"web","alias":"x"}"#, "unknown field `alias`"),
            (r#"{"container":"web","ports":[{"port":80}]}"#, "unknown field `port`"),
            (r#"{"container":"web","ports":[80]}"#, "a port such as"),
            (r#"{"container":"web","ports":["80/icmp"]}"#, "use tcp, udp or sctp"),
            (r#"{"container":"web","ports":[{"container_port":0}]}"#, "invalid port"),
            (r#"{"container":"web","ports":[{"container_port":80,"protocol":"icmp"}]}"#, "use tcp, udp or sctp"),
            (r#"{"container":"web","ports":[{"container_port":8,"container_port_end":7}]}"#, "\"8-7\": use the lower"),
            (r#"{"container":"web","ports":[{"container_port":8,"host_port":0,"host_port_end":7}]}"#, "\"0-7\": use"),
            (
                r#"{"container":"web","ports":[{"container_port":8,"container_port_end":9,"host_port":1}]}"#,
                "differ in number",
            ),
            (
                r#"{"container":"web","ports":[{"container_port":80,"host_port":90,"host_ip":"224.0.0.1"}]}"#,
                "invalid port \"224.0.0.1:90:80/tcp\": 224.0.0.1 is a multicast address",
            ),
            (r#"{"container":"web","ports":[{"container_port":80,"host_ip":"x"}]}"#, "host_ip"),
            (r#"{"container":"web","ports":[{"container_port":80,"host_port_end":9}]}"#, "needs host_port"),
            (r#"{"container":""}"#, "invalid container name"),
            (r#"{"container":"a b"}"#, "invalid container name"),
            (r#"{"container":"web","netns":"relative"}"#, "absolute path"),
            (r#"{"container":"web","netns":"/x","pid":1}"#, "choose one"),
            (r#"{"container":"web","pid":0}"#, "process id"),
            (r#"{"container":"web","pid":-1}"#, "invalid value"),
            (r#"{"container":"web","id":"abc"}"#, "give netns or pid"),
            (r#"{"container":"web","reservation":"a b"}"#, "invalid reservation id"),
            (r#"{"container":"web","reservation":"r1","ip":"10.0.0.5"}"#, "it determines addresses"),
            (r#"{"container":"web","reservation":"r1","ports":["80"]}"#, "it determines addresses"),
            (r#"{"container":"web","ip":"10.0.0.256"}"#, "invalid IP address"),
            (r#"{"container":"web","ip6":"10.0.0.1"}"#, "that is IPv4"),
            (r#"{"container":"web","mac":"01:00:00:00:00:01"}"#, "invalid MAC address"),
            (r#"{"container":"web","aliases":["a b"]}"#, "invalid DNS name"),
            (r#"{"container":"web","aliases":["a.*"]}"#, "invalid DNS name"),
            (r#"{"container":"web","expose":["http"]}"#, "invalid exposed port"),
            (r#"{"container":"web","expose":[80]}"#, "invalid type"),
            (r#"{"container":"web","labels":{"":"x"}}"#, "key is empty"),
            (r#"{"container":"web","labels":{"a=b":"x"}}"#, "'='"),
            (r#"{"container":"web","dns":["one.one"]}"#, "invalid name server \"one.one\""),
            (r#"{"container":"web","ifname":"0123456789abcdef"}"#, "invalid interface name"),
            (r#"{"container":"web","ifname":"all"}"#, "invalid interface name"),
        ] {
            let error = spec(json).expect_err(json);
            assert!(error.contains(words), "{json}: {error}");
        }
        let request = Connect { container: "web".into(), ..Connect::default() };
        assert!(request.into_spec("a b").is_err());
    }
}
