//! `berth exec`: a command in a running container, with our input, outputs, terminal and exit code.
//!
//! The command belongs to the engine. When this program is ended by a signal, its terminal is restored, the command's input ends, and the
//! command goes on: the Engine API has no call that ends it.

use std::convert::Infallible;
use std::future::pending;
use std::io::{IsTerminal as _, Stdin, Write as _};
use std::time::Duration;

use berth_docker::api::TerminalSize;
use berth_docker::model::ExecConfig;
use berth_docker::{ApiVersion, Docker, FrameStream, Source, UpgradedWriter};
use berth_pod::Runtime;
use berth_pod::observe::State;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::cli::{EngineArgs, ExecArgs};
use crate::engine;
use crate::exit::{Code, Failure};
use crate::output;
use crate::pods::{self, Instances, PodFound};

/// The first API version that takes the terminal's size when the command is created.
const SIZE_AT_CREATE: ApiVersion = ApiVersion::new(1, 42);

/// The keys that detach, which kubectl does not have and the engine cannot switch off. Its default begins with Ctrl-P and would swallow that
/// from every shell; nobody types this one.
const DETACH_KEYS: &str = "ctrl-@,ctrl-^,ctrl-@,ctrl-^";

/// How often a terminal's size is told to a command that is not quite started yet, and the pause before each try.
const SIZE_TRIES: u32 = 10;
const SIZE_PAUSE: Duration = Duration::from_millis(20);

/// How long the engine may go without telling the exit code of a command that does not run any more.
const CODE_PATIENCE: Duration = Duration::from_secs(10);

/// The most input that is read at once, in bytes.
const READ: usize = 16 * 1024;

/// How the engine's words begin when it cannot start a command. They come as the command's output, and belong to the errors.
const NOT_STARTED: &[u8] = b"OCI runtime exec failed: ";

/// The number of `SIGPIPE` (signal(7)).
const SIGPIPE: u8 = 13;

/// Runs the command of `args`. The failure carries the command's exit code.
pub(crate) async fn exec(engine: &EngineArgs, args: &ExecArgs) -> Result<(), Failure> {
    let runtime = Runtime::new(engine::connect(engine).await?);
    let docker = runtime.docker();
    let pod = pods::find(&runtime, &args.namespace.namespace, &args.pod).await?;
    let container = running(&pod, pod.container(args.container.as_deref())?)?;

    let stdin = std::io::stdin();
    let tty = args.tty && stdin.is_terminal();
    if args.tty && !tty {
        let _ = writeln!(
            anstream::stderr(),
            "{}warning:{} Unable to use a TTY - input is not a terminal or the right kind of file",
            output::WARNING,
            output::WARNING.render_reset()
        );
    }
    let mut config = ExecConfig {
        attach_stdin: args.stdin,
        attach_stdout: true,
        attach_stderr: true,
        tty,
        cmd: args.command.clone(),
        ..Default::default()
    };
    let mut size_is_known = true;
    if tty {
        DETACH_KEYS.clone_into(&mut config.detach_keys);
        match size(&stdin) {
            Some(TerminalSize { height, width })
                if docker.api_version().await? >= SIZE_AT_CREATE =>
            {
                config.console_size = vec![height, width];
            }
            Some(_) => size_is_known = false,
            None => {}
        }
    }
    let id = docker.create_exec(container, &config).await?;

    // From here on a signal must not end us past the guard, which owns the terminal.
    let raw = tty && args.stdin;
    let mut fatal = if raw { Fatal::new()? } else { Fatal::default() };
    let guard = if raw { Some(Raw::enter(&stdin)?) } else { None };
    let resized = if tty {
        Some(signal(SignalKind::window_change())?)
    } else {
        None
    };

    let session = async {
        let attached = docker.start_exec(&id, tty).await?;
        let work = async {
            let held = write_out(attached.output).await?;
            let end = end_of(docker, &id).await?;
            match held {
                Some(words) if end.pid == 0 => Err(not_started(end.code, &words)),
                Some(words) => write(&mut tokio::io::stdout(), &words)
                    .await
                    .map(|()| end.code),
                None => Ok(end.code),
            }
        };
        tokio::select! {
            code = work => code,
            never = feed(args.stdin.then_some(attached.input)) => match never {},
            never = follow_size(docker, &id, &stdin, resized, size_is_known) => match never {},
        }
    };
    let code = tokio::select! {
        code = session => code?,
        number = fatal.next() => 128 + number,
    };
    drop(guard);
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::of_program(code))
    }
}

/// The ID of the container's running instance.
fn running<'a>(pod: &PodFound, group: &'a Instances) -> Result<&'a str, Failure> {
    let (name, pod) = (&group.name, &pod.identity.name);
    let state = match group.current() {
        Some(container) => match &container.state {
            State::Running { .. } => return Ok(container.id.as_str()),
            State::Created => "it has not been started yet".to_owned(),
            State::Removing => "it is being removed".to_owned(),
            State::Exited {
                error,
                started_at: None,
                ..
            } if !error.is_empty() => format!("it could not be started: {error}"),
            State::Exited { exit_code, .. } => format!("it has ended with exit code {exit_code}"),
        },
        None => "it has not been made yet".to_owned(),
    };
    Err(Failure::new(
        Code::Failed,
        format!("container {name:?} in pod {pod:?} is not running: {state}"),
    ))
}

