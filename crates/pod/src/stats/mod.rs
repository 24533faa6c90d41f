//! What containers, pods and file systems use, from the files of the kernel.
//!
//! Owns the reading of cgroups (version 1, version 2 and both), of a pod's network interfaces, of writable layers and of file systems, and
//! turning the numbers into the samples that cAdvisor's users know ([`metrics`]). Refuses to know the Engine, which is never asked here
//! (its stats call goes through three processes and costs it whole cores on a busy host), and pods: who calls knows which process and
//! directory is whose.
//!
//! Everything is synchronous. What reads `/proc` and `/sys` takes microseconds and may be called anywhere; 100 containers take one or two
//! milliseconds, and several more the first time, so a list is better read on a thread that may block. [`Stats::filesystem`] may block for as long as the file system does.
//! Writable layers are walked by a thread of this module; only who says so waits for it.
//!
//! ```no_run
//! use berth_pod::stats::{Roots, Stats};
//!
//! # fn main() -> Result<(), berth_pod::stats::LocateError> {
//! let stats = Stats::new(Roots::default());
//! // Once, when the container has been started: its first process and its ID.
//! let cgroup = stats.cgroup(stats.locate(4711, "0d1bed6a4a9a")?);
//! // Whenever somebody asks for a list.
//! let mut reading = stats.reading();
//! let usage = reading.usage("0d1bed6a4a9a", &cgroup);
//! # Ok(()) }
//! ```

mod cgroup;
mod filesystem;
mod layer;
mod locate;
pub mod metrics;
// Public for the fuzz targets only; they may change at any time.
#[doc(hidden)]
pub mod mounts;
mod rate;
mod read;
#[doc(hidden)]
pub mod text;
mod usage;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

pub use cgroup::Cgroup;
pub use locate::{CgroupPaths, LocateError};
pub use usage::{
    Cpu, Detail, DeviceIo, FilesystemUsage, Hugetlb, Interface, LayerUsage, Limit, Memory,
    NetworkUsage, OpenFiles, Pressure, Psi, Swap, Usage, Waits,
};

use filesystem::Filesystems;
use layer::Layers;
use locate::Hierarchies;
use rate::Rates;
use read::{Buffer, Room};

/// How many file descriptors of one container are looked at. What has more has no number.
const MAX_OPEN_FILES: u64 = 20_000;

/// Where the kernel's file systems are.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/proc` of the host. Where cgroups are mounted is read from its `self/mountinfo`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
        }
    }
}

/// The usage of everything on this host. One for each process; dropping it ends the thread that walks, if there is one.
#[derive(Debug)]
pub struct Stats {
    roots: Roots,
    hierarchies: OnceLock<Hierarchies>,
    page_sizes: OnceLock<Vec<String>>,
    rates: Mutex<Rates>,
    layers: Layers,
    filesystems: Filesystems,
    room: Arc<Room>,
}

impl Stats {
    /// Reads nothing yet.
    pub fn new(roots: Roots) -> Self {
        Self {
            roots,
            hierarchies: OnceLock::new(),
            page_sizes: OnceLock::new(),
            rates: Mutex::default(),
            layers: Layers::new(),
            filesystems: Filesystems::default(),
            room: Arc::new(Room::of_this_process()),
        }
    }

    /// Where the cgroups of a container are: `pid` is its first process, `id` its ID, which the path has to have in it. To be called once
    /// after the start; the paths are good for as long as the container runs.
    pub fn locate(&self, pid: u32, id: &str) -> Result<CgroupPaths, LocateError> {
        let mut buffer = Buffer::default();
        let hierarchies = self.hierarchies(&mut buffer)?;
        let text = buffer
            .read(&self.process(pid, "cgroup"))
            .map_err(|source| LocateError::Process { pid, source })?;
        hierarchies.locate(pid, id, text)
    }

    /// A cgroup to be read again and again, for as long as its container runs. Its files stay open between readings, ten of them at the
    /// most and together no more than a quarter of what this process may have open; those that find no room cost more to read.
    pub fn cgroup(&self, paths: CgroupPaths) -> Cgroup {
        Cgroup::new(paths, self.room.clone())
    }

