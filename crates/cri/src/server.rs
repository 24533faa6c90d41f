//! Serving both services on a unix socket, for as long as it is wanted.

use std::time::Duration;

use berth_pod::image::Images as EngineImages;
use berth_pod::pause::PauseImage;
use berth_pod::pods::Pods;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::TaskTracker;

use crate::image_service::Images;
use crate::runtime_service::{Runtime, SandboxDefaults};
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;

/// The largest message that is taken. Clients raise their own limit to the same.
const MAX_MESSAGE: usize = 16 << 20;

/// How long calls that change something may take to end when berth is asked to. The kubelet's own deadline for most is two minutes, and it asks
/// again; longer ones (a stop with its grace) go on in the engine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves the pods of one engine on a listener, until `ending` completes: then no call is taken any more, and those that change something
/// are carried to their end, for a while.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: UnixListener,
    pods: Pods,
    defaults: SandboxDefaults,
    ending: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let tasks = TaskTracker::new();
    let sandboxes = match &defaults.image {
        Some(image) => image.parse().ok(),
        None => PauseImage::built_in()
            .ok()
            .and_then(|image| image.name().parse().ok()),
    };
    let images = EngineImages::new(
        pods.runtime().docker().clone(),
        sandboxes.into_iter().collect(),
    );
    let images = ImageServiceServer::new(Images::new(pods.clone(), images))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    let runtime = RuntimeServiceServer::new(Runtime::new(pods.clone(), defaults, tasks.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    let served = tonic::transport::Server::builder()
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming(UnixListenerStream::new(listener));
    // Streams of events have no end, so connections are not waited for.
    let result = tokio::select! {
        result = served => result,
        () = ending => Ok(()),
    };
    if !pods.finish(PATIENCE).await {
        tracing::warn!(
            "some calls have not ended within {PATIENCE:?}; the engine goes on with them"
        );
    }
    result
}
