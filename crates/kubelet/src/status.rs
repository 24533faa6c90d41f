//! What a pod looks like from outside: its phase, its containers' states, and kubectl's columns.
//!
//! Owns the mapping from what is seen and remembered to Kubernetes' PodStatus. [`status`] is pure. A process that did not run the
//! pod asks with an empty [`History`]: it sees everything the engine knows, and of back-off what the attempt numbers tell.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::decide::{Verdict, usable_sandbox, verdict};
use crate::hash::{container_hash, sandbox_hash};
use crate::history::{Failure, History, Subject};
use crate::observed::{ContainerId, Exit, Instance, Observed, State};
use crate::pod::{Container, ImagePullPolicy, Pod, RestartPolicy};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Not every container has been started yet.
    Pending,
    /// At least one container runs or will run again.
    Running,
    /// Every container has ended for good, with exit code 0.
    Succeeded,
    /// Every container has ended for good, at least one of them otherwise.
    Failed,
}

impl Phase {
    /// Its name in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// What is known of a pod. Serialises as Kubernetes' PodStatus.
#[derive(Debug, Clone, PartialEq)]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its address, while its sandbox runs.
    pub pod_ip: Option<IpAddr>,
    /// When the oldest part of it was made.
    pub start_time: Option<SystemTime>,
    /// Its containers, in the order of the spec.
    pub containers: Vec<ContainerStatus>,
    /// Whether it is being deleted. [`status`] cannot know; its caller sets it. Not part of a PodStatus.
    pub deleting: bool,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// The image as its instance, or else the spec, names it.
    pub image: String,
    /// The image's id; empty when there is no instance.
    pub image_id: String,
    /// The newest instance.
    pub container_id: Option<ContainerId>,
    /// Whether it runs. Without probes a running container is ready.
    pub ready: bool,
    /// How often it was restarted.
    pub restart_count: u32,
    /// Its state.
    pub state: ContainerState,
    /// How the instance before ended; for one that waits for its restart, how the last one did.
    pub last_state: Option<Terminated>,
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It will be started.
    Waiting {
        /// Kubernetes' word for what it waits for, such as `ContainerCreating` or `CrashLoopBackOff`.
        reason: &'static str,
        /// What is known beyond that.
        message: String,
        /// When the next try is due, if it is a matter of time.
        until: Option<SystemTime>,
    },
    /// It runs.
    Running {
        /// Since when.
        started_at: Option<SystemTime>,
    },
    /// It has ended.
    Terminated(Terminated),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// What it returned.
    pub exit_code: i64,
    /// `Completed`, `Error`, `OOMKilled` or `ContainerCannotRun`.
    pub reason: &'static str,
    /// The engine's words, if any.
    pub message: String,
    /// When it was started.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
    /// Which instance.
    pub container_id: ContainerId,
}

/// Works out a pod's status.
pub fn status(pod: &Pod, observed: &Observed, history: &History, now: SystemTime) -> PodStatus {
    let containers: Vec<ContainerStatus> = pod
        .spec
        .containers
        .iter()
        .map(|container| container_status(pod, container, observed, history, now))
        .collect();
    let sandboxes = observed.sandboxes.iter().map(|sandbox| sandbox.created_at);
    let instances = observed
        .instances
        .iter()
        .map(|instance| instance.created_at);
    PodStatus {
        phase: phase(&containers, pod.spec.restart_policy),
        pod_ip: observed
            .current_sandbox()
            .filter(|sandbox| sandbox.running)
            .and_then(|sandbox| sandbox.ip),
        start_time: sandboxes.chain(instances).flatten().min(),
        containers,
        deleting: false,
    }
}

