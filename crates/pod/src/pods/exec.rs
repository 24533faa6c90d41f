//! Commands in running containers, and attaching to their main process.

use std::time::Duration;

use berth_docker::api::{AttachOptions, Attached, TerminalSize};
use berth_docker::model::ExecConfig;
use berth_docker::{FrameStream, Source, UpgradedWriter};

use super::processes::kill_tree;
use super::{Pods, found, no_container};
use crate::observe::Container;
use crate::runtime::Error;
use crate::spec::ContainerId;
use crate::view::ExecEnd;

/// The most that is kept of a command's output, both streams together: clients of the interface take messages of at most 16 MiB.
const MAX_OUTPUT: usize = (16 << 20) - (64 << 10);

/// Between two questions for the end of a command whose event may have been lost.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How often the engine is asked for the process of a command that is to be killed, until it has one: ten seconds.
const PROCESS_ASKS: u32 = 200;

/// How often a terminal's size is set before the engine has it: a command that is just being started has none yet.
const RESIZES: u32 = 20;

/// A command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Give it a terminal, which has no standard error.
    pub tty: bool,
    /// Connect its standard input.
    pub stdin: bool,
    /// Show its standard output.
    pub stdout: bool,
    /// Show its standard error.
    pub stderr: bool,
}

/// What came of a command that was waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code; 128 + the signal that ended it.
    pub exit_code: i64,
    /// What it wrote to its standard output, up to a limit of nearly 16 MiB for both streams together.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, within the same limit.
    pub stderr: Vec<u8>,
}

/// What has a terminal.
#[derive(Debug, Clone)]
pub struct Terminal {
    pods: Pods,
    of: Whose,
}

#[derive(Debug, Clone)]
enum Whose {
    Exec(String),
    Container(ContainerId),
}

