//! Bodies that are read as they come: bytes, frames, lines, JSON values, and both directions of an upgraded connection.
//!
//! Nothing here runs by itself: bytes are taken from the socket only when the caller asks for the next item, so a slow caller slows the
//! engine's writer and costs no memory. Dropping a stream closes its connection at once. A stream that the engine cuts off ends with an
//! error, not with `None`. After an error or the end, every further call gives `None`.

use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, WriteHalf};

use super::exchange::{Failure, poll_more};
use super::idle::{Idle, OtherDirection};
use super::metrics::{Metrics, OpenStream};
use crate::error::{Error, ErrorKind, Phase};
use crate::request::Operation;
use crate::transport::{Conn, Io};
use crate::wire::body::{self, Decoder};
use crate::wire::frame::{self, Source};
use crate::wire::head::Headers;
use crate::wire::json::Splitter;
use crate::wire::line::{Joiner, Line};

/// What a stream has to know to put its errors into words.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) operation: Operation,
    pub(crate) subject: Option<Arc<str>>,
    pub(crate) endpoint: Arc<str>,
    pub(crate) metrics: Metrics,
}

impl Origin {
    fn error(&self, kind: ErrorKind) -> Error {
        let error =
            Error::new(self.operation, kind).located(self.subject.as_deref(), &self.endpoint);
        self.metrics.stream_failed(&error);
        error
    }

    fn malformed(&self, what: impl Into<String>) -> Error {
        self.error(ErrorKind::Malformed { what: what.into() })
    }
}

/// The body of one reply, as bytes.
pub struct ByteStream {
    /// `None` once the stream has ended.
    conn: Option<Conn>,
    decoder: Decoder,
    idle: Idle,
    headers: Headers,
    origin: Origin,
    _open: OpenStream,
}

impl std::fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteStream")
            .field("operation", &self.origin.operation)
            .field("open", &self.conn.is_some())
            .finish_non_exhaustive()
    }
}

impl ByteStream {
    pub(crate) fn new(
        conn: Conn,
        decoder: Decoder,
        idle: Idle,
        headers: Headers,
        origin: Origin,
    ) -> Self {
        let open = origin.metrics.stream_opened();
        Self {
            conn: Some(conn),
            decoder,
            idle,
            headers,
            origin,
            _open: open,
        }
    }

    /// The header fields of the reply.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The next piece, as large as one read gave. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match ready!(self.poll_data(cx)) {
            Some(Ok(len)) => {
                let conn = self.conn.as_mut();
                Poll::Ready(conn.map(|conn| Ok(conn.buf.split_to(len).freeze())))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => Poll::Ready(None),
        }
    }

    /// The length of the next data at the front of the connection's buffer. The caller takes it from there before it asks again.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<usize, Error>>> {
        loop {
            let Some(conn) = &mut self.conn else {
                return Poll::Ready(None);
            };
            match self.decoder.step(&conn.buf) {
                Ok(body::Step::Data { skip, len }) => {
                    conn.buf.advance(skip);
                    return Poll::Ready(Some(Ok(len)));
                }
                Ok(body::Step::End { .. }) => {
                    self.conn = None;
                    return Poll::Ready(None);
                }
                Ok(body::Step::More { skip }) => {
                    conn.buf.advance(skip);
                    match ready!(poll_more(conn, &mut self.idle, cx)) {
                        Ok(()) => {}
                        Err(Failure::Closed) if self.decoder.ends_at_close() => {
                            self.conn = None;
                            return Poll::Ready(None);
                        }
                        Err(failure) => {
                            let failure = match failure {
                                Failure::Closed => ErrorKind::NoAnswer {
                                    phase: Phase::Body,
                                    sent: true,
                                    cause: "the stream was cut before its end".to_owned(),
                                },
                                other => other.into_kind(Phase::Body, true),
                            };
                            return Poll::Ready(Some(Err(self.fail(failure))));
                        }
                    }
                }
                Err(error) => {
                    return Poll::Ready(Some(Err(self.fail(ErrorKind::Malformed {
                        what: error.to_string(),
                    }))));
                }
            }
        }
    }

    /// A frame that is all of the next chunk, if that has been read whole. Every other case is left to [`poll_data`](Self::poll_data).
    fn take_frame(&mut self) -> Option<Frame> {
        let conn = self.conn.as_mut()?;
        let chunk = self.decoder.whole_chunk(&conn.buf)?;
        let source = frame::whole(&conn.buf[chunk.clone()])?;
        self.decoder.skip_chunk();
        conn.buf.advance(chunk.start + 8);
        let bytes = conn.buf.split_to(chunk.len() - 8).freeze();
        Some(Frame { source, bytes })
    }

    fn fail(&mut self, kind: ErrorKind) -> Error {
        self.conn = None;
        self.origin.error(kind)
    }

    /// Reads the stream as JSON values of type `T`.
    pub fn json<T: DeserializeOwned>(self) -> JsonStream<T> {
        JsonStream {
            bytes: self,
            held: bytes::BytesMut::new(),
            splitter: Splitter::default(),
            ended: false,
            failed: false,
            item: PhantomData,
        }
    }

    /// Reads the stream as the output of a process.
    pub fn frames(self, framing: Framing) -> FrameStream {
        let decoder = match framing {
            Framing::Raw => None,
            Framing::Multiplexed => Some(frame::Decoder::default()),
        };
        FrameStream {
            bytes: self,
            decoder,
            data: 0,
        }
    }
}

