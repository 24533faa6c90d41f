//! Owns the bytes of one connection: passes them through, or cuts, holds, slows and swallows them as the server armed it
//! for the answer under way. Knows HTTP only as far as the blank line that ends a head.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;

/// Any stream a connection can run on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What happens to the bytes of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Mode {
    #[default]
    Pass,
    /// Nothing goes out: hyper ends an exchange that goes on (or ends) outside HTTP.
    Swallow,
    /// The connection breaks after this many bytes past the head.
    Cut(u64),
    /// Nothing more goes out after this many bytes past the head; with `None` not even the head.
    Stall(Option<u64>),
    /// Only `bytes` go out per `every`.
    Dribble { bytes: usize, every: Duration },
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// How much of the blank line (CR LF CR LF) has gone out; 4 once the head is through.
    head: usize,
    body: u64,
    /// The client's end of stream is kept from hyper: it would take it for a broken exchange, while for a stream
    /// session it is the ordinary end of stdin.
    hold_eof: bool,
    held: Option<Waker>,
}

/// The server's hold on a connection's bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<State>>);

impl Wire {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new exchange begins: nothing armed.
    pub(crate) fn begin(&self, hold_eof: bool) {
        *self.state() = State {
            hold_eof,
            ..State::default()
        };
    }

    /// What happens to the bytes from here on, the next being the first of a head.
    pub(crate) fn arm(&self, mode: Mode) {
        let mut state = self.state();
        (state.mode, state.head, state.body) = (mode, 0, 0);
    }

    /// Lets the client's end of stream through again.
    pub(crate) fn release_eof(&self) {
        let mut state = self.state();
        state.hold_eof = false;
        if let Some(waker) = state.held.take() {
            waker.wake();
        }
    }
}

impl State {
    /// How many of `bytes` may go out with `allowed` bytes of body in all.
    fn admit(&self, bytes: &[u8], allowed: u64) -> usize {
        let mut head = self.head;
        let mut at = 0;
        while head < 4 && at < bytes.len() {
            head = advance_head(head, bytes[at]);
            at += 1;
        }
        let left = usize::try_from(allowed.saturating_sub(self.body)).unwrap_or(usize::MAX);
        at + left.min(bytes.len() - at)
    }

    fn sent(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.head < 4 {
                self.head = advance_head(self.head, *byte);
            } else {
                self.body += 1;
            }
        }
    }
}

fn advance_head(matched: usize, byte: u8) -> usize {
    match (matched, byte) {
        (0 | 2, b'\r') => matched + 1,
        (1 | 3, b'\n') => matched + 1,
        (_, b'\r') => 1,
        _ => 0,
    }
}

/// A connection whose bytes obey a [`Wire`].
pub(crate) struct WireIo {
    stream: Box<dyn Stream>,
    wire: Wire,
    clock: Clock,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl WireIo {
    pub(crate) fn new(stream: Box<dyn Stream>, wire: Wire, clock: Clock) -> Self {
        Self {
            stream,
            wire,
            clock,
            pause: None,
        }
    }

    fn limited(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        mode: Mode,
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let admitted = match mode {
            Mode::Pass => bytes.len(),
            Mode::Swallow => return Poll::Ready(Ok(bytes.len())),
            Mode::Cut(after) => match self.wire.state().admit(bytes, after) {
                0 => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                admitted => admitted,
            },
            // Nobody wakes this write: the client ends the connection, and the read side notices.
            Mode::Stall(None) => return Poll::Pending,
            Mode::Stall(Some(after)) => match self.wire.state().admit(bytes, after) {
                0 => return Poll::Pending,
                admitted => admitted,
            },
            Mode::Dribble { bytes: step, every } => {
                if let Some(pause) = &mut self.pause {
                    std::task::ready!(pause.as_mut().poll(cx));
                }
                let clock = self.clock.clone();
                self.pause = Some(Box::pin(async move { clock.sleep(every).await }));
                step.clamp(1, bytes.len())
            }
        };
        let written =
            std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..admitted]))?;
        self.wire.state().sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for WireIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let mut state = self.wire.state();
        if buf.filled().len() == before && state.hold_eof {
            // The session that takes over reads the end of stream again.
            state.held = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WireIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mode = self.wire.state().mode;
        if mode == Mode::Pass {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.limited(cx, bytes, mode)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mode = self.wire.state().mode;
        if mode == Mode::Pass {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs
            .iter()
            .find(|buf| !buf.is_empty())
            .map_or(&[][..], |buf| buf);
        self.limited(cx, first, mode)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
