//! The fuzz target `record`: any bytes as a stored record. The first byte of the input selects the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "never part of the daemon")]

use std::fmt::Debug;
use std::net::IpAddr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::{SCHEMA, decode, encode};
use crate::model::endpoint::Endpoint;
use crate::model::host::routing::TurnedOn;
use crate::model::names::{ContainerName, NetworkName};
use crate::model::network::Network;
use crate::model::publication::Publication;
use crate::model::reservation::Reservation;
use crate::model::service::{Condition, Service};

/// One run of the fuzzer. Panics if a promise is broken.
pub fn attack(input: &[u8]) {
    let Some((table, record)) = input.split_first() else { return };
    match table % 9 {
        0 => _ = read::<Network>(record).map(|network| network.bridge().map(ToString::to_string)),
        1 => _ = read::<Endpoint>(record).map(|endpoint| valid(&endpoint.publications)),
        2 => _ = read::<Reservation>(record).map(|reservation| valid(&reservation.publications)),
        3 => _ = read::<(NetworkName, IpAddr, u64)>(record),
        4 => _ = read::<(NetworkName, IpAddr, ContainerName)>(record),
        5 => _ = read::<(String, String)>(record),
        6 => _ = read::<Service>(record).map(|service| valid(&service.publications)),
        7 => _ = read::<Condition>(record),
        _ => _ = read::<TurnedOn>(record),
    }
}

/// What is read is written such that it is read as the same. A record of another schema is refused, with its number.
fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(record: &[u8]) -> Option<T> {
    match decode::<T>(record) {
        Ok(value) => {
            assert_eq!(record[0], SCHEMA);
            let written = encode(&value).expect("what was read can be written");
            assert_eq!(decode::<T>(&written).expect("what was written can be read"), value);
            assert_eq!(encode(&value).unwrap(), written);
            Some(value)
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.is_empty());
            if let Some(schema) = record.first().filter(|schema| **schema != SCHEMA) {
                assert!(error.contains(&format!("schema {schema},")), "{error}");
            }
            None
        }
    }
}

/// No port 0, no range that ends before it begins.
fn valid(publications: &[Publication]) {
    for ports in publications.iter().flat_map(|publication| [publication.host, publication.container]) {
        assert!(ports.first() > 0 && ports.first() <= ports.last(), "{ports:?}");
        assert_eq!(ports.count() as usize, ports.ports().count());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_keep_their_promises() {
        netd_testing::inputs::attack("record", super::attack);
    }
}
