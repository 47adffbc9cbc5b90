//! The work of a runtime with a conflist, as in libcni: the plugins in order with the result of the one before, the
//! capabilities that a plugin declares and the runtime supplies, DEL in reverse with the last result, CHECK, GC,
//! STATUS.
//!
//! Sources: CNI spec 1.1.0 section 3 to 5; libcni/api.go and libcni/conf.go of containernetworking/cni.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::lab::command::{Out, run_with_input};

/// The newest version of the spec that this libcni knows.
const NEWEST: Version = (1, 1, 0);

type Version = (u32, u32, u32);

/// A network configuration list.
#[derive(Debug, Clone)]
pub(crate) struct ConfList {
    /// The name of the network.
    pub(crate) name: String,
    /// The version of the spec in use: the newest known of those offered.
    pub(crate) version: String,
    plugins: Vec<Map<String, Value>>,
    disable_check: bool,
    disable_gc: bool,
}

impl ConfList {
    /// Reads a file.
    #[track_caller]
    pub(crate) fn load(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        Self::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
    }

    /// Reads a text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let name = value["name"].as_str().ok_or("no name")?.to_owned();
        let offered = value["cniVersions"].as_array().cloned().unwrap_or_default();
        let offered = offered.iter().chain([&value["cniVersion"]]).filter_map(Value::as_str);
        let known = offered.filter_map(|text| Some((version(text)?, text))).filter(|(version, _)| *version <= NEWEST);
        let plugins = value["plugins"].as_array().filter(|plugins| !plugins.is_empty()).ok_or("no plugins")?;
        let object = |plugin: &Value| plugin.as_object().cloned().ok_or("a plugin that is no object");
        let plugins = plugins.iter().map(object).collect::<Result<Vec<_>, _>>()?;
        if let Some(nameless) = plugins.iter().find(|plugin| !plugin.get("type").is_some_and(Value::is_string)) {
            return Err(format!("a plugin without a type: {nameless:?}"));
        }
        Ok(Self {
            name,
            version: known.max().map_or("0.1.0", |(_, text)| text).to_owned(),
            plugins,
            disable_check: truth(&value["disableCheck"])?,
            disable_gc: truth(&value["disableGC"])?,
        })
    }

    /// The types of its plugins, in order.
    pub(crate) fn types(&self) -> Vec<&str> {
        self.plugins.iter().filter_map(|plugin| plugin["type"].as_str()).collect()
    }

    /// The same configuration under another name, speaking this version of the spec.
    pub(crate) fn speaking(mut self, name: &str, version: &str) -> Self {
        (self.name, self.version) = (name.to_owned(), version.to_owned());
        self
    }

    fn at_least(&self, wanted: Version) -> bool {
        version(&self.version).is_some_and(|spoken| spoken >= wanted)
    }

    /// The plugin's input: its own object with what the list and the runtime add.
    fn input(&self, plugin: &Map<String, Value>, more: impl IntoIterator<Item = (&'static str, Value)>) -> String {
        let mut input = plugin.clone();
        input.insert("name".to_owned(), json!(self.name));
        input.insert("cniVersion".to_owned(), json!(self.version));
        input.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
        Value::Object(input).to_string()
    }
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?))
}

/// libcni takes true, false, and both as text.
fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(format!("neither true nor false: {other}")),
    }
}

/// One container on one network: what the runtime says, and the result that it keeps.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    /// `CNI_CONTAINERID`.
    pub(crate) id: String,
    /// `CNI_NETNS`; empty when it has vanished.
    pub(crate) netns: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
    /// `CNI_ARGS`.
    pub(crate) args: Vec<(String, String)>,
    /// Values by the name of their capability.
    pub(crate) capabilities: BTreeMap<String, Value>,
    /// The result of the last ADD.
    pub(crate) result: Option<Value>,
}

impl Attachment {
    /// The `eth0` of a container whose network namespace has its name.
    pub(crate) fn of(name: &str, id: &str) -> Self {
        let args = vec![("IgnoreUnknown".to_owned(), "1".to_owned()), ("K8S_POD_NAME".to_owned(), name.to_owned())];
        Self {
            id: id.to_owned(),
            netns: format!("/run/netns/{name}"),
            ifname: "eth0".to_owned(),
            args,
            capabilities: BTreeMap::new(),
            result: None,
        }
    }

    /// The same with a capability's value.
    pub(crate) fn with(mut self, capability: &str, value: Value) -> Self {
        self.capabilities.insert(capability.to_owned(), value);
        self
    }

    /// The addresses of the kept result, without prefix lengths.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let ips = self.result.as_ref().and_then(|result| result["ips"].as_array().cloned()).unwrap_or_default();
        let address = |ip: &Value| ip["address"].as_str().and_then(|text| text.split('/').next()).map(str::to_owned);
        ips.iter().filter_map(address).collect()
    }

    /// The name servers of the kept result.
    pub(crate) fn nameservers(&self) -> Vec<String> {
        let result = self.result.as_ref();
        let servers = result.and_then(|result| result["dns"]["nameservers"].as_array().cloned()).unwrap_or_default();
        servers.iter().filter_map(|server| server.as_str().map(str::to_owned)).collect()
    }

    fn runtime_config(&self, plugin: &Map<String, Value>) -> Option<(&'static str, Value)> {
        let declared = plugin.get("capabilities").and_then(Value::as_object)?;
        let wanted = self.capabilities.iter().filter(|(name, _)| declared.get(*name) == Some(&Value::Bool(true)));
        let config: Map<String, Value> = wanted.map(|(name, value)| (name.clone(), value.clone())).collect();
        (!config.is_empty()).then_some(("runtimeConfig", Value::Object(config)))
    }
}

