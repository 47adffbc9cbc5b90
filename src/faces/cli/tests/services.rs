//! Tests of `netd service` with a served API.

use super::usage::expect_misuse;
use super::verbs::Daemon;

/// Two members by label and one by name, of which none is there yet.
fn daemon() -> Daemon {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    daemon
}

#[test]
fn wrong_usage_of_services_is_one_clear_line_and_code_2() {
    expect_misuse(&[
        ("service", "netd: service: a command is missing: see `netd service -h`"),
        ("service create web", "not provided: --network <NETWORK[,alias=NAME]...>"),
        ("service create a/b --network net1", "<NAME>: invalid service name \"a/b\""),
        ("service create web --network a/b", "invalid network name \"a/b\""),
        ("service create web --network net1,ip=1", "use NETWORK[,alias=NAME]..."),
        (
            "service create web --network net1 --select app",
            "--select <LABEL=VALUE>: invalid label to select by \"app\"",
        ),
        ("service create web --network net1 --mode vips", "invalid mode \"vips\": use dns or vip"),
        ("service create web --network net1 --target 0", "invalid target \"0\""),
        ("service create web --network net1 --affinity all", "use none or client"),
        ("service create web --network net1 --grace soon", "invalid number of seconds \"soon\""),
        ("service create web --network net1 --health icmp", "use tcp:PORT, http:PORT/PATH, engine or none"),
        ("service create web --network net1 --interval soon", "--interval <DURATION>: invalid duration \"soon\""),
        ("service create web --network net1 --retries many", "--retries <N>"),
        ("service create web --network net1 --when-none-ready some", "use empty or all"),
        ("service create web --network net1 -p 80:80:80", "invalid port \"80:80:80\""),
        ("service create web --network net1 --alias a..b", "invalid DNS name"),
        ("service create web --network net1 --member a/b", "invalid container name \"a/b\""),
        ("service update", "not provided: <NAME>"),
        ("service update web --publish-rm x", "invalid port \"x\""),
        ("service ls -f state=x", "invalid filter 'state'"),
        ("service ls -f mode=x", "invalid filter 'mode=x'"),
        ("service ps web -f state=gone", "invalid filter 'state=gone'"),
        ("service rm", "not provided: <NAME>..."),
        ("service drain", "not provided: <MEMBER>"),
        ("service scale web", "invalid number of tasks \"web\": use NAME=N, as in web=3"),
        ("service scale web=x", "use NAME=N"),
    ]);
}

#[test]
fn a_service_from_its_creation_to_its_end() {
    let daemon = daemon();
    let create = "service create web --network net1,alias=www --select app=web --member db --mode vip -p 8080:80";
    assert_eq!(daemon.ok(create), "web on net1: 10.77.0.2, *:8080->80/tcp\n");
    daemon.ok("connect net1 w1 --pid 1 --label app=web");
    daemon.ok("connect net1 db --pid 4711");
    let id = daemon.json("service inspect web --json")[0]["id"].as_str().unwrap().to_owned();
    let short = &id[..12];
    assert_eq!(
        daemon.ok("service ls"),
        format!(
            "NAME   ID             MODE   REPLICAS   NETWORKS   ADDRESSES   PORTS\n\
             web    {short}   vip    2/2        net1       10.77.0.2   *:8080->80/tcp\n"
        )
    );
    assert_eq!(daemon.ok("service ls -q"), format!("{short}\n"));
    assert_eq!(daemon.ok("service ls -q -f name=other"), "");
    assert_eq!(daemon.ok("service ls --format {{.Name}}/{{.Replicas}}/{{.Image}}"), "web/2/2/\n");
    assert_eq!(daemon.json(&format!("service inspect {short} --json"))[0]["networks"][0]["aliases"][0], "www");

    assert_eq!(
        daemon.ok("service drain w1"),
        "w1 of web on net1 is draining: it is drained: see `netd service undrain`\n"
    );
    let ps = daemon.ok("service ps web");
    let rows: Vec<Vec<&str>> = ps.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["CONTAINER", "ID", "NETWORK", "ADDRESSES", "STATE", "SINCE", "WHY"]);
    assert_eq!((rows[1][0], rows[1][2..5].join(" ").as_str()), ("w1", "net1 10.77.0.3/24 draining"));
    assert!(ps.lines().nth(1).unwrap().ends_with("it is drained: see `netd service undrain`"), "{ps}");
    assert_eq!((rows[2][0], rows[2][4..].join(" ").as_str()), ("db", "ready - -"));
    assert_eq!(daemon.ok("service ps web -f state=ready --format {{.Name}}"), "db\n");
    assert_eq!(daemon.json("service ls --json")[0]["replicas"], serde_json::json!({"ready": 1, "all": 2}));
    assert_eq!(daemon.ok("service undrain w1"), "w1 of web on net1 is ready\n");
    assert!(daemon.ok("service unready db").starts_with("db of web on net1 is unhealthy: it was said"));
    assert_eq!(daemon.ok("service ready db"), "db of web on net1 is ready\n");
    assert_eq!(daemon.ok("service checked db"), "db of web on net1 is ready\n");

    let update = "service update web --publish-add 8443:443 --member-rm db --label team=red";
    assert_eq!(daemon.ok(update), "web on net1: 10.77.0.2, *:8080->80/tcp, *:8443->443/tcp\n");
    assert_eq!(daemon.ok("service ls --format {{.Replicas}}/{{.Labels}}/{{.Version}}"), "1/1/team=red/2\n");
    let (code, _, err) = daemon.netd("service update web --grace 5 --if-version 1");
    assert_eq!(
        (code, err.as_str()),
        (1, "netd: update service web: service web was updated meanwhile: its version is 2, not 1\n")
    );
    assert_eq!(daemon.ok("service rm web"), "web\n");
    assert_eq!(daemon.ok("service ls -q"), "");
    assert_eq!(daemon.ok("ps -q").lines().count(), 2, "members stay connected");
}

