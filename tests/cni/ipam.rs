//! Addresses from an IPAM plugin: shell scripts that write down how they were called. Debian's own are in `tests/programs`.

use std::fs;
use std::path::Path;

use netd_testing::cni::{Answer, Call, Daemon, conf, netns, script};
use netd_testing::conf::Conf;
use serde_json::{Value, json};

use crate::call;

/// What the spec's example has host-local answer.
const LEASE: &str = r#"{"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],
                        "dns":{"nameservers":["10.1.0.53"],"search":["lease.example"]}}"#;

/// A daemon with a folder of plugins next to its socket.
struct Lab {
    daemon: Daemon,
    kind: &'static str,
}

impl Lab {
    /// With an IPAM plugin that records its call and then runs these shell lines.
    fn new(kind: &'static str, lines: &str) -> Self {
        let daemon = Daemon::start();
        let folder = daemon.folder.path();
        let log = "echo $CNI_COMMAND >>calls; env | sort >env.$CNI_COMMAND; cat >stdin.$CNI_COMMAND";
        script(folder, kind, &format!("cd {}\n{log}\n{lines}", folder.display()));
        Self { daemon, kind }
    }

    fn folder(&self) -> &Path {
        self.daemon.folder.path()
    }

    fn conf(&self) -> Conf {
        conf(&self.daemon).key("ipam", json!({"type": self.kind, "subnet": "10.1.0.0/16"})).valid(&[])
    }

    fn call(&self, command: &str, conf: &Conf) -> Call {
        let mut call = call(command, conf);
        call.set("CNI_PATH", &format!("/nowhere:{}", self.folder().display())).set("TRACEPARENT", "00-1-2-3");
        call
    }

    fn run(&self, command: &str) -> Answer {
        self.run_with(command, &self.conf())
    }

    fn run_with(&self, command: &str, conf: &Conf) -> Answer {
        self.call(command, conf).run()
    }

    /// The commands of the IPAM plugin's calls since the last time.
    fn calls(&self) -> Vec<String> {
        let path = self.folder().join("calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        calls.lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_daemon_assigns_the_leased_address_and_the_result_contains_it() {
    let lab = Lab::new("host-local", &format!("echo a word >&2; echo '{LEASE}'"));
    let conf = lab.conf().runtime("ips", json!(["10.1.0.5"])).runtime("mac", "02:00:00:00:00:01");
    let answer = lab.run_with("ADD", &conf);
    assert_eq!(answer.stderr, "a word\n");
    let result = answer.good();
    assert_eq!(result["ips"], json!([{"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 2}]));
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]));
    assert_eq!(result["dns"]["nameservers"], json!(["10.1.0.1", "10.1.0.53"]));
    assert_eq!(result["dns"]["search"], json!(["internal", "corp.example", "lease.example"]));
    let asked = lab.daemon.put();
    assert_eq!((&asked["interface"], &asked["mac"]), (&json!("given"), &json!("02:00:00:00:00:01")));
    assert_eq!(asked["addresses"], json!([{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}]));
    assert_eq!((&asked["routes"], &asked["ranges"]), (&Value::Null, &Value::Null));
    assert_eq!(asked["network"]["subnets"], json!(["10.1.0.0/16"]));
    assert_eq!(asked["network"]["gateways"], json!(["10.1.0.1"]));
    assert_eq!(lab.calls(), ["ADD"]);
}

#[test]
fn the_ipam_plugin_gets_the_same_environment_and_input() {
    let lab = Lab::new("host-local", &format!("echo '{LEASE}'"));
    let previous = json!({"interfaces": [{"name": "eth0", "sandbox": netns()}], "ips": [{"address": "10.1.0.5/16"}]});
    for command in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
        let conf = lab.conf();
        let call = lab.call(command, &if command == "ADD" { conf } else { conf.prev_result(&previous) });
        call.run().good();
        assert_eq!(lab.calls(), [command]);
        assert_eq!(fs::read(lab.folder().join(format!("stdin.{command}"))).unwrap(), call.stdin);
        let environment = fs::read_to_string(lab.folder().join(format!("env.{command}"))).unwrap();
        for (name, value) in &call.environment {
            assert!(environment.lines().any(|line| line == format!("{name}={value}")), "{name}: {environment}");
        }
    }
}

#[test]
fn leased_routes_keep_their_gateways_and_netd_sets_the_default_route() {
    let routes = json!({
        "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00:1::5/64"}],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "10.1.0.9"}, {"dst": "10.2.0.0/16"}, {"dst": "10.3.0.0/16", "gw": "10.1.0.7"},
            {"dst": "10.4.0.0/16", "scope": 253}, {"dst": "fd00:2::/64"}, {"dst": "0.0.0.0/0", "table": 100},
            {"dst": "10.5.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 7}
        ]
    });
    let lab = Lab::new("static", &format!("echo '{routes}'"));
    lab.run_with("ADD", &lab.conf().key("subnets", json!(["10.0.0.0/8"]))).good();
    let asked = lab.daemon.put();
    assert_eq!(asked["network"]["subnets"], json!(["10.0.0.0/8"]));
    let addresses = json!([{"address": "10.1.0.5/16", "gateway": "10.1.0.9"}, {"address": "fd00:1::5/64"}]);
    assert_eq!(asked["addresses"], addresses);
    let expected = json!([
        {"destination": "10.2.0.0/16", "gateway": "10.1.0.1"}, {"destination": "10.3.0.0/16", "gateway": "10.1.0.7"},
        {"destination": "10.4.0.0/16", "scope": 253}, {"destination": "fd00:2::/64"},
        {"destination": "0.0.0.0/0", "gateway": "10.1.0.1", "table": 100},
        {"destination": "10.5.0.0/16", "gateway": "10.1.0.1", "mtu": 1400, "advmss": 1360, "priority": 7}
    ]);
    assert_eq!(asked["routes"], expected);
}

