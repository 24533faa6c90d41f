//! What containers and pods use: which cgroups and processes they are comes from the view, the numbers from the kernel.
//!
//! A measurement reads some ten files for each container, so it is made on a thread where that may block.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Pods;
use crate::observe::{Container, Sandbox, State};
use crate::runtime::Error;
use crate::spec::SandboxId;
use crate::stats::metrics::{Sample, Subject, samples};
use crate::stats::{
    CgroupPaths, FilesystemUsage, LayerUsage, NetworkUsage, Reading, Roots, Stats, Usage, Waits,
};

/// How long somebody who asks for metrics waits for layers that were never counted.
const LAYER_PATIENCE: Duration = Duration::from_millis(200);

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
    /// Where what runs is, by ID.
    places: Mutex<HashMap<String, Arc<Place>>>,
}

/// Where a running container is measured: the same for as long as its process runs.
#[derive(Debug)]
struct Place {
    process: u32,
    cgroups: CgroupPaths,
    upper: Option<PathBuf>,
}

/// One measurement of many.
struct Round<'a> {
    reading: Reading<'a>,
    /// The file systems of layers, by the directory that the engine keeps its layers in.
    filesystems: HashMap<PathBuf, Option<FilesystemUsage>>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            stats: Stats::new(Roots::default()),
            places: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a container is; `None` while it does not run, or runs on another host.
    fn place(&self, id: &str, process: u32, upper: Option<&String>) -> Option<Arc<Place>> {
        if process == 0 {
            return None;
        }
        if let Some(place) = self.known().get(id)
            && place.process == process
        {
            return Some(place.clone());
        }
        let place = Arc::new(Place {
            process,
            cgroups: self.stats.locate(process, id).ok()?,
            upper: upper
                .map(PathBuf::from)
                .or_else(|| self.stats.upper_dir(process)),
        });
        self.known().insert(id.to_owned(), place.clone());
        Some(place)
    }

    /// The file system that a layer is on. All layers of an engine are in one directory.
    fn filesystem(&self, round: &mut Round<'_>, upper: &Path) -> Option<FilesystemUsage> {
        let layers = upper.ancestors().nth(2).unwrap_or(upper);
        if let Some(known) = round.filesystems.get(layers) {
            return known.clone();
        }
        let found = self.stats.filesystem(upper).ok();
        round.filesystems.insert(layers.to_owned(), found.clone());
        found
    }

    /// Forgets what is no longer there.
    fn forget_others(&self, ids: &HashMap<&str, ()>) {
        let mut known = self.known();
        if known.len() > ids.len() {
            known.retain(|id, _| ids.contains_key(id.as_str()));
        }
    }

    fn container(
        &self,
        round: &mut Round<'_>,
        container: &Arc<Container>,
        until: Option<Instant>,
    ) -> ContainerUsage {
        let id = container.id.as_str();
        let place = self.place(id, container.process, container.upper_directory.as_ref());
        let (usage, waits) = match &place {
            Some(place) => (
                round.reading.usage(id, &place.cgroups),
                round.reading.waits(&place.cgroups),
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
        let own = self.place(id, sandbox.process, None);
        let parent = own
            .as_ref()
            .filter(|_| !sandbox.cgroup_parent.is_empty())
            .and_then(|own| own.cgroups.parent(&sandbox.cgroup_parent));
        let (usage, waits) = match (&parent, &own) {
            (Some(parent), _) => (
                round.reading.usage(&format!("pod {id}"), parent),
                round.reading.waits(parent),
            ),
            (None, Some(own)) => {
                let pause = round.reading.usage(id, &own.cgroups);
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
            let detail = self.place(id, container.process, None).map(|place| {
                round
                    .reading
                    .detail(&place.cgroups, Some(container.process))
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

impl Pods {
    /// Measures where it may block.
    async fn measured<T: Send + 'static>(
        &self,
        measure: impl FnOnce(&Meter, &mut Round<'_>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let pods = self.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let meter = &pods.0.meter;
            let mut round = Round {
                reading: meter.stats.reading(),
                filesystems: HashMap::new(),
            };
            measure(meter, &mut round)
        });
        match measured.await {
            Ok(measured) => Ok(measured),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Away("berth is ending".to_owned())),
            },
        }
    }

    /// What these containers use. No call of the engine. Cancel safe.
    ///
    /// # Errors
    /// Only while berth is ending.
    pub async fn containers_usage(
        &self,
        containers: Vec<Arc<Container>>,
    ) -> Result<Vec<ContainerUsage>, Error> {
        self.measured(move |meter, round| {
            containers
                .iter()
                .map(|container| meter.container(round, container, None))
                .collect()
        })
        .await
    }

    /// What these pods use, with their running containers. No call of the engine. Cancel safe.
    ///
    /// # Errors
    /// While the engine is away.
    pub async fn pods_usage(&self, sandboxes: Vec<Arc<Sandbox>>) -> Result<Vec<PodUsage>, Error> {
        let groups = self.groups(sandboxes).await?;
        self.measured(move |meter, round| {
            groups
                .iter()
                .map(|(sandbox, containers)| meter.pod(round, sandbox, containers))
                .collect()
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
        self.measured(move |meter, round| {
            let until = Instant::now() + LAYER_PATIENCE;
            groups
                .iter()
                .map(|(sandbox, containers)| {
                    let pod = meter.pod(round, sandbox, containers);
                    meter.metrics(round, pod, until)
                })
                .collect()
        })
        .await
    }

    /// Each sandbox with its running containers.
    async fn groups(
        &self,
        sandboxes: Vec<Arc<Sandbox>>,
    ) -> Result<Vec<(Arc<Sandbox>, Vec<Arc<Container>>)>, Error> {
        let containers = self.0.view.containers().await?;
        let ids = containers.iter().map(|one| one.id.as_str());
        let all_sandboxes = self.0.view.sandboxes().await?;
        let ids = ids.chain(all_sandboxes.iter().map(|one| one.id.as_str()));
        self.0
            .meter
            .forget_others(&ids.map(|id| (id, ())).collect());
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
