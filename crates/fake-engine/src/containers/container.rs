//! Owns what a container is. Decides nothing and shows nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::AbortHandle;

use crate::addresses::mac_of;
use crate::clock::Nanos;
use crate::config::{Config, HostConfig};
use crate::files::SharedTree;
use crate::pipes::Pipes;
use crate::script::Health;
use crate::signals::Signals;
use crate::terminal::Terminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// All names a filter on the status may hold.
pub(crate) const STATUSES: &[&str] = &[
    "created",
    "restarting",
    "running",
    "removing",
    "paused",
    "exited",
    "dead",
];

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: Arc<str>,
    /// Without the leading slash.
    pub(crate) name: String,
    pub(crate) created: Nanos,
    /// The image's id, `sha256:…`.
    pub(crate) image: Arc<str>,
    pub(crate) config: Arc<Config>,
    pub(crate) host: Arc<HostConfig>,
    pub(crate) phase: Phase,
    pub(crate) pid: u32,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
    pub(crate) started: Option<Nanos>,
    pub(crate) finished: Option<Nanos>,
    pub(crate) out_of_memory: bool,
    pub(crate) health: Option<Box<HealthState>>,
    /// How many runs were begun.
    pub(crate) run: u64,
    pub(crate) restarts: u64,
    /// Consecutive restarts by policy, for the back-off.
    pub(crate) backoff: u32,
    /// Stopped by a request: the restart policy rests.
    pub(crate) stopped_by_hand: bool,
    /// Restarted by a request: the end of the run does not remove it.
    pub(crate) restarting_by_hand: bool,
    pub(crate) process: Option<Running>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ports: Vec<Published>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) pipes: Arc<Pipes>,
    /// Its own layer; made when first needed.
    pub(crate) files: Option<SharedTree>,
    pub(crate) execs: Vec<Arc<str>>,
    pub(crate) load: Load,
}

/// What is alive in a running container.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) signals: Arc<Signals>,
    /// `None` for a process without one, or that does not look at it.
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// The process, the health checks: all that ends with the run.
    pub(crate) tasks: Vec<AbortHandle>,
}

/// A container's place in a network.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The network's name.
    pub(crate) network: Arc<str>,
    /// The network's id; empty before the first start.
    pub(crate) network_id: Arc<str>,
    /// The address while it runs.
    pub(crate) address: Option<u32>,
    pub(crate) settings: Option<Box<EndpointSettings>>,
}

impl Endpoint {
    /// The MAC address while it has an address: the one that was asked for, or the engine's own.
    pub(crate) fn mac_address(&self) -> String {
        let asked = self.settings.as_ref().map(|s| s.mac_address.as_str());
        match (self.address, asked) {
            (None, _) => String::new(),
            (Some(_), Some(asked)) if !asked.is_empty() => asked.to_owned(),
            (Some(address), _) => mac_of(address),
        }
    }
}

/// What a client asked for an endpoint.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointSettings {
    #[serde(rename = "IPAMConfig")]
    pub(crate) ipam: Option<serde_json::Value>,
    pub(crate) links: Option<Vec<String>>,
    pub(crate) aliases: Option<Vec<String>>,
    #[serde(deserialize_with = "crate::config::nullable")]
    pub(crate) mac_address: String,
    pub(crate) driver_opts: Option<std::collections::BTreeMap<String, String>>,
    #[serde(deserialize_with = "crate::config::nullable")]
    pub(crate) gw_priority: i64,
}

impl EndpointSettings {
    /// The address asked for.
    pub(crate) fn address(&self) -> Option<&str> {
        self.ipam
            .as_ref()?
            .get("IPv4Address")?
            .as_str()
            .filter(|text| !text.is_empty())
    }
}

/// A port of the container bound to one of the host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    pub(crate) private: u16,
    pub(crate) protocol: String,
    pub(crate) ip: String,
    pub(crate) public: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

impl MountKind {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) kind: MountKind,
    /// The host path of a bind, the name of a volume.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) mode: String,
    pub(crate) writable: bool,
    /// The directory of a volume that is mounted; empty for all of it.
    pub(crate) part: String,
    /// Whether an empty volume begins with what the image has there.
    pub(crate) copies: bool,
    /// A tmpfs' content.
    pub(crate) memory: Option<SharedTree>,
}

#[derive(Debug)]
pub(crate) struct HealthState {
    pub(crate) status: Health,
    pub(crate) streak: u64,
    /// The last checks, newest last.
    pub(crate) log: Vec<Check>,
}

#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) start: Nanos,
    pub(crate) end: Nanos,
    pub(crate) exit_code: i64,
    pub(crate) output: String,
}

/// What stats show.
#[derive(Debug)]
pub(crate) struct Load {
    cores: f64,
    since: Nanos,
    used: Nanos,
    /// What its shells add; made when one runs.
    worked: Option<Arc<AtomicU64>>,
    pub(crate) memory: u64,
}

/// A process that does nothing, as stats show it.
const IDLE_MEMORY: u64 = 1 << 20;

impl Default for Load {
    fn default() -> Self {
        Self {
            cores: 0.0,
            since: 0,
            used: 0,
            worked: None,
            memory: IDLE_MEMORY,
        }
    }
}

impl Load {
    /// A run begins.
    pub(crate) fn start(&mut self, now: Nanos) {
        *self = Self {
            since: now,
            ..Self::default()
        };
    }

    pub(crate) fn set_cpu(&mut self, cores: f64, now: Nanos) {
        self.used = self.of_scripts(now);
        (self.cores, self.since) = (cores.max(0.0), now);
    }

    /// Where the shells of this run add the processor time that they take.
    pub(crate) fn worked(&mut self) -> Arc<AtomicU64> {
        Arc::clone(self.worked.get_or_insert_default())
    }

    /// The CPU time used in this run.
    pub(crate) fn cpu_time(&self, now: Nanos) -> Nanos {
        let worked = self.worked.as_ref();
        self.of_scripts(now)
            .saturating_add(worked.map_or(0, |worked| worked.load(Ordering::Relaxed)))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )]
    fn of_scripts(&self, now: Nanos) -> Nanos {
        let since = now.saturating_sub(self.since) as f64 * self.cores;
        self.used.saturating_add(since as Nanos)
    }
}

impl Container {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// A container that a restart policy is about to start again counts as running for most requests.
    pub(crate) fn is_active(&self) -> bool {
        self.is_running() || self.phase == Phase::Restarting
    }

    pub(crate) fn own_files(&mut self) -> SharedTree {
        self.files.get_or_insert_default().clone()
    }

    /// Tells everyone who waits for a change.
    pub(crate) fn notify(&self) {
        self.pipes.changed.notify_waiters();
    }

    pub(crate) fn hostname(&self) -> String {
        if self.config.hostname.is_empty() {
            self.id[..12].to_owned()
        } else {
            self.config.hostname.clone()
        }
    }
}
