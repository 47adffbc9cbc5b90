//! From the request to what the engine is asked, and back.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::{AddressRange, AddressRequest, Attach, Bandwidth, CheckAttachment, Interface, PortRequest, Route};
use crate::api::v1::parse;
use crate::model::address::Subnet;
use crate::model::bandwidth::Rate;
use crate::model::names::{IfName, NetworkName};
use crate::model::request::{
    AddressSpec, AttachmentKey, CheckSpec, EndpointSpec, InterfaceSource, Requester, RuntimeRequest,
};
use crate::model::{Invalid, bandwidth, publication, request, route};

/// The key of an attachment from the three parts of its path.
pub fn attachment_key(owner: &str, container: &str, ifname: &str) -> Result<AttachmentKey, Invalid> {
    Ok(AttachmentKey {
        owner: owner.parse::<NetworkName>()?,
        container: container.parse()?,
        ifname: ifname.parse::<IfName>()?,
    })
}

impl Attach {
    /// Parses the request for the attachment of that key.
    pub fn into_spec(self, key: AttachmentKey) -> Result<EndpointSpec, Invalid> {
        let addresses: Vec<AddressSpec> = self.addresses.iter().map(address).collect::<Result<_, _>>()?;
        let families = [addresses.iter().filter(|a| a.ip.is_ipv4()).count(), addresses.len()];
        if families[0] > 1 || families[1] - families[0] > 1 {
            let all: Vec<String> = self.addresses.iter().map(|a| a.address.clone()).collect();
            return Err(Invalid::new("IP addresses", all.join(", "), "an interface has at most one of each family"));
        }
        match (self.interface, addresses.len()) {
            (Interface::Unaddressed, 1..) => {
                return Err(Invalid::new("interface", "unaddressed", "it gets its addresses later, as \"given\""));
            }
            (Interface::Given, 0) => return Err(Invalid::new("interface", "given", "give its addresses")),
            _ => {}
        }
        let key = AttachmentKey { ifname: key.ifname.for_new()?, ..key };
        let ifname = Some(key.ifname.clone());
        let request = RuntimeRequest {
            key,
            netns: netns(self.netns)?,
            network: self.network.try_into()?,
            name: self.name.map(|name| name.parse()).transpose()?,
            scope: self.scope.map(|scope| scope.parse()).transpose()?,
            interface: self.interface.into(),
            process: None,
        };
        Ok(EndpointSpec {
            requester: Requester::Runtime(Box::new(request)),
            ifname,
            aliases: self.aliases,
            addresses,
            ranges: self.ranges.iter().map(range).collect::<Result<_, _>>()?,
            routes: self.routes.iter().map(Route::parse).collect::<Result<_, _>>()?,
            mac: self.mac,
            ports: publication::distinct(self.ports.into_iter().map(PortRequest::spec))?,
            exposed: self.expose,
            labels: parse::labels(self.labels)?,
            bandwidth: self.bandwidth.map(Bandwidth::parse).transpose()?.flatten(),
            no_default_route: self.no_default_route,
            trusted: false,
            upstreams: parse::upstreams(self.dns)?,
            handover: None,
            egress: parse::egress(self.egress, self.egress_allow)?,
        })
    }
}

impl CheckAttachment {
    /// Parses the request for the attachment of that key.
    pub fn into_spec(self, key: AttachmentKey) -> Result<CheckSpec, Invalid> {
        let addresses = self.addresses.iter().map(|text| Ok(interface(text)?.0)).collect::<Result<_, Invalid>>()?;
        let mac = self.mac.map(|mac| mac.parse()).transpose()?;
        Ok(CheckSpec { key, netns: netns(self.netns)?, addresses, mac, mtu: self.mtu })
    }
}

impl From<Interface> for InterfaceSource {
    fn from(interface: Interface) -> Self {
        match interface {
            Interface::Made => Self::Made,
            Interface::Unaddressed => Self::Unaddressed,
            Interface::Given => Self::Given,
            Interface::Found => Self::Found,
        }
    }
}

