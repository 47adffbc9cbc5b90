//! The daemon's store on full, read-only, damaged and missing files: traffic goes on, nothing acknowledged is lost, and
//! what passes does not become permanent.

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::{contains, lacks};

use crate::files::Second;
use crate::lab::daemon::{SOCKET, netd};
use crate::lab::look::{links, same, without_revision};
use crate::lab::{Dig, HOST4, Lab, Proto, Server, ask, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("store: a full disk refuses changes, keeps traffic, releases who ended, and passes", full),
        trial("store: a read-only state directory is a problem until it is writable", read_only),
        trial("store: a first start that was killed at any time is followed by one that works", killed),
        trial("store: a damaged netd.redb is set aside and made again from its copy", damaged_definitions),
        trial("store: damaged or missing endpoints are found in the kernel", lost_endpoints),
        trial("store: an empty state directory is refused while containers are connected", unmounted),
        trial("store: a file of a later netd is refused and left as it is", later),
        trial("store: a backup brings back a host whose files are all lost, while its traffic flows", all_lost),
    ]
}

const STATE: &str = "/run/lab/state";
const RUNTIME: &str = "/run/lab/runtime";

/// A container with a published port, and one that asks for its name.
fn set_up(lab: &Lab) -> (Server, String) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net1", "client", "");
    let server = Server::start("web", "web", 80);
    let address = lab.address("net1", "web")[0].to_string();
    works(&address);
    (server, address)
}

fn works(address: &str) {
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (address, 80)).who, "web");
    Dig::expect("client", "web", &[address]);
}

