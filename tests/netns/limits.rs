//! Limits of the resources that a client of the API or the name service can use.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::{contains, seen};

use crate::files::Second;
use crate::lab::daemon::SOCKET;
use crate::lab::{Lab, run, trial, until};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("limits: idle connections to the API do not block others", idle),
        trial("limits: an incomplete request does not prevent the daemon's end", half_sent),
        trial("limits: request bodies of GC use little memory", bodies),
        trial("limits: no command waits for the table of descriptors to grow", table),
        trial("limits: with few descriptors the daemon logs it and works", few_descriptors),
        trial("limits: a daemon without descriptors does not release a living container", no_descriptors),
    ]
}

fn descriptors(lab: &Lab) -> usize {
    fs::read_dir(format!("/proc/{}/fd", lab.daemon_pid())).expect("the daemon runs").count()
}

/// With threads, the kernel grows it in some milliseconds each time.
fn table(lab: &Lab) {
    lab.start_daemon();
    let size = || {
        let status = fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid())).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("a size");
        line.trim().parse::<usize>().expect("a number")
    };
    let before = size();
    lab.netd("network create net1").ok();
    let ports: Vec<String> = (0..200).map(|port| format!("-p {}:{}", 20_000 + 2 * port, 1000 + port)).collect();
    lab.connected("net1", "web", &ports.join(" "));
    assert!(descriptors(lab) > 400, "{}", descriptors(lab));
    assert_eq!(size(), before);
}

fn peak_kib(lab: &Lab) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", lab.daemon_pid())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn connections(count: usize, request: &str) -> Vec<UnixStream> {
    let open = |_| {
        let mut stream = UnixStream::connect(SOCKET).expect("the daemon listens");
        // A connection over the limit is closed before it is read.
        let _ = stream.write_all(request.as_bytes());
        stream
    };
    (0..count).map(open).collect()
}

fn idle(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    let before = descriptors(lab);
    let mut held = connections(300, "");
    // A connection of `netd` may have counted before.
    until("all are accepted", || seen(descriptors(lab), |open| *open >= before + 290));
    assert!(descriptors(lab) < before + 350, "{} for 300 connections: one each", descriptors(lab) - before);
    // These exceed the limit of one user: the connections that were idle for longest are closed.
    held.extend(connections(700, "GET /v1/status HTTP/1.1\r\nHost: netd\r\n"));
    for name in ["web", "db"] {
        lab.connected("net1", name, "-p 8000");
    }
    lab.netd("status").ok();
    assert!(descriptors(lab) < before + 600, "{}", descriptors(lab));
    let mut end = [0; 1];
    // Earlier than the time limit of idle connections.
    held[0].set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    assert_eq!(held[0].read(&mut end).expect("closed in order"), 0, "the first connection was closed");
    drop(held);
    until("they are closed", || seen(descriptors(lab), |open| *open < before + 50));
}

fn half_sent(lab: &Lab) {
    lab.start_daemon();
    let head = "POST /v1/networks HTTP/1.1\r\nHost: netd\r\nContent-Type: application/json\r\n";
    let mut half = connections(1, head);
    half.extend(connections(1, &format!("{head}Content-Length: 100\r\n\r\n{{\"na")));
    // Connections are accepted in their order.
    lab.netd("status").ok();
    lab.stop_daemon();
    let log = lab.log();
    assert!(!log.contains("did not end in time") && !log.contains("still in hand"), "{log}");
    let mut reply = String::new();
    half[1].read_to_string(&mut reply).expect("closed in order");
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 503"), "{reply}");
}

