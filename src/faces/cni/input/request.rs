//! The request to the daemon, built from the configuration, the runtime's parameters in it, and `CNI_ARGS`.
//!
//! If several give the same parameter, `runtimeConfig` takes precedence over `args.cni`, that over `CNI_ARGS`, and that
//! over the configuration's own keys (CNI's CONVENTIONS.md). Aliases are combined.

use std::collections::HashSet;
use std::net::IpAddr;

use super::configuration::Configuration;
use super::egress::egress;
use super::environment::Arguments;
use super::fields::{Fields, push_new};
use super::labels::{self, labels};
use crate::api::v1::{
    AddressRange, AddressRequest, Attach, Bandwidth, CreateNetwork, PortObject, PortRequest, SubnetRequest,
};
use crate::faces::cni::failure::{Failure, INVALID_CONFIGURATION};
use crate::model::address::{Family, Mac, Subnet};
use crate::model::names::{Alias, ContainerName};
use crate::model::publication::Protocol;

/// The capabilities that netd supports.
const CAPABILITIES: [&str; 8] =
    ["portMappings", "ips", "mac", "aliases", "bandwidth", "dns", "ipRanges", labels::ANNOTATIONS];
const LIMITS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
const RANGE: [&str; 4] = ["subnet", "rangeStart", "rangeEnd", "gateway"];
const MAPPING: [&str; 4] = ["hostPort", "containerPort", "protocol", "hostIP"];
const RESOLVER: [&str; 3] = ["servers", "searches", "options"];
/// The keys of `args.cni`.
const ARGUMENTS: [&str; 6] = ["ips", "mac", "aliases", "labels", "egress", "egressAllow"];

/// Builds the request. The caller adds the interface, and the addresses that other plugins give.
pub(crate) fn attach(conf: &Configuration<'_>, netns: String, arguments: &Arguments) -> Result<Attach, Failure> {
    conf.check_keys()?;
    let runtime = conf.fields.object("runtimeConfig")?;
    let args = conf.fields.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
    let mut network = conf.network()?;
    let ranges = ranges(runtime.as_ref(), &mut network)?;
    let (name, scope, aliases) = names(conf, [runtime.as_ref(), args.as_ref()], arguments)?;
    let (stance, allow) = egress(&conf.fields, runtime.as_ref())?;
    Ok(Attach {
        netns,
        network,
        name,
        scope,
        aliases,
        labels: labels(&conf.fields, runtime.as_ref())?,
        addresses: addresses(runtime.as_ref(), args.as_ref(), arguments)?,
        ranges,
        mac: mac(runtime.as_ref(), args.as_ref(), arguments)?,
        ports: ports(runtime.as_ref())?,
        bandwidth: bandwidth(runtime.as_ref(), &conf.fields)?,
        egress: stance,
        egress_allow: allow,
        ..Attach::default()
    })
}

/// The paths of the runtime's keys that netd does not know. Runtimes add keys over time, so they are ignored.
pub(crate) fn ignored(conf: &Configuration<'_>) -> Result<Vec<String>, Failure> {
    let mut ignored = Vec::new();
    if let Some(args) = conf.fields.object("args")? {
        args.note_unknown(&["cni", "labels", "egress", "egressAllow"], &mut ignored);
        args.object("cni")?.iter().for_each(|cni| cni.note_unknown(&ARGUMENTS, &mut ignored));
    }
    let Some(runtime) = conf.fields.object("runtimeConfig")? else { return Ok(ignored) };
    runtime.note_unknown(&CAPABILITIES, &mut ignored);
    runtime.objects("portMappings")?.iter().for_each(|mapping| mapping.note_unknown(&MAPPING, &mut ignored));
    runtime.object("bandwidth")?.iter().for_each(|limits| limits.note_unknown(&LIMITS, &mut ignored));
    runtime.object("dns")?.iter().for_each(|dns| dns.note_unknown(&RESOLVER, &mut ignored));
    for (pool, ranges) in runtime.list("ipRanges")?.iter().enumerate() {
        for (index, range) in ranges.as_array().into_iter().flatten().enumerate() {
            let at = format!("{}[{pool}][{index}]", runtime.at("ipRanges"));
            Fields::of(range, at).iter().for_each(|range| range.note_unknown(&RANGE, &mut ignored));
        }
    }
    Ok(ignored)
}

