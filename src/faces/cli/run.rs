//! `netd run`: a command in a fresh network namespace, connected before it begins and disconnected when it ends.

use std::ffi::OsString;

use super::Session;
use super::args::RunArgs;
use super::container::{found, request};
use super::output::{Failure, sentence};
use crate::api::v1::{Connect, CreateNetwork, Endpoint, Files, Network};
use crate::faces::shared::client::{ClientError, segment};

/// The network for those who name none.
const DEFAULT_NETWORK: &str = "default";

/// Who can start a command in namespaces of its own.
pub trait Sandbox {
    /// Makes the namespaces and a process in them that waits to become `command`; at least one word. The error says
    /// what failed and why.
    fn start(&self, command: &[OsString]) -> Result<Box<dyn Running>, String>;
}

/// A process in namespaces of its own. Dropping it ends it.
pub trait Running {
    /// Its process id, as the daemon sees it.
    fn pid(&self) -> u32;
    /// Puts the contents of its `/etc/resolv.conf` and `/etc/hosts` in place and lets it become the command.
    fn go(&mut self, resolv_conf: &str, hosts: &str) -> Result<(), String>;
    /// Passes signals on until the command ends; its exit status, or 128 and the number of the signal that ended it.
    fn wait(&mut self) -> Result<u8, String>;
    /// Ends the process, which has not become the command.
    fn abort(&mut self);
}

/// Runs the command; its exit status.
pub(super) fn run(session: &mut Session<'_>, sandbox: &dyn Sandbox, args: RunArgs) -> Result<u8, Failure> {
    let name = args.name.unwrap_or_else(|| format!("run-{:08x}", rand::random::<u32>()));
    let program = args.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let attempt = format!("run {program} as {name}");
    let failure = |why: &dyn std::fmt::Display| Failure::of(&attempt, why);

    let network = match args.network {
        Some(network) => network,
        None => default_network(session).map_err(|error| failure(&error))?,
    };
    let choose = args.endpoint.ports.iter().any(|port| chosen_by_netd(port));
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
    if choose {
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

/// Whether a port leaves the choice of the host port to netd.
fn chosen_by_netd(port: &str) -> bool {
    port.parse::<crate::model::publication::PortSpec>().is_ok_and(|spec| spec.host.is_none())
}

/// Creates the default network on first use.
fn default_network(session: &Session<'_>) -> Result<String, ClientError> {
    let path = format!("/v1/networks/{DEFAULT_NETWORK}");
    if found(session.client.get::<Network>(&path))?.is_none() {
        let request = CreateNetwork { name: DEFAULT_NETWORK.into(), ..CreateNetwork::default() };
        match session.client.post::<Network>("/v1/networks", &request) {
            // Somebody else was faster, or the reason will come up again when it is looked for.
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
    /// The container's id: its name may be another's by the time it ends.
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

    /// The daemon may have noticed the end of the namespace before: gone is gone.
    fn disconnect(self, session: &Session<'_>) -> Result<(), ClientError> {
        let path = format!("/v1/networks/{}/endpoints/{}", segment(&self.network), segment(&self.container));
        found(session.client.delete(&path)).map(drop)
    }
}
