//! The Engine itself: version, info, disk use, and the check of registry credentials.

use std::collections::BTreeMap;
use std::fmt;

use super::container::ContainerSummary;
use super::image::ImageSummary;
use super::lenient::record;
use super::text_map::TextMap;
use super::time::Timestamp;
use super::volume::Volume;

/// What a ping answers, all of it in headers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ping {
    /// The newest API version the Engine speaks; empty when a proxy took the header away.
    pub api_version: String,
    /// The operating system containers run on.
    pub os_type: String,
    /// Whether experimental features are on.
    pub experimental: bool,
    /// The builder the Engine prefers: `1` classic, `2` BuildKit.
    pub builder_version: String,
    /// The product and version of the server, such as `Docker/28.2.2 (linux)`.
    pub server: String,
    /// The version of Podman's own API; `None` when this is not Podman.
    pub libpod_api_version: Option<String>,
}

record! {
    /// The versions of an Engine.
    pub struct Version {
        /// The Engine's version, such as `28.2.2`.
        pub version: String = "Version",
        /// The newest API version it speaks.
        pub api_version: String = "ApiVersion",
        /// The oldest API version it speaks.
        pub min_api_version: String = "MinAPIVersion",
        /// The commit it was built from.
        pub git_commit: String = "GitCommit",
        /// The Go version it was built with.
        pub go_version: String = "GoVersion",
        /// The operating system.
        pub os: String = "Os",
        /// The hardware.
        pub arch: String = "Arch",
        /// The kernel.
        pub kernel_version: String = "KernelVersion",
        /// Whether experimental features are on.
        pub experimental: bool = "Experimental",
        /// When it was built, as the builder wrote it.
        pub build_time: String = "BuildTime",
        /// The product.
        pub platform: VersionPlatform = "Platform",
        /// Its parts, such as containerd and runc.
        pub components: Vec<VersionComponent> = "Components",
    }

    /// The product an Engine belongs to.
    pub struct VersionPlatform {
        /// Its name, such as `Docker Engine - Community`; empty for a distribution's build.
        pub name: String = "Name",
    }

    /// A part of an Engine.
    pub struct VersionComponent {
        /// Its name.
        pub name: String = "Name",
        /// Its version.
        pub version: String = "Version",
        /// More of it.
        pub details: TextMap = "Details",
    }

