//! Docker's options of the verbs that list: `--format`, `--filter`, `--quiet`, `--no-trunc`, with a served API.

use std::sync::mpsc;
use std::time::Duration;

use super::verbs::{Daemon, run_plain};
use crate::base::deadline::Deadline;
use crate::faces::cli::*;

impl Daemon {
    /// What a command prints. Words with spaces are in single quotes.
    fn prints(&self, line: &str) -> String {
        let (code, out, err) = self.netd_words(words(line));
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out
    }

    /// The code and the one line of a command that fails.
    fn fails(&self, line: &str) -> (u8, String) {
        let (code, out, err) = self.netd_words(words(line));
        assert!(out.is_empty() && err.lines().count() == 1, "{line}: {out}{err}");
        (code, err)
    }
}

fn words(line: &str) -> Vec<OsString> {
    let mut words = vec!["netd".into()];
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(OsString::from)),
            _ => words.push(part.into()),
        }
    }
    words
}

/// Two networks, two containers.
fn daemon() -> Daemon {
    let daemon = Daemon::start(true);
    daemon.ok("network create net1 --label team=red --label tier");
    daemon.ok("network create other-net --internal --ipv6 --label team=blue");
    daemon.ok("connect net1 web --pid 1 -p 127.0.0.1:4000:80 --label app=shop");
    daemon.ok("connect net1 db --pid 4711 --expose 5432=postgres");
    daemon
}

#[test]
fn networks_are_listed_with_templates() {
    let daemon = daemon();
    let id = daemon.json("network inspect net1 --json")[0]["id"].as_str().unwrap().to_owned();
    let created = daemon.json("network inspect net1 --json")[0]["created"].as_str().unwrap().to_owned();
    let short = &id[..12];
    for (format, expected) in [
        ("{{.Name}}", "net1\nother-net\n"),
        (
            "{{.Driver}} {{.Scope}} {{.IPv4}} {{.IPv6}} {{.Internal}}",
            "bridge local true false false\nbridge local true true true\n",
        ),
        ("{{.Labels}}|{{.Label \"team\"}}|{{.Label \"none\"}}", "team=red,tier=|red|\nteam=blue|blue|\n"),
        ("table {{.Name}}\\t{{.Driver}}", "NAME        DRIVER\nnet1        bridge\nother-net   bridge\n"),
        (
            "table {{.Name}}\t{{.Internal}}\t{{.Label \"team\"}}",
            "NAME        INTERNAL   team\nnet1        false      red\nother-net   true       blue\n",
        ),
        ("{{.Bridge}}{{\"\\n\"}}", "nd-net1\n\nnd-other-net\n\n"),
    ] {
        assert_eq!(daemon.prints(&format!("network ls --format '{format}'")), expected, "{format}");
    }
    let line = |format: &str| daemon.prints(&format!("network ls -f name=net1 --format '{format}'"));
    assert_eq!(line("{{.ID}}"), format!("{short}\n"));
    assert_eq!(daemon.prints("network ls -f name=net1 --no-trunc --format '{{.ID}}'"), format!("{id}\n"));
    assert_eq!(line("{{.CreatedAt}}"), created.replace('T', " ").replace('Z', " +0000 UTC\n"));
    assert!(line("table {{.ID}}").starts_with("NETWORK ID\n"));
    let json = daemon.prints("network ls --format json");
    let json: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&json[0]["ID"], &json[1]["Name"], &json[1]["IPv6"]),
        (&short.into(), &"other-net".into(), &"true".into())
    );
    // Quiet counts for tables only, as with Docker; a table without columns is the usual one.
    assert_eq!(daemon.prints("network ls -q -f name=net1"), format!("{short}\n"));
    assert_eq!(daemon.prints("network ls -q --no-trunc --format table -f name=net1"), format!("{id}\n"));
    assert_eq!(daemon.prints("network ls -q -f name=net1 --format '{{.Name}}'"), "net1\n");
    assert_eq!(daemon.prints("network ls --format table"), daemon.ok("network ls"));
    assert!(daemon.prints("network ls --no-trunc").contains(&id));
}

