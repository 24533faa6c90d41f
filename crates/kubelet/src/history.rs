//! What the worker of one pod remembers of its own steps, as far as the engine cannot tell.
//!
//! Owns the bookkeeping behind back-off: failures in a row, how often a container was restarted in quick succession, and what was
//! found out about images. Refuses to decide anything. It may be lost at any time: an empty history makes [`crate::decide`] look
//! again and, for restarts, fall back to the attempt number that rides on the container.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::backoff;
use crate::decide::Step;
use crate::hash::SpecHash;
use crate::observed::Instance;
use crate::pod::Container;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// [`Step::InspectImage`] ended: whether the engine has the image.
    Image {
        /// Whether it is there.
        present: bool,
    },
    /// It failed; the text says why.
    Failed(String),
    /// It was not even tried, because the pod asks for what cannot be: for instance `runAsNonRoot` with an image that runs as root.
    Misconfigured(String),
}

/// Memory of one pod's worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    failures: BTreeMap<Subject, Failure>,
    images: BTreeMap<String, ImageSeen>,
    containers: BTreeMap<String, Made>,
    sandbox: Option<Made>,
}

/// What a failure is about. A later success about the same forgets it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Sandbox,
    Stop,
    Remove(String),
    Image(String),
    Create(String),
    Start(String),
}

/// Failures in a row about one subject.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    /// What was tried: an image or a hash. A failure counts only for the same again.
    pub(crate) about: String,
    pub(crate) count: u32,
    pub(crate) at: SystemTime,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Failure {
    /// When the next try is due.
    pub(crate) fn due(&self) -> SystemTime {
        backoff::after(self.at, backoff::delay(self.count))
    }
}

/// What is known of a container's image since the last instance was made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageSeen {
    pub(crate) image: String,
    pub(crate) present: bool,
    /// Whether it was pulled, not only found.
    pub(crate) pulled: bool,
    pub(crate) at: SystemTime,
    /// How often in a row it was looked for in vain.
    pub(crate) misses: u32,
}

/// The last instance made of a container, or of the sandbox.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    hash: SpecHash,
    attempt: u32,
    /// How many quick restarts led to it.
    quick_restarts: u32,
    at: SystemTime,
}

impl Step {
    /// What a failure of this step is about, and what was tried.
    pub(crate) fn subject(&self) -> Option<(Subject, String)> {
        Some(match self {
            Self::CreateSandbox { hash, .. } => (Subject::Sandbox, hash.to_string()),
            Self::StopContainers { .. } => (Subject::Stop, String::new()),
            Self::RemoveContainer { id, .. } => (Subject::Remove(id.0.clone()), String::new()),
            Self::StopSandbox { id } | Self::RemoveSandbox { id } => {
                (Subject::Remove(id.0.clone()), String::new())
            }
            Self::InspectImage { container, image } | Self::PullImage { container, image } => {
                (Subject::Image(container.clone()), image.clone())
            }
            Self::CreateContainer {
                container, hash, ..
            } => (Subject::Create(container.clone()), hash.to_string()),
            Self::StartContainer {
                container, hash, ..
            } => (Subject::Start(container.clone()), hash.to_string()),
            Self::Wait { .. } | Self::Settled | Self::Finished { .. } | Self::Gone => return None,
        })
    }

    /// The reason Kubernetes gives when this step fails.
    fn failure_reason(&self, misconfigured: bool) -> &'static str {
        match self {
            Self::CreateSandbox { .. } => "CreatePodSandboxError",
            Self::StopContainers { .. } | Self::RemoveContainer { .. } => "KillContainerError",
            Self::StopSandbox { .. } | Self::RemoveSandbox { .. } => "KillPodSandboxError",
            Self::InspectImage { .. } => "ImageInspectError",
            Self::PullImage { .. } => "ErrImagePull",
            Self::CreateContainer { .. } if misconfigured => "CreateContainerConfigError",
            Self::CreateContainer { .. } => "CreateContainerError",
            Self::StartContainer { .. } => "RunContainerError",
            Self::Wait { .. } | Self::Settled | Self::Finished { .. } | Self::Gone => "Unknown",
        }
    }
}

impl History {
    /// Remembers how a step ended. To be called once for each step that was carried out, in order.
    pub fn record(&mut self, step: &Step, outcome: &Outcome, now: SystemTime) {
        let Some((subject, about)) = step.subject() else {
            return;
        };
        let failed = match outcome {
            Outcome::Failed(message) => Some((message, false)),
            Outcome::Misconfigured(message) => Some((message, true)),
            Outcome::Done | Outcome::Image { .. } => None,
        };
        match failed {
            Some((message, misconfigured)) => {
                let earlier = self
                    .failures
                    .get(&subject)
                    .filter(|failure| failure.about == about);
                let count = earlier.map_or(0, |failure| failure.count).saturating_add(1);
                let reason = step.failure_reason(misconfigured);
                let message = message.clone();
                self.failures.insert(
                    subject,
                    Failure {
                        about,
                        count,
                        at: now,
                        reason,
                        message,
                    },
                );
            }
            // Finding out that a pull is needed does not end a series of failed pulls.
            None if matches!(step, Step::InspectImage { .. }) => {
                self.forget_failed_inspect(&subject)
            }
            None => {
                self.failures.remove(&subject);
            }
        }
        self.record_facts(step, outcome, now);
    }

