//! `POST /networks/{id}/connect` and `disconnect`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bollard::models as wire;

use super::body;
use super::failure::Failure;
use super::named::{Named, find, of_podman};
use super::network_json::HOST;
use super::version::ApiVersion;
use super::{Asked, EngineApi};
use crate::engine;
use crate::model::address::Family;
use crate::model::desired::Lookup;
use crate::model::network::Network;
use crate::model::request::{AddressSpec, ContainerRef, EndpointSpec, PersonRequest, Requester};

const KEYS: [&str; 23] = [
    "Container",
    "EndpointConfig",
    "IPAMConfig",
    "IPv4Address",
    "IPv6Address",
    "LinkLocalIPs",
    "Links",
    "MacAddress",
    "Aliases",
    "DriverOpts",
    "GwPriority",
    "NetworkID",
    "EndpointID",
    "Gateway",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "DNSNames",
    "Force",
    "Options",
    "Labels",
];
const IFNAME: &str = "com.docker.network.endpoint.ifname";

impl EngineApi {
    pub(super) async fn connect(&self, of: &Asked, text: &str, request: Request) -> Result<Response, Failure> {
        let body = body::object(request, &KEYS).await?;
        let asked: wire::NetworkConnectRequest = body::typed(body)?;
        let why = "container must be created in host network mode";
        let network = self.joinable(text, of.version, "connect container to", why).await?;
        let settings = asked.endpoint_config.unwrap_or_default();
        let network = match network {
            Joinable::Ours(network) => network,
            Joinable::Podman(name) => {
                let Some(engine) = &self.engine else { return Err(Failure::no_network(text)) };
                if engine.connect_defined(&name, &asked.container, &settings).await? {
                    return Ok(StatusCode::OK.into_response());
                }
                // A container of nobody, or of another runtime.
                self.made(&name)?
            }
        };
        let spec = spec(&network, &asked.container, &settings)?;
        if let Some(engine) = &self.engine
            && engine.connect(&network, &asked.container, &settings).await?
        {
            return Ok(StatusCode::OK.into_response());
        }
        let done = self.handle.connect(spec).await;
        done.map_err(|error| Failure::of(error, text, &asked.container))?;
        Ok(StatusCode::OK.into_response())
    }

    pub(super) async fn disconnect(&self, of: &Asked, text: &str, request: Request) -> Result<Response, Failure> {
        let body = body::object(request, &KEYS).await?;
        let asked: wire::NetworkDisconnectRequest = body::typed(body)?;
        let why = "container was created in host network mode";
        let force = asked.force == Some(true);
        let network = match self.joinable(text, of.version, "disconnect container from", why).await? {
            Joinable::Ours(network) => network,
            Joinable::Podman(name) => {
                let Some(engine) = &self.engine else { return Err(Failure::no_network(text)) };
                if engine.disconnect_defined(&name, &asked.container, force).await? {
                    return Ok(StatusCode::OK.into_response());
                }
                self.made(&name)?
            }
        };
        if let Some(engine) = &self.engine
            && engine.disconnect(&network, &asked.container, force).await?
        {
            return Ok(StatusCode::OK.into_response());
        }
        let snapshot = self.handle.snapshot();
        let container = match snapshot.desired.find_container(&asked.container) {
            Lookup::One(container) => container,
            Lookup::None => return Err(Failure::no_container(&asked.container)),
            Lookup::Ambiguous(count) => {
                let why = format!("container {} is ambiguous ({count} ids begin with it)", asked.container);
                return Err(Failure::bad(why));
            }
        };
        let id = &container.container.id;
        let not_connected = || {
            let why = format!("container {id} is not connected to network {}", network.name);
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, why)
        };
        match self.handle.disconnect(network.id.as_str(), id.as_str()).await {
            Ok(_) => Ok(StatusCode::OK.into_response()),
            Err(error) if error.kind() == engine::ErrorKind::NotFound => Err(not_connected()),
            Err(error) => Err(error.into()),
        }
    }

    /// netd's network for one that Podman defines.
    fn made(&self, name: &str) -> Result<Arc<Network>, Failure> {
        match find(&self.handle.snapshot(), of_podman(name)) {
            Ok(Named::Ours(network)) => Ok(network),
            _ => {
                let why = "netd makes it with the first container of Podman: start one first";
                Err(Failure::new(StatusCode::NOT_FOUND, format!("network {name} is defined only: {why}")))
            }
        }
    }

    /// The network, if containers can be connected to it later.
    async fn joinable(&self, text: &str, version: ApiVersion, what: &str, why: &str) -> Result<Joinable, Failure> {
        match self.named(text, version).await? {
            Named::Ours(network) => Ok(Joinable::Ours(network)),
            Named::Podman(network) => Ok(Joinable::Podman(network["Name"].as_str().unwrap_or_default().to_owned())),
            Named::Predefined(HOST) => Err(Failure::bad(format!("cannot {what} host network - {why}"))),
            Named::Predefined(_) => Err(Failure::bad(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            )),
        }
    }
}

/// A network to which containers can be connected.
enum Joinable {
    Ours(Arc<Network>),
    /// One that Podman defines, by its name.
    Podman(String),
}

/// What a person asks for, from Docker's settings of an endpoint.
pub(super) fn spec(
    network: &Network,
    container: &str,
    settings: &wire::EndpointSettings,
) -> Result<EndpointSpec, Failure> {
    if container.is_empty() {
        return Err(Failure::bad("the field Container is empty: name a container"));
    }
    let container = ContainerRef { name: container.to_owned(), netns: None, id: None };
    let person = PersonRequest { network: network.id.to_string(), container, reservation: None };
    let mut spec = EndpointSpec::of(Requester::Person(person));
    let mut wrong = Vec::new();
    let ipam = settings.ipam_config.as_ref();
    for (family, what, text) in [
        (Family::V4, "IPv4", ipam.and_then(|ipam| ipam.ipv4_address.as_deref())),
        (Family::V6, "IPv6", ipam.and_then(|ipam| ipam.ipv6_address.as_deref())),
    ] {
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        match text.parse::<IpAddr>() {
            Ok(ip) if Family::of(ip) != family => wrong.push(format!("invalid {what} address: {text}")),
            Err(_) => wrong.push(format!("invalid {what} address: {text}")),
            Ok(ip) if !network.subnets.iter().any(|subnet| subnet.subnet.contains(ip)) => {
                wrong.push(format!("no configured subnet contains IP address {ip}"));
            }
            Ok(ip) => spec.addresses.push(AddressSpec { ip, prefix: None, gateway: None }),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::bad(format!("invalid endpoint settings:\n{}", wrong.join("\n"))));
    }
    spec.aliases = settings.aliases.iter().flatten().map(|alias| alias.parse()).collect::<Result<_, _>>()?;
    spec.mac = settings.mac_address.as_deref().filter(|mac| !mac.is_empty()).map(str::parse).transpose()?;
    for (key, value) in settings.driver_opts.iter().flatten() {
        match key.as_str() {
            IFNAME => spec.ifname = Some(value.parse()?),
            _ => return Err(Failure::unsupported(format!("the endpoint option {key}={value}: leave it out"))),
        }
    }
    let given = [
        (
            "link-local addresses (LinkLocalIPs)",
            ipam.is_some_and(|ipam| !ipam.link_local_ips.iter().flatten().eq([""; 0])),
        ),
        ("links (Links): use an alias", settings.links.iter().flatten().next().is_some()),
        ("gateway priorities (GwPriority)", settings.gw_priority.is_some_and(|priority| priority != 0)),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((what, _)) => Err(Failure::unsupported(what)),
        None => Ok(spec),
    }
}
