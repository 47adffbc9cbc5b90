//! Standard input: the network configuration, as far as every command needs it, and netd's own keys.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::fields::Fields;
use super::resolver::Resolver;
use super::version::Version;
use crate::api::v1::{CreateNetwork, SubnetObject, SubnetRequest};
use crate::faces::cli::DEFAULT_SOCKET;
use crate::faces::cni::failure::{DECODE, Failure, INCOMPATIBLE_VERSION, INVALID_CONFIGURATION};
use crate::model::Invalid;
use crate::model::names::NetworkName;
use crate::model::network::{DnsListen, HostAccess};
use crate::model::publication::PublishMode;
use crate::model::upstream::Upstream;

/// The keys of a network configuration that `ADD` and `STATUS` know: those of the protocol and of libcni, then netd's
/// own.
const KEYS: [&str; 36] = [
    "cniVersion",
    "cniVersions",
    "name",
    "type",
    "plugins",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "capabilities",
    "runtimeConfig",
    "args",
    "prevResult",
    "ipam",
    "dns",
    "network",
    "driver",
    "options",
    "subnets",
    "gateway",
    "internal",
    "icc",
    "ipMasq",
    "mtu",
    "ipv6",
    "aliases",
    "labels",
    "bandwidth",
    "upstreams",
    "dnsListen",
    "hostAccess",
    "sticky",
    "trusted",
    "publish",
    "egress",
    "egressAllow",
    "socket",
];

/// A configuration: an object with a name and a supported version.
#[derive(Debug)]
pub(crate) struct Configuration<'a> {
    pub(crate) version: Version,
    /// The name of the runtime's network, which is the owner of its attachments.
    pub(crate) name: NetworkName,
    pub(crate) fields: Fields<'a>,
}

