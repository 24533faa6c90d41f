//! The kubelet's side of the interface: what it asks for, and that it asks again when it was not answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use berth_cri::v1;
use berth_cri::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub(crate) const IMAGE: &str = "berth.local/demo:1";

const NAMESPACE: &str = "berth-cri-test";

/// For anything that has to happen, on a busy machine; a test that gets here has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// The deadline of a call, unless a test says otherwise.
const DEADLINE: Duration = Duration::from_secs(20);

/// Before a call that failed is made again.
const PAUSE: Duration = Duration::from_millis(10);

/// The largest message, as upstream.
const MESSAGE: usize = 16 << 20;

/// What is started in a pod's container.
pub(crate) const IDLE: &str = "sleep 1000000";

/// Counts, a line at a time, for as long as it runs.
pub(crate) const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.01; done";

#[derive(Clone)]
pub(crate) struct Kubelet {
    runtime: RuntimeServiceClient<Channel>,
    logs: PathBuf,
    deadline: Duration,
    /// Why calls were made again, and how often.
    failures: Rc<RefCell<BTreeMap<String, usize>>>,
}

impl Kubelet {
    /// One that connects when it calls, also again. Needs a tokio runtime.
    pub(crate) fn new(socket: PathBuf, logs: &Path) -> Self {
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }),
        );
        Self {
            runtime: RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE),
            logs: logs.to_owned(),
            deadline: DEADLINE,
            failures: Rc::default(),
        }
    }

    /// The same with another deadline of each call.
    pub(crate) fn within(&self, deadline: Duration) -> Self {
        Self {
            deadline,
            ..self.clone()
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Calls until it is answered well.
    pub(crate) async fn persist<T>(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(&Self) -> Result<T, Status>,
    ) -> T {
        let begun = Instant::now();
        loop {
            let status = match call(self).await {
                Ok(answer) => return answer,
                Err(status) => status,
            };
            self.note(what, &status);
            assert!(begun.elapsed() < LIMIT, "{what}: {status:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) fn note(&self, what: &str, status: &Status) {
        let message = without_ids(status.message());
        let why = format!("{what}: {}: {message}", status.code());
        *self.failures.borrow_mut().entry(why).or_default() += 1;
    }

    /// Why calls were made again, and how often.
    pub(crate) fn failures(&self) -> String {
        let failures = self.failures.borrow();
        let lines = failures
            .iter()
            .map(|(why, times)| format!("{times:>6} {why}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until it is served, which is no failure.
    pub(crate) async fn connect(&self) {
        self.persist("ListContainers", async |it| it.containers().await)
            .await;
        self.failures.borrow_mut().clear();
    }

    pub(crate) fn pod(&self, name: &str) -> v1::PodSandboxConfig {
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid(name),
                namespace: NAMESPACE.to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: self.logs.join(name).display().to_string(),
            labels: naming(name, None),
            ..Default::default()
        }
    }

    /// The file of a container's log.
    pub(crate) fn log(&self, pod: &str, container: &str) -> PathBuf {
        self.logs.join(pod).join(format!("{container}.log"))
    }

    pub(crate) async fn run_sandbox(&self, pod: &str) -> Result<String, Status> {
        let request = self.request(v1::RunPodSandboxRequest {
            config: Some(self.pod(pod)),
            runtime_handler: String::new(),
        });
        let reply = self.runtime.clone().run_pod_sandbox(request).await?;
        Ok(reply.into_inner().pod_sandbox_id)
    }

    pub(crate) async fn create(
        &self,
        pod: &str,
        sandbox: &str,
        container: v1::ContainerConfig,
    ) -> Result<String, Status> {
        let request = self.request(v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(v1::ContainerConfig {
                labels: naming(pod, container.metadata.as_ref()),
                ..container
            }),
            sandbox_config: Some(self.pod(pod)),
        });
        let reply = self.runtime.clone().create_container(request).await?;
        Ok(reply.into_inner().container_id)
    }

    pub(crate) async fn start(&self, container: &str) -> Result<(), Status> {
        let request = self.request(v1::StartContainerRequest {
            container_id: container.to_owned(),
        });
        self.runtime
            .clone()
            .start_container(request)
            .await
            .map(drop)
    }

    /// A pod with one container that runs; gives the IDs of both. Calls until that is so.
    pub(crate) async fn run(&self, pod: &str, script: &str) -> (String, String) {
        let sandbox = self
            .persist("RunPodSandbox", async |this| this.run_sandbox(pod).await)
            .await;
        let container = self
            .persist("CreateContainer", async |this| {
                this.create(pod, &sandbox, container("app", 0, script))
                    .await
            })
            .await;
        self.persist("StartContainer", async |this| this.start(&container).await)
            .await;
        (sandbox, container)
    }

    pub(crate) async fn exec(&self, container: &str, script: &str) -> Result<String, Status> {
        let request = self.request(v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            timeout: 0,
        });
        let reply = self.runtime.clone().exec_sync(request).await?.into_inner();
        Ok(String::from_utf8_lossy(&reply.stdout).into_owned())
    }

    pub(crate) async fn stop(&self, container: &str) -> Result<(), Status> {
        let request = self.request(v1::StopContainerRequest {
            container_id: container.to_owned(),
            timeout: 0,
        });
        self.runtime.clone().stop_container(request).await.map(drop)
    }

    pub(crate) async fn remove(&self, container: &str) -> Result<(), Status> {
        let request = self.request(v1::RemoveContainerRequest {
            container_id: container.to_owned(),
        });
        self.runtime
            .clone()
            .remove_container(request)
            .await
            .map(drop)
    }

    pub(crate) async fn stop_sandbox(&self, sandbox: &str) -> Result<(), Status> {
        let request = self.request(v1::StopPodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        });
        self.runtime
            .clone()
            .stop_pod_sandbox(request)
            .await
            .map(drop)
    }

    pub(crate) async fn remove_sandbox(&self, sandbox: &str) -> Result<(), Status> {
        let request = self.request(v1::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        });
        self.runtime
            .clone()
            .remove_pod_sandbox(request)
            .await
            .map(drop)
    }

    pub(crate) async fn sandboxes(&self) -> Result<Vec<v1::PodSandbox>, Status> {
        let request = self.request(v1::ListPodSandboxRequest::default());
        let reply = self.runtime.clone().list_pod_sandbox(request).await?;
        Ok(reply.into_inner().items)
    }

    pub(crate) async fn containers(&self) -> Result<Vec<v1::Container>, Status> {
        let request = self.request(v1::ListContainersRequest::default());
        let reply = self.runtime.clone().list_containers(request).await?;
        Ok(reply.into_inner().containers)
    }

    pub(crate) async fn status_of(&self, container: &str) -> Result<v1::ContainerStatus, Status> {
        let request = self.request(v1::ContainerStatusRequest {
            container_id: container.to_owned(),
            verbose: false,
        });
        let reply = self.runtime.clone().container_status(request).await?;
        Ok(reply.into_inner().status.unwrap())
    }

    pub(crate) async fn sandbox_status(
        &self,
        sandbox: &str,
    ) -> Result<v1::PodSandboxStatus, Status> {
        let request = self.request(v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.to_owned(),
            verbose: false,
        });
        let reply = self.runtime.clone().pod_sandbox_status(request).await?;
        Ok(reply.into_inner().status.unwrap())
    }

    /// Whether pods can be run, or why not.
    pub(crate) async fn ready(&self) -> Result<Result<(), String>, Status> {
        let request = self.request(v1::StatusRequest::default());
        let reply = self.runtime.clone().status(request).await?.into_inner();
        let conditions = reply.status.unwrap().conditions;
        let ready = conditions
            .into_iter()
            .find(|condition| condition.r#type == "RuntimeReady")
            .unwrap();
        Ok(if ready.status {
            Ok(())
        } else {
            Err(ready.message)
        })
    }
}

/// The label that has the UID of a pod.
pub(crate) const UID: &str = "io.kubernetes.pod.uid";

pub(crate) fn uid(pod: &str) -> String {
    format!("uid-{pod}")
}

/// The labels that the kubelet gives.
fn naming(pod: &str, container: Option<&v1::ContainerMetadata>) -> BTreeMap<String, String> {
    [
        ("io.kubernetes.pod.name", pod.to_owned()),
        ("io.kubernetes.pod.namespace", NAMESPACE.to_owned()),
        (UID, uid(pod)),
    ]
    .into_iter()
    .chain(container.map(|one| ("io.kubernetes.container.name", one.name.clone())))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// A container that runs a script.
pub(crate) fn container(name: &str, attempt: u32, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

/// A message with what differs each time left out.
fn without_ids(message: &str) -> String {
    let words = message.split_inclusive([' ', '"', '/', '_', '-', ':']);
    let plain = words.map(|word| {
        let is_id = word.len() > 8 && word.bytes().any(|byte| byte.is_ascii_digit());
        if is_id { "… " } else { word }
    });
    plain.collect()
}
