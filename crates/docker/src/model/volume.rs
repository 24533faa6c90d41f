//! Volumes.

use super::lenient::{body, record};
use super::text_map::TextMap;
use super::time::Timestamp;

body! {
    /// A volume to create.
    pub struct CreateVolume {
        /// Its name; empty lets the Engine invent one.
        pub name: String = "Name",
        /// Its driver; empty for `local`.
        pub driver: String = "Driver",
        /// The driver's options.
        pub driver_opts: TextMap = "DriverOpts",
        /// Labels.
        pub labels: TextMap = "Labels",
    }
}

record! {
    /// A volume.
    pub struct Volume {
        /// Its name.
        pub name: String = "Name",
        /// Its driver.
        pub driver: String = "Driver",
        /// Where its content is on the host.
        pub mountpoint: String = "Mountpoint",
        /// When it was created.
        pub created_at: Option<Timestamp> = "CreatedAt",
        /// Labels.
        pub labels: TextMap = "Labels",
        /// `local` or `global`.
        pub scope: String = "Scope",
        /// The driver's options.
        pub options: TextMap = "Options",
        /// How it is used; only from system df.
        pub usage_data: Option<VolumeUsage> = "UsageData",
    }

    /// How a volume is used.
    pub struct VolumeUsage {
        /// Bytes; -1 when the driver can't tell.
        pub size: i64 = "Size",
        /// Containers that refer to it; -1 when unknown.
        pub ref_count: i64 = "RefCount",
    }

    /// The Engine's volumes.
    pub struct VolumeList {
        /// The volumes.
        pub volumes: Vec<Volume> = "Volumes",
        /// Drivers that could not be asked.
        pub warnings: Vec<String> = "Warnings",
    }

    /// Volumes that a prune removed.
    pub struct PruneVolumes {
        /// The names of those removed.
        pub volumes_deleted: Vec<String> = "VolumesDeleted",
        /// Bytes given back.
        pub space_reclaimed: u64 = "SpaceReclaimed",
    }
}
