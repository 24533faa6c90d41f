//! Engines that cannot be reached.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use berth_docker::{
    ApiVersion, ConnectOptions, ConnectReason, Deadline, Docker, Endpoint, ErrorKind,
};
use tokio::net::{TcpListener, UnixListener};

use crate::support::call::{ALL, Call, Fault, fault};
use crate::support::fixture::ok;
use crate::support::process::{in_memory, on_sockets};
use crate::support::{PATIENCE, Peer, Server, Transport, at_rest, soon};

fn options(endpoint: &str) -> ConnectOptions {
    ConnectOptions::new(endpoint.parse().unwrap())
        .with_api_version(ApiVersion::new(1, 44))
        .unwrap()
}

/// Runs every call; each must fail because of `expected`, and the error says where and what to try.
async fn refused(docker: &Docker, expected: ConnectReason) {
    for call in ALL {
        let outcome = soon(call.run(docker, Deadline::Short)).await;
        let error = outcome.error();
        assert_eq!(fault(error), Fault::Connect, "{call:?}: {error}");
        let ErrorKind::Connect { reason, .. } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!(*reason, expected, "{call:?}: {error}");
        assert!(error.is_connect());
        let text = error.to_string();
        assert!(
            text.contains(docker.endpoint()) && text.ends_with(expected.hint()),
            "{text}"
        );
        at_rest(docker, 0);
    }
}

#[test]
fn a_socket_that_is_not_there_is_told_from_one_that_nobody_listens_on() {
    on_sockets(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let docker = Docker::builder(options(&format!("unix://{}", path.display())))
            .build()
            .unwrap();
        refused(&docker, ConnectReason::NoSuchSocket).await;

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        refused(&docker, ConnectReason::NotRunning).await;

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "no socket").unwrap();
        refused(&docker, ConnectReason::NotRunning).await;
    });
}

#[test]
fn a_port_that_nobody_listens_on_is_not_running() {
    on_sockets(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        drop(listener);
        let docker = Docker::builder(options(&endpoint)).build().unwrap();
        refused(&docker, ConnectReason::NotRunning).await;
    });
}

#[test]
fn what_the_system_says_is_told_apart() {
    in_memory(async {
        // The user of the tests may be root, to whom nothing is forbidden: so the system's answer is given by hand.
        let cases = [
            (io::ErrorKind::PermissionDenied, ConnectReason::NoPermission),
            (io::ErrorKind::NotFound, ConnectReason::NoSuchSocket),
            (io::ErrorKind::ConnectionRefused, ConnectReason::NotRunning),
            (io::ErrorKind::AddrNotAvailable, ConnectReason::Other),
        ];
        for (kind, reason) in cases {
            let docker = Docker::builder(options("unix:///run/engine.sock"))
                .dialer(move || Err(kind.into()))
                .build()
                .unwrap();
            refused(&docker, reason).await;
        }
    });
}

#[test]
fn endpoints_this_system_does_not_have_are_refused_by_name() {
    in_memory(async {
        for endpoint in ["npipe:////./pipe/docker_engine", "fake://nobody"] {
            let docker = Docker::builder(options(endpoint)).build().unwrap();
            refused(&docker, ConnectReason::Unsupported).await;
        }
        for endpoint in ["ssh://host", "ssh://user@host:22/run/docker.sock"] {
            let error = endpoint.parse::<Endpoint>().unwrap_err().to_string();
            assert!(
                error.contains("ssh://") && error.contains("ssh -nNT -L"),
                "it is refused by name, with a way out: {error}"
            );
        }
    });
}

#[test]
fn a_host_without_an_address_is_unknown() {
    on_sockets(async {
        // The system itself knows that it has no such interface, so no name server is asked.
        let docker = Docker::builder(options("tcp://[fe80::1%25nowhere]:2375"))
            .build()
            .unwrap();
        let outcome = soon(Call::Reply.run(&docker, Deadline::Short)).await;
        let ErrorKind::Connect { reason, .. } = outcome.error().kind() else {
            panic!("{}", outcome.error())
        };
        assert_eq!(*reason, ConnectReason::UnknownHost, "{}", outcome.error());
    });
}

