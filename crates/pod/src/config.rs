//! The mapping from berth's words to Docker's: pure functions from a spec to the body of a create call.

use std::collections::BTreeMap;

use berth_docker::ApiVersion;
use berth_docker::model::{
    BindOptions, ContainerConfig, CreateContainer, HealthConfig, HostConfig, KeySet, LogConfig,
    Mount as DockerMount, MountType, PortBinding, TextMap, VolumeOptions,
};

use crate::labels;
use crate::spec::{
    ContainerSpec, Mount, MountSource, PodIdentity, PortMapping, Resources, SandboxId, SandboxSpec,
    Security,
};

/// The CPU weight of one core (cgroup v1 `cpu.shares`, which Docker converts for v2).
const SHARES_PER_CPU: u64 = 1024;
/// The least CPU weight the kernel takes.
const MIN_SHARES: u64 = 2;
/// The period of the CPU quota, in microseconds: the kernel's default.
const QUOTA_PERIOD: i64 = 100_000;
/// The least quota the kernel takes, in microseconds.
const MIN_QUOTA: i64 = 1_000;
/// The `oom_score_adj` of a sandbox: that of dockershim. The kernel should kill every process of the pod before its namespaces.
pub const SANDBOX_OOM_SCORE_ADJ: i32 = -998;
/// Where the sandbox holds the pod's directories, so that they outlive each container.
pub const VOLUMES_PATH: &str = "/volumes";

/// Why a container cannot be made by this engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unsupported(pub String);

/// The create call of a sandbox.
pub fn sandbox(spec: &SandboxSpec, image: &str, oom_score_adj: i32) -> CreateContainer {
    let mut all = label_map(
        &spec.pod,
        labels::SANDBOX_NAME,
        labels::TYPE_SANDBOX,
        &spec.labels,
        &spec.annotations,
    );
    all.insert(labels::RESTART_COUNT.to_owned(), spec.attempt.to_string());
    let mut config = ContainerConfig {
        image: image.to_owned(),
        labels: text_map(&all),
        ..Default::default()
    };
    let mut host = HostConfig {
        network_mode: if spec.host_network { "host" } else { "default" }.to_owned(),
        ipc_mode: if spec.host_ipc { "host" } else { "shareable" }.to_owned(),
        pid_mode: if spec.host_pid { "host" } else { "" }.to_owned(),
        // A pause container writes nothing; without a log file each pod costs one file and one descriptor of the engine less.
        log_config: Some(LogConfig {
            kind: "none".to_owned(),
            ..Default::default()
        }),
        cpu_shares: MIN_SHARES as i64,
        oom_score_adj: oom_score_adj.into(),
        security_opt: vec!["no-new-privileges".to_owned()],
        readonly_rootfs: spec.volumes.is_empty(),
        mounts: spec
            .volumes
            .iter()
            .map(|volume| held(&volume.name, &spec.pod))
            .collect(),
        ..Default::default()
    };
    if !spec.host_network {
        config.hostname.clone_from(&spec.hostname);
        host.dns.clone_from(&spec.dns.servers);
        host.dns_search.clone_from(&spec.dns.searches);
        host.dns_options.clone_from(&spec.dns.options);
        host.extra_hosts = spec
            .hosts
            .iter()
            .map(|(address, name)| format!("{name}:{address}"))
            .collect();
        (config.exposed_ports, host.port_bindings) = ports(&spec.ports);
    }
    let name = labels::docker_name(labels::SANDBOX_NAME, &spec.pod, spec.attempt);
    CreateContainer {
        name: Some(name),
        config,
        host_config: host,
        ..Default::default()
    }
}

