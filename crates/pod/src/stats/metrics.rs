//! The samples that users of cAdvisor know, out of usage.
//!
//! Owns names, kinds, help texts and which number goes where: one table, of which a row says all of one metric, so that what is described
//! and what is emitted cannot part. The names are those that `critest` expects of a runtime (cri-tools, `pkg/validate/pod.go`) and that
//! dashboards are written for. Refuses to know who asks and in which format. Pure.
//!
//! A limit that nobody has set is 0 here, as it always was in these metrics. What is not known has no sample.

use std::time::{Duration, SystemTime};

use super::usage::{
    Detail, DeviceIo, FilesystemUsage, Interface, LayerUsage, Limit, NetworkUsage, Psi, Usage,
    Waits,
};

/// The labels that every sample begins with, in this order; their values are the caller's.
///
/// `id` is the path of the cgroup. For a pod as a whole `container` is empty; its `image` and `name` are those of the pause container.
pub const BASE_LABEL_KEYS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, while the container lives.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// What a metric is.
#[derive(Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name.
    pub name: &'static str,
    /// What it says, and in which unit.
    pub help: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// The labels that it has besides the [`BASE_LABEL_KEYS`].
    pub own_label_keys: &'static [&'static str],
}

impl Descriptor {
    /// All its labels, in the order in which values are given.
    pub fn label_keys(&self) -> impl Iterator<Item = &'static str> {
        BASE_LABEL_KEYS
            .into_iter()
            .chain(self.own_label_keys.iter().copied())
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of which metric.
    pub descriptor: &'static Descriptor,
    /// The values of its own labels; those of the base labels are put before them.
    pub own_label_values: Vec<String>,
    /// The value. Times are in seconds with decimals, which a format that has only whole numbers has to drop.
    pub value: f64,
}

/// What is known of a container or a pod.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// What its cgroup uses.
    pub usage: Option<&'a Usage>,
    /// How long its tasks had to wait.
    pub waits: Option<&'a Waits>,
    /// What more its cgroup says.
    pub detail: Option<&'a Detail>,
    /// Its network interfaces; of a pod only.
    pub network: Option<&'a NetworkUsage>,
    /// What it has written into its layer; of a container only.
    pub layer: Option<&'a LayerUsage>,
    /// The file system that the layer is on.
    pub filesystem: Option<&'a FilesystemUsage>,
    /// The CPU shares that the engine was asked for, if that is known; what the cgroup says otherwise.
    pub cpu_shares: Option<u64>,
    /// When it was started.
    pub started_at: Option<SystemTime>,
}

/// All metrics that there may be samples of. The same on every host: what a kernel or an engine does not tell is described and has no
/// sample.
pub fn descriptors() -> impl Iterator<Item = &'static Descriptor> {
    TABLE.iter().map(|row| &row.descriptor)
}

/// The samples of a container or a pod, in the order of the descriptors.
pub fn samples(subject: &Subject<'_>) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(TABLE.len() + 16);
    for row in &TABLE {
        let mut emit = Emit {
            descriptor: &row.descriptor,
            samples: &mut samples,
        };
        (row.read)(subject, &mut emit);
    }
    samples
}

struct Row {
    descriptor: Descriptor,
    read: fn(&Subject<'_>, &mut Emit<'_>),
}

struct Emit<'a> {
    descriptor: &'static Descriptor,
    samples: &'a mut Vec<Sample>,
}

