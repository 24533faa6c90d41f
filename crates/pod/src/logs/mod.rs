//! Log files of containers in CRI's format, made from what the engine keeps anyway.
//!
//! The kubelet (and every log collector of a node) reads `<time> stdout|stderr P|F <text>` at a path of its choice, renames that file when it is
//! large and asks for a new one. Docker has no such driver, so the lines have to get there from Docker.
//!
//! # How
//!
//! Containers are created with Docker's `local` driver ([`driver`]). A task per container reads the driver's files, and appends each record as
//! a line. What was considered instead, and why not (read in moby, measured on Docker 20.10 with a million lines of 100 bytes):
//!
//! - *`json-file` and a link to it*, as cri-dockerd does: the wrong format, bytes that are no UTF-8 are replaced, and Docker's rotation and the
//!   kubelet's fight over the file.
//! - *A log driver plugin*: a container blocks in `write` once its pipe is full while berth is down, and the engine starts none.
//! - *Following `GET /containers/{id}/logs`*: reading it all costs the engine 7 s of CPU and the reader 3 s, where the files cost the engine
//!   nothing and the reader 0.15 s. A follow on 20.10 that the files were rotated under once gave half the lines, and another time half of
//!   them twice (29 gives each once). Resuming goes by time. It is done where the files cannot be seen ([`Following::Stream`]).
//!
//! The `local` driver's records hold the bytes, the time in nanoseconds, the stream and whether the line goes on: all that a CRI line has. Its
//! files are no stable interface (moby keeps their path from the API for that reason), but have been the same from Docker 18.09 to 29; if
//! they ever begin otherwise, the log comes as a stream. `docker logs` works as ever. While berth is down the engine goes on writing, up to the
//! [`driver`]'s size; berth catches up when it is back.
//!
//! Nothing runs while a container is silent: no poll, no write, no buffer. It costs a task and its paths (6 KiB), two descriptors and an
//! inotify watch.
//!
//! # What holds
//!
//! - Each record becomes one line, once, in the engine's order, also when berth is killed at any point and when either side rotates.
//! - After a restart of the host, in which the record of how far a log has come is lost, the log's last lines are found again in the engine's.
//! - Where lines are lost all the same (Docker rotated them away while berth was down), berth's own log says so. Nothing is put into the file
//!   that the container did not write.
//! - A stream ([`Following::Stream`]) is as exact as the engine's own. It is resumed by time and content, so that a restart of either side
//!   loses nothing that the engine gives.
//!
//! This module owns log files. It refuses to know why a container runs or dies: it is told ([`Logs::started`], [`Logs::finish`]).

mod checkpoint;
// Public for the fuzz targets only; they may change at any time.
#[doc(hidden)]
pub mod line;
mod read;
#[doc(hidden)]
pub mod record;
mod sink;
mod source;
mod stream;
mod tail;
mod task;
mod watch;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_docker::Docker;
use berth_docker::model::LogConfig;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

pub use self::read::{ReadOptions, Reader};
pub use self::record::Stream;
pub use self::tail::FileError;
use self::tail::Places;
use self::task::Command;
use self::watch::Watch;
use crate::spec::ContainerId;

/// How many containers' files are worked on at once. More would gain nothing on one disk, and each costs a thread and 400 KiB while it runs.
const TURNS: usize = 4;
/// Commands to one container's task that wait. They come from one worker, one after the other.
const COMMANDS: usize = 4;
/// How long [`Logs::finish`] waits. At 100 MB/s, all that Docker keeps of a log ([`driver`]) has been moved several times over.
const FINISH: Duration = Duration::from_secs(30);
/// The file in the state directory whose lock says that it is in use.
const LOCK: &str = "lock";
/// The name of the driver whose files are read.
const LOCAL: &str = "local";

