//! The Engine API: its socket, and what it is told about this machine.

use std::path::{Path, PathBuf};

use nix::sys::sysinfo::sysinfo;
use nix::sys::utsname::uname;
use tokio_util::sync::CancellationToken;

use super::further_socket::Further;
use crate::base::descriptors::Capacity;
use crate::config::{Config, DockerApi};
use crate::engine::{Handle, Subject};
use crate::faces::engine_api::{self, EngineApi, Facts};
use crate::faces::shared::server::dialect::Dialect;

/// What is served, and where.
pub(super) struct Settings {
    socket: PathBuf,
    api: DockerApi,
    /// The socket of the engine that runs containers.
    engine: Option<PathBuf>,
    facts: Facts,
}

impl Settings {
    /// `None`: the configuration does not ask for it.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let (socket, api) = config.engine_api()?;
        let engine = config.engine.as_ref().map(|engine| engine.socket.clone());
        Some(Self { socket, api, engine, facts: facts(config) })
    }

    /// Where it is served.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Serves until `stop` is cancelled.
    pub(super) async fn serve(self, handle: Handle, capacity: Capacity, stop: CancellationToken) -> &'static str {
        let Self { socket, api: settings, engine, facts } = self;
        let api = EngineApi::new(handle.clone(), engine, settings.min_api_version, facts);
        let (followed, stopped) = (api.clone(), stop.clone());
        let follow = tokio::spawn(async move { followed.follow(stopped).await });
        let tasks = tokio::spawn(api.clone().keep_tasks(stop.clone()));
        let socket = Further {
            path: socket,
            router: engine_api::router(api),
            dialect: Dialect::Engine,
            group: Some((settings.group, "group of [docker_api]")),
            subject: Subject::EngineApi,
            without: "Docker's command line and tools cannot reach netd",
            look: "see [docker_api] in netd.toml(5)",
        };
        socket.run(handle, capacity, stop).await;
        follow.abort();
        tasks.abort();
        "the Engine API"
    }
}

fn facts(config: &Config) -> Facts {
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let (name, kernel) =
        uname().map_or_else(|_| Default::default(), |uname| (text(uname.nodename()), text(uname.release())));
    let pools = config.pools.ipv4.iter().map(|pool| (pool.base.to_string(), pool.size)).collect();
    Facts {
        name,
        kernel,
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        memory: sysinfo().map_or(0, |info| info.ram_total()),
        pools,
    }
}
