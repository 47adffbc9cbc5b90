//! Requests to the daemon's API, piece by piece: `connect("net1", "web").publish("4000:80")`.
//!
//! A request becomes what the engine takes (`spec`) or the body of an HTTP request (`body`).

use std::net::IpAddr;

use netd::api::v1;
use netd::model::policy::{self, Action, Rule};
use netd::model::request::{AttachmentKey, EndpointSpec, NetworkSpec, ReservationSpec};
use serde_json::to_string;

/// A network to create.
#[derive(Debug, Clone, Default)]
pub struct Network(v1::CreateNetwork);

/// A network with an automatic subnet.
pub fn network(name: &str) -> Network {
    Network(v1::CreateNetwork { name: name.to_owned(), ..Default::default() })
}

impl Network {
    /// One more subnet.
    pub fn subnet(mut self, prefix: &str) -> Self {
        self.0.subnets.push(v1::SubnetRequest::Prefix(prefix.to_owned()));
        self
    }

    /// Removed with its last container.
    pub fn on_demand(mut self) -> Self {
        self.0.on_demand = true;
        self
    }

    /// Without a way out.
    pub fn internal(mut self) -> Self {
        self.0.internal = true;
        self
    }

    /// What the engine takes.
    pub fn spec(self) -> NetworkSpec {
        self.0.try_into().expect("a valid network")
    }

    /// The body of `POST /v1/networks`.
    pub fn body(&self) -> String {
        to_string(&self.0).expect("JSON")
    }
}

/// A container to connect, as a person asks for it.
#[derive(Debug, Clone)]
pub struct Connect {
    network: String,
    request: v1::Connect,
}

/// A container on the network, with the next free address.
pub fn connect(network: &str, container: &str) -> Connect {
    Connect {
        network: network.to_owned(),
        request: v1::Connect { container: container.to_owned(), ..Default::default() },
    }
}

impl Connect {
    /// The container is the network namespace at this path.
    pub fn netns(mut self, path: &str) -> Self {
        self.request.netns = Some(path.to_owned());
        self
    }

    /// A further name.
    pub fn alias(mut self, alias: &str) -> Self {
        self.request.aliases.push(alias.parse().expect("an alias"));
        self
    }

    /// A port to publish, as on the command line.
    pub fn publish(mut self, port: &str) -> Self {
        self.request.ports.push(port_request(port));
        self
    }

    /// With what the reservation of that id has.
    pub fn reservation(mut self, id: &str) -> Self {
        self.request.reservation = Some(id.parse().expect("an id"));
        self
    }

    /// What the engine takes.
    pub fn spec(self) -> EndpointSpec {
        self.request.into_spec(&self.network).expect("a valid request")
    }

    /// The path to which the body is posted.
    pub fn path(&self) -> String {
        format!("/v1/networks/{}/endpoints", self.network)
    }

    /// The body of the request.
    pub fn body(&self) -> String {
        to_string(&self.request).expect("JSON")
    }
}

/// A policy, as on the command line: `default-deny NETWORK`, or `allow` or `deny`, from whom, and to whom.
pub fn rule(words: &str) -> Rule {
    let words: Vec<&str> = words.split(' ').collect();
    let [action, from, to] = *words else { return Rule::default_deny(words[1].parse().expect("a network")) };
    let (to, ports) = policy::target(to).expect("a target");
    let action = if action == "allow" { Action::Allow } else { Action::Deny };
    Rule { action, from: from.parse().expect("a subject"), to, ports }
}

/// What to reserve for a container to come.
#[derive(Debug, Clone)]
pub struct Reserve {
    network: String,
    request: v1::Reserve,
}

/// A reservation of the next free address of the network.
pub fn reserve(network: &str, id: &str) -> Reserve {
    Reserve { network: network.to_owned(), request: v1::Reserve::named(id.parse().expect("an id")) }
}

impl Reserve {
    /// A port to publish, as on the command line.
    pub fn publish(mut self, port: &str) -> Self {
        self.request.ports.push(port_request(port));
        self
    }

    /// What the engine takes.
    pub fn spec(self) -> ReservationSpec {
        self.request.into_spec(&self.network).expect("a valid request")
    }
}

/// A container to attach, as a runtime asks for it.
#[derive(Debug, Clone)]
pub struct Attach(v1::Attach);

/// The network namespace of that name on the network, with an interface and an address of netd.
pub fn attach(network: &str, netns: &str) -> Attach {
    Attach(v1::Attach { netns: format!("/run/netns/{netns}"), network: self::network(network).0, ..Default::default() })
}

