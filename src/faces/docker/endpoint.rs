//! Endpoints: from `NetworkDriver.CreateEndpoint` to `DeleteEndpoint`.

use std::path::PathBuf;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::driver::interface;
use super::messages::{CreateEndpoint, Interface, InterfaceName, Join, Joined, OfEndpoint, PORT_MAP, Program, given};
use super::{ADDRESS, Driver, Failure, Reply, lock, ports};
use crate::engine;
use crate::engine::ErrorKind;
use crate::model::Invalid;
use crate::model::address::{Family, Mac};
use crate::model::endpoint::Endpoint;
use crate::model::handover::{Handover, HandoverSpec};
use crate::model::names::ReservationId;
use crate::model::request::{
    AddressSpec, ContainerRef, EndpointSpec, HandoverAction, HandoverChange, NetnsRef, PersonRequest, Requester,
    ReservationSpec,
};
use crate::model::reservation::Reservation;

/// Addresses that netd released with their endpoints and whose release Docker owes: no more are remembered.
const RELEASED_MAX: usize = 4096;

impl Driver {
    /// Reserves what the endpoint will have. A repeated request gets the same reply.
    pub(super) async fn create_endpoint(&self, request: CreateEndpoint) -> Reply {
        let (network, id) = (self.named(&request.network).await?, Handover::reservation(&request.endpoint)?);
        let asked = request.interface.unwrap_or_default();
        let known = self.handle.snapshot().desired.reservation(&id).cloned();
        let reserved = match known {
            Some(known) => known,
            None => {
                let spec = self.reservation(network.id.to_string(), id, &asked)?;
                self.handle.reserve(spec).await?
            }
        };
        Ok(json!({ "Interface": filled_in(&asked, &reserved) }))
    }

    fn reservation(&self, network: String, id: ReservationId, asked: &Interface) -> Result<ReservationSpec, Failure> {
        let addresses = [given(&asked.address), given(&asked.address_v6)].into_iter().flatten();
        let address = |text: &str| {
            let address = interface(text)?;
            Ok(AddressSpec { ip: address.ip(), prefix: None, gateway: None })
        };
        let addresses: Vec<AddressSpec> = addresses.map(address).collect::<Result<_, Failure>>()?;
        let snapshot = self.handle.snapshot();
        let held = addresses.iter().filter_map(|asked| snapshot.desired.reserved_at(asked.ip));
        let instead = held.filter(|held| held.id.as_str().starts_with(ADDRESS)).map(|held| held.id.clone()).collect();
        let only = match addresses.as_slice() {
            [one] => Some(Family::of(one.ip)),
            _ => None,
        };
        let mac: Option<Mac> = given(&asked.mac_address).map(str::parse).transpose()?;
        Ok(ReservationSpec { network, id, addresses, only, instead, mac, ports: Vec::new() })
    }

    /// What netd knows about the endpoint, for `docker network inspect --verbose` and the like.
    pub(super) fn endpoint_info(&self, request: &OfEndpoint) -> Value {
        let Some(endpoint) = self.find(&request.endpoint) else { return json!({"Value": {}}) };
        let bindings = ports::bindings(&endpoint.publications);
        json!({"Value": { PORT_MAP: bindings, "netd.network": endpoint.network, "netd.interface": endpoint.host_ifname }})
    }

    /// Makes the interface on the host, and everything else of the endpoint. A repeated request gets the same reply.
    pub(super) async fn join(self: &Arc<Self>, request: Join) -> Reply {
        let endpoint = match self.find(&request.endpoint) {
            Some(known) => known,
            None => self.connect(&request).await?,
        };
        let staged = endpoint.handover.as_ref().map(|handover| handover.staged.to_string());
        let gateway = |family| endpoint.gateway(family).map(|gateway| gateway.to_string()).unwrap_or_default();
        let joined = Joined {
            interface_name: InterfaceName { src_name: staged.unwrap_or_default(), dst_prefix: "eth" },
            gateway: gateway(Family::V4),
            gateway_v6: gateway(Family::V6),
            disable_gateway_service: true,
        };
        serde_json::to_value(joined).map_err(|error| Failure(error.to_string()))
    }

