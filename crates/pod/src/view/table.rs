//! The table behind the view: what is known of each sandbox and container, and which changes follow from a new look at one. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Change, ChangeKind};
use crate::observe::{Container, Observed, Sandbox, State};
use crate::spec::{ContainerId, SandboxId};

/// The exit code of a process that SIGKILL ended.
const KILLED: i64 = 137;

#[derive(Debug, Default)]
pub(super) struct Table {
    sandboxes: BTreeMap<SandboxId, Arc<Sandbox>>,
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Sandboxes that are gone while containers of theirs are not: somebody removed them behind our back.
    departed: BTreeMap<SandboxId, Arc<Sandbox>>,
    /// Containers in which the kernel killed for memory, as told by events: the engine's own flag may come late.
    out_of_memory: BTreeSet<ContainerId>,
}

/// How far something is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Unknown,
    Created,
    Running,
    Ended,
}

impl Stage {
    /// What happens on the way to this stage from the one before.
    fn kind(self) -> ChangeKind {
        match self {
            Self::Unknown | Self::Created => ChangeKind::Created,
            Self::Running => ChangeKind::Started,
            Self::Ended => ChangeKind::Stopped,
        }
    }

    fn of(state: &State) -> Self {
        match state {
            State::Created => Self::Created,
            State::Running { .. } => Self::Running,
            State::Exited { .. } | State::Removing => Self::Ended,
        }
    }
}

/// The kinds of change between two looks. A second start, which a look at each end does not show, is told by its time.
fn kinds(before: Stage, after: Stage, restarted: bool) -> Vec<ChangeKind> {
    let after_each = [Stage::Created, Stage::Running, Stage::Ended];
    if restarted && before == after {
        return match after {
            Stage::Running => vec![ChangeKind::Stopped, ChangeKind::Started],
            _ => vec![ChangeKind::Started, ChangeKind::Stopped],
        };
    }
    if after < before {
        // Only a restart goes back: from ended to running.
        return vec![after.kind()];
    }
    after_each
        .into_iter()
        .filter(|stage| *stage > before && *stage <= after)
        .map(Stage::kind)
        .collect()
}

fn started_at(state: &State) -> Option<SystemTime> {
    match state {
        State::Running { started_at } | State::Exited { started_at, .. } => *started_at,
        State::Created | State::Removing => None,
    }
}
impl Table {
    pub(super) fn sandboxes(&self) -> impl Iterator<Item = &Arc<Sandbox>> {
        self.sandboxes.values()
    }

    pub(super) fn containers(&self) -> impl Iterator<Item = &Arc<Container>> {
        self.containers.values()
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> Option<&Arc<Sandbox>> {
        self.sandboxes.get(id)
    }

    pub(super) fn container(&self, id: &ContainerId) -> Option<&Arc<Container>> {
        self.containers.get(id)
    }

    pub(super) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        self.containers
            .values()
            .filter(|container| container.sandbox == *sandbox)
            .cloned()
            .collect()
    }

    /// Whether this is the sandbox, a container of it, or something never seen, which could be one.
    pub(super) fn may_be_of(&self, id: &str, sandbox: &SandboxId) -> bool {
        match self.containers.get(&ContainerId::new(id)) {
            Some(container) => container.sandbox == *sandbox,
            None => id == sandbox.as_str() || !self.sandboxes.contains_key(&SandboxId::new(id)),
        }
    }