/// Copies the command's output until it ends. Cancelled, it may leave a part of a piece unwritten.
///
/// Gives back, unwritten, an output that consists of what the engine writes there when it cannot start the command.
async fn write_out(mut output: FrameStream) -> Result<Option<Vec<u8>>, Failure> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut held = None;
    let mut first = true;
    while let Some(frame) = output.next().await {
        let frame = frame?;
        if std::mem::take(&mut first) && frame.bytes.starts_with(NOT_STARTED) {
            held = Some(frame.bytes.to_vec());
            continue;
        }
        if let Some(bytes) = held.take() {
            write(&mut stdout, &bytes).await?;
        }
        match frame.source {
            Source::Stderr => write(&mut stderr, &frame.bytes).await?,
            _ => write(&mut stdout, &frame.bytes).await?,
        }
    }
    Ok(held)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Failure> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written
        .await
        .map_err(|error: std::io::Error| match error.kind() {
            // As if the signal had ended us: nobody reads on.
            std::io::ErrorKind::BrokenPipe => Failure::of_program(128 + SIGPIPE),
            _ => Failure::new(
                Code::Failed,
                format!("the command's output cannot be written: {error}"),
            ),
        })
}

/// The failure of a command that never ran, in the engine's words.
fn not_started(code: u8, words: &[u8]) -> Failure {
    Failure {
        code,
        message: String::from_utf8_lossy(words).trim_end().to_owned(),
    }
}

/// Passes standard input on, and its end. It never ends itself: only the command's output says when it is over.
async fn feed(input: Option<UpgradedWriter>) -> Infallible {
    if let Some(mut input) = input {
        let mut stdin = tokio::io::stdin();
        let mut buffer = vec![0; READ];
        loop {
            match stdin.read(&mut buffer).await {
                Ok(0) => break,
                // A command may end, or close its input, before it has read everything.
                Ok(len) => match input.write_all(&buffer[..len]).await {
                    Ok(()) => {}
                    Err(_) => break,
                },
                Err(error) => {
                    tracing::warn!(%error, "standard input cannot be read; the command's input ends here");
                    break;
                }
            }
        }
        let _ = input.shutdown().await;
    }
    pending().await
}

/// How a command ended.
struct End {
    code: u8,
    /// Its process; 0 when it never had one.
    pid: i64,
}

/// Waits for the end of a command whose output has ended. It may go on without outputs, and then so does this.
async fn end_of(docker: &Docker, exec: &str) -> Result<End, Failure> {
    let mut pause = Duration::from_millis(5);
    let mut ended_since = None;
    loop {
        let state = docker.inspect_exec(exec).await?;
        if !state.running {
            if let Some(code) = state.exit_code {
                return Ok(End {
                    code: u8::try_from(code).unwrap_or(Code::Failed as u8),
                    pid: state.pid,
                });
            }
            if ended_since.get_or_insert_with(Instant::now).elapsed() > CODE_PATIENCE {
                return Err(Failure::new(
                    Code::Failed,
                    "the command has ended, and the engine does not say with which exit code",
                ));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

fn size(terminal: &Stdin) -> Option<TerminalSize> {
    let size = termios::tcgetwinsize(terminal).ok()?;
    // A terminal that does not know its size says 0.
    (size.ws_row > 0 && size.ws_col > 0).then_some(TerminalSize {
        height: size.ws_row,
        width: size.ws_col,
    })
}

/// Tells the command's terminal the size of ours, whenever that changes; at first too, unless the engine knows it already.
async fn follow_size(
    docker: &Docker,
    exec: &str,
    terminal: &Stdin,
    changed: Option<Signal>,
    mut known: bool,
) -> Infallible {
    let Some(mut changed) = changed else {
        pending().await
    };
    loop {
        for _ in 0..SIZE_TRIES {
            if known {
                break;
            }
            let Some(size) = size(terminal) else { break };
            match docker.resize_exec_tty(exec, size).await {
                Ok(()) => known = true,
                // The reply to a start comes before the command runs; until then the engine has no terminal to resize.
                Err(error) if error.is_refused() => sleep(SIZE_PAUSE).await,
                Err(error) => {
                    tracing::debug!(%error, "the terminal's size was not told");
                    break;
                }
            }
        }
        if changed.recv().await.is_none() {
            pending::<()>().await;
        }
        known = false;
    }
}

/// The terminal in raw mode: every key goes to the command. Dropping it brings the earlier mode back, also when a panic unwinds.
struct Raw<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn enter(terminal: &'a Stdin) -> Result<Self, Failure> {
        let failed = |error| {
            Failure::new(
                Code::Failed,
                format!("the terminal cannot be put into raw mode: {error}"),
            )
        };
        let before = termios::tcgetattr(terminal).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(terminal, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // Fails only when the terminal is gone, and then there is nothing to restore.
        let _ = termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// The signals that would end the program without a chance to restore its terminal. None while it has not changed it.
#[derive(Default)]
struct Fatal(Vec<(u8, Signal)>);

impl Fatal {
    /// Signal numbers as in signal(7).
    fn new() -> Result<Self, Failure> {
        let signals = [
            (1, SignalKind::hangup()),
            (2, SignalKind::interrupt()),
            (3, SignalKind::quit()),
            (15, SignalKind::terminate()),
        ];
        Ok(Self(
            signals
                .into_iter()
                .map(|(number, kind)| Ok((number, signal(kind)?)))
                .collect::<Result<_, std::io::Error>>()?,
        ))
    }

    /// The number of the next signal.
    async fn next(&mut self) -> u8 {
        std::future::poll_fn(|cx| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
