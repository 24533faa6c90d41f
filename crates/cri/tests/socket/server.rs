//! The server under test: the real one, on a socket of its own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use berth_cri::v1::image_service_client::ImageServiceClient;
use berth_cri::v1::runtime_service_client::RuntimeServiceClient;
use berth_cri::{Listen, SandboxDefaults, ServeOptions, listen, serve};
use berth_docker::{ConnectOptions, Docker};
use berth_fake_engine::{FakeEngine, Loss};
use berth_pod::pods::{PodNetwork, Pods};
use berth_streaming::ServerOptions;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

pub(crate) const IMAGE: &str = "berth.local/demo:1";

/// For one test; many times what it needs.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) fake: Option<FakeEngine>,
    /// The engine, for what others do to it.
    pub(crate) docker: Docker,
    reachable: Arc<AtomicBool>,
    /// Part of every name, so that tests can run side by side.
    pub(crate) run: String,
}

impl Server {
    /// Cuts every connection to the engine and lets none through.
    pub(crate) fn take_engine_away(&self) {
        self.reachable.store(false, Ordering::SeqCst);
        if let Some(fake) = &self.fake {
            fake.restart(Loss::KeepContainers);
        }
    }

    pub(crate) fn bring_engine_back(&self) {
        self.reachable.store(true, Ordering::SeqCst);
    }

    pub(crate) fn log_directory(&self) -> PathBuf {
        self.directory.path().join("pod-logs")
    }
}

/// Where a test is, before berth is.
pub(crate) struct Node<'a> {
    pub(crate) docker: &'a Docker,
    /// That of the server.
    pub(crate) directory: &'a Path,
    pub(crate) run: &'a str,
}

pub(crate) fn on_fake(test: impl AsyncFnOnce(&mut Server)) {
    on_fake_with(ENGINES, nothing, async |server: &mut Server, ()| {
        test(server).await
    });
}

pub(crate) fn on_real(test: impl AsyncFnOnce(&mut Server)) {
    on_real_with(ENGINES, nothing, async |server: &mut Server, ()| {
        test(server).await
    });
}

/// The engine's network of pods.
pub(crate) const ENGINES: PodNetwork = PodNetwork::Engine { before: None };

/// A node on which nothing has been before.
pub(crate) async fn nothing(_: &Node<'_>) {}

/// `before` is what others have done to the engine when berth starts.
pub(crate) fn on_fake_with<T>(
    network: PodNetwork,
    before: impl AsyncFnOnce(&Node<'_>) -> T,
    test: impl AsyncFnOnce(&mut Server, T),
) {
    // Plugins that still run are looked for among the host's processes by a sandbox's ID, so no other test's may have the same.
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let seed = u64::from(std::process::id()) << 32 | NUMBER.fetch_add(1, Ordering::Relaxed);
    let fake = FakeEngine::builder()
        .seed(seed)
        .image(IMAGE)
        .build()
        .unwrap();
    run(Some(fake), None, network, before, test);
}

pub(crate) fn on_real_with<T>(
    network: PodNetwork,
    before: impl AsyncFnOnce(&Node<'_>) -> T,
    test: impl AsyncFnOnce(&mut Server, T),
) {
    match std::env::var("BERTH_TEST_ENGINE") {
        Ok(endpoint) => run(None, Some(endpoint), network, before, test),
        Err(_) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "BERTH_TEST_ENGINE must be set in CI"
            );
            eprintln!("skipped: BERTH_TEST_ENGINE names no engine");
        }
    }
}

fn run<T>(
    fake: Option<FakeEngine>,
    endpoint: Option<String>,
    network: PodNetwork,
    before: impl AsyncFnOnce(&Node<'_>) -> T,
    test: impl AsyncFnOnce(&mut Server, T),
) {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (mut server, was, serving, end, socket) = tokio.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let reachable = Arc::new(AtomicBool::new(true));
        let endpoint = endpoint.as_deref().unwrap_or("fake://");
        let mut builder = Docker::builder(ConnectOptions::new(endpoint.parse().unwrap()));
        if let Some(fake) = fake.clone() {
            let reachable = reachable.clone();
            builder = builder.dialer(move || {
                if reachable.load(Ordering::SeqCst) {
                    Ok(fake.connect())
                } else {
                    Err(std::io::ErrorKind::ConnectionRefused.into())
                }
            });
        }
        let docker = builder.build().unwrap();
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let run = format!("{}-{number}", std::process::id());
        let node = Node {
            docker: &docker,
            directory: directory.path(),
            run: &run,
        };
        let was = before(&node).await;
        let pods = Pods::start(docker.clone(), directory.path().join("logs"), network);
        let path = directory.path().join("cri.sock");
        let (listener, socket) = listen(&Listen {
            path: path.clone(),
            group: None,
        })
        .unwrap();
        let options = ServeOptions {
            sandboxes: SandboxDefaults {
                // The fake runs what its images say; the built-in pause image it cannot know.
                image: fake.as_ref().map(|_| IMAGE.to_owned()),
                network: String::new(),
            },
            streaming: ServerOptions::default(),
            metrics: None,
            pull_stuck_after: None,
        };
        let (end, ending) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, pods, options, async {
            let _ = ending.await;
        }));
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(connector(path))
            .await
            .unwrap();
        let server = Server {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel),
            directory,
            fake,
            docker,
            reachable,
            run,
        };
        (server, was, serving, end, socket)
    });
    let ended = catch_unwind(AssertUnwindSafe(|| {
        tokio.block_on(async {
            let test = tokio::time::timeout(LIMIT, test(&mut server, was));
            test.await.expect("a test ends in time");
        });
    }));
    tokio.block_on(async {
        // Also when it failed.
        clean_up(&mut server).await;
        let _ = end.send(());
        serving.await.unwrap().unwrap();
    });
    drop(socket);
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
}

fn connector(
    path: PathBuf,
) -> impl tower_service::Service<
    tonic::codegen::http::Uri,
    Response = TokioIo<UnixStream>,
    Error = std::io::Error,
    Future = impl Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send,
> + Send
+ 'static {
    Connector(path)
}

struct Connector(PathBuf);

impl tower_service::Service<tonic::codegen::http::Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), std::io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::codegen::http::Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}

/// Removes the pods of this test.
async fn clean_up(server: &mut Server) {
    server.bring_engine_back();
    for sandbox in crate::calls::sandboxes(server).await {
        let request = berth_cri::v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.id,
        };
        server.runtime.remove_pod_sandbox(request).await.unwrap();
    }
}
