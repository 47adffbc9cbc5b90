//! An engine with the fake kernel and an in-memory store, and a name service with one fixed upstream, for the tests of
//! faces.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::dns::names::{Asked, CacheCounts, Names, UpstreamHealth};
use super::telemetry::Origin;
use super::{Config, Handle};
use crate::kernel::fake::Fake;
use crate::model::address::Pool;
use crate::runtimes::NoRuntimes;
use crate::store::memory::Memory;

/// A handle to a new engine, which ends with the last handle. The fake kernel has the namespaces of the processes 1 and
/// 4711, and one named `there`.
pub(crate) fn engine() -> Handle {
    let fake = Fake::default();
    [1, 4711].into_iter().for_each(|pid| fake.add_namespace_at(crate::kernel::netns_of_process(pid)));
    fake.add_namespace("there");
    let pool = Pool { base: "10.77.0.0/16".parse().unwrap(), size: 24 };
    let config = Config { pools: vec![pool], ..Config::default() };
    super::start(config, fake, Memory::default(), Arc::new(NoRuntimes)).unwrap().handle
}

/// The upstream of the stand-in's answers.
const UPSTREAM: &str = "192.0.2.53:53";

/// A name service without sockets: every other name has the address 192.0.2.80; names below `nowhere` do not exist.
pub(crate) struct StandIn;

/// See [`StandIn`].
pub(crate) fn names() -> Arc<dyn Names> {
    Arc::new(StandIn)
}

impl Names for StandIn {
    fn ask<'a>(&'a self, container: Option<IpAddr>, name: &'a str, _: &'a str) -> BoxFuture<'a, Asked> {
        let notes = vec![format!("asked for {}", container.map_or("the host".to_owned(), |ip| ip.to_string()))];
        let asked = if name.ends_with(".nowhere") {
            Asked { code: "SERVFAIL".into(), answers: Vec::new(), origin: Origin::Nobody, ttl: None, notes }
        } else {
            let (answers, origin) = (vec!["192.0.2.80".into()], Origin::Upstream(UPSTREAM.parse().unwrap()));
            Asked { code: "NOERROR".into(), answers, origin, ttl: Some(60), notes }
        };
        Box::pin(async move { asked })
    }

    fn has_beside(&self, _: IpAddr) -> bool {
        false
    }

    fn upstreams(&self) -> Vec<UpstreamHealth> {
        let rtt = Some(Duration::from_millis(3));
        vec![UpstreamHealth {
            server: UPSTREAM.into(),
            asked: 7,
            answered: 4,
            failed: 2,
            silent: 1,
            rtt,
            healthy: true,
        }]
    }

    fn waiting(&self) -> u64 {
        0
    }

    fn cache(&self) -> Option<CacheCounts> {
        Some(CacheCounts { entries: 5, bytes: 1280, hits: 3, misses: 2 })
    }
}