#[test]
fn containers_are_listed_with_templates() {
    let daemon = daemon();
    let id = daemon.json("inspect web --json")[0]["id"].as_str().unwrap().to_owned();
    for (format, expected) in [
        ("{{.Names}} {{.Networks}} {{.Ports}}.", "db net1 .\nweb net1 127.0.0.1:4000->80/tcp.\n"),
        ("{{.State}}{{.Image}}{{.Command}}{{.Size}}{{.Mounts}} {{.Label \"app\"}}", "running \nrunning shop\n"),
        ("table {{.Names}}\\t{{.Ports}}", "NAMES     PORTS\ndb\nweb       127.0.0.1:4000->80/tcp\n"),
    ] {
        assert_eq!(daemon.prints(&format!("ps --format '{format}'")), expected, "{format}");
    }
    assert_eq!(daemon.prints("ps -f name=^/web$ --format '{{.ID}}'"), format!("{}\n", &id[..12]));
    assert_eq!(daemon.prints("ps -q --no-trunc -f label=app=shop --format '{{.Names}}'"), format!("{id}\n"));
    assert_eq!(daemon.prints("ps -q").lines().map(str::len).collect::<Vec<_>>(), [12, 12]);
    assert!(daemon.prints("ps --no-trunc").contains(&id));
    assert!(daemon.prints("ps --format 'table {{.ID}}\\t{{.RunningFor}}'").starts_with("CONTAINER ID   CREATED\n"));
}

