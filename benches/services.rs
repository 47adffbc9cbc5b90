//! `scripts/bench services`: what services cost. A new connection to a service beside 1,000 and 10,000 others, all slots
//! of 5,000 services with 10 members written again after another program deleted the table, a change of one member among
//! 10,000 services, how evenly 100,000 flows are spread over 16 members, how long a client of a member that dies gets no
//! answer, and what becomes of 1,000 connections a second when a member is drained. Fails when a bound is missed.
//! `NETD_SERVICES=connections`, `table`, `spread`, `dies` or `drain`: only that.
#![expect(clippy::expect_used, reason = "a benchmark ends at the first surprise")]
#![expect(clippy::print_stdout, reason = "its output is the measurement")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netd_testing::lab::{self, HOST4, Lab, run, space};
use netd_testing::wait::seen;

/// Connections in a round, and rounds of each kind.
const CONNECTIONS: usize = 1000;
const ROUNDS: usize = 5;
/// Services that are there beside the first one.
const SOME: usize = 1000;
const MANY: usize = 10_000;
/// Changes of a member.
const CHANGES: usize = 50;
/// Services and members of the table that is written again.
const TABLE: usize = 5000;
const MEMBERS: usize = 10;
/// Flows, and the members over which they are spread.
const FLOWS: u64 = 100_000;
const SPREAD: usize = 16;
/// How often a member dies, and how often its client sends.
const DEATHS: usize = 20;
const EVERY: Duration = Duration::from_millis(10);
/// Threads that connect, how often each does, and for how long before and after the member is drained.
const CLIENTS: usize = 10;
const CONNECTS: Duration = Duration::from_millis(4);
const AROUND: Duration = Duration::from_secs(3);
/// Connections that are open all the while.
const OPEN: usize = 64;
/// The bounds.
const CONNECTION_MAX: f64 = 1.1;
const TABLE_MAX: Duration = Duration::from_secs(2);
const CHANGE_MAX: Duration = Duration::from_millis(2);
const SHARE_MAX: f64 = 0.2;
const SILENCE_MAX: Duration = Duration::from_millis(100);

/// Prints what it measured; returns whether the bound held.
type Measure = fn(&Lab) -> bool;

