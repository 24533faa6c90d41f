//! A server of its own for sessions: a URL for each, good for one client that comes within a minute.
//!
//! ```text
//!   register ──► URL ──► GET or POST /exec/<token> ──► upgrade ──► session
//! ```
//!
//! One task accepts connections and owns one task for each; a session runs in its connection's task.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::negotiate::{Refusal, refuse, refuse_method};
use crate::session::{Kind, Session, Verb};
use crate::token::{RegisterError, Tokens};
use crate::upgrade::{Running, Timeouts, upgrade};

/// How long a client may take for a TLS handshake, and for the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The most bytes of a request's head. Those of clients have below 2 KiB.
const MAX_HEAD: usize = 64 * 1024;

/// The most connections at one time. One without a session lasts for [`HANDSHAKE`] at most.
const MAX_CONNECTIONS: usize = 4096;

/// After how long without a byte the kernel asks whether a client is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long sessions have to tell their clients of a shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait after the kernel refused to accept: it is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a [`Server`] listens.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The address. By default a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// TLS with this configuration, in which the application protocols are set to `http/1.1` alone: an upgrade does not exist in HTTP/2.
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<tokio_rustls::rustls::ServerConfig>>,
    /// How long sessions may wait.
    pub timeouts: Timeouts,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            #[cfg(feature = "tls")]
            tls: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// A server of sessions. Dropping it ends all of them at once; [`shutdown`](Server::shutdown) tells their clients.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    base: String,
    tokens: Arc<Tokens>,
    stop: CancellationToken,
    accepting: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Server {
    /// Listens, and begins to accept. Has to be called inside a Tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing.
    pub async fn bind(options: ServerOptions) -> io::Result<Server> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        #[cfg(feature = "tls")]
        let tls = options.tls.map(|config| {
            let mut config = (*config).clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            tokio_rustls::TlsAcceptor::from(Arc::new(config))
        });
        #[cfg(feature = "tls")]
        let scheme = if tls.is_some() { "https" } else { "http" };
        #[cfg(not(feature = "tls"))]
        let scheme = "http";
        let tokens = Arc::new(Tokens::default());
        let stop = CancellationToken::new();
        let doorman = Doorman {
            #[cfg(feature = "tls")]
            tls,
            tokens: tokens.clone(),
            timeouts: options.timeouts,
            stop: stop.clone(),
        };
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, doorman)));
        Ok(Server {
            address,
            base: format!("{scheme}://{}", dialable(address)),
            tokens,
            stop,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps a session for one client; returns the URL that the client has to ask for within a minute. The URL is a secret: who has it
    /// has the session. An unspecified address becomes the loopback of its family in it.
    ///
    /// # Errors
    /// When too many sessions wait for their client, the session wants no streams, or there are no random bytes.
    pub fn register(&self, session: Session) -> Result<String, RegisterError> {
        let path = path(&session);
        let token = self.tokens.add(session)?;
        Ok(format!("{}/{path}/{token}", self.base))
    }

    /// Accepts no more, tells the clients of running sessions, and waits until all have ended, for five seconds at most; then drops what
    /// is left. Sessions that no client has come for are dropped.
    ///
    /// # Cancel safety
    /// Dropping the future drops what is left at once.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tokens.clear();
        let accepting = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(accepting) = accepting
            && let Err(error) = accepting.await
        {
            tracing::error!(%error, "the streaming server's task is lost");
        }
    }
}

/// An address that a client on this host can use.
fn dialable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

const PATHS: [&str; 3] = ["exec", "attach", "portforward"];

fn path(session: &Session) -> &'static str {
    match &session.0 {
        Kind::Process { verb, .. } => match verb {
            Verb::Exec => PATHS[0],
            Verb::Attach => PATHS[1],
        },
        Kind::PortForward { .. } => PATHS[2],
    }
}

/// What every connection's task needs.
#[derive(Clone)]
struct Doorman {
    #[cfg(feature = "tls")]
    tls: Option<tokio_rustls::TlsAcceptor>,
    tokens: Arc<Tokens>,
    timeouts: Timeouts,
    stop: CancellationToken,
}

async fn accept(listener: TcpListener, doorman: Doorman) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(doorman.clone().receive(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            () = doorman.tokens.keep_expiring() => {}
            () = doorman.stop.cancelled() => break,
        }
    }
    drop(listener);
    let ends = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(GRACE, ends).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "sessions are dropped: they did not end within {GRACE:?}"
        );
        connections.shutdown().await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a session panicked");
    }
}

impl Doorman {
    async fn receive(self, stream: TcpStream) {
        let socket = SockRef::from(&stream);
        let keep_alive = TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE / 3);
        if let Err(error) = socket
            .set_tcp_keepalive(&keep_alive)
            .and_then(|()| stream.set_nodelay(true))
        {
            tracing::debug!(%error, "cannot set a connection's options");
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            match timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took more than {HANDSHAKE:?}"),
            }
            return;
        }
        self.serve(stream).await;
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let found: Mutex<Option<Running>> = Mutex::new(None);
        let service = service_fn(|mut request| {
            let (response, running) = self.answer(&mut request);
            if running.is_some() {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = running;
            }
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            served = connection => if let Err(error) = served {
                tracing::debug!(%error, "a connection failed before its session");
            },
            () = self.stop.cancelled() => return,
        }
        let running = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running {
            running.run(self.stop.cancelled()).await;
        }
    }

    fn answer<B>(&self, request: &mut Request<B>) -> (Response<String>, Option<Running>) {
        match self.find(request) {
            Ok(session) => upgrade(request, session, self.timeouts),
            Err(refusal) => (*refusal, None),
        }
    }

    /// The session that a request is for. Its token is spent, whatever becomes of the request.
    fn find<B>(&self, request: &Request<B>) -> Result<Session, Refusal> {
        if request.method() != Method::GET && request.method() != Method::POST {
            return Err(refuse_method("GET, POST"));
        }
        request
            .uri()
            .path()
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .filter(|(kind, _)| PATHS.contains(kind))
            .and_then(|(kind, token)| {
                let session = self.tokens.take(token)?;
                (path(&session) == kind).then_some(session)
            })
            .ok_or_else(|| refuse(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::dialable;

    #[test]
    fn a_url_names_an_address_that_can_be_dialed() {
        for (address, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(dialable(address.parse().unwrap()).to_string(), expected);
        }
    }
}
