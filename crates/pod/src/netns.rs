//! Connecting to a port inside a pod: from within its network namespace, without a program of the host's.
//!
//! A thread that has entered another namespace must do nothing else ever after, so each connection has a thread of its own, which ends with it
//! made. The connection stays in the namespace where it was made.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// How long a connection may take. Within one host it takes microseconds, or is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a port is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// In the network that we are in.
    Ours,
    /// In that of a process.
    Of {
        /// The process's ID on the host.
        process: u32,
        /// What [`inode`] said of it before, if it was asked. A process that has ended may have given its ID to another one.
        inode: Option<u64>,
    },
}

impl From<Option<u32>> for Network {
    fn from(process: Option<u32>) -> Self {
        match process {
            None => Self::Ours,
            Some(process) => Self::Of {
                process,
                inode: None,
            },
        }
    }
}

/// What tells the network namespace of a process from all others that there are at the same time.
///
/// # Errors
/// When the process is gone, or may not be looked at.
pub fn inode(process: u32) -> io::Result<u64> {
    Ok(open(process)?.metadata()?.ino())
}

fn open(process: u32) -> io::Result<File> {
    let path = format!("/proc/{process}/ns/net");
    File::open(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// Connects to a port of the loopback addresses, IPv4 first.
///
/// Must be called within a tokio runtime. Cancel safe; a thread that is under way ends by itself.
///
/// # Errors
/// When the process is gone, or its ID is another's by now; when its namespace may not be entered; and as connecting fails. The kind is that
/// of the system's error, the text says what failed.
pub async fn connect(network: impl Into<Network>, port: u16) -> io::Result<TcpStream> {
    let network = network.into();
    let namespace = match network {
        Network::Ours => None,
        Network::Of { process, inode } => {
            let namespace = open(process)?;
            // Once it is open it stays the same one, whatever becomes of the process.
            if inode.is_some() && inode != Some(namespace.metadata()?.ino()) {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("process {process} is not the one that it was: it has another network"),
                ));
            }
            Some(namespace)
        }
    };
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(move || {
            let entered = match namespace {
                None => Ok(()),
                Some(namespace) => enter(&namespace),
            };
            // Nobody may be waiting any more.
            let _ = sender.send(entered.and_then(|()| dial(port)));
        })?;
    let stream = receiver
        .await
        .map_err(|_| io::Error::other("the thread that connects has ended"))
        .flatten()
        .map_err(|error| {
            let place = match network {
                Network::Ours => "of the host".to_owned(),
                Network::Of { process, .. } => format!("in the network of process {process}"),
            };
            let text = format!("cannot connect to port {port} {place}: {error}");
            io::Error::new(error.kind(), text)
        })?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn enter(namespace: &File) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
        |error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("it may not be entered: {error}"))
        },
    )
}

fn dial(port: u16) -> io::Result<StdStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let stream = StdStream::connect_timeout(&v4, PATIENCE)
        .or_else(|error| StdStream::connect_timeout(&v6, PATIENCE).map_err(|_| error))?;
    // Where nobody listens on a port of the range that connections have theirs from, one may by chance come to connect to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_of_our_own_is_reached_on_both_families_and_a_closed_one_is_refused() {
        let mut listeners = vec![TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")];
        listeners.extend(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)));
        for listener in &listeners {
            let address = listener.local_addr().expect("an address");
            let stream = connect(None, address.port()).await.expect("it connects");
            assert_eq!(stream.peer_addr().expect("a peer"), address);
        }
        let port = listeners[0].local_addr().expect("an address").port();
        drop(listeners);
        let error = connect(None, port).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = format!("cannot connect to port {port} of the host: ");
        assert!(error.to_string().starts_with(&text), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_named() {
        let error = connect(Some(u32::MAX), 80)
            .await
            .expect_err("no such process");
        assert!(error.to_string().contains("4294967295"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_has_another_network_than_before_is_not_the_same() {
        let ours = std::process::id();
        let inode = inode(ours).expect("our own namespace");
        let of = |inode| Network::Of {
            process: ours,
            inode: Some(inode),
        };
        let error = connect(of(inode + 1), 80).await.expect_err("another one");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("another network"), "{error}");
    }
}
