//! The complete runtime for pods: what both front doors ask for.
//!
//! Owns in which order things happen to one pod, and that what was begun ends: a call that changes something is carried out by a task of its own,
//! so it goes on when its caller hangs up. Calls that make or remove what belongs to a pod wait for each other; different pods never do, and
//! stopping waits for nobody but a start, since a stop may take as long as its grace. Reads come from the [`View`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use berth_docker::Docker;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::logs::Logs;
use crate::runtime::{Error, Runtime};
use crate::spec::{ContainerId, SandboxId};
use crate::stats::Roots;
use crate::view::View;
use usage::Meter;

mod containers;
mod exec;
mod limits;
mod logging;
mod network;
mod processes;
mod sandboxes;
mod usage;
mod users;

pub use exec::{ExecOutput, ExecSpec, Session, SessionEnd, Terminal};
pub use network::PodNetwork;
pub use usage::{ContainerUsage, PodMetrics, PodUsage};
pub use users::ProcessUser;
use users::Users;

/// The pods of one engine, with all that is known and done about them. Clones are the same.
#[derive(Debug, Clone)]
pub struct Pods(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Arc<Runtime>,
    view: View,
    work: TaskTracker,
    turns: Turns,
    meter: Arc<Meter>,
    users: Users,
    network: PodNetwork,
    /// Whose turn it is to take which sandbox into its network, or out of it.
    network_turns: Turns,
    /// Where the records of logs are.
    log_state: PathBuf,
    logs: OnceCell<Logs>,
    /// What goes on by itself for as long as there are pods.
    keepers: OnceLock<Vec<AbortOnDrop>>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Pods {
    /// Begins to look at the engine, and to write the logs of the containers that have a file of their own. `log_state` is a directory for one
    /// small record for each such container, which should be in memory. It is for one process at a time, and tells the next what it takes over.
    /// Must be called within a tokio runtime.
    ///
    /// Pods without the host's network join `network`.
    pub fn start(docker: Docker, log_state: PathBuf, network: PodNetwork) -> Self {
        let owner = log_state.display().to_string();
        let runtime = Arc::new(Runtime::new(docker).with_owner(owner));
        let view = View::start(runtime.clone());
        let meter = Arc::new(Meter::new(Roots::default()));
        let meter_keeper = tokio::spawn(usage::keep(meter.clone(), view.subscribe()));
        let pods = Self(Arc::new(Inner {
            view,
            runtime,
            work: TaskTracker::new(),
            turns: Turns::default(),
            meter,
            users: Users::default(),
            network,
            network_turns: Turns::default(),
            log_state,
            logs: OnceCell::new(),
            keepers: OnceLock::new(),
        }));
        let log_keeper = tokio::spawn(logging::keep(Arc::downgrade(&pods.0)));
        let mut keepers = vec![AbortOnDrop(log_keeper), AbortOnDrop(meter_keeper)];
        if pods.0.network.plugins().is_some() {
            let changes = pods.0.view.subscribe();
            let keeper = tokio::spawn(network::keep(Arc::downgrade(&pods.0), changes));
            keepers.push(AbortOnDrop(keeper));
        }
        // Set once, here.
        let _ = pods.0.keepers.set(keepers);
        pods
    }

    /// What is known of the pods.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// The engine behind them.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    fn docker(&self) -> &Docker {
        self.0.runtime.docker()
    }

    /// Waits until all that was begun has ended, at most for `patience`. True if it has.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.0.work.close();
        tokio::time::timeout(patience, self.0.work.wait())
            .await
            .is_ok()
    }

    /// Carries work to its end, whether its caller waits or not.
    async fn carry<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.0.work.spawn(work).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Away("berth is ending".to_owned())),
            },
        }
    }
}

/// Whose turn it is at which pod, or sandbox. One nobody works at takes no memory.
#[derive(Debug, Default)]
struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn.
    async fn of(&self, of: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(of).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    turns.insert(of.to_owned(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

fn no_sandbox(id: &SandboxId) -> Error {
    Error::NotFound(format!("there is no sandbox {id}"))
}

fn no_container(id: &ContainerId) -> Error {
    Error::NotFound(format!("there is no container {id}"))
}

/// The engine's "no such container" in the words of this crate.
fn found(error: Error, missing: impl FnOnce() -> Error) -> Error {
    match &error {
        Error::Docker(docker) if docker.is_not_found() => missing(),
        _ => error,
    }
}
