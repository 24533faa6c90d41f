//! The mapping from berth's words to Docker's: pure functions from a spec to the body of a create call.
//!
//! What has to be looked up before (a seccomp profile's text, a user's group) comes in as [`Resolved`]; what the engine can do as
//! [`EngineFacts`]. Nothing here reads a file or asks the engine.

use std::collections::BTreeMap;

use berth_docker::ApiVersion;
use berth_docker::model::{
    ContainerConfig, CreateContainer, DeviceMapping, DeviceRequest, HealthConfig, HostConfig,
    KeySet, LogConfig, PortBinding, TextMap,
};

use crate::labels;
use crate::logs;
use crate::request::{ContainerRequest, SandboxRequest};
use crate::spec::{
    ContainerSpec, Log, Pid, PidMode, PodIdentity, PortMapping, SandboxId, SandboxSpec,
};

mod mounts;
mod resources;
mod security;

pub use mounts::{IMAGE_MOUNTS, VOLUMES_PATH};
pub use resources::update;

/// The least CPU weight the kernel takes.
const MIN_SHARES: i64 = 2;

/// The `oom_score_adj` of a sandbox: that of dockershim. The kernel should kill every process of the pod before its namespaces.
pub const SANDBOX_OOM_SCORE_ADJ: i32 = -998;

/// The engine's network that has nothing but the loopback interface.
pub(crate) const NO_NETWORK: &str = "none";

/// Why a container cannot be made by this engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// The spec contradicts itself, or asks for what Docker has no word for.
    #[error("{0}")]
    Spec(String),
    /// A read-only mount that includes the mounts below it.
    #[error("{0}")]
    RecursiveReadOnly(String),
    /// A mount of an image's files.
    #[error("{0}")]
    ImageMount(String),
}

/// What is known of the engine when a container is described to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineFacts {
    /// The version that is spoken with it: older ones lack some fields.
    pub version: ApiVersion,
    /// Whether its cgroups are systemd's slices and scopes.
    pub systemd_cgroups: bool,
    /// Whether it labels containers for SELinux.
    pub selinux: bool,
}

/// What a spec refers to, looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The text of the seccomp profile, for [`Seccomp::File`](crate::spec::Seccomp::File).
    pub seccomp: Option<String>,
    /// User and primary group, for [`GroupsPolicy::Strict`](crate::spec::GroupsPolicy::Strict) without a group.
    pub user: Option<(String, i64)>,
    /// The groups that the image has the user in, for [`GroupsPolicy::Merge`](crate::spec::GroupsPolicy::Merge) with a group: then Docker
    /// looks for none.
    pub groups: Vec<i64>,
}

