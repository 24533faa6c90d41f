//! The raw peer: what the socket and the runtime cost, and nothing else.
//!
//! It is tokio's `UnixStream`, a request that was put together beforehand, and a reply whose length is known beforehand. It
//! parses nothing, checks nothing, has no deadline, and reads into a buffer that is kept.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The most that one read of a stream asks for, in bytes.
const BUFFER: usize = 64 * 1024;

/// A kept connection.
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

/// The request that a bench sends with every call, as berth's client would write it.
pub fn request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: raw\r\n\r\n").into_bytes()
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(path).await?,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends `request`, reads until `length` bytes have come, and gives them: the head, its framing and the body.
    ///
    /// # Errors
    /// When the connection fails or ends before.
    pub async fn call(&mut self, request: &[u8], length: usize) -> io::Result<&[u8]> {
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        self.stream.write_all(request).await?;
        let mut have = 0;
        while have < length {
            match self.stream.read(&mut self.buffer[have..length]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => have += count,
            }
        }
        Ok(&self.buffer[..length])
    }

    /// Sends `request` and finds out how long its chunked reply is, for [`call`](Self::call).
    ///
    /// # Errors
    /// When the connection fails or ends before the last chunk.
    pub async fn measure(&mut self, request: &[u8]) -> io::Result<usize> {
        self.stream.write_all(request).await?;
        let mut have = 0;
        while !self.buffer[..have].ends_with(b"\r\n0\r\n\r\n") {
            match self.stream.read(&mut self.buffer[have..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => have += count,
            }
        }
        Ok(have)
    }

    /// Sends `body` to `path` with POST; gives the body of the reply, whose length the engine has to say.
    ///
    /// # Errors
    /// When the connection fails or ends before, and with the reply when its status is not 2xx.
    pub async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<&[u8]> {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: raw\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        let mut have = 0;
        loop {
            match self.stream.read(&mut self.buffer[have..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => have += count,
            }
            let reply = &self.buffer[..have];
            let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&reply[..end]);
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .and_then(|length| length.parse::<usize>().ok())
                .unwrap_or_default();
            let start = end + 4;
            if have < start + length {
                continue;
            }
            if !head.starts_with("HTTP/1.1 2") {
                let reply = String::from_utf8_lossy(reply);
                return Err(io::Error::other(format!("{path}: {reply}")));
            }
            return Ok(&self.buffer[start..start + length]);
        }
    }

    /// Sends `request`, then reads into one buffer of 64 KiB until the peer closes; gives the number of bytes.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn drain(&mut self, request: &[u8]) -> io::Result<usize> {
        self.stream.write_all(request).await?;
        let mut total = 0;
        loop {
            match self.stream.read(&mut self.buffer[..BUFFER]).await? {
                0 => return Ok(total),
                count => total += count,
            }
        }
    }

    /// Sends `request`, skips the head of the reply, then scans its body as chunks of one frame each, in one buffer of
    /// 64 KiB. Gives the number of frames and the bytes of their payloads.
    ///
    /// # Errors
    /// When the connection fails, or the bytes are anything else.
    pub async fn scan_frames(&mut self, request: &[u8]) -> io::Result<(usize, usize)> {
        self.stream.write_all(request).await?;
        let (mut have, mut in_body) = (0, false);
        let mut seen = Scanned::default();
        loop {
            if have == BUFFER {
                return Err(io::Error::other("a chunk is longer than the buffer"));
            }
            match self.stream.read(&mut self.buffer[have..BUFFER]).await? {
                0 => break,
                count => have += count,
            }
            let bytes = &self.buffer[..have];
            let mut used = 0;
            if !in_body {
                let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                    continue;
                };
                in_body = true;
                used = end + 4;
            }
            used += seen.take(&bytes[used..])?;
            self.buffer.copy_within(used..have, 0);
            have -= used;
        }
        if seen.ended {
            Ok((seen.frames, seen.bytes))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// What a hand-written scanner of chunked frames knows.
#[derive(Default)]
struct Scanned {
    frames: usize,
    bytes: usize,
    ended: bool,
}

impl Scanned {
    /// Takes whole chunks off the front of `bytes`; gives how much that was.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let (mut size, mut digits) = (0usize, 0);
            let data = loop {
                let value = match rest.get(digits) {
                    Some(byte @ b'0'..=b'9') => byte - b'0',
                    Some(byte @ b'a'..=b'f') => byte - b'a' + 10,
                    Some(b'\r') => break digits + 2,
                    Some(_) => return Err(bad("a chunk's size is not a number")),
                    None => return Ok(at),
                };
                size = size << 4 | usize::from(value);
                digits += 1;
            };
            if rest.len() < data + size + 2 {
                return Ok(at);
            }
            if size == 0 {
                self.ended = true;
                return Ok(at + data + 2);
            }
            let chunk = &rest[data..data + size];
            let Some((&[kind, 0, 0, 0, a, b, c, d], payload)) = chunk.split_first_chunk::<8>()
            else {
                return Err(bad("a chunk does not begin with a frame"));
            };
            if kind > 2
                || u32::from_be_bytes([a, b, c, d]) as usize != payload.len()
                || &rest[data + size..data + size + 2] != b"\r\n"
            {
                return Err(bad("a chunk is not one frame"));
            }
            // As a caller would: it looks at what it gets.
            self.bytes += std::hint::black_box(payload).len();
            self.frames += 1;
            at += data + size + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    #[test]
    fn the_scanner_counts_every_frame_however_the_bytes_come() {
        let mut wire = recorded::short_lines(5);
        wire.extend_from_slice(b"0\r\n\r\n");
        for step in [1, 7, 64, wire.len()] {
            let (mut seen, mut used) = (Scanned::default(), 0);
            for end in (step..=wire.len()).step_by(step).chain([wire.len()]) {
                used += seen.take(&wire[used..end]).unwrap();
            }
            assert_eq!(
                (seen.frames, seen.bytes, seen.ended, used),
                (5, 500, true, wire.len()),
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn a_frame_that_lies_is_an_error() {
        let mut wire = recorded::short_lines(1);
        wire[11] += 1;
        assert!(Scanned::default().take(&wire).is_err());
    }
}
