//! Delegation to an IPAM plugin (CNI spec 1.1.0, section 4), with the same environment and the same standard input.

use std::ffi::OsString;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::failure::{DECODE, Failure, INTERNAL, INVALID_CONFIGURATION, IO, TRY_AGAIN};
use super::input::environment::{Environment, missing};
use super::input::fields::Fields;
use super::input::resolver::Resolver;
use super::{Invocation, Programs};
use crate::api::v1::{AddressRequest, Attach, Attachment, Route};
use crate::model::address::Subnet;

/// `RT_SCOPE_LINK` (linux/rtnetlink.h): routes of this and narrower scopes have no gateway.
const SCOPE_LINK: u8 = 253;

/// The IPAM plugin of a configuration.
pub(super) struct Ipam<'a> {
    pub(super) kind: &'a str,
    pub(super) invocation: &'a Invocation,
    pub(super) programs: &'a dyn Programs,
}

/// The result of an IPAM plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) addresses: Vec<AddressRequest>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Resolver,
}

impl Ipam<'_> {
    /// Whether it works through the interface, which then must exist before the address is requested.
    pub(super) fn needs_interface(&self) -> bool {
        self.kind == "dhcp"
    }

    /// Runs the plugin and returns its standard output. Its standard error is appended to `stderr`.
    pub(super) fn call(&self, command: &str, stderr: &mut Vec<u8>) -> Result<Vec<u8>, Failure> {
        let kind = self.kind;
        let folders = Environment(&self.invocation.environment)
            .raw("CNI_PATH")
            .ok_or_else(|| missing(&["CNI_PATH"]).details(format!("netd searches it for the IPAM plugin {kind:?}")))?;
        let program = self.programs.find(kind, folders).ok_or_else(|| {
            let folders = folders.to_string_lossy();
            Failure::new(INVALID_CONFIGURATION, format!("no IPAM plugin {kind:?} in CNI_PATH {folders:?}"))
        })?;
        let mut environment = self.invocation.environment.clone();
        environment.retain(|(name, _)| name != "CNI_COMMAND");
        environment.push((OsString::from("CNI_COMMAND"), OsString::from(command)));
        let ran = self
            .programs
            .run(&program, &environment, &self.invocation.stdin)
            .map_err(|error| Failure::new(IO, format!("run the IPAM plugin {}: {error}", program.display())))?;
        if ran.code == Some(0) {
            stderr.extend_from_slice(&ran.stderr);
            return Ok(ran.stdout);
        }
        Err(self.failure(command, ran.code, &ran.stdout, &ran.stderr))
    }

    /// The plugin's own error, or its output if that is no error object.
    fn failure(&self, command: &str, code: Option<i32>, stdout: &[u8], stderr: &[u8]) -> Failure {
        let kind = self.kind;
        let error = serde_json::from_slice::<Map<String, Value>>(stdout).ok();
        let error = error.as_ref().map(Fields::root);
        let text = |key: &str| error.as_ref().and_then(|error| error.get(key)?.as_str()).unwrap_or_default();
        if !text("msg").is_empty() {
            let code = error.as_ref().and_then(|error| error.get("code")?.as_u64());
            let code = code.and_then(|code| u32::try_from(code).ok()).filter(|code| *code != 0);
            let failure = Failure::new(code.unwrap_or(INTERNAL), format!("IPAM plugin {kind}: {}", text("msg")));
            return failure.details(text("details"));
        }
        let how =
            code.map_or_else(|| "was terminated by a signal".to_owned(), |code| format!("ended with code {code}"));
        let failure =
            Failure::new(INTERNAL, format!("IPAM plugin {kind} {how} during {command} without an error result"));
        let output = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        failure.details(output.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; "))
    }

    /// `ADD`. If it fails, the plugin is called with `DEL`, as the spec requires, and with `ADD` once more: it may have
    /// kept a lease of an `ADD` that was killed, for which there is no attachment, and would refuse a second one. There
    /// is no second attempt if the plugin is slow (`dhcp`) or asks to try again later.
    pub(super) fn add(&self, stderr: &mut Vec<u8>) -> Result<Lease, Failure> {
        let first = self.add_once(stderr);
        match first {
            Err(failure) if !self.needs_interface() && failure.code != TRY_AGAIN => self.add_once(stderr),
            other => other,
        }
    }

    fn add_once(&self, stderr: &mut Vec<u8>) -> Result<Lease, Failure> {
        let lease = self.call("ADD", stderr).and_then(|result| self.lease(&result));
        lease.map_err(|failure| self.undo(failure, stderr))
    }

    /// Calls `DEL` because of a failure. The failure keeps its code.
    pub(super) fn undo(&self, failure: Failure, stderr: &mut Vec<u8>) -> Failure {
        match self.call("DEL", stderr) {
            Ok(_) => failure,
            Err(more) => failure.and(&more),
        }
    }

    fn lease(&self, result: &[u8]) -> Result<Lease, Failure> {
        let odd = |why: String| Failure::new(DECODE, format!("decode the result of IPAM plugin {}: {why}", self.kind));
        let result: Value = serde_json::from_slice(result).map_err(|error| odd(error.to_string()))?;
        let lease = Fields::of(&result, "result".into()).and_then(|fields| read(&fields));
        let lease = lease.map_err(|failure| odd(failure.msg))?;
        if lease.addresses.is_empty() {
            return Err(Failure::new(INVALID_CONFIGURATION, format!("IPAM plugin {} gave no address", self.kind)));
        }
        Ok(lease)
    }
}

