//! What the engine has of our pods, read from its containers and their labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use berth_docker::model::{ContainerInspect, ContainerStatus, HostConfig, MountType, TextMap};

use crate::config;
use crate::labels;
use crate::request::{ContainerRequest, SandboxRequest};
use crate::spec::{
    ContainerId, Mount, MountSource, PidMode, PodIdentity, Propagation, Resources, SandboxId,
};

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The ID of its pause process on the host; 0 while it does not run.
    pub process: u32,
    /// Its address; `None` with the host's network, or while it does not run.
    pub ip: Option<String>,
    /// Its addresses of other families and networks.
    pub additional_ips: Vec<String>,
    /// Whether it has the host's network.
    pub host_network: bool,
    /// Whether the engine gave it no network: then it is in that of CNI plugins, or in none.
    pub no_network: bool,
    /// What its containers see of process IDs.
    pub pid: PidMode,
    /// Whether it has the host's IPC.
    pub host_ipc: bool,
    /// The engine's runtime as it was asked for; empty is the default.
    pub runtime_handler: String,
    /// The engine's runtime as the engine knows it.
    pub runtime: String,
    /// The cgroup parent as the engine knows it.
    pub cgroup_parent: String,
    /// The pod's labels and what the front door added.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// The labels that name it, where the front door gave others than the upstream kubelet gives.
    pub naming: Option<BTreeMap<String, String>>,
}

/// A container of a pod on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The ID of its process on the host; 0 while it does not run.
    pub process: u32,
    /// The image as it was named to the engine.
    pub image: String,
    /// The image as the pod's author named it.
    pub image_name: String,
    /// The image by its digest in a repository where that is known, else its ID.
    pub image_ref: String,
    /// The image's ID.
    pub image_id: String,
    /// The user it was made with, as `user[:group]`; empty is the image's.
    pub user: String,
    /// Its further groups.
    pub groups: Vec<String>,
    /// What it may use.
    pub resources: Resources,
    /// The mounts that were asked for.
    pub mounts: Vec<Mount>,
    /// The signal that asks it to stop; empty is the engine's default.
    pub stop_signal: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is open.
    pub stdin: bool,
    /// Whether its standard input ends with the first attach.
    pub stdin_once: bool,
    /// The path of its log in CRI format.
    pub log_path: Option<String>,
    /// The engine's log driver.
    pub log_driver: String,
    /// The directory of its changes to the image's files, where the engine says.
    pub upper_directory: Option<String>,
    /// Its labels, without those that name it.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The labels that name it, where the front door gave others than the upstream kubelet gives.
    pub naming: Option<BTreeMap<String, String>>,
}

impl Sandbox {
    /// Its labels as the front door gave them.
    pub fn given_labels(&self) -> BTreeMap<String, String> {
        given(&self.labels, self.naming.as_ref(), &self.pod, None)
    }
}

impl Container {
    /// Its labels as the front door gave them.
    pub fn given_labels(&self) -> BTreeMap<String, String> {
        given(
            &self.labels,
            self.naming.as_ref(),
            &self.pod,
            Some(&self.name),
        )
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether its main process has ended: not of one that has yet to be started.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Exited { .. })
    }
}

fn given(
    labels: &BTreeMap<String, String>,
    naming: Option<&BTreeMap<String, String>>,
    pod: &PodIdentity,
    container: Option<&str>,
) -> BTreeMap<String, String> {
    let mut all = labels.clone();
    match naming {
        Some(naming) => all.extend(naming.clone()),
        None => all.extend(
            labels::naming(pod, container).map(|(key, value)| (key.to_owned(), value.to_owned())),
        ),
    }
    all
}

