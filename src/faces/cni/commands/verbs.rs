//! `DEL`, `CHECK`, `GC` and `STATUS`.

use crate::api::v1::{AttachmentRef, CheckAttachment, Collected, KeepAttachments, Status};
use crate::faces::shared::client::{Client, ClientError, segment};

use crate::faces::cni::Call;
use crate::faces::cni::failure::{
    CHANGED, Failure, INTERNAL, INVALID_CONFIGURATION, LIMITED, NOT_AVAILABLE, UNKNOWN_CONTAINER,
};
use crate::faces::cni::input::configuration::Configuration;
use crate::faces::cni::input::environment::{AttachedInterface, attachment_path};
use crate::faces::cni::input::request;
use crate::faces::cni::ipam::Ipam;
use crate::faces::cni::output::result::Previous;

/// The keys of the list of valid attachments: that of the spec, and that of earlier versions of libcni.
const VALID: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Runs the configuration's IPAM plugin, if it has one.
fn delegate(call: &mut Call<'_>, conf: &Configuration<'_>, command: &str) -> Result<(), Failure> {
    let Some(kind) = conf.ipam()? else { return Ok(()) };
    let ipam = Ipam { kind, invocation: call.invocation, programs: call.programs };
    ipam.call(command, &mut call.stderr).map(drop)
}

/// Combines both results. The code is that of the first failure.
fn both(ours: Result<(), Failure>, theirs: Result<(), Failure>) -> Result<(), Failure> {
    match (ours, theirs) {
        (Err(ours), Err(theirs)) => Err(ours.and(&theirs)),
        (ours, theirs) => ours.and(theirs),
    }
}

/// Needs only the key of the attachment, so that no other error in the input keeps the attachment alive.
pub(crate) fn del(call: &mut Call<'_>, conf: &Configuration<'_>, target: &AttachedInterface) -> Result<(), Failure> {
    let ours = conf.socket().and_then(|socket| {
        let path = attachment_path(conf.name.as_str(), target);
        Client::new(socket).delete(&path).map_err(|error| unexpected(&error))
    });
    // The address is released after its interface has been removed.
    let theirs = delegate(call, conf, "DEL");
    both(ours, theirs)
}

/// Turns `not_found` into an internal error: the request names nothing that could be missing, so the daemon lacks this
/// part of the API.
fn unexpected(error: &ClientError) -> Failure {
    let failure = Failure::daemon(error);
    if failure.code == UNKNOWN_CONTAINER { Failure { code: INTERNAL, ..failure } } else { failure }
}

/// The daemon compares. The previous result has the addresses and what a later plugin of the chain may have changed.
pub(crate) fn check(call: &mut Call<'_>, conf: &Configuration<'_>, target: &AttachedInterface) -> Result<(), Failure> {
    let previous = Previous::of(&conf.fields)?;
    let previous = previous.ok_or_else(|| {
        Failure::new(INVALID_CONFIGURATION, "missing \"prevResult\": CHECK compares with the result of ADD")
    })?;
    let ifname = target.ifname.as_str();
    let addresses = previous.addresses(ifname)?.into_iter().map(|address| address.address).collect();
    let (mac, mtu) = previous.link(ifname)?;
    let netns = request::absolute(target.netns.as_deref().unwrap_or_default())?;
    let path = format!("{}/check", attachment_path(conf.name.as_str(), target));
    let body = CheckAttachment { netns, addresses, mac, mtu };
    let ours = Client::new(conf.socket()?).tell(&path, &body).map_err(|error| {
        let failure = Failure::daemon(&error);
        // All of the attachment is missing.
        if failure.code == UNKNOWN_CONTAINER { Failure { code: CHANGED, ..failure } } else { failure }
    });
    both(ours, delegate(call, conf, "CHECK"))
}

/// Removes every attachment of this network that is not listed.
pub(crate) fn gc(call: &mut Call<'_>, conf: &Configuration<'_>) -> Result<(), Failure> {
    let fields = &conf.fields;
    let key = VALID.into_iter().find(|key| fields.get(key).is_some()).ok_or_else(|| {
        Failure::new(INVALID_CONFIGURATION, format!("missing {:?}: GC keeps the attachments that it names", VALID[0]))
    })?;
    let mut valid = Vec::new();
    for attachment in fields.objects(key)? {
        let text = |key: &str| attachment.text(key)?.ok_or_else(|| attachment.wrong(key, "it is missing"));
        valid.push(AttachmentRef { container: text("containerID")?.into(), ifname: text("ifname")?.into() });
    }
    let path = format!("/v1/attachments/{}/gc", segment(conf.name.as_str()));
    let collected = Client::new(conf.socket()?).post::<Collected>(&path, &KeepAttachments { valid });
    let ours = collected.map(drop).map_err(|error| unexpected(&error));
    both(ours, delegate(call, conf, "GC"))
}

/// Checks whether an `ADD` could work now.
pub(crate) fn status(call: &mut Call<'_>, conf: &Configuration<'_>) -> Result<(), Failure> {
    conf.check_keys()?;
    let (network, delegated) = (conf.network()?, conf.ipam()?.is_some());
    conf.dns()?;
    let client = Client::new(conf.socket()?);
    daemon_status(&client)?;
    if !delegated {
        let path = format!("/v1/networks/{}/room", segment(&network.name));
        match client.ask(&path) {
            // The first ADD creates it.
            Err(error) if error.status() == Some(404) => {}
            other => other.map_err(|error| not_available(Failure::daemon(&error)))?,
        }
    }
    delegate(call, conf, "STATUS").map_err(not_available)
}

fn daemon_status(client: &Client) -> Result<(), Failure> {
    let status: Status = client.get("/v1/status").map_err(|error| not_available(Failure::daemon(&error)))?;
    if status.ready {
        // Problems elsewhere do not prevent attaching a container.
        return Ok(());
    }
    let code = if status.problems.is_empty() { NOT_AVAILABLE } else { LIMITED };
    let failure = Failure::new(code, "netd has not finished the repair at its start");
    Err(failure.details(status.problems.join("; ")))
}

/// `STATUS` has two codes for all failures.
fn not_available(failure: Failure) -> Failure {
    let code = if failure.code == LIMITED { LIMITED } else { NOT_AVAILABLE };
    Failure { code, ..failure }
}
