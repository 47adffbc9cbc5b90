//! Whether a network can be on an interface of the host.

use crate::logic::refusal::Refusal;
use crate::model::host::observed::ObservedKind;
use crate::model::host::parent::{Device, Parent};
use crate::model::names::IfName;
use crate::model::network::VlanId;

/// The interface, on top of which containers' interfaces can be; `there`: what it is, `None` if there is none.
/// `lacks_vlans`: the kernel has no VLAN interfaces.
pub fn for_stacked<'a>(name: &IfName, there: Option<&'a Parent>, lacks_vlans: bool) -> Result<&'a Parent, Refusal> {
    let there = there.ok_or_else(|| refused(name, absent(name, lacks_vlans)))?;
    let why = if there.loopback {
        "it is a loopback: name an interface that leads to a network (`ip link`)".to_owned()
    } else if let Some(bridge) = &there.master {
        format!("it is a port of {bridge}, which takes its frames: use -o parent={bridge}, or -o bridge={bridge}")
    } else if there.wireless {
        "it is wireless, and access points take no frames of other MAC addresses: use a bridge network".to_owned()
    } else if there.mac.is_none() {
        "it has no MAC address, so nothing can be on top of it".to_owned()
    } else if !there.up {
        format!("it is down: `ip link set {name} up`")
    } else {
        return Ok(there);
    };
    Err(refused(name, why))
}

/// The bridge of the host, whose ports containers can be, kept in that VLAN if one is given.
pub fn for_ports<'a>(name: &IfName, there: Option<&'a Parent>, vlan: Option<VlanId>) -> Result<&'a Parent, Refusal> {
    let there =
        there.ok_or_else(|| refused(name, "the host has no such interface: see `ip link show type bridge`".into()))?;
    let why = if there.kind != ObservedKind::Bridge {
        "it is no bridge: see `ip link show type bridge`".to_owned()
    } else if !there.up {
        format!("it is down: `ip link set {name} up`")
    } else if let Some(vlan) = vlan.filter(|_| there.filters_vlans != Some(true)) {
        match there.filters_vlans {
            None => format!("this kernel cannot keep its ports in VLAN {vlan} (CONFIG_BRIDGE_VLAN_FILTERING)"),
            _ => format!(
                "it does not tell VLANs apart, so that nothing is kept in VLAN {vlan}: `ip link set {name} type bridge \
                 vlan_filtering 1`"
            ),
        }
    } else {
        return Ok(there);
    };
    Err(refused(name, why))
}

fn absent(name: &IfName, lacks_vlans: bool) -> String {
    match name.as_str().rsplit_once('.') {
        Some((_, id)) if id.parse::<u16>().is_ok() && lacks_vlans => {
            format!("the host has no such interface, and this kernel has no {}", Device::Vlan)
        }
        Some((below, id)) if id.parse::<u16>().is_ok() => {
            format!("the host has no such interface: `ip link add link {below} name {name} type vlan id {id}`")
        }
        _ => "the host has no such interface: see `ip link`".to_owned(),
    }
}

fn refused(parent: &IfName, why: String) -> Refusal {
    Refusal::Parent { parent: parent.clone(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(change: impl FnOnce(&mut Parent)) -> Parent {
        let mut parent = Parent {
            name: "eth0".parse().unwrap(),
            kind: ObservedKind::Hardware,
            up: true,
            mtu: 1500,
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            master: None,
            loopback: false,
            wireless: false,
            filters_vlans: None,
            settles: 0,
            addresses: Vec::new(),
        };
        change(&mut parent);
        parent
    }

    #[test]
    fn what_cannot_carry_containers_is_refused_in_words() {
        let name: IfName = "eth0".parse().unwrap();
        assert!(for_stacked(&name, Some(&parent(|_| {})), true).is_ok());
        for (there, words) in [
            (None, "no such interface"),
            (Some(parent(|it| it.up = false)), "it is down"),
            (Some(parent(|it| it.loopback = true)), "loopback"),
            (Some(parent(|it| it.wireless = true)), "wireless"),
            (Some(parent(|it| it.mac = None)), "no MAC address"),
            (Some(parent(|it| it.master = Some("br0".parse().unwrap()))), "-o parent=br0"),
        ] {
            let error = for_stacked(&name, there.as_ref(), true).unwrap_err().to_string();
            assert!(error.starts_with("cannot use interface eth0 for a network: ") && error.contains(words), "{error}");
        }
        let vlan: IfName = "eth0.10".parse().unwrap();
        let error = |lacks| for_stacked(&vlan, None, lacks).unwrap_err().to_string();
        assert!(error(true).contains("this kernel has no vlan interfaces (CONFIG_VLAN_8021Q)"), "{}", error(true));
        assert!(error(false).contains("`ip link add link eth0 name eth0.10 type vlan id 10`"), "{}", error(false));
    }

    #[test]
    fn only_a_bridge_that_is_up_takes_ports() {
        let name: IfName = "br0".parse().unwrap();
        assert!(for_ports(&name, Some(&parent(|it| it.kind = ObservedKind::Bridge)), None).is_ok());
        let down = parent(|it| (it.kind, it.up) = (ObservedKind::Bridge, false));
        for (there, words) in [(None, "no such"), (Some(parent(|_| {})), "no bridge"), (Some(down), "it is down")] {
            let error = for_ports(&name, there.as_ref(), None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let vlan = Some("10".parse().unwrap());
        let filters = |filters| parent(|it| (it.kind, it.filters_vlans) = (ObservedKind::Bridge, filters));
        assert!(for_ports(&name, Some(&filters(Some(true))), vlan).is_ok());
        for (has, words) in [(None, "CONFIG_BRIDGE_VLAN_FILTERING"), (Some(false), "type bridge vlan_filtering 1`")] {
            let there = filters(has);
            let error = for_ports(&name, Some(&there), vlan).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
            assert!(for_ports(&name, Some(&there), None).is_ok());
        }
    }
}
