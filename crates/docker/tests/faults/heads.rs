//! Heads that cannot be one, say too much, or contradict themselves.

use berth_docker::{Deadline, Phase};

use crate::support::call::{ALL, Call, Fault, Sent, fault};
use crate::support::fixture::{UPGRADED, ok};
use crate::support::process::in_memory;
use crate::support::{Peer, Server, at_rest};

/// Runs every call against an engine that answers `reply`, and gives the errors.
async fn all(reply: impl AsRef<[u8]>, mut check: impl FnMut(Call, crate::support::call::Outcome)) {
    let reply = reply.as_ref().to_vec();
    for call in ALL {
        let server = Server::memory({
            let reply = reply.clone();
            move |mut peer: Peer| {
                let reply = reply.clone();
                async move {
                    peer.request().await;
                    peer.send(reply).await;
                    peer.gone().await;
                }
            }
        });
        let docker = server.client();
        check(call, call.run(&docker, Deadline::Short).await);
        at_rest(&docker, 0);
        assert_eq!(server.accepted(), 1, "{call:?} was tried again");
        drop(docker);
        server.finish().await;
    }
}

#[test]
fn what_is_no_head_is_malformed_and_its_connection_is_not_kept() {
    in_memory(async {
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("a greeting", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
            ("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x0a\n".to_vec()),
            ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n".to_vec()),
            ("NUL in a field", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            ("a status of 0", b"HTTP/1.1 000 Nothing\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            ("a status of 99", b"HTTP/1.1 099 Nothing\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            ("a status without digits", b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            ("a field of 70 KiB", format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(70 * 1024)).into_bytes()),
            ("a line that never ends", vec![b'H'; 70 * 1024]),
            ("10,000 fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(10_000)).into_bytes()),
            ("129 fields", format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(129)).into_bytes()),
            ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}".to_vec()),
            ("a length of 2^64", b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n{}".to_vec()),
            ("length and chunks", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec()),
            ("an unknown encoding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec()),
            ("9 informational replies", format!("{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(9)).into_bytes()),
        ];
        for (name, reply) in cases {
            all(reply, |call, outcome| {
                assert_eq!(fault(outcome.error()), Fault::Malformed, "{name}, {call:?}")
            })
            .await;
        }
    });
}

#[test]
fn a_head_is_read_however_it_is_split_and_behind_informational_replies() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                peer.send_each("HTTP/1.1 100 Continue\r\n\r\n").await;
                peer.send(
                    "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
                )
                .await;
                peer.send_each(ok(call.body())).await;
                peer.gone().await;
            });
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            assert!(
                outcome.errors.is_empty() && !outcome.items.is_empty(),
                "{call:?}: {outcome:?}"
            );
            at_rest(&docker, usize::from(!call.is_stream()));
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_head_that_dribbles_into_a_follow_without_deadline_is_bounded_by_its_size() {
    in_memory(async {
        let server = Server::memory(async |mut peer: Peer| {
            peer.request().await;
            let head = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(20_000));
            peer.dribble(head, std::time::Duration::from_secs(1)).await;
            peer.gone().await;
        });
        let docker = server.client();
        let outcome = Call::Bytes
            .run(&docker, Deadline::Stream { idle: None })
            .await;
        assert_eq!(fault(outcome.error()), Fault::Malformed);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_body_shorter_than_its_length_is_a_cut_and_never_an_end() {
    in_memory(async {
        for call in ALL {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                let body = call.body();
                peer.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    body.len() + 1
                ))
                .await;
                peer.send(body).await;
            });
            let docker = server.client();
            let outcome = call.run(&docker, Deadline::Short).await;
            assert_eq!(
                fault(outcome.error()),
                Fault::NoAnswer(Phase::Body, Sent::Yes),
                "{call:?}"
            );
            at_rest(&docker, 0);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_connection_with_more_than_its_reply_is_not_used_again() {
    in_memory(async {
        // The rest comes with the reply in the one case, and later in the other.
        for later in [false, true] {
            let server = Server::memory(move |mut peer: Peer| async move {
                peer.request().await;
                let reply = ok("{}");
                if later {
                    peer.send(reply).await;
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    peer.send("HTTP/1.1 200 OK\r\n").await;
                } else {
                    peer.send([reply.as_slice(), b"HTTP/1.1 200 OK\r\n"].concat())
                        .await;
                }
                peer.gone().await;
            });
            let docker = server.client();
            let outcome = Call::Json.run(&docker, Deadline::Short).await;
            assert_eq!(outcome.items, ["{}"]);
            assert_eq!(docker.idle_connections(), usize::from(later));
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let outcome = Call::Json.run(&docker, Deadline::Short).await;
            assert_eq!(outcome.items, ["{}"]);
            assert_eq!(server.accepted(), 2);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn a_redirect_is_a_refusal_that_names_where_to() {
    in_memory(async {
        for status in [301, 302, 307, 308] {
            let reply = format!(
                "HTTP/1.1 {status} Moved\r\nLocation: https://other:2376/v1.44/probe\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbye!"
            );
            all(reply, |call, outcome| {
                assert_eq!(fault(outcome.error()), Fault::Refused(status), "{call:?}");
                assert!(
                    outcome
                        .error()
                        .message()
                        .contains("https://other:2376/v1.44/probe"),
                    "{call:?}"
                );
            })
            .await;
        }
    });
}

#[test]
fn an_upgrade_nobody_asked_for_is_malformed() {
    in_memory(async {
        all(
            [UPGRADED.as_bytes(), b"\x07\0\0\0\0\0\0\0"].concat(),
            |call, outcome| {
                // The one call that did ask reads on behind it, and finds a frame of an unknown type.
                assert_eq!(fault(outcome.error()), Fault::Malformed, "{call:?}");
                assert_eq!(
                    outcome.error().to_string().contains("no upgrade"),
                    call != Call::Upgrade
                );
            },
        )
        .await;
    });
}

#[test]
fn a_204_has_no_body_whatever_follows_it() {
    in_memory(async {
        let server = Server::memory(async |mut peer: Peer| {
            peer.request().await;
            peer.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")
                .await;
            peer.gone().await;
        });
        let docker = server.client();
        for _ in 0..2 {
            let reply = docker
                .send(Call::Reply.request(Deadline::Short))
                .await
                .unwrap();
            assert_eq!((reply.status, reply.body.len()), (204, 0));
            at_rest(&docker, 0);
        }
        assert_eq!(server.accepted(), 2);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn not_modified_is_a_reply_and_its_connection_is_kept() {
    in_memory(async {
        let server = Server::memory(async |mut peer: Peer| {
            while peer.request().await.is_some() {
                peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
                    .await;
            }
        });
        let docker = server.client();
        for _ in 0..3 {
            let reply = docker
                .send(Call::Reply.request(Deadline::Short))
                .await
                .unwrap();
            assert_eq!((reply.status, reply.body.len()), (304, 0));
            at_rest(&docker, 1);
        }
        assert_eq!(server.accepted(), 1);
        drop(docker);
        server.finish().await;
    });
}
