//! Wakes a task when something happens in a directory: one inotify instance for all containers.
//!
//! A watch fires once and is gone. Whoever is woken arms it again *before* looking, so nothing can happen unseen in between, and while
//! nobody waits for it a busy container's thousand writes a second wake nobody.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Room for some hundred events; each watch has at most two at a time.
const BUFFER: usize = 4096;

/// Who waits for which watch; `None` once events cannot be read any more.
type Waiting = Arc<Mutex<Option<HashMap<i32, Vec<Arc<Notify>>>>>>;

/// The watches.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: Arc<AsyncFd<OwnedFd>>,
    waiting: Waiting,
    reader: JoinHandle<()>,
}

impl Watch {
    /// Opens an inotify instance, and starts the task that reads it. It ends when this is dropped.
    ///
    /// # Errors
    /// When the user has as many instances as the host allows (`fs.inotify.max_user_instances`).
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "deprecated for types that may give another descriptor or close it; an `OwnedFd` does neither, and the successor is unsafe"
        )]
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        let inotify = Arc::new(inotify);
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader = tokio::spawn(read(Arc::clone(&inotify), Arc::clone(&waiting)));
        Ok(Self {
            inotify,
            waiting,
            reader,
        })
    }

    /// Wakes `wake` once, at the next write to a file in `dir`, or when one is made or renamed there.
    ///
    /// # Errors
    /// When there is no such directory, or the user has as many watches as the host allows (`fs.inotify.max_user_watches`).
    pub(super) fn arm(&self, dir: &Path, wake: &Arc<Notify>) -> io::Result<()> {
        let events = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::ONESHOT;
        // Held over the call, so that the reader cannot miss a watch that fires at once.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting.as_mut() else {
            return Err(io::Error::other("inotify events cannot be read any more"));
        };
        let watch = inotify::add_watch(self.inotify.get_ref(), dir, events)?;
        let waits = waiting.entry(watch).or_default();
        if !waits.iter().any(|waits| Arc::ptr_eq(waits, wake)) {
            waits.push(Arc::clone(wake));
        }
        Ok(())
    }

    /// Takes the watches of `wake` back.
    pub(super) fn disarm(&self, wake: &Arc<Notify>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        waiting.retain(|watch, waits| {
            waits.retain(|waits| !Arc::ptr_eq(waits, wake));
            if waits.is_empty() {
                // One that has just fired is gone already.
                let _ = inotify::remove_watch(self.inotify.get_ref(), *watch);
            }
            !waits.is_empty()
        });
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(inotify: Arc<AsyncFd<OwnedFd>>, waiting: Waiting) {
    loop {
        let taken = match inotify.readable().await {
            Ok(mut ready) => {
                let taken = take(inotify.get_ref(), &waiting);
                ready.clear_ready();
                taken
            }
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "changes of log files are not reported any more; they are looked for at intervals");
            let waiting = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            for wake in waiting.into_iter().flat_map(HashMap::into_values).flatten() {
                wake.notify_one();
            }
            return;
        }
    }
}

/// Reads all events there are.
fn take(inotify: &OwnedFd, waiting: &Waiting) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        let event = match events.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(waiting) = waiting.as_mut() else {
            return Ok(());
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            for (_, wakes) in waiting.drain() {
                wakes.iter().for_each(|wake| wake.notify_one());
            }
        } else if let Some(wakes) = waiting.remove(&event.wd()) {
            wakes.iter().for_each(|wake| wake.notify_one());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    async fn woken(wake: &Notify) -> bool {
        tokio::time::timeout(Duration::from_secs(20), wake.notified())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn each_arming_wakes_once_and_only_its_own() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watch = Watch::new().unwrap();
        let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        watch.arm(one.path(), &first).unwrap();
        watch.arm(two.path(), &second).unwrap();
        // The second time it is the same watch, and so it is for someone else.
        watch.arm(two.path(), &second).unwrap();
        let third = Arc::new(Notify::new());
        watch.arm(two.path(), &third).unwrap();
        for number in 0..3 {
            fs::write(one.path().join(number.to_string()), "x").unwrap();
        }
        assert!(woken(&first).await);
        fs::rename(one.path().join("0"), two.path().join("0")).unwrap();
        assert!(woken(&second).await && woken(&third).await);
        // What was written while nothing was armed is not reported later.
        watch.arm(one.path(), &first).unwrap();
        watch.disarm(&first);
        fs::write(one.path().join("1"), "y").unwrap();
        watch.arm(two.path(), &second).unwrap();
        fs::write(two.path().join("0"), "y").unwrap();
        assert!(woken(&second).await);
        let pending = tokio::time::timeout(Duration::ZERO, first.notified()).await;
        assert!(pending.is_err());
    }

    #[tokio::test]
    async fn a_directory_that_goes_wakes_and_cannot_be_armed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local-logs");
        fs::create_dir(&path).unwrap();
        let watch = Watch::new().unwrap();
        let wake = Arc::new(Notify::new());
        watch.arm(&path, &wake).unwrap();
        fs::remove_dir(&path).unwrap();
        assert!(woken(&wake).await);
        let error = watch.arm(&path, &wake).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
