//! The usage of one cgroup, read from the files in its directories.
//!
//! Owns which file of which version says what. A directory or file that is not there is something not known, never an error.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::locate::CgroupPaths;
use super::read::{Buffer, Dir, Files, Room};
use super::text;
use super::usage::{Cpu, Detail, Hugetlb, Limit, Memory, Swap, Usage, Waits};

fn open(path: &Option<PathBuf>) -> Option<Dir> {
    Dir::open(path.as_deref()?)
}

fn number(dir: &Dir, name: &str, buffer: &mut Buffer) -> Option<u64> {
    dir.read(name, buffer).and_then(text::number)
}

fn limit(dir: &Dir, name: &str, buffer: &mut Buffer) -> Option<Limit> {
    dir.read(name, buffer).and_then(text::limit)
}

/// A cgroup that is read again and again: its files stay open from one reading to the next, as long as there is room. Dropping it closes
/// them.
#[derive(Debug)]
pub struct Cgroup {
    paths: CgroupPaths,
    files: Mutex<Files>,
}

impl Cgroup {
    /// Opens nothing yet.
    pub(super) fn new(paths: CgroupPaths, room: Arc<Room>) -> Self {
        Self {
            paths,
            files: Mutex::new(Files::new(room)),
        }
    }

    /// Where it is.
    pub fn paths(&self) -> &CgroupPaths {
        &self.paths
    }

    /// The time that tasks lost waiting.
    pub(super) fn waits(&self, buffer: &mut Buffer) -> Waits {
        let Some(dir) = &self.paths.unified else {
            return Waits::default();
        };
        let mut files = self.files();
        let mut psi = |name| files.read(dir, name, buffer).and_then(text::psi);
        Waits {
            cpu: psi("cpu.pressure"),
            memory: psi("memory.pressure"),
            io: psi("io.pressure"),
        }
    }