/// A pod's directory as the sandbox holds it.
fn held(volume: &str, pod: &PodIdentity) -> DockerMount {
    DockerMount {
        kind: MountType::Volume,
        source: labels::volume_name(volume, pod),
        target: format!("{VOLUMES_PATH}/{volume}"),
        ..Default::default()
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

/// The create call of a container in a sandbox. `version` is the engine's: older ones lack some mounts.
///
/// # Errors
/// When the engine is too old for something the spec asks for; the message names it.
pub fn container(
    spec: &ContainerSpec,
    pod: &PodIdentity,
    sandbox: &SandboxId,
    host_pid: bool,
    oom_score_adj: i32,
    version: ApiVersion,
) -> Result<CreateContainer, Unsupported> {
    let mut all = label_map(
        pod,
        &spec.name,
        labels::TYPE_CONTAINER,
        &spec.labels,
        &spec.annotations,
    );
    all.insert(labels::SANDBOX_ID.to_owned(), sandbox.to_string());
    all.insert(labels::RESTART_COUNT.to_owned(), spec.attempt.to_string());
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
        user: user(&spec.security)?,
        open_stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        labels: text_map(&all),
        // The pod's probes say what is healthy; the image's own check would run beside them.
        healthcheck: Some(HealthConfig {
            test: vec!["NONE".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let shared = format!("container:{sandbox}");
    let mut host = HostConfig {
        network_mode: shared.clone(),
        ipc_mode: shared,
        pid_mode: if host_pid { "host" } else { "" }.to_owned(),
        oom_score_adj: oom_score_adj.into(),
        ..Default::default()
    };
    resources(&spec.resources, &mut host);
    security(&spec.security, &mut host);
    for mount in &spec.mounts {
        add_mount(mount, pod, version, &mut host)?;
    }
    let name = labels::docker_name(&spec.name, pod, spec.attempt);
    Ok(CreateContainer {
        name: Some(name),
        config,
        host_config: host,
        ..Default::default()
    })
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

fn text_map(map: &BTreeMap<String, String>) -> TextMap {
    map.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// `uid[:gid]`, as Docker wants it.
fn user(security: &Security) -> Result<String, Unsupported> {
    match (security.user, security.group) {
        (Some(user), Some(group)) => Ok(format!("{user}:{group}")),
        (Some(user), None) => Ok(user.to_string()),
        (None, None) => Ok(String::new()),
        (None, Some(_)) => Err(Unsupported(
            "Docker cannot set a group without a user: set runAsUser beside runAsGroup".to_owned(),
        )),
    }
}

fn resources(resources: &Resources, host: &mut HostConfig) {
    let Resources {
        cpu_request_milli,
        cpu_limit_milli,
        memory_limit,
        ..
    } = *resources;
    // A limit without a request is also the request, as the API server would have filled in.
    host.cpu_shares = match cpu_request_milli.or(cpu_limit_milli) {
        Some(milli) => signed((milli.saturating_mul(SHARES_PER_CPU) / 1000).max(MIN_SHARES)),
        None => MIN_SHARES as i64,
    };
    if let Some(milli) = cpu_limit_milli {
        host.cpu_period = QUOTA_PERIOD;
        host.cpu_quota = (signed(milli).saturating_mul(QUOTA_PERIOD / 1000)).max(MIN_QUOTA);
    }
    if let Some(bytes) = memory_limit {
        host.memory = signed(bytes);
        host.memory_swap = signed(bytes);
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn security(security: &Security, host: &mut HostConfig) {
    host.privileged = security.privileged;
    host.readonly_rootfs = security.read_only_root;
    host.group_add = security
        .supplemental_groups
        .iter()
        .map(i64::to_string)
        .collect();
    host.cap_add.clone_from(&security.add_capabilities);
    host.cap_drop.clone_from(&security.drop_capabilities);
    if security.no_new_privileges {
        host.security_opt.push("no-new-privileges".to_owned());
    }
}

fn add_mount(
    mount: &Mount,
    pod: &PodIdentity,
    version: ApiVersion,
    host: &mut HostConfig,
) -> Result<(), Unsupported> {
    match &mount.source {
        // Engines below API 1.42 make a missing directory only for the older form, in which a colon separates.
        MountSource::Host { path, create: true } if version < ApiVersion::new(1, 42) => {
            if path.contains(':') || mount.path.contains(':') {
                let what = format!(
                    "the host path {path:?} or its mount path {:?} has a colon, which Docker Engine takes from API 1.42 on",
                    mount.path
                );
                return Err(Unsupported(what));
            }
            let options = if mount.read_only {
                "ro,rprivate"
            } else {
                "rprivate"
            };
            host.binds.push(format!("{path}:{}:{options}", mount.path));
        }
        MountSource::Host { path, create } => host.mounts.push(DockerMount {
            kind: MountType::Bind,
            source: path.clone(),
            target: mount.path.clone(),
            read_only: mount.read_only,
            bind_options: Some(BindOptions {
                propagation: "rprivate".to_owned(),
                create_mountpoint: *create,
                read_only_non_recursive: mount.read_only && version >= ApiVersion::new(1, 44),
                ..Default::default()
            }),
            ..Default::default()
        }),
        MountSource::Pod { volume, sub_path } => {
            if !sub_path.is_empty() && version < ApiVersion::new(1, 45) {
                let what = format!(
                    "subPath {sub_path:?} of the emptyDir {volume:?} needs API 1.45 (Docker Engine 26); this engine speaks {version}"
                );
                return Err(Unsupported(what));
            }
            host.mounts.push(DockerMount {
                kind: MountType::Volume,
                source: labels::volume_name(volume, pod),
                target: mount.path.clone(),
                read_only: mount.read_only,
                volume_options: Some(VolumeOptions {
                    no_copy: true,
                    subpath: sub_path.clone(),
                    ..Default::default()
                }),
                ..Default::default()
            });
        }
    }
    Ok(())
}