impl Route {
    fn parse(&self) -> Result<route::Route, Invalid> {
        let network: IpNetwork = self.destination.parse().map_err(|_| {
            Invalid::new("route", &self.destination, "use DESTINATION/PREFIX, as in 10.0.0.0/8 or fd00::/8")
        })?;
        let destination = Subnet::containing(network.network(), network.prefix())
            .ok_or_else(|| Invalid::new("route", &self.destination, "the prefix is too long"))?;
        if self.gateway.is_some_and(|gateway| gateway.is_ipv4() != network.is_ipv4()) {
            return Err(Invalid::new("route", &self.destination, "its gateway is of the other address family"));
        }
        let Self { mtu, advmss, priority, table, scope, gateway, .. } = *self;
        Ok(route::Route { destination, gateway, mtu, advmss, priority, table, scope })
    }
}

impl From<&route::Route> for Route {
    fn from(route: &route::Route) -> Self {
        let route::Route { destination, gateway, mtu, advmss, priority, table, scope } = *route;
        Self { destination: destination.to_string(), gateway, mtu, advmss, priority, table, scope }
    }
}

impl Bandwidth {
    fn parse(self) -> Result<Option<bandwidth::Bandwidth>, Invalid> {
        let ingress = Rate::new("ingress limit", self.ingress_rate, self.ingress_burst)?;
        let egress = Rate::new("egress limit", self.egress_rate, self.egress_burst)?;
        Ok((ingress.is_some() || egress.is_some()).then_some(bandwidth::Bandwidth { ingress, egress }))
    }
}

impl From<bandwidth::Bandwidth> for Bandwidth {
    fn from(bandwidth: bandwidth::Bandwidth) -> Self {
        let bandwidth::Bandwidth { ingress, egress } = bandwidth;
        Self {
            ingress_rate: ingress.map(|limit| limit.rate),
            ingress_burst: ingress.map(|limit| limit.burst),
            egress_rate: egress.map(|limit| limit.rate),
            egress_burst: egress.map(|limit| limit.burst),
        }
    }
}

fn netns(path: String) -> Result<PathBuf, Invalid> {
    if path.starts_with('/') && !path.contains(char::is_control) {
        return Ok(PathBuf::from(path));
    }
    Err(Invalid::new("network namespace", path, "give its absolute path, as in /run/netns/web"))
}

/// An address that an interface can have, with or without its prefix length.
fn interface(text: &str) -> Result<(IpAddr, Option<u8>), Invalid> {
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => {
            let wrong = |_| Invalid::new("IP address", text, "use ADDRESS or ADDRESS/PREFIX, as in 10.77.0.5/24");
            (ip, Some(prefix.parse::<u8>().map_err(wrong)?))
        }
        None => (text, None),
    };
    let ip = if ip.contains(':') { parse::ipv6(ip)?.into() } else { IpAddr::from(parse::ipv4(ip)?) };
    if prefix.is_some_and(|prefix| Subnet::containing(ip, prefix).is_none()) {
        return Err(Invalid::new("IP address", text, "the prefix is too long"));
    }
    Ok((ip, prefix))
}

fn address(request: &AddressRequest) -> Result<AddressSpec, Invalid> {
    let (ip, prefix) = interface(&request.address)?;
    if request.gateway.is_some_and(|gateway| gateway.is_ipv4() != ip.is_ipv4()) {
        return Err(Invalid::new("IP address", &request.address, "its gateway is of the other address family"));
    }
    Ok(AddressSpec { ip, prefix, gateway: request.gateway })
}

