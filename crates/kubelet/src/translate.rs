//! From a pod as Kubernetes writes it to sandboxes and containers as berth-pod makes them. Pure.

use std::collections::BTreeMap;

use berth_pod::spec::{
    ContainerSpec, Dns, Mount, MountSource, Pid, PidMode, PodIdentity, PodVolume, PortMapping,
    Protocol, Resources, SandboxSpec, Security, User,
};

use crate::env::{self, Facts};
use crate::manifest::{self, Validate};
use crate::observed::{self, Observed};
use crate::pod::{
    self, Container, DnsOption, DnsPolicy, EmptyDir, HostPathType, Medium, Pod, VolumeSource,
};
use crate::quantity::Quantity;

/// The annotation that keeps a container's hash, as the upstream kubelet names it.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// The annotation that keeps a sandbox's hash.
pub const SANDBOX_HASH: &str = "berth.sandbox.hash";
/// The annotation that keeps the pod as it was wanted when the sandbox or container was made, as JSON. The newest one of a pod holds.
pub const POD_DATA: &str = "io.kubernetes.pod.data";
/// The annotation that keeps the pod's grace period in seconds, as the upstream kubelet names it.
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// `oom_score_adj` of a container of a Guaranteed pod (Kubernetes: `guaranteedOOMScoreAdj`).
const GUARANTEED_OOM_SCORE_ADJ: i32 = -997;
/// `oom_score_adj` of a container of a BestEffort pod (Kubernetes: `besteffortOOMScoreAdj`).
const BEST_EFFORT_OOM_SCORE_ADJ: i32 = 1000;

/// The CPU weight of one core (cgroup v1 `cpu.shares`, which Docker converts for v2).
const SHARES_PER_CPU: u64 = 1024;
/// The period of the CPU quota, in microseconds: the kernel's default.
const QUOTA_PERIOD: u64 = 100_000;
/// The least quota the kernel takes, in microseconds.
const MIN_QUOTA: i64 = 1_000;

/// Who the pod is.
pub fn identity(pod: &Pod) -> PodIdentity {
    let metadata = &pod.metadata;
    PodIdentity {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.to_string(),
    }
}

/// The sandbox of a pod. `host_resolver` is the engine's host's `/etc/resolv.conf`, if it can be read.
pub fn sandbox(
    pod: &Pod,
    attempt: u32,
    hash: &str,
    image: Option<&str>,
    host_resolver: Option<&str>,
) -> SandboxSpec {
    let spec = &pod.spec;
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| &container.ports)
        .map(port)
        .collect();
    let volumes = spec
        .volumes
        .iter()
        .filter_map(|volume| match &volume.source {
            VolumeSource::EmptyDir(EmptyDir { medium, size_limit }) => Some(PodVolume {
                name: volume.name.clone(),
                memory: (*medium == Medium::Memory).then(|| size_limit.map(bytes)),
            }),
            VolumeSource::HostPath(_) => None,
        });
    let hosts = spec.host_aliases.iter().flat_map(|alias| {
        alias
            .hostnames
            .iter()
            .map(|name| (alias.ip.to_string(), name.clone()))
    });
    SandboxSpec {
        pod: identity(pod),
        attempt,
        image: image.map(str::to_owned),
        hostname: pod.hostname().to_owned(),
        host_network: spec.host_network,
        pid: if spec.host_pid {
            PidMode::Host
        } else {
            PidMode::Container
        },
        host_ipc: spec.host_ipc,
        ports,
        dns: dns(pod, host_resolver),
        hosts: hosts.collect(),
        volumes: volumes.collect(),
        labels: pod.metadata.labels.clone(),
        annotations: annotations(pod, SANDBOX_HASH, hash),
        ..SandboxSpec::default()
    }
}

