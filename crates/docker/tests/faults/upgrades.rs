//! Connections that leave HTTP: attach and exec, their refusals, and the end of each direction.

use std::time::Duration;

use berth_docker::{Deadline, Docker, Error, FrameStream, Framing, Phase, Source, UpgradedWriter};

use crate::support::call::{Call, Fault, Sent, fault};
use crate::support::fixture::{UPGRADED, frame};
use crate::support::process::{in_memory, on_sockets};
use crate::support::{PATIENCE, Peer, SOCKETS, Server, Transport, at_rest, soon};

async fn upgrade(
    docker: &Docker,
    framing: Framing,
) -> Result<(FrameStream, UpgradedWriter), Error> {
    let request = Call::Upgrade.request(Deadline::Stream { idle: None });
    Ok(docker.send_upgrade(request).await?.into_parts(framing))
}

/// All that comes until the end, which must be clean.
async fn read_all(reader: &mut FrameStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(frame) = soon(reader.next()).await {
        all.extend_from_slice(&frame.unwrap().bytes);
    }
    all
}

#[test]
fn the_refusal_of_an_upgrade_keeps_its_reason_without_a_length() {
    // What attach answers once it has taken the connection over.
    const REPLY: &str = "HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nNo such container: web\r\n";
    on_sockets(async {
        for transport in SOCKETS {
            let server = Server::on(*transport, |mut peer: Peer| async move {
                peer.request().await;
                peer.send(REPLY).await;
                peer.fin().await;
                peer.gone().await;
            })
            .await;
            let docker = server.client();
            let error = upgrade(&docker, Framing::Raw).await.unwrap_err();
            assert_eq!(fault(&error), Fault::Refused(404));
            assert_eq!(error.message(), "No such container: web");
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn an_engine_asked_to_upgrade_is_asked_so() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            peer.send(UPGRADED).await;
        });
        let docker = server.client();
        let (mut reader, _writer) = upgrade(&docker, Framing::Raw).await.unwrap();
        assert!(reader.next().await.is_none());
        let request = &server.requests()[0];
        assert_eq!(request.line(), "POST /v1.44/probe");
        assert_eq!(
            (request.field("connection"), request.field("upgrade")),
            (vec!["Upgrade"], vec!["tcp"])
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn no_byte_behind_the_head_is_lost_however_it_is_split() {
    in_memory(async {
        let heads = [
            UPGRADED.to_owned(),
            // Some proxies leave the status of the upgrade out, and old engines the fields.
            "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n".to_owned(),
        ];
        let payload = [frame(1, "out"), frame(2, "err")].concat();
        for head in heads {
            let wire = [head.as_bytes(), &payload].concat();
            for at in 0..=wire.len() {
                let pieces = [wire[..at].to_vec(), wire[at..].to_vec()];
                let server = Server::memory(move |mut peer: Peer| {
                    let [first, rest] = pieces.clone();
                    async move {
                        peer.request().await;
                        peer.send(first).await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        peer.send(rest).await;
                    }
                });
                let docker = server.client();
                let (mut reader, _writer) = upgrade(&docker, Framing::Multiplexed).await.unwrap();
                let mut got = [(Source::Stdout, Vec::new()), (Source::Stderr, Vec::new())];
                while let Some(frame) = reader.next().await {
                    let frame = frame.unwrap();
                    got[usize::from(frame.source == Source::Stderr)]
                        .1
                        .extend_from_slice(&frame.bytes);
                }
                assert_eq!(
                    got,
                    [
                        (Source::Stdout, b"out".to_vec()),
                        (Source::Stderr, b"err".to_vec())
                    ],
                    "split at {at}"
                );
                drop((reader, _writer));
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn the_end_of_our_input_leaves_the_output_going_on_every_transport() {
    let test = async |transport: Transport| {
        let server = Server::on(transport, |mut peer: Peer| async move {
            peer.request().await;
            peer.send(UPGRADED).await;
            let input = peer.end_of_input().await;
            // Only now, behind the end of the input, comes the output.
            peer.send(frame(1, input)).await;
            peer.send(frame(2, "done")).await;
            peer.fin().await;
        })
        .await;
        let docker = server.client();
        let (mut reader, mut writer) = upgrade(&docker, Framing::Multiplexed).await.unwrap();
        assert_eq!(docker.metrics().streams_open(), 1);
        writer.write_all(b"some ").await.unwrap();
        writer.write_all(b"input").await.unwrap();
        soon(writer.shutdown()).await.unwrap();
        assert_eq!(
            read_all(&mut reader).await,
            b"some inputdone",
            "{transport:?}"
        );
        let error = writer.write_all(b"more").await.unwrap_err();
        assert_eq!(
            fault(&error),
            Fault::NoAnswer(Phase::Body, Sent::Yes),
            "nothing can be written behind the end"
        );
        drop((reader, writer));
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    };
    in_memory(test(Transport::Memory));
    on_sockets(async {
        for transport in SOCKETS {
            test(*transport).await;
        }
    });
}

#[test]
fn the_end_of_the_output_leaves_our_input_going_on_every_transport() {
    let test = async |transport: Transport| {
        let (told, heard) = tokio::sync::oneshot::channel();
        let told = std::sync::Arc::new(std::sync::Mutex::new(Some(told)));
        let server = Server::on(transport, move |mut peer: Peer| {
            let told = told.lock().unwrap().take();
            async move {
                peer.request().await;
                peer.send([UPGRADED.as_bytes(), &frame(1, "bye")].concat())
                    .await;
                peer.fin().await;
                told.unwrap().send(peer.gone().await).unwrap();
            }
        })
        .await;
        let docker = server.client();
        let (mut reader, mut writer) = upgrade(&docker, Framing::Multiplexed).await.unwrap();
        assert_eq!(read_all(&mut reader).await, b"bye", "{transport:?}");
        writer.write_all(b"still here").await.unwrap();
        writer.shutdown().await.unwrap();
        assert_eq!(soon(heard).await.unwrap(), b"still here", "{transport:?}");
        drop((reader, writer));
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    };
    in_memory(test(Transport::Memory));
    on_sockets(async {
        for transport in SOCKETS {
            test(*transport).await;
        }
    });
}

#[test]
fn an_engine_that_is_gone_fails_the_input_and_ends_the_output() {
    on_sockets(async {
        for transport in SOCKETS {
            let server = Server::on(*transport, |mut peer: Peer| async move {
                peer.request().await;
                peer.send([UPGRADED.as_bytes(), &frame(1, "cut")[..9]].concat())
                    .await;
            })
            .await;
            let docker = server.client();
            let (mut reader, mut writer) = upgrade(&docker, Framing::Multiplexed).await.unwrap();
            assert_eq!(&soon(reader.next()).await.unwrap().unwrap().bytes[..], b"c");
            let error = soon(reader.next()).await.unwrap().unwrap_err();
            // A reset, or an end within a frame: on TLS it is the missing close_notify that tells.
            assert!(
                matches!(
                    fault(&error),
                    Fault::Malformed | Fault::NoAnswer(Phase::Body, Sent::Yes)
                ),
                "{transport:?}: {error}"
            );
            assert!(reader.next().await.is_none());
            let failed = async { while writer.write_all(&[0; 4096]).await.is_ok() {} };
            soon(failed).await;
            drop((reader, writer));
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn an_engine_that_never_ends_is_left_by_dropping_both_parts() {
    in_memory(async {
        for reader_first in [true, false] {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                peer.send(UPGRADED).await;
                peer.hung_up().await;
            });
            let docker = server.client();
            let (mut reader, mut writer) = upgrade(&docker, Framing::Raw).await.unwrap();
            writer.shutdown().await.unwrap();
            assert!(
                tokio::time::timeout(PATIENCE, reader.next()).await.is_err(),
                "there is nothing to read, and no end"
            );
            if reader_first {
                drop(reader);
                drop(writer);
            } else {
                drop(writer);
                drop(reader);
            }
            at_rest(&docker, 0);
            drop(docker);
            // Its script ends only when the client has closed the connection.
            server.finish().await;
        }
    });
}

#[test]
fn input_counts_against_the_idle_limit_as_output_does() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            peer.send(UPGRADED).await;
            peer.gone().await;
        });
        let docker = server.client();
        let limit = Duration::from_secs(10);
        let upgraded = docker
            .send_upgrade(Call::Upgrade.request(Deadline::Stream { idle: Some(limit) }))
            .await
            .unwrap();
        let (mut reader, mut writer) = upgraded.into_parts(Framing::Raw);
        let since = tokio::time::Instant::now();
        let typing = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                writer.write_all(b"x").await.unwrap();
            }
        };
        let (_, item) = tokio::join!(typing, reader.next());
        assert_eq!(
            fault(&item.unwrap().unwrap_err()),
            Fault::TimedOut(Phase::Body, Sent::Yes)
        );
        let took = since.elapsed();
        assert!(
            took >= Duration::from_secs(40) && took < Duration::from_secs(41),
            "{took:?}"
        );
        drop((reader, writer, docker));
        server.finish().await;
    });
}
