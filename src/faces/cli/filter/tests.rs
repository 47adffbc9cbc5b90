//! Tests of `--filter`: what is accepted, and which texts, labels and ports a value fits.

use super::*;

fn bad(filter: Result<Filter, BadFilter>) -> String {
    filter.map(|filter| format!("{filter:?}")).map_err(|bad| bad.to_string()).unwrap_err()
}

#[test]
fn an_unknown_filter_is_told_with_docker_s_words() {
    assert_eq!(bad(network("x=y")), "invalid filter 'x': use one of dangling, driver, id, label, name, scope, type");
    assert!(bad(network("name")).starts_with("invalid filter 'name': use KEY=VALUE"));
    for (filter, words) in [
        (network("dangling=maybe"), "invalid filter 'dangling=maybe'"),
        (network("type=odd"), "invalid filter 'type=odd'"),
        (network("scope=odd"), "invalid filter 'scope=odd'"),
        (network("label="), "invalid filter 'label='"),
        (container("status=odd"), "invalid filter 'status=odd'"),
        (container("publish=http"), "invalid filter 'publish=http'"),
        (container("publish=90-80"), "invalid filter 'publish=90-80'"),
        (container("expose=80/icmp"), "invalid filter 'expose=80/icmp'"),
        (container("driver=bridge"), "invalid filter 'driver'"),
        (event("type=image"), "invalid filter 'type=image'"),
        (event("name=x"), "invalid filter 'name'"),
    ] {
        let bad = bad(filter);
        assert!(bad.starts_with(words) && bad.lines().count() == 1, "{bad}");
    }
    assert_eq!(network(" Name = web").unwrap().key, "name");
}

#[test]
fn a_value_fits_a_part_a_label_or_a_port() {
    for (value, fits, not) in [
        ("eb", "web", "wxb"),
        ("^we", "web", "awe"),
        ("eb$", "web", "ebb"),
        ("^web$", "web", "web2"),
        ("^/web$", "web", "web2"),
        ("/web", "web2", "aweb"),
    ] {
        let value = part(value).unwrap();
        assert!(value.is(fits) && !value.is(not), "{value:?}");
    }
    let labels: BTreeMap<String, String> = [("a".into(), "1=2".into())].into();
    for (value, fits) in [("a", true), ("a=1=2", true), ("a=1", false), ("b", false), ("a=", false)] {
        assert_eq!(label(value).unwrap().is_among(&labels), fits, "{value}");
    }
    for (value, fits) in [("80", true), ("81-90", true), ("82-90", false), ("80/udp", false), ("70-79/tcp", false)] {
        assert_eq!(ports(value).unwrap().has_port(80..=81, "tcp"), fits, "{value}");
    }
}
