//! Address allocation: which address of a subnet is assigned next, and in which order released ones are reused.
//!
//! Addresses that were never assigned come first, in order. Released addresses come last, the oldest release first, so
//! that neighbours, caches and rules that remember the former holder get as much time as the subnet allows. Invariant:
//! an address is in `released` only while no endpoint holds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::sticky;
use crate::model::address::{Family, Subnet, number};
use crate::model::names::NetworkName;
use crate::model::network::{Network, NetworkSubnet};

/// So many released addresses of a subnet wait before the oldest is reused although fresh ones are left. Those that
/// are kept for names come on top ([`sticky::MOST`]).
const MOST_RELEASED: usize = 4096;

/// Maximum number of pairs of bounds whose position a subnet remembers.
const MOST_BOUNDS: usize = 256;

/// The allocators of all subnets of all networks.
#[derive(Debug, Clone, Default)]
pub struct Ipam {
    pools: BTreeMap<(NetworkName, Subnet), Pool>,
    /// The sequence number of the last release, host-wide.
    order: u64,
}

#[derive(Debug, Clone)]
struct Pool {
    /// Lowest and highest address that may be assigned automatically.
    bounds: (u128, u128),
    /// With so many in `released` the oldest is reused.
    limit: usize,
    /// Everything below was assigned at least once, or is held.
    next: u128,
    /// (order of release, address); those from before this boot all have order 0.
    released: BTreeSet<(u64, u128)>,
    /// The order of each address in `released`.
    orders: HashMap<u128, u64>,
    /// Like `next`, for each pair of bounds that was requested.
    next_within: HashMap<(u128, u128), u128>,
}

impl Ipam {
    /// Adds a network's subnets.
    pub fn add_network(&mut self, network: &Network) {
        for subnet in &network.subnets {
            let bounds = bounds(subnet);
            let pool = Pool {
                bounds,
                limit: MOST_RELEASED + if network.sticky { sticky::MOST } else { 0 },
                next: bounds.0,
                released: BTreeSet::new(),
                orders: HashMap::new(),
                next_within: HashMap::new(),
            };
            self.pools.insert((network.name.clone(), subnet.subnet), pool);
        }
    }

    /// Removes a network.
    pub fn remove_network(&mut self, network: &Network) {
        for subnet in &network.subnets {
            self.pools.remove(&(network.name.clone(), subnet.subnet));
        }
    }

    /// The addresses of a network that were released and are not in use.
    pub fn all_released(&self, network: &Network) -> Vec<IpAddr> {
        let of = |subnet: Subnet| {
            let pool = self.pools.get(&(network.name.clone(), subnet));
            let numbers = pool.into_iter().flat_map(|pool| &pool.released);
            numbers.filter_map(move |(_, number)| subnet.address(*number))
        };
        network.subnets.iter().flat_map(|subnet| of(subnet.subnet)).collect()
    }

    /// The address that would be assigned next; `None` if the subnet is exhausted. Changes no observable state:
    /// repeated calls return the same until [`Ipam::take`].
    pub fn peek(&mut self, network: &NetworkName, subnet: Subnet, held: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let pool = self.pools.get_mut(&(network.clone(), subnet))?;
        if let Some(oldest) = pool.long_released(subnet, pool.bounds, &held) {
            return Some(oldest);
        }
        while pool.next <= pool.bounds.1 {
            let address = subnet.address(pool.next)?;
            if !held(address) && !pool.orders.contains_key(&pool.next) {
                return Some(address);
            }
            pool.next += 1;
        }
        pool.oldest(subnet, pool.bounds, &held)
    }

