//! A connection that was upgraded, with what has been read from it and what is to be written to it.
//!
//! Refuses to know what the bytes mean. It knows how long nothing may happen.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::ProtocolError;
use crate::session::Duplex;

/// Bytes read at a time.
const READ: usize = 16 * 1024;

/// While this many bytes wait to be written, no more output is taken from the process.
pub(crate) const OUTPUT_FULL: usize = 64 * 1024;

/// While this many bytes wait to be written, nothing is read either: a client that asks and never listens would fill the memory with
/// answers.
const ANSWERS_FULL: usize = 256 * 1024;

/// How long the other end may take to close a connection that we have closed.
const DRAIN: Duration = Duration::from_secs(1);

/// Why a session ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection to the client failed")]
    Failed(#[source] io::Error),
    #[error("the client broke the protocol")]
    Protocol(#[from] ProtocolError),
    #[error("nothing came or went for {0:?}")]
    Idle(Duration),
    #[error("the client's streams were not all there after {0:?}")]
    Streams(Duration),
    #[error("the server is shutting down")]
    Stopped,
}

pub(crate) struct Link {
    io: Box<dyn Duplex>,
    /// Read and not used yet.
    pub(crate) input: BytesMut,
    /// To be written.
    pub(crate) output: BytesMut,
    unflushed: bool,
    idle: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Link {
    /// A connection on which something has to happen every `idle`.
    pub(crate) fn new(io: Box<dyn Duplex>, idle: Duration) -> Link {
        let last = Instant::now();
        Link {
            io,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            idle,
            last,
            timer: Box::pin(sleep_until(later(last, idle))),
        }
    }

    /// Whether so many answers wait that no more questions should be looked at.
    pub(crate) fn is_clogged(&self) -> bool {
        self.output.len() >= ANSWERS_FULL
    }

    /// Whether everything has been written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// Writes what can be written and, if `read`, reads what can be read; returns after any progress. Never returns if there is nothing
    /// to do.
    ///
    /// # Errors
    /// When the other end is gone, or the connection was idle for too long.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(crate) async fn turn(&mut self, read: bool) -> Result<(), Lost> {
        poll_fn(|cx| self.poll_turn(cx, read)).await
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<(), Lost>> {
        let mut progress = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.io).poll_write(cx, &self.output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Failed(error))),
                Poll::Pending => break,
            }
        }
        if self.output.is_empty() && self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Failed(error))),
                Poll::Pending => {}
            }
        }
        if read {
            self.input.reserve(READ);
            match pin!(self.io.read_buf(&mut self.input)).poll(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Failed(error))),
                Poll::Pending => {}
            }
        }
        if progress {
            self.last = Instant::now();
            return Poll::Ready(Ok(()));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let until = later(self.last, self.idle);
            if until <= Instant::now() {
                return Poll::Ready(Err(Lost::Idle(self.idle)));
            }
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// Ends the connection so that what was written arrives: closes the writing half, then takes what still comes. A socket that is
    /// closed with unread bytes sends a reset, which can destroy what the other end has not read yet. Takes two seconds at most.
    pub(crate) async fn close(mut self) {
        let flush = async {
            self.io.write_all(&self.output).await?;
            self.io.shutdown().await
        };
        if !matches!(timeout(DRAIN, flush).await, Ok(Ok(()))) {
            return;
        }
        let drain = async {
            while matches!(self.io.read_buf(&mut self.input).await, Ok(read) if read > 0) {
                self.input.clear();
            }
        };
        // Out of time, or the other end has closed: either way the connection has been of all the use it can be.
        let _ = timeout(DRAIN, drain).await;
    }
}

/// `at + after`, or in about a century where that is beyond what the clock can tell.
pub(crate) fn later(at: Instant, after: Duration) -> Instant {
    at.checked_add(after)
        .unwrap_or_else(|| at + Duration::from_secs(100 * 365 * 86_400))
}
