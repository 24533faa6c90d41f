//! What a session is to the one who runs it: streams to read and write, an outcome to give. The same for every protocol.
//!
//! Refuses to know what is run: a container's process, another program, a test.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::PollSender;

/// The most bytes in one message or frame to a client: the buffer of client-go's readers.
pub(crate) const MAX_CHUNK: usize = crate::spdy::frame::MAX_CHUNK;

/// Chunks of output on the way to a client that reads too slowly: 256 KiB at most.
const OUTPUT_CHUNKS: usize = 8;

/// Bytes of input on the way to a process that reads too slowly. Until it is full, what comes behind the input (a ping, a new size) is
/// still seen.
pub(crate) const INPUT_BUFFER: usize = 256 * 1024;

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Run = Box<dyn FnOnce(Streams) -> BoxFuture<Outcome> + Send>;
pub(crate) type Connect = Arc<dyn Fn(u16) -> BoxFuture<io::Result<Box<dyn Duplex>>> + Send + Sync>;

/// What a forwarded port is connected to: read and written by halves, each of which can end before the other.
///
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown) has to end only the writing half, as that of a socket does.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A session before anybody has come for it: what is asked for and how it is run.
pub struct Session(pub(crate) Kind);

pub(crate) enum Kind {
    Process {
        verb: Verb,
        wanted: Wanted,
        run: Run,
    },
    PortForward {
        ports: Vec<u16>,
        connect: Connect,
    },
}

/// What a client asked for with a process. It also names the error if it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Exec,
    Attach,
}

impl Session {
    /// A session that runs a process. `run` is called once, when the client's streams are all there; what it returns is told to the
    /// client after all output.
    ///
    /// # Cancel safety
    /// The future of `run` is **dropped** as soon as the client is gone, or says that it leaves. A client of a WebSocket protocol before
    /// v5 has no other way to end its input than to leave: then the future goes on for at most ten seconds, with the end of the input to
    /// be read and its output thrown away. Work that has to go on after the client belongs to another task.
    pub fn exec<F, R>(wanted: Wanted, run: F) -> Session
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Session::process(Verb::Exec, wanted, run)
    }

    /// A session that joins a process that is there. As [`exec`](Session::exec); a failure is told in other words.
    pub fn attach<F, R>(wanted: Wanted, run: F) -> Session
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Session::process(Verb::Attach, wanted, run)
    }

    fn process<F, R>(verb: Verb, wanted: Wanted, run: F) -> Session
    where
        F: FnOnce(Streams) -> R + Send + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Session(Kind::Process {
            verb,
            wanted,
            run: Box::new(|streams| Box::pin(run(streams))),
        })
    }

    /// A session that forwards connections. `connect` is called for each connection that a client makes, with the port it is for; its
    /// error is told to the client, after "error forwarding port … to pod: ".
    ///
    /// `ports` matter only to the old WebSocket protocol, in which a client names its ports in the request; if there are none, they are
    /// taken from the request's `port` parameters. They do not limit the other protocols.
    ///
    /// # Cancel safety
    /// The future of `connect`, and what it returned, are dropped when the client is gone or gives up the one connection.
    pub fn port_forward<F, C>(ports: Vec<u16>, connect: F) -> Session
    where
        F: Fn(u16) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<Box<dyn Duplex>>> + Send + 'static,
    {
        Session(Kind::PortForward {
            ports,
            connect: Arc::new(move |port| Box::pin(connect(port))),
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Process { verb, wanted, .. } => f
                .debug_struct("Session")
                .field("verb", verb)
                .field("wanted", wanted)
                .finish_non_exhaustive(),
            Kind::PortForward { ports, .. } => f
                .debug_struct("Session")
                .field("ports", ports)
                .finish_non_exhaustive(),
        }
    }
}

/// Which streams a client is to bring. At least one of the first three is needed.
///
/// A terminal has no standard error of its own. What to do with a request for both is up to the caller, since the two servers that
/// clients know differ: a CRI runtime refuses it, a kubelet sets `stderr` to false. Here it is taken as it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal, whose size the client may change.
    pub tty: bool,
}

impl Wanted {
    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// The size of a terminal, in characters. Neither is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All went well. For exec, the same as an exit code of 0.
    Success,
    /// The process ended with this code; 128 + n if signal n ended it.
    Exited(u8),
    /// Something else went wrong: what, for people.
    Failed(String),
}

