//! `netd hook` in bundles of runc and crun: what a container has before its first instruction, and what is left of it.

use std::fs;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::contains;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::bundle::{Bundle, Oci, SERVE, WAIT, hook};
use crate::lab::command::run_words;
use crate::lab::look::{elements, published, same};
use crate::lab::{HOST4, Lab, Server};
use crate::world::{PAGE, Traces, fetch, fetches_the_page, find, nothing_left, trial, until, until_nothing_left};

type Case = (&'static str, fn(&Lab, Oci));

const CASES: &[Case] = &[
    ("a container has interface, address, names and ports from its first instruction, and nothing remains", everyday),
    ("networks, their order, addresses and names are what the annotations say", chosen),
    ("the same id starts again, also when its container was killed", again),
    ("a container that ends without its runtime is released", killed),
    ("netd may be killed at any time", without_netd),
    ("netd may be killed while a container starts", without_netd_meanwhile),
    ("what cannot be attached does not start, and nothing is left", refused),
    ("resolv.conf and hosts reach every root file system, and no other file", files),
    ("a repeated call changes nothing, and a stranger with the same id is left alone", repeated),
    ("a namespace that existed before is detached, and lives on", joined),
];

pub(crate) fn trials() -> Vec<Trial> {
    let of = |runtime: &'static str| {
        CASES.iter().map(move |(what, test)| {
            let needs: &'static [&'static str] = if runtime == "runc" { &["runc"] } else { &["crun"] };
            trial(format!("hook of {runtime}: {what}").leak(), needs, move |lab| {
                Oci(runtime).make_usable();
                test(lab, Oci(runtime));
            })
        })
    };
    ["runc", "crun"].into_iter().flat_map(of).collect()
}

fn ready(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
}

fn everyday(lab: &Lab, oci: Oci) {
    ready(lab);
    let web = [("netd.network", "net1"), ("netd.publish", "4000:80, 127.0.0.1:4001:80"), ("netd.alias", "store")];
    oci.start("web", &Bundle::new("web", SERVE, &web));
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    assert_eq!(
        (fetch("host", "127.0.0.1:4001"), fetch("outside", &format!("{HOST4}:4001"))),
        (PAGE.into(), String::new())
    );
    let address = lab.address("net1", "web")[0].to_string();
    let line = "ip -o address show eth0; wget -qO- http://web/; wget -qO- http://store.net1/; nslookup client";
    let printed = oci.prints("client", line, &[("netd.network", "net1")]);
    assert_eq!(printed.matches(PAGE).count(), 2, "{printed}");
    let own = printed.split_whitespace().skip_while(|word| *word != "inet").nth(1).expect("an address");
    let own = own.split('/').next().expect("an address");
    assert!(own != address && printed.matches(own).count() >= 2, "its interface, and its own name: {printed}");
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    oci.kill("web");
    oci.delete("web").ok();
    traces.are_gone(lab);
    nothing_left(lab);
}

fn chosen(lab: &Lab, oci: Oci) {
    ready(lab);
    for create in ["back --internal --subnet 10.9.1.0/24", "zz.front --subnet 10.9.2.0/24 --ipv6 --subnet fd09::/64"] {
        lab.netd(&format!("network create {create}")).ok();
    }
    let annotations = [
        ("netd.network", "back zz.front,net1"),
        ("netd.name", "shop"),
        ("netd.publish", "4000:80"),
        ("netd.alias", "everywhere"),
        ("netd.zz.front.ip", "10.9.2.77"),
        ("netd.zz.front.ip6", "fd09::77"),
        ("netd.zz.front.mac", "02:00:00:00:00:77"),
        ("netd.zz.front.alias", "here"),
        ("netd.net1.ifname", "third"),
        ("netd.net1.publish", "4002:80"),
        ("other.program", "is not netd's"),
    ];
    for _ in 0..3 {
        let line = "ip -o address; ip route; for name in everywhere.back everywhere.net1 here.zz.front; do \
                    wget -qO- http://$name/ || echo $name fails; done";
        let served = format!("httpd -p 80 -h /www; {line}; echo done; sleep 1000");
        let bundle = Bundle::new("web", &["sh", "-c", &served], &annotations);
        oci.start("web", &bundle);
        let out = format!("{}/out", bundle.folder);
        until("it has printed all", || contains(fs::read_to_string(&out).unwrap_or_default(), "done"));
        let printed = fs::read_to_string(&out).expect("a text");
        for words in ["eth0    inet 10.9.1.", "eth1    inet 10.9.2.77/24", "fd09::77/64", "third    inet 10."] {
            assert!(printed.contains(words), "{words}: {printed}");
        }
        assert!(printed.contains("default via 10.9.2.1 dev eth1"), "back leads nowhere: {printed}");
        assert_eq!(printed.matches(PAGE).count(), 3, "{printed}");
        let endpoint = lab.endpoint("zz.front", "shop");
        assert_eq!((&endpoint["mac"], &endpoint["container"]["id"]), (&json!("02:00:00:00:00:77"), &json!("web")));
        for port in [4000, 4002] {
            fetches_the_page("outside", &format!("{HOST4}:{port}"));
        }
        assert_eq!(lab.endpoint("back", "shop")["ports"], json!([]));
        let traces = Traces::of(lab, "zz.front", "shop", &[4000]);
        oci.delete("web").ok();
        traces.are_gone(lab);
        nothing_left(lab);
    }
}

