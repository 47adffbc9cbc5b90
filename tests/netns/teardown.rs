//! `netd teardown` removes everything that netd made, and nothing else does.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::daemon::{SOCKET, netd};
use crate::lab::look::{everything, links, ruleset, same};
use crate::lab::{HOST4, Lab, Proto, Server, ask, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("teardown: through the daemon it removes everything, and the daemon ends", with_daemon),
        trial("teardown: without a daemon it removes everything, and can be repeated", without_daemon),
        trial("teardown: what another store left is removed too", without_store),
        trial("teardown: it must be confirmed, and a dry run changes nothing", confirmed),
    ]
}

/// The flags of the laboratory's daemon.
const PLACES: &str = "--state-dir /run/lab/state --runtime-dir /run/lab/runtime";

/// One of each kind of object that netd makes; returns everything as it was before, without a daemon.
fn set_up(lab: &Lab) -> Before {
    run("ip netns exec host nft add table inet filter").ok();
    let base = "{ type filter hook forward priority 0 ; policy drop ; }";
    run(&format!("ip netns exec host nft add chain inet filter forward {base}")).ok();
    for name in ["web", "inside", "fast"] {
        lab.container(name);
    }
    // netd does not turn it off again.
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        crate::lab::space::sysctl("host", key, "1");
    }
    let before = Before { rules: ruleset(), all: state_of_all() };
    lab.start_daemon();
    lab.netd("network create net1 --ipv6").ok();
    lab.netd("network create net2 -o dns.listen=container").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.connected("net2", "inside", "");
    lab.connected("net1", "fast", "");
    let _server = Server::start("web", "web", 80);
    assert_eq!(ask("outside", Proto::Tcp, (HOST4, 4000)).who, "web");
    assert!(ruleset().contains("netd: its bridges"), "{}", ruleset());
    assert!(inside_tables("inside").contains("netd_dns"));
    before
}

/// The host without netd.
struct Before {
    rules: String,
    all: String,
}

fn state_of_all() -> String {
    everything() + &inside_tables("inside")
}

fn inside_tables(container: &str) -> String {
    run(&format!("ip netns exec {container} nft list ruleset")).ok().stdout
}

#[track_caller]
fn nothing_left(before: &Before) {
    // The kernel removes the interfaces of a group some time after it has answered.
    until("the links are gone", || seen(links("host"), |links| !links.iter().any(|name| name.starts_with("nd"))));
    same(&before.all, &state_of_all());
    for file in ["/run/lab/state", "/run/lab/runtime", "/run/lab/netd.sock"] {
        assert!(!Path::new(file).exists(), "{file} is left");
    }
}

fn with_daemon(lab: &Lab) {
    let before = set_up(lab);
    let out = lab.netd("teardown --yes").ok().stdout;
    for part in [
        "disconnect web from net1",
        "remove network net2",
        "delete bridge nd-net1",
        "delete table inet netd, table bridge netd and table inet netd_services",
        "accept rule",
        "/etc/netns/web/resolv.conf",
        "/run/lab/state/netd.redb",
        " objects removed",
    ] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert_eq!(lab.daemon_status(), Some(3), "a service manager must not start it again");
    nothing_left(&before);
    let out = lab.netd(&format!("teardown --yes {PLACES}")).ok().stdout;
    assert_eq!(out, "netd has made nothing here\n");
    nothing_left(&before);
}

fn without_daemon(lab: &Lab) {
    let before = set_up(lab);
    lab.kill_daemon();
    let listed = lab.netd(&format!("teardown --dry-run {PLACES}")).ok().stdout;
    let out = lab.netd(&format!("teardown --yes {PLACES}")).ok().stdout;
    assert!(out.starts_with(&listed) && out.ends_with(" objects removed\n"), "listed:\n{listed}removed:\n{out}");
    fs::remove_file("/run/lab/netd.sock").unwrap();
    nothing_left(&before);
    let again = lab.netd(&format!("teardown --yes --json {PLACES}")).ok();
    assert_eq!(again.json(), serde_json::json!([]));
    nothing_left(&before);
}

fn without_store(lab: &Lab) {
    let before = set_up(lab);
    lab.kill_daemon();
    for file in ["/run/lab/state", "/run/lab/runtime"] {
        fs::remove_dir_all(file).unwrap();
    }
    fs::remove_file("/run/lab/netd.sock").unwrap();
    lab.netd(&format!("teardown --yes {PLACES}")).ok();
    until("the links are gone", || seen(links("host"), |links| !links.iter().any(|name| name.starts_with("nd"))));
    // That a file is its own, and which containers it served within, only the store knew.
    assert_eq!(ruleset(), before.rules);
    assert_eq!(links("web"), ["lo"]);
}

fn confirmed(lab: &Lab) {
    set_up(lab);
    let before = lab.everything();
    let out = lab.netd("teardown");
    assert_eq!(out.code, Some(2), "{out:?}");
    assert!(out.stderr.contains("--yes"), "{out:?}");
    let listed = lab.netd("teardown --dry-run").ok().stdout;
    assert!(listed.contains("delete table inet netd"), "{listed}");
    lab.unchanged_since(&before);
    let asked = on_terminal("n\n");
    assert!(asked.contains("remove all of this? [y/N]") && asked.contains("nothing was removed"), "{asked}");
    lab.unchanged_since(&before);
    assert!(on_terminal("y\n").contains(" objects removed"));
    assert_eq!(lab.daemon_status(), Some(3));
}

/// What `netd teardown` says to a person who answers this.
fn on_terminal(answer: &str) -> String {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/host", "--", netd(), "teardown"]).env("NETD_SOCKET", SOCKET);
    command.stdin(terminal.slave).stdout(Stdio::piped()).stderr(Stdio::piped());
    let netd = command.spawn().unwrap();
    File::from(terminal.master.try_clone().unwrap()).write_all(answer.as_bytes()).unwrap();
    let output = netd.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
