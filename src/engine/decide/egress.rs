//! Whether a container can be held to what it may send.

use crate::engine::state::State;
use crate::logic::refusal::Refusal;
use crate::model::Invalid;
use crate::model::egress::{Egress, Stance};
use crate::model::endpoint::Endpoint;
use crate::model::network::Network;

/// Refuses what nothing would hold: netd sees all traffic on bridges only, and knows a container by its addresses. A
/// container that is held on one of its networks is held on all of them.
pub(crate) fn check(state: &State, network: &Network, endpoint: &Endpoint) -> Result<(), Refusal> {
    let stance = |network: &Network, egress: &Egress| egress.stance.or(network.egress.stance);
    let others = state.endpoints_of(&endpoint.container.id);
    let others: Vec<_> = others
        .iter()
        .filter(|other| other.key() != endpoint.key())
        .filter_map(|other| Some((state.desired.network(&other.network)?.as_ref(), other.as_ref())))
        .collect();
    let all = || others.iter().copied().chain([(network, endpoint)]);
    if !all().any(|(network, endpoint)| stance(network, &endpoint.egress) == Some(Stance::Deny)) {
        return Ok(());
    }
    for (network, endpoint) in all() {
        let name = &network.name;
        let why = if endpoint.is_beside_engine() {
            "another engine has made it and gives it a way out of its own".to_owned()
        } else if !network.is_behind_host() {
            format!("network {name} is beside the host, which does not see what a container sends there")
        } else if network.guest_bridge().is_none() {
            format!("network {name} has no bridge, where what a container sends could be seen")
        } else if network.trusted || endpoint.trusted {
            format!("it may send from addresses that are not its own (trusted) on network {name}")
        } else {
            continue;
        };
        return Err(Invalid::new("egress", "deny", why).into());
    }
    Ok(())
}