fn again(lab: &Lab, oci: Oci) {
    ready(lab);
    let plain = || Bundle::new("web", SERVE, &[("netd.network", "net1"), ("netd.publish", "4000:80 80")]);
    let bundle = plain();
    // An older runtime calls prestart; one that knows both calls netd twice.
    let hooks = bundle.config["hooks"]["createRuntime"].clone();
    let older = |config: &mut Value| config["hooks"] = json!({"prestart": hooks, "poststop": hooks});
    let both = |config: &mut Value| config["hooks"]["prestart"] = hooks.clone();
    let bundles = [plain(), plain().with(older), plain().with(both)];
    for (how, bundle) in ["killed", "removed by force", "killed"].into_iter().zip(&bundles) {
        oci.start("web", bundle);
        fetches_the_page("outside", &format!("{HOST4}:4000"));
        let chosen = lab.endpoint("net1", "web")["ports"].as_array().expect("an array").clone();
        assert_eq!(chosen.len(), 2, "{chosen:?}");
        if how == "killed" {
            oci.kill("web");
        }
        oci.delete("web").ok();
        nothing_left(lab);
    }
}

fn killed(lab: &Lab, oci: Oci) {
    ready(lab);
    oci.start("web", &Bundle::new("web", SERVE, &[("netd.network", "net1"), ("netd.publish", "4000:80")]));
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    kill_process(oci, "web");
    // No hook runs until the runtime is asked to remove it.
    traces.until_gone(lab);
    until_nothing_left(lab);
    oci.delete("web").ok();
    nothing_left(lab);
}

/// Ends the container as a crash would.
fn kill_process(oci: Oci, id: &str) {
    let pid = oci.state(id)["pid"].as_i64().expect("a process");
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL).expect("it runs");
}

fn without_netd(lab: &Lab, oci: Oci) {
    ready(lab);
    let bundle = Bundle::new("web", SERVE, &[("netd.network", "net1"), ("netd.publish", "4000:80")]);
    oci.start("web", &bundle);
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    lab.kill_daemon();
    lab.start_daemon();
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    lab.kill_daemon();
    let refused = oci.try_to_start("other", &Bundle::new("other", WAIT, &[("netd.network", "net1")]));
    assert!(refused.code != Some(0) && refused.stdout.contains("netd.sock"), "{refused:?}");
    oci.kill("web");
    let deleted = oci.delete("web").ok();
    assert!(!oci.run("list -q").ok().stdout.contains("web"), "{deleted:?}");
    let state = json!({"ociVersion": "1.0.2", "id": "web", "status": "stopped", "bundle": bundle.folder});
    let noted = hook(&state.to_string()).ok();
    assert!(noted.stderr.contains("netd: detach container web: cannot reach the daemon"), "{noted:?}");
    lab.start_daemon();
    traces.until_gone(lab);
    until_nothing_left(lab);
    oci.start("web", &bundle);
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    oci.delete("web").ok();
    nothing_left(lab);
}

/// What a refused container must leave as it was: it may have had an address for a moment.
fn all_but_released(lab: &Lab) -> String {
    let mut dump = lab.netd("dump --json").ok().json();
    for counted in ["released", "revision"] {
        dump.as_object_mut().expect("an object").remove(counted);
    }
    format!("{}{dump:#}", elements())
}

