//! One request and the head of its reply on one connection.
//!
//! It knows exactly which phase is under way and whether the engine may have seen the request, because that decides what a failure means.
//! It does not know operations, versions, retries or the pool.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_core::Stream;
use tokio::io::AsyncWrite;

use super::idle::Idle;
use crate::error::{ErrorKind, Phase};
use crate::request::{Body, Method};
use crate::transport::Conn;
use crate::wire::WireError;
use crate::wire::body::{Decoder, Step};
use crate::wire::head::{self, Head, MAX_HEAD};

/// The most informational replies (1xx) that are skipped before the real one.
const MAX_INFORMATIONAL: u32 = 8;

/// A body up to this size is copied behind the head and leaves in the same write.
const COPY_BODY: usize = 16 * 1024;

/// When so much of a body is still to come in one piece, it is read to where it belongs and not copied there.
const DIRECT_FROM: usize = 16 * 1024;

/// The most that such a read asks for. It is also the room that is made for it, whatever length the engine claims.
const DIRECT_STEP: usize = 4 * 1024 * 1024;

/// Where a call is, for the error when it is stopped from outside.
#[derive(Default)]
pub(crate) struct Progress {
    phase: AtomicU8,
    sent: AtomicU8,
    refused: AtomicU16,
}

impl Progress {
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Connect,
            1 => Phase::Write,
            2 => Phase::Headers,
            _ => Phase::Body,
        }
    }

    /// Whether any byte of the request has been handed to the system.
    pub(crate) fn sent(&self) -> bool {
        self.sent.load(Relaxed) != 0
    }

    pub(crate) fn set_sent(&self) {
        self.sent.store(1, Relaxed);
    }

    /// The status of the refusal whose reason is being read.
    pub(crate) fn refused(&self) -> Option<u16> {
        Some(self.refused.load(Relaxed)).filter(|status| *status != 0)
    }

    pub(crate) fn set_refused(&self, status: u16) {
        self.refused.store(status, Relaxed);
    }

    /// The request is about to be sent, or sent again: as if nothing had been.
    pub(crate) fn restart(&self) {
        self.enter(Phase::Connect);
        self.sent.store(0, Relaxed);
        self.refused.store(0, Relaxed);
    }
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    Closed,
    Wire(WireError),
    Idle(Duration),
    Source(io::Error),
}

impl Failure {
    pub(crate) fn into_kind(self, phase: Phase, sent: bool) -> ErrorKind {
        match self {
            Self::Io(error) => ErrorKind::NoAnswer {
                phase,
                sent,
                cause: error.to_string(),
            },
            Self::Closed => ErrorKind::NoAnswer {
                phase,
                sent,
                cause: "the engine closed it".to_owned(),
            },
            Self::Wire(error) => ErrorKind::Malformed {
                what: error.to_string(),
            },
            Self::Idle(after) => ErrorKind::TimedOut {
                phase,
                sent,
                after,
                last: None,
            },
            Self::Source(error) => ErrorKind::Cancelled {
                cause: error.to_string(),
            },
        }
    }

    /// Whether this is what a connection looks like that the engine had closed before the request came.
    pub(crate) fn is_stale_connection(&self) -> bool {
        match self {
            Self::Closed => true,
            // TLS calls an end without close_notify an unexpected one.
            Self::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::UnexpectedEof
            ),
            _ => false,
        }
    }
}

