//! Owns processes: what stands for a container's command or an exec, and its run until it exits. Knows the shell and
//! scripts; knows no requests. What an exit means for the container is `lifecycle`'s.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::clock::{Nanos, duration_nanos};
use crate::engine::Inner;
use crate::files::{Kind, Node, View, clean};
use crate::log::StreamId;
use crate::pipes::Pipes;
use crate::script::{Script, Step};
use crate::shell::{Io, Output, Shell, Sink, Source, known_applet};
use crate::signals::{self, Disposition, Signals};
use crate::terminal::Terminal;
use crate::version::ApiVersion;

/// What a process runs with.
pub(crate) struct Process {
    pub(crate) engine: Arc<Inner>,
    pub(crate) container: Arc<str>,
    pub(crate) output: Output,
    /// The container's pipes, which also freeze it.
    pub(crate) pipes: Arc<Pipes>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) view: View,
    pub(crate) hostname: String,
    pub(crate) terminal: Option<Arc<Terminal>>,
    /// The processor time that the commands of the container's shells took, in nanoseconds.
    pub(crate) worked: Arc<AtomicU64>,
    /// Whether the image has a shell and its programs.
    pub(crate) has_shell: bool,
    /// User and group number.
    pub(crate) user: (u32, u32),
}

/// What stands for a command.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// Nothing runs: it is there until a signal ends it.
    Idle,
    /// The built-in shell runs it.
    Shell,
    Script(Arc<Script>),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i64,
    pub(crate) out_of_memory: bool,
}

/// Why a command cannot be started, as the OCI runtime says it.
#[derive(Clone, Debug)]
pub(crate) struct StartFailure {
    pub(crate) message: String,
    pub(crate) code: i64,
}

impl StartFailure {
    fn runtime(detail: &str, code: i64) -> Self {
        Self {
            message: detail.to_owned(),
            code,
        }
    }

    /// The text for a container's first process.
    pub(crate) fn of_container(&self, api: ApiVersion) -> String {
        let task = if api.at_least(43) {
            "failed to create task for container: "
        } else {
            ""
        };
        format!(
            "{task}failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {}: unknown",
            self.message
        )
    }

    /// The text for an exec.
    pub(crate) fn of_exec(&self) -> String {
        format!(
            "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown",
            self.message
        )
    }
}

/// Refuses a working directory that is not there.
pub(crate) fn enter(view: &View, directory: &str) -> Result<(), StartFailure> {
    if view.is_dir(directory) {
        return Ok(());
    }
    let text = format!(
        "chdir to cwd ({directory:?}) set in config.json failed: no such file or directory"
    );
    Err(StartFailure::runtime(&text, 126))
}

/// Decides what stands for `argv`. `own` is the program the image itself runs.
pub(crate) fn resolve(
    script: Option<Arc<Script>>,
    argv: &[String],
    own: Option<&str>,
    has_shell: bool,
    view: &View,
    directory: &str,
) -> Result<Program, StartFailure> {
    if let Some(script) = script {
        return match script.steps.first() {
            Some(Step::FailStart(message)) => Err(StartFailure::runtime(message, 128)),
            _ => Ok(Program::Script(script)),
        };
    }
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if has_shell && known_applet(program) {
        return Ok(Program::Shell);
    }
    if own == Some(program) && !program.is_empty() {
        return Ok(Program::Idle);
    }
    if program.contains('/') {
        let path = clean(directory, program);
        return match view.stat(&path) {
            Ok(Node {
                kind: Kind::File(_),
                mode,
                ..
            }) if mode & 0o111 != 0 => Ok(Program::Idle),
            Ok(_) => Err(StartFailure::runtime(
                &format!("exec: {program:?}: permission denied"),
                126,
            )),
            Err(_) => Err(StartFailure::runtime(
                &format!("exec: {program:?}: stat {program}: no such file or directory"),
                127,
            )),
        };
    }
    let in_path = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .iter()
    .any(|dir| {
        view.stat(&format!("{dir}/{program}"))
            .is_ok_and(|node| matches!(node.kind, Kind::File(_)))
    });
    if in_path && !program.is_empty() {
        return Ok(Program::Idle);
    }
    Err(StartFailure::runtime(
        &format!("exec: {program:?}: executable file not found in $PATH"),
        127,
    ))
}

/// What a started process is given.
pub(crate) struct Start {
    pub(crate) process: Process,
    pub(crate) program: Program,
    pub(crate) argv: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) directory: String,
    pub(crate) stdin: Source,
}