type Names = (Option<String>, Option<String>, Vec<Alias>);

/// The container's name, its scope, and its other names.
fn names(conf: &Configuration<'_>, dynamic: [Option<&Fields<'_>>; 2], arguments: &Arguments) -> Result<Names, Failure> {
    let mut given: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for source in dynamic.into_iter().flatten().chain([&conf.fields]) {
        given
            .extend(source_aliases(source, conf.name.as_str())?.into_iter().filter(|alias| seen.insert(alias.clone())));
    }
    let aliases = |given: &[String]| {
        let aliases = given.iter().map(|alias| alias.parse::<Alias>()).collect::<Result<_, _>>();
        aliases.map_err(|invalid| Failure::new(INVALID_CONFIGURATION, invalid.to_string()))
    };
    if let Some(pod) = &arguments.pod {
        let scope = arguments.pod_namespace.as_ref().map(ToString::to_string);
        return Ok((Some(pod.to_string()), scope, aliases(&given)?));
    }
    // Not every DNS name is a valid container name.
    match given.split_first() {
        Some((first, rest)) if first.parse::<ContainerName>().is_ok() => {
            Ok((Some(first.clone()), None, aliases(rest)?))
        }
        _ => Ok((None, None, aliases(&given)?)),
    }
}

/// A list, as in the convention, or a list per network, as Podman sends it.
fn source_aliases(source: &Fields<'_>, network: &str) -> Result<Vec<String>, Failure> {
    match source.get("aliases") {
        Some(serde_json::Value::Object(_)) => {
            source.object("aliases")?.map_or(Ok(Vec::new()), |networks| networks.texts_named(network))
        }
        _ => source.texts("aliases"),
    }
}

fn addresses(
    runtime: Option<&Fields<'_>>,
    args: Option<&Fields<'_>>,
    arguments: &Arguments,
) -> Result<Vec<AddressRequest>, Failure> {
    for source in [runtime, args].into_iter().flatten() {
        let ips = source.text_or_texts("ips")?;
        if !ips.is_empty() {
            return Ok(ips.into_iter().map(|address| AddressRequest { address, gateway: None }).collect());
        }
    }
    Ok(arguments.ips.iter().map(|ip| with_gateway(ip.clone(), &arguments.gateways)).collect())
}

fn with_gateway(address: String, gateways: &[IpAddr]) -> AddressRequest {
    let gateway = gateways.iter().find(|gateway| gateway.is_ipv6() == address.contains(':')).copied();
    AddressRequest { address, gateway }
}

fn mac(runtime: Option<&Fields<'_>>, args: Option<&Fields<'_>>, arguments: &Arguments) -> Result<Option<Mac>, Failure> {
    for source in [runtime, args].into_iter().flatten() {
        if let Some(mac) = source.parse("mac")? {
            return Ok(Some(mac));
        }
    }
    Ok(arguments.mac)
}

