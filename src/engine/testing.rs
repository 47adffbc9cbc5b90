//! An engine over the fake kernel and a store in memory, for the tests of faces.

use std::sync::Arc;

use super::{Config, Handle};
use crate::kernel::fake::Fake;
use crate::kernel::runtimes::NoRuntimes;
use crate::model::address::Pool;
use crate::store::memory::Memory;

/// A handle to a fresh one; it ends with the last handle. There are namespaces of the processes 1 and 4711 and one
/// that is named `there`.
pub(crate) fn engine() -> Handle {
    let fake = Fake::default();
    [1, 4711].into_iter().for_each(|pid| fake.add_namespace_at(crate::kernel::netns_of_process(pid)));
    fake.add_namespace("there");
    let pool = Pool { base: "10.89.0.0/16".parse().unwrap(), size: 24 };
    let config = Config { pools: vec![pool], ula: true, domain: "internal".into(), dns_port: 53 };
    super::start(config, fake, Memory::default(), Arc::new(NoRuntimes)).unwrap().handle
}
