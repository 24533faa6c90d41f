//! What the engine, or a proxy before it, says when it says no.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use berth_docker::Deadline;
use tokio::time::Instant;

use crate::support::call::{ALL, Fault, fault};
use crate::support::fixture::{CHUNKED, chunk, recorded, with_length};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

const UNLIMITED: Deadline = Deadline::Stream { idle: None };

#[test]
fn every_kind_of_body_gives_the_words_in_it() {
    let html = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center></body></html>\r\n";
    let cases = [
        (
            with_length(
                "404 Not Found",
                recorded("errors/404-no-such-container.http").split_off(228),
            ),
            404,
            "No such container: absent",
        ),
        (
            with_length(
                "500 Oops",
                "{\"cause\":\"EOF\",\"message\":\"podman says no\",\"response\":500}",
            ),
            500,
            "podman says no",
        ),
        (
            with_length("400 Bad Request", "client version 1.23 is too old\n"),
            400,
            "client version 1.23 is too old",
        ),
        (with_length("502 Bad Gateway", html), 502, "502 Bad Gateway"),
        (
            with_length("503 Service Unavailable", ""),
            503,
            "service unavailable, without a reason",
        ),
        (
            with_length("409 Conflict", "{\"message\":\"a\\r\\nb\\u001b[31m\"}"),
            409,
            "a  b [31m",
        ),
        (
            with_length("500 Oops", b"\xff\xfe not text"),
            500,
            "\u{fffd}\u{fffd} not text",
        ),
    ];
    in_memory(async {
        for (reply, status, words) in cases {
            for call in ALL {
                let reply = reply.clone();
                let server = Server::memory(move |mut peer: Peer| {
                    let reply = reply.clone();
                    async move {
                        while peer.request().await.is_some() {
                            peer.send(&reply).await;
                        }
                    }
                });
                let docker = server.client();
                let outcome = call.run(&docker, Deadline::Short).await;
                assert_eq!(fault(outcome.error()), Fault::Refused(status), "{call:?}");
                assert_eq!(outcome.error().message(), words, "{call:?}");
                // A refusal that was read whole spoils no connection, not even one of a stream.
                at_rest(&docker, 1);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn a_reason_of_a_gigabyte_is_read_as_far_as_its_bound() {
    in_memory(async {
        for call in ALL {
            let sent = Arc::new(AtomicUsize::new(0));
            let count = sent.clone();
            let server = Server::memory(move |mut peer: Peer| {
                let count = count.clone();
                async move {
                    peer.request().await;
                    peer.send(format!(
                        "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\n\r\n",
                        1 << 30
                    ))
                    .await;
                    let piece = vec![b'x'; 64 * 1024];
                    while peer.send(&piece).await {
                        count.fetch_add(piece.len(), SeqCst);
                    }
                }
            });
            let docker = server.client();
            let outcome = call.run(&docker, UNLIMITED).await;
            assert_eq!(fault(outcome.error()), Fault::Refused(500), "{call:?}");
            assert!(
                outcome.error().message().starts_with("xxxx")
                    && outcome.error().message().len() < 5000,
                "{call:?}"
            );
            assert!(
                sent.load(SeqCst) <= 1024 * 1024 + 256 * 1024,
                "{call:?} took {} bytes",
                sent.load(SeqCst)
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_reason_that_does_not_come_is_waited_for_10_seconds_also_without_a_deadline() {
    in_memory(async {
        for call in ALL {
            // It stops in the one case, and never ends in the other.
            for dribbles in [false, true] {
                let server = Server::memory(move |mut peer: Peer| async move {
                    peer.request().await;
                    peer.send("HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nno room in ")
                        .await;
                    if dribbles {
                        while peer.dribble("x", Duration::from_secs(1)).await {}
                    }
                    peer.gone().await;
                });
                let docker = server.client();
                let since = Instant::now();
                let outcome = call.run(&docker, UNLIMITED).await;
                assert!(
                    since.elapsed() >= Duration::from_secs(10)
                        && since.elapsed() < Duration::from_secs(11),
                    "{call:?}: {:?}",
                    since.elapsed()
                );
                assert_eq!(fault(outcome.error()), Fault::Refused(503), "{call:?}");
                assert!(
                    outcome.error().message().starts_with("no room in"),
                    "{call:?}: {}",
                    outcome.error()
                );
                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn a_reason_that_does_not_come_before_the_deadline_still_leaves_a_refusal() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                peer.send(
                    [
                        CHUNKED.replace("200 OK", "409 Conflict").as_bytes(),
                        &chunk("the name is "),
                    ]
                    .concat(),
                )
                .await;
                peer.gone().await;
            });
            let docker = server.client();
            let since = Instant::now();
            let outcome = call
                .run(&docker, Deadline::Total(Duration::from_secs(3)))
                .await;
            assert!(since.elapsed() < Duration::from_secs(4), "{call:?}");
            assert_eq!(fault(outcome.error()), Fault::Refused(409), "{call:?}");
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_reason_in_malformed_chunks_still_leaves_a_refusal() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                peer.send(
                    [
                        CHUNKED.replace("200 OK", "500 Oops").as_bytes(),
                        &chunk("disk full"),
                        b"zz\r\n",
                    ]
                    .concat(),
                )
                .await;
                peer.gone().await;
            });
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            assert_eq!(fault(outcome.error()), Fault::Refused(500), "{call:?}");
            assert!(
                outcome.error().message().starts_with("disk full"),
                "{call:?}: {}",
                outcome.error()
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}
