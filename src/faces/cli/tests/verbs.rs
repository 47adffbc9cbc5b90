//! Tests verbs with a served API and an in-memory engine.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::usage::args;
use crate::base::descriptors::Capacity;
use crate::engine::telemetry::{Entry, Origin};
use crate::engine::{Handle, testing};
use crate::faces::cli::*;
use crate::faces::http;
use crate::faces::shared::server::access::Access;
use crate::faces::shared::server::dialect::Dialect;
use crate::faces::shared::server::serve;

/// A served API. Dropping it ends it.
pub(super) struct Daemon {
    directory: tempfile::TempDir,
    handle: Handle,
    _runtime: tokio::runtime::Runtime,
}

impl Daemon {
    pub(super) fn start(ready: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let socket = directory.path().join("netd.sock");
        let handle = testing::engine();
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&socket).unwrap();
            let local = serve::Local { listener, access: Access::own(), inherited: false, dialect: Dialect::Native };
            let router = http::router(handle.clone(), testing::names(), Arc::new(AtomicBool::new(ready)));
            tokio::spawn(serve::serve_unix(local, router, Capacity::default(), std::future::pending()));
        });
        Self { directory, handle, _runtime: runtime }
    }

    /// Runs a command line. Returns exit code, stdout and stderr.
    pub(super) fn netd(&self, line: &str) -> (u8, String, String) {
        self.netd_in(line, &Fake::default())
    }

    fn netd_in(&self, line: &str, sandbox: &dyn Sandbox) -> (u8, String, String) {
        self.carry_out(args(line), sandbox)
    }

    /// The same with words.
    pub(super) fn netd_words(&self, words: Vec<OsString>) -> (u8, String, String) {
        self.carry_out(words, &Fake::default())
    }

    fn carry_out(&self, words: Vec<OsString>, sandbox: &dyn Sandbox) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = match parse(words) {
            Ok(Cli { verb: Verb::Client(verb), .. }) => run_to(verb, self.client(), sandbox, &mut out, &mut err),
            Ok(_) => panic!("not a client verb"),
            Err(misuse) => {
                err.extend_from_slice(misuse.text.as_bytes());
                misuse.code
            }
        };
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    pub(super) fn client(&self) -> Client {
        Client::new(self.directory.path().join("netd.sock"))
    }

    pub(super) fn ok(&self, line: &str) -> String {
        let (code, out, err) = self.netd(line);
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out
    }

    pub(super) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(line)).unwrap()
    }
}

/// Carries out a verb that runs nothing, with these outputs.
pub(super) fn run_plain(verb: ClientVerb, client: Client, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    run_to(verb, client, &Fake::default(), out, err)
}

/// Like [`run`], but with other outputs, which are not terminals.
fn run_to(verb: ClientVerb, client: Client, sandbox: &dyn Sandbox, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let host = Host { sandbox, containers: &NoContainers, variables: &|_| None };
    run_in(verb, &mut Session { client, width: None, out, err }, host)
}

/// A host without containers of other runtimes.
struct NoContainers;

impl Containers for NoContainers {
    fn prepared(&self, pid: u32) -> Result<Box<dyn Prepared>, String> {
        Err(format!("no process {pid}"))
    }
}

/// A sandbox that only records the calls.
#[derive(Default)]
struct Fake {
    fails: bool,
    log: Rc<RefCell<Vec<String>>>,
}

impl Sandbox for Fake {
    fn start(&self, command: &[OsString]) -> Result<Box<dyn Running>, String> {
        if self.fails {
            return Err("clone: Operation not permitted".into());
        }
        self.log.borrow_mut().push(format!("start {command:?}"));
        Ok(Box::new(Started(self.log.clone())))
    }
}

struct Started(Rc<RefCell<Vec<String>>>);

impl Running for Started {
    fn pid(&self) -> u32 {
        4711
    }
    fn go(&mut self, resolv_conf: &str, hosts: &str) -> Result<(), String> {
        assert!(resolv_conf.contains("nameserver 10.77.0.1"), "{resolv_conf}");
        assert!(hosts.contains("localhost"), "{hosts}");
        self.0.borrow_mut().push("go".into());
        Ok(())
    }
    fn wait(&mut self) -> Result<u8, String> {
        Ok(42)
    }
    fn abort(&mut self) {
        self.0.borrow_mut().push("abort".into());
    }
}

/// The words of a line without the random one.
fn words(text: &str, line: usize, random: usize) -> Vec<&str> {
    let mut words: Vec<&str> = text.lines().nth(line).unwrap().split_whitespace().collect();
    assert_eq!(words.remove(random).len(), 12, "a short id: {text}");
    words
}

