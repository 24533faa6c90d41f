//! What a sandbox and a container are to be, in berth's own words.
//!
//! The front doors (the kubelet, CRI) translate into these types; everything about Docker's JSON begins behind them, in [`crate::config`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The ID as the engine gave it.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The ID as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 characters, as people know it.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The ID of a sandbox: that of its pause container.
    SandboxId
}

id! {
    /// The ID of a container of a pod.
    ContainerId
}

/// Which pod something belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIdentity {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// A protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As Docker writes it: `tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the pod that the host answers on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMapping {
    /// The port in the pod.
    pub container_port: u16,
    /// The port of the host; `None` only declares the port.
    pub host_port: Option<u16>,
    /// The host's address to listen on; `None` is all of them.
    pub host_ip: Option<IpAddr>,
    /// Its protocol.
    pub protocol: Protocol,
}

/// Name resolution in the pod; empty lists leave it to the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options such as `ndots:5`.
    pub options: Vec<String>,
}

/// A directory that lives as long as the pod and is shared by its containers (`emptyDir`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodVolume {
    /// The volume's name in the pod.
    pub name: String,
    /// Whether it is kept in memory, and how large it may then get, in bytes.
    pub memory: Option<Option<u64>>,
}

/// Which process IDs the containers of a pod see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Each container its own.
    #[default]
    Container,
    /// Those of the pod: the pause process is the first.
    Pod,
    /// Those of the host.
    Host,
}

/// A sandbox: what a pod's containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// Whose it is.
    pub pod: PodIdentity,
    /// 0 for the first sandbox of the pod, one more for each that replaces it.
    pub attempt: u32,
    /// The pause image to use; `None` is the built-in one.
    pub image: Option<String>,
    /// The host name in the pod; ignored with the host's network.
    pub hostname: String,
    /// Use the host's network.
    pub host_network: bool,
    /// The engine's network that it joins otherwise; empty is the engine's default, `none` leaves its addresses to a CNI plugin.
    pub network: String,
    /// What the pod's containers see of process IDs. The sandbox itself has its own unless it is the host's.
    pub pid: PidMode,
    /// Use the host's IPC.
    pub host_ipc: bool,
    /// Ports the host answers on.
    pub ports: Vec<PortMapping>,
    /// Name resolution.
    pub dns: Dns,
    /// Further lines of `/etc/hosts`: address and name.
    pub hosts: Vec<(String, String)>,
    /// Directories that live as long as the pod.
    pub volumes: Vec<PodVolume>,
    /// The engine's runtime that runs the pod; empty is the engine's default.
    pub runtime_handler: String,
    /// The cgroup below which the pod's cgroups are; empty is the engine's default. With the systemd driver the name of a slice counts, the
    /// last part of the path.
    pub cgroup_parent: String,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Who the pause process is and what it may do. It never gains privileges, whatever is said here.
    pub security: Security,
    /// Labels of the pod, and what the front door wants to find again.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept as labels with a prefix.
    pub annotations: BTreeMap<String, String>,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host.
    Host {
        /// The absolute path.
        path: String,
        /// Make a directory there if there is nothing.
        create: bool,
    },
    /// A [`PodVolume`] of the sandbox.
    Pod {
        /// The volume's name in the pod.
        volume: String,
        /// A directory within it, without `..`; empty for all of it.
        sub_path: String,
    },
    /// The files of an image, which cannot be written to.
    Image {
        /// The image, as a name or an ID.
        image: String,
        /// A file or directory within it, relative and without `..`; empty for all of it.
        sub_path: String,
    },
}

/// Whether mounts made below a mount after the start pass between the host and the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the host into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// Something the container sees at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it comes from.
    pub source: MountSource,
    /// The absolute path in the container.
    pub path: String,
    /// Whether the container may not write to it.
    pub read_only: bool,
    /// Whether the mounts below it are read-only too. Needs `read_only` and [`Propagation::Private`].
    pub recursive_read_only: bool,
    /// How later mounts pass.
    pub propagation: Propagation,
    /// Whether the files get the SELinux label of the container.
    pub selinux_relabel: bool,
}

impl Mount {
    /// A private mount that can be written to.
    pub fn new(source: MountSource, path: impl Into<String>) -> Self {
        Self {
            source,
            path: path.into(),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
            selinux_relabel: false,
        }
    }
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its path on the host.
    pub host_path: String,
    /// Its path in the container.
    pub path: String,
    /// What the container may do with it: some of `r`, `w`, `m`.
    pub permissions: String,
}

