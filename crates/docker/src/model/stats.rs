//! What a container uses, as one sample of the stats call.

use std::collections::BTreeMap;

use super::lenient::record;
use super::time::Timestamp;

record! {
    /// One sample of what a container uses. A container that does not run gives zeros and no time.
    ///
    /// Counters count from the start of the container. What a field holds differs between cgroup v1 and v2.
    pub struct Stats {
        /// The container's id; empty from engines that leave it out.
        pub id: String = "id" | "Id",
        /// The container's name with a leading `/`.
        pub name: String = "name" | "Name",
        /// When it was read.
        pub read: Option<Timestamp> = "read",
        /// When `precpu_stats` was read; `None` for the first sample and for one-shot ones.
        pub preread: Option<Timestamp> = "preread",
        /// Processes and threads.
        pub pids_stats: PidsStats = "pids_stats",
        /// CPU time at `read`.
        pub cpu_stats: CpuStats = "cpu_stats",
        /// CPU time at `preread`.
        pub precpu_stats: CpuStats = "precpu_stats",
        /// Memory.
        pub memory_stats: MemoryStats = "memory_stats",
        /// Block I/O.
        pub blkio_stats: BlkioStats = "blkio_stats",
        /// Network traffic by interface; empty when the container has no network of its own.
        pub networks: BTreeMap<String, NetworkStats> = "networks",
        /// Processes; Windows only.
        pub num_procs: u32 = "num_procs",
        /// Storage traffic; Windows only.
        pub storage_stats: StorageStats = "storage_stats",
    }

    /// Processes and threads.
    pub struct PidsStats {
        /// How many there are.
        pub current: u64 = "current",
        /// How many there may be; 0 for no limit.
        pub limit: u64 = "limit",
    }

    /// CPU time.
    pub struct CpuStats {
        /// The container's.
        pub cpu_usage: CpuUsage = "cpu_usage",
        /// The whole host's, in nanoseconds; 0 when unknown.
        pub system_cpu_usage: u64 = "system_cpu_usage",
        /// CPUs that are on; 0 when unknown.
        pub online_cpus: u32 = "online_cpus",
        /// How often its quota stopped it.
        pub throttling_data: ThrottlingData = "throttling_data",
    }

    /// CPU time of a container in nanoseconds (on Windows in units of 100 ns).
    pub struct CpuUsage {
        /// All.
        pub total_usage: u64 = "total_usage",
        /// By CPU; cgroup v1 only.
        pub percpu_usage: Vec<u64> = "percpu_usage",
        /// In the kernel.
        pub usage_in_kernelmode: u64 = "usage_in_kernelmode",
        /// In programs.
        pub usage_in_usermode: u64 = "usage_in_usermode",
    }

    /// How often a CPU quota stopped a container.
    pub struct ThrottlingData {
        /// Periods with the quota in force.
        pub periods: u64 = "periods",
        /// Periods in which it was stopped.
        pub throttled_periods: u64 = "throttled_periods",
        /// Nanoseconds it was stopped.
        pub throttled_time: u64 = "throttled_time",
    }

    /// Memory of a container in bytes.
    pub struct MemoryStats {
        /// What it uses, page cache included.
        pub usage: u64 = "usage",
        /// The most it used; cgroup v1 only.
        pub max_usage: u64 = "max_usage",
        /// The kernel's own counters, such as `inactive_file`.
        pub stats: BTreeMap<String, u64> = "stats",
        /// How often it hit its limit; cgroup v1 only.
        pub failcnt: u64 = "failcnt",
        /// Its limit; the host's memory when it has none.
        pub limit: u64 = "limit",
        /// Committed memory; Windows only.
        pub commitbytes: u64 = "commitbytes",
        /// The most it committed; Windows only.
        pub commitpeakbytes: u64 = "commitpeakbytes",
        /// The private working set; Windows only.
        pub privateworkingset: u64 = "privateworkingset",
    }

    /// Block I/O of a container.
    pub struct BlkioStats {
        /// Bytes by device and operation.
        pub io_service_bytes_recursive: Vec<BlkioEntry> = "io_service_bytes_recursive",
        /// Operations by device and operation; cgroup v1 only.
        pub io_serviced_recursive: Vec<BlkioEntry> = "io_serviced_recursive",
    }

    /// One number of block I/O.
    pub struct BlkioEntry {
        /// The device's major number.
        pub major: u64 = "major",
        /// The device's minor number.
        pub minor: u64 = "minor",
        /// The operation, such as `read` or `Read`.
        pub op: String = "op",
        /// The number.
        pub value: u64 = "value",
    }

    /// Network traffic of one interface.
    pub struct NetworkStats {
        /// Bytes received.
        pub rx_bytes: u64 = "rx_bytes",
        /// Packets received.
        pub rx_packets: u64 = "rx_packets",
        /// Packets that could not be received.
        pub rx_errors: u64 = "rx_errors",
        /// Packets received and dropped.
        pub rx_dropped: u64 = "rx_dropped",
        /// Bytes sent.
        pub tx_bytes: u64 = "tx_bytes",
        /// Packets sent.
        pub tx_packets: u64 = "tx_packets",
        /// Packets that could not be sent.
        pub tx_errors: u64 = "tx_errors",
        /// Packets dropped instead of sent.
        pub tx_dropped: u64 = "tx_dropped",
    }

    /// Storage traffic of a Windows container.
    pub struct StorageStats {
        /// Reads.
        pub read_count_normalized: u64 = "read_count_normalized",
        /// Bytes read.
        pub read_size_bytes: u64 = "read_size_bytes",
        /// Writes.
        pub write_count_normalized: u64 = "write_count_normalized",
        /// Bytes written.
        pub write_size_bytes: u64 = "write_size_bytes",
    }
}