impl Stream for ByteStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_piece(cx)
    }
}

/// How standard output and standard error share a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Not at all: everything is one stream (the process has a terminal).
    Raw,
    /// In frames that name their source.
    Multiplexed,
}

impl Framing {
    /// The framing that a Content-Type states (API 1.42 and later; exec and attach only when the connection is upgraded). `None` for any
    /// other type: then only inspect can tell.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match media {
            "application/vnd.docker.multiplexed-stream" => Some(Self::Multiplexed),
            _ => None,
        }
    }

    /// The framing of a process with or without a terminal.
    pub fn of_tty(tty: bool) -> Self {
        if tty { Self::Raw } else { Self::Multiplexed }
    }
}

/// A piece of a process's output. A frame of the engine may come in several pieces; none is held back to complete it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which stream of the process it was written to.
    pub source: Source,
    /// What was written; a slice of what was read from the socket.
    pub bytes: Bytes,
}

/// The output of a process.
#[derive(Debug)]
pub struct FrameStream {
    bytes: ByteStream,
    /// `None` for raw framing.
    decoder: Option<frame::Decoder>,
    /// How many bytes at the front of the connection's buffer are data.
    data: usize,
}

impl FrameStream {
    /// The next piece of output. An error from the engine about its own reading of the output (a frame of type 3) is an error item, after
    /// which the stream may go on. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Frame, Error>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Joins the output into lines of at most `max` bytes each.
    pub fn lines(self, max: usize) -> LineStream {
        LineStream {
            frames: self,
            joiner: Joiner::new(max),
            pending: None,
            ended: None,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let Some(decoder) = &mut self.decoder else {
            let piece = ready!(self.bytes.poll_piece(cx));
            return Poll::Ready(piece.map(|result| {
                result.map(|bytes| Frame {
                    source: Source::Stdout,
                    bytes,
                })
            }));
        };
        // The usual chunk of a log is one frame.
        if self.data == 0
            && decoder.may_end()
            && let Some(frame) = self.bytes.take_frame()
        {
            return Poll::Ready(Some(Ok(frame)));
        }
        loop {
            if self.data == 0 {
                match ready!(self.bytes.poll_data(cx)) {
                    Some(Ok(len)) => self.data = len,
                    Some(Err(error)) => {
                        *decoder = frame::Decoder::default();
                        return Poll::Ready(Some(Err(error)));
                    }
                    None if decoder.may_end() => return Poll::Ready(None),
                    None => {
                        *decoder = frame::Decoder::default();
                        return Poll::Ready(Some(Err(self
                            .bytes
                            .origin
                            .malformed("the stream ends within a frame"))));
                    }
                }
            }
            let Some(conn) = &mut self.bytes.conn else {
                return Poll::Ready(None);
            };
            match decoder.step(&conn.buf[..self.data]) {
                Ok(frame::Step::Payload { skip, len, source }) => {
                    conn.buf.advance(skip);
                    self.data -= skip + len;
                    return Poll::Ready(Some(Ok(Frame {
                        source,
                        bytes: conn.buf.split_to(len).freeze(),
                    })));
                }
                Ok(frame::Step::Failure { skip, message }) => {
                    conn.buf.advance(skip);
                    self.data -= skip;
                    return Poll::Ready(Some(Err(self.bytes.origin.error(ErrorKind::Refused {
                        status: 200,
                        message,
                    }))));
                }
                Ok(frame::Step::More { skip }) => {
                    conn.buf.advance(skip);
                    self.data -= skip;
                }
                Err(error) => {
                    (*decoder, self.data) = (frame::Decoder::default(), 0);
                    return Poll::Ready(Some(Err(self.bytes.fail(ErrorKind::Malformed {
                        what: error.to_string(),
                    }))));
                }
            }
        }
    }
}

impl Stream for FrameStream {
    type Item = Result<Frame, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_frame(cx)
    }
}

/// The output of a process, in lines.
#[derive(Debug)]
pub struct LineStream {
    frames: FrameStream,
    joiner: Joiner,
    pending: Option<Frame>,
    /// How the output ended, held back until the last partial lines are out.
    ended: Option<Option<Error>>,
}

impl LineStream {
    /// The next line. When the output ends without a newline, what there is comes as a partial line before the end (or the error).
    /// Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<Line, Error>> {
        poll_fn(|cx| self.poll_line(cx)).await
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Line, Error>>> {
        loop {
            if let Some(end) = &mut self.ended {
                return Poll::Ready(match self.joiner.finish() {
                    Some(line) => Some(Ok(line)),
                    None => end.take().map(Err),
                });
            }
            if let Some(frame) = &mut self.pending {
                if let Some(line) = self.joiner.next(frame.source, &mut frame.bytes) {
                    return Poll::Ready(Some(Ok(line)));
                }
                self.pending = None;
            }
            match ready!(self.frames.poll_frame(cx)) {
                Some(Ok(frame)) => self.pending = Some(frame),
                Some(Err(error)) if error.is_refused() => return Poll::Ready(Some(Err(error))),
                Some(Err(error)) => self.ended = Some(Some(error)),
                None => self.ended = Some(None),
            }
        }
    }
}

