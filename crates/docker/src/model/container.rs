//! What the Engine says of containers: list rows, inspect, wait, top and changes.
//!
//! Owns the reply types; what is sent to create or update a container is in `config`.

use std::collections::BTreeMap;

use super::config::{ContainerConfig, HostConfig, PortBinding};
use super::lenient::{record, words};
use super::network::EndpointSettings;
use super::text_map::TextMap;
use super::time::Timestamp;

words! {
    /// Where a container is in its life.
    pub enum ContainerStatus {
        /// Made and never started.
        Created = "created",
        /// Its main process runs.
        Running = "running",
        /// Its processes are frozen.
        Paused = "paused",
        /// It ended and the Engine is about to start it again, by its restart policy.
        Restarting = "restarting",
        /// The Engine is removing it.
        Removing = "removing",
        /// Its main process ended.
        Exited = "exited",
        /// A removal failed halfway; only another removal can be tried.
        Dead = "dead",
    }

    /// What the container's health check says.
    pub enum HealthStatus {
        /// No check is configured.
        None = "none",
        /// The start period runs.
        Starting = "starting",
        /// The last check passed.
        Healthy = "healthy",
        /// As many checks as `retries` failed in a row.
        Unhealthy = "unhealthy",
    }

    /// What is mounted.
    pub enum MountType {
        /// A file or directory of the host.
        Bind = "bind",
        /// A volume of the Engine.
        Volume = "volume",
        /// Memory.
        Tmpfs = "tmpfs",
        /// The content of an image (API 1.48).
        Image = "image",
        /// A named pipe of Windows.
        Npipe = "npipe",
        /// A cluster volume (API 1.42).
        Cluster = "cluster",
    }

    /// The transport protocol of a port.
    pub enum PortProtocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }

    /// How a path in the container's file system differs from the image.
    pub enum ChangeKind {
        /// Content or metadata changed.
        Modified = "0",
        /// Not in the image.
        Added = "1",
        /// In the image, not in the container.
        Deleted = "2",
    }
}

record! {
    /// One row of a container list.
    ///
    /// Holds what is looked at for many containers at once. Mounts and network addresses of a container are in
    /// [`ContainerInspect`]; skipping them here is what makes long lists cheap.
    pub struct ContainerSummary {
        /// The container's id, 64 hexadecimal digits.
        pub id: String = "Id",
        /// Its name and the aliases by which linked containers know it, each with a leading `/`.
        pub names: Vec<String> = "Names",
        /// The image as it was named when the container was created, or an id when that name has moved on.
        pub image: String = "Image",
        /// The id of the image.
        pub image_id: String = "ImageID",
        /// The command line, joined by blanks.
        pub command: String = "Command",
        /// When it was created, to the second.
        pub created: Option<Timestamp> = "Created",
        /// Ports that are exposed or published.
        pub ports: Vec<PortSummary> = "Ports",
        /// Bytes in the writable layer; only when asked for with `size`.
        pub size_rw: Option<i64> = "SizeRw",
        /// Bytes of all layers together; only when asked for with `size`.
        pub size_root_fs: Option<i64> = "SizeRootFs",
        /// The labels.
        pub labels: TextMap = "Labels",
        /// Where it is in its life.
        pub state: ContainerStatus = "State",
        /// The state in words for people, such as `Up 3 hours (healthy)`.
        pub status: String = "Status",
    }

    /// One port of a container list row.
    pub struct PortSummary {
        /// The host address it is published on; empty when it is only exposed.
        pub ip: String = "IP",
        /// The port in the container.
        pub private_port: u16 = "PrivatePort",
        /// The port on the host; 0 when it is only exposed.
        pub public_port: u16 = "PublicPort",
        /// The protocol.
        pub protocol: PortProtocol = "Type",
    }

