//! An engine over the fake kernel and a store in memory, for the tests of faces.

use std::sync::Arc;

use super::{Config, Handle};
use crate::kernel::fake::Fake;
use crate::kernel::runtimes::NoRuntimes;
use crate::model::address::Pool;
use crate::store::memory::Memory;

/// A handle to a fresh one; it ends with the last handle. There are namespaces for `web` and `db`.
pub(crate) fn engine() -> Handle {
    let fake = Fake::default();
    ["web", "db"].iter().for_each(|name| fake.add_namespace(name));
    let pool = Pool { base: "10.89.0.0/16".parse().unwrap(), size: 24 };
    let config = Config { pools: vec![pool], ula: true, domain: "internal".into() };
    super::start(config, fake, Memory::default(), Arc::new(NoRuntimes)).unwrap().handle
}