/// The log driver of containers whose log berth writes.
///
/// The size is what a container can write while berth is down, before lines are lost: 320 MB. Every option is given, for the engine fills
/// those that are not from its own defaults: its `mode=non-blocking` would lose lines, its compression would have them unpacked again.
pub fn driver() -> LogConfig {
    LogConfig {
        kind: LOCAL.to_owned(),
        config: [
            ("max-size", "64m"),
            ("max-file", "5"),
            ("compress", "false"),
            ("mode", "blocking"),
        ]
        .into_iter()
        .collect(),
    }
}

/// Why a log is not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two writers would double every line.
    #[error("another berth writes the log files: it holds {}; stop it first", .0.display())]
    Locked(PathBuf),
    /// The directory for checkpoints cannot be used.
    #[error("cannot use the directory {} for the state of logs", .path.display())]
    State {
        /// The directory or a file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path of a log is not absolute, or the ID of a container is none.
    #[error("{0}")]
    Invalid(String),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The engine does not give the log.
    #[error("cannot follow the log that the engine keeps")]
    Engine(#[from] berth_docker::Error),
    /// The log of this container is not being written: it has ended, or has never been attached.
    #[error("no log is written for the container {0}")]
    NotAttached(ContainerId),
    /// The rest of the log has not been moved in time; it still is being.
    #[error("the rest of the log is still being written")]
    HeldUp,
    /// A defect: the thread that moved lines has panicked. The next look begins anew.
    #[error("writing the log failed unexpectedly: {0}")]
    Panicked(String),
}

/// A container whose log is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLog {
    /// The container, as the engine knows it.
    pub id: ContainerId,
    /// Where: an absolute path. Its directory is made if it is not there.
    pub path: PathBuf,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// The driver that the container was created with (`HostConfig.LogConfig.Type`).
    pub driver: String,
}

/// Where a log's lines come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// From the engine's files. Should their form turn out not to be known, from a stream after all.
    Files,
    /// From the engine, over its API: its files cannot be seen from here, or are another driver's.
    Stream,
    /// From nowhere: there is a link at the path, which cri-dockerd made to Docker's own file, or the container's driver is `none`.
    Nothing,
}

/// What all tasks share.
#[derive(Debug)]
struct Shared {
    /// `None` where the host gives none; files then are looked at every second.
    watch: Option<Watch>,
    turns: Semaphore,
    /// Locked as long as any thread may write.
    _lock: File,
}

impl Shared {
    /// Runs `work` on a thread that may block, when there is a turn free. Turns are given in the order of asking.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        // It is never closed, so there is always a permit in the end.
        let turn = self.turns.acquire().await.ok();
        let shared = Arc::clone(self);
        let thread = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(shared);
            result
        });
        let result = thread.await;
        drop(turn);
        result.map_err(|error| Error::Panicked(error.to_string()))
    }
}

