//! A scripted engine: it accepts connections over memory, a unix socket, TCP or TLS, hands each to the test's script as a [`Peer`], and
//! keeps what it was asked. It speaks only what the script says, so it can be as wrong as a test needs.
//!
//! [`Server::finish`] waits for every script to run to its end and passes its panics on; a script that ends with [`Peer::gone`] thereby
//! proves that the client has closed that connection.

// Every test binary uses a part of this.
#![allow(dead_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_docker::{ApiVersion, Builder, ConnectOptions, Docker, Endpoint, TlsFiles};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) mod call;
pub(crate) mod fixture;
mod peer;
pub(crate) mod process;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use peer::{Peer, Received, Wire};

/// How long anything may take that has no deadline of its own: far more than it needs, so that only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How many bytes an in-memory connection holds in each direction.
const PIPE: usize = 64 * 1024;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Memory,
    Unix,
    Tcp,
    #[cfg(feature = "tls")]
    Tls,
}

/// Those that are real sockets.
pub(crate) const SOCKETS: &[Transport] = &[
    Transport::Unix,
    Transport::Tcp,
    #[cfg(feature = "tls")]
    Transport::Tls,
];

type Script = Arc<dyn Fn(Peer) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The engine of one test.
pub(crate) struct Server {
    shared: Arc<Shared>,
    address: Address,
    finished: bool,
}

enum Address {
    Memory(Script),
    Unix(tempfile::TempDir),
    Tcp(SocketAddr),
    #[cfg(feature = "tls")]
    Tls(SocketAddr, tls::Identity),
}

struct Shared {
    requests: Mutex<Vec<Received>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    scripts: Mutex<JoinSet<()>>,
    over: watch::Sender<bool>,
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
    #[cfg(feature = "tls")]
    Tls(TcpListener, tokio_rustls::TlsAcceptor),
}

impl Listener {
    async fn accept(&self) -> io::Result<Wire> {
        Ok(match self {
            Self::Unix(listener) => Wire::Unix(listener.accept().await?.0),
            Self::Tcp(listener) => Wire::Tcp(listener.accept().await?.0),
            #[cfg(feature = "tls")]
            Self::Tls(listener, acceptor) => {
                Wire::Tls(Box::new(acceptor.accept(listener.accept().await?.0).await?))
            }
        })
    }
}

