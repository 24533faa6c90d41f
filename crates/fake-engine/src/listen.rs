//! Owns the unix socket an engine is served on. Knows no HTTP.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use crate::engine::FakeEngine;

/// Between two attempts to accept after one that failed, which is what running out of descriptors looks like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl FakeEngine {
    /// Serves on a unix socket with mode 0600 until the returned [`Server`] is dropped. A socket that is there but that
    /// nobody serves is replaced.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] if someone serves the socket; [`io::ErrorKind::AlreadyExists`] if the path is not a
    /// socket; what else binding a socket fails with.
    pub fn serve_unix(&self, path: impl AsRef<Path>) -> io::Result<Server> {
        let path = path.as_ref().to_owned();
        remove_stale(&path)?;
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let inner = Arc::clone(self.inner());
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => inner.accept(Box::new(stream)),
                    // Out of descriptors, or the client is gone already: the next may succeed.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
        });
        Ok(Server {
            task: task.abort_handle(),
            path,
            _engine: self.clone(),
        })
    }
}

/// A socket that is served. Dropping it stops the serving and removes the socket; open connections go on.
#[derive(Debug)]
pub struct Server {
    task: AbortHandle,
    path: PathBuf,
    _engine: FakeEngine,
}

impl Server {
    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // It may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody serves.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let meta = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.file_type().is_socket() {
        let message = format!(
            "{} is there and is not a socket; choose another path",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message = format!(
            "{} is served by another process; stop it or choose another path",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    std::fs::remove_file(path)
}