impl Emit<'_> {
    fn sample(&mut self, own_label_values: Vec<String>, value: f64) {
        debug_assert_eq!(
            own_label_values.len(),
            self.descriptor.own_label_keys.len(),
            "{}",
            self.descriptor.name
        );
        self.samples.push(Sample {
            descriptor: self.descriptor,
            own_label_values,
            value,
        });
    }

    /// Whole numbers are exact up to 2^53, which is 9 PB.
    fn number(&mut self, value: Option<u64>) {
        if let Some(value) = value {
            self.sample(Vec::new(), value as f64);
        }
    }

    fn seconds(&mut self, value: Option<Duration>) {
        if let Some(value) = value {
            self.sample(Vec::new(), value.as_secs_f64());
        }
    }

    fn limit(&mut self, value: Option<Limit>) {
        self.number(value.map(|limit| limit.value().unwrap_or(0)));
    }

    fn time(&mut self, value: Option<SystemTime>) {
        self.seconds(value.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()));
    }

    fn by_interface(&mut self, subject: &Subject<'_>, value: fn(&Interface) -> u64) {
        for interface in subject.network.iter().flat_map(|usage| usage.interfaces()) {
            self.sample(vec![interface.name.clone()], value(interface) as f64);
        }
    }

    fn by_device(&mut self, subject: &Subject<'_>, value: fn(&DeviceIo) -> u64) {
        for io in devices(subject) {
            self.sample(vec![io.device.clone()], value(io) as f64);
        }
    }

    fn filesystem(&mut self, subject: &Subject<'_>, value: Option<u64>) {
        if let (Some(filesystem), Some(value)) = (subject.filesystem, value) {
            self.sample(vec![filesystem.source.clone()], value as f64);
        }
    }
}

fn devices<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a DeviceIo> {
    subject
        .detail
        .and_then(|detail| detail.io.as_deref())
        .into_iter()
        .flatten()
}

/// How long all tasks that had something to do were held up.
fn stalled(psi: Option<Psi>) -> Option<Duration> {
    psi.and_then(|psi| psi.full).map(|full| full.total)
}

/// How long at least one task was held up.
fn waiting(psi: Option<Psi>) -> Option<Duration> {
    psi.map(|psi| psi.some.total)
}

/// A metric of which the value is found by `$value`, an expression in which `?` ends at "not known".
macro_rules! metric {
    ($kind:ident $name:literal, $help:literal, $emit:ident = |$subject:ident| $value:expr) => {
        metric!($kind $name [], $help, |$subject, emit| {
            let value = || $value;
            emit.$emit(value());
        })
    };
    ($kind:ident $name:literal $keys:expr, $help:literal, |$subject:ident, $emit:ident| $body:expr) => {
        Row {
            descriptor: Descriptor {
                name: $name,
                help: $help,
                kind: Kind::$kind,
                own_label_keys: &$keys,
            },
            read: |$subject, $emit| $body,
        }
    };
}

const DEVICE: [&str; 1] = ["device"];
const INTERFACE: [&str; 1] = ["interface"];

