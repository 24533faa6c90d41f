//! How a container is described to be created or updated, and how inspect describes it back.
//!
//! Owns the bodies of create and update. Zero, empty and `None` are not sent and mean the Engine's default. Refuses to
//! know which engine understands which field; that is the business of `api`.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::container::MountType;
use super::key_set::KeySet;
use super::lenient::{body, record, words};
use super::network::EndpointSettings;
use super::text_map::TextMap;

words! {
    /// When the Engine starts an ended container again.
    pub enum RestartPolicyName {
        /// Never.
        No = "no",
        /// Always, also after a restart of the Engine.
        Always = "always",
        /// Always, but after a restart of the Engine only when it was not stopped before.
        UnlessStopped = "unless-stopped",
        /// When its exit code is not 0.
        OnFailure = "on-failure",
    }
}

body! {
    /// The portable part of a container's configuration.
    pub struct ContainerConfig {
        /// The host name in its UTS namespace.
        pub hostname: String = "Hostname",
        /// The domain name in its UTS namespace.
        pub domainname: String = "Domainname",
        /// `user`, `user:group`, `uid` or `uid:gid`.
        pub user: String = "User",
        /// Whether the client that starts it attaches stdin.
        pub attach_stdin: bool = "AttachStdin",
        /// Whether the client that starts it attaches stdout.
        pub attach_stdout: bool = "AttachStdout",
        /// Whether the client that starts it attaches stderr.
        pub attach_stderr: bool = "AttachStderr",
        /// Ports it listens on, such as `80/tcp`.
        pub exposed_ports: KeySet = "ExposedPorts",
        /// Whether it gets a terminal; its output is then one raw stream.
        pub tty: bool = "Tty",
        /// Whether its stdin stays open without a client.
        pub open_stdin: bool = "OpenStdin",
        /// Whether its stdin is closed when the first client that attached it goes.
        pub stdin_once: bool = "StdinOnce",
        /// Environment, each `NAME=value`; a bare `NAME` removes the image's.
        pub env: Vec<String> = "Env",
        /// The command, or the arguments of the entrypoint.
        pub cmd: Vec<String> = "Cmd",
        /// The health check.
        pub healthcheck: Option<HealthConfig> = "Healthcheck",
        /// The image: a name or an id.
        pub image: String = "Image",
        /// Paths that get an anonymous volume.
        pub volumes: KeySet = "Volumes",
        /// The working directory.
        pub working_dir: String = "WorkingDir",
        /// The entrypoint. `None` takes the image's; an empty list runs `cmd` without one.
        pub entrypoint: Option<Vec<String>> = "Entrypoint",
        /// The MAC address. Refused by the Engine from API 1.52; set it on the endpoint instead.
        pub mac_address: String = "MacAddress",
        /// Triggers for images built on this one.
        pub on_build: Vec<String> = "OnBuild",
        /// Labels.
        pub labels: TextMap = "Labels",
        /// The signal that stops it; the Engine's default is `SIGTERM`.
        pub stop_signal: String = "StopSignal",
        /// Seconds between that signal and the kill, when a stop names none; the Engine's default is 10.
        pub stop_timeout: Option<i64> = "StopTimeout",
        /// The shell for the shell form of commands in builds.
        pub shell: Vec<String> = "Shell",
    }

    /// A health check. Times are in nanoseconds; 0 takes the image's, or the Engine's default.
    pub struct HealthConfig {
        /// `["NONE"]`, `["CMD", arg…]` or `["CMD-SHELL", line]`; empty takes the image's.
        pub test: Vec<String> = "Test",
        /// Time between checks.
        pub interval: i64 = "Interval",
        /// Time after which a check counts as failed.
        pub timeout: i64 = "Timeout",
        /// How many failures in a row make it unhealthy.
        pub retries: i64 = "Retries",
        /// Time at the start in which failures do not count.
        pub start_period: i64 = "StartPeriod",
        /// Time between checks in the start period (API 1.44).
        pub start_interval: i64 = "StartInterval",
    }

    /// The host's part of a container's configuration.
    pub struct HostConfig {
        /// Binds, each `host-path:container-path[:options]`.
        pub binds: Vec<String> = "Binds",
        /// The log driver.
        pub log_config: Option<LogConfig> = "LogConfig",
        /// `bridge`, `host`, `none`, `container:<id>` or a network's name.
        pub network_mode: String = "NetworkMode",
        /// Where ports (`80/tcp`) are published on the host.
        pub port_bindings: BTreeMap<String, Vec<PortBinding>> = "PortBindings",
        /// When the Engine starts it again.
        pub restart_policy: Option<RestartPolicy> = "RestartPolicy",
        /// Whether the Engine removes it when it ends.
        pub auto_remove: bool = "AutoRemove",
        /// The driver of volumes named in `binds`.
        pub volume_driver: String = "VolumeDriver",
        /// Containers whose volumes it shares, each `id[:ro|rw]`.
        pub volumes_from: Vec<String> = "VolumesFrom",
        /// Mounts.
        pub mounts: Vec<Mount> = "Mounts",
        /// Height and width of its terminal (API 1.42).
        pub console_size: Vec<u16> = "ConsoleSize",
        /// Annotations for the OCI runtime (API 1.43).
        pub annotations: TextMap = "Annotations",
        /// Capabilities added.
        pub cap_add: Vec<String> = "CapAdd",
        /// Capabilities dropped.
        pub cap_drop: Vec<String> = "CapDrop",
        /// `private` or `host` (API 1.41).
        pub cgroupns_mode: String = "CgroupnsMode",
        /// Name servers.
        pub dns: Vec<String> = "Dns",
        /// Resolver options.
        pub dns_options: Vec<String> = "DnsOptions",
        /// Search domains.
        pub dns_search: Vec<String> = "DnsSearch",
        /// Lines for `/etc/hosts`, each `name:address`.
        pub extra_hosts: Vec<String> = "ExtraHosts",
        /// Further groups of its main process.
        pub group_add: Vec<String> = "GroupAdd",
        /// `none`, `private`, `shareable`, `host` or `container:<id>`.
        pub ipc_mode: String = "IpcMode",
        /// The cgroup to share.
        pub cgroup: String = "Cgroup",
        /// Links to other containers, each `name:alias`.
        pub links: Vec<String> = "Links",
        /// What is added to its out-of-memory score, from -1000 to 1000.
        pub oom_score_adj: i64 = "OomScoreAdj",
        /// `host` or `container:<id>`; empty for its own.
        pub pid_mode: String = "PidMode",
        /// Whether it gets every capability and device of the host.
        pub privileged: bool = "Privileged",
        /// Whether every exposed port is published on a free port of the host.
        pub publish_all_ports: bool = "PublishAllPorts",
        /// Whether its root file system is read-only.
        pub readonly_rootfs: bool = "ReadonlyRootfs",
        /// Security options, such as `no-new-privileges` or `seccomp=…`.
        pub security_opt: Vec<String> = "SecurityOpt",
        /// Options of the storage driver, such as `size`.
        pub storage_opt: TextMap = "StorageOpt",
        /// Memory file systems: mount options by path.
        pub tmpfs: TextMap = "Tmpfs",
        /// `host`; empty for its own.
        pub uts_mode: String = "UTSMode",
        /// `host`; empty for the Engine's remapping.
        pub userns_mode: String = "UsernsMode",
        /// Bytes of `/dev/shm`; 0 for the Engine's default of 64 MiB.
        pub shm_size: i64 = "ShmSize",
        /// Kernel parameters of its namespaces.
        pub sysctls: TextMap = "Sysctls",
        /// The OCI runtime.
        pub runtime: String = "Runtime",
        /// The isolation of Windows containers.
        pub isolation: String = "Isolation",
        /// Paths hidden from it. `None` hides Docker's default list; an empty list hides nothing.
        pub masked_paths: Option<Vec<String>> = "MaskedPaths",
        /// Paths that are read-only. `None` protects Docker's default list; an empty list protects nothing.
        pub readonly_paths: Option<Vec<String>> = "ReadonlyPaths",
        /// Whether an init process reaps its children; `None` for the Engine's setting.
        pub init: Option<bool> = "Init",

        /// CPU weight against other containers; 0 for the default of 1024.
        pub cpu_shares: i64 = "CpuShares",
        /// Memory limit in bytes; 0 for none.
        pub memory: i64 = "Memory",
        /// CPU limit in billionths of a CPU.
        pub nano_cpus: i64 = "NanoCpus" | "NanoCPUs",
        /// The parent cgroup.
        pub cgroup_parent: String = "CgroupParent",
        /// Weight of its block I/O, from 10 to 1000.
        pub blkio_weight: u16 = "BlkioWeight",
        /// Weight of its block I/O on single devices.
        pub blkio_weight_device: Vec<WeightDevice> = "BlkioWeightDevice",
        /// Limits of bytes read per second.
        pub blkio_device_read_bps: Vec<ThrottleDevice> = "BlkioDeviceReadBps",
        /// Limits of bytes written per second.
        pub blkio_device_write_bps: Vec<ThrottleDevice> = "BlkioDeviceWriteBps",
        /// Limits of reads per second.
        pub blkio_device_read_iops: Vec<ThrottleDevice> = "BlkioDeviceReadIOps",
        /// Limits of writes per second.
        pub blkio_device_write_iops: Vec<ThrottleDevice> = "BlkioDeviceWriteIOps",
        /// Length of a CPU quota period in microseconds.
        pub cpu_period: i64 = "CpuPeriod",
        /// CPU time it may use in a period, in microseconds; -1 for no limit.
        pub cpu_quota: i64 = "CpuQuota",
        /// Length of a real-time period in microseconds.
        pub cpu_realtime_period: i64 = "CpuRealtimePeriod",
        /// Real-time CPU time in a period, in microseconds.
        pub cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        /// CPUs it may use, such as `0-2,7`.
        pub cpuset_cpus: String = "CpusetCpus",
        /// Memory nodes it may use.
        pub cpuset_mems: String = "CpusetMems",
        /// Devices of the host.
        pub devices: Vec<DeviceMapping> = "Devices",
        /// Rules for the device cgroup, such as `c 13:* rwm`.
        pub device_cgroup_rules: Vec<String> = "DeviceCgroupRules",
        /// Devices asked for by driver, such as GPUs.
        pub device_requests: Vec<DeviceRequest> = "DeviceRequests",
        /// Memory in bytes it is pushed back to under pressure.
        pub memory_reservation: i64 = "MemoryReservation",
        /// Limit in bytes of memory and swap together; -1 for unlimited swap.
        pub memory_swap: i64 = "MemorySwap",
        /// How eagerly its memory is swapped, from 0 to 100; cgroup v1 only.
        pub memory_swappiness: Option<i64> = "MemorySwappiness",
        /// Whether the out-of-memory killer spares it; cgroup v1 only.
        pub oom_kill_disable: Option<bool> = "OomKillDisable",
        /// How many processes it may have; 0 or -1 for no limit.
        pub pids_limit: Option<i64> = "PidsLimit",
        /// Resource limits.
        pub ulimits: Vec<Ulimit> = "Ulimits",
    }

    /// A log driver and its options.
    pub struct LogConfig {
        /// The driver, such as `json-file`, `local` or `journald`.
        pub kind: String = "Type",
        /// Its options.
        pub config: TextMap = "Config",
    }

    /// Where one port is published.
    pub struct PortBinding {
        /// The host address; empty for all.
        pub host_ip: String = "HostIp",
        /// The host port; empty for any free one. Text, because create takes ranges (`8000-8010`) too.
        pub host_port: String = "HostPort",
    }

    /// When the Engine starts a container again.
    pub struct RestartPolicy {
        /// When.
        pub name: RestartPolicyName = "Name",
        /// How often at most, for `on-failure`; 0 for no limit.
        pub maximum_retry_count: i64 = "MaximumRetryCount",
    }

    /// One mount of a container that is created.
    pub struct Mount {
        /// The path in the container.
        pub target: String = "Target",
        /// The host's path, the volume's name or the image.
        pub source: String = "Source",
        /// What is mounted.
        pub kind: MountType = "Type",
        /// Whether it is read-only.
        pub read_only: bool = "ReadOnly",
        /// Options of a bind.
        pub bind_options: Option<BindOptions> = "BindOptions",
        /// Options of a volume.
        pub volume_options: Option<VolumeOptions> = "VolumeOptions",
        /// Options of an image mount (API 1.48).
        pub image_options: Option<ImageOptions> = "ImageOptions",
        /// Options of a memory file system.
        pub tmpfs_options: Option<TmpfsOptions> = "TmpfsOptions",
    }

    /// Options of a bind mount.
    pub struct BindOptions {
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`.
        pub propagation: String = "Propagation",
        /// Whether mounts below the source are left out.
        pub non_recursive: bool = "NonRecursive",
        /// Whether a missing source is made (API 1.42).
        pub create_mountpoint: bool = "CreateMountpoint",
        /// Whether mounts below a read-only one stay writable, as before API 1.44 (API 1.44).
        pub read_only_non_recursive: bool = "ReadOnlyNonRecursive",
        /// Whether it is an error when mounts below a read-only one can't be made read-only (API 1.44).
        pub read_only_force_recursive: bool = "ReadOnlyForceRecursive",
    }

    /// Options of a volume mount.
    pub struct VolumeOptions {
        /// Whether an empty volume is not filled from the image.
        pub no_copy: bool = "NoCopy",
        /// Labels for a volume that is made.
        pub labels: TextMap = "Labels",
        /// The driver for a volume that is made.
        pub driver_config: Option<DriverConfig> = "DriverConfig",
        /// A path in the volume (API 1.45).
        pub subpath: String = "Subpath",
    }

    /// A volume driver and its options.
    pub struct DriverConfig {
        /// The driver.
        pub name: String = "Name",
        /// Its options.
        pub options: TextMap = "Options",
    }

    /// Options of an image mount.
    pub struct ImageOptions {
        /// A path in the image.
        pub subpath: String = "Subpath",
    }

    /// Options of a memory file system.
    pub struct TmpfsOptions {
        /// Its size in bytes; 0 for no limit.
        pub size_bytes: i64 = "SizeBytes",
        /// Its permission bits.
        pub mode: u32 = "Mode",
        /// Mount options, each a name or a name and a value (API 1.46).
        pub options: Vec<Vec<String>> = "Options",
    }

    /// The weight of block I/O on one device.
    pub struct WeightDevice {
        /// The device's path.
        pub path: String = "Path",
        /// The weight, from 10 to 1000.
        pub weight: u16 = "Weight",
    }

    /// A limit on one device.
    pub struct ThrottleDevice {
        /// The device's path.
        pub path: String = "Path",
        /// Bytes or operations per second.
        pub rate: u64 = "Rate",
    }

    /// A device of the host given to a container.
    pub struct DeviceMapping {
        /// The host's path.
        pub path_on_host: String = "PathOnHost",
        /// The container's path.
        pub path_in_container: String = "PathInContainer",
        /// Any of `r`, `w`, `m`.
        pub cgroup_permissions: String = "CgroupPermissions",
    }

    /// Devices asked for by driver.
    pub struct DeviceRequest {
        /// The driver, such as `nvidia` or `cdi`.
        pub driver: String = "Driver",
        /// How many; -1 for all.
        pub count: i64 = "Count",
        /// Which.
        pub device_ids: Vec<String> = "DeviceIDs",
        /// Alternatives, each a list of capabilities that are all needed.
        pub capabilities: Vec<Vec<String>> = "Capabilities",
        /// The driver's options.
        pub options: TextMap = "Options",
    }

    /// A resource limit.
    pub struct Ulimit {
        /// Such as `nofile`.
        pub name: String = "Name",
        /// The soft limit; -1 for none.
        pub soft: i64 = "Soft",
        /// The hard limit; -1 for none.
        pub hard: i64 = "Hard",
    }

    /// The networks a new container is put into.
    pub struct NetworkingConfig {
        /// Its endpoints by network; more than one needs API 1.44.
        pub endpoints_config: BTreeMap<String, EndpointSettings> = "EndpointsConfig",
    }

    /// What to change on a container that exists. Fields at their default are left as they are.
    pub struct UpdateContainer {
        /// CPU weight.
        pub cpu_shares: i64 = "CpuShares",
        /// Memory limit in bytes.
        pub memory: i64 = "Memory",
        /// CPU limit in billionths of a CPU.
        pub nano_cpus: i64 = "NanoCpus",
        /// Weight of its block I/O.
        pub blkio_weight: u16 = "BlkioWeight",
        /// Length of a CPU quota period in microseconds.
        pub cpu_period: i64 = "CpuPeriod",
        /// CPU time in a period, in microseconds; -1 for no limit.
        pub cpu_quota: i64 = "CpuQuota",
        /// Length of a real-time period in microseconds.
        pub cpu_realtime_period: i64 = "CpuRealtimePeriod",
        /// Real-time CPU time in a period, in microseconds.
        pub cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        /// CPUs it may use.
        pub cpuset_cpus: String = "CpusetCpus",
        /// Memory nodes it may use.
        pub cpuset_mems: String = "CpusetMems",
        /// Memory in bytes it is pushed back to under pressure.
        pub memory_reservation: i64 = "MemoryReservation",
        /// Limit in bytes of memory and swap together; -1 for unlimited swap.
        pub memory_swap: i64 = "MemorySwap",
        /// How many processes it may have; 0 or -1 for no limit.
        pub pids_limit: Option<i64> = "PidsLimit",
        /// When the Engine starts it again.
        pub restart_policy: Option<RestartPolicy> = "RestartPolicy",
    }
}

record! {
    /// What a create answers.
    pub struct CreateContainerResponse {
        /// The new container's id.
        pub id: String = "Id",
        /// What the Engine did otherwise than asked.
        pub warnings: Vec<String> = "Warnings",
    }

    /// What an update answers.
    pub struct UpdateContainerResponse {
        /// What the Engine did otherwise than asked.
        pub warnings: Vec<String> = "Warnings",
    }
}

/// A container to create: its name and platform, and the three parts of its configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CreateContainer {
    /// Its name; `None` lets the Engine invent one.
    pub name: Option<String>,
    /// `os[/arch[/variant]]` of the image to take (API 1.41); `None` for the Engine's.
    pub platform: Option<String>,
    /// The portable part.
    pub config: ContainerConfig,
    /// The host's part.
    pub host_config: HostConfig,
    /// The networks.
    pub networking_config: NetworkingConfig,
}

impl Serialize for CreateContainer {
    /// The body of the request; name and platform travel in the query.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.config.write_fields(&mut map)?;
        map.serialize_entry("HostConfig", &self.host_config)?;
        if self.networking_config != NetworkingConfig::default() {
            map.serialize_entry("NetworkingConfig", &self.networking_config)?;
        }
        map.end()
    }
}

impl fmt::Display for PortBinding {
    /// `address:port`, with brackets around an IPv6 address; the port alone without an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip.as_str() {
            "" => f.write_str(&self.host_port),
            ip if ip.contains(':') => write!(f, "[{ip}]:{}", self.host_port),
            ip => write!(f, "{ip}:{}", self.host_port),
        }
    }
}