#[test]
fn the_main_job_as_tables() {
    let daemon = Daemon::start(true);
    assert_eq!(daemon.ok("network create net1"), "net1\n");
    assert_eq!(
        daemon.ok("connect net1 web --netns /run/netns/there -p 4000:80"),
        "web connected to net1: eth0 10.77.0.2/24, *:4000->80/tcp\n"
    );
    let networks = daemon.ok("network ls");
    assert_eq!(networks.lines().next(), Some("NAME   ID             DRIVER   BRIDGE    SUBNETS"));
    assert_eq!(words(&networks, 1, 1), ["net1", "bridge", "nd-net1", "10.77.0.0/24"]);
    let ps = daemon.ok("ps");
    assert_eq!(ps.lines().next(), Some("NAME   ID             NETWORKS   ADDRESSES      PORTS"));
    assert_eq!(words(&ps, 1, 1), ["web", "net1", "10.77.0.2/24", "*:4000->80/tcp"]);
    let port = daemon.ok("port web");
    assert_eq!(port.lines().nth(1), Some("*:4000->80/tcp   net1      every host that reaches this one"));
    assert!(daemon.ok("inspect web net1").contains("endpoints.0.ports.0.host_port"));
    assert!(daemon.ok("status").lines().any(|line| line.split_whitespace().eq(["ready", "true"])));
    assert!(daemon.ok("dump").contains("networks.0.name"));
    assert!(daemon.ok("version").starts_with("netd "));
    let explained = "NAME   TYPE   STATUS    ANSWER\nweb    A      NOERROR   10.77.0.2\n\nweb sees network net1\n\
        container web on network net1 has the name: 10.77.0.2\n";
    assert_eq!(daemon.ok("resolve web --from web"), explained);
    assert_eq!(daemon.ok("disconnect net1 web"), "web disconnected from net1\n");
    assert_eq!(daemon.ok("network rm net1"), "net1\n");
    assert_eq!(daemon.ok("network prune"), "");
}

#[test]
fn a_query_log_is_switched_listed_and_shown() {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    daemon.ok("connect net1 web --pid 1");
    let (code, _, err) = daemon.netd("dns log show web");
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
    assert!(err.contains("are not logged: see `netd dns log on web`"), "{err}");
    assert_eq!(daemon.ok("dns log on web"), "queries of web are logged: see `netd dns log show web`\n");
    let logged = daemon.handle.telemetry().log.now().values().next().unwrap().clone();
    let entry = Entry {
        time: std::time::UNIX_EPOCH,
        transport: "udp",
        name: "www.example".into(),
        kind: "A".into(),
        code: "NOERROR".into(),
        answers: vec!["192.0.2.1".into(), "192.0.2.2".into()],
        answer_count: 5,
        origin: Origin::Upstream("192.0.2.53:53".parse().unwrap()),
        duration: std::time::Duration::from_millis(2),
        dropped_before: 0,
    };
    logged.drop_one();
    logged.add(entry.clone());
    let unknown = Entry { code: "NXDOMAIN".into(), answers: vec![], answer_count: 0, origin: Origin::Local, ..entry };
    logged.add(unknown);
    let shown = "… 1 entries dropped\n\
        1970-01-01T00:00:00.000000Z  udp  www.example A  NOERROR  192.0.2.1, 192.0.2.2 and 3 more  \
        (upstream 192.0.2.53:53, 2000 us)\n\
        1970-01-01T00:00:00.000000Z  udp  www.example A  NXDOMAIN  -  (local, 2000 us)\n";
    assert_eq!(daemon.ok("dns log show web"), shown);
    assert_eq!(daemon.json("dns log show web --json")[0]["answer_count"], 5);
    let list = daemon.ok("dns log ls");
    assert_eq!(list.lines().next(), Some("CONTAINER   SINCE                  ENTRIES   DROPPED"));
    assert!(list.lines().nth(1).unwrap().ends_with("2         1"), "{list}");
    drop(logged);
    assert_eq!(daemon.ok("dns log off web"), "queries of web are not logged\n");
    assert_eq!(daemon.json("dns log ls --json"), serde_json::json!([]));
}