fn range(range: &AddressRange) -> Result<request::AddressRange, Invalid> {
    let subnet: Subnet = range.subnet.parse()?;
    for end in [range.first, range.last].into_iter().flatten() {
        if !subnet.contains(end) {
            return Err(Invalid::new("address range", end.to_string(), format!("it is outside of {subnet}")));
        }
    }
    if let (Some(first), Some(last)) = (range.first, range.last)
        && first > last
    {
        return Err(Invalid::new("address range", format!("{first}-{last}"), "it ends before it begins"));
    }
    Ok(request::AddressRange { subnet, first: range.first, last: range.last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Result<EndpointSpec, String> {
        let request: Attach = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let key = attachment_key("podman", "4f5e", "eth0").unwrap();
        request.into_spec(key).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_reaches_the_spec() {
        let spec = spec(
            r#"{"netns":"/run/netns/web","network":{"name":"net1","subnets":["10.1.0.0/24"]},"name":"web","scope":"prod",
                "aliases":["www"],"interface":"given","addresses":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"},
                {"address":"fd00::5"}],"ranges":[{"subnet":"10.1.0.0/24","first":"10.1.0.9"}],
                "routes":[{"destination":"10.0.0.0/8","gateway":"10.1.0.1","priority":7}],"mac":"02:00:00:00:00:01",
                "ports":["4000:80"],"bandwidth":{"ingress_rate":8000,"ingress_burst":8000,"egress_rate":0},
                "dns":["fd00::53"]}"#,
        )
        .unwrap();
        assert!(matches!(&spec.requester, Requester::Runtime(r) if r.interface == InterfaceSource::Given));
        let address = AddressSpec { ip: [10, 1, 0, 5].into(), prefix: Some(24), gateway: Some([10, 1, 0, 1].into()) };
        assert_eq!(spec.addresses[0], address);
        assert_eq!((spec.addresses[1].prefix, spec.ranges[0].first), (None, Some([10, 1, 0, 9].into())));
        assert_eq!(spec.routes[0].priority, Some(7));
        assert_eq!((spec.ports.len(), spec.aliases.len()), (1, 1));
        assert_eq!(spec.upstreams[0].to_string(), "fd00::53");
        let bandwidth = spec.bandwidth.unwrap();
        assert_eq!((bandwidth.ingress.unwrap().rate, bandwidth.egress), (8000, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |more: &str| spec(&format!(r#"{{"netns":"/x","network":{{"name":"net1"}}{more}}}"#));
        assert!(with("").is_ok());
        for (more, words) in [
            (r#","netnss":"/x""#, "unknown field `netnss`"),
            (r#","name":"a b""#, "invalid container name"),
            (r#","addresses":[{"address":"10.0.0.5/33"}]"#, "prefix"),
            (r#","addresses":[{"address":"10.0.0.5","gateway":"fd00::1"}]"#, "other address family"),
            (r#","addresses":[{"address":"10.0.0.5"},{"address":"10.0.0.6"}]"#, "at most one of each family"),
            (r#","addresses":[{"address":"127.0.0.1"}]"#, "of this kind"),
            (r#","ranges":[{"subnet":"10.0.0.0/24","first":"10.1.0.5"}]"#, "outside of 10.0.0.0/24"),
            (r#","ranges":[{"subnet":"10.0.0.0/24","first":"10.0.0.5","last":"10.0.0.4"}]"#, "ends before"),
            (r#","interface":"given""#, "give its addresses"),
            (r#","interface":"unaddressed","addresses":[{"address":"10.0.0.5"}]"#, "addresses later"),
            (r#","routes":[{"destination":"x"}]"#, "invalid route"),
            (r#","bandwidth":{"ingress_rate":1000}"#, "needs a burst"),
            (r#","dns":["0.0.0.0"]"#, "it is not an address of a name server"),
            (r#","ports":["80/icmp"]"#, "use tcp, udp or sctp"),
        ] {
            let error = with(more).expect_err(more);
            assert!(error.contains(words), "{more}: {error}");
        }
        assert!(spec(r#"{"netns":"x","network":{"name":"net1"}}"#).unwrap_err().contains("absolute path"));
        let lines = spec(r#"{"netns":"/x\ny","network":{"name":"net1"}}"#).unwrap_err();
        assert!(lines.contains("absolute path") && !lines.contains('\n'), "{lines}");
        assert!(attachment_key("a b", "x", "eth0").is_err() && attachment_key("a", "x", "e/0").is_err());
    }
}
