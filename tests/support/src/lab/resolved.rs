//! The real systemd-resolved and its bus, started in the laboratory.
//!
//! `/run` and `/etc` are private, so the bus is where every program looks for it, and resolved keeps its files where it
//! always does.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::command::{Out, run_words};
use crate::wait::until;

/// Where `scripts/test` unpacks Debian's package, and where an installed one is.
const PLACES: [&str; 2] = [concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/systemd-resolved"), ""];
/// The well-known place of the system bus (D-Bus specification, "Well-known Message Bus Instances").
const BUS: &str = "/run/dbus/system_bus_socket";
const LOG: &str = "/run/lab/resolved.log";

/// A process that ends when this is dropped.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command in the host's network namespace; the process that is started becomes it.
pub(super) fn on_the_host(program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg("--net=/run/netns/host").arg("--").arg(program).stdin(Stdio::null());
    command.env_remove("DBUS_SYSTEM_BUS_ADDRESS");
    command
}

/// Starts a program that ends with the test.
pub fn start(command: &mut Command) -> Process {
    Process(command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}")))
}

/// Starts a system bus with a permissive policy; it answers when this returns.
pub fn start_bus() -> Process {
    let allow = ["own=\"*\"", "send_type=\"method_call\"", "send_type=\"signal\"", "send_requested_reply=\"true\""];
    let received = ["method_call", "signal", "method_return", "error"].map(|kind| format!("receive_type=\"{kind}\""));
    let allow = ["user=\"*\""].into_iter().chain(allow).map(str::to_owned).chain(received);
    let policy: String = allow.map(|what| format!("<allow {what}/>")).collect();
    let config = format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig><type>system</type>\
         <listen>unix:path={BUS}</listen><auth>EXTERNAL</auth><policy context=\"default\">{policy}</policy></busconfig>"
    );
    fs::create_dir_all("/run/dbus").expect("a folder");
    // What an earlier bus left.
    let _ = fs::remove_file(BUS);
    fs::write("/run/lab/bus.conf", config).expect("a file");
    let mut command = on_the_host(Path::new("dbus-daemon"));
    command.args(["--config-file=/run/lab/bus.conf", "--nofork", "--nopidfile", "--print-address=1"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut bus = start(&mut command);
    let mut address = String::new();
    let stdout = bus.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut address).expect("its address");
    assert!(address.contains(BUS), "the bus did not start: {address:?}");
    bus
}

/// The real systemd-resolved of a host.
pub struct Resolved {
    process: Option<Process>,
    program: PathBuf,
}

impl Resolved {
    /// Why it cannot be started here.
    pub fn missing() -> Option<&'static str> {
        let found = program("lib/systemd/systemd-resolved").is_some() && resolvectl_program().is_some();
        (!found).then_some("no systemd-resolved: scripts/test fetches it where it can")
    }

    /// Starts it as the host's resolver: its stub is the one server in `/etc/resolv.conf`, its default server is
    /// `server`. It answers when this returns.
    pub fn start(server: &str) -> Self {
        let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let others = users.lines().filter(|line| !line.starts_with("systemd-resolve:"));
        // It changes to its own user, which need not exist here; a user namespace has but one.
        let own = "systemd-resolve:x:0:0::/:/usr/sbin/nologin";
        let users: String = others.chain([own]).map(|line| format!("{line}\n")).collect();
        fs::write("/etc/passwd", users).expect("a private /etc/passwd");
        for folder in ["/etc/systemd", "/run/systemd"] {
            fs::create_dir_all(folder).expect("a folder");
        }
        // The tests do not use LLMNR and mDNS.
        let config = format!("[Resolve]\nDNS={server}\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n");
        fs::write("/etc/systemd/resolved.conf", config).expect("its configuration");
        let _ = fs::remove_file("/etc/resolv.conf");
        symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf").expect("a symbolic link");
        let program = program("lib/systemd/systemd-resolved").expect("looked for before");
        let mut resolved = Self { process: None, program };
        resolved.run();
        resolved
    }

    fn run(&mut self) {
        let log = File::options().create(true).append(true).open(LOG).expect("a log file");
        let mut command = on_the_host(&self.program);
        command.env("SYSTEMD_LOG_TARGET", "console").env_remove("NOTIFY_SOCKET").stdout(Stdio::null()).stderr(log);
        let mut process = start(&mut command);
        until("systemd-resolved answers", || {
            let ended = process.0.try_wait().expect("its state");
            assert!(ended.is_none(), "it ended: {}", fs::read_to_string(LOG).unwrap_or_default());
            resolvectl("status").succeeded()
        });
        self.process = Some(process);
    }

    /// Restarts it, without its state of links.
    pub fn restart(&mut self) {
        self.process = None;
        let _ = fs::remove_dir_all("/run/systemd/resolve");
        self.run();
    }
}

/// `resolvectl` on the host, with these words.
pub fn resolvectl(words: &str) -> Out {
    let program = resolvectl_program().expect("looked for before");
    let mut line = vec!["nsenter", "--net=/run/netns/host", "--", program.to_str().expect("text"), "--no-pager"];
    line.extend(words.split_whitespace());
    run_words(&line)
}

fn resolvectl_program() -> Option<PathBuf> {
    program("bin/resolvectl")
}

fn program(path: &str) -> Option<PathBuf> {
    let all = PLACES.iter().flat_map(|place| ["usr/", ""].map(|usr| format!("{place}/{usr}{path}")));
    all.map(PathBuf::from).find(|path| path.exists())
}
