//! What netd's proxy passes on, because the kernel cannot translate it: packets to a published port at `::1` and at
//! link-local IPv6 addresses, which the kernel routes to no other interface, and at addresses of a family that the
//! container has no address of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::ports::{bound, way_out};
use crate::model::address::Family;
use crate::model::endpoint::Endpoint;
use crate::model::host::backend::Backend;
use crate::model::host::step::HostPort;
use crate::model::publication::Publication;

/// The held ports of a container at which netd receives what the kernel does not translate, and where it passes it on.
pub fn proxied(endpoints: &[Arc<Endpoint>]) -> BTreeMap<HostPort, Backend> {
    let publications = endpoints.iter().filter(|endpoint| endpoint.owner.is_none()).flat_map(|e| &e.publications);
    let proxied = publications.filter(|publication| publication.is_proxied());
    proxied.flat_map(|publication| of(publication, endpoints)).collect()
}

/// The same for the publications of runtimes. netd has these ports only if nobody else does, and holds none that a runtime
/// binds after it has called netd: Podman before 5.3 does, and binds 0.0.0.0 for every address, and one
/// address as it was asked. What binds `[::]` for every address (Podman 6) does so before.
pub fn proxied_for_runtimes(endpoints: &[Arc<Endpoint>]) -> BTreeMap<HostPort, Backend> {
    let publications = endpoints.iter().filter(|endpoint| endpoint.owner.is_some()).flat_map(|e| &e.publications);
    let proxied = publications.filter(|publication| publication.may_be_shared());
    let all = proxied.flat_map(|publication| of(publication, endpoints));
    all.filter(|(port, _)| port.address.is_ipv6()).collect()
}

fn of(publication: &Publication, endpoints: &[Arc<Endpoint>]) -> Vec<(HostPort, Backend)> {
    let address = |family| {
        let endpoint = way_out(endpoints, family)?;
        Some((endpoint.address(family)?, &endpoint.ifname))
    };
    let to_port: BTreeMap<u16, u16> = publication.host.ports().zip(publication.container.ports()).collect();
    let to = |port: HostPort| {
        let family = Family::of(port.address);
        let own = address(family);
        let translated = own.is_some() && !is_untranslatable(port.address);
        let (to, ifname) = own.or_else(|| address(family.other())).filter(|_| !translated)?;
        let at = SocketAddr::new(to, *to_port.get(&port.port)?);
        Some((port, Backend { at, ifname: ifname.clone() }))
    };
    bound(publication, &|family| address(family).is_some()).into_iter().filter_map(|held| to(held.single()?)).collect()
}

/// Whether some packets to a port at this address are never translated (chain `publish` of the table).
pub(super) fn is_untranslatable(at: IpAddr) -> bool {
    match at {
        IpAddr::V4(_) => false,
        IpAddr::V6(at) => at.is_unspecified() || at.is_loopback() || at.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::samples;

    #[test]
    fn what_the_kernel_does_not_translate_is_proxied() {
        let v4 = samples::network("net1", &["10.0.0.0/24"]);
        let v6 = samples::network("net1", &["fd00::/64"]);
        let both = samples::network("net1", &["10.0.0.0/24", "fd00::/64"]);
        let (a4, a6, two) = (&["10.0.0.2"][..], &["fd00::2"][..], &["10.0.0.2", "fd00::2"][..]);
        for (network, addresses, port, expected) in [
            (&v4, a4, "4000:80", "[::]:4000/tcp to 10.0.0.2:80"),
            (&v6, a6, "4000:80", "[0.0.0.0]:4000/tcp to [fd00::2]:80, [::]:4000/tcp to [fd00::2]:80"),
            (&both, two, "4000:80/udp", "[::]:4000/udp to [fd00::2]:80"),
            (&v4, a4, "192.0.2.1:4000:80", ""),
            (&v4, a4, "[2001:db8::1]:4000:80", "[2001:db8::1]:4000/tcp to 10.0.0.2:80"),
            (&both, two, "[2001:db8::1]:4000:80", ""),
            (&both, two, "[::1]:4000:80", "[::1]:4000/tcp to [fd00::2]:80"),
            (&v4, a4, "4000-4001:80-81", "[::]:4000/tcp to 10.0.0.2:80, [::]:4001/tcp to 10.0.0.2:81"),
            (&v4, a4, "4000:80/sctp", ""),
        ] {
            let endpoint = samples::endpoint(network, "web", 1, addresses, &[port]);
            let all = proxied(&[Arc::new(endpoint)]);
            let shown = all.iter().map(|(at, to)| format!("[{}]:{}/{} to {}", at.address, at.port, at.protocol, to.at));
            assert_eq!(shown.collect::<Vec<_>>().join(", "), expected, "{addresses:?} {port}");
        }
    }

    #[test]
    fn of_a_runtimes_ports_only_what_no_runtime_binds_later() {
        let v4 = samples::network("net1", &["10.0.0.0/24"]);
        let v6 = samples::network("net1", &["fd00::/64"]);
        for (network, address, port, expected) in [
            (&v4, "10.0.0.2", "4000:80", "[::]:4000 to 10.0.0.2:80"),
            (&v6, "fd00::2", "4000:80/udp", "[::]:4000 to [fd00::2]:80"),
            (&v6, "fd00::2", "0.0.0.0:4000:80", ""),
            (&v6, "fd00::2", "[::]:4000:80", ""),
            (&v6, "fd00::2", "[::1]:4000:80", ""),
            (&v4, "10.0.0.2", "4000:80/sctp", ""),
        ] {
            let mut endpoint = samples::endpoint(network, "web", 1, &[address], &[port]);
            assert!(proxied_for_runtimes(&[Arc::new(endpoint.clone())]).is_empty(), "a person's: {port}");
            endpoint.owner = Some("cni".parse().unwrap());
            let endpoints = [Arc::new(endpoint)];
            let all = proxied_for_runtimes(&endpoints);
            let shown = all.iter().map(|(at, to)| format!("[{}]:{} to {}", at.address, at.port, to.at));
            assert_eq!(shown.collect::<Vec<_>>().join(", "), expected, "{address} {port}");
            assert!(proxied(&endpoints).is_empty(), "held without condition: {port}");
        }
    }
}