    /// The state and configuration of an Engine and its host.
    pub struct Info {
        /// The Engine's own id.
        pub id: String = "ID",
        /// The host's name.
        pub name: String = "Name",
        /// Containers.
        pub containers: i64 = "Containers",
        /// Containers that run.
        pub containers_running: i64 = "ContainersRunning",
        /// Containers that are paused.
        pub containers_paused: i64 = "ContainersPaused",
        /// Containers that don't run.
        pub containers_stopped: i64 = "ContainersStopped",
        /// Images.
        pub images: i64 = "Images",
        /// The storage driver, or the snapshotter of the containerd image store.
        pub driver: String = "Driver",
        /// What it says of itself, in pairs. With the containerd image store one is
        /// `["driver-type", "io.containerd.snapshotter.v1"]`.
        pub driver_status: Vec<Vec<String>> = "DriverStatus",
        /// Where the Engine keeps its data.
        pub docker_root_dir: String = "DockerRootDir",
        /// Whether the host can limit memory.
        pub memory_limit: bool = "MemoryLimit",
        /// Whether the host can limit swap.
        pub swap_limit: bool = "SwapLimit",
        /// Whether the host has CPU periods.
        pub cpu_cfs_period: bool = "CpuCfsPeriod",
        /// Whether the host has CPU quotas.
        pub cpu_cfs_quota: bool = "CpuCfsQuota",
        /// Whether the host has CPU shares.
        pub cpu_shares: bool = "CPUShares",
        /// Whether the host has CPU sets.
        pub cpu_set: bool = "CPUSet",
        /// Whether the host can limit processes.
        pub pids_limit: bool = "PidsLimit",
        /// Whether the out-of-memory killer can be switched off.
        pub oom_kill_disable: bool = "OomKillDisable",
        /// Whether the host forwards IPv4.
        pub ipv4_forwarding: bool = "IPv4Forwarding",
        /// Whether the Engine logs for debugging.
        pub debug: bool = "Debug",
        /// The Engine's clock.
        pub system_time: Option<Timestamp> = "SystemTime",
        /// The default log driver.
        pub logging_driver: String = "LoggingDriver",
        /// `cgroupfs`, `systemd` or `none`.
        pub cgroup_driver: String = "CgroupDriver",
        /// `1` or `2`.
        pub cgroup_version: String = "CgroupVersion",
        /// The kernel.
        pub kernel_version: String = "KernelVersion",
        /// The operating system in words.
        pub operating_system: String = "OperatingSystem",
        /// The version of the operating system.
        pub os_version: String = "OSVersion",
        /// `linux` or `windows`.
        pub os_type: String = "OSType",
        /// The hardware, as `uname -m` says it.
        pub architecture: String = "Architecture",
        /// CPUs.
        pub ncpu: i64 = "NCPU",
        /// Memory in bytes.
        pub mem_total: i64 = "MemTotal",
        /// The default registry.
        pub index_server_address: String = "IndexServerAddress",
        /// How registries are reached.
        pub registry_config: RegistryConfig = "RegistryConfig",
        /// The Engine's labels, each `key=value`.
        pub labels: Vec<String> = "Labels",
        /// The Engine's version.
        pub server_version: String = "ServerVersion",
        /// The OCI runtimes, by name.
        pub runtimes: BTreeMap<String, Runtime> = "Runtimes",
        /// The one that is used when none is named.
        pub default_runtime: String = "DefaultRuntime",
        /// The swarm the host is in.
        pub swarm: SwarmInfo = "Swarm",
        /// Whether containers go on while the Engine is down.
        pub live_restore_enabled: bool = "LiveRestoreEnabled",
        /// The default isolation of Windows containers.
        pub isolation: String = "Isolation",
        /// The init process.
        pub init_binary: String = "InitBinary",
        /// Security features, such as `name=rootless`.
        pub security_options: Vec<String> = "SecurityOptions",
        /// Address pools that new networks take their subnets from.
        pub default_address_pools: Vec<AddressPool> = "DefaultAddressPools",
        /// Folders of CDI specifications.
        pub cdi_spec_dirs: Vec<String> = "CDISpecDirs",
        /// What the Engine finds wrong with the host or its own configuration.
        pub warnings: Vec<String> = "Warnings",
    }

    /// How registries are reached.
    pub struct RegistryConfig {
        /// Networks whose registries may be reached without TLS.
        pub insecure_registry_cidrs: Vec<String> = "InsecureRegistryCIDRs",
        /// Mirrors of the default registry.
        pub mirrors: Vec<String> = "Mirrors",
        /// Single registries.
        pub index_configs: BTreeMap<String, IndexInfo> = "IndexConfigs",
    }

    /// One registry.
    pub struct IndexInfo {
        /// Its name.
        pub name: String = "Name",
        /// Its mirrors.
        pub mirrors: Vec<String> = "Mirrors",
        /// Whether it has to be reached over TLS.
        pub secure: bool = "Secure",
        /// Whether it is Docker's own.
        pub official: bool = "Official",
    }

    /// An OCI runtime.
    pub struct Runtime {
        /// Its executable.
        pub path: String = "path",
        /// Its arguments.
        pub runtime_args: Vec<String> = "runtimeArgs",
        /// Its shim.
        pub runtime_type: String = "runtimeType",
        /// What the runtime says of itself, by annotation name (API 1.44): its OCI features as JSON, among others.
        pub status: TextMap = "status",
    }

    /// The swarm a host is in.
    pub struct SwarmInfo {
        /// The node's id; empty outside a swarm.
        pub node_id: String = "NodeID",
        /// `inactive`, `pending`, `active`, `error` or `locked`.
        pub local_node_state: String = "LocalNodeState",
    }

    /// A pool of addresses for networks.
    pub struct AddressPool {
        /// The pool.
        pub base: String = "Base",
        /// The length of the prefix of each network.
        pub size: i64 = "Size",
    }

    /// What takes disk space.
    ///
    /// Engines below API 1.52 send the lists; newer ones send the totals, and the lists within them when asked to be
    /// verbose.
    pub struct SystemDf {
        /// Bytes of all image layers.
        pub layers_size: i64 = "LayersSize",
        /// Images.
        pub images: Vec<ImageSummary> = "Images",
        /// Containers.
        pub containers: Vec<ContainerSummary> = "Containers",
        /// Volumes.
        pub volumes: Vec<Volume> = "Volumes",
        /// Build caches.
        pub build_cache: Vec<BuildCache> = "BuildCache",
        /// Images in total (API 1.52).
        pub image_usage: Option<ImagesDiskUsage> = "ImageUsage",
        /// Containers in total (API 1.52).
        pub container_usage: Option<ContainersDiskUsage> = "ContainerUsage",
        /// Volumes in total (API 1.52).
        pub volume_usage: Option<VolumesDiskUsage> = "VolumeUsage",
        /// Build caches in total (API 1.52).
        pub build_cache_usage: Option<BuildCacheDiskUsage> = "BuildCacheUsage",
    }

