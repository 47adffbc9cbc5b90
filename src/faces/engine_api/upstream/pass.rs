//! Requests that are the engine's: handed on as they are, and the replies handed back, as streams in both directions.
//! Connections that become something else (attach, exec, build sessions: RFC 9110, 7.8) are joined.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, copy};
use tokio::time::{sleep, timeout};

use super::Upstream;
use crate::faces::engine_api::failure::Failure;
use crate::faces::shared::server::budget::{Place, Stopping};
use crate::faces::shared::server::caller::Caller;

/// Headers that concern one connection only (RFC 9110, 7.6.1).
const HOP: [HeaderName; 5] = [CONNECTION, TRANSFER_ENCODING, TE, EXPECT, HeaderName::from_static("keep-alive")];

/// How often it is looked whether a client that sends nothing more is still there.
const LOOK: Duration = Duration::from_secs(1);
/// How long the engine may take to begin its reply after netd has been told to stop.
const FINISH: Duration = Duration::from_secs(5);
/// How long a client may take to close its end after the engine has closed its own.
const LINGER: Duration = Duration::from_secs(10);

impl Upstream {
    /// Hands the request on, to this path and query.
    pub(in crate::faces::engine_api) async fn pass(&self, mut request: Request, uri: Uri) -> Result<Response, Failure> {
        let client = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let stopping = parts.extensions.get::<Stopping>().cloned().unwrap_or_default();
        let place = parts.extensions.get::<Place>().cloned();
        let caller =
            parts.extensions.get::<ConnectInfo<Caller>>().map(|ConnectInfo(caller)| caller.clone()).unwrap_or_default();
        let mut headers = without_hops(&parts.headers, client.is_some());
        headers.insert(HOST, HeaderValue::from_static("netd"));
        let mut theirs = axum::http::Request::new(body);
        (*theirs.method_mut(), *theirs.uri_mut(), *theirs.headers_mut()) = (parts.method, uri, headers);
        let mut reply = tokio::select! {
            reply = self.send(theirs) => reply?,
            () = finished(stopping.clone()) => {
                return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "netd is stopping: try again after its restart"));
            }
        };
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            let engine = hyper::upgrade::on(&mut reply);
            if let Some(client) = client {
                tokio::spawn(join(client, engine, place, caller));
            }
            let headers = without_hops(reply.headers(), true);
            return Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response());
        }
        let headers = without_hops(reply.headers(), false);
        let status = reply.status();
        let body = Body::new(reply.into_body());
        // A stream without an end must not keep the daemon from ending. One of known length needs no watch.
        let body = match axum::body::HttpBody::size_hint(&body).exact() {
            Some(_) => body,
            None => Body::from_stream(until_stopped(body, stopping)),
        };
        Ok((status, headers, body).into_response())
    }
}

/// Completes a while after the server has been told to stop: what the engine is about to reply is still passed on.
async fn finished(stopping: Stopping) {
    stopping.stopped().await;
    sleep(FINISH).await;
}

/// The body, cut with an error when the server stops: nobody must take a part of an image for the whole.
fn until_stopped(body: Body, stopping: Stopping) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let data = body.into_data_stream().map(|chunk| Some(chunk.map_err(io::Error::other)));
    let data = data.chain(stream::once(std::future::ready(None)));
    let cut = stream::once(stopping.stopped()).map(|()| Some(Err(io::Error::other("netd is stopping"))));
    stream::select(data, cut).take_while(|chunk| std::future::ready(chunk.is_some())).filter_map(std::future::ready)
}

fn without_hops(headers: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut kept = headers.clone();
    for hop in HOP.iter().filter(|hop| !(upgrades && **hop == CONNECTION)) {
        kept.remove(hop);
    }
    if !upgrades {
        kept.remove(UPGRADE);
    }
    kept
}

/// Copies both ways until the engine has closed its end, or the client is gone. The end of the client's input is passed on:
/// the input of `docker run -i` ends long before its output. That a client is gone shows only at its socket, because a
/// program that writes nothing makes no write fail.
async fn join(client: OnUpgrade, engine: OnUpgrade, place: Option<Place>, caller: Caller) {
    let (Ok(client), Ok(engine)) = tokio::join!(client, engine) else { return };
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_engine, mut to_engine) = tokio::io::split(TokioIo::new(engine));
    // An end that cannot be written to any more ends the direction.
    let input = async {
        let _ = copy(&mut from_client, &mut to_engine).await;
        let _ = to_engine.shutdown().await;
        while !caller.is_gone() {
            sleep(LOOK).await;
        }
    };
    let output = async {
        let _ = copy(&mut from_engine, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let mut input = std::pin::pin!(input);
    tokio::select! {
        () = &mut input => {}
        // What the client still sends is read: closing a socket with unread data is an error at its other end.
        () = output => drop(timeout(LINGER, input).await),
    }
    drop(place);
}
