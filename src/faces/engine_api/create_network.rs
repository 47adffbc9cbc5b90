//! `POST /networks/create`. What netd has no feature for is refused by name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use bollard::models as wire;
use ipnetwork::IpNetwork;
use serde_json::json;

use super::body;
use super::failure::{Failure, json_reply};
use super::network_json::{BRIDGE, HOST, NONE, OVERLAY, SCOPE, SWARM, is_on_host};
use super::version::ApiVersion;
use super::{Asked, EngineApi};
use crate::api::v1::{CreateNetwork, SubnetObject, SubnetRequest, boolean};
use crate::model::desired::Lookup;
use crate::model::request::NetworkSpec;

const KEYS: [&str; 20] = [
    "Name",
    "Driver",
    "Scope",
    "EnableIPv4",
    "EnableIPv6",
    "IPAM",
    "Config",
    "Subnet",
    "IPRange",
    "Gateway",
    "AuxiliaryAddresses",
    "Internal",
    "Attachable",
    "Ingress",
    "ConfigOnly",
    "ConfigFrom",
    "Network",
    "Options",
    "Labels",
    "CheckDuplicate",
];
/// What Docker says where a cluster is needed.
pub(super) const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
     to connect this node to swarm and try again.";

impl EngineApi {
    pub(super) async fn create_network(&self, asked: &Asked, request: Request) -> Result<Response, Failure> {
        let mut body = body::object(request, &KEYS).await?;
        let is_swarm = self.swarm().is_some();
        let create = checked(body::typed(body.clone())?, asked.version, is_swarm)?;
        if let Lookup::One(network) = self.handle.snapshot().desired.find_network(&create.name)
            && network.name.as_str() == create.name
        {
            let why = format!("network with name {} already exists", network.name);
            return Err(Failure::new(StatusCode::CONFLICT, why));
        }
        if create.labels.contains_key(SCOPE) {
            body["Labels"][SCOPE] = SWARM.into();
            body = self.with_range(body).await?;
        }
        let on_host = create.driver.clone();
        if let Some(engine) = &self.engine
            && let Some(made) = engine.define_network(&create.name, body).await?
        {
            return Ok(json_reply(StatusCode::CREATED, &made));
        }
        if let (Some(driver), Some(_)) = (on_host, &self.engine) {
            let why = "for containers of Docker, which take interfaces of bridges only: `netd network create` makes one for others";
            return Err(Failure::unsupported(format!("the network driver {driver:?} {why}")));
        }
        let network = self.handle.create_network(NetworkSpec::try_from(create)?).await?;
        Ok(json_reply(StatusCode::CREATED, &json!({"Id": network.id.as_str(), "Warning": ""})))
    }
}

