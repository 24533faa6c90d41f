//! The next step for one pod.
//!
//! Owns the order of things: what must stop before what may start, when to try again, when a pod is done. [`decide`] is pure: what is
//! wanted, what is seen, what is remembered and the time go in, one [`Step`] comes out. The worker carries it out, records how it
//! ended in the [`History`], looks again, and asks again. Nothing here knows an engine.
//!
//! The order for a pod that should run:
//! 1. Of several sandboxes (a crash can leave two) the newest counts; the others go, after their containers have stopped.
//! 2. When every container has ended for good, the sandbox stops and the pod is finished. Its last containers stay for their logs.
//! 3. A sandbox that has died or changed is replaced, after its containers have stopped.
//! 4. Containers that changed, are not in the spec, or run twice are stopped, all at once.
//! 5. Leftovers that can never be started go.
//! 6. Containers are made and started in the order of the spec; one that has to wait holds up no other.
//! 7. Of exited instances one for each container is kept, the newest.
//!
//! A running container whose hash is unchanged and whose sandbox stands is never touched.

use std::time::{Duration, SystemTime};

use crate::backoff;
use crate::hash::{SpecHash, container_hash, sandbox_hash};
use crate::history::History;
use crate::observed::{ContainerId, Instance, Observed, Sandbox, SandboxId, State};
use crate::pod::{Container, ImagePullPolicy, Pod, RestartPolicy};

/// What should become of a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted<'p> {
    /// It should run as its spec says.
    Run(&'p Pod),
    /// It should be gone, its containers given this long to stop.
    Delete {
        /// Between asking a container to stop and killing it.
        grace: Duration,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make and start a sandbox.
    CreateSandbox {
        /// Which of the pod's sandboxes it will be.
        attempt: u32,
        /// The hash it must carry.
        hash: SpecHash,
    },
    /// Stop a sandbox, keeping it.
    StopSandbox {
        /// Which.
        id: SandboxId,
    },
    /// Remove a sandbox, running or not. All its containers have stopped.
    RemoveSandbox {
        /// Which.
        id: SandboxId,
    },
    /// Find out whether the engine has an image. Ends with [`Outcome::Image`](crate::history::Outcome::Image).
    InspectImage {
        /// For which container.
        container: String,
        /// The reference.
        image: String,
    },
    /// Pull an image.
    PullImage {
        /// For which container.
        container: String,
        /// The reference.
        image: String,
    },
    /// Make an instance of a container; starting it is another step.
    CreateContainer {
        /// Its name.
        container: String,
        /// Which instance it will be: its restart count.
        attempt: u32,
        /// The hash it must carry.
        hash: SpecHash,
        /// The sandbox to put it in.
        sandbox: SandboxId,
        /// How many quick restarts led here; for [`History`] alone.
        quick_restarts: u32,
    },
    /// Start an instance that was made.
    StartContainer {
        /// Its name.
        container: String,
        /// Which.
        id: ContainerId,
        /// The hash of its spec.
        hash: SpecHash,
    },
    /// Stop containers, all at once, and wait until they have stopped.
    StopContainers {
        /// Which, and why; at least one.
        containers: Vec<Stop>,
        /// Between asking a container to stop and killing it.
        grace: Duration,
    },
    /// Remove a container that does not run.
    RemoveContainer {
        /// Its name.
        container: String,
        /// Which.
        id: ContainerId,
    },
    /// Nothing until then, unless something changes.
    Wait {
        /// When to ask again.
        until: SystemTime,
    },
    /// Nothing until something changes: the pod is as it should be.
    Settled,
    /// The pod has ended for good. It stays to be looked at until it is deleted or changed.
    Finished {
        /// Whether every container ended with exit code 0.
        succeeded: bool,
    },
    /// Nothing of the pod is left but what the sandbox's making made beside it (its directories), which may go now.
    Gone,
}

/// A container to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Its name.
    pub container: String,
    /// Which.
    pub id: ContainerId,
    /// Why.
    pub why: StopReason,
}

/// Why a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The pod is being deleted.
    Deleted,
    /// Its spec has changed.
    Changed,
    /// The sandbox has changed, died or been replaced.
    SandboxLost,
    /// It is no longer in the pod's spec.
    NotWanted,
    /// A newer instance of it is there.
    Superseded,
}

