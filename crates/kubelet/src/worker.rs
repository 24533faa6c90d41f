//! One worker per pod: the only one that touches that pod. It looks, asks [`crate::decide`], carries out the step, and waits for what happens next.
//!
//! Nothing polls: the engine's events wake the worker they are about, and a slow relist only guards against events that the engine lost.
//! The workers know the engine through berth-pod alone; what they may not know is who wants the pods and who reads the notices.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use berth_docker::events::{EventItem, EventsOptions};
use berth_docker::model::Filters;
use berth_pod::{Runtime, labels};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::notice::{Notice, What};
use crate::pod::Pod;

mod act;

/// How long a worker rests at most before it looks again without being told to.
const RELIST: Duration = Duration::from_secs(300);

/// How often workers look when the engine refuses to tell its events.
const BLIND_RELIST: Duration = Duration::from_secs(10);

/// Pauses between attempts to reach an engine that is away double from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// How many notices wait for a slow reader before the workers do.
const NOTICES: usize = 1024;

/// What is the same for all pods of this host.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The image of sandboxes; `None` is the built-in one.
    pub sandbox_image: Option<String>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All containers of the pod have ended for good; they are still there to be looked at.
    Finished {
        /// Whether all of them returned 0.
        succeeded: bool,
    },
    /// Everything of the pod has been removed.
    Removed {
        /// Whether it had finished before, and how.
        succeeded: Option<bool>,
    },
}

/// What a worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// There is nothing to be done for now: the containers run, or wait to be tried again. Reported each time it is so.
    Settled,
    /// The worker has ended.
    Ended(Outcome),
}

/// The workers of all pods. Dropping it ends them; the pods' containers go on.
#[derive(Debug)]
pub struct PodWorkers {
    shared: Arc<Shared>,
    tasks: JoinSet<(String, Outcome)>,
    running: BTreeMap<String, Handle>,
    finished: BTreeMap<String, (Pod, bool)>,
    settled: mpsc::UnboundedReceiver<String>,
    _events: Events,
}

#[derive(Debug)]
struct Handle {
    pod: Pod,
    task: AbortHandle,
    /// The grace period in seconds once the pod is to be removed; `Some(None)` is the pod's own.
    removal: watch::Sender<Option<Option<u32>>>,
}

/// What the workers share.
#[derive(Debug)]
struct Shared {
    runtime: Arc<Runtime>,
    options: Options,
    notices: mpsc::Sender<Notice>,
    settled: mpsc::UnboundedSender<String>,
    wakes: Mutex<HashMap<String, Arc<Notify>>>,
    host: act::Host,
}

impl Shared {
    fn wake(&self, uid: &str) {
        let wake = self
            .wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned();
        if let Some(wake) = wake {
            wake.notify_one();
        }
    }

    fn wake_all(&self) {
        self.wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .for_each(|wake| wake.notify_one());
    }
}

