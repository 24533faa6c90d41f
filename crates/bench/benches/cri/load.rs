//! Pods as a kubelet asks for them.

use std::cell::Cell;
use std::path::Path;

use berth_cri::v1;
use berth_cri::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Clients of the interface take messages as large.
const MESSAGE: usize = 16 << 20;

pub(crate) struct Load {
    runtime: RuntimeServiceClient<Channel>,
    image: String,
    made: Cell<usize>,
    logs: tempfile::TempDir,
}

impl Load {
    pub(crate) async fn new(socket: &Path, image: &str) -> Self {
        let socket = socket.to_owned();
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .unwrap();
        Self {
            runtime: RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE),
            image: image.to_owned(),
            made: Cell::new(0),
            logs: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone()
    }

    fn sandbox(&self) -> v1::PodSandboxConfig {
        self.made.set(self.made.get() + 1);
        let name = format!("load-{}-{}", std::process::id(), self.made.get());
        let logs = self.logs.path().join(&name);
        // The kubelet makes it, and some servers count on that.
        std::fs::create_dir_all(&logs).unwrap();
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "berth-load".to_owned(),
                attempt: 0,
            }),
            hostname: name.clone(),
            log_directory: logs.display().to_string(),
            ..Default::default()
        }
    }

    /// A pod of one container that runs: the IDs of the sandbox and the container.
    pub(crate) async fn start(&self) -> [String; 2] {
        let config = self.sandbox();
        let request = v1::RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: String::new(),
        };
        let reply = self.runtime().run_pod_sandbox(request).await.unwrap();
        let sandbox = reply.into_inner().pod_sandbox_id;
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(v1::ContainerConfig {
                metadata: Some(v1::ContainerMetadata {
                    name: "app".to_owned(),
                    attempt: 0,
                }),
                image: Some(v1::ImageSpec {
                    image: self.image.clone(),
                    ..Default::default()
                }),
                command: vec!["sleep".to_owned(), "1000000".to_owned()],
                log_path: "app.log".to_owned(),
                ..Default::default()
            }),
            sandbox_config: Some(config),
        };
        let reply = self.runtime().create_container(request).await.unwrap();
        let container_id = reply.into_inner().container_id;
        let request = v1::StartContainerRequest {
            container_id: container_id.clone(),
        };
        self.runtime().start_container(request).await.unwrap();
        [sandbox, container_id]
    }

    pub(crate) async fn exec(&self, container: &str) {
        let request = v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: vec!["true".to_owned()],
            timeout: 0,
        };
        self.runtime().exec_sync(request).await.unwrap();
    }

    pub(crate) async fn remove(&self, [sandbox, _]: &[String; 2]) {
        let request = v1::StopPodSandboxRequest {
            pod_sandbox_id: sandbox.clone(),
        };
        self.runtime().stop_pod_sandbox(request).await.unwrap();
        let request = v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.clone(),
        };
        self.runtime().remove_pod_sandbox(request).await.unwrap();
    }
}
