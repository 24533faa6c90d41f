//! Byte streams to an engine: unix socket, TCP, TLS, in-memory. It knows no HTTP.
//!
//! A [`Conn`] is a stream and the bytes read from it but not used yet. Dropping it closes the stream; there is no task behind it.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, ReadHalf};
use tokio::net::{TcpStream, UnixStream};

use crate::endpoint::Endpoint;
use crate::error::ConnectReason;

#[cfg(feature = "tls")]
pub(crate) mod tls;

/// The first read of a connection asks for this much; a read that fills its room doubles the next, up to [`READ_MAX`].
const READ_MIN: usize = 8 * 1024;

/// The most one read asks for. Past 64 KiB a unix socket gives no more per call.
const READ_MAX: usize = 64 * 1024;

/// How long a connect that found the listener's backlog full (`EAGAIN` on a unix socket) waits before it tries again, at first.
const BACKLOG_PAUSE: Duration = Duration::from_millis(2);

/// Gives a fresh in-memory connection to an engine, as `FakeEngine::connect` does.
pub type Dialer = Arc<dyn Fn() -> io::Result<DuplexStream> + Send + Sync>;

/// A stream to an engine.
pub(crate) enum Io {
    Unix(UnixStream),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    Memory(DuplexStream),
    /// The reading half of an upgraded connection.
    Half(ReadHalf<Box<Io>>),
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(crate) struct ConnectError {
    pub(crate) reason: ConnectReason,
    pub(crate) cause: String,
}

impl ConnectError {
    fn new(reason: ConnectReason, cause: impl ToString) -> Self {
        Self {
            reason,
            cause: cause.to_string(),
        }
    }

    fn from_io(error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => ConnectReason::NoSuchSocket,
            io::ErrorKind::PermissionDenied => ConnectReason::NoPermission,
            io::ErrorKind::ConnectionRefused => ConnectReason::NotRunning,
            _ => ConnectReason::Other,
        };
        Self::new(reason, error)
    }
}

/// Where to connect and how.
pub(crate) struct Connector {
    pub(crate) endpoint: Endpoint,
    pub(crate) dialer: Option<Dialer>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::Connector>,
}

impl Connector {
    /// Makes one connection. The caller limits the time. Cancel safe: a dropped attempt leaves no socket.
    pub(crate) async fn connect(&self) -> Result<Conn, ConnectError> {
        if let Some(dialer) = &self.dialer {
            return dialer()
                .map(|stream| Conn::new(Io::Memory(stream)))
                .map_err(|error| ConnectError::from_io(&error));
        }
        let io = match &self.endpoint {
            Endpoint::Unix { path } => {
                let mut pause = BACKLOG_PAUSE;
                loop {
                    match UnixStream::connect(path).await {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(Duration::from_millis(100));
                        }
                        Err(error) => return Err(ConnectError::from_io(&error)),
                        Ok(stream) => break Io::Unix(stream),
                    }
                }
            }
            Endpoint::Tcp { host, port, .. } => Io::Tcp(tcp(host, *port).await?),
            #[cfg(feature = "tls")]
            Endpoint::Tls { host, port, .. } => {
                let Some(tls) = &self.tls else {
                    return Err(ConnectError::new(
                        ConnectReason::Tls,
                        "no TLS settings were given for an https endpoint",
                    ));
                };
                let stream = tls.connect(host, tcp(host, *port).await?).await;
                Io::Tls(Box::new(stream.map_err(|error| {
                    ConnectError::new(ConnectReason::Tls, error)
                })?))
            }
            #[cfg(not(feature = "tls"))]
            Endpoint::Tls { .. } => {
                return Err(ConnectError::new(
                    ConnectReason::Unsupported,
                    "this build has no TLS (feature \"tls\" of berth-docker)",
                ));
            }
            Endpoint::Npipe { .. } => {
                return Err(ConnectError::new(
                    ConnectReason::Unsupported,
                    format!("{} has no named pipes", std::env::consts::OS),
                ));
            }
            Endpoint::Fake { .. } => {
                return Err(ConnectError::new(
                    ConnectReason::Unsupported,
                    "a fake:// endpoint needs the dialer of a fake engine",
                ));
            }
        };
        Ok(Conn::new(io))
    }
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(ConnectError::new(
                ConnectReason::UnknownHost,
                format!("{host}: {error}"),
            ));
        }
    };
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| ConnectError::from_io(&error))?;
    // Requests are written in one piece; waiting for more only adds latency.
    stream
        .set_nodelay(true)
        .map_err(|error| ConnectError::from_io(&error))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(15));
    // NAT and proxies forget idle connections; a follow may be silent for hours.
    socket2::SockRef::from(&stream)
        .set_tcp_keepalive(&keepalive)
        .map_err(|error| ConnectError::from_io(&error))?;
    Ok(stream)
}

/// A stream and what has been read from it but not used.
pub(crate) struct Conn {
    pub(crate) io: Io,
    pub(crate) buf: BytesMut,
    read_size: usize,
}

impl Conn {
    pub(crate) fn new(io: Io) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            read_size: READ_MIN,
        }
    }

    /// Reads more bytes behind those in the buffer; `Ok(0)` is the end of the stream. While nothing comes, an empty buffer is given back, so
    /// that an idle stream costs a socket and no memory.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = self.poll_read(cx);
        if read.is_pending() && self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
        let count = ready!(read)?;
        if self.buf.capacity() == self.buf.len() {
            self.read_size = (self.read_size * 2).min(READ_MAX);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Before a buffer is made.
        ready!(self.io.poll_readable(cx))?;
        pin!(self.io.read_buf(room(&mut self.buf, self.read_size))).poll(cx)
    }

    /// Reads at most `limit` bytes to the end of `into`, past the buffer, which has to be empty; `Ok(0)` is the end of the stream.
    pub(crate) fn poll_read_into(
        &mut self,
        into: &mut BytesMut,
        limit: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        into.reserve(limit);
        pin!(self.io.read_buf(&mut into.limit(limit))).poll(cx)
    }

    /// Gives the empty buffer back.
    pub(crate) fn release(&mut self) {
        self.buf = BytesMut::new();
        self.read_size = READ_MIN;
    }

    /// Whether nothing has come on this connection that should be idle: no bytes, no end, no error. What came a moment ago may not have been
    /// noticed yet by the runtime; `ask` asks the system as well, which costs a system call.
    pub(crate) fn is_quiet(&mut self, ask: bool, cx: &mut Context<'_>) -> bool {
        // One byte is enough to know; a connection that has it is not used any more.
        let mut byte = [0];
        self.buf.is_empty()
            && Pin::new(&mut self.io)
                .poll_read(cx, &mut ReadBuf::new(&mut byte))
                .is_pending()
            && !(ask && self.has_news())
    }

    /// Whether the system has bytes, an end or an error for us. Only for plain sockets; what TLS has to say is not all meant for us.
    fn has_news(&self) -> bool {
        let socket = match &self.io {
            Io::Unix(stream) => socket2::SockRef::from(stream),
            Io::Tcp(stream) => socket2::SockRef::from(stream),
            _ => return false,
        };
        !matches!(socket.peek(&mut [MaybeUninit::uninit()]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// `buf` with space for a read of `size`.
fn room(buf: &mut BytesMut, size: usize) -> &mut BytesMut {
    if buf.capacity() - buf.len() < size / 4 {
        buf.reserve(size);
    }
    buf
}

impl Io {
    /// Ready when there may be something to read. Only sockets tell; anything else is always ready.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Half(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Half(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Half(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
            Self::Half(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Half(_) => Poll::Ready(Ok(())),
        }
    }
}