fn container_status(
    pod: &Pod,
    container: &Container,
    observed: &Observed,
    history: &History,
    now: SystemTime,
) -> ContainerStatus {
    let instances = observed.instances_of(&container.name);
    let newest = instances.first().copied();
    let last_exited = instances
        .iter()
        .copied()
        .find(|instance| instance.exit().is_some());
    let state = match newest.map(|newest| (newest, &newest.state)) {
        Some((_, State::Running { started_at })) => ContainerState::Running {
            started_at: *started_at,
        },
        Some((newest, State::Exited(exit))) => {
            exited_state(pod, container, newest, exit, observed, history, now)
        }
        Some((_, State::Created | State::Removing)) | None => waiting(pod, container, history, now),
    };
    let last_state = match &state {
        ContainerState::Terminated(_) => instances
            .iter()
            .skip(1)
            .copied()
            .find(|instance| instance.exit().is_some()),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => last_exited,
    };
    ContainerStatus {
        name: container.name.clone(),
        image: newest
            .map_or(&container.image, |newest| &newest.image)
            .clone(),
        image_id: newest
            .map(|newest| newest.image_id.clone())
            .unwrap_or_default(),
        container_id: newest.map(|newest| newest.id.clone()),
        ready: matches!(state, ContainerState::Running { .. }),
        restart_count: newest.map_or(0, |newest| newest.attempt),
        last_state: last_state.and_then(terminated),
        state,
    }
}

/// The state of a container whose newest instance has exited: ended for good, or waiting for the next.
fn exited_state(
    pod: &Pod,
    container: &Container,
    newest: &Instance,
    exit: &Exit,
    observed: &Observed,
    history: &History,
    now: SystemTime,
) -> ContainerState {
    let ended = ContainerState::Terminated(terminated_of(newest, exit));
    let Verdict::Make { due, .. } = verdict(
        pod,
        container,
        observed,
        usable_sandbox(pod, observed),
        history,
        now,
    ) else {
        return ended;
    };
    if due > now {
        let message = format!(
            "{}, next try in {}",
            how_it_ended(newest, exit),
            human_duration(due.duration_since(now).unwrap_or_default())
        );
        return ContainerState::Waiting {
            reason: "CrashLoopBackOff",
            message,
            until: Some(due),
        };
    }
    // Due, so a restart is under way or something stands in its way.
    match waiting(pod, container, history, now) {
        ContainerState::Waiting {
            reason: "ContainerCreating",
            ..
        } => ended,
        obstacle => obstacle,
    }
}

/// The state of a container that has not been started: what stands in its way.
fn waiting(pod: &Pod, container: &Container, history: &History, now: SystemTime) -> ContainerState {
    let name = &container.name;
    let hash = container_hash(pod, container).to_string();
    let failed = |failure: &Failure| ContainerState::Waiting {
        reason: failure.reason,
        message: failure.message.clone(),
        until: Some(failure.due()),
    };
    if let Some(failure) = history.failure(&Subject::Sandbox, &sandbox_hash(pod).to_string()) {
        return failed(failure);
    }
    if let Some(failure) = history.failure(&Subject::Image(name.clone()), &container.image) {
        return match failure.reason {
            "ErrImagePull" if failure.due() > now => ContainerState::Waiting {
                reason: "ImagePullBackOff",
                message: format!(
                    "back-off pulling image {:?}: {}",
                    container.image, failure.message
                ),
                until: Some(failure.due()),
            },
            _ => failed(failure),
        };
    }
    if container.image_pull_policy == ImagePullPolicy::Never
        && history.image(container).is_some_and(|seen| !seen.present)
    {
        return ContainerState::Waiting {
            reason: "ErrImageNeverPull",
            message: format!(
                "image {:?} is not there, and imagePullPolicy is Never",
                container.image
            ),
            until: None,
        };
    }
    for subject in [Subject::Create(name.clone()), Subject::Start(name.clone())] {
        if let Some(failure) = history.failure(&subject, &hash) {
            return failed(failure);
        }
    }
    ContainerState::Waiting {
        reason: "ContainerCreating",
        message: String::new(),
        until: None,
    }
}

fn terminated(instance: &Instance) -> Option<Terminated> {
    instance.exit().map(|exit| terminated_of(instance, exit))
}

/// Kubernetes' word for how a process ended.
pub(crate) fn exit_reason(exit: &Exit) -> &'static str {
    if exit.oom_killed {
        "OOMKilled"
    } else if exit.succeeded() {
        "Completed"
    } else if exit.started_at.is_none() {
        "ContainerCannotRun"
    } else {
        "Error"
    }
}

fn terminated_of(instance: &Instance, exit: &Exit) -> Terminated {
    let never_ran = exit.started_at.is_none();
    Terminated {
        exit_code: exit.exit_code,
        reason: exit_reason(exit),
        message: exit.error.clone(),
        started_at: if never_ran {
            instance.created_at
        } else {
            exit.started_at
        },
        finished_at: instance.ended_at(),
        container_id: instance.id.clone(),
    }
}