fn bodies(lab: &Lab) {
    const LENGTH: usize = 39 << 20;
    /// Bodies at once without an announced length; each has so many chunks when it waits for the others. That is less
    /// than one body may have, and of all together more than all may have.
    const CROWD: usize = 32;
    const CHUNKS: usize = 4;
    lab.start_daemon();
    let before = peak_kib(lab);
    let entry = format!("{{\"containerID\":\"{}\",\"ifname\":\"eth0\"}},", "0".repeat(64));
    let whole = format!("{{\"valid\":[{}", entry.repeat(LENGTH / entry.len()));
    let chunk = entry.repeat(1 << 13);
    // With and without an announced length; neither is ever whole.
    let head = "POST /v1/attachments/net1/gc HTTP/1.1\r\nHost: netd\r\nContent-Type: application/json\r\n";
    let ask = |mut stream: UnixStream, announced: bool, wait: &dyn Fn()| {
        let mut sent;
        if announced {
            sent = write!(stream, "Content-Length: {LENGTH}\r\n\r\n{whole}");
        } else {
            sent = write!(stream, "Transfer-Encoding: chunked\r\n\r\n");
            for number in 0..LENGTH / chunk.len() {
                if number == CHUNKS {
                    wait();
                }
                sent = sent.and_then(|()| write!(stream, "{:x}\r\n{chunk}\r\n", chunk.len()));
            }
        }
        assert!(sent.is_err(), "the daemon does not read all of it");
        let mut reply = Vec::new();
        // What was not read is reset, which may come before the reply is read.
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    };
    for (stream, announced) in connections(2, head).into_iter().zip([true, false]) {
        let reply = ask(stream, announced, &|| {});
        assert!(reply.is_empty() || reply.contains(" 413 "), "{reply}");
    }
    let crowd = Barrier::new(CROWD);
    std::thread::scope(|scope| {
        for (number, stream) in connections(2 * CROWD, head).into_iter().enumerate() {
            let (ask, crowd) = (&ask, &crowd);
            scope.spawn(move || {
                let reply = ask(stream, number % 2 == 0, &|| {
                    crowd.wait();
                });
                assert!(reply.is_empty() || reply.contains(" 413 ") || reply.contains(" 503 "), "{reply}");
            });
        }
    });
    let grown = peak_kib(lab) - before;
    assert!(grown < 64 << 10, "the daemon took {grown} KiB");
    lab.netd("status").ok();
}

fn few_descriptors(lab: &Lab) {
    lab.start_daemon();
    let fewer = run(&format!("prlimit --pid {} --nofile", lab.daemon_pid())).ok().stdout;
    let limits: Vec<&str> = fewer.lines().last().expect("a line").split_whitespace().collect();
    assert_eq!(limits[limits.len() - 3], limits[limits.len() - 2], "soft and hard are the same: {fewer}");
    lab.stop_daemon();
    let line = format!(
        "ulimit -S -n 64; ulimit -H -n 256; exec nsenter --net=/run/netns/host -- {} daemon --socket {SOCKET} \
         --state-dir /run/lab/few --runtime-dir /run/lab/few",
        crate::lab::daemon::netd()
    );
    let daemon = Second(std::process::Command::new("sh").args(["-c", &line]).spawn().expect("a shell"));
    lab.netd("status --wait 10");
    let held = connections(400, "");
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 8000-8040:8000-8040");
    let status = lab.netd("status --json").ok().json();
    let problems = status["problems"].to_string();
    assert!(problems.contains("256") && problems.contains("LimitNOFILE"), "{problems}");
    drop(held);
    drop(daemon);
}

/// Its interface is deleted while the daemon can open nothing, not even the namespace to see that it is there.
fn no_descriptors(lab: &Lab) {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    lab.connected("net1", "web", "-p 4000:80");
    let limit = |soft: &str| run(&format!("prlimit --pid {} --nofile={soft}:", lab.daemon_pid())).ok();
    limit("3");
    run("ip -n host link delete ndv-web-net1").ok();
    until("the daemon has noticed", || contains(lab.log(), "Too many open files"));
    limit("1024");
    assert!(lab.netd("ps").ok().stdout.contains("web"), "{}", lab.log());
    assert!(!lab.log().contains("disconnected"), "{}", lab.log());
    // The next start repairs what could not be repaired.
    lab.stop_daemon();
    lab.start_daemon();
    until("the interface is back", || run("ip -n host link show ndv-web-net1").succeeded());
}
