//! Whether this netd can read the rows of a file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Cause;
use super::meta;
use super::rows::{
    BOOT, CONDITIONS, ENDPOINTS, META, NETWORKS, POLICIES, RELEASED, RESERVATIONS, Rows, SERVICES, SETTINGS, STICKY,
    TURNED_ON, decode,
};
use crate::model::endpoint::Endpoint;
use crate::model::host::routing::TurnedOn;
use crate::model::names::{ContainerName, NetworkName};
use crate::model::network::Network;
use crate::model::policy::Policy;
use crate::model::reservation::Reservation;
use crate::model::service::{Condition, Service};

/// What the rows are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Readable,
    /// A later netd wrote them: which.
    Later(String),
    /// Rows, which were removed, are not as netd writes them: which, and why.
    Damaged(String),
}

/// Judges the rows, and removes those that are damaged.
pub(super) fn check(rows: &mut Rows) -> Verdict {
    let known = [
        NETWORKS,
        SETTINGS,
        STICKY,
        SERVICES,
        POLICIES,
        ENDPOINTS,
        CONDITIONS,
        RESERVATIONS,
        RELEASED,
        TURNED_ON,
        BOOT,
        META,
    ];
    if !rows.is_empty() && !rows.keys().any(|name| known.contains(&name.as_str())) {
        rows.clear();
        return Verdict::Damaged("it is another program's database".to_owned());
    }
    let bad: Vec<(String, String, Cause)> = rows.iter().flat_map(|(name, rows)| bad_rows(name, rows)).collect();
    let Some((table, key, why)) = bad.first() else { return Verdict::Readable };
    let later = bad.iter().any(|(table, key, _)| {
        rows.get(table).and_then(|rows| rows.get(key)).is_some_and(|value| meta::is_of_later_schema(value))
    });
    if later || meta::is_of_later_version(rows) {
        let version = meta::version(rows).unwrap_or_else(|| "a later version".to_owned());
        return Verdict::Later(format!("{version}, whose record {key:?} in table {table:?} it cannot read ({why})"));
    }
    let verdict = Verdict::Damaged(format!("{} records, the first is {key:?} in table {table:?}: {why}", bad.len()));
    for (table, key, _) in bad {
        if let Some(rows) = rows.get_mut(&table) {
            rows.remove(&key);
        }
    }
    verdict
}

fn bad_rows(table: &str, rows: &BTreeMap<String, Vec<u8>>) -> Vec<(String, String, Cause)> {
    let read: fn(&[u8]) -> Result<(), Cause> = match table.strip_prefix(super::copy::PREFIX).unwrap_or(table) {
        NETWORKS => |value| decode::<Network>(value).map(drop),
        SETTINGS => |value| decode::<(String, String)>(value).map(drop),
        STICKY => |value| decode::<(NetworkName, IpAddr, ContainerName)>(value).map(drop),
        SERVICES => |value| decode::<Service>(value).map(drop),
        POLICIES => |value| decode::<Policy>(value).map(drop),
        CONDITIONS => |value| decode::<Condition>(value).map(drop),
        ENDPOINTS => |value| decode::<Endpoint>(value).map(drop),
        RESERVATIONS => |value| decode::<Reservation>(value).map(drop),
        RELEASED => |value| decode::<(NetworkName, IpAddr, u64)>(value).map(drop),
        TURNED_ON => |value| decode::<TurnedOn>(value).map(drop),
        BOOT => |value| decode::<String>(value).map(drop),
        // What is missing there is written again.
        META => |_| Ok(()),
        // A later netd's, which may be ignored: otherwise its records would have a higher schema.
        _ => |_| Ok(()),
    };
    let failed = rows.iter().filter_map(|(key, value)| Some((table.to_owned(), key.clone(), read(value).err()?)));
    failed.collect()
}
