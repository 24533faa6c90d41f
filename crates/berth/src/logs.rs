//! `berth logs`: what containers have written, byte for byte.
//!
//! As with kubectl, both outputs of a container go to standard output, a follow ends with the container, and Ctrl-C ends the program. The
//! bytes of a single log pass unchanged, whatever they are. Where several logs are followed at once, or lines get a prefix, whole lines are
//! written.

use std::future::poll_fn;
use std::io::{self, BufWriter, Write};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use berth_docker::api::LogsOptions;
use berth_docker::model::Timestamp;
use berth_docker::{Docker, Frame, FrameStream, Source};
use berth_pod::Runtime;
use berth_pod::observe::{Container, State};

use crate::cli::{EngineArgs, LogsArgs};
use crate::engine;
use crate::exit::{Code, Failure};
use crate::output;
use crate::pods::{self, Instances, PodFound};

/// The longest line that is held back until it is complete, in bytes. A longer one is written in parts.
const MAX_LINE: usize = 1024 * 1024;

/// The room for output that is not written yet, in bytes.
const BUFFER: usize = 64 * 1024;

/// Prints the logs that `args` ask for.
///
/// Writing blocks the thread: a reader that is slow slows the engine down through the socket, and nothing else has to go on meanwhile.
pub(crate) async fn logs(engine: &EngineArgs, args: &LogsArgs) -> Result<(), Failure> {
    let options = options(args, SystemTime::now())?;
    let runtime = Runtime::new(engine::connect(engine).await?);
    let pod = pods::find(&runtime, &args.namespace.namespace, &args.pod).await?;
    let chosen = chosen(&pod, args)?;
    let prefixed = args.prefix;
    let several = args.follow && chosen.len() > 1;
    let open = async |container: &Container| {
        let stream = open(runtime.docker(), container, &options).await?;
        let prefix = if prefixed {
            format!("[pod/{}/{}] ", pod.identity.name, container.name)
        } else {
            String::new()
        };
        Ok::<_, Failure>(Log {
            stream,
            lines: (prefixed || several).then(|| Lines::new(prefix.into_bytes())),
        })
    };
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let result = async {
        if args.follow {
            let mut opened = Vec::new();
            for container in chosen {
                opened.push(open(container).await?);
            }
            copy(opened, &mut out).await?;
        } else {
            for container in chosen {
                copy(vec![open(container).await?], &mut out).await?;
            }
        }
        Ok(())
    }
    .await;
    match result {
        Err(End::Closed) | Ok(()) => Ok(()),
        Err(End::Failed(failure)) => Err(failure),
    }
}

fn options(args: &LogsArgs, now: SystemTime) -> Result<LogsOptions, Failure> {
    let tail = match args.tail {
        -1 => None,
        lines => Some(u64::try_from(lines).map_err(|_| {
            Failure::new(Code::Usage, "--tail must be greater than or equal to -1")
        })?),
    };
    // Engines take no times before the epoch.
    let since = args.since.map(|ago| {
        Timestamp::from(
            now.checked_sub(ago)
                .unwrap_or(SystemTime::UNIX_EPOCH)
                .max(SystemTime::UNIX_EPOCH),
        )
    });
    Ok(LogsOptions {
        since,
        tail,
        timestamps: args.timestamps,
        follow: args.follow,
        ..Default::default()
    })
}

/// The containers whose logs are wanted. Of all containers, those without a log are only warned about.
fn chosen<'a>(pod: &'a PodFound, args: &LogsArgs) -> Result<Vec<&'a Container>, Failure> {
    let instance = |group| {
        if args.previous {
            previous(pod, group)
        } else {
            current(pod, group)
        }
    };
    if !args.all_containers {
        return Ok(vec![instance(pod.container(args.container.as_deref())?)?]);
    }
    let (mut chosen, mut failures) = (Vec::new(), Vec::new());
    for group in &pod.containers {
        match instance(group) {
            Ok(container) => chosen.push(container),
            Err(failure) => failures.push(failure),
        }
    }
    if chosen.is_empty() {
        let nothing = || {
            Failure::new(
                Code::NotFound,
                format!("pod {:?} has no containers yet", pod.identity.name),
            )
        };
        return Err(failures.into_iter().next().unwrap_or_else(nothing));
    }
    for Failure { message, .. } in failures {
        let _ = writeln!(
            anstream::stderr(),
            "{}warning:{} {message}",
            output::WARNING,
            output::WARNING.render_reset()
        );
    }
    Ok(chosen)
}

