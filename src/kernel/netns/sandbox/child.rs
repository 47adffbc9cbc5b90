//! The child's side: namespaces, the covered files, and the command.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use netlink_packet_route::RouteNetlinkMessage;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use nix::sys::statvfs::{FsFlags, statvfs};
use rtnetlink::LinkUnspec;

use super::{READY, shown};
use crate::kernel::netlink::socket::{Netlink, Request};
use crate::os::sys;

/// Exit codes as in env(1): the command cannot be found, cannot be executed; any failure before that.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const FAILED: u8 = 125;
/// Directories one of which exists on every machine. The files that cover the host's are created in it, on a tmpfs that
/// no other process sees and that is unmounted again.
const WORKSHOPS: [&str; 4] = ["/tmp", "/run", "/mnt", "/var"];
/// `LOOPBACK_IFINDEX` (linux/if.h).
const LOOPBACK: u32 = 1;

/// Why the child did not become the command.
#[derive(Debug)]
pub struct ChildFailure {
    /// The exit code of the process.
    pub code: u8,
    /// The message for stderr; `None` if the parent prints it.
    pub message: Option<String>,
}

impl ChildFailure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: Some(message.to_string()) }
    }
}

/// Becomes the command, or returns why it could not. `arguments`: those after [`super::VERB`]. Must run before the
/// program has a second thread.
pub fn child(arguments: &[OsString]) -> Result<Infallible, ChildFailure> {
    let usage = || ChildFailure::new(FAILED, "this verb is internal: use `netd run`");
    let [ready, go, dashes, command, rest @ ..] = arguments else { return Err(usage()) };
    if dashes != "--" {
        return Err(usage());
    }
    let [mut ready, mut go] = pipes([ready, go]).ok_or_else(usage)?;
    if let Err(error) = enter() {
        // If the write fails, the parent has exited.
        let _ = ready.write_all(error.to_string().as_bytes());
        return Err(ChildFailure { code: FAILED, message: None });
    }
    let sent = ready.write_all(READY.as_bytes());
    drop(ready);
    let files = sent.and_then(|()| Ok([text(&mut go)?, text(&mut go)?]));
    // The parent failed to connect and reports it itself.
    let Ok([resolv_conf, hosts]) = files else { return Err(ChildFailure { code: FAILED, message: None }) };
    cover(&resolv_conf, &hosts).map_err(|error| ChildFailure::new(FAILED, error))?;
    let error = Command::new(command).args(rest).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Err(ChildFailure::new(code, format_args!("run {}: {error}", shown(command))))
}

fn pipes(numbers: [&OsString; 2]) -> Option<[File; 2]> {
    let [ready, go] = numbers.map(|number| number.to_str().and_then(|number| number.parse().ok()));
    // SAFETY: `netd run` opened them for this process, which has opened nothing of its own yet.
    let descriptors = unsafe { sys::inherited(&[ready?, go?]) }.ok()?;
    descriptors.into_iter().map(File::from).collect::<Vec<_>>().try_into().ok()
}

/// Reads one text: its length, then its bytes.
fn text(pipe: &mut File) -> io::Result<String> {
    let mut length = [0; size_of::<u64>()];
    pipe.read_exact(&mut length)?;
    let length = u64::from_ne_bytes(length);
    let mut text = String::new();
    let read = pipe.take(length).read_to_string(&mut text)?;
    if read as u64 == length { Ok(text) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Adds what was attempted to an error.
fn during(attempted: impl fmt::Display) -> impl FnOnce(nix::Error) -> io::Error {
    move |error| io::Error::other(format!("{attempted}: {}", io::Error::from(error)))
}

/// Makes the namespaces, and sets up the loopback interface and `/sys` in them.
fn enter() -> io::Result<()> {
    // The parent blocks signals for itself, and a child inherits that.
    SigSet::empty().thread_set_mask()?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(during("make namespaces"))?;
    // Mounts made here stay here; later mounts of the host appear here.
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(during("make mounts private"))?;
    let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
    Netlink::open()?.one(Request::plain(RouteNetlinkMessage::SetLink(up)))?;
    if let Err(error) = show_own_interfaces() {
        tracing::debug!(%error, "/sys/class/net shows the host's interfaces");
    }
    Ok(())
}

/// `/sys/class/net` shows the interfaces of the namespace in which sysfs was mounted. The control groups below it are
/// separate mounts and must be visible through the new one.
fn show_own_interfaces() -> io::Result<()> {
    let cgroups = handle(Path::new("/sys/fs/cgroup"));
    let read_only = statvfs("/sys")?.flags().contains(FsFlags::ST_RDONLY);
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let flags = if read_only { safe | MsFlags::MS_RDONLY } else { safe };
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>)?;
    let recursive = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&by_number(&cgroups?)), "/sys/fs/cgroup", None::<&str>, recursive, None::<&str>)?;
    Ok(())
}

/// Mounts these contents over the host's `/etc/resolv.conf` and `/etc/hosts`, or over their link targets.
fn cover(resolv_conf: &str, hosts: &str) -> io::Result<()> {
    let resolv_target = handle(Path::new("/etc/resolv.conf")).map_err(|error| {
        io::Error::other(format!("cover /etc/resolv.conf: {error}: the host needs such a file, it may be empty"))
    })?;
    let mut covers = vec![("resolv.conf", resolv_conf, resolv_target)];
    // If the host lacks the file, there is nothing to cover.
    covers.extend(handle(Path::new("/etc/hosts")).ok().map(|target| ("hosts", hosts, target)));
    let workshop = WORKSHOPS.into_iter().map(Path::new).find(|directory| directory.is_dir());
    let workshop = workshop.ok_or_else(|| io::Error::other("none of /tmp, /run, /mnt and /var is a directory"))?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("netd"), workshop, Some("tmpfs"), safe, Some("mode=0755,size=1m"))
        .map_err(during(format_args!("mount a tmpfs on {}", workshop.display())))?;
    for (name, content, target) in &covers {
        let file = workshop.join(name);
        fs::write(&file, content)?;
        mount(Some(&file), &by_number(target), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(during(format_args!("cover /etc/{name}")))?;
    }
    // The covered files keep the tmpfs alive; the directory shows the host's content again.
    umount2(workshop, MntFlags::MNT_DETACH).map_err(during(format_args!("unmount {}", workshop.display())))
}

/// Keeps a handle to what the path leads to, whatever is mounted over it later (`O_PATH`).
fn handle(path: &Path) -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map(OwnedFd::from)
}

fn by_number(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", handle.as_raw_fd()))
}