/// Parses standard input as an object.
pub(crate) fn document(stdin: &[u8]) -> Result<Map<String, Value>, Failure> {
    let wrong =
        |why: String| Failure::new(DECODE, format!("decode the network configuration on standard input: {why}"));
    if stdin.trim_ascii().is_empty() {
        return Err(wrong("it is empty".into()));
    }
    match serde_json::from_slice(stdin) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(wrong("it is not a JSON object".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The version in which to report errors of this document.
pub(crate) fn version_of(document: &Map<String, Value>) -> Version {
    Fields::root(document).get("cniVersion").and_then(Value::as_str).and_then(Version::parse).unwrap_or(Version::NEWEST)
}

impl<'a> Configuration<'a> {
    /// Reads what every command needs, in the order of libcni's skel.
    pub(crate) fn read(document: &'a Map<String, Value>) -> Result<Self, Failure> {
        let fields = Fields::root(document);
        let missing = || Failure::new(INVALID_CONFIGURATION, "missing network name: the key \"name\" has no value");
        let name = fields.parse("name")?.ok_or_else(missing)?;
        let version = match fields.get("cniVersion") {
            // Spec 0.1.0 had no such key.
            None => "0.1.0",
            Some(Value::String(text)) if text.is_empty() => "0.1.0",
            Some(Value::String(text)) => text,
            Some(other) => return Err(Failure::new(DECODE, format!("decode \"cniVersion\": {other} is not a string"))),
        };
        let version = Version::parse(version).ok_or_else(|| {
            let details = format!("config is {version:?}, plugin supports {:?}", Version::supported());
            Failure::new(INCOMPATIBLE_VERSION, "incompatible CNI versions").details(details)
        })?;
        Ok(Self { version, name, fields })
    }

    /// Refuses a command that the configuration's version does not have.
    pub(crate) fn since(&self, first: Version, command: &str) -> Result<(), Failure> {
        if self.version >= first {
            return Ok(());
        }
        let details = format!("config is {:?}, {command} came with {:?}", self.version.as_str(), first.as_str());
        Err(Failure::new(INCOMPATIBLE_VERSION, format!("config version does not allow {command}")).details(details))
    }

    /// Refuses unknown keys instead of ignoring them: a misspelt `internal` must not open a network. Commands that
    /// clean up do not check this.
    pub(crate) fn check_keys(&self) -> Result<(), Failure> {
        self.fields.only(&KEYS)
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, Failure> {
        Ok(self.fields.text("socket")?.unwrap_or(DEFAULT_SOCKET).into())
    }

    /// The IPAM plugin, unless netd gives the addresses. An empty `ipam` means none, as in the reference plugins.
    pub(crate) fn ipam(&self) -> Result<Option<&'a str>, Failure> {
        let Some(ipam) = self.fields.object("ipam")? else { return Ok(None) };
        match ipam.text("type")? {
            Some(kind) if kind.contains(['/', '\\']) || kind.starts_with('.') => {
                Err(ipam.wrong("type", "use the name of a program"))
            }
            None if ipam.get("type").is_some() || !ipam.is_empty() => {
                Err(self.fields.wrong("ipam", "its type is missing, as in {\"type\": \"host-local\"}"))
            }
            kind => Ok(kind),
        }
    }

    /// The name of netd's network.
    pub(crate) fn network_name(&self) -> Result<NetworkName, Failure> {
        Ok(self.fields.parse("network")?.unwrap_or_else(|| self.name.clone()))
    }

    /// The network to create if netd has none of that name.
    pub(crate) fn network(&self) -> Result<CreateNetwork, Failure> {
        let fields = &self.fields;
        let listen = fields.parse::<DnsListen>("dnsListen")?.map(|listen| ("dns.listen", listen.as_str().to_owned()));
        let trusted = fields.boolean("trusted")?.map(|trusted| ("trusted", trusted.to_string()));
        let given = fields.texts_by_key("options")?;
        let publish = fields.parse::<PublishMode>("publish")?.map(|mode| ("publish", mode.to_string()));
        let options = listen.into_iter().chain(trusted).chain(publish).map(|(key, value)| (key.to_owned(), value));
        Ok(CreateNetwork {
            name: self.network_name()?.to_string(),
            driver: fields.text("driver")?.map(str::to_owned),
            subnets: subnets(fields)?,
            gateways: fields.text_or_texts("gateway")?,
            ipv6: fields.boolean("ipv6")?.unwrap_or(false),
            internal: fields.boolean("internal")?.unwrap_or(false),
            icc: fields.boolean("icc")?,
            masquerade: fields.boolean("ipMasq")?,
            // 0 means unspecified, as in the reference plugins.
            mtu: fields.number("mtu")?.filter(|mtu| *mtu != 0),
            dns: upstreams(fields)?,
            host_access: fields.parse::<HostAccess>("hostAccess")?.map(|access| access.as_str().to_owned()),
            sticky: fields.boolean("sticky")?,
            options: given.into_iter().chain(options).collect(),
            ..CreateNetwork::default()
        })
    }

    /// The administrator's settings for the container's resolv.conf.
    pub(crate) fn dns(&self) -> Result<Resolver, Failure> {
        let Some(dns) = self.fields.object("dns")? else { return Ok(Resolver::default()) };
        dns.only(&["nameservers", "domain", "search", "options"])?;
        Resolver::asked(&dns, "nameservers", "search")
    }

    /// The runtime's settings for it, which have no domain.
    pub(crate) fn runtime_dns(&self) -> Result<Resolver, Failure> {
        let runtime = self.fields.object("runtimeConfig")?;
        let Some(dns) = runtime.map(|runtime| runtime.object("dns")).transpose()?.flatten() else {
            return Ok(Resolver::default());
        };
        Ok(Resolver { domain: None, ..Resolver::asked(&dns, "servers", "searches")? })
    }
}

/// The upstreams for names that are not local. Errors name their key.
fn upstreams(fields: &Fields<'_>) -> Result<Vec<Upstream>, Failure> {
    let upstreams = fields.text_or_texts("upstreams")?;
    let wrong = |invalid: Invalid| fields.wrong("upstreams", format!("{:?}: {}", invalid.value, invalid.why));
    upstreams.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(wrong)
}

/// Each is `"10.77.0.0/24"`, or an object with gateway and range.
fn subnets(fields: &Fields<'_>) -> Result<Vec<SubnetRequest>, Failure> {
    if let Some(Value::String(_)) = fields.get("subnets") {
        return Ok(fields.text_or_texts("subnets")?.into_iter().map(SubnetRequest::Prefix).collect());
    }
    let at = |index: usize| format!("{}[{index}]", fields.at("subnets"));
    let one = |(index, value): (usize, &Value)| match value {
        Value::String(prefix) => Ok(SubnetRequest::Prefix(prefix.clone())),
        Value::Object(_) => {
            let subnet = Fields::of(value, at(index))?;
            subnet.only(&["subnet", "gateway", "ip_range", "ipRange"])?;
            let range = if subnet.get("ipRange").is_some() { "ipRange" } else { "ip_range" };
            Ok(SubnetRequest::Object(SubnetObject {
                subnet: subnet.text("subnet")?.ok_or_else(|| subnet.wrong("subnet", "it is missing"))?.to_owned(),
                gateway: subnet.text("gateway")?.map(str::to_owned),
                ip_range: subnet.text(range)?.map(str::to_owned),
            }))
        }
        other => Err(Failure::value(&at(index), other, "use a prefix as in \"10.77.0.0/24\", or an object")),
    };
    fields.list("subnets")?.iter().enumerate().map(one).collect()
}