/// An attachment as GC knows it: (container id, interface name).
pub(crate) type Valid<'a> = (&'a str, &'a str);

/// The failure of a plugin.
#[derive(Clone)]
pub(crate) struct Refusal {
    /// The plugin's type and the command.
    pub(crate) what: String,
    /// The spec's error code; `None`: no error object on its standard output.
    pub(crate) code: Option<u64>,
    /// The error's message and details.
    pub(crate) message: String,
    /// Its whole output.
    pub(crate) out: Out,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed, code {:?}: {}{:?}", self.what, self.code, self.message, self.out)
    }
}

/// A runtime: where it runs, and where it looks for plugins.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// The network namespace that plays the host.
    pub(crate) ns: String,
    /// `CNI_PATH`.
    pub(crate) path: Vec<String>,
}

impl Runtime {
    /// Attaches; the result is returned and kept in the attachment.
    pub(crate) fn add(&self, list: &ConfList, attachment: &mut Attachment) -> Result<Value, Box<Refusal>> {
        let mut result = None;
        for plugin in &list.plugins {
            let previous = result.take().map(|result| ("prevResult", result));
            let input = list.input(plugin, attachment.runtime_config(plugin).into_iter().chain(previous));
            let out = self.call(plugin, "ADD", attachment, &input)?;
            result = Some(out.json());
        }
        attachment.result.clone_from(&result);
        Ok(result.expect("a list has plugins"))
    }

    /// Asks whether everything is as the result says.
    pub(crate) fn check(&self, list: &ConfList, attachment: &Attachment) -> Result<(), Box<Refusal>> {
        assert!(list.at_least((0, 4, 0)), "CHECK is not in version {}", list.version);
        let plugins = list.plugins.iter().filter(|_| !list.disable_check);
        self.all(list, plugins, "CHECK", attachment)
    }

    /// Detaches; the kept result stays, so that it can be done again.
    pub(crate) fn del(&self, list: &ConfList, attachment: &Attachment) -> Result<(), Box<Refusal>> {
        self.all(list, list.plugins.iter().rev(), "DEL", attachment)
    }

    /// Removes all attachments of the network that plugins know, except these.
    pub(crate) fn gc(&self, list: &ConfList, valid: &[Valid<'_>]) -> Result<(), Vec<Refusal>> {
        if list.disable_gc || !list.at_least((1, 1, 0)) {
            return Ok(());
        }
        let valid: Vec<Value> = valid.iter().map(|(id, ifname)| json!({"containerID": id, "ifname": ifname})).collect();
        let call = |plugin| {
            // libcni sends both spellings of the key.
            let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"].map(|key| (key, json!(valid)));
            self.call(plugin, "GC", &nothing(), &list.input(plugin, keys)).err().map(|refusal| *refusal)
        };
        let refusals: Vec<Refusal> = list.plugins.iter().filter_map(call).collect();
        if refusals.is_empty() { Ok(()) } else { Err(refusals) }
    }

    /// Asks whether the plugins are ready for ADD.
    pub(crate) fn status(&self, list: &ConfList) -> Result<(), Box<Refusal>> {
        let plugins = list.plugins.iter().filter(|_| list.at_least((1, 1, 0)));
        self.all(list, plugins, "STATUS", &nothing())
    }

    fn all<'a>(
        &self,
        list: &ConfList,
        mut plugins: impl Iterator<Item = &'a Map<String, Value>>,
        command: &str,
        attachment: &Attachment,
    ) -> Result<(), Box<Refusal>> {
        plugins.try_for_each(|plugin| {
            let kept = attachment.result.clone().filter(|_| list.at_least((0, 4, 0)));
            let kept = kept.map(|result| ("prevResult", result));
            let input = list.input(plugin, attachment.runtime_config(plugin).into_iter().chain(kept));
            self.call(plugin, command, attachment, &input).map(drop)
        })
    }

    fn call(
        &self,
        plugin: &Map<String, Value>,
        command: &str,
        attachment: &Attachment,
        input: &str,
    ) -> Result<Out, Box<Refusal>> {
        let kind = plugin["type"].as_str().expect("looked at when it was read");
        let mut found = self.path.iter().map(|dir| format!("{dir}/{kind}")).filter(|path| Path::new(path).is_file());
        let file = found.next().unwrap_or_else(|| panic!("no plugin {kind} in {:?}", self.path));
        let args: Vec<String> = attachment.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let environment = [
            format!("PATH={}", std::env::var("PATH").unwrap_or_default()),
            format!("CNI_COMMAND={command}"),
            format!("CNI_CONTAINERID={}", attachment.id),
            format!("CNI_NETNS={}", attachment.netns),
            format!("CNI_IFNAME={}", attachment.ifname),
            format!("CNI_ARGS={}", args.join(";")),
            format!("CNI_PATH={}", self.path.join(":")),
        ];
        let net = format!("--net=/run/netns/{}", self.ns);
        let mut words = vec!["nsenter", &net, "--", "env", "-i"];
        words.extend(environment.iter().map(String::as_str).chain([file.as_str()]));
        let out = run_with_input(&words, input);
        if out.code == Some(0) {
            return Ok(out);
        }
        let error: Value = serde_json::from_str(&out.stdout).unwrap_or_default();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let message = format!("{} {}", text("msg"), text("details"));
        Err(Box::new(Refusal { what: format!("{kind} {command}"), code: error["code"].as_u64(), message, out }))
    }
}

/// GC and STATUS are about no attachment.
fn nothing() -> Attachment {
    let none = String::new;
    Attachment {
        id: none(),
        netns: none(),
        ifname: none(),
        args: Vec::new(),
        capabilities: BTreeMap::new(),
        result: None,
    }
}