/// Sends `head` and `body`, then reads the head of the reply. A reply that comes before the body is sent (an early refusal of an upload) ends
/// the sending; `Head::keep_alive` is then false.
pub(crate) async fn exchange(
    conn: &mut Conn,
    mut head: BytesMut,
    body: &mut Body,
    method: Method,
    idle: &mut Idle,
    progress: &Progress,
) -> Result<Head, Failure> {
    progress.enter(Phase::Write);
    let mut reply = ReplyHead::new(method);
    let reply = &mut reply;
    let sent = match body {
        Body::Empty => write(conn, &mut head, reply, idle, progress).await,
        Body::Bytes(bytes) if bytes.len() <= COPY_BODY => {
            head.extend_from_slice(bytes);
            write(conn, &mut head, reply, idle, progress).await
        }
        Body::Bytes(bytes) => {
            write(conn, &mut head.chain(bytes.clone()), reply, idle, progress).await
        }
        Body::Stream(stream) => match write(conn, &mut head, reply, idle, progress).await {
            Ok(None) => write_stream(conn, stream, reply, idle, progress).await,
            other => other,
        },
    };
    match sent {
        Ok(None) => {}
        Ok(Some(mut early)) => {
            early.keep_alive = false;
            return Ok(early);
        }
        // The engine may have answered before it hung up; its words are worth more than "broken pipe".
        Err(Failure::Io(error)) if progress.sent() => {
            return match read_head(conn, reply, idle).await {
                Ok(mut early) => {
                    early.keep_alive = false;
                    Ok(early)
                }
                Err(_) => Err(Failure::Io(error)),
            };
        }
        Err(failure) => return Err(failure),
    }
    progress.enter(Phase::Headers);
    read_head(conn, reply, idle).await
}

/// Writes all of `data`; gives a reply that came meanwhile.
async fn write(
    conn: &mut Conn,
    data: &mut impl Buf,
    reply: &mut ReplyHead,
    idle: &mut Idle,
    progress: &Progress,
) -> Result<Option<Head>, Failure> {
    poll_fn(|cx| {
        while data.has_remaining() {
            let mut slices = [io::IoSlice::new(&[]); 4];
            let count = data.chunks_vectored(&mut slices);
            let io = Pin::new(&mut conn.io);
            let written = if let [one] = &slices[..count] {
                io.poll_write(cx, one)
            } else {
                io.poll_write_vectored(cx, &slices[..count])
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Failure::Closed)),
                Poll::Ready(Ok(written)) => {
                    progress.set_sent();
                    idle.moved();
                    data.advance(written);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Io(error))),
                Poll::Pending => return poll_early(conn, reply, idle, cx),
            }
        }
        match Pin::new(&mut conn.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Io(error))),
            Poll::Pending => poll_early(conn, reply, idle, cx),
        }
    })
    .await
}

/// Sends a body of unknown length in chunks.
async fn write_stream(
    conn: &mut Conn,
    stream: &mut Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    reply: &mut ReplyHead,
    idle: &mut Idle,
    progress: &Progress,
) -> Result<Option<Head>, Failure> {
    loop {
        let next = poll_fn(|cx| match stream.as_mut().poll_next(cx) {
            Poll::Ready(item) => Poll::Ready(Ok(Ok(item))),
            Poll::Pending => poll_early(conn, reply, idle, cx).map_ok(Err),
        });
        let piece = match next.await? {
            Err(early) => return Ok(early),
            Ok(None) => return write(conn, &mut &b"0\r\n\r\n"[..], reply, idle, progress).await,
            Ok(Some(piece)) => piece.map_err(Failure::Source)?,
        };
        if piece.is_empty() {
            continue;
        }
        let size = Bytes::from(format!("{:x}\r\n", piece.len()));
        if let Some(early) = write(
            conn,
            &mut size.chain(piece).chain(&b"\r\n"[..]),
            reply,
            idle,
            progress,
        )
        .await?
        {
            return Ok(Some(early));
        }
    }
}