/// `ipRanges`: a list of pools for each address. netd gives one address of each family, so each family has one pool. A
/// network that is created now gets its subnets from them, unless the configuration has subnets.
fn ranges(runtime: Option<&Fields<'_>>, network: &mut CreateNetwork) -> Result<Vec<AddressRange>, Failure> {
    let Some(runtime) = runtime else { return Ok(Vec::new()) };
    let (mut ranges, mut families) = (Vec::new(), Vec::new());
    let (mut subnets, mut gateways): (Vec<String>, Vec<String>) = Default::default();
    for (index, pool) in runtime.list("ipRanges")?.iter().enumerate().filter(|(_, pool)| !pool.is_null()) {
        let at = format!("{}[{index}]", runtime.at("ipRanges"));
        let pool_ranges = pool.as_array().ok_or_else(|| Failure::value(&at, pool, "use a list of ranges"))?;
        let mut own: Option<Family> = None;
        for (index, range) in pool_ranges.iter().enumerate().filter(|(_, range)| !range.is_null()) {
            let range = Fields::of(range, format!("{at}[{index}]"))?;
            let subnet: Subnet = range.parse("subnet")?.ok_or_else(|| range.wrong("subnet", "it is missing"))?;
            if *own.get_or_insert(subnet.family()) != subnet.family() {
                return Err(Failure::value(&at, pool, "a pool is of one address family"));
            }
            push_new(&mut subnets, subnet.to_string());
            if let Some(gateway) = range.ip("gateway")? {
                push_new(&mut gateways, gateway.to_string());
            }
            let (first, last) = (range.ip("rangeStart")?, range.ip("rangeEnd")?);
            ranges.push(AddressRange { subnet: subnet.to_string(), first, last });
        }
        if own.is_some_and(|family| families.contains(&family)) {
            return Err(Failure::value(
                &at,
                pool,
                "netd gives one address of each family: put its ranges into one list",
            ));
        }
        families.extend(own);
    }
    made_of(network, subnets, gateways);
    Ok(ranges)
}

/// Sets the subnets and gateways of a network that is created now, if the configuration has none.
pub(crate) fn made_of(network: &mut CreateNetwork, subnets: Vec<String>, gateways: Vec<String>) {
    if network.subnets.is_empty() {
        network.subnets = subnets.into_iter().map(SubnetRequest::Prefix).collect();
        if network.gateways.is_empty() {
            network.gateways = gateways;
        }
    }
}

fn ports(runtime: Option<&Fields<'_>>) -> Result<Vec<PortRequest>, Failure> {
    let Some(runtime) = runtime else { return Ok(Vec::new()) };
    runtime.objects("portMappings")?.iter().map(port).collect()
}

fn port(mapping: &Fields<'_>) -> Result<PortRequest, Failure> {
    let number = |key: &str| {
        let number = mapping.number::<u16>(key)?.filter(|port| *port != 0);
        number.ok_or_else(|| mapping.wrong(key, "use a port from 1 to 65535"))
    };
    Ok(PortRequest::Object(PortObject {
        host_ip: mapping.ip("hostIP")?,
        host_port: Some(number("hostPort")?),
        host_port_end: None,
        container_port: number("containerPort")?,
        container_port_end: None,
        protocol: Some(mapping.parse("protocol")?.unwrap_or(Protocol::Tcp)),
        publish: None,
    }))
}

/// The runtime's limits, or else those of the configuration.
fn bandwidth(runtime: Option<&Fields<'_>>, configuration: &Fields<'_>) -> Result<Option<Bandwidth>, Failure> {
    let ours = configuration.object("bandwidth")?;
    ours.as_ref().map_or(Ok(()), |ours| ours.only(&LIMITS))?;
    let limits = runtime.map(|runtime| runtime.object("bandwidth")).transpose()?.flatten().or(ours);
    let Some(limits) = limits else { return Ok(None) };
    let limit = |rate: &str, burst: &str| {
        let both = [limits.number::<u64>(rate)?, limits.number::<u64>(burst)?].map(|number| number.filter(|n| *n != 0));
        match both {
            [Some(_), None] => Err(limits.wrong(rate, format!("it needs {burst}, in bits"))),
            [None, Some(_)] => Err(limits.wrong(burst, format!("it needs {rate}, in bits per second"))),
            both => Ok(both),
        }
    };
    let [ingress_rate, ingress_burst] = limit("ingressRate", "ingressBurst")?;
    let [egress_rate, egress_burst] = limit("egressRate", "egressBurst")?;
    let limited = ingress_rate.or(egress_rate).is_some();
    Ok(limited.then_some(Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst }))
}

/// The absolute form of a path, because the daemon has another working directory.
pub(crate) fn absolute(netns: &str) -> Result<String, Failure> {
    let path = std::path::absolute(netns).map_err(|error| Failure::environment("CNI_NETNS", netns, error))?;
    let text = path.into_os_string().into_string();
    text.map_err(|_| Failure::new(INVALID_CONFIGURATION, format!("the path of {netns:?} is not UTF-8")))
}