fn how_it_ended(instance: &Instance, exit: &Exit) -> String {
    let Terminated { reason, .. } = terminated_of(instance, exit);
    match reason {
        "OOMKilled" => "memory limit reached".to_owned(),
        "ContainerCannotRun" => format!("cannot be started: {}", exit.error),
        _ => format!("exit {}", exit.exit_code),
    }
}

/// The pod's phase by the rules of the kubelet (`getPhase`).
fn phase(containers: &[ContainerStatus], policy: RestartPolicy) -> Phase {
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for container in containers {
        match &container.state {
            ContainerState::Running { .. } => running += 1,
            ContainerState::Terminated(end) => {
                stopped += 1;
                succeeded += usize::from(end.exit_code == 0 && end.reason != "ContainerCannotRun");
            }
            ContainerState::Waiting { .. } if container.last_state.is_some() => stopped += 1,
            ContainerState::Waiting { .. } => waiting += 1,
        }
    }
    if waiting > 0 || running + stopped == 0 {
        Phase::Pending
    } else if running > 0 || policy == RestartPolicy::Always {
        Phase::Running
    } else if succeeded == stopped {
        Phase::Succeeded
    } else if policy == RestartPolicy::Never {
        Phase::Failed
    } else {
        Phase::Running
    }
}

impl PodStatus {
    /// kubectl's READY column: how many containers are ready, of how many.
    pub fn ready_column(&self) -> String {
        let ready = self
            .containers
            .iter()
            .filter(|container| container.ready)
            .count();
        format!("{ready}/{}", self.containers.len())
    }

    /// kubectl's STATUS column: the phase, or the most telling reason of a container.
    pub fn status_column(&self) -> String {
        let terminal = matches!(self.phase, Phase::Succeeded | Phase::Failed);
        if self.deleting && !terminal {
            return "Terminating".to_owned();
        }
        let mut reason = self.phase.as_str();
        let mut running = false;
        // The first container has the last word.
        for container in self.containers.iter().rev() {
            match &container.state {
                ContainerState::Waiting {
                    reason: waits_for, ..
                } => reason = waits_for,
                ContainerState::Terminated(end) => reason = end.reason,
                ContainerState::Running { .. } => running |= container.ready,
            }
        }
        if reason == "Completed" && running {
            reason = if self.is_ready() {
                "Running"
            } else {
                "NotReady"
            };
        }
        reason.to_owned()
    }

    /// kubectl's RESTARTS column: how many, and how long ago the last one's cause was.
    pub fn restarts_column(&self, now: SystemTime) -> String {
        let restarts: u64 = self
            .containers
            .iter()
            .map(|container| u64::from(container.restart_count))
            .sum();
        let last = self
            .containers
            .iter()
            .filter_map(|container| container.last_state.as_ref()?.finished_at)
            .max();
        match last {
            Some(last) if restarts > 0 => {
                format!(
                    "{restarts} ({} ago)",
                    human_duration(now.duration_since(last).unwrap_or_default())
                )
            }
            _ => restarts.to_string(),
        }
    }

    /// kubectl's AGE column; `<unknown>` when the engine does not say.
    pub fn age_column(&self, now: SystemTime) -> String {
        match self.start_time {
            Some(start) => human_duration(now.duration_since(start).unwrap_or_default()),
            None => "<unknown>".to_owned(),
        }
    }

    /// Why the pod is not simply running or completed, in a few words; empty when it is.
    pub fn why_column(&self) -> String {
        let several = self.containers.len() > 1;
        let told = self.containers.iter().find_map(|container| {
            let why = match &container.state {
                ContainerState::Waiting { message, .. } if !message.is_empty() => message.clone(),
                ContainerState::Terminated(end) => match end.reason {
                    "Completed" => return None,
                    "OOMKilled" => "memory limit reached".to_owned(),
                    "ContainerCannotRun" => end.message.clone(),
                    _ => format!("exit {}", end.exit_code),
                },
                ContainerState::Waiting { .. } | ContainerState::Running { .. } => return None,
            };
            Some(if several {
                format!("{}: {why}", container.name)
            } else {
                why
            })
        });
        told.unwrap_or_default()
    }

    /// Whether every container is ready.
    pub fn is_ready(&self) -> bool {
        self.containers.iter().all(|container| container.ready)
    }
}

