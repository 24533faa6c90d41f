//! The task of one container's log: it opens the log, follows the engine's files, and does what it is told meanwhile.
//!
//! Owns waiting: for the engine to write, for a command, for an error to pass. Refuses to know how lines are moved, and how a log is
//! followed whose files cannot be seen ([`super::stream`]).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_docker::Docker;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::source::Step;
use super::stream;
use super::tail::{FileError, Places, Tail};
use super::{ContainerLog, Error, Following, LOCAL, Shared};

/// The least time between two looks at one container's files. A line comes at once after a pause, and lines that come fast come together:
/// at most a hundred looks a second, however the container writes.
const PAUSE: Duration = Duration::from_millis(10);
/// How often is looked where the host gives no inotify watch.
const UNWATCHED: Duration = Duration::from_secs(1);

/// What a task is asked to do. The reply is dropped when the task ends before it could.
#[derive(Debug)]
pub(super) enum Command {
    /// Say where the lines come from. It is what a task is sent first.
    Attach(oneshot::Sender<Result<Following, Error>>),
    /// Go on in a new file.
    Reopen(oneshot::Sender<Result<(), Error>>),
    /// The container was started.
    Started,
    /// The container has died: move what is left, and end.
    Finish(oneshot::Sender<Result<(), Error>>),
}

/// How long after an error it is tried again: a full disk or a missing directory is mended by people.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    /// Whether the last try failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// A try failed: the time to wait.
    pub(super) fn failed(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        pause.min(Self::LONGEST)
    }

    /// A try went well.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// What a log is written from.
enum Opened {
    Files(Box<Tail>),
    Stream(stream::Log),
    Nothing,
}

/// Opens a log and writes it until finished, or until the sender of commands is dropped.
pub(super) async fn run(
    docker: Docker,
    log: ContainerLog,
    places: Arc<Places>,
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
) {
    let at = Arc::clone(&places);
    let tty = log.tty;
    let opened = shared.blocking(move || open(&log, at)).await;
    let (following, opened) = match opened.and_then(|opened| Ok(opened?)) {
        Ok(Opened::Nothing) => (Ok(Following::Nothing), None),
        Ok(Opened::Files(tail)) => (Ok(Following::Files), Some(Ok(tail))),
        Ok(Opened::Stream(log)) => (Ok(Following::Stream), Some(Err(log))),
        Err(error) => (Err(error), None),
    };
    if let Some(Command::Attach(reply)) = commands.recv().await {
        // Whoever asked may have gone; the log is written all the same.
        let _ = reply.send(following);
    }
    match opened {
        None => {}
        Some(Ok(tail)) => {
            let unknown = follow(tail, &places, &shared, &mut commands).await;
            let Some(finishing) = unknown else { return };
            tracing::warn!(
                container = places.container,
                dir = %places.engine.display(),
                "the engine's log files are in a form that this berth does not know; the log comes over its API instead"
            );
            let follower = stream::Follower::new(docker, tty, places, shared, commands);
            stream::follow(follower.running(finishing)).await;
        }
        Some(Err(log)) => {
            let follower = stream::Follower::new(docker, tty, places, shared, commands);
            stream::follow(follower.with(log)).await;
        }
    }
}

/// Those who wait for the end of a log.
pub(super) type Finishing = Vec<oneshot::Sender<Result<(), Error>>>;

fn open(log: &ContainerLog, places: Arc<Places>) -> Result<Opened, FileError> {
    if log.driver == "none" || log.path.is_symlink() {
        return Ok(Opened::Nothing);
    }
    // Docker makes the directory above with the container.
    let in_sight = places.engine.parent().is_some_and(Path::is_dir);
    if log.driver == LOCAL && in_sight {
        return Ok(Opened::Files(Box::new(Tail::open(places)?)));
    }
    Ok(Opened::Stream(stream::Log::open(places)?))
}