/// What the container may use, in the kernel's units; `None` and empty are the engine's default, which is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// The CPU's weight when it is contended, of 1024 for a core (cgroup v1 `cpu.shares`).
    pub cpu_shares: Option<u64>,
    /// The most CPU time in each period, in microseconds; negative is unlimited.
    pub cpu_quota: Option<i64>,
    /// The period of the quota, in microseconds.
    pub cpu_period: Option<u64>,
    /// The CPUs it may run on, such as `0-3,7`.
    pub cpuset_cpus: String,
    /// The memory nodes it may use.
    pub cpuset_mems: String,
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The most memory and swap together, in bytes. `None` grants no swap on top of `memory`.
    pub memory_swap: Option<u64>,
    /// The most huge pages of a size (`2MB`), in bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Files of the container's cgroup (v2) and what is written to them.
    pub unified: BTreeMap<String, String>,
}

/// A user of the container's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By ID.
    Id(i64),
    /// By name, which the image's `/etc/passwd` knows.
    Name(String),
}

/// Which groups a process is in besides its primary one and those that are named for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GroupsPolicy {
    /// Those that the image's `/etc/group` lists for the user.
    #[default]
    Merge,
    /// None.
    Strict,
}

/// Which system calls are filtered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// By the engine's profile.
    #[default]
    EngineDefault,
    /// None.
    Unconfined,
    /// By the profile in this file of the host, which berth reads.
    File(String),
}

/// Which AppArmor profile holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AppArmor {
    /// The engine's, where the host has AppArmor.
    #[default]
    EngineDefault,
    /// None.
    Unconfined,
    /// One that is loaded on the host.
    Profile(String),
}

/// SELinux label parts; an empty one is the engine's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeLinux {
    /// The user part.
    pub user: String,
    /// The role part.
    pub role: String,
    /// The type part.
    pub kind: String,
    /// The level part.
    pub level: String,
}

/// Who the container's process is and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// The user; `None` is the image's.
    pub user: Option<User>,
    /// The primary group ID. Needs `user`, since Docker knows no group alone.
    pub group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the image adds groups.
    pub groups_policy: GroupsPolicy,
    /// Refuse to run as user 0.
    pub run_as_non_root: bool,
    /// All devices and capabilities, and no filters.
    pub privileged: bool,
    /// The root file system cannot be written to.
    pub read_only_root: bool,
    /// Processes cannot gain privileges by set-user-ID programs.
    pub no_new_privileges: bool,
    /// Capabilities added to Docker's default set, with or without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from it.
    pub drop_capabilities: Vec<String>,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// The AppArmor profile.
    pub apparmor: AppArmor,
    /// The SELinux label.
    pub selinux: Option<SeLinux>,
    /// Paths that are hidden; `None` is the engine's default list, an empty list hides nothing.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written to; `None` and empty as for `masked_paths`.
    pub readonly_paths: Option<Vec<String>>,
}

/// The process IDs that one container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pid {
    /// Its own.
    #[default]
    Own,
    /// The pod's.
    Pod,
    /// The host's.
    Host,
    /// Those of another container of the pod.
    Target(ContainerId),
}

/// Where a container's output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Log {
    /// To the engine's log driver, as the engine is configured.
    #[default]
    Engine,
    /// To a file in CRI format at this absolute path, by way of the engine.
    File(String),
    /// Nowhere.
    None,
}

/// A container of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name in the pod.
    pub name: String,
    /// 0 for the first instance, one more for each restart.
    pub attempt: u32,
    /// The image, as a name or an ID.
    pub image: String,
    /// The image as the pod's author named it, for status; empty is `image`.
    pub image_name: String,
    /// The image by its digest in a repository, for status; empty is its ID.
    pub image_ref: String,
    /// Replaces the image's entrypoint unless empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments unless empty.
    pub args: Vec<String>,
    /// Environment variables, in order.
    pub env: Vec<(String, String)>,
    /// The working directory; `None` is the image's.
    pub working_dir: Option<String>,
    /// What it sees at paths of its own.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices by the names of the Container Device Interface.
    pub cdi_devices: Vec<String>,
    /// What it may use.
    pub resources: Resources,
    /// Who it is and what it may do.
    pub security: Security,
    /// The process IDs it sees.
    pub pid: Pid,
    /// Whether the pod has the host's network, and so its host name.
    pub host_network: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach has ended.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// How readily the kernel kills it when memory runs out, −1000 to 1000.
    pub oom_score_adj: i32,
    /// The signal that asks it to stop, by name; `None` is the image's.
    pub stop_signal: Option<String>,
    /// Where its output goes.
    pub log: Log,
    /// Labels, in addition to those that name it.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept as labels with a prefix.
    pub annotations: BTreeMap<String, String>,
}
