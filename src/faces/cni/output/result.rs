//! The result of `ADD` in the format of each version, and the result of the previous plugin.

use serde_json::{Map, Value, json};

use crate::api::v1::{AddressRequest, Attachment, Route};
use crate::faces::cni::failure::Failure;
use crate::faces::cni::input::environment::AttachedInterface;
use crate::faces::cni::input::fields::{Fields, respell};
use crate::faces::cni::input::resolver::Resolver;
use crate::faces::cni::input::version::Version;

/// Keys of interfaces and routes that are new in 1.1.0.
const NEW_IN_INTERFACES: [&str; 3] = ["mtu", "socketPath", "pciID"];
const NEW_IN_ROUTES: [&str; 5] = ["mtu", "advmss", "priority", "table", "scope"];

/// The result of an attachment whose interface netd made: the bridge, its port, and the interface in the container.
pub(crate) fn made(version: Version, attachment: &Attachment, target: &AttachedInterface, dns: &Resolver) -> Value {
    let endpoint = &attachment.endpoint;
    let mut interfaces: Vec<Value> = attachment.bridge.iter().map(|bridge| json!({ "name": bridge })).collect();
    if let Some(mac) = &attachment.host_mac {
        interfaces.push(interface(version, &endpoint.host_ifname, mac, attachment.mtu));
    }
    let index = interfaces.len();
    let mut container = interface(version, &endpoint.ifname, &endpoint.mac, attachment.mtu);
    container["sandbox"] = json!(target.netns);
    interfaces.push(container);
    let ips: Vec<Value> = endpoint.addresses.iter().map(|text| ip(version, text, attachment, index)).collect();
    let routes: Vec<Value> = attachment.routes.iter().map(|given| route(version, given)).collect();
    let mut result = json!({ "cniVersion": version.as_str(), "interfaces": interfaces, "ips": ips, "routes": routes });
    if let Some(dns) = dns.json() {
        result["dns"] = dns;
    }
    result
}

fn interface(version: Version, name: &str, mac: &str, mtu: u32) -> Value {
    let mut interface = json!({ "name": name, "mac": mac });
    if version.has_details() {
        interface["mtu"] = mtu.into();
    }
    interface
}

fn ip(version: Version, address: &str, attachment: &Attachment, index: usize) -> Value {
    let is_v6 = address.contains(':');
    let mut ip = json!({ "address": address, "interface": index });
    if let Some(gateway) = attachment.endpoint.gateways.iter().find(|gateway| gateway.is_ipv6() == is_v6) {
        ip["gateway"] = json!(gateway);
    }
    if version.names_families() {
        ip["version"] = family(address).into();
    }
    ip
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "6" } else { "4" }
}

fn route(version: Version, given: &Route) -> Value {
    let Route { destination, gateway, mtu, advmss, priority, table, scope } = given;
    let mut route = json!({ "dst": destination });
    if let Some(gateway) = gateway {
        route["gw"] = json!(gateway);
    }
    if version.has_details() {
        let numbers = [mtu, advmss, priority, table].map(|number| number.map(u64::from));
        let numbers = numbers.into_iter().chain([scope.map(u64::from)]);
        for (key, number) in NEW_IN_ROUTES.into_iter().zip(numbers) {
            if let Some(number) = number {
                route[key] = number.into();
            }
        }
    }
    route
}

/// The result of the previous plugin.
#[derive(Debug, Clone)]
pub(crate) struct Previous<'a>(Fields<'a>);

impl<'a> Previous<'a> {
    /// The configuration's `prevResult`, if there is one.
    pub(crate) fn of(configuration: &Fields<'a>) -> Result<Option<Self>, Failure> {
        Ok(configuration.object("prevResult")?.map(Self))
    }

    /// The addresses of the container's interface of that name. Addresses that name no interface count as its own.
    pub(crate) fn addresses(&self, ifname: &str) -> Result<Vec<AddressRequest>, Failure> {
        let Self(fields) = self;
        let (index, _) = self.interface(ifname)?;
        let mut addresses = Vec::new();
        for ip in fields.objects("ips")? {
            if ip.number("interface")?.is_none_or(|at: usize| at == index) {
                let address = ip.text("address")?.ok_or_else(|| ip.wrong("address", "it is missing"))?.to_owned();
                addresses.push(AddressRequest { address, gateway: ip.ip("gateway")? });
            }
        }
        if addresses.is_empty() {
            return Err(fields.wrong("ips", format!("it has no address of interface {ifname:?}")));
        }
        Ok(addresses)
    }

    /// The MAC address and the MTU of that interface, if given.
    pub(crate) fn link(&self, ifname: &str) -> Result<(Option<String>, Option<u32>), Failure> {
        let (_, interface) = self.interface(ifname)?;
        Ok((interface.text("mac")?.map(str::to_owned), interface.number("mtu")?.filter(|mtu| *mtu != 0)))
    }

    /// The container's interface of that name, and its index in the list.
    fn interface(&self, ifname: &str) -> Result<(usize, Fields<'a>), Failure> {
        let mut found = None;
        for (at, interface) in self.0.objects("interfaces")?.into_iter().enumerate() {
            if interface.text("name")? == Some(ifname) && interface.text("sandbox")?.is_some() {
                found = Some((at, interface));
            }
        }
        let why = format!("it has no interface {ifname:?} with a sandbox");
        found.ok_or_else(|| self.0.wrong("interfaces", why))
    }

    /// Its resolver settings.
    pub(crate) fn dns(&self) -> Result<Resolver, Failure> {
        let dns = self.0.object("dns")?;
        dns.map(|dns| Resolver::from_runtime(&dns, "nameservers", "search")).transpose().map(Option::unwrap_or_default)
    }
}

/// The previous result passed on: in that version, with that `dns`, and otherwise unchanged. The keys that netd reads
/// get the spec's spelling, so that none of them occurs twice.
pub(crate) fn handed_on(previous: &Value, version: Version, dns: &Resolver) -> Value {
    let mut result = previous.clone();
    if let Value::Object(result) = &mut result {
        respell(result, &["cniVersion", "interfaces", "ips", "routes", "dns"]);
    }
    entries(&mut result, "interfaces").for_each(|interface| respell(interface, &NEW_IN_INTERFACES));
    entries(&mut result, "ips").for_each(|ip| respell(ip, &["version", "address"]));
    entries(&mut result, "routes").for_each(|route| respell(route, &NEW_IN_ROUTES));
    let was = result.get("cniVersion").and_then(Value::as_str).and_then(Version::parse).unwrap_or(version);
    for ip in entries(&mut result, "ips") {
        let family = ip.get("address").and_then(Value::as_str).map(family);
        match family.filter(|_| version.names_families()) {
            Some(family) => drop(ip.insert("version".into(), family.into())),
            None => drop(ip.remove("version")),
        }
    }
    if was.has_details() && !version.has_details() {
        for (key, new) in [("interfaces", &NEW_IN_INTERFACES[..]), ("routes", &NEW_IN_ROUTES[..])] {
            entries(&mut result, key).for_each(|entry| entry.retain(|key, _| !new.contains(&key.as_str())));
        }
    }
    result["cniVersion"] = version.as_str().into();
    if let Some(dns) = dns.json() {
        result["dns"] = dns;
    }
    result
}

/// The objects of a list in a result.
fn entries<'a>(result: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    result.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}
