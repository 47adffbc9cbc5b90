//! `/services/{id}/logs` and `/tasks/{id}/logs`: what the containers of tasks have written, as the engine keeps it, each
//! line with the ids by which Docker's command line names its task (moby, daemon/server/httputils/logstream).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts as _, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::v1::boolean;
use crate::faces::engine_api::failure::Failure;
use crate::faces::engine_api::tasks::find;
use crate::faces::engine_api::tasks::task::Task;
use crate::faces::engine_api::version::ApiVersion;
use crate::faces::engine_api::{Asked, EngineApi};
use crate::faces::shared::client::segment;
use crate::faces::shared::server::budget::Stopping;
use crate::faces::shared::server::extract::Stream;

/// How many pieces wait for a client that reads slowly.
const WAITING: usize = 64;
/// How often a follower looks for new tasks.
const EVERY: Duration = Duration::from_secs(1);
/// The head of a frame: which stream, and the length of the piece.
const HEAD: usize = 8;
/// The longest frame, in bytes: what is longer is no frame.
const FRAME_MAX: usize = 4 << 20;

/// Whose logs are asked for, and how.
#[derive(Clone)]
struct Wanted {
    service: String,
    /// One task only.
    task: Option<String>,
    follow: bool,
    timestamps: bool,
    details: bool,
    tty: bool,
    /// The query for the engine.
    query: String,
}

type Pieces = mpsc::Sender<io::Result<Bytes>>;

impl EngineApi {
    pub(super) async fn service_logs(
        self: &Arc<Self>,
        asked: &Asked,
        id: &str,
        request: Request,
    ) -> Result<Response, Failure> {
        let service = self.found_service(id)?;
        let template = service.tasks.as_ref().map(|tasks| &tasks.template["ContainerSpec"]["TTY"]);
        let tty = template.is_some_and(|tty| tty == true);
        self.logs(asked, request, service.id.to_string(), None, tty).await
    }

    pub(super) async fn task_logs(
        self: &Arc<Self>,
        asked: &Asked,
        id: &str,
        request: Request,
    ) -> Result<Response, Failure> {
        let task = self.found_task(id).await?;
        let tty = task.value["Spec"]["ContainerSpec"]["TTY"] == true;
        self.logs(asked, request, task.service, Some(task.id), tty).await
    }

    async fn logs(
        self: &Arc<Self>,
        asked: &Asked,
        request: Request,
        service: String,
        task: Option<String>,
        tty: bool,
    ) -> Result<Response, Failure> {
        let truth = |key: &str| asked.query(key).and_then(boolean).unwrap_or(false);
        if !truth("stdout") && !truth("stderr") {
            return Err(Failure::bad("must specify at least one of 'stdout' or 'stderr'"));
        }
        let passed = ["stdout", "stderr", "follow", "timestamps", "since", "tail"];
        let passed =
            passed.into_iter().filter_map(|key| Some((key, asked.query(key).filter(|value| !value.is_empty())?)));
        let query: Vec<String> = passed.map(|(key, value)| format!("{key}={}", segment(value))).collect();
        let (follow, timestamps, details) = (truth("follow"), truth("timestamps"), truth("details"));
        let wanted = Wanted { service, task, follow, timestamps, details, tty, query: query.join("&") };
        let (mut parts, _) = request.into_parts();
        let stopping = parts.extensions.get::<Stopping>().cloned().unwrap_or_default();
        let place = Stream::from_request_parts(&mut parts, &()).await?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let api = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = gather(&api, &wanted, &sender) => {}
                () = sender.closed() => {}
                () = stopping.stopped() => drop(sender.send(Err(io::Error::other("netd is stopping"))).await),
            }
            drop(place);
        });
        let framed = !tty && asked.version >= ApiVersion::one(42);
        let kind =
            if framed { "application/vnd.docker.multiplexed-stream" } else { "application/vnd.docker.raw-stream" };
        Ok((StatusCode::OK, [(CONTENT_TYPE, kind)], Body::from_stream(ReceiverStream::new(receiver))).into_response())
    }
}