    /// The cheap part: as few files as hold the numbers that everybody asks for. Without a rate.
    pub(super) fn usage(&self, at: SystemTime, buffer: &mut Buffer) -> Usage {
        let paths = &self.paths;
        let unified = paths.unified.as_deref();
        let mut files = self.files();
        let mut usage = Usage::unknown(at);

        let nanoseconds = match (&paths.cpuacct, unified) {
            (Some(dir), _) => files
                .read(dir, "cpuacct.usage", buffer)
                .and_then(text::number),
            (None, Some(dir)) => files
                .read(dir, "cpu.stat", buffer)
                .and_then(|text| text::cpu_stat(text).usage)
                .and_then(|usage| u64::try_from(usage.as_nanos()).ok()),
            (None, None) => None,
        };
        usage.cpu = nanoseconds.map(|usage_core_nano_seconds| Cpu {
            usage_core_nano_seconds,
            usage_nano_cores: None,
        });

        (usage.memory, usage.swap) = match (&paths.memory, unified) {
            (Some(dir), _) => memory_v1(dir, &mut files, buffer),
            (None, Some(dir)) => memory_v2(dir, &mut files, buffer),
            (None, None) => (None, None),
        };

        usage.pids = paths
            .pids
            .as_deref()
            .or(unified)
            .and_then(|dir| files.read(dir, "pids.current", buffer))
            .and_then(text::number);
        usage
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        // A panic in between leaves every file as good as it was.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn memory_v1(dir: &Path, files: &mut Files, buffer: &mut Buffer) -> (Option<Memory>, Option<Swap>) {
    let used = files
        .read(dir, "memory.usage_in_bytes", buffer)
        .and_then(text::number);
    let Some(used) = used else {
        return (None, None);
    };
    let stat = files
        .read(dir, "memory.stat", buffer)
        .map(text::memory_stat_v1);
    let Some(stat) = stat else {
        return (None, None);
    };
    // Where there is no limit here or above there is none here: one file less to read.
    let limit = match stat.hierarchical_limit {
        Some(Limit::Unlimited) => Some(Limit::Unlimited),
        _ => files
            .read(dir, "memory.limit_in_bytes", buffer)
            .and_then(text::limit),
    };
    // The kernel limits memory and swap together, and what the tightest limits above leave is what counts.
    let swap_limit = match (
        stat.hierarchical_memory_and_swap_limit,
        stat.hierarchical_limit,
    ) {
        (Some(Limit::At(both)), Some(Limit::At(memory))) => Some(both.saturating_sub(memory)),
        _ => None,
    };
    let swap = stat
        .hierarchical_memory_and_swap_limit
        .and(stat.swap)
        .map(|usage_bytes| Swap {
            usage_bytes,
            available_bytes: swap_limit.map(|limit| limit.saturating_sub(usage_bytes)),
        });
    (Some(memory(used, limit, &stat)), swap)
}

fn memory_v2(dir: &Path, files: &mut Files, buffer: &mut Buffer) -> (Option<Memory>, Option<Swap>) {
    let used = files
        .read(dir, "memory.current", buffer)
        .and_then(text::number);
    let Some(used) = used else {
        return (None, None);
    };
    let mut limit = |name, buffer: &mut Buffer| files.read(dir, name, buffer).and_then(text::limit);
    let memory_limit = limit("memory.max", buffer);
    let swap_limit = limit("memory.swap.max", buffer);
    let stat = files
        .read(dir, "memory.stat", buffer)
        .map(text::memory_stat_v2);
    let Some(stat) = stat else {
        return (None, None);
    };
    // Where swap is not accounted there is neither file of it, and one look tells.
    let swap_used = swap_limit
        .and_then(|_| files.read(dir, "memory.swap.current", buffer))
        .and_then(text::number);
    let swap = swap_used.map(|usage_bytes| Swap {
        usage_bytes,
        available_bytes: swap_limit
            .and_then(Limit::value)
            .map(|limit| limit.saturating_sub(usage_bytes)),
    });
    (Some(memory(used, memory_limit, &stat)), swap)
}

fn memory(usage_bytes: u64, limit: Option<Limit>, stat: &text::MemoryStat) -> Memory {
    let working_set_bytes = stat
        .inactive_file
        .map(|inactive| usage_bytes.saturating_sub(inactive));
    Memory {
        usage_bytes,
        working_set_bytes,
        available_bytes: limit
            .and_then(Limit::value)
            .zip(working_set_bytes)
            .map(|(limit, working_set)| limit.saturating_sub(working_set)),
        rss_bytes: stat.anon,
        page_faults: stat.page_faults,
        major_page_faults: stat.major_page_faults,
        limit,
    }
}

/// How many processes of the cgroup, and of those below it on version 2, the kernel killed for memory.
pub(super) fn oom_kills(paths: &CgroupPaths, buffer: &mut Buffer) -> Option<u64> {
    let (dir, file) = match &paths.memory {
        memory @ Some(_) => (open(memory)?, "memory.oom_control"),
        None => (open(&paths.unified)?, "memory.events"),
    };
    text::value(dir.read(file, buffer)?, b"oom_kill")
}

/// The dear part, but for what its processes have open. `page_sizes` are those of huge pages on this host.
pub(super) fn detail(paths: &CgroupPaths, page_sizes: &[String], buffer: &mut Buffer) -> Detail {
    let mut detail = Detail {
        oom_kills: oom_kills(paths, buffer),
        ..Detail::default()
    };
    let unified = open(&paths.unified);
    let unified = unified.as_ref();
    cpu_detail(&mut detail, paths, unified, buffer);
    memory_detail(&mut detail, paths, unified, buffer);
    detail.pids_limit = match (&paths.pids, unified) {
        (Some(pids), _) => buffer.read_value(pids, "pids.max").and_then(text::limit),
        (None, Some(dir)) => limit(dir, "pids.max", buffer),
        (None, None) => None,
    };
    detail.io = match &paths.blkio {
        blkio @ Some(_) => open(blkio).and_then(|dir| blkio_of(&dir, buffer)),
        None => unified.and_then(|dir| dir.read("io.stat", buffer).map(text::io_stat)),
    };
    let (hugetlb, suffix) = match &paths.hugetlb {
        hugetlb @ Some(_) => (open(hugetlb), "usage_in_bytes"),
        None => (open(&paths.unified), "current"),
    };
    if let Some(dir) = hugetlb {
        for size in page_sizes {
            if let Some(usage_bytes) = number(&dir, &format!("hugetlb.{size}.{suffix}"), buffer) {
                let max = format!("hugetlb.{size}.max_usage_in_bytes");
                detail.hugetlb.push(Hugetlb {
                    page_size: size.clone(),
                    usage_bytes,
                    max_usage_bytes: number(&dir, &max, buffer),
                });
            }
        }
    }
    detail
}

fn cpu_detail(
    detail: &mut Detail,
    paths: &CgroupPaths,
    unified: Option<&Dir>,
    buffer: &mut Buffer,
) {
    if let Some(dir) = open(&paths.cpuacct)
        && let Some(text) = dir.read("cpuacct.stat", buffer)
    {
        (detail.cpu_user, detail.cpu_system) = text::cpuacct_stat(text);
    }
    let own = open(&paths.cpu);
    let stat_in = if paths.cpu.is_some() {
        own.as_ref()
    } else {
        unified
    };
    if let Some(stat) = stat_in.and_then(|dir| dir.read("cpu.stat", buffer).map(text::cpu_stat)) {
        detail.cpu_user = detail.cpu_user.or(stat.user);
        detail.cpu_system = detail.cpu_system.or(stat.system);
        detail.cpu_periods = stat.periods;
        detail.cpu_throttled_periods = stat.throttled_periods;
        detail.cpu_throttled = stat.throttled;
    }
    if paths.cpu.is_some() {
        if let Some(dir) = own {
            detail.cpu_shares = number(&dir, "cpu.shares", buffer);
            detail.cpu_period_us = number(&dir, "cpu.cfs_period_us", buffer);
            detail.cpu_quota_us = dir
                .read("cpu.cfs_quota_us", buffer)
                .and_then(text::cfs_quota);
        }
    } else if let Some(text) = unified.and_then(|dir| dir.read("cpu.max", buffer)) {
        (detail.cpu_quota_us, detail.cpu_period_us) = text::cpu_max(text);
    }
}

fn memory_detail(
    detail: &mut Detail,
    paths: &CgroupPaths,
    unified: Option<&Dir>,
    buffer: &mut Buffer,
) {
    let stat = if paths.memory.is_some() {
        let Some(dir) = open(&paths.memory) else {
            return;
        };
        detail.memory_kernel_bytes = number(&dir, "memory.kmem.usage_in_bytes", buffer);
        detail.memory_max_usage_bytes = number(&dir, "memory.max_usage_in_bytes", buffer);
        detail.memory_failures = number(&dir, "memory.failcnt", buffer);
        detail.memory_reservation = limit(&dir, "memory.soft_limit_in_bytes", buffer);
        let memory = limit(&dir, "memory.limit_in_bytes", buffer);
        let both = limit(&dir, "memory.memsw.limit_in_bytes", buffer);
        detail.swap_limit = match (both, memory) {
            (Some(Limit::At(both)), Some(Limit::At(memory))) => {
                Some(Limit::At(both.saturating_sub(memory)))
            }
            (both, _) => both,
        };
        dir.read("memory.stat", buffer).map(text::memory_stat_v1)
    } else if let Some(dir) = unified {
        detail.memory_max_usage_bytes = number(dir, "memory.peak", buffer);
        detail.memory_failures = dir
            .read("memory.events", buffer)
            .and_then(|text| text::value(text, b"max"));
        // Its default is 0, which reserves nothing.
        detail.memory_reservation = limit(dir, "memory.low", buffer).map(|low| match low {
            Limit::At(0) => Limit::Unlimited,
            low => low,
        });
        detail.swap_limit = limit(dir, "memory.swap.max", buffer);
        dir.read("memory.stat", buffer).map(text::memory_stat_v2)
    } else {
        None
    };
    if let Some(stat) = stat {
        detail.memory_cache_bytes = stat.file;
        detail.memory_mapped_file_bytes = stat.file_mapped;
        detail.memory_kernel_bytes = detail.memory_kernel_bytes.or(stat.kernel);
    }
}

fn blkio_of(dir: &Dir, buffer: &mut Buffer) -> Option<Vec<super::usage::DeviceIo>> {
    // The recursive files came with Linux 5.1; before, a pod's cgroup knows only of its own processes, which are none.
    for suffix in ["_recursive", ""] {
        let bytes = format!("blkio.throttle.io_service_bytes{suffix}");
        let Some(bytes) = dir.read(&bytes, buffer).map(<[u8]>::to_vec) else {
            continue;
        };
        let operations = dir.read(&format!("blkio.throttle.io_serviced{suffix}"), buffer)?;
        return Some(text::blkio(&bytes, operations));
    }
    None
}

/// The processes of the cgroup itself, as our process namespace numbers them.
pub(super) fn processes(paths: &CgroupPaths, buffer: &mut Buffer) -> Option<Vec<u32>> {
    let dir = open(&paths.unified)
        .or_else(|| open(&paths.pids))
        .or_else(|| open(&paths.memory))
        .or_else(|| open(&paths.cpuacct))?;
    let text = dir.read_list("cgroup.procs", buffer)?;
    Some(
        text::lines(text)
            .filter_map(text::number)
            .filter_map(|pid| u32::try_from(pid).ok())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::usage::DeviceIo;
    use super::*;

    const MEMORY_STAT_V1: &str = include_str!("testdata/v1.memory.stat");
    const MEMORY_STAT_V2: &str = include_str!("testdata/v2.memory.stat");
    const PRESSURE: &str = "some avg10=1.50 avg60=0.75 avg300=0.25 total=1234567\nfull avg10=0.50 avg60=0.25 avg300=0.00 total=234567\n";

    fn write(dir: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    fn cgroup(paths: &CgroupPaths) -> Cgroup {
        Cgroup::new(paths.clone(), Arc::new(Room::new(10)))
    }

    fn usage(paths: &CgroupPaths, at: SystemTime) -> Usage {
        cgroup(paths).usage(at, &mut Buffer::default())
    }

    fn waits(paths: &CgroupPaths) -> Waits {
        cgroup(paths).waits(&mut Buffer::default())
    }

    fn v2(dir: &Path) -> CgroupPaths {
        write(
            dir,
            &[
                (
                    "cpu.stat",
                    "usage_usec 31234\nuser_usec 20000\nsystem_usec 11234\nnr_periods 7\nnr_throttled 2\nthrottled_usec 1500\n",
                ),
                ("cpu.pressure", PRESSURE),
                ("cpu.max", "20000 100000\n"),
                ("memory.current", "22000000\n"),
                ("memory.max", "67108864\n"),
                ("memory.low", "0\n"),
                ("memory.peak", "30000000\n"),
                ("memory.stat", MEMORY_STAT_V2),
                (
                    "memory.events",
                    "low 0\nhigh 0\nmax 12\noom 3\noom_kill 1\noom_group_kill 0\n",
                ),
                ("memory.pressure", PRESSURE),
                ("memory.swap.current", "4096\n"),
                ("memory.swap.max", "1048576\n"),
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                ("io.pressure", PRESSURE),
                (
                    "io.stat",
                    "254:0 rbytes=90112 wbytes=4096 rios=11 wios=1 dbytes=0 dios=0\n",
                ),
                ("hugetlb.2MB.current", "2097152\n"),
                ("cgroup.procs", "10\n12\n"),
            ],
        );
        CgroupPaths {
            unified: Some(dir.to_owned()),
            ..CgroupPaths::default()
        }
    }

    #[test]
    fn version_2_is_read_from_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let paths = v2(dir.path());
        let at = SystemTime::now();
        let mut buffer = Buffer::default();
        assert_eq!(
            usage(&paths, at),
            Usage {
                at,
                cpu: Some(Cpu {
                    usage_core_nano_seconds: 31_234_000,
                    usage_nano_cores: None,
                }),
                memory: Some(Memory {
                    usage_bytes: 22_000_000,
                    working_set_bytes: Some(22_000_000 - 11_624_448),
                    available_bytes: Some(67_108_864 - (22_000_000 - 11_624_448)),
                    rss_bytes: Some(2_547_712),
                    page_faults: Some(48_921),
                    major_page_faults: Some(104),
                    limit: Some(Limit::At(67_108_864)),
                }),
                swap: Some(Swap {
                    usage_bytes: 4096,
                    available_bytes: Some(1_044_480),
                }),
                pids: Some(3),
            }
        );
        let mut io = DeviceIo::new(254, 0);
        (io.read_bytes, io.write_bytes, io.reads, io.writes) = (90_112, 4096, 11, 1);
        assert_eq!(
            detail(&paths, &["2MB".into(), "1GB".into()], &mut buffer),
            Detail {
                cpu_user: Some(Duration::from_micros(20_000)),
                cpu_system: Some(Duration::from_micros(11_234)),
                cpu_periods: Some(7),
                cpu_throttled_periods: Some(2),
                cpu_throttled: Some(Duration::from_micros(1500)),
                cpu_period_us: Some(100_000),
                cpu_quota_us: Some(Limit::At(20_000)),
                memory_cache_bytes: Some(18_300_928),
                memory_mapped_file_bytes: Some(6_406_144),
                memory_kernel_bytes: Some(1_286_144),
                memory_max_usage_bytes: Some(30_000_000),
                memory_failures: Some(12),
                memory_reservation: Some(Limit::Unlimited),
                swap_limit: Some(Limit::At(1_048_576)),
                oom_kills: Some(1),
                pids_limit: Some(Limit::Unlimited),
                io: Some(vec![io]),
                hugetlb: vec![Hugetlb {
                    page_size: "2MB".into(),
                    usage_bytes: 2_097_152,
                    max_usage_bytes: None,
                }],
                ..Detail::default()
            }
        );
        assert_eq!(processes(&paths, &mut buffer), Some(vec![10, 12]));
        let psi = text::psi(PRESSURE.as_bytes());
        assert!(psi.is_some());
        let all = Waits {
            cpu: psi,
            memory: psi,
            io: psi,
        };
        assert_eq!(waits(&paths), all);
    }

    fn v1(dir: &Path) -> CgroupPaths {
        let sub = |name: &str| dir.join(name);
        write(
            &sub("cpu"),
            &[
                (
                    "cpu.stat",
                    "nr_periods 3\nnr_throttled 1\nthrottled_time 5000\n",
                ),
                ("cpu.shares", "1024\n"),
                ("cpu.cfs_quota_us", "-1\n"),
                ("cpu.cfs_period_us", "100000\n"),
                ("cpuacct.usage", "30292800\n"),
                ("cpuacct.stat", "user 1\nsystem 2\n"),
            ],
        );
        write(
            &sub("memory"),
            &[
                ("memory.usage_in_bytes", "1966080\n"),
                ("memory.limit_in_bytes", "67108864\n"),
                ("memory.memsw.limit_in_bytes", "134217728\n"),
                ("memory.soft_limit_in_bytes", "9223372036854771712\n"),
                ("memory.max_usage_in_bytes", "3559424\n"),
                ("memory.failcnt", "5\n"),
                ("memory.kmem.usage_in_bytes", "270336\n"),
                ("memory.stat", MEMORY_STAT_V1),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
            ],
        );
        write(
            &sub("pids"),
            &[("pids.current", "1\n"), ("pids.max", "100\n")],
        );
        write(
            &sub("blkio"),
            &[
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "254:0 Read 8192\n254:0 Write 0\nTotal 8192\n",
                ),
                (
                    "blkio.throttle.io_serviced_recursive",
                    "254:0 Read 2\n254:0 Write 0\nTotal 2\n",
                ),
            ],
        );
        CgroupPaths {
            cpu: Some(sub("cpu")),
            cpuacct: Some(sub("cpu")),
            memory: Some(sub("memory")),
            pids: Some(sub("pids")),
            blkio: Some(sub("blkio")),
            ..CgroupPaths::default()
        }
    }

    #[test]
    fn version_1_is_read_from_a_directory_for_each_controller() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::now();
        let mut buffer = Buffer::default();
        let sub = |name: &str| dir.path().join(name);
        let paths = v1(dir.path());
        let working_set = 1_966_080 - 1_146_880;
        assert_eq!(
            usage(&paths, at),
            Usage {
                at,
                cpu: Some(Cpu {
                    usage_core_nano_seconds: 30_292_800,
                    usage_nano_cores: None,
                }),
                memory: Some(Memory {
                    usage_bytes: 1_966_080,
                    working_set_bytes: Some(working_set),
                    available_bytes: Some(67_108_864 - working_set),
                    rss_bytes: Some(53_248),
                    page_faults: Some(1025),
                    major_page_faults: Some(2),
                    limit: Some(Limit::At(67_108_864)),
                }),
                swap: Some(Swap {
                    usage_bytes: 0,
                    available_bytes: Some(67_108_864),
                }),
                pids: Some(1),
            }
        );
        let mut io = DeviceIo::new(254, 0);
        (io.read_bytes, io.reads) = (8192, 2);
        assert_eq!(
            detail(&paths, &["2MB".into()], &mut buffer),
            Detail {
                cpu_user: Some(Duration::from_millis(10)),
                cpu_system: Some(Duration::from_millis(20)),
                cpu_periods: Some(3),
                cpu_throttled_periods: Some(1),
                cpu_throttled: Some(Duration::from_nanos(5000)),
                cpu_shares: Some(1024),
                cpu_period_us: Some(100_000),
                cpu_quota_us: Some(Limit::Unlimited),
                memory_cache_bytes: Some(1_273_856),
                memory_mapped_file_bytes: Some(831_488),
                memory_kernel_bytes: Some(270_336),
                memory_max_usage_bytes: Some(3_559_424),
                memory_failures: Some(5),
                memory_reservation: Some(Limit::Unlimited),
                swap_limit: Some(Limit::At(67_108_864)),
                oom_kills: Some(2),
                pids_limit: Some(Limit::At(100)),
                io: Some(vec![io]),
                ..Detail::default()
            }
        );

        // Hybrid: pressure comes from the unified hierarchy, all else stays with the controllers.
        write(
            &sub("unified"),
            &[("cpu.pressure", PRESSURE), ("cpu.stat", "usage_usec 1\n")],
        );
        let hybrid = CgroupPaths {
            unified: Some(sub("unified")),
            ..paths
        };
        let cpu = usage(&hybrid, at).cpu.unwrap();
        assert_eq!(cpu.usage_core_nano_seconds, 30_292_800);
        let waits = waits(&hybrid);
        assert_eq!(waits.cpu, text::psi(PRESSURE.as_bytes()));
        assert_eq!((waits.memory, waits.io), (None, None));
    }