    /// The IDs of everything, and whether each runs.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, bool)> {
        let sandboxes = self
            .sandboxes
            .values()
            .map(|sandbox| (sandbox.id.as_str(), sandbox.running));
        let containers = self
            .containers
            .values()
            .map(|container| (container.id.as_str(), container.is_running()));
        sandboxes.chain(containers)
    }

    /// Notes that the kernel killed a process of the container for memory.
    pub(super) fn note_out_of_memory(&mut self, id: &str) {
        self.out_of_memory.insert(ContainerId::new(id));
    }

    /// Takes in a new look.
    pub(super) fn put(&mut self, observed: Observed) -> Vec<Change> {
        match observed {
            Observed::Sandbox(sandbox) => self.put_sandbox(sandbox),
            Observed::Container(container) => self.put_container(container),
        }
    }

    fn put_sandbox(&mut self, sandbox: Arc<Sandbox>) -> Vec<Change> {
        let stage = |sandbox: &Sandbox| {
            if sandbox.running {
                Stage::Running
            } else {
                Stage::Created
            }
        };
        let before = self.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
        let kinds = match before.as_deref() {
            None => kinds(Stage::Unknown, stage(&sandbox), false),
            Some(old) if old.running && !sandbox.running => vec![ChangeKind::Stopped],
            Some(old) => kinds(
                stage(old),
                stage(&sandbox),
                old.process != sandbox.process && sandbox.running && old.running,
            ),
        };
        let containers = self.containers_of(&sandbox.id);
        kinds
            .into_iter()
            .map(|kind| Change {
                kind,
                id: sandbox.id.to_string(),
                sandbox: Some(sandbox.clone()),
                containers: containers.clone(),
            })
            .collect()
    }

    fn put_container(&mut self, mut container: Arc<Container>) -> Vec<Change> {
        if let State::Exited {
            exit_code: KILLED,
            oom_killed: false,
            ..
        } = container.state
            && self.out_of_memory.contains(&container.id)
            && let State::Exited { oom_killed, .. } = &mut Arc::make_mut(&mut container).state
        {
            *oom_killed = true;
        }
        let before = self
            .containers
            .insert(container.id.clone(), container.clone());
        let (old, restarted) = match &before {
            Some(old) => {
                let (first, second) = (started_at(&old.state), started_at(&container.state));
                (
                    Stage::of(&old.state),
                    first.is_some() && second.is_some() && first != second,
                )
            }
            None => (Stage::Unknown, false),
        };
        let sandbox = self.sandbox_of(&container.sandbox);
        let containers = self.containers_of(&container.sandbox);
        kinds(old, Stage::of(&container.state), restarted)
            .into_iter()
            .map(|kind| Change {
                kind,
                id: container.id.to_string(),
                sandbox: sandbox.clone(),
                containers: containers.clone(),
            })
            .collect()
    }

    fn sandbox_of(&self, id: &SandboxId) -> Option<Arc<Sandbox>> {
        self.sandboxes
            .get(id)
            .or_else(|| self.departed.get(id))
            .cloned()
    }

    /// Takes out what is gone.
    pub(super) fn remove(&mut self, id: &str) -> Option<Change> {
        let container = ContainerId::new(id);
        self.out_of_memory.remove(&container);
        let (sandbox, kept) = match self.containers.remove(&container) {
            Some(container) => (container.sandbox.clone(), None),
            None => {
                let id = SandboxId::new(id);
                let sandbox = self.sandboxes.remove(&id)?;
                (id, Some(sandbox))
            }
        };
        let containers = self.containers_of(&sandbox);
        let known = self.sandbox_of(&sandbox).or_else(|| kept.clone());
        match kept {
            Some(kept) if !containers.is_empty() => {
                self.departed.insert(sandbox, kept);
            }
            _ if containers.is_empty() => {
                self.departed.remove(&sandbox);
            }
            _ => {}
        }
        Some(Change {
            kind: ChangeKind::Deleted,
            id: id.to_owned(),
            sandbox: known,
            containers,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::PodIdentity;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    pub(crate) fn sandbox(running: bool) -> Observed {
        Observed::Sandbox(Arc::new(Sandbox {
            id: SandboxId::new("s"),
            pod: PodIdentity::default(),
            attempt: 0,
            created_at: Some(at(1)),
            running,
            process: u32::from(running),
            ip: None,
            additional_ips: Vec::new(),
            host_network: false,
            no_network: false,
            pid: Default::default(),
            host_ipc: false,
            runtime_handler: String::new(),
            runtime: String::new(),
            cgroup_parent: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            naming: None,
        }))
    }

    fn container(state: State) -> Observed {
        Observed::Container(Arc::new(Container {
            id: ContainerId::new("c"),
            pod: PodIdentity::default(),
            sandbox: SandboxId::new("s"),
            name: "c".to_owned(),
            attempt: 0,
            created_at: Some(at(2)),
            state,
            process: 0,
            image: String::new(),
            image_name: String::new(),
            image_ref: String::new(),
            image_id: String::new(),
            user: String::new(),
            groups: Vec::new(),
            resources: Default::default(),
            mounts: Vec::new(),
            stop_signal: String::new(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: None,
            log_driver: String::new(),
            upper_directory: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            naming: None,
        }))
    }

    fn running(since: u64) -> State {
        State::Running {
            started_at: Some(at(since)),
        }
    }

    fn exited(since: u64, until: u64, exit_code: i64) -> State {
        State::Exited {
            exit_code,
            oom_killed: false,
            error: String::new(),
            started_at: Some(at(since)),
            finished_at: Some(at(until)),
        }
    }

    fn told(changes: &[Change]) -> Vec<ChangeKind> {
        changes.iter().map(|change| change.kind).collect()
    }

    use ChangeKind::{Created, Deleted, Started, Stopped};

    #[test]
    fn every_step_of_a_life_is_told_once_also_those_between_two_looks() {
        let mut table = Table::default();
        assert_eq!(told(&table.put(sandbox(true))), [Created, Started]);
        assert_eq!(told(&table.put(sandbox(true))), []);
        assert_eq!(told(&table.put(container(State::Created))), [Created]);
        let changes = table.put(container(exited(3, 4, 0)));
        assert_eq!(told(&changes), [Started, Stopped]);
        assert_eq!(told(&table.put(container(running(5)))), [Started]);
        assert_eq!(
            told(&table.put(container(running(6)))),
            [Stopped, Started],
            "it was started again between two looks"
        );
        assert_eq!(told(&table.put(sandbox(false))), [Stopped]);
    }

    #[test]
    fn a_deletion_knows_the_pod_also_when_the_sandbox_went_first() {
        let mut table = Table::default();
        table.put(sandbox(true));
        table.put(container(running(3)));
        let change = table.remove("s").expect("it was there");
        assert_eq!((change.kind, change.containers.len()), (Deleted, 1));
        assert!(table.sandbox(&SandboxId::new("s")).is_none());
        let change = table.remove("c").expect("it was there");
        assert!(change.sandbox.is_some_and(|sandbox| sandbox.running));
        assert!(table.departed.is_empty(), "nothing is kept for ever");
        assert!(table.remove("c").is_none());
    }

    #[test]
    fn a_kill_for_memory_is_known_before_the_engine_says_so() {
        let mut table = Table::default();
        table.note_out_of_memory("c");
        let changes = table.put(container(exited(3, 4, 137)));
        assert!(matches!(
            changes
                .last()
                .and_then(|change| change.containers.first())
                .map(|one| &one.state),
            Some(State::Exited {
                oom_killed: true,
                ..
            })
        ));
        // What it survived, or ended by itself after, is another matter.
        let mut table = Table::default();
        table.note_out_of_memory("c");
        table.put(container(exited(3, 4, 1)));
        let state = &table
            .container(&ContainerId::new("c"))
            .expect("it is there")
            .state;
        assert!(matches!(
            state,
            State::Exited {
                oom_killed: false,
                ..
            }
        ));
    }
}