/// What one container needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict<'o> {
    /// It runs as it should.
    Keep,
    /// It has ended for good; with success or not.
    Ended { succeeded: bool },
    /// It runs and must not.
    Stop(&'o Instance, StopReason),
    /// It was made and is ready to start.
    Start(&'o Instance),
    /// It was made, and can never be started.
    Discard(&'o Instance),
    /// A new instance is due at this time.
    Make {
        due: SystemTime,
        quick_restarts: u32,
    },
}

/// What a container needs, by its newest instance. `sandbox` is the one that counts, if it is usable.
pub(crate) fn verdict<'o>(
    pod: &Pod,
    container: &Container,
    observed: &'o Observed,
    sandbox: Option<&Sandbox>,
    history: &History,
    now: SystemTime,
) -> Verdict<'o> {
    const AT_ONCE: Verdict<'_> = Verdict::Make {
        due: SystemTime::UNIX_EPOCH,
        quick_restarts: 0,
    };
    let Some(newest) = observed.instances_of(&container.name).first().copied() else {
        return AT_ONCE;
    };
    let hash = container_hash(pod, container);
    let changed = newest.is_changed(hash);
    let in_sandbox = sandbox.is_some_and(|sandbox| sandbox.id == newest.sandbox);
    match &newest.state {
        State::Running { .. } if changed => Verdict::Stop(newest, StopReason::Changed),
        State::Running { .. } if !in_sandbox => Verdict::Stop(newest, StopReason::SandboxLost),
        State::Running { .. } => Verdict::Keep,
        State::Created if changed || !in_sandbox => Verdict::Discard(newest),
        State::Created => Verdict::Start(newest),
        State::Removing => Verdict::Discard(newest),
        State::Exited(_) if changed => AT_ONCE,
        State::Exited(exit) => match pod.spec.restart_policy {
            RestartPolicy::Never => Verdict::Ended {
                succeeded: exit.succeeded(),
            },
            RestartPolicy::OnFailure if exit.succeeded() => Verdict::Ended { succeeded: true },
            RestartPolicy::OnFailure | RestartPolicy::Always => {
                let (due, quick_restarts) = history.restart(newest, hash, now);
                // It may have died with its sandbox, whose replacement has a back-off of its own.
                let due = if in_sandbox {
                    due
                } else {
                    SystemTime::UNIX_EPOCH
                };
                Verdict::Make {
                    due,
                    quick_restarts,
                }
            }
        },
    }
}

/// The sandbox that counts, when containers can be started in it.
pub(crate) fn usable_sandbox<'o>(pod: &Pod, observed: &'o Observed) -> Option<&'o Sandbox> {
    let hash = sandbox_hash(pod);
    observed
        .current_sandbox()
        .filter(|sandbox| sandbox.running && sandbox.hash.is_none_or(|own| own == hash))
}

/// The next step for a pod.
///
/// Every step but the last four ([`Step::Wait`], [`Step::Settled`], [`Step::Finished`], [`Step::Gone`]) is to be carried out and its
/// outcome recorded; then look again and ask again. A failed step is given again only when its back-off is over.
pub fn decide(wanted: Wanted<'_>, observed: &Observed, history: &History, now: SystemTime) -> Step {
    let mut decision = Decision {
        observed,
        history,
        now,
        wait: None,
    };
    match wanted {
        Wanted::Run(pod) => decision.run(pod),
        Wanted::Delete { grace } => decision.delete(grace),
    }
}

struct Decision<'d> {
    observed: &'d Observed,
    history: &'d History,
    now: SystemTime,
    /// The earliest time at which something that has to wait is due.
    wait: Option<SystemTime>,
}