    async fn connect(self: &Arc<Self>, request: &Join) -> Result<Arc<Endpoint>, Failure> {
        let network = self.network(&request.network)?;
        let sandbox = PathBuf::from(&request.sandbox_key);
        if !sandbox.is_absolute() {
            return Err(Invalid::new("SandboxKey", &request.sandbox_key, "it is no absolute path").into());
        }
        let identity = self.identify(&request.network, &request.endpoint, &sandbox).await;
        let container = ContainerRef {
            name: identity.name.clone(),
            netns: Some(NetnsRef::Sandbox(sandbox.clone())),
            id: Some(identity.id.parse()?),
        };
        let reservation = Some(Handover::reservation(&request.endpoint)?);
        let person = PersonRequest { network: network.id.to_string(), container, reservation };
        let mut spec = EndpointSpec::of(Requester::Person(person));
        spec.exposed = ports::exposed(&request.options)?;
        spec.handover = Some(HandoverSpec { endpoint: request.endpoint.clone(), sandbox });
        let endpoint = self.handle.connect(spec).await?;
        self.follow_container(&request.network, &request.endpoint, &identity);
        Ok(endpoint)
    }

    /// Docker is about to put the interface back on the host.
    pub(super) async fn leave(&self, request: OfEndpoint) -> Result<(), Failure> {
        self.tell(request.endpoint, HandoverAction::GiveBack).await
    }

    /// Publishes the container's ports: its default route leads over this endpoint.
    pub(super) async fn program(&self, request: Program) -> Result<(), Failure> {
        let action = HandoverAction::Lead(ports::published(&request.options)?);
        self.handle.change_handover(HandoverChange { endpoint: request.endpoint, action }).await?;
        Ok(())
    }

    /// Stops publishing them here.
    pub(super) async fn revoke(&self, request: OfEndpoint) -> Result<(), Failure> {
        self.tell(request.endpoint, HandoverAction::StopLeading).await
    }

    /// Removes the endpoint, or what is reserved for it. One that does not exist is no error.
    pub(super) async fn delete_endpoint(&self, request: OfEndpoint) -> Result<(), Failure> {
        self.forget(&request.endpoint).await
    }

    /// Removes everything of the endpoint.
    pub(super) async fn forget(&self, endpoint: &str) -> Result<(), Failure> {
        if let Some(endpoint) = self.find(endpoint) {
            self.expect_release(&endpoint.addresses);
            let gone = self.handle.disconnect(endpoint.network.as_str(), endpoint.container.id.as_str()).await;
            unless_gone(gone.map(drop))?;
        }
        let reservation = Handover::reservation(endpoint)?;
        if let Some(reserved) = self.handle.snapshot().desired.reservation(&reservation) {
            self.expect_release(&reserved.addresses);
            unless_gone(self.handle.release_reservation(reservation.as_str()).await.map(drop))?;
        }
        Ok(())
    }

    /// Docker will release these addresses too.
    fn expect_release(&self, addresses: &[IpNetwork]) {
        let mut released = lock(&self.released);
        if released.len() < RELEASED_MAX {
            released.extend(addresses.iter().map(IpNetwork::ip));
        }
    }

    /// Tells the engine; an endpoint that netd does not have is no error.
    async fn tell(&self, endpoint: String, action: HandoverAction) -> Result<(), Failure> {
        Ok(unless_gone(self.handle.change_handover(HandoverChange { endpoint, action }).await.map(drop))?)
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Endpoint>> {
        let is_it =
            |endpoint: &&Arc<Endpoint>| endpoint.handover.as_ref().is_some_and(|handover| handover.endpoint == id);
        self.handle.snapshot().desired.endpoints().find(is_it).cloned()
    }
}

fn unless_gone(done: Result<(), engine::Error>) -> Result<(), engine::Error> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// What Docker left to netd. It accepts nothing else.
fn filled_in(asked: &Interface, reserved: &Reservation) -> Interface {
    let address = |family| {
        let mut addresses = reserved.addresses.iter().filter(|address| Family::of(address.ip()) == family);
        addresses.next().map(ToString::to_string)
    };
    let unless_given = |given_one: &Option<String>, ours: Option<String>| ours.filter(|_| given(given_one).is_none());
    let none_given = given(&asked.address).or(given(&asked.address_v6)).is_none();
    Interface {
        address: unless_given(&asked.address, address(Family::V4)).filter(|_| none_given),
        address_v6: unless_given(&asked.address_v6, address(Family::V6)).filter(|_| none_given),
        mac_address: unless_given(&asked.mac_address, Some(reserved.mac.to_string())),
    }
}