impl PodWorkers {
    /// Workers on the engine of `runtime`, and what they tell. They wait while nobody reads the notices; a dropped receiver is fine.
    ///
    /// Must be called within a tokio runtime.
    pub fn new(runtime: Arc<Runtime>, options: Options) -> (Self, mpsc::Receiver<Notice>) {
        let (notices, receiver) = mpsc::channel(NOTICES);
        let (settled_sender, settled) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            runtime,
            options,
            notices,
            settled: settled_sender,
            wakes: Mutex::default(),
            host: act::Host::default(),
        });
        let events = Events(tokio::spawn(dispatch(shared.clone())).abort_handle());
        let workers = Self {
            shared,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            settled,
            _events: events,
        };
        (workers, receiver)
    }

    /// Begins to run a pod, or to bring the one that runs to this spec.
    pub fn run(&mut self, pod: Pod) {
        self.leave(pod.metadata.uid.as_str());
        self.spawn(pod, None, None);
    }

    /// Stops a pod and removes everything of it. `grace` are the seconds its containers get; `None` is what the pod says. A shorter grace
    /// while it is being removed takes hold at once.
    pub fn delete(&mut self, uid: &str, grace: Option<u32>) {
        if let Some(handle) = self.running.get(uid) {
            handle.removal.send_replace(Some(grace));
            return;
        }
        if let Some((pod, succeeded)) = self.finished.remove(uid) {
            self.spawn(pod, Some(grace), Some(succeeded));
        }
    }

    /// Removes a pod that none of these workers has run.
    pub fn remove(&mut self, pod: Pod, grace: Option<u32>) {
        self.leave(pod.metadata.uid.as_str());
        self.spawn(pod, Some(grace), None);
    }

    fn spawn(&mut self, pod: Pod, removal: Option<Option<u32>>, succeeded: Option<bool>) {
        let uid = pod.metadata.uid.to_string();
        let wake = Arc::new(Notify::new());
        self.shared
            .wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.clone(), wake.clone());
        let (removal, removals) = watch::channel(removal);
        let worker = act::Worker::new(self.shared.clone(), pod.clone(), wake, removals, succeeded);
        let key = uid.clone();
        let task = self.tasks.spawn(async move { (key, worker.run().await) });
        self.running.insert(uid, Handle { pod, task, removal });
    }

    /// Lets go of a pod: its worker ends at once, its containers go on as they are.
    pub fn leave(&mut self, uid: &str) {
        self.shared
            .wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
        if let Some(handle) = self.running.remove(uid) {
            handle.task.abort();
        }
    }

    /// The UIDs of the pods that have a worker.
    pub fn uids(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// Whether no pod has a worker.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// What the next worker has to report; `None` when there is no worker. Cancel safe.
    pub async fn next(&mut self) -> Option<(String, Report)> {
        loop {
            let ended = tokio::select! {
                biased;
                Some(uid) = self.settled.recv(), if !self.tasks.is_empty() => {
                    if self.running.contains_key(&uid) {
                        return Some((uid, Report::Settled));
                    }
                    continue;
                }
                ended = self.tasks.join_next() => ended?,
            };
            let (uid, outcome) = match ended {
                Ok(ended) => ended,
                // Aborted by `leave`.
                Err(error) if error.is_cancelled() => continue,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            // A worker that ended just as another took its place is not heard.
            let Some(handle) = self
                .running
                .get(&uid)
                .filter(|handle| handle.task.is_finished())
            else {
                continue;
            };
            if let Outcome::Finished { succeeded } = outcome {
                self.finished
                    .insert(uid.clone(), (handle.pod.clone(), succeeded));
            }
            self.leave(&uid);
            return Some((uid, Report::Ended(outcome)));
        }
    }
}

/// The task that turns events into wakes; it ends with its owner.
#[derive(Debug)]
struct Events(AbortHandle);

impl Drop for Events {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn dispatch(shared: Arc<Shared>) {
    let docker = shared.runtime.docker();
    // Our clock is the engine's on one host; elsewhere the engine is asked for its own.
    let since_nanos = match docker.listener_process_id().await {
        Some(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|now| i64::try_from(now.as_nanos()).ok()),
        None => None,
    };
    let filters = Filters::new().kind("container").label(labels::POD_UID);
    let mut events = docker.events(EventsOptions {
        filters,
        since_nanos,
    });
    while let Some(item) = events.next().await {
        match item {
            Ok(EventItem::Event(event)) => {
                if let Some(uid) = event.actor.attributes.get(labels::POD_UID) {
                    shared.wake(uid);
                }
            }
            Ok(EventItem::Disconnected(error)) => {
                tracing::warn!("the engine's events stopped, trying again: {error}")
            }
            Ok(_) => shared.wake_all(),
            Err(error) => tracing::warn!(
                "the engine does not tell its events, so pods are looked at every 10 seconds: {error}"
            ),
        }
    }
    loop {
        tokio::time::sleep(BLIND_RELIST).await;
        shared.wake_all();
    }
}

/// Tells something of a pod. What only shows progress is dropped when nobody keeps up.
async fn tell(shared: &Shared, pod: &Pod, what: What) {
    let droppable = matches!(what, What::PullProgress { .. });
    let notice = Notice {
        namespace: pod.metadata.namespace.clone(),
        pod: pod.metadata.name.clone(),
        uid: pod.metadata.uid.to_string(),
        what,
    };
    // A reader that has gone away wants to know nothing.
    if droppable {
        let _ = shared.notices.try_send(notice);
    } else {
        let _ = shared.notices.send(notice).await;
    }
}
