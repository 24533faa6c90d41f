//! Which containers' logs are written, and until when. How is [`Logs`]' business.
//!
//! A log is attached before its container is started and finished when it has ended; after a restart of berth the view says which containers
//! there are. Whoever asks for the state of a container that has ended is answered once its log is complete.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use super::{Inner, Pods};
use crate::logs::{ContainerLog, Error as LogError, Logs};
use crate::observe::Container;
use crate::runtime::Error;
use crate::spec::ContainerId;
use crate::view::{ChangeKind, Notice};

impl Pods {
    /// The log files, once the engine has said where its own are.
    async fn logs(&self) -> Result<&Logs, Error> {
        self.0
            .logs
            .get_or_try_init(async || {
                let runtime = &self.0.runtime;
                // Its files are of use only if they are this host's.
                let data_root = match runtime.docker().listener_process_id().await {
                    Some(_) => Some(runtime.info().await?.data_root.clone()),
                    None => None,
                };
                let data_root = data_root.filter(|root| root.is_dir());
                let docker = runtime.docker().clone();
                Ok(Logs::new(docker, self.0.log_state.clone(), data_root)?)
            })
            .await
    }

    /// Begins to write a container's log, if it has one.
    pub(super) async fn attach_log(&self, container: &Container) -> Result<(), Error> {
        let Some(path) = &container.log_path else {
            return Ok(());
        };
        let log = ContainerLog {
            id: container.id.clone(),
            path: PathBuf::from(path),
            tty: container.tty,
            driver: container.log_driver.clone(),
        };
        self.logs().await?.attach(&log).await?;
        Ok(())
    }

    /// Says that a container runs.
    pub(super) async fn log_started(&self, id: &ContainerId) {
        if let Some(logs) = self.0.logs.get() {
            logs.started(id).await;
        }
    }

    /// Waits until the log of a container that has ended is complete. Of one without a log nothing is waited for. Cancel safe.
    pub async fn log_written(&self, container: &Container) {
        if container.is_running() || container.log_path.is_none() {
            return;
        }
        if let Some(logs) = self.0.logs.get()
            && let Err(error) = logs.finish(&container.id).await
        {
            tracing::warn!(id = %container.id, %error, "the log of a container is not complete");
        }
    }

    pub(super) async fn forget_log(&self, id: &ContainerId) {
        if let Some(logs) = self.0.logs.get()
            && let Err(error) = logs.remove(id).await
        {
            tracing::warn!(%id, %error, "the record of a log stays");
        }
    }

    /// Goes on in a new file after the log of a running container was renamed. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Invalid`] when it does not run or has no log; when the file cannot be made.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        self.check_running(id).await?;
        match self.logs().await?.reopen(id).await {
            Err(LogError::NotAttached(_)) => Err(Error::Invalid(format!(
                "the container {id} has no log that berth writes"
            ))),
            result => Ok(result?),
        }
    }
}

/// Attaches the logs of all containers that there are, then finishes each when its container ends. Ends with the pods.
pub(super) async fn keep(inner: Weak<Inner>) {
    let mut changes = match inner.upgrade() {
        Some(inner) => inner.view.subscribe(),
        None => return,
    };
    let mut known = false;
    loop {
        if !known {
            let Some(pods) = inner.upgrade().map(Pods) else {
                return;
            };
            // Fails while the engine is away; it is asked again at the next change, the first of which its return is.
            known = attach_all(&pods).await;
        }
        let change = match changes.next().await {
            Some(Notice::Change(change)) => change,
            Some(Notice::Lost) => {
                known = false;
                continue;
            }
            None => return,
        };
        if change.kind != ChangeKind::Stopped {
            continue;
        }
        let Some(pods) = inner.upgrade().map(Pods) else {
            return;
        };
        let ended = change
            .containers
            .into_iter()
            .find(|container| container.id.as_str() == change.id);
        if let Some(container) = ended {
            finish(&pods, container);
        }
    }
}

fn finish(pods: &Pods, container: Arc<Container>) {
    let ending = pods.clone();
    pods.0
        .work
        .spawn(async move { ending.log_written(&container).await });
}

async fn attach_all(pods: &Pods) -> bool {
    let Ok(containers) = pods.0.view.containers().await else {
        return false;
    };
    for container in containers {
        if container.log_path.is_none() {
            continue;
        }
        if let Err(error) = pods.attach_log(&container).await {
            tracing::warn!(id = %container.id, %error, "the log of a container is not written");
        } else if container.is_running() {
            pods.log_started(&container.id).await;
        } else {
            // It ended while no berth ran.
            finish(pods, container);
        }
    }
    true
}