    /// What images take.
    pub struct ImagesDiskUsage {
        /// Images that containers use.
        pub active_count: i64 = "ActiveCount",
        /// Images.
        pub total_count: i64 = "TotalCount",
        /// Bytes a prune would give back.
        pub reclaimable: i64 = "Reclaimable",
        /// Bytes.
        pub total_size: i64 = "TotalSize",
        /// The images, when asked for.
        pub items: Vec<ImageSummary> = "Items",
    }

    /// What containers take.
    pub struct ContainersDiskUsage {
        /// Containers that run.
        pub active_count: i64 = "ActiveCount",
        /// Containers.
        pub total_count: i64 = "TotalCount",
        /// Bytes a prune would give back.
        pub reclaimable: i64 = "Reclaimable",
        /// Bytes.
        pub total_size: i64 = "TotalSize",
        /// The containers, when asked for.
        pub items: Vec<ContainerSummary> = "Items",
    }

    /// What volumes take.
    pub struct VolumesDiskUsage {
        /// Volumes that containers use.
        pub active_count: i64 = "ActiveCount",
        /// Volumes.
        pub total_count: i64 = "TotalCount",
        /// Bytes a prune would give back.
        pub reclaimable: i64 = "Reclaimable",
        /// Bytes.
        pub total_size: i64 = "TotalSize",
        /// The volumes, when asked for.
        pub items: Vec<Volume> = "Items",
    }

    /// What build caches take.
    pub struct BuildCacheDiskUsage {
        /// Caches in use.
        pub active_count: i64 = "ActiveCount",
        /// Caches.
        pub total_count: i64 = "TotalCount",
        /// Bytes a prune would give back.
        pub reclaimable: i64 = "Reclaimable",
        /// Bytes.
        pub total_size: i64 = "TotalSize",
        /// The caches, when asked for.
        pub items: Vec<BuildCache> = "Items",
    }

    /// One build cache.
    pub struct BuildCache {
        /// Its id.
        pub id: String = "ID",
        /// Caches it stands on.
        pub parents: Vec<String> = "Parents",
        /// What it caches.
        pub kind: String = "Type",
        /// The step it belongs to.
        pub description: String = "Description",
        /// Whether a build uses it.
        pub in_use: bool = "InUse",
        /// Whether it is shared.
        pub shared: bool = "Shared",
        /// Bytes.
        pub size: i64 = "Size",
        /// When it was made.
        pub created_at: Option<Timestamp> = "CreatedAt",
        /// When it was last used.
        pub last_used_at: Option<Timestamp> = "LastUsedAt",
        /// How often it was used.
        pub usage_count: i64 = "UsageCount",
    }

    /// Build caches that a prune removed.
    pub struct PruneBuildCache {
        /// The ids of those removed.
        pub caches_deleted: Vec<String> = "CachesDeleted",
        /// Bytes given back.
        pub space_reclaimed: u64 = "SpaceReclaimed",
    }
}

/// What a registry says to credentials that it accepts.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct AuthResult {
    /// In words, such as `Login Succeeded`.
    pub status: String,
    /// A token to use instead of the password; empty when the registry gives none. Never printed by `Debug`.
    pub identity_token: String,
}

impl fmt::Debug for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.identity_token.is_empty() {
            ""
        } else {
            "<redacted>"
        };
        f.debug_struct("AuthResult")
            .field("status", &self.status)
            .field("identity_token", &token)
            .finish()
    }
}

mod wire {
    use super::super::lenient::record;

    record! {
        /// The reply as it is written, before its token is hidden.
        pub(super) struct Auth {
            pub status: String = "Status",
            pub identity_token: String = "IdentityToken",
        }
    }
}

impl<'de> serde::Deserialize<'de> for AuthResult {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire::Auth {
            status,
            identity_token,
        } = serde::Deserialize::deserialize(deserializer)?;
        Ok(Self {
            status,
            identity_token,
        })
    }
}
