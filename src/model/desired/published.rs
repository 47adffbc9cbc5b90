//! Who decides about packets to published ports: the publication says it, else its network, else the daemon's configuration.

use super::Desired;
use crate::model::names::NetworkName;
use crate::model::publication::PublishMode;

impl Desired {
    /// The same with this mode of ports of which neither their publication nor their network says it.
    pub fn published_as(self, publish: PublishMode) -> Self {
        Self { publish, ..self }
    }

    /// Who decides about packets to a port that is published with these networks: a container's with one, a service's with
    /// all of its own. If one of them obeys the host's rules, the port does.
    pub fn publish_mode<'a>(
        &self,
        networks: impl IntoIterator<Item = &'a NetworkName>,
        mode: Option<PublishMode>,
    ) -> PublishMode {
        let of_networks = || networks.into_iter().filter_map(|network| self.network(network)?.publish).max();
        mode.or_else(of_networks).unwrap_or(self.publish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;
    use crate::model::network::Network;
    use PublishMode::{Open, Strict};

    #[test]
    fn the_port_counts_before_its_networks_and_these_before_the_configuration() {
        let mut desired = Desired::default();
        for (name, publish) in [("open", Some(Open)), ("strict", Some(Strict)), ("silent", None)] {
            desired.insert_network(Network { publish, ..samples::network(name, &["10.0.0.0/24"]) });
        }
        for default in [Open, Strict] {
            let desired = desired.clone().published_as(default);
            let mode = |networks: &[&str], mode| {
                let networks: Vec<NetworkName> = networks.iter().map(|name| name.parse().unwrap()).collect();
                desired.publish_mode(&networks, mode)
            };
            assert_eq!(
                (mode(&["open"], None), mode(&["strict"], None), mode(&["silent"], None)),
                (Open, Strict, default)
            );
            assert_eq!((mode(&["strict"], Some(Open)), mode(&["open"], Some(Strict))), (Open, Strict));
            assert_eq!((mode(&["open", "strict"], None), mode(&["open", "silent"], None)), (Strict, Open));
        }
    }
}
