//! Owns execs: creating, starting, inspecting, resizing one, and its end.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::container::{Container, Phase};
use super::lifecycle::{environment, user_numbers};
use super::subject;
use crate::clock::Nanos;
use crate::config::nullable;
use crate::engine::Inner;
use crate::files::View;
use crate::http::{Answer, ApiError, Call, Reply, created, json, status};
use crate::log::StreamId;
use crate::pipes::Chunk;
use crate::process::{self, Exit, Process, Start};
use crate::session::{Detached, Input, Session, head, parse_detach_keys};
use crate::shell::{Output, Source};
use crate::signals::{Delivery, Disposition, INT, Signals};
use crate::state::State;
use crate::terminal::{Size, Terminal};
use crate::version::ApiVersion;

/// What a client that lags lets an exec write ahead, in writes.
const OUTPUT_DEPTH: usize = 64;
const INPUT_DEPTH: usize = 16;
/// How long an exec that ended can be inspected, at least (`daemon/exec.go`: a sweep every five minutes).
const KEPT: Nanos = 300_000_000_000;

#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) container: Arc<str>,
    spec: ExecBody,
    pub(crate) running: bool,
    started: bool,
    exit_code: Option<i64>,
    pid: u32,
    terminal: Option<Arc<Terminal>>,
    task: Option<AbortHandle>,
    /// Keeps an idle program's client waiting; let go at the end.
    output: Option<mpsc::Sender<Chunk>>,
    run: u64,
    ended: Option<Nanos>,
}

