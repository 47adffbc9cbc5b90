//! Networks of services that Podman defines. Podman makes them with the first container, and gives the addresses; services
//! have theirs before that. So netd makes its own network for the definition when a service needs it, and Podman gets a
//! range in which netd assigns nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::EngineApi;
use super::failure::Failure;
use super::named::of_podman;
use super::network_json::{OVERLAY, SCOPE, SWARM};
use super::upstream::Kind;
use crate::faces::netavark;
use crate::model::address::Family;
use crate::model::network::Network;
use crate::model::request::NetworkSpec;

/// The ids by which `/networks` shows netd's networks: those that Podman defines have Podman's.
#[derive(Debug, Default)]
pub(super) struct NetworkIds(BTreeMap<String, String>);

impl NetworkIds {
    pub(super) fn of<'a>(&'a self, network: &'a Network) -> &'a str {
        self.0.get(network.name.as_str()).map_or(network.id.as_str(), String::as_str)
    }
}

impl EngineApi {
    /// See [`NetworkIds`]; netd's own where the engine cannot be asked.
    pub(super) async fn network_ids(&self) -> NetworkIds {
        let defined = match &self.engine {
            Some(engine) => engine.definitions().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let text = |network: &Value, key: &str| network[key].as_str().unwrap_or_default().to_owned();
        let pair = |network: &Value| (of_podman(&text(network, "Name")).to_owned(), text(network, "Id"));
        NetworkIds(defined.iter().map(pair).collect())
    }

    /// netd's network for Podman's; it is made if there is none.
    pub(super) async fn network_of_podman(&self, defined: &Value) -> Result<Arc<Network>, Failure> {
        let shown = defined["Name"].as_str().unwrap_or_default();
        let name = of_podman(shown);
        let known = || name.parse().ok().and_then(|name| self.handle.snapshot().desired.network(&name).cloned());
        if let Some(known) = known() {
            return Ok(known);
        }
        let Some(engine) = &self.engine else { return Err(Failure::no_network(shown)) };
        let definition = netavark::definition(engine.definition(name).await?);
        let definition = definition.map_err(|why| Failure::bad(format!("network {name}: {why}")))?;
        match self.handle.create_network(NetworkSpec::try_from(definition)?).await {
            Ok(network) => Ok(network),
            // The first container has made it in between.
            Err(error) => known().ok_or_else(|| error.into()),
        }
    }

    /// The request to define a network for services, with a range for Podman in each subnet: the upper half. netd assigns
    /// addresses from the beginning.
    pub(super) async fn with_range(&self, mut body: Value) -> Result<Value, Failure> {
        let Some(engine) = &self.engine else { return Ok(body) };
        if engine.about().await?.kind == Kind::Docker {
            return Ok(body);
        }
        let mut configs = body["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
        let has = |configs: &[Value], family: Family| {
            let subnets = configs.iter().filter_map(|config| config["Subnet"].as_str()?.parse::<IpNetwork>().ok());
            subnets.into_iter().any(|subnet| Family::of(subnet.ip()) == family)
        };
        let wanted = [(Family::V4, true), (Family::V6, body["EnableIPv6"] == true)];
        for (family, wanted) in wanted {
            if !wanted || has(&configs, family) {
                continue;
            }
            let subnet = self.handle.choose_subnet(family, None, Vec::new()).await?;
            configs.push(json!({"Subnet": subnet.to_string()}));
        }
        for config in &mut configs {
            let subnet = config["Subnet"].as_str().and_then(|subnet| subnet.parse().ok());
            if let (Some(upper), None) = (subnet.and_then(upper_half), config["IPRange"].as_str()) {
                config["IPRange"] = upper.to_string().into();
            }
        }
        body["IPAM"]["Config"] = configs.into();
        Ok(body)
    }
}

/// Shows a network that Podman defines for services as what it is.
pub(super) fn show_scope(network: &mut Value) {
    if network["Labels"][SCOPE] != SWARM {
        return;
    }
    network["Labels"].as_object_mut().map(|labels| labels.shift_remove(SCOPE));
    (network["Driver"], network["Scope"], network["Attachable"]) = (OVERLAY.into(), SWARM.into(), true.into());
}

/// The upper half of a subnet; `None`: it is too small to be halved.
fn upper_half(subnet: IpNetwork) -> Option<IpNetwork> {
    let prefix = subnet.prefix() + 1;
    match subnet.network() {
        IpAddr::V4(first) if prefix <= 29 => {
            let first = u32::from(first) | (1 << (32 - u32::from(prefix)));
            IpNetwork::new(IpAddr::V4(first.into()), prefix).ok()
        }
        IpAddr::V6(first) if prefix <= 125 => {
            let first = u128::from(first) | (1 << (128 - u32::from(prefix)));
            IpNetwork::new(IpAddr::V6(first.into()), prefix).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_gets_the_upper_half() {
        let half = |subnet: &str| upper_half(subnet.parse().unwrap()).map(|half| half.to_string());
        assert_eq!(half("10.89.1.0/24"), Some("10.89.1.128/25".into()));
        assert_eq!(half("fd00::/64"), Some("fd00::8000:0:0:0/65".into()));
        assert_eq!((half("10.0.0.0/30"), half("10.0.0.0/29")), (None, None));
    }

    #[test]
    fn a_network_for_services_is_shown_as_one() {
        let mut network =
            json!({"Name": "net1", "Driver": "bridge", "Scope": "local", "Labels": {"a": "b", SCOPE: SWARM}});
        show_scope(&mut network);
        assert_eq!(
            network,
            json!({"Name": "net1", "Driver": "overlay", "Scope": "swarm", "Labels": {"a": "b"}, "Attachable": true})
        );
        let mut other = json!({"Driver": "bridge", "Labels": {}});
        show_scope(&mut other);
        assert_eq!(other["Driver"], "bridge");
    }
}
