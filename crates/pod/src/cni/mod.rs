//! Pod networks by CNI plugins: programs of the host that put a sandbox's namespace into a network, and take it out again
//! (<https://github.com/containernetworking/cni/blob/main/SPEC.md>, versions 0.3.0 to 1.1.0).
//!
//! Owns which network is configured, how its plugins are run, and the record of who is in which network. Refuses to know what a sandbox is
//! beyond its ID and its namespace, and when something should happen. Calls about one sandbox must not overlap; the caller sees to that. Those
//! about different ones may.
//!
//! What plugins did is never forgotten before it is undone. A record is written before the first of them runs, and removed when all have
//! succeeded at `DEL`. After a start, [`Cni::attachments`] says who is on record; those whose sandbox is gone are to be given to [`Cni::del`],
//! without a namespace.
//!
//! The verbs `CHECK`, `STATUS` and `GC` are not used. Nobody asks for a check; a status would run programs each time a kubelet asks whether
//! the node is ready; and garbage is what the record prevents.
//!
//! ```text
//!             add: record written      all plugins succeeded
//!   absent ───────────────────► begun ─────────────────────► attached
//!     ▲                           │                              │
//!     └───────────────────────────┴──────────────────────────────┘
//!            del: all plugins succeeded, record removed
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Mutex, watch as cell};
use tokio::time::Instant;

mod cidr;
mod config;
mod error;
mod load;
mod plugin;
mod record;
mod request;
mod result;
mod strays;
mod watch;

pub use cidr::{BadCidr, Cidr};
pub use config::{ConfigError, MAX_CONFIG, Network, Plugin, Version};
pub use error::{CniError, Failure, NotReady, Operation, PluginError};
pub use result::{Address, CniResult, Interface, MAX_RESULT, NetworkDns, ResultError, Route};

use crate::spec::{Dns, PodIdentity, PortMapping, SandboxId, SandboxSpec};
use load::{Configured, Loaded, Spoken};
use plugin::Call;
use record::{Entry, Record, Records};
use request::Arguments;
use watch::Watch;

/// The pod's interface, as Kubernetes calls it (`DefaultInterfaceName` in dockershim).
const INTERFACE: &str = "eth0";

/// How often changes are looked for where they cannot be watched.
const UNWATCHED: Duration = Duration::from_secs(5);

/// Where the networks, their plugins and the records are.
#[derive(Debug, Clone)]
pub struct CniOptions {
    /// Directories of networks. The first usable file counts, in the order of the directories and of the names in them.
    pub conf_dirs: Vec<PathBuf>,
    /// Directories of plugins, in the order in which they are searched.
    pub bin_dirs: Vec<PathBuf>,
    /// The directory of our records. It has to survive a reboot, because what plugins keep on the disk does.
    pub cache_dir: PathBuf,
    /// Directories of records of runtimes whose sandboxes we take over.
    pub adopted_cache_dirs: Vec<PathBuf>,
    /// The `PATH` of plugins, which run `iptables` and the like. They get nothing else of our environment.
    pub search_path: OsString,
    /// How long all plugins together may take to add a pod.
    pub add_patience: Duration,
    /// How long all plugins together may take to take it away.
    pub del_patience: Duration,
}

impl Default for CniOptions {
    /// The directories that Kubernetes, Debian and cri-dockerd use.
    fn default() -> Self {
        Self {
            conf_dirs: vec!["/etc/cni/net.d".into()],
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cache_dir: "/var/lib/berth/cni".into(),
            adopted_cache_dirs: vec!["/var/lib/cni/cache".into(), "/var/lib/cni".into()],
            search_path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            // A kubelet waits twice its request time-out of two minutes for a sandbox; this is `CNITimeoutSec` of dockershim and cri-dockerd.
            add_patience: Duration::from_secs(220),
            // It waits those two minutes for the end of one.
            del_patience: Duration::from_secs(110),
        }
    }
}

