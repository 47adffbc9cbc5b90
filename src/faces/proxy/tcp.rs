//! TCP: a connection to the container, or to a service's port, for each connection of a client.
//!
//! A port listens while somebody listens in the container ([`super::watch`]). Otherwise the kernel refuses its clients,
//! as it would those of the container: a client whose connection is accepted and then reset would take the application
//! for one that has started. A port of a service listens while a member is used.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::target::{Ends, Target};
use super::watch::{Seen, Watched};
use super::{Place, Tasks};
use crate::base::shares::Shares;
use crate::engine::Arrival;
use crate::engine::proxy::listener::{listen, refuse};

/// Bytes in each direction of a connection.
pub(super) const BUFFER: usize = 8 << 10;
/// How long the container may take to answer; a client gives up later.
const CONNECT: Duration = Duration::from_secs(10);
/// Before the next attempt to accept, when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// A peer that is gone without a word is found out after two minutes: seconds until the first probe, between two, and
/// how many.
const KEEP_ALIVE: (u32, u32, u32) = (60, 15, 4);

/// Accepts connections while somebody listens in the container, as long as the task runs. `socket`: bound to the port,
/// and left as it is until the first look at the container. `tasks` pass on what is accepted.
pub(super) async fn serve(
    socket: std::net::TcpListener,
    target: Target,
    mut watched: Watched,
    places: Arc<Shares<IpAddr>>,
    tasks: Tasks,
) {
    // The watcher ends with the daemon only.
    while watched.seen.changed().await.is_ok() {
        let seen = *watched.seen.borrow_and_update();
        let outcome = match seen {
            Seen::Unknown => Ok(()),
            Seen::Somebody => accept(&socket, &target, &mut watched, &places, &tasks).await,
            Seen::Nobody => refuse(&socket),
        };
        if let Err(error) = outcome {
            // The next look tries again.
            tracing::warn!(%error, ?socket, "cannot change whether a published port listens");
        }
    }
}

/// Listens until nobody does in the container, or the container refuses a connection; for a service until no member is
/// used.
async fn accept(
    socket: &std::net::TcpListener,
    target: &Target,
    watched: &mut Watched,
    places: &Arc<Shares<IpAddr>>,
    tasks: &Tasks,
) -> io::Result<()> {
    listen(socket)?;
    // Registered anew each time: of a registered socket that does not listen, the runtime would be told for ever that it
    // has hung up.
    let listener = TcpListener::from_std(socket.try_clone()?)?;
    let (refused, mut refusals) = mpsc::channel(1);
    let follows = watched.follows_refusals();
    let refused = follows.then_some(refused);
    let client = tokio::select! {
        // An error: the daemon ends.
        _ = watched.seen.wait_for(|seen| *seen == Seen::Nobody) => None,
        client = refusals.recv(), if follows => client,
        () = clients(&listener, target, refused, places, tasks) => None,
    };
    drop(listener);
    refuse(socket)?;
    if client.is_some() {
        // What has been seen until now may be older than the refusal.
        watched.seen.mark_unchanged();
        watched.refused();
    }
    // Now the refused clients are closed.
    Ok(())
}

/// Accepts connections. `refused` gets the clients that the container refuses.
async fn clients(
    listener: &TcpListener,
    target: &Target,
    refused: Option<mpsc::Sender<TcpStream>>,
    places: &Arc<Shares<IpAddr>>,
    tasks: &Tasks,
) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => match places.take(from.ip(), 1) {
                Some(place) => {
                    let arrival = Arrival { client: from.ip(), at: client.local_addr().ok().map(|at| at.ip()) };
                    let Some(ends) = target.ends(arrival) else {
                        reset(&client);
                        continue;
                    };
                    let (gate, refused) = (target.gate.clone(), refused.clone());
                    tasks.spawn(async move {
                        tokio::select! {
                            () = pass_on(client, ends, refused, place) => {}
                            () = gate.closed(arrival) => {}
                        }
                    });
                }
                None => {
                    tracing::warn!(client = %from.ip(), "too many connections to published ports by way of netd");
                    reset(&client);
                }
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to a published port");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A client's connection and the container's. Both are reset unless both have ended by themselves: a client must not
/// take half an answer for a whole one.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    ended: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.ended {
            reset(&self.client);
            reset(&self.server);
        }
    }
}

