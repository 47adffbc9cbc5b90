//! Bad input: one clear line, the right code, and nothing changed; over the command line and over HTTP.

use libtest_mimic::Trial;

use crate::lab::{Lab, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("bad input: command line", command_line),
        trial("bad input: wrong usage", usage),
        trial("bad input: HTTP", http),
        trial("bad input: malformed HTTP", not_http),
        trial("bad input: configuration", configuration),
        trial("bad input: no daemon", no_daemon),
    ]
}

fn set_up(lab: &Lab) -> String {
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.1.0.0/24 --subnet fd00:1::/64").ok();
    lab.connected("net1", "web", "-p 4000:80");
    lab.container("free");
    lab.everything()
}

/// Arguments, and a part of the message.
const WRONG_VALUES: &[(&str, &str)] = &[
    ("network create -- -x-", "-x-"),
    ("network create a/b", "a/b"),
    ("network create ä", "ä"),
    ("network create aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "63"),
    ("network create n --driver vxlan", "vxlan"),
    ("network create n --subnet 10.0.0.0", "10.0.0.0"),
    ("network create n --subnet 10.0.0.5/24", "10.0.0.0/24"),
    ("network create n --subnet 10.0.0.0/33", "10.0.0.0/33"),
    ("network create n --subnet banana", "banana"),
    ("network create n --subnet 10.2.0.0/24 --gateway 10.3.0.1", "10.3.0.1"),
    ("network create n --subnet 10.2.0.0/24 --gateway x", "x"),
    ("network create n --subnet 10.2.0.0/24 --ip-range 10.3.0.0/28", "10.3.0.0/28"),
    ("network create n --subnet 10.2.0.0/24 --ip-range 10.2.0.1", "10.2.0.1"),
    ("network create n --subnet 127.0.0.0/8", "127.0.0.0/8"),
    ("network create n --subnet 224.0.0.0/24", "224.0.0.0/24"),
    ("network create n --subnet 10.2.0.0/32", "10.2.0.0/32"),
    ("network create n --mtu 5", "5"),
    ("network create n --mtu 70000", "70000"),
    ("network create n --mtu many", "many"),
    ("network create n --label =x", "="),
    ("network create n -o nonsense", "nonsense"),
    ("network create n -o no.such.option=1", "no.such.option"),
    ("network create n -o dns.listen=host", "host"),
    ("network create n -o dns.servers=1.1.1.1,one", "one"),
    ("network create n -o sticky=maybe", "maybe"),
    ("network create n --dns one.one", "one.one"),
    ("network create n --dns 1.1.1.1,,9.9.9.9", "name server"),
    ("network create n --dns 0.0.0.0", "0.0.0.0"),
    ("network create n --dns 1.1.1.1:0", "1.1.1.1:0"),
    ("network create n --dns http://1.1.1.1", "http://1.1.1.1"),
    ("network create n --dns 1.1.1.1 -o dns.servers=9.9.9.9", "dns.servers"),
    ("network create n --host-access some", "some"),
    ("network rm nonet", "nonet"),
    ("network inspect nonet", "nonet"),
    ("connect nonet free", "nonet"),
    ("connect net1 free -p 0:0", "0"),
    ("connect net1 free -p 70000:80", "70000"),
    ("connect net1 free -p 80:70000", "70000"),
    ("connect net1 free -p a:b", "a:b"),
    ("connect net1 free -p 4001:80/icmp", "icmp"),
    ("connect net1 free -p 10-5:10-5", "10-5"),
    ("connect net1 free -p 1-3:1-2", "1-3"),
    ("connect net1 free -p ::1:80:80", "::1"),
    ("connect net1 free -p 1.2.3.400:80:80", "1.2.3.400"),
    ("connect net1 free --ip 10.1.0.999", "10.1.0.999"),
    ("connect net1 free --ip fd00:1::5", "fd00:1::5"),
    ("connect net1 free --ip6 10.1.0.5", "10.1.0.5"),
    ("connect net1 free --ip 10.9.0.5", "10.9.0.5"),
    ("connect net1 free --mac 01:00:5e:00:00:01", "01:00:5e"),
    ("connect net1 free --mac zz", "zz"),
    ("connect net1 free --alias a_b..c", "a_b..c"),
    ("connect net1 free --ifname this-name-is-too-long", "15"),
    ("connect net1 free --ifname a/b", "a/b"),
    ("connect net1 free --ifname all", "\"all\""),
    ("connect net1 free --ifname default", "\"default\""),
    ("network create n -o bridge=all", "\"all\""),
    ("network create n -o bridge=default", "\"default\""),
    ("connect net1 free --dns one.one", "one.one"),
    ("connect net1 free --netns relative/path", "relative/path"),
    ("connect net1 free --pid 0", "0"),
    ("connect net1 free --pid -5", "-5"),
    ("disconnect net1 free", "free"),
    ("disconnect nonet web", "nonet"),
    ("inspect nobody", "nobody"),
    ("port nobody", "nobody"),
    ("resolve web NONSENSE", "NONSENSE"),
    ("resolve web --from nobody", "nobody"),
];

fn command_line(lab: &Lab) {
    let before = set_up(lab);
    let mut wrong = Vec::new();
    for (line, part) in WRONG_VALUES {
        let out = lab.netd(line);
        let lines: Vec<&str> = out.stderr.lines().collect();
        let clear = lines.iter().filter(|line| line.starts_with("netd: ")).count() == 1;
        // A value that the argument parser refuses is wrong usage (2).
        let fits = matches!(out.code, Some(1 | 2)) && lines.len() == 1;
        if !(clear && fits && lines[0].starts_with("netd: ") && lines[0].contains(part) && out.stdout.is_empty()) {
            wrong
                .push(format!("netd {line}  (expected: {part:?})\n  {:?} {:?} {:?}", out.code, out.stderr, out.stdout));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    lab.unchanged_since(&before);
}

fn usage(lab: &Lab) {
    let before = set_up(lab);
    for line in [
        "nonsense",
        "network",
        "network create",
        "network create a b",
        "network create a --no-such-flag",
        "connect net1",
        "connect net1 free --netns /run/netns/free --pid 1",
        "connect net1 free -p",
        "run --network net1",
        "completions klingon",
        "status --wait soon",
        "ps --jsn",
    ] {
        let out = lab.netd(line);
        assert_eq!(out.code, Some(2), "{out:#?}");
        let one_line = out.stderr.lines().count() == 1 && out.stderr.starts_with("netd: ");
        assert!(one_line && out.stderr.contains(": see `netd ") && out.stdout.is_empty(), "{out:#?}");
    }
    let alone = lab.netd_words(&[]);
    assert!(alone.code == Some(2) && alone.stderr.lines().count() == 1, "{alone:#?}");
    assert!(alone.stdout.contains("Examples:"), "without arguments the command prints its help: {alone:#?}");
    lab.unchanged_since(&before);
}

/// Method, path, body, status.
const WRONG_REQUESTS: &[(&str, &str, &str, u16)] = &[
    ("POST", "/v1/networks", "{", 400),
    ("POST", "/v1/networks", "", 400),
    ("POST", "/v1/networks", "[]", 400),
    ("POST", "/v1/networks", "null", 400),
    ("POST", "/v1/networks", "{}", 400),
    ("POST", "/v1/networks", r#"{"name":5}"#, 400),
    ("POST", "/v1/networks", r#"{"name":""}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"a b"}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","nonsense":1}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","subnets":["10.0.0.5/24"]}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","subnets":[{"subnet":"10.0.0.1/24"}]}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","mtu":-1}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","driver":"vxlan"}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","dns":["one.one"]}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","host_access":"some"}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","sticky":1}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"n","options":{"dns.listen":"host"}}"#, 400),
    ("POST", "/v1/networks", r#"{"name":"net1"}"#, 409),
    ("PUT", "/v1/networks", "{}", 405),
    ("GET", "/v1/networks/nonet", "", 404),
    ("GET", "/v1/networks/a%20b", "", 404),
    ("DELETE", "/v1/networks/nonet", "", 404),
    ("DELETE", "/v1/networks/net1", "", 409),
    ("POST", "/v1/networks/net1/endpoints", "{", 400),
    ("POST", "/v1/networks/net1/endpoints", "{}", 400),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"free","nonsense":1}"#, 400),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"free","ports":["0:0"]}"#, 400),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"free","mac":"zz"}"#, 400),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"free","dns":["one.one"]}"#, 400),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"web"}"#, 409),
    ("POST", "/v1/networks/net1/endpoints", r#"{"container":"nobody"}"#, 404),
    ("POST", "/v1/networks/nonet/endpoints", r#"{"container":"free"}"#, 404),
    ("DELETE", "/v1/networks/net1/endpoints/nobody", "", 404),
    ("GET", "/v2/networks", "", 404),
];

fn http(lab: &Lab) {
    let before = set_up(lab);
    let mut wrong = Vec::new();
    for (method, path, body, expected) in WRONG_REQUESTS {
        let (status, reply) = lab.http(method, path, body);
        let error: serde_json::Value = serde_json::from_str(&reply).unwrap_or_default();
        let has_text =
            |key: &str| error["error"][key].as_str().is_some_and(|text| !text.is_empty() && !text.contains('\n'));
        if status != *expected || !has_text("code") || !has_text("message") {
            wrong.push(format!("{method} {path} {body}: expected {expected}, got {status} {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(100_000));
    let (status, reply) = lab.http("POST", "/v1/networks", &large);
    assert!(status == 400 || status == 413, "{status} {reply}");
    lab.unchanged_since(&before);
}

fn not_http(lab: &Lab) {
    use std::io::{Read as _, Write as _};
    let before = set_up(lab);
    for bytes in [
        &b"\0\xff\xfe\x01 nonsense"[..],
        b"GET\r\n\r\n",
        b"POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(crate::lab::daemon::SOCKET).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    lab.unchanged_since(&before);
}

fn configuration(lab: &Lab) {
    for (text, part) in [
        ("nonsense = 1\n", "nonsense"),
        ("log = \"info\"\n\n[dns]\ndomian = \"x\"\n", "line 4"),
        ("[dns]\nttl = \"soon\"\n", "ttl"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.1/16\", size = 24 }]\n", "10.0.0.0/16"),
        ("[pools]\nipv4 = [{ base = \"10.0.0.0/16\", size = 8 }]\n", "8"),
        ("socket = \n", "line 1"),
    ] {
        std::fs::write("/run/lab/bad.toml", text).unwrap();
        for line in ["config check /run/lab/bad.toml", "daemon --config /run/lab/bad.toml"] {
            let out = lab.netd(line);
            assert!(matches!(out.code, Some(1 | 2)), "{out:#?}");
            assert!(out.stderr.starts_with("netd: "), "{out:#?}");
            assert!(out.stderr.contains("/run/lab/bad.toml") && out.stderr.contains(part), "{part}: {out:#?}");
        }
    }
    std::fs::write("/run/lab/good.toml", "[dns]\ndomain = \"test\"\nttl = 7\n").unwrap();
    lab.netd("config check /run/lab/good.toml").ok();
    std::fs::copy("/run/lab/good.toml", crate::lab::daemon::CONFIG).unwrap();
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "");
    let address = lab.address("net1", "web")[0].to_string();
    crate::lab::Dig::expect("web", "web.net1.test", &[&address]);
    assert!(lab.netd("config show").ok().stdout.contains("domain"));
}

fn no_daemon(lab: &Lab) {
    for line in ["ps", "network ls", "connect net1 web", "status", "dump"] {
        let message = lab.netd(line).refused();
        assert!(message.contains(crate::lab::daemon::SOCKET), "it names the socket: {message}");
    }
    lab.netd("status --wait 1").refused();
}