/// Sends the logs of all tasks; a follower gets those of later tasks too.
async fn gather(api: &Arc<EngineApi>, wanted: &Wanted, to: &Pieces) {
    let (mut seen, mut running) = (BTreeSet::new(), JoinSet::new());
    loop {
        let tasks = api.tasks().await.unwrap_or_default().into_iter().filter(|task| {
            task.service == wanted.service
                && wanted.task.as_ref().is_none_or(|id| task.id == *id)
                && !task.container.is_empty()
        });
        for task in tasks {
            if seen.insert(task.id.clone()) {
                running.spawn(one(api.clone(), task, wanted.clone(), to.clone()));
            }
        }
        if !wanted.follow {
            while running.join_next().await.is_some() {}
            return;
        }
        let is_there = find(&api.handle.snapshot(), &wanted.service).is_some();
        if !is_there || (wanted.task.is_some() && running.is_empty()) {
            while running.join_next().await.is_some() {}
            return;
        }
        while running.try_join_next().is_some() {}
        sleep(EVERY).await;
    }
}

/// Sends the log of one task.
async fn one(api: Arc<EngineApi>, task: Task, wanted: Wanted, to: Pieces) {
    let Some(engine) = &api.engine else { return };
    let Ok(mut chunks) = engine.logs(&task.container, &wanted.query).await else { return };
    let (node, service, id) = (&task.node, &task.service, &task.id);
    let details =
        format!("com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},com.docker.swarm.task.id={id} ");
    let mut frames = Frames::new(if wanted.details { details } else { String::new() }, wanted.timestamps);
    while let Some(chunk) = chunks.next().await {
        let pieces = match chunk {
            Ok(chunk) if wanted.tty => vec![chunk],
            Ok(chunk) => frames.feed(&chunk),
            Err(_) => return,
        };
        for piece in pieces {
            if to.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    }
}

/// The frames of a container's log, each with the details of its task.
struct Frames {
    details: String,
    /// A time and a space come before them.
    timestamps: bool,
    kept: Vec<u8>,
}

impl Frames {
    fn new(details: String, timestamps: bool) -> Self {
        Self { details, timestamps, kept: Vec::new() }
    }

    /// The whole frames that the log has with these bytes.
    fn feed(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        self.kept.extend(bytes);
        let (mut whole, mut read) = (Vec::new(), 0);
        while let Some(&[stream, _, _, _, a, b, c, d]) = self.kept[read..].first_chunk::<HEAD>() {
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if length > FRAME_MAX {
                self.kept.clear();
                return whole;
            }
            let Some(line) = self.kept.get(read + HEAD..read + HEAD + length) else { break };
            whole.push(self.framed(stream, line));
            read += HEAD + length;
        }
        self.kept.drain(..read);
        whole
    }

    fn framed(&self, stream: u8, line: &[u8]) -> Bytes {
        let time = match line.iter().position(|byte| *byte == b' ') {
            Some(space) if self.timestamps => space + 1,
            _ => 0,
        };
        let length = u32::try_from(line.len() + self.details.len()).unwrap_or(u32::MAX);
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(length.to_be_bytes());
        frame.extend(&line[..time]);
        frame.extend(self.details.as_bytes());
        frame.extend(&line[time..]);
        frame.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, line: &str) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(line.len()).unwrap().to_be_bytes());
        frame.extend(line.as_bytes());
        frame
    }

    #[test]
    fn each_line_tells_its_task() {
        let mut frames = Frames::new("a=b ".into(), false);
        let mut log = frame(1, "one\n");
        log.extend(frame(2, "two\n"));
        let (first, rest) = log.split_at(15);
        let mut shown = frames.feed(first);
        shown.extend(frames.feed(rest));
        assert_eq!(shown, [Bytes::from(frame(1, "a=b one\n")), frame(2, "a=b two\n").into()]);
        let mut frames = Frames::new("a=b ".into(), true);
        assert_eq!(
            frames.feed(&frame(1, "2026-01-02T03:04:05Z one\n")),
            [Bytes::from(frame(1, "2026-01-02T03:04:05Z a=b one\n"))]
        );
    }

    #[test]
    fn what_is_no_frame_is_not_kept() {
        let mut frames = Frames::new(String::new(), false);
        assert!(frames.feed(&[0xff; 4096]).is_empty() && frames.kept.is_empty());
    }
}