impl CniOptions {
    /// As `CNI_PATH` has it.
    fn cni_path(&self) -> OsString {
        // A directory with a colon in its name cannot be told apart, by anybody.
        let dirs: Vec<&std::ffi::OsStr> = self.bin_dirs.iter().map(|dir| dir.as_os_str()).collect();
        dirs.join(std::ffi::OsStr::new(":"))
    }
}

/// A sandbox that is to join the pods' network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Whose it is.
    pub pod: PodIdentity,
    /// Its network namespace: `/proc/<pid>/ns/net`.
    pub netns: PathBuf,
    /// Ports the host answers on.
    pub ports: Vec<PortMapping>,
    /// Name resolution, for plugins that ask for it.
    pub dns: Dns,
    /// The pod's cgroup, for plugins that ask for it; may be empty.
    pub cgroup_parent: String,
    /// The pod's annotations. Two of them limit its bandwidth.
    pub annotations: BTreeMap<String, String>,
}

impl Attachment {
    /// The sandbox that was made of a spec, by the ID of its pause process on the host.
    pub fn new(spec: &SandboxSpec, sandbox: SandboxId, process: u32) -> Self {
        Self {
            sandbox,
            pod: spec.pod.clone(),
            netns: format!("/proc/{process}/ns/net").into(),
            ports: spec.ports.clone(),
            dns: spec.dns.clone(),
            cgroup_parent: spec.cgroup_parent.clone(),
            annotations: spec.annotations.clone(),
        }
    }
}

/// The network that pods join at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Its name.
    pub network: String,
    /// The version of the specification in which its plugins are spoken to.
    pub version: Version,
    /// The file that describes it.
    pub file: PathBuf,
}

/// A sandbox that is on record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Whose it is; empty in what the record does not say.
    pub pod: PodIdentity,
    /// The network it is in, or was on its way into.
    pub network: String,
    /// What it was given; `None` if its plugins did not get to an end.
    pub result: Option<Arc<CniResult>>,
}

/// The pods' networks of this host.
#[derive(Debug)]
pub struct Cni {
    options: CniOptions,
    records: Records,
    /// Held while one looks, so that others wait for what it finds.
    state: Mutex<State>,
    pod_cidrs: cell::Sender<Vec<Cidr>>,
}

#[derive(Debug, Default)]
struct State {
    loaded: Option<Loaded>,
    spoken: Spoken,
}

impl Cni {
    /// Reads nothing yet but the ranges of the pods' addresses that an earlier start was told.
    pub fn new(options: CniOptions) -> Self {
        let records = Records::new(
            options.cache_dir.clone(),
            options.adopted_cache_dirs.clone(),
        );
        Self {
            pod_cidrs: cell::Sender::new(records.pod_cidrs()),
            records,
            state: Mutex::default(),
            options,
        }
    }

    /// Which network pods join, or why there is none. Cheap: while nothing has changed, it looks only at the times of a few files. It runs
    /// programs only after one has changed.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When no network can be used, with what is wrong with which file; when it needs ranges of addresses and has been told none.
    pub async fn status(&self) -> Result<Ready, NotReady> {
        let configured = self.configured().await?;
        Ok(Ready {
            network: configured.network.name().to_owned(),
            version: configured.network.version(),
            file: configured.file.clone(),
        })
    }

