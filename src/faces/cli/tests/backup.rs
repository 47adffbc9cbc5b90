//! `netd backup` and `netd restore` between two daemons.

use std::os::unix::fs::PermissionsExt as _;

use super::verbs::Daemon;

#[test]
fn what_one_daemon_has_another_gets() {
    let (one, other) = (Daemon::start(true), Daemon::start(true));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netd.json");
    let file = file.to_str().unwrap();
    one.ok("network create net1 --sticky --ipv6 --label a=b");
    one.ok("network create net2 --internal");
    one.ok("connect net1 web --netns /run/netns/there");
    one.ok("disconnect net1 web");
    std::fs::write(file, "an older backup").unwrap();
    assert_eq!(one.ok(&format!("backup {file}")), format!("2 networks backed up to {file}\n"));
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let shown = one.json("backup -");
    assert_eq!(
        shown["networks"],
        serde_json::from_str::<serde_json::Value>(&std::fs::read_to_string(file).unwrap()).unwrap()["networks"]
    );
    assert_eq!(shown["networks"][0]["sticky_addresses"][0]["name"], "web");
    assert_eq!(other.ok(&format!("restore {file}")), "net1 created\nnet2 created\n");
    assert_eq!(other.ok(&format!("restore {file}")), "net1 unchanged\nnet2 unchanged\n");
    let again = other.json("backup -");
    assert_eq!((&again["networks"], &again["ula_prefix"]), (&shown["networks"], &shown["ula_prefix"]));
    other.ok("network rm net1");
    let restored = other.json(&format!("restore {file} --json"));
    assert_eq!(restored, serde_json::json!({ "networks": ["net1"], "unchanged": ["net2"] }));
    other.ok("network rm net1 net2");
    other.ok("network create net2 --subnet 10.88.0.0/24");
    let (code, _, err) = other.netd(&format!("restore {file}"));
    assert!(code == 1 && err.contains("network net2 is not as the backup has it") && err.lines().count() == 1, "{err}");
    assert_eq!(other.json("network ls --json").as_array().unwrap().len(), 1, "all or nothing");
}

#[test]
fn services_are_restored_with_their_networks_and_addresses() {
    let (one, other) = (Daemon::start(true), Daemon::start(true));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netd.json");
    let file = file.to_str().unwrap();
    one.ok("network create net1 --ipv6");
    one.ok("connect net1 first --pid 1");
    one.ok("service create web --network net1,alias=www --select app=web --mode vip -p 8080:80 --health tcp:80 --interval 500ms");
    one.ok("service create api --network net1 --member db --grace 3 --label a=b");
    one.ok(
        "connect net1 labelled --pid 4711 --label com.docker.compose.project=p --label com.docker.compose.service=s",
    );
    assert_eq!(one.ok(&format!("backup {file}")), format!("1 networks, 2 services backed up to {file}\n"));
    let (one_s, before) = (one.json("backup -"), one.json("service inspect web --json"));
    assert_eq!(other.ok(&format!("restore {file}")), "net1 created\nservice api created\nservice web created\n");
    assert_eq!(other.json("backup -")["services"], one_s["services"]);
    let after = other.json("service inspect web --json");
    assert_eq!((&after[0]["networks"], &after[0]["id"]), (&before[0]["networks"], &before[0]["id"]));
    assert!(before[0]["networks"][0]["addresses"][0] == "10.77.0.3", "not the first: {before}");
    assert_eq!(other.ok(&format!("restore {file}")), "net1 unchanged\nservice api unchanged\nservice web unchanged\n");
    // Of a service that is gone the address is still free, or the whole restore is refused.
    other.ok("service rm web api");
    other.ok("network rm net1");
    other.ok("network create taken --subnet 10.88.0.0/24");
    other.ok("service create other --network taken -p 8080:80");
    let (code, _, err) = other.netd(&format!("restore {file}"));
    assert!(code == 1 && err.contains("is already published by service other") && err.lines().count() == 1, "{err}");
    assert_eq!(other.ok("network ls -q").lines().count(), 1, "all or nothing");
    other.ok("service rm other");
    other.ok("network rm taken");
    other.ok(&format!("restore {file}"));
    other.ok("service update web --grace 5");
    let (code, _, err) = other.netd(&format!("restore {file}"));
    assert!(code == 1 && err.contains("service web is not as the backup has it"), "{err}");
}

#[test]
fn what_goes_wrong_is_one_line() {
    let daemon = Daemon::start(true);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("text"), "hello").unwrap();
    std::fs::write(path("half"), r#"{"format":1,"version":"0.1.0","time":"","networks":[{"id":"#).unwrap();
    std::fs::write(path("later"), r#"{"format":2,"version":"9.0.0","time":"","networks":[]}"#).unwrap();
    for (line, words) in [
        (format!("restore {}", path("none")), "No such file"),
        (format!("restore {}", path("text")), "it is no backup of netd, or not all of it"),
        (format!("restore {}", path("half")), "it is no backup of netd, or not all of it"),
        (format!("restore {}", path("later")), "netd 9.0.0 wrote it, and this netd knows 1"),
        (format!("backup {}/none/file", folder.path().display()), "No such file"),
        (format!("backup {}", folder.path().display()), "directory"),
    ] {
        let (code, out, err) = daemon.netd(&line);
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{line}: {err}");
        assert!(err.contains(words), "{line}: {err}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left");
}
