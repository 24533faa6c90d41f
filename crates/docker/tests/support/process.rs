//! Runs tests so that what the process holds can be counted: those with real sockets one at a time, those in memory beside each other.

use std::future::Future;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use super::eventually;

static SOCKETS: RwLock<()> = RwLock::new(());

/// Runs a test that opens no socket, on a clock that stands still and jumps to the next deadline when nothing else can happen.
pub(crate) fn in_memory(test: impl Future<Output = ()>) {
    // A failed test says nothing about the others.
    let _beside = SOCKETS.read().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async {
            let ended = tokio::time::timeout(Duration::from_secs(365 * 24 * 3600), test).await;
            // On this clock a year passes at once when there is nothing else to wait for.
            assert!(ended.is_ok(), "it hangs");
        });
}

/// Runs a test with real sockets while no other test of this process runs; afterwards every descriptor and task it opened must be gone.
pub(crate) fn on_sockets(test: impl Future<Output = ()>) {
    let _alone = SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let (descriptors, tasks) = (descriptors(), tasks());
            let ended = tokio::time::timeout(Duration::from_secs(120), test).await;
            assert!(ended.is_ok(), "it hangs");
            eventually("all descriptors are closed", || {
                self::descriptors() == descriptors
            })
            .await;
            eventually("all tasks have ended", || self::tasks() == tasks).await;
        });
}

/// How many descriptors the process has open, that for counting included.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many tasks of the runtime are alive.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}
