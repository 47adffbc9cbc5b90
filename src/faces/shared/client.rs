//! A small blocking HTTP/1.1 client for the daemon's unix socket, for the command line and for plugins, which need no
//! async runtime. It uses one connection per request.

mod wire;

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::v1::{ErrorBody, ErrorDetail};
use wire::{Body, Head};

/// How long the daemon may take to accept a connection, in seconds. Its backlog is full for longer only if the daemon
/// hangs.
const CONNECT_SECONDS: i64 = 2;
/// How long to wait for data of a reply.
const REPLY: Duration = Duration::from_secs(60);
/// The shortest wait. A timeout of zero would mean none.
const PATIENCE_MIN: Duration = Duration::from_millis(100);
/// The largest reply, in bytes: far more than a dump of a full host.
const REPLY_MAX: u64 = 1 << 30;

/// Why there is no reply, or not a successful one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No process listens on the socket, or access is denied.
    #[error("cannot reach the daemon at {}: {source}: {}", .socket.display(), hint(.source))]
    Connect {
        /// The socket that was tried.
        socket: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The connection broke.
    #[error("no reply from the daemon at {}: {source}: see its log", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The daemon refused or failed.
    #[error("{}", .error.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error in the daemon's reply.
        error: ErrorDetail,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run it as root or as a member of the socket's group (socket_group in netd.toml)"
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is it running? Look at `systemctl status netd`, or give its socket with --socket"
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not accept connections: see its log",
        _ => "give the daemon's socket with --socket",
    }
}

impl ClientError {
    /// The HTTP status, if the daemon replied.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the daemon could not be reached at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Connect { .. })
    }
}

/// A daemon, identified by its socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// A reply, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the daemon at this socket. It does not connect yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), patience: REPLY }
    }

    /// A client of the same daemon with another limit for the wait for a reply (default 60 s).
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { socket: self.socket.clone(), patience: patience.clamp(PATIENCE_MIN, REPLY) }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and reads the whole reply. `path` begins with `/` and is already encoded (see [`segment`]).
    pub fn request(&self, method: &str, path: &str, json: Option<&[u8]>) -> Result<Reply, ClientError> {
        let (head, body) = self.send(method, path, json, true)?;
        let mut bytes = Vec::new();
        body.take(REPLY_MAX).read_to_end(&mut bytes).map_err(|source| self.broken(source))?;
        Ok(Reply { status: head.status, body: bytes })
    }

    /// Reads an object.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.parse(&self.success("GET", path, None)?)
    }

    /// Sends an object and reads the resulting one.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(error.into()))?;
        self.parse(&self.success("POST", path, Some(&json))?)
    }

    /// Puts an object and reads the resulting one.
    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(error.into()))?;
        self.parse(&self.success("PUT", path, Some(&json))?)
    }

    /// Changes an object and reads it as it is then.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(error.into()))?;
        self.parse(&self.success("PATCH", path, Some(&json))?)
    }

    /// Sends an object. Ignores the body of a successful reply.
    pub fn tell(&self, path: &str, body: &impl Serialize) -> Result<(), ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(error.into()))?;
        self.success("POST", path, Some(&json)).map(drop)
    }

    /// Queries whether something exists or is true; a success has no body.
    pub fn ask(&self, path: &str) -> Result<(), ClientError> {
        self.success("GET", path, None).map(drop)
    }

    /// Deletes an object.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.success("DELETE", path, None).map(drop)
    }

    /// The lines of an endless reply, without their line ends. Ends when the daemon ends the reply properly.
    pub fn lines(&self, path: &str) -> Result<impl Iterator<Item = Result<String, ClientError>> + use<>, ClientError> {
        let (body, client) = (self.bytes(path)?, self.clone());
        Ok(BufReader::new(body).lines().map(move |line| line.map_err(|source| client.broken(source))))
    }

    /// The bytes of an endless reply, as they come.
    pub fn bytes(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let (head, mut body) = self.send("GET", path, None, false)?;
        if head.status == 200 {
            return Ok(body);
        }
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(|source| self.broken(source))?;
        Err(refusal(&Reply { status: head.status, body: bytes }))
    }

    fn success(&self, method: &str, path: &str, json: Option<&[u8]>) -> Result<Reply, ClientError> {
        let reply = self.request(method, path, json)?;
        if (200..300).contains(&reply.status) { Ok(reply) } else { Err(refusal(&reply)) }
    }

    fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, ClientError> {
        serde_json::from_slice(&reply.body).map_err(|error| self.broken(error.into()))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"),
            _ => source,
        };
        ClientError::Broken { socket: self.socket.clone(), source }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        json: Option<&[u8]>,
        ends: bool,
    ) -> Result<(Head, Body<BufReader<UnixStream>>), ClientError> {
        let stream = dial(&self.socket)
            .map_err(|error| ClientError::Connect { socket: self.socket.clone(), source: error.into() })?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: netd\r\nConnection: close\r\n").into_bytes();
        if let Some(json) = json {
            let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len());
            request.extend_from_slice(head.as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(json.unwrap_or_default());
        exchange(stream, &request, self.patience, ends).map_err(|source| self.broken(source))
    }
}

fn exchange(
    mut stream: UnixStream,
    request: &[u8],
    patience: Duration,
    ends: bool,
) -> io::Result<(Head, Body<BufReader<UnixStream>>)> {
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let written = stream.write_all(request);
    let mut reader = BufReader::new(stream);
    // A daemon that refuses a large body replies and closes before it has read the whole body.
    let head = wire::head(&mut reader).map_err(|error| written.err().unwrap_or(error))?;
    if !ends {
        // The head of an endless reply arrives at once, but a line only when there is one.
        reader.get_ref().set_read_timeout(None)?;
    }
    Ok((head, Body::new(reader, head.framing)))
}

/// Connects. Waits at most [`CONNECT_SECONDS`] for space in the backlog.
fn dial(path: &Path) -> nix::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // For unix sockets the send timeout bounds connect(2) as well (unix(7), socket(7)).
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(CONNECT_SECONDS, 0))?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(UnixStream::from(fd))
}

fn refusal(reply: &Reply) -> ClientError {
    let error = serde_json::from_slice(&reply.body).map(|body: ErrorBody| body.error).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(&reply.body);
        let text = text.lines().next().unwrap_or_default();
        ErrorDetail { code: "failed".into(), message: format!("the daemon answered {} {text}", reply.status) }
    });
    ClientError::Refused { status: reply.status, error }
}

/// Encodes a text as one segment of a path or as a value of a query: everything except unreserved characters is
/// percent-encoded (RFC 3986, 2.3).
pub fn segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
