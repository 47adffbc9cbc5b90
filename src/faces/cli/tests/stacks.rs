//! Tests of `netd stack` with a served API, where no engine runs containers.

use super::usage::expect_misuse;
use super::verbs::Daemon;

/// Two stacks, of which the first has two services, and a service of none.
fn daemon() -> Daemon {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1");
    for (name, stack) in [("lab_web", "lab"), ("lab_db", "lab"), ("other_web", "other")] {
        let label = format!("--label com.docker.stack.namespace={stack} --label of={name}");
        daemon.ok(&format!("service create {name} --network net1 --select app={name} --mode vip {label}"));
    }
    daemon.ok("service create none --network net1 --select app=none");
    daemon.ok("service update lab_web -p 8080:80");
    daemon.ok("connect net1 web1 --pid 1 --label app=lab_web");
    daemon
}

#[test]
fn wrong_usage_of_stacks_is_one_clear_line_and_code_2() {
    expect_misuse(&[
        ("stack", "netd: stack: a command is missing: see `netd stack -h`"),
        ("stack ps", "not provided: <NAME>"),
        ("stack ps lab -f state=ready", "invalid filter 'state': use one of desired-state, id, name, node"),
        ("stack ps lab -f desired-state=odd", "invalid filter 'desired-state=odd'"),
        ("stack services lab -f mode=odd", "invalid filter 'mode=odd'"),
        ("stack services lab -f driver=x", "invalid filter 'driver': use one of id, label, mode, name, network"),
        ("stack services lab -q --json", "--json"),
        ("stack deploy lab", "not provided: --compose-file <FILE>"),
    ]);
}

#[test]
fn stacks_are_listed_with_templates() {
    let daemon = daemon();
    assert_eq!(daemon.ok("stack ls"), "NAME    SERVICES\nlab     2\nother   1\n");
    assert_eq!(daemon.ok("stack ls --format {{.Name}}:{{.Services}}"), "lab:2\nother:1\n");
    assert_eq!(
        daemon.ok("stack ls --format json"),
        "{\"Name\":\"lab\",\"Services\":\"2\"}\n{\"Name\":\"other\",\"Services\":\"1\"}\n"
    );
    assert_eq!(daemon.json("stack ls --json")[1], serde_json::json!({"name": "other", "services": 1}));
    let (code, out, err) = daemon.netd("stack ls --format {{.Nope}}");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("can't evaluate field Nope in type stack"), "{err}");
}

#[test]
fn services_of_a_stack_are_filtered_and_listed_with_templates() {
    let daemon = daemon();
    let id = daemon.json("service inspect lab_web --json")[0]["id"].as_str().unwrap().to_owned();
    let short = &id[..12];
    let web = "stack services lab -f name=web";
    assert_eq!(
        daemon.ok(web),
        format!(
            "ID             NAME      MODE   REPLICAS   IMAGE   PORTS\n{short}   lab_web   vip    1/1        -       *:8080->80/tcp\n"
        )
    );
    assert_eq!(daemon.ok(&format!("{web} -q")), format!("{short}\n"));
    assert_eq!(daemon.ok(&format!("{web} -q --no-trunc")), format!("{id}\n"));
    assert_eq!(
        daemon.ok(&format!("{web} --format {{{{.ID}}}}/{{{{.Replicas}}}}/{{{{.Image}}}}")),
        format!("{short}/1/1/\n")
    );
    assert_eq!(daemon.json(&format!("{web} --json")).as_array().unwrap().len(), 1);
    for (filters, expected) in [
        ("", "lab_db\nlab_web\n"),
        ("-f name=^lab_db$", "lab_db\n"),
        ("-f name=db -f name=web", "lab_db\nlab_web\n"),
        ("-f label=of=lab_db", "lab_db\n"),
        ("-f mode=vip", "lab_db\nlab_web\n"),
        ("-f mode=global", ""),
        ("-f network=net1", "lab_db\nlab_web\n"),
        ("-f network=net", ""),
        (&format!("-f id={short}"), "lab_web\n"),
    ] {
        let out = daemon.ok(&format!("stack services lab {filters} --format {{{{.Name}}}}"));
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{filters}");
    }
    let (code, out, err) = daemon.netd("stack services nope");
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "Nothing found in stack: nope\n"));
}

#[test]
fn members_of_a_stack_are_filtered_and_listed_with_templates() {
    let daemon = daemon();
    daemon.ok("connect net1 db1 --pid 4711 --label app=lab_db");
    let names =
        |filters: &str| daemon.ok(&format!("stack ps lab {filters} --format {{{{.CurrentState}}}}:{{{{.Error}}}}"));
    assert_eq!(names(""), "ready:\nready:\n");
    assert_eq!(names("-f name=web1"), "ready:\n");
    assert_eq!(names("-f desired-state=running"), "", "nobody starts members");
    assert_eq!(daemon.json("stack ps lab --json -f name=web1")["members"][0]["container"]["name"], "web1");
    assert_eq!(daemon.json("stack ps lab --json")["members"].as_array().unwrap().len(), 2);
    let id = daemon.json("ps --json")[0]["id"].as_str().unwrap().to_owned();
    let of = |more: &str| daemon.ok(&format!("stack ps lab -f id={id} {more}"));
    assert_eq!(of("-q --no-trunc"), format!("{id}\n"));
    assert_eq!(of("-q"), format!("{}\n", id.get(..12).unwrap_or(&id)));
    assert!(of("").starts_with("ID"), "{}", of(""));
}
