//! From the interface's words to berth's: what a sandbox and a container are to be. Pure.
//!
//! What Docker has no word for is refused by name; nothing is left out in silence.

use std::collections::BTreeMap;

use berth_pod::spec::{
    AppArmor, ContainerId, ContainerSpec, Device, Dns, GroupsPolicy, Log, Mount, MountSource, Pid,
    PidMode, PodIdentity, PortMapping, Propagation, Protocol, Resources, SandboxSpec, SeLinux,
    Seccomp, Security, User,
};
use tonic::Status;

use crate::v1;
use crate::v1::security_profile::ProfileType;

/// The annotations of a sandbox that carry bandwidth limits stay annotations: CNI reads them.
type Result<T> = std::result::Result<T, Status>;

fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

/// A part of the request that has to be there.
pub(crate) fn required<T>(part: Option<T>, name: &str) -> Result<T> {
    part.ok_or_else(|| invalid(format!("{name} is missing")))
}

/// The sandbox that is asked for.
pub(crate) fn sandbox(config: v1::PodSandboxConfig, handler: &str) -> Result<SandboxSpec> {
    let metadata = required(config.metadata, "config.metadata")?;
    for (name, value) in [
        ("name", &metadata.name),
        ("namespace", &metadata.namespace),
        ("uid", &metadata.uid),
    ] {
        if value.is_empty() {
            return Err(invalid(format!("config.metadata.{name} is empty")));
        }
    }
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let namespaces = context.namespace_options.unwrap_or_default();
    no_user_namespace(&namespaces)?;
    let security = Security {
        user: context.run_as_user.map(|user| User::Id(user.value)),
        group: context.run_as_group.map(|group| group.value),
        supplemental_groups: context.supplemental_groups,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        privileged: context.privileged,
        read_only_root: context.readonly_rootfs,
        // The pause process needs nothing that the engine's profile forbids, so it has that one unless it is told otherwise.
        seccomp: match context.seccomp {
            Some(profile) => seccomp(profile)?,
            None => Seccomp::EngineDefault,
        },
        apparmor: apparmor(context.apparmor, "")?,
        selinux: selinux(context.selinux_options),
        ..Security::default()
    };
    Ok(SandboxSpec {
        pod: PodIdentity {
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
        },
        attempt: metadata.attempt,
        hostname: config.hostname,
        host_network: namespaces.network() == v1::NamespaceMode::Node,
        pid: match namespaces.pid() {
            v1::NamespaceMode::Pod => PidMode::Pod,
            v1::NamespaceMode::Node => PidMode::Host,
            v1::NamespaceMode::Container => PidMode::Container,
            v1::NamespaceMode::Target => {
                return Err(invalid("a sandbox has no target for its process IDs"));
            }
        },
        host_ipc: namespaces.ipc() == v1::NamespaceMode::Node,
        ports: config
            .port_mappings
            .into_iter()
            .map(port)
            .collect::<Result<_>>()?,
        dns: dns(config.dns_config),
        runtime_handler: handler.to_owned(),
        cgroup_parent: linux.cgroup_parent,
        sysctls: linux.sysctls,
        security,
        labels: config.labels,
        annotations: config.annotations,
        ..SandboxSpec::default()
    })
}

/// Name resolution. With all lists empty the engine's stays.
fn dns(config: Option<v1::DnsConfig>) -> Dns {
    let config = config.unwrap_or_default();
    let mut dns = Dns {
        servers: config.servers,
        searches: config.searches,
        options: config.options,
    };
    if dns != Dns::default() && dns.searches.is_empty() {
        // Docker's word for "no search domains", where an empty list means the host's.
        dns.searches.push(".".to_owned());
    }
    dns
}

fn port(mapping: v1::PortMapping) -> Result<PortMapping> {
    let number = |value: i32, name: &str| {
        u16::try_from(value).map_err(|_| {
            invalid(format!(
                "port_mappings: the {name} {value} is not between 0 and 65535"
            ))
        })
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| invalid(format!("port_mappings: {text:?} is no address")))?,
        ),
    };
    Ok(PortMapping {
        container_port: number(mapping.container_port, "container_port")?,
        host_port: Some(number(mapping.host_port, "host_port")?).filter(|port| *port != 0),
        host_ip,
        protocol: match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
    })
}