#[derive(Debug)]
struct Attached {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// The log files of all containers. Dropping it stops writing where it is; whoever comes next goes on there.
#[derive(Debug)]
pub struct Logs {
    docker: Docker,
    state: PathBuf,
    data_root: Option<PathBuf>,
    shared: Arc<Shared>,
    attached: Mutex<HashMap<ContainerId, Attached>>,
}

impl Logs {
    /// Log files of the containers of one engine. Needs a Tokio runtime with I/O and time.
    ///
    /// `state` is a directory for one small file per container; it is made if it is not there, and should be in memory (`/run/berth/logs`),
    /// as it is written after each batch of lines. `data_root` is the engine's (`DockerRootDir` of its info), `None` when it is on another host.
    ///
    /// # Errors
    /// When the directory cannot be used, or another process uses it.
    pub fn new(docker: Docker, state: PathBuf, data_root: Option<PathBuf>) -> Result<Self, Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::State { path, source }
        };
        fs::create_dir_all(&state).map_err(failed(&state))?;
        let path = state.join(LOCK);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(path)),
            Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
        }
        let watch = Watch::new().inspect_err(|error| {
            tracing::warn!(%error, "cannot watch log files; they are looked at every second (raise fs.inotify.max_user_instances)");
        });
        let shared = Shared {
            watch: watch.ok(),
            turns: Semaphore::new(TURNS),
            _lock: lock,
        };
        Ok(Self {
            docker,
            state,
            data_root,
            shared: Arc::new(shared),
            attached: Mutex::default(),
        })
    }

    /// Writes the log of a container from now on. To be called before the container is started, so that the file is there first, and again
    /// for each container after a restart of berth: the log is then continued. Of one that is attached already, nothing changes.
    ///
    /// Not cancel safe: a dropped call may have made the file and attached it.
    ///
    /// # Errors
    /// When the file cannot be made or opened; [`Error::NotAttached`] when the container is removed meanwhile, or berth ends.
    pub async fn attach(&self, log: &ContainerLog) -> Result<Following, Error> {
        check(log)?;
        loop {
            let (reply, answer) = oneshot::channel();
            let (commands, is_new) = self.entry(log);
            if commands.send(Command::Attach(reply)).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            // One that was there was just finished or removed, and is attached anew. A new one is given no time when the runtime ends: it would
            // be made anew for ever.
            if is_new {
                return Err(Error::NotAttached(log.id.clone()));
            }
        }
    }

    /// The commands of the container's task, and whether it was started for this call because there was none.
    fn entry(&self, log: &ContainerLog) -> (mpsc::Sender<Command>, bool) {
        let mut attached = self.lock();
        if let Some(entry) = attached.get(&log.id)
            && !entry.commands.is_closed()
        {
            return (entry.commands.clone(), false);
        }
        attached.retain(|_, entry| !entry.commands.is_closed());
        let id = log.id.as_str();
        let engine = self
            .data_root
            .as_ref()
            .map(|root| root.join("containers").join(id).join("local-logs"));
        let places = Places {
            container: id.to_owned(),
            log: log.path.clone(),
            checkpoint: self.state.join(id),
            engine: engine.unwrap_or_default(),
        };
        let (commands, received) = mpsc::channel(COMMANDS);
        let task = tokio::spawn(task::run(
            self.docker.clone(),
            log.clone(),
            Arc::new(places),
            Arc::clone(&self.shared),
            received,
        ));
        let entry = Attached {
            commands: commands.clone(),
            task,
        };
        attached.insert(log.id.clone(), entry);
        (commands, true)
    }

    /// Goes on in a new file at the log's path, after the kubelet has renamed the old one. If it has not, nothing changes.
    ///
    /// What was written before the call may go to either file. It is for the caller to see that the container is running. Cancel safe: a
    /// dropped call is carried out.
    ///
    /// # Errors
    /// When no log is written for the container, and no file is then made; when the new file cannot be made, and lines then go on to the
    /// old one.
    pub async fn reopen(&self, id: &ContainerId) -> Result<(), Error> {
        let not_attached = || Error::NotAttached(id.clone());
        let commands = self.commands(id).ok_or_else(not_attached)?;
        let (reply, answer) = oneshot::channel();
        let sent = commands.send(Command::Reopen(reply)).await;
        sent.map_err(|_| not_attached())?;
        answer.await.map_err(|_| not_attached())?
    }

    /// Says that the container was started (or found running, after a restart of berth). What comes as a [`Following::Stream`] begins only now;
    /// files need no word. Cancel safe.
    pub async fn started(&self, id: &ContainerId) {
        if let Some(commands) = self.commands(id) {
            // One that has ended needs no word.
            let _ = commands.send(Command::Started).await;
        }
    }

    /// Writes the rest of the log of a container that has died, and then writes no more. Its `die` event comes after Docker has written all
    /// of it. Of a container that is not attached there is no rest. Waits 30 s at most.
    ///
    /// Cancel safe: a dropped call is carried out.
    ///
    /// # Errors
    /// When the rest cannot be read or written, or not in time. It then goes on being tried until it is done or removed.
    pub async fn finish(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(commands) = self.commands(id) else {
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        if commands.send(Command::Finish(reply)).await.is_err() {
            return Ok(());
        }
        match tokio::time::timeout(FINISH, answer).await {
            Ok(Ok(answer)) => answer,
            // The task was removed, or had ended before it took the command.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Error::HeldUp),
        }
    }

    /// Forgets a container that is being removed: writes no more, and drops the record of how far its log had come. The log file stays; the
    /// kubelet removes it. Of one that is not known there is nothing to forget.
    ///
    /// Not cancel safe: a dropped call may leave the record, of 64 bytes, until the host is restarted.
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), Error> {
        check_id(id)?;
        let entry = self.lock().remove(id);
        if let Some(entry) = entry {
            end(entry).await;
        }
        remove_record(&self.state.join(id.as_str()))
    }

    /// Drops the records of containers that are neither attached nor among these: they were removed while nobody saw it.
    ///
    /// # Errors
    /// When the records cannot be listed, or one cannot be removed.
    pub fn forget_others(&self, there: &HashSet<ContainerId>) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::State { path, source }
        };
        let records = fs::read_dir(&self.state).map_err(failed(&self.state))?;
        for record in records {
            let record = record.map_err(failed(&self.state))?;
            let name = record.file_name();
            // What has another name is not ours.
            let Some(id) = name.to_str().map(ContainerId::new) else {
                continue;
            };
            if check_id(&id).is_err() || there.contains(&id) {
                continue;
            }
            // Held meanwhile, so that none is attached that is taken for gone.
            let attached = self.lock();
            if attached.get(&id).is_none_or(|one| one.commands.is_closed()) {
                remove_record(&record.path())?;
            }
        }
        Ok(())
    }

    /// Reads a log file back. With [`ReadOptions::follow`] what is written later comes too, until [`Reader::finish`]. Cancel safe.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub async fn read(&self, path: &Path, options: ReadOptions) -> Result<Reader, Error> {
        Reader::open(Arc::clone(&self.shared), path, options).await
    }

    /// Stops writing, and waits for what is being written. The logs are continued by whoever attaches them next.
    pub async fn shutdown(self) {
        let entries: Vec<_> = self.lock().drain().map(|(_, entry)| entry).collect();
        let mut tasks = Vec::new();
        for Attached { commands, task } in entries {
            // All are told before one is waited for.
            drop(commands);
            tasks.push(task);
        }
        for task in tasks {
            ended(task.await);
        }
    }

    fn commands(&self, id: &ContainerId) -> Option<mpsc::Sender<Command>> {
        Some(self.lock().get(id)?.commands.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        for (_, entry) in self.lock().drain() {
            entry.task.abort();
        }
    }
}

