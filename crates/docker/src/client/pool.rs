//! The connections of one client: kept ones for control calls, fresh ones for streams.
//!
//! The two lanes share no limit, so a thousand open follows never make an inspect wait. A connection is owned by the call that uses it; only
//! a call that read its whole reply gives it back. There is no task that tends the pool: connections too old are dropped when the next call
//! comes by.

use std::future::poll_fn;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::transport::{Conn, ConnectError, Connector};

/// How many unused connections are kept. Each costs the engine two goroutines and us a descriptor, and no buffer.
pub(crate) const MAX_IDLE: usize = 64;

/// How long an unused connection is kept; Go's Docker client drops its own after as long.
pub(crate) const MAX_IDLE_TIME: Duration = Duration::from_secs(30);

/// How many connects of one lane are under way at once. Above the engine's listen backlog, unix sockets answer `EAGAIN`.
const MAX_DIALING: usize = 64;

/// What a call uses a connection for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A short call: request, reply, back to the pool.
    Control,
    /// A follow, an upload, an upgrade: a connection of its own, closed at its end.
    Stream,
}

pub(crate) struct Pool {
    connector: Connector,
    idle: Mutex<Vec<(Conn, Instant)>>,
    control_gate: Semaphore,
    stream_gate: Semaphore,
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            connector,
            idle: Mutex::default(),
            control_gate: Semaphore::new(MAX_DIALING),
            stream_gate: Semaphore::new(MAX_DIALING),
        }
    }

    /// A kept connection that is still good, the most recently used first. `ask` has the system asked whether it is, for a request that
    /// cannot be sent again on another one.
    pub(crate) async fn take(&self, ask: bool) -> Option<Conn> {
        loop {
            let mut conn = {
                let mut idle = lock(&self.idle);
                let (conn, since) = idle.pop()?;
                if since.elapsed() > MAX_IDLE_TIME {
                    // Those below it are older still.
                    let stale = std::mem::take(&mut *idle);
                    drop(idle);
                    drop((conn, stale));
                    return None;
                }
                conn
            };
            if poll_fn(|cx| Poll::Ready(conn.is_quiet(ask, cx))).await {
                return Some(conn);
            }
        }
    }

    /// A fresh connection.
    pub(crate) async fn dial(&self, lane: Lane) -> Result<Conn, ConnectError> {
        let gate = match lane {
            Lane::Control => &self.control_gate,
            Lane::Stream => &self.stream_gate,
        };
        // The gates are never closed.
        let _permit = gate.acquire().await;
        self.connector.connect().await
    }

    /// Keeps a connection whose reply has been read to its end. One with leftover bytes is dropped: the peer said more than it should.
    pub(crate) fn give_back(&self, mut conn: Conn) {
        if !conn.buf.is_empty() {
            return;
        }
        conn.release();
        let mut idle = lock(&self.idle);
        let expired = idle
            .iter()
            .take_while(|(_, since)| since.elapsed() > MAX_IDLE_TIME)
            .count();
        let excess = expired.max((idle.len() + 1).saturating_sub(MAX_IDLE));
        let dropped: Vec<_> = idle.drain(..excess).collect();
        idle.push((conn, Instant::now()));
        drop(idle);
        drop(dropped);
    }

    /// Drops every kept connection: they lead to an engine that is gone.
    pub(crate) fn forget(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }

    pub(crate) fn idle_count(&self) -> usize {
        lock(&self.idle).len()
    }
}

/// The list behind the lock is valid at every step, so a panic elsewhere does not spoil it.
fn lock(idle: &Mutex<Vec<(Conn, Instant)>>) -> std::sync::MutexGuard<'_, Vec<(Conn, Instant)>> {
    idle.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
