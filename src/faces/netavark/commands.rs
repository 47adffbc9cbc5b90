//! The commands of netavark.

use serde_json::{Value, json};

use super::call::Call;
use super::failure::Failure;
use super::input::{Network, Options, PerNetwork};
use super::{create, plugin, request, status};
use crate::api::v1::{self, AttachedTogether, NameServers};
use crate::faces::shared::client::segment;

impl Call<'_> {
    /// Attaches the container to all of its networks. Returns what Podman is told, and what was left out.
    pub(super) fn setup(&self, netns: &str, input: &[u8]) -> Result<(String, Vec<String>), Failure> {
        let options = Options::read(input)?;
        if options.networks.is_empty() {
            return Ok(("{}".into(), Vec::new()));
        }
        let (wanted, mut left_out) = request::attach(&options, netns)?;
        for joined in wanted.attachments.iter().map(|one| &one.network).filter(|network| !network.on_demand) {
            self.check_exists(&joined.name)?;
        }
        let path = format!("/v1/attachments/{}", segment(&options.container_id));
        let attached: AttachedTogether = self.client().put(&path, &wanted).map_err(|error| Failure::daemon(&error))?;
        left_out.extend(unpublished(&attached));
        let told = match options.networks.first() {
            Some((_, network)) if options.is_plugin => {
                let made = attached.attachments.first();
                made.map_or(Value::Null, |made| status::of(&options, network, made))
            }
            _ => status::all(&options, &attached.attachments),
        };
        Ok((told.to_string(), left_out))
    }

    /// Detaches the container. Needs only the keys of its attachments, so that no other error keeps them alive.
    pub(super) fn teardown(&self, input: &[u8]) -> Result<(), Failure> {
        let options = Options::read(input)?;
        if options.networks.is_empty() {
            return Ok(());
        }
        let key =
            |(wanted, network): &(PerNetwork, Network)| format!("{}/{}", request::name(network), wanted.interface_name);
        let only: Vec<String> = options.networks.iter().map(key).collect();
        let path = format!("/v1/attachments/{}?only={}", segment(&options.container_id), segment(&only.join(",")));
        self.client().delete(&path).map_err(|error| Failure::daemon(&error))
    }

    /// Podman has stored the change in its definition. A network that is not there gets it with its next container.
    pub(super) fn update(&self, network: &str, servers: &[String]) -> Result<(), Failure> {
        let servers = servers.iter().map(|server| server.parse()).collect::<Result<_, _>>()?;
        let path = format!("/v1/networks/{}/dns", segment(network));
        match self.client().put::<v1::Network>(&path, &NameServers { servers }) {
            Err(error) if error.status() == Some(404) => Ok(()),
            answer => answer.map(drop).map_err(|error| Failure::daemon(&error)),
        }
    }

    /// Completes the definition of a new network: of Podman's library (`netavark create`), or of one for the plugin.
    pub(super) fn create(&self, input: &[u8]) -> Result<String, Failure> {
        let value: Value = serde_json::from_slice(input)
            .map_err(|error| Failure(format!("failed to load the network to create: {error}")))?;
        let network = if value.get("used").is_some() || value.get("network").is_some() {
            create::complete(value, self)?
        } else {
            plugin::create(create::parse(value)?, self)?
        };
        serde_json::to_string(&network).map_err(|error| Failure(error.to_string()))
    }
}

/// The ports that none of the container's networks can publish.
fn unpublished(attached: &AttachedTogether) -> Vec<String> {
    let mut endpoints = attached.attachments.iter().map(|attachment| &attachment.endpoint);
    let Some(first) = endpoints.next() else { return Vec::new() };
    let rest: Vec<_> = endpoints.collect();
    let is_skipped =
        |endpoint: &v1::Endpoint, port: &v1::Port| endpoint.skipped_ports.iter().any(|other| other.port == *port);
    let nowhere = first.skipped_ports.iter().filter(|one| rest.iter().all(|other| is_skipped(other, &one.port)));
    nowhere.map(|skipped| format!("port {}: {}", skipped.port, skipped.why)).collect()
}

/// What `netavark version` prints.
pub(super) fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let about = json!({ "version": version, "commit": "", "build_time": "", "target": std::env::consts::ARCH,
        "default_fw_driver": "nftables", "program": "netd-netavark" });
    format!("{about:#}")
}