/// The client's streams: those that were [wanted](Wanted).
#[derive(Debug)]
pub struct Streams {
    /// What the client sends to the process.
    pub stdin: Option<Stdin>,
    /// Where the process's standard output goes.
    pub stdout: Option<Output>,
    /// Where the process's standard error goes.
    pub stderr: Option<Output>,
    /// The terminal's sizes, if there is a terminal.
    pub resizes: Option<Resizes>,
}

/// What the client sends. Ends when the client closes its half.
///
/// Dropping it is fine: what the client sends then is thrown away. Not reading it holds the whole connection up once 256 KiB wait, as
/// neither protocol has flow control for each stream.
#[derive(Debug)]
pub struct Stdin {
    pipe: DuplexStream,
    whole: Arc<AtomicBool>,
}

impl AsyncRead for Stdin {
    /// # Errors
    /// `UnexpectedEof` at an end that the client did not mean: it is gone. A task of the session's own never sees that, since it is
    /// dropped.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let end = buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(if end && !self.whole.load(Ordering::Acquire) {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the client is gone and did not end its input",
            ))
        } else {
            Ok(())
        })
    }
}

/// The session's end of [`Stdin`].
#[derive(Debug)]
pub(crate) struct StdinWriter {
    pub(crate) pipe: DuplexStream,
    whole: Arc<AtomicBool>,
}

impl StdinWriter {
    /// Ends the input as the client meant it.
    pub(crate) fn finish(self) {
        self.whole.store(true, Ordering::Release);
    }
}

/// Which output a chunk belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

/// Where output goes. Standard output and standard error share one queue, so the client gets them in the order in which they were
/// written; when it reads too slowly, at most 256 KiB wait and writing does too.
///
/// The stream ends for the client when the session's future does, not when this is dropped or shut down.
#[derive(Debug)]
pub struct Output {
    channel: Channel,
    queue: PollSender<(Channel, Bytes)>,
}

impl Output {
    /// Sends bytes, waiting for room.
    ///
    /// # Errors
    /// `BrokenPipe` when the session is over.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a part of `bytes` sent: pieces of 32 KiB from the front.
    pub async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            std::future::poll_fn(|cx| self.poll_room(cx)).await?;
            let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK));
            self.put(chunk)?;
        }
        Ok(())
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue.poll_reserve(cx).map_err(|_| closed())
    }

    fn put(&mut self, chunk: Bytes) -> io::Result<()> {
        let chunk = (self.channel, chunk);
        self.queue.send_item(chunk).map_err(|_| closed())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the session is over")
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_room(cx))?;
        let length = buf.len().min(MAX_CHUNK);
        self.put(Bytes::copy_from_slice(&buf[..length]))?;
        Poll::Ready(Ok(length))
    }

    /// Nothing to wait for: what was written is sent on without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the stream ends with the session.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The sizes of the client's terminal. Only the latest is kept.
#[derive(Debug)]
pub struct Resizes(watch::Receiver<Option<TerminalSize>>);

impl Resizes {
    /// Waits for a size that has not been returned yet. `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        self.0.changed().await.ok()?;
        *self.0.borrow_and_update()
    }
}

/// The session's ends of [`Streams`].
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<StdinWriter>,
    pub(crate) output: mpsc::Receiver<(Channel, Bytes)>,
    pub(crate) resizes: Option<watch::Sender<Option<TerminalSize>>>,
}

/// The streams that are wanted, and the session's ends of them.
pub(crate) fn streams(wanted: Wanted) -> (Streams, Ends) {
    let (reader, writer) = if wanted.stdin {
        let (reader, writer) = tokio::io::duplex(INPUT_BUFFER);
        let whole = Arc::new(AtomicBool::new(false));
        (
            Some(Stdin {
                pipe: reader,
                whole: whole.clone(),
            }),
            Some(StdinWriter {
                pipe: writer,
                whole,
            }),
        )
    } else {
        (None, None)
    };
    let (sender, output) = mpsc::channel(OUTPUT_CHUNKS);
    let channel = |wanted: bool, channel| {
        wanted.then(|| Output {
            channel,
            queue: PollSender::new(sender.clone()),
        })
    };
    let (resize_sender, resizes) = if wanted.tty {
        let (sender, receiver) = watch::channel(None);
        (Some(sender), Some(Resizes(receiver)))
    } else {
        (None, None)
    };
    let streams = Streams {
        stdin: reader,
        stdout: channel(wanted.stdout, Channel::Stdout),
        stderr: channel(wanted.stderr, Channel::Stderr),
        resizes,
    };
    let ends = Ends {
        stdin: writer,
        output,
        resizes: resize_sender,
    };
    (streams, ends)
}