/// The client gets a reset if the container does not answer. If the container refuses, the client goes to `refused`: it
/// gets the reset after the port refuses too, so that it is not accepted once more.
async fn pass_on(client: TcpStream, ends: Ends, refused: Option<mpsc::Sender<TcpStream>>, _place: Place) {
    let server = match timeout(CONNECT, connect(ends)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            reset(&client);
            // The client is closed there, or here if the port refuses already.
            if let Some(refused) = refused {
                drop(refused.send(client).await);
            }
            return;
        }
        _ => return reset(&client),
    };
    drop(refused);
    let mut pair = Pair { client, server, ended: false };
    for stream in [&pair.client, &pair.server] {
        if let Err(error) = prepare(stream) {
            tracing::debug!(%error, "cannot set up a connection to a published port");
        }
    }
    let Pair { client, server, ended } = &mut pair;
    *ended = copy_bidirectional_with_sizes(client, server, BUFFER, BUFFER).await.is_ok();
}

async fn connect(Ends { from, to }: Ends) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise the kernel chooses the port with the connection, so it can be that of another one to elsewhere.
    if !from.ip().is_unspecified() {
        socket.bind(from)?;
    }
    socket.connect(to).await
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    let (idle, interval, count) = KEEP_ALIVE;
    stream.set_nodelay(true)?;
    setsockopt(stream, TcpKeepIdle, &idle)?;
    setsockopt(stream, TcpKeepInterval, &interval)?;
    setsockopt(stream, TcpKeepCount, &count)?;
    Ok(setsockopt(stream, KeepAlive, &true)?)
}

/// Closing the connection resets it.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "cannot reset a connection to a published port");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::engine::Behind;
    use crate::faces::proxy::gate::Gate;
    use crate::faces::proxy::target::To;
    use crate::model::publication::Protocol;

    async fn echo() -> SocketAddr {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        at
    }

    /// The open connection, if it leads to the container. A reset may arrive before the client knows that it is
    /// connected.
    async fn leads(to: SocketAddr) -> Option<TcpStream> {
        let mut client = TcpStream::connect(to).await.ok()?;
        client.write_all(b"x").await.ok()?;
        client.read_exact(&mut [0]).await.ok()?;
        Some(client)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_client_has_a_share_of_the_connections_and_all_end_with_the_port() {
        // No other test listens at this address.
        let listener = TcpListener::bind("127.12.1.1:0").await.unwrap();
        let (at, tasks, places) = (listener.local_addr().unwrap(), Tasks::default(), Shares::new(8, 3));
        let (look, watched) = Watched::by_hand();
        let to = echo().await;
        let gate = Gate::new(None, Behind::Container(to, Protocol::Tcp));
        let target = Target { to: To::Container(to), gate };
        tasks.spawn(serve(listener.into_std().unwrap(), target, watched, places.clone(), tasks.clone()));
        look.send_replace(Seen::Somebody);
        let mut open = Vec::new();
        let refused = loop {
            match leads(at).await {
                Some(client) if open.len() < 9 => open.push(client),
                _ => break open.len(),
            }
        };
        assert!((4..8).contains(&refused), "{refused} of 8 for one client");
        open.pop();
        netd_testing::wait::until("its place is free", || netd_testing::wait::seen(places.taken(), |now| *now < 6));
        tasks.end().await;
        assert_eq!(places.taken(), 0);
        let mut last = open.pop().unwrap();
        assert!(last.read(&mut [0]).await.is_err(), "it is reset, not ended");
        // A process that another test has just forked holds the listener until it runs its program.
        netd_testing::wait::until_async("new connections are refused", async || match TcpStream::connect(at).await {
            Ok(open) => Err(open),
            Err(refused) => Ok(refused),
        })
        .await;
    }
}
