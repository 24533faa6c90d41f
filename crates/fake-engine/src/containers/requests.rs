//! Owns the requests that move a container through its life: start, stop, kill, wait, remove, rename, update, and what
//! else acts on one container.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::container::{Container, Phase};
use super::{subject, views};
use crate::engine::Inner;
use crate::events::Event;
use crate::http::{Answer, ApiError, Call, json, no_content, status, streamed, typed};
use crate::signals;
use crate::terminal::Size;
use crate::time::parse_moment;

/// The engine's grace at stop where nobody says otherwise, in seconds (`container.DefaultStopTimeout`).
const STOP_TIMEOUT: i64 = 10;
/// How long the engine waits for a killed process (`daemon/stop.go`).
const KILL_WAIT: Duration = Duration::from_secs(10);

/// `GET /containers/{id}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    Ok(json(&views::inspect(
        &state,
        container,
        call.api,
        call.query.flag("size"),
    ))
    .into())
}

/// `POST /containers/{id}/start`
pub(crate) async fn start(call: Call) -> Answer {
    let length = call
        .headers
        .get(hyper::header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let chunked = call.headers.contains_key(hyper::header::TRANSFER_ENCODING);
    if length.unwrap_or(0) > 7 || chunked {
        return Err(ApiError::bad(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    let mut state = call.engine.state();
    let id = state.container_id(&call.target)?;
    call.engine.start_container(&mut state, &id)?;
    Ok(no_content().into())
}

/// `POST /containers/{id}/stop`
pub(crate) async fn stop(call: Call) -> Answer {
    let (id, timeout, signal) = stop_options(&call)?;
    let active = call.engine.state().container(&id)?.is_active();
    if !active {
        return Err(ApiError::not_modified());
    }
    call.engine.stop_container(&id, timeout, signal).await;
    let state = call.engine.state();
    if let Some(container) = state.containers.get(&id) {
        call.engine.container_event(container, "stop", &[]);
    }
    Ok(no_content().into())
}

/// `POST /containers/{id}/restart`
pub(crate) async fn restart(call: Call) -> Answer {
    let (id, timeout, signal) = stop_options(&call)?;
    if let Some(container) = call.engine.state().containers.get_mut(&id) {
        container.restarting_by_hand = true;
    }
    let active = call.engine.state().container(&id)?.is_active();
    if active {
        call.engine.stop_container(&id, timeout, signal).await;
    }
    let mut state = call.engine.state();
    if let Some(container) = state.containers.get_mut(&id) {
        container.restarting_by_hand = false;
        if active {
            call.engine.container_event(container, "stop", &[]);
        }
    }
    match call.engine.start_container(&mut state, &id) {
        Err(error) if error.status != hyper::StatusCode::NOT_MODIFIED => return Err(error),
        _ => {}
    }
    call.engine
        .container_event(state.container(&id)?, "restart", &[]);
    Ok(no_content().into())
}

/// The container, its grace (`None` for ever) and stop signal, from the request or from the container.
fn stop_options(call: &Call) -> Result<(Arc<str>, Option<Duration>, i32), ApiError> {
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    let seconds = call
        .query
        .number("t")?
        .or(container.config.stop_timeout)
        .unwrap_or(STOP_TIMEOUT);
    let name = call
        .query
        .get("signal")
        .filter(|name| !name.is_empty() && call.api.at_least(42));
    let signal = match name {
        Some(name) => {
            signals::parse(name).ok_or_else(|| ApiError::bad(format!("invalid signal: {name}")))?
        }
        None => container
            .config
            .stop_signal
            .as_deref()
            .and_then(signals::parse)
            .unwrap_or(signals::TERM),
    };
    Ok((
        Arc::clone(&container.id),
        u64::try_from(seconds).ok().map(Duration::from_secs),
        signal,
    ))
}

impl Inner {
    /// Signals a container, waits its grace, kills it.
    async fn stop_container(self: &Arc<Self>, id: &str, grace: Option<Duration>, signal: i32) {
        let run = {
            let mut state = self.state();
            let Some(container) = state.containers.get_mut(id) else {
                return;
            };
            container.stopped_by_hand = true;
            if container.phase == Phase::Restarting {
                // It waits for its next run: that run does not come.
                container.phase = Phase::Exited;
                container.notify();
                return;
            }
            let run = container.run;
            self.signal_container(&mut state, id, signal);
            run
        };
        let ended = self.until_not_running(id, run);
        let in_time = match grace {
            None => {
                ended.await;
                true
            }
            Some(grace) => tokio::select! {
                biased;
                () = ended => true,
                () = self.clock.sleep(grace) => false,
            },
        };
        if !in_time {
            self.signal_container(&mut self.state(), id, signals::KILL);
        }
    }

    /// Waits until a run of a container is over.
    pub(crate) async fn until_not_running(self: &Arc<Self>, id: &str, run: u64) {
        loop {
            let Some(pipes) = ({
                let state = self.state();
                state
                    .containers
                    .get(id)
                    .filter(|c| c.run == run && c.is_running())
                    .map(|c| Arc::clone(&c.pipes))
            }) else {
                return;
            };
            let changed = pipes.changed.notified();
            let still = self
                .state()
                .containers
                .get(id)
                .is_some_and(|c| c.run == run && c.is_running());
            if !still {
                return;
            }
            changed.await;
        }
    }
}

/// `POST /containers/{id}/kill`
pub(crate) async fn kill(call: Call) -> Answer {
    let name = call.query.get("signal").filter(|name| !name.is_empty());
    let signal = match name {
        Some(name) => {
            signals::parse(name).ok_or_else(|| ApiError::bad(format!("invalid signal: {name}")))?
        }
        None => signals::KILL,
    };
    let (id, run) = {
        let mut state = call.engine.state();
        let lower = call.api.at_least(44);
        let container = state.container_mut(&call.target)?;
        if !container.is_running() {
            return Err(ApiError::conflict(if lower {
                format!(
                    "cannot kill container: {}: container {} is not running",
                    call.target, container.id
                )
            } else {
                format!(
                    "Cannot kill container: {}: Container {} is not running",
                    call.target, container.id
                )
            }));
        }
        container.stopped_by_hand = true;
        let (id, run) = (Arc::clone(&container.id), container.run);
        call.engine.signal_container(&mut state, &id, signal);
        (id, run)
    };
    if signal == signals::KILL {
        tokio::select! {
            () = call.engine.until_not_running(&id, run) => {}
            () = call.engine.clock.sleep(KILL_WAIT) => {}
        }
    }
    Ok(no_content().into())
}

/// `POST /containers/{id}/pause`
pub(crate) async fn pause(call: Call) -> Answer {
    let mut state = call.engine.state();
    let container = state.container_mut(&call.target)?;
    match container.phase {
        Phase::Running => {
            container.phase = Phase::Paused;
            container.pipes.pause(true);
        }
        Phase::Paused => {
            return Err(ApiError::conflict(format!(
                "{} is already paused",
                subject(call.api, &container.id)
            )));
        }
        Phase::Restarting => {
            return Err(ApiError::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                container.id
            )));
        }
        Phase::Created | Phase::Exited => {
            return Err(ApiError::conflict(format!(
                "{} is not running",
                subject(call.api, &container.id)
            )));
        }
    }
    call.engine.container_event(container, "pause", &[]);
    Ok(no_content().into())
}

/// `POST /containers/{id}/unpause`
pub(crate) async fn unpause(call: Call) -> Answer {
    let mut state = call.engine.state();
    let container = state.container_mut(&call.target)?;
    if container.phase != Phase::Paused {
        return Err(ApiError::conflict(format!(
            "Container {} is not paused",
            container.id
        )));
    }
    container.phase = Phase::Running;
    container.pipes.pause(false);
    call.engine.container_event(container, "unpause", &[]);
    Ok(no_content().into())
}

#[derive(Clone, Copy, PartialEq)]
enum Until {
    NotRunning,
    NextExit,
    Removed,
}

/// `POST /containers/{id}/wait`: the head goes out at once, the exit code when it is there.
pub(crate) async fn wait(call: Call) -> Answer {
    let until = match call.query.get("condition").unwrap_or_default() {
        "" | "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => return Err(ApiError::bad(format!("invalid condition: {other:?}"))),
    };
    let (engine, id, pipes, run) = {
        let state = call.engine.state();
        let container = state.container(&call.target)?;
        (
            Arc::clone(&call.engine),
            Arc::clone(&container.id),
            Arc::clone(&container.pipes),
            container.run,
        )
    };
    // A container that runs ends this run; one that does not begins the next.
    let next = if engine.state().container(&id)?.is_active() {
        run
    } else {
        run + 1
    };
    let line = async move {
        loop {
            let changed = pipes.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let met = engine.state().containers.get(&id).is_none_or(|container| {
                let over = !container.is_active();
                match until {
                    Until::NotRunning => over,
                    Until::NextExit => over && container.run >= next,
                    Until::Removed => false,
                }
            });
            if met {
                break;
            }
            changed.await;
        }
        let code = pipes.lock().exit_code;
        Bytes::from(format!("{}\n", json!({ "StatusCode": code })))
    };
    Ok(typed(
        "application/json",
        streamed(futures_util::stream::once(line)),
    )
    .into())
}

/// `DELETE /containers/{id}`
pub(crate) async fn remove(call: Call) -> Answer {
    if call.query.flag("link") {
        call.engine.state().unlink(&call.target)?;
        return Ok(no_content().into());
    }
    let (force, volumes) = (call.query.flag("force"), call.query.flag("v"));
    let mut state = call.engine.state();
    let container = state.container_mut(&call.target)?;
    let id = Arc::clone(&container.id);
    if container.is_active() && !force {
        let name = &container.name;
        return Err(ApiError::conflict(match container.phase {
            phase if !call.api.at_least(44) => format!(
                "You cannot remove a {} container {id}. {} before attempting removal or force remove",
                phase.as_str(),
                if phase == Phase::Paused {
                    "Unpause and then stop the container"
                } else {
                    "Stop the container"
                }
            ),
            Phase::Paused => {
                format!(
                    "cannot remove container \"/{name}\": container is paused and must be unpaused first"
                )
            }
            phase => format!(
                "cannot remove container \"/{name}\": container is {}: stop the container before removing or force remove",
                phase.as_str()
            ),
        }));
    }
    container.stopped_by_hand = true;
    if container.is_running() {
        call.engine.signal_container(&mut state, &id, signals::KILL);
    }
    // It may be gone already: an auto-removed container goes when it exits.
    call.engine.remove_container(&mut state, &id, volumes);
    Ok(no_content().into())
}

/// `POST /containers/{id}/rename`
pub(crate) async fn rename(call: Call) -> Answer {
    let new = call
        .query
        .get("name")
        .unwrap_or_default()
        .trim_start_matches('/')
        .to_owned();
    let mut state = call.engine.state();
    let id = state.container_id(&call.target)?;
    if new.is_empty() {
        return Err(ApiError::bad("Neither old nor new names may be empty"));
    }
    let old = state.container(&id)?.name.clone();
    if old == new {
        return Err(ApiError::bad(
            "Renaming a container with the same name as its current name",
        ));
    }
    super::create::check_name(&state, &new)?;
    state.names.remove(&old);
    state.names.insert(new.clone(), Arc::clone(&id));
    let container = state.container_mut(&id)?;
    container.name = new;
    call.engine
        .container_event(container, "rename", &[("oldName", format!("/{old}"))]);
    Ok(no_content().into())
}

/// Fields that `update` may change.
const UPDATABLE: &[&str] = &[
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "KernelMemory",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "RestartPolicy",
];

/// Fields that `update` may change as of API 1.55. An empty list is a change, too: it clears the rules.
const UPDATABLE_LISTS: &[&str] = &[
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
];

/// `POST /containers/{id}/update`
pub(crate) async fn update(mut call: Call) -> Answer {
    let body: Map<String, Value> = call.json().await?.unwrap_or_default();
    let lists = call.api.at_least(55);
    // Zero and null mean "leave it"; fields the engine cannot change it does not read.
    let changes: Map<String, Value> = body
        .into_iter()
        .filter(|(key, value)| {
            let empty = value.is_null() || *value == 0 || *value == "" || value["Name"] == "";
            let is_read = UPDATABLE.contains(&key.as_str())
                || lists && UPDATABLE_LISTS.contains(&key.as_str());
            is_read && !empty
        })
        .collect();
    let mut state = call.engine.state();
    let container = state.container_mut(&call.target)?;
    let host = container.host.update(changes)?;
    host.validate()?;
    container.host = Arc::new(host);
    call.engine.container_event(container, "update", &[]);
    Ok(json(&json!({ "Warnings": null })).into())
}

/// `POST /containers/{id}/resize`
pub(crate) async fn resize(call: Call) -> Answer {
    let size = Size::of_call(&call)?;
    let state = call.engine.state();
    let container = state.container(&call.target)?;
    if !container.is_running() {
        return Err(ApiError::conflict(format!(
            "{} is not running",
            subject(call.api, &container.id)
        )));
    }
    if let Some(terminal) = container.process.as_ref().and_then(|p| p.terminal.as_ref()) {
        terminal.resize(size);
    }
    let more = [
        ("height", call.query.get("h").unwrap_or_default().to_owned()),
        ("width", call.query.get("w").unwrap_or_default().to_owned()),
    ];
    call.engine.container_event(container, "resize", &more);
    Ok(status(hyper::StatusCode::OK).into())
}

/// `POST /containers/prune`
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.filters(&["label", "label!", "until"])?;
    let now = call.engine.clock.nanos();
    let until = filters.get("until").first().map(|text| {
        parse_moment(text, now)
            .ok_or_else(|| ApiError::bad(format!("invalid filter 'until={text}'")))
    });
    let until = until.transpose()?;
    let mut state = call.engine.state();
    let gone: Vec<(Arc<str>, usize)> = state
        .containers
        .values()
        .map(|boxed| &**boxed)
        .filter(|c: &&Container| !c.is_active() && filters.labels(&c.config.labels))
        .filter(|c| until.is_none_or(|until| c.created < until))
        .map(|c| (Arc::clone(&c.id), views::size_rw(c)))
        .collect();
    for (id, _) in &gone {
        call.engine.remove_container(&mut state, id, false);
    }
    let reclaimed: usize = gone.iter().map(|(_, size)| size).sum();
    call.engine
        .emit(Event::new("container", "prune", "").attribute("reclaimed", reclaimed.to_string()));
    let ids: Vec<&str> = gone.iter().map(|(id, _)| &**id).collect();
    Ok(json(&json!({ "ContainersDeleted": if ids.is_empty() { Value::Null } else { json!(ids) }, "SpaceReclaimed": reclaimed })).into())
}
