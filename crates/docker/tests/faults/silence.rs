//! Engines that do not read, do not answer, or answer too slowly.

use std::time::Duration;

use berth_docker::{Body, DEFAULT_DEADLINE, Deadline, Phase};
use bytes::Bytes;
use tokio::time::Instant;

use crate::support::call::{ALL, Call, Fault, STREAMS, Sent, fault};
use crate::support::fixture::{CHUNKED, chunk};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

const LIMIT: Duration = Duration::from_secs(2);

const TOTAL: Deadline = Deadline::Total(LIMIT);
const IDLE: Deadline = Deadline::Stream { idle: Some(LIMIT) };
const UNLIMITED: Deadline = Deadline::Stream { idle: None };

/// More than a connection in memory takes up.
fn large() -> Bytes {
    Bytes::from(vec![b'x'; 1024 * 1024])
}

/// The deadline passes exactly: not before, and not noticeably after.
#[track_caller]
fn assert_took(since: Instant, expected: Duration) {
    let took = since.elapsed();
    assert!(
        took >= expected && took < expected + Duration::from_millis(10),
        "{took:?} instead of {expected:?}"
    );
}

#[test]
fn an_engine_that_reads_nothing_is_given_up_at_the_deadline() {
    in_memory(async {
        for call in ALL {
            for deadline in [TOTAL, IDLE] {
                let server = Server::memory(Peer::stall);
                let docker = server.client();
                let since = Instant::now();
                let outcome = call.run(&docker, deadline).await;
                assert_eq!(
                    fault(outcome.error()),
                    Fault::TimedOut(Phase::Headers, Sent::Yes),
                    "{call:?} {deadline:?}"
                );
                assert_took(since, LIMIT);

                let since = Instant::now();
                let outcome = call
                    .send(&docker, call.request(deadline).body(Body::Bytes(large())))
                    .await;
                assert_eq!(
                    fault(outcome.error()),
                    Fault::TimedOut(Phase::Write, Sent::Yes),
                    "{call:?} {deadline:?}"
                );
                assert_took(since, LIMIT);

                at_rest(&docker, 0);
                drop(docker);
                server.finish().await;
            }
        }
    });
}

#[test]
fn a_body_whose_source_stalls_is_given_up_at_the_deadline() {
    in_memory(async {
        for deadline in [TOTAL, IDLE] {
            let server = Server::memory(Peer::stall);
            let docker = server.client();
            let source = Body::Stream(Box::pin(futures_util::stream::pending()));
            let outcome = Call::Reply
                .send(&docker, Call::Reply.request(deadline).body(source))
                .await;
            assert_eq!(
                fault(outcome.error()),
                Fault::TimedOut(Phase::Write, Sent::Yes)
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn the_default_deadline_is_two_minutes() {
    in_memory(async {
        let server = Server::memory(Peer::stall);
        let docker = server.client();
        let since = Instant::now();
        let outcome = Call::Json.run(&docker, Deadline::Short).await;
        assert_eq!(
            fault(outcome.error()),
            Fault::TimedOut(Phase::Headers, Sent::Yes)
        );
        assert_took(since, DEFAULT_DEADLINE);
        assert_eq!(DEFAULT_DEADLINE, Duration::from_secs(120));
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_head_that_comes_byte_by_byte_and_never_ends_is_given_up_at_the_deadline() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(async |mut peer| {
                peer.request().await;
                let endless = format!("HTTP/1.1 200 OK\r\nX-Endless: {}", "a".repeat(10_000));
                peer.dribble(endless, Duration::from_secs(1)).await;
            });
            let docker = server.client();
            let limit = Duration::from_secs(30);
            let since = Instant::now();
            let outcome = call.run(&docker, Deadline::Total(limit)).await;
            assert_eq!(
                fault(outcome.error()),
                Fault::TimedOut(Phase::Headers, Sent::Yes),
                "{call:?}"
            );
            assert_took(since, limit);
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_body_that_dribbles_meets_the_total_deadline_and_not_the_idle_one() {
    in_memory(async {
        let script = async |mut peer: Peer| {
            peer.request().await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
                .await;
            peer.dribble("\"dribbles for 20 s.\"", Duration::from_secs(1))
                .await;
            peer.gone().await;
        };
        for call in [Call::Json, Call::Reply] {
            let server = Server::memory(script);
            let docker = server.client();
            let since = Instant::now();
            let outcome = call
                .run(&docker, Deadline::Total(Duration::from_secs(5)))
                .await;
            assert_eq!(
                fault(outcome.error()),
                Fault::TimedOut(Phase::Body, Sent::Yes),
                "{call:?}"
            );
            assert_took(since, Duration::from_secs(5));
            at_rest(&docker, 0);

            let outcome = call.run(&docker, IDLE).await;
            assert_eq!(
                (outcome.items.concat().as_str(), outcome.errors.len()),
                ("\"dribbles for 20 s.\"", 0),
                "{call:?}"
            );
            at_rest(&docker, 1);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_body_that_stops_in_mid_value_meets_the_idle_deadline() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                let body = call.body();
                peer.send([CHUNKED.as_bytes(), &chunk(&body[..body.len() - 3])].concat())
                    .await;
                peer.gone().await;
            });
            let docker = server.client();
            let since = Instant::now();
            let outcome = call.run(&docker, IDLE).await;
            assert_eq!(
                fault(outcome.error()),
                Fault::TimedOut(Phase::Body, Sent::Yes),
                "{call:?}"
            );
            assert_took(since, LIMIT);
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_stream_without_limits_waits_for_its_head_and_its_data_as_long_as_it_takes() {
    in_memory(async {
        for call in STREAMS {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                // Podman sends the head of a follow with its first data.
                tokio::time::sleep(Duration::from_secs(3600)).await;
                peer.send(CHUNKED).await;
                let body = call.body();
                let (first, rest) = body.split_at(body.len() / 2);
                peer.send(chunk(first)).await;
                tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
                peer.send([chunk(rest), b"0\r\n\r\n".to_vec()].concat())
                    .await;
                peer.gone().await;
            });
            let docker = server.client();
            let outcome = call.run(&docker, UNLIMITED).await;
            assert!(
                outcome.errors.is_empty() && !outcome.items.is_empty(),
                "{call:?}: {outcome:?}"
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}