static TABLE: [Row; 56] = [
    metric!(Counter "container_blkio_device_usage_total" ["device", "major", "minor", "operation"],
        "Bytes moved to and from block devices, by device and direction.", |subject, emit| {
        for io in devices(subject) {
            for (operation, value) in [("Read", io.read_bytes), ("Write", io.write_bytes)] {
                let labels = vec![
                    io.device.clone(),
                    io.major.to_string(),
                    io.minor.to_string(),
                    operation.to_owned(),
                ];
                emit.sample(labels, value as f64);
            }
        }
    }),
    metric!(Counter "container_cpu_cfs_periods_total",
        "Periods of the CPU quota that have passed.",
        number = |subject| quota(subject)?.cpu_periods),
    metric!(Counter "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota was used up.",
        number = |subject| quota(subject)?.cpu_throttled_periods),
    metric!(Counter "container_cpu_cfs_throttled_seconds_total",
        "Time for which the CPU quota held tasks back, in seconds.",
        seconds = |subject| quota(subject)?.cpu_throttled),
    metric!(Counter "container_cpu_system_seconds_total",
        "CPU time spent in the kernel, in seconds.",
        seconds = |subject| subject.detail?.cpu_system),
    metric!(Counter "container_cpu_usage_seconds_total" ["cpu"],
        "CPU time spent, over all cores, in seconds.", |subject, emit| {
        if let Some(cpu) = subject.usage.and_then(|usage| usage.cpu) {
            let spent = Duration::from_nanos(cpu.usage_core_nano_seconds);
            emit.sample(vec!["total".to_owned()], spent.as_secs_f64());
        }
    }),
    metric!(Counter "container_cpu_user_seconds_total",
        "CPU time spent outside the kernel, in seconds.",
        seconds = |subject| subject.detail?.cpu_user),
    metric!(Gauge "container_file_descriptors",
        "File descriptors that the processes have open.",
        number = |subject| Some(subject.detail?.open?.descriptors)),
    metric!(Gauge "container_fs_inodes_free" DEVICE,
        "Inodes that are free on the file system of the writable layer.", |subject, emit| {
        emit.filesystem(subject, subject.filesystem.and_then(|usage| usage.inodes_free));
    }),
    metric!(Gauge "container_fs_inodes_total" DEVICE,
        "Inodes that the file system of the writable layer has.", |subject, emit| {
        emit.filesystem(subject, subject.filesystem.and_then(|usage| usage.inodes));
    }),
    metric!(Gauge "container_fs_limit_bytes" DEVICE,
        "Size of the file system of the writable layer, in bytes.", |subject, emit| {
        emit.filesystem(subject, subject.filesystem.map(|usage| usage.capacity_bytes));
    }),
    metric!(Counter "container_fs_reads_bytes_total" DEVICE,
        "Bytes read from a device.", |subject, emit| emit.by_device(subject, |io| io.read_bytes)),
    metric!(Counter "container_fs_reads_total" DEVICE,
        "Read operations on a device.", |subject, emit| emit.by_device(subject, |io| io.reads)),
    metric!(Gauge "container_fs_usage_bytes" DEVICE,
        "Bytes that the writable layer takes, as of some minutes ago.", |subject, emit| {
        emit.filesystem(subject, subject.layer.map(|layer| layer.used_bytes));
    }),
    metric!(Counter "container_fs_writes_bytes_total" DEVICE,
        "Bytes written to a device.", |subject, emit| emit.by_device(subject, |io| io.write_bytes)),
    metric!(Counter "container_fs_writes_total" DEVICE,
        "Write operations on a device.", |subject, emit| emit.by_device(subject, |io| io.writes)),
    metric!(Gauge "container_hugetlb_max_usage_bytes" ["pagesize"],
        "The most that huge pages of a size have taken, in bytes.", |subject, emit| {
        for pages in subject.detail.iter().flat_map(|detail| &detail.hugetlb) {
            if let Some(max) = pages.max_usage_bytes {
                emit.sample(vec![pages.page_size.clone()], max as f64);
            }
        }
    }),
    metric!(Gauge "container_hugetlb_usage_bytes" ["pagesize"],
        "What huge pages of a size take, in bytes.", |subject, emit| {
        for pages in subject.detail.iter().flat_map(|detail| &detail.hugetlb) {
            emit.sample(vec![pages.page_size.clone()], pages.usage_bytes as f64);
        }
    }),
    metric!(Gauge "container_last_seen",
        "When the container was last looked at, in seconds since 1970.",
        time = |subject| Some(subject.usage?.at)),
    metric!(Gauge "container_memory_cache",
        "Page cache, in bytes.",
        number = |subject| subject.detail?.memory_cache_bytes),
    metric!(Counter "container_memory_failcnt",
        "How often memory ran into its limit.",
        number = |subject| subject.detail?.memory_failures),
    metric!(Counter "container_memory_failures_total" ["failure_type", "scope"],
        "Page faults: all of them (pgfault), and those that waited for a disk (pgmajfault).", |subject, emit| {
        if let Some(memory) = subject.usage.and_then(|usage| usage.memory) {
            let kinds = [("pgfault", memory.page_faults), ("pgmajfault", memory.major_page_faults)];
            for (kind, value) in kinds {
                // The kernel counts for the cgroup and those below it; a container seldom has any below.
                for scope in ["container", "hierarchy"] {
                    if let Some(value) = value {
                        emit.sample(vec![kind.to_owned(), scope.to_owned()], value as f64);
                    }
                }
            }
        }
    }),
    metric!(Gauge "container_memory_kernel_usage",
        "Memory that the kernel holds for the container, in bytes.",
        number = |subject| subject.detail?.memory_kernel_bytes),
    metric!(Gauge "container_memory_mapped_file",
        "Files mapped into memory, in bytes.",
        number = |subject| subject.detail?.memory_mapped_file_bytes),
    metric!(Gauge "container_memory_max_usage_bytes",
        "The most memory that was ever in use, in bytes.",
        number = |subject| subject.detail?.memory_max_usage_bytes),
    metric!(Gauge "container_memory_rss",
        "Anonymous memory, in bytes.",
        number = |subject| subject.usage?.memory?.rss_bytes),
    metric!(Gauge "container_memory_swap",
        "Swap in use, in bytes.",
        number = |subject| Some(subject.usage?.swap?.usage_bytes)),
    metric!(Gauge "container_memory_usage_bytes",
        "Memory in use, page cache included, in bytes.",
        number = |subject| Some(subject.usage?.memory?.usage_bytes)),
    metric!(Gauge "container_memory_working_set_bytes",
        "Memory in use without file pages that have not been used for a while, in bytes.",
        number = |subject| subject.usage?.memory?.working_set_bytes),
    metric!(Counter "container_network_receive_bytes_total" INTERFACE,
        "Bytes received.", |subject, emit| emit.by_interface(subject, |one| one.rx_bytes)),
    metric!(Counter "container_network_receive_errors_total" INTERFACE,
        "Errors while receiving.", |subject, emit| emit.by_interface(subject, |one| one.rx_errors)),
    metric!(Counter "container_network_receive_packets_dropped_total" INTERFACE,
        "Received packets that were dropped.", |subject, emit| emit.by_interface(subject, |one| one.rx_dropped)),
    metric!(Counter "container_network_receive_packets_total" INTERFACE,
        "Packets received.", |subject, emit| emit.by_interface(subject, |one| one.rx_packets)),
    metric!(Counter "container_network_transmit_bytes_total" INTERFACE,
        "Bytes sent.", |subject, emit| emit.by_interface(subject, |one| one.tx_bytes)),
    metric!(Counter "container_network_transmit_errors_total" INTERFACE,
        "Errors while sending.", |subject, emit| emit.by_interface(subject, |one| one.tx_errors)),
    metric!(Counter "container_network_transmit_packets_dropped_total" INTERFACE,
        "Packets dropped instead of sent.", |subject, emit| emit.by_interface(subject, |one| one.tx_dropped)),
    metric!(Counter "container_network_transmit_packets_total" INTERFACE,
        "Packets sent.", |subject, emit| emit.by_interface(subject, |one| one.tx_packets)),
    metric!(Counter "container_oom_events_total",
        "Processes that the kernel killed for want of memory.",
        number = |subject| subject.detail?.oom_kills),
    metric!(Counter "container_pressure_cpu_stalled_seconds_total",
        "Time in which every task with work to do waited for a CPU, in seconds.",
        seconds = |subject| stalled(subject.waits?.cpu)),
    metric!(Counter "container_pressure_cpu_waiting_seconds_total",
        "Time in which some task waited for a CPU, in seconds.",
        seconds = |subject| waiting(subject.waits?.cpu)),
    metric!(Counter "container_pressure_io_stalled_seconds_total",
        "Time in which every task with work to do waited for input or output, in seconds.",
        seconds = |subject| stalled(subject.waits?.io)),
    metric!(Counter "container_pressure_io_waiting_seconds_total",
        "Time in which some task waited for input or output, in seconds.",
        seconds = |subject| waiting(subject.waits?.io)),
    metric!(Counter "container_pressure_memory_stalled_seconds_total",
        "Time in which every task with work to do waited for memory, in seconds.",
        seconds = |subject| stalled(subject.waits?.memory)),
    metric!(Counter "container_pressure_memory_waiting_seconds_total",
        "Time in which some task waited for memory, in seconds.",
        seconds = |subject| waiting(subject.waits?.memory)),
    metric!(Gauge "container_processes",
        "Processes that run in the container.",
        number = |subject| subject.detail?.processes),
    metric!(Gauge "container_sockets",
        "Sockets that the processes have open.",
        number = |subject| Some(subject.detail?.open?.sockets)),
    metric!(Gauge "container_spec_cpu_period",
        "Length of a period of the CPU quota, in microseconds.",
        number = |subject| subject.detail?.cpu_period_us),
    metric!(Gauge "container_spec_cpu_quota",
        "CPU time that may be used in each period, in microseconds; absent without a limit.",
        number = |subject| quota(subject)?.cpu_quota_us?.value()),
    metric!(Gauge "container_spec_cpu_shares",
        "Weight beside other containers when CPUs are short, 1024 being one CPU asked for.",
        number = |subject| subject.cpu_shares.or(subject.detail?.cpu_shares)),
    metric!(Gauge "container_spec_memory_limit_bytes",
        "Limit of memory, in bytes; 0 without one.",
        limit = |subject| subject.usage?.memory?.limit),
    metric!(Gauge "container_spec_memory_reservation_limit_bytes",
        "Memory that is kept for the container while others want it, in bytes; 0 for none.",
        limit = |subject| subject.detail?.memory_reservation),
    metric!(Gauge "container_spec_memory_swap_limit_bytes",
        "Limit of swap, in bytes; 0 without one.",
        limit = |subject| subject.detail?.swap_limit),
    metric!(Gauge "container_start_time_seconds",
        "When the container was started, in seconds since 1970.",
        time = |subject| subject.started_at),
    metric!(Gauge "container_threads",
        "Threads that run in the container.",
        number = |subject| subject.usage?.pids),
    metric!(Gauge "container_threads_max",
        "Threads that may run in the container; 0 without a limit.",
        limit = |subject| subject.detail?.pids_limit),
    metric!(Gauge "container_ulimits_soft" ["ulimit"],
        "Soft limits of the first process; -1 without one.", |subject, emit| {
        if let Some(limit) = subject.detail.and_then(|detail| detail.max_open_files) {
            let value = limit.value().map_or(-1.0, |value| value as f64);
            emit.sample(vec!["max_open_files".to_owned()], value);
        }
    }),
];