/// Docker maps users for the whole engine or not at all.
fn no_user_namespace(namespaces: &v1::NamespaceOption) -> Result<()> {
    match &namespaces.userns_options {
        Some(options) if options.mode() != v1::NamespaceMode::Node => Err(invalid(
            "user namespaces for single pods are not supported: Docker Engine has them for all containers or for none",
        )),
        _ => Ok(()),
    }
}

fn groups_policy(policy: i32) -> Result<GroupsPolicy> {
    match v1::SupplementalGroupsPolicy::try_from(policy) {
        Ok(v1::SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(v1::SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => Err(invalid(format!(
            "there is no supplemental groups policy {policy}"
        ))),
    }
}

fn seccomp(profile: v1::SecurityProfile) -> Result<Seccomp> {
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Ok(Seccomp::EngineDefault),
        ProfileType::Unconfined => Ok(Seccomp::Unconfined),
        ProfileType::Localhost if profile.localhost_ref.is_empty() => Err(invalid(
            "the seccomp profile is of type Localhost and has no localhost_ref",
        )),
        ProfileType::Localhost => Ok(Seccomp::File(unprefixed(&profile.localhost_ref))),
    }
}

/// The old way to name a seccomp profile.
fn old_seccomp(path: &str) -> Result<Seccomp> {
    match path {
        "" | "unconfined" => Ok(Seccomp::Unconfined),
        "runtime/default" | "docker/default" => Ok(Seccomp::EngineDefault),
        path => match path.strip_prefix("localhost/") {
            Some(file) => Ok(Seccomp::File(file.to_owned())),
            None => Err(invalid(format!("{path:?} is no seccomp profile"))),
        },
    }
}

fn apparmor(profile: Option<v1::SecurityProfile>, old: &str) -> Result<AppArmor> {
    let Some(profile) = profile else {
        return match old {
            "" | "runtime/default" => Ok(AppArmor::EngineDefault),
            "unconfined" => Ok(AppArmor::Unconfined),
            name => match name.strip_prefix("localhost/") {
                Some(name) => Ok(AppArmor::Profile(name.to_owned())),
                None => Err(invalid(format!("{name:?} is no AppArmor profile"))),
            },
        };
    };
    match profile.profile_type() {
        ProfileType::RuntimeDefault => Ok(AppArmor::EngineDefault),
        ProfileType::Unconfined => Ok(AppArmor::Unconfined),
        ProfileType::Localhost if profile.localhost_ref.is_empty() => Err(invalid(
            "the AppArmor profile is of type Localhost and has no localhost_ref",
        )),
        ProfileType::Localhost => Ok(AppArmor::Profile(unprefixed(&profile.localhost_ref))),
    }
}

fn unprefixed(reference: &str) -> String {
    reference
        .strip_prefix("localhost/")
        .unwrap_or(reference)
        .to_owned()
}

fn selinux(options: Option<v1::SeLinuxOption>) -> Option<SeLinux> {
    let options = options?;
    let label = SeLinux {
        user: options.user,
        role: options.role,
        kind: options.r#type,
        level: options.level,
    };
    (label != SeLinux::default()).then_some(label)
}

/// The container that is asked for.
pub(crate) fn container(config: v1::ContainerConfig, log_directory: &str) -> Result<ContainerSpec> {
    let stop_signal = stop_signal(config.stop_signal)?;
    let metadata = required(config.metadata, "config.metadata")?;
    if metadata.name.is_empty() {
        return Err(invalid("config.metadata.name is empty"));
    }
    let image = required(config.image, "config.image")?;
    if image.image.is_empty() {
        return Err(invalid("config.image.image is empty"));
    }
    let linux = config.linux.unwrap_or_default();
    let context = linux.security_context.unwrap_or_default();
    let namespaces = context.namespace_options.clone().unwrap_or_default();
    no_user_namespace(&namespaces)?;
    let wanted = linux.resources.unwrap_or_default();
    let oom_score_adj = i32::try_from(wanted.oom_score_adj)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| {
            invalid(format!(
                "oom_score_adj {} is not between -1000 and 1000",
                wanted.oom_score_adj
            ))
        })?;
    let env = config
        .envs
        .into_iter()
        .map(|pair| {
            let value = String::from_utf8(pair.value).map_err(|_| {
                invalid(format!(
                    "the value of the environment variable {:?} is no UTF-8, which Docker needs",
                    pair.key
                ))
            })?;
            Ok((pair.key, value))
        })
        .collect::<Result<_>>()?;
    Ok(ContainerSpec {
        name: metadata.name,
        attempt: metadata.attempt,
        image_name: if image.user_specified_image.is_empty() {
            image.image.clone()
        } else {
            image.user_specified_image
        },
        image: image.image,
        // Which the images know.
        image_ref: String::new(),
        command: config.command,
        args: config.args,
        env,
        working_dir: Some(config.working_dir).filter(|directory| !directory.is_empty()),
        mounts: config
            .mounts
            .into_iter()
            .map(mount)
            .collect::<Result<_>>()?,
        devices: config
            .devices
            .into_iter()
            .map(|device| Device {
                host_path: device.host_path,
                path: device.container_path,
                permissions: device.permissions,
            })
            .collect(),
        cdi_devices: config
            .cdi_devices
            .into_iter()
            .map(|device| device.name)
            .collect(),
        resources: resources(wanted)?,
        pid: match namespaces.pid() {
            v1::NamespaceMode::Pod => Pid::Pod,
            v1::NamespaceMode::Container => Pid::Own,
            v1::NamespaceMode::Node => Pid::Host,
            v1::NamespaceMode::Target if namespaces.target_id.is_empty() => {
                return Err(invalid(
                    "the process IDs of a target are asked for, and target_id is empty",
                ));
            }
            v1::NamespaceMode::Target => {
                Pid::Target(ContainerId::new(namespaces.target_id.clone()))
            }
        },
        host_network: namespaces.network() == v1::NamespaceMode::Node,
        security: container_security(context)?,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        oom_score_adj,
        stop_signal,
        log: log(log_directory, &config.log_path)?,
        labels: config.labels,
        annotations: config.annotations,
    })
}

