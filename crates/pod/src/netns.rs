//! Connecting to a port inside a pod: from within its network namespace, without a program of the host's.
//!
//! A thread that has entered another namespace must do nothing else ever after, so each connection has a thread of its own, which ends with it
//! made. The connection stays in the namespace where it was made.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// How long a connection may take. Within one host it takes microseconds, or is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a port of the loopback addresses, IPv4 first, in the network namespace of a process; in ours with `None`.
///
/// Must be called within a tokio runtime. Cancel safe; a thread that is under way ends by itself.
///
/// # Errors
/// When the process is gone, when its namespace may not be entered, and as connecting fails.
pub async fn connect(process: Option<u32>, port: u16) -> io::Result<TcpStream> {
    let stream = match process {
        None => within(port, || Ok(())).await,
        Some(pid) => {
            let path = format!("/proc/{pid}/ns/net");
            let namespace = File::open(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            within(port, move || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|error| {
                        let error = io::Error::from(error);
                        let why = format!("cannot enter the network of process {pid}: {error}");
                        io::Error::new(error.kind(), why)
                    })
            })
            .await
        }
    }?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn within(
    port: u16,
    enter: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<StdStream> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(move || {
            // Nobody may be waiting any more.
            let _ = sender.send(enter().and_then(|()| dial(port)));
        })?;
    receiver
        .await
        .map_err(|_| io::Error::other("the thread that connects has ended"))?
}

fn dial(port: u16) -> io::Result<StdStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    StdStream::connect_timeout(&v4, PATIENCE)
        .or_else(|error| StdStream::connect_timeout(&v6, PATIENCE).map_err(|_| error))
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
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_named() {
        let error = connect(Some(u32::MAX), 80)
            .await
            .expect_err("no such process");
        assert!(error.to_string().contains("4294967295"), "{error}");
    }
}
