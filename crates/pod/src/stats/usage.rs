//! What is measured, as plain data.
//!
//! Names are those of the CRI where it has one. `None` always means "not known": the kernel does not say, or the thing has just gone.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A limit that somebody may have set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nobody has.
    Unlimited,
    /// In the unit of what is limited.
    At(u64),
}

impl Limit {
    /// The limit, if there is one.
    pub fn value(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::At(value) => Some(value),
        }
    }
}

/// What a cgroup, of a container or of a pod, uses: the part that is cheap enough to be asked for every few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// When it was read.
    pub at: SystemTime,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Swap; absent where swap is not accounted.
    pub swap: Option<Swap>,
    /// Tasks: processes and their threads, which is what the kernel limits.
    pub pids: Option<u64>,
}

impl Usage {
    /// Nothing known, now: what a container that does not run has.
    pub fn unknown(at: SystemTime) -> Self {
        Self {
            at,
            cpu: None,
            memory: None,
            swap: None,
            pids: None,
        }
    }

    /// The sum of a pod's containers (the pause container being one), for a pod without a cgroup of its own.
    ///
    /// What cannot be added up is absent: limits and what is left of them. So is a sum that one running container has no number
    /// for; a container that is wholly unknown, as one that has just ended is, counts as nothing. So its counters fall when a container
    /// ends, which a cgroup's never do.
    pub fn sum<'a>(at: SystemTime, parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::unknown(at);
        for part in parts {
            if let Some(cpu) = &part.cpu {
                sum.cpu = Some(match sum.cpu {
                    None => *cpu,
                    Some(sum) => Cpu {
                        usage_core_nano_seconds: sum
                            .usage_core_nano_seconds
                            .saturating_add(cpu.usage_core_nano_seconds),
                        usage_nano_cores: add(sum.usage_nano_cores, cpu.usage_nano_cores),
                    },
                });
            }
            if let Some(memory) = &part.memory {
                let memory = Memory {
                    limit: None,
                    available_bytes: None,
                    ..*memory
                };
                sum.memory = Some(match sum.memory {
                    None => memory,
                    Some(sum) => Memory {
                        usage_bytes: sum.usage_bytes.saturating_add(memory.usage_bytes),
                        working_set_bytes: add(sum.working_set_bytes, memory.working_set_bytes),
                        rss_bytes: add(sum.rss_bytes, memory.rss_bytes),
                        page_faults: add(sum.page_faults, memory.page_faults),
                        major_page_faults: add(sum.major_page_faults, memory.major_page_faults),
                        ..sum
                    },
                });
            }
            if let Some(swap) = &part.swap {
                sum.swap = Some(Swap {
                    usage_bytes: sum
                        .swap
                        .map_or(0, |swap| swap.usage_bytes)
                        .saturating_add(swap.usage_bytes),
                    available_bytes: None,
                });
            }
            if let Some(pids) = part.pids {
                sum.pids = Some(sum.pids.unwrap_or(0).saturating_add(pids));
            }
        }
        sum
    }
}

fn add(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    Some(left?.saturating_add(right?))
}

/// Processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// Used since the cgroup was made, over all cores, in nanoseconds.
    pub usage_core_nano_seconds: u64,
    /// Billionths of a core used between the last two samples; absent until there are two, see [`Reading::usage`](super::Reading::usage).
    pub usage_nano_cores: Option<u64>,
}

/// Memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that is charged, page cache included, in bytes.
    pub usage_bytes: u64,
    /// Usage without file pages that have not been used for a while: what cannot be had back at once.
    pub working_set_bytes: Option<u64>,
    /// The limit less the working set; absent without a limit.
    pub available_bytes: Option<u64>,
    /// Anonymous memory, in bytes.
    pub rss_bytes: Option<u64>,
    /// Page faults since the cgroup was made, major ones included.
    pub page_faults: Option<u64>,
    /// Page faults that had to wait for a disk.
    pub major_page_faults: Option<u64>,
    /// The cgroup's own limit, in bytes.
    pub limit: Option<Limit>,
}

/// Swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    /// In use, in bytes.
    pub usage_bytes: u64,
    /// The limit less the use; absent without a limit.
    pub available_bytes: Option<u64>,
}

/// How much the tasks of a cgroup had to wait, where the kernel says so (version 2 and hybrid, Linux 4.20 and newer).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waits {
    /// For a core.
    pub cpu: Option<Psi>,
    /// For memory.
    pub memory: Option<Psi>,
    /// For input and output.
    pub io: Option<Psi>,
}