fn log(directory: &str, path: &str) -> Result<Log> {
    if directory.is_empty() || path.is_empty() {
        return Ok(Log::None);
    }
    if !directory.starts_with('/') {
        return Err(invalid(format!(
            "log_directory {directory:?} is no absolute path"
        )));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(invalid(format!("log_path {path:?} leaves log_directory")));
    }
    Ok(Log::File(format!(
        "{}/{}",
        directory.trim_end_matches('/'),
        path.trim_start_matches('/')
    )))
}

#[expect(deprecated, reason = "clients still send the old fields")]
fn container_security(context: v1::LinuxContainerSecurityContext) -> Result<Security> {
    let capabilities = context.capabilities.unwrap_or_default();
    if !capabilities.add_ambient_capabilities.is_empty() {
        return Err(invalid(format!(
            "ambient capabilities ({}) are not supported: Docker Engine has no word for them",
            capabilities.add_ambient_capabilities.join(", ")
        )));
    }
    let user = match (context.run_as_user, context.run_as_username.as_str()) {
        (Some(user), _) => Some(User::Id(user.value)),
        (None, "") => None,
        (None, name) => Some(User::Name(name.to_owned())),
    };
    if user.is_none() && context.run_as_group.is_some() {
        return Err(invalid(
            "run_as_group is set without run_as_user or run_as_username",
        ));
    }
    Ok(Security {
        user,
        group: context.run_as_group.map(|group| group.value),
        supplemental_groups: context.supplemental_groups,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        run_as_non_root: false,
        privileged: context.privileged,
        read_only_root: context.readonly_rootfs,
        no_new_privileges: context.no_new_privs,
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        seccomp: match context.seccomp {
            Some(profile) => seccomp(profile)?,
            None => old_seccomp(&context.seccomp_profile_path)?,
        },
        apparmor: apparmor(context.apparmor, &context.apparmor_profile)?,
        selinux: selinux(context.selinux_options),
        masked_paths: Some(context.masked_paths),
        readonly_paths: Some(context.readonly_paths),
    })
}