#[test]
fn an_empty_value_stands_for_none() {
    let daemon = daemon();
    daemon.ok("service create web --network net1 --select app=web --alias www --target 80 --label a=b -p 80:80");
    let words =
        ["netd", "service", "update", "web", "--select", "", "--alias", "", "--target", "", "--label", "", "-p", ""];
    let (code, out, err) = daemon.netd_words(words.map(std::ffi::OsString::from).into());
    assert_eq!((code, out.as_str(), err.as_str()), (0, "web on net1\n", ""));
    let service = &daemon.json("service inspect web --json")[0];
    for (field, empty) in [("select", "{}"), ("target", "null"), ("labels", "{}"), ("ports", "[]")] {
        assert_eq!(service[field].to_string(), empty, "{field}");
    }
    assert_eq!(service["networks"][0]["aliases"].to_string(), "[]");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let daemon = daemon();
    daemon.ok("service create web --network net1 --select app=web --mode vip -p 8080:80");
    daemon.ok("connect net1 w1 --pid 1 --label app=web");
    let before = daemon.ok("dump --json");
    for (line, first, also) in [
        ("service create api --network net1 --mode vip", "create service api", "10.77.0."),
        ("service update web --publish-add 8443:443", "update service web to version 2", "8443"),
        ("service rm web", "remove service web", "8080"),
        ("service drain w1", "drain w1", ""),
        ("service unready w1", "say that w1 is not ready", ""),
    ] {
        let text = daemon.ok(&format!("{line} --dry-run"));
        assert_eq!(text.lines().next(), Some(first), "{text}");
        assert!(text.contains(also), "{line}: {text}");
    }
    assert_eq!(daemon.ok("dump --json"), before);
    // The next change shows what the engine has by then.
    let before = daemon.json("service ps web --json");
    daemon.ok("network create later");
    assert_eq!(daemon.json("service ps web --json"), before);
}

#[test]
fn what_a_service_cannot_do_is_one_line() {
    let daemon = daemon();
    daemon.ok("service create web --network net1 --select app=web -p 8080:80");
    daemon.ok("connect net1 alone --pid 1");
    for (line, words) in [
        (
            "service create web --network net1",
            "create service web: service web already exists: see `netd service inspect web`",
        ),
        ("service create api --network nope", "no network \"nope\""),
        ("service create alone --network net1", "cannot have the name of container alone"),
        ("service create api --network net1 -p 8080:80", "is already published by service web"),
        ("service create api --network net1 --network net1", "network net1 is given twice"),
        ("service create api --network net1 -p 127.0.0.1:80:80", "leave out the address"),
        ("service update nope", "no service \"nope\": see `netd service ls`"),
        ("service update web --publish-rm 81", "service web does not publish it"),
        ("service inspect nope", "no service \"nope\""),
        ("service ps nope", "no service \"nope\""),
        ("service rm nope", "remove service nope: no service \"nope\""),
        ("service drain nope", "no container \"nope\""),
        ("service drain alone", "it is a member of no service"),
        (
            "service scale web=3",
            "scale service web to 3: service web has no tasks, because netd does not start its containers",
        ),
        ("service scale nope=3", "no service \"nope\""),
        ("service logs web", "service web has no tasks"),
    ] {
        let (code, out, err) = daemon.netd(line);
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{line}: {err}");
        assert!(err.starts_with("netd: ") && err.contains(words), "{line}: {err}");
    }
}

#[test]
fn services_that_follow_from_labels_are_listed_and_cannot_be_changed() {
    let daemon = daemon();
    daemon.ok("connect net1 w1 --pid 1 --label com.docker.compose.project=shop --label com.docker.compose.service=web");
    let service = &daemon.json("service ls --json")[0];
    assert_eq!(
        (&service["name"], &service["origin"], &service["created"]),
        (&"shop_web".into(), &"labels".into(), &serde_json::Value::Null)
    );
    for line in ["service rm shop_web", "service update shop_web --grace 3"] {
        let (code, _, err) = daemon.netd(line);
        assert!(code == 1 && err.contains("follows from the labels of its containers"), "{err}");
    }
    assert_eq!(daemon.ok("service drain w1").lines().count(), 1);
    daemon.ok("disconnect net1 w1");
    assert_eq!(daemon.ok("service ls -q"), "");
}

#[test]
fn tasks_need_an_image_and_an_engine() {
    let daemon = daemon();
    for (line, code, words) in [
        ("service create web --network net1 --replicas 2", 2, "options of tasks need --image"),
        (
            "service create web --network net1 --image lab --select a=b",
            2,
            "--select is for services whose containers others",
        ),
        ("service create web --network net1 --image lab", 1, "name the engine that runs containers"),
    ] {
        let (got, out, err) = daemon.netd(line);
        assert_eq!((got, out.as_str()), (code, ""), "{line}: {err}");
        assert!(err.starts_with("netd: create service web: ") && err.contains(words), "{line}: {err}");
    }
    daemon.ok("service create web --network net1 --select app=web");
    for line in
        ["service update web --image lab", "service update web --rollback", "service scale web=3", "service logs web"]
    {
        let (code, _, err) = daemon.netd(line);
        assert!(code == 1 && err.contains("service web has no tasks"), "{line}: {err}");
    }
}
