//! Callers that read more slowly than the engine writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use berth_docker::{Deadline, Framing};
use bytes::Bytes;
use tokio::time::sleep;

use crate::support::call::Call;
use crate::support::fixture::{UNTIL_CLOSE, UPGRADED, frame};
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, SOCKETS, Server, Transport, at_rest, eventually};

const UNLIMITED: Deadline = Deadline::Stream { idle: None };

/// An engine that writes a million lines as fast as it can, and counts those it got rid of.
async fn writer(
    transport: Transport,
    head: &'static str,
    lines: usize,
) -> (Server, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let server = Server::on(transport, move |mut peer: Peer| {
        let count = count.clone();
        async move {
            peer.request().await;
            peer.send(head).await;
            let line = frame(1, "a line of 16 B.\n");
            let block = line.repeat(1000);
            for _ in 0..lines / 1000 {
                if !peer.send(&block).await {
                    return;
                }
                count.fetch_add(block.len(), SeqCst);
            }
            peer.fin().await;
            peer.gone().await;
        }
    })
    .await;
    (server, written)
}

#[test]
fn a_reader_that_stops_stops_the_engine_and_loses_nothing() {
    in_memory(async {
        let (server, written) = writer(Transport::Memory, UNTIL_CLOSE, 1_000_000).await;
        let docker = server.client();
        let mut frames = docker
            .send_stream(Call::Frames.request(UNLIMITED))
            .await
            .unwrap()
            .frames(Framing::Multiplexed);
        let first: Bytes = frames.next().await.unwrap().unwrap().bytes;
        sleep(Duration::from_secs(3600)).await;
        // What the connection holds, and what one read took of it: nothing more is taken while nobody asks.
        let held = written.load(SeqCst);
        assert!(
            held <= 256 * 1024,
            "{held} bytes were taken for a reader that does not read"
        );
        let mut length = first.len();
        while let Some(frame) = frames.next().await {
            length += frame.unwrap().bytes.len();
        }
        assert_eq!(length, 16 * 1_000_000);
        drop(frames);
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn backpressure_reaches_the_engine_over_every_socket() {
    on_sockets(async {
        for transport in SOCKETS {
            for (call, head) in [(Call::Frames, UNTIL_CLOSE), (Call::Upgrade, UPGRADED)] {
                // More than all buffers of the system together.
                let lines = 1_000_000;
                let (server, written) = writer(*transport, head, lines).await;
                let docker = server.client();
                let request = call.request(UNLIMITED);
                let (mut frames, input) = match call {
                    Call::Upgrade => {
                        let (frames, input) = docker
                            .send_upgrade(request)
                            .await
                            .unwrap()
                            .into_parts(Framing::Multiplexed);
                        (frames, Some(input))
                    }
                    _ => (
                        docker
                            .send_stream(request)
                            .await
                            .unwrap()
                            .frames(Framing::Multiplexed),
                        None,
                    ),
                };
                let mut length = frames.next().await.unwrap().unwrap().bytes.len();
                // The engine's writer comes to a halt: its count stays where it is.
                let mut last = usize::MAX;
                eventually("the engine is held up", || {
                    std::mem::replace(&mut last, written.load(SeqCst)) == written.load(SeqCst)
                })
                .await;
                assert!(
                    last < lines * 24,
                    "{transport:?}, {call:?}: all was taken for a reader that does not read"
                );
                while let Some(frame) = frames.next().await {
                    length += frame.unwrap().bytes.len();
                }
                assert_eq!(length, 16 * lines, "{transport:?}, {call:?}");
                drop((frames, input));
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn an_engine_that_does_not_read_holds_up_our_input() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            peer.send(UPGRADED).await;
            sleep(Duration::from_secs(3600)).await;
            assert_eq!(peer.end_of_input().await.len(), 10 * 1024 * 1024);
        });
        let docker = server.client();
        let (reader, mut writer) = docker
            .send_upgrade(Call::Upgrade.request(UNLIMITED))
            .await
            .unwrap()
            .into_parts(Framing::Raw);
        let since = tokio::time::Instant::now();
        writer
            .write_all(&vec![b'x'; 10 * 1024 * 1024])
            .await
            .unwrap();
        assert!(
            since.elapsed() >= Duration::from_secs(3600),
            "it was taken by nobody"
        );
        writer.shutdown().await.unwrap();
        drop((reader, writer, docker));
        server.finish().await;
    });
}