impl Decision<'_> {
    /// The step, unless a failure of the same is too fresh; then the time it is due is noted.
    fn ready(&mut self, step: Step) -> Option<Step> {
        let due = step
            .subject()
            .and_then(|(subject, about)| Some(self.history.failure(&subject, &about)?.due()));
        self.is_due(due.unwrap_or(SystemTime::UNIX_EPOCH))
            .then_some(step)
    }

    fn is_due(&mut self, due: SystemTime) -> bool {
        if due <= self.now {
            return true;
        }
        self.wait = Some(self.wait.map_or(due, |wait| wait.min(due)));
        false
    }

    /// What to do when there is no step to take.
    fn rest(&self, otherwise: Step) -> Step {
        self.wait.map_or(otherwise, |until| Step::Wait { until })
    }

    /// The step, or the wait until it may be taken.
    fn this_first(&mut self, step: Step) -> Step {
        match self.ready(step) {
            Some(step) => step,
            None => self.rest(Step::Settled),
        }
    }

    fn delete(&mut self, grace: Duration) -> Step {
        if let Some(step) = stop(self.observed.instances.iter(), StopReason::Deleted, grace) {
            return self.this_first(step);
        }
        for instance in &self.observed.instances {
            if let Some(step) = self.ready(remove(instance)) {
                return step;
            }
        }
        if !self.observed.instances.is_empty() {
            return self.rest(Step::Settled);
        }
        for sandbox in &self.observed.sandboxes {
            if let Some(step) = self.ready(Step::RemoveSandbox {
                id: sandbox.id.clone(),
            }) {
                return step;
            }
        }
        self.rest(Step::Gone)
    }

    fn run(&mut self, pod: &Pod) -> Step {
        let observed = self.observed;
        let grace = Duration::from_secs(pod.spec.termination_grace_period_seconds.into());
        let current = observed.current_sandbox();
        if let Some(old) = observed
            .sandboxes
            .iter()
            .find(|sandbox| Some(&sandbox.id) != current.map(|current| &current.id))
        {
            return self.take_down(old, grace);
        }
        let usable = usable_sandbox(pod, observed);
        let verdicts: Vec<(&Container, Verdict<'_>)> = pod
            .spec
            .containers
            .iter()
            .map(|container| {
                (
                    container,
                    verdict(pod, container, observed, usable, self.history, self.now),
                )
            })
            .collect();
        if verdicts
            .iter()
            .all(|(_, verdict)| matches!(verdict, Verdict::Ended { .. }))
        {
            return self.finish(pod, &verdicts, current, grace);
        }
        let Some(sandbox) = usable else {
            return self.replace_sandbox(pod, current, grace);
        };
        if let Some(step) = self.stop_wrong(pod, &verdicts, grace) {
            return step;
        }
        if let Some(step) = self.remove_unstartable(pod, &verdicts) {
            return step;
        }
        for (container, verdict) in &verdicts {
            if let Some(step) = self.advance(pod, container, verdict, sandbox) {
                return step;
            }
        }
        if let Some(step) = self.prune(pod) {
            return step;
        }
        self.rest(Step::Settled)
    }

    /// Stops what runs in a sandbox, removes what can never start in it any more, then the sandbox.
    fn take_down(&mut self, sandbox: &Sandbox, grace: Duration) -> Step {
        let members = || {
            self.observed
                .instances
                .iter()
                .filter(|instance| instance.sandbox == sandbox.id)
        };
        let step = stop(members(), StopReason::SandboxLost, grace)
            .or_else(|| {
                members()
                    .find(|instance| instance.exit().is_none())
                    .map(remove)
            })
            .unwrap_or_else(|| Step::RemoveSandbox {
                id: sandbox.id.clone(),
            });
        self.this_first(step)
    }

    fn replace_sandbox(&mut self, pod: &Pod, current: Option<&Sandbox>, grace: Duration) -> Step {
        if let Some(current) = current {
            return self.take_down(current, grace);
        }
        // Containers whose sandbox is gone have lost what they share.
        if let Some(step) = stop(
            self.observed.instances.iter(),
            StopReason::SandboxLost,
            grace,
        ) {
            return self.this_first(step);
        }
        let hash = sandbox_hash(pod);
        if !self.is_due(self.history.sandbox_due(hash)) {
            return self.rest(Step::Settled);
        }
        let attempt = self.history.next_sandbox_attempt();
        self.this_first(Step::CreateSandbox { attempt, hash })
    }

    fn finish(
        &mut self,
        pod: &Pod,
        verdicts: &[(&Container, Verdict<'_>)],
        current: Option<&Sandbox>,
        grace: Duration,
    ) -> Step {
        if let Some(step) = self.stop_wrong(pod, verdicts, grace) {
            return step;
        }
        if let Some(step) = self.remove_unstartable(pod, verdicts) {
            return step;
        }
        if let Some(sandbox) = current.filter(|sandbox| sandbox.running)
            && let Some(step) = self.ready(Step::StopSandbox {
                id: sandbox.id.clone(),
            })
        {
            return step;
        }
        if let Some(step) = self.prune(pod) {
            return step;
        }
        let succeeded = verdicts
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Ended { succeeded: true });
        self.rest(Step::Finished { succeeded })
    }

    /// Stops what runs and must not: changed, not in the spec, or there in a newer instance.
    fn stop_wrong(
        &mut self,
        pod: &Pod,
        verdicts: &[(&Container, Verdict<'_>)],
        grace: Duration,
    ) -> Option<Step> {
        let mut containers: Vec<Stop> = Vec::new();
        for (_, verdict) in verdicts {
            if let Verdict::Stop(instance, why) = verdict {
                containers.push(stop_one(instance, *why));
            }
        }
        for instance in self
            .observed
            .instances
            .iter()
            .filter(|instance| instance.is_running())
        {
            if pod.container(&instance.name).is_none() {
                containers.push(stop_one(instance, StopReason::NotWanted));
            } else if self
                .observed
                .instances_of(&instance.name)
                .first()
                .is_some_and(|newest| newest.id != instance.id)
            {
                containers.push(stop_one(instance, StopReason::Superseded));
            }
        }
        if containers.is_empty() {
            return None;
        }
        self.ready(Step::StopContainers { containers, grace })
    }

    /// Removes what was made and can never be started.
    fn remove_unstartable(
        &mut self,
        pod: &Pod,
        verdicts: &[(&Container, Verdict<'_>)],
    ) -> Option<Step> {
        for (_, verdict) in verdicts {
            if let Verdict::Discard(instance) = verdict
                && let Some(step) = self.ready(remove(instance))
            {
                return Some(step);
            }
        }
        let observed = self.observed;
        let unstartable = observed
            .instances
            .iter()
            .filter(|instance| matches!(instance.state, State::Created | State::Removing));
        for instance in unstartable {
            let newest = observed
                .instances_of(&instance.name)
                .first()
                .is_some_and(|newest| newest.id == instance.id);
            if (!newest || pod.container(&instance.name).is_none())
                && let Some(step) = self.ready(remove(instance))
            {
                return Some(step);
            }
        }
        None
    }

    /// What one container needs next, if it can be done now.
    fn advance(
        &mut self,
        pod: &Pod,
        container: &Container,
        verdict: &Verdict<'_>,
        sandbox: &Sandbox,
    ) -> Option<Step> {
        match verdict {
            Verdict::Keep | Verdict::Ended { .. } | Verdict::Stop(..) | Verdict::Discard(_) => None,
            Verdict::Start(instance) => self.ready(Step::StartContainer {
                container: container.name.clone(),
                id: instance.id.clone(),
                hash: container_hash(pod, container),
            }),
            Verdict::Make {
                due,
                quick_restarts,
            } => {
                if !self.is_due(*due) {
                    return None;
                }
                if let Some(wanted) = self.image_step(container) {
                    return wanted.and_then(|step| self.ready(step));
                }
                let attempts = self
                    .observed
                    .instances_of(&container.name)
                    .first()
                    .map(|newest| newest.attempt.saturating_add(1));
                self.ready(Step::CreateContainer {
                    container: container.name.clone(),
                    attempt: attempts.unwrap_or(0),
                    hash: container_hash(pod, container),
                    sandbox: sandbox.id.clone(),
                    quick_restarts: *quick_restarts,
                })
            }
        }
    }

    /// What must be done about a container's image before it can be made: `None` nothing, `Some(None)` wait.
    fn image_step(&mut self, container: &Container) -> Option<Option<Step>> {
        let (name, image) = (container.name.clone(), container.image.clone());
        let Some(seen) = self.history.image(container) else {
            return Some(Some(Step::InspectImage {
                container: name,
                image,
            }));
        };
        match container.image_pull_policy {
            ImagePullPolicy::Never if !seen.present => {
                let due = self.is_due(backoff::after(seen.at, backoff::delay(seen.misses)));
                Some(due.then_some(Step::InspectImage {
                    container: name,
                    image,
                }))
            }
            ImagePullPolicy::Always if !seen.pulled => Some(Some(Step::PullImage {
                container: name,
                image,
            })),
            ImagePullPolicy::IfNotPresent if !seen.present => Some(Some(Step::PullImage {
                container: name,
                image,
            })),
            ImagePullPolicy::Always | ImagePullPolicy::IfNotPresent | ImagePullPolicy::Never => {
                None
            }
        }
    }

    /// Removes exited instances but the newest of each container of the spec.
    fn prune(&mut self, pod: &Pod) -> Option<Step> {
        let observed = self.observed;
        for instance in observed
            .instances
            .iter()
            .filter(|instance| instance.exit().is_some())
        {
            let newest_exited = observed
                .instances_of(&instance.name)
                .into_iter()
                .find(|other| other.exit().is_some());
            let kept = pod.container(&instance.name).is_some()
                && newest_exited.is_some_and(|kept| kept.id == instance.id);
            if !kept && let Some(step) = self.ready(remove(instance)) {
                return Some(step);
            }
        }
        None
    }
}

fn stop_one(instance: &Instance, why: StopReason) -> Stop {
    Stop {
        container: instance.name.clone(),
        id: instance.id.clone(),
        why,
    }
}

/// Stops those that run; `None` when none does.
fn stop<'o>(
    instances: impl Iterator<Item = &'o Instance>,
    why: StopReason,
    grace: Duration,
) -> Option<Step> {
    let running = instances.filter(|instance| instance.is_running());
    let containers: Vec<Stop> = running.map(|instance| stop_one(instance, why)).collect();
    (!containers.is_empty()).then_some(Step::StopContainers { containers, grace })
}

fn remove(instance: &Instance) -> Step {
    Step::RemoveContainer {
        container: instance.name.clone(),
        id: instance.id.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