fn mount(mount: v1::Mount) -> Result<Mount> {
    let target = mount.container_path.clone();
    let wrong = |what: &str| invalid(format!("the mount at {target:?} {what}"));
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(wrong("maps users, which Docker Engine cannot"));
    }
    if !mount.mount_options.is_empty() {
        return Err(wrong(
            "has mount options, which Docker Engine has no word for",
        ));
    }
    if !target.starts_with('/') {
        return Err(wrong("is at no absolute path"));
    }
    let propagation = match mount.propagation() {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    let source = match mount.image {
        Some(image) if !image.image.is_empty() => {
            if !mount.host_path.is_empty() {
                return Err(wrong("has both an image and a host path"));
            }
            if !mount.readonly {
                return Err(wrong("is of an image and not read-only"));
            }
            let path = mount.image_sub_path;
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(wrong("has an image_sub_path that leaves the image"));
            }
            MountSource::Image {
                image: image.image,
                sub_path: path,
            }
        }
        _ if mount.host_path.is_empty() => {
            return Err(wrong("has neither an image nor a host path"));
        }
        _ => MountSource::Host {
            path: mount.host_path,
            create: true,
        },
    };
    Ok(Mount {
        source,
        path: mount.container_path,
        read_only: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        propagation,
        selinux_relabel: mount.selinux_relabel,
    })
}