#[test]
fn errors_of_the_ipam_plugin_are_passed_on_and_its_lease_is_released() {
    for (lines, code, words) in [
        (r#"echo '{"code":11,"msg":"no luck","details":"at all"}'; exit 1"#, 11, "no luck at all"),
        (r#"echo '{"code":0,"msg":"no luck"}'; exit 1"#, 999, "IPAM plugin host-local: no luck"),
        ("echo broken >&2; exit 3", 999, "host-local ended with code 3 during ADD without an error result broken"),
        ("echo broken; exit 3", 999, "broken"),
        ("kill -9 $$", 999, "terminated by a signal"),
        ("echo '{'", 6, "decode the result of IPAM plugin host-local"),
        (r#"echo '{"ips":[{"address":7}]}'"#, 6, "result.ips[0].address"),
        (r#"echo '{"ips":[]}'"#, 7, "gave no address"),
    ] {
        let lab = Lab::new("host-local", &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{lines}"));
        lab.run("ADD").failed(code, words);
        // The plugin is called once more, unless its error is "try again later".
        let calls = if code == 11 { &["ADD", "DEL"][..] } else { &["ADD", "DEL", "ADD", "DEL"] };
        assert_eq!((lab.calls(), lab.daemon.calls()), (calls.iter().map(ToString::to_string).collect(), Vec::new()));
    }
}

#[test]
fn a_lease_is_released_if_the_daemon_refuses() {
    let lab = Lab::new("host-local", &format!("echo '{LEASE}'"));
    lab.daemon.refuses("PUT", 409, "conflict");
    lab.run("ADD").failed(100, "the daemon says conflict");
    assert_eq!(lab.calls(), ["ADD", "DEL"]);
    let lab = Lab::new("host-local", &format!("[ $CNI_COMMAND = DEL ] && exit 1\necho '{LEASE}'"));
    lab.daemon.refuses("PUT", 409, "exhausted");
    lab.run("ADD").failed(101, "the daemon says exhausted; IPAM plugin host-local ended with code 1 during DEL");
}

#[test]
fn a_lease_is_kept_while_the_outcome_is_unknown() {
    // The daemon may have made the attachment before it was killed: an address in use must not be assigned again.
    let lab = Lab::new("host-local", &format!("echo '{LEASE}'"));
    lab.daemon.refuses("PUT", 503, "unavailable");
    lab.run("ADD").failed(11, "the daemon says unavailable");
    assert_eq!(lab.calls(), ["ADD"]);
    lab.daemon.answers("PUT", 200, json!("cut off"));
    lab.run("ADD").failed(11, "no reply from the daemon");
    assert_eq!(lab.calls(), ["ADD"]);
    lab.run("DEL").good();
    assert_eq!(lab.calls(), ["DEL"], "it is released with the attachment");
}

#[test]
fn an_attachment_of_a_killed_add_is_replaced() {
    let lab = Lab::new("host-local", &format!("echo '{LEASE}'"));
    let there = json!({"network": {"name": "dbnet"}, "netns": "/run/netns/c1",
        "addresses": [{"address": "10.1.0.7/16", "gateway": "10.1.0.1"}]});
    let none = json!({"error": {"code": "not_found", "message": "no attachment"}});
    let taken = json!({"error": {"code": "conflict", "message": "this request differs in its addresses"}});
    lab.daemon.answers_once("GET /v1/att", 404, none);
    lab.daemon.answers_once("GET /v1/att", 200, netd_testing::cni::attachment("/v1/attachments/dbnet/c1/eth0", &there));
    lab.daemon.answers_once("PUT", 409, taken);
    let result = lab.run("ADD").good();
    assert_eq!(result["ips"][0]["address"], "10.1.0.5/16");
    assert_eq!(lab.calls(), ["ADD"]);
    let methods: Vec<String> = lab.daemon.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(methods, ["GET", "PUT", "GET", "DELETE", "PUT"]);
}

#[test]
fn an_existing_attachment_keeps_its_lease() {
    let lab = Lab::new("host-local", "exit 1");
    let there = json!({"addresses": [{"address": "10.1.0.7/16", "gateway": "10.1.0.1"}],
        "routes": [{"destination": "10.9.0.0/16", "gateway": "10.1.0.9"}]});
    let mut attachment = netd_testing::cni::attachment("/v1/attachments/dbnet/c1/eth0", &there);
    attachment["endpoint"]["network"] = json!("dbnet");
    attachment["endpoint"]["netns"] = json!("/run/netns/c1");
    lab.daemon.answers("GET /v1/att", 200, attachment);
    let result = lab.run("ADD").good();
    assert_eq!(result["ips"][0]["address"], "10.1.0.7/16");
    let put = lab.daemon.put();
    assert_eq!(
        (&put["interface"], &put["addresses"], &put["routes"]),
        (&json!("given"), &there["addresses"], &there["routes"])
    );
    assert_eq!(lab.calls(), Vec::<String>::new(), "no lease is requested or released");
}

#[test]
fn a_lease_of_a_killed_add_is_released_first() {
    // As host-local: a second lease for the same container is refused.
    let plugin = format!(
        "held=$(dirname $0)/held; case $CNI_COMMAND in DEL) rm -f $held;;\n\
         ADD) [ -e $held ] && {{ echo '{{\"code\":999,\"msg\":\"duplicate allocation\"}}'; exit 1; }}; touch $held; echo '{LEASE}';; esac"
    );
    let lab = Lab::new("host-local", &plugin);
    std::fs::write(lab.folder().join("held"), "").unwrap();
    lab.run("ADD").good();
    assert_eq!(lab.calls(), ["ADD", "DEL", "ADD"]);
}

#[test]
fn dhcp_works_through_the_interface() {
    let put = "PUT /v1/attachments/dbnet/c1/eth0";
    let delete = "DELETE /v1/attachments/dbnet/c1/eth0";
    let lab = Lab::new("dhcp", &format!("echo '{LEASE}'"));
    lab.run("ADD").good();
    let mut asked = lab.daemon.asked();
    asked.retain(|asked| asked.method == "PUT");
    let interfaces: Vec<&Value> = asked.iter().map(|asked| &asked.body["interface"]).collect();
    assert_eq!(interfaces, [&json!("unaddressed"), &json!("given")]);
    assert_eq!(
        (&asked[0].body["addresses"], &asked[1].body["addresses"][0]["address"]),
        (&Value::Null, &json!("10.1.0.5/16"))
    );
    assert_eq!(lab.calls(), ["ADD"]);
    // The address cannot be set: lease and interface are removed.
    lab.daemon.refuses("\"interface\":\"given\"", 409, "conflict");
    lab.run("ADD").failed(100, "conflict");
    assert_eq!(
        (lab.calls(), lab.daemon.calls()),
        (vec!["ADD".into(), "DEL".into()], vec![put.into(), put.into(), delete.into()])
    );
    // Without an interface, no address is requested.
    lab.daemon.refuses("PUT", 409, "conflict");
    lab.run("ADD").failed(100, "conflict");
    assert_eq!((lab.calls(), lab.daemon.calls()), (Vec::new(), vec![put.to_owned()]));
    // Without an address, the interface is removed again.
    let lab = Lab::new("dhcp", "[ $CNI_COMMAND = DEL ] || exit 1");
    lab.run("ADD").failed(999, "dhcp ended with code 1");
    assert_eq!((lab.calls(), lab.daemon.calls()), (vec!["ADD".into(), "DEL".into()], vec![put.into(), delete.into()]));
}

#[test]
fn del_runs_both_parts_and_reports_both_errors() {
    let lab = Lab::new("host-local", r#"echo '{"code":11,"msg":"no luck"}'; exit 1"#);
    let delete = ["DELETE /v1/attachments/dbnet/c1/eth0"];
    lab.run("DEL").failed(11, "IPAM plugin host-local: no luck");
    assert_eq!((lab.calls(), lab.daemon.calls()), (vec!["DEL".to_owned()], delete.map(str::to_owned).to_vec()));
    lab.daemon.refuses("DELETE", 500, "failed");
    lab.run("DEL").failed(999, "the daemon says failed; IPAM plugin host-local: no luck");
    assert_eq!(lab.calls(), ["DEL"]);
    lab.run("GC").failed(11, "no luck");
    assert_eq!(lab.daemon.calls().len(), 2);
}

#[test]
fn status_includes_the_ipam_plugin() {
    for (code, expected) in [(4, 50), (50, 50), (51, 51)] {
        let lab = Lab::new("host-local", &format!(r#"echo '{{"code":{code},"msg":"no luck"}}'; exit 1"#));
        lab.run("STATUS").failed(expected, "IPAM plugin host-local: no luck");
        // netd's own free addresses do not matter then.
        assert_eq!(lab.daemon.calls(), ["GET /v1/status"]);
    }
}

#[test]
fn a_missing_ipam_plugin_is_named_with_the_search_path() {
    let lab = Lab::new("host-local", "");
    for command in ["ADD", "DEL", "GC", "STATUS"] {
        let code = |code| if command == "STATUS" { 50 } else { code };
        let answer = lab.call(command, &lab.conf()).unset("CNI_PATH").run();
        answer.failed(code(4), "required env variables [CNI_PATH] missing");
        let words = "no IPAM plugin \"nowhere\" in CNI_PATH";
        lab.run_with(command, &lab.conf().key("ipam", json!({"type": "nowhere"}))).failed(code(7), words);
    }
    assert_eq!(lab.calls(), [""; 0]);
    fs::set_permissions(lab.folder().join("host-local"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    lab.run("ADD").failed(5, "run the IPAM plugin");
}
