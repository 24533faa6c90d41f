//! A small engine in memory for tests of the pure parts: it does what a step says and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use crate::decide::{Step, Wanted, decide};
use crate::hash::SpecHash;
use crate::history::{History, Outcome};
use crate::manifest::{Validate, parse};
use crate::observed::{ContainerId, Exit, Instance, Observed, Sandbox, SandboxId, State};
use crate::pod::Pod;

/// A point in time to start from.
pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// A pod with containers `a` and `b`, in a compact notation: extra `spec` fields, extra fields of `a`.
pub(crate) fn pod(spec: &str, a: &str) -> Pod {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web}}, spec: {{{spec} containers: \
         [{{name: a, image: 'a:1', {a}}}, {{name: b, image: 'b:1'}}]}}}}"
    );
    parse(text.as_bytes(), "test", Validate::Strict)
        .unwrap_or_else(|errors| panic!("{text}\n{errors}"))
        .pods
        .remove(0)
}

/// A hash that is none of a pod's.
pub(crate) fn other_hash() -> SpecHash {
    "1".parse().expect("hexadecimal")
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seen: Observed,
    pub(crate) history: History,
    pub(crate) now: SystemTime,
    /// Images the engine has.
    pub(crate) images: BTreeSet<String>,
    /// Words that make a step fail when its text contains them, and how it fails.
    pub(crate) faults: BTreeMap<&'static str, Outcome>,
    next_id: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            seen: Observed::default(),
            history: History::default(),
            now: start(),
            images: BTreeSet::new(),
            faults: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// A world in which the pod runs.
    pub(crate) fn running(pod: &Pod) -> Self {
        let mut world = Self::new();
        let steps = world.settle(Wanted::Run(pod));
        assert_eq!(steps.last(), Some(&"settled".to_owned()), "{steps:?}");
        world
    }

    pub(crate) fn decide(&self, wanted: Wanted<'_>) -> Step {
        decide(wanted, &self.seen, &self.history, self.now)
    }

    pub(crate) fn after(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Takes steps until there is nothing to do at this moment; gives them as text, the last one being the rest.
    pub(crate) fn settle(&mut self, wanted: Wanted<'_>) -> Vec<String> {
        let mut steps = Vec::new();
        for _ in 0..100 {
            let step = self.decide(wanted);
            steps.push(self.show(&step));
            if is_rest(&step) {
                return steps;
            }
            self.carry_out(&step);
        }
        panic!("no end to {steps:?}");
    }

    /// A step in a few words: `create a0`, `stop a0 changed`, `wait 10`.
    pub(crate) fn show(&self, step: &Step) -> String {
        let instance = |id: &ContainerId| match self
            .seen
            .instances
            .iter()
            .find(|instance| instance.id == *id)
        {
            Some(instance) => format!("{}{}", instance.name, instance.attempt),
            None => format!("unknown {id}"),
        };
        match step {
            Step::CreateSandbox { attempt, .. } => format!("sandbox {attempt}"),
            Step::StopSandbox { id } => format!("stop sandbox {id}"),
            Step::RemoveSandbox { id } => format!("remove sandbox {id}"),
            Step::InspectImage { container, .. } => format!("inspect {container}"),
            Step::PullImage { container, .. } => format!("pull {container}"),
            Step::CreateContainer {
                container, attempt, ..
            } => format!("create {container}{attempt}"),
            Step::StartContainer { id, .. } => format!("start {}", instance(id)),
            Step::StopContainers { containers, .. } => {
                let all: Vec<String> = containers
                    .iter()
                    .map(|stop| format!("{} {:?}", instance(&stop.id), stop.why))
                    .collect();
                format!("stop {}", all.join(", "))
            }
            Step::RemoveContainer { id, .. } => format!("remove {}", instance(id)),
            Step::Wait { until } => format!(
                "wait {}",
                until
                    .duration_since(self.now)
                    .expect("in the future")
                    .as_secs()
            ),
            Step::Settled => "settled".to_owned(),
            Step::Finished { succeeded } => format!("finished {succeeded}"),
            Step::Gone => "gone".to_owned(),
        }
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next_id += 1;
        format!("{prefix}{}", self.next_id)
    }

    /// Carries a step out, or fails it as told, and records the outcome.
    pub(crate) fn carry_out(&mut self, step: &Step) {
        let text = self.show(step);
        let fault = self
            .faults
            .iter()
            .find(|(word, _)| text.contains(**word))
            .map(|(_, outcome)| outcome.clone());
        let outcome = match fault {
            Some(outcome) => outcome,
            None => self.effect(step),
        };
        self.history.record(step, &outcome, self.now);
    }

    fn effect(&mut self, step: &Step) -> Outcome {
        let now = self.now;
        match step {
            Step::CreateSandbox { attempt, hash } => {
                let id = SandboxId(self.id("s"));
                let ip = Some(IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2)));
                let sandbox = Sandbox {
                    id,
                    attempt: *attempt,
                    created_at: Some(now),
                    running: true,
                    ip,
                    hash: Some(*hash),
                };
                self.seen.sandboxes.push(sandbox);
            }
            Step::StopSandbox { id } => {
                let sandbox = self
                    .seen
                    .sandboxes
                    .iter_mut()
                    .find(|sandbox| sandbox.id == *id)
                    .expect("known sandbox");
                sandbox.running = false;
            }
            Step::RemoveSandbox { id } => {
                assert!(
                    !self
                        .seen
                        .instances
                        .iter()
                        .any(|instance| instance.sandbox == *id && instance.is_running()),
                    "{id} is in use"
                );
                self.seen.sandboxes.retain(|sandbox| sandbox.id != *id);
            }
            Step::InspectImage { image, .. } => {
                return Outcome::Image {
                    present: self.images.contains(image),
                };
            }
            Step::PullImage { image, .. } => {
                self.images.insert(image.clone());
            }
            Step::CreateContainer {
                container,
                attempt,
                hash,
                sandbox,
                ..
            } => {
                assert!(
                    self.seen
                        .sandboxes
                        .iter()
                        .any(|known| known.id == *sandbox && known.running),
                    "no sandbox {sandbox}"
                );
                let clash =
                    self.seen.instances.iter().any(|instance| {
                        instance.name == *container && instance.attempt == *attempt
                    });
                assert!(!clash, "{container}{attempt} is there already");
                let id = ContainerId(self.id("c"));
                self.seen.instances.push(Instance {
                    id,
                    sandbox: sandbox.clone(),
                    name: container.clone(),
                    attempt: *attempt,
                    created_at: Some(now),
                    state: State::Created,
                    image: format!("{container}:1"),
                    image_id: "sha256:0".to_owned(),
                    hash: Some(*hash),
                });
            }
            Step::StartContainer { id, .. } => {
                let instance = self.instance_mut(id);
                assert_eq!(instance.state, State::Created);
                instance.state = State::Running {
                    started_at: Some(now),
                };
            }
            Step::StopContainers { containers, .. } => {
                for stop in containers {
                    let instance = self.instance_mut(&stop.id);
                    let State::Running { started_at } = instance.state else {
                        panic!("{instance:?} does not run")
                    };
                    instance.state = State::Exited(Exit {
                        exit_code: 143,
                        started_at,
                        finished_at: Some(now),
                        ..Exit::default()
                    });
                }
            }
            Step::RemoveContainer { id, .. } => {
                assert!(!self.instance_mut(id).is_running(), "{id} runs");
                self.seen.instances.retain(|instance| instance.id != *id);
            }
            Step::Wait { .. } | Step::Settled | Step::Finished { .. } | Step::Gone => {
                panic!("{step:?} is nothing to do")
            }
        }
        Outcome::Done
    }

    fn instance_mut(&mut self, id: &ContainerId) -> &mut Instance {
        self.seen
            .instances
            .iter_mut()
            .find(|instance| instance.id == *id)
            .expect("known container")
    }

    /// The newest instance of a container ends.
    pub(crate) fn exit(&mut self, name: &str, exit_code: i64) {
        let id = self.newest(name).id.clone();
        let now = self.now;
        let instance = self.instance_mut(&id);
        let State::Running { started_at } = instance.state else {
            panic!("{instance:?} does not run")
        };
        instance.state = State::Exited(Exit {
            exit_code,
            started_at,
            finished_at: Some(now),
            ..Exit::default()
        });
    }

    pub(crate) fn newest(&self, name: &str) -> &Instance {
        self.seen
            .instances_of(name)
            .first()
            .copied()
            .expect("an instance")
    }
}

/// Whether a step is none to carry out.
pub(crate) fn is_rest(step: &Step) -> bool {
    matches!(
        step,
        Step::Wait { .. } | Step::Settled | Step::Finished { .. } | Step::Gone
    )
}
