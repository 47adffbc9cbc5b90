//! Reservations: the request, and how they are shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::connect::PortRequest;
use super::endpoint::Port;
use super::time::rfc3339;
use super::{parse, text};
use crate::model::address::Mac;
use crate::model::names::ReservationId;
use crate::model::request::ReservationSpec;
use crate::model::{Invalid, publication, reservation};

/// What to reserve on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// The id of the reservation, unique on the host: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 128 bytes. A container's id
    /// or name is one. A network with `sticky` keeps addresses for names, and takes the id for the container's name.
    #[schema(value_type = text::ReservationId)]
    pub id: ReservationId,
    /// A fixed IPv4 address; absent: the next free one if the network has IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Ipv4Address>)]
    pub ip: Option<String>,
    /// A fixed IPv6 address; absent: the next free one if the network has IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::Ipv6Address>)]
    pub ip6: Option<String>,
    /// A fixed MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<text::MacAddress>)]
    pub mac: Option<Mac>,
    /// Ports to publish. Their host ports are held from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRequest>,
}

/// What nobody else gets, until a container is connected with it or it is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// Unique on the host.
    pub id: String,
    /// The network's name.
    pub network: String,
    /// With prefix length, one per family of the network.
    pub addresses: Vec<String>,
    /// The MAC address.
    pub mac: String,
    /// Ports that will be published.
    pub ports: Vec<Port>,
    /// RFC 3339, UTC, to the second.
    #[schema(format = DateTime)]
    pub created: String,
}

impl Reserve {
    /// A reservation with this id, and all other choices left to netd.
    pub fn named(id: ReservationId) -> Self {
        Self { id, ip: None, ip6: None, mac: None, ports: Vec::new() }
    }

    /// Parses the request for the network of that name or id.
    pub fn into_spec(self, network: &str) -> Result<ReservationSpec, Invalid> {
        Ok(ReservationSpec {
            network: parse::network_reference(network)?,
            id: self.id,
            addresses: parse::addresses(self.ip, self.ip6)?,
            only: None,
            instead: Vec::new(),
            mac: self.mac,
            ports: publication::distinct(self.ports.into_iter().map(PortRequest::spec))?,
        })
    }
}

impl From<&reservation::Reservation> for Reservation {
    fn from(reservation: &reservation::Reservation) -> Self {
        Self {
            id: reservation.id.to_string(),
            network: reservation.network.to_string(),
            addresses: reservation.addresses.iter().map(ToString::to_string).collect(),
            mac: reservation.mac.to_string(),
            ports: reservation.publications.iter().map(Port::from).collect(),
            created: rfc3339(reservation.created),
        }
    }
}

impl Reservation {
    /// In one line for people: `r1 reserved on net1: 10.77.0.2/24, 02:6e:0a:4d:00:02, *:4000->80/tcp`.
    pub fn summary(&self) -> String {
        let ports = self.ports.iter().map(ToString::to_string);
        let has: Vec<String> = self.addresses.iter().chain([&self.mac]).cloned().chain(ports).collect();
        format!("{} reserved on {}: {}", self.id, self.network, has.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<ReservationSpec, String> {
        let request: Reserve = serde_json::from_str(json).map_err(|error| error.to_string())?;
        request.into_spec("net1").map_err(|error| error.to_string())
    }

    #[test]
    fn everything_reaches_the_spec() {
        let spec = spec(
            r#"{"id":"r1","ip":"10.0.0.5","ip6":"fd00::5","mac":"02:00:00:00:00:01",
                "ports":["4000:80","4000:80/tcp",{"container_port":53,"protocol":"udp"}]}"#,
        )
        .unwrap();
        let addresses: Vec<String> = spec.addresses.iter().map(|address| address.ip.to_string()).collect();
        assert_eq!(
            (spec.id.as_str(), spec.network.as_str(), addresses),
            ("r1", "net1", vec!["10.0.0.5".into(), "fd00::5".into()])
        );
        assert_eq!(spec.mac.unwrap().to_string(), "02:00:00:00:00:01");
        assert_eq!(spec.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["4000:80/tcp", "53/udp"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, words) in [
            (r#"{}"#, "missing field `id`"),
            (r#"{"id":"a b"}"#, "invalid reservation id \"a b\""),
            (r#"{"id":""}"#, "it is empty"),
            (r#"{"id":"r1","container":"web"}"#, "unknown field `container`"),
            (r#"{"id":"r1","ip":"fd00::1"}"#, "that is IPv6"),
            (r#"{"id":"r1","mac":"01:00:00:00:00:01"}"#, "invalid MAC address"),
            (r#"{"id":"r1","ports":["80/icmp"]}"#, "use tcp, udp or sctp"),
        ] {
            let error = spec(json).expect_err(json);
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
