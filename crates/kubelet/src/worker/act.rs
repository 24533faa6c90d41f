//! The loop of one worker, and how each step is carried out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use berth_docker::pull::DEFAULT_STUCK_AFTER;
use berth_pod::config::InSandbox;
use berth_pod::image::{self, ImageName, PullProgress, PullRequest};
use berth_pod::spec::{ContainerId, SandboxId};
use tokio::sync::{Notify, OnceCell, watch};

use super::{FIRST_PAUSE, LAST_PAUSE, Outcome, RELIST, Shared, tell};
use crate::decide::{Step, StopReason, Wanted, decide};
use crate::env::Facts;
use crate::history::{self, History};
use crate::notice::What;
use crate::observed::{self, Instance, Observed, State};
use crate::pod::{Pod, VolumeSource};
use crate::ran::Ran;
use crate::status::{self, ContainerState};
use crate::{translate, volume};

/// What is known of the host, found out when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Host(OnceCell<HostFacts>);

#[derive(Debug)]
struct HostFacts {
    name: String,
    memory: u64,
    address: IpAddr,
    is_local: bool,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    pod: Pod,
    wake: Arc<Notify>,
    removal: watch::Receiver<Option<Option<u32>>>,
    /// Whether the pod had finished before it was to be removed.
    succeeded: Option<bool>,
    history: History,
    observed: Observed,
    /// What has been told of each instance.
    told: BTreeMap<observed::ContainerId, State>,
    looked: bool,
    ran: Ran,
    /// Whether somebody else has removed the pod.
    removed_elsewhere: bool,
    /// Until when something waits, as told last.
    waiting: Option<SystemTime>,
}

