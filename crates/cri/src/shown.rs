//! From what berth knows of sandboxes and containers to the interface's words. Pure.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use berth_pod::engine::EngineInfo;
use berth_pod::observe::{Container, Sandbox, State};
use berth_pod::spec::{Mount, MountSource, PidMode, Propagation, Resources};

use serde_json::json;

use crate::v1;
use crate::wanted;

/// A time in nanoseconds since 1970; 0 for none.
pub(crate) fn nanos(time: Option<SystemTime>) -> i64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or_default()
}

fn sandbox_metadata(sandbox: &Sandbox) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: sandbox.pod.name.clone(),
        uid: sandbox.pod.uid.clone(),
        namespace: sandbox.pod.namespace.clone(),
        attempt: sandbox.attempt,
    }
}

pub(crate) fn sandbox_state(sandbox: &Sandbox) -> v1::PodSandboxState {
    if sandbox.running {
        v1::PodSandboxState::SandboxReady
    } else {
        v1::PodSandboxState::SandboxNotready
    }
}

/// A row of the list.
pub(crate) fn sandbox(sandbox: &Sandbox) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.to_string(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox).into(),
        created_at: nanos(sandbox.created_at),
        labels: sandbox.given_labels(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

/// The status of a sandbox that has these addresses.
pub(crate) fn sandbox_status(sandbox: &Sandbox, addresses: Vec<String>) -> v1::PodSandboxStatus {
    let pod_or_node = |host: bool| {
        if host {
            v1::NamespaceMode::Node
        } else {
            v1::NamespaceMode::Pod
        }
    };
    let mut addresses = addresses.into_iter();
    let options = v1::NamespaceOption {
        network: pod_or_node(sandbox.host_network).into(),
        ipc: pod_or_node(sandbox.host_ipc).into(),
        pid: match sandbox.pid {
            PidMode::Pod => v1::NamespaceMode::Pod,
            PidMode::Container => v1::NamespaceMode::Container,
            PidMode::Host => v1::NamespaceMode::Node,
        }
        .into(),
        ..Default::default()
    };
    v1::PodSandboxStatus {
        id: sandbox.id.to_string(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox).into(),
        created_at: nanos(sandbox.created_at),
        network: Some(v1::PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace {
                options: Some(options),
            }),
        }),
        labels: sandbox.given_labels(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

pub(crate) fn container_state(state: &State) -> v1::ContainerState {
    match state {
        State::Created => v1::ContainerState::ContainerCreated,
        State::Running { .. } => v1::ContainerState::ContainerRunning,
        State::Exited { .. } | State::Removing => v1::ContainerState::ContainerExited,
    }
}

fn image(container: &Container) -> v1::ImageSpec {
    v1::ImageSpec {
        image: container.image_name.clone(),
        user_specified_image: container.image_name.clone(),
        ..Default::default()
    }
}

fn container_metadata(container: &Container) -> v1::ContainerMetadata {
    v1::ContainerMetadata {
        name: container.name.clone(),
        attempt: container.attempt,
    }
}

/// A row of the list.
pub(crate) fn container(container: &Container) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.sandbox.to_string(),
        metadata: Some(container_metadata(container)),
        image: Some(image(container)),
        image_ref: container.image_ref.clone(),
        state: container_state(&container.state).into(),
        created_at: nanos(container.created_at),
        labels: container.given_labels(),
        annotations: container.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

/// How a container ended, in the words that the kubelet knows.
fn reason(exit_code: i64, oom_killed: bool, started: bool, error: &str) -> &'static str {
    if !started && !error.is_empty() {
        "ContainerCannotRun"
    } else if oom_killed {
        "OOMKilled"
    } else if exit_code == 0 {
        "Completed"
    } else {
        "Error"
    }
}

/// The status of a container. `user` is that of its process, while it is known.
pub(crate) fn container_status(
    container: &Container,
    user: Option<v1::LinuxContainerUser>,
) -> v1::ContainerStatus {
    let mut status = v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(container_metadata(container)),
        state: container_state(&container.state).into(),
        created_at: nanos(container.created_at),
        image: Some(image(container)),
        image_ref: container.image_ref.clone(),
        labels: container.given_labels(),
        annotations: container.annotations.clone(),
        mounts: container.mounts.iter().map(mount).collect(),
        log_path: container.log_path.clone().unwrap_or_default(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources(&container.resources)),
            windows: None,
        }),
        image_id: container.image_id.clone(),
        user: user.map(|linux| v1::ContainerUser { linux: Some(linux) }),
        stop_signal: wanted::signal(&container.stop_signal).into(),
        ..Default::default()
    };
    match &container.state {
        State::Created | State::Removing => {}
        State::Running { started_at } => status.started_at = nanos(*started_at),
        State::Exited {
            exit_code,
            oom_killed,
            error,
            started_at,
            finished_at,
        } => {
            status.exit_code = i32::try_from(*exit_code).unwrap_or(i32::MAX);
            reason(*exit_code, *oom_killed, started_at.is_some(), error)
                .clone_into(&mut status.reason);
            status.message.clone_from(error);
            // One that could not be started has no times of its own, and the kubelet wants some.
            status.started_at = nanos(started_at.or(container.created_at));
            status.finished_at = nanos(finished_at.or(container.created_at));
        }
    }
    status
}

