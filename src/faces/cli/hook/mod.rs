//! `netd hook`: the hook of OCI runtimes (createRuntime, or prestart; poststop). It attaches a container before its first
//! instruction, to all networks that its annotations name or to none, and detaches it after its end.
//!
//! A repeated call changes nothing. What a call cannot finish, because the daemon dies, ends with the container's network
//! namespace: then netd releases the container by itself.

mod annotations;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
mod request;
mod state;

use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use super::Session;
use super::container::found;
use super::output::Failure;
use crate::api::v1::{AttachedTogether, Attachment, Container, Endpoint, Files, Network};
use crate::faces::shared::client::{Client, ClientError, segment};
use crate::os::own_netns::is_own;
use annotations::Wanted;
use request::Interfaces;
use state::{Config, Phase, State};

/// The owner of the attachments: no CNI configuration of a runtime has this name, so none collects them as garbage.
const OWNER: &str = "oci-hook";
/// How long poststop waits for the daemon, which releases the container by itself otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// The containers of OCI runtimes on this host.
pub trait Containers {
    /// The container of this process, which its runtime has prepared but not started. The error says what failed and
    /// why.
    fn prepared(&self, pid: u32) -> Result<Box<dyn Prepared>, String>;
}

/// A container that has not started.
pub trait Prepared {
    /// The path of its network namespace.
    fn netns(&self) -> &Path;
    /// Whether that path still leads to the namespace that it led to at first.
    fn is_there(&self) -> bool;
    /// The interfaces in its network namespace.
    fn interfaces(&self) -> Result<Vec<String>, String>;
    /// Covers files of its root file system, named by their paths in it, with these contents.
    fn cover(&self, root: &Path, files: Vec<(&'static str, String)>) -> Result<(), String>;
}

/// Carries out the hook for the state on `input`.
pub(super) fn run(session: &mut Session<'_>, containers: &dyn Containers, input: impl Read) -> Result<(), Failure> {
    let state = State::read(input).map_err(|why| Failure::of("read the container's state", why))?;
    match state.phase {
        Phase::Starts => starts(&session.client, containers, &state),
        Phase::Ended => ended(session, &state),
    }
}

fn starts(client: &Client, containers: &dyn Containers, state: &State) -> Result<(), Failure> {
    let attempt = format!("attach container {}", state.id);
    let failed = |why: &dyn Display| Failure::of(&attempt, why);
    // What the state lacks stands in the bundle.
    let config = state.bundle.as_deref().map(Config::read);
    let annotations = match &config {
        _ if !state.annotations.is_empty() => &state.annotations,
        Some(Ok(config)) => &config.annotations,
        Some(Err(why)) => return Err(failed(why)),
        None => &state.annotations,
    };
    let Some(wanted) = Wanted::read(annotations).map_err(|why| failed(&why))? else { return Ok(()) };
    let names: Vec<&str> = wanted.networks.iter().map(|on| on.network.as_str()).collect();
    let attempt = format!("attach container {} to {}", state.id, names.join(", "));
    let failed = |why: &dyn Display| Failure::of(&attempt, why);
    let root = match config {
        _ if wanted.keeps_files => None,
        Some(config) => Some(config.map_err(|why| failed(&why))?.root),
        None => return Err(failed(&"the state names no bundle, and netd.files is not keep")),
    };
    let pid = state.pid.ok_or_else(|| failed(&"the state has no process"))?;
    let container = containers.prepared(pid).map_err(|why| failed(&why))?;
    if is_own(container.netns()).unwrap_or(false) {
        let why = "it is in the host's network namespace: give it its own (in config.json a namespace of type network \
                   without path), or remove its annotations for netd";
        return Err(failed(&why));
    }
    let attaching = Attaching { client, id: &state.id, container: &*container };
    attaching.attach(wanted, root.as_deref()).map_err(|why| failed(&why))
}

/// A container that is being attached.
struct Attaching<'a> {
    client: &'a Client,
    id: &'a str,
    container: &'a dyn Prepared,
}

impl Attaching<'_> {
    /// Attaches it to all networks, or to none.
    fn attach(&self, wanted: Wanted, root: Option<&Path>) -> Result<(), String> {
        let known = own_endpoints(self.client, self.id).map_err(|error| error.to_string())?;
        let networks = wanted.networks.iter().map(|on| self.network(&on.network)).collect::<Result<Vec<_>, _>>()?;
        let netns = self.container.netns().to_str().ok_or("its network namespace has no path in UTF-8")?;
        let request = request::of(wanted, networks, netns, Interfaces::new(self.container.interfaces()?, &known));
        let path = format!("/v1/attachments/{}", segment(self.id));
        let attached: AttachedTogether = self.client.put(&path, &request).map_err(|error| error.to_string())?;
        let completed = self.complete(&attached, root);
        if completed.is_err() {
            let is_new = |ifname: &&String| !known.iter().any(|endpoint| endpoint.ifname == **ifname);
            let made: Vec<String> = request.attachments.iter().map(|one| &one.ifname).filter(is_new).cloned().collect();
            // Ignore the error: the container does not start, so netd releases it when its namespace ends.
            let _ = detach(self.client, self.id, &made);
        }
        completed
    }