    /// The mounts of cgroups do not change while a host is up, so they are read once; unless there were none.
    fn hierarchies(&self, buffer: &mut Buffer) -> Result<&Hierarchies, LocateError> {
        if let Some(hierarchies) = self.hierarchies.get() {
            return Ok(hierarchies);
        }
        let path = self.roots.proc.join("self/mountinfo");
        let found = match buffer.read(&path) {
            Ok(text) => Hierarchies::parse(text),
            Err(source) => return Err(LocateError::Mounts { path, source }),
        };
        if found.is_empty() {
            return Err(LocateError::NotMounted);
        }
        Ok(self.hierarchies.get_or_init(|| found))
    }

    /// Begins to read a list. What it gives is as of each call, not of now.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            stats: self,
            buffer: Buffer::default(),
            devices: HashMap::new(),
        }
    }

    /// The directory that takes a container's writes, from its mounts: for engines of which the inspect does not say
    /// (`GraphDriver.Data.UpperDir` is absent with containerd's image store). As the engine sees it. `None` if the root is no overlay, or
    /// the process is gone.
    pub fn upper_dir(&self, pid: u32) -> Option<PathBuf> {
        mounts::upper_dir(
            Buffer::default()
                .read(&self.process(pid, "mountinfo"))
                .ok()?,
        )
    }

    /// What the container `id` has written into `upper`, as of a walk that ended some time ago; `None` until there has been one, and when
    /// the last one came to no number. Asking is what makes walks happen: at most one a minute for each container, one at a time, in the
    /// background.
    ///
    /// With `until`, blocks until then at the most if there has been no walk yet: for metrics, where a container without this number would
    /// stand out. A list gives the same moment for all its containers.
    pub fn writable_layer(
        &self,
        id: &str,
        upper: &Path,
        until: Option<Instant>,
    ) -> Option<LayerUsage> {
        self.layers.usage(id, upper, until)
    }

    /// The file system that `path` is on: its mount point, and what of it is used. May block. Fails if the path is not there.
    pub fn filesystem(&self, path: &Path) -> io::Result<FilesystemUsage> {
        self.filesystems.usage(path, || {
            let mut buffer = Buffer::default();
            let path = self.roots.proc.join("self/mountinfo");
            buffer.read(&path).map(<[u8]>::to_vec)
        })
    }

    fn process(&self, pid: u32, file: &str) -> PathBuf {
        let mut path = self.roots.proc.join(pid.to_string());
        path.push(file);
        path
    }

    /// The sizes of huge pages, as files of cgroups name them. They are fixed when the kernel starts.
    fn page_sizes(&self) -> &[String] {
        self.page_sizes.get_or_init(|| {
            let Ok(entries) = std::fs::read_dir(self.roots.sys.join("kernel/mm/hugepages")) else {
                return Vec::new();
            };
            let mut sizes: Vec<String> = entries
                .flatten()
                .filter_map(|entry| page_size(entry.file_name().to_str()?))
                .collect();
            sizes.sort_unstable();
            sizes
        })
    }
}

/// `hugepages-2048kB` as `2MB`: the largest unit that leaves no less than one of it.
fn page_size(directory: &str) -> Option<String> {
    let kilobytes: u64 = directory
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes / 1_048_576),
        1024.. => format!("{}MB", kilobytes / 1024),
        _ => format!("{kilobytes}KB"),
    })
}

/// One pass over containers and pods, with what can be shared between them.
#[derive(Debug)]
pub struct Reading<'a> {
    stats: &'a Stats,
    buffer: Buffer,
    devices: HashMap<(u32, u32), String>,
}

