//! Ring 3: the real `netd` on the real kernel, without touching the machine's own network.
//!
//! `main` enters fresh mount and network namespaces before there is any other thread; each test then has a laboratory
//! of its own ([`lab::Lab`]): a namespace that plays the host, one that plays the outside, and a private `/run` and
//! `/etc`. Assertions read what foreign programs see: `ip -j`, `nft`, `dig`, `curl`, sockets.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends at the first surprise")]

mod access;
mod api;
mod bad_input;
mod claims;
mod cni;
mod crash_points;
mod dhcp;
mod dry_run;
mod egress;
mod endpoints;
mod files;
mod firewall;
mod foreign;
mod foreign_networks;
mod gateway_modes;
mod gateway_probe;
mod guard;
mod handover;
mod heal;
mod heal_kinds;
mod health;
mod host_access;
mod host_bridge;
mod inside;
mod internal_ports;
mod isolation;
mod limits;
mod listening;
mod macvlan;
mod main_job;
mod managers;
mod matrix;
mod name_service;
mod names;
mod networks;
mod of_engines;
mod one_namespace;
mod overlaps;
mod owners;
mod policy;
mod port_changes;
mod port_ranges;
mod port_shown;
mod port_specs;
mod proxy;
mod proxy_drains;
mod proxy_refuses;
mod publishing;
mod relay;
mod renumber;
mod reservations;
mod resolved;
mod resolvers;
mod restart;
mod router;
mod run;
mod runtimes;
mod self_test;
mod service;
mod service_grace;
mod service_matrix;
mod service_proxy;
mod service_traffic;
mod services_api;
mod stacks;
mod steady_clients;
mod sticky;
mod stop;
mod store;
mod storm;
mod strangers;
mod strict;
mod strict_policies;
mod strict_rules;
mod teardown;
mod telemetry;
mod traffic;
mod unit;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use netd_testing::{harness, lab};

fn main() -> ExitCode {
    if let Some(file) = std::env::var_os(lab::resolve1::CALLS) {
        return lab::resolve1::serve(file.as_ref());
    }
    if std::env::var_os(owners::SQUATTER).is_some() {
        return owners::squat();
    }
    let arguments = Arguments::from_args();
    let entered = lab::space::leave_the_machine(netd_testing::programs!());
    let trials = trials();
    let trials = match entered {
        Ok(()) => trials,
        Err(why) => trials.into_iter().map(|trial| could_not_run(trial.name(), &why)).collect(),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trials() -> Vec<Trial> {
    let all = [
        self_test::trials(),
        main_job::trials(),
        matrix::trials(),
        isolation::trials(),
        firewall::trials(),
        on_a_host(),
        endpoints::trials(),
        dry_run::trials(),
        one_namespace::trials(),
        internal_ports::trials(),
        stacks::trials(),
        steady_clients::trials(),
        sticky::trials(),
        service::trials(),
        service_grace::trials(),
        service_matrix::trials(),
        service_proxy::trials(),
        service_traffic::trials(),
        services_api::trials(),
        runtimes::trials(),
        foreign_networks::trials(),
        published_ports(),
        names::trials(),
        claims::trials(),
        crash_points::trials(),
        name_service::trials(),
        listening::trials(),
        storm::trials(),
        strangers::trials(),
        inside::trials(),
        gateway_probe::trials(),
        of_engines::trials(),
        resolved::trials(),
        telemetry::trials(),
        resolvers::trials(),
        run::trials(),
        heal_kinds::trials(),
        health::trials(),
        restart::trials(),
        guard::trials(),
        handover::trials(),
        access::trials(),
        stop::trials(),
        teardown::trials(),
        traffic::trials(),
        unit::trials(),
        heal::trials(),
        files::trials(),
        owners::trials(),
        store::trials(),
        limits::trials(),
        api::trials(),
        bad_input::trials(),
        cni::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// Networks, and what else is on the host.
fn on_a_host() -> Vec<Trial> {
    let all = [
        dhcp::trials(),
        foreign::trials(),
        gateway_modes::trials(),
        host_access::trials(),
        host_bridge::trials(),
        macvlan::trials(),
        managers::trials(),
        networks::trials(),
        overlaps::trials(),
        relay::trials(),
        renumber::trials(),
        router::trials(),
        egress::trials(),
        policy::trials(),
    ];
    all.into_iter().flatten().collect()
}

fn published_ports() -> Vec<Trial> {
    let all = [
        proxy::trials(),
        proxy_drains::trials(),
        proxy_refuses::trials(),
        publishing::trials(),
        reservations::trials(),
        port_changes::trials(),
        port_ranges::trials(),
        port_shown::trials(),
        port_specs::trials(),
        strict::trials(),
        strict_rules::trials(),
        strict_policies::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// A test that has no laboratory: ignored with the reason, but failed where `CI=true` promises that it runs.
fn could_not_run(name: &str, why: &str) -> Trial {
    let why = format!("no namespaces of its own: {why}");
    Trial::ignorable_test(name, move || harness::cannot_run(&why))
}