/// While nothing can be written: looks whether the engine answers already, has gone, or has been silent for too long.
fn poll_early(
    conn: &mut Conn,
    reply: &mut ReplyHead,
    idle: &mut Idle,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Head>, Failure>> {
    loop {
        if let Err(failure) = ready!(poll_more(conn, idle, cx)) {
            return Poll::Ready(Err(failure));
        }
        if let Some(result) = reply.take(conn).transpose() {
            return Poll::Ready(result.map(Some));
        }
    }
}

async fn read_head(
    conn: &mut Conn,
    reply: &mut ReplyHead,
    idle: &mut Idle,
) -> Result<Head, Failure> {
    loop {
        if let Some(head) = reply.take(conn)? {
            return Ok(head);
        }
        poll_fn(|cx| poll_more(conn, idle, cx)).await?;
    }
}

/// The head of the reply, as far as it has come.
struct ReplyHead {
    method: Method,
    /// How many informational replies came before it.
    informational: u32,
    /// How much of the connection's buffer is known not to be a whole head.
    looked: usize,
}

impl ReplyHead {
    fn new(method: Method) -> Self {
        Self {
            method,
            informational: 0,
            looked: 0,
        }
    }

    /// Takes the head off the connection's buffer once it is there, and the informational ones before it.
    fn take(&mut self, conn: &mut Conn) -> Result<Option<Head>, Failure> {
        // A head ends with a newline; parsing before one has come would make a dribbled head cost its square.
        while conn.buf[self.looked..].contains(&b'\n') || conn.buf.len() >= MAX_HEAD {
            let Some((head, length)) =
                head::parse(&conn.buf, self.method).map_err(Failure::Wire)?
            else {
                self.looked = conn.buf.len();
                break;
            };
            conn.buf.advance(length);
            self.looked = 0;
            if head.status >= 200 || head.status == 101 {
                return Ok(Some(head));
            }
            self.informational += 1;
            if self.informational > MAX_INFORMATIONAL {
                return Err(Failure::Wire(WireError::new(
                    "it has more than 8 informational replies before the real one",
                )));
            }
        }
        Ok(None)
    }
}

/// Reads more bytes into the connection's buffer.
pub(crate) fn poll_more(
    conn: &mut Conn,
    idle: &mut Idle,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Failure>> {
    let read = conn.poll_fill(cx);
    came(read, idle, cx).map_ok(|_| ())
}

/// Reads data past the connection's buffer, which is empty, to the end of a body; at most `limit` bytes.
fn poll_direct(
    conn: &mut Conn,
    body: &mut BytesMut,
    limit: usize,
    idle: &mut Idle,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Failure>> {
    let read = conn.poll_read_into(body, limit, cx);
    came(read, idle, cx)
}

/// What a read means for the call.
fn came(
    read: Poll<io::Result<usize>>,
    idle: &mut Idle,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Failure>> {
    match read {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(Failure::Closed)),
        Poll::Ready(Ok(count)) => {
            idle.moved();
            Poll::Ready(Ok(count))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Io(error))),
        Poll::Pending => {
            let after = ready!(idle.poll_expired(cx));
            Poll::Ready(Err(Failure::Idle(after)))
        }
    }
}

/// How much of a body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Whole,
    /// As much as was allowed; there is more.
    Cut,
}

/// Reads a body of at most `limit` bytes into `body`, which starts empty. Beyond the limit it stops reading and says so; the connection is then
/// of no more use. What has come is in `body` however the reading ends, also when it is dropped.
pub(crate) async fn read_body(
    conn: &mut Conn,
    decoder: &mut Decoder,
    limit: usize,
    idle: &mut Idle,
    body: &mut BytesMut,
) -> Result<Extent, Failure> {
    loop {
        match decoder.step(&conn.buf).map_err(Failure::Wire)? {
            Step::End { skip } => {
                conn.buf.advance(skip);
                return Ok(Extent::Whole);
            }
            Step::Data { skip, len } => {
                conn.buf.advance(skip);
                let keep = len.min(limit - body.len());
                // The usual reply has come whole with its head: it is not copied.
                if body.is_empty() {
                    *body = conn.buf.split_to(len);
                    body.truncate(keep);
                } else {
                    body.extend_from_slice(&conn.buf[..keep]);
                    conn.buf.advance(len);
                }
                if keep < len {
                    return Ok(Extent::Cut);
                }
            }
            Step::More { skip } => {
                conn.buf.advance(skip);
                let ahead = usize::try_from(decoder.data_ahead())
                    .unwrap_or(usize::MAX)
                    .min(limit - body.len());
                if ahead >= DIRECT_FROM {
                    let count =
                        poll_fn(|cx| poll_direct(conn, body, ahead.min(DIRECT_STEP), idle, cx))
                            .await?;
                    decoder.skip_data(count);
                    continue;
                }
                match poll_fn(|cx| poll_more(conn, idle, cx)).await {
                    Err(Failure::Closed) if decoder.ends_at_close() => return Ok(Extent::Whole),
                    result => result?,
                }
            }
        }
    }
}
