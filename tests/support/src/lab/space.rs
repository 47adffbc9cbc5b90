//! Namespaces: leaving the machine's, private mounts, and threads that work inside a network namespace.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::programs::{self, Programs};

/// Leaves the machine's network and mount namespace; must be called while the process has one thread. Without root it
/// takes a user namespace as well, in which it is root. From now on the laboratories run these programs.
pub fn leave_the_machine(programs: Programs) -> Result<(), String> {
    programs::set(programs);
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    if !user.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|error| format!("unshare: {error} (run it as root, or allow user namespaces)"))?;
    if !user.is_root() {
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("write /proc/self/{file}: {error}"))
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("0 {user} 1"))?;
        write("gid_map", format!("0 {group} 1"))?;
    }
    keep_mounts_here().map_err(|error| format!("make mounts private: {error}"))?;
    for program in ["ip", "nft", "nsenter", "dig", "curl", "busybox", "timeout"] {
        let found =
            std::env::var("PATH").unwrap_or_default().split(':').any(|dir| Path::new(dir).join(program).exists());
        if !found {
            return Err(format!("{program} is not installed (scripts/test installs what is missing)"));
        }
    }
    Ok(())
}

fn keep_mounts_here() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Gives the calling thread, and what it starts, a mount namespace with a `/run` and a copy of `/etc` of its own.
pub fn private_run_and_etc() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    keep_mounts_here().expect("private mounts");
    mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).expect("a tmpfs on /run");
    fs::create_dir_all("/run/lab").expect("a folder");
    // Files that may not be read without root are not needed either.
    let _ = Command::new("cp").args(["-a", "/etc", "/run/lab/etc"]).output().expect("cp");
    let _ = fs::remove_dir_all("/run/lab/etc/netns");
    let _ = fs::remove_dir_all("/run/lab/etc/netd");
    // A machine that is a router asks for forwarding.
    let _ = fs::remove_dir_all("/run/lab/etc/sysctl.d");
    let _ = fs::remove_file("/run/lab/etc/sysctl.conf");
    fs::create_dir_all("/run/lab/etc/netns").expect("a folder");
    let _ = fs::remove_file("/run/lab/etc/resolv.conf");
    fs::write("/run/lab/etc/resolv.conf", "nameserver 127.0.0.1\n").expect("a resolv.conf");
    mount(Some("/run/lab/etc"), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a private /etc");
}

/// Runs the closure on a thread that has entered the named network namespace and dies in it.
pub fn inside<T: Send>(ns: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = format!("/run/netns/{ns}");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = fs::File::open(&path).unwrap_or_else(|error| panic!("open {path}: {error}"));
            setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("enter {path}: {error}"));
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sets a setting ("net/ipv4/ip_forward") in a namespace.
pub fn sysctl(ns: &str, key: &str, value: &str) {
    let path = format!("/proc/sys/{key}");
    let written = inside(ns, || fs::write(&path, value));
    written.unwrap_or_else(|error| panic!("write {value} to {path} in {ns}: {error}"));
}

/// Reads a setting in a namespace; `None` when the kernel does not have it.
pub fn setting(ns: &str, key: &str) -> Option<String> {
    inside(ns, || fs::read_to_string(format!("/proc/sys/{key}"))).ok().map(|text| text.trim().to_owned())
}

/// Whether the host's bridges show their frames to iptables and nftables (`net.bridge.bridge-nf-call-iptables`, "0" or
/// "1"); fails where the kernel has no such setting.
pub fn bridge_netfilter(value: &str) -> Result<(), String> {
    for key in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
        if setting("host", key).is_none() {
            return Err(format!("the kernel has no {key} (modprobe br_netfilter)"));
        }
        sysctl("host", key, value);
    }
    Ok(())
}

/// Names the mount of the machine's own `/proc`, where the tests have a process namespace of their own: processes are
/// then known to users by other ids.
pub const MACHINE_PROC: &str = "NETD_TESTS_MACHINE_PROC";

/// How to enter the laboratory of a failed test; with `LAB_KEEP=1` it stops here until Enter is pressed.
pub fn stop_for_inspection() -> String {
    let proc = std::env::var(MACHINE_PROC).unwrap_or_else(|_| "/proc".to_owned());
    // "PROCESS/task/THREAD", in the ids of that mount.
    let thread = fs::read_link(Path::new(&proc).join("thread-self")).unwrap_or_else(|_| "self".into());
    let enter = format!("nsenter --mount=/proc/{}/ns/mnt ip netns exec host bash", thread.display());
    if std::env::var_os("LAB_KEEP").is_none() {
        return format!("run it with LAB_KEEP=1: it stops when it fails, and this opens a shell in it:\n{enter}");
    }
    let hint = format!("failed; to look inside:\n  {enter}\nEnter goes on\n");
    let _ = std::io::stderr().write_all(hint.as_bytes());
    let _ = std::io::stdin().read_line(&mut String::new());
    enter
}