#[test]
fn filters_leave_what_fits() {
    let daemon = daemon();
    let id = daemon.json("network inspect net1 --json")[0]["id"].as_str().unwrap().to_owned();
    let web = daemon.json("inspect web --json")[0]["id"].as_str().unwrap().to_owned();
    let networks = |filters: &str| daemon.prints(&format!("network ls {filters} --format '{{{{.Name}}}}'"));
    let containers = |filters: &str| daemon.prints(&format!("ps {filters} --format '{{{{.Names}}}}'"));
    for (filters, expected) in [
        ("-f name=net", "net1 other-net"),
        ("-f name=^net", "net1"),
        ("-f name=other -f name=et1", "net1 other-net"),
        ("-f label=team", "net1 other-net"),
        ("-f label=team=red", "net1"),
        ("-f label=team=red -f label=team=blue", ""),
        ("-f label=team=red -f label=tier", "net1"),
        ("-f dangling=true", "other-net"),
        ("-f dangling=0", "net1"),
        ("-f driver=bridge -f name=other", "other-net"),
        ("--filter driver=brid", ""),
        ("-f scope=local -f type=custom", "net1 other-net"),
        ("-f type=builtin", ""),
        (&format!("-f id={}", &id[..20]), "net1"),
    ] {
        assert_eq!(networks(filters).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{filters}");
    }
    for (filters, expected) in [
        ("-f name=e", "web"),
        ("-f network=net1", "db web"),
        (&format!("-f network={}", &id[..12]), "db web"),
        ("-f network=net", ""),
        ("-f network=other-net", ""),
        ("-f publish=4000", "web"),
        ("-f publish=3999-4001/tcp", "web"),
        ("-f publish=80", ""),
        ("-f expose=80-90/tcp", "web"),
        ("-f expose=5432", "db"),
        ("-f expose=5432/udp", ""),
        ("-f expose=5432 -f expose=80", "db web"),
        ("-f status=running -f label=app", "web"),
        ("-f status=exited", ""),
        (&format!("-f id={}", &web[..20]), "web"),
    ] {
        assert_eq!(containers(filters).split_whitespace().collect::<Vec<_>>().join(" "), expected, "{filters}");
    }
    assert_eq!(daemon.json("ps -f name=web --json").as_array().unwrap().len(), 1);
    assert_eq!(daemon.ok("network ls -f name=other").lines().count(), 2);
}

#[test]
fn inspected_objects_and_ports_are_printed_with_templates() {
    let daemon = daemon();
    for (line, expected) in [
        ("network inspect net1 other-net --format '{{.Name}}'", "net1\nother-net\n"),
        (
            "network inspect net1 -f '{{(index .Subnets 0).Subnet}} {{.subnets}}'",
            "10.77.0.0/24 [map[gateway:10.77.0.1 subnet:10.77.0.0/24]]\n",
        ),
        (
            "network inspect net1 --format '{{index .Labels \"team\"}} {{.Labels.none}} {{.Reservations}}'",
            "red <no value> []\n",
        ),
        ("network inspect net1 --format '{{.HostAccess}} {{.MTU}} {{.on_demand}}'", "all 1500 false\n"),
        (
            "inspect web --format '{{range .Endpoints}}{{.Network}} {{index .Addresses 0}} {{end}}'",
            "net1 10.77.0.2/24 \n",
        ),
        ("inspect web net1 --format '{{.Name}} {{json .Name}}'", "web \"web\"\nnet1 \"net1\"\n"),
        ("inspect web --format 'table {{.Name}}\\t{{len .Endpoints}}'", "NAME      ENDPOINTS\nweb       1\n"),
        (
            "port web --format '{{.HostIP}}:{{.HostPort}} {{.ContainerPort}}/{{.Protocol}} {{.Network}}'",
            "127.0.0.1:4000 80/tcp net1\n",
        ),
        (
            "port web --format 'table {{.HostPort}}\\t{{.ReachableBy}}'",
            "HOST PORT   REACHABLE BY\n4000        this host only\n",
        ),
        ("port web --format '{{range .Ways}}{{.By}}{{end}}'", "kernel\n"),
    ] {
        assert_eq!(daemon.prints(line), expected, "{line}");
    }
    let json: serde_json::Value = serde_json::from_str(&daemon.prints("inspect web --format '{{json .}}'")).unwrap();
    assert_eq!(json, daemon.json("inspect web --json")[0]);
    let array = daemon.prints("network inspect net1 --format json");
    assert_eq!(array.lines().count(), 1);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&array).unwrap(), daemon.json("network inspect net1 --json"));
    let (code, out, err) = daemon.netd_words(words("network inspect nope net1 --format '{{.Name}}'"));
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "net1\n", 1), "{err}");
}

#[test]
fn wrong_options_are_one_line_and_ask_nothing_of_the_daemon() {
    let nobody = Daemon::start(false);
    for (line, words) in [
        (
            "network ls --format '{{.Name'",
            "netd: network ls: --format <TEMPLATE>: template parsing error: template: :1: ",
        ),
        ("ps --format '{{nope}}'", "function \"nope\" not defined: see `netd ps -h`"),
        ("inspect web --format '{{end}}'", "template parsing error"),
        ("port web --format '{{if}}'", "template parsing error"),
        ("events --format 'table {{.Type}}'", "there are no tables here"),
        ("network ls --filter x=y", "netd: network ls: --filter <KEY=VALUE>: invalid filter 'x': use one of"),
        ("ps -f driver=bridge", "invalid filter 'driver'"),
        ("events -f type=image", "invalid filter 'type=image'"),
        ("ps -q --json", "cannot be used with"),
        ("network ls --json --format json", "cannot be used with"),
        ("events --json --format json", "cannot be used with"),
    ] {
        let (code, err) = nobody.fails(line);
        assert!(code == 2 && err.starts_with("netd: ") && err.contains(words), "{line}: {err}");
    }
    let daemon = daemon();
    for (line, words) in [
        (
            "network ls --format '{{.Nope}}'",
            "netd: network ls: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type network\n",
        ),
        (
            "inspect web --format '{{.Nope}}'",
            "netd: inspect: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type Container\n",
        ),
        ("inspect web net1 --format '{{.Subnets}}'", "can't evaluate field Subnets in type Container\n"),
        ("port web --format '{{range .Ways}}{{.Nope}}{{end}}'", "can't evaluate field Nope in type Way\n"),
    ] {
        let (code, err) = daemon.fails(line);
        assert!(code == 1 && err.contains(words), "{line}: {err}");
    }
}