    /// The address that would be assigned next between two addresses (as numbers, both included) of the subnet,
    /// regardless of the network's range for automatic addresses; `None` if all are in use.
    pub fn peek_within(
        &mut self,
        network: &NetworkName,
        subnet: Subnet,
        (low, high): (u128, u128),
        held: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let pool = self.pools.get_mut(&(network.clone(), subnet))?;
        if let Some(oldest) = pool.long_released(subnet, (low, high), &held) {
            return Some(oldest);
        }
        if pool.next_within.len() >= MOST_BOUNDS && !pool.next_within.contains_key(&(low, high)) {
            pool.next_within.clear();
        }
        let next = pool.next_within.entry((low, high)).or_insert(low);
        while *next <= high {
            // What is between the pool's bounds and its next address was assigned before.
            if (pool.bounds.0..pool.next).contains(next) {
                *next = pool.next;
                continue;
            }
            match subnet.address(*next).filter(|ip| !held(*ip) && !pool.orders.contains_key(next)) {
                Some(address) => return Some(address),
                None => *next += 1,
            }
        }
        pool.oldest(subnet, (low, high), &held)
    }

    /// Marks the address as in use.
    pub fn take(&mut self, network: &NetworkName, address: IpAddr) {
        let Some(pool) = self.pool_of(network, address) else { return };
        if let Some(order) = pool.orders.remove(&number(address)) {
            pool.released.remove(&(order, number(address)));
        }
    }

    /// The order of the last release; the next one is greater.
    pub fn last_release(&self) -> u64 {
        self.order
    }

    /// The order of the address's release, if it was released and is not in use.
    pub fn released(&self, network: &NetworkName, address: IpAddr) -> Option<u64> {
        let of = self.pools.range((network.clone(), lowest()?)..).take_while(|((name, _), _)| name == network);
        let pool = of.into_iter().find(|((_, subnet), _)| subnet.contains(address)).map(|(_, pool)| pool);
        pool?.orders.get(&number(address)).copied()
    }

    /// Releases the address, as the `order`th; order 0: before this boot.
    pub fn release(&mut self, network: &NetworkName, address: IpAddr, order: u64) {
        self.order = self.order.max(order);
        if let Some(pool) = self.pool_of(network, address) {
            if let Some(old) = pool.orders.insert(number(address), order) {
                pool.released.remove(&(old, number(address)));
            }
            pool.released.insert((order, number(address)));
        }
    }

    fn pool_of(&mut self, network: &NetworkName, address: IpAddr) -> Option<&mut Pool> {
        let of = self.pools.range_mut((network.clone(), lowest()?)..).take_while(|((name, _), _)| name == network);
        of.into_iter().find(|((_, subnet), _)| subnet.contains(address)).map(|(_, pool)| pool)
    }
}

impl Pool {
    /// The address between the bounds that was released first.
    fn oldest(&self, subnet: Subnet, (low, high): (u128, u128), held: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let within = |(_, number): &&(u64, u128)| (low..=high).contains(number);
        self.released.iter().filter(within).find_map(|(_, number)| subnet.address(*number).filter(|ip| !held(*ip)))
    }

    /// The same, if more are released than a subnet keeps unused.
    fn long_released(&self, subnet: Subnet, bounds: (u128, u128), held: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        if self.released.len() < self.limit { None } else { self.oldest(subnet, bounds, held) }
    }
}

/// The first subnet in the order of the pools of a network.
fn lowest() -> Option<Subnet> {
    Subnet::containing(IpAddr::from([0, 0, 0, 0]), 0)
}

/// The usable addresses of a subnet: without the network's own and, in IPv4, the broadcast address; all addresses of a
/// /31, /32, /127 or /128 are usable (RFC 3021, RFC 6164).
pub fn usable(subnet: Subnet) -> (u128, u128) {
    let (first, last) = subnet.bounds();
    match subnet.family() {
        _ if last - first < 2 => (first, last),
        Family::V4 => (first + 1, last - 1),
        Family::V6 => (first + 1, last),
    }
}

