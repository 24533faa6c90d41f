//! Which containers' logs are written, and until when. How is [`Logs`]' business.
//!
//! A log is attached before its container is started and finished when it has ended; after a restart of berth the view says which containers
//! there are, and what an earlier berth has left of others is cleared away. Whoever asks for the state of a container that has ended is answered
//! once its log is complete.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Inner, Pods};
use crate::logs::{ContainerLog, Error as LogError, Logs};
use crate::observe::Container;
use crate::runtime::Error;
use crate::spec::ContainerId;
use crate::view::{ChangeKind, Notice};

/// Between two tries to see what there is. While the engine is away none is a call of it.
const ASK_AGAIN: Duration = Duration::from_millis(500);

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
        if !container.has_ended() || container.log_path.is_none() {
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
            known = attach_all(&pods).await;
        }
        let notice = tokio::select! {
            notice = changes.next() => notice,
            // The engine was away, or went away meanwhile.
            () = tokio::time::sleep(ASK_AGAIN), if !known => continue,
        };
        let change = match notice {
            Some(Notice::Change(change)) => change,
            Some(Notice::Lost) => {
                known = false;
                continue;
            }
            None => return,
        };
        let Some(pods) = inner.upgrade().map(Pods) else {
            return;
        };
        match change.kind {
            ChangeKind::Stopped => {}
            // Also by somebody else.
            ChangeKind::Deleted => {
                forget(&pods, ContainerId::new(change.id));
                continue;
            }
            ChangeKind::Created | ChangeKind::Started => continue,
        }
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

fn forget(pods: &Pods, id: ContainerId) {
    let forgetting = pods.clone();
    pods.0
        .work
        .spawn(async move { forgetting.forget_log(&id).await });
}

/// Attaches the logs of all that there is, and clears away what an earlier berth has left. False while the engine is away.
async fn attach_all(pods: &Pods) -> bool {
    let Ok(containers) = pods.0.view.containers().await else {
        return false;
    };
    let logs = match pods.logs().await {
        Ok(logs) => logs,
        Err(error) if !error.is_config() => return false,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no log is written"
            );
            return true;
        }
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
    clear_away(pods, logs).await
}

/// Clears away what an earlier berth has left that was killed: the records of containers that are gone, and containers that it looked into images
/// with.
async fn clear_away(pods: &Pods, logs: &Logs) -> bool {
    let Ok(containers) = pods.0.view.containers().await else {
        return false;
    };
    let there = containers.into_iter().map(|one| one.id.clone()).collect();
    if let Err(error) = logs.forget_others(&there) {
        tracing::warn!(%error, "records of logs are left");
    }
    pods.0.runtime.remove_earlier_probes().await.is_ok()
}