impl Exec {
    /// Ends its process without a trace.
    pub(crate) fn abort(&mut self) {
        self.output = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ExecBody {
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    privileged: bool,
    #[serde(deserialize_with = "nullable")]
    tty: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stdin: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stderr: bool,
    #[serde(deserialize_with = "nullable")]
    attach_stdout: bool,
    #[serde(deserialize_with = "nullable")]
    detach_keys: String,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    console_size: Vec<u32>,
}

impl ExecBody {
    /// The action of an event; the engine leaves a space before the arguments even if there are none.
    fn action(&self, what: &str) -> String {
        format!("{what}: {} {}", self.cmd[0], self.cmd[1..].join(" "))
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct StartBody {
    #[serde(deserialize_with = "nullable")]
    detach: bool,
    tty: Option<bool>,
}

/// 409 unless processes of the container can run now.
fn check_running(container: &Container, api: ApiVersion) -> Result<(), ApiError> {
    match container.phase {
        Phase::Running => Ok(()),
        Phase::Paused => Err(ApiError::conflict(format!(
            "container {} is paused, unpause the container before exec",
            container.id
        ))),
        Phase::Restarting => Err(ApiError::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        ))),
        Phase::Created | Phase::Exited => Err(ApiError::conflict(format!(
            "{} is not running",
            subject(api, &container.id)
        ))),
    }
}

/// `POST /containers/{id}/exec`
pub(crate) async fn create(mut call: Call) -> Answer {
    let spec: ExecBody = call.json().await?.unwrap_or_default();
    if spec.cmd.is_empty() {
        return Err(ApiError::bad("No exec command specified"));
    }
    if parse_detach_keys(&spec.detach_keys).is_none() {
        return Err(ApiError::bad(format!(
            "Invalid escape keys ({}) provided",
            spec.detach_keys
        )));
    }
    let mut state = call.engine.state();
    let id = call
        .engine
        .create_exec(&mut state, &call.target, spec, call.api)?;
    Ok(created(&json!({ "Id": &*id })).into())
}

impl Inner {
    fn create_exec(
        &self,
        state: &mut State,
        target: &str,
        spec: ExecBody,
        api: ApiVersion,
    ) -> Result<Arc<str>, ApiError> {
        check_running(state.container(target)?, api)?;
        let owner = state.container_id(target)?;
        forget_old(state, &owner, self.clock.nanos());
        let id: Arc<str> = state.rng.id().into();
        let container = state.container_mut(target)?;
        container.execs.push(Arc::clone(&id));
        let more = [("execID", id.to_string())];
        self.container_event(container, &spec.action("exec_create"), &more);
        let exec = Exec {
            container: Arc::clone(&container.id),
            spec,
            running: false,
            started: false,
            exit_code: None,
            pid: 0,
            terminal: None,
            task: None,
            output: None,
            run: container.run,
            ended: None,
        };
        state.execs.insert(Arc::clone(&id), exec);
        Ok(id)
    }

    /// Starts an exec's process; the error is the runtime's text.
    fn start_exec(
        self: &Arc<Self>,
        state: &mut State,
        id: &Arc<str>,
        output: Output,
        stdin: Source,
    ) -> Result<Arc<Signals>, String> {
        let now_pid = state.pid();
        let refuse = |error: ApiError| error.message;
        let exec = state.exec(id).map_err(refuse)?;
        let (owner, spec) = (Arc::clone(&exec.container), exec.spec.clone());
        let view = self.view(state, &owner).map_err(refuse)?;
        let container = state.container(&owner).map_err(refuse)?;
        let facts = state.images.facts(&container.image);
        let config = Arc::clone(&container.config);
        let directory = match (spec.working_dir.as_str(), config.working_dir.as_str()) {
            ("", "") => "/".to_owned(),
            ("", inherited) => inherited.to_owned(),
            (own, _) => own.to_owned(),
        };
        let script = self.script(&config.image, &container.name, &spec.cmd, true);
        let resolved = process::enter(&view, &directory).and_then(|()| {
            process::resolve(script, &spec.cmd, None, facts.has_shell, &view, &directory)
        });
        self.container_event(
            container,
            &spec.action("exec_start"),
            &[("execID", id.to_string())],
        );
        let hostname = container.hostname();
        let linked = state.variables_of_links(container);
        let pipes = Arc::clone(&container.pipes);
        let signals = Arc::new(Signals::new(Disposition::Default));
        let sender = match &output {
            Output::Client { sender, .. } => Some(sender.clone()),
            _ => None,
        };
        let program = match resolved {
            Ok(program) => program,
            Err(failure) => {
                if let Some(exec) = state.execs.get_mut(id) {
                    exec.started = true;
                    // Engines before 29 (API 1.52) give 126 to whatever cannot be executed.
                    exec.exit_code = Some(if state.api.at_least(52) {
                        failure.code
                    } else {
                        126
                    });
                }
                return Err(failure.of_exec());
            }
        };
        let terminal = spec.tty.then(|| {
            let size = Size::of_console(&spec.console_size);
            Arc::new(Terminal::new(size))
        });
        let worked = state.container_mut(&owner).map_err(refuse)?.load.worked();
        let idle = matches!(program, process::Program::Idle);
        let mut variables = environment(&config, &hostname, spec.tty, linked);
        variables.extend(spec.env.iter().cloned());
        let user = user_numbers(if spec.user.is_empty() {
            &config.user
        } else {
            &spec.user
        });
        let view = View { user, ..view };
        let process = Process {
            engine: Arc::clone(self),
            container: owner,
            output,
            pipes,
            signals: Arc::clone(&signals),
            view,
            hostname,
            terminal: terminal.clone(),
            worked,
            has_shell: facts.has_shell,
            user,
        };
        let ended_id = Arc::clone(id);
        let start = Start {
            process,
            program,
            argv: spec.cmd,
            environment: variables,
            directory,
            stdin,
        };
        let task = process::spawn(start, move |engine, exit| {
            let mut state = engine.state();
            engine.exec_ended(&mut state, &ended_id, exit, false);
        });
        if let Some(exec) = state.execs.get_mut(id) {
            exec.started = true;
            exec.running = true;
            exec.pid = now_pid;
            exec.task = task;
            exec.terminal = terminal;
            exec.output = sender.filter(|_| idle);
        }
        Ok(signals)
    }

    /// An exec's process is gone; `abort` if it has to be made go.
    pub(crate) fn exec_ended(
        self: &Arc<Self>,
        state: &mut State,
        id: &str,
        exit: Exit,
        abort: bool,
    ) {
        let Some(exec) = state.execs.get_mut(id) else {
            return;
        };
        if !exec.running {
            return;
        }
        exec.running = false;
        exec.exit_code = Some(exit.code);
        exec.ended = Some(self.clock.nanos());
        exec.output = None;
        if let Some(task) = exec.task.take().filter(|_| abort) {
            task.abort();
        }
        let owner = Arc::clone(&exec.container);
        if let Some(container) = state.containers.get(&owner) {
            let more = [
                ("execID", id.to_owned()),
                ("exitCode", exit.code.to_string()),
            ];
            self.container_event(container, "exec_die", &more);
        }
        self.exec_changed.notify_waiters();
    }

    /// Runs a command in a container as an exec of the engine's own and waits for it.
    pub(crate) fn probe(
        self: &Arc<Self>,
        container: &str,
        command: Vec<String>,
        output: Output,
    ) -> Result<Arc<str>, ApiError> {
        let mut state = self.state();
        let spec = ExecBody {
            cmd: command,
            ..ExecBody::default()
        };
        let api = state.api;
        let id = self.create_exec(&mut state, container, spec, api)?;
        match self.start_exec(&mut state, &id, output, Source::empty()) {
            Ok(_) => Ok(id),
            Err(message) => Err(ApiError::bad(message)),
        }
    }
}

/// Forgets a container's execs that ended long ago.
fn forget_old(state: &mut State, container: &str, now: Nanos) {
    let State {
        containers, execs, ..
    } = state;
    let Some(container) = containers.get_mut(container) else {
        return;
    };
    container.execs.retain(|id| {
        let old = execs
            .get(id)
            .is_none_or(|exec| exec.ended.is_some_and(|ended| ended + KEPT < now));
        if old {
            execs.remove(id);
        }
        !old
    });
}

/// Forgets an exec that nobody will ask for.
pub(crate) fn forget(state: &mut State, id: &str) {
    if let Some(exec) = state.execs.remove(id)
        && let Some(container) = state.containers.get_mut(&exec.container)
    {
        container.execs.retain(|other| **other != *id);
    }
}

/// `POST /exec/{id}/start`
pub(crate) async fn start(mut call: Call) -> Answer {
    let body: StartBody = call.json().await?.unwrap_or_default();
    let api = call.api;
    let mut state = call.engine.state();
    let exec = state.exec(&call.target)?;
    let container = state.container(&exec.container)?;
    let spec = exec.spec.clone();
    let before = match (exec.started, exec.exit_code) {
        (_, Some(_)) => Some("has already run"),
        (true, None) => Some("is already running"),
        (false, None) => None,
    };
    if let Some(before) = before {
        let exec = if state.api.at_least(44) {
            "exec"
        } else {
            "Error: Exec"
        };
        let message = format!("{exec} command {} {before}", call.target);
        return if body.detach {
            Err(ApiError::conflict(message))
        } else {
            // The head of the reply is on its way when the engine finds out.
            Ok(Reply::Hijack(Box::new(farewell(&call, &spec, &message))))
        };
    }
    if exec.run != container.run {
        return Err(ApiError::conflict(format!(
            "{} is not running",
            subject(api, &container.id)
        )));
    }
    check_running(container, api)?;
    let id: Arc<str> = call.target.as_str().into();
    if body.tty.is_some_and(|tty| tty != spec.tty && tty) {
        return Err(ApiError::bad(
            "Tty of the start request differs from the exec's",
        ));
    }
    if body.detach {
        call.engine
            .start_exec(&mut state, &id, Output::Nowhere, Source::empty())
            .map_err(ApiError::bad)?;
        return Ok(status(hyper::StatusCode::OK).into());
    }
    let (sender, receiver) = mpsc::channel(OUTPUT_DEPTH);
    let last_words = sender.downgrade();
    let output = Output::Client {
        sender,
        tty: spec.tty,
    };
    let (input, stdin) = if spec.attach_stdin {
        let (sender, receiver) = mpsc::channel(INPUT_DEPTH);
        let stdin = if spec.tty {
            Source::terminal(receiver, output.clone())
        } else {
            Source::channel(receiver)
        };
        (
            Some(Input {
                sender,
                closes: None,
                ends_output: spec.tty,
            }),
            stdin,
        )
    } else {
        (None, Source::empty())
    };
    let keys = parse_detach_keys(&spec.detach_keys).unwrap_or_default();
    let mut session = Session {
        stdout: spec.attach_stdout,
        stderr: spec.attach_stderr,
        output: Some(receiver),
        input,
        detach_keys: if spec.tty { keys } else { Vec::new() },
        ..stream(&call, &spec)
    };
    match call.engine.start_exec(&mut state, &id, output, stdin) {
        Ok(signals) => {
            let engine = Arc::clone(&call.engine);
            let (detached, detached_id) = (Arc::clone(&engine), Arc::clone(&id));
            session.on_detach = Some(Box::new(move || {
                let text = "exec attach failed: error on attach stdin: read escape sequence\r\n";
                if let Some(output) = last_words.upgrade() {
                    // A client that reads nothing misses it.
                    let _ = output.try_send((StreamId::Stdout, text.into()));
                }
                let exit = Exit {
                    code: 126,
                    out_of_memory: false,
                };
                // Its terminal is gone, and with it the process.
                detached.exec_ended(&mut detached.state(), &detached_id, exit, true);
                Detached::ReadOn
            }));
            let interrupt = move || {
                signals.interrupted.notify_waiters();
                if let Delivery::Fatal(code) = signals.deliver(INT) {
                    let mut state = engine.state();
                    engine.exec_ended(
                        &mut state,
                        &id,
                        Exit {
                            code,
                            out_of_memory: false,
                        },
                        true,
                    );
                }
            };
            session.on_interrupt = spec
                .tty
                .then(|| -> Box<dyn Fn() + Send + Sync> { Box::new(interrupt) });
        }
        // The head of the reply is on its way when the start is tried: the error is output.
        Err(message) => session = farewell(&call, &spec, &message),
    }
    Ok(Reply::Hijack(Box::new(session)))
}

/// A stream for a client's exec, with nothing on it.
fn stream(call: &Call, spec: &ExecBody) -> Session {
    Session {
        head: head(
            call.upgrade(),
            call.api.at_least(42) && call.upgrade() && !spec.tty,
            "",
        ),
        framed: !spec.tty,
        stdout: false,
        stderr: false,
        earlier: Vec::new(),
        output: None,
        input: None,
        detach_keys: Vec::new(),
        on_detach: None,
        on_interrupt: None,
    }
}

/// A stream that says why there is no command on it.
fn farewell(call: &Call, spec: &ExecBody, message: &str) -> Session {
    Session {
        stdout: true,
        earlier: vec![(StreamId::Stdout, format!("{message}\r\n").into())],
        ..stream(call, spec)
    }
}

/// `GET /exec/{id}/json`
pub(crate) async fn inspect(call: Call) -> Answer {
    let state = call.engine.state();
    let exec = state.exec(&call.target)?;
    let spec = &exec.spec;
    let mut process = json!({
        "tty": spec.tty,
        "entrypoint": spec.cmd[0],
        "arguments": &spec.cmd[1..],
        "privileged": spec.privileged,
    });
    if !spec.user.is_empty() {
        process["user"] = json!(spec.user);
    }
    Ok(json(&json!({
        "ID": call.target,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": process,
        "OpenStdin": spec.attach_stdin,
        "OpenStderr": spec.attach_stderr,
        "OpenStdout": spec.attach_stdout,
        "CanRemove": exec.exit_code.is_some(),
        "ContainerID": &*exec.container,
        "DetachKeys": spec.detach_keys,
        "Pid": exec.pid,
    }))
    .into())
}

/// `POST /exec/{id}/resize`
pub(crate) async fn resize(call: Call) -> Answer {
    let size = Size::of_call(&call)?;
    let state = call.engine.state();
    let exec = state.exec(&call.target)?;
    if !exec.running {
        return Err(ApiError::conflict(format!(
            "exec process is not running: {}",
            call.target
        )));
    }
    if let Some(terminal) = &exec.terminal {
        terminal.resize(size);
    }
    Ok(status(hyper::StatusCode::OK).into())
}

/// The commands of a container's running execs with their process ids.
pub(crate) fn running<'a>(
    state: &'a State,
    container: &'a Container,
) -> impl Iterator<Item = (u32, String)> + 'a {
    let execs = container.execs.iter().filter_map(|id| state.execs.get(id));
    execs
        .filter(|exec| exec.running)
        .map(|exec| (exec.pid, exec.spec.cmd.join(" ")))
}

/// An exec's exit code once it has ended.
pub(crate) fn exit_code(state: &State, id: &str) -> Option<i64> {
    state.execs.get(id).and_then(|exec| exec.exit_code)
}
