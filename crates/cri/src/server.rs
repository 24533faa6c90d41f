//! Serving both services on a unix socket, for as long as it is wanted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_pod::image::Images as EngineImages;
use berth_pod::pause::PauseImage;
use berth_pod::pods::Pods;
use berth_streaming::{Server as StreamingServer, ServerOptions};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower_service::Service as _;

use crate::authority::Tolerant;
use crate::calls::Calls;
use crate::image_service::Images;
use crate::runtime_service::{Runtime, SandboxDefaults};
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;
use crate::{deadline, metrics};

/// The largest message that is taken. Clients raise their own limit to the same.
const MAX_MESSAGE: usize = 16 << 20;

/// How long calls that change something may take to end when berth is asked to. The kubelet's own deadline for most is two minutes, and it asks
/// again; longer ones (a stop with its grace) go on in the engine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many calls one client may have open.
const CALLS: u32 = 1000;

/// Between two tries to accept when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the interface is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What sandboxes get that their request does not say.
    pub sandboxes: SandboxDefaults,
    /// Where exec, attach and port-forward are served, and how.
    pub streaming: ServerOptions,
    /// Where the page of metrics is served, without authentication; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// After how long without progress a pull has failed (see [`berth_docker::pull::PullImage::stuck_after`]); `None` for never.
    pub pull_stuck_after: Option<Duration>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody could exec, attach or forward a port.
    #[error("exec, attach and port-forward cannot be served at {0}: {1}")]
    Streaming(SocketAddr, std::io::Error),
    /// Nobody could read the metrics.
    #[error("metrics cannot be served at {0}: {1}")]
    Metrics(SocketAddr, std::io::Error),
}

/// Serves the pods of one engine on a listener, until `ending` completes: then no call is taken any more, and those that change something
/// are carried to their end, for a while.
///
/// # Errors
/// When one of the addresses cannot be listened on.
pub async fn serve(
    listener: UnixListener,
    pods: Pods,
    options: ServeOptions,
    ending: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let address = options.streaming.listen;
    let streaming = StreamingServer::bind(options.streaming.clone())
        .await
        .map_err(|error| ServeError::Streaming(address, error))?;
    let streaming = Arc::new(streaming);
    let calls = Calls::default();
    let metrics = match options.metrics {
        Some(address) => {
            let server = metrics::Server::bind(address, pods.clone(), &calls).await;
            Some(server.map_err(|error| ServeError::Metrics(address, error))?)
        }
        None => None,
    };
    let routes = routes(&pods, &options, streaming.clone());
    let mut metrics = std::pin::pin!(async {
        match metrics {
            Some(server) => server.run().await,
            None => std::future::pending().await,
        }
    });
    let mut connections = JoinSet::new();
    let mut ending = std::pin::pin!(ending);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, routes.clone(), calls.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Those that have ended.
            Some(_) = connections.join_next() => {}
            never = &mut metrics => match never {},
            () = &mut ending => break,
        }
    }
    // Streams of events have no end, so clients are not waited for, only what they have begun.
    connections.shutdown().await;
    streaming.shutdown().await;
    if !pods.finish(PATIENCE).await {
        tracing::warn!(
            "some calls have not ended within {PATIENCE:?}; the engine goes on with them"
        );
    }
    Ok(())
}

fn routes(pods: &Pods, options: &ServeOptions, streaming: Arc<StreamingServer>) -> Routes {
    let defaults = options.sandboxes.clone();
    let sandboxes = match &defaults.image {
        Some(image) => image.parse().ok(),
        None => PauseImage::built_in()
            .ok()
            .and_then(|image| image.name().parse().ok()),
    };
    let images = Arc::new(EngineImages::new(
        pods.runtime().docker().clone(),
        sandboxes.into_iter().collect(),
    ));
    let runtime = Runtime::new(
        pods.clone(),
        images.clone(),
        defaults,
        streaming,
        TaskTracker::new(),
    );
    let images = Images::new(pods.clone(), images, options.pull_stuck_after);
    let images = ImageServiceServer::new(images)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    let runtime = RuntimeServiceServer::new(runtime)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    Routes::new(runtime).add_service(images).prepare()
}

/// Serves one client.
async fn connection(stream: UnixStream, routes: Routes, calls: Calls) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut routes = routes.clone();
        let call = calls.begin(request.uri().path());
        async move {
            let timeout = deadline::take(&mut request);
            let answer = routes.call(request.map(Body::new));
            let answered: Result<_, Infallible> = match timeout {
                None => answer.await,
                Some(timeout) => match tokio::time::timeout(timeout, answer).await {
                    Ok(answered) => answered,
                    Err(_) => Ok(Status::deadline_exceeded(format!(
                        "the call was not answered within {timeout:?}"
                    ))
                    .into_http()),
                },
            };
            if let Ok(response) = &answered {
                // An error is told in the head; what has a body is well.
                let status = response.headers().get(Status::GRPC_STATUS);
                call.end(status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes())));
            }
            answered
        }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CALLS)
        .serve_connection(TokioIo::new(Tolerant::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}
