//! Images: list rows, inspect, history, removal, and what a registry says of one.

use super::config::HealthConfig;
use super::container::DriverData;
use super::key_set::KeySet;
use super::lenient::record;
use super::text_map::TextMap;
use super::time::Timestamp;

record! {
    /// One row of an image list.
    pub struct ImageSummary {
        /// The image's id; with the containerd image store the digest of its manifest or index.
        pub id: String = "Id" | "ID",
        /// The image it was built on, when built here without BuildKit.
        pub parent_id: String = "ParentId",
        /// Its names with a tag. Engines below API 1.43 write `<none>:<none>` for an image without.
        pub repo_tags: Vec<String> = "RepoTags",
        /// Its names with a digest.
        pub repo_digests: Vec<String> = "RepoDigests",
        /// When it was built.
        pub created: Option<Timestamp> = "Created",
        /// Bytes it takes, shared layers included.
        pub size: i64 = "Size",
        /// Bytes shared with other images; -1 when not computed.
        pub shared_size: i64 = "SharedSize",
        /// The same as `size`, from engines below API 1.44; 0 from others.
        pub virtual_size: i64 = "VirtualSize",
        /// Labels.
        pub labels: TextMap = "Labels",
        /// Containers that use it; -1 when not computed.
        pub containers: i64 = "Containers",
        /// The manifest or index it stands for, with the containerd image store (API 1.48).
        pub descriptor: Option<Descriptor> = "Descriptor",
    }

    /// Everything the Engine knows of one image.
    pub struct ImageInspect {
        /// The image's id; with the containerd image store the digest of its manifest or index.
        pub id: String = "Id" | "ID",
        /// Its names with a tag.
        pub repo_tags: Vec<String> = "RepoTags",
        /// Its names with a digest.
        pub repo_digests: Vec<String> = "RepoDigests",
        /// The image it was built on, when built here without BuildKit.
        pub parent: String = "Parent",
        /// The builder's comment.
        pub comment: String = "Comment",
        /// When it was built.
        pub created: Option<Timestamp> = "Created",
        /// Who built it.
        pub author: String = "Author",
        /// How containers of it run.
        pub config: ImageConfig = "Config",
        /// The hardware it is for.
        pub architecture: String = "Architecture",
        /// The variant of that hardware.
        pub variant: String = "Variant",
        /// The operating system it is for.
        pub os: String = "Os",
        /// The version of a Windows it is for.
        pub os_version: String = "OsVersion",
        /// Bytes it takes, shared layers included.
        pub size: i64 = "Size",
        /// The same as `size`, from engines below API 1.44; 0 from others.
        pub virtual_size: i64 = "VirtualSize",
        /// The storage driver's data; absent from API 1.52 with the containerd image store.
        pub graph_driver: Option<DriverData> = "GraphDriver",
        /// Its layers.
        pub root_fs: RootFs = "RootFS",
        /// What this Engine notes about it.
        pub metadata: ImageMetadata = "Metadata",
        /// The manifest or index it stands for, with the containerd image store (API 1.48).
        pub descriptor: Option<Descriptor> = "Descriptor",
    }

    /// How containers of an image run.
    pub struct ImageConfig {
        /// The user.
        pub user: String = "User",
        /// Ports it listens on.
        pub exposed_ports: KeySet = "ExposedPorts",
        /// Environment.
        pub env: Vec<String> = "Env",
        /// The command, or the arguments of the entrypoint.
        pub cmd: Vec<String> = "Cmd",
        /// The health check.
        pub healthcheck: Option<HealthConfig> = "Healthcheck",
        /// Paths that get an anonymous volume.
        pub volumes: KeySet = "Volumes",
        /// The working directory.
        pub working_dir: String = "WorkingDir",
        /// The entrypoint.
        pub entrypoint: Vec<String> = "Entrypoint",
        /// Triggers for images built on it.
        pub on_build: Vec<String> = "OnBuild",
        /// Labels.
        pub labels: TextMap = "Labels",
        /// The signal that stops it.
        pub stop_signal: String = "StopSignal",
        /// The shell for the shell form of commands.
        pub shell: Vec<String> = "Shell",
    }

    /// The layers of an image.
    pub struct RootFs {
        /// Always `layers`.
        pub kind: String = "Type",
        /// The digests of the unpacked layers, the lowest first.
        pub layers: Vec<String> = "Layers",
    }

    /// What an Engine notes about an image.
    pub struct ImageMetadata {
        /// When it was last given a name here.
        pub last_tag_time: Option<Timestamp> = "LastTagTime",
    }

    /// What a digest stands for.
    pub struct Descriptor {
        /// The kind of document.
        pub media_type: String = "mediaType" | "MediaType",
        /// Its digest.
        pub digest: String = "digest" | "Digest",
        /// Its length in bytes.
        pub size: i64 = "size" | "Size",
        /// Where else it can be had.
        pub urls: Vec<String> = "urls" | "URLs",
        /// Annotations.
        pub annotations: TextMap = "annotations" | "Annotations",
        /// The platform it is for.
        pub platform: Option<Platform> = "platform" | "Platform",
    }

    /// Hardware and operating system.
    pub struct Platform {
        /// The hardware, such as `amd64`.
        pub architecture: String = "architecture" | "Architecture",
        /// The operating system, such as `linux`.
        pub os: String = "os" | "OS",
        /// The version of a Windows.
        pub os_version: String = "os.version" | "OSVersion",
        /// Features of a Windows.
        pub os_features: Vec<String> = "os.features" | "OSFeatures",
        /// The variant of the hardware, such as `v8`.
        pub variant: String = "variant" | "Variant",
    }

    /// One step of an image's history, the newest first.
    pub struct ImageHistoryItem {
        /// The id of the image after this step; `<missing>` when it was not built here.
        pub id: String = "Id",
        /// When.
        pub created: Option<Timestamp> = "Created",
        /// The command of the step.
        pub created_by: String = "CreatedBy",
        /// Names of the image after this step.
        pub tags: Vec<String> = "Tags",
        /// Bytes the step added.
        pub size: i64 = "Size",
        /// The builder's comment.
        pub comment: String = "Comment",
    }

    /// One thing that removing an image did: either a name was taken away or a layer was deleted.
    pub struct DeletedImage {
        /// The name that was taken away; empty when this is a deletion.
        pub untagged: String = "Untagged",
        /// The id that was deleted; empty when this is a name.
        pub deleted: String = "Deleted",
    }

    /// Images that a prune removed.
    pub struct PruneImages {
        /// What was done.
        pub images_deleted: Vec<DeletedImage> = "ImagesDeleted",
        /// Bytes given back.
        pub space_reclaimed: u64 = "SpaceReclaimed",
    }

    /// What a registry says of an image.
    pub struct DistributionInspect {
        /// The manifest or index behind the name.
        pub descriptor: Descriptor = "Descriptor",
        /// The platforms it is for.
        pub platforms: Vec<Platform> = "Platforms",
    }
}