fn read(result: &Fields<'_>) -> Result<Lease, Failure> {
    let mut addresses = Vec::new();
    for ip in result.objects("ips")? {
        let address = ip.text("address")?.ok_or_else(|| ip.wrong("address", "it is missing"))?.to_owned();
        addresses.push(AddressRequest { address, gateway: ip.ip("gateway")? });
    }
    let routes = result.objects("routes")?.iter().map(route).collect::<Result<_, _>>()?;
    let dns = result.object("dns")?;
    let dns = dns.map(|dns| Resolver::from_runtime(&dns, "nameservers", "search")).transpose()?.unwrap_or_default();
    Ok(Lease { addresses, routes, dns })
}

fn route(route: &Fields<'_>) -> Result<Route, Failure> {
    Ok(Route {
        destination: route.text("dst")?.ok_or_else(|| route.wrong("dst", "it is missing"))?.to_owned(),
        gateway: route.ip("gw")?,
        mtu: route.number("mtu")?,
        advmss: route.number("advmss")?,
        priority: route.number("priority")?,
        table: route.number("table")?,
        scope: route.number("scope")?,
    })
}

impl Lease {
    /// The lease of an existing attachment. Its resolver settings are not known any more: the daemon's apply.
    pub(super) fn of(attachment: &Attachment) -> Self {
        let endpoint = &attachment.endpoint;
        let gateway = |address: &str| {
            let is_v6 = address.contains(':');
            endpoint.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == is_v6)
        };
        let address = |text: &String| AddressRequest { address: text.clone(), gateway: gateway(text) };
        Self {
            addresses: endpoint.addresses.iter().map(address).collect(),
            routes: attachment.routes.iter().filter(|route| !is_plain_default(route)).cloned().collect(),
            dns: Resolver::default(),
        }
    }

    /// Puts the lease into the request: the addresses with their gateways, the routes except the default ones, and the
    /// subnets of a network that is created now.
    pub(super) fn fill(&self, attach: &mut Attach) {
        attach.ranges.clear();
        attach.addresses.clone_from(&self.addresses);
        attach.routes.clear();
        for route in &self.routes {
            let gateway = self.gateway(route);
            if is_plain_default(route) {
                set_gateway(&mut attach.addresses, gateway);
            } else {
                attach.routes.push(Route { gateway, ..route.clone() });
            }
        }
        let subnet = |lease: &AddressRequest| Some((subnet(&lease.address)?, lease.gateway));
        let (mut subnets, mut gateways) = (Vec::new(), Vec::new());
        for (subnet, gateway) in attach.addresses.iter().filter_map(subnet) {
            super::input::fields::push_new(&mut subnets, subnet.to_string());
            gateways.extend(gateway.filter(|gateway| subnet.contains(*gateway)).map(|gateway| gateway.to_string()));
        }
        super::input::request::made_of(&mut attach.network, subnets, gateways);
    }

    /// The gateway of a route without one is that of the addresses of its family (CNI spec 1.1.0, section 5).
    fn gateway(&self, route: &Route) -> Option<IpAddr> {
        if route.gateway.is_some() || route.scope.is_some_and(|scope| scope >= SCOPE_LINK) {
            return route.gateway;
        }
        let is_v6 = route.destination.contains(':');
        self.addresses.iter().filter_map(|address| address.gateway).find(|gateway| gateway.is_ipv6() == is_v6)
    }
}

/// The subnet of an address with prefix length.
fn subnet(address: &str) -> Option<Subnet> {
    let (ip, prefix) = address.split_once('/')?;
    Subnet::containing(ip.parse().ok()?, prefix.parse().ok()?)
}

/// Whether netd sets this route itself: a default route to the gateway without further attributes.
fn is_plain_default(route: &Route) -> bool {
    let plain = Route { destination: route.destination.clone(), gateway: route.gateway, ..plain() };
    route.destination.ends_with("/0") && *route == plain
}

fn plain() -> Route {
    Route {
        destination: String::new(),
        gateway: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}

/// Sets the gateway of a default route for the addresses of its family.
fn set_gateway(addresses: &mut [AddressRequest], gateway: Option<IpAddr>) {
    let Some(gateway) = gateway else { return };
    for address in addresses.iter_mut().filter(|address| address.address.contains(':') == gateway.is_ipv6()) {
        address.gateway = Some(gateway);
    }
}
