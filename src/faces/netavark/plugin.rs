//! The plugin of netavark: networks with the driver `netd`.

use serde_json::json;

use super::call::Call;
use super::failure::Failure;
use super::input::Network;
use super::request::{self, JOINED};

/// What `info` prints: the version of the plugin, and of netavark's protocol for plugins.
pub(super) fn info() -> String {
    json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": "1.0.0", "program": "netd-netavark" }).to_string()
}

/// The definition of a new network. Without `--subnet` netd gives the addresses, and Podman gives none.
pub(super) fn create(mut network: Network, call: &Call<'_>) -> Result<Network, Failure> {
    let refuse = |why: String| Err(Failure::network(&network.name, why));
    let has_subnets = network.subnets.as_ref().is_some_and(|subnets| !subnets.is_empty());
    let joined = network.options.as_ref().and_then(|options| options.get(JOINED)).cloned();
    if let Some(joined) = &joined {
        if has_subnets {
            return refuse(format!("it is netd's network {joined}, which has its own subnets: leave out --subnet"));
        }
        call.check_exists(joined)?;
    }
    if let Some(joined) = joined.filter(|_| network.ipam() == "dhcp") {
        return refuse(format!(
            "ipam driver \"dhcp\": netd's network {joined} says itself who gives addresses: leave it out"
        ));
    }
    request::check(&network)?;
    if !has_subnets && network.ipam() != "dhcp" {
        network.subnets = None;
        network.ipam_options.get_or_insert_default().insert("driver".into(), "none".into());
    }
    Ok(network)
}
