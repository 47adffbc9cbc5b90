//! The soak: random commands, deaths, kills of the daemon and changes by other programs, drawn from a seed. After every
//! step all that was acknowledged must be there, and nothing else, as foreign programs see it (`look`).
//!
//! `scripts/soak MINUTES [SEED]` runs it; `cargo test` runs it for [`SECONDS`] with [`SEED`].
#![expect(clippy::expect_used, clippy::panic, reason = "a test ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

mod chance;
mod damage;
mod look;
mod steps;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use netd_testing::lab::Lab;
use netd_testing::{harness, lab};

use world::World;

/// How long it lasts, and its seed, unless `NETD_SOAK_SECONDS` and `NETD_SOAK_SEED` say otherwise.
const SECONDS: u64 = 60;
const SEED: u64 = 11;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let name = "soak: nothing is lost, nothing leaks";
    let trial = match lab::space::leave_the_machine(netd_testing::programs!()) {
        Ok(()) => lab::trial(name, soak),
        Err(why) => {
            Trial::ignorable_test(name, move || harness::cannot_run(&format!("no namespaces of its own: {why}")))
        }
    };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: no number")))
}

fn soak(lab: &Lab) {
    let seed = number("NETD_SOAK_SEED", SEED);
    let end = Instant::now() + Duration::from_secs(number("NETD_SOAK_SECONDS", SECONDS));
    println!("seed {seed}");
    lab.start_daemon();
    let mut world = World::new(lab, seed);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        while Instant::now() < end {
            steps::step(&mut world);
            look::settled(&mut world);
        }
        steps::clear(&mut world);
        look::settled(&mut world);
    }));
    println!("{}", world.tally);
    if let Err(failure) = ran {
        println!("seed {seed}, step {}: {}", world.step, world.doing);
        resume_unwind(failure);
    }
}
