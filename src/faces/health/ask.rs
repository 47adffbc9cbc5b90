//! One probe: connections from sockets in the container, and what is asked there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use axum::http::{Request, StatusCode};
use futures_util::future::try_join_all;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::targets::Ask;

/// Bytes of a reply's head that are read at most; its body is not read.
const HEAD_MAX: usize = 8 << 10;
const AGENT: HeaderValue = HeaderValue::from_static("netd");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Asks at one of the addresses of each network, in their order. The error says why the container is not healthy.
pub(super) async fn ask(networks: Vec<Vec<(SocketAddr, OwnedFd)>>, ask: &Ask, within: Duration) -> Result<(), String> {
    let each = networks.into_iter().map(|addresses| async move {
        let (mut first, mut last) = (None, None);
        let asked = async {
            for (at, socket) in addresses {
                last = Some(at);
                match one(at, socket, ask).await {
                    Ok(()) => return Ok(()),
                    Err(why) => _ = first.get_or_insert(why),
                }
            }
            Err(first.take().unwrap_or_default())
        };
        match timeout(within, asked).await {
            Ok(asked) => asked,
            Err(_) => {
                let at = last.map(|at| at.to_string()).unwrap_or_default();
                Err(format!("no answer from {at} within {}", humantime::format_duration(within)))
            }
        }
    });
    try_join_all(each).await.map(drop)
}

async fn one(at: SocketAddr, socket: OwnedFd, ask: &Ask) -> Result<(), String> {
    // Not connected yet, but of the same type.
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let stream = socket.connect(at).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{at} refuses connections"),
        _ => format!("cannot connect to {at}: {error}"),
    })?;
    match ask {
        Ask::Tcp => Ok(()),
        Ask::Http { path, host } => {
            let status = get(stream, at, path, host).await.map_err(|why| format!("http://{at}{path}: {why}"))?;
            let healthy = status.is_success() || status.is_redirection();
            if healthy { Ok(()) } else { Err(format!("http://{at}{path} is answered with status {}", status.as_u16())) }
        }
    }
}

/// The status of the answer.
async fn get(stream: TcpStream, at: SocketAddr, path: &str, host: &str) -> Result<StatusCode, hyper::Error> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Body::empty());
    // A path of a health check is valid in a request; what is not, asks for `/`.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let host = HeaderValue::from_str(host).or_else(|_| HeaderValue::from_str(&at.to_string()));
    host.into_iter().for_each(|host| _ = request.headers_mut().insert(HOST, host));
    request.headers_mut().insert(USER_AGENT, AGENT);
    request.headers_mut().insert(CONNECTION, CLOSE);
    let reply = sender.send_request(request);
    tokio::pin!(reply, connection);
    let reply = tokio::select! {
        reply = &mut reply => reply,
        // Its end is told to the reply as well.
        _ = &mut connection => reply.await,
    };
    reply.map(|reply| reply.status())
}
