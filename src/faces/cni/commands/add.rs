//! `ADD`: attaches a container. If an IPAM plugin gives the addresses, both are done or neither.

use std::path::Path;

use serde_json::Value;

use crate::api::v1::{Attach, Attachment, Interface};
use crate::faces::cni::Call;
use crate::faces::cni::failure::{Failure, INVALID_CONFIGURATION, OWN_NETNS, UNKNOWN_CONTAINER};
use crate::faces::cni::input::configuration::Configuration;
use crate::faces::cni::input::environment::{AttachedInterface, Environment, attachment_path};
use crate::faces::cni::input::request;
use crate::faces::cni::input::resolver::Resolver;
use crate::faces::cni::ipam::{Ipam, Lease};
use crate::faces::cni::output::result::{Previous, handed_on, made};
use crate::faces::shared::client::{Client, ClientError};

/// An attachment in progress.
struct Add<'a> {
    client: Client,
    path: String,
    attach: Attach,
    ipam: Ipam<'a>,
}

/// Attaches a container and returns the result.
pub(crate) fn add(call: &mut Call<'_>, conf: &Configuration<'_>, target: &AttachedInterface) -> Result<Value, Failure> {
    let environment = Environment(&call.invocation.environment);
    let netns = target.netns.as_deref().unwrap_or_default();
    check_netns(call, environment, netns)?;
    let mut attach = request::attach(conf, request::absolute(netns)?, &environment.arguments()?)?;
    let (ours, runtimes) = (conf.dns()?, conf.runtime_dns()?);
    let ignored = request::ignored(conf)?;
    if !ignored.is_empty() {
        call.note(&format!("ignored unknown keys: {}", ignored.join(", ")));
    }
    let client = Client::new(conf.socket()?);
    let path = attachment_path(conf.name.as_str(), target);
    let put = |attach: &Attach| client.put::<Attachment>(&path, attach).map_err(|error| Failure::daemon(&error));
    match (Previous::of(&conf.fields)?, conf.ipam()?) {
        (Some(_), Some(_)) => {
            let why = "\"ipam\" and \"prevResult\" are both given: after another plugin, netd uses the addresses of that plugin";
            Err(Failure::new(INVALID_CONFIGURATION, why))
        }
        (None, None) => {
            let attachment = put(&attach)?;
            note_skipped(call, &attachment);
            Ok(made(
                conf.version,
                &attachment,
                target,
                &Resolver::together(&attachment.dns, &ours, [&Resolver::default(), &runtimes]),
            ))
        }
        (Some(previous), None) => {
            attach.interface = Interface::Found;
            attach.addresses = previous.addresses(target.ifname.as_str())?;
            (attach.ranges, attach.mac) = (Vec::new(), None);
            let theirs = previous.dns()?;
            let attachment = put(&attach)?;
            note_skipped(call, &attachment);
            let dns = Resolver::together(&attachment.dns, &ours, [&theirs, &runtimes]);
            Ok(handed_on(conf.fields.get("prevResult").unwrap_or(&Value::Null), conf.version, &dns))
        }
        (None, Some(kind)) => {
            // The IPAM plugin handles the requested addresses: it reads the same input.
            (attach.addresses, attach.ranges) = (Vec::new(), Vec::new());
            let ipam = Ipam { kind, invocation: call.invocation, programs: call.programs };
            let mut add = Add { client: client.clone(), path: path.clone(), attach, ipam };
            let (attachment, lease) = add.delegated(&mut call.stderr)?;
            note_skipped(call, &attachment);
            let dns = Resolver::together(&attachment.dns, &ours, [&lease.dns, &runtimes]);
            Ok(made(conf.version, &attachment, target, &dns))
        }
    }
}

/// Reports ports that the network cannot publish.
fn note_skipped(call: &mut Call<'_>, attachment: &Attachment) {
    let endpoint = &attachment.endpoint;
    for skipped in &endpoint.skipped_ports {
        call.note(&format!("port {} is not published on network {}: {}", skipped.port, endpoint.network, skipped.why));
    }
}

/// Checks that the namespace exists and is not the plugin's own.
fn check_netns(call: &Call<'_>, environment: Environment<'_>, netns: &str) -> Result<(), Failure> {
    match call.programs.is_own_netns(Path::new(netns)) {
        Ok(true) if !environment.may_be_own_netns() => {
            let msg = format!("plugin's netns and netns from CNI_NETNS {netns:?} should not be the same");
            Err(Failure::new(OWN_NETNS, msg))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(UNKNOWN_CONTAINER, format!("open the network namespace {netns:?}: {error}"))),
    }
}

impl Add<'_> {
    /// Attaches with the addresses of an IPAM plugin.
    fn delegated(&mut self, stderr: &mut Vec<u8>) -> Result<(Attachment, Lease), Failure> {
        if let Some(lease) = self.present()? {
            // A repeated request: the lease lasts as long as the attachment, and the plugin would refuse a second one.
            self.attach.interface = Interface::Given;
            lease.fill(&mut self.attach);
            return Ok((self.put()?, lease));
        }
        let through_interface = self.ipam.needs_interface();
        if through_interface {
            self.attach.interface = Interface::Unaddressed;
            self.put()?;
        }
        let lease = match self.ipam.add(stderr) {
            Ok(lease) => lease,
            Err(failure) if through_interface => return Err(self.detach(failure)),
            Err(failure) => return Err(failure),
        };
        self.attach.interface = Interface::Given;
        lease.fill(&mut self.attach);
        let error = match self.put_instead() {
            Ok(attachment) => return Ok((attachment, lease)),
            Err(error) => error,
        };
        let failure = Failure::daemon(&error);
        if is_open(&error) {
            // If the daemon has made the attachment after all, the lease must remain. DEL, or the same ADD again,
            // cleans up both.
            return Err(failure);
        }
        let failure = if through_interface { self.detach(failure) } else { failure };
        Err(self.ipam.undo(failure, stderr))
    }

    /// An `ADD` that was killed may have completed just now, with a lease that the IPAM plugin has since revoked to
    /// give this one. That attachment is deleted.
    fn put_instead(&self) -> Result<Attachment, ClientError> {
        match self.client.put(&self.path, &self.attach) {
            Err(error) if error.status() == Some(409) && matches!(self.present(), Ok(Some(_))) => {
                self.client.delete(&self.path)?;
                self.client.put(&self.path, &self.attach)
            }
            other => other,
        }
    }

    /// The lease of an existing attachment.
    fn present(&self) -> Result<Option<Lease>, Failure> {
        match self.client.get::<Attachment>(&self.path) {
            Ok(attachment) => Ok(Some(Lease::of(&attachment)).filter(|lease| !lease.addresses.is_empty())),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(Failure::daemon(&error)),
        }
    }

    fn put(&self) -> Result<Attachment, Failure> {
        self.client.put(&self.path, &self.attach).map_err(|error| Failure::daemon(&error))
    }

    /// Removes what was made before the failure. The failure keeps its code.
    fn detach(&self, failure: Failure) -> Failure {
        match self.client.delete(&self.path) {
            Ok(()) => failure,
            Err(error) => failure.and(&Failure::daemon(&error)),
        }
    }
}

/// Whether the outcome of the request is unknown.
fn is_open(error: &ClientError) -> bool {
    match error {
        ClientError::Broken { .. } => true,
        ClientError::Refused { error, .. } => error.code == "unavailable",
        ClientError::Connect { .. } => false,
    }
}
