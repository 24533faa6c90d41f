//! What containers and pods use: which cgroups and processes they are comes from the view, the numbers from the kernel.
//!
//! A measurement reads some ten files for each container, so it is made on a thread where that may block. They stay open from one
//! measurement to the next: until the container ends, or nobody has asked about it for a while.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::Pods;
use crate::observe::{Container, Sandbox, State};
use crate::runtime::Error;
use crate::spec::SandboxId;
use crate::stats::metrics::{Sample, Subject, samples};
use crate::stats::{
    Cgroup, CgroupPaths, FilesystemUsage, LayerUsage, LocateError, NetworkUsage, Reading, Roots,
    Stats, Usage, Waits,
};
use crate::view::{ChangeKind, Changes, Notice};

/// How long what nobody asks about is kept at hand. Those who ask again and again do so every 10 s (kubelet) to 60 s (Prometheus).
const KEPT: Duration = Duration::from_secs(120);

/// How long somebody who asks for metrics waits for layers that were never counted.
const LAYER_PATIENCE: Duration = Duration::from_millis(200);

/// How many pods or containers one thread measures before a second one helps: about a millisecond's worth, many times what it takes to wake
/// a thread.
const WORTH_A_THREAD: usize = 32;

/// More threads than this would mostly wait for each other at the kernel's locks of cgroups.
const MAX_THREADS: usize = 4;

/// What a container uses.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    /// Which.
    pub container: Arc<Container>,
    /// CPU, memory, swap, tasks; unknown while it does not run.
    pub usage: Usage,
    /// How long its tasks had to wait.
    pub waits: Waits,
    /// What it has written into its layer, once that was counted.
    pub layer: Option<LayerUsage>,
    /// The file system that its layer is on.
    pub filesystem: Option<FilesystemUsage>,
}

/// What a pod uses.
#[derive(Debug, Clone)]
pub struct PodUsage {
    /// Which.
    pub sandbox: Arc<Sandbox>,
    /// CPU, memory, tasks, of all its containers and the sandbox.
    pub usage: Usage,
    /// How long its tasks had to wait, where it has a cgroup of its own.
    pub waits: Waits,
    /// Its network interfaces; `None` with the host's network.
    pub network: Option<NetworkUsage>,
    /// Its running containers.
    pub containers: Vec<ContainerUsage>,
}

/// The metrics of a pod.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    /// Which.
    pub sandbox: Arc<Sandbox>,
    /// Those of the pod as a whole.
    pub samples: Vec<Sample>,
    /// Those of each running container.
    pub containers: Vec<(Arc<Container>, Vec<Sample>)>,
}

/// Measures, and remembers where.
#[derive(Debug)]
pub(super) struct Meter {
    stats: Stats,
    /// How many threads may run side by side; finding out takes longer than it takes to measure a pod.
    cores: usize,
    /// Where what runs is, by ID, and when somebody last asked.
    places: Mutex<HashMap<String, (Arc<Place>, tokio::time::Instant)>>,
    /// There is a place again.
    found: Notify,
}

/// Where a running container is measured: the same for as long as its process runs.
#[derive(Debug)]
struct Place {
    process: u32,
    cgroup: Cgroup,
    /// The cgroup of its pod, if it is known to be in one.
    pod: Option<Cgroup>,
    upper: Option<PathBuf>,
}

/// One measurement of many.
struct Round<'a> {
    reading: Reading<'a>,
    /// The file systems of layers, by the directory that the engine keeps its layers in.
    filesystems: HashMap<PathBuf, Option<FilesystemUsage>>,
}

