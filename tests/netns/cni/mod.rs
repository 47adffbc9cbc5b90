//! The CNI plugin against the real daemon and kernel. The plugin's own parsing is tested in `tests/cni`, real runtimes
//! in `tests/runtimes`.

mod chain;
mod crash;
mod crowd;
mod drift;
mod ipam;
mod job;
mod ports;

use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    [job::trials(), ports::trials(), drift::trials(), crowd::trials(), chain::trials(), ipam::trials(), crash::trials()]
        .into_iter()
        .flatten()
        .collect()
}

use crate::lab::Lab;
use crate::lab::look::{elements, links};

/// Links and elements of the host, and netd's containers: equal before ADD and after DEL.
fn traces(lab: &Lab) -> String {
    format!("{:?}\n{}\n{}", links("host"), elements(), lab.netd("ps --json").ok().stdout)
}
