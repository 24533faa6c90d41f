//! Which connections are used again, and what happens when one that was kept turns out to be dead.

use std::time::Duration;

use berth_docker::{Body, Deadline, Error, Method, Phase, Reply, Request};
use bytes::Bytes;

use crate::support::call::{ALL, Call, Fault, OPERATION, Sent, fault};
use crate::support::fixture::ok;
use crate::support::process::{in_memory, on_sockets};
use crate::support::{Peer, SOCKETS, Server, Transport, at_rest, eventually};

/// As many unused connections are kept.
const MAX_IDLE: usize = 64;

fn request(method: Method) -> Request {
    Request::new(OPERATION, method, "/probe").body(Body::Bytes(Bytes::from_static(b"body")))
}

fn engine() -> Server {
    Server::memory(|mut peer: Peer| async move {
        while peer.request().await.is_some() {
            peer.send(ok("{}")).await;
        }
    })
}

#[test]
fn one_connection_serves_calls_that_follow_each_other() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        for _ in 0..100 {
            docker.send(request(Method::Post)).await.unwrap();
            at_rest(&docker, 1);
        }
        assert_eq!(
            (server.accepted(), docker.metrics().connections_opened()),
            (1, 1)
        );
        assert_eq!(docker.metrics().calls(OPERATION), 100);
        // A clone shares it.
        docker.clone().send(request(Method::Post)).await.unwrap();
        assert_eq!(server.accepted(), 1);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_connection_the_engine_wants_closed_is_not_kept() {
    in_memory(async {
        let replies = [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nConnection: upgrade, Close\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        ];
        for reply in replies {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                peer.send(reply).await;
                peer.fin().await;
                peer.gone().await;
            });
            let docker = server.client();
            let _ = docker.send(request(Method::Get)).await;
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn no_more_than_64_unused_connections_are_kept() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        let calls = (0..200).map(|_| docker.send(request(Method::Get)));
        for reply in futures_util::future::join_all(calls).await {
            reply.unwrap();
        }
        assert_eq!(server.accepted(), 200, "calls do not wait for each other");
        at_rest(&docker, MAX_IDLE);
        eventually("the others are closed", || server.open() == MAX_IDLE).await;
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_unused_connection_is_kept_for_30_seconds() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        docker.send(request(Method::Get)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(29)).await;
        docker.send(request(Method::Get)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(29)).await;
        docker.send(request(Method::Get)).await.unwrap();
        assert_eq!(server.accepted(), 1);
        tokio::time::sleep(Duration::from_secs(31)).await;
        docker.send(request(Method::Get)).await.unwrap();
        assert_eq!(server.accepted(), 2);
        at_rest(&docker, 1);
        eventually("the old one is closed", || server.open() == 1).await;
        drop(docker);
        server.finish().await;
    });
}

/// An engine whose first connection answers one request and goes away while the second is under way; then it serves properly.
async fn stale(transport: Transport, part_of_a_reply: &'static str) -> Server {
    Server::on(transport, move |mut peer: Peer| async move {
        peer.request().await;
        peer.send(ok("{}")).await;
        while peer.request().await.is_some() {
            if peer.index == 0 {
                peer.send(part_of_a_reply).await;
                return;
            }
            peer.send(ok("{}")).await;
        }
    })
    .await
}

/// Uses the kept connection that dies.
async fn second_call(server: &Server, request: Request) -> (Result<Reply, Error>, usize) {
    let docker = server.client();
    docker.send(self::request(Method::Get)).await.unwrap();
    at_rest(&docker, 1);
    let result = docker.send(request).await;
    at_rest(&docker, usize::from(result.is_ok()));
    (result, server.accepted())
}

#[test]
fn a_read_is_asked_again_once_when_the_kept_connection_was_dead() {
    let test = async |transport: Transport| {
        for part in ["", "HTTP/1.1 200 OK\r\nContent-"] {
            for method in [Method::Get, Method::Head] {
                let server = stale(transport, part).await;
                // A reply to HEAD has no body, and this engine sends one: only the call counts here.
                let probe = Request::new(OPERATION, method, "/probe");
                let docker = server.client();
                docker.send(request(Method::Get)).await.unwrap();
                docker.send(probe).await.unwrap();
                assert_eq!(server.accepted(), 2, "{transport:?}");
                assert_eq!(server.requests().len(), 3);
                drop(docker);
                server.finish().await;
            }
        }
    };
    in_memory(test(Transport::Memory));
    on_sockets(async {
        for transport in SOCKETS {
            test(*transport).await;
        }
    });
}

