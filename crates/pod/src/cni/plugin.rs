//! One run of a plugin: its configuration on standard input, its parameters in the environment, its result on standard output.
//!
//! Whatever the plugin does, the run ends by its deadline, reads a bounded amount and leaves no process of it: the plugin is the leader of a
//! process group that is killed unless the plugin ended by itself. It sees nothing of berth's environment.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::error::{Failure, Operation};
use super::result::MAX_RESULT;

/// The most that is kept of what a plugin says on standard error, in bytes; the rest is read and dropped.
const MAX_WORDS: usize = 64 * 1024;

/// The most of a plugin's words that goes into an error, in bytes.
const MAX_QUOTE: usize = 500;

/// How long a program may stay busy because it is being written, and how often that is looked at (five times a second in the reference
/// implementation).
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// The parameters of a run.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) program: &'a Path,
    pub(super) operation: Operation,
    pub(super) container: &'a str,
    /// The path of the namespace; empty when there is none any more.
    pub(super) netns: &'a Path,
    pub(super) interface: &'a str,
    pub(super) arguments: &'a str,
    /// Where plugins find the plugins that they run themselves.
    pub(super) plugins: &'a OsStr,
    /// Where plugins find other programs.
    pub(super) search_path: &'a OsStr,
}

/// Runs a plugin to its end and gives what it wrote. Cancel safe: dropping the future kills the plugin.
pub(super) async fn run(
    call: &Call<'_>,
    request: &[u8],
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    let began = Instant::now();
    let mut run = start(call, deadline.min(began + BUSY_PATIENCE))
        .await
        .map_err(Failure::Io)?;
    let ended = tokio::time::timeout_at(deadline, run.talk(request)).await;
    let status = match ended {
        Ok(Ok(Some(status))) => Ok(status),
        Ok(Ok(None)) => Err(Failure::TooLong(MAX_RESULT)),
        Ok(Err(error)) => Err(Failure::Io(error)),
        Err(_) => Err(Failure::TimedOut(began.elapsed())),
    };
    if status.is_err() {
        run.end().await;
    }
    let Run { output, words, .. } = &mut run;
    let (output, words) = (std::mem::take(output), std::mem::take(words));
    if !words.is_empty() {
        tracing::debug!(
            plugin = %call.program.display(),
            operation = call.operation.name(),
            sandbox = call.container,
            words = %String::from_utf8_lossy(&words),
            "a CNI plugin said something"
        );
    }
    let status = status?;
    if status.success() {
        Ok(output)
    } else {
        Err(refusal(status, &output, &words))
    }
}

/// Starts a plugin; waits while its file is being written.
async fn start(call: &Call<'_>, deadline: Instant) -> io::Result<Run> {
    loop {
        match Run::start(call) {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                tokio::time::sleep(BUSY_INTERVAL).await;
            }
            started => return started,
        }
    }
}

/// A running plugin. Dropping it kills its process group.
struct Run {
    child: Child,
    /// The group to be killed; `None` once the plugin has ended and its number may be another's.
    group: Option<Pid>,
    output: Vec<u8>,
    words: Vec<u8>,
}

impl Run {
    fn start(call: &Call<'_>) -> io::Result<Self> {
        let child = Command::new(call.program)
            .env_clear()
            .env("PATH", call.search_path)
            .env("CNI_COMMAND", call.operation.name())
            .env("CNI_CONTAINERID", call.container)
            .env("CNI_NETNS", call.netns)
            .env("CNI_IFNAME", call.interface)
            .env("CNI_ARGS", call.arguments)
            .env("CNI_PATH", call.plugins)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // So that tokio reaps it.
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Ok(Self {
            child,
            group,
            output: Vec::new(),
            words: Vec::new(),
        })
    }

    /// Writes the request, reads to the end. `None` when the output is too long.
    async fn talk(&mut self, request: &[u8]) -> io::Result<Option<ExitStatus>> {
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = (
            self.child.stdin.take(),
            self.child.stdout.take(),
            self.child.stderr.take(),
        ) else {
            return Err(io::Error::other("a pipe is missing"));
        };
        // At once with the reading: it may not fit in the pipe. A plugin need not read it; its exit status tells.
        let write = async move {
            let _ = stdin.write_all(request).await;
        };
        tokio::pin!(write);
        let (mut writing, mut answering, mut talking) = (true, true, true);
        let mut words = [0; 4096];
        let status = loop {
            tokio::select! {
                () = &mut write, if writing => writing = false,
                read = stdout.read_buf(&mut self.output), if answering => {
                    answering = read? > 0;
                    if self.output.len() > MAX_RESULT {
                        return Ok(None);
                    }
                }
                read = stderr.read(&mut words), if talking => {
                    let count = read?;
                    talking = count > 0;
                    let room = MAX_WORDS - self.words.len();
                    self.words.extend_from_slice(&words[..count.min(room)]);
                }
                status = self.child.wait() => break status?,
            }
        };
        self.group = None;
        // A pipe may stay open in a daemon that the plugin left behind, so its end is not waited for. What the plugin wrote is in it.
        drain(&stderr, &mut self.words, MAX_WORDS)?;
        drain(&stdout, &mut self.output, MAX_RESULT + 1)?;
        Ok(if self.output.len() > MAX_RESULT {
            None
        } else {
            Some(status)
        })
    }

    /// Kills the plugin and all of its group, and waits until it is gone: what comes next must not run beside it.
    async fn end(&mut self) {
        if let Some(group) = self.group.take() {
            // It can only fail when nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = self.child.wait().await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads what is in the pipe without waiting, until `read` has `most` bytes.
fn drain(pipe: &impl AsFd, read: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let mut chunk = [0; 4096];
    while read.len() < most {
        let room = chunk.len().min(most - read.len());
        match rustix::io::read(pipe, &mut chunk[..room]) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => read.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a plugin that failed has said.
fn refusal(status: ExitStatus, output: &[u8], words: &[u8]) -> Failure {
    #[derive(Deserialize)]
    struct Error {
        code: Option<u64>,
        msg: Option<String>,
        details: Option<String>,
    }
    let short = |text: Option<String>| -> String {
        let text = text.unwrap_or_default();
        // Twice the quote: a plugin's own words are worth more than those of a crash.
        text.trim().chars().take(2 * MAX_QUOTE).collect()
    };
    match serde_json::from_slice::<Error>(output) {
        Ok(error) if error.code.is_some() || error.msg.is_some() => Failure::Refused {
            code: error.code.unwrap_or_default(),
            message: short(error.msg),
            details: short(error.details),
        },
        _ => {
            let spoken = if words.trim_ascii().is_empty() {
                output
            } else {
                words
            };
            Failure::Failed(status, quote_end(spoken))
        }
    }
}

/// The last words, in one line.
fn quote_end(text: &[u8]) -> String {
    let text = text.trim_ascii();
    let end = &text[text.len().saturating_sub(MAX_QUOTE)..];
    let end = String::from_utf8_lossy(end);
    end.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What was written instead of a result, for an error.
pub(super) fn garbage(problem: impl ToString, output: &[u8]) -> Failure {
    let start = &output[..output.len().min(MAX_QUOTE)];
    Failure::Garbage {
        problem: problem.to_string(),
        output: String::from_utf8_lossy(start).into_owned(),
    }
}
