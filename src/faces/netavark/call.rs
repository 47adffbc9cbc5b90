//! A call of the program: the daemon and the host that it works with.

use std::path::PathBuf;

use super::Host;
use super::failure::Failure;
use crate::api::v1;
use crate::faces::shared::client::{Client, segment};
use crate::model::address::Subnet;

/// A command in progress.
pub(super) struct Call<'a> {
    pub(super) socket: PathBuf,
    pub(super) host: &'a dyn Host,
}

impl Call<'_> {
    pub(super) fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// The interfaces of the host.
    pub(super) fn interfaces(&self) -> Vec<String> {
        self.host.interfaces()
    }

    /// The subnets of netd's networks; none if the daemon does not answer.
    pub(super) fn subnets(&self) -> Vec<Subnet> {
        let networks: Vec<v1::Network> = self.client().get("/v1/networks").unwrap_or_default();
        networks.iter().flat_map(|network| &network.subnets).filter_map(|one| one.subnet.parse().ok()).collect()
    }

    /// Whether netd has the network.
    pub(super) fn check_exists(&self, network: &str) -> Result<(), Failure> {
        let path = format!("/v1/networks/{}", segment(network));
        self.client().get::<v1::Network>(&path).map(drop).map_err(|error| Failure::daemon(&error))
    }
}
