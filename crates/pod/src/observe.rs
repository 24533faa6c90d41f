//! What the engine has of our pods, read from its containers and their labels.

use std::collections::BTreeMap;
use std::time::SystemTime;

use berth_docker::model::{ContainerInspect, ContainerStatus, TextMap};

use crate::labels;
use crate::spec::{ContainerId, PodIdentity, SandboxId};

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Its process runs (or is paused).
    Running {
        /// Since when.
        started_at: Option<SystemTime>,
    },
    /// Its process has ended, or could not be started.
    Exited {
        /// What it returned; 128 + the signal that ended it.
        exit_code: i64,
        /// Whether the kernel killed it for memory.
        oom_killed: bool,
        /// The engine's words, when it could not be started.
        error: String,
        /// When it was started; `None` if it never was.
        started_at: Option<SystemTime>,
        /// When it ended.
        finished_at: Option<SystemTime>,
    },
    /// The engine is removing it, or failed to.
    Removing,
}

/// A sandbox on the engine.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Its ID.
    pub id: SandboxId,
    /// Whose it is.
    pub pod: PodIdentity,
    /// Which of the pod's sandboxes.
    pub attempt: u32,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// Whether its pause process runs.
    pub running: bool,
    /// Its address; `None` with the host's network, or while it does not run.
    pub ip: Option<String>,
    /// Whether it has the host's network.
    pub host_network: bool,
    /// Whether it has the host's process IDs.
    pub host_pid: bool,
    /// The pod's labels and what the front door added.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A container of a pod on the engine.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its ID.
    pub id: ContainerId,
    /// Whose it is.
    pub pod: PodIdentity,
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// Which instance of it.
    pub attempt: u32,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// Where it is in its life.
    pub state: State,
    /// The image as it was named.
    pub image: String,
    /// The image's ID.
    pub image_id: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Its labels, without those that name it.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// One of a pod's containers: the sandbox or another.
#[derive(Debug, Clone)]
pub enum Observed {
    /// The sandbox.
    Sandbox(Sandbox),
    /// Another container.
    Container(Container),
}

/// Reads one inspected container. `None` when its labels are not those of a pod's: it is somebody else's.
pub fn read(inspect: &ContainerInspect) -> Option<Observed> {
    let all = &inspect.config.labels;
    let pod = labels::pod_of(all)?;
    let kind = all.get(labels::TYPE)?;
    let attempt = all
        .get(labels::RESTART_COUNT)
        .and_then(|count| count.parse().ok())
        .or_else(|| labels::attempt_of(inspect.bare_name()))
        .unwrap_or_default();
    let (own, annotations) = split(all);
    let created_at = inspect.created.map(SystemTime::from);
    match kind {
        labels::TYPE_SANDBOX => Some(Observed::Sandbox(Sandbox {
            id: SandboxId::new(&*inspect.id),
            pod,
            attempt,
            created_at,
            running: inspect.state.running,
            ip: inspect
                .network_settings
                .ip_address()
                .filter(|_| inspect.state.running)
                .map(str::to_owned),
            host_network: inspect.host_config.network_mode == "host",
            host_pid: inspect.host_config.pid_mode == "host",
            labels: own,
            annotations,
        })),
        labels::TYPE_CONTAINER => Some(Observed::Container(Container {
            id: ContainerId::new(&*inspect.id),
            pod,
            sandbox: SandboxId::new(all.get(labels::SANDBOX_ID)?),
            name: all.get(labels::CONTAINER_NAME)?.to_owned(),
            attempt,
            created_at,
            state: state(inspect),
            image: inspect.config.image.clone(),
            image_id: inspect.image.clone(),
            tty: inspect.config.tty,
            labels: own,
            annotations,
        })),
        _ => None,
    }
}

fn state(inspect: &ContainerInspect) -> State {
    let state = &inspect.state;
    let started_at = state.started_at.map(SystemTime::from);
    let finished_at = state.finished_at.map(SystemTime::from);
    if state.running || state.paused {
        return State::Running { started_at };
    }
    match state.status {
        ContainerStatus::Removing | ContainerStatus::Dead => State::Removing,
        // A start that failed leaves the container "created", with the engine's words and an exit code.
        ContainerStatus::Created if state.error.is_empty() && state.exit_code == 0 => {
            State::Created
        }
        _ => State::Exited {
            exit_code: state.exit_code,
            oom_killed: state.oom_killed,
            error: state.error.clone(),
            started_at,
            finished_at,
        },
    }
}

/// The labels and the annotations among a container's labels, without those that only say where it belongs.
fn split(all: &TextMap) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    const NAMING: [&str; 7] = [
        labels::POD_NAME,
        labels::POD_NAMESPACE,
        labels::POD_UID,
        labels::CONTAINER_NAME,
        labels::TYPE,
        labels::SANDBOX_ID,
        labels::RESTART_COUNT,
    ];
    let (mut own, mut annotations) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in all.iter() {
        if let Some(key) = key.strip_prefix(labels::ANNOTATION_PREFIX) {
            annotations.insert(key.to_owned(), value.to_owned());
        } else if !NAMING.contains(&key) {
            own.insert(key.to_owned(), value.to_owned());
        }
    }
    (own, annotations)
}