impl Terminal {
    /// Sets its size in characters. Zero sizes are ignored. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer, or there is no terminal any more.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), Error> {
        if width == 0 || height == 0 {
            return Ok(());
        }
        let size = TerminalSize { height, width };
        let docker = self.pods.docker();
        let mut tries = 0;
        loop {
            let result = match &self.of {
                Whose::Exec(id) => docker.resize_exec_tty(id, size).await,
                Whose::Container(id) => docker.resize_container_tty(id.as_str(), size).await,
            };
            match result {
                Ok(()) => return Ok(()),
                Err(error) if error.is_refused() && tries < RESIZES => {
                    tries += 1;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A command that runs, or a main process that is attached to.
#[derive(Debug)]
pub struct Session {
    /// Its standard input.
    pub input: UpgradedWriter,
    /// Whether the end of a client's input is the end of that of the process: not of a terminal, and not where others may attach after this
    /// one. Docker would take such an end for that of the client, and end the output.
    pub input_ends: bool,
    /// Its output.
    pub output: FrameStream,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Its end; `None` when a main process is attached to, which has no exit code of the session's.
    pub end: Option<SessionEnd>,
}

/// The end of a command. Dropped before the end, it ends the command.
#[derive(Debug)]
pub struct SessionEnd {
    pods: Pods,
    exec: String,
    told: ExecEnd,
    kill: KillOnDrop,
}

impl SessionEnd {
    /// Waits for the command's exit code. Cancel safe.
    ///
    /// # Errors
    /// When the engine does not answer, or has forgotten the command.
    pub async fn exit_code(&mut self) -> Result<i64, Error> {
        if let Some(code) = self.told.wait().await {
            self.kill.disarm();
            return Ok(code);
        }
        // Its event may have been lost with the connection.
        loop {
            let state = self.pods.docker().inspect_exec(&self.exec).await?;
            if let Some(code) = state.exit_code.filter(|_| !state.running) {
                self.kill.disarm();
                return Ok(code);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// Ends a command that nobody waits for any more.
#[derive(Debug)]
struct KillOnDrop {
    pods: Pods,
    container: ContainerId,
    exec: Option<String>,
}

impl KillOnDrop {
    fn disarm(&mut self) {
        self.exec = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(exec) = self.exec.take() else { return };
        let (pods, container) = (self.pods.clone(), self.container.clone());
        self.pods
            .0
            .work
            .spawn(async move { pods.kill_exec(&container, &exec).await });
    }
}

impl Pods {
    async fn running(&self, id: &ContainerId) -> Result<std::sync::Arc<Container>, Error> {
        let container = self
            .0
            .view
            .container(id)
            .await?
            .ok_or_else(|| no_container(id))?;
        if !container.is_running() {
            return Err(not_running(&container));
        }
        Ok(container)
    }

    /// Runs a command to its end. When the call is dropped, or `timeout` has passed, the command and what it started are killed.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Invalid`] when it does not run, [`Error::TimedOut`]; when the command cannot be
    /// started. A command that fails is no error.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let spec = ExecSpec {
            command: command.to_vec(),
            stdout: true,
            stderr: true,
            ..ExecSpec::default()
        };
        let mut kill = self.kill_on_drop(id);
        let work = async {
            let mut session = self.exec_guarded(id, &spec, Some(&mut kill)).await?;
            let mut output = ExecOutput::default();
            while let Some(frame) = session.output.next().await {
                let frame = frame?;
                let room = MAX_OUTPUT - output.stdout.len() - output.stderr.len();
                let kept = &frame.bytes[..frame.bytes.len().min(room)];
                match frame.source {
                    Source::Stderr => output.stderr.extend_from_slice(kept),
                    _ => output.stdout.extend_from_slice(kept),
                }
            }
            if let Some(end) = &mut session.end {
                output.exit_code = end.exit_code().await?;
            }
            Ok(output)
        };
        let result = match timeout {
            Some(timeout) => match tokio::time::timeout(timeout, work).await {
                Ok(result) => result,
                Err(_) => {
                    if let Some(exec) = kill.exec.take() {
                        self.kill_exec(id, &exec).await;
                    }
                    return Err(Error::TimedOut(format!(
                        "the command {command:?} in the container {id} did not end within {timeout:?} and was killed"
                    )));
                }
            },
            None => work.await,
        };
        if result.is_ok() {
            kill.disarm();
        }
        result
    }

    fn kill_on_drop(&self, container: &ContainerId) -> KillOnDrop {
        KillOnDrop {
            pods: self.clone(),
            container: container.clone(),
            exec: None,
        }
    }

    /// Starts a command and connects to it. Dropping the session before its end has been told ends the command: nobody could reach it again.
    ///
    /// # Errors
    /// As for [`exec_sync`](Self::exec_sync).
    pub async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session, Error> {
        self.exec_guarded(id, spec, None).await
    }

    async fn exec_guarded(
        &self,
        id: &ContainerId,
        spec: &ExecSpec,
        guard: Option<&mut KillOnDrop>,
    ) -> Result<Session, Error> {
        let container = self.running(id).await?;
        let config = ExecConfig {
            attach_stdin: spec.stdin,
            attach_stdout: spec.stdout,
            attach_stderr: spec.stderr && !spec.tty,
            tty: spec.tty,
            cmd: spec.command.clone(),
            ..ExecConfig::default()
        };
        let exec = match self.docker().create_exec(id.as_str(), &config).await {
            Ok(exec) => exec,
            Err(error) if error.is_conflict() => return Err(not_running(&container)),
            Err(error) => return Err(found(error.into(), || no_container(id))),
        };
        let told = self.0.view.exec_end(&exec);
        let mut kill = self.kill_on_drop(id);
        guard.unwrap_or(&mut kill).exec = Some(exec.clone());
        let Attached { input, output } = self.docker().start_exec(&exec, spec.tty).await?;
        Ok(Session {
            input,
            input_ends: !spec.tty,
            output,
            terminal: spec.tty.then(|| Terminal {
                pods: self.clone(),
                of: Whose::Exec(exec.clone()),
            }),
            end: Some(SessionEnd {
                pods: self.clone(),
                exec,
                told,
                kill,
            }),
        })
    }

    /// Connects to the main process of a container. Dropping the session leaves it running.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Invalid`] when it does not run.
    pub async fn attach(
        &self,
        id: &ContainerId,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Session, Error> {
        let container = self.running(id).await?;
        let options = AttachOptions {
            stdin: stdin && container.stdin,
            stdout,
            stderr: stderr && !container.tty,
            tty: Some(container.tty),
            ..AttachOptions::default()
        };
        let Attached { input, output } = self.docker().attach(id.as_str(), &options).await?;
        Ok(Session {
            input,
            input_ends: container.stdin_once && !container.tty,
            output,
            terminal: container.tty.then(|| Terminal {
                pods: self.clone(),
                of: Whose::Container(id.clone()),
            }),
            end: None,
        })
    }

    /// Checks that a command could be started in, or something attached to, a container.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the container, [`Error::Invalid`] when it does not run.
    pub async fn check_running(&self, id: &ContainerId) -> Result<(), Error> {
        self.running(id).await.map(drop)
    }

    async fn kill_exec(&self, container: &ContainerId, exec: &str) {
        let mut asked = 0;
        let pid = loop {
            match self.docker().inspect_exec(exec).await {
                // The engine says that it runs before it has a process.
                Ok(state) if state.running && state.pid == 0 && asked < PROCESS_ASKS => {
                    asked += 1;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Ok(state) if state.running => break u32::try_from(state.pid).unwrap_or_default(),
                // It has ended by itself.
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, %container, "a command that has to be killed cannot be found");
                    return;
                }
            }
        };
        let (id, root) = (container.clone(), pid);
        let killed = tokio::task::spawn_blocking(move || kill_tree(root, &id)).await;
        if killed.is_ok_and(|count| count == 0) {
            tracing::warn!(%container, pid, "a command outlives its time: it has no process on this host");
        }
    }
}

fn not_running(container: &Container) -> Error {
    Error::Invalid(format!(
        "the container {} ({} of the pod {}/{}) does not run",
        container.id, container.name, container.pod.namespace, container.pod.name
    ))
}