fn current<'a>(pod: &PodFound, group: &'a Instances) -> Result<&'a Container, Failure> {
    let (name, pod) = (&group.name, &pod.identity.name);
    match group.current() {
        Some(Container {
            state:
                State::Exited {
                    error,
                    started_at: None,
                    ..
                },
            ..
        }) if !error.is_empty() => Err(Failure::new(
            Code::Failed,
            format!("container {name:?} in pod {pod:?} could not be started: {error}"),
        )),
        Some(Container {
            state: State::Created,
            ..
        })
        | None => Err(Failure::new(
            Code::Failed,
            format!("container {name:?} in pod {pod:?} is waiting to start"),
        )),
        Some(container) => Ok(container),
    }
}

fn previous<'a>(pod: &PodFound, group: &'a Instances) -> Result<&'a Container, Failure> {
    group.previous().ok_or_else(|| {
        let (name, pod) = (&group.name, &pod.identity.name);
        Failure::new(
            Code::NotFound,
            format!("previous terminated container {name:?} in pod {pod:?} not found"),
        )
    })
}

async fn open(
    docker: &Docker,
    container: &Container,
    options: &LogsOptions,
) -> Result<FrameStream, Failure> {
    let options = LogsOptions {
        tty: Some(container.tty),
        ..options.clone()
    };
    docker
        .logs(container.id.as_str(), &options)
        .await
        .map_err(unreadable)
}

/// Says what to do about a log driver that keeps nothing to be read.
fn unreadable(error: berth_docker::Error) -> Failure {
    let hint = error.message().contains("does not support reading");
    let mut failure = Failure::from(error);
    if hint {
        failure.message.push_str("\n  the container was made with a log driver of the engine that keeps nothing to be read; `berth doctor` looks closer");
    }
    failure
}

/// Why copying ended before the logs did.
#[derive(Debug)]
enum End {
    /// Nobody reads standard output any more.
    Closed,
    /// Something else.
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(Failure::new(
                Code::Failed,
                format!("standard output: {error}"),
            )),
        }
    }
}

/// A log that is being read.
struct Log {
    stream: FrameStream,
    /// `None` passes bytes as they are.
    lines: Option<Lines>,
}

/// Copies logs as they come until all have ended. What has come is written before anything more is waited for.
async fn copy(mut logs: Vec<Log>, out: &mut impl Write) -> Result<(), End> {
    let mut turn = 0;
    let result = loop {
        if logs.is_empty() {
            break Ok(());
        }
        // The one behind the last: a log that always has something must not silence the others.
        turn = (turn + 1) % logs.len();
        let next = poll_fn(|cx| match poll_any(&mut logs, turn, cx) {
            Poll::Pending => match out.flush() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            Poll::Ready(next) => Poll::Ready(Ok(next)),
        });
        let (index, frame) = next.await?;
        turn = index;
        match frame {
            Some(Ok(Frame { source, bytes })) => match &mut logs[index].lines {
                Some(lines) => lines.push(source, &bytes, out)?,
                None => out.write_all(&bytes)?,
            },
            Some(Err(error)) => break Err(End::Failed(error.into())),
            None => {
                let log = logs.swap_remove(index);
                if let Some(mut lines) = log.lines {
                    lines.finish(out)?;
                }
            }
        }
    };
    // What was written before an error is worth reading.
    for log in &mut logs {
        if let Some(lines) = &mut log.lines {
            lines.finish(out)?;
        }
    }
    out.flush()?;
    result
}

/// The first log from `turn` on that has something.
fn poll_any(
    logs: &mut [Log],
    turn: usize,
    cx: &mut Context<'_>,
) -> Poll<(usize, Option<Result<Frame, berth_docker::Error>>)> {
    for index in (turn..logs.len()).chain(0..turn) {
        // Dropping the future loses nothing.
        if let Poll::Ready(frame) = pin!(logs[index].stream.next()).poll(cx) {
            return Poll::Ready((index, frame));
        }
    }
    Poll::Pending
}