/// Name resolution: `dnsConfig` alone with the policy `None`, else behind what the host has, as Kubernetes merges them. An engine takes a
/// list instead of the host's, so nothing is said where the pod adds nothing.
fn dns(pod: &Pod, host_resolver: Option<&str>) -> Dns {
    let config = &pod.spec.dns_config;
    let option = |DnsOption { name, value }: &DnsOption| match value {
        Some(value) => format!("{name}:{value}"),
        None => name.clone(),
    };
    let mut own = Dns {
        servers: config.nameservers.iter().map(ToString::to_string).collect(),
        searches: config.searches.clone(),
        options: config.options.iter().map(option).collect(),
    };
    if pod.spec.dns_policy == DnsPolicy::None {
        if own.searches.is_empty() {
            // Docker's word for "no search domains", where an empty list means the host's.
            own.searches.push(".".to_owned());
        }
        return own;
    }
    let of_host = |keyword: &str| -> Vec<String> {
        let lines = host_resolver
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.trim().strip_prefix(keyword));
        // Only the last line of a keyword that takes a list counts (resolv.conf(5)); each nameserver has a line of its own.
        let lines: Vec<&str> = lines.filter(|rest| rest.starts_with([' ', '\t'])).collect();
        let lines = if keyword == "nameserver" {
            &lines[..]
        } else {
            &lines[lines.len().saturating_sub(1)..]
        };
        lines
            .iter()
            .flat_map(|rest| rest.split_whitespace())
            .map(str::to_owned)
            .collect()
    };
    let merge = |own: &mut Vec<String>, keyword: &str| {
        if !own.is_empty() {
            let mut all = of_host(keyword);
            all.append(own);
            let mut seen = std::collections::BTreeSet::new();
            all.retain(|entry| seen.insert(entry.clone()));
            *own = all;
        }
    };
    merge(&mut own.servers, "nameserver");
    merge(&mut own.searches, "search");
    merge(&mut own.options, "options");
    own
}

fn port(port: &pod::ContainerPort) -> PortMapping {
    PortMapping {
        container_port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip,
        protocol: match port.protocol {
            pod::Protocol::Tcp => Protocol::Tcp,
            pod::Protocol::Udp => Protocol::Udp,
            pod::Protocol::Sctp => Protocol::Sctp,
        },
    }
}

/// What is kept on each container: the pod's annotations, and what berth wants to find again.
fn annotations(pod: &Pod, hash_name: &str, hash: &str) -> BTreeMap<String, String> {
    let mut all = pod.metadata.annotations.clone();
    all.insert(hash_name.to_owned(), hash.to_owned());
    all.insert(
        GRACE_PERIOD.to_owned(),
        pod.spec.termination_grace_period_seconds.to_string(),
    );
    // A Pod is made of maps with text keys, numbers and text: it always serialises.
    all.insert(
        POD_DATA.to_owned(),
        serde_json::to_string(pod).unwrap_or_default(),
    );
    all
}

/// A container of a pod, once its sandbox is there. `host_memory` is the host's, in bytes.
pub fn container(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    hash: &str,
    facts: &Facts,
    host_memory: u64,
) -> ContainerSpec {
    let resolved = env::resolve(pod, container, facts);
    let security = pod.effective_security(container);
    let resources = &container.resources;
    let mounts = container.volume_mounts.iter().filter_map(|mount| {
        let volume = pod.volume(&mount.name)?;
        let sub_path = mount.sub_path.clone().unwrap_or_default();
        let source = match &volume.source {
            VolumeSource::HostPath(host) => {
                let path = if sub_path.is_empty() {
                    host.path.clone()
                } else {
                    format!("{}/{sub_path}", host.path.trim_end_matches('/'))
                };
                MountSource::Host {
                    path,
                    create: matches!(
                        host.kind,
                        HostPathType::Unset | HostPathType::DirectoryOrCreate
                    ),
                }
            }
            VolumeSource::EmptyDir(_) => MountSource::Pod {
                volume: volume.name.clone(),
                sub_path,
            },
        };
        Some(Mount {
            read_only: mount.read_only,
            ..Mount::new(source, mount.mount_path.clone())
        })
    });
    ContainerSpec {
        name: container.name.clone(),
        attempt,
        image: container.image.clone(),
        command: resolved.command,
        args: resolved.args,
        env: resolved.env,
        working_dir: container.working_dir.clone(),
        mounts: mounts.collect(),
        resources: kernel_resources(resources),
        security: Security {
            user: security.run_as_user.map(|user| User::Id(user.into())),
            group: security.run_as_group.map(i64::from),
            supplemental_groups: security
                .supplemental_groups
                .iter()
                .copied()
                .map(i64::from)
                .collect(),
            run_as_non_root: security.run_as_non_root,
            privileged: security.privileged,
            read_only_root: security.read_only_root_filesystem,
            no_new_privileges: security.allow_privilege_escalation == Some(false),
            add_capabilities: security.capabilities.add,
            drop_capabilities: security.capabilities.drop,
            ..Security::default()
        },
        pid: if pod.spec.host_pid {
            Pid::Host
        } else {
            Pid::Own
        },
        host_network: pod.spec.host_network,
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        oom_score_adj: oom_score_adj(pod, container, host_memory),
        labels: BTreeMap::new(),
        annotations: annotations(pod, CONTAINER_HASH, hash),
        ..ContainerSpec::default()
    }
}

