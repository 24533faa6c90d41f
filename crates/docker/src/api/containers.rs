//! Containers: list, inspect, the steps of their life, and what they are doing.
//!
//! Creating and updating are in `create`, output in `logs`, commands in `exec`, files in `archive`.

use std::time::Duration;

use super::{Gate, WORK, about, flag};
use crate::client::{ByteStream, Docker, JsonStream};
use crate::error::Error;
use crate::model::{
    Change, ContainerInspect, ContainerSummary, Filters, PruneContainers, Stats, TopResult,
    WaitResult,
};
use crate::request::{Deadline, Method, Operation, Request};
use crate::version::ApiVersion;

/// What a stop may take beyond the grace period before it counts as failed: the Engine's kill, and its 10 s of waiting
/// for the container's end behind that.
const STOP_MARGIN: Duration = Duration::from_secs(30);

/// The grace period of a container that has none of its own, in seconds.
const DEFAULT_STOP_TIMEOUT: i64 = 10;

/// The longest silence of an export, which the Engine sends as it reads the files.
const EXPORT_IDLE: Duration = Duration::from_secs(60);

/// What [`Docker::list_containers`] lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListContainers {
    /// Containers that don't run, too.
    pub all: bool,
    /// At most so many, the newest; of all states.
    pub limit: Option<u32>,
    /// Only containers created after this one (name or id).
    pub since: Option<String>,
    /// Only containers created before this one (name or id).
    pub before: Option<String>,
    /// With the sizes of their layers, which the Engine has to compute: slow.
    pub size: bool,
    /// Only containers that match.
    pub filters: Filters,
}

/// How [`Docker::stop_container`] stops.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StopContainer {
    /// Seconds between the signal and the kill. `None` is the container's own stop timeout (10 unless it was created
    /// with another); 0 kills at once; -1 never kills.
    pub seconds: Option<i64>,
    /// The signal instead of the container's own (API 1.42). With an older engine use
    /// [`kill_container`](Docker::kill_container) with the signal, then stop.
    pub signal: Option<String>,
}

/// How [`Docker::restart_container`] stops the container before it starts it again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RestartContainer {
    /// As in [`StopContainer::seconds`].
    pub seconds: Option<i64>,
    /// As in [`StopContainer::signal`] (API 1.42).
    pub signal: Option<String>,
}

/// What [`Docker::remove_container`] removes besides the container.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RemoveContainer {
    /// Its anonymous volumes.
    pub volumes: bool,
    /// Not the container, but the link of that name (`/parent/alias`).
    pub link: bool,
    /// Even if it runs: it is killed first.
    pub force: bool,
}

/// What a start did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Started {
    /// It started the container.
    Now,
    /// Nothing: the container was running.
    Already,
}

/// What a stop did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// It stopped the container.
    Now,
    /// Nothing: the container was not running.
    Already,
}

