//! Docker's long form of `-p`: `KEY=VALUE` parts joined by commas (docker/cli, `convertToStandardNotation` and the
//! `--publish` of services), and netd's own key `publish`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::{Parts, PortSpec, PublishMode, host_address};

pub(super) fn parts(text: &str) -> Result<Parts<'_>, String> {
    let keys = "target, published, protocol, mode, host_ip and publish";
    let (mut target, mut published, mut protocol, mut mode) = (None, None, None, None);
    let (mut host_ip, mut publish) = (None, None);
    for part in text.split(',') {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("use KEY=VALUE parts joined by commas, not {part:?}"))?;
        let place = match key.trim().to_ascii_lowercase().as_str() {
            "target" => &mut target,
            "published" => &mut published,
            "protocol" => &mut protocol,
            "mode" => &mut mode,
            "host_ip" => &mut host_ip,
            "publish" => &mut publish,
            _ => return Err(format!("there is no key {key:?}: use {keys}")),
        };
        if place.replace(value.trim()).is_some() {
            return Err(format!("{} is given twice", key.trim()));
        }
    }
    match mode.map(str::to_ascii_lowercase).as_deref() {
        None | Some("host") => {}
        Some("ingress") => return Err("mode=ingress is for services: use mode=host".into()),
        Some(_) => return Err("the only mode is host".into()),
    }
    let target = target.filter(|target| !target.is_empty()).ok_or("target, the container port, is missing")?;
    let host = published.unwrap_or_default();
    let values = [Some(target), published, protocol].into_iter().flatten();
    if let Some(odd) = values.into_iter().find(|value| value.contains([':', '/'])) {
        return Err(format!("{odd:?} is not a single value: give the host address as host_ip"));
    }
    let host_ip = match host_ip.unwrap_or_default() {
        "" => None,
        // Unlike in the short form, IPv6 needs no brackets.
        ip => Some(ip.parse::<Ipv6Addr>().map_or_else(|_| host_address(ip), |ip| Ok(IpAddr::V6(ip)))?),
    };
    Ok(Parts { host_ip, host, container: target, protocol, mode: publish })
}

/// Writes the long form.
pub(super) fn write(f: &mut fmt::Formatter<'_>, spec: &PortSpec, mode: PublishMode) -> fmt::Result {
    let PortSpec { host_ip, host, container, protocol, .. } = spec;
    if let Some(host) = host {
        write!(f, "published={host},")?;
    }
    write!(f, "target={container},protocol={protocol}")?;
    if let Some(ip) = host_ip {
        write!(f, ",host_ip={ip}")?;
    }
    write!(f, ",publish={mode}")
}

#[cfg(test)]
mod tests {
    use crate::model::publication::PortSpec;

    #[test]
    fn the_long_form_means_what_the_short_one_does() {
        for (long, short) in [
            ("published=8922,target=80,protocol=tcp,mode=host", "8922:80"),
            ("target=80", "80"),
            ("target=80,published=0", "80"),
            ("Target=53,Published=5300,Protocol=UDP", "5300:53/udp"),
            ("published=8000-8010,target=80", "8000-8010:80"),
            ("host_ip=127.0.0.1,published=80,target=80", "127.0.0.1:80:80"),
            ("host_ip=::1,published=80,target=80", "[::1]:80:80"),
            ("host_ip=[::1],target=80", "[::1]::80"),
        ] {
            assert_eq!(long.parse::<PortSpec>(), short.parse::<PortSpec>(), "{long}");
            assert!(long.parse::<PortSpec>().is_ok(), "{long}");
        }
    }

    #[test]
    fn who_decides_about_the_packets_is_kept() {
        for long in [
            "published=4000,target=80,protocol=tcp,publish=strict",
            "target=53,protocol=udp,publish=open",
            "published=4000-4001,target=80-81,protocol=tcp,host_ip=2001:db8::1,publish=strict",
        ] {
            let spec: PortSpec = long.parse().unwrap();
            assert_eq!(spec.to_string(), long);
            assert!(spec.mode.is_some());
        }
        assert_eq!("published=4000,target=80".parse::<PortSpec>().unwrap().mode, None);
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        for (long, words) in [
            ("published=80", "target, the container port, is missing"),
            ("target=", "target, the container port, is missing"),
            ("target=80,publish=90", "use open or strict"),
            ("target=80,expose=90", "no key \"expose\""),
            ("target=80,90", "KEY=VALUE"),
            ("target=80,target=81", "target is given twice"),
            ("target=80,target\n=81", ": target is given twice"),
            ("target=80,mode=ingress", "mode=ingress is for services"),
            ("target=80,mode=x", "the only mode is host"),
            ("target=80,protocol=icmp", "use tcp, udp or sctp"),
            ("target=0", "container port 0"),
            ("target=80,published=127.0.0.1:90", "host_ip"),
            ("target=80,host_ip=localhost", "\"localhost\" is not an IP address"),
            ("target=80,host_ip=224.0.0.1", "multicast"),
        ] {
            let error = long.parse::<PortSpec>().expect_err(long).to_string();
            assert!(error.starts_with(&format!("invalid port {long:?}: ")) && error.contains(words), "{error}");
        }
    }
}
