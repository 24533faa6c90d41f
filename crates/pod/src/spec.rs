//! What a sandbox and a container are to be, in berth's own words.
//!
//! The front doors (the kubelet, CRI) translate into these types; everything about Docker's JSON begins behind them, in [`crate::config`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A sandbox: what a pod's containers share.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Use the host's process IDs.
    pub host_pid: bool,
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
    /// Labels of the pod, and what the front door wants to find again.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept as labels with a prefix.
    pub annotations: BTreeMap<String, String>,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// Something the container sees at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it comes from.
    pub source: MountSource,
    /// The absolute path in the container.
    pub path: String,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// What the container may use; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// The CPU's weight when it is contended: thousandths of a core asked for.
    pub cpu_request_milli: Option<u64>,
    /// The most CPU, in thousandths of a core.
    pub cpu_limit_milli: Option<u64>,
    /// The memory asked for, in bytes; only its `oom_score_adj` follows from it.
    pub memory_request: Option<u64>,
    /// The most memory, in bytes. Swap is not granted on top.
    pub memory_limit: Option<u64>,
}

/// Who the container's process is and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// The user ID; `None` is the image's.
    pub user: Option<i64>,
    /// The primary group ID. Needs `user`, since Docker knows no group alone.
    pub group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Refuse to run as user 0.
    pub run_as_non_root: bool,
    /// All devices and capabilities.
    pub privileged: bool,
    /// The root file system cannot be written to.
    pub read_only_root: bool,
    /// Processes cannot gain privileges by set-user-ID programs.
    pub no_new_privileges: bool,
    /// Capabilities added to Docker's default set, with or without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from it.
    pub drop_capabilities: Vec<String>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name in the pod.
    pub name: String,
    /// 0 for the first instance, one more for each restart.
    pub attempt: u32,
    /// The image, as a name or an ID.
    pub image: String,
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
    /// What it may use.
    pub resources: Resources,
    /// Who it is and what it may do.
    pub security: Security,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach has ended.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// How readily the kernel kills it when memory runs out, −1000 to 1000.
    pub oom_score_adj: i32,
    /// Labels, in addition to those that name it.
    pub labels: BTreeMap<String, String>,
    /// Annotations, kept as labels with a prefix.
    pub annotations: BTreeMap<String, String>,
}