impl Attach {
    /// Without a default route over this network.
    pub fn no_default_route(mut self) -> Self {
        self.0.no_default_route = true;
        self
    }

    /// The network as it is created if it does not exist.
    pub fn to(mut self, network: Network) -> Self {
        self.0.network = network.0;
        self
    }

    /// Who makes the interface and chooses its addresses.
    pub fn interface(mut self, interface: v1::Interface) -> Self {
        self.0.interface = interface;
        self
    }

    /// netd makes an interface without addresses.
    pub fn unaddressed(self) -> Self {
        self.interface(v1::Interface::Unaddressed)
    }

    /// netd gives the interface exactly this address.
    pub fn given(self, address: &str) -> Self {
        self.interface(v1::Interface::Given).address(address)
    }

    /// netd gives the interface exactly this address and gateway.
    pub fn given_via(self, address: &str, gateway: &str) -> Self {
        self.interface(v1::Interface::Given).address_via(address, gateway)
    }

    /// Another program has made the interface, with this address and gateway.
    pub fn found(self, address: &str, gateway: &str) -> Self {
        self.interface(v1::Interface::Found).address_via(address, gateway)
    }

    /// An address to take.
    pub fn address(mut self, address: &str) -> Self {
        self.0.addresses.push(v1::AddressRequest { address: address.to_owned(), gateway: None });
        self
    }

    /// An address to take, and its gateway.
    pub fn address_via(mut self, address: &str, gateway: &str) -> Self {
        let gateway = Some(ip(gateway));
        self.0.addresses.push(v1::AddressRequest { address: address.to_owned(), gateway });
        self
    }

    /// Where an automatic address comes from.
    pub fn range(mut self, subnet: &str, first: Option<&str>, last: Option<&str>) -> Self {
        let (first, last) = (first.map(ip), last.map(ip));
        self.0.ranges.push(v1::AddressRange { subnet: subnet.to_owned(), first, last });
        self
    }

    /// A route over the interface.
    pub fn route(self, destination: &str) -> Self {
        self.push_route(destination, None)
    }

    /// A route over the interface to a gateway.
    pub fn route_via(self, destination: &str, gateway: &str) -> Self {
        self.push_route(destination, Some(ip(gateway)))
    }

    fn push_route(mut self, destination: &str, gateway: Option<IpAddr>) -> Self {
        let destination = destination.to_owned();
        let route =
            v1::Route { destination, gateway, mtu: None, advmss: None, priority: None, table: None, scope: None };
        self.0.routes.push(route);
        self
    }

    /// The interface's MAC address.
    pub fn mac(mut self, mac: &str) -> Self {
        self.0.mac = Some(mac.parse().expect("a MAC address"));
        self
    }

    /// A port to publish, as on the command line.
    pub fn publish(mut self, port: &str) -> Self {
        self.0.ports.push(port_request(port));
        self
    }

    /// The container's name.
    pub fn name(mut self, name: &str) -> Self {
        self.0.name = Some(name.to_owned());
        self
    }

    /// The scope of its name.
    pub fn scope(mut self, scope: &str) -> Self {
        self.0.scope = Some(scope.to_owned());
        self
    }

    /// A further name.
    pub fn alias(mut self, alias: &str) -> Self {
        self.0.aliases.push(alias.parse().expect("an alias"));
        self
    }

    /// A limit of what comes to the container, in bits: each second, and in a burst.
    pub fn limit_in(mut self, rate: u64) -> Self {
        let limits = self.0.bandwidth.get_or_insert_default();
        (limits.ingress_rate, limits.ingress_burst) = (Some(rate), Some(rate));
        self
    }

    /// A limit of what the container sends, in bits: each second, and in a burst.
    pub fn limit_out(mut self, rate: u64) -> Self {
        let limits = self.0.bandwidth.get_or_insert_default();
        (limits.egress_rate, limits.egress_burst) = (Some(rate), Some(rate));
        self
    }

    /// The name of the network namespace.
    pub fn netns(&self) -> &str {
        self.0.netns.trim_start_matches("/run/netns/")
    }

    /// What the engine takes, for the attachment that the runtime knows by this key.
    pub fn spec(self, key: AttachmentKey) -> EndpointSpec {
        self.0.into_spec(key).expect("a valid request")
    }

    /// The body of `PUT /v1/attachments/…`.
    pub fn body(&self) -> String {
        to_string(&self.0).expect("JSON")
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

fn port_request(port: &str) -> v1::PortRequest {
    v1::PortRequest::Spec(port.parse().expect("a port"))
}
