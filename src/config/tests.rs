//! The meaning of files, and the errors for invalid ones.

use super::*;

/// The file of the manual: every key at its default.
const FULL: &str = r#"
socket = "/run/netd/netd.sock"
socket_group = "netd"            # who may talk to the daemon; root always
socket_others = "nothing"        # "read": everyone else may read, but not change anything
state_dir = "/var/lib/netd"
runtime_dir = "/run/netd"
log = "info"

[pools]                          # where automatic subnets come from: split into subnets of `size`
ipv4 = [
    { base = "10.77.0.0/16", size = 24 }, { base = "10.78.0.0/16", size = 24 },
    { base = "172.30.0.0/15", size = 24 },   # for hosts with a VPN that routes all of 10.0.0.0/8
]
ipv6 = "auto"                    # a random ULA /48, kept

[dns]
domain = "internal"
ttl = 5
upstreams = []                   # empty: the host's resolv.conf, followed as it changes
cache_mib = 16                   # answers of upstreams that are kept; 0: none
resolved = false                 # true: the host finds our names too, through its systemd-resolved

[egress]
grace = 60                       # what is answered stays open so many seconds longer than its time to live
addresses = 1024                 # and so many addresses of a container

[metrics]
listen = "127.0.0.1:9153"        # off when absent
hosts = []                       # names of this machine, for clients that do not use its address
"#;

fn parse(text: &str) -> Result<Config, String> {
    file::parse("netd.toml", text).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_optional_and_the_full_file_says_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("[api]\n").unwrap(), Config::default());
    let mut full = parse(FULL).unwrap();
    assert_eq!(full.metrics.listen.take(), Some("127.0.0.1:9153".parse().unwrap()));
    assert_eq!(full, Config::default());
}

#[test]
fn the_engine_api_is_off_until_it_is_asked_for() {
    assert_eq!(parse("").unwrap().engine_api(), None);
    let (socket, api) = parse("[engine]\nsocket = \"/run/docker.sock\"\n").unwrap().engine_api().unwrap();
    assert_eq!((socket.to_str(), api.group.as_str()), (Some("/run/netd/docker.sock"), "netd-docker"));
    let (socket, _) = parse("[docker_api]\nsocket = \"/run/x.sock\"\n").unwrap().engine_api().unwrap();
    assert_eq!(socket, Path::new("/run/x.sock"));
    let oldest = |version: &str| parse(&format!("[docker_api]\nmin_api_version = \"{version}\"\n")).err();
    assert_eq!(oldest("1.24"), None);
    for wrong in ["1.23", "1.99", "2", ""] {
        assert!(oldest(wrong).is_some_and(|why| why.contains("API version")), "{wrong}");
    }
    assert!(parse("[engine]\n").unwrap_err().contains("socket"));
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = "[api]\nlisten = \"192.0.2.1:9443\"\ncert = \"/c.pem\"\nkey = \"/c.key\"\nclient_ca = \"/ca.pem\"\n\
                [pools]\nipv6 = [\"fd00:1::/48\"]\n\
                [dns]\nupstreams = [\"1.1.1.1\", \"9.9.9.9:5353\", \"[2606:4700::1111]:853\", \"fd00::53\"]\n\
                ca_file = \"/etc/netd/ca.pem\"\n[dns.split]\n\"corp.example\" = [\"10.0.0.53\", \"tls://10.0.0.54\"]\n";
    let config = parse(text).unwrap();
    assert_eq!(config.api.as_ref().unwrap().key, Path::new("/c.key"));
    assert_eq!(config.dns.upstreams[3].address, "[fd00::53]:53".parse().unwrap());
    assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert_eq!(parse(&toml::to_string(&Config::default()).unwrap()).unwrap(), Config::default());
}

#[test]
fn for_whom_the_host_forwards_is_netd_or_the_host() {
    let of = |text: &str| parse(text).map(|config| config.firewall.forwarding);
    assert_eq!(of("[firewall]\nforeign = \"report\""), Ok(ForwardingFor::Netd));
    assert_eq!(of("[firewall]\nforwarding = \"host\""), Ok(ForwardingFor::Host));
    let error = of("[firewall]\nforwarding = true").unwrap_err();
    assert!(error.starts_with("read the configuration netd.toml: line 2, forwarding: "), "{error}");
}

