//! The engine over the fake kernel, for every test program that runs it.

use netd::engine::Config;
use netd::kernel::fake::World;
use netd::model::address::Pool;

/// Automatic subnets have prefixes of this length.
pub fn config(size: u8) -> Config {
    let pool = Pool { base: "10.0.0.0/16".parse().unwrap(), size };
    Config { pools: vec![pool], ..Config::default() }
}

/// Other programs remove all that netd made.
pub fn wipe(world: &mut World) {
    world.elements = None;
    world.links.clear();
    world.bridges.clear();
    world.routes.clear();
    world.shapings.clear();
    world.ifbs.clear();
    world.resolv.clear();
    world.inside.clear();
    world.prepared.clear();
    world.forwarding = Default::default();
}
