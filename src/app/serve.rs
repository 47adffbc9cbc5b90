//! The running daemon: its tasks, and its end.
//!
//! On the stop signal the API takes no new requests and the engine no new commands. The command in hand is finished,
//! its caller gets the reply, and the name service answers until then.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::further_socket::Further;
use super::owner::Owner;
use super::socket::SocketFile;
use super::{AppError, Bound, Ended, Listeners, Process, memory, watchdog};
use crate::base::descriptors::Capacity;
use crate::engine;
use crate::engine::dns::names::Names;
use crate::engine::listener::ListeningReceiver;
use crate::engine::proxy::ProxyingReceiver;
use crate::engine::{Engine, Handle};
use crate::faces::docker::{self, Driver};
use crate::faces::shared::server::dialect::Dialect;
use crate::faces::shared::server::serve;
use crate::faces::{dhcp, dns, engines, health, http, proxy, relay, resolved};
use crate::model::names::DnsName;
use crate::os::descriptors;
use crate::runtimes::docker::Socket;

/// How long the command in hand, and the requests that wait for it, may take after the stop signal. Programs that netd
/// runs have less time.
const FINISH: Duration = serve::DRAIN;
/// Each returns what it was.
type Tasks = JoinSet<&'static str>;

impl Bound {
    /// Serves until `stop` is cancelled, then drains.
    pub async fn serve(self, stop: CancellationToken) -> Result<Ended, AppError> {
        let Self { engine, listeners, dns, resolved, hosts, socket, docker, engine_api, engines, process } = self;
        let Process { manager, watchdog, descriptors } = process;
        let Engine { handle, listening, proxying, thread, converged } = engine;
        let (ready, capacity) = (Arc::new(AtomicBool::new(false)), dns.capacity);
        let api_stop = CancellationToken::new();
        let (names, mut data_plane) = spawn_data_plane(&handle, dns, listening, proxying);
        let api = http::router(handle.clone(), names.clone(), ready.clone());
        let metrics = http::metrics_router(handle.clone(), names.clone(), ready.clone());
        let mut tasks = Tasks::new();
        let (_file, owner) = spawn_servers(&mut tasks, listeners, [api, metrics], &hosts, capacity, &api_stop)?;
        if resolved {
            let (handle, stop) = (handle.clone(), api_stop.clone());
            tasks.spawn(async move {
                resolved::run(handle, stop).await;
                "the link to systemd-resolved"
            });
        }
        if let Some((plugin, api)) = docker {
            tasks.spawn(docker_plugin(plugin, api, handle.clone(), capacity, api_stop.clone()));
        }
        if let Some(settings) = engine_api {
            tasks.spawn(settings.serve(handle.clone(), capacity, api_stop.clone()));
        }
        let aside = [
            tokio::spawn(memory::give_back(names.clone())),
            tokio::spawn(owner.keep(handle.clone())),
            tokio::spawn(relay::run(handle.clone())),
            tokio::spawn(engines::run(handle.clone(), engines)),
            watchdog::start(&manager, watchdog, &handle),
        ];
        let engine_ended = tokio::task::spawn_blocking(move || thread.join().is_ok());
        let mut converged = tokio::task::spawn_blocking(move || converged.recv().is_ok());
        let mut ended = Box::pin(ended(&stop, &handle, [&mut tasks, &mut data_plane], engine_ended));
        let outcome = tokio::select! {
            biased;
            outcome = &mut ended => Some(outcome),
            _ = &mut converged => None,
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                handle.report(engine::Subject::Descriptors, too_few(descriptors)).await;
                ready.store(true, Ordering::Release);
                manager.tell("READY=1");
                tracing::info!(socket = %socket.display(), "ready");
                ended.as_mut().await
            }
        };
        drop(ended);
        manager.tell("STOPPING=1");
        ready.store(false, Ordering::Release);
        aside.iter().for_each(JoinHandle::abort);
        handle.refuse();
        api_stop.cancel();
        finish(&handle, tasks).await;
        // The name service, the proxy, the health probes and the DHCP client end with the runtime.
        outcome
    }
}

/// Serves Docker's driver.
async fn docker_plugin(
    path: PathBuf,
    api: Socket,
    handle: Handle,
    capacity: Capacity,
    stop: CancellationToken,
) -> &'static str {
    let driver = Driver::new(handle.clone(), Arc::new(api));
    let follow = tokio::spawn(driver.clone().follow(stop.clone()));
    let socket = Further {
        path,
        router: docker::router(driver),
        dialect: Dialect::Plugin,
        // Only root, as which Docker runs.
        group: None,
        subject: engine::Subject::DockerPlugin,
        without: "Docker cannot use netd's networks",
        look: "see [docker_plugin] in netd.toml(5)",
    };
    socket.run(handle, capacity, stop).await;
    follow.abort();
    "Docker's driver"
}

