//! Containers of sandboxes: create, start, stop, remove, update.

use std::time::Duration;

use super::{Pods, found, limits, no_container, no_sandbox};
use crate::config::InSandbox;
use crate::observe::{Container, State};
use crate::runtime::Error;
use crate::spec::{ContainerId, ContainerSpec, Pid, Resources, SandboxId};

impl Pods {
    /// Creates a container in a running sandbox. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the sandbox, [`Error::Invalid`] when it does not run; when the engine refuses or cannot do what the spec
    /// asks for.
    pub async fn create_container(
        &self,
        id: SandboxId,
        spec: ContainerSpec,
    ) -> Result<ContainerId, Error> {
        let pods = self.clone();
        self.carry(async move {
            let missing = || no_sandbox(&id);
            let uid = pods
                .0
                .view
                .sandbox(&id)
                .await?
                .ok_or_else(missing)?
                .pod
                .uid
                .clone();
            let _turn = pods.0.turns.of(&uid).await;
            let sandbox = pods.0.view.sandbox(&id).await?.ok_or_else(missing)?;
            if !sandbox.running {
                return Err(Error::Invalid(format!(
                    "the sandbox {id} of the pod {}/{} does not run",
                    sandbox.pod.namespace, sandbox.pod.name
                )));
            }
            if let Pid::Target(target) = &spec.pid {
                pods.check_target(&id, target).await?;
            }
            let within = InSandbox {
                id: &id,
                cgroup_parent: &sandbox.cgroup_parent,
                runtime: &sandbox.runtime,
            };
            let made = pods
                .0
                .runtime
                .create_container(&spec, &sandbox.pod, &within)
                .await?;
            pods.0.view.mark(made.as_str());
            Ok(made)
        })
        .await
    }

    /// Whose process IDs are to be seen has to run in the same pod.
    async fn check_target(&self, sandbox: &SandboxId, target: &ContainerId) -> Result<(), Error> {
        let wrong = |why: &str| {
            Error::Invalid(format!(
                "the container {target}, whose process IDs are to be shared, {why}"
            ))
        };
        match self.0.view.container(target).await? {
            None => Err(wrong("is not there")),
            Some(container) if container.sandbox != *sandbox => Err(wrong("is in another pod")),
            Some(container) if !container.is_running() => Err(wrong("does not run")),
            Some(_) => Ok(()),
        }
    }

    /// Starts a created container; one that runs already is fine. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] without it; when the engine cannot start it, with the engine's words, which its state keeps too.
    pub async fn start_container(&self, id: ContainerId) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let container = pods
                .0
                .view
                .container(&id)
                .await?
                .ok_or_else(|| no_container(&id))?;
            let _turn = pods.0.turns.of(&container.pod.uid).await;
            // The file has to be there when the container runs.
            pods.attach_log(&container).await?;
            let result = pods.0.runtime.start_container(&id).await;
            if result.is_ok() {
                pods.log_started(&id).await;
            }
            pods.0.view.mark(id.as_str());
            result.map_err(|error| found(error, || no_container(&id)))?;
            if !limits::are_in(&container.resources) {
                return Ok(());
            }
            let Some(container) = pods.0.view.container(&id).await? else {
                return Ok(());
            };
            match pods.limits(&container, &container.resources).await? {
                Some(limits) => write(&id, limits),
                // It has ended, and needs none.
                None => Ok(()),
            }
        })
        .await
    }

    /// Stops a container: its stop signal, then SIGKILL after `grace`. One that has stopped or is gone is fine. What was begun goes on when the
    /// call is dropped.
    ///
    /// # Errors
    /// When the engine does not answer or cannot stop it.
    pub async fn stop_container(&self, id: ContainerId, grace: Duration) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let container = pods.0.view.container(&id).await?;
            if let Some(container) = container.filter(|container| container.state == State::Created)
            {
                // A start may be under way; what it has started is to be stopped.
                drop(pods.0.turns.of(&container.pod.uid).await);
            }
            pods.stop_now(&id, grace).await
        })
        .await
    }

    pub(super) async fn stop_now(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        match self.0.view.container(id).await? {
            Some(container) if container.is_running() => {}
            // What is created cannot run without us; what is gone or has ended needs no call.
            _ => return Ok(()),
        }
        self.0.runtime.stop_container(id, grace).await?;
        self.0.view.mark(id.as_str());
        Ok(())
    }

    /// Removes a container, running or not. One that is gone is fine. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// When the engine does not answer or cannot remove it.
    pub async fn remove_container(&self, id: ContainerId) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let Some(container) = pods.0.view.container(&id).await? else {
                return Ok(());
            };
            let _turn = pods.0.turns.of(&container.pod.uid).await;
            pods.remove_now(&id).await
        })
        .await
    }

    pub(super) async fn remove_now(&self, id: &ContainerId) -> Result<(), Error> {
        self.0.runtime.remove_container(id).await?;
        self.0.view.mark_gone(id.as_str());
        self.forget_log(id).await;
        Ok(())
    }

    /// Changes what a container may use; what is `None` or empty in `resources` stays as it is. What was begun goes on when the call is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] without it; when the engine or the kernel refuses.
    pub async fn update_resources(
        &self,
        id: ContainerId,
        resources: Resources,
    ) -> Result<(), Error> {
        let pods = self.clone();
        self.carry(async move {
            let container = pods
                .0
                .view
                .container(&id)
                .await?
                .ok_or_else(|| no_container(&id))?;
            let _turn = pods.0.turns.of(&container.pod.uid).await;
            let mut limits = limits::Ready::default();
            if limits::are_in(&resources) {
                limits = pods.limits(&container, &resources).await?.ok_or_else(|| {
                    Error::Invalid(format!(
                        "the container {id} does not run: limits of huge pages and files of its cgroup can only be changed while it does"
                    ))
                })?;
            }
            let result = pods.0.runtime.update_resources(&id, &resources).await;
            pods.0.view.mark(id.as_str());
            result.map_err(|error| found(error, || no_container(&id)))?;
            write(&id, limits)
        })
        .await
    }

    /// The limits that only the files of the container's cgroup know; `None` when it does not run.
    async fn limits(
        &self,
        container: &Container,
        resources: &Resources,
    ) -> Result<Option<limits::Ready>, Error> {
        let invalid =
            |why: String| Error::Invalid(format!("the container {}: {why}", container.id));
        if !container.is_running() {
            return Ok(None);
        }
        let id = container.id.as_str();
        let why = match self.0.meter.locate(container.process, id) {
            Ok(paths) => match limits::prepare(&paths, resources) {
                Ok(ready) => return Ok(Some(ready)),
                Err(why) => why,
            },
            Err(error) if resources.unified.is_empty() => {
                limits::tell_of_left_out(resources, &error);
                return Ok(Some(limits::Ready::default()));
            }
            Err(error) => error.to_string(),
        };
        // It may have ended meanwhile.
        self.0.view.mark(id);
        match self.0.view.container(&container.id).await? {
            Some(container) if container.is_running() => Err(invalid(why)),
            _ => Ok(None),
        }
    }
}

fn write(id: &ContainerId, limits: limits::Ready) -> Result<(), Error> {
    limits
        .write()
        .map_err(|why| Error::Invalid(format!("the container {id}: {why}")))
}
