//! Addresses: the methods of `IpamDriver`. The id of a pool is its subnet.
//!
//! Docker asks for a pool before it creates the network, and neither request names the network. Until it is created, its
//! subnet is promised for a minute. Docker refuses a pool that it has not chosen itself and to which the host has a route
//! (libnetwork, requestPoolHelper), and asks for ever. A network that joins one of netd therefore has a pool of its own,
//! unless the user names the subnet; its addresses are those of the network that it joins.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::driver::subnet;
use super::messages::{ADDRESS_TYPE, GATEWAY, OfPool, RequestPool, given};
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
        if let Some((pool, gateway)) = wanted.and_then(|wanted| self.existing(wanted)) {
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

    /// The subnet with its gateway, if a network of netd has exactly this one: Docker's network may be about to join it.
    fn existing(&self, wanted: Subnet) -> Option<(Subnet, IpAddr)> {
        let snapshot = self.handle.snapshot();
        let mut subnets = snapshot.desired.networks().flat_map(|network| &network.subnets);
        subnets.find(|known| known.subnet == wanted).and_then(|known| Some((known.subnet, known.gateway?)))
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
        let Some(network) = self.with_pool(pool).await.filter(|_| !is_gateway) else {
            // The gateway and the addresses that nobody is to get, before the network exists: it is created with them.
            let address = asked.unwrap_or_else(|| pool.first_usable());
            if !pool.contains(address) {
                return Err(Invalid::new("address", address.to_string(), format!("it is outside of {pool}")).into());
            }
            return Ok(json!({"Address": pool.interface(address).to_string(), "Data": {}}));
        };
        let address = |ip| AddressSpec { ip, prefix: None, gateway: None };
        let spec = ReservationSpec {
            // It may get its name just now.
            network: network.id.to_string(),
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
    async fn with_pool(&self, pool: Subnet) -> Option<Arc<Network>> {
        let snapshot = self.handle.snapshot();
        let mut engines = snapshot.desired.networks().flat_map(|network| &network.engines);
        if let Some(engine) = engines.find(|engine| engine.pools.contains(&pool)) {
            return self.named(&engine.id).await.ok();
        }
        let same = |network: &&Arc<Network>| network.subnets.iter().any(|known| known.subnet == pool);
        snapshot.desired.networks().find(same).cloned()
    }
}

fn promised(pool: Subnet, gateway: IpAddr) -> serde_json::Value {
    let gateway = pool.interface(gateway).to_string();
    json!({"PoolID": pool.to_string(), "Pool": pool.to_string(), "Data": { GATEWAY: gateway }})
}

fn ip(text: &str) -> Result<IpAddr, Failure> {
    text.parse().map_err(|_| Invalid::new("address", text, "it is no IP address").into())
}