/// What to do after a step.
enum Next {
    Decide,
    Look,
    Rest { until: Option<SystemTime> },
    End(Outcome),
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        pod: Pod,
        wake: Arc<Notify>,
        removal: watch::Receiver<Option<Option<u32>>>,
        succeeded: Option<bool>,
    ) -> Self {
        Self {
            shared,
            pod,
            wake,
            removal,
            succeeded,
            history: History::default(),
            observed: Observed::default(),
            told: BTreeMap::new(),
            looked: false,
            ran: Ran::default(),
            removed_elsewhere: false,
            waiting: None,
        }
    }

    pub(super) async fn run(mut self) -> Outcome {
        self.look().await;
        let mut fresh = true;
        loop {
            let now = SystemTime::now();
            let ordered = *self.removal.borrow_and_update();
            // What was made after the others went has to go, too.
            let removal = ordered.or(self.removed_elsewhere.then_some(None));
            let wanted = match removal {
                Some(seconds) => {
                    let seconds = seconds.unwrap_or(self.pod.spec.termination_grace_period_seconds);
                    Wanted::Delete {
                        grace: Duration::from_secs(seconds.into()),
                    }
                }
                None => Wanted::Run(&self.pod),
            };
            let step = decide(wanted, &self.observed, &self.history, now);
            tracing::debug!(pod = %self.pod.metadata.name, ?step, "next step");
            if step == Step::Gone && !fresh {
                // Somebody else may have made something while what was known was removed.
                self.look().await;
                fresh = true;
                continue;
            }
            let next = match step {
                // A shorter grace must not wait for the longer one; the engine bears being asked twice. A pull that nobody waits for any
                // more ends with the call.
                Step::StopContainers { .. } | Step::PullImage { .. } => {
                    let mut removals = self.removal.clone();
                    tokio::select! {
                        next = self.perform(&step) => next,
                        _ = removals.changed() => Next::Look,
                    }
                }
                _ => self.perform(&step).await,
            };
            fresh = !matches!(next, Next::Decide);
            match next {
                Next::Decide => {}
                Next::Look => self.look().await,
                Next::Rest { until } => {
                    self.rest(until).await;
                    self.look().await;
                }
                Next::End(outcome) => return outcome,
            }
        }
    }

    async fn tell(&self, what: What) {
        tell(&self.shared, &self.pod, what).await;
    }

    /// Reads the pod from the engine; tries until the engine answers.
    async fn look(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self
                .shared
                .runtime
                .observe(Some(self.pod.metadata.uid.as_str()))
                .await
            {
                Ok(seen) => {
                    self.observed = translate::observed(&seen);
                    break;
                }
                Err(error) if pause == FIRST_PAUSE => {
                    self.tell(What::Failed {
                        container: None,
                        message: error.to_string(),
                    })
                    .await;
                }
                Err(error) => tracing::debug!(%error, "still no answer"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        if !self.looked {
            let there = !self.observed.is_empty();
            self.tell(What::Looked { there }).await;
        }
        self.tell_changes().await;
        self.looked = true;
        let removed = self.ran.look(&self.pod, &self.observed);
        let is_ordered = self.removal.borrow().is_some();
        if removed && !is_ordered && !self.removed_elsewhere {
            self.removed_elsewhere = true;
            self.tell(What::RemovedElsewhere).await;
        }
    }

    /// Tells what has become of the containers since the last time.
    async fn tell_changes(&mut self) {
        let mut news = Vec::new();
        for instance in &self.observed.instances {
            let before = self
                .told
                .insert(instance.id.clone(), instance.state.clone());
            let container = instance.name.clone();
            let id = ContainerId::new(&*instance.id.0);
            match (&instance.state, before) {
                (State::Running { .. }, Some(State::Running { .. })) => {}
                (State::Running { .. }, _) if !self.looked => {
                    news.push(What::Found { container, id })
                }
                (State::Running { .. }, _) => news.push(What::Started {
                    container,
                    id,
                    attempt: instance.attempt,
                }),
                (State::Exited(_), None) if !self.looked => {}
                (State::Exited(_), Some(State::Exited(_))) => {}
                (State::Exited(exit), before) => {
                    // It ran and ended between two looks.
                    if exit.started_at.is_some() && !matches!(before, Some(State::Running { .. })) {
                        news.push(What::Started {
                            container: container.clone(),
                            id,
                            attempt: instance.attempt,
                        });
                    }
                    let reason = status::exit_reason(exit).to_owned();
                    news.push(What::Exited {
                        container,
                        exit_code: exit.exit_code,
                        reason,
                        message: exit.error.clone(),
                    });
                }
                (State::Created | State::Removing, _) => {}
            }
        }
        let ids: Vec<&observed::ContainerId> = self
            .observed
            .instances
            .iter()
            .map(|instance| &instance.id)
            .collect();
        self.told.retain(|id, _| ids.contains(&id));
        for what in news {
            self.tell(what).await;
        }
    }

    /// Waits for an event, an order, the time, or the slow relist.
    async fn rest(&mut self, until: Option<SystemTime>) {
        // An unread receiver is fine: nobody waits for this pod in particular.
        let _ = self.shared.settled.send(self.pod.metadata.uid.to_string());
        let limit = until.map_or(RELIST, |until| {
            until
                .duration_since(SystemTime::now())
                .unwrap_or_default()
                .min(RELIST)
        });
        tokio::select! {
            () = self.wake.notified() => {}
            _ = self.removal.changed() => {}
            () = tokio::time::sleep(limit) => {}
        }
    }

    /// Carries out one step and remembers how it went.
    async fn perform(&mut self, step: &Step) -> Next {
        let done = match step {
            Step::Settled => return Next::Rest { until: None },
            Step::Wait { until } => return self.wait(*until).await,
            Step::Finished { succeeded } => {
                return Next::End(Outcome::Finished {
                    succeeded: *succeeded,
                });
            }
            Step::Gone => return self.gone().await,
            Step::CreateSandbox { attempt, hash } => {
                self.create_sandbox(*attempt, &hash.to_string()).await
            }
            Step::StopSandbox { id } => self.stop_sandbox(id).await,
            Step::RemoveSandbox { id } => self.remove_sandbox(id).await,
            Step::InspectImage { image, .. } => self.inspect_image(image).await,
            Step::PullImage { container, image } => self.pull_image(container, image).await,
            Step::CreateContainer {
                container,
                attempt,
                hash,
                sandbox,
                ..
            } => {
                self.create_container(container, *attempt, *hash, sandbox)
                    .await
            }
            Step::StartContainer { container, id, .. } => self.start_container(container, id).await,
            Step::StopContainers { containers, grace } => {
                let mut failed = None;
                for stop in containers {
                    let why = match stop.why {
                        StopReason::Deleted => "the pod is being removed",
                        StopReason::Changed => "its spec has changed",
                        StopReason::SandboxLost => "its sandbox is being replaced",
                        StopReason::NotWanted => "it is no longer in the spec",
                        StopReason::Superseded => "a newer instance runs",
                    };
                    self.tell(What::Stopping {
                        container: stop.container.clone(),
                        grace: *grace,
                        why: why.to_owned(),
                    })
                    .await;
                }
                let runtime = &self.shared.runtime;
                let mut stops = tokio::task::JoinSet::new();
                for stop in containers {
                    let (runtime, id, grace) =
                        (runtime.clone(), ContainerId::new(&*stop.id.0), *grace);
                    stops.spawn(async move { runtime.stop_container(&id, grace).await });
                }
                while let Some(result) = stops.join_next().await {
                    match result {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => failed = Some(Failed::from(error)),
                        Err(error) => std::panic::resume_unwind(error.into_panic()),
                    }
                }
                match failed {
                    Some(failed) => Err(failed),
                    None => Ok(Done {
                        outcome: history::Outcome::Done,
                        look: true,
                    }),
                }
            }
            Step::RemoveContainer { id, .. } => self.remove_container(id).await,
        };
        let now = SystemTime::now();
        match done {
            Ok(Done { outcome, look }) => {
                self.history.record(step, &outcome, now);
                if look {
                    return Next::Look;
                }
                self.ran.step(&self.pod, step, &self.observed);
                self.tell_changes().await;
                Next::Decide
            }
            Err(Failed {
                message,
                misconfigured,
            }) => {
                let outcome = if misconfigured {
                    history::Outcome::Misconfigured(message.clone())
                } else {
                    history::Outcome::Failed(message.clone())
                };
                self.history.record(step, &outcome, now);
                let container = match step {
                    Step::InspectImage { container, .. }
                    | Step::PullImage { container, .. }
                    | Step::CreateContainer { container, .. }
                    | Step::StartContainer { container, .. }
                    | Step::RemoveContainer { container, .. } => Some(container.clone()),
                    _ => None,
                };
                self.tell(What::Failed { container, message }).await;
                Next::Look
            }
        }
    }

    async fn wait(&mut self, until: SystemTime) -> Next {
        if self.waiting != Some(until) {
            self.waiting = Some(until);
            let seen = status::status(&self.pod, &self.observed, &self.history, SystemTime::now());
            for container in &seen.containers {
                if let ContainerState::Waiting {
                    reason,
                    until: Some(until),
                    ..
                } = container.state
                {
                    let (container, reason) = (Some(container.name.clone()), reason.to_owned());
                    self.tell(What::Waiting {
                        container,
                        reason,
                        until,
                    })
                    .await;
                }
            }
        }
        Next::Rest { until: Some(until) }
    }

    /// Removes what is left of a pod without containers.
    async fn gone(&mut self) -> Next {
        match self
            .shared
            .runtime
            .remove_volumes(&translate::identity(&self.pod))
            .await
        {
            Ok(()) => {
                self.tell(What::Removed).await;
                Next::End(Outcome::Removed {
                    succeeded: self.succeeded,
                })
            }
            Err(error) => {
                self.tell(What::Failed {
                    container: None,
                    message: error.to_string(),
                })
                .await;
                Next::Rest {
                    until: SystemTime::now().checked_add(LAST_PAUSE),
                }
            }
        }
    }

    async fn create_sandbox(&mut self, attempt: u32, hash: &str) -> Result<Done, Failed> {
        let image = self.shared.options.sandbox_image.as_deref();
        if let Some(image) = image {
            // Making a sandbox pulls what is missing, too, but has to be waited for then.
            let mut removals = self.removal.clone();
            tokio::select! {
                provided = self.provide(image) => provided?,
                _ = removals.changed() => return Ok(Done::LOOK),
            }
        }
        let resolver = match self.host().await?.is_local {
            true => std::fs::read_to_string("/etc/resolv.conf").ok(),
            false => None,
        };
        let spec = translate::sandbox(&self.pod, attempt, hash, image, resolver.as_deref());
        let id = self.shared.runtime.run_sandbox(&spec).await?;
        let Some(berth_pod::observe::Observed::Sandbox(sandbox)) =
            self.shared.runtime.look_at(id.as_str()).await?
        else {
            return Ok(Done::LOOK);
        };
        let ip = sandbox.ip.clone();
        let mut seen = translate::observed(&[berth_pod::observe::Observed::Sandbox(sandbox)]);
        self.observed.sandboxes.append(&mut seen.sandboxes);
        self.tell(What::SandboxStarted { ip }).await;
        // Of a pod that has run, this may have been made just after somebody else removed the rest.
        Ok(Done {
            look: !self.ran.is_empty(),
            ..Done::DONE
        })
    }

    async fn stop_sandbox(&mut self, id: &observed::SandboxId) -> Result<Done, Failed> {
        self.shared
            .runtime
            .stop_sandbox(&SandboxId::new(&*id.0))
            .await?;
        Ok(Done::LOOK)
    }

    async fn remove_sandbox(&mut self, id: &observed::SandboxId) -> Result<Done, Failed> {
        self.shared
            .runtime
            .remove_sandbox(&SandboxId::new(&*id.0))
            .await?;
        self.observed.sandboxes.retain(|sandbox| sandbox.id != *id);
        Ok(Done::DONE)
    }

    async fn inspect_image(&mut self, image: &str) -> Result<Done, Failed> {
        let present = self.is_present(image).await?;
        Ok(Done {
            outcome: history::Outcome::Image { present },
            look: false,
        })
    }

    async fn is_present(&self, image: &str) -> Result<bool, Failed> {
        let reference = image.parse().map_err(berth_pod::Error::from)?;
        let images = self.shared.runtime.images();
        let found = images.status(&reference).await;
        Ok(found.map_err(berth_pod::Error::from)?.is_some())
    }

    /// Pulls an image that the engine lacks.
    async fn provide(&self, image: &str) -> Result<(), Failed> {
        if self.is_present(image).await? {
            return Ok(());
        }
        self.pull(image).await
    }

    async fn pull_image(&mut self, container: &str, image: &str) -> Result<Done, Failed> {
        self.pull(image).await?;
        tracing::debug!(%container, %image, "pulled");
        Ok(Done::DONE)
    }

    /// Dropping the future ends the pull.
    async fn pull(&self, image: &str) -> Result<(), Failed> {
        self.tell(What::Pulling {
            image: image.to_owned(),
        })
        .await;
        let begun = Instant::now();
        let name: ImageName = image.parse().map_err(berth_pod::Error::from)?;
        let credentials = image::keychain_credentials(&name)
            .await
            .map_err(|error| Failed {
                message: format!("the registry credentials for {image} cannot be read: {error}"),
                misconfigured: false,
            })?;
        let (shared, pod) = (self.shared.clone(), &self.pod);
        let notices = |progress: &PullProgress| {
            let what = What::PullProgress {
                image: image.to_owned(),
                done: progress.downloaded(),
                total: progress.total(),
                layers_done: progress.complete(),
                layers: progress.layers.len(),
                status: progress.status.clone(),
            };
            // Progress is shown or dropped at once; see `tell`.
            let _ = shared.notices.try_send(crate::notice::Notice {
                namespace: pod.metadata.namespace.clone(),
                pod: pod.metadata.name.clone(),
                uid: pod.metadata.uid.to_string(),
                what,
            });
        };
        let request = PullRequest {
            name,
            credentials,
            stuck_after: Some(DEFAULT_STUCK_AFTER),
        };
        let images = self.shared.runtime.images();
        let pulled = images.pull(request, notices).await;
        pulled.map_err(berth_pod::Error::from)?;
        self.tell(What::Pulled {
            image: image.to_owned(),
            took: begun.elapsed(),
        })
        .await;
        Ok(())
    }

    async fn create_container(
        &mut self,
        name: &str,
        attempt: u32,
        hash: crate::hash::SpecHash,
        sandbox: &observed::SandboxId,
    ) -> Result<Done, Failed> {
        let Some(container) = self.pod.container(name) else {
            return Ok(Done::LOOK);
        };
        let host = self.host().await?;
        for mount in &container.volume_mounts {
            if let Some(VolumeSource::HostPath(path)) =
                self.pod.volume(&mount.name).map(|volume| &volume.source)
            {
                volume::prepare(path, host.is_local).map_err(|message| Failed {
                    message,
                    misconfigured: true,
                })?;
            }
        }
        let ip = self
            .observed
            .current_sandbox()
            .and_then(|sandbox| sandbox.ip);
        let facts = Facts {
            pod_ip: ip.unwrap_or(host.address),
            host_ip: host.address,
            node_name: host.name.clone(),
        };
        let spec = translate::container(
            &self.pod,
            container,
            attempt,
            &hash.to_string(),
            &facts,
            host.memory,
        );
        let image = container.image.clone();
        let pod = translate::identity(&self.pod);
        let sandbox_id = SandboxId::new(&*sandbox.0);
        let id = self
            .shared
            .runtime
            .create_container(&spec, &pod, &InSandbox::new(&sandbox_id))
            .await?;
        self.observed.instances.push(Instance {
            id: observed::ContainerId(id.to_string()),
            sandbox: sandbox.clone(),
            name: name.to_owned(),
            attempt,
            created_at: Some(SystemTime::now()),
            state: State::Created,
            image,
            image_id: String::new(),
            hash: Some(hash),
        });
        Ok(Done::DONE)
    }

    async fn start_container(
        &mut self,
        name: &str,
        id: &observed::ContainerId,
    ) -> Result<Done, Failed> {
        self.shared
            .runtime
            .start_container(&ContainerId::new(&*id.0))
            .await?;
        tracing::debug!(container = name, %id, "started");
        if let Some(instance) = self
            .observed
            .instances
            .iter_mut()
            .find(|instance| instance.id == *id)
        {
            instance.state = State::Running {
                started_at: Some(SystemTime::now()),
            };
        }
        Ok(Done::DONE)
    }

    async fn remove_container(&mut self, id: &observed::ContainerId) -> Result<Done, Failed> {
        self.shared
            .runtime
            .remove_container(&ContainerId::new(&*id.0))
            .await?;
        self.observed
            .instances
            .retain(|instance| instance.id != *id);
        Ok(Done::DONE)
    }

    async fn host(&self) -> Result<&HostFacts, Failed> {
        let runtime = &self.shared.runtime;
        let facts =
            self.shared
                .host
                .0
                .get_or_try_init(async || -> Result<HostFacts, berth_pod::Error> {
                    let is_local = runtime.engine_process().await.is_some();
                    if is_local && let Some(facts) = local_facts() {
                        return Ok(facts);
                    }
                    let info = runtime.docker().info().await?;
                    let memory = u64::try_from(info.mem_total).unwrap_or_default();
                    // Where another host's engine can be reached from its containers is not known here.
                    Ok(HostFacts {
                        name: info.name,
                        memory,
                        address: Ipv4Addr::LOCALHOST.into(),
                        is_local,
                    })
                });
        Ok(facts.await?)
    }
}

/// The name, the memory and the address of this host; `None` when one cannot be read.
fn local_facts() -> Option<HostFacts> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()?
        .trim()
        .to_owned();
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(HostFacts {
        name,
        memory: kibibytes.saturating_mul(1024),
        address: local_address(),
        is_local: true,
    })
}

/// The address this host has towards the outside; the loopback's when it has no route.
fn local_address() -> IpAddr {
    // Connecting a datagram socket sends nothing; the kernel only picks the route.
    let towards = |local: &str, remote: &str| {
        let socket = std::net::UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    towards("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|| towards("[::]:0", "[2001:db8::1]:9"))
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// How a step went well.
struct Done {
    outcome: history::Outcome,
    /// Whether what it did has to be looked at, because it is not in `observed` yet.
    look: bool,
}

impl Done {
    const DONE: Self = Self {
        outcome: history::Outcome::Done,
        look: false,
    };
    const LOOK: Self = Self {
        outcome: history::Outcome::Done,
        look: true,
    };
}

/// How a step failed.
struct Failed {
    message: String,
    misconfigured: bool,
}

impl From<berth_pod::Error> for Failed {
    fn from(error: berth_pod::Error) -> Self {
        Self {
            message: error.to_string(),
            misconfigured: error.is_config(),
        }
    }
}
