//! The Pod as berth runs it: every field here is honoured, and none of them can be out of range.
//!
//! Owns the vocabulary of Kubernetes' PodSpec as far as berth supports it, with Kubernetes' defaults filled in. Refuses to know how a
//! manifest is written (that is [`crate::manifest`], the one maker of these values) and what an engine calls things.
//!
//! Serialising a [`Pod`] gives a Kubernetes manifest again, one that parses to an equal Pod. A field at its default is left out; the
//! hashes of [`crate::hash`] rest on that, so a new field must have a default that is left out too.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::name;
use crate::quantity::Quantity;

/// The grace period of a pod that names none, in seconds (Kubernetes: `DefaultTerminationGracePeriodSeconds`).
pub const DEFAULT_GRACE_SECONDS: u32 = 30;

/// A pod: who it is and what it should run.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Who it is.
    pub metadata: Metadata,
    /// What it should run.
    pub spec: PodSpec,
}

impl Serialize for Pod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pod = serializer.serialize_struct("Pod", 4)?;
        pod.serialize_field("apiVersion", "v1")?;
        pod.serialize_field("kind", "Pod")?;
        pod.serialize_field("metadata", &self.metadata)?;
        pod.serialize_field("spec", &self.spec)?;
        pod.end()
    }
}

impl Pod {
    /// The host name inside the pod: `spec.hostname`, else the pod's name, cut to the 63 characters a host name may have.
    ///
    /// A pod on the host's network has the host's name instead.
    pub fn hostname(&self) -> &str {
        let name = self.spec.hostname.as_deref().unwrap_or(&self.metadata.name);
        // Names are ASCII, so any byte is a boundary. A cut must not leave a '-' or '.' at the end.
        name[..name.len().min(name::LABEL_MAX)].trim_end_matches(['-', '.'])
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.spec
            .containers
            .iter()
            .find(|container| container.name == name)
    }

    /// The volume of this name.
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.spec.volumes.iter().find(|volume| volume.name == name)
    }

    /// The security settings that hold for a container: its own, else the pod's.
    pub fn effective_security(&self, container: &Container) -> EffectiveSecurity {
        let (pod, own) = (&self.spec.security_context, &container.security_context);
        EffectiveSecurity {
            run_as_user: own.run_as_user.or(pod.run_as_user),
            run_as_group: own.run_as_group.or(pod.run_as_group),
            run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
            supplemental_groups: pod.supplemental_groups.clone(),
            privileged: own.privileged.unwrap_or(false),
            read_only_root_filesystem: own.read_only_root_filesystem.unwrap_or(false),
            allow_privilege_escalation: own.allow_privilege_escalation,
            capabilities: own.capabilities.clone(),
        }
    }
}

/// The parts of Kubernetes' ObjectMeta that mean something on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The pod's name, a DNS subdomain.
    pub name: String,
    /// Its namespace, a DNS label; `default` when the manifest names none.
    pub namespace: String,
    /// Its UID, given or derived.
    pub uid: PodUid,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What tells one pod from another: all its containers carry it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PodUid(String);

impl PodUid {
    /// The UID of a pod whose manifest names none.
    ///
    /// It depends on namespace and name alone, not on the file or the rest of the manifest: reading the same or a changed manifest
    /// again, from any file, finds the pod that runs. It is the SHA-256 of `berth/pod/<namespace>/<name>`, cut to a version 8 UUID
    /// (RFC 9562).
    pub fn derive(namespace: &str, name: &str) -> Self {
        let digest = Sha256::digest(format!("berth/pod/{namespace}/{name}"));
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = u128::from_be_bytes(bytes);
        let hex = format!("{hex:032x}");
        Self(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ))
    }

    /// A UID somebody else gave: up to 63 letters, digits, `-` and `.`.
    ///
    /// # Errors
    /// The reason the text will not do.
    pub fn parse(text: &str) -> Result<Self, String> {
        name::check_uid(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a pod should run. Container and volume names are unique; every mount names a volume that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The containers, in the order they are created and started; at least one.
    pub containers: Vec<Container>,
    /// The volumes containers may mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// When an exited container is started again.
    #[serde(skip_serializing_if = "is_default")]
    pub restart_policy: RestartPolicy,
    /// Seconds between asking a container to stop and killing it.
    #[serde(skip_serializing_if = "is_default_grace")]
    pub termination_grace_period_seconds: u32,
    /// Use the host's network.
    #[serde(skip_serializing_if = "is_false", rename = "hostNetwork")]
    pub host_network: bool,
    /// Use the host's process ids.
    #[serde(skip_serializing_if = "is_false", rename = "hostPID")]
    pub host_pid: bool,
    /// Use the host's System V IPC and POSIX queues.
    #[serde(skip_serializing_if = "is_false", rename = "hostIPC")]
    pub host_ipc: bool,
    /// The host name, when it is not the pod's name. A DNS label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Where names are looked up.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_policy: DnsPolicy,
    /// Additions to (or, with [`DnsPolicy::None`], all of) the resolver's settings.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_config: DnsConfig,
    /// Lines for the pod's `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_aliases: Vec<HostAlias>,
    /// Security settings for all containers.
    #[serde(skip_serializing_if = "is_default")]
    pub security_context: PodSecurityContext,
}

fn is_default_grace(seconds: &u32) -> bool {
    *seconds == DEFAULT_GRACE_SECONDS
}

/// When an exited container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum RestartPolicy {
    /// Always, whatever its exit code.
    #[default]
    Always,
    /// When its exit code is not zero.
    OnFailure,
    /// Never.
    Never,
}