    /// What remains when the daemon has attached it.
    fn complete(&self, attached: &AttachedTogether, root: Option<&Path>) -> Result<(), String> {
        for Attachment { endpoint, .. } in &attached.attachments {
            if let Some(skipped) = endpoint.skipped_ports.first() {
                return Err(format!(
                    "cannot publish {} on network {}: {}",
                    skipped.port, endpoint.network, skipped.why
                ));
            }
        }
        if let Some(root) = root {
            let path = format!("/v1/containers/{}/files", segment(self.id));
            let files: Files = self.client.get(&path).map_err(|error| error.to_string())?;
            let covers = vec![("/etc/resolv.conf", files.resolv_conf), ("/etc/hosts", files.hosts)];
            self.container.cover(root, covers)?;
        }
        // The daemon went by the process id, too.
        if self.container.is_there() { Ok(()) } else { Err("its process has ended".to_owned()) }
    }

    /// A network must exist: one that is misspelt is not made.
    fn network(&self, name: &str) -> Result<Network, String> {
        self.client.get(&format!("/v1/networks/{}", segment(name))).map_err(|error| error.to_string())
    }
}

/// What hooks attached of the container with exactly this id.
fn own_endpoints(client: &Client, id: &str) -> Result<Vec<Endpoint>, ClientError> {
    let container: Option<Container> = found(client.get(&format!("/v1/containers/{}", segment(id))))?;
    let mut endpoints = container.map(|container| container.endpoints).unwrap_or_default();
    endpoints.retain(|endpoint| {
        let known_as = endpoint.attached_as.as_deref().unwrap_or(&endpoint.container.id);
        endpoint.owner.as_deref() == Some(OWNER) && known_as == id
    });
    Ok(endpoints)
}

/// Detaches these interfaces of the container.
fn detach(client: &Client, id: &str, ifnames: &[String]) -> Result<(), ClientError> {
    if ifnames.is_empty() {
        return Ok(());
    }
    let only: Vec<String> = ifnames.iter().map(|ifname| format!("{OWNER}/{ifname}")).collect();
    client.delete(&format!("/v1/attachments/{}?only={}", segment(id), segment(&only.join(","))))
}

/// Detaches what is left of a container that has ended. A daemon that cannot be reached is no failure, because it
/// releases the container by itself when it runs again.
fn ended(session: &mut Session<'_>, state: &State) -> Result<(), Failure> {
    let config = state.bundle.as_deref().and_then(|bundle| Config::read(bundle).ok());
    let is_unasked = config.as_ref().is_some_and(|config| config.annotations.is_empty());
    if state.annotations.is_empty() && is_unasked {
        return Ok(());
    }
    let client = &session.client.with_patience(PATIENCE);
    let netns = config.and_then(|config| config.netns);
    let detached = own_endpoints(client, &state.id).and_then(|endpoints| {
        let over: Vec<String> = endpoints
            .into_iter()
            .filter(|endpoint| is_over(Path::new(&endpoint.netns), netns.as_deref()))
            .map(|endpoint| endpoint.ifname)
            .collect();
        detach(client, &state.id, &over)
    });
    let attempt = format!("detach container {}", state.id);
    match detached {
        Ok(()) => Ok(()),
        Err(error @ ClientError::Refused { .. }) => Err(Failure::of(attempt, error)),
        Err(error) => {
            session.note(&format!("{attempt}: {error}; it is released when netd runs again"));
            Ok(())
        }
    }
}

/// Whether the network namespace of the ended container is no longer its own: it is gone, or it existed before the
/// container (`config`). Otherwise another container of the same id lives there, which another runtime made, and whose
/// attachments are not this one's to detach.
fn is_over(netns: &Path, config: Option<&Path>) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let there = identity(netns);
    there.is_none() || there == config.and_then(identity)
}

#[cfg(test)]
mod tests;