#[test]
fn an_error_names_file_line_and_key() {
    for (text, place, words) in [
        ("\nsockett = \"/x\"", "line 2, sockett: ", "unknown field `sockett`"),
        ("[dns]\nttl = \"x\"", "line 2, ttl: ", "invalid type"),
        ("[dns]\n\nttl = 86401", "line 3, ttl: ", "0 to 86400"),
        ("[egress]\naddresses = 0", "line 2, addresses: ", "1 to 65536"),
        ("lo\u{1b}g = 5", "line 1: ", "invalid unquoted key"),
        (
            "[dns.split]\n\"a.b\" = [\"1.1.1.1\"]\n\"a b\" = [\"1.1.1.1\"]",
            "line 3, \"a b\": ",
            "invalid DNS name \"a b\"",
        ),
        ("[dns.split]\n\"a.b\" = [\"here\"]", "line 2, \"a.b\": ", "invalid name server \"here\""),
        ("[dns.split]\n\"a.b\" = []", "line 2, \"a.b\": ", "give at least one"),
        ("[dns.split]\n\"a.b\" = [\"1.1.1.1\"]\n\"A.b\" = [\"1.1.1.1\"]", "line ", "b has its servers already"),
        ("\nlog = \"netd[x{a=b}]=debug\"", "line 2, log: ", "use error, warn, info, debug or trace"),
        ("[dns]\nca_file = \"ca.pem\"", "line 2, ca_file: ", "give an absolute path"),
        ("[dns]\ncache_mib = 5000", "line 2, cache_mib: ", "0 to 4096"),
        ("[dns]\nttl = -1", "line 2, ttl: ", "invalid value"),
        ("[dns]\ndomain = \"a b\"", "line 2, domain: ", "invalid DNS name \"a b\""),
        ("[dns]\nupstreams = [\"one.one\"]", "line 2, upstreams: ", "invalid name server"),
        ("[dns]\nupstreams = [\"0.0.0.0\"]", "line 2, upstreams: ", "invalid name server"),
        ("[dns]\nresolved = \"yes\"", "line 2, resolved: ", "invalid type"),
        ("[dnss]\nttl = 5", "line 1, [dnss]: ", "unknown field `dnss`"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.0/16\", size = 8 }]", "line 2, ipv4: ", "not a prefix length of 16 to 30"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.0/16\", size = 31 }]", "line 2, ipv4: ", "not a prefix length"),
        ("[pools]\nipv4 = [{ base = \"fd00::/16\", size = 64 }]", "line 2, ipv4: ", "not IPv4"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.1/16\", size = 24 }]", "line 2, ipv4: ", "maybe you meant 10.0.0.0/16"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.0/16\" }]", "line 2, ipv4: ", "missing field `size`"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.0/16\", size = 24, x = 1 }]", "line 2, ipv4: ", "unknown field `x`"),
        (
            "[pools]\nipv4 = [{ base = \"10.0.0.0/8\", size = 24 }, { base = \"10.9.0.0/16\", size = 24 }]",
            "line 2, ipv4: ",
            "overlaps with the pool 10.0.0.0/8",
        ),
        ("[pools]\nipv6 = \"none\"", "line 2, ipv6: ", "invalid subnet"),
        ("[pools]\nipv6 = [\"fd00::/65\"]", "line 2, ipv6: ", "at most /64"),
        ("[pools]\nipv6 = 6", "line 2, ipv6: ", "\"auto\""),
        ("log = \"loud\"", "line 1, log: ", "log filter"),
        ("state_dir = \"relative\"", "line 1, state_dir: ", "absolute"),
        ("listen = \"127.0.0.1:9443\"", "line 1, listen: ", "use the table [api] with listen, cert, key and client_ca"),
        ("\n[api]\nlisten = \"[::]:9443\"\ncert = \"/c\"\nclient_ca = \"/a\"", "line 2, [api]: ", "missing: key;"),
        ("[api]\ncert = \"/c\"", "line 1, [api]: ", "missing: listen, key, client_ca;"),
        ("[api]\nlisten = \"localhost\"", "line 2, listen: ", "invalid"),
        ("[api]\nkey = \"key.pem\"", "line 2, key: ", "give an absolute path"),
        ("[api]\nca = \"/a\"", "line 2, ca: ", "unknown field `ca`"),
        ("[metrics]\nlisten = \"9153\"", "line 2, listen: ", "invalid"),
        ("[metrics]\nhosts = [\"a b\"]", "line 2, hosts: ", "invalid DNS name \"a b\""),
        ("socket = ", "line 1, socket: ", ""),
        ("ttl = 5 5", "line 1, ttl: ", ""),
    ] {
        let error = parse(text).expect_err(text);
        let start = format!("read the configuration netd.toml: {place}");
        assert!(error.starts_with(&start) && error.contains(words), "{text}\n{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("netd.toml");
    std::fs::write(&file, "socket = \"/a/s\"\nstate_dir = \"/a/state\"\nlog = \"warn\"\n").unwrap();
    let args = DaemonArgs {
        config: Some(file.clone()),
        state_dir: Some("relative/state".into()),
        log: Some("debug".into()),
        ..DaemonArgs::default()
    };
    let config = load(&args, None).unwrap();
    assert_eq!((config.socket.to_str(), config.log.as_str()), (Some("/a/s"), "debug"));
    assert!(config.state_dir.is_absolute() && config.state_dir.ends_with("relative/state"));
    assert_eq!(load(&args, Some(Path::new("/b/s"))).unwrap().socket, Path::new("/b/s"));

    let missing = DaemonArgs { config: Some(directory.path().join("none.toml")), ..DaemonArgs::default() };
    let error = load(&missing, None).unwrap_err().to_string();
    assert!(error.contains("none.toml") && error.contains("No such file"), "{error}");
    let loud = DaemonArgs { config: Some(file), log: Some("loud".into()), ..DaemonArgs::default() };
    assert!(load(&loud, None).unwrap_err().to_string().contains("log filter"));
}

#[test]
fn check_and_show_say_one_thing_each() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("netd.toml");
    std::fs::write(&file, "log = \"warn\"\n").unwrap();
    let message = command(&ConfigVerb::Check { file: file.clone() }, None).unwrap();
    assert_eq!(message, format!("{} is good\n", file.display()));
    let daemon = DaemonArgs { config: Some(file), ..DaemonArgs::default() };
    let shown = command(&ConfigVerb::Show { daemon, format: crate::faces::cli::Format::default() }, None).unwrap();
    assert!(shown.contains("log = \"warn\"") && shown.contains("[pools]"), "{shown}");
}

#[test]
fn check_reads_the_certificates_and_keys_that_the_file_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["a", "b"] {
        let own = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
        std::fs::write(path(&format!("{name}.pem")), own.cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), own.signing_key.serialize_pem()).unwrap();
    }
    std::fs::write(path("text"), "no PEM").unwrap();
    let file = path("netd.toml");
    let check = |[cert, key, client_ca, ca_file]: [&str; 4]| {
        let [cert, key, client_ca, ca_file] = [cert, key, client_ca, ca_file].map(path);
        let text = format!(
            "[api]\nlisten = \"127.0.0.1:9443\"\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {client_ca:?}\n\
             [dns]\nca_file = {ca_file:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        command(&ConfigVerb::Check { file: file.clone() }, None)
    };
    assert_eq!(check(["a.pem", "a.key", "b.pem", "b.pem"]), Ok(format!("{} is good\n", file.display())));
    for (files, setting, words) in [
        (["none", "a.key", "b.pem", "b.pem"], "[api] cert", "No such file"),
        (["a.pem", "b.key", "b.pem", "b.pem"], "[api] key", "not the key of the first certificate"),
        (["a.pem", "text", "b.pem", "b.pem"], "[api] key", "no private key"),
        (["a.pem", "a.key", "text", "b.pem"], "[api] client_ca", "no certificate"),
        (["a.pem", "a.key", "b.pem", "text"], "[dns] ca_file", "there is none"),
    ] {
        let error = check(files).unwrap_err();
        assert!(error.starts_with(&format!("{} names a file", file.display())), "{error}");
        assert!(error.contains(setting) && error.contains(words) && !error.contains('\n'), "{files:?}: {error}");
    }
}
