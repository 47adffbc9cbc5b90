//! What decisions about networks on interfaces of the host need to know of these.

use ipnetwork::IpNetwork;

use crate::engine::Error;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::model::host::observed::{ForeignNetwork, HostFacts};
use crate::model::host::parent::{Device, Parent};
use crate::model::names::IfName;
use crate::model::network::{Network, StackedMode};
use crate::model::request::{DriverSpec, NetworkSpec};
use crate::store::Store;

impl<K: Kernel, S: Store> Worker<K, S> {
    /// The facts about the host, with the interfaces that these networks are to be on.
    pub(crate) fn facts_about<'a>(
        &mut self,
        foreign: Vec<ForeignNetwork>,
        specs: impl Iterator<Item = &'a NetworkSpec>,
    ) -> Result<HostFacts, Error> {
        let mut facts = HostFacts { foreign, ..self.facts()? };
        for spec in specs {
            let Some(name) = spec.driver.parent() else { continue };
            self.look_at_parent(name, &mut facts)?;
            if let DriverSpec::Stacked { mode, .. } = &spec.driver {
                let device = match mode {
                    StackedMode::Macvlan(_) => Device::Macvlan,
                    StackedMode::Ipvlan(_) => Device::Ipvlan,
                };
                self.look_for(device, &mut facts)?;
            }
        }
        Ok(facts)
    }

    fn look_at_parent(&mut self, name: &IfName, facts: &mut HostFacts) -> Result<(), Error> {
        match self.kernel.parent(name)? {
            Some(parent) => drop(facts.parents.insert(name.clone(), parent)),
            // It may be the name of a VLAN.
            None if name.as_str().contains('.') => self.look_for(Device::Vlan, facts)?,
            None => {}
        }
        Ok(())
    }

    fn look_for(&mut self, device: Device, facts: &mut HostFacts) -> Result<(), Error> {
        if !self.kernel.has_device(device)? {
            facts.lacks.insert(device);
        }
        Ok(())
    }

    /// The interface of the host that the network is on, if it is on one and that is there. Its addresses are nobody
    /// else's from now on.
    pub(crate) fn parent_of(&mut self, network: &Network) -> Result<Option<Parent>, Error> {
        let name = match NetworkSpec::of(network).as_ref().map(|spec| &spec.driver) {
            Some(driver) => driver.parent().cloned(),
            None => None,
        };
        let Some(name) = name else { return Ok(None) };
        let parent = self.kernel.parent(&name)?;
        if let Some(parent) = &parent {
            self.state.host_addresses = parent.addresses.iter().map(IpNetwork::ip).collect();
        }
        Ok(parent)
    }
}