#[test]
fn a_full_backlog_is_waited_for() {
    on_sockets(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let socket =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        socket.listen(1).unwrap();
        // Connections nobody accepts, until the system takes no more.
        let mut waiting = Vec::new();
        loop {
            let client =
                socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            match client.connect(&socket2::SockAddr::unix(&path).unwrap()) {
                Ok(()) => waiting.push(client),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let docker = Docker::builder(options(&format!("unix://{}", path.display())))
            .build()
            .unwrap();
        let mut call = Box::pin(docker.send(Call::Reply.request(Deadline::Short)));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut call).await;
        assert!(early.is_err(), "nobody can have answered: {early:?}");

        socket.set_nonblocking(true).unwrap();
        let listener =
            UnixListener::from_std(std::os::unix::net::UnixListener::from(socket)).unwrap();
        let serving = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = async {
                    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                    let mut byte = [0];
                    if stream.read(&mut byte).await.is_ok_and(|len| len == 1) {
                        stream.write_all(&ok("{}")).await.unwrap();
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                };
                answer.await;
            }
        };
        drop(waiting);
        tokio::select! {
            () = serving => unreachable!(),
            reply = soon(&mut call) => assert_eq!(reply.unwrap().status, 200),
        }
        drop(call);
        at_rest(&docker, 1);
    });
}

#[test]
fn a_backlog_that_stays_full_meets_the_connect_deadline() {
    on_sockets(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let listener =
            socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener
            .bind(&socket2::SockAddr::unix(&path).unwrap())
            .unwrap();
        listener.listen(0).unwrap();
        let first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let docker = Docker::builder(options(&format!("unix://{}", path.display())));
        let docker = docker
            .connect_deadline(Duration::from_millis(30))
            .build()
            .unwrap();
        let error = soon(docker.send(Call::Reply.request(Deadline::Short)))
            .await
            .unwrap_err();
        assert_connect_timeout(&error);
        drop((first, listener));
    });
}

#[track_caller]
fn assert_connect_timeout(error: &berth_docker::Error) {
    use berth_docker::Phase;

    use crate::support::call::Sent;
    assert_eq!(
        fault(error),
        Fault::TimedOut(Phase::Connect, Sent::No),
        "{error}"
    );
    assert!(error.is_connect() && error.is_timeout());
}

#[test]
fn a_socket_that_is_replaced_under_the_client_is_found_again() {
    on_sockets(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let docker = Docker::builder(options(&format!("unix://{}", path.display())))
            .build()
            .unwrap();
        for generation in 0..3 {
            let listener = UnixListener::bind(&path).unwrap();
            let engine = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                for _ in 0..2 {
                    assert!(stream.read(&mut request).await.unwrap() > 0);
                    stream
                        .write_all(&ok(format!("{generation}")))
                        .await
                        .unwrap();
                }
            });
            for _ in 0..2 {
                // A call that changes something is answered too: the old connection is known to be dead before it is used.
                let request = berth_docker::Request::new(
                    crate::support::call::OPERATION,
                    berth_docker::Method::Post,
                    "/probe",
                );
                let reply = soon(docker.send(request)).await.unwrap();
                assert_eq!(reply.body, generation.to_string());
            }
            engine.await.unwrap();
            std::fs::remove_file(&path).unwrap();
        }
        refused(&docker, ConnectReason::NoSuchSocket).await;
    });
}