    #[test]
    fn a_cgroup_that_has_gone_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::now();
        let mut buffer = Buffer::default();
        let gone = Some(dir.path().join("gone"));
        let v2 = CgroupPaths {
            unified: gone.clone(),
            ..CgroupPaths::default()
        };
        let v1 = CgroupPaths {
            cpu: gone.clone(),
            cpuacct: gone.clone(),
            memory: gone.clone(),
            pids: gone.clone(),
            blkio: gone.clone(),
            hugetlb: gone,
            unified: None,
        };
        for paths in [v1, v2, CgroupPaths::default()] {
            assert_eq!(usage(&paths, at), Usage::unknown(at));
            assert_eq!(
                detail(&paths, &["2MB".into()], &mut buffer),
                Detail::default()
            );
            assert_eq!(processes(&paths, &mut buffer), None);
            assert_eq!(waits(&paths), Waits::default());
        }
    }

    #[test]
    fn a_cgroup_that_goes_while_it_is_read_gives_no_zero_for_what_is_missing() {
        let at = SystemTime::now();
        for make in [v1, v2] {
            let files = [
                ["cpu/cpuacct.usage", "cpu.stat"],
                ["memory/memory.usage_in_bytes", "memory.current"],
                ["memory/memory.stat", "memory.stat"],
                ["pids/pids.current", "pids.current"],
            ];
            for first_missing in 0..files.len() {
                let dir = tempfile::tempdir().unwrap();
                let paths = make(dir.path());
                let whole = usage(&paths, at);
                for file in files[first_missing..].as_flattened() {
                    // One of the two versions has it.
                    let _ = std::fs::remove_file(dir.path().join(file));
                }
                let part = usage(&paths, at);
                assert!(part.cpu.is_none() || part.cpu == whole.cpu);
                assert!(part.memory.is_none() || part.memory == whole.memory);
                assert!(part.swap.is_none() || part.swap == whole.swap);
                assert!(part.pids.is_none() || part.pids == whole.pids);
                assert_ne!(part, whole);
            }
        }
    }

    #[test]
    fn without_a_limit_nothing_is_left_to_tell() {
        let dir = tempfile::tempdir().unwrap();
        let paths = v2(dir.path());
        write(
            dir.path(),
            &[("memory.max", "max\n"), ("memory.swap.max", "max\n")],
        );
        let usage = usage(&paths, SystemTime::now());
        let memory = usage.memory.unwrap();
        assert_eq!(memory.limit, Some(Limit::Unlimited));
        assert_eq!(memory.available_bytes, None);
        assert_eq!(usage.swap.unwrap().available_bytes, None);
    }

    #[test]
    fn a_pod_without_a_cgroup_is_the_sum_of_its_containers() {
        let dir = tempfile::tempdir().unwrap();
        let at = SystemTime::now();
        let part = usage(&v2(dir.path()), at);
        let sum = Usage::sum(at, [&part, &Usage::unknown(at), &part]);
        let cpu = sum.cpu.unwrap();
        assert_eq!(cpu.usage_core_nano_seconds, 2 * 31_234_000);
        assert_eq!(cpu.usage_nano_cores, None);
        let memory = sum.memory.unwrap();
        assert_eq!(memory.usage_bytes, 44_000_000);
        assert_eq!(memory.rss_bytes, Some(2 * 2_547_712));
        assert_eq!((memory.limit, memory.available_bytes), (None, None));
        assert_eq!(sum.swap.unwrap().usage_bytes, 8192);
        assert_eq!(sum.pids, Some(6));
        assert_eq!(Usage::sum(at, []), Usage::unknown(at));
    }

    #[test]
    fn a_cgroup_that_is_read_again_has_its_new_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = cgroup(&v2(dir.path()));
        let (at, mut buffer) = (SystemTime::now(), Buffer::default());
        let first = cgroup.usage(at, &mut buffer);
        let waits = cgroup.waits(&mut buffer);
        assert_eq!(cgroup.usage(at, &mut buffer), first);
        write(
            dir.path(),
            &[
                ("cpu.stat", "usage_usec 40000\n"),
                ("memory.current", "23000000\n"),
                ("memory.stat", "inactive_file 1000\n"),
                ("pids.current", "12\n"),
                (
                    "cpu.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
                ),
            ],
        );
        let second = cgroup.usage(at, &mut buffer);
        let cpu = second.cpu.unwrap();
        assert_eq!(cpu.usage_core_nano_seconds, 40_000_000);
        let memory = second.memory.unwrap();
        assert_eq!(memory.usage_bytes, 23_000_000);
        assert_eq!(memory.working_set_bytes, Some(22_999_000));
        assert_eq!(memory.rss_bytes, None);
        assert_eq!(second.pids, Some(12));
        let waited = cgroup.waits(&mut buffer);
        assert_eq!(
            waited.cpu.unwrap().some.total,
            std::time::Duration::from_micros(1)
        );
        assert_eq!(waited.memory, waits.memory);
    }

    /// A cgroup of this host, in every hierarchy that there is.
    struct Made(CgroupPaths);

    impl Made {
        fn new(name: &str) -> Option<Self> {
            let table = std::fs::read("/proc/self/mountinfo").unwrap();
            let hierarchies = super::super::locate::Hierarchies::parse(&table);
            let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap();
            // Where a cgroup of this name would be, next to the root of each hierarchy.
            let memberships: String = memberships
                .lines()
                .filter_map(|line| line.rsplit_once(':'))
                .map(|(hierarchy, _)| format!("{hierarchy}:/{name}\n"))
                .collect();
            let paths = hierarchies.locate(1, name, memberships.as_bytes()).ok()?;
            let made = Self(paths);
            made.make().ok()?;
            Some(made)
        }

        fn directories(&self) -> impl Iterator<Item = &PathBuf> {
            let paths = &self.0;
            let all = [
                &paths.cpu,
                &paths.cpuacct,
                &paths.memory,
                &paths.pids,
                &paths.unified,
            ];
            all.into_iter().flatten()
        }

        fn make(&self) -> std::io::Result<()> {
            self.directories().try_for_each(std::fs::create_dir_all)
        }

        fn remove(&self) {
            for directory in self.directories() {
                // Two controllers may share one.
                let _ = std::fs::remove_dir(directory);
            }
        }
    }

    impl Drop for Made {
        fn drop(&mut self) {
            self.remove();
        }
    }

    #[test]
    fn a_real_cgroup_that_goes_is_unknown_and_one_made_anew_is_read() {
        let name = format!("berthstatsunit{}", std::process::id());
        let Some(made) = Made::new(&name) else {
            eprintln!("skipped: no cgroup can be made here, which takes root");
            return;
        };
        let room = Arc::new(Room::new(10));
        let cgroup = Cgroup::new(made.0.clone(), room.clone());
        let (at, mut buffer) = (SystemTime::now(), Buffer::default());
        for _ in 0..3 {
            let cpu = cgroup.usage(at, &mut buffer).cpu.unwrap();
            assert_eq!(cpu.usage_core_nano_seconds, 0);
            made.remove();
            assert_eq!(cgroup.usage(at, &mut buffer), Usage::unknown(at));
            assert_eq!(cgroup.waits(&mut buffer), Waits::default());
            made.make().unwrap();
        }
    }
}
