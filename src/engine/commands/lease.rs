//! Endpoints whose address a DHCP server gives: what becomes of their leases.

use std::sync::Arc;

use crate::engine::Error;
use crate::engine::commands::disconnect::Removal;
use crate::engine::decide::{dhcp, transaction};
use crate::engine::event::Change;
use crate::engine::leased::{LeaseFate, LeaseNews};
use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::dhcp::conversation;
use crate::logic::dhcp::message::Client;
use crate::logic::plan;
use crate::logic::refusal::{LeaseRefusal, Refusal};
use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::lease::{Dhcp, Lease};
use crate::model::names::NetworkName;
use crate::model::network::{Driver, Network};
use crate::model::request::NetworkSpec;
use crate::store::{Record, Store};

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Takes over what became of a lease. Returns why an address that was granted cannot be used, for which the server is
    /// to be told that it is declined.
    pub(crate) fn note_lease(&mut self, LeaseNews { key, sequence, client, fate }: LeaseNews) -> Option<String> {
        let found = self.state.desired.endpoint(&key).filter(|found| found.sequence == sequence).cloned();
        let found = found.filter(|found| found.dhcp.is_some());
        let Some((endpoint, network)) = found.zip(self.state.desired.network(&key.network).cloned()) else {
            if let LeaseFate::Granted(lease) = fate {
                self.release_from_host(&key.network, &client, &lease);
            }
            return None;
        };
        let told = match fate {
            LeaseFate::Granted(lease) => match self.granted(&network, &endpoint, &lease) {
                Err(Error::Refused(Refusal::Lease(LeaseRefusal::Unusable { address, why, .. }))) => {
                    tracing::warn!(network = %network.name, container = %endpoint.container.name, server = %lease.server,
                        "declined {address}: {why}");
                    self.declined(&network, &endpoint, &format!("the server gives {address} instead, but {why}"));
                    return Some(why);
                }
                Err(error) if endpoint.awaits_lease() => {
                    self.release_lease(&endpoint, &client, &lease);
                    Err(error)
                }
                granted => granted,
            },
            LeaseFate::Failed(why) if endpoint.awaits_lease() => Err(none(&network, &endpoint, why).into()),
            LeaseFate::Failed(why) => {
                tracing::warn!(network = %network.name, container = %endpoint.container.name,
                    "its lease is not prolonged: {why}");
                Ok(())
            }
            LeaseFate::Lost(why) => self.lost(&network, &endpoint, &why),
            LeaseFate::Ended if dhcp::has_ended(&endpoint, crate::base::clock::boot_seconds()) => {
                self.lost(&network, &endpoint, "its lease has ended, and no DHCP server has prolonged it")
            }
            LeaseFate::Ended => Ok(()),
        };
        match told {
            Ok(()) if self.state.desired.endpoint(&key).is_some_and(|now| !now.awaits_lease()) => {
                self.has_address(&key);
            }
            Ok(()) => {}
            Err(error) if endpoint.awaits_lease() => self.gets_none(&endpoint, error),
            Err(error) => {
                let why = format!("{} on network {}: {error}", endpoint.container.name, network.name);
                self.problem(Subject::Lease(key), why);
                self.publish();
            }
        }
        None
    }

    /// The address that a server has given cannot be used. One that is prolonged otherwise has lost its former one; one
    /// that is being connected goes on looking.
    fn declined(&mut self, network: &Arc<Network>, endpoint: &Arc<Endpoint>, why: &str) {
        if endpoint.awaits_lease() {
            return;
        }
        if let Err(error) = self.lost(network, endpoint, why) {
            let why = format!("{} on network {}: {error}", endpoint.container.name, network.name);
            self.problem(Subject::Lease(endpoint.key()), why);
            self.publish();
        }
    }

    fn granted(&mut self, network: &Arc<Network>, endpoint: &Arc<Endpoint>, lease: &Lease) -> Result<(), Error> {
        if endpoint.address(Family::V4) != Some(lease.address.ip().into()) {
            // The host's addresses there are nobody else's.
            self.parent_of(network)?;
        }
        let after = self.decided(|state| dhcp::leased(state, network, endpoint, lease));
        let after = after.map_err(|refusal| dhcp::unusable(network, lease.address.ip(), refusal))?;
        let is_first = endpoint.awaits_lease();
        if after.addresses == endpoint.addresses && after.gateways == endpoint.gateways {
            self.commit(&[Record::PutEndpoint(Box::new(after.as_ref().clone()))])?;
        } else {
            let transaction = match is_first {
                true => transaction::address(&self.state, network, &after, &|all| self.resolv_conf(all)),
                false => {
                    transaction::change_lease(&self.state, network, (endpoint, &after), &|all| self.resolv_conf(all))
                }
            };
            self.execute(&transaction)?;
            self.has_changed(&after);
            self.keep_addresses(std::slice::from_ref(&after));
            self.serve_inside(&after.container.id);
            self.proxy(&after.container.id);
            tracing::info!(network = %network.name, container = %after.container.name, address = %lease.address,
                server = %lease.server, seconds = lease.seconds, "leased");
        }
        self.problems.clear(&Subject::Lease(after.key()));
        self.publish();
        if is_first {
            self.tell_connected(&after);
        } else if after.addresses != endpoint.addresses || after.gateways != endpoint.gateways {
            let message = format!(
                "{} on {} has the address {} of {} now",
                after.container.name, network.name, lease.address, lease.server
            );
            self.tell(Change::Lease { endpoint: after, message });
        }
        Ok(())
    }

    /// The endpoint has no address until the client has found another one.
    fn lost(&mut self, network: &Arc<Network>, endpoint: &Arc<Endpoint>, why: &str) -> Result<(), Error> {
        let key = endpoint.key();
        let former = endpoint.dhcp.as_ref().and_then(|dhcp| dhcp.lease.as_ref()).map(|lease| lease.address);
        let former = former.map(|address| format!(" {address}")).unwrap_or_default();
        let (container, network_name) = (&endpoint.container.name, &network.name);
        let message =
            format!("{container} on {network_name} has lost its address{former}: {why}; netd goes on asking for one");
        if !endpoint.addresses.is_empty() {
            let after = dhcp::lost(endpoint, crate::base::clock::boot_seconds());
            let transaction =
                transaction::change_lease(&self.state, network, (endpoint, &after), &|all| self.resolv_conf(all));
            self.execute(&transaction)?;
            self.has_changed(&after);
            self.serve_inside(&after.container.id);
            self.proxy(&after.container.id);
            self.tell(Change::Lease { endpoint: after, message: message.clone() });
        }
        self.problem(Subject::Lease(key), message);
        self.publish();
        Ok(())
    }

    /// Endpoints are about to be removed: their servers get their addresses back, and nobody waits for them any more.
    pub(crate) fn end_leases(&mut self, gone: &[Arc<Endpoint>]) {
        for endpoint in gone.iter().filter(|endpoint| endpoint.dhcp.is_some()) {
            let key = endpoint.key();
            self.problems.clear(&Subject::Lease(key.clone()));
            self.end_waiting(endpoint);
            let Some(Dhcp { lease: Some(lease), .. }) = &endpoint.dhcp else { continue };
            if endpoint.addresses.is_empty() {
                continue;
            }
            self.release_lease(endpoint, &Client::from(endpoint.as_ref()), lease);
        }
    }

    /// Tells the server that the endpoint does not need its address any more.
    fn release_lease(&mut self, endpoint: &Endpoint, client: &Client, lease: &Lease) {
        let frame = conversation::release(client, lease, rand::random());
        // The namespace of a container that has ended is gone, and the lease runs out by itself.
        if let Err(error) = self.kernel.send_frame(&endpoint.container.netns, &endpoint.ifname, &frame) {
            tracing::debug!(%error, "a lease is not given back");
        }
    }

    /// The same for an endpoint that was removed before the engine heard that it has an address: its interface is gone, and
    /// that of the host on which the network is leads to the server too.
    fn release_from_host(&mut self, network: &NetworkName, client: &Client, lease: &Lease) {
        let Some(network) = self.state.desired.network(network).cloned() else { return };
        let Some(parent) = NetworkSpec::of(&network).and_then(|spec| spec.driver.parent().cloned()) else { return };
        let frame = conversation::release(client, lease, rand::random());
        let sent = self.host_netns().and_then(|host| Ok(self.kernel.send_frame(&host, &parent, &frame)?));
        if let Err(error) = sent {
            tracing::debug!(%error, "a lease is not given back");
        }
    }

    /// Takes off the interfaces what a killed daemon was taking off them.
    pub(crate) fn finish_leases(&mut self) {
        let is_leaving =
            |endpoint: &&Arc<Endpoint>| endpoint.dhcp.as_ref().is_some_and(|dhcp| !dhcp.leaving.is_empty());
        let left: Vec<Arc<Endpoint>> = self.state.desired.endpoints().filter(is_leaving).cloned().collect();
        for endpoint in left {
            let Some(network) = self.state.desired.network(&endpoint.network).cloned() else { continue };
            let steps = plan::lease::leave(&network, &endpoint);
            match steps.iter().try_for_each(|step| self.kernel.apply(step)) {
                Ok(()) => self.has_changed(&endpoint),
                Err(error) => {
                    tracing::warn!(container = %endpoint.container.name, "it has an address of a former lease: {error}");
                }
            }
            // The kernel may have taken more away with it.
            self.look_inside = true;
        }
    }

    /// The interface has none of the endpoint's former addresses any more.
    fn has_changed(&mut self, endpoint: &Endpoint) {
        if endpoint.dhcp.as_ref().is_some_and(|dhcp| !dhcp.leaving.is_empty()) {
            self.compensate(&[Record::PutEndpoint(Box::new(dhcp::changed(endpoint)))]);
        }
    }

    /// After a start: a killed daemon was connecting these, and nobody waits for them.
    pub(crate) fn drop_unleased(&mut self) {
        let unleased: Vec<Removal> = self
            .state
            .desired
            .endpoints()
            .filter(|endpoint| endpoint.awaits_lease())
            .map(|endpoint| Removal::undone(endpoint.key()))
            .collect();
        self.detach_again(&unleased, &[]);
    }
}

fn none(network: &Network, endpoint: &Endpoint, why: String) -> Refusal {
    let parent = match &network.driver {
        Driver::Stacked(stacked) => stacked.parent.to_string(),
        driver => match network.bridge() {
            Some(bridge) => bridge.to_string(),
            None => driver.name().to_owned(),
        },
    };
    let (container, network) = (endpoint.container.name.clone(), network.name.clone());
    LeaseRefusal::None { container, network, parent, why }.into()
}

#[cfg(test)]
mod tests;