/// One that is gone already is fine.
fn remove_record(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::State {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Ends a task that nobody can give commands to any more.
async fn end(entry: Attached) {
    drop(entry.commands);
    ended(entry.task.await);
}

fn ended(end: Result<(), JoinError>) {
    if let Err(error) = end {
        tracing::error!(%error, "the task of a log has ended badly");
    }
}

fn check(log: &ContainerLog) -> Result<(), Error> {
    check_id(&log.id)?;
    if !log.path.is_absolute() {
        return Err(Error::Invalid(format!(
            "the log path {} of the container {} is not absolute",
            log.path.display(),
            log.id
        )));
    }
    Ok(())
}

/// It becomes part of paths.
fn check_id(id: &ContainerId) -> Result<(), Error> {
    let text = id.as_str();
    if text.is_empty() || text == LOCK || !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Invalid(format!("{text:?} is no ID of a container")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    use berth_docker::ConnectOptions;

    use super::record::Stream;
    use super::source::tests::Engine;
    use super::*;

    /// A directory in place of the engine's, and a client of an engine that is not there.
    struct Host {
        dir: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { dir }
        }

        /// Makes a container as the engine does, before it is started.
        fn container(&self, id: &str) -> (Engine, ContainerLog) {
            let dir = self.dir.path().join("docker/containers").join(id);
            fs::create_dir_all(&dir).unwrap();
            let log = ContainerLog {
                id: ContainerId::new(id),
                path: self.dir.path().join(format!("pods/{id}/0.log")),
                tty: false,
                driver: LOCAL.to_owned(),
            };
            (Engine::new(&dir.join("local-logs")), log)
        }

        fn logs(&self) -> Logs {
            let endpoint = format!("unix://{}/docker.sock", self.dir.path().display());
            let docker = Docker::builder(ConnectOptions::new(endpoint.parse().unwrap()));
            let root = self.dir.path().join("docker");
            Logs::new(
                docker.build().unwrap(),
                self.dir.path().join("state"),
                Some(root),
            )
            .unwrap()
        }
    }

    async fn wait_for(log: &ContainerLog, texts: &[&str]) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let written = fs::read_to_string(&log.path).unwrap();
            let has: Vec<&str> = written
                .lines()
                .map(|line| line.rsplit(' ').next().unwrap())
                .collect();
            if has == texts {
                return;
            }
            assert!(
                Instant::now() < until,
                "the log has {has:?} after 20 s, not {texts:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn lines_come_when_the_engine_writes_from_before_its_first_file_on() {
        let host = Host::new();
        let (mut engine, log) = host.container("a");
        let logs = host.logs();
        assert_eq!(logs.attach(&log).await.unwrap(), Following::Files);
        wait_for(&log, &[]).await;
        for (number, text) in ["1", "2", "3", "4"].iter().enumerate() {
            engine.write(text);
            wait_for(&log, &["1", "2", "3", "4"][..=number]).await;
            engine.rotate();
        }
        // Attached twice is attached once.
        assert_eq!(logs.attach(&log).await.unwrap(), Following::Files);
        engine.write("5");
        wait_for(&log, &["1", "2", "3", "4", "5"]).await;
        let torn = engine.record(Stream::Stdout, b"torn", None);
        engine.raw(&torn[..10]);
        logs.finish(&log.id).await.unwrap();
        wait_for(&log, &["1", "2", "3", "4", "5"]).await;
        assert!(matches!(
            logs.reopen(&log.id).await,
            Err(Error::NotAttached(_))
        ));
    }

    /// The runtime is dropped at the end of berth, on one thread, while a task on another attaches what is there.
    #[test]
    fn an_attach_has_an_end_when_the_runtime_has() {
        let (told, tell) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let host = Host::new();
            let (_, log) = host.container("c1");
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let handle = runtime.handle().clone();
            drop(runtime);
            let _inside = handle.enter();
            let logs = host.logs();
            let attach = pin!(logs.attach(&log));
            let _ = told.send(attach.poll(&mut Context::from_waker(Waker::noop())));
        });
        let polled = tell.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(
            matches!(polled, Poll::Ready(Err(Error::NotAttached(_)))),
            "{polled:?}"
        );
    }

    #[tokio::test]
    async fn records_of_what_is_gone_are_dropped_and_no_others() {
        let host = Host::new();
        let ids = ["gone", "there", "new"];
        let before = host.logs();
        for id in ids {
            let (mut engine, log) = host.container(id);
            before.attach(&log).await.unwrap();
            engine.write("1");
            wait_for(&log, &["1"]).await;
        }
        before.shutdown().await;
        let records = || {
            let entries = fs::read_dir(host.dir.path().join("state")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(records(), ["gone", LOCK, "new", "there"]);
        let after = host.logs();
        // Made since those that are there were listed.
        after.attach(&host.container("new").1).await.unwrap();
        let there = HashSet::from([ContainerId::new("there")]);
        after.forget_others(&there).unwrap();
        assert_eq!(records(), [LOCK, "new", "there"]);
        after.remove(&ContainerId::new("new")).await.unwrap();
        after.remove(&ContainerId::new("there")).await.unwrap();
        assert_eq!(records(), [LOCK]);
    }

    #[tokio::test]
    async fn the_rest_is_written_when_the_container_is_finished_and_others_go_on() {
        let host = Host::new();
        let (mut one, one_log) = host.container("1");
        let (mut two, two_log) = host.container("2");
        let logs = host.logs();
        logs.attach(&one_log).await.unwrap();
        logs.attach(&two_log).await.unwrap();
        one.write("a");
        logs.finish(&one_log.id).await.unwrap();
        // At once, not soon.
        assert_eq!(
            fs::read_to_string(&one_log.path).unwrap().lines().count(),
            1
        );
        two.write("b");
        wait_for(&two_log, &["b"]).await;
        logs.remove(&one_log.id).await.unwrap();
        logs.remove(&two_log.id).await.unwrap();
        two.write("c");
        let left: Vec<_> = fs::read_dir(host.dir.path().join("state"))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(one_log.path.exists());
        logs.shutdown().await;
        wait_for(&two_log, &["b"]).await;
    }

    #[tokio::test]
    async fn a_shutdown_leaves_all_in_order_for_the_next() {
        let host = Host::new();
        let (mut engine, log) = host.container("a");
        let logs = host.logs();
        logs.attach(&log).await.unwrap();
        engine.write("1");
        wait_for(&log, &["1"]).await;
        logs.shutdown().await;
        engine.write("2");
        let logs = host.logs();
        logs.attach(&log).await.unwrap();
        wait_for(&log, &["1", "2"]).await;
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_fails_to_attach_or_to_finish_and_recovers() {
        let host = Host::new();
        let (mut engine, log) = host.container("a");
        let logs = host.logs();
        fs::create_dir_all(&log.path).unwrap();
        let error = logs.attach(&log).await.unwrap_err();
        assert!(error.to_string().contains("0.log"), "{error}");
        fs::remove_dir(&log.path).unwrap();
        assert_eq!(logs.attach(&log).await.unwrap(), Following::Files);
        let rotated = log.path.with_extension("1");
        fs::rename(&log.path, &rotated).unwrap();
        fs::create_dir_all(&log.path).unwrap();
        assert!(logs.reopen(&log.id).await.is_err());
        engine.write("1");
        assert!(logs.finish(&log.id).await.is_err());
        fs::remove_dir(&log.path).unwrap();
        // It is tried until it can be done.
        logs.finish(&log.id).await.unwrap();
        assert!(!log.path.exists());
        assert_eq!(fs::read_to_string(rotated).unwrap().lines().count(), 1);
    }

    #[tokio::test]
    async fn a_follower_gets_each_line_once_through_rotations_and_then_the_end() {
        let host = Host::new();
        let (mut engine, log) = host.container("a");
        let logs = host.logs();
        logs.attach(&log).await.unwrap();
        engine.write("0");
        wait_for(&log, &["0"]).await;
        let follow = ReadOptions {
            follow: true,
            ..Default::default()
        };
        let mut readers = [
            logs.read(&log.path, follow.clone()).await.unwrap(),
            logs.read(&log.path, follow).await.unwrap(),
        ];
        let mut texts = [String::new(), String::new()];
        let mut expected = String::from("0\n");
        for round in 0..5 {
            for (reader, text) in readers.iter_mut().zip(&mut texts) {
                while *text != expected {
                    let piece = tokio::time::timeout(Duration::from_secs(20), reader.next());
                    let piece = piece.await.unwrap().unwrap().unwrap();
                    text.push_str(std::str::from_utf8(&piece).unwrap());
                    assert!(expected.starts_with(text.as_str()), "{text:?}");
                }
                // There is nothing more for now, and the call can be dropped.
                let silence = Duration::from_millis(20);
                assert!(tokio::time::timeout(silence, reader.next()).await.is_err());
            }
            engine.write(&format!("before-{round}"));
            fs::rename(&log.path, log.path.with_extension(format!("log.{round}"))).unwrap();
            logs.reopen(&log.id).await.unwrap();
            engine.write(&format!("after-{round}"));
            expected.push_str(&format!("before-{round}\nafter-{round}\n"));
        }
        logs.finish(&log.id).await.unwrap();
        for (reader, text) in readers.iter_mut().zip(&mut texts) {
            reader.finish();
            while let Some(piece) = reader.next().await {
                text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
            }
            assert_eq!(*text, expected);
        }
    }

    #[test]
    fn the_driver_leaves_nothing_to_the_engines_defaults() {
        let driver = driver();
        assert_eq!(driver.kind, "local");
        let keys: Vec<&str> = driver.config.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
    }
}