#[test]
fn a_reservation_is_made_listed_used_and_released() {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    let what = "10.77.0.2/24, 02:6e:0a:4d:00:02, *:4000->80/tcp";
    assert_eq!(
        daemon.ok("reservation create net1 r1 -p 4000:80 --dry-run"),
        format!("reserve {what} on network net1 as r1\nbind 0.0.0.0:4000/tcp, [::]:4000/tcp\n")
    );
    assert_eq!(daemon.ok("reservation create net1 r1 -p 4000:80"), format!("r1 reserved on net1: {what}\n"));
    daemon.ok("reservation create net1 r2 --ip 10.77.0.9 --mac 02:00:00:00:00:01");
    let table = daemon.ok("reservation ls --network net1");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
    assert_eq!(rows[0], ["ID", "NETWORK", "ADDRESSES", "MAC", "PORTS"]);
    assert_eq!(rows[1], ["r1", "net1", "10.77.0.2/24", "02:6e:0a:4d:00:02", "*:4000->80/tcp"]);
    assert_eq!(rows[2], ["r2", "net1", "10.77.0.9/24", "02:00:00:00:00:01", "-"]);
    assert_eq!(daemon.json("reservation ls --json").as_array().map(Vec::len), Some(2));
    let shown = daemon.ok("network inspect net1");
    let line = shown.lines().find(|line| line.starts_with("reservations")).unwrap();
    assert!(line.ends_with("   r1, r2"), "{line}");
    let (code, out, err) = daemon.netd("network rm net1");
    let line = "netd: remove network net1: network net1 is in use by the reservations r1, r2: release them first \
                (`netd reservation rm`)\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "", line));
    assert_eq!(
        daemon.ok("connect net1 web --netns /run/netns/there --reservation r1"),
        "web connected to net1: eth0 10.77.0.2/24, *:4000->80/tcp\n"
    );
    let planned = daemon.ok("disconnect net1 web --keep r3 --dry-run");
    assert!(planned.starts_with(&format!("reserve {what} on network net1 as r3\n")), "{planned}");
    assert!(!planned.contains("release"), "{planned}");
    let kept = "web disconnected from net1, kept as reservation r3\n";
    assert_eq!(daemon.ok("disconnect net1 web --keep r3"), kept);
    assert!(daemon.ok("reservation ls").contains("r3   net1"));
    assert!(daemon.ok("reservation rm r2 --dry-run").starts_with("release 10.77.0.9/24, 02:00:00:00:00:01 on network"));
    let (code, out, err) = daemon.netd("reservation rm r1 r2");
    let line = "netd: release reservation r1: no reservation \"r1\": see `netd reservation ls`\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, "r2\n", line));
}

#[test]
fn json_of_listing_verbs_is_an_array_and_of_the_others_an_object() {
    let daemon = Daemon::start(true);
    assert_eq!(daemon.json("network create net1 --json")["bridge"], "nd-net1");
    let web = daemon.json("connect net1 web --pid 4711 -p 127.0.0.1:4000:80 -p 192.0.2.7:1-2:3-4/udp --json");
    assert_eq!(web["container"]["name"], "web");
    for line in ["network ls", "network inspect net1", "ps", "port web", "inspect web net1"] {
        let json = daemon.json(&format!("{line} --json"));
        assert!(json.as_array().is_some_and(|array| !array.is_empty()), "{line}");
    }
    for line in ["status", "dump", "version", "resolve web"] {
        assert!(daemon.json(&format!("{line} --json")).is_object(), "{line}");
    }
    let ports = daemon.json("port web --json");
    assert_eq!((&ports[0]["reachable_by"], &ports[0]["host_ip"]), (&"this host only".into(), &"127.0.0.1".into()));
    assert_eq!(
        (&ports[1]["reachable_by"], &ports[1]["host_port_end"]),
        (&"hosts that reach 192.0.2.7".into(), &2.into())
    );
    assert_eq!(daemon.json("inspect net1 web --json")[1]["endpoints"][0], web);
}

#[test]
fn refusals_are_one_line_and_code_1_and_nothing_is_changed() {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    let before = daemon.ok("dump --json");
    for (line, code, words) in [
        ("network create net1", 1, "netd: create network net1: network net1 already exists"),
        ("network rm nope", 1, "netd: remove network nope: no network \"nope\""),
        ("network inspect nope", 1, "netd: inspect nope: no network \"nope\""),
        ("connect nope web --pid 1", 1, "netd: connect web to network nope: no network \"nope\""),
        ("connect net1 nobody", 1, "searched"),
        ("disconnect net1 web", 1, "netd: disconnect web from network net1: container \"web\" is not connected"),
        ("port web", 1, "netd: list the ports of web: no container \"web\": see `netd ps`"),
        ("inspect web", 1, "netd: inspect web: no container or network"),
        ("resolve web --from nope", 1, "netd: resolve web: no container \"nope\""),
        ("network create n --gateway 10.0.0.1", 2, "give the subnet as well"),
        ("network create n -o parent=eth0", 2, "the bridge driver knows"),
        ("network create n --mtu 60", 2, "use 68 to 65535"),
        ("network create n --ipv6 --mtu 1000", 2, "1280"),
        ("network create n --subnet 127.0.0.0/8", 2, "cannot have"),
        ("resolve web TYPE", 2, "record type"),
        ("resolve a/b", 2, "invalid DNS name"),
    ] {
        let (exit, out, err) = daemon.netd(line);
        assert_eq!(exit, code, "{line}: {err}");
        assert!(err.contains(words) && err.starts_with("netd: ") && err.lines().count() == 1, "{line}: {err}");
        assert!(out.is_empty(), "{line}: {out}");
    }
    assert_eq!(daemon.ok("dump --json"), before);
}

