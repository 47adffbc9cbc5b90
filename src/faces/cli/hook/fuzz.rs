//! The fuzz target `hook`: any bytes on standard input of `netd hook`, and, after a NUL, in the bundle's config.json.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::path::Path;

use super::annotations::Wanted;
use super::request::{self, Interfaces};
use super::state::{Config, State};
use crate::api::v1::Network;

/// Longest error, in bytes: the input is not repeated in it.
const ERROR_MAX: usize = 2048;

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let [state, config] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    let state = State::read(state).map(|state| state.annotations);
    let config = Config::parse(config, Path::new("/bundle")).map(|config| {
        assert!(config.root.is_absolute(), "{:?}", config.root);
        config.annotations
    });
    for annotations in [state, config] {
        match annotations.and_then(|annotations| Wanted::read(&annotations)) {
            Ok(None) => {}
            Ok(Some(wanted)) => accepted(wanted),
            Err(error) => assert!(error.len() <= ERROR_MAX, "an error of {} bytes", error.len()),
        }
    }
}

/// What is accepted here is not malformed for the daemon; only what the networks are decides there.
fn accepted(wanted: Wanted) {
    let network = |on: &super::annotations::OnNetwork| {
        let json = serde_json::json!({
            "name": on.network, "id": "", "driver": "bridge", "bridge": "", "subnets": [], "internal": false, "icc": true,
            "masquerade": true, "mtu": 1500, "labels": {}, "created": "",
        });
        serde_json::from_value::<Network>(json).expect("a network")
    };
    let networks: Vec<Network> = wanted.networks.iter().map(network).collect();
    let interfaces = Interfaces::new(vec!["lo".to_owned()], &[]);
    let request = request::of(wanted, networks, "/run/netns/web", interfaces);
    if let Err(error) = request.into_specs("4f5e") {
        // Two networks, or two ports, may have been given the same.
        let is_together = ["interface", "port"].contains(&error.what);
        assert!(is_together, "the daemon does not read the request: {error}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_state_and_the_bundle_keep_their_promises() {
        netd_testing::inputs::attack("hook", super::attack);
    }
}
