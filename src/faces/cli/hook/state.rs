//! What a runtime says about a container: the state on standard input, and the bundle's config.json (OCI runtime
//! specification). Both are read as Go's decoder does: keys without regard to case, `null` as absent, unknown fields
//! ignored.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The largest state, in bytes. Annotations are the bulk of it.
const STATE_MAX: u64 = 1 << 20;
/// The largest config.json, in bytes. Those of Kubernetes have about 100 KiB.
const CONFIG_MAX: u64 = 16 << 20;
/// What the annotations for netd begin with.
const PREFIX: &str = "netd.";

/// The annotations for netd, with their whole keys.
pub(super) type Annotations = BTreeMap<String, String>;

/// What the container is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To start.
    Starts,
    /// It has ended.
    Ended,
}

/// The state of a container.
#[derive(Debug)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) phase: Phase,
    /// The container's process; `None` after its end.
    pub(super) pid: Option<u32>,
    pub(super) bundle: Option<PathBuf>,
    /// Those for netd.
    pub(super) annotations: Annotations,
}

/// The bundle's config.json, as far as it concerns the network.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) annotations: Annotations,
    /// The root file system, absolute.
    pub(super) root: PathBuf,
    /// The path of a network namespace that existed before the container.
    pub(super) netns: Option<PathBuf>,
}

impl State {
    /// Reads the state to the end of the input.
    pub(super) fn read(input: impl Read) -> Result<Self, String> {
        let state = object(input, STATE_MAX).map_err(|why| format!("standard input: {why}"))?;
        let field = |key: &str| get(&state, key);
        let text = |key: &'static str| match field(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong(key, other, "use a string")),
        };
        let id = text("id")?.ok_or("the state has no id")?.to_owned();
        let phase = match text("status")?.ok_or("the state has no status")? {
            "creating" | "created" | "running" => Phase::Starts,
            "stopped" => Phase::Ended,
            other => return Err(wrong("status", &other.into(), "use creating, created, running or stopped")),
        };
        // 0 stands for no process; pid_t is signed.
        let pid = match field("pid") {
            None => None,
            Some(value) => {
                let pid = value.as_u64().and_then(|pid| i32::try_from(pid).ok()?.try_into().ok());
                pid.map(Some).ok_or_else(|| wrong("pid", value, "use the id of a process"))?.filter(|pid| *pid != 0)
            }
        };
        let bundle = text("bundle")?.map(PathBuf::from);
        if let Some(bundle) = bundle.as_ref().filter(|bundle| !bundle.is_absolute()) {
            return Err(wrong("bundle", &bundle.to_string_lossy().into(), "use an absolute path"));
        }
        Ok(Self { id, phase, pid, bundle, annotations: annotations(&state)? })
    }
}

impl Config {
    /// Reads the config.json of the bundle.
    pub(super) fn read(bundle: &Path) -> Result<Self, String> {
        let file = bundle.join("config.json");
        let opened = File::open(&file).map_err(|error| error.to_string());
        let config = opened.and_then(|opened| Self::parse(opened, bundle));
        config.map_err(|why| format!("{}: {why}", file.display()))
    }

    /// The same from its text.
    pub(super) fn parse(text: impl Read, bundle: &Path) -> Result<Self, String> {
        let config = object(text, CONFIG_MAX)?;
        let root = get(&config, "root").and_then(|root| get(root.as_object()?, "path")?.as_str());
        let linux = get(&config, "linux").and_then(Value::as_object);
        let namespaces = linux.and_then(|linux| get(linux, "namespaces")?.as_array());
        let network = namespaces.into_iter().flatten().filter_map(Value::as_object);
        let mut network = network.filter(|namespace| get(namespace, "type").is_some_and(|kind| kind == "network"));
        let netns = network.find_map(|namespace| get(namespace, "path")?.as_str().filter(|path| !path.is_empty()));
        Ok(Self {
            annotations: annotations(&config)?,
            // An absolute path replaces the bundle's.
            root: bundle.join(root.unwrap_or("rootfs")),
            netns: netns.map(PathBuf::from),
        })
    }
}

fn object(input: impl Read, max: u64) -> Result<Map<String, Value>, String> {
    let mut text = Vec::new();
    input.take(max + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > max {
        return Err(format!("it is larger than {max} bytes"));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is not a JSON object".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

/// The value of a key. The key as spelled here comes before other spellings, of which the last one counts.
fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let exact = object.get(key).filter(|value| !value.is_null());
    let other = || object.iter().rfind(|(given, value)| !value.is_null() && given.eq_ignore_ascii_case(key));
    exact.or_else(|| other().map(|(_, value)| value))
}

fn annotations(object: &Map<String, Value>) -> Result<Annotations, String> {
    let all = match get(object, "annotations") {
        None => return Ok(Annotations::new()),
        Some(Value::Object(all)) => all,
        Some(other) => return Err(wrong("annotations", other, "use an object")),
    };
    let ours = all.iter().filter(|(key, _)| key.starts_with(PREFIX));
    let text = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Null => Ok((key.clone(), String::new())),
        other => Err(wrong(key, other, "use a string")),
    };
    ours.map(text).collect()
}

/// The start of a value is enough to find it.
fn wrong(key: &str, value: &Value, why: &str) -> String {
    let text: String = value.to_string().chars().take(60).collect();
    format!("{key} is {text}: {why}")
}