/// Starts a process; `ended` is called once when it exits by itself. `None` when nothing runs that could.
///
/// Must be called inside a tokio runtime unless the program is idle.
pub(crate) fn spawn<F>(start: Start, ended: F) -> Option<AbortHandle>
where
    F: FnOnce(Arc<Inner>, Exit) + Send + 'static,
{
    let Start {
        process,
        program,
        argv,
        environment,
        directory,
        stdin,
    } = start;
    let engine = Arc::clone(&process.engine);
    match program {
        Program::Idle => {
            for signal in [signals::HUP, signals::INT, signals::QUIT, signals::TERM] {
                process.signals.set(signal, Disposition::Exit(0));
            }
            None
        }
        Program::Shell => {
            let task = tokio::spawn(async move {
                let process = Arc::new(process);
                let mut shell = Shell::new(Arc::clone(&process), &environment, &directory);
                let io = Io {
                    stdin,
                    stdout: Sink::Process(process.output.clone(), StreamId::Stdout),
                    stderr: Sink::Process(process.output.clone(), StreamId::Stderr),
                };
                let code = shell.main(&argv, io).await;
                // Jobs end with the shell. A client must find the exit code once it sees the end of the output.
                drop(shell);
                process.pipes.thawed().await;
                ended(
                    engine,
                    Exit {
                        code: code & 0xff,
                        out_of_memory: false,
                    },
                );
                drop(process);
            });
            Some(task.abort_handle())
        }
        Program::Script(script) => {
            for name in script.signals.keys() {
                if let Some(signal) = signals::parse(name) {
                    process.signals.set(signal, Disposition::Handle);
                }
            }
            let task = tokio::spawn(async move {
                let time = AtomicU64::new(engine.clock.nanos());
                let exit = Actor {
                    process: &process,
                    stdin,
                    time,
                }
                .perform(&script)
                .await;
                process.pipes.thawed().await;
                ended(engine, exit);
                drop(process);
            });
            Some(task.abort_handle())
        }
    }
}

/// A script being performed.
struct Actor<'a> {
    process: &'a Process,
    stdin: Source,
    /// The script's own time: see `Shell::time`.
    time: AtomicU64,
}

impl Actor<'_> {
    async fn perform(&self, script: &Script) -> Exit {
        let steps = self.steps(&script.steps);
        tokio::pin!(steps);
        loop {
            tokio::select! {
                exit = &mut steps => return exit.unwrap_or_default(),
                () = self.process.signals.arrived.notified() => {}
            }
            while let Some(signal) = self.process.signals.pending() {
                let action = script
                    .signals
                    .iter()
                    .find(|(name, _)| signals::parse(name) == Some(signal));
                let Some((_, action)) = action else { continue };
                self.catch_up();
                self.sleep(action.after).await;
                self.print(StreamId::Stdout, &action.print).await;
                if let Some(code) = action.exit {
                    return Exit {
                        code,
                        out_of_memory: false,
                    };
                }
            }
        }
    }

    fn time(&self) -> Nanos {
        self.time.load(Ordering::Relaxed)
    }

    fn catch_up(&self) {
        self.time
            .fetch_max(self.process.engine.clock.nanos(), Ordering::Relaxed);
    }

    async fn sleep(&self, period: Duration) {
        let woke = self
            .process
            .engine
            .clock
            .sleep_until(self.time().saturating_add(duration_nanos(period)))
            .await;
        self.time.store(woke, Ordering::Relaxed);
    }

    async fn print(&self, stream: StreamId, text: &str) {
        if !text.is_empty() {
            self.process
                .output
                .write(self.time(), stream, text.to_owned().into())
                .await;
        }
    }

    /// `None` when all steps are done and nothing ended the process.
    fn steps<'a>(
        &'a self,
        steps: &'a [Step],
    ) -> Pin<Box<dyn Future<Output = Option<Exit>> + Send + 'a>> {
        Box::pin(async move {
            let (engine, container) = (&self.process.engine, &self.process.container);
            for step in steps {
                match step {
                    Step::Print(text) => self.print(StreamId::Stdout, text).await,
                    Step::PrintErr(text) => self.print(StreamId::Stderr, text).await,
                    Step::Sleep(period) => self.sleep(*period).await,
                    Step::Cpu(cores) => engine.state().set_cpu(container, *cores, self.time()),
                    Step::Memory(bytes) => engine.state().set_memory(container, *bytes),
                    Step::Health(health) => engine.set_health(container, *health),
                    Step::Cat => loop {
                        let data = self.stdin.read().await;
                        self.catch_up();
                        if data.is_empty() {
                            break;
                        }
                        self.process
                            .output
                            .write(self.time(), StreamId::Stdout, data)
                            .await;
                    },
                    Step::Wait => std::future::pending().await,
                    Step::Write { path, text } => self.write(path, text),
                    Step::Repeat { times, steps } => {
                        let mut left = times.unwrap_or(u64::MAX);
                        while left > 0 {
                            if let Some(exit) = self.steps(steps).await {
                                return Some(exit);
                            }
                            left -= 1;
                            tokio::task::yield_now().await;
                        }
                    }
                    Step::Exit(code) => {
                        return Some(Exit {
                            code: *code,
                            out_of_memory: false,
                        });
                    }
                    Step::OomKill => {
                        return Some(Exit {
                            code: 137,
                            out_of_memory: true,
                        });
                    }
                    Step::FailStart(_) => {}
                }
            }
            None
        })
    }

    /// A place that cannot be written, such as a read-only volume, stays as it is.
    fn write(&self, path: &str, text: &str) {
        let path = clean("/", path);
        for (at, _) in path.match_indices('/').skip(1) {
            if !self.process.view.is_dir(&path[..at]) {
                let _ = self.process.view.put(&path[..at], Node::dir(self.time()));
            }
        }
        let _ = self
            .process
            .view
            .write(&path, text.as_bytes(), false, self.time());
    }
}
