//! Waits until something changes in directories, some of which may not be there yet. No task: the one who waits holds it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for some hundred events; none is looked at.
const BUFFER: usize = 4096;

/// The watches of one waiter.
#[derive(Debug)]
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// # Errors
    /// When the user has as many inotify instances as the host allows (`fs.inotify.max_user_instances`).
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "deprecated for types that may give another descriptor or close it; an `OwnedFd` does neither, and the successor is unsafe"
        )]
        let inotify = AsyncFd::with_interest(inotify, Interest::READABLE)?;
        Ok(Self(inotify))
    }

    /// Watches directories; where one is missing, the nearest above it that is there. Those that are watched already stay so.
    ///
    /// # Errors
    /// When the user has as many watches as the host allows (`fs.inotify.max_user_watches`).
    pub(super) fn arm(&self, dirs: &[PathBuf]) -> io::Result<()> {
        let events = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for dir in dirs {
            let mut nearest: &Path = dir;
            loop {
                match (
                    inotify::add_watch(&self.0, nearest, events),
                    nearest.parent(),
                ) {
                    (Ok(_), _) => break,
                    (Err(Errno::NOENT | Errno::NOTDIR), Some(above)) => nearest = above,
                    (Err(error), _) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// When events cannot be read.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut events = Reader::new(self.0.get_ref(), &mut buffer);
            let mut any = false;
            loop {
                match events.next() {
                    Ok(_) => any = true,
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}
