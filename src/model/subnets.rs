//! The subnets of a network to create: whether they, their gateways and their ranges make sense together. What other
//! networks and the host have is compared by `logic::alloc::subnets`.

use std::net::IpAddr;

use super::Invalid;
use super::address::{Family, Subnet};

/// One subnet of a network to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetSpec {
    /// The prefix.
    pub subnet: Subnet,
    /// `None`: its first address.
    pub gateway: Option<IpAddr>,
    /// Restricts automatic addresses; `None`: the whole subnet.
    pub range: Option<Subnet>,
}

impl From<Subnet> for SubnetSpec {
    fn from(subnet: Subnet) -> Self {
        Self { subnet, gateway: None, range: None }
    }
}

/// Most subnets of one network; each is compared with all others, and with every route of the host.
const SUBNETS_MAX: usize = 256;

/// Subnets that a network can have. They do not overlap, and gateways and ranges lie in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subnets(Vec<SubnetSpec>);

impl Subnets {
    /// Assigns each gateway and range to the subnet in which it lies.
    pub fn new(subnets: Vec<SubnetSpec>, gateways: &[IpAddr], ranges: &[Subnet]) -> Result<Self, Invalid> {
        if let Some(spec) = subnets.get(SUBNETS_MAX) {
            let why = format!("a network has at most {SUBNETS_MAX} subnets");
            return Err(Invalid::new("subnet", spec.subnet.to_string(), why));
        }
        let prefixes: Vec<Subnet> = subnets.iter().map(|spec| spec.subnet).collect();
        for (index, subnet) in prefixes.iter().enumerate() {
            suitable(*subnet)?;
            if let Some(other) = prefixes[..index].iter().find(|other| other.overlaps(*subnet)) {
                let why = format!("it overlaps with {other}, another subnet of the same network");
                return Err(Invalid::new("subnet", subnet.to_string(), why));
            }
        }
        let mut specs: Vec<SubnetSpec> = prefixes.iter().copied().map(SubnetSpec::from).collect();
        for (spec, given) in specs.iter_mut().zip(subnets) {
            // What is said about one subnet must lie in that one.
            let own = &mut [*spec];
            given.gateway.map_or(Ok(()), |gateway| set_gateway(own, gateway))?;
            given.range.map_or(Ok(()), |range| set_range(own, range))?;
            *spec = own[0];
        }
        gateways.iter().try_for_each(|gateway| set_gateway(&mut specs, *gateway))?;
        ranges.iter().try_for_each(|range| set_range(&mut specs, *range))?;
        Ok(Self(specs))
    }

    /// Those of a network that exists.
    pub fn of_network(specs: Vec<SubnetSpec>) -> Self {
        Self(specs)
    }

    /// All of them, in the given order.
    pub fn as_slice(&self) -> &[SubnetSpec] {
        &self.0
    }
}

/// Refuses a subnet whose addresses containers cannot have.
fn suitable(subnet: Subnet) -> Result<(), Invalid> {
    let refuse = |why: String| Err(Invalid::new("subnet", subnet.to_string(), why));
    // Room for a gateway and one container besides network and broadcast address.
    let longest = match subnet.family() {
        Family::V4 => 30,
        Family::V6 => 126,
    };
    if subnet.prefix() > longest {
        return refuse(format!("it is too small: use a prefix of at most /{longest}"));
    }
    if subnet.prefix() < 1 {
        return refuse("it contains all addresses: use a longer prefix, as in /24".into());
    }
    for reserved in ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/8", "ff00::/8", "fe80::/10"] {
        if reserved.parse::<Subnet>().is_ok_and(|reserved| reserved.overlaps(subnet)) {
            return refuse(format!("it overlaps with {reserved}, which containers cannot have"));
        }
    }
    Ok(())
}

fn set_gateway(specs: &mut [SubnetSpec], gateway: IpAddr) -> Result<(), Invalid> {
    let refuse = |why: String| Err(Invalid::new("gateway", gateway.to_string(), why));
    let given = list(specs);
    let Some(spec) = specs.iter_mut().find(|spec| spec.subnet.contains(gateway)) else {
        return refuse(format!("it lies in none of the given subnets ({given})"));
    };
    let subnet = spec.subnet;
    if gateway == subnet.network() {
        return refuse(format!("it is the network address of {subnet}"));
    }
    if subnet.family() == Family::V4 && subnet.address(subnet.bounds().1) == Some(gateway) {
        return refuse(format!("it is the broadcast address of {subnet}"));
    }
    match spec.gateway.replace(gateway) {
        None => Ok(()),
        Some(_) => refuse(format!("subnet {subnet} has one already")),
    }
}