/// A reader that goes after some lines.
struct Lines(usize, Vec<u8>);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.1.iter().filter(|byte| **byte == b'\n').count() >= self.0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.1.extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first lines that `netd events` prints while the same things happen again and again.
fn followed(daemon: &Daemon, line: &str, count: usize) -> String {
    let Verb::Client(verb) = parse(words(line)).unwrap().verb else { panic!("{line}") };
    let (client, (done, ended)) = (daemon.client(), mpsc::channel());
    std::thread::spawn(move || {
        let (mut out, mut err) = (Lines(count, Vec::new()), Vec::new());
        let code = run_plain(verb, client, &mut out, &mut err);
        // The test has ended if nobody waits.
        let _ = done.send((code, String::from_utf8(out.1).unwrap(), String::from_utf8(err).unwrap()));
    });
    let end = Deadline::after(Duration::from_secs(20));
    while end.remaining().is_some() {
        daemon.ok("network create lab");
        daemon.ok("connect net1 client --netns /run/netns/there -p 4001:80");
        daemon.ok("connect lab client --netns /run/netns/there");
        daemon.ok("service create front --network net1 --member client");
        daemon.ok("service drain client");
        daemon.ok("service rm front");
        daemon.ok("disconnect lab client");
        daemon.ok("disconnect net1 client");
        daemon.ok("network rm lab");
        if let Ok((code, out, err)) = ended.try_recv() {
            assert_eq!((code, err.as_str()), (0, ""), "{line}");
            return out;
        }
    }
    panic!("{line} has not printed {count} lines");
}

#[test]
fn events_are_filtered_and_printed_with_templates() {
    let daemon = daemon();
    let id = daemon.json("network inspect net1 --json")[0]["id"].as_str().unwrap().to_owned();
    for (line, expected) in [
        ("events -f type=network -f event=create --format '{{.Type}} {{.Network}}'", "network.create lab"),
        ("events -f event=destroy --format '{{.Network}} {{.Container}}'", "lab <no value>"),
        ("events -f type=container -f network=net1 -f event=connect --format '{{.Container.Name}}'", "client"),
        (&format!("events -f network={} -f event=disconnect --format '{{{{.Network}}}}'", &id[..12]), "net1"),
        ("events -f container=cli -f network=lab -f event=connect --format '{{.endpoint.Ifname}}'", "eth1"),
        ("events -f type=service -f event=create --format '{{.Type}} {{.Service}}'", "service.create front"),
        ("events -f service=fro -f event=rm --format '{{.Message}}'", "service front removed"),
        ("events -f type=service -f service=other -f service=front -f event=rm --format '{{.Service}}'", "front"),
    ] {
        let out = followed(&daemon, line, 2);
        assert_eq!(out.lines().collect::<Vec<_>>(), [expected; 2], "{line}");
    }
    let members = followed(&daemon, "events -f event=service.member -f container=client -f network=net1", 2);
    let lines: Vec<&str> = members.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    assert!(lines[0].ends_with("client of service front is ready"), "{members}");
    assert!(lines[1].contains("client of service front is draining: it is drained"), "{members}");
    for line in ["events --format json -f event=network.remove", "events --json -f event=network.remove"] {
        let out = followed(&daemon, line, 2);
        let event: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!((&event["type"], &event["network"]), (&"network.remove".into(), &"lab".into()), "{line}");
    }
}
