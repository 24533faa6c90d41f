//! Engines that answer before they have read what is sent to them.

use std::io;
use std::time::Duration;

use berth_docker::{Body, Deadline, Method, Phase, Request};
use bytes::Bytes;

use crate::support::call::{Call, Fault, OPERATION, Sent, fault};
use crate::support::fixture::with_length;
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, SOCKETS, Server, Transport, at_rest};

const TOO_LARGE: &str = "{\"message\":\"the archive is larger than the disk\"}";

/// How the engine goes on after it has refused.
#[derive(Debug, Clone, Copy)]
enum Then {
    Reset,
    Close,
    Stall,
}

/// 10 GiB that cost nothing to make.
fn endless() -> Body {
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = std::iter::repeat_n(piece, 10 * 1024 * 1024 * 1024 / (64 * 1024)).map(Ok);
    Body::Stream(Box::pin(futures_util::stream::iter(pieces)))
}

fn upload(body: Body) -> Request {
    Request::new(OPERATION, Method::Put, "/probe")
        .body(body)
        .deadline(Deadline::Stream {
            idle: Some(Duration::from_secs(10)),
        })
}

#[test]
fn an_early_refusal_of_an_upload_is_reported_in_the_engines_words() {
    let test = async |transport: Transport, then: Then| {
        let server = Server::on(transport, move |mut peer: Peer| async move {
            // Some of it is read, and the larger part is not.
            peer.take(100_000).await;
            peer.send(with_length("413 Payload Too Large", TOO_LARGE))
                .await;
            match then {
                Then::Reset => peer.reset(),
                Then::Close => drop(peer),
                Then::Stall => peer.stall().await,
            }
        })
        .await;
        let docker = server.client();
        for body in [endless(), Body::Bytes(vec![b'x'; 8 * 1024 * 1024].into())] {
            for call in [
                Call::Json,
                Call::Reply,
                Call::Bytes,
                Call::Values,
                Call::Upgrade,
            ] {
                let body = match &body {
                    Body::Bytes(bytes) => Body::Bytes(bytes.clone()),
                    _ => endless(),
                };
                let outcome = call.send(&docker, upload(body)).await;
                assert_eq!(
                    fault(outcome.error()),
                    Fault::Refused(413),
                    "{call:?} over {transport:?}, {then:?}: {}",
                    outcome.error()
                );
                assert_eq!(
                    outcome.error().message(),
                    "the archive is larger than the disk"
                );
                at_rest(&docker, 0);
            }
        }
        drop(docker);
        server.finish().await;
    };
    in_memory(async {
        for then in [Then::Close, Then::Stall] {
            test(Transport::Memory, then).await;
        }
    });
    on_sockets(async {
        for transport in SOCKETS {
            for then in [Then::Reset, Then::Close, Then::Stall] {
                test(*transport, then).await;
            }
        }
    });
}

#[test]
fn a_refusal_right_behind_an_informational_reply_ends_an_upload_too() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.take(1000).await;
            peer.send(
                [
                    b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(),
                    &with_length("413 Payload Too Large", TOO_LARGE),
                ]
                .concat(),
            )
            .await;
            peer.stall().await;
        });
        let docker = server.client();
        let outcome = Call::Reply.send(&docker, upload(endless())).await;
        assert_eq!(
            fault(outcome.error()),
            Fault::Refused(413),
            "{}",
            outcome.error()
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_engine_that_answers_an_upload_with_informational_replies_only_is_malformed() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.take(1000).await;
            while peer.send("HTTP/1.1 102 Processing\r\n\r\n").await {}
        });
        let docker = server.client();
        let outcome = Call::Reply.send(&docker, upload(endless())).await;
        assert_eq!(
            fault(outcome.error()),
            Fault::Malformed,
            "{}",
            outcome.error()
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_early_success_is_a_success_and_its_connection_is_not_kept() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.take(1000).await;
            peer.send(with_length("200 OK", "\"enough\"")).await;
            peer.stall().await;
        });
        let docker = server.client();
        let outcome = Call::Json.send(&docker, upload(endless())).await;
        assert_eq!(
            (outcome.items, outcome.errors.len()),
            (vec!["\"enough\"".to_owned()], 0)
        );
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_engine_that_goes_away_during_an_upload_is_no_answer() {
    on_sockets(async {
        for transport in SOCKETS {
            let server = Server::on(*transport, |mut peer: Peer| async move {
                peer.take(100_000).await;
                peer.reset();
            })
            .await;
            let docker = server.client();
            let outcome = Call::Reply.send(&docker, upload(endless())).await;
            assert_eq!(
                fault(outcome.error()),
                Fault::NoAnswer(Phase::Write, Sent::Yes),
                "{transport:?}"
            );
            at_rest(&docker, 0);
            assert_eq!(server.accepted(), 1, "an upload is not sent twice");
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_source_that_fails_breaks_the_upload_off_and_the_engine_sees_no_end_of_it() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            assert!(
                peer.request().await.is_none(),
                "a broken upload looks whole"
            );
        });
        let docker = server.client();
        let pieces = [
            Ok(Bytes::from_static(b"begin")),
            Err(io::Error::other("the disk is gone")),
        ];
        let body = Body::Stream(Box::pin(futures_util::stream::iter(pieces)));
        let outcome = Call::Reply.send(&docker, upload(body)).await;
        assert_eq!(fault(outcome.error()), Fault::Cancelled);
        assert!(outcome.error().to_string().contains("the disk is gone"));
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_upload_in_pieces_arrives_as_it_was() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            while let Some(request) = peer.request().await {
                assert_eq!(request.field("content-length").len(), 0);
                peer.send(with_length("200 OK", &request.body)).await;
            }
        });
        let docker = server.client();
        // An empty piece must not become the chunk that ends the body.
        let pieces = ["\"one", "", " two", "", "", " three\""]
            .map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let outcome = Call::Json
            .send(
                &docker,
                upload(Body::Stream(Box::pin(futures_util::stream::iter(pieces)))),
            )
            .await;
        assert_eq!(outcome.items, ["\"one two three\""]);
        let empty = Body::Stream(Box::pin(futures_util::stream::empty()));
        assert_eq!(Call::Reply.send(&docker, upload(empty)).await.items, [""]);
        // Each went on a fresh connection, which is as good as any other afterwards.
        at_rest(&docker, 2);
        drop(docker);
        server.finish().await;
    });
}
