//! `netd run`: runs a command in a new network namespace, which is connected before it begins and disconnected when it
//! ends.

use std::ffi::OsString;

use super::Session;
use super::args::RunArgs;
use super::container::{found, request};
use super::output::{Failure, sentence};
use crate::api::v1::{Connect, CreateNetwork, Endpoint, Files, Network};
use crate::faces::shared::client::{ClientError, segment};

/// The network to use if none is given.
const DEFAULT_NETWORK: &str = "default";

/// Starts commands in namespaces of their own.
pub trait Sandbox {
    /// Creates the namespaces and a process in them that waits to execute `command`, which has at least one element.
    /// The error says what failed and why.
    fn start(&self, command: &[OsString]) -> Result<Box<dyn Running>, String>;
}

/// A process in namespaces of its own. Dropping it kills the process.
pub trait Running {
    /// The process id as the daemon sees it.
    fn pid(&self) -> u32;
    /// Sets the contents of its `/etc/resolv.conf` and `/etc/hosts` and lets it execute the command.
    fn go(&mut self, resolv_conf: &str, hosts: &str) -> Result<(), String>;
    /// Forwards signals until the command ends. Returns its exit status, or 128 plus the number of the signal that
    /// killed it.
    fn wait(&mut self) -> Result<u8, String>;
    /// Ends the process before it has executed the command.
    fn abort(&mut self);
}

/// Runs the command and returns its exit status.
pub(super) fn run(session: &mut Session<'_>, sandbox: &dyn Sandbox, args: RunArgs) -> Result<u8, Failure> {
    let name = args.name.unwrap_or_else(|| format!("run-{:08x}", rand::random::<u32>()));
    let program = args.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let attempt = format!("run {program} as {name}");
    let failure = |why: &dyn std::fmt::Display| Failure::of(&attempt, why);

    let network = match args.network {
        Some(network) => network,
        None => default_network(session).map_err(|error| failure(&error))?,
    };
    let netd_chooses = args.endpoint.ports.iter().any(|port| port.host.is_none());
    let request = Connect { pid: Some(1), ..request(name.clone(), args.endpoint) };
    request.clone().into_spec(&network).map_err(|invalid| Failure::usage(&attempt, invalid))?;

    let mut running = sandbox.start(&args.command).map_err(|why| failure(&why))?;
    let request = Connect { pid: Some(running.pid()), ..request };
    let connected = Connected::new(session, &network, &request).and_then(|connected| {
        let files = session.client.get(&format!("/v1/containers/{}/files", segment(&connected.container)))?;
        Ok((connected, files))
    });
    let (connected, files): (Connected, Files) = match connected {
        Ok(both) => both,
        Err(error) => {
            running.abort();
            return Err(failure(&error));
        }
    };
    if netd_chooses {
        session.note(&sentence(&name, &connected.ports));
    }
    let ended = match running.go(&files.resolv_conf, &files.hosts) {
        Ok(()) => running.wait(),
        Err(why) => {
            running.abort();
            Err(why)
        }
    };
    if let Err(error) = connected.disconnect(session) {
        session.complain(&sentence(format!("disconnect {name} from network {network}"), error));
    }
    ended.map_err(|why| failure(&why))
}

/// Creates the default network on first use.
fn default_network(session: &Session<'_>) -> Result<String, ClientError> {
    let path = format!("/v1/networks/{DEFAULT_NETWORK}");
    if found(session.client.get::<Network>(&path))?.is_none() {
        let request = CreateNetwork { name: DEFAULT_NETWORK.into(), ..CreateNetwork::default() };
        match session.client.post::<Network>("/v1/networks", &request) {
            // Another process was faster, or the request below reports the reason.
            Err(error) if error.status() == Some(409) => {
                session.client.get::<Network>(&path).map_err(|_| error)?;
            }
            other => drop(other?),
        }
    }
    Ok(DEFAULT_NETWORK.into())
}

/// The connection of a sandbox.
struct Connected {
    network: String,
    /// The container's id, because another container may have its name by the time it ends.
    container: String,
    ports: String,
}

impl Connected {
    fn new(session: &Session<'_>, network: &str, request: &Connect) -> Result<Self, ClientError> {
        let path = format!("/v1/networks/{}/endpoints", segment(network));
        let endpoint: Endpoint = session.client.post(&path, request)?;
        let ports: Vec<String> = endpoint.ports.iter().map(ToString::to_string).collect();
        let ports = format!("published {}", ports.join(", "));
        Ok(Self { network: endpoint.network, container: endpoint.container.id, ports })
    }

    /// The daemon may have removed it already when the namespace ended: not found is fine.
    fn disconnect(self, session: &Session<'_>) -> Result<(), ClientError> {
        let path = format!("/v1/networks/{}/endpoints/{}", segment(&self.network), segment(&self.container));
        found(session.client.delete(&path)).map(drop)
    }
}