/// Starts the name service, the proxy, the health probes and the DHCP client.
fn spawn_data_plane(
    handle: &Handle,
    config: dns::Config,
    listening: ListeningReceiver,
    proxying: ProxyingReceiver,
) -> (Arc<dyn Names>, Tasks) {
    let snapshots = handle.clone();
    let view = Arc::new(move || snapshots.snapshot());
    let server = dns::Server::new(config, view, listening, handle.telemetry().clone());
    server.open_with(handle.clone());
    let (names, mut tasks) = (server.names(), Tasks::new());
    tasks.spawn(async move {
        server.run(CancellationToken::new()).await;
        "the name service"
    });
    let engine = handle.clone();
    tasks.spawn(async move {
        proxy::serve(engine, proxying).await;
        "the proxy"
    });
    let (probed, leased) = (handle.clone(), handle.clone());
    tasks.spawn(async move {
        health::run(probed).await;
        "the health probes"
    });
    tasks.spawn(async move {
        dhcp::run(leased).await;
        "the DHCP client"
    });
    (names, tasks)
}

/// Completes when the daemon must end: it was told to, or something has ended that must run until then.
async fn ended(
    stop: &CancellationToken,
    handle: &Handle,
    [tasks, data_plane]: [&mut Tasks; 2],
    engine: JoinHandle<bool>,
) -> Result<Ended, AppError> {
    tokio::select! {
        () = stop.cancelled() => Ok(Ended::Stopped),
        () = handle.torn_down() => Ok(Ended::TornDown),
        Some(task) = tasks.join_next() => Err(AppError::Ended(task.unwrap_or("a task"))),
        Some(task) = data_plane.join_next() => Err(AppError::Ended(task.unwrap_or("a task of the data plane"))),
        _ = engine => Err(AppError::Ended("the engine")),
    }
}

/// Waits until the command in hand is done and its caller has the reply.
async fn finish(handle: &Handle, mut tasks: Tasks) {
    let replies = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH, async { tokio::join!(handle.stop(), replies) }).await.is_err() {
        tracing::warn!(
            "a command was not done {} s after the stop signal: the next start finishes or reverts it",
            FINISH.as_secs()
        );
    }
}

/// Starts to serve the API and the metrics. Returns the file of the API's socket, which is removed when it is dropped, and
/// the lock of the network namespace.
fn spawn_servers(
    tasks: &mut Tasks,
    listeners: Listeners,
    [router, metrics]: [axum::Router; 2],
    hosts: &[DnsName],
    capacity: Capacity,
    stop: &CancellationToken,
) -> Result<(Option<SocketFile>, Owner), AppError> {
    let listener = UnixListener::from_std(listeners.api.listener).map_err(AppError::Runtime)?;
    let inherited = listeners.api.file.is_none();
    let local = serve::Local { listener, access: listeners.access, inherited, dialect: Dialect::Native };
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn(until_end("the API", serve::serve_unix(local, router.clone(), capacity, stopped)));
    if let Some((tcp, tls)) = listeners.api_tls {
        let tcp = TcpListener::from_std(tcp).map_err(AppError::Runtime)?;
        let served = serve::serve_tls(tcp, tls, router, capacity, stop.clone().cancelled_owned());
        tasks.spawn(until_end("the API over TCP", served));
    }
    if let Some(tcp) = listeners.metrics {
        let tcp = TcpListener::from_std(tcp).map_err(AppError::Runtime)?;
        let (hosts, stopped) = (hosts.to_vec(), stop.clone().cancelled_owned());
        let served = async move { serve::serve_public(tcp, &hosts, metrics, capacity, stopped).await };
        tasks.spawn(until_end("the metrics", served));
    }
    Ok((listeners.api.file, listeners.owner))
}

async fn until_end(what: &'static str, served: impl Future<Output = io::Result<()>>) -> &'static str {
    if let Err(error) = served.await {
        tracing::error!("{what}: {error}");
    }
    what
}

/// Describes the problem if the limit of open files is too low.
fn too_few(limit: u64) -> Option<String> {
    (limit < descriptors::ENOUGH).then(|| {
        format!(
            "netd may open only {limit} files (ulimit -Hn), and should {}: published ports and connections take one \
             each; see LimitNOFILE in systemd.exec(5)",
            descriptors::ENOUGH
        )
    })
}