/// The create call of a sandbox.
///
/// # Errors
/// When the spec contradicts itself.
pub fn sandbox(
    spec: &SandboxSpec,
    image: &str,
    oom_score_adj: i32,
    facts: EngineFacts,
    resolved: &Resolved,
) -> Result<CreateContainer, Unsupported> {
    let mut all = label_map(
        &spec.pod,
        labels::SANDBOX_NAME,
        labels::TYPE_SANDBOX,
        &spec.labels,
        &spec.annotations,
    );
    all.insert(labels::RESTART_COUNT.to_owned(), spec.attempt.to_string());
    insert_request(&mut all, SandboxRequest::of(spec).to_label());
    let mut config = ContainerConfig {
        image: image.to_owned(),
        labels: text_map(&all),
        user: security::user(&spec.security, resolved)?,
        ..Default::default()
    };
    let mut host = HostConfig {
        network_mode: match spec.network.as_str() {
            _ if spec.host_network => "host",
            "" => "default",
            network => network,
        }
        .to_owned(),
        ipc_mode: if spec.host_ipc { "host" } else { "shareable" }.to_owned(),
        pid_mode: if spec.pid == PidMode::Host {
            "host"
        } else {
            ""
        }
        .to_owned(),
        // A pause container writes nothing; without a log file each pod costs one file and one descriptor of the engine less.
        log_config: Some(no_log()),
        cpu_shares: MIN_SHARES,
        oom_score_adj: oom_score_adj.into(),
        cgroup_parent: cgroup_parent(&spec.cgroup_parent, facts),
        runtime: spec.runtime_handler.clone(),
        sysctls: text_map(&spec.sysctls),
        readonly_rootfs: spec.volumes.is_empty(),
        mounts: spec
            .volumes
            .iter()
            .map(|volume| mounts::held(&volume.name, &spec.pod))
            .collect(),
        ..Default::default()
    };
    let security = crate::spec::Security {
        no_new_privileges: true,
        read_only_root: host.readonly_rootfs || spec.security.read_only_root,
        ..spec.security.clone()
    };
    security::apply(&security, resolved, &mut host);
    set_annotations(&spec.annotations, facts, &mut host);
    host.dns.clone_from(&spec.dns.servers);
    host.dns_search.clone_from(&spec.dns.searches);
    host.dns_options.clone_from(&spec.dns.options);
    if !spec.host_network {
        config.hostname.clone_from(&spec.hostname);
        host.extra_hosts = spec
            .hosts
            .iter()
            .map(|(address, name)| format!("{name}:{address}"))
            .collect();
        (config.exposed_ports, host.port_bindings) = ports(&spec.ports);
    }
    let name = labels::docker_name(labels::SANDBOX_NAME, &spec.pod, spec.attempt);
    Ok(CreateContainer {
        name: Some(name),
        config,
        host_config: host,
        ..Default::default()
    })
}

/// The cgroup parent as the engine's driver wants it: a path, or the name of a slice.
fn cgroup_parent(parent: &str, facts: EngineFacts) -> String {
    match parent.rsplit_once('/') {
        Some((_, slice)) if facts.systemd_cgroups => slice.to_owned(),
        _ => parent.to_owned(),
    }
}

fn ports(mappings: &[PortMapping]) -> (KeySet, BTreeMap<String, Vec<PortBinding>>) {
    let mut exposed = Vec::new();
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for mapping in mappings {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol.name());
        if let Some(port) = mapping.host_port {
            bindings.entry(key.clone()).or_default().push(PortBinding {
                host_ip: mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                host_port: port.to_string(),
            });
        }
        exposed.push(key);
    }
    (exposed.into_iter().collect(), bindings)
}

/// The create call of a container in a sandbox whose cgroups are below `cgroup_parent` and which `runtime` runs, both as the sandbox's own
/// create call had them.
///
/// # Errors
/// When the engine is too old for something the spec asks for, or Docker has no word for it; the message names it.
pub fn container(
    spec: &ContainerSpec,
    pod: &PodIdentity,
    sandbox: &InSandbox<'_>,
    oom_score_adj: i32,
    facts: EngineFacts,
    resolved: &Resolved,
) -> Result<CreateContainer, Unsupported> {
    let mut all = label_map(
        pod,
        &spec.name,
        labels::TYPE_CONTAINER,
        &spec.labels,
        &spec.annotations,
    );
    all.insert(labels::SANDBOX_ID.to_owned(), sandbox.id.to_string());
    all.insert(labels::RESTART_COUNT.to_owned(), spec.attempt.to_string());
    if let Log::File(path) = &spec.log {
        all.insert(labels::LOG_PATH.to_owned(), path.clone());
    }
    insert_request(&mut all, ContainerRequest::of(spec, pod).to_label());
    let config = ContainerConfig {
        image: spec.image.clone(),
        entrypoint: (!spec.command.is_empty()).then(|| spec.command.clone()),
        cmd: spec.args.clone(),
        env: spec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        user: security::user(&spec.security, resolved)?,
        open_stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        stop_signal: spec.stop_signal.clone().unwrap_or_default(),
        labels: text_map(&all),
        // The pod's probes say what is healthy; the image's own check would run beside them.
        healthcheck: Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let shared = format!("container:{}", sandbox.id);
    let mut host = HostConfig {
        network_mode: shared.clone(),
        ipc_mode: shared.clone(),
        pid_mode: match &spec.pid {
            Pid::Own => String::new(),
            Pid::Pod => shared,
            Pid::Host => "host".to_owned(),
            Pid::Target(target) => format!("container:{target}"),
        },
        uts_mode: if spec.host_network { "host" } else { "" }.to_owned(),
        oom_score_adj: oom_score_adj.into(),
        cgroup_parent: sandbox.cgroup_parent.to_owned(),
        runtime: sandbox.runtime.to_owned(),
        log_config: match &spec.log {
            Log::Engine => None,
            Log::None => Some(no_log()),
            Log::File(_) => Some(logs::driver()),
        },
        devices: spec.devices.iter().map(device).collect(),
        device_requests: cdi(&spec.cdi_devices, facts)?,
        ..Default::default()
    };
    resources::apply(&spec.resources, &mut host);
    security::apply(&spec.security, resolved, &mut host);
    set_annotations(&spec.annotations, facts, &mut host);
    for mount in &spec.mounts {
        mounts::add(mount, pod, facts, &mut host)?;
    }
    let name = labels::docker_name(&spec.name, pod, spec.attempt);
    Ok(CreateContainer {
        name: Some(name),
        config,
        host_config: host,
        ..Default::default()
    })
}

/// The sandbox that a container is made in.
#[derive(Debug, Clone, Copy)]
pub struct InSandbox<'a> {
    /// Its ID.
    pub id: &'a SandboxId,
    /// Its `HostConfig.CgroupParent`.
    pub cgroup_parent: &'a str,
    /// Its `HostConfig.Runtime`, or empty for the engine's default.
    pub runtime: &'a str,
}