/// Where names are looked up.
///
/// `ClusterFirst` and `ClusterFirstWithHostNet` mean "the cluster's DNS, where there is one". On one host there is none, and they
/// fall back to the host's resolver, as a kubelet without `clusterDNS` does. They are kept apart because the distinction is part of
/// the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum DnsPolicy {
    /// The cluster's DNS, else the host's. What Kubernetes writes when nothing is said.
    #[default]
    ClusterFirst,
    /// The same for pods on the host's network.
    ClusterFirstWithHostNet,
    /// The host's.
    Default,
    /// Nothing but `dnsConfig`.
    None,
}

/// Settings of the resolver inside the pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DnsConfig {
    /// Name servers, at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<DnsOption>,
}

/// One resolver option, such as `ndots` with the value `2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsOption {
    /// Its name.
    pub name: String,
    /// Its value, for those that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl fmt::Display for DnsOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}:{value}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Names for an address in the pod's `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names; at least one.
    pub hostnames: Vec<String>,
}

/// Security settings for all containers of a pod. `None` means "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurityContext {
    /// The user id of the processes, 0 to 2^31 − 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Their group id, 0 to 2^31 − 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse to start a container that would run as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Further group ids, added to those the image gives its user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name, a DNS label.
    pub name: String,
    /// The image, a valid reference.
    pub image: String,
    /// The entrypoint; the image's when empty. May refer to variables as `$(NAME)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The arguments; the image's when empty and `command` is empty too. May refer to variables as `$(NAME)`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The working directory; the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Ports it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
    /// Environment variables, in order; later ones may refer to earlier ones, and the last of a name wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// CPU and memory.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Volumes it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// When the image is pulled. The default depends on the image's tag and is filled in.
    pub image_pull_policy: ImagePullPolicy,
    /// Its own security settings.
    #[serde(skip_serializing_if = "is_default")]
    pub security_context: SecurityContext,
    /// Keep standard input open.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin: bool,
    /// Close standard input when the first client that attached goes away.
    #[serde(skip_serializing_if = "is_false")]
    pub stdin_once: bool,
    /// Give it a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ImagePullPolicy {
    /// Before every start. The default for the tag `latest`.
    Always,
    /// When it is not there. The default otherwise.
    IfNotPresent,
    /// Never; a missing image is an error.
    Never,
}

impl ImagePullPolicy {
    /// The policy of a container that names none.
    pub fn default_for(image: &str) -> Self {
        if name::is_latest(image) {
            Self::Always
        } else {
            Self::IfNotPresent
        }
    }
}

/// One port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Its name, unique within the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port inside the pod, 1 to 65535.
    pub container_port: u16,
    /// The port on the host, 1 to 65535, if it is published. On the host's network always `container_port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    /// The host's address the port is published on; all of them when absent.
    #[serde(skip_serializing_if = "Option::is_none", rename = "hostIP")]
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: Protocol,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Its name: printable ASCII without `=`.
    pub name: String,
    /// Where its value comes from.
    #[serde(flatten)]
    pub value: EnvValue,
}

/// Where the value of an environment variable comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EnvValue {
    /// The text, which may refer to earlier variables as `$(NAME)`.
    Value(String),
    /// A fact about the pod.
    #[serde(serialize_with = "value_from")]
    ValueFrom(FieldRef),
}

