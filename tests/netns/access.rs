//! Who may use the API's unix socket: `netd` as other users of the host.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use libtest_mimic::Trial;

use crate::lab::daemon::{CONFIG, SOCKET, netd};
use crate::lab::{Lab, Out, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("access: root and the group may do everything, others nothing", closed),
        trial("access: where configured, others may read", readers),
    ]
}

/// The id of the group in this laboratory.
const GROUP: u32 = 4242;

fn add_group(name: &str) {
    let mut groups = OpenOptions::new().append(true).open("/etc/group").unwrap();
    writeln!(groups, "{name}:x:{GROUP}:").unwrap();
}

/// `netd` as a user with this primary and this further group.
fn as_user(groups: (u32, u32), words: &str) -> Out {
    // Where the program is, the user may not look.
    let program = "/run/lab/netd-of-users";
    if !fs::exists(program).unwrap() {
        // By another process: while this one has it open for writing, nobody can start it.
        run(&format!("cp {} {program}", netd())).ok();
    }
    let (primary, further) = groups;
    let user = format!("setpriv --reuid=1000 --regid={primary} --groups={further} --inh-caps=-all");
    run(&format!("{user} {program} --socket {SOCKET} {words}"))
}

const STRANGER: (u32, u32) = (1000, 1001);

fn closed(lab: &Lab) {
    add_group("netd");
    lab.start_daemon();
    for (number, member) in [(GROUP, 1000), (1000, GROUP)].into_iter().enumerate() {
        as_user(member, &format!("network create net{number}")).ok();
    }
    let refused = as_user(STRANGER, "network ls").refused();
    assert!(refused.contains("Permission denied") && refused.contains("socket_group"), "{refused}");
    // Whatever somebody does to the file.
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666)).unwrap();
    for words in ["network ls", "network rm net0", "events"] {
        let refused = as_user(STRANGER, words).refused();
        assert!(
            refused.contains("user 1000 may not use netd: root and the members of the group netd may"),
            "{refused}"
        );
    }
    lab.netd("network rm net0").ok();
}

fn readers(lab: &Lab) {
    add_group("wheel");
    fs::write(CONFIG, "socket_group = \"wheel\"\nsocket_others = \"read\"\n").unwrap();
    lab.start_daemon();
    as_user((1000, GROUP), "network create net1").ok();
    assert!(as_user(STRANGER, "network ls").ok().stdout.contains("net1"));
    as_user(STRANGER, "status").ok();
    for words in ["network rm net1", "network create net2", "teardown --yes"] {
        let refused = as_user(STRANGER, words).refused();
        let sentence = "user 1000 may read, but not change anything: root and the members of the group wheel may";
        assert!(refused.contains(sentence), "{refused}");
    }
    assert!(lab.netd("network ls").ok().stdout.contains("net1"));
}