/// One of a pod's containers: the sandbox or another.
#[derive(Debug, Clone)]
pub enum Observed {
    /// The sandbox.
    Sandbox(Arc<Sandbox>),
    /// Another container.
    Container(Arc<Container>),
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
    let process = u32::try_from(inspect.state.pid).unwrap_or_default();
    let host = &inspect.host_config;
    match kind {
        labels::TYPE_SANDBOX => {
            let request = SandboxRequest::from_label(all.get(labels::REQUEST));
            let mut addresses = inspect
                .network_settings
                .ip_addresses()
                .filter(|_| inspect.state.running)
                .map(str::to_owned);
            let ip = addresses.next();
            Some(Observed::Sandbox(Arc::new(Sandbox {
                id: SandboxId::new(&*inspect.id),
                pod,
                attempt,
                created_at,
                running: inspect.state.running,
                process,
                ip,
                additional_ips: addresses.collect(),
                host_network: host.network_mode == "host",
                no_network: host.network_mode == config::NO_NETWORK,
                pid: if host.pid_mode == "host" {
                    PidMode::Host
                } else {
                    request.pid
                },
                host_ipc: host.ipc_mode == "host",
                runtime_handler: request.runtime_handler,
                runtime: host.runtime.clone(),
                cgroup_parent: host.cgroup_parent.clone(),
                labels: own,
                annotations,
                naming: request.naming,
            })))
        }
        labels::TYPE_CONTAINER => {
            let request = ContainerRequest::from_label(all.get(labels::REQUEST));
            let image_name = if request.image_name.is_empty() {
                inspect.config.image.clone()
            } else {
                request.image_name.clone()
            };
            Some(Observed::Container(Arc::new(Container {
                id: ContainerId::new(&*inspect.id),
                pod,
                sandbox: SandboxId::new(all.get(labels::SANDBOX_ID)?),
                name: all.get(labels::CONTAINER_NAME)?.to_owned(),
                attempt,
                created_at,
                state: state(inspect),
                process,
                image: inspect.config.image.clone(),
                image_name,
                image_ref: if request.image_ref.is_empty() {
                    inspect.image.clone()
                } else {
                    request.image_ref.clone()
                },
                image_id: inspect.image.clone(),
                user: inspect.config.user.clone(),
                groups: host.group_add.clone(),
                resources: resources(host, &request),
                mounts: if all.contains_key(labels::REQUEST) {
                    request.mounts
                } else {
                    mounts(inspect)
                },
                stop_signal: inspect.config.stop_signal.clone(),
                tty: inspect.config.tty,
                stdin: inspect.config.open_stdin,
                stdin_once: inspect.config.stdin_once,
                log_path: all.get(labels::LOG_PATH).map(str::to_owned),
                log_driver: host
                    .log_config
                    .as_ref()
                    .map(|config| config.kind.clone())
                    .unwrap_or_default(),
                upper_directory: inspect
                    .graph_driver
                    .as_ref()
                    .and_then(|driver| driver.data.get("UpperDir"))
                    .map(str::to_owned),
                labels: own,
                annotations,
                naming: request.naming,
            })))
        }
        _ => None,
    }
}

fn resources(host: &HostConfig, request: &ContainerRequest) -> Resources {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    Resources {
        cpu_shares: positive(host.cpu_shares),
        cpu_quota: Some(host.cpu_quota).filter(|quota| *quota != 0),
        cpu_period: positive(host.cpu_period),
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        memory: positive(host.memory),
        memory_swap: positive(host.memory_swap),
        hugepages: request.hugepages.clone(),
        unified: request.unified.clone(),
    }
}

/// The mounts of a container that did not note what was asked for: the host's files that it sees.
fn mounts(inspect: &ContainerInspect) -> Vec<Mount> {
    inspect
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountType::Bind)
        .map(|mount| {
            let source = MountSource::Host {
                path: mount.source.clone(),
                create: true,
            };
            Mount {
                read_only: !mount.rw,
                propagation: match mount.propagation.as_str() {
                    "rslave" | "slave" => Propagation::HostToContainer,
                    "rshared" | "shared" => Propagation::Bidirectional,
                    _ => Propagation::Private,
                },
                ..Mount::new(source, mount.destination.clone())
            }
        })
        .collect()
}

fn state(inspect: &ContainerInspect) -> State {
    let state = &inspect.state;
    let started_at = state.started_at.map(SystemTime::from);
    let finished_at = state.finished_at.map(SystemTime::from);
    if state.running || state.paused {
        return State::Running { started_at };
    }
    match state.status {
        // One that ran says how it ended also while it goes, or when it cannot go.
        ContainerStatus::Removing | ContainerStatus::Dead if started_at.is_none() => {
            State::Removing
        }
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
    let (mut own, mut annotations) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in all.iter() {
        if let Some(key) = key.strip_prefix(labels::ANNOTATION_PREFIX) {
            annotations.insert(key.to_owned(), value.to_owned());
        } else if !labels::is_own(key) {
            own.insert(key.to_owned(), value.to_owned());
        }
    }
    (own, annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str) -> State {
        state(&serde_json::from_str(json).expect("an inspect"))
    }

    #[test]
    fn one_that_ran_says_how_it_ended_also_while_it_is_removed() {
        for status in ["removing", "dead", "exited"] {
            let ran = format!(
                r#"{{"State": {{"Status": "{status}", "ExitCode": 3, "StartedAt": "2026-01-02T03:04:05Z"}}}}"#
            );
            assert!(
                matches!(seen(&ran), State::Exited { exit_code: 3, .. }),
                "{status}: {:?}",
                seen(&ran)
            );
        }
        let never = r#"{"State": {"Status": "removing", "StartedAt": "0001-01-01T00:00:00Z"}}"#;
        assert_eq!(seen(never), State::Removing);
    }
}