/// Writes whole lines behind a prefix. The two outputs of a container are kept apart until a line is complete.
struct Lines {
    prefix: Vec<u8>,
    held: [Vec<u8>; 2],
    /// Whether the beginning of the line has been written already, because it is too long to be held.
    cut: [bool; 2],
}

impl Lines {
    fn new(prefix: Vec<u8>) -> Self {
        Self {
            prefix,
            held: Default::default(),
            cut: [false; 2],
        }
    }

    fn push(&mut self, source: Source, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        let which = usize::from(source == Source::Stderr);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let held = &mut self.held[which];
            held.extend_from_slice(piece);
            let complete = piece.ends_with(b"\n");
            if complete || held.len() >= MAX_LINE {
                if !self.cut[which] {
                    out.write_all(&self.prefix)?;
                }
                out.write_all(held)?;
                held.clear();
                self.cut[which] = !complete;
            }
        }
        Ok(())
    }

    /// Writes lines that have no end, and ends them: another container's may follow.
    fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        for source in [Source::Stdout, Source::Stderr] {
            let which = usize::from(source == Source::Stderr);
            if self.cut[which] || !self.held[which].is_empty() {
                self.push(source, b"\n", out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(lines: &mut Lines, pieces: &[(Source, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (source, bytes) in pieces {
            lines.push(*source, bytes, &mut out).unwrap();
        }
        lines.finish(&mut out).unwrap();
        out
    }

    #[test]
    fn each_line_gets_the_prefix_once_however_it_was_cut() {
        let whole = b"one\ntwo\xff\n\nthree";
        for split in 0..whole.len() {
            let (a, b) = whole.split_at(split);
            let out = written(
                &mut Lines::new(b"> ".to_vec()),
                &[(Source::Stdout, a), (Source::Stdout, b)],
            );
            assert_eq!(out, b"> one\n> two\xff\n> \n> three\n", "cut at {split}");
        }
    }

    #[test]
    fn the_two_outputs_do_not_mix_within_a_line() {
        let pieces: [(Source, &[u8]); 4] = [
            (Source::Stdout, b"out"),
            (Source::Stderr, b"err"),
            (Source::Stdout, b"put\n"),
            (Source::Stderr, b"or\n"),
        ];
        assert_eq!(
            written(&mut Lines::new(Vec::new()), &pieces),
            b"output\nerror\n"
        );
    }

    #[test]
    fn a_line_without_end_is_not_held_for_ever() {
        let mut lines = Lines::new(b"> ".to_vec());
        let mut out = Vec::new();
        lines
            .push(Source::Stdout, &vec![b'x'; MAX_LINE], &mut out)
            .unwrap();
        assert_eq!(out.len(), MAX_LINE + 2);
        lines.push(Source::Stdout, b"y\nz\n", &mut out).unwrap();
        lines.finish(&mut out).unwrap();
        assert!(out.ends_with(b"xy\n> z\n"));
    }

    #[test]
    fn a_time_before_the_epoch_is_the_epoch() {
        use clap::Parser as _;
        let parse = |flags: &[&str]| {
            let all = ["berth", "logs", "web"].iter().chain(flags);
            match crate::cli::Cli::try_parse_from(all).unwrap().command {
                crate::cli::Command::Logs(args) => args,
                other => panic!("{other:?}"),
            }
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let since = |text| options(&parse(&["--since", text]), now).unwrap().since;
        assert_eq!(since("40s"), Some(Timestamp::new(60, 0)));
        assert_eq!(since("1000h"), Some(Timestamp::new(0, 0)));
        assert_eq!(
            options(&parse(&["--tail", "0"]), now).unwrap().tail,
            Some(0)
        );
        assert_eq!(options(&parse(&["--tail=-1"]), now).unwrap().tail, None);
        assert_eq!(
            options(&parse(&["--tail=-2"]), now).unwrap_err().code,
            Code::Usage as u8
        );
    }
}