/// Requests and limits in the kernel's units.
fn kernel_resources(resources: &pod::Resources) -> Resources {
    let milli =
        |quantity: Quantity| -> u64 { u64::try_from(quantity.millis()).unwrap_or_default() };
    let limit = resources.limits.cpu.map(milli);
    // A limit without a request is also the request, as the API server would have filled in.
    let request = resources.requests.cpu.map(milli).or(limit);
    Resources {
        cpu_shares: request.map(|milli| milli.saturating_mul(SHARES_PER_CPU) / 1000),
        cpu_quota: limit.map(|milli| {
            let quota = milli.saturating_mul(QUOTA_PERIOD / 1000);
            i64::try_from(quota).unwrap_or(i64::MAX).max(MIN_QUOTA)
        }),
        cpu_period: limit.map(|_| QUOTA_PERIOD),
        memory: resources.limits.memory.map(bytes),
        ..Resources::default()
    }
}

fn bytes(quantity: Quantity) -> u64 {
    u64::try_from(quantity.units()).unwrap_or_default()
}

/// How readily the kernel kills the container, by the pod's quality of service: the less memory it asked for, the sooner.
fn oom_score_adj(pod: &Pod, container: &Container, host_memory: u64) -> i32 {
    let all = || {
        pod.spec
            .containers
            .iter()
            .map(|container| &container.resources)
    };
    let guaranteed = |resources: &pod::Resources| {
        let pod::Resources { limits, requests } = resources;
        // A request that is not written is the limit.
        limits.cpu.is_some()
            && limits.memory.is_some()
            && requests.cpu.is_none_or(|cpu| Some(cpu) == limits.cpu)
            && requests
                .memory
                .is_none_or(|memory| Some(memory) == limits.memory)
    };
    if all().all(guaranteed) {
        return GUARANTEED_OOM_SCORE_ADJ;
    }
    if all().all(|resources| *resources == pod::Resources::default()) {
        return BEST_EFFORT_OOM_SCORE_ADJ;
    }
    let resources = &container.resources;
    let request = resources
        .requests
        .memory
        .or(resources.limits.memory)
        .map_or(0, bytes);
    let share = u128::from(request) * 1000 / u128::from(host_memory.max(1));
    let share = i32::try_from(share.min(1000)).unwrap_or(1000);
    // Between the two classes, with room for either.
    (1000 - share).clamp(3, 999)
}

/// What berth-pod sees of one pod, in the words of [`crate::decide`].
pub fn observed(seen: &[berth_pod::observe::Observed]) -> Observed {
    use berth_pod::observe;
    let mut all = Observed::default();
    let hash = |annotations: &BTreeMap<String, String>, key: &str| {
        annotations.get(key).and_then(|hash| hash.parse().ok())
    };
    for one in seen {
        match one {
            observe::Observed::Sandbox(sandbox) => all.sandboxes.push(observed::Sandbox {
                id: observed::SandboxId(sandbox.id.to_string()),
                attempt: sandbox.attempt,
                created_at: sandbox.created_at,
                running: sandbox.running,
                ip: sandbox.ip.as_deref().and_then(|ip| ip.parse().ok()),
                hash: hash(&sandbox.annotations, SANDBOX_HASH),
            }),
            observe::Observed::Container(container) => all.instances.push(observed::Instance {
                id: observed::ContainerId(container.id.to_string()),
                sandbox: observed::SandboxId(container.sandbox.to_string()),
                name: container.name.clone(),
                attempt: container.attempt,
                created_at: container.created_at,
                state: state(&container.state),
                image: container.image.clone(),
                image_id: container.image_id.clone(),
                hash: hash(&container.annotations, CONTAINER_HASH),
            }),
        }
    }
    all
}

