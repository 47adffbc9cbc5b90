//! As much gRPC as a test of containerd's CRI needs: unary calls over a unix socket, and messages written and read by
//! field number.
//!
//! Sources: "gRPC over HTTP2" (PROTOCOL-HTTP2.md of grpc/grpc) and the encoding of protocol buffers.

use std::time::Duration;

use axum::http::{HeaderMap, Request};
use tokio::net::UnixStream;

/// Longer than any call takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Wire types.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// A message of protocol buffers, made field by field; what is zero or empty is not there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// With a number.
    pub(crate) fn number(mut self, field: u64, number: u64) -> Self {
        if number != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(number);
        }
        self
    }

    /// With a text.
    pub(crate) fn text(self, field: u64, text: &str) -> Self {
        if text.is_empty() { self } else { self.bytes(field, text.as_bytes()) }
    }

    /// With another message.
    pub(crate) fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// With an entry of a map of texts.
    pub(crate) fn entry(self, field: u64, key: &str, value: &str) -> Self {
        self.message(field, &Self::default().text(1, key).text(2, value))
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn varint(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// The texts or messages of a field.
    pub(crate) fn all(&self, wanted: u64) -> Vec<Self> {
        let mut found = Vec::new();
        let mut rest = self.0.as_slice();
        while !rest.is_empty() {
            let tag = take_varint(&mut rest);
            let length = match tag & 7 {
                VARINT => {
                    let number = take_varint(&mut rest);
                    if tag >> 3 == wanted {
                        found.push(Self(vec![u8::try_from(number).unwrap_or(u8::MAX)]));
                    }
                    continue;
                }
                BYTES => usize::try_from(take_varint(&mut rest)).expect("a length"),
                1 => 8,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            let (value, behind) = rest.split_at(length);
            rest = behind;
            if tag >> 3 == wanted {
                found.push(Self(value.to_vec()));
            }
        }
        found
    }

    /// The only text or message of a field.
    #[track_caller]
    pub(crate) fn one(&self, field: u64) -> Self {
        let all = self.all(field);
        assert_eq!(all.len(), 1, "field {field} of {self:?}");
        all[0].clone()
    }

    /// What a text says.
    pub(crate) fn as_text(&self) -> String {
        String::from_utf8(self.0.clone()).expect("UTF-8")
    }

    /// Whether a field that says yes or no says yes.
    pub(crate) fn is(&self, field: u64) -> bool {
        self.all(field).first().is_some_and(|yes| yes.0 == [1])
    }
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, behind) = rest.split_first().expect("a varint");
        *rest = behind;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    number
}

/// A call of a method (`runtime.v1.RuntimeService/Version`); what the server says instead of an answer is the error.
pub(crate) fn call(socket: &str, method: &str, request: &Message) -> Result<Message, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = async { tokio::time::timeout(PATIENCE, unary(socket, method, request)).await };
    runtime.block_on(answer).map_err(|_| format!("{method}: no answer"))?.map_err(|why| format!("{method}: {why}"))
}

async fn unary(socket: &str, method: &str, request: &Message) -> Result<Message, String> {
    let broken = |error: h2::Error| error.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (client, connection) = h2::client::Builder::new().handshake(stream).await.map_err(broken)?;
    tokio::spawn(connection);
    let mut client = client.ready().await.map_err(broken)?;
    let head = Request::post(format!("http://localhost/{method}"));
    let head = head.header("content-type", "application/grpc").header("te", "trailers").body(()).expect("a request");
    let (response, mut body) = client.send_request(head, false).map_err(broken)?;
    let length = u32::try_from(request.0.len()).expect("a short message");
    // Not compressed, the length, the message.
    let frame = [&[0][..], &length.to_be_bytes(), &request.0].concat();
    body.send_data(std::io::Cursor::new(frame), true).map_err(broken)?;
    let (head, mut body) = response.await.map_err(broken)?.into_parts();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(broken)?;
        answer.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len()).map_err(broken)?;
    }
    // An answer without a message has its status in the head.
    let trailers = body.trailers().await.map_err(broken)?.unwrap_or(head.headers);
    match text(&trailers, "grpc-status").as_str() {
        "0" => Ok(Message(answer.get(5..).unwrap_or_default().to_vec())),
        status => Err(format!("status {status}: {}", text(&trailers, "grpc-message"))),
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}
