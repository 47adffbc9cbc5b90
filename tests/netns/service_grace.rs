//! The grace of drained members: how long the connections stay that a service has led to them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use netd_testing::wait::seen;

use crate::lab::{HOST4, Lab, space, trial, until};
use crate::service_matrix::virtual_addresses;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("service: connections to a drained member end with its grace, those to others go on", ends),
        trial("service: the grace of a drained member goes on while no daemon runs", outlives),
    ]
}

/// The port that members serve.
pub(crate) const PORT: u16 = 90;
/// Enough that each member has some.
const CONNECTIONS: usize = 16;

/// A member that answers each byte with its own.
pub(crate) fn serve(member: &str, own: u8) {
    let listener = space::inside(member, || TcpListener::bind(("0.0.0.0", PORT)).expect("a port"));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(
                move || while stream.read(&mut [0]).is_ok_and(|n| n > 0) && stream.write_all(&[own]).is_ok() {},
            );
        }
    });
}

/// The connections of a client, by the member that has them.
struct Open {
    first: Vec<TcpStream>,
    second: Vec<TcpStream>,
}

pub(crate) fn says(stream: &mut TcpStream) -> Result<u8, ErrorKind> {
    let mut answer = [0];
    stream.write_all(b"x").and_then(|()| stream.read_exact(&mut answer)).map_err(|error| error.kind())?;
    Ok(answer[0])
}

pub(crate) fn go_on(streams: &mut [TcpStream], member: u8) {
    let all: Vec<_> = streams.iter_mut().map(says).collect();
    assert!(all.iter().all(|said| *said == Ok(member)), "{all:?}");
}

#[track_caller]
pub(crate) fn are_reset(streams: &mut [TcpStream]) {
    for stream in streams {
        until("the connection is reset", || {
            seen(says(stream), |said| *said == Err(ErrorKind::ConnectionReset)).map(drop)
        });
    }
}

impl Open {
    fn new(ns: &str, to: &str) -> Self {
        let to: SocketAddr = to.parse().expect("an address");
        let connect = |_| {
            let stream = TcpStream::connect_timeout(&to, Duration::from_secs(3)).expect("it is taken");
            stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a time limit");
            stream
        };
        let streams = space::inside(ns, || (0..CONNECTIONS).map(connect).collect::<Vec<_>>());
        let mut open = Self { first: Vec::new(), second: Vec::new() };
        for mut stream in streams {
            match says(&mut stream).expect("an answer") {
                b'1' => open.first.push(stream),
                _ => open.second.push(stream),
            }
        }
        assert!(!open.first.is_empty() && !open.second.is_empty(), "all went to one member");
        open
    }
}

/// Connections of the outside to the published port, and of a container to the virtual address.
fn connected(lab: &Lab, grace: u32) -> [Open; 2] {
    lab.start_daemon();
    lab.netd("network create net1").ok();
    for (name, own) in [("w1", b'1'), ("w2", b'2')] {
        lab.connected("net1", name, "");
        serve(name, own);
    }
    lab.connected("net1", "asker", "");
    let members = "--member w1 --member w2";
    lab.netd(&format!("service create front --network net1 {members} --mode vip -p 4000:{PORT} --grace {grace}")).ok();
    let vip = virtual_addresses(lab, "front")[0].to_string();
    [Open::new("outside", &format!("{HOST4}:4000")), Open::new("asker", &format!("{vip}:{PORT}"))]
}

fn ends(lab: &Lab) {
    let mut all = Vec::from(connected(lab, 3));
    // netd itself passes these on.
    all.push(Open::new("host", "[::1]:4000"));
    lab.netd("service drain w2").ok();
    for open in &mut all {
        go_on(&mut open.first, b'1');
        go_on(&mut open.second, b'2');
    }
    for open in &mut all {
        are_reset(&mut open.second);
        go_on(&mut open.first, b'1');
    }
    assert_eq!(lab.diff(), "");
}

fn outlives(lab: &Lab) {
    let mut all = connected(lab, 3);
    lab.netd("service drain w1").ok();
    lab.kill_daemon();
    all.iter_mut().for_each(|open| go_on(&mut open.first, b'1'));
    lab.start_daemon();
    for open in &mut all {
        are_reset(&mut open.first);
        go_on(&mut open.second, b'2');
    }
}