/// Everything but the problems.
fn everything(lab: &Lab) -> String {
    let all = without_revision(&lab.everything());
    let lines = all.lines().filter(|line| !line.starts_with("problems") && !line.contains(".damaged-"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Traffic that needs no daemon.
fn flows(address: &str) {
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert_eq!(ask("client", Proto::Tcp, (address, 80)).who, "web");
}

fn status(lab: &Lab) -> String {
    lab.netd("status").stdout
}

/// Makes netd look at everything at once: another program's change.
fn disturb() {
    run("ip netns exec host nft delete table inet netd").ok();
}

/// Starts the daemon, which must end by itself with one line.
fn refused(more: &str) -> String {
    let places = format!("--socket {SOCKET} --state-dir {STATE} --runtime-dir {RUNTIME} {more}");
    run(&format!("timeout 10 nsenter --net=/run/netns/host -- {} daemon {places}", netd())).refused()
}

/// Takes all the room of a file system.
fn fill(folder: &str) {
    let file = fs::File::create(format!("{folder}/filler")).unwrap();
    let mut at = 0;
    for size in [1 << 16, 4096, 1] {
        while file.write_at(&vec![1; size], at).is_ok_and(|written| written > 0) {
            at = file.metadata().unwrap().len();
        }
    }
}

/// Fills the file system of a file, and repeats a command, each time with the next name, until it is refused because of
/// that. Returns the names before: some changes need no further room.
fn until_refused(
    lab: &Lab,
    (folder, file): (&str, &str),
    command: &str,
    names: &mut impl Iterator<Item = String>,
) -> Vec<String> {
    fill(folder);
    let mut made = Vec::new();
    for name in names {
        let out = lab.netd(&format!("{command} {name}"));
        if out.code == Some(0) {
            made.push(name);
            continue;
        }
        let line = out.refused();
        assert!(line.contains(&format!("{folder}/{file}")) && line.contains("No space left"), "{line}");
        return made;
    }
    panic!("all was accepted: {made:?}");
}

/// There is room again.
fn accepted(lab: &Lab, folder: &str, command: &str) {
    fs::remove_file(format!("{folder}/filler")).unwrap();
    lab.netd(command).ok();
    until("the problem is over", || lacks(status(lab), "No space left"));
}

fn full(lab: &Lab) {
    for folder in [STATE, RUNTIME] {
        fs::create_dir_all(folder).unwrap();
        run(&format!("mount -t tmpfs -o size=4m,mode=0700 small {folder}")).ok();
    }
    let (_server, address) = set_up(lab);
    let names: Vec<String> = (0..80).map(|number| format!("c{number}")).collect();
    names.iter().chain([&"next".to_owned(), &"last".to_owned()]).for_each(|name| lab.container(name));
    let mut names = names.into_iter();
    let mut connect = || until_refused(lab, (RUNTIME, "endpoints.redb"), "connect net1", &mut names);
    let mut made = connect();
    assert!(status(lab).contains("endpoints.redb: No space left"), "{}", status(lab));
    works(&address);
    run("ip netns delete client").ok();
    until("who has ended is released", || lacks(&lab.netd("ps").ok().stdout, "client"));
    disturb();
    until("the table is back", || contains(crate::lab::look::elements(), &address));
    assert!(status(lab).contains("No space left"), "it lasts: {}", status(lab));
    // The daemon that refused changes, and then the next one, which began with a full disk.
    accepted(lab, RUNTIME, "connect net1 next");
    made.extend(connect());
    lab.kill_daemon();
    lab.start_daemon();
    let shown = lab.netd("ps").ok().stdout;
    assert!(made.iter().all(|name| shown.contains(name.as_str())), "acknowledged: {made:?}, {shown}");
    assert!(shown.contains("web") && shown.contains("next") && !shown.contains("client"), "{shown}");
    accepted(lab, RUNTIME, "connect net1 last");

    let mut names = (0..400).map(|number| format!("n{number}"));
    let mut create = || until_refused(lab, (STATE, "netd.redb"), "network create", &mut names);
    create();
    lab.netd("disconnect net1 last").ok();
    assert!(
        status(lab).contains("netd.redb: No space left"),
        "what was accepted was in the other file: {}",
        status(lab)
    );
    accepted(lab, STATE, "network create next");
    create();
    let before = lab.netd("network ls").ok().stdout;
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(lab.netd("network ls").ok().stdout, before);
    accepted(lab, STATE, "network create last");
}

fn read_only(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.stop_daemon();
    run(&format!("mount --bind {STATE} {STATE}")).ok();
    run(&format!("mount -o remount,bind,ro {STATE}")).ok();
    lab.start_daemon();
    works(&address);
    assert!(status(lab).contains("netd.redb: Read-only file system"), "{}", status(lab));
    let line = lab.netd("network create net2").refused();
    assert!(line.contains("netd.redb: Read-only file system") && line.contains("mount"), "{line}");
    lab.container("other");
    lab.netd("connect net1 other").ok();
    run(&format!("mount -o remount,bind,rw {STATE}")).ok();
    lab.netd("network create net2").ok();
    until("the problem is over", || lacks(status(lab), "Read-only"));
    lab.kill_daemon();
    lab.start_daemon();
    assert!(lab.netd("network ls").ok().stdout.contains("net2"));
    works(&address);
    // There is nothing to read.
    lab.stop_daemon();
    run(&format!("umount {STATE}")).ok();
    fs::remove_dir_all(STATE).unwrap();
    fs::remove_dir_all(RUNTIME).unwrap();
    fs::create_dir(STATE).unwrap();
    run(&format!("mount -t tmpfs -o ro none {STATE}")).ok();
    let line = refused("");
    assert!(line.contains(STATE) && line.contains("Read-only file system"), "{line}");
}

fn killed(lab: &Lab) {
    for number in 0u64..60 {
        let _ = fs::remove_dir_all(STATE);
        let _ = fs::remove_dir_all(RUNTIME);
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/host", "--", netd(), "daemon", "--socket", SOCKET, "--state-dir", STATE]);
        command.args(["--runtime-dir", RUNTIME]).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = Second(command.spawn().expect("a daemon"));
        std::thread::park_timeout(std::time::Duration::from_micros(700 * number));
        drop(daemon);
        lab.start_daemon();
        assert!(!status(lab).contains(".damaged"), "{}", status(lab));
        lab.kill_daemon();
    }
}

fn damaged_definitions(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.netd("network create kept --sticky --ipv6").ok();
    let before = everything(lab);
    let path = format!("{STATE}/netd.redb");
    let bytes = fs::read(&path).unwrap();
    for (number, damage) in
        [b"not a database".to_vec(), bytes[..bytes.len() / 2].to_vec(), Vec::new()].iter().enumerate()
    {
        lab.kill_daemon();
        fs::write(&path, damage).unwrap();
        lab.start_daemon();
        same(&before, &everything(lab));
        works(&address);
        let aside = format!("{path}.damaged-{}", number + 1);
        assert!(status(lab).contains(&aside) && status(lab).contains("2 networks"), "{}", status(lab));
        assert_eq!(&fs::read(&aside).unwrap(), damage);
    }
    assert!(lab.log().contains("netd.redb.damaged-3"), "{}", lab.log());
    for number in 1..=3 {
        fs::remove_file(format!("{path}.damaged-{number}")).unwrap();
    }
    disturb();
    until("the problem is over", || lacks(status(lab), ".damaged"));
}

fn lost_endpoints(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.netd("network create net2").ok();
    lab.netd("connect net2 web").ok();
    // A namespace that only a process has.
    lab.connected("net1", "db", "-p 127.0.0.1:5000-5002:5000-5002/udp");
    let holder = Command::new("ip").args(["netns", "exec", "db", "busybox", "sleep", "1000"]).spawn();
    let holder = Second(holder.expect("a process"));
    let pid = holder.0.id().to_string();
    until("it is there", || contains(&run("ip netns pids db").ok().stdout, &pid));
    run("ip netns delete db").ok();
    let endpoint = |network: &str, name: &str| {
        let mut endpoint = lab.endpoint(network, name);
        // What only the record had, and which of several paths leads to it.
        endpoint.as_object_mut().unwrap().remove("netns");
        endpoint["container"].as_object_mut().unwrap().retain(|key, _| key == "name");
        endpoint
    };
    let seen = || [("net1", "web"), ("net2", "web"), ("net1", "db")].map(|(network, name)| endpoint(network, name));
    let (before, links_before) = (seen(), links("host"));
    let lose: [fn(); 3] = [
        || fs::remove_dir_all(RUNTIME).unwrap(),
        || fs::write(format!("{RUNTIME}/endpoints.redb"), "damage").unwrap(),
        || fs::write(format!("{RUNTIME}/endpoints.redb"), vec![0; 1 << 20]).unwrap(),
    ];
    for lose in lose {
        lab.kill_daemon();
        lose();
        lab.start_daemon();
        assert_eq!(seen(), before);
        assert_eq!(links("host"), links_before, "no interface was made again");
        works(&address);
        Dig::expect("web", "db", &[&lab.address("net1", "db")[0].to_string()]);
        assert!(lab.log().contains("the record of web on net1 was lost"), "{}", lab.log());
    }
    assert!(status(lab).contains("endpoints.redb.damaged-2"), "{}", status(lab));
    // They are endpoints like others.
    drop(holder);
    // An id may have these letters too.
    until("db is released", || lacks(&lab.netd("ps").ok().stdout, "\ndb "));
    lab.netd("disconnect net1 web").ok();
    assert_eq!(links("web"), ["lo", "eth1"]);
    lab.netd("connect net1 web -p 4000:80").ok();
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
}

fn unmounted(lab: &Lab) {
    let (_server, address) = set_up(lab);
    let before = without_revision(&lab.everything());
    lab.kill_daemon();
    run(&format!("mount -t tmpfs none {STATE}")).ok();
    let line = refused("");
    for part in ["/run/lab/state/netd.redb", "is missing", "1 networks and 2 endpoints", "mount", "--rebuild"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(fs::read_dir(STATE).unwrap().count(), 0, "nothing was made");
    flows(&address);
    run(&format!("umount {STATE}")).ok();
    lab.start_daemon();
    same(&before, &without_revision(&lab.everything()));
    lab.kill_daemon();
    fs::remove_dir_all(STATE).unwrap();
    refused("");
    assert!(!Path::new(STATE).exists(), "nothing was made");
    let places = format!("--socket {SOCKET} --state-dir {STATE} --runtime-dir {RUNTIME} --rebuild");
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", netd(), "daemon"]).args(places.split(' '));
    let daemon = Second(command.stderr(Stdio::null()).spawn().expect("a daemon"));
    lab.netd("status --wait 10").ok();
    same(&before, &without_revision(&lab.everything()));
    works(&address);
    drop(daemon);
    lab.start_daemon();
    same(&before, &without_revision(&lab.everything()));
}

fn all_lost(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.netd("network create other --sticky --ipv6").ok();
    let file = "/run/lab/backup.json";
    lab.netd(&format!("backup {file}")).ok();
    let seen = || {
        let mut web = lab.endpoint("net1", "web");
        web["container"].as_object_mut().unwrap().remove("id");
        (web, lab.netd("network ls --json").ok().json(), links("host"))
    };
    let without_time = |(web, mut networks, links): (_, serde_json::Value, _)| {
        networks.as_array_mut().unwrap().iter_mut().for_each(|network| drop(network["created"].take()));
        (web, networks, links)
    };
    let before = without_time(seen());
    lab.kill_daemon();
    for folder in [STATE, RUNTIME] {
        fs::remove_dir_all(folder).unwrap();
    }
    lab.start_daemon();
    flows(&address);
    assert!(status(lab).contains("ndv-web-net1") && status(lab).contains("nd-net1"), "{}", status(lab));
    assert_eq!(links("host"), before.2, "nothing was removed");
    lab.differs("interfaces stay that belong to nothing, because the records were lost");
    disturb_nothing(lab);
    flows(&address);
    assert_eq!(lab.netd(&format!("restore {file}")).ok().stdout, "net1 created\nother created\n");
    assert_eq!(without_time(seen()), before);
    works(&address);
    assert!(!status(lab).contains("ndv-"), "{}", status(lab));
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(without_time(seen()), before);
    works(&address);
    // The next network gets its subnet from the prefix that the host had.
    lab.netd("network create next --ipv6").ok();
    assert_eq!(ula(lab, "next"), ula(lab, "other"));
}

/// The first 48 bits of a network's IPv6 subnet.
fn ula(lab: &Lab, network: &str) -> [u16; 3] {
    let subnets = lab.network(network)["subnets"].as_array().unwrap().clone();
    let addresses = subnets.iter().filter_map(|subnet| subnet["subnet"].as_str().unwrap().strip_suffix("/64"));
    let first = addresses.map(|address| address.parse::<Ipv6Addr>().unwrap().segments()).next().unwrap();
    [first[0], first[1], first[2]]
}

/// Makes netd look at everything, and waits for it.
fn disturb_nothing(lab: &Lab) {
    lab.netd("network create passing").ok();
    lab.netd("network rm passing").ok();
}

fn later(lab: &Lab) {
    let (_server, address) = set_up(lab);
    lab.stop_daemon();
    let path = format!("{STATE}/netd.redb");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = |name| redb::TableDefinition::<&str, &[u8]>::new(name);
    transaction.open_table(table("networks")).unwrap().insert("new", b"\x02{}".as_slice()).unwrap();
    transaction.open_table(table("meta")).unwrap().insert("version", b"\x01\"7.0.0\"".as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = fs::read(&path).unwrap();
    let line = refused("");
    assert!(line.contains("written by netd 7.0.0") && line.contains("netd backup"), "{line}");
    assert_eq!(fs::read(&path).unwrap(), before);
    flows(&address);
}