    fn forget_failed_inspect(&mut self, subject: &Subject) {
        if self
            .failures
            .get(subject)
            .is_some_and(|failure| failure.reason == "ImageInspectError")
        {
            self.failures.remove(subject);
        }
    }

    fn record_facts(&mut self, step: &Step, outcome: &Outcome, now: SystemTime) {
        match (step, outcome) {
            (Step::InspectImage { container, image }, Outcome::Image { present }) => {
                let earlier = self
                    .images
                    .get(container)
                    .filter(|seen| seen.image == *image);
                let misses = if *present {
                    0
                } else {
                    earlier.map_or(0, |seen| seen.misses).saturating_add(1)
                };
                let seen = ImageSeen {
                    image: image.clone(),
                    present: *present,
                    pulled: false,
                    at: now,
                    misses,
                };
                self.images.insert(container.clone(), seen);
            }
            (
                Step::PullImage { container, image },
                Outcome::Done | Outcome::Image { present: true },
            ) => {
                let seen = ImageSeen {
                    image: image.clone(),
                    present: true,
                    pulled: true,
                    at: now,
                    misses: 0,
                };
                self.images.insert(container.clone(), seen);
            }
            // Somebody may bring the image in another way: looked for again before the next pull.
            (Step::PullImage { container, .. }, _) => {
                self.images.remove(container);
            }
            (
                Step::CreateContainer {
                    container,
                    attempt,
                    hash,
                    quick_restarts,
                    ..
                },
                outcome,
            ) => {
                // Used up, or perhaps the reason for the failure: looked at anew for the next instance.
                self.images.remove(container);
                if *outcome == Outcome::Done {
                    let made = Made {
                        hash: *hash,
                        attempt: *attempt,
                        quick_restarts: *quick_restarts,
                        at: now,
                    };
                    self.containers.insert(container.clone(), made);
                    self.failures.remove(&Subject::Start(container.clone()));
                    self.failures.remove(&Subject::Image(container.clone()));
                }
            }
            (Step::CreateSandbox { attempt, hash }, Outcome::Done) => {
                let quick = match &self.sandbox {
                    Some(made) if made.hash == *hash && lasted(made.at, now) < backoff::RESET => {
                        made.quick_restarts.saturating_add(1)
                    }
                    _ => 0,
                };
                self.sandbox = Some(Made {
                    hash: *hash,
                    attempt: *attempt,
                    quick_restarts: quick,
                    at: now,
                });
            }
            _ => {}
        }
    }

    /// The failure that stands about a subject, if it was about the same thing.
    pub(crate) fn failure(&self, subject: &Subject, about: &str) -> Option<&Failure> {
        self.failures
            .get(subject)
            .filter(|failure| failure.about == about)
    }

    /// What is known of a container's image.
    pub(crate) fn image(&self, container: &Container) -> Option<&ImageSeen> {
        self.images
            .get(&container.name)
            .filter(|seen| seen.image == container.image)
    }

    /// When a sandbox may be made in place of one that ended: at once the first time, then with growing delays.
    pub(crate) fn sandbox_due(&self, hash: SpecHash) -> SystemTime {
        match &self.sandbox {
            Some(made) if made.hash == hash => {
                backoff::after(made.at, backoff::delay(made.quick_restarts))
            }
            _ => SystemTime::UNIX_EPOCH,
        }
    }

    /// Which of the pod's sandboxes the next one is, as far as is remembered.
    pub(crate) fn next_sandbox_attempt(&self) -> u32 {
        self.sandbox
            .as_ref()
            .map_or(0, |made| made.attempt.saturating_add(1))
    }

    /// When an exited instance may be restarted, and how many quick restarts the next instance has behind it.
    ///
    /// The first restart is immediate. After that the delay counts from the exit: 10 s, 20 s and so on. An instance that ran for ten
    /// minutes starts the series anew. How many quick restarts an instance has behind it is remembered; when it is not, its attempt
    /// number is the most it can be.
    pub(crate) fn restart(
        &self,
        instance: &Instance,
        hash: SpecHash,
        now: SystemTime,
    ) -> (SystemTime, u32) {
        let made = self
            .containers
            .get(&instance.name)
            .filter(|made| made.hash == hash && made.attempt == instance.attempt);
        let ended = instance.ended_at().unwrap_or(SystemTime::UNIX_EPOCH);
        let started = instance.exit().and_then(|exit| exit.started_at);
        if started.is_some_and(|started| lasted(started, ended) >= backoff::RESET) {
            return (SystemTime::UNIX_EPOCH, 1);
        }
        let quick = made.map_or(instance.attempt, |made| made.quick_restarts);
        // An engine whose clock is ahead must not hold a restart back for that long.
        let from = if ended <= now {
            ended
        } else {
            made.map_or(SystemTime::UNIX_EPOCH, |made| made.at)
        };
        (
            backoff::after(from, backoff::delay(quick)),
            quick.saturating_add(1),
        )
    }
}

fn lasted(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}
