//! Addresses: the methods of `IpamDriver`. The id of a pool is its subnet.
//!
//! Docker asks for a pool before it creates the network, and neither request names the network. Until it is created, its
//! subnet is promised for a minute.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::driver::subnet;
use super::messages::{ADDRESS_TYPE, GATEWAY, JOIN, OfPool, RequestPool, given};
use super::{ADDRESS, Driver, Failure, Promise, Reply, lock, parse};
use crate::base::monotonic;
use crate::model::Invalid;
use crate::model::address::{Family, Subnet};
use crate::model::network::Network;
use crate::model::request::{AddressSpec, ReservationSpec};

/// How long a subnet is promised.
const PROMISED: Duration = Duration::from_secs(60);

impl Driver {
    /// `None`: there is no such method.
    pub(super) async fn ipam_driver(&self, method: &str, body: &[u8]) -> Option<Reply> {
        Some(match method {
            "GetCapabilities" => Ok(json!({"RequiresMACAddress": false, "RequiresRequestReplay": false})),
            "GetDefaultAddressSpaces" => {
                Ok(json!({"LocalDefaultAddressSpace": "netd", "GlobalDefaultAddressSpace": "netd"}))
            }
            "RequestPool" => match parse(method, body) {
                Ok(request) => self.request_pool(request).await,
                Err(failure) => Err(failure),
            },
            "ReleasePool" => parse(method, body).and_then(|request| self.release_pool(&request)),
            "RequestAddress" => match parse(method, body) {
                Ok(request) => self.request_address(request).await,
                Err(failure) => Err(failure),
            },
            "ReleaseAddress" => match parse(method, body) {
                Ok(request) => self.release_address(request).await,
                Err(failure) => Err(failure),
            },
            _ => return None,
        })
    }

    async fn request_pool(&self, request: RequestPool) -> Reply {
        let family = if request.v6 { Family::V6 } else { Family::V4 };
        let wanted = given(&request.pool).map(subnet).transpose()?;
        let joined = request.options.as_ref().and_then(|options| options.get(JOIN));
        if let Some((pool, gateway)) = self.existing(joined.map(String::as_str), wanted, family)? {
            return Ok(promised(pool, gateway));
        }
        let range = given(&request.sub_pool).map(subnet).transpose()?;
        let avoid = {
            let mut pools = lock(&self.pools);
            pools.retain(|_, promise| promise.since + PROMISED > monotonic::now());
            // A repeated request for the same subnet is the same promise.
            pools.keys().filter(|pool| Some(**pool) != wanted).copied().collect()
        };
        let chosen = self.handle.choose_subnet(family, wanted, avoid).await?;
        lock(&self.pools).insert(chosen, Promise { range, since: monotonic::now() });
        let first = chosen.first_usable();
        Ok(promised(chosen, first))
    }

    /// The subnet of a network of netd that exists, with its gateway: of the one that is to be joined, or the one with
    /// exactly the wanted subnet.
    fn existing(
        &self,
        joined: Option<&str>,
        wanted: Option<Subnet>,
        family: Family,
    ) -> Result<Option<(Subnet, IpAddr)>, Failure> {
        let snapshot = self.handle.snapshot();
        let of = |network: &Network| {
            let fits = |subnet: Subnet| subnet.family() == family && wanted.is_none_or(|wanted| wanted == subnet);
            network.subnets.iter().find(|known| fits(known.subnet)).map(|known| (known.subnet, known.gateway))
        };
        let Some(name) = joined else {
            return Ok(snapshot.desired.networks().filter(|_| wanted.is_some()).find_map(|network| of(network)));
        };
        let network =
            snapshot.desired.networks().find(|network| network.name.as_str() == name || network.id.as_str() == name);
        let network = network.ok_or_else(|| Failure(format!("no network {name}: see `netd network ls`")))?;
        let lacks = || {
            let known: Vec<String> = network.subnets.iter().map(|known| known.subnet.to_string()).collect();
            let asked = wanted.map_or(format!("no subnet of the address family {family:?}"), |wanted| {
                format!("not the subnet {wanted}")
            });
            Failure(format!("network {name} has {asked}, but {}", known.join(", ")))
        };
        of(network).map(Some).ok_or_else(lacks)
    }

    fn release_pool(&self, request: &OfPool) -> Reply {
        lock(&self.pools).remove(&subnet(&request.pool)?);
        Ok(json!({}))
    }

    async fn request_address(&self, request: OfPool) -> Reply {
        let pool = subnet(&request.pool)?;
        let asked: Option<IpAddr> = given(&request.address).map(ip).transpose()?;
        let is_gateway =
            request.options.as_ref().is_some_and(|options| options.get(ADDRESS_TYPE).is_some_and(|of| of == GATEWAY));
        let Some(network) = self.with_pool(pool).filter(|_| !is_gateway) else {
            // The gateway and the addresses that nobody is to get, before the network exists: it is created with them.
            let address = asked.unwrap_or_else(|| pool.first_usable());
            if !pool.contains(address) {
                return Err(Invalid::new("address", address.to_string(), format!("it is outside of {pool}")).into());
            }
            return Ok(json!({"Address": pool.interface(address).to_string(), "Data": {}}));
        };
        let address = |ip| AddressSpec { ip, prefix: None, gateway: None };
        let spec = ReservationSpec {
            network: network.name.to_string(),
            id: format!("{ADDRESS}{:032x}", rand::random::<u128>()).parse()?,
            addresses: asked.map(address).into_iter().collect(),
            only: Some(pool.family()),
            instead: Vec::new(),
            mac: None,
            ports: Vec::new(),
        };
        let reserved = self.handle.reserve(spec).await?;
        let address = reserved.addresses.first().map(ToString::to_string);
        Ok(json!({"Address": address, "Data": {}}))
    }

    async fn release_address(&self, request: OfPool) -> Reply {
        let address = ip(given(&request.address).unwrap_or_default())?;
        // netd has released it with its endpoint, and somebody else may have it by now.
        if lock(&self.released).remove(&address) {
            return Ok(json!({}));
        }
        let held = self.handle.snapshot().desired.reserved_at(address).cloned();
        if let Some(held) = held.filter(|held| held.id.as_str().starts_with(ADDRESS)) {
            self.handle.release_reservation(held.id.as_str()).await?;
        }
        Ok(json!({}))
    }

    /// The network of which Docker has this pool.
    fn with_pool(&self, pool: Subnet) -> Option<std::sync::Arc<Network>> {
        let snapshot = self.handle.snapshot();
        let has =
            |network: &&std::sync::Arc<Network>| network.engines.iter().any(|engine| engine.pools.contains(&pool));
        let same = |network: &&std::sync::Arc<Network>| network.subnets.iter().any(|known| known.subnet == pool);
        snapshot.desired.networks().find(has).or_else(|| snapshot.desired.networks().find(same)).cloned()
    }
}

fn promised(pool: Subnet, gateway: IpAddr) -> serde_json::Value {
    let gateway = pool.interface(gateway).to_string();
    json!({"PoolID": pool.to_string(), "Pool": pool.to_string(), "Data": { GATEWAY: gateway }})
}

fn ip(text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|_| Invalid::new("address", text, "it is no IP address").into())
}