/// Resources in the kernel's units; 0 says nothing.
pub(crate) fn resources(wanted: v1::LinuxContainerResources) -> Result<Resources> {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    if let Some(name) = wanted
        .unified
        .keys()
        .find(|name| name.is_empty() || name.contains('/') || name.as_str() == "..")
    {
        return Err(invalid(format!("unified: {name:?} is no file of a cgroup")));
    }
    Ok(Resources {
        cpu_shares: positive(wanted.cpu_shares),
        cpu_quota: Some(wanted.cpu_quota).filter(|quota| *quota != 0),
        cpu_period: positive(wanted.cpu_period),
        cpuset_cpus: wanted.cpuset_cpus,
        cpuset_mems: wanted.cpuset_mems,
        memory: positive(wanted.memory_limit_in_bytes),
        memory_swap: positive(wanted.memory_swap_limit_in_bytes),
        hugepages: wanted
            .hugepage_limits
            .into_iter()
            .map(|limit| (limit.page_size, limit.limit))
            .collect(),
        unified: wanted.unified.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

/// What the interface puts before the name of each signal.
const SIGNAL: &str = "SIGNAL_";

/// A signal as Docker names it: `SIGTERM`, `SIGRTMIN+3`.
fn stop_signal(signal: i32) -> Result<Option<String>> {
    let signal = v1::Signal::try_from(signal)
        .map_err(|_| invalid(format!("there is no signal {signal}")))?;
    if signal == v1::Signal::RuntimeDefault {
        return Ok(None);
    }
    let name = signal.as_str_name().trim_start_matches(SIGNAL);
    Ok(Some(name.replace("PLUS", "+").replace("MINUS", "-")))
}

/// A signal of Docker's in the interface's words; the default one when it has none for it.
pub(crate) fn signal(docker: &str) -> v1::Signal {
    let name = docker.trim_start_matches("SIG");
    let name = name.replace('+', "PLUS").replace('-', "MINUS");
    v1::Signal::from_str_name(&format!("{SIGNAL}SIG{name}")).unwrap_or(v1::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "app".to_owned(),
                attempt: 2,
            }),
            image: Some(v1::ImageSpec {
                image: "sha256:1".to_owned(),
                user_specified_image: "app:1".to_owned(),
                ..Default::default()
            }),
            log_path: "app/2.log".to_owned(),
            ..Default::default()
        }
    }

    fn secure(context: v1::LinuxContainerSecurityContext) -> Result<ContainerSpec> {
        container(
            v1::ContainerConfig {
                linux: Some(v1::LinuxContainerConfig {
                    security_context: Some(context),
                    ..Default::default()
                }),
                ..config()
            },
            "/logs",
        )
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
        let status = result.expect_err("it is refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    #[test]
    fn a_container_is_named_by_its_author_and_run_by_its_id() {
        let spec = container(config(), "/logs/").expect("it is valid");
        assert_eq!(
            (spec.image.as_str(), spec.image_name.as_str(), spec.attempt),
            ("sha256:1", "app:1", 2)
        );
        assert_eq!(spec.log, Log::File("/logs/app/2.log".to_owned()));
        assert_eq!(
            spec.security.seccomp,
            Seccomp::Unconfined,
            "nothing said is no filter"
        );
        assert_eq!(spec.security.masked_paths, Some(Vec::new()));
    }

    #[test]
    fn an_empty_profile_is_the_engines() {
        let context = v1::LinuxContainerSecurityContext {
            seccomp: Some(v1::SecurityProfile::default()),
            ..Default::default()
        };
        let spec = secure(context).expect("it is valid");
        assert_eq!(spec.security.seccomp, Seccomp::EngineDefault);
    }

    #[test]
    fn what_docker_has_no_word_for_is_refused_by_name() {
        let ambient = v1::LinuxContainerSecurityContext {
            capabilities: Some(v1::Capability {
                add_ambient_capabilities: vec!["NET_RAW".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(refusal(secure(ambient)).contains("NET_RAW"));
        let group = v1::LinuxContainerSecurityContext {
            run_as_group: Some(v1::Int64Value { value: 7 }),
            ..Default::default()
        };
        assert!(refusal(secure(group)).contains("run_as_group"));
        let users = v1::LinuxContainerSecurityContext {
            namespace_options: Some(v1::NamespaceOption {
                userns_options: Some(v1::UserNamespace::default()),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(refusal(secure(users)).contains("user namespaces"));
    }

    #[test]
    fn paths_cannot_leave_where_they_belong() {
        let mut leaving = config();
        leaving.log_path = "../../etc/passwd".to_owned();
        assert!(refusal(container(leaving, "/logs")).contains("log_path"));
        let image = v1::Mount {
            container_path: "/files".to_owned(),
            image: Some(v1::ImageSpec {
                image: "files:1".to_owned(),
                ..Default::default()
            }),
            image_sub_path: "a/../../b".to_owned(),
            readonly: true,
            ..Default::default()
        };
        assert!(refusal(mount(image)).contains("image_sub_path"));
        let unified = v1::LinuxContainerResources {
            unified: [("../memory.max".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        assert!(refusal(resources(unified)).contains("unified"));
    }

    #[test]
    fn every_signal_is_itself_again() {
        for number in 1..=65 {
            let Ok(expected) = v1::Signal::try_from(number) else {
                continue;
            };
            let name = stop_signal(number)
                .expect("it is one")
                .expect("it has a name");
            assert!(name.starts_with("SIG"), "{name}");
            assert_eq!(signal(&name), expected, "{name}");
        }
        assert_eq!(stop_signal(0).expect("the default"), None);
        assert_eq!(signal(""), v1::Signal::RuntimeDefault);
        assert_eq!(signal("nonsense"), v1::Signal::RuntimeDefault);
    }

    #[test]
    fn a_name_service_without_search_domains_has_none() {
        let dns = dns(Some(v1::DnsConfig {
            servers: vec!["10.0.0.10".to_owned()],
            ..Default::default()
        }));
        assert_eq!(dns.searches, ["."]);
        assert_eq!(super::dns(None), Dns::default());
    }
}
