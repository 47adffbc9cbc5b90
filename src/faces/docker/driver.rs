//! Networks: `NetworkDriver.CreateNetwork` and `DeleteNetwork`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::messages::{CreateNetwork, GENERIC, INTERNAL, JOIN, OfNetwork, Options, Pool, given};
use super::{Driver, Failure, lock};
use crate::api::v1;
use crate::api::v1::{SubnetObject, SubnetRequest};
use crate::model::Invalid;
use crate::model::address::Subnet;
use crate::model::handover::EngineNetwork;
use crate::model::request::{EngineNetworkChange, NetworkSpec};

impl Driver {
    /// Makes a network for Docker's, or joins one that exists. A repeated request changes nothing.
    pub(super) async fn create_network(self: &Arc<Self>, request: CreateNetwork) -> Result<(), Failure> {
        if self.network(&request.network).is_ok() {
            return Ok(());
        }
        let mut options = generic(&request.options)?;
        let pools: Vec<&Pool> = request.ipv4.iter().chain(&request.ipv6).flatten().collect();
        let subnets: Vec<Subnet> =
            pools.iter().filter_map(|pool| given(&pool.pool)).map(subnet).collect::<Result<_, _>>()?;
        let aux = pools.iter().flat_map(|pool| pool.aux_addresses.iter().flat_map(BTreeMap::values));
        let aux: Vec<IpAddr> = aux.map(|text| Ok(interface(text)?.ip())).collect::<Result<_, Failure>>()?;
        let joined = options.remove(JOIN);
        let engine = EngineNetwork { id: request.network.clone(), pools: subnets.clone(), aux, owns: joined.is_none() };
        match joined {
            Some(network) => {
                if !options.is_empty() {
                    let (given, why) =
                        (options.into_keys().collect::<Vec<_>>().join(", "), "the network has its own already");
                    return Err(Invalid::new("option", given, format!("with {JOIN}={network} {why}")).into());
                }
                self.handle.change_engine_network(EngineNetworkChange::Join { network, engine }).await?;
            }
            None => {
                let internal =
                    request.options.as_ref().and_then(|options| options.get(INTERNAL)).and_then(Value::as_bool);
                let spec = self.spec(&engine, &pools, options, internal.unwrap_or_default())?;
                self.handle.create_network(NetworkSpec { engine: Some(engine), ..spec }).await?;
            }
        }
        lock(&self.pools).retain(|pool, _| !subnets.contains(pool));
        let (driver, id) = (self.clone(), request.network);
        tokio::spawn(async move { driver.name_when_known(&id).await });
        Ok(())
    }

    fn spec(
        &self,
        engine: &EngineNetwork,
        pools: &[&Pool],
        options: BTreeMap<String, String>,
        internal: bool,
    ) -> Result<NetworkSpec, Failure> {
        let object = |pool: &&Pool| {
            let subnet = given(&pool.pool)?.to_owned();
            let promised = subnet.parse().ok().and_then(|subnet| lock(&self.pools).get(&subnet)?.range);
            let gateway = given(&pool.gateway).map(|gateway| gateway.split('/').next().unwrap_or_default().to_owned());
            Some(SubnetRequest::Object(SubnetObject {
                subnet,
                gateway,
                ip_range: promised.map(|range| range.to_string()),
            }))
        };
        let request = v1::CreateNetwork {
            name: provisional(&engine.id),
            subnets: pools.iter().filter_map(object).collect(),
            internal,
            options,
            ..v1::CreateNetwork::default()
        };
        Ok(NetworkSpec::try_from(request)?)
    }

    /// Removes the network that was made for Docker's; one that Docker's network had joined stays.
    pub(super) async fn delete_network(&self, request: OfNetwork) -> Result<(), Failure> {
        self.handle.change_engine_network(EngineNetworkChange::Leave { id: request.network }).await?;
        Ok(())
    }
}

/// The name of a network until Docker has said its own.
pub(super) fn provisional(id: &str) -> String {
    format!("docker-{}", id.get(..12).unwrap_or(id))
}

/// The options that the user gave (`-o`).
fn generic(options: &Options) -> Result<BTreeMap<String, String>, Failure> {
    let given = options.as_ref().and_then(|options| options.get(GENERIC)).filter(|given| !given.is_null());
    let Some(given) = given else { return Ok(BTreeMap::new()) };
    let wrong = |error: serde_json::Error| Failure(format!("invalid option {GENERIC}: {error}"));
    serde_json::from_value(given.clone()).map_err(wrong)
}

pub(super) fn subnet(text: &str) -> Result<Subnet, Failure> {
    let network = interface(text)?;
    let found = Subnet::containing(network.ip(), network.prefix());
    found.ok_or_else(|| Invalid::new("subnet", text, "the prefix is too long").into())
}

pub(super) fn interface(text: &str) -> Result<IpNetwork, Failure> {
    text.parse().map_err(|_| Invalid::new("address", text, "use ADDRESS/PREFIX, as in 10.77.0.0/24").into())
}