/// Pressure stall information of one resource (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Psi {
    /// At least one task was waiting.
    pub some: Pressure,
    /// All tasks that were not idle were waiting; for the CPU absent before Linux 5.13.
    pub full: Option<Pressure>,
}

/// How much time was lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last 60 seconds.
    pub avg60: f64,
    /// Percent of the last 300 seconds.
    pub avg300: f64,
    /// Since the cgroup was made.
    pub total: Duration,
}

/// What more there is to know of a cgroup, for metrics: several times as dear as [`Usage`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Time in user space.
    pub cpu_user: Option<Duration>,
    /// Time in the kernel.
    pub cpu_system: Option<Duration>,
    /// Periods of the CPU quota that have passed.
    pub cpu_periods: Option<u64>,
    /// Those in which the quota was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// How long tasks were held back by the quota.
    pub cpu_throttled: Option<Duration>,
    /// The relative weight on the scale of version 1 (2 to 262144). Absent on version 2: runtimes put shares to the other scale there in
    /// several ways, and the weight does not say in which.
    pub cpu_shares: Option<u64>,
    /// The period of the quota, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// The quota for each period, in microseconds.
    pub cpu_quota_us: Option<Limit>,
    /// Page cache, in bytes.
    pub memory_cache_bytes: Option<u64>,
    /// Files mapped into memory, in bytes.
    pub memory_mapped_file_bytes: Option<u64>,
    /// What the kernel holds for the cgroup, in bytes.
    pub memory_kernel_bytes: Option<u64>,
    /// The highest usage so far, in bytes; version 2 has it from Linux 5.19 on.
    pub memory_max_usage_bytes: Option<u64>,
    /// How often the limit was hit.
    pub memory_failures: Option<u64>,
    /// The soft limit of version 1, `memory.low` of version 2, in bytes.
    pub memory_reservation: Option<Limit>,
    /// The limit of swap, in bytes.
    pub swap_limit: Option<Limit>,
    /// How many tasks there may be.
    pub pids_limit: Option<Limit>,
    /// How many processes the kernel killed for memory.
    pub oom_kills: Option<u64>,
    /// Input and output, by device.
    pub io: Option<Vec<DeviceIo>>,
    /// Huge pages, by size.
    pub hugetlb: Vec<Hugetlb>,
    /// Processes.
    pub processes: Option<u64>,
    /// What the processes have open.
    pub open: Option<OpenFiles>,
    /// How many files the first process may have open.
    pub max_open_files: Option<Limit>,
}

/// Input and output of one block device since the cgroup was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Its name, such as `/dev/sda`; empty while nobody has looked it up or it has none.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

impl DeviceIo {
    pub(super) fn new(major: u32, minor: u32) -> Self {
        Self {
            major,
            minor,
            device: String::new(),
            read_bytes: 0,
            write_bytes: 0,
            reads: 0,
            writes: 0,
        }
    }
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hugetlb {
    /// The size as the kernel names it, such as `2MB`.
    pub page_size: String,
    /// In use, in bytes.
    pub usage_bytes: u64,
    /// The highest so far, in bytes; version 1 only.
    pub max_usage_bytes: Option<u64>,
}

/// What processes have open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFiles {
    /// File descriptors.
    pub descriptors: u64,
    /// Those that are sockets.
    pub sockets: u64,
}

/// The interfaces of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkUsage {
    /// When it was read.
    pub at: SystemTime,
    /// `eth0`, or the only one there is.
    pub default: Option<Interface>,
    /// All others, without `lo`.
    pub others: Vec<Interface>,
}

impl NetworkUsage {
    /// All interfaces, the default one first.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.default.iter().chain(&self.others)
    }
}

/// What went through one network interface, seen from inside the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors while receiving.
    pub rx_errors: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors while sending.
    pub tx_errors: u64,
    /// Packets dropped instead of sent.
    pub tx_dropped: u64,
}

/// What a tree of files takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// When the walk over it ended; minutes ago, as a rule.
    pub at: SystemTime,
    /// Blocks allotted, in bytes; a file with several names counts once.
    pub used_bytes: u64,
    /// Inodes, directories included.
    pub inodes_used: u64,
}

/// A file system as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// When it was read.
    pub at: SystemTime,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// What is mounted, such as `/dev/sda1`.
    pub source: String,
    /// Its size.
    pub capacity_bytes: u64,
    /// In use.
    pub used_bytes: u64,
    /// Free for processes without privileges.
    pub available_bytes: u64,
    /// How many inodes it has; absent on file systems that make them as needed.
    pub inodes: Option<u64>,
    /// Inodes in use; absent as above.
    pub inodes_used: Option<u64>,
    /// Inodes free; absent as above.
    pub inodes_free: Option<u64>,
}