impl<'a> InSandbox<'a> {
    /// A sandbox that was made with the engine's default cgroup parent and runtime.
    pub fn new(id: &'a SandboxId) -> Self {
        Self {
            id,
            cgroup_parent: "",
            runtime: "",
        }
    }
}

fn no_log() -> LogConfig {
    LogConfig {
        kind: "none".to_owned(),
        ..Default::default()
    }
}

fn device(device: &crate::spec::Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: device.host_path.clone(),
        path_in_container: device.path.clone(),
        cgroup_permissions: if device.permissions.is_empty() {
            "rwm".to_owned()
        } else {
            device.permissions.clone()
        },
    }
}

/// Devices of the Container Device Interface.
fn cdi(names: &[String], facts: EngineFacts) -> Result<Vec<DeviceRequest>, Unsupported> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    if facts.version < ApiVersion::new(1, 44) {
        return Err(Unsupported::Spec(format!(
            "the CDI device {:?} needs API 1.44 (Docker Engine 25); this engine speaks {}",
            names[0], facts.version
        )));
    }
    Ok(vec![DeviceRequest {
        driver: "cdi".to_owned(),
        device_ids: names.to_vec(),
        ..Default::default()
    }])
}

/// What runtimes and their plugins read as OCI annotations, where the engine passes them on.
fn set_annotations(
    annotations: &BTreeMap<String, String>,
    facts: EngineFacts,
    host: &mut HostConfig,
) {
    if facts.version >= ApiVersion::new(1, 43) {
        host.annotations = text_map(annotations);
    }
}

fn label_map(
    pod: &PodIdentity,
    name: &str,
    kind: &str,
    own: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut all = own.clone();
    all.extend(
        annotations
            .iter()
            .map(|(key, value)| (format!("{}{key}", labels::ANNOTATION_PREFIX), value.clone())),
    );
    let named = [
        (labels::POD_NAME, pod.name.as_str()),
        (labels::POD_NAMESPACE, &pod.namespace),
        (labels::POD_UID, &pod.uid),
        (labels::CONTAINER_NAME, name),
        (labels::TYPE, kind),
    ];
    all.extend(named.map(|(key, value)| (key.to_owned(), value.to_owned())));
    all
}

fn insert_request(all: &mut BTreeMap<String, String>, request: Option<String>) {
    all.extend(request.map(|request| (labels::REQUEST.to_owned(), request)));
}

fn text_map(map: &BTreeMap<String, String>) -> TextMap {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}
