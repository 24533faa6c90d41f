//! The engine's side of one connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Shared, lock};

/// The bytes of one connection.
pub(crate) enum Wire {
    Memory(DuplexStream),
    Unix(UnixStream),
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// On which connection, counted from 0 in the order they were accepted.
    pub(crate) connection: usize,
    /// Everything up to the empty line.
    pub(crate) head: String,
    /// The body, without its chunks' framing.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The request line without the `HTTP/1.1`.
    pub(crate) fn line(&self) -> &str {
        self.head
            .lines()
            .next()
            .unwrap()
            .strip_suffix(" HTTP/1.1")
            .unwrap()
    }

    /// The values of a header field.
    pub(crate) fn field(&self, name: &str) -> Vec<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The value of a parameter of the query, as it was sent.
    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        let (_, query) = self.line().split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }
}

/// One connection, as the script sees it. Dropping it closes the connection.
pub(crate) struct Peer {
    wire: Wire,
    buf: Vec<u8>,
    /// Which connection of the server this is, counted from 0.
    pub(crate) index: usize,
    shared: Arc<Shared>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, SeqCst);
    }
}

impl Peer {
    pub(super) fn new(wire: Wire, index: usize, shared: Arc<Shared>) -> Self {
        Self {
            wire,
            buf: Vec::new(),
            index,
            shared,
        }
    }

    /// Waits for a whole request and notes it; `None` when the client closes instead.
    pub(crate) async fn request(&mut self) -> Option<Received> {
        let end = loop {
            match self.buf.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at,
                None => self.more().await?,
            }
        };
        let head = String::from_utf8(self.buf[..end].to_vec()).unwrap();
        self.buf.drain(..end + 4);
        let mut request = Received {
            connection: self.index,
            head,
            body: Vec::new(),
        };
        if let [length] = request.field("content-length")[..] {
            request.body = self.take(length.parse().unwrap()).await?;
        } else if request.field("transfer-encoding") == ["chunked"] {
            loop {
                let size = loop {
                    match self.buf.windows(2).position(|window| window == b"\r\n") {
                        Some(at) => {
                            break usize::from_str_radix(
                                std::str::from_utf8(&self.buf[..at]).unwrap(),
                                16,
                            )
                            .unwrap();
                        }
                        None => self.more().await?,
                    }
                };
                let line = self
                    .buf
                    .windows(2)
                    .position(|window| window == b"\r\n")
                    .unwrap();
                self.buf.drain(..line + 2);
                let piece = self.take(size + 2).await?;
                assert!(piece.ends_with(b"\r\n"));
                if size == 0 {
                    break;
                }
                request.body.extend_from_slice(&piece[..size]);
            }
        }
        lock(&self.shared.requests).push(request.clone());
        Some(request)
    }

    /// Waits for exactly `len` bytes.
    pub(crate) async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buf.len() < len {
            self.more().await?;
        }
        Some(self.buf.drain(..len).collect())
    }

    /// Reads a request without a body, but leaves its last byte unread: closing a unix socket then is a reset.
    pub(crate) async fn request_but_one_byte(&mut self) {
        let mut byte = [0];
        while !self.buf.ends_with(b"\r\n\r") {
            self.wire.read_exact(&mut byte).await.unwrap();
            self.buf.extend_from_slice(&byte);
        }
    }

    async fn more(&mut self) -> Option<()> {
        match self.wire.read_buf(&mut self.buf).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }

    /// Sends all of `bytes`, as soon as the client has room for them. False when it has gone, which is for the test to judge.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write_all(bytes.as_ref()).await.is_ok() && self.wire.flush().await.is_ok()
    }

    /// Sends `bytes` one by one, so that the client may see each alone.
    pub(crate) async fn send_each(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        for byte in bytes.as_ref() {
            if !self.send([*byte]).await {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    /// Sends `bytes` one by one with `gap` between them.
    pub(crate) async fn dribble(&mut self, bytes: impl AsRef<[u8]>, gap: Duration) -> bool {
        for byte in bytes.as_ref() {
            tokio::time::sleep(gap).await;
            if !self.send([*byte]).await {
                return false;
            }
        }
        true
    }

    /// Says that nothing more comes; still reads.
    pub(crate) async fn fin(&mut self) {
        let _ = self.wire.shutdown().await;
    }

    /// Closes the connection so that the client sees a reset: on TCP always, on a unix socket when bytes of the client are left unread.
    pub(crate) fn reset(self) {
        if let Wire::Tcp(stream) = &self.wire {
            socket2::SockRef::from(stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }

    /// Waits until the client has closed its side; gives what it sent meanwhile.
    pub(crate) async fn gone(mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.buf)
    }

    /// Waits until the client says that nothing more comes; gives what it sent before that. The connection stays.
    pub(crate) async fn end_of_input(&mut self) -> Vec<u8> {
        while self.more().await.is_some() {}
        std::mem::take(&mut self.buf)
    }

    /// Waits until the test is over; then the client must have closed both directions, so that nothing can be sent to it.
    pub(crate) async fn hung_up(mut self) {
        self.over().await;
        while self.send([b'x'; 4096]).await {}
    }

    /// Touches nothing until the test is over; then the client must have closed its side.
    pub(crate) async fn stall(self) {
        self.over().await;
        self.gone().await;
    }

    async fn over(&self) {
        let mut over = self.shared.over.subscribe();
        // An error means that the server is no more, which is the end of the test too.
        let _ = over.wait_for(|over| *over).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