fn mount(mount: &Mount) -> v1::Mount {
    let mut shown = v1::Mount {
        container_path: mount.path.clone(),
        readonly: mount.read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation: match mount.propagation {
            Propagation::Private => v1::MountPropagation::PropagationPrivate,
            Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
            Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
        }
        .into(),
        recursive_read_only: mount.recursive_read_only,
        ..Default::default()
    };
    match &mount.source {
        MountSource::Host { path, .. } => shown.host_path.clone_from(path),
        MountSource::Image { image, sub_path } => {
            shown.image = Some(v1::ImageSpec {
                image: image.clone(),
                image_ref: image.clone(),
                ..Default::default()
            });
            shown.image_sub_path.clone_from(sub_path);
        }
        // A volume of the engine's, which only the other front door makes.
        MountSource::Pod { volume, .. } => shown.host_path.clone_from(volume),
    }
    shown
}

fn resources(resources: &Resources) -> v1::LinuxContainerResources {
    let signed = |value: Option<u64>| {
        value
            .and_then(|value| i64::try_from(value).ok())
            .unwrap_or_default()
    };
    v1::LinuxContainerResources {
        cpu_period: signed(resources.cpu_period),
        cpu_quota: resources.cpu_quota.unwrap_or_default(),
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: signed(resources.memory),
        memory_swap_limit_in_bytes: signed(resources.memory_swap),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepages
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone(),
        oom_score_adj: 0,
    }
}

/// What people ask for with `crictl inspectp`, as JSON.
pub(crate) fn sandbox_info(sandbox: &Sandbox) -> String {
    json!({
        "pid": sandbox.process,
        "runtimeHandler": sandbox.runtime,
        "cgroupParent": sandbox.cgroup_parent,
        "networkNamespace": format!("/proc/{}/ns/net", sandbox.process),
    })
    .to_string()
}

/// What people ask for with `crictl inspect`, as JSON.
pub(crate) fn container_info(container: &Container) -> String {
    json!({
        "pid": container.process,
        "sandboxID": container.sandbox.as_str(),
        "user": container.user,
        "image": container.image,
        "upperDirectory": container.upper_directory,
    })
    .to_string()
}

/// What people ask for with `crictl inspecti`, as JSON. `config` is that of the image, as in the OCI image specification.
pub(crate) fn image_info(config: &str) -> String {
    // It was JSON just before.
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    json!({ "imageSpec": config }).to_string()
}

/// What people ask for with `crictl info`, as JSON.
pub(crate) fn engine_info(info: &EngineInfo) -> String {
    json!({
        "version": info.version,
        "cgroupDriver": if info.systemd_cgroups { "systemd" } else { "cgroupfs" },
        "storageDriver": info.storage_driver,
        "dataRoot": info.data_root,
        "kernelVersion": info.kernel_version,
        "defaultRuntime": info.default_runtime,
    })
    .to_string()
}

/// The statuses of a pod's containers.
/// The containers of a pod, the newest first: a kubelet with evented PLEG takes the first of a name for the one that counts, and would start
/// another beside one that runs.
pub(crate) fn container_statuses(containers: &[Arc<Container>]) -> Vec<v1::ContainerStatus> {
    let mut newest: Vec<&Container> = containers.iter().map(Arc::as_ref).collect();
    newest.sort_by_key(|container| Reverse(container.created_at));
    newest
        .into_iter()
        .map(|container| container_status(container, None))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_the_word_that_the_kubelet_knows() {
        assert_eq!(reason(0, false, true, ""), "Completed");
        assert_eq!(reason(1, false, true, ""), "Error");
        assert_eq!(reason(137, true, true, ""), "OOMKilled");
        assert_eq!(
            reason(127, false, false, "no such file"),
            "ContainerCannotRun"
        );
    }
}
