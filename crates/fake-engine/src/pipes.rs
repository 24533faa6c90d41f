//! Owns what connects a process with its readers and writers: the log, the attached clients, stdin. Knows no HTTP.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::clock::Nanos;
use crate::log::{Log, StreamId};

/// One write of a process.
pub(crate) type Chunk = (StreamId, Bytes);

/// How many writes an attached client may lag before the process waits for it, as for a full pipe.
const ATTACH_DEPTH: usize = 64;
/// How many reads' worth of stdin is held for a process that does not read.
const STDIN_DEPTH: usize = 16;

/// The pipes of one container; they outlive its processes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    state: Mutex<PipeState>,
    /// Told at every change of the log and of the container's state.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct PipeState {
    pub(crate) log: Log,
    attached: Vec<mpsc::Sender<Chunk>>,
    stdin: Option<Stdin>,
    /// The number of the run whose output is open; `None` while no process runs.
    pub(crate) run: Option<u64>,
    /// The processes are frozen: what they write, and their end, waits.
    paused: bool,
    /// How the last run ended; it outlives the container for those who wait for its removal.
    pub(crate) exit_code: i64,
}

/// Both ends of stdin.
#[derive(Debug)]
struct Stdin {
    /// For clients; `None` once stdin was closed.
    writer: Option<mpsc::Sender<Bytes>>,
    /// For the process; `None` once it was taken.
    reader: Option<mpsc::Receiver<Bytes>>,
}

impl Pipes {
    pub(crate) fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one write of the process: into the log if `logged`, and to everyone attached. Waits for attached clients
    /// that lag.
    pub(crate) async fn write(&self, time: Nanos, stream: StreamId, data: Bytes, logged: bool) {
        if data.is_empty() {
            return;
        }
        self.thawed().await;
        let attached = {
            let mut state = self.lock();
            if logged {
                state.log.append(time, stream, &data);
            }
            state.attached.retain(|client| !client.is_closed());
            state.attached.clone()
        };
        self.changed.notify_waiters();
        for client in attached {
            // A client that went away takes nothing more.
            let _ = client.send((stream, data.clone())).await;
        }
    }

    /// Freezes or thaws the processes.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_waiters();
    }

    /// Waits until the processes are not frozen.
    pub(crate) async fn thawed(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.lock().paused {
                return;
            }
            changed.await;
        }
    }

    /// A run begins.
    pub(crate) fn open(&self, run: u64) {
        self.lock().run = Some(run);
    }

    /// A run ended: unfinished lines are closed, attached clients see the end, stdin starts anew.
    pub(crate) fn close(&self, time: Nanos, exit_code: i64) {
        let mut state = self.lock();
        state.exit_code = exit_code;
        state.log.finish(time);
        state.attached = Vec::new();
        state.stdin = None;
        state.run = None;
        state.paused = false;
        drop(state);
        self.changed.notify_waiters();
    }
}

impl PipeState {
    /// A client that gets every write from now on.
    pub(crate) fn attach(&mut self) -> mpsc::Receiver<Chunk> {
        let (tx, rx) = mpsc::channel(ATTACH_DEPTH);
        self.attached.push(tx);
        rx
    }

    fn stdin(&mut self) -> &mut Stdin {
        self.stdin.get_or_insert_with(|| {
            let (writer, reader) = mpsc::channel(STDIN_DEPTH);
            Stdin {
                writer: Some(writer),
                reader: Some(reader),
            }
        })
    }

    /// The process' end of stdin; `None` once it was taken.
    pub(crate) fn take_stdin(&mut self) -> Option<mpsc::Receiver<Bytes>> {
        self.stdin().reader.take()
    }

    /// A client's end of stdin; `None` once stdin was closed.
    pub(crate) fn stdin_sender(&mut self) -> Option<mpsc::Sender<Bytes>> {
        self.stdin().writer.clone()
    }

    /// Closes stdin for good once the clients that still hold it let go.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin().writer = None;
    }
}
