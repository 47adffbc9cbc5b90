//! The filters of `netd network ls`.

use super::{BadFilter, Filter, Key, all, exact, flag, has, label, parse, part};
use crate::api::v1::{Endpoint, Network};
use crate::faces::cli::Session;
use crate::faces::shared::client::ClientError;

const KEYS: &[Key] = &[
    ("dangling", flag),
    ("driver", exact),
    ("id", part),
    ("label", label),
    ("name", part),
    ("scope", |text| ["global", "local", "swarm"].contains(&text).then(|| exact(text)).flatten()),
    ("type", |text| ["builtin", "custom"].contains(&text).then(|| exact(text)).flatten()),
];

/// Reads one filter.
pub(in crate::faces::cli) fn network(text: &str) -> Result<Filter, BadFilter> {
    parse(text, KEYS)
}

/// Leaves the networks for which all filters hold. Only where it matters, the daemon is asked which have containers.
pub(in crate::faces::cli) fn networks(
    session: &Session<'_>,
    networks: &mut Vec<Network>,
    filters: &[Filter],
) -> Result<(), ClientError> {
    let endpoints: Vec<Endpoint> = match has(filters, "dangling") {
        true => session.client.get("/v1/endpoints")?,
        false => Vec::new(),
    };
    let empty = |network: &Network| !endpoints.iter().any(|endpoint| endpoint.network == network.name);
    networks.retain(|network| all(filters, |filter| holds(filter, network, empty(network))));
    Ok(())
}

fn holds(Filter { key, value }: &Filter, network: &Network, empty: bool) -> bool {
    match *key {
        "dangling" => value.is_flag(empty),
        "driver" => value.is(&network.driver),
        "id" => value.is(&network.id),
        "label" => value.is_among(&network.labels),
        "name" => value.is(&network.name),
        "scope" => value.is("local"),
        "type" => value.is("custom"),
        _ => false,
    }
}
