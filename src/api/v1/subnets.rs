//! Which subnets, gateways and address ranges make sense together, before anything of the host is looked at.

use std::net::IpAddr;

use crate::model::Invalid;
use crate::model::address::{Family, Subnet};

/// Longest prefix with room for a gateway and one container besides network and broadcast address.
const fn longest(family: Family) -> u8 {
    match family {
        Family::V4 => 30,
        Family::V6 => 126,
    }
}

/// Parses a subnet whose addresses containers can have.
pub(super) fn subnet(text: &str) -> Result<Subnet, Invalid> {
    let subnet: Subnet = text.parse()?;
    let refuse = |why: String| Err(Invalid::new("subnet", text, why));
    let longest = longest(subnet.family());
    if subnet.prefix() > longest {
        return refuse(format!("it is too small: use a prefix of at most /{longest}"));
    }
    if subnet.prefix() < 1 {
        return refuse("it is every address there is: use a longer prefix, as in /24".into());
    }
    for reserved in ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/8", "ff00::/8", "fe80::/10"] {
        if reserved.parse::<Subnet>().is_ok_and(|reserved| reserved.overlaps(subnet)) {
            return refuse(format!("it overlaps with {reserved}, which containers cannot have"));
        }
    }
    Ok(subnet)
}

/// Refuses subnets of one network that overlap.
pub(super) fn apart(subnets: &[Subnet]) -> Result<(), Invalid> {
    for (index, one) in subnets.iter().enumerate() {
        if let Some(other) = subnets.iter().take(index).find(|other| other.overlaps(*one)) {
            let why = format!("it overlaps with {other}, another subnet of the same network");
            return Err(Invalid::new("subnet", one.to_string(), why));
        }
    }
    Ok(())
}

/// Parses a gateway and finds the subnet it belongs to.
pub(super) fn gateway(text: &str, subnets: &[Subnet]) -> Result<IpAddr, Invalid> {
    let refuse = |why: &str| Invalid::new("gateway", text, why);
    let address: IpAddr = text.parse().map_err(|_| refuse("use an IP address, as in 10.77.0.1"))?;
    let subnet = subnets.iter().find(|subnet| subnet.contains(address));
    let subnet = subnet.ok_or_else(|| refuse(&format!("it lies in none of the given subnets ({})", list(subnets))))?;
    if address == subnet.network() {
        return Err(refuse(&format!("it is the network address of {subnet}")));
    }
    if subnet.family() == Family::V4 && subnet.address(subnet.bounds().1) == Some(address) {
        return Err(refuse(&format!("it is the broadcast address of {subnet}")));
    }
    Ok(address)
}

/// Parses an address range and finds the subnet it belongs to.
pub(super) fn range(text: &str, subnets: &[Subnet]) -> Result<Subnet, Invalid> {
    let range: Subnet = text.parse().map_err(|error: Invalid| Invalid { what: "ip range", ..error })?;
    let inside = |subnet: &&Subnet| subnet.contains(range.network()) && range.prefix() >= subnet.prefix();
    if !subnets.iter().any(|subnet| inside(&subnet)) {
        let why = format!("it lies in none of the given subnets ({})", list(subnets));
        return Err(Invalid::new("ip range", text, why));
    }
    Ok(range)
}

/// Refuses a second gateway or range for one subnet; `at` is an address of each.
pub(super) fn one_each(what: &'static str, at: &[IpAddr], subnets: &[Subnet]) -> Result<(), Invalid> {
    for subnet in subnets {
        let mut inside = at.iter().filter(|address| subnet.contains(**address));
        if let (Some(_), Some(second)) = (inside.next(), inside.next()) {
            return Err(Invalid::new(what, second.to_string(), format!("subnet {subnet} has one already")));
        }
    }
    Ok(())
}

fn list(subnets: &[Subnet]) -> String {
    if subnets.is_empty() {
        return "there is none: give the subnet as well".into();
    }
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