#[test]
fn connections_to_an_engine_that_stopped_listening_are_forgotten() {
    in_memory(async {
        let there = Arc::new(AtomicBool::new(true));
        let listening = there.clone();
        let (sender, mut accepted) = tokio::sync::mpsc::unbounded_channel();
        let docker = Docker::builder(options("fake://engine"));
        let docker = docker.dialer(move || {
            if !listening.load(SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(4096);
            sender.send(ours).unwrap();
            Ok(theirs)
        });
        let docker = docker.build().unwrap();
        let engine = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut kept = Vec::new();
            while let Some(mut stream) = accepted.recv().await {
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(&ok("{}")).await.unwrap();
                kept.push(stream);
            }
        });
        docker
            .send(Call::Reply.request(Deadline::Short))
            .await
            .unwrap();
        at_rest(&docker, 1);
        // A stream dials, and finds that nobody listens: the kept connection leads nowhere either.
        there.store(false, SeqCst);
        assert_eq!(
            fault(Call::Bytes.run(&docker, Deadline::Short).await.error()),
            Fault::Connect
        );
        at_rest(&docker, 0);
        drop(docker);
        engine.await.unwrap();
    });
}

#[cfg(feature = "tls")]
mod tls {
    use berth_docker::TlsFiles;

    use super::*;

    fn client(address: std::net::SocketAddr, host: &str, files: TlsFiles) -> berth_docker::Builder {
        let endpoint =
            Endpoint::parse(&format!("https://{host}:{}", address.port()), true).unwrap();
        Docker::builder(
            ConnectOptions::new(endpoint)
                .with_tls(files)
                .with_api_version(ApiVersion::new(1, 44))
                .unwrap(),
        )
    }

    #[test]
    fn a_certificate_that_is_not_signed_or_is_for_another_name_is_refused() {
        on_sockets(async {
            let server = Server::on(Transport::Tls, |mut peer: Peer| async move {
                while peer.request().await.is_some() {
                    peer.send(ok("{}")).await;
                }
            })
            .await;
            let stranger = Server::on(Transport::Tls, Peer::stall).await;
            let trusted = server.options().tls().unwrap().clone();

            let docker = server.client();
            assert_eq!(
                docker
                    .send(Call::Reply.request(Deadline::Short))
                    .await
                    .unwrap()
                    .status,
                200
            );
            drop(docker);

            let wrong_authority = client(
                server.address(),
                "localhost",
                stranger.options().tls().unwrap().clone(),
            )
            .build()
            .unwrap();
            refused(&wrong_authority, ConnectReason::Tls).await;
            let wrong_name = client(server.address(), "127.0.0.1", trusted.clone())
                .build()
                .unwrap();
            refused(&wrong_name, ConnectReason::Tls).await;

            let unverified = client(
                server.address(),
                "127.0.0.1",
                TlsFiles {
                    verify: false,
                    ..TlsFiles::default()
                },
            )
            .build()
            .unwrap();
            assert_eq!(
                unverified
                    .send(Call::Reply.request(Deadline::Short))
                    .await
                    .unwrap()
                    .status,
                200
            );
            drop((wrong_authority, wrong_name, unverified));
            server.finish().await;
            stranger.finish().await;
        });
    }

    #[test]
    fn an_engine_without_tls_on_a_tls_endpoint_is_refused_and_one_that_says_nothing_times_out() {
        on_sockets(async {
            let plain = Server::on(Transport::Tcp, |mut peer: Peer| async move {
                peer.send("HTTP/1.1 400 Bad Request\r\n\r\nClient sent an HTTPS request to an HTTP server").await;
                peer.gone().await;
            })
            .await;
            let unverified = || TlsFiles {
                verify: false,
                ..TlsFiles::default()
            };
            let docker = client(plain.address(), "localhost", unverified())
                .build()
                .unwrap();
            refused(&docker, ConnectReason::Tls).await;
            drop(docker);
            plain.finish().await;

            let silent = Server::on(Transport::Tcp, Peer::stall).await;
            let docker = client(silent.address(), "localhost", unverified())
                .connect_deadline(Duration::from_millis(30))
                .build()
                .unwrap();
            for call in ALL {
                let outcome = tokio::time::timeout(
                    PATIENCE,
                    call.run(&docker, Deadline::Stream { idle: None }),
                )
                .await
                .unwrap();
                assert_connect_timeout(outcome.error());
            }
            at_rest(&docker, 0);
            drop(docker);
            silent.finish().await;
        });
    }
}
