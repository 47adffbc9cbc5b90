//! Parses HTTP/1.1 replies: the head, and the body in its three framings (RFC 9112, 6.3).

use std::io::{self, BufRead, Read};

/// The maximum length of a head in bytes, and the maximum number of its headers.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;

/// The relevant content of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
}

/// How the end of the body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes are left.
    Length(u64),
    /// Chunks, each with its size; `left` bytes of the current one are left.
    Chunked { left: u64, first: bool, done: bool },
    /// The body ends when the connection closes.
    Close,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads the head of the final reply and skips interim replies (1xx).
pub(super) fn head(reader: &mut impl BufRead) -> io::Result<Head> {
    loop {
        let head = one_head(reader)?;
        if head.status >= 200 {
            return Ok(head);
        }
    }
}

fn one_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let before = bytes.len();
        reader.by_ref().take((HEAD_MAX - before) as u64).read_until(b'\n', &mut bytes)?;
        if bytes.len() == before {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(if before < HEAD_MAX {
                io::Error::new(kind, "it closed the connection")
            } else {
                broken("the head is too long")
            });
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut reply = httparse::Response::new(&mut headers);
    match reply.parse(&bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(broken("that is not HTTP: is it netd's socket?")),
    }
    let status = reply.code.unwrap_or(0);
    let framing = framing(status, reply.headers)?;
    Ok(Head { status, framing })
}

fn framing(status: u16, headers: &[httparse::Header<'_>]) -> io::Result<Framing> {
    if status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Length(0));
    }
    let value = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
        return Ok(Framing::Chunked { left: 0, first: true, done: false });
    }
    let Some(length) = value("content-length") else { return Ok(Framing::Close) };
    let length = std::str::from_utf8(length).ok().and_then(|text| text.trim().parse().ok());
    length.map(Framing::Length).ok_or_else(|| broken("Content-Length is not a number"))
}

/// The body of a reply. It ends according to its framing, and fails if the connection ends before that.
#[derive(Debug)]
pub(super) struct Body<R> {
    reader: R,
    framing: Framing,
}

impl<R: BufRead> Body<R> {
    pub(super) fn new(reader: R, framing: Framing) -> Self {
        Self { reader, framing }
    }

    /// Reads the size of the next chunk; the last one has size 0.
    fn next_chunk(&mut self, first: bool) -> io::Result<u64> {
        if !first && self.line()? != b"\r\n" {
            return Err(broken("a chunk does not end where it should"));
        }
        let line = self.line()?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ => Err(broken("a chunk has no size")),
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.reader.by_ref().take(HEAD_MAX as u64).read_until(b'\n', &mut line)?;
        Ok(line)
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked { left: 0, first, done: false } = self.framing {
            let left = self.next_chunk(first)?;
            self.framing = Framing::Chunked { left, first: false, done: left == 0 };
        }
        let left = match &mut self.framing {
            Framing::Close => return self.reader.read(buffer),
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
        };
        if *left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection closed in the middle of the reply",
            ));
        }
        *left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(reply: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        // With a buffer of one byte, every boundary falls between two reads.
        let mut reader = io::BufReader::with_capacity(1, reply);
        let head = head(&mut reader)?;
        let mut body = Vec::new();
        Body::new(reader, head.framing).read_to_end(&mut body)?;
        Ok((head.status, body))
    }

    #[test]
    fn the_three_framings_give_the_same_body() {
        for reply in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, more"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello",
        ] {
            assert_eq!(whole(reply).unwrap(), (200, b"hello".to_vec()), "{}", String::from_utf8_lossy(reply));
        }
        assert_eq!(whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, Vec::new()));
    }

    #[test]
    fn a_reply_that_breaks_off_is_an_error() {
        for reply in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\nConte",
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(whole(reply).is_err(), "{}", String::from_utf8_lossy(reply));
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HEAD_MAX));
        assert!(whole(long.as_bytes()).unwrap_err().to_string().contains("too long"));
    }
}