/// What is known of a container that has a CPU quota: without one the kernel's counts stand still at 0 and say nothing.
fn quota<'a>(subject: &Subject<'a>) -> Option<&'a Detail> {
    subject
        .detail
        .filter(|detail| matches!(detail.cpu_quota_us, Some(Limit::At(_))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::usage::{Cpu, Hugetlb, Memory, OpenFiles, Pressure, Swap};
    use super::*;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn psi() -> Psi {
        let pressure = Pressure {
            avg10: 1.0,
            avg60: 2.0,
            avg300: 3.0,
            total: Duration::from_millis(1500),
        };
        Psi {
            some: pressure,
            full: Some(pressure),
        }
    }

    fn usage() -> Usage {
        Usage {
            at: AT + Duration::from_millis(2500),
            cpu: Some(Cpu {
                usage_core_nano_seconds: 1_500_000_000,
                usage_nano_cores: Some(7),
            }),
            memory: Some(Memory {
                usage_bytes: 100,
                working_set_bytes: Some(60),
                available_bytes: None,
                rss_bytes: Some(30),
                page_faults: Some(5),
                major_page_faults: Some(1),
                limit: Some(Limit::Unlimited),
            }),
            swap: Some(Swap {
                usage_bytes: 3,
                available_bytes: None,
            }),
            pids: Some(4),
        }
    }

    fn detail() -> Detail {
        let mut io = DeviceIo::new(8, 16);
        io.device = "/dev/sdb".into();
        (io.read_bytes, io.write_bytes, io.reads, io.writes) = (10, 20, 1, 2);
        Detail {
            cpu_user: Some(Duration::from_secs(1)),
            cpu_system: Some(Duration::from_millis(500)),
            cpu_periods: Some(9),
            cpu_throttled_periods: Some(2),
            cpu_throttled: Some(Duration::from_millis(250)),
            cpu_shares: Some(1024),
            cpu_period_us: Some(100_000),
            cpu_quota_us: Some(Limit::At(20_000)),
            memory_cache_bytes: Some(40),
            memory_mapped_file_bytes: Some(20),
            memory_kernel_bytes: Some(10),
            memory_max_usage_bytes: Some(200),
            memory_failures: Some(0),
            memory_reservation: Some(Limit::Unlimited),
            swap_limit: Some(Limit::At(64)),
            pids_limit: Some(Limit::At(100)),
            oom_kills: Some(1),
            io: Some(vec![io]),
            hugetlb: vec![Hugetlb {
                page_size: "2MB".into(),
                usage_bytes: 2_097_152,
                max_usage_bytes: Some(4_194_304),
            }],
            processes: Some(2),
            open: Some(OpenFiles {
                descriptors: 11,
                sockets: 3,
            }),
            max_open_files: Some(Limit::At(1024)),
        }
    }

    fn interface(name: &str) -> Interface {
        Interface {
            name: name.into(),
            rx_bytes: 1,
            rx_packets: 2,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 5,
            tx_packets: 6,
            tx_errors: 7,
            tx_dropped: 8,
        }
    }

    /// Prometheus's text form, without the base labels.
    fn text(samples: &[Sample]) -> Vec<String> {
        samples
            .iter()
            .map(|sample| {
                let labels: Vec<_> = sample
                    .descriptor
                    .own_label_keys
                    .iter()
                    .zip(&sample.own_label_values)
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let name = sample.descriptor.name.strip_prefix("container_").unwrap();
                format!("{name}{{{}}} {}", labels.join(","), sample.value)
            })
            .collect()
    }

    #[test]
    fn everything_known_has_a_sample_of_every_metric() {
        let (usage, detail) = (usage(), detail());
        let network = NetworkUsage {
            at: AT,
            default: Some(interface("eth0")),
            others: vec![interface("net1")],
        };
        let layer = LayerUsage {
            at: AT,
            used_bytes: 8192,
            inodes_used: 2,
        };
        let filesystem = FilesystemUsage {
            at: AT,
            mountpoint: "/".into(),
            source: "/dev/sda1".into(),
            capacity_bytes: 1000,
            used_bytes: 400,
            available_bytes: 500,
            inodes: Some(100),
            inodes_used: Some(40),
            inodes_free: Some(60),
        };
        let waits = Waits {
            cpu: Some(psi()),
            memory: Some(psi()),
            io: Some(psi()),
        };
        let samples = samples(&Subject {
            usage: Some(&usage),
            waits: Some(&waits),
            detail: Some(&detail),
            network: Some(&network),
            layer: Some(&layer),
            filesystem: Some(&filesystem),
            cpu_shares: None,
            started_at: Some(AT + Duration::from_secs(1)),
        });
        let golden = include_str!("testdata/metrics.txt");
        let found = text(&samples);
        assert_eq!(
            found,
            golden.lines().collect::<Vec<_>>(),
            "{}",
            found.join("\n")
        );
        let named: BTreeSet<_> = samples
            .iter()
            .map(|sample| sample.descriptor.name)
            .collect();
        assert_eq!(
            named,
            descriptors().map(|descriptor| descriptor.name).collect()
        );
        for sample in samples {
            let keys = sample.descriptor.label_keys().count();
            assert_eq!(keys, BASE_LABEL_KEYS.len() + sample.own_label_values.len());
        }
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        assert_eq!(samples(&Subject::default()), []);
        let unknown = Usage::unknown(AT);
        let without = samples(&Subject {
            usage: Some(&unknown),
            detail: Some(&Detail::default()),
            ..Subject::default()
        });
        assert_eq!(text(&without), ["last_seen{} 0"]);
    }

    #[test]
    fn without_a_quota_nothing_is_said_of_it() {
        let detail = Detail {
            cpu_quota_us: Some(Limit::Unlimited),
            ..detail()
        };
        let samples = samples(&Subject {
            detail: Some(&detail),
            ..Subject::default()
        });
        assert!(
            !text(&samples)
                .iter()
                .any(|line| line.contains("cfs") || line.contains("quota"))
        );
    }

    #[test]
    fn descriptors_are_sorted_and_say_what_they_are() {
        let all: Vec<_> = descriptors().collect();
        assert!(all.is_sorted_by(|left, right| left.name < right.name));
        for descriptor in all {
            assert!(descriptor.name.starts_with("container_"));
            assert!(descriptor.help.ends_with('.'), "{}", descriptor.help);
            // The one gauge of this name is the total of a file system.
            let counts = descriptor.name.ends_with("_total")
                && descriptor.name != "container_fs_inodes_total";
            assert!(
                descriptor.kind == Kind::Counter || !counts,
                "{}",
                descriptor.name
            );
        }
    }
}