fn main() -> ExitCode {
    if let Err(why) = lab::space::leave_the_machine(netd_testing::programs!()) {
        println!("no namespaces of its own: {why}");
        return ExitCode::FAILURE;
    }
    let lab = Lab::new();
    lab.start_daemon();
    lab.netd("network create net1 --subnet 10.64.0.0/12").ok();
    for number in 0..SPREAD {
        lab.connected("net1", &format!("m{number}"), "");
    }
    let only = std::env::var("NETD_SERVICES").unwrap_or_default();
    let kinds: [(&str, Measure); 5] =
        [("spread", spread), ("dies", dies), ("drain", drain), ("connections", connections), ("table", table)];
    let chosen = kinds.iter().filter(|(name, _)| only.is_empty() || only == *name);
    let held: Vec<bool> = chosen.map(|(_, measure)| measure(&lab)).collect();
    let held = held.iter().all(|held| *held);
    println!("{}", if held { "bounds held" } else { "BOUNDS MISSED" });
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Creates a service with a virtual address and the first of the members.
fn create(name: &str, members: usize, ports: &str) {
    let members: Vec<String> = (0..members).map(|number| format!("\"m{number}\"")).collect();
    let body = format!(
        "{{\"name\":\"{name}\",\"networks\":[\"net1\"],\"mode\":\"vip\",\"members\":[{}],\"ports\":[{ports}]}}",
        members.join(",")
    );
    lab::daemon::call("POST", "/v1/services", &body);
}

fn remove(name: &str) {
    lab::daemon::call("DELETE", &format!("/v1/services/{name}"), "");
}

/// Creates services `s{from}` to `s{to}`.
fn create_many(from: usize, to: usize, members: usize) {
    let begin = Instant::now();
    (from..to).for_each(|number| create(&format!("s{number}"), members, ""));
    let each = begin.elapsed() / u32::try_from(to - from).expect("a small number").max(1);
    println!("  {} services with {members} members created, {each:.2?} each", to - from);
}

/// How even the flows of many clients are spread.
fn spread(_: &Lab) -> bool {
    create("even", SPREAD, "\"4000:80/udp\"");
    let counts: Vec<Arc<AtomicU64>> = (0..SPREAD).map(|_| Arc::default()).collect();
    for (number, count) in counts.iter().enumerate() {
        let count = Arc::clone(count);
        let socket = space::inside(&format!("m{number}"), || UdpSocket::bind(("0.0.0.0", 80)).expect("a port"));
        std::thread::spawn(move || {
            while socket.recv(&mut [0; 8]).is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let total = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    space::inside("outside", || {
        for sent in 1..=FLOWS {
            // A socket of its own, with a port that the kernel chooses.
            let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
            socket.send_to(b"x", (HOST4, 4000)).expect("it is sent");
            if sent % 500 == 0 {
                lab::until("they arrive", || seen(total(), |arrived| *arrived >= sent * 99 / 100));
            }
        }
    });
    let share = FLOWS as f64 / SPREAD as f64;
    let parts = counts.iter().map(|count| count.load(Ordering::Relaxed) as f64 / share);
    let (low, high) = parts.fold((f64::MAX, 0f64), |(low, high), part| (low.min(part), high.max(part)));
    println!("{FLOWS} flows over {SPREAD} members: {low:.3} to {high:.3} of an equal share (within {SHARE_MAX})");
    remove("even");
    low >= 1.0 - SHARE_MAX && high <= 1.0 + SHARE_MAX
}

/// For how long a client that sends all the time gets no answer when its member dies.
fn dies(lab: &Lab) -> bool {
    lab.container("d0");
    lab.container("d1");
    for name in ["d0", "d1"] {
        lab.connected("net1", name, "");
        let socket = space::inside(name, || UdpSocket::bind(("0.0.0.0", 90)).expect("a port"));
        std::thread::spawn(move || {
            while let Ok((_, client)) = socket.recv_from(&mut [0; 8]) {
                let _ = socket.send_to(name.as_bytes(), client);
            }
        });
    }
    let body = r#"{"name":"mortal","networks":["net1"],"mode":"vip","members":["d0","d1"],"ports":["4001:90/udp"]}"#;
    lab::daemon::call("POST", "/v1/services", body);
    let client = space::inside("outside", || UdpSocket::bind(("0.0.0.0", 0)).expect("a socket"));
    client.connect((HOST4, 4001)).expect("an address");
    client.set_read_timeout(Some(EVERY)).expect("a time limit");
    let ask = || {
        client.send(b"x").ok()?;
        let mut buffer = [0; 8];
        let length = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let mut silent = Vec::new();
    for _ in 0..DEATHS {
        lab::until("a member answers", || seen(ask(), Option::is_some));
        let member = ask().or_else(ask).expect("a member answers");
        let begin = Instant::now();
        let dying = std::thread::spawn({
            let member = member.clone();
            move || run(&format!("{} disconnect net1 {member}", lab::daemon::netd()))
        });
        // The time from the last answer of the dead one to the first of the other.
        let mut last = begin;
        loop {
            match ask() {
                Some(who) if who == member => last = Instant::now(),
                Some(_) => break silent.push(last.elapsed()),
                None => assert!(begin.elapsed() < Duration::from_secs(5), "nobody answers"),
            }
        }
        dying.join().expect("it ends").ok();
        lab.netd(&format!("connect net1 {member}")).ok();
    }
    silent.sort();
    let longest = *silent.last().expect("some");
    println!(
        "a client whose member dies gets no answer for: median {:.1?}, longest of {DEATHS} {longest:.1?} (at most \
         {SILENCE_MAX:?}; it sends every {EVERY:?})",
        silent[silent.len() / 2]
    );
    remove("mortal");
    longest <= SILENCE_MAX
}

/// A server in a member: it says who it is, and sends back what it gets.
fn answering(number: u8) {
    let listener = space::inside(&format!("m{number}"), || TcpListener::bind(("0.0.0.0", 94)).expect("a listener"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                stream.write_all(&[number])?;
                let mut byte = [0];
                while stream.read(&mut byte)? > 0 {
                    stream.write_all(&byte)?;
                }
                Ok(())
            });
        }
    });
}

/// Connections a second to a service of which a member is drained: none that begins after the reply may reach the member,
/// none may fail, and those that are open must go on.
fn drain(lab: &Lab) -> bool {
    (0..3).for_each(answering);
    let body = r#"{"name":"busy","networks":["net1"],"members":["m0","m1","m2"],"ports":["4003:94"],"grace":60}"#;
    lab::daemon::call("POST", "/v1/services", body);
    let to = SocketAddr::new(HOST4.parse().expect("an address"), 4003);
    let connect = move || -> std::io::Result<(u8, TcpStream)> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        let mut who = [0];
        stream.read_exact(&mut who)?;
        Ok((who[0], stream))
    };
    let mut open: Vec<(u8, TcpStream)> =
        space::inside("outside", || (0..OPEN).map(|_| connect().expect("a connection")).collect());
    let (end, drained) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let [made, failed, late]: [Arc<AtomicU64>; 3] = Default::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (end, drained) = (end.clone(), drained.clone());
            let (made, failed, late) = (made.clone(), failed.clone(), late.clone());
            std::thread::spawn(move || {
                space::inside("outside", || {
                    while !end.load(Ordering::SeqCst) {
                        let (begin, is_late) = (Instant::now(), drained.load(Ordering::SeqCst));
                        match connect() {
                            Ok((0, _)) if is_late => _ = late.fetch_add(1, Ordering::Relaxed),
                            Ok(_) => {}
                            Err(_) => _ = failed.fetch_add(1, Ordering::Relaxed),
                        }
                        made.fetch_add(1, Ordering::Relaxed);
                        std::thread::park_timeout(CONNECTS.saturating_sub(begin.elapsed()));
                    }
                });
            })
        })
        .collect();
    std::thread::park_timeout(AROUND);
    lab.netd("service drain m0").ok();
    drained.store(true, Ordering::SeqCst);
    std::thread::park_timeout(AROUND);
    end.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("it ends"));
    let goes_on = |(_, stream): &mut (u8, TcpStream)| -> std::io::Result<()> {
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    };
    let of_it = open.iter().filter(|(who, _)| *who == 0).count();
    let reset = open.iter_mut().filter_map(|stream| goes_on(stream).err()).count();
    let [made, failed, late] = [made, failed, late].map(|count| count.load(Ordering::Relaxed));
    let rate = made as f64 / (2.0 * AROUND.as_secs_f64());
    println!(
        "a member is drained at {rate:.0} connections a second: {late} of {made} begin after the reply and reach it, \
         {failed} fail, {reset} of {OPEN} open ones end, {of_it} of them its own (0, 0, 0)"
    );
    lab.netd("service undrain m0").ok();
    remove("busy");
    late + failed == 0 && reset == 0 && of_it > 0
}