#[test]
fn a_change_that_was_sent_is_not_asked_again() {
    let test = async |transport: Transport| {
        for method in [Method::Post, Method::Put, Method::Delete] {
            let server = stale(transport, "").await;
            let (result, accepted) = second_call(&server, request(method)).await;
            assert_eq!(
                fault(&result.unwrap_err()),
                Fault::NoAnswer(Phase::Headers, Sent::Yes),
                "{transport:?} {method:?}"
            );
            assert_eq!(
                (accepted, server.requests().len()),
                (1, 2),
                "{transport:?} {method:?}"
            );
            server.finish().await;
        }
    };
    in_memory(test(Transport::Memory));
    on_sockets(async {
        for transport in [Transport::Unix, Transport::Tcp] {
            test(transport).await;
        }
    });
}

#[test]
fn a_read_is_not_asked_a_third_time() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            if peer.index == 0 {
                peer.send(ok("{}")).await;
                peer.request().await;
            }
        });
        let (result, accepted) = second_call(&server, request(Method::Get)).await;
        assert_eq!(
            fault(&result.unwrap_err()),
            Fault::NoAnswer(Phase::Headers, Sent::Yes)
        );
        assert_eq!((accepted, server.requests().len()), (2, 3));
        server.finish().await;
    });
}

#[test]
fn a_kept_connection_the_engine_has_closed_is_not_used_by_any_call() {
    let test = async |transport: Transport| {
        for method in [Method::Get, Method::Post] {
            let server = Server::on(transport, |mut peer: Peer| async move {
                peer.request().await;
                peer.send(ok("{}")).await;
            })
            .await;
            let docker = server.client();
            for calls in 1..=5 {
                docker.send(request(method)).await.unwrap();
                eventually("the engine has closed it", || server.open() == 0).await;
                assert_eq!(
                    (server.accepted(), server.requests().len()),
                    (calls, calls),
                    "{transport:?} {method:?}"
                );
            }
            drop(docker);
            server.finish().await;
        }
    };
    in_memory(test(Transport::Memory));
    on_sockets(async {
        for transport in SOCKETS {
            test(*transport).await;
        }
    });
}

#[test]
fn a_body_that_cannot_be_sent_twice_goes_on_a_fresh_connection() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        docker.send(request(Method::Get)).await.unwrap();
        let upload = Body::Stream(Box::pin(futures_util::stream::iter([Ok(
            Bytes::from_static(b"tar"),
        )])));
        docker
            .send(Request::new(OPERATION, Method::Put, "/probe").body(upload))
            .await
            .unwrap();
        let connections: Vec<_> = server
            .requests()
            .iter()
            .map(|request| request.connection)
            .collect();
        assert_eq!(connections, [0, 1]);
        at_rest(&docker, 2);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn the_second_attempt_has_what_is_left_of_the_deadline() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            if peer.index == 0 {
                peer.send(ok("{}")).await;
                peer.request().await;
                tokio::time::sleep(Duration::from_secs(6)).await;
            } else {
                peer.stall().await;
            }
        });
        let docker = server.client();
        docker.send(request(Method::Get)).await.unwrap();
        let since = tokio::time::Instant::now();
        let error = docker
            .send(request(Method::Get).deadline(Deadline::Total(Duration::from_secs(10))))
            .await
            .unwrap_err();
        assert_eq!(fault(&error), Fault::TimedOut(Phase::Headers, Sent::Yes));
        assert!(
            since.elapsed() < Duration::from_secs(11),
            "{:?}",
            since.elapsed()
        );
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_call_that_is_dropped_takes_its_connection_with_it() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(|mut peer: Peer| async move {
                peer.request().await;
                if peer.index == 0 {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1234")
                        .await;
                    peer.gone().await;
                } else {
                    peer.send(ok("{}")).await;
                    peer.gone().await;
                }
            });
            let docker = server.client();
            assert!(
                tokio::time::timeout(Duration::from_secs(1), call.run(&docker, Deadline::Short))
                    .await
                    .is_err()
            );
            eventually("it is closed", || server.open() == 0).await;
            at_rest(&docker, 0);
            docker.send(request(Method::Get)).await.unwrap();
            assert_eq!(
                docker.metrics().cancelled(OPERATION),
                u64::from(!call.is_stream()),
                "{call:?}"
            );
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn each_stream_has_a_connection_of_its_own_and_leaves_the_kept_ones_alone() {
    in_memory(async {
        let server = engine();
        let docker = server.client();
        docker.send(request(Method::Get)).await.unwrap();
        for call in [Call::Bytes, Call::Values, Call::Upgrade] {
            call.run(&docker, Deadline::Short).await;
            at_rest(&docker, 1);
        }
        assert_eq!(server.accepted(), 4);
        eventually("they are closed behind their end", || server.open() == 1).await;
        drop(docker);
        server.finish().await;
    });
}