fn value_from<S: Serializer>(field: &FieldRef, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Source {
        field_ref: Path,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Path {
        field_path: String,
    }
    Source {
        field_ref: Path {
            field_path: field.to_string(),
        },
    }
    .serialize(serializer)
}

/// A fact about the pod that a variable can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldRef {
    /// `metadata.name`.
    Name,
    /// `metadata.namespace`.
    Namespace,
    /// `metadata.uid`.
    Uid,
    /// `metadata.labels['key']`; empty when there is no such label.
    Label(String),
    /// `metadata.annotations['key']`; empty when there is no such annotation.
    Annotation(String),
    /// `spec.nodeName`: the host berth runs on.
    NodeName,
    /// `status.podIP`.
    PodIp,
    /// `status.hostIP`.
    HostIp,
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("metadata.name"),
            Self::Namespace => f.write_str("metadata.namespace"),
            Self::Uid => f.write_str("metadata.uid"),
            Self::Label(key) => write!(f, "metadata.labels['{key}']"),
            Self::Annotation(key) => write!(f, "metadata.annotations['{key}']"),
            Self::NodeName => f.write_str("spec.nodeName"),
            Self::PodIp => f.write_str("status.podIP"),
            Self::HostIp => f.write_str("status.hostIP"),
        }
    }
}

/// CPU and memory of a container. A request that is not written is its limit, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Resources {
    /// What it may use at most.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: ResourceList,
    /// What it is promised; never above the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub requests: ResourceList,
}

/// Amounts of CPU and memory. `None` means "not said", which for a limit is "no limit"; zero means the same to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ResourceList {
    /// Cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// A volume as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The volume's name; there is one.
    pub name: String,
    /// Where it appears: an absolute path without `:`, unique within the container.
    pub mount_path: String,
    /// Mount it read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// A path inside the volume to mount in place of its root: relative, without `..`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
}

/// Security settings of one container. `None` means "not said": the pod's value, or the default, holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user id of its process, 0 to 2^31 − 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Its group id, 0 to 2^31 − 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse to start it when it would run as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Give it everything the host has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// Mount its root file system read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// When false, its processes can gain no privileges (`no_new_privs`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Changes to the engine's default capabilities.
    #[serde(skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
}

/// Changes to the engine's default capabilities; `ALL` stands for every one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Capabilities {
    /// To add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// To drop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// The security settings that hold for one container, the pod's and its own taken together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveSecurity {
    /// The user id of its process; the image's user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Its group id; the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse to start it when it would run as root.
    #[serde(skip_serializing_if = "is_false")]
    pub run_as_non_root: bool,
    /// Further group ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Give it everything the host has.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Mount its root file system read-only.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only_root_filesystem: bool,
    /// When `Some(false)`, its processes can gain no privileges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Changes to the engine's default capabilities.
    #[serde(skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
}

/// A volume of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Its name, a DNS label.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSource {
    /// A file or directory of the host.
    HostPath(HostPath),
    /// An empty directory that lives as long as the pod.
    EmptyDir(EmptyDir),
}

/// A file or directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPath {
    /// An absolute path without `..`.
    pub path: String,
    /// What must be there, or is made.
    #[serde(skip_serializing_if = "is_default", rename = "type")]
    pub kind: HostPathType,
}

/// What must be at a host path before it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum HostPathType {
    /// Nothing is checked.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// A directory; an empty one, mode 0755, is made when nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; an empty one, mode 0644, is made when nothing is there, but not its parent.
    FileOrCreate,
    /// A file.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// An empty directory that lives as long as the pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// Where it is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub medium: Medium,
    /// Its size in bytes; only [`Medium::Memory`] has one, and there it is enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// Where an empty directory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Medium {
    /// On the host's disk.
    #[default]
    #[serde(rename = "")]
    Disk,
    /// In memory (tmpfs).
    Memory,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_uid_depends_on_namespace_and_name_alone_and_never_changes() {
        let uid = PodUid::derive("default", "web");
        assert_eq!(uid, PodUid::derive("default", "web"));
        assert_ne!(uid, PodUid::derive("default", "web2"));
        assert_ne!(uid, PodUid::derive("other", "web"));
        assert_eq!(PodUid::parse(uid.as_str()), Ok(uid.clone()));
        // Pods that run under an older berth are found by this value.
        assert_eq!(uid.as_str(), "d86a7d58-97e4-8aa0-8afe-2a5bc59bd053");
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        assert_eq!(
            ImagePullPolicy::default_for("busybox"),
            ImagePullPolicy::Always
        );
        assert_eq!(
            ImagePullPolicy::default_for("busybox:latest"),
            ImagePullPolicy::Always
        );
        assert_eq!(
            ImagePullPolicy::default_for("busybox:1"),
            ImagePullPolicy::IfNotPresent
        );
    }
}
