//! `RuntimeService`: one method for each call, each of them translation around one call of berth-pod.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_pod::cni::Cidr;
use berth_pod::engine::EngineInfo;
use berth_pod::image::Images;
use berth_pod::observe::{Container, Sandbox};
use berth_pod::pods::Pods;
use berth_pod::spec::{ContainerId, SandboxId};
use berth_pod::view::{ChangeKind, Notice};
use berth_streaming::Server;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use crate::v1;
use crate::v1::runtime_service_server::RuntimeService;
use crate::{deadline, sessions, shown, status, usage, wanted};

/// The version of the kubelet's side of the interface; the kubelet starts with no other.
const KUBELET_API_VERSION: &str = "0.1.0";
/// The name under which container IDs stand in the Kubernetes API.
const RUNTIME_NAME: &str = "docker";
/// The version of the interface.
const API_VERSION: &str = "v1";

/// Stands for the version of an engine that has not answered since berth was started; the kubelet parses it.
const UNKNOWN_VERSION: &str = "0.0.0-unknown";

/// How long the questions may take whether the engine is ready, and what it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many items go into one message of a streamed list, which keeps messages well below what clients take.
const BATCH: usize = 256;
/// How many events wait for a slow client before its stream is ended.
const EVENTS: usize = 1024;

pub(crate) type Reply<T> = Result<Response<T>, Status>;
pub(crate) type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What sandboxes get that their request does not say.
#[derive(Debug, Clone, Default)]
pub struct SandboxDefaults {
    /// The pause image; `None` is the built-in one.
    pub image: Option<String>,
    /// The engine's network of pods without the host's; empty is the engine's default.
    pub network: String,
}

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pods: Pods,
    images: Arc<Images>,
    defaults: Arc<SandboxDefaults>,
    streaming: Arc<Server>,
    /// The tasks that feed event streams.
    tasks: TaskTracker,
}

impl Runtime {
    pub(crate) fn new(
        pods: Pods,
        images: Arc<Images>,
        defaults: SandboxDefaults,
        streaming: Arc<Server>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            pods,
            images,
            defaults: Arc::new(defaults),
            streaming,
            tasks,
        }
    }

    async fn sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, Status> {
        let filter = filter.unwrap_or_default();
        let matches = |sandbox: &Sandbox| {
            (filter.id.is_empty() || sandbox.id.as_str() == filter.id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == shown::sandbox_state(sandbox))
                && has_labels(&filter.label_selector, || sandbox.given_labels())
        };
        let all = self.pods.view().sandboxes().await.map_err(status::of)?;
        Ok(all
            .iter()
            .filter(|sandbox| matches(sandbox))
            .map(|sandbox| shown::sandbox(sandbox))
            .collect())
    }

    async fn containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, Status> {
        let filter = filter.unwrap_or_default();
        let matches = |container: &Container| {
            (filter.id.is_empty() || container.id.as_str() == filter.id)
                && (filter.pod_sandbox_id.is_empty()
                    || container.sandbox.as_str() == filter.pod_sandbox_id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == shown::container_state(&container.state))
                && has_labels(&filter.label_selector, || container.given_labels())
        };
        let all = self.pods.view().containers().await.map_err(status::of)?;
        Ok(all
            .iter()
            .filter(|container| matches(container))
            .map(|container| shown::container(container))
            .collect())
    }

    async fn containers_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, Status> {
        let filter = filter.unwrap_or_default();
        let mut all = self.pods.view().containers().await.map_err(status::of)?;
        all.retain(|container| {
            container.is_running()
                && (filter.id.is_empty() || container.id.as_str() == filter.id)
                && (filter.pod_sandbox_id.is_empty()
                    || container.sandbox.as_str() == filter.pod_sandbox_id)
                && has_labels(&filter.label_selector, || container.given_labels())
        });
        let measured = self.pods.containers_usage(all).await.map_err(status::of)?;
        Ok(measured.iter().map(usage::container).collect())
    }

    async fn pods_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let filter = filter.unwrap_or_default();
        let mut all = self.pods.view().sandboxes().await.map_err(status::of)?;
        all.retain(|sandbox| {
            sandbox.running
                && (filter.id.is_empty() || sandbox.id.as_str() == filter.id)
                && has_labels(&filter.label_selector, || sandbox.given_labels())
        });
        let measured = self.pods.pods_usage(all).await.map_err(status::of)?;
        Ok(measured.iter().map(usage::pod).collect())
    }

    async fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        let id = container_id(id)?;
        self.pods
            .view()
            .container(&id)
            .await
            .map_err(status::of)?
            .ok_or_else(|| Status::not_found(format!("there is no container {id}")))
    }

    async fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Status> {
        let id = sandbox_id(id)?;
        self.pods
            .view()
            .sandbox(&id)
            .await
            .map_err(status::of)?
            .ok_or_else(|| Status::not_found(format!("there is no sandbox {id}")))
    }

    /// What the engine says of itself, if it answers soon: some have been seen that answer pings and hang at this.
    async fn engine_info(&self, patience: Duration) -> Option<Arc<EngineInfo>> {
        tokio::time::timeout(patience, self.pods.runtime().info())
            .await
            .ok()?
            .ok()
    }

    /// Why pods cannot be run at the moment.
    async fn not_ready(&self, patience: Duration) -> Option<String> {
        if let Some(reason) = self.pods.view().away() {
            return Some(reason);
        }
        let ping = self.pods.runtime().docker().ping();
        match tokio::time::timeout(patience, ping).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "the engine accepts connections and does not answer within {patience:?}"
            )),
        }
    }
}