    /// Everything the Engine knows of one container.
    ///
    /// Since API 1.52 the container-wide network fields are gone; read [`NetworkSettings::ip_address`] and
    /// [`NetworkSettings::networks`], which work for every version.
    pub struct ContainerInspect {
        /// The container's id, 64 hexadecimal digits.
        pub id: String = "Id" | "ID",
        /// When it was created.
        pub created: Option<Timestamp> = "Created",
        /// The executable of its main process.
        pub path: String = "Path",
        /// The arguments of its main process.
        pub args: Vec<String> = "Args",
        /// Its state.
        pub state: ContainerState = "State",
        /// The id of its image.
        pub image: String = "Image",
        /// The host path of its `resolv.conf`.
        pub resolv_conf_path: String = "ResolvConfPath",
        /// The host path of its `hostname`.
        pub hostname_path: String = "HostnamePath",
        /// The host path of its `hosts`.
        pub hosts_path: String = "HostsPath",
        /// The host path of its log; empty when the log driver writes no file.
        pub log_path: String = "LogPath",
        /// Its name with a leading `/`.
        pub name: String = "Name",
        /// How often the Engine started it again by its restart policy.
        pub restart_count: i64 = "RestartCount",
        /// The storage driver, or the snapshotter of the containerd image store.
        pub driver: String = "Driver",
        /// The operating system it runs on.
        pub platform: String = "Platform",
        /// The SELinux label of its mounts.
        pub mount_label: String = "MountLabel",
        /// The SELinux label of its processes.
        pub process_label: String = "ProcessLabel",
        /// The AppArmor profile.
        pub app_armor_profile: String = "AppArmorProfile",
        /// The ids of commands started in it that the Engine still remembers.
        pub exec_ids: Vec<String> = "ExecIDs",
        /// The host's part of its configuration.
        pub host_config: HostConfig = "HostConfig",
        /// The storage driver's data; absent from API 1.52 with the containerd image store.
        pub graph_driver: Option<DriverData> = "GraphDriver",
        /// Bytes in the writable layer; only when asked for with `size`.
        pub size_rw: Option<i64> = "SizeRw",
        /// Bytes of all layers together; only when asked for with `size`.
        pub size_root_fs: Option<i64> = "SizeRootFs",
        /// What is mounted in it.
        pub mounts: Vec<MountPoint> = "Mounts",
        /// The portable part of its configuration.
        pub config: ContainerConfig = "Config",
        /// Its networks, addresses and ports.
        pub network_settings: NetworkSettings = "NetworkSettings",
    }

    /// The state of a container.
    pub struct ContainerState {
        /// Where it is in its life.
        pub status: ContainerStatus = "Status",
        /// Whether it runs; also true while paused or restarting.
        pub running: bool = "Running",
        /// Whether it is frozen.
        pub paused: bool = "Paused",
        /// Whether the Engine is about to start it again.
        pub restarting: bool = "Restarting",
        /// Whether the kernel's out-of-memory killer hit it in its last run.
        pub oom_killed: bool = "OOMKilled",
        /// Whether a removal failed halfway.
        pub dead: bool = "Dead",
        /// The process id on the host; 0 when it does not run.
        pub pid: i64 = "Pid",
        /// How its last run ended; meaningless while it runs for the first time.
        pub exit_code: i64 = "ExitCode",
        /// Why it could not be started; empty when it could.
        pub error: String = "Error",
        /// When its last run began; `None` when it never ran.
        pub started_at: Option<Timestamp> = "StartedAt",
        /// When its last run ended; `None` when none has.
        pub finished_at: Option<Timestamp> = "FinishedAt",
        /// Its health; `None` without a health check.
        pub health: Option<Health> = "Health" | "Healthcheck",
    }

    /// The health of a container.
    pub struct Health {
        /// The verdict.
        pub status: HealthStatus = "Status",
        /// How many checks failed in a row.
        pub failing_streak: i64 = "FailingStreak",
        /// The last checks, oldest first; the Engine keeps five.
        pub log: Vec<HealthcheckResult> = "Log",
    }

    /// One run of a health check.
    pub struct HealthcheckResult {
        /// When it began.
        pub start: Option<Timestamp> = "Start",
        /// When it ended.
        pub end: Option<Timestamp> = "End",
        /// 0 healthy, 1 unhealthy, 2 reserved, others: the check itself failed.
        pub exit_code: i64 = "ExitCode",
        /// What it printed, cut by the Engine.
        pub output: String = "Output",
    }

    /// A storage driver and what it says of one container or image.
    pub struct DriverData {
        /// The driver.
        pub name: String = "Name",
        /// Its own keys and values.
        pub data: TextMap = "Data",
    }

    /// One mount of a container.
    pub struct MountPoint {
        /// What is mounted.
        pub kind: MountType = "Type",
        /// The volume's name.
        pub name: String = "Name",
        /// The path on the host.
        pub source: String = "Source",
        /// The path in the container.
        pub destination: String = "Destination",
        /// The volume's driver.
        pub driver: String = "Driver",
        /// The mode as it was asked for, such as `z` or `ro`.
        pub mode: String = "Mode",
        /// Whether it can be written to.
        pub rw: bool = "RW",
        /// How mounts below it spread between host and container.
        pub propagation: String = "Propagation",
    }