    /// Waits until [`Self::status`] is another than the one that was seen, and gives it. Woken by changes of the directories.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub async fn status_after(&self, seen: &Result<Ready, NotReady>) -> Result<Ready, NotReady> {
        let mut watch = Watch::new();
        let mut told = self.pod_cidrs.subscribe();
        loop {
            // Armed before the look that counts, so that nothing is missed in between.
            let dirs = {
                let mut state = self.state.lock().await;
                self.look(&mut state).await.dirs.clone()
            };
            watch = watch.and_then(|watch| watch.arm(&dirs).map(|()| watch));
            told.mark_unchanged();
            let now = self.status().await;
            if now != *seen {
                return now;
            }
            let changed = async {
                let failed = match &watch {
                    Ok(watch) => watch.changed().await.err(),
                    Err(error) => Some(error.kind().into()),
                };
                if let Some(error) = failed {
                    tracing::debug!(%error, "changes of CNI configurations are looked for at intervals");
                    tokio::time::sleep(UNWATCHED).await;
                }
            };
            tokio::select! {
                () = changed => {}
                // The sender lives as long as we do.
                _ = told.changed() => {}
            }
        }
    }

    async fn look<'a>(&self, state: &'a mut State) -> &'a Loaded {
        let loaded = match state.loaded.take() {
            Some(loaded) if loaded.is_current() => loaded,
            before => {
                let loaded = load::load(&self.options, &mut state.spoken).await;
                loaded.log(before.as_ref());
                loaded
            }
        };
        state.loaded.insert(loaded)
    }

    /// The network that pods join.
    async fn configured(&self) -> Result<Arc<Configured>, NotReady> {
        let mut state = self.state.lock().await;
        let configured = self.look(&mut state).await.outcome.clone()?;
        let wants_ranges = configured
            .network
            .plugins()
            .iter()
            .any(|plugin| plugin.capabilities().contains(request::IP_RANGES));
        if wants_ranges && self.pod_cidrs.borrow().is_empty() {
            return Err(NotReady {
                reason: NotReady::NO_POD_CIDR,
                message: format!(
                    "the CNI network {:?} ({}) gives addresses from the node's range (capability ipRanges), which the kubelet has not told yet",
                    configured.network.name(),
                    configured.file.display()
                ),
            });
        }
        Ok(configured)
    }

    /// Takes the ranges that the node's pods have their addresses from, one for each family, and remembers them over a restart: a kubelet
    /// tells them only when they change.
    ///
    /// # Errors
    /// When they cannot be written down. They count nevertheless.
    pub fn set_pod_cidrs(&self, cidrs: Vec<Cidr>) -> Result<(), CniError> {
        let mut kept = Ok(());
        self.pod_cidrs.send_if_modified(|current| {
            let changed = *current != cidrs;
            if changed {
                kept = self.records.keep_pod_cidrs(&cidrs);
                *current = cidrs;
            }
            changed
        });
        kept
    }

    /// Adds a sandbox to the pods' network. If it is on record already, it is taken away first.
    ///
    /// Not cancel safe: a dropped call kills the plugin that runs, and leaves a record that has to be given to [`Self::del`].
    ///
    /// # Errors
    /// When there is no network, the pod cannot be described to plugins, or one of them fails. What they did has then been undone, or is still
    /// on record ([`CniError::NotUndone`]).
    pub async fn add(&self, attachment: &Attachment) -> Result<Arc<CniResult>, CniError> {
        let Attachment {
            sandbox,
            pod,
            netns,
            ..
        } = attachment;
        let id = sandbox.as_str();
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) || id.is_empty() || id.len() > 64 {
            return Err(CniError::Invalid(format!(
                "{id:?} cannot be the ID of a sandbox to CNI plugins"
            )));
        }
        let configured = self.configured().await?;
        let network = &configured.network;
        let arguments = request::arguments(pod, sandbox)?;
        let capabilities = request::capabilities(attachment, &self.pod_cidrs.borrow())?;
        if self.records.get(sandbox)?.is_some() {
            self.del(sandbox, pod, Some(netns)).await?;
        }

        let begun = Record {
            path: self.records.path(network.name(), sandbox),
            adopted: false,
            sandbox: sandbox.clone(),
            network: network.clone(),
            arguments,
            capabilities,
            result: None,
        };
        let begun = self.records.put(begun, netns)?;
        let added = match self.run_add(&begun, netns).await {
            Ok(result) => {
                let result = Arc::new(result);
                let attached = Record {
                    result: Some(Arc::clone(&result)),
                    ..(*begun).clone()
                };
                self.records.put(attached, netns).map(|_| result)
            }
            Err(error) => Err(error),
        };
        let add = match added {
            Ok(result) => return Ok(result),
            Err(add) => add,
        };
        let undone = match no_strays(&begun).await {
            Ok(()) => self.run_del(&begun, Some(netns)).await,
            Err(error) => Err(error),
        };
        match undone.and_then(|()| self.records.remove(sandbox)) {
            Ok(()) => Err(add),
            Err(undo) => Err(CniError::NotUndone {
                add: Box::new(add),
                undo: Box::new(undo),
            }),
        }
    }

    /// Takes a sandbox out of the network that it joined, whatever is configured by now. `netns` is its namespace as long as it is there:
    /// without one, plugins free what they hold outside of it. One that is not on record has nothing to be freed, unless it has a namespace:
    /// then plugins of today's network are run, if there is one, in case the record was lost.
    ///
    /// A plugin that fails does not keep the others from running. The record stays until all have succeeded, so the call can be repeated.
    ///
    /// Cancel safe: a dropped call kills the plugin that runs, and can be repeated.
    ///
    /// # Errors
    /// When plugins fail or are not there any more, or the record cannot be written. A record that cannot be read, of a network that is not
    /// configured any more, is set aside with a warning.
    pub async fn del(
        &self,
        sandbox: &SandboxId,
        pod: &PodIdentity,
        netns: Option<&Path>,
    ) -> Result<(), CniError> {
        let record = match self.records.get(sandbox)? {
            Some(Entry::Whole(record)) => {
                if record.result.is_none() {
                    no_strays(&record).await?;
                }
                record
            }
            Some(Entry::Unreadable { path, network }) => {
                let record = self.guessed(sandbox, pod).await?;
                match record.filter(|record| record.network.name() == network) {
                    Some(record) => record,
                    // Nobody could repeat it with better luck, so it must not hold up the pod's end.
                    None => return self.records.set_aside(sandbox, &path),
                }
            }
            None if netns.is_none() => return Ok(()),
            None => match self.guessed(sandbox, pod).await? {
                Some(record) => record,
                None => return Ok(()),
            },
        };
        self.run_del(&record, netns).await?;
        self.records.remove(sandbox)
    }

    /// What a sandbox was given, if it is in a network. From memory.
    pub fn result(&self, sandbox: &SandboxId) -> Option<Arc<CniResult>> {
        match self.records.get(sandbox) {
            Ok(Some(Entry::Whole(record))) => record.result.clone(),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%sandbox, %error, "the addresses of a pod are not known");
                None
            }
        }
    }

    /// The sandboxes that are in a network, or were on their way when berth was killed. Those that another runtime has added are not listed:
    /// they are its own until they are taken away.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn attachments(&self) -> Result<Vec<Recorded>, CniError> {
        let own = self.records.own()?.into_iter();
        let mut all: Vec<Recorded> = own
            .map(|(sandbox, entry)| match entry {
                Entry::Whole(record) => Recorded {
                    sandbox,
                    pod: pod_of(&record.arguments),
                    network: record.network.name().to_owned(),
                    result: record.result.clone(),
                },
                Entry::Unreadable { network, .. } => Recorded {
                    sandbox,
                    pod: PodIdentity::default(),
                    network,
                    result: None,
                },
            })
            .collect();
        all.sort_unstable_by(|one, other| one.sandbox.cmp(&other.sandbox));
        Ok(all)
    }

    /// A record as it would be if the sandbox had joined today's network; `None` without one.
    async fn guessed(
        &self,
        sandbox: &SandboxId,
        pod: &PodIdentity,
    ) -> Result<Option<Arc<Record>>, CniError> {
        let Ok(configured) = self.configured().await else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Record {
            path: self.records.path(configured.network.name(), sandbox),
            adopted: false,
            sandbox: sandbox.clone(),
            network: configured.network.clone(),
            arguments: request::arguments(pod, sandbox)?,
            capabilities: Map::new(),
            result: None,
        })))
    }

    async fn run_add(&self, record: &Record, netns: &Path) -> Result<CniResult, CniError> {
        let network = &record.network;
        let deadline = Instant::now() + self.options.add_patience;
        let mut result: Option<CniResult> = None;
        for plugin in network.plugins() {
            let previous = result.as_ref().map(CniResult::json);
            let given = self
                .run(record, plugin, Operation::Add, netns, previous, deadline)
                .await
                .and_then(|output| {
                    CniResult::parse(&output, network.version())
                        .map_err(|error| plugin::garbage(error, &output))
                })
                .map_err(|failure| {
                    CniError::Plugins(vec![failed(network, plugin, Operation::Add, failure)])
                })?;
            result = Some(given);
        }
        result
            .filter(|result| result.ip().is_some())
            .ok_or_else(|| CniError::NoAddress {
                network: network.name().to_owned(),
            })
    }

    async fn run_del(&self, record: &Record, netns: Option<&Path>) -> Result<(), CniError> {
        let network = &record.network;
        let netns = netns.unwrap_or(Path::new(""));
        let previous = record
            .result
            .as_ref()
            .filter(|_| network.version() >= Version::RESULT_FOR_DEL)
            .map(|result| result.json());
        let deadline = Instant::now() + self.options.del_patience;
        let mut failures = Vec::new();
        let mut left = u32::try_from(network.plugins().len()).unwrap_or(u32::MAX);
        for plugin in network.plugins().iter().rev() {
            // An equal share of what is left for each, so that one that hangs does not take the others' time.
            let now = Instant::now();
            let share = now + deadline.saturating_duration_since(now) / left.max(1);
            left -= 1;
            let ended = self
                .run(record, plugin, Operation::Del, netns, previous, share)
                .await;
            match ended {
                Ok(_) => {}
                // "Container unknown": there is nothing to be taken away.
                Err(Failure::Refused { code: 3, .. }) => {}
                Err(failure) => {
                    failures.push(failed(network, plugin, Operation::Del, failure));
                }
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(CniError::Plugins(failures))
        }
    }

    async fn run(
        &self,
        record: &Record,
        plugin: &Plugin,
        operation: Operation,
        netns: &Path,
        previous: Option<&Map<String, Value>>,
        deadline: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let Some(program) = load::program(&self.options, plugin) else {
            return Err(Failure::Missing(self.options.bin_dirs.clone()));
        };
        let request = request::request(&record.network, plugin, &record.capabilities, previous);
        let call = Call {
            program: &program,
            operation,
            container: record.sandbox.as_str(),
            netns,
            interface: INTERFACE,
            arguments: &request::joined(&record.arguments),
            plugins: &self.options.cni_path(),
            search_path: &self.options.search_path,
        };
        plugin::run(&call, Value::from(request).to_string().as_bytes(), deadline).await
    }
}

/// Sees to it that nothing adds the sandbox any more.
async fn no_strays(record: &Record) -> Result<(), CniError> {
    let ended = strays::end(record.sandbox.as_str()).await;
    ended.map_err(CniError::Strays)
}

fn failed(
    network: &Network,
    plugin: &Plugin,
    operation: Operation,
    failure: Failure,
) -> PluginError {
    PluginError {
        network: network.name().to_owned(),
        plugin: plugin.kind().to_owned(),
        operation,
        failure,
    }
}

/// Whose a record is, from its arguments.
fn pod_of(arguments: &Arguments) -> PodIdentity {
    let value = |key: &str| {
        let pair = arguments.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    PodIdentity {
        namespace: value("K8S_POD_NAMESPACE"),
        name: value("K8S_POD_NAME"),
        uid: value("K8S_POD_UID"),
    }
}
