//! What the tests say to the server, call by call, and with which configurations.

use std::time::{Duration, Instant};

use berth_cri::v1;
use tonic::Status;

use crate::server::{IMAGE, Server};

pub(crate) const NAMESPACE: &str = "berth-cri-test";

pub(crate) fn sandbox_config(server: &Server, name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: format!("{name}-{}", server.run),
            uid: format!("{name}-{}", server.run),
            namespace: NAMESPACE.to_owned(),
            attempt: 3,
        }),
        hostname: name.to_owned(),
        log_directory: server.log_directory().display().to_string(),
        labels: [("run".to_owned(), server.run.clone())].into(),
        annotations: [("note".to_owned(), "with spaces = \"and\" signs".to_owned())].into(),
        ..Default::default()
    }
}

pub(crate) fn container_config(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt: 1,
        }),
        image: Some(v1::ImageSpec {
            image: IMAGE.to_owned(),
            ..Default::default()
        }),
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        log_path: format!("{name}/1.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    pid: v1::NamespaceMode::Container.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) async fn run_sandbox(server: &mut Server, name: &str) -> String {
    let config = sandbox_config(server, name);
    try_run_sandbox(server, config).await.unwrap()
}

pub(crate) async fn try_run_sandbox(
    server: &mut Server,
    config: v1::PodSandboxConfig,
) -> Result<String, Status> {
    let request = v1::RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let reply = server.runtime.run_pod_sandbox(request).await?;
    Ok(reply.into_inner().pod_sandbox_id)
}

pub(crate) async fn create(
    server: &mut Server,
    sandbox: &str,
    config: v1::ContainerConfig,
) -> String {
    try_create(server, sandbox, config).await.unwrap()
}

pub(crate) async fn try_create(
    server: &mut Server,
    sandbox: &str,
    config: v1::ContainerConfig,
) -> Result<String, Status> {
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config: Some(config),
        sandbox_config: Some(sandbox_config(server, "any")),
    };
    let reply = server.runtime.create_container(request).await?;
    Ok(reply.into_inner().container_id)
}

pub(crate) async fn start(server: &mut Server, id: &str) {
    let request = v1::StartContainerRequest {
        container_id: id.to_owned(),
    };
    server.runtime.start_container(request).await.unwrap();
}

pub(crate) async fn run(server: &mut Server, sandbox: &str, name: &str, script: &str) -> String {
    let id = create(server, sandbox, container_config(name, script)).await;
    start(server, &id).await;
    id
}

pub(crate) async fn container_status(
    server: &mut Server,
    id: &str,
) -> Result<v1::ContainerStatus, Status> {
    let request = v1::ContainerStatusRequest {
        container_id: id.to_owned(),
        verbose: false,
    };
    let reply = server.runtime.container_status(request).await?;
    Ok(reply.into_inner().status.unwrap())
}

pub(crate) async fn sandbox_status(
    server: &mut Server,
    id: &str,
) -> Result<v1::PodSandboxStatus, Status> {
    let request = v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose: false,
    };
    let reply = server.runtime.pod_sandbox_status(request).await?;
    Ok(reply.into_inner().status.unwrap())
}

/// The sandboxes of this test.
pub(crate) async fn sandboxes(server: &mut Server) -> Vec<v1::PodSandbox> {
    let filter = v1::PodSandboxFilter {
        label_selector: [("run".to_owned(), server.run.clone())].into(),
        ..Default::default()
    };
    let begun = Instant::now();
    loop {
        let request = v1::ListPodSandboxRequest {
            filter: Some(filter.clone()),
        };
        match server.runtime.list_pod_sandbox(request).await {
            Ok(reply) => return reply.into_inner().items,
            Err(status) => assert!(begun.elapsed() < Duration::from_secs(10), "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn ended(server: &mut Server, id: &str) -> v1::ContainerStatus {
    let begun = Instant::now();
    loop {
        let status = container_status(server, id).await.unwrap();
        if status.state() == v1::ContainerState::ContainerExited {
            return status;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn stop_sandbox(server: &mut Server, id: &str) -> Result<(), Status> {
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    server.runtime.stop_pod_sandbox(request).await.map(drop)
}

pub(crate) async fn remove_sandbox(server: &mut Server, id: &str) -> Result<(), Status> {
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: id.to_owned(),
    };
    server.runtime.remove_pod_sandbox(request).await.map(drop)
}

pub(crate) async fn stop(server: &mut Server, id: &str) -> Result<(), Status> {
    let request = v1::StopContainerRequest {
        container_id: id.to_owned(),
        timeout: 0,
    };
    server.runtime.stop_container(request).await.map(drop)
}

pub(crate) async fn remove(server: &mut Server, id: &str) -> Result<(), Status> {
    let request = v1::RemoveContainerRequest {
        container_id: id.to_owned(),
    };
    server.runtime.remove_container(request).await.map(drop)
}

pub(crate) async fn exec_sync(
    server: &mut Server,
    id: &str,
    script: &str,
    timeout: i64,
) -> Result<v1::ExecSyncResponse, Status> {
    let request = v1::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        timeout,
    };
    Ok(server.runtime.exec_sync(request).await?.into_inner())
}
