//! Clients, and a server in memory for them.

pub(crate) mod handlers;
pub(crate) mod http;
pub(crate) mod spdy;
pub(crate) mod websocket;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use berth_streaming::{Running, Session, Timeouts, upgrade};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Runs a test in memory, on a clock that moves only when there is nothing else to do.
pub(crate) fn in_memory(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async {
            let ended = tokio::time::timeout(Duration::from_secs(365 * 24 * 3600), test).await;
            // On this clock a year passes at once when there is nothing else to wait for.
            assert!(ended.is_ok(), "it hangs");
        });
}

/// Runs a test with real sockets.
pub(crate) fn on_sockets(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let ended = tokio::time::timeout(Duration::from_secs(60), test).await;
            assert!(ended.is_ok(), "it hangs");
        });
}

/// A session that waits for its client on a connection in memory.
pub(crate) struct Served {
    /// The client's end.
    pub(crate) io: DuplexStream,
    /// Ready when the session is over.
    pub(crate) ended: JoinHandle<()>,
    /// Asks the session to end.
    pub(crate) stop: CancellationToken,
}

pub(crate) fn serve(session: Session) -> Served {
    serve_with(session, Timeouts::default(), 64 * 1024)
}

/// A session on a connection that holds `buffer` bytes each way.
pub(crate) fn serve_with(session: Session, timeouts: Timeouts, buffer: usize) -> Served {
    let (io, server) = tokio::io::duplex(buffer);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let ended = tokio::spawn(async move {
        let session = Mutex::new(Some(session));
        let found: Mutex<Option<Running>> = Mutex::new(None);
        let service = service_fn(|mut request| {
            let session = session.lock().unwrap().take().expect("one request");
            let (response, running) = upgrade(&mut request, session, timeouts);
            *found.lock().unwrap() = running;
            async { Ok::<_, Infallible>(response) }
        });
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades()
            .await;
        let running = found.lock().unwrap().take();
        if let Some(running) = running {
            running.run(stopped.cancelled()).await;
        }
    });
    Served { io, ended, stop }
}