/// A duration as kubectl prints ages: at most two units, fewer as it grows.
pub fn human_duration(duration: Duration) -> String {
    const YEAR: u64 = 365;
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{big_unit}"),
        _ => format!("{big}{big_unit}{small}{small_unit}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(days, "d", hours % 24, "h"),
        () if days < 2 * YEAR => format!("{days}d"),
        () if days < 8 * YEAR => pair(days / YEAR, "y", days % YEAR, "d"),
        () => format!("{}y", days / YEAR),
    }
}

/// A time as Kubernetes writes it: RFC 3339, UTC, whole seconds. Nothing for a time out of the calendar's range.
fn rfc3339(time: SystemTime) -> Option<String> {
    let time = jiff::Timestamp::try_from(time).ok()?;
    jiff::Timestamp::from_second(time.as_second())
        .ok()
        .map(|time| time.to_string())
}

fn put_time<M: SerializeMap>(
    map: &mut M,
    key: &str,
    time: Option<SystemTime>,
) -> Result<(), M::Error> {
    match time.and_then(rfc3339) {
        Some(text) => map.serialize_entry(key, &text),
        None => Ok(()),
    }
}

impl Serialize for PodStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Condition {
            r#type: &'static str,
            status: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'static str>,
        }
        #[derive(Serialize)]
        struct Address {
            ip: IpAddr,
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("phase", &self.phase)?;
        let reason = match (self.is_ready(), self.phase) {
            (true, _) => None,
            (false, Phase::Succeeded) => Some("PodCompleted"),
            (false, Phase::Failed) => Some("PodFailed"),
            (false, Phase::Pending | Phase::Running) => Some("ContainersNotReady"),
        };
        let status = if self.is_ready() { "True" } else { "False" };
        let condition = |r#type| Condition {
            r#type,
            status,
            reason,
        };
        map.serialize_entry(
            "conditions",
            &[condition("Ready"), condition("ContainersReady")],
        )?;
        if let Some(ip) = self.pod_ip {
            map.serialize_entry("podIP", &ip)?;
            map.serialize_entry("podIPs", &[Address { ip }])?;
        }
        put_time(&mut map, "startTime", self.start_time)?;
        map.serialize_entry("containerStatuses", &self.containers)?;
        map.end()
    }
}

impl Serialize for ContainerStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Serialises as the one-entry map Kubernetes has for a state.
        struct Last<'t>(&'t Terminated);
        impl Serialize for Last<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("terminated", self.0)?;
                map.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("image", &self.image)?;
        map.serialize_entry("imageID", &self.image_id)?;
        if let Some(id) = &self.container_id {
            map.serialize_entry("containerID", &format!("docker://{id}"))?;
        }
        map.serialize_entry("ready", &self.ready)?;
        map.serialize_entry(
            "started",
            &matches!(self.state, ContainerState::Running { .. }),
        )?;
        map.serialize_entry("restartCount", &self.restart_count)?;
        map.serialize_entry("state", &self.state)?;
        if let Some(last) = &self.last_state {
            map.serialize_entry("lastState", &Last(last))?;
        }
        map.end()
    }
}

impl Serialize for ContainerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Waiting<'s> {
            reason: &'s str,
            #[serde(skip_serializing_if = "str::is_empty")]
            message: &'s str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Running {
            #[serde(skip_serializing_if = "Option::is_none")]
            started_at: Option<String>,
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match self {
            Self::Waiting {
                reason,
                message,
                until: _,
            } => map.serialize_entry("waiting", &Waiting { reason, message })?,
            Self::Running { started_at } => {
                map.serialize_entry(
                    "running",
                    &Running {
                        started_at: started_at.and_then(rfc3339),
                    },
                )?;
            }
            Self::Terminated(end) => map.serialize_entry("terminated", end)?,
        }
        map.end()
    }
}

impl Serialize for Terminated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("exitCode", &self.exit_code)?;
        map.serialize_entry("reason", self.reason)?;
        if !self.message.is_empty() {
            map.serialize_entry("message", &self.message)?;
        }
        put_time(&mut map, "startedAt", self.started_at)?;
        put_time(&mut map, "finishedAt", self.finished_at)?;
        map.serialize_entry("containerID", &format!("docker://{}", self.container_id))?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
