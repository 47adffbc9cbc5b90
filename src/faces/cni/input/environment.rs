//! The parameters of a call: the variables `CNI_*` (CNI spec 1.1.0, section 2) and the content of `CNI_ARGS`.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::str::FromStr;

use crate::faces::cni::failure::{Failure, INVALID_ENVIRONMENT};
use crate::faces::shared::client::segment;
use crate::model::Invalid;
use crate::model::address::Mac;
use crate::model::ids::ContainerId;
use crate::model::names::{ContainerName, IfName};

/// Keys of `CNI_ARGS` that netd or known IPAM plugins use, and those that runtimes always send.
const ARGUMENTS: [&str; 8] = [
    "IgnoreUnknown",
    "IP",
    "MAC",
    "GATEWAY",
    "K8S_POD_NAME",
    "K8S_POD_NAMESPACE",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
];

/// The command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The environment of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Environment<'a>(pub(crate) &'a [(OsString, OsString)]);

/// Identifies the attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachedInterface {
    pub(crate) container: ContainerId,
    pub(crate) ifname: IfName,
    /// As the runtime wrote it. Only `DEL` works without it.
    pub(crate) netns: Option<String>,
}

/// The relevant content of `CNI_ARGS`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// With or without prefix length.
    pub(crate) ips: Vec<String>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) mac: Option<Mac>,
    pub(crate) pod: Option<ContainerName>,
    pub(crate) pod_namespace: Option<ContainerName>,
}

impl<'a> Environment<'a> {
    /// A variable. An empty one counts as missing.
    pub(crate) fn raw(self, name: &str) -> Option<&'a OsStr> {
        let value = self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str());
        value.filter(|value| !value.is_empty())
    }

    fn text(self, name: &str) -> Result<Option<&'a str>, Failure> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let text = value.to_str();
        text.map(Some).ok_or_else(|| Failure::environment(name, &value.to_string_lossy(), "it is not UTF-8"))
    }

    fn parse<T: FromStr<Err = Invalid>>(self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|invalid: Invalid| Failure::environment(name, text, invalid.why))
    }

    /// The command. `None` if there is none.
    pub(crate) fn command(self) -> Result<Option<Command>, Failure> {
        let Some(command) = self.text("CNI_COMMAND")? else { return Ok(None) };
        Ok(Some(match command {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => return Err(Failure::new(INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {other}"))),
        }))
    }

    /// The attachment to process. The error names all missing variables at once.
    pub(crate) fn target(self, netns_needed: bool) -> Result<AttachedInterface, Failure> {
        let container = self.parse("CNI_CONTAINERID")?;
        let netns = self.text("CNI_NETNS")?.map(str::to_owned);
        let ifname = self.parse("CNI_IFNAME")?;
        if let (Some(container), Some(ifname), false) = (&container, &ifname, netns_needed && netns.is_none()) {
            return Ok(AttachedInterface { container: Clone::clone(container), ifname: Clone::clone(ifname), netns });
        }
        let needed = [
            ("CNI_CONTAINERID", container.is_none()),
            ("CNI_NETNS", netns_needed && netns.is_none()),
            ("CNI_IFNAME", ifname.is_none()),
        ];
        Err(missing(&needed.into_iter().filter_map(|(name, is)| is.then_some(name)).collect::<Vec<_>>()))
    }

    /// Whether the runtime allows the plugin's own network namespace.
    pub(crate) fn may_be_own_netns(self) -> bool {
        self.raw("CNI_NETNS_OVERRIDE").is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// `CNI_ARGS`: `KEY=VALUE` pairs separated by `;`.
    pub(crate) fn arguments(self) -> Result<Arguments, Failure> {
        let text = self.text("CNI_ARGS")?.unwrap_or_default();
        let wrong = |why: String| Failure::environment("CNI_ARGS", text, why);
        let mut pairs = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            pairs.push(pair.split_once('=').ok_or_else(|| wrong(format!("{pair:?} is not KEY=VALUE")))?);
        }
        // The last one counts, as in libcni's parser.
        let value = |key: &str| pairs.iter().rev().find(|(other, _)| *other == key).map(|(_, value)| *value);
        let given = |key: &str| value(key).filter(|value| !value.is_empty());
        let ignore = match value("IgnoreUnknown").map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true") => true,
            None | Some("0" | "false") => false,
            Some(other) => return Err(wrong(format!("IgnoreUnknown is {other:?}, not 1, true, 0 or false"))),
        };
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !ignore && !ARGUMENTS.contains(key)) {
            return Err(wrong(format!("{key:?} is not known; IgnoreUnknown=1 ignores it")));
        }
        let listed = |key: &str| given(key).into_iter().flat_map(|list| list.split(',').map(str::trim));
        let gateway = |text: &str| text.parse().map_err(|_| wrong(format!("GATEWAY {text:?} is not an IP address")));
        let named = |key: &str, invalid: Invalid| wrong(format!("{key} {:?}: {}", invalid.value, invalid.why));
        Ok(Arguments {
            ips: listed("IP").map(str::to_owned).collect(),
            gateways: listed("GATEWAY").map(gateway).collect::<Result<_, _>>()?,
            mac: given("MAC").map(|text| text.parse().map_err(|why| named("MAC", why))).transpose()?,
            pod: given("K8S_POD_NAME")
                .map(|text| text.parse().map_err(|why| named("K8S_POD_NAME", why)))
                .transpose()?,
            pod_namespace: given("K8S_POD_NAMESPACE")
                .map(|text| text.parse().map_err(|why| named("K8S_POD_NAMESPACE", why)))
                .transpose()?,
        })
    }
}

/// Missing variables, with libcni's message.
pub(crate) fn missing(names: &[&str]) -> Failure {
    Failure::new(INVALID_ENVIRONMENT, format!("required env variables [{}] missing", names.join(",")))
}

/// The path of an attachment in the daemon's API.
pub(crate) fn attachment_path(owner: &str, target: &AttachedInterface) -> String {
    let [owner, container, ifname] = [owner, target.container.as_str(), target.ifname.as_str()].map(segment);
    format!("/v1/attachments/{owner}/{container}/{ifname}")
}
