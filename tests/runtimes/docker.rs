//! Containers of a real dockerd on networks of netd.

use libtest_mimic::Trial;

use crate::dockerd::{Dockerd, NEEDS, docker, in_sandbox, serve};
use crate::lab::{HOST4, Lab};
use crate::world::{fetches_the_page, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("docker: a published port answers outside, also after dockerd was restarted", NEEDS, works)]
}

/// The laboratory's dockerd is one as users have it.
fn works(_: &Lab) {
    let mut dockerd = Dockerd::start();
    serve("web", "-p 8080:80 --restart always");
    fetches_the_page("outside", &format!("{HOST4}:8080"));
    dockerd.restart();
    fetches_the_page("outside", &format!("{HOST4}:8080"));
    let addresses = in_sandbox("web", "ip -o -4 address show eth0").ok().stdout;
    assert!(addresses.contains("172.17.0."), "{addresses}");
    dockerd.kill();
    dockerd.start_again();
    docker("rm -f web").ok();
}
