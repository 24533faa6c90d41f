//! A stream of bytes in binary messages, whose borders mean nothing. Closing in good order is the end of the stream.
//!
//! Refuses to know that the bytes are SPDY.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::connection::{Connection, Event};
use crate::session::{Duplex, MAX_CHUNK};

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// While this many bytes wait to be written, no more are taken, and nothing that may need an answer is read.
const FULL: usize = 2 * MAX_CHUNK;

/// The stream inside an upgraded WebSocket.
pub struct Tunnel {
    io: Box<dyn Duplex>,
    connection: Connection,
    input: BytesMut,
    output: BytesMut,
    /// The rest of a message.
    message: Bytes,
    ended: bool,
}

impl Tunnel {
    /// The stream inside `io`, on which the handshake has been answered.
    pub fn new(io: Box<dyn Duplex>) -> Tunnel {
        Tunnel {
            io,
            connection: Connection::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            message: Bytes::new(),
            ended: false,
        }
    }

    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.output))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.output.advance(written),
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.message.is_empty() {
                let take = this.message.len().min(buf.remaining());
                buf.put_slice(&this.message.split_to(take));
                return Poll::Ready(Ok(()));
            }
            let event = if this.ended {
                None
            } else {
                let event = this.connection.receive(&mut this.input, &mut this.output);
                event.map_err(|error| {
                    this.connection.refuse(&mut this.output);
                    io::Error::new(io::ErrorKind::InvalidData, error)
                })?
            };
            match event {
                Some(Event::Data { bytes, .. }) => {
                    this.message = bytes;
                    continue;
                }
                Some(Event::Closed) => this.ended = true,
                None => {}
            }
            // Answers to pings go out also when the stream itself has nothing to say.
            let drained = this.poll_drain(cx)?;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if drained.is_pending() && this.output.len() >= FULL {
                return Poll::Pending;
            }
            this.input.reserve(READ);
            if ready!(pin!(this.io.read_buf(&mut this.input)).poll(cx))? == 0 {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection ended without a close frame",
                )));
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.poll_drain(cx)?.is_pending() && this.output.len() >= FULL {
            return Poll::Pending;
        }
        let length = buf.len().min(MAX_CHUNK);
        this.connection
            .send(false, [&buf[..length], b""], &mut this.output);
        // What cannot be written now is written when it is flushed.
        let _ = this.poll_drain(cx)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.connection.close(&mut this.output);
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
