//! The socket that the kubelet talks to: made for this process, or handed over by systemd.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode};
use tokio::net::UnixListener;

/// The mode of the socket: its owner and its group may connect.
const MODE: Mode = Mode::from_bits_truncate(0o660);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The absolute path of the socket.
    pub path: PathBuf,
    /// The group that may connect, by name or number; `None` leaves it to the process's own.
    pub group: Option<String>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody serves there already.
    #[error("{path} is served already: is another berth cri, or cri-dockerd, running?", path = .0.display())]
    Taken(PathBuf),
    /// What is there is no socket.
    #[error("{path} is there and is no socket; berth does not remove it", path = .0.display())]
    NotASocket(PathBuf),
    /// The group is not known on this host.
    #[error("there is no group {0:?} on this host")]
    NoGroup(String),
    /// The system refused.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// At what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A socket that is removed when it is dropped, if it was made here.
#[derive(Debug)]
pub struct Socket {
    /// The path that has to be removed.
    made: Option<PathBuf>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // Somebody may have been quicker.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the socket, or takes the first one that systemd hands over (`LISTEN_FDS`). A socket that nobody serves any more is replaced.
///
/// Must be called within a tokio runtime, and before anything else of the process makes files: it sets the process's file mode mask meanwhile.
///
/// # Errors
/// When somebody serves there, or the socket cannot be made; nothing has changed then but for missing directories that were made.
pub fn listen(listen: &Listen) -> Result<(UnixListener, Socket), ListenError> {
    let path = &listen.path;
    let failed = |what| {
        move |source| ListenError::System {
            what,
            path: path.clone(),
            source,
        }
    };
    if let Ok(Some(handed)) = listenfd::ListenFd::from_env().take_unix_listener(0) {
        let listener =
            adopt(handed).map_err(failed("use the socket that systemd handed over for"))?;
        return Ok((listener, Socket { made: None }));
    }
    let group = listen.group.as_deref().map(group).transpose()?;
    make_way(path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
    }
    // Nobody may connect between making it and saying who may.
    let before = rustix::process::umask(Mode::from_bits_truncate(0o777) - MODE);
    let bound = StdListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed("listen on"))?;
    let socket = Socket {
        made: Some(path.clone()),
    };
    if let Some(group) = group {
        rustix::fs::chown(path, None, Some(group))
            .map_err(io::Error::from)
            .map_err(failed("give a group to"))?;
    }
    let listener = adopt(listener).map_err(failed("listen on"))?;
    Ok((listener, socket))
}

fn adopt(listener: StdListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Whether the process that listens there is alive. When it was killed in the middle of starting a program, its child has the socket for a
/// moment longer, and takes connections that nobody answers.
fn is_served(path: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(path) else {
        return false;
    };
    let peer = stream
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixStream::from_std(stream)?.peer_cred());
    // One in another PID namespace has the number 0; what cannot be seen from here is taken for alive.
    let Some(pid) = peer.ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0) else {
        return true;
    };
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // Its state stands behind its name, which is in brackets.
        Ok(stat) => !stat.contains(") Z"),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes a socket that nobody serves.
fn make_way(path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    if is_served(path) {
        return Err(ListenError::Taken(path.to_owned()));
    }
    fs::remove_file(path).map_err(|source| ListenError::System {
        what: "remove the stale socket",
        path: path.to_owned(),
        source,
    })
}

/// The number of a group.
fn group(name: &str) -> Result<Gid, ListenError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    number_of(name, &groups)
        .map(Gid::from_raw)
        .ok_or_else(|| ListenError::NoGroup(name.to_owned()))
}

/// The number of a group in the text of `/etc/group`: `name:password:number:members`.
fn number_of(name: &str, groups: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn at(directory: &tempfile::TempDir) -> Listen {
        Listen {
            path: directory.path().join("deep/cri.sock"),
            group: None,
        }
    }

    #[tokio::test]
    async fn only_owner_and_group_may_connect_and_the_socket_goes_with_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = at(&directory);
        let (listener, socket) = listen(&wanted).expect("it listens");
        let mode = fs::metadata(&wanted.path)
            .expect("it is there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o660);
        let error = listen(&wanted).expect_err("it is served");
        assert!(matches!(error, ListenError::Taken(_)), "{error}");
        drop((listener, socket));
        assert!(!wanted.path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_anything_else_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let wanted = at(&directory);
        let (listener, socket) = listen(&wanted).expect("it listens");
        // As after a kill: nobody removes it.
        std::mem::forget(socket);
        drop(listener);
        assert!(wanted.path.exists());
        drop(listen(&wanted).expect("it listens again"));
        fs::write(&wanted.path, "precious").expect("a file");
        let error = listen(&wanted).expect_err("it is no socket");
        assert!(matches!(error, ListenError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&wanted.path).expect("it is there"), b"precious");
    }

    #[test]
    fn groups_have_names_and_numbers() {
        let text = "root:x:0:\ndocker:x:998:me,you\nbroken\n";
        assert_eq!(number_of("docker", text), Some(998));
        assert_eq!(number_of("dock", text), None);
        assert!(matches!(
            group("no such group"),
            Err(ListenError::NoGroup(_))
        ));
        assert_eq!(group("7").expect("a number").as_raw(), 7);
    }
}