#[test]
fn several_names_are_all_tried() {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    daemon.ok("network create net2");
    let (code, out, err) = daemon.netd("network inspect net1 nope net2 --json");
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap().as_array().unwrap().len()), (1, 2), "{err}");
    let (code, out, err) = daemon.netd("network rm net1 nope net2");
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "net1\nnet2\n", 1), "{err}");
}

#[test]
fn an_absent_or_unready_daemon_is_reported() {
    let daemon = Daemon::start(false);
    let (code, out, err) = daemon.netd("status --json");
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["ready"].clone()), (1, false.into()));
    assert!(err.contains("not ready yet"), "{err}");

    let (mut out, mut err) = (Vec::new(), Vec::new());
    let missing = Client::new(daemon.directory.path().join("none.sock"));
    let Verb::Client(verb) = parse(args("ps")).unwrap().verb else { panic!("ps") };
    assert_eq!(run_to(verb, missing, &Fake::default(), &mut out, &mut err), 1);
    let err = String::from_utf8(err).unwrap();
    assert!(err.contains("none.sock") && err.contains("is it running?") && err.lines().count() == 1, "{err}");
}

/// A reader that has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let daemon = Daemon::start(true);
    for line in ["ps", "ps --json", "completions bash", "status", "dump", "version"] {
        let Verb::Client(verb) = parse(args(line)).unwrap().verb else { panic!("{line}") };
        let mut err = Vec::new();
        let code = run_to(verb, daemon.client(), &Fake::default(), &mut Closed, &mut err);
        assert_eq!((code, err), (0, Vec::new()), "{line}");
    }
}

#[test]
fn a_run_is_connected_before_it_begins_and_disconnected_after() {
    let daemon = Daemon::start(true);
    let sandbox = Fake::default();
    let (code, out, err) = daemon.netd_in("run --name web -p 80 -- sh -c true", &sandbox);
    assert_eq!((code, out.as_str()), (42, ""), "{err}");
    assert!(err.starts_with("netd: web: published *:") && err.ends_with("->80/tcp\n"), "{err}");
    assert_eq!(*sandbox.log.borrow(), [r#"start ["sh", "-c", "true"]"#, "go"]);
    assert_eq!(daemon.json("ps --json"), serde_json::json!([]));
    assert_eq!(daemon.json("network ls --json")[0]["name"], "default");
    // The network exists now.
    assert_eq!(daemon.netd("run -- true").0, 42);
}

#[test]
fn a_run_that_cannot_begin_leaves_nothing() {
    let daemon = Daemon::start(true);
    let sandbox = Fake::default();
    let (code, _, err) = daemon.netd_in("run --name web --network nope -- true", &sandbox);
    assert_eq!((code, err.as_str()), (1, "netd: run true as web: no network \"nope\": see `netd network ls`\n"));
    assert_eq!(*sandbox.log.borrow(), [r#"start ["true"]"#, "abort"]);
    let (code, _, err) = daemon.netd_in("run --name web -- true", &Fake { fails: true, ..Fake::default() });
    assert_eq!((code, err.as_str()), (1, "netd: run true as web: clone: Operation not permitted\n"));
    assert_eq!(daemon.json("ps --json"), serde_json::json!([]));
}

#[test]
fn there_is_a_man_page_for_each_verb_and_completions_for_each_shell() {
    let daemon = Daemon::start(true);
    let pages = daemon.directory.path().join("man");
    daemon.ok(&format!("man {}", pages.display()));
    for page in ["netd.1", "netd-network.1", "netd-network-create.1", "netd-connect.1", "netd-config-check.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH"), "{page}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(daemon.ok(&format!("completions {shell}")).contains("disconnect"), "{shell}");
    }
}