impl Meter {
    pub(super) fn new(roots: Roots) -> Self {
        Self {
            stats: Stats::new(roots),
            cores: std::thread::available_parallelism().map_or(1, NonZero::get),
            places: Mutex::default(),
            found: Notify::new(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (Arc<Place>, tokio::time::Instant)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cgroups of a container whose first process this is.
    pub(super) fn locate(&self, process: u32, id: &str) -> Result<CgroupPaths, LocateError> {
        self.stats.locate(process, id)
    }

    /// Where a container is; `None` while it does not run, or runs on another host.
    fn place(
        &self,
        id: &str,
        process: u32,
        upper: Option<&String>,
        cgroup_parent: &str,
    ) -> Option<Arc<Place>> {
        if process == 0 {
            return None;
        }
        let now = tokio::time::Instant::now();
        if let Some((place, asked)) = self.known().get_mut(id)
            && place.process == process
        {
            *asked = now;
            return Some(place.clone());
        }
        let paths = self.stats.locate(process, id).ok()?;
        let place = Arc::new(Place {
            process,
            pod: paths
                .parent(cgroup_parent)
                .map(|parent| self.stats.cgroup(parent)),
            cgroup: self.stats.cgroup(paths),
            upper: upper
                .map(PathBuf::from)
                .or_else(|| self.stats.upper_dir(process)),
        });
        self.known().insert(id.to_owned(), (place.clone(), now));
        self.found.notify_one();
        Some(place)
    }

    /// Forgets one place, if it is known.
    fn forget(&self, id: &str) {
        let forgotten = self.known().remove(id);
        // Its files are closed here, out of the lock.
        drop(forgotten);
    }

    /// Forgets what nobody has asked about for a while. Whether nothing is left.
    fn forget_idle(&self) -> bool {
        let now = tokio::time::Instant::now();
        let mut known = self.known();
        known.retain(|_, (_, asked)| now.saturating_duration_since(*asked) < KEPT);
        if known.is_empty() {
            known.shrink_to_fit();
        }
        known.is_empty()
    }

    /// The file system that a layer is on. All layers of an engine are in one directory.
    fn filesystem(&self, round: &mut Round<'_>, upper: &Path) -> Option<FilesystemUsage> {
        let layers = upper.ancestors().nth(2).unwrap_or(upper);
        if let Some(known) = round.filesystems.get(layers) {
            return known.clone();
        }
        let found = self.stats.filesystem(layers).ok();
        round.filesystems.insert(layers.to_owned(), found.clone());
        found
    }

    fn container(
        &self,
        round: &mut Round<'_>,
        container: &Arc<Container>,
        until: Option<Instant>,
    ) -> ContainerUsage {
        let id = container.id.as_str();
        let upper = container.upper_directory.as_ref();
        let place = self.place(id, container.process, upper, "");
        let (usage, waits) = match &place {
            Some(place) => (
                round.reading.usage(id, &place.cgroup),
                round.reading.waits(&place.cgroup),
            ),
            None => (Usage::unknown(SystemTime::now()), Waits::default()),
        };
        let upper = place.as_ref().and_then(|place| place.upper.as_deref());
        let layer = upper.and_then(|upper| self.stats.writable_layer(id, upper, until));
        let filesystem = upper.and_then(|upper| self.filesystem(round, upper));
        ContainerUsage {
            container: container.clone(),
            usage,
            waits,
            layer,
            filesystem,
        }
    }

    fn pod(
        &self,
        round: &mut Round<'_>,
        sandbox: &Arc<Sandbox>,
        containers: &[Arc<Container>],
    ) -> PodUsage {
        let id = sandbox.id.as_str();
        let containers: Vec<ContainerUsage> = containers
            .iter()
            .map(|container| self.container(round, container, None))
            .collect();
        let own = self.place(id, sandbox.process, None, &sandbox.cgroup_parent);
        let parent = own.as_ref().and_then(|own| own.pod.as_ref());
        let (usage, waits) = match (parent, &own) {
            (Some(parent), _) => (
                round.reading.usage(&format!("pod {id}"), parent),
                round.reading.waits(parent),
            ),
            (None, Some(own)) => {
                let pause = round.reading.usage(id, &own.cgroup);
                let parts = containers.iter().map(|container| &container.usage);
                (
                    Usage::sum(SystemTime::now(), parts.chain([&pause])),
                    Waits::default(),
                )
            }
            (None, None) => (Usage::unknown(SystemTime::now()), Waits::default()),
        };
        let network = own
            .filter(|_| !sandbox.host_network)
            .and_then(|_| round.reading.network(sandbox.process));
        PodUsage {
            sandbox: sandbox.clone(),
            usage,
            waits,
            network,
            containers,
        }
    }

    fn metrics(&self, round: &mut Round<'_>, pod: PodUsage, until: Instant) -> PodMetrics {
        let containers = pod.containers.iter().map(|measured| {
            let container = &measured.container;
            let id = container.id.as_str();
            let detail = self.place(id, container.process, None, "").map(|place| {
                let paths = place.cgroup.paths();
                round.reading.detail(paths, Some(container.process))
            });
            // Those who ask for metrics ask seldom, so the first answer should be whole.
            let again = match measured.layer {
                Some(_) => None,
                None => Some(self.container(round, container, Some(until))),
            };
            let layer = again.as_ref().unwrap_or(measured);
            let started_at = match container.state {
                State::Running { started_at } => started_at,
                _ => None,
            };
            let samples = samples(&Subject {
                usage: Some(&measured.usage),
                waits: Some(&measured.waits),
                detail: detail.as_ref(),
                layer: layer.layer.as_ref(),
                filesystem: layer.filesystem.as_ref(),
                cpu_shares: container.resources.cpu_shares,
                started_at,
                ..Subject::default()
            });
            (container.clone(), samples)
        });
        let containers = containers.collect();
        let samples = samples(&Subject {
            usage: Some(&pod.usage),
            waits: Some(&pod.waits),
            network: pod.network.as_ref(),
            started_at: pod.sandbox.created_at,
            ..Subject::default()
        });
        PodMetrics {
            sandbox: pod.sandbox,
            samples,
            containers,
        }
    }
}

/// Forgets the places of what ends, at once, and of what nobody asks about any more. Ends with the view.
pub(super) async fn keep(meter: Arc<Meter>, mut changes: Changes) {
    // When to look for what nobody asks about; never while there is nothing.
    let mut look = None;
    loop {
        let due = async {
            match look {
                Some(look) => tokio::time::sleep_until(look).await,
                None => meter.found.notified().await,
            }
        };
        tokio::select! {
            () = due => {
                let is_empty = look.is_some() && meter.forget_idle();
                look = (!is_empty).then(|| tokio::time::Instant::now() + KEPT / 2);
            }
            change = changes.next() => match change {
                Some(Notice::Change(change)) => {
                    if matches!(change.kind, ChangeKind::Stopped | ChangeKind::Deleted) {
                        meter.forget(&change.id);
                    }
                }
                // What ended unseen is soon something that nobody asks about.
                Some(Notice::Lost) => {}
                None => return,
            },
        }
    }
}

/// Cuts a list into parts of about the same length that are worth a thread each, in order.
fn parts<S>(mut subjects: Vec<S>, cores: usize) -> Vec<Vec<S>> {
    let threads = subjects.len().div_ceil(WORTH_A_THREAD);
    let threads = threads.min(cores.min(MAX_THREADS)).max(1);
    let length = subjects.len().div_ceil(threads);
    let mut parts = Vec::with_capacity(threads);
    while !subjects.is_empty() {
        let rest = subjects.split_off(length.min(subjects.len()));
        parts.push(std::mem::replace(&mut subjects, rest));
    }
    parts
}

impl Pods {
    /// The file system that the engine keeps its data on; `None` when the engine is on another host. Cancel safe.
    pub async fn data_filesystem(&self, data_root: &Path) -> Option<FilesystemUsage> {
        self.0.runtime.engine_process().await?;
        let (meter, path) = (self.0.meter.clone(), data_root.to_owned());
        let read = tokio::task::spawn_blocking(move || meter.stats.filesystem(&path).ok());
        read.await.ok()?
    }

    /// Measures where it may block; a long list in parts, side by side.
    async fn measured<S: Send + 'static, T: Send + 'static>(
        &self,
        subjects: Vec<S>,
        measure: impl Fn(&Meter, &mut Round<'_>, S) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::with_capacity(subjects.len());
        let parts: Vec<_> = parts(subjects, self.0.meter.cores)
            .into_iter()
            .map(|part| {
                let (meter, measure) = (self.0.meter.clone(), measure.clone());
                tokio::task::spawn_blocking(move || {
                    let mut round = Round {
                        reading: meter.stats.reading(),
                        filesystems: HashMap::new(),
                    };
                    part.into_iter()
                        .map(|subject| measure(&meter, &mut round, subject))
                        .collect::<Vec<T>>()
                })
            })
            .collect();
        for part in parts {
            match part.await {
                Ok(measured) => all.extend(measured),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(Error::Away("berth is ending".to_owned())),
                },
            }
        }
        Ok(all)
    }

    /// What these containers use. No call of the engine. Cancel safe.
    ///
    /// # Errors
    /// Only while berth is ending.
    pub async fn containers_usage(
        &self,
        containers: Vec<Arc<Container>>,
    ) -> Result<Vec<ContainerUsage>, Error> {
        self.measured(containers, |meter, round, container| {
            meter.container(round, &container, None)
        })
        .await
    }

    /// What these pods use, with their running containers. No call of the engine. Cancel safe.
    ///
    /// # Errors
    /// While the engine is away.
    pub async fn pods_usage(&self, sandboxes: Vec<Arc<Sandbox>>) -> Result<Vec<PodUsage>, Error> {
        let groups = self.groups(sandboxes).await?;
        self.measured(groups, |meter, round, (sandbox, containers)| {
            meter.pod(round, &sandbox, &containers)
        })
        .await
    }

    /// The metrics of all running pods. No call of the engine. Cancel safe.
    ///
    /// # Errors
    /// While the engine is away.
    pub async fn metrics(&self) -> Result<Vec<PodMetrics>, Error> {
        let mut sandboxes = self.0.view.sandboxes().await?;
        sandboxes.retain(|sandbox| sandbox.running);
        let groups = self.groups(sandboxes).await?;
        let until = Instant::now() + LAYER_PATIENCE;
        self.measured(groups, move |meter, round, (sandbox, containers)| {
            let pod = meter.pod(round, &sandbox, &containers);
            meter.metrics(round, pod, until)
        })
        .await
    }

    /// Each sandbox with its running containers.
    async fn groups(
        &self,
        sandboxes: Vec<Arc<Sandbox>>,
    ) -> Result<Vec<(Arc<Sandbox>, Vec<Arc<Container>>)>, Error> {
        let containers = self.0.view.containers().await?;
        let mut by_sandbox: BTreeMap<SandboxId, Vec<Arc<Container>>> = BTreeMap::new();
        for container in containers.iter().filter(|one| one.is_running()) {
            by_sandbox
                .entry(container.sandbox.clone())
                .or_default()
                .push(container.clone());
        }
        Ok(sandboxes
            .into_iter()
            .map(|sandbox| {
                let containers = by_sandbox.remove(&sandbox.id).unwrap_or_default();
                (sandbox, containers)
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Change;

    const ID: &str = "0d1bed6a4a9ab5230224b58bd51a993b4a0a282bf6b5ff4d4e00ccc37a91f52e";

    /// A host with a container, as files.
    fn meter(dir: &Path) -> Meter {
        let cgroup = dir.join("cgroup/pod1").join(ID);
        std::fs::create_dir_all(&cgroup).unwrap();
        std::fs::create_dir_all(dir.join("proc/self")).unwrap();
        let table = format!(
            "30 23 0:26 / {}/cgroup rw - cgroup2 cgroup2 rw\n",
            dir.display()
        );
        std::fs::write(dir.join("proc/self/mountinfo"), table).unwrap();
        for process in [42, 43] {
            let process = dir.join(format!("proc/{process}"));
            std::fs::create_dir_all(&process).unwrap();
            std::fs::write(process.join("cgroup"), format!("0::/pod1/{ID}\n")).unwrap();
        }
        Meter::new(Roots {
            proc: dir.join("proc"),
            sys: dir.join("sys"),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_kept_while_somebody_asks() {
        let dir = tempfile::tempdir().unwrap();
        let meter = meter(dir.path());
        let place = |process| meter.place(ID, process, None, "/pod1");
        let first = place(42).unwrap();
        assert!(first.pod.is_some());
        for _ in 0..5 {
            tokio::time::advance(KEPT - Duration::from_secs(1)).await;
            assert!(!meter.forget_idle());
            assert!(Arc::ptr_eq(&place(42).unwrap(), &first));
        }
        tokio::time::advance(KEPT).await;
        assert!(meter.forget_idle());
        assert!(!Arc::ptr_eq(&place(42).unwrap(), &first));
    }

    #[tokio::test]
    async fn another_process_is_another_place_and_none_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let meter = meter(dir.path());
        let place = |process| meter.place(ID, process, None, "");
        let first = place(42).unwrap();
        assert!(first.pod.is_none());
        assert!(place(0).is_none());
        assert!(place(44).is_none());
        assert!(!Arc::ptr_eq(&place(43).unwrap(), &first));
        meter.forget(ID);
        assert!(meter.known().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_is_forgotten_at_once_and_the_idle_soon() {
        let dir = tempfile::tempdir().unwrap();
        let meter = Arc::new(meter(dir.path()));
        let (tell, changes) = tokio::sync::broadcast::channel(4);
        let keeper = tokio::spawn(keep(meter.clone(), Changes(changes)));
        let found = || meter.place(ID, 42, None, "").is_some();
        let forgotten = async || {
            while !meter.known().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        for kind in [ChangeKind::Stopped, ChangeKind::Deleted] {
            assert!(found());
            let begun = tokio::time::Instant::now();
            let change = Change {
                kind,
                id: ID.to_owned(),
                sandbox: None,
                containers: Vec::new(),
            };
            tell.send(Arc::new(change)).unwrap();
            tokio::time::timeout(KEPT, forgotten()).await.unwrap();
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
        assert!(found());
        tokio::time::sleep(KEPT * 2).await;
        assert!(meter.known().is_empty());
        assert!(found(), "it is found again when somebody asks again");
        tokio::time::sleep(KEPT * 2).await;
        assert!(meter.known().is_empty());
        drop(tell);
        keeper.await.unwrap();
    }

    #[test]
    fn parts_are_in_order_and_worth_a_thread() {
        let lengths = |count: usize, cores| -> Vec<usize> {
            let parts = parts((0..count).collect(), cores);
            assert!(parts.iter().flatten().copied().eq(0..count));
            parts.iter().map(Vec::len).collect()
        };
        assert!(lengths(0, 2).is_empty());
        assert_eq!(lengths(1, 8), [1]);
        assert_eq!(lengths(32, 8), [32]);
        assert_eq!(lengths(33, 8), [17, 16]);
        assert_eq!(lengths(100, 1), [100]);
        assert_eq!(lengths(100, 2), [50, 50]);
        assert_eq!(lengths(1001, 64), [251, 251, 251, 248]);
    }
}