impl Server {
    /// An engine in memory.
    pub(crate) fn memory<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Peer) -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared::new()),
            address: Address::Memory(boxed(script)),
            finished: false,
        }
    }

    /// An engine on any transport.
    pub(crate) async fn on<F: Future<Output = ()> + Send + 'static>(
        transport: Transport,
        script: impl Fn(Peer) -> F + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::new());
        let script = boxed(script);
        let address = match transport {
            Transport::Memory => Address::Memory(script),
            Transport::Unix => {
                let dir = tempfile::tempdir().unwrap();
                let listener = UnixListener::bind(dir.path().join("engine.sock")).unwrap();
                shared.serve(script, Listener::Unix(listener));
                Address::Unix(dir)
            }
            Transport::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                shared.serve(script, Listener::Tcp(listener));
                Address::Tcp(address)
            }
            #[cfg(feature = "tls")]
            Transport::Tls => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let identity = tls::Identity::generate();
                shared.serve(script, Listener::Tls(listener, identity.acceptor()));
                Address::Tls(address, identity)
            }
        };
        Self {
            shared,
            address,
            finished: false,
        }
    }

    /// How to connect, without a pinned version.
    pub(crate) fn options(&self) -> ConnectOptions {
        match &self.address {
            Address::Memory(_) => ConnectOptions::new("fake://engine".parse().unwrap()),
            Address::Unix(dir) => ConnectOptions::new(
                format!("unix://{}/engine.sock", dir.path().display())
                    .parse()
                    .unwrap(),
            ),
            Address::Tcp(address) => {
                ConnectOptions::new(format!("tcp://{address}").parse().unwrap())
            }
            #[cfg(feature = "tls")]
            Address::Tls(address, identity) => {
                let endpoint =
                    Endpoint::parse(&format!("tcp://localhost:{}", address.port()), true).unwrap();
                let files = TlsFiles {
                    ca: Some(identity.ca()),
                    ..TlsFiles::default()
                };
                ConnectOptions::new(endpoint).with_tls(files)
            }
        }
    }

    /// What connects to an engine in memory.
    pub(crate) fn dialer(&self) -> impl Fn() -> io::Result<DuplexStream> + Send + Sync + 'static {
        let Address::Memory(script) = &self.address else {
            panic!("it is not in memory")
        };
        let (shared, script) = (self.shared.clone(), script.clone());
        move || {
            let (ours, theirs) = tokio::io::duplex(PIPE);
            shared.accept(Wire::Memory(ours), &script);
            Ok(theirs)
        }
    }

    /// A client to be, with `options`.
    pub(crate) fn builder(&self, options: ConnectOptions) -> Builder {
        let builder = Docker::builder(options);
        match &self.address {
            Address::Memory(_) => builder.dialer(self.dialer()),
            _ => builder,
        }
    }

    /// A client that asks in version 1.44 without asking which one first.
    pub(crate) fn client(&self) -> Docker {
        self.builder(
            self.options()
                .with_api_version(ApiVersion::new(1, 44))
                .unwrap(),
        )
        .build()
        .unwrap()
    }

    /// A client that agrees on a version first.
    pub(crate) fn negotiating_client(&self) -> Docker {
        self.builder(self.options()).build().unwrap()
    }

    /// Where a server on TCP listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            #[cfg(feature = "tls")]
            Address::Tls(address, _) => *address,
            _ => panic!("it has no port"),
        }
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Received> {
        lock(&self.shared.requests).clone()
    }

    /// The request lines so far, without the `HTTP/1.1`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| request.line().to_owned())
            .collect()
    }

    /// How many connections were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// How many connections the scripts still hold.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(SeqCst)
    }

    /// Ends the test: every script must end too, and its panic is ours. Scripts that wait for the client to go want it dropped first.
    pub(crate) async fn finish(mut self) {
        self.finished = true;
        self.shared.over.send_replace(true);
        let scripts = std::mem::take(&mut *lock(&self.shared.scripts));
        let ended = tokio::time::timeout(PATIENCE, scripts.join_all()).await;
        assert!(ended.is_ok(), "{} connections are still open", self.open());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        assert!(
            self.finished || std::thread::panicking(),
            "a test forgot to finish its server"
        );
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            requests: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            scripts: Mutex::new(JoinSet::new()),
            over: watch::Sender::new(false),
        }
    }

    /// Accepts connections until the test is over. A handshake that fails is no connection.
    fn serve(self: &Arc<Self>, script: Script, listener: Listener) {
        let shared = self.clone();
        let mut over = self.over.subscribe();
        lock(&self.scripts).spawn(async move {
            loop {
                tokio::select! {
                    _ = over.wait_for(|over| *over) => return,
                    wire = listener.accept() => if let Ok(wire) = wire {
                        shared.accept(wire, &script);
                    }
                }
            }
        });
    }

    fn accept(self: &Arc<Self>, wire: Wire, script: &Script) {
        let index = self.accepted.fetch_add(1, SeqCst);
        self.open.fetch_add(1, SeqCst);
        let peer = Peer::new(wire, index, self.clone());
        lock(&self.scripts).spawn(script(peer));
    }
}

fn boxed<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(Peer) -> F + Send + Sync + 'static,
) -> Script {
    Arc::new(move |peer| Box::pin(script(peer)))
}

/// A panic in a script is passed on when its task is joined; the lists themselves are valid at every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "never came true: {what}"
    );
}

/// Gives the result of `future`, which must not hang.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it hangs")
}

/// Asserts what the client holds: so many kept connections, and no stream.
#[track_caller]
pub(crate) fn at_rest(docker: &Docker, idle: usize) {
    assert_eq!(docker.idle_connections(), idle, "kept connections");
    assert_eq!(docker.metrics().streams_open(), 0, "open streams");
}
