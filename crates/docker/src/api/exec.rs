//! Commands in running containers, and attaching to the main process.

use super::{Attached, Gate, TerminalSize, about, flag};
use crate::client::{Docker, Framing};
use crate::error::Error;
use crate::model::{ContainerInspect, CreateExecResponse, ExecConfig, ExecInspect, StartExec};
use crate::request::{Method, Operation, Request};

/// What [`Docker::attach`] attaches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttachOptions {
    /// Standard input; the container needs to have it open.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// What was written before, from the log.
    pub logs: bool,
    /// What is written from now on. Without it the stream ends after the log.
    pub stream: bool,
    /// The keys that detach a terminal, such as `ctrl-p,ctrl-q`.
    pub detach_keys: Option<String>,
    /// Whether the container has a terminal, if that is known. `None` asks the Engine when its reply does not say.
    pub tty: Option<bool>,
}

impl Default for AttachOptions {
    /// Both outputs, from now on.
    fn default() -> Self {
        Self {
            stdin: false,
            stdout: true,
            stderr: true,
            logs: false,
            stream: true,
            detach_keys: None,
            tty: None,
        }
    }
}

impl Docker {
    /// Prepares a command in a running container and gives its id. Nothing runs yet.
    ///
    /// `POST /containers/{id}/exec`. Deadline: short. Dropping the future may leave a command that is never started; the
    /// Engine forgets it.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it does not run or is paused.
    pub async fn create_exec(&self, container: &str, config: &ExecConfig) -> Result<String, Error> {
        let operation = Operation::CREATE_EXEC;
        if !config.console_size.is_empty() {
            self.require(operation, &[Gate::new("ExecConfig.ConsoleSize", 42)])
                .await?;
        }
        let request =
            about(operation, Method::Post, "/containers", container, "/exec")?.json(config);
        let CreateExecResponse { id } = self.send_json(request).await?;
        if id.is_empty() {
            return Err(Error::malformed(
                operation,
                format!("it has no id for the command in {container}"),
            ));
        }
        Ok(id)
    }

    /// Starts a prepared command and attaches to what it was created with. `tty` has to be what it was created with.
    ///
    /// A command that can't be started, or was started before, is told by text in its output; afterwards
    /// [`inspect_exec`](Self::inspect_exec) gives exit code 126 or 127 for one that can't be started. So does the use of
    /// its detach keys, though the command goes on.
    ///
    /// `POST /exec/{id}/start`. Deadline: short until it runs, then none. Not cancellable in the Engine: dropping the
    /// future or the streams closes its input and loses its output, but the command goes on until its end. The API has
    /// no way to kill it; its process id is in inspect.
    ///
    /// # Errors
    /// 404 when there is no such command; 409 when the container does not run.
    pub async fn start_exec(&self, exec: &str, tty: bool) -> Result<Attached, Error> {
        let request = about(Operation::START_EXEC, Method::Post, "/exec", exec, "/start")?
            .json(&StartExec { detach: false, tty });
        let upgraded = self.send_upgrade(request).await?;
        let framing = content_framing(upgraded.headers()).unwrap_or_else(|| Framing::of_tty(tty));
        let (output, input) = upgraded.into_parts(framing);
        Ok(Attached { input, output })
    }

    /// Starts a prepared command and lets it run by itself.
    ///
    /// `POST /exec/{id}/start` with `Detach`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such command; 409 when the container does not run, or the command was started before; 400 or
    /// 500 when it can't be started.
    pub async fn start_exec_detached(&self, exec: &str) -> Result<(), Error> {
        let request = about(Operation::START_EXEC, Method::Post, "/exec", exec, "/start")?;
        self.send(request.json(&StartExec {
            detach: true,
            tty: false,
        }))
        .await
        .map(drop)
    }

    /// What became of a command. The Engine forgets it some minutes after its end, and with its container.
    ///
    /// `GET /exec/{id}/json`. Deadline: short. Cancel safe.
    ///
    /// # Errors
    /// 404 when there is no such command.
    pub async fn inspect_exec(&self, exec: &str) -> Result<ExecInspect, Error> {
        self.send_json(about(
            Operation::INSPECT_EXEC,
            Method::Get,
            "/exec",
            exec,
            "/json",
        )?)
        .await
    }

    /// Tells a command's terminal its size. The command has to run; right after its start the Engine may still say 404
    /// or 500.
    ///
    /// `POST /exec/{id}/resize`. Deadline: short. Dropping the future does not undo it.
    ///
    /// # Errors
    /// 404 when there is no such command or it does not run.
    pub async fn resize_exec_tty(&self, exec: &str, size: TerminalSize) -> Result<(), Error> {
        let request = about(
            Operation::RESIZE_EXEC_TTY,
            Method::Post,
            "/exec",
            exec,
            "/resize",
        )?;
        self.send(request.query("h", size.height).query("w", size.width))
            .await
            .map(drop)
    }

    /// Attaches to a container's main process. Attach before the start to miss nothing.
    ///
    /// `POST /containers/{id}/attach`. Deadline: short until attached, then none. Dropping the future or the streams
    /// detaches; the container goes on, except that its input ends if it was created with `stdin_once`.
    ///
    /// # Errors
    /// 404 when there is no such container; 409 when it is paused or restarting.
    pub async fn attach(
        &self,
        container: &str,
        options: &AttachOptions,
    ) -> Result<Attached, Error> {
        let request = about(
            Operation::ATTACH,
            Method::Post,
            "/containers",
            container,
            "/attach",
        )?
        .query_some("stream", flag(options.stream))
        .query_some("stdin", flag(options.stdin))
        .query_some("stdout", flag(options.stdout))
        .query_some("stderr", flag(options.stderr))
        .query_some("logs", flag(options.logs))
        .query_some("detachKeys", options.detach_keys.as_deref());
        let upgraded = self.send_upgrade(request).await?;
        let framing = match content_framing(upgraded.headers()) {
            Some(framing) => framing,
            None => {
                self.framing_of(Operation::ATTACH, container, options.tty)
                    .await?
            }
        };
        let (output, input) = upgraded.into_parts(framing);
        Ok(Attached { input, output })
    }

    /// How a container's output is framed when the reply does not say: by whether it has a terminal.
    pub(crate) async fn framing_of(
        &self,
        operation: Operation,
        container: &str,
        tty: Option<bool>,
    ) -> Result<Framing, Error> {
        let tty = match tty {
            Some(tty) => tty,
            None => {
                let request: Request =
                    about(operation, Method::Get, "/containers", container, "/json")?;
                self.send_json::<ContainerInspect>(request)
                    .await?
                    .config
                    .tty
            }
        };
        Ok(Framing::of_tty(tty))
    }
}

/// What the reply says of its framing.
pub(crate) fn content_framing(headers: &crate::wire::head::Headers) -> Option<Framing> {
    headers
        .get("content-type")
        .and_then(Framing::from_content_type)
}