/// The request in netd's own form.
fn checked(request: wire::NetworkCreateRequest, version: ApiVersion, is_swarm: bool) -> Result<CreateNetwork, Failure> {
    let name = request.name.trim().to_owned();
    if name.is_empty() {
        return Err(Failure::bad("invalid network name: name is empty"));
    }
    if [BRIDGE, HOST.name, NONE.name, "default"].contains(&name.as_str()) {
        return Err(Failure::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    check_kind(&request, is_swarm)?;
    let for_services = is_for_services(&request);
    let ipv4 = request.enable_ipv4.filter(|_| version >= ApiVersion::one(48)).unwrap_or(true);
    let mut ipv6 = request.enable_ipv6.unwrap_or(false);
    let options = options(request.options.unwrap_or_default(), &mut ipv6)?;
    let subnets = subnets(request.ipam.unwrap_or_default())?;
    let is_v6 = |subnet: &SubnetRequest| matches!(subnet, SubnetRequest::Object(object) if object.subnet.contains(':'));
    match (ipv4, ipv6) {
        (false, false) => return Err(Failure::bad("IPv4 or IPv6 must be enabled")),
        (false, true) if subnets.is_empty() || !subnets.iter().all(is_v6) => {
            return Err(Failure::unsupported(
                "networks without IPv4 whose IPv6 subnet is not given: give it (--subnet)",
            ));
        }
        _ => {}
    }
    if !ipv6 && subnets.iter().any(is_v6) {
        // As Docker: without --ipv6 an IPv6 subnet is of no use, and a mistake.
        return Err(Failure::bad(
            "invalid network config:\nIPv6 is not enabled: set EnableIPv6 (--ipv6) for an IPv6 subnet",
        ));
    }
    let mut labels: BTreeMap<String, String> = request.labels.unwrap_or_default().into_iter().collect();
    labels.remove(SCOPE);
    labels.extend(for_services.then(|| (SCOPE.to_owned(), SWARM.to_owned())));
    Ok(CreateNetwork {
        name,
        driver: request.driver.filter(|driver| is_on_host(driver)),
        subnets,
        ipv6,
        internal: request.internal.unwrap_or(false),
        labels,
        options,
        ..CreateNetwork::default()
    })
}

/// Whether it is one of a swarm.
fn is_for_services(request: &wire::NetworkCreateRequest) -> bool {
    request.driver.as_deref() == Some(OVERLAY) || request.scope.as_deref() == Some(SWARM)
}

fn check_kind(request: &wire::NetworkCreateRequest, is_swarm: bool) -> Result<(), Failure> {
    match request.driver.as_deref().unwrap_or_default() {
        "" | BRIDGE | "netd" => {}
        OVERLAY if is_swarm => {}
        OVERLAY => return Err(Failure::forbidden(NO_SWARM)),
        driver @ ("host" | "null") => {
            return Err(Failure::forbidden(format!("only one instance of {driver:?} network is allowed")));
        }
        driver if is_on_host(driver) => {}
        driver => {
            let why = format!("could not find a driver named {driver:?}: plugin {driver:?} not found");
            return Err(Failure::new(StatusCode::NOT_FOUND, why));
        }
    }
    match request.scope.as_deref().unwrap_or_default() {
        "" | "local" => {}
        SWARM if is_swarm => {}
        SWARM => {
            let why = "cannot create a swarm scoped network when swarm is not active";
            return Err(Failure::forbidden(why));
        }
        "global" => return Err(Failure::forbidden(NO_SWARM)),
        scope => return Err(Failure::bad(format!("invalid network scope {scope:?}"))),
    }
    let reference = request.config_from.as_ref().and_then(|from| from.network.as_deref()).unwrap_or_default();
    let wanted = [
        ("ingress networks (Ingress)", request.ingress == Some(true)),
        ("config-only networks (ConfigOnly)", request.config_only == Some(true)),
        ("networks from a config-only one (ConfigFrom)", !reference.is_empty()),
    ];
    match wanted.iter().find(|(_, wanted)| *wanted) {
        Some((what, _)) => Err(Failure::unsupported(what)),
        None => Ok(()),
    }
}

/// Options under Docker's names, without those that ask for what is so anyway.
fn options(given: HashMap<String, String>, ipv6: &mut bool) -> Result<BTreeMap<String, String>, Failure> {
    let mut options = BTreeMap::new();
    for (key, value) in given {
        let switch = || {
            let wrong = || Failure::bad(format!("invalid value {value:?} for option {key}: use true or false"));
            boolean(&value).ok_or_else(wrong)
        };
        match key.strip_prefix("com.docker.network.") {
            Some("enable_ipv6") => *ipv6 = switch()?,
            Some("enable_ipv4") if switch()? => {}
            Some("bridge.inhibit_ipv4" | "bridge.default_bridge") if !switch()? => {}
            Some("bridge.host_binding_ipv4") if matches!(value.as_str(), "" | "0.0.0.0" | "::") => {}
            Some("driver.mtu") if value == "0" => {}
            // The number of a tunnel, which a network of one node does not need.
            Some("driver.overlay.vxlanid_list") => {}
            Some("container_iface_prefix") if value == "eth" => {}
            Some(
                "bridge.name"
                | "bridge.enable_icc"
                | "bridge.enable_ip_masquerade"
                | "bridge.gateway_mode_ipv4"
                | "bridge.gateway_mode_ipv6"
                | "host_ipv4"
                | "host_ipv6"
                | "driver.mtu",
            ) => drop(options.insert(key, value)),
            Some(_) => return Err(Failure::unsupported(format!("the network option {key}={value}: leave it out"))),
            None => drop(options.insert(key, value)),
        }
    }
    Ok(options)
}

fn subnets(ipam: wire::Ipam) -> Result<Vec<SubnetRequest>, Failure> {
    match ipam.driver.as_deref().unwrap_or_default() {
        "" | "default" | "netd" => {}
        driver => {
            return Err(Failure::bad(format!("could not find an IPAM driver named {driver:?}: netd has its own")));
        }
    }
    if let Some(option) = ipam.options.unwrap_or_default().into_keys().next() {
        return Err(Failure::unsupported(format!("the IPAM option {option}: leave it out")));
    }
    let (mut subnets, mut wrong) = (Vec::new(), Vec::new());
    for config in ipam.config.unwrap_or_default() {
        if let Some(name) = config.auxiliary_addresses.unwrap_or_default().into_keys().next() {
            let instead = "keep addresses out with an IP range, or with `netd reservation create`";
            return Err(Failure::unsupported(format!("auxiliary addresses ({name}): {instead}")));
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (subnet, gateway, range) = (given(config.subnet), given(config.gateway), given(config.ip_range));
        let Some(subnet) = subnet else {
            if gateway.is_some() || range.is_some() {
                wrong.push("a gateway or an IP range needs its subnet".to_owned());
            }
            continue;
        };
        wrong.extend(wrong_prefix("subnet", &subnet));
        wrong.extend(range.iter().filter_map(|range| wrong_prefix("ip-range", range)));
        wrong.extend(
            gateway
                .iter()
                .filter(|gateway| gateway.parse::<IpAddr>().is_err())
                .map(|gateway| format!("invalid gateway {gateway:?}: it is no IP address")),
        );
        subnets.push(SubnetRequest::Object(SubnetObject { subnet, gateway, ip_range: range }));
    }
    if wrong.is_empty() {
        Ok(subnets)
    } else {
        Err(Failure::bad(format!("invalid network config:\n{}", wrong.join("\n"))))
    }
}

/// Docker's sentence for a prefix that is none, or has host bits.
fn wrong_prefix(what: &str, text: &str) -> Option<String> {
    let Ok(prefix) = text.parse::<IpNetwork>() else {
        return Some(format!("invalid {what} {text}: invalid CIDR block notation"));
    };
    let network = IpNetwork::new(prefix.network(), prefix.prefix()).ok()?;
    (prefix.ip() != prefix.network()).then(|| format!("invalid {what} {text}: it should be {network}"))
}