impl Reading<'_> {
    /// What a cgroup uses: of a container, or of a pod. All absent if it has gone.
    ///
    /// `id` names it among all that are asked about, for the rate of the CPU: that is taken over the time since the last call for the same
    /// `id`, by whomever, if that was between 0.9 s and 5 minutes ago. A call that comes sooner is given the last rate again. The first
    /// call for an `id` has none.
    pub fn usage(&mut self, id: &str, cgroup: &Cgroup) -> Usage {
        let mut usage = cgroup.usage(SystemTime::now(), &mut self.buffer);
        if let Some(cpu) = &mut usage.cpu {
            let mut rates = self
                .stats
                .rates
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            cpu.usage_nano_cores =
                rates.nano_cores(id, Instant::now(), cpu.usage_core_nano_seconds);
        }
        usage
    }

    /// How long the tasks of a cgroup had to wait. Costs about half of what [`usage`](Self::usage) does.
    pub fn waits(&mut self, cgroup: &Cgroup) -> Waits {
        cgroup.waits(&mut self.buffer)
    }

    /// What more there is to know, for metrics. `pid` is the container's first process, if the cgroup is that of a container.
    pub fn detail(&mut self, paths: &CgroupPaths, pid: Option<u32>) -> Detail {
        let mut detail = cgroup::detail(paths, self.stats.page_sizes(), &mut self.buffer);
        for io in detail.io.iter_mut().flatten() {
            let device = (io.major, io.minor);
            io.device = match self.devices.get(&device) {
                Some(name) => name.clone(),
                None => {
                    let name = self.device(device).unwrap_or_default();
                    self.devices.entry(device).or_insert(name).clone()
                }
            };
        }
        if let Some(processes) = cgroup::processes(paths, &mut self.buffer) {
            detail.processes = u64::try_from(processes.len()).ok();
            detail.open = self.open_files(&processes);
        }
        if let Some(pid) = pid {
            let limits = self.stats.process(pid, "limits");
            detail.max_open_files = self
                .buffer
                .read(&limits)
                .ok()
                .and_then(text::max_open_files);
        }
        detail
    }

    /// How many processes of the cgroup the kernel killed for memory since it was made: a rise between two calls is an OOM kill. `None` if
    /// the kernel does not say (version 1 before Linux 4.13) or the cgroup has gone.
    pub fn oom_kills(&mut self, paths: &CgroupPaths) -> Option<u64> {
        cgroup::oom_kills(paths, &mut self.buffer)
    }

    /// The interfaces that `pid`, a pod's pause process, sees. With the host's network those are the host's. `None` if it has gone.
    pub fn network(&mut self, pid: u32) -> Option<NetworkUsage> {
        let text = self.buffer.read(&self.stats.process(pid, "net/dev")).ok()?;
        Some(network(text::net_dev(text), SystemTime::now()))
    }

    fn device(&mut self, (major, minor): (u32, u32)) -> Option<String> {
        let uevent = format!("dev/block/{major}:{minor}/uevent");
        text::device_name(self.buffer.read(&self.stats.roots.sys.join(uevent)).ok()?)
    }

    /// Absent if that takes rights we lack, or too much.
    fn open_files(&self, processes: &[u32]) -> Option<OpenFiles> {
        let mut open = OpenFiles::default();
        for pid in processes {
            let entries = match std::fs::read_dir(self.stats.process(*pid, "fd")) {
                Ok(entries) => entries,
                // It has ended in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return None,
            };
            for entry in entries.flatten() {
                open.descriptors += 1;
                if open.descriptors > MAX_OPEN_FILES {
                    return None;
                }
                let is_socket = std::fs::read_link(entry.path()).is_ok_and(|target| {
                    target
                        .as_os_str()
                        .as_encoded_bytes()
                        .starts_with(b"socket:")
                });
                open.sockets += u64::from(is_socket);
            }
        }
        Some(open)
    }
}

