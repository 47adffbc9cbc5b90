//! The snapshot: the view of all readers, replaced as a whole after each command.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::denied::DeniedPackets;
pub use crate::logic::dns::Explained;
use crate::logic::dns::Zone;
use crate::logic::firewall::foreign;
use crate::logic::policy;
pub use crate::logic::policy::{Arrival, Behind, Judgement};
use crate::logic::target;
use crate::logic::target::Blocked;
use crate::model::address::Family;
use crate::model::desired::{Attached, Desired};
use crate::model::endpoint::Endpoint;
use crate::model::host::element::Element;
use crate::model::host::foreign_firewall::{Foreign, Note};
use crate::model::host::reach::{HostPortAsked, Reach};
use crate::model::host::step::HostPort;
use crate::model::ids::ContainerId;
use crate::model::inside;
use crate::model::names::IfName;
use crate::model::policy::{Ports, Subject};
use crate::model::publication::{BOUND_MAX, Publication};
use crate::model::question::{Answer, Client, RecordType};
use crate::model::request::AttachmentKey;
use crate::model::route::Route;

/// A host port of each container that another process has, and that process ("sshd (pid 812)").
pub type TakenPorts = BTreeMap<ContainerId, (HostPort, String)>;

/// Host ports of each container that a runtime asked for and another process has, maybe the runtime itself, so that netd
/// does not pass on what the kernel does not translate there.
pub type Unproxied = rpds::RedBlackTreeMapSync<ContainerId, BTreeSet<HostPort>>;

/// An immutable view of the state.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Networks, containers and endpoints.
    pub desired: Desired,
    /// How many packets policies have denied.
    pub denied: Arc<DeniedPackets>,
    /// Counts the changes since the daemon started.
    pub revision: u64,
    /// The revision of the last change of what the zone's answers depend on ([`Self::answers_like`]).
    pub zone_revision: u64,
    /// The current problems, one line each; empty if there are none.
    pub problems: Vec<String>,
    /// Host ports that a container publishes and another process has, one for each container, with that process.
    pub taken_ports: Arc<TakenPorts>,
    /// Ports of runtimes at which netd does not receive what the kernel does not translate.
    pub unproxied: Unproxied,
    /// Packets that containers sent from addresses that are not theirs, by host end, as far as the last look found them.
    pub refused: Arc<BTreeMap<IfName, u64>>,
    /// The domain of netd's names ("internal").
    pub domain: String,
    /// Search domains of the host, for resolv.conf.
    pub search: Vec<String>,
    /// Networks from which questions do not reach the name service at the gateway, because of a firewall.
    pub gateway_blocked: Arc<Blocked>,
    /// What other programs' firewalls drop or would drop of netd's traffic, and what was done about it.
    pub firewall: Arc<Vec<Note>>,
    /// Other programs' firewalls, as netd saw them last while it had networks.
    pub tables: Arc<Foreign>,
    /// The elements that keep the host's interfaces apart.
    pub transit: Arc<BTreeSet<Element>>,
    /// What faces keep, by key.
    pub kept: Arc<BTreeMap<String, String>>,
}

impl Snapshot {
    /// Whether both give the same answer to every question. False if that is not certain: if anything of networks,
    /// containers and endpoints was changed, of the domain, or of the search domains.
    pub fn answers_like(&self, other: &Self) -> bool {
        self.desired.is_same(&other.desired) && self.domain == other.domain && self.search == other.search
    }

