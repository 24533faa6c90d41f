//! Sandboxes: run, stop, remove.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Pods;
use crate::cni::CniError;
use crate::config::NO_NETWORK;
use crate::runtime::Error;
use crate::spec::{SandboxId, SandboxSpec};

impl Pods {
    /// Makes and starts a sandbox, or finds the one that an earlier call made. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the engine has no such runtime; when the engine refuses or cannot do what the spec asks for. What was made
    /// until then has been removed.
    pub async fn run_sandbox(&self, spec: SandboxSpec) -> Result<SandboxId, Error> {
        let pods = self.clone();
        self.carry(async move {
            let _turn = pods.0.turns.of(&spec.pod.uid).await;
            if !spec.runtime_handler.is_empty() {
                let info = pods.0.runtime.info().await?;
                if !info.runtimes.contains_key(&spec.runtime_handler) {
                    let known: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
                    return Err(Error::Invalid(format!(
                        "the engine has no runtime {:?}; it has {}",
                        spec.runtime_handler,
                        known.join(", ")
                    )));
                }
            }
            let Some(cni) = pods.0.network.joined().filter(|_| !spec.host_network) else {
                let id = pods.0.runtime.run_sandbox(&spec).await?;
                pods.0.view.mark(id.as_str());
                return Ok(id);
            };
            // Known before anything is made.
            cni.status().await.map_err(CniError::NotReady)?;
            let made = SandboxSpec {
                network: NO_NETWORK.to_owned(),
                ports: Vec::new(),
                ..spec.clone()
            };
            let id = pods.0.runtime.run_sandbox(&made).await?;
            pods.0.view.mark(id.as_str());
            match pods.join(cni, &spec, &id).await {
                Ok(()) => Ok(id),
                Err(error) => {
                    if let Err(undo) = pods.0.runtime.remove_sandbox(&id).await {
                        tracing::warn!(sandbox = %id, error = %undo, "a sandbox that could not join its network is left");
                    }
                    pods.0.view.mark_gone(id.as_str());
                    Err(error)
                }
            }
        })
        .await
    }

    /// Kills all containers of a sandbox, and the sandbox. One that has stopped or is gone is fine. What was begun goes on when the call is
    /// dropped.
    ///
    /// # Errors
    /// When the engine does not answer, or cannot stop something.
    pub async fn stop_sandbox(&self, id: SandboxId) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let Some(turn) = pods.turn_of(&id).await? else {
                return pods.leave(&id).await;
            };
            pods.stop_all(&id).await?;
            drop(turn);
            Ok(())
        })
        .await
    }

    /// Removes a sandbox and its containers, running or not. One that is gone is fine. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// When the engine does not answer, or cannot remove something.
    pub async fn remove_sandbox(&self, id: SandboxId) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let Some(turn) = pods.turn_of(&id).await? else {
                return pods.leave(&id).await;
            };
            let mut work = JoinSet::new();
            for container in pods.0.view.containers_of(&id).await? {
                let pods = pods.clone();
                work.spawn(async move { pods.remove_now(&container.id).await });
            }
            all(work).await?;
            // While the sandbox is there, somebody asks again.
            pods.leave(&id).await?;
            pods.0.runtime.remove_sandbox(&id).await?;
            pods.0.view.mark_gone(id.as_str());
            drop(turn);
            Ok(())
        })
        .await
    }

    /// The turn at the sandbox's pod; `None` when nothing of it is left.
    async fn turn_of(
        &self,
        id: &SandboxId,
    ) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>, Error> {
        let uid = match self.0.view.sandbox(id).await? {
            Some(sandbox) => sandbox.pod.uid.clone(),
            // Removed behind our back; its containers may not be.
            None => match self.0.view.containers_of(id).await?.first() {
                Some(container) => container.pod.uid.clone(),
                None => return Ok(None),
            },
        };
        Ok(Some(self.0.turns.of(&uid).await))
    }

    async fn stop_all(&self, id: &SandboxId) -> Result<(), Error> {
        let mut work = JoinSet::new();
        for container in self.0.view.containers_of(id).await? {
            if container.is_running() {
                let pods = self.clone();
                work.spawn(async move { pods.stop_now(&container.id, Duration::ZERO).await });
            }
        }
        all(work).await?;
        // The sandbox ends also when it cannot leave its network; without it, the next try has less to undo.
        let left = self.leave(id).await;
        if self
            .0
            .view
            .sandbox(id)
            .await?
            .is_some_and(|sandbox| sandbox.running)
        {
            self.0.runtime.stop_sandbox(id).await?;
            self.0.view.mark(id.as_str());
        }
        left
    }
}

/// Waits for all, and gives the first failure.
async fn all(mut work: JoinSet<Result<(), Error>>) -> Result<(), Error> {
    let mut result = Ok(());
    while let Some(done) = work.join_next().await {
        let done = match done {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody cancels them.
                Err(_) => Ok(()),
            },
        };
        result = result.and(done);
    }
    result
}