fn bounds(subnet: &NetworkSubnet) -> (u128, u128) {
    let (first, last) = usable(subnet.subnet);
    match subnet.range {
        None => (first, last),
        Some(range) => {
            let (low, high) = range.bounds();
            (low.max(first), high.min(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::logic::samples;

    fn take_next(ipam: &mut Ipam, network: &Network, held: &mut BTreeSet<IpAddr>) -> Option<String> {
        let address = ipam.peek(&network.name, network.subnets[0].subnet, |ip| held.contains(&ip))?;
        ipam.take(&network.name, address);
        held.insert(address);
        Some(address.to_string())
    }

    #[test]
    fn a_released_address_is_reused_last_and_the_oldest_first() {
        let network = samples::network("net1", &["10.0.0.0/29"]);
        let mut ipam = Ipam::default();
        ipam.add_network(&network);
        let mut held = BTreeSet::from([network.subnets[0].gateway.unwrap()]);
        assert_eq!(take_next(&mut ipam, &network, &mut held).as_deref(), Some("10.0.0.2"));
        assert_eq!(take_next(&mut ipam, &network, &mut held).as_deref(), Some("10.0.0.3"));
        for address in ["10.0.0.3", "10.0.0.2"] {
            let address = address.parse().unwrap();
            held.remove(&address);
            let order = ipam.last_release() + 1;
            ipam.release(&network.name, address, order);
        }
        let rest: Vec<_> = std::iter::from_fn(|| take_next(&mut ipam, &network, &mut held)).collect();
        assert_eq!(rest, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2"]);
        assert_eq!(take_next(&mut ipam, &network, &mut held), None);
    }

    #[test]
    fn what_is_there_is_not_looked_at_again_in_a_range() {
        let network = samples::network("net1", &["fd00::/64"]);
        let subnet = network.subnets[0].subnet;
        let mut ipam = Ipam::default();
        ipam.add_network(&network);
        let (low, high) = (subnet.bounds().0 + 0x100, subnet.bounds().1);
        let looks = std::cell::Cell::new(0usize);
        let mut held = BTreeSet::new();
        for number in 0..2000u128 {
            let lookup = |ip: IpAddr| {
                looks.set(looks.get() + 1);
                held.contains(&ip)
            };
            let address = ipam.peek_within(&network.name, subnet, (low, high), lookup).unwrap();
            assert_eq!(address, subnet.address(low + number).unwrap());
            ipam.take(&network.name, address);
            if number % 2 == 0 {
                held.insert(address);
            } else {
                let order = ipam.last_release() + 1;
                ipam.release(&network.name, address, order);
            }
        }
        assert!(looks.get() < 10_000, "{} looks", looks.get());
        // A released address is not reused while fresh ones are left; in an exhausted range it is the next.
        let last = subnet.address(low + 1).unwrap();
        let used_up = ipam.peek_within(&network.name, subnet, (low, low + 3), |ip| held.contains(&ip));
        assert_eq!(used_up, Some(last));
    }

    #[test]
    fn a_large_subnet_reuses_addresses_once_enough_are_released() {
        let network = samples::network("net1", &["fd00::/64"]);
        let mut ipam = Ipam::default();
        ipam.add_network(&network);
        let mut held = BTreeSet::from([network.subnets[0].gateway.unwrap()]);
        let mut assigned = BTreeSet::new();
        for _ in 0..3 * MOST_RELEASED {
            let address: IpAddr = take_next(&mut ipam, &network, &mut held).unwrap().parse().unwrap();
            assigned.insert(address);
            held.remove(&address);
            let order = ipam.last_release() + 1;
            ipam.release(&network.name, address, order);
        }
        assert_eq!(assigned.len(), MOST_RELEASED);
        assert_eq!(ipam.all_released(&network).len(), MOST_RELEASED);
        // Those that are kept for other names are passed over while fresh ones are left.
        let kept = |ip: IpAddr| assigned.contains(&ip) || held.contains(&ip);
        assert!(!assigned.contains(&ipam.peek(&network.name, network.subnets[0].subnet, kept).unwrap()));
    }

    #[test]
    fn a_range_bounds_automatic_addresses() {
        let mut network = samples::network("net1", &["10.0.0.0/24"]);
        network.subnets[0].range = Some("10.0.0.64/30".parse().unwrap());
        let mut ipam = Ipam::default();
        ipam.add_network(&network);
        let mut held = BTreeSet::new();
        let all: Vec<_> = std::iter::from_fn(|| take_next(&mut ipam, &network, &mut held)).collect();
        assert_eq!(all, ["10.0.0.64", "10.0.0.65", "10.0.0.66", "10.0.0.67"]);
    }
}