fn state(state: &berth_pod::observe::State) -> observed::State {
    use berth_pod::observe::State;
    match state {
        State::Created => observed::State::Created,
        State::Running { started_at } => observed::State::Running {
            started_at: *started_at,
        },
        State::Removing => observed::State::Removing,
        State::Exited {
            exit_code,
            oom_killed,
            error,
            started_at,
            finished_at,
        } => observed::State::Exited(observed::Exit {
            exit_code: *exit_code,
            oom_killed: *oom_killed,
            error: error.clone(),
            started_at: *started_at,
            finished_at: *finished_at,
        }),
    }
}

/// The pod as it was wanted when the newest of its containers was made, as its annotation keeps it. `None` when no annotation of it can be
/// read: another program made them, or another berth.
pub fn wanted(seen: &[berth_pod::observe::Observed]) -> Option<Pod> {
    use berth_pod::observe::Observed;
    let made = |one: &Observed| match one {
        Observed::Sandbox(sandbox) => sandbox.created_at,
        Observed::Container(container) => container.created_at,
    };
    let mut newest_first: Vec<&Observed> = seen.iter().collect();
    newest_first.sort_by_key(|one| std::cmp::Reverse(made(one)));
    newest_first.into_iter().find_map(|one| {
        let annotations = match one {
            Observed::Sandbox(sandbox) => &sandbox.annotations,
            Observed::Container(container) => &container.annotations,
        };
        let mut parsed = manifest::parse(
            annotations.get(POD_DATA)?.as_bytes(),
            POD_DATA,
            Validate::Warn,
        )
        .ok()?;
        parsed.pods.pop()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: &str) -> Pod {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{{spec},"containers":[{{"name":"a","image":"i"}}]}}}}"#
        );
        manifest::parse(text.as_bytes(), "test", Validate::Strict)
            .unwrap()
            .pods
            .remove(0)
    }

    #[test]
    fn the_pods_resolvers_come_behind_the_hosts_unless_it_wants_only_its_own() {
        let host = Some("nameserver 10.0.0.1\nsearch old\nsearch lan home\noptions edns0\n");
        let config = r#""dnsConfig":{"nameservers":["10.0.0.2","10.0.0.1"],"searches":["pod"]}"#;
        let merged = dns(&pod(config), host);
        assert_eq!(merged.servers, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(merged.searches, ["lan", "home", "pod"]);
        assert!(merged.options.is_empty());
        assert_eq!(dns(&pod(r#""hostNetwork":false"#), host), Dns::default());
        let alone = dns(
            &pod(r#""dnsPolicy":"None","dnsConfig":{"nameservers":["10.0.0.2"]}"#),
            host,
        );
        assert_eq!(
            (alone.servers, alone.searches),
            (vec!["10.0.0.2".to_owned()], vec![".".to_owned()])
        );
    }

    #[test]
    fn the_kernel_kills_by_what_was_asked_for() {
        let score = |resources: &str| {
            let text = format!(
                r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"a","image":"i","resources":{resources}}}]}}}}"#
            );
            let pod = manifest::parse(text.as_bytes(), "test", Validate::Strict)
                .unwrap()
                .pods
                .remove(0);
            oom_score_adj(&pod, &pod.spec.containers[0], 4 << 30)
        };
        assert_eq!(score("{}"), 1000);
        assert_eq!(score(r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#), -997);
        assert_eq!(score(r#"{"requests":{"memory":"1Gi"}}"#), 750);
        assert_eq!(score(r#"{"requests":{"cpu":"1"}}"#), 999);
        assert_eq!(score(r#"{"requests":{"memory":"8Gi"}}"#), 3);
    }
}
