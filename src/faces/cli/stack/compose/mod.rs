//! Compose files, version 3: what Docker's `stack deploy` reads, as requests. Pure, but for the files and the
//! environment that [`Source`] reads.

mod container;
mod deploy;
mod interpolate;
mod keys;
mod mounts;
mod networks;
mod part;
mod ports;
mod service;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub(crate) use interpolate::Variables;
use part::Part;
pub(crate) use part::split;
pub(super) use service::IMAGE;

use crate::api::v1::{CreateNetwork, CreateService};

/// The label of everything that a stack has.
pub(super) const NAMESPACE: &str = "com.docker.stack.namespace";
/// The parts of the file in which variables are replaced.
const INTERPOLATED: [&str; 3] = ["services", "networks", "volumes"];

/// Where a file comes from.
pub(super) struct Source<'a> {
    /// The stack's name.
    pub(super) stack: &'a str,
    /// Paths are relative to it.
    pub(super) directory: PathBuf,
    pub(super) variables: Variables<'a>,
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Source<'_> {
    /// The name of a thing of the stack.
    fn scoped(&self, key: &str) -> String {
        format!("{}_{key}", self.stack)
    }

    /// Labels, with the stack's own.
    fn labels(&self, mut labels: Map<String, Value>) -> Value {
        labels.insert(NAMESPACE.to_owned(), self.stack.into());
        Value::Object(labels)
    }
}

/// What a file asks for.
pub(super) struct Stack {
    /// The networks that its services use.
    pub(super) networks: Vec<Network>,
    pub(super) services: Vec<Service>,
    /// What to say about keys that are ignored.
    pub(super) notes: Vec<String>,
}

/// A network.
pub(super) struct Network {
    pub(super) name: String,
    /// It must exist, and is not the stack's.
    pub(super) external: bool,
    /// A driver that netd itself has not.
    pub(super) driver: Option<String>,
    /// The request in Docker's form.
    pub(super) body: Value,
    /// The request in netd's own form.
    pub(super) native: Box<CreateNetwork>,
}

/// A service.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// Who makes the members of a service.
pub(super) enum Kind {
    /// The engine: `ServiceSpec`, its networks by name.
    Tasks(Value),
    /// Others.
    Select(Box<CreateService>),
}

/// Reads a file.
pub(super) fn read(text: &str, source: &Source<'_>) -> Result<Stack, String> {
    // As in Docker's own reader, `y` and `on` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut file: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| format!("it is no YAML: {error}"))?;
    if !file.is_object() {
        return Err("Top-level object must be a mapping".into());
    }
    for section in INTERPOLATED {
        if let Some(part) = file.get_mut(section) {
            interpolate::below(part, section, source.variables)?;
        }
    }
    let root = Part::new("", &file);
    let version = root.at("version").text()?.unwrap_or_else(|| "3".into());
    if version != "3" && !version.starts_with("3.") {
        return Err(format!("unsupported Compose file version: {version}: use 3, or leave it out"));
    }
    root.only(&["version", "name", "services", "networks", "volumes", "secrets", "configs"])?;
    let services = root.at("services").entries()?;
    let notes = keys::check(&root, &services)?;
    let (mut used, mut read) = (Vec::<String>::new(), Vec::new());
    for (key, service) in &services {
        for (network, _) in service::networks(service)? {
            if !used.contains(&network) {
                used.push(network);
            }
        }
        read.push(service::read(key, &root, source)?);
    }
    let networks =
        used.iter().map(|key| networks::read(key, &root.at("networks"), source)).collect::<Result<_, _>>()?;
    Ok(Stack { networks, services: read, notes })
}

#[cfg(test)]
mod tests;