impl Stream for LineStream {
    type Item = Result<Line, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_line(cx)
    }
}

/// A stream of JSON values.
pub struct JsonStream<T> {
    bytes: ByteStream,
    held: bytes::BytesMut,
    splitter: Splitter,
    ended: bool,
    /// Whether it ended with an error.
    failed: bool,
    item: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for JsonStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonStream")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> JsonStream<T> {
    /// The next value. A value that is not a `T` is an error item, and the stream goes on behind it; a stream that is cut or is not JSON at
    /// all ends with an error. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<T, Error>> {
        poll_fn(|cx| self.poll_value(cx)).await
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        loop {
            let piece = if self.ended {
                self.splitter.finish(&self.held)
            } else {
                self.splitter.next(&self.held)
            };
            match piece {
                Ok(Some(piece)) => {
                    self.held.advance(piece.skip);
                    let value = self.held.split_to(piece.len);
                    let origin = &self.bytes.origin;
                    return Poll::Ready(Some(serde_json::from_slice(&value).map_err(|error| {
                        origin.malformed(format!(
                            "an item of the stream is not what was expected: {error}"
                        ))
                    })));
                }
                Ok(None) if self.ended => return Poll::Ready(None),
                // Nothing but separators: they may go on for ever, to keep the connection alive.
                Ok(None) if !self.splitter.has_begun() => self.held.clear(),
                Ok(None) => {}
                Err(error) => {
                    self.held.clear();
                    (self.ended, self.failed) = (true, true);
                    return Poll::Ready(Some(Err(self.bytes.fail(ErrorKind::Malformed {
                        what: error.to_string(),
                    }))));
                }
            }
            match ready!(self.bytes.poll_data(cx)) {
                Some(Ok(len)) => {
                    let Some(conn) = &mut self.bytes.conn else {
                        continue;
                    };
                    self.held.extend_from_slice(&conn.buf[..len]);
                    conn.buf.advance(len);
                }
                Some(Err(error)) => {
                    self.held.clear();
                    (self.ended, self.failed) = (true, true);
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.ended = true,
            }
        }
    }
}

impl<T> JsonStream<T> {
    pub(crate) fn origin(&self) -> &Origin {
        self.bytes.origin()
    }

    /// Whether the last error was the end of the stream rather than an item of it.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }
}

impl<T: DeserializeOwned> Stream for JsonStream<T> {
    type Item = Result<T, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_value(cx)
    }
}

/// A connection that has left HTTP: what we write is the process's input, what we read its output.
#[derive(Debug)]
pub struct Upgraded(ByteStream);

impl Upgraded {
    pub(crate) fn new(stream: ByteStream) -> Self {
        Self(stream)
    }

    /// The header fields of the reply that upgraded the connection.
    pub fn headers(&self) -> &Headers {
        self.0.headers()
    }

    /// Separates the directions. The connection is closed once both parts are dropped.
    pub fn into_parts(mut self, framing: Framing) -> (FrameStream, UpgradedWriter) {
        let origin = self.0.origin.clone();
        let mut writer = None;
        if let Some(conn) = self.0.conn.take() {
            let (read, write) = tokio::io::split(Box::new(conn.io));
            let mut half = Conn::new(Io::Half(read));
            half.buf = conn.buf;
            self.0.conn = Some(half);
            writer = Some(write);
        }
        let idle = self.0.idle.share();
        (
            self.0.frames(framing),
            UpgradedWriter {
                io: writer,
                idle,
                origin,
            },
        )
    }
}

/// The input of a process.
pub struct UpgradedWriter {
    io: Option<WriteHalf<Box<Io>>>,
    /// What we write counts against the reader's limit on silence.
    idle: Option<OtherDirection>,
    origin: Origin,
}

impl std::fmt::Debug for UpgradedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpgradedWriter")
            .field("operation", &self.origin.operation)
            .finish_non_exhaustive()
    }
}

impl UpgradedWriter {
    /// Writes all of `bytes`; waits while the process does not read.
    ///
    /// Not cancel safe: a dropped call may have written a part.
    ///
    /// # Errors
    /// When the connection is gone or its writing side has been shut down.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(bytes).await.map_err(|error| self.lost(&error))
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(io) = &mut self.io else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        while !bytes.is_empty() {
            match io.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
            if let Some(idle) = &self.idle {
                idle.moved();
            }
        }
        io.flush().await
    }

    /// Ends the input: the process reads end-of-file, and its output goes on (half-close). Cancel safe: calling it again goes on.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        let result = match &mut self.io {
            Some(io) => io.shutdown().await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        result.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &io::Error) -> Error {
        self.origin.error(ErrorKind::NoAnswer {
            phase: Phase::Body,
            sent: true,
            cause: error.to_string(),
        })
    }
}
