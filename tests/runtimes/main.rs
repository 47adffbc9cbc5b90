//! Ring 4: real container runtimes drive netd through its CNI plugin: Podman, containerd's `ctr` and its CRI, and a
//! small libcni that loads every conflist in `cni-conf`; Podman with `netd-netavark`; and a dockerd has containers of its
//! own beside netd, or behind it.
//!
//! Runtimes need real root: with less, everything here is ignored, and failed where `CI=true` promises that it runs.
//! `main` enters namespaces of its own first ([`machine`]); each test then has ring 3's laboratory and, on top of it,
//! private copies of the folders that runtimes write to ([`world`]).
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends at the first surprise")]

mod bundle;
mod conflists;
mod containerd;
mod cri;
mod docker;
mod docker_cli;
mod docker_driver;
mod docker_sdk;
mod dockerd;
mod driver;
mod engine_api;
mod firewall_services;
mod firewalls;
mod foreign_networks;
mod grpc;
mod hook;
mod hooks_folder;
mod install;
mod libcni;
mod machine;
mod netavark;
mod pages;
mod podman;
mod podman_service;
mod policies_beside;
mod services;
mod strict_firewalls;
mod swarm;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use netd_testing::{harness, lab};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let entered = if arguments.list { machine::Entered::Here } else { machine::enter() };
    let trials: Vec<Trial> = [
        install::trials,
        driver::trials,
        conflists::trials,
        podman::trials,
        netavark::trials,
        containerd::trials,
        cri::trials,
        hook::trials,
        hooks_folder::trials,
        pages::trials,
        docker::trials,
        docker_driver::trials,
        engine_api::trials,
        docker_cli::trials,
        docker_sdk::trials,
        firewalls::trials,
        firewall_services::trials,
        strict_firewalls::trials,
        policies_beside::trials,
        foreign_networks::trials,
        services::trials,
        swarm::trials,
    ]
    .into_iter()
    .flat_map(|trials| trials())
    .collect();
    let trials = match entered {
        machine::Entered::Here => trials,
        machine::Entered::Ended(code) => return code,
        machine::Entered::Not(why) => trials.into_iter().map(|trial| not_here(&trial, &why)).collect(),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that has no laboratory: ignored with the reason, but failed where `CI=true` promises that it runs.
fn not_here(trial: &Trial, why: &str) -> Trial {
    let why = format!("no namespaces of its own: {why}");
    Trial::ignorable_test(trial.name(), move || harness::cannot_run(&why))
}