/// A new connection to a service, alone and among many; and a change of a member among them.
fn connections(lab: &Lab) -> bool {
    create("first", 2, "\"4002:92\"");
    for name in ["m0", "m1"] {
        let listener = space::inside(name, || TcpListener::bind(("0.0.0.0", 92)).expect("a listener"));
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    round(&mut Vec::new());
    let mut alone = Vec::new();
    (0..ROUNDS).for_each(|_| round(&mut alone));
    let alone = median(&mut alone);
    let mut held = true;
    for (from, to) in [(0, SOME), (SOME, MANY)] {
        create_many(from, to, 2);
        let mut among = Vec::new();
        (0..ROUNDS).for_each(|_| round(&mut among));
        let among = median(&mut among);
        let ratio = among.as_secs_f64() / alone.as_secs_f64();
        println!(
            "a new TCP connection, median of {}: {alone:.1?} with one service, {among:.1?} with {to} more: {ratio:.3} (at \
             most {CONNECTION_MAX})",
            CONNECTIONS * ROUNDS
        );
        held &= ratio <= CONNECTION_MAX;
    }
    held &= change(lab);
    (0..MANY).for_each(|number| remove(&format!("s{number}")));
    held
}

/// The time of a command that takes a member out of a service, or puts it back.
fn change(_: &Lab) -> bool {
    let body = r#"{"name":"changing","networks":["net1"],"mode":"vip","members":["m14","m15"]}"#;
    lab::daemon::call("POST", "/v1/services", body);
    let mut times = Vec::new();
    for number in 0..CHANGES {
        let action = if number % 2 == 0 { "drain" } else { "undrain" };
        let begin = Instant::now();
        lab::daemon::call("POST", "/v1/members/m15", &format!("{{\"action\":\"{action}\"}}"));
        times.push(begin.elapsed());
    }
    let time = median(&mut times);
    println!("one member changed among {MANY} services, median of {CHANGES}: {time:.2?} (at most {CHANGE_MAX:?})");
    remove("changing");
    time <= CHANGE_MAX
}

/// The table is deleted, and written again with all slots.
fn table(lab: &Lab) -> bool {
    create_many(0, TABLE, MEMBERS);
    let elements = || {
        let listed = run("ip netns exec host nft list map inet netd_services vip4_64").stdout;
        listed.matches(" : ").count()
    };
    let whole = elements();
    let begin = Instant::now();
    run("ip netns exec host nft delete table inet netd_services").ok();
    let body = r#"{"name":"last","networks":["net1"],"mode":"dns"}"#;
    lab::until("it is repaired", || {
        lab::until("its first set is there", || {
            seen(run("ip netns exec host nft -t list table inet netd_services").code, |code| *code == Some(0))
        });
        // The engine takes one command at a time: it has finished the repair when it has taken this one.
        lab::daemon::call("POST", "/v1/services", body);
        remove("last");
        seen(true, |done| *done)
    });
    let time = begin.elapsed();
    let again = elements();
    println!(
        "{TABLE} services with {MEMBERS} members, {again} slots written again in {time:.2?} (at most {TABLE_MAX:?})"
    );
    assert_eq!(again, whole, "all of them");
    assert_eq!(lab.diff(), "");
    time <= TABLE_MAX
}

fn round(times: &mut Vec<Duration>) {
    let to = SocketAddr::new(HOST4.parse().expect("an address"), 4002);
    space::inside("outside", || {
        for _ in 0..CONNECTIONS {
            let begin = Instant::now();
            let connected = TcpStream::connect_timeout(&to, Duration::from_secs(5));
            times.push(begin.elapsed());
            drop(connected.expect("a connection"));
        }
    });
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
