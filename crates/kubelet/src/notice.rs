//! What a worker tells of its pod while it works: for people who watch, not for decisions.

use std::time::{Duration, SystemTime};

use berth_pod::spec::ContainerId;

/// Something that happened to a pod.
#[derive(Debug, Clone)]
pub struct Notice {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// The engine was asked for the pod for the first time. Told before anything else happens to it.
    Looked {
        /// Whether there was something of it: a sandbox or a container, running or not.
        there: bool,
    },
    /// The sandbox runs.
    SandboxStarted {
        /// The pod's address, unless it has the host's network.
        ip: Option<String>,
    },
    /// An image is being pulled.
    Pulling {
        /// Its name.
        image: String,
    },
    /// How the pull goes.
    PullProgress {
        /// Its name.
        image: String,
        /// Bytes that are there.
        done: u64,
        /// Bytes in all, as far as the registry has told.
        total: u64,
        /// Layers that are finished.
        layers_done: usize,
        /// Layers in all, as far as is known.
        layers: usize,
        /// What the engine last said.
        status: String,
    },
    /// The image is there.
    Pulled {
        /// Its name.
        image: String,
        /// How long it took.
        took: Duration,
    },
    /// A container runs that did not before.
    Started {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: ContainerId,
        /// Which instance.
        attempt: u32,
    },
    /// A container runs and did so before we came.
    Found {
        /// Its name in the pod.
        container: String,
        /// Its ID.
        id: ContainerId,
    },
    /// A container has ended.
    Exited {
        /// Its name in the pod.
        container: String,
        /// Its exit code.
        exit_code: i64,
        /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`.
        reason: String,
        /// The engine's words, when it could not be started.
        message: String,
    },
    /// Something waits before it is tried again.
    Waiting {
        /// The container it is about, if it is about one.
        container: Option<String>,
        /// `CrashLoopBackOff`, `ImagePullBackOff`, …
        reason: String,
        /// When it is tried again.
        until: SystemTime,
    },
    /// A container is being stopped.
    Stopping {
        /// Its name in the pod.
        container: String,
        /// How long it gets.
        grace: Duration,
        /// Why, in words.
        why: String,
    },
    /// An operation failed; it will be tried again, or the pod waits for a change.
    Failed {
        /// The container it is about, if it is about one.
        container: Option<String>,
        /// What failed and why.
        message: String,
    },
    /// Somebody else has removed the pod while it was to run. What is left of it goes, too.
    RemovedElsewhere,
    /// Everything of the pod is removed.
    Removed,
}