/// netd dies at different moments of a start: the container starts or does not, and in both cases nothing of it stays.
fn without_netd_meanwhile(lab: &Lab, oci: Oci) {
    ready(lab);
    let bundle = Bundle::new("web", SERVE, &[("netd.network", "net1"), ("netd.publish", "4000:80")]);
    let mut started = 0;
    for milliseconds in [0, 20, 40, 60, 80, 100, 150, 200, 20_000] {
        let (tell, ended) = channel();
        let out = thread::scope(|scope| {
            let start = scope.spawn(|| {
                let out = oci.try_to_start("web", &bundle);
                // Nobody listens once the time is up.
                let _ = tell.send(());
                out
            });
            // Sooner, once it has started.
            let _ = ended.recv_timeout(Duration::from_millis(milliseconds));
            lab.kill_daemon();
            start.join().expect("the runtime ends")
        });
        lab.start_daemon();
        if out.code == Some(0) {
            started += 1;
            fetches_the_page("outside", &format!("{HOST4}:4000"));
        }
        oci.delete("web");
        until_nothing_left(lab);
        assert!(!published().contains("4000"), "{milliseconds} ms: {}", published());
    }
    assert!(started > 0, "the last one has time enough");
}

fn refused(lab: &Lab, oci: Oci) {
    ready(lab);
    lab.netd("network create quiet --internal").ok();
    let server = Server::start("host", "host", 4000);
    let before = all_but_released(lab);
    for (annotations, words) in [
        (&[("netd.network", "net1"), ("netd.publish", "4000:80")][..], "4000"),
        (&[("netd.network", "quiet,net1"), ("netd.net1.publish", "4000:80")], "4000"),
        (&[("netd.network", "net1,nowhere")], "see `netd network ls`"),
        (&[("netd.network", "quiet"), ("netd.publish", "4001:80")], "internal"),
        (&[("netd.network", "net1"), ("netd.publsh", "80")], "unknown annotation netd.publsh"),
        (&[("netd.network", "net1"), ("netd.ip", "192.0.2.9")], "192.0.2.9"),
        (&[("netd.publish", "80")], "needs netd.network"),
    ] {
        let out = oci.try_to_start("web", &Bundle::new("web", WAIT, annotations));
        assert!(out.code != Some(0) && out.stdout.contains(words), "{annotations:?}: {out:?}");
        oci.delete("web");
        assert!(!oci.run("list -q").ok().stdout.contains("web"), "{annotations:?}");
        nothing_left(lab);
        same(&before, &all_but_released(lab));
    }
    drop(server);
    let of_host = Bundle::new("web", WAIT, &[("netd.network", "net1")]).with(|config| {
        let all = config["linux"]["namespaces"].as_array_mut().expect("an array");
        all.retain(|namespace| namespace["type"] != "network");
    });
    let out = oci.try_to_start("web", &of_host);
    assert!(out.code != Some(0) && out.stdout.contains("host's network namespace"), "{out:?}");
    oci.delete("web");
    for (input, words) in [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        (r#"{"status":"created"}"#, "no id"),
        (r#"{"id":"web","status":"paused"}"#, "use creating"),
        (r#"{"id":"web","status":"created","pid":-4}"#, "pid is -4"),
        (r#"{"id":"web","status":"created","pid":1,"annotations":{"netd.network":7}}"#, "netd.network is 7"),
        (
            r#"{"id":"web","status":"created","pid":99999999,"annotations":{"netd.network":"net1","netd.files":"keep"}}"#,
            "99999999",
        ),
        (r#"{"id":"web","status":"created","bundle":"/nowhere"}"#, "/nowhere/config.json"),
        (&format!(r#"{{"id":"{}"}}"#, "x".repeat(2 << 20)), "larger than"),
    ] {
        let line = hook(input).refused();
        assert!(line.contains(words) && line.len() < 1000, "{words}: {line}");
    }
    nothing_left(lab);
    same(&before, &all_but_released(lab));
}

fn files(lab: &Lab, oci: Oci) {
    ready(lab);
    fs::write("/run/lab/victim", "the host's\n").expect("a file");
    let plain = [("netd.network", "net1")];
    let prepared: [(&str, &str); 5] = [
        ("true", "none at all"),
        ("ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf", "a link to nowhere"),
        ("ln -s /run/lab/victim etc/resolv.conf", "a link to a file of the host"),
        ("rmdir etc", "no etc"),
        ("echo nameserver 192.0.2.53 > etc/resolv.conf; echo 127.0.0.1 x > etc/hosts", "files of its own"),
    ];
    let show = "cat /etc/resolv.conf /etc/hosts; nslookup client";
    for (line, what) in prepared {
        let bundle = Bundle::new("client", &["sh", "-c", show], &plain);
        let root = format!("{}/rootfs", bundle.folder);
        run_words(&["sh", "-c", &format!("cd {root} && rm -f etc/* && {line}")]).ok();
        let out = oci.foreground("client", &bundle);
        assert!(out.code == Some(0), "{what}: {out:?}");
        assert!(out.stdout.contains("nameserver 10.") && out.stdout.contains("\tclient"), "{what}: {out:?}");
        let own = fs::read_to_string(format!("{root}/etc/hosts")).unwrap_or_default();
        assert_eq!(own.trim(), if what == "files of its own" { "127.0.0.1 x" } else { "" }, "{what}");
        assert_eq!(fs::read_to_string("/run/lab/victim").expect("a text"), "the host's\n");
        fs::remove_dir_all(&bundle.folder).expect("the bundle");
    }
    // In a user namespace, root of the container is nobody on the host.
    let mapped = Bundle::new("client", &["sh", "-c", show], &plain).with(|config| {
        config["linux"]["namespaces"].as_array_mut().expect("an array").push(json!({"type": "user"}));
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        }
    });
    run_words(&["chown", "-R", "100000:100000", &mapped.folder]).ok();
    let out = oci.foreground("client", &mapped).ok();
    assert!(out.stdout.contains("nameserver 10.") && out.stdout.contains("\tclient"), "{out:?}");
    fs::remove_dir_all(&mapped.folder).expect("the bundle");
    let kept = Bundle::new("client", &["cat", "/etc/resolv.conf"], &[plain[0], ("netd.files", "keep")]);
    fs::write(format!("{}/rootfs/etc/resolv.conf", kept.folder), "mine\n").expect("a file");
    assert_eq!(oci.foreground("client", &kept).ok().stdout, "mine\n");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("a text");
    assert!(!mounts.contains("resolv.conf") && !mounts.contains(" - tmpfs netd "), "{mounts}");
    until_nothing_left(lab);
}

fn repeated(lab: &Lab, oci: Oci) {
    ready(lab);
    let annotations = [("netd.network", "net1"), ("netd.publish", "4000:80, 80"), ("netd.ip6", "")];
    let bundle = Bundle::new("web", SERVE, &annotations);
    oci.start("web", &bundle);
    let before = lab.everything();
    let state = |pid: i64, status: &str| {
        json!({"OCIVersion": "1.0.2", "Id": "web", "STATUS": status, "pid": pid, "bundle": bundle.folder,
               "annotations": null, "unknown": {}})
        .to_string()
    };
    let pid = oci.state("web")["pid"].as_i64().expect("a process");
    // It runs, so the path of its root file system leads elsewhere by now.
    let mut kept: serde_json::Value = serde_json::from_str(&state(pid, "running")).expect("JSON");
    let mut all: serde_json::Map<_, _> = annotations.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    all.insert("netd.files".to_owned(), json!("keep"));
    kept["annotations"] = all.into();
    hook(&kept.to_string()).ok();
    lab.unchanged_since(&before);
    // The hook of a container that never was there, and of one that another runtime calls the same.
    let nobody = json!({"id": "nobody", "status": "stopped", "pid": 0, "annotations": {"netd.network": "net1"}});
    hook(&nobody.to_string()).ok();
    let stranger = Bundle::new("stranger", WAIT, &[("netd.network", "net1")]);
    let other = Oci(if oci.0 == "runc" { "crun" } else { "runc" });
    if find(other.0).is_some() {
        let out = other.try_to_start("web", &stranger);
        assert!(out.code != Some(0), "{out:?}");
        other.delete("web");
    }
    hook(&state(0, "stopped")).ok();
    lab.unchanged_since(&before);
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    oci.delete("web").ok();
    nothing_left(lab);
}

/// The container joins a network namespace by its path, and leaves it behind.
fn joined(lab: &Lab, oci: Oci) {
    ready(lab);
    lab.container("pod");
    let bundle = Bundle::new("web", SERVE, &[("netd.network", "net1"), ("netd.publish", "4000:80")]).with(|config| {
        let all = config["linux"]["namespaces"].as_array_mut().expect("an array");
        let network = all.iter_mut().find(|namespace| namespace["type"] == "network").expect("it");
        network["path"] = json!("/run/netns/pod");
    });
    oci.start("web", &bundle);
    fetches_the_page("outside", &format!("{HOST4}:4000"));
    let traces = Traces::of(lab, "net1", "web", &[4000]);
    oci.delete("web").ok();
    traces.are_gone(lab);
    nothing_left(lab);
    assert_eq!(crate::lab::look::links("pod"), ["lo"]);
}
