//! `networks` of a compose file as requests that create them (docker/cli, cli/compose/convert).

use serde_json::{Value, json};

use super::part::Part;
use super::{Network, Source};
use crate::api::v1::{CreateNetwork, SubnetObject, SubnetRequest};

/// The network that services have which name none.
pub(super) const DEFAULT: &str = "default";
/// The driver where none is given, as Docker's client sends it.
const OVERLAY: &str = "overlay";

/// The name of a network that the file defines.
pub(super) fn name(key: &str, networks: &Part<'_>, source: &Source<'_>) -> Result<String, String> {
    let network = networks.at(key);
    let (external, external_name) = external(&network.at("external"))?;
    let given = network.at("name").text()?.or(external_name);
    Ok(given.unwrap_or_else(|| if external { key.to_owned() } else { source.scoped(key) }))
}

/// Whether it is external, and its name in the old form `external: {name: …}`.
pub(super) fn external(part: &Part<'_>) -> Result<(bool, Option<String>), String> {
    if !part.value().is_object() {
        return Ok((part.truth()?.unwrap_or(false), None));
    }
    part.only(&["name"])?;
    Ok((true, part.at("name").text()?))
}

/// A network that a service uses.
pub(super) fn read(key: &str, networks: &Part<'_>, source: &Source<'_>) -> Result<Network, String> {
    let network = networks.at(key);
    if key != DEFAULT && networks.value().get(key).is_none() {
        return Err(format!("undefined network {key:?}"));
    }
    network.only(&["name", "driver", "driver_opts", "ipam", "external", "internal", "attachable", "labels"])?;
    let name = name(key, networks, source)?;
    let (is_external, _) = external(&network.at("external"))?;
    let driver = network.at("driver").text()?.filter(|driver| !driver.is_empty()).unwrap_or_else(|| OVERLAY.to_owned());
    let (internal, attachable) = (network.at("internal").truth()?, network.at("attachable").truth()?);
    let (labels, options) = (source.labels(network.at("labels").labels()?), network.at("driver_opts").labels()?);
    let mut body = json!({"Name": name, "Driver": driver});
    for (key, truth) in [("Internal", internal), ("Attachable", attachable)] {
        if truth == Some(true) {
            body[key] = true.into();
        }
    }
    let (ipam, subnets) = ipam(&network.at("ipam"))?;
    if !ipam.is_null() {
        body["IPAM"] = ipam;
    }
    if subnets.iter().any(|subnet| subnet.contains(':')) {
        body["EnableIPv6"] = true.into();
    }
    if !options.is_empty() {
        body["Options"] = Value::Object(options.clone());
    }
    body["Labels"] = labels.clone();
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let native = CreateNetwork {
        name: name.clone(),
        ipv6: subnets.iter().any(|subnet| subnet.contains(':')),
        subnets: subnets
            .into_iter()
            .map(|subnet| SubnetRequest::Object(SubnetObject { subnet, gateway: None, ip_range: None }))
            .collect(),
        internal: internal == Some(true),
        labels: labels.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), plain(value))).collect(),
        options: options.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        ..CreateNetwork::default()
    };
    let own = [OVERLAY, "bridge", "netd"].contains(&driver.as_str());
    Ok(Network { name, external: is_external, driver: (!own).then_some(driver), body, native: Box::new(native) })
}

/// The addresses, in Docker's form, and the subnets.
fn ipam(ipam: &Part<'_>) -> Result<(Value, Vec<String>), String> {
    ipam.only(&["driver", "config"])?;
    let mut subnets = Vec::new();
    for config in ipam.at("config").items()? {
        config.only(&["subnet"])?;
        subnets.extend(config.at("subnet").text()?);
    }
    let driver = ipam.at("driver").text()?;
    if driver.is_none() && subnets.is_empty() {
        return Ok((Value::Null, subnets));
    }
    let config: Vec<Value> = subnets.iter().map(|subnet| json!({"Subnet": subnet})).collect();
    Ok((json!({"Driver": driver.unwrap_or_default(), "Config": config}), subnets))
}