/// Follows the engine's files. When their form is not known, those who wait for the end are given back.
async fn follow(
    tail: Box<Tail>,
    places: &Arc<Places>,
    shared: &Arc<Shared>,
    commands: &mut mpsc::Receiver<Command>,
) -> Option<Finishing> {
    let mut follower = Follower {
        tail: Some(tail),
        places: Arc::clone(places),
        shared: Arc::clone(shared),
        wake: Arc::new(Notify::new()),
        watch_failed: false,
        retry: Retry::default(),
    };
    let mut finishing = Finishing::new();
    let mut done = false;
    let unknown = loop {
        // Before looking, so that what is written while we look wakes us.
        let armed = follower.arm();
        let looked = Instant::now();
        let next = match follower.turn(done).await {
            Ok(Step::More) => Some(looked),
            Ok(Step::End) if done => {
                reply_to_all(&mut finishing, || Ok(()));
                break false;
            }
            Err((error, _)) if is_unknown(&error) => break true,
            Ok(Step::End) => (!armed).then_some(looked + UNWATCHED),
            Err((error, pause)) => {
                let mut error = Some(error);
                reply_to_all(&mut finishing, || {
                    Err(error.take().unwrap_or(Error::HeldUp))
                });
                Some(looked + pause)
            }
        };
        let wake = &follower.wake;
        let woken = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => {
                    wake.notified().await;
                    sleep_until(looked + PAUSE).await;
                }
            }
        };
        // A wake that is lost to a command is none: every way round this loop looks again.
        let command = tokio::select! {
            biased;
            command = commands.recv() => command,
            () = woken => continue,
        };
        match command {
            Some(Command::Started) => {}
            Some(Command::Attach(reply)) => drop(reply.send(Ok(Following::Files))),
            // Whoever asked may have gone.
            Some(Command::Reopen(reply)) => drop(reply.send(follower.reopen().await)),
            Some(Command::Finish(reply)) => {
                finishing.push(reply);
                done = true;
            }
            None => break false,
        }
    };
    if let Some(watch) = &follower.shared.watch {
        watch.disarm(&follower.wake);
    }
    unknown.then_some(finishing)
}

fn is_unknown(error: &Error) -> bool {
    match error {
        Error::File(FileError::Engine { source, .. }) => {
            source.kind() == io::ErrorKind::InvalidData
        }
        _ => false,
    }
}

/// Answers those who wait for the end.
pub(super) fn reply_to_all(
    finishing: &mut Finishing,
    mut answer: impl FnMut() -> Result<(), Error>,
) {
    for reply in finishing.drain(..) {
        // Whoever asked may have gone.
        let _ = reply.send(answer());
    }
}

/// A log, and how it has been going.
struct Follower {
    /// `None` while a thread has it, and after that thread has panicked.
    tail: Option<Box<Tail>>,
    places: Arc<Places>,
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    /// Whether it was said that there is no watch.
    watch_failed: bool,
    retry: Retry,
}

impl Follower {
    /// Asks to be woken by the next change of the engine's files; `false` when that cannot be.
    fn arm(&mut self) -> bool {
        let armed = match &self.shared.watch {
            Some(watch) => {
                let arm = |dir: &Path| watch.arm(dir, &self.wake);
                let engine = &self.places.engine;
                // Docker makes the directory when it starts the container first. When the one above it is not there either, the container
                // is gone and nothing will be written.
                let armed = or_missing(arm(engine)).and_then(|there| match engine.parent() {
                    Some(above) if !there => {
                        or_missing(arm(above))?;
                        or_missing(arm(engine))
                    }
                    _ => Ok(there),
                });
                armed.map(drop)
            }
            None => Err(io::Error::other("the host gives no inotify instance")),
        };
        match armed {
            Ok(()) => true,
            Err(error) => {
                if !self.watch_failed {
                    self.watch_failed = true;
                    tracing::warn!(
                        container = self.places.container,
                        %error,
                        "cannot watch the engine's log; it is looked at every second (raise fs.inotify.max_user_watches and max_user_instances)"
                    );
                }
                false
            }
        }
    }

    /// Looks once. An error is said when it is the first of its row, and comes with the time to wait.
    async fn turn(&mut self, done: bool) -> Result<Step, (Error, Duration)> {
        match self.blocking(move |tail| tail.turn(done)).await {
            Ok(step) => {
                if self.retry.is_failing() {
                    self.retry.succeeded();
                    tracing::info!(
                        container = self.places.container,
                        "the log is written again"
                    );
                }
                Ok(step)
            }
            Err(error) => {
                if !self.retry.is_failing() && !is_unknown(&error) {
                    tracing::error!(
                        container = self.places.container,
                        error = &error as &dyn std::error::Error,
                        "the log is held up; nothing is lost while the engine keeps it"
                    );
                }
                Err((error, self.retry.failed()))
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        self.blocking(Tail::reopen).await
    }

    /// Runs `work` on a thread that may block, when it is this container's turn.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tail) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, Error> {
        let (tail, places) = (self.tail.take(), Arc::clone(&self.places));
        let done = self
            .shared
            .blocking(move || -> Result<_, FileError> {
                let mut tail = match tail {
                    Some(tail) => tail,
                    None => Box::new(Tail::open(places)?),
                };
                let result = work(&mut tail);
                Ok((tail, result))
            })
            .await?;
        let (tail, result) = done?;
        self.tail = Some(tail);
        Ok(result?)
    }
}

/// Whether the directory was there.
fn or_missing(armed: io::Result<()>) -> io::Result<bool> {
    match armed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