    /// The networks, addresses and ports of a container.
    pub struct NetworkSettings {
        /// The network namespace's id.
        pub sandbox_id: String = "SandboxID",
        /// The path of the network namespace on the host.
        pub sandbox_key: String = "SandboxKey",
        /// For each exposed port (`80/tcp`) where it is published; an empty list when it is not.
        pub ports: BTreeMap<String, Vec<PortBinding>> = "Ports",
        /// Each network the container is in, by name.
        pub networks: BTreeMap<String, EndpointSettings> = "Networks",
        /// The address in the default bridge, as engines below API 1.52 repeat it here.
        pub legacy_ip_address: String = "IPAddress",
        /// The IPv6 address in the default bridge, as engines below API 1.52 repeat it here.
        pub legacy_global_ipv6_address: String = "GlobalIPv6Address",
    }

    /// What a wait ended with.
    pub struct WaitResult {
        /// The exit code of the container's main process.
        pub status_code: i64 = "StatusCode",
        /// Why the Engine could not tell, or (when waiting for the removal) why it could not remove.
        pub error: Option<WaitError> = "Error",
    }

    /// Why a wait failed inside the Engine.
    pub struct WaitError {
        /// The Engine's words.
        pub message: String = "Message",
    }

    /// The processes of a container.
    pub struct TopResult {
        /// The columns of `ps`.
        pub titles: Vec<String> = "Titles",
        /// One row for each process.
        pub processes: Vec<Vec<String>> = "Processes",
    }

    /// One path that differs from the image.
    pub struct Change {
        /// The path.
        pub path: String = "Path",
        /// How it differs.
        pub kind: ChangeKind = "Kind",
    }

    /// What a path in a container is.
    pub struct PathStat {
        /// The last part of the path.
        pub name: String = "name",
        /// Its length in bytes.
        pub size: i64 = "size",
        /// Its type and permissions in the bits of Go's `fs.FileMode`; see [`is_dir`](Self::is_dir).
        pub mode: u32 = "mode",
        /// When its content last changed.
        pub mtime: Option<Timestamp> = "mtime",
        /// What it points to when it is a symbolic link.
        pub link_target: String = "linkTarget",
    }

    /// Containers that a prune removed.
    pub struct PruneContainers {
        /// The ids of those removed.
        pub containers_deleted: Vec<String> = "ContainersDeleted",
        /// Bytes given back.
        pub space_reclaimed: u64 = "SpaceReclaimed",
    }
}

impl ContainerInspect {
    /// The name without its leading `/`.
    #[must_use]
    pub fn bare_name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }
}

impl PathStat {
    /// Whether it is a directory (bit 31 of Go's mode).
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.mode & (1 << 31) != 0
    }

    /// Whether it is a symbolic link (bit 27 of Go's mode).
    #[must_use]
    pub const fn is_symlink(&self) -> bool {
        self.mode & (1 << 27) != 0
    }

    /// Its permission bits, as in `0o644`.
    #[must_use]
    pub const fn permissions(&self) -> u32 {
        self.mode & 0o777
    }
}

impl NetworkSettings {
    /// The container's addresses: in the network `bridge`, then in the others by name; IPv4 before IPv6, each once. None with
    /// the host's network or another container's.
    pub fn ip_addresses(&self) -> impl Iterator<Item = &str> {
        let bridge = self.networks.get("bridge");
        let others = self
            .networks
            .iter()
            .filter(|(name, _)| *name != "bridge")
            .map(|(_, endpoint)| endpoint);
        let endpoints = bridge.into_iter().chain(others);
        let v4 = endpoints
            .clone()
            .map(|e| e.ip_address.as_str())
            .chain([self.legacy_ip_address.as_str()]);
        let v6 = endpoints
            .map(|e| e.global_ipv6_address.as_str())
            .chain([self.legacy_global_ipv6_address.as_str()]);
        let mut seen = Vec::new();
        v4.chain(v6).filter(move |address| {
            let new = !address.is_empty() && !seen.contains(address);
            seen.push(address);
            new
        })
    }

    /// The first of its [addresses](Self::ip_addresses).
    #[must_use]
    pub fn ip_address(&self) -> Option<&str> {
        self.ip_addresses().next()
    }
}