    /// Whether both are equal but for the revisions, given that they answer alike.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.unproxied == other.unproxied
            && self.denied == other.denied
            && Arc::ptr_eq(&self.tables, &other.tables)
            && self.kept == other.kept
            && (&self.problems, &self.taken_ports, &self.refused, &self.gateway_blocked, &self.firewall, &self.transit)
                == (
                    &other.problems,
                    &other.taken_ports,
                    &other.refused,
                    &other.gateway_blocked,
                    &other.firewall,
                    &other.transit,
                )
    }

    /// The zone's answer.
    pub fn resolve(&self, client: Client, name: &str, kind: RecordType) -> Answer {
        self.zone().answer(client, name, kind)
    }

    /// The zone's answer, and how it was found.
    pub fn explain(&self, client: Client, name: &str, kind: RecordType) -> Explained {
        self.zone().explain(client, name, kind)
    }

    /// Whether one subject reaches another, for each pair of what they stand for.
    pub fn judge(&self, from: &Subject, to: &Subject, ports: Option<Ports>) -> Vec<Judgement> {
        policy::judge(&self.desired, from, to, ports)
    }

    /// Whether policies let what arrived at a port of the proxy through.
    pub fn admits(&self, arrival: Arrival, behind: Behind) -> bool {
        policy::admits(&self.desired, arrival, behind)
    }

    fn zone(&self) -> Zone<'_> {
        Zone { desired: &self.desired, domain: &self.domain, search: &self.search }
    }

    /// Whether the client's other names are forwarded to upstreams; not from internal networks.
    pub fn may_forward(&self, client: Client) -> bool {
        self.zone().may_forward(client)
    }

    /// The name server of a container: 127.0.0.11 if it is served within its namespace, else the bridge's address on
    /// the network that it was connected to first, IPv4 before IPv6. One is enough, because it answers for all of the
    /// container's networks; a second would only be queried in its place.
    pub fn nameserver(&self, container: &Attached) -> Option<IpAddr> {
        if target::inside(&self.desired, &self.gateway_blocked, container, false).is_some() {
            return Some(inside::AT.into());
        }
        container.endpoints.iter().find_map(|endpoint| {
            let network = self.desired.network(&endpoint.network)?;
            let gateways = endpoint.addresses.iter().filter_map(|address| network.name_server_for(address.ip()));
            gateways.min_by_key(IpAddr::is_ipv6)
        })
    }

    /// Where the name service answers a container on the network of one of its endpoints.
    pub fn nameservers_on(&self, endpoint: &Endpoint) -> Vec<IpAddr> {
        let container = self.desired.container(&endpoint.container.id);
        let inside = |attached| target::inside(&self.desired, &self.gateway_blocked, attached, false).is_some();
        if container.is_some_and(|attached| inside(attached)) {
            return vec![inside::AT.into()];
        }
        let network = self.desired.network(&endpoint.network);
        let gateway = |address: &IpNetwork| network?.name_server_for(address.ip());
        endpoint.addresses.iter().filter_map(gateway).collect()
    }

    /// The container's `/etc/resolv.conf`. With `ndots:0` the name is tried as typed first, so that no search domain of
    /// the host can shadow a container.
    pub fn resolv_conf(&self, container: &Attached) -> String {
        let mut text = String::from("# Written by netd\n");
        if let Some(nameserver) = self.nameserver(container) {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "nameserver {nameserver}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        text.push_str("options ndots:0\n");
        text
    }

    /// Who of the hosts outside reaches a strict port of the container in each family, as the host's own rules have it.
    pub fn reach(&self, container: &Attached, publication: &Publication) -> Vec<(Family, Reach)> {
        let leads = |family| container.endpoints.iter().any(|endpoint| endpoint.gateway(family).is_some());
        let families = [Family::V4, Family::V6].into_iter().filter(|family| publication.covers(*family));
        // What netd passes on itself passes the same hook.
        let reached = families.filter(|family| leads(*family) || publication.is_proxied() && leads(family.other()));
        let ports: Vec<u16> = match publication.host {
            few if few.count() <= BOUND_MAX => few.ports().collect(),
            many => vec![many.first(), many.last()],
        };
        let of = |family| {
            let (protocol, at) = (publication.protocol, publication.only_on());
            let asked = |port: &u16| HostPortAsked { family, protocol, port: *port, at };
            let each = ports.iter().map(|port| (format!("port {port}:"), foreign::reach(&self.tables, &asked(port))));
            foreign::together(&each.collect::<Vec<_>>())
        };
        reached.map(|family| (family, of(family))).collect()
    }

    /// The endpoint of the attachment with this key.
    pub fn attachment(&self, key: &AttachmentKey) -> Option<Arc<Endpoint>> {
        self.desired.attachment(key).cloned()
    }

    /// Every route that netd set on the endpoint's interface, default routes first; none on an interface that another
    /// program made.
    pub fn routes(&self, endpoint: &Endpoint) -> Vec<Route> {
        let own = self.desired.network(&endpoint.network).is_some_and(|network| network.makes_interfaces());
        let all = self.desired.container(&endpoint.container.id).filter(|_| own).map(|attached| &attached.endpoints);
        let defaults = all.map(|all| target::default_routes(all)).unwrap_or_default().into_iter();
        let over_this = defaults.filter(|route| route.ifname == endpoint.ifname);
        let everywhere = over_this.filter_map(|route| {
            let unspecified = if route.gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            Some(Route::via(unspecified.parse().ok()?, Some(route.gateway)))
        });
        everywhere.chain(endpoint.routes.iter().cloned()).collect()
    }

    /// The search list of a container whose runtime may not preserve `ndots:0`: netd's domain first, so that no search
    /// domain of the host can shadow a container.
    pub fn search(&self) -> Vec<String> {
        let domain = Some(self.domain.trim_matches('.').to_owned()).filter(|domain| !domain.is_empty());
        let is_ours = |search: &str| domain.as_ref().is_some_and(|domain| domain.eq_ignore_ascii_case(search));
        let others: Vec<String> = self.search.iter().filter(|search| !is_ours(search)).cloned().collect();
        domain.into_iter().chain(others).collect()
    }

    /// The container's `/etc/hosts`: the loopback names, and the container's name at each of its addresses.
    pub fn hosts(&self, container: &Attached) -> String {
        let mut text = String::from(
            "# Written by netd\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        for address in container.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            let _ = writeln!(text, "{}\t{}", address.ip(), container.container.name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;

    /// A container that is first on an internal network, then on one with IPv6 before IPv4.
    fn snapshot() -> Snapshot {
        let mut desired = Desired::default();
        for (n, name) in [(0, "inner"), (1u8, "net1")] {
            let mut network = samples::network(name, &[&format!("fd0{n}::/64"), &format!("10.{n}.0.0/24")]);
            (network.internal, network.subnets[1].gateway) = (n == 0, Some([10, n, 0, 254].into()));
            let addresses = [format!("fd0{n}::2"), format!("10.{n}.0.2")];
            let addresses = addresses.each_ref().map(String::as_str);
            desired.insert_endpoint(samples::endpoint(&network, "web", n.into(), &addresses, &[]));
            desired.insert_network(network);
        }
        Snapshot { desired, search: vec!["corp.example".into(), "lan".into()], ..Snapshot::default() }
    }

    #[test]
    fn a_container_has_one_name_server_and_the_hosts_search_domains() {
        let mut snapshot = snapshot();
        let web = snapshot.desired.containers().next().unwrap().clone();
        let text = "# Written by netd\nnameserver 10.0.0.254\nsearch corp.example lan\noptions ndots:0\n";
        assert_eq!(snapshot.resolv_conf(&web), text, "an internal network has a name server too");
        snapshot.search.clear();
        assert_eq!(snapshot.resolv_conf(&web), "# Written by netd\nnameserver 10.0.0.254\noptions ndots:0\n");
    }

    #[test]
    fn a_container_knows_itself() {
        let snapshot = snapshot();
        let hosts = snapshot.hosts(snapshot.desired.containers().next().unwrap());
        assert!(hosts.contains("\n127.0.0.1\tlocalhost\n"), "{hosts}");
        assert!(hosts.ends_with("\nfd00::2\tweb\n10.0.0.2\tweb\nfd01::2\tweb\n10.1.0.2\tweb\n"), "{hosts}");
    }
}
