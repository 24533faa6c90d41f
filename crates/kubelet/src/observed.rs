//! What is seen of one pod on the engine: plain data, the input of [`crate::decide`] and [`crate::status`].
//!
//! Owns the questions both ask of it (which sandbox counts, which instance of a container is the newest). Refuses to know how it was
//! found out. Times are the engine's, absent where it says nothing.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::hash::SpecHash;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The engine's id of a sandbox.
    SandboxId
}

id! {
    /// The engine's id of a container.
    ContainerId
}

/// Everything of one pod on the engine, in any order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Its sandboxes: one, unless a crash left more.
    pub sandboxes: Vec<Sandbox>,
    /// Its containers, of every sandbox and in every state.
    pub instances: Vec<Instance>,
}

/// A sandbox: what holds the pod's network and the other things its containers share.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// The engine's id.
    pub id: SandboxId,
    /// Which of the pod's sandboxes, from 0.
    pub attempt: u32,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// Whether it runs.
    pub running: bool,
    /// The pod's address; none while it does not run.
    pub ip: Option<IpAddr>,
    /// Its hash; none when it carries none that can be read, which counts as unchanged.
    pub hash: Option<SpecHash>,
}

/// One instance of a container. A restart makes a new one with the next attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The engine's id.
    pub id: ContainerId,
    /// The sandbox it is in.
    pub sandbox: SandboxId,
    /// Its name in the pod.
    pub name: String,
    /// Which instance, from 0: how often the container was restarted before.
    pub attempt: u32,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// Its state.
    pub state: State,
    /// The image as it was named.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its hash; none when it carries none that can be read, which counts as unchanged.
    pub hash: Option<SpecHash>,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Its process runs, or is paused.
    Running {
        /// Since when.
        started_at: Option<SystemTime>,
    },
    /// Its process has ended, or could not be started.
    Exited(Exit),
    /// The engine is removing it, or failed to.
    Removing,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// What it returned; 128 + the signal that ended it.
    pub exit_code: i64,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// The engine's words; not empty when the process could not be started.
    pub error: String,
    /// When it was started; none if it never was.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
}

impl Exit {
    /// Whether it ran and returned 0.
    pub fn succeeded(&self) -> bool {
        self.exit_code == 0 && (self.error.is_empty() || self.started_at.is_some())
    }
}

impl Observed {
    /// Whether there is nothing of the pod.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.instances.is_empty()
    }

    /// The sandbox that counts: the newest.
    pub fn current_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes
            .iter()
            .max_by_key(|sandbox| (sandbox.created_at, sandbox.attempt, &sandbox.id))
    }

    /// The instances of a container, newest first.
    pub fn instances_of(&self, name: &str) -> Vec<&Instance> {
        let mut instances: Vec<&Instance> = self
            .instances
            .iter()
            .filter(|instance| instance.name == name)
            .collect();
        instances.sort_by_key(|instance| {
            std::cmp::Reverse((instance.attempt, instance.created_at, &instance.id))
        });
        instances
    }
}

impl Instance {
    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether its process runs or ran; one that could not be started never did.
    pub(crate) fn has_run(&self) -> bool {
        self.is_running()
            || self
                .exit()
                .is_some_and(|exit| exit.error.is_empty() || exit.started_at.is_some())
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            State::Created | State::Running { .. } | State::Removing => None,
        }
    }

    /// Whether it was made from another spec than the one with this hash.
    pub fn is_changed(&self, hash: SpecHash) -> bool {
        self.hash.is_some_and(|own| own != hash)
    }

    /// When it ended; for one that could not be started, when it was made.
    pub(crate) fn ended_at(&self) -> Option<SystemTime> {
        self.exit()?.finished_at.or(self.created_at)
    }
}
