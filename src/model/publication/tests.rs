//! The grammar of `-p`, and what is refused.

use super::*;

#[test]
fn dockers_grammar_is_understood() {
    let show = |text: &str| text.parse::<PortSpec>().map(|spec| spec.to_string());
    for (text, means) in [
        ("80", "80/tcp"),
        ("80/UDP", "80/udp"),
        (":80", "80/tcp"),
        ("0:80", "80/tcp"),
        ("4000:80", "4000:80/tcp"),
        ("4000:80/sctp", "4000:80/sctp"),
        ("127.0.0.1:4000:80", "127.0.0.1:4000:80/tcp"),
        ("127.0.0.1::80", "127.0.0.1::80/tcp"),
        ("[::1]:4000:80", "[::1]:4000:80/tcp"),
        ("[::1]::80", "[::1]::80/tcp"),
        ("8000-8010:9000-9010", "8000-8010:9000-9010/tcp"),
        ("8000-8010:80", "8000-8010:80/tcp"),
        ("7000-7002", "7000-7002/tcp"),
    ] {
        assert_eq!(show(text).as_deref(), Ok(means), "{text}");
    }
}

#[test]
fn a_host_address_is_one_that_a_host_can_have() {
    for (text, means) in [
        ("[::ffff:127.0.0.1]:4000:80", "127.0.0.1:4000:80/tcp"),
        ("[::ffff:0.0.0.0]:4000:80", "0.0.0.0:4000:80/tcp"),
        ("0.0.0.0:4000:80", "0.0.0.0:4000:80/tcp"),
        ("[::]:4000:80", "[::]:4000:80/tcp"),
        ("169.254.1.1:4000:80", "169.254.1.1:4000:80/tcp"),
    ] {
        assert_eq!(text.parse::<PortSpec>().map(|spec| spec.to_string()).as_deref(), Ok(means), "{text}");
    }
    for (text, words) in [
        ("255.255.255.255:4000:80", "255.255.255.255 is the broadcast address"),
        ("224.0.0.1:4000:80", "224.0.0.1 is a multicast address"),
        ("239.255.255.250::80", "multicast"),
        ("240.0.0.1:4000:80", "reserved address"),
        ("0.1.2.3:4000:80", "\"this\" network"),
        ("[ff02::1]:4000:80", "ff02::1 is a multicast address"),
        ("[fe80::1]:4000:80", "link-local"),
        ("[::ffff:224.0.0.1]:4000:80", "224.0.0.1 is a multicast address"),
    ] {
        let error = text.parse::<PortSpec>().expect_err(text).to_string();
        assert!(error.contains(words) && error.contains("nothing can be published there"), "{error}");
    }
}

#[test]
fn the_same_port_counts_once() {
    let distinct = |texts: &[&str]| {
        let all = distinct(texts.iter().map(|text| text.parse())).unwrap();
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(distinct(&["4000:80", "4000:80/TCP", "published=4000,target=80"]), "4000:80/tcp");
    assert_eq!(
        distinct(&["127.0.0.1:4000:80", "[::ffff:127.0.0.1]:4000:80", "80", "80"]),
        "127.0.0.1:4000:80/tcp 80/tcp"
    );
    assert_eq!(distinct(&["4000:80", "4000:80/udp", "4000:81"]), "4000:80/tcp 4000:80/udp 4000:81/tcp");
}

#[test]
fn what_is_not_a_port_is_refused() {
    for text in [
        "",
        ":",
        "4000:",
        "a",
        "80/",
        "80/icmp",
        "80/tcp/udp",
        "0",
        "65536",
        "4000:0",
        "10-5:10-5",
        "1-2:1-3",
        "x:80:80",
        "::1:80:80",
        "[1.2.3.4]:80:80",
        "localhost:80:80",
        "+80",
        "80-",
        "-80",
        " 80",
        "1.2.3.4:80",
    ] {
        assert!(text.parse::<PortSpec>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn a_wildcard_conflicts_with_any_address_of_its_family() {
    let publication = |ip: Option<&str>, port: u16| Publication {
        mode: None,
        host_ip: ip.map(|ip| ip.parse().unwrap()),
        host: PortRange::single(port).unwrap(),
        container: PortRange::single(80).unwrap(),
        protocol: Protocol::Tcp,
    };
    let every = publication(None, 4000);
    assert!(every.conflicts(&publication(Some("127.0.0.1"), 4000)));
    assert!(every.conflicts(&publication(Some("::"), 4000)));
    assert!(!every.conflicts(&publication(None, 4001)));
    assert!(!publication(Some("0.0.0.0"), 1).conflicts(&publication(Some("::"), 1)));
    assert!(!publication(Some("127.0.0.1"), 1).conflicts(&publication(Some("127.0.0.2"), 1)));
}

/// A record with a range that is none was read as it is, and the number of its ports overflowed.
#[test]
fn a_stored_range_is_one() {
    let range = |first: u16, last: u16| serde_json::from_value(serde_json::json!({"first": first, "last": last}));
    let stored: PortRange = range(80, 90).unwrap();
    assert_eq!(Some(stored), PortRange::new(80, 90));
    assert_eq!(serde_json::to_string(&stored).unwrap(), r#"{"first":80,"last":90}"#);
    for (first, last) in [(0, 0), (0, 1), (2, 1)] {
        let error = range(first, last).map(|range: PortRange| range.count()).unwrap_err().to_string();
        assert!(error.contains("lower port first"), "{error}");
    }
}