/// What [`Docker::wait_container`] waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WaitCondition {
    /// That it does not run. One that was never started counts as not running.
    #[default]
    NotRunning,
    /// That it ends the next time.
    NextExit,
    /// That it is removed.
    Removed,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TerminalSize {
    /// Lines.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

impl Docker {
    /// Lists containers: the running ones, unless the options ask for more. The newest come first.
    ///
    /// `GET /containers/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 400 for a filter that the Engine does not know; 404 when `since` or `before` is not there (500 from
    /// engine 20.10).
    pub async fn list_containers(
        &self,
        options: &ListContainers,
    ) -> Result<Vec<ContainerSummary>, Error> {
        // The Engine takes these two as filters only.
        let mut filters = options.filters.clone();
        for (key, value) in [("since", &options.since), ("before", &options.before)] {
            if let Some(value) = value {
                filters = filters.with(key, value);
            }
        }
        let request = Request::new(Operation::LIST_CONTAINERS, Method::Get, "/containers/json")
            .query_some("all", flag(options.all))
            .query_some("limit", options.limit)
            .query_some("size", flag(options.size))
            .query_some("filters", filters.to_query());
        self.send_list(request).await
    }

    /// Everything the Engine knows of one container, by name, id or a beginning of the id that is unique.
    ///
    /// `GET /containers/{id}/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn inspect_container(&self, container: &str) -> Result<ContainerInspect, Error> {
        self.send_json(about(
            Operation::INSPECT_CONTAINER,
            Method::Get,
            "/containers",
            container,
            "/json",
        )?)
        .await
    }

    /// As [`inspect_container`](Self::inspect_container), with the sizes of its layers, which the Engine has to compute.
    ///
    /// `GET /containers/{id}/json?size=1`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn inspect_container_with_size(
        &self,
        container: &str,
    ) -> Result<ContainerInspect, Error> {
        let request = about(
            Operation::INSPECT_CONTAINER,
            Method::Get,
            "/containers",
            container,
            "/json",
        )?;
        self.send_json(request.query("size", 1)).await
    }

    /// Starts a container that was created or has ended.
    ///
    /// `POST /containers/{id}/start`. Deadline: short. Dropping the future does not undo it: the Engine goes on starting.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it is being removed; 400 or 500 when its process can't be started,
    /// which is also in [`ContainerState::error`](crate::model::ContainerState::error).
    pub async fn start_container(&self, container: &str) -> Result<Started, Error> {
        // The Engine refuses a start with a body.
        let reply = self
            .send(about(
                Operation::START_CONTAINER,
                Method::Post,
                "/containers",
                container,
                "/start",
            )?)
            .await?;
        Ok(if reply.status == 304 {
            Started::Already
        } else {
            Started::Now
        })
    }

    /// Stops a container: a signal, the grace period, then a kill.
    ///
    /// `POST /containers/{id}/stop`. Deadline: the grace period and 30 s; none when the grace is -1. When the options
    /// name no grace, the container is inspected for its own. Dropping the future does not undo it: the Engine goes on
    /// stopping, kill included.
    ///
    /// # Errors
    /// 404 when there is no such container. Timed out means that the Engine could not kill it.
    pub async fn stop_container(
        &self,
        container: &str,
        options: &StopContainer,
    ) -> Result<Stopped, Error> {
        let operation = Operation::STOP_CONTAINER;
        let deadline = self
            .stop_deadline(
                operation,
                container,
                options.seconds,
                options.signal.as_deref(),
            )
            .await?;
        let request = about(operation, Method::Post, "/containers", container, "/stop")?
            .query_some("t", options.seconds)
            .query_some("signal", options.signal.as_deref())
            .deadline(deadline);
        let reply = self.send(request).await?;
        Ok(if reply.status == 304 {
            Stopped::Already
        } else {
            Stopped::Now
        })
    }

    /// Stops a container, if it runs, and starts it again.
    ///
    /// `POST /containers/{id}/restart`. Deadline and cancel safety as for [`stop_container`](Self::stop_container).
    ///
    /// # Errors
    /// As for stop and start.
    pub async fn restart_container(
        &self,
        container: &str,
        options: &RestartContainer,
    ) -> Result<(), Error> {
        let operation = Operation::RESTART_CONTAINER;
        let deadline = self
            .stop_deadline(
                operation,
                container,
                options.seconds,
                options.signal.as_deref(),
            )
            .await?;
        let request = about(
            operation,
            Method::Post,
            "/containers",
            container,
            "/restart",
        )?
        .query_some("t", options.seconds)
        .query_some("signal", options.signal.as_deref())
        .deadline(deadline);
        self.send(request).await.map(drop)
    }

    /// The deadline of a stop with that grace; fails when the engine can't do what is asked.
    async fn stop_deadline(
        &self,
        operation: Operation,
        container: &str,
        seconds: Option<i64>,
        signal: Option<&str>,
    ) -> Result<Deadline, Error> {
        if let Some(seconds @ ..-1) = seconds {
            return Err(Error::invalid(
                operation,
                format!(
                    "a grace of {seconds} seconds; -1 is the only negative one, and never kills"
                ),
            ));
        }
        if signal.is_some() {
            self.require(operation, &[Gate::new("a stop signal", 42)])
                .await?;
        }
        let seconds = match seconds {
            Some(seconds) => seconds,
            None => {
                let request = about(operation, Method::Get, "/containers", container, "/json")?;
                let inspect: ContainerInspect = self.send_json(request).await?;
                inspect.config.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT)
            }
        };
        Ok(match u64::try_from(seconds) {
            Ok(seconds) => {
                Deadline::Total(Duration::from_secs(seconds).saturating_add(STOP_MARGIN))
            }
            Err(_) => Deadline::Stream { idle: None },
        })
    }

    /// Sends a signal to a container's main process: a name (`SIGTERM`, `TERM`) or a number. `None` is `SIGKILL`, and
    /// then the Engine waits for its end.
    ///
    /// `POST /containers/{id}/kill`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it does not run; 400 for an unknown signal.
    pub async fn kill_container(&self, container: &str, signal: Option<&str>) -> Result<(), Error> {
        let request = about(
            Operation::KILL_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/kill",
        )?;
        self.send(request.query_some("signal", signal))
            .await
            .map(drop)
    }

    /// Removes a container.
    ///
    /// `DELETE /containers/{id}`. Deadline: short. Dropping the future does not undo it: the Engine goes on removing.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it runs (see [`RemoveContainer::force`]) or is being removed.
    pub async fn remove_container(
        &self,
        container: &str,
        options: RemoveContainer,
    ) -> Result<(), Error> {
        let request = about(
            Operation::REMOVE_CONTAINER,
            Method::Delete,
            "/containers",
            container,
            "",
        )?
        .query_some("v", flag(options.volumes))
        .query_some("link", flag(options.link))
        .query_some("force", flag(options.force));
        self.send(request).await.map(drop)
    }

    /// Gives a container another name.
    ///
    /// `POST /containers/{id}/rename`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when the name is taken; 400 when it is not a name.
    pub async fn rename_container(&self, container: &str, name: &str) -> Result<(), Error> {
        let request = about(
            Operation::RENAME_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/rename",
        )?;
        self.send(request.query("name", name)).await.map(drop)
    }

    /// Freezes all processes of a container.
    ///
    /// `POST /containers/{id}/pause`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it does not run or is paused.
    pub async fn pause_container(&self, container: &str) -> Result<(), Error> {
        self.send(about(
            Operation::PAUSE_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/pause",
        )?)
        .await
        .map(drop)
    }

    /// Lets the processes of a paused container go on.
    ///
    /// `POST /containers/{id}/unpause`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 or 500 when it is not paused.
    pub async fn unpause_container(&self, container: &str) -> Result<(), Error> {
        self.send(about(
            Operation::UNPAUSE_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/unpause",
        )?)
        .await
        .map(drop)
    }

    /// Waits for a container, and gives its exit code, whatever it is.
    ///
    /// `POST /containers/{id}/wait`. Deadline: none. Cancel safe: dropping the future ends the wait in the Engine too.
    /// After a lost connection ask again; with [`WaitCondition::NextExit`] an end in between is missed.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn wait_container(
        &self,
        container: &str,
        condition: WaitCondition,
    ) -> Result<WaitResult, Error> {
        let condition = match condition {
            WaitCondition::NotRunning => "not-running",
            WaitCondition::NextExit => "next-exit",
            WaitCondition::Removed => "removed",
        };
        let request = about(
            Operation::WAIT_CONTAINER,
            Method::Post,
            "/containers",
            container,
            "/wait",
        )?
        .query("condition", condition)
        .deadline(Deadline::Stream { idle: None });
        let mut stream = self.send_stream(request).await?.json::<WaitResult>();
        match stream.next().await {
            Some(result) => result,
            None => {
                let origin = stream.origin();
                let error = Error::malformed(
                    Operation::WAIT_CONTAINER,
                    "the reply ended before the container did",
                );
                Err(error.located(origin.subject.as_deref(), &origin.endpoint))
            }
        }
    }

    /// The processes of a running container, as the host's `ps` shows them; `None` is `ps -ef`.
    ///
    /// `GET /containers/{id}/top`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 or 500 when it does not run; 500 when `ps` does not like the arguments.
    pub async fn top(&self, container: &str, ps_args: Option<&str>) -> Result<TopResult, Error> {
        let request = about(
            Operation::TOP,
            Method::Get,
            "/containers",
            container,
            "/top",
        )?;
        self.send_json(request.query_some("ps_args", ps_args)).await
    }

    /// The paths by which a container's file system differs from its image.
    ///
    /// `GET /containers/{id}/changes`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn changes(&self, container: &str) -> Result<Vec<Change>, Error> {
        self.send_list(about(
            Operation::CHANGES,
            Method::Get,
            "/containers",
            container,
            "/changes",
        )?)
        .await
    }

    /// What a container uses now, as one sample. From API 1.41 on it is answered at once and has no
    /// [`precpu_stats`](Stats::precpu_stats); older engines take up to two seconds and fill them in.
    ///
    /// `GET /containers/{id}/stats`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such container. One that does not run gives zeros.
    pub async fn stats(&self, container: &str) -> Result<Stats, Error> {
        let one_shot = self.api_version().await? >= ApiVersion::new(1, 41);
        let request = about(
            Operation::STATS,
            Method::Get,
            "/containers",
            container,
            "/stats",
        )?
        .query("stream", "false")
        .query_some("one-shot", one_shot.then_some("true"));
        self.send_json(request).await
    }

    /// What a container uses, sample by sample, about one a second, until it is removed.
    ///
    /// `GET /containers/{id}/stats?stream=true`. Deadline: short until the first sample is under way, then none. Dropping
    /// the stream ends it in the Engine too.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn stats_stream(&self, container: &str) -> Result<JsonStream<Stats>, Error> {
        let request = about(
            Operation::STATS,
            Method::Get,
            "/containers",
            container,
            "/stats",
        )?
        .query("stream", "true");
        Ok(self.send_stream(request).await?.json())
    }

    /// Tells a container's terminal its size.
    ///
    /// `POST /containers/{id}/resize`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 or 500 when it does not run.
    pub async fn resize_container_tty(
        &self,
        container: &str,
        size: TerminalSize,
    ) -> Result<(), Error> {
        let request = about(
            Operation::RESIZE_CONTAINER_TTY,
            Method::Post,
            "/containers",
            container,
            "/resize",
        )?;
        self.send(request.query("h", size.height).query("w", size.width))
            .await
            .map(drop)
    }

    /// A container's file system as a tar archive.
    ///
    /// `GET /containers/{id}/export`. Deadline: 60 s without a byte. Dropping the stream ends it in the Engine too.
    ///
    /// # Errors
    /// 404 when there is no such container.
    pub async fn export_container(&self, container: &str) -> Result<ByteStream, Error> {
        let request = about(
            Operation::EXPORT_CONTAINER,
            Method::Get,
            "/containers",
            container,
            "/export",
        )?;
        self.send_stream(request.deadline(Deadline::Stream {
            idle: Some(EXPORT_IDLE),
        }))
        .await
    }

    /// Removes every container that does not run and matches (`until`, `label`).
    ///
    /// `POST /containers/prune`. Deadline: 10 minutes without an answer. Dropping the future does not
    /// undo it: the Engine stops after the container it is removing.
    ///
    /// # Errors
    /// 409 when another prune is under way.
    pub async fn prune_containers(&self, filters: &Filters) -> Result<PruneContainers, Error> {
        let request = Request::new(
            Operation::PRUNE_CONTAINERS,
            Method::Post,
            "/containers/prune",
        );
        self.send_json(
            request
                .query_some("filters", filters.to_query())
                .deadline(WORK),
        )
        .await
    }
}