fn network(mut interfaces: Vec<Interface>, at: SystemTime) -> NetworkUsage {
    let default = interfaces
        .iter()
        .position(|interface| interface.name == "eth0")
        .or_else(|| (interfaces.len() == 1).then_some(0));
    NetworkUsage {
        at,
        default: default.map(|index| interfaces.remove(index)),
        others: interfaces,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0d1bed6a4a9ab5230224b58bd51a993b4a0a282bf6b5ff4d4e00ccc37a91f52e";

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

    #[test]
    fn eth0_or_the_only_interface_is_the_default() {
        let at = SystemTime::now();
        let names = |interfaces: &[&str]| {
            let usage = network(interfaces.iter().map(|name| interface(name)).collect(), at);
            let others: Vec<_> = usage.others.into_iter().map(|other| other.name).collect();
            (usage.default.map(|default| default.name), others)
        };
        assert_eq!(
            names(&["net1", "eth0"]),
            (Some("eth0".into()), vec!["net1".into()])
        );
        assert_eq!(names(&["ens3"]), (Some("ens3".into()), vec![]));
        assert_eq!(names(&["a", "b"]), (None, vec!["a".into(), "b".into()]));
        assert_eq!(names(&[]), (None, vec![]));
    }

    #[test]
    fn page_sizes_are_named_as_cgroup_files_name_them() {
        assert_eq!(page_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
        assert_eq!(page_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(page_size("other"), None);
    }

    /// A host with version 2 and one container, as files.
    fn host(dir: &Path) -> Roots {
        let cgroup = dir.join(format!("cgroup/kubepods/pod1/{ID}"));
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(cgroup.join("cpu.stat"), "usage_usec 1000\n");
        write(cgroup.join("cgroup.procs"), "42\n");
        write(
            cgroup.join("io.stat"),
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
        );
        write(cgroup.parent().unwrap().join("pids.current"), "9\n");
        write(
            dir.join("proc/self/mountinfo"),
            &format!(
                "30 23 0:26 / {}/cgroup rw - cgroup2 cgroup2 rw\n",
                dir.display()
            ),
        );
        write(
            dir.join("proc/42/cgroup"),
            &format!("0::/kubepods/pod1/{ID}\n"),
        );
        write(
            dir.join("proc/42/net/dev"),
            "a|b\n c|d\n eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n",
        );
        write(
            dir.join("proc/42/mountinfo"),
            "72 48 0:39 / / rw - overlay overlay rw,upperdir=/d/diff,workdir=/d/work\n",
        );
        write(
            dir.join("proc/42/limits"),
            "Max open files 1024 4096 files\n",
        );
        std::fs::create_dir_all(dir.join("proc/42/fd")).unwrap();
        std::os::unix::fs::symlink("socket:[123]", dir.join("proc/42/fd/0")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.join("proc/42/fd/1")).unwrap();
        write(
            dir.join("sys/dev/block/8:0/uevent"),
            "MAJOR=8\nMINOR=0\nDEVNAME=sda\n",
        );
        Roots {
            proc: dir.join("proc"),
            sys: dir.join("sys"),
        }
    }

    #[test]
    fn a_container_is_found_from_its_process_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let stats = Stats::new(host(dir.path()));
        let paths = stats.locate(42, ID).unwrap();
        let mut reading = stats.reading();
        let cpu = reading.usage(ID, &stats.cgroup(paths.clone())).cpu.unwrap();
        assert_eq!(cpu.usage_core_nano_seconds, 1_000_000);
        let pod = stats.cgroup(paths.parent("/kubepods/pod1").unwrap());
        assert_eq!(reading.usage("pod1", &pod).pids, Some(9));
        assert_eq!(
            reading.network(42).unwrap().default.unwrap(),
            interface("eth0")
        );
        let detail = reading.detail(&paths, Some(42));
        assert_eq!(detail.io.unwrap()[0].device, "/dev/sda");
        assert_eq!(detail.processes, Some(1));
        assert_eq!(
            detail.open,
            Some(OpenFiles {
                descriptors: 2,
                sockets: 1
            })
        );
        assert_eq!(detail.max_open_files, Some(Limit::At(1024)));
        assert_eq!(stats.upper_dir(42), Some("/d/diff".into()));
    }

    #[test]
    fn a_process_that_has_gone_is_nothing_to_warn_of() {
        let dir = tempfile::tempdir().unwrap();
        let stats = Stats::new(host(dir.path()));
        assert!(stats.locate(43, ID).unwrap_err().is_gone());
        assert_eq!(stats.reading().network(43), None);
        assert_eq!(stats.upper_dir(43), None);
    }
}
