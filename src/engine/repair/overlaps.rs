//! Routes and addresses of the host that came after a network and lead to its addresses elsewhere: a VPN, another LAN.

use crate::engine::state::problems::Subject;
use crate::engine::worker::Worker;
use crate::kernel::Kernel;
use crate::logic::alloc::subnets::overlaps;
use crate::store::Store;

/// What it means, and what helps.
const MEANS: &str = "what is at these addresses is reached in one of both places only; give the network another subnet \
                     (netd network create --subnet), or change the route";

impl<K: Kernel, S: Store> Worker<K, S> {
    /// Reports them. netd changes neither.
    pub(crate) fn look_for_overlaps(&mut self) {
        if self.state.desired.counts().0 == 0 {
            return;
        }
        match self.kernel.facts() {
            Ok(facts) => {
                for ((network, ifname), said) in overlaps(&self.state.desired, &facts) {
                    self.problem(Subject::Overlap(network, ifname), format!("{said}: {MEANS}"));
                }
            }
            Err(error) => self.problem(Subject::Observation, format!("cannot read the host's routes: {error}")),
        }
    }
}