fn has_labels(
    selector: &std::collections::BTreeMap<String, String>,
    labels: impl FnOnce() -> std::collections::BTreeMap<String, String>,
) -> bool {
    if selector.is_empty() {
        return true;
    }
    let labels = labels();
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn sandbox_id(id: &str) -> Result<SandboxId, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("pod_sandbox_id is empty"));
    }
    Ok(SandboxId::new(id))
}

fn container_id(id: &str) -> Result<ContainerId, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("container_id is empty"));
    }
    Ok(ContainerId::new(id))
}

/// A list in messages of a bounded number of items; an empty one has no message.
pub(crate) fn batches<T, M>(items: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Items<M>
where
    T: Send + 'static,
    M: Send + 'static,
{
    let mut messages = Vec::new();
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        messages.push(Ok(message(items.by_ref().take(BATCH).collect())));
    }
    Box::pin(tokio_stream::iter(messages))
}

/// A version as the kubelet can parse it: what stands before a space is one, also with a distribution's addition.
fn plain_version(version: &str) -> String {
    version
        .trim_start_matches('v')
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn not_offered(what: &str, why: &str) -> Status {
    Status::unimplemented(format!("{what} is not offered: {why}"))
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, request: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        // Clients ask this before anything else, so that it must not fail while the engine is away: they could not hear why.
        let patience = deadline::for_one_of_two(request.extensions(), PATIENCE);
        let engine = self.engine_info(patience).await;
        let engine = engine.or_else(|| self.pods.runtime().last_info());
        let version = engine.map_or_else(
            || UNKNOWN_VERSION.to_owned(),
            |info| plain_version(&info.version),
        );
        Ok(Response::new(v1::VersionResponse {
            version: KUBELET_API_VERSION.to_owned(),
            runtime_name: RUNTIME_NAME.to_owned(),
            runtime_version: version,
            runtime_api_version: API_VERSION.to_owned(),
        }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Reply<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = wanted::required(request.config, "config")?;
        // The name that the runtime has under dockershim's rules.
        let handler = match request.runtime_handler.as_str() {
            RUNTIME_NAME => "",
            handler => handler,
        };
        let mut spec = wanted::sandbox(config, handler)?;
        spec.image.clone_from(&self.defaults.image);
        spec.network.clone_from(&self.defaults.network);
        let id = self.pods.run_sandbox(spec).await.map_err(status::of)?;
        Ok(Response::new(v1::RunPodSandboxResponse {
            pod_sandbox_id: id.to_string(),
        }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Reply<v1::StopPodSandboxResponse> {
        let id = sandbox_id(&request.get_ref().pod_sandbox_id)?;
        self.pods.stop_sandbox(id).await.map_err(status::of)?;
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Reply<v1::RemovePodSandboxResponse> {
        let id = sandbox_id(&request.get_ref().pod_sandbox_id)?;
        self.pods.remove_sandbox(id).await.map_err(status::of)?;
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Reply<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        // Before the looks: what changes after them is told by an event, which must not be the older one.
        let timestamp = shown::nanos(Some(SystemTime::now()));
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        let containers = self
            .pods
            .view()
            .containers_of(&sandbox.id)
            .await
            .map_err(status::of)?;
        let mut info = std::collections::BTreeMap::new();
        if request.verbose {
            info.insert("info".to_owned(), shown::sandbox_info(&sandbox));
        }
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(shown::sandbox_status(
                &sandbox,
                self.pods.addresses(&sandbox),
            )),
            info,
            containers_statuses: shown::container_statuses(&containers),
            timestamp,
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Reply<v1::ListPodSandboxResponse> {
        let items = self.sandboxes(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    type StreamPodSandboxesStream = Items<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Reply<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter).await?;
        Ok(Response::new(batches(items, |pod_sandboxes| {
            v1::StreamPodSandboxesResponse { pod_sandboxes }
        })))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Reply<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let id = sandbox_id(&request.pod_sandbox_id)?;
        let config = wanted::required(request.config, "config")?;
        let logs = request
            .sandbox_config
            .map(|config| config.log_directory)
            .unwrap_or_default();
        let mut spec = wanted::container(config, &logs)?;
        // One that names no image is refused by the engine, in its words.
        if let Ok(image) = spec.image.parse() {
            let by_digest = self.images.by_digest(&image, &spec.image_name).await;
            let by_digest = by_digest.map_err(|error| status::of(error.into()))?;
            spec.image_ref = by_digest.unwrap_or_default();
        }
        let id = self
            .pods
            .create_container(id, spec)
            .await
            .map_err(status::of)?;
        Ok(Response::new(v1::CreateContainerResponse {
            container_id: id.to_string(),
        }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Reply<v1::StartContainerResponse> {
        let id = container_id(&request.get_ref().container_id)?;
        self.pods.start_container(id).await.map_err(status::of)?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Reply<v1::StopContainerResponse> {
        let request = request.get_ref();
        let id = container_id(&request.container_id)?;
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or_default());
        self.pods
            .stop_container(id, grace)
            .await
            .map_err(status::of)?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Reply<v1::RemoveContainerResponse> {
        let id = container_id(&request.get_ref().container_id)?;
        self.pods.remove_container(id).await.map_err(status::of)?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Reply<v1::ListContainersResponse> {
        let containers = self.containers(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    type StreamContainersStream = Items<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Reply<Self::StreamContainersStream> {
        let items = self.containers(request.into_inner().filter).await?;
        Ok(Response::new(batches(items, |containers| {
            v1::StreamContainersResponse { containers }
        })))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Reply<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.container(&request.container_id).await?;
        self.pods.log_written(&container).await;
        let user = self
            .pods
            .process_user(&container)
            .await
            .map(|user| v1::LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: user.groups,
            });
        let mut info = std::collections::BTreeMap::new();
        if request.verbose {
            info.insert("info".to_owned(), shown::container_info(&container));
        }
        Ok(Response::new(v1::ContainerStatusResponse {
            status: Some(shown::container_status(&container, user)),
            info,
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Reply<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let container = self.container(&request.container_id).await?;
        if let Some(linux) = request.linux {
            let resources = wanted::resources(linux)?;
            self.pods
                .update_resources(container.id.clone(), resources)
                .await
                .map_err(status::of)?;
        }
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Reply<v1::ReopenContainerLogResponse> {
        let id = container_id(&request.get_ref().container_id)?;
        self.pods.reopen_log(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Reply<v1::ExecSyncResponse> {
        let request = request.into_inner();
        let id = container_id(&request.container_id)?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd is empty"));
        }
        let timeout = u64::try_from(request.timeout)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        let output = self
            .pods
            .exec_sync(&id, &request.cmd, timeout)
            .await
            .map_err(status::of)?;
        Ok(Response::new(v1::ExecSyncResponse {
            stdout: output.stdout.into(),
            stderr: output.stderr.into(),
            exit_code: i32::try_from(output.exit_code).unwrap_or(i32::MAX),
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Reply<v1::ExecResponse> {
        let url = sessions::exec(&self.streaming, &self.pods, request.into_inner()).await?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Reply<v1::AttachResponse> {
        let url = sessions::attach(&self.streaming, &self.pods, request.into_inner()).await?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Reply<v1::PortForwardResponse> {
        let request = request.into_inner();
        let url = sessions::port_forward(&self.streaming, &self.pods, request).await?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Reply<v1::ContainerStatsResponse> {
        let container = self.container(&request.get_ref().container_id).await?;
        let measured = self.pods.containers_usage(vec![container]).await;
        let measured = measured.map_err(status::of)?;
        Ok(Response::new(v1::ContainerStatsResponse {
            stats: measured.first().map(usage::container),
        }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Reply<v1::ListContainerStatsResponse> {
        let stats = self.containers_stats(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }

    type StreamContainerStatsStream = Items<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Reply<Self::StreamContainerStatsStream> {
        let items = self.containers_stats(request.into_inner().filter).await?;
        Ok(Response::new(batches(items, |container_stats| {
            v1::StreamContainerStatsResponse { container_stats }
        })))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Reply<v1::PodSandboxStatsResponse> {
        let sandbox = self.sandbox(&request.get_ref().pod_sandbox_id).await?;
        let measured = self.pods.pods_usage(vec![sandbox]).await;
        let measured = measured.map_err(status::of)?;
        Ok(Response::new(v1::PodSandboxStatsResponse {
            stats: measured.first().map(usage::pod),
        }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Reply<v1::ListPodSandboxStatsResponse> {
        let stats = self.pods_stats(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListPodSandboxStatsResponse { stats }))
    }

    type StreamPodSandboxStatsStream = Items<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Reply<Self::StreamPodSandboxStatsStream> {
        let items = self.pods_stats(request.into_inner().filter).await?;
        Ok(Response::new(batches(items, |pod_sandbox_stats| {
            v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }
        })))
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Reply<v1::UpdateRuntimeConfigResponse> {
        let cidr = request
            .into_inner()
            .runtime_config
            .and_then(|config| config.network_config)
            .map(|network| network.pod_cidr)
            .unwrap_or_default();
        if cidr.is_empty() {
            return Ok(Response::new(v1::UpdateRuntimeConfigResponse {}));
        }
        let cidrs = cidr
            .split(',')
            .map(|cidr| cidr.trim().parse())
            .collect::<Result<Vec<Cidr>, _>>()
            .map_err(|error| Status::invalid_argument(format!("pod_cidr {cidr:?}: {error}")))?;
        if !self.pods.set_pod_cidrs(cidrs).map_err(status::of)? {
            tracing::info!(%cidr, "the addresses of pods are the engine's network's to give; the range is not used");
        }
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Reply<v1::StatusResponse> {
        let condition = |kind: &str, problem: Option<(&str, String)>| {
            let (reason, message) = problem
                .map(|(reason, message)| (reason.to_owned(), message))
                .unwrap_or_default();
            v1::RuntimeCondition {
                r#type: kind.to_owned(),
                status: reason.is_empty(),
                reason,
                message,
            }
        };
        let patience = deadline::for_one_of_two(request.extensions(), PATIENCE);
        let away = self.not_ready(patience).await;
        let network = self.pods.network_ready().await;
        let info = match away {
            None => self.engine_info(patience).await,
            Some(_) => None,
        };
        let handlers = info.iter().flat_map(|info| info.handlers());
        let runtime_handlers = handlers
            .map(|(name, features)| v1::RuntimeHandler {
                name: name.to_owned(),
                features: Some(v1::RuntimeHandlerFeatures {
                    recursive_read_only_mounts: features.recursive_read_only,
                    user_namespaces: false,
                }),
            })
            .collect();
        let mut verbose = std::collections::BTreeMap::new();
        if request.get_ref().verbose {
            if let Some(info) = &info {
                verbose.insert("engine".to_owned(), shown::engine_info(info));
            }
            verbose.insert(
                "sandboxImage".to_owned(),
                self.defaults
                    .image
                    .clone()
                    .unwrap_or_else(|| "built in".to_owned()),
            );
        }
        Ok(Response::new(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![
                    condition(
                        "RuntimeReady",
                        away.map(|reason| ("DockerEngineNotReady", reason)),
                    ),
                    condition(
                        "NetworkReady",
                        network.err().map(|error| (error.reason, error.message)),
                    ),
                ],
            }),
            info: verbose,
            runtime_handlers,
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                user_namespaces_host_network: false,
                mount_options: false,
            }),
        }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Reply<v1::CheckpointContainerResponse> {
        Err(not_offered(
            "CheckpointContainer",
            "Docker Engine's checkpoints are experimental and have another layout than the archive that is asked for",
        ))
    }

    async fn checkpoint_pod(
        &self,
        _: Request<v1::CheckpointPodRequest>,
    ) -> Reply<v1::CheckpointPodResponse> {
        Err(not_offered(
            "CheckpointPod",
            "Docker Engine has checkpoints of single containers only",
        ))
    }

    async fn restore_pod(
        &self,
        _: Request<v1::RestorePodRequest>,
    ) -> Reply<v1::RestorePodResponse> {
        Err(not_offered(
            "RestorePod",
            "Docker Engine has checkpoints of single containers only",
        ))
    }

    type GetContainerEventsStream = Items<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Reply<Self::GetContainerEventsStream> {
        let pods = self.pods.clone();
        let mut changes = self.pods.view().subscribe();
        let (sender, events) = tokio::sync::mpsc::channel(EVENTS);
        // It ends with the client, whose end closes the channel.
        self.tasks.spawn(async move {
            loop {
                let notice = tokio::select! {
                    notice = changes.next() => notice,
                    () = sender.closed() => return,
                };
                let item = match notice {
                    Some(Notice::Change(change)) => {
                        let Some(sandbox) = &change.sandbox else {
                            // The kubelet has no use for an event without a pod.
                            continue;
                        };
                        Ok(v1::ContainerEventResponse {
                            container_id: change.id.clone(),
                            container_event_type: match change.kind {
                                ChangeKind::Created => {
                                    v1::ContainerEventType::ContainerCreatedEvent
                                }
                                ChangeKind::Started => {
                                    v1::ContainerEventType::ContainerStartedEvent
                                }
                                ChangeKind::Stopped => {
                                    v1::ContainerEventType::ContainerStoppedEvent
                                }
                                ChangeKind::Deleted => {
                                    v1::ContainerEventType::ContainerDeletedEvent
                                }
                            }
                            .into(),
                            // When it is told, not when it happened: a kubelet drops an event that is older than its last list, and
                            // that list may have been made before the engine told of the change.
                            created_at: shown::nanos(Some(SystemTime::now())),
                            pod_sandbox_status: Some(shown::sandbox_status(
                                sandbox,
                                pods.addresses(sandbox),
                            )),
                            containers_statuses: shown::container_statuses(&change.containers),
                        })
                    }
                    // The client lists everything again when it subscribes again.
                    Some(Notice::Lost) => Err(Status::data_loss(
                        "events were lost since the client was too slow; subscribe again",
                    )),
                    None => return,
                };
                let ends = item.is_err();
                if sender.send(item).await.is_err() || ends {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Reply<v1::ListMetricDescriptorsResponse> {
        Ok(Response::new(v1::ListMetricDescriptorsResponse {
            descriptors: usage::descriptors(),
        }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Reply<v1::ListPodSandboxMetricsResponse> {
        let measured = self.pods.metrics().await.map_err(status::of)?;
        Ok(Response::new(v1::ListPodSandboxMetricsResponse {
            pod_metrics: measured.iter().map(usage::pod_metrics).collect(),
        }))
    }

    type StreamPodSandboxMetricsStream = Items<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Reply<Self::StreamPodSandboxMetricsStream> {
        let measured = self.pods.metrics().await.map_err(status::of)?;
        let items = measured.iter().map(usage::pod_metrics).collect();
        Ok(Response::new(batches(items, |pod_sandbox_metrics| {
            v1::StreamPodSandboxMetricsResponse {
                pod_sandbox_metrics,
            }
        })))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Reply<v1::RuntimeConfigResponse> {
        let info = self.pods.runtime().info().await.map_err(status::of)?;
        let driver = if info.systemd_cgroups {
            v1::CgroupDriver::Systemd
        } else {
            v1::CgroupDriver::Cgroupfs
        };
        Ok(Response::new(v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration {
                cgroup_driver: driver.into(),
            }),
        }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Reply<v1::UpdatePodSandboxResourcesResponse> {
        // The kubelet has changed the pod's cgroup already; there is nothing of it at the engine.
        self.sandbox(&request.get_ref().pod_sandbox_id).await?;
        Ok(Response::new(v1::UpdatePodSandboxResourcesResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_what_the_kubelet_parses() {
        assert_eq!(plain_version("20.10.24+dfsg1"), "20.10.24+dfsg1");
        assert_eq!(plain_version("v29.1.0 (build 7)"), "29.1.0");
    }
}