fn set_range(specs: &mut [SubnetSpec], range: Subnet) -> Result<(), Invalid> {
    let refuse = |why: String| Err(Invalid::new("ip range", range.to_string(), why));
    let given = list(specs);
    let inside = |subnet: Subnet| subnet.contains(range.network()) && range.prefix() >= subnet.prefix();
    let Some(spec) = specs.iter_mut().find(|spec| inside(spec.subnet)) else {
        return refuse(format!("it lies in none of the given subnets ({given})"));
    };
    match spec.range.replace(range) {
        None => Ok(()),
        Some(_) => refuse(format!("subnet {} has one already", spec.subnet)),
    }
}

fn list(specs: &[SubnetSpec]) -> String {
    if specs.is_empty() {
        return "there is none: give the subnet as well".into();
    }
    specs.iter().map(|spec| spec.subnet.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(all: &[&str], gateways: &[&str], ranges: &[&str]) -> Result<Subnets, String> {
        let subnet = |text: &&str| text.parse::<Subnet>().unwrap();
        let gateways: Vec<IpAddr> = gateways.iter().map(|text| text.parse().unwrap()).collect();
        let ranges: Vec<Subnet> = ranges.iter().map(subnet).collect();
        Subnets::new(all.iter().map(subnet).map(SubnetSpec::from).collect(), &gateways, &ranges)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_subnet_gets_the_gateway_and_the_range_that_lie_in_it() {
        let both = ["10.1.0.0/16", "fd00:1::/64"];
        let found = subnets(&both, &["fd00:1::9", "10.1.0.9"], &["10.1.5.0/24"]).unwrap();
        let [v4, v6] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((v4.gateway, v6.gateway), (Some([10, 1, 0, 9].into()), Some("fd00:1::9".parse().unwrap())));
        assert_eq!((v4.range, v6.range), (Some("10.1.5.0/24".parse().unwrap()), None));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for (all, gateways, ranges, words) in [
            (&["10.0.0.0/8", "10.1.0.0/16"][..], &[][..], &[][..], "\"10.1.0.0/16\": it overlaps with 10.0.0.0/8"),
            (&["10.0.0.0/24"], &["10.0.1.1"], &[], "in none of the given subnets (10.0.0.0/24)"),
            (&["10.0.0.0/24"], &["10.0.0.1", "10.0.0.2"], &[], "\"10.0.0.2\": subnet 10.0.0.0/24 has one already"),
            (&["fd00::/64"], &["fd00::"], &[], "network address of fd00::/64"),
            (&["10.0.0.0/24"], &[], &["10.0.0.0/16"], "in none of the given subnets (10.0.0.0/24)"),
            (&["10.0.0.0/24"], &[], &["10.0.0.0/26", "10.0.0.64/26"], "\"10.0.0.64/26\": subnet 10.0.0.0/24 has one"),
        ] {
            let error = subnets(all, gateways, ranges).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        // The last address of an IPv6 subnet is an address like any other.
        assert!(subnets(&["fd00::/126"], &["fd00::3"], &[]).is_ok());
    }

    #[test]
    fn what_is_said_about_one_subnet_lies_in_that_one() {
        let [one, two] = ["10.1.0.0/16", "10.2.0.0/16"].map(|text| SubnetSpec::from(text.parse::<Subnet>().unwrap()));
        let gateway: IpAddr = [10, 2, 0, 9].into();
        let wrong = Subnets::new(vec![SubnetSpec { gateway: Some(gateway), ..one }, two], &[], &[]).unwrap_err();
        assert!(wrong.to_string().contains("none of the given subnets (10.1.0.0/16)"), "{wrong}");
        let twice = vec![one, SubnetSpec { gateway: Some(gateway), ..two }];
        assert!(Subnets::new(twice.clone(), &[], &[]).is_ok());
        assert!(Subnets::new(twice, &[[10, 2, 0, 8].into()], &[]).unwrap_err().to_string().contains("one already"));
    }
}
