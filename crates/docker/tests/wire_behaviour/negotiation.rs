//! Which API version the client speaks, and when it asks again.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use berth_docker::{ApiVersion, Body, Deadline, Docker, ErrorKind, Method, Phase, Request};
use bytes::Bytes;
use tokio::time::Instant;

use crate::support::call::{ALL, Call, Fault, OPERATION, Sent, fault};
use crate::support::fixture::{UNTIL_CLOSE, ok, pong, recorded, with_length};
use crate::support::process::in_memory;
use crate::support::{Peer, Received, Server, at_rest};

/// An engine whose answer depends on the request alone.
fn engine(answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Server {
    let answer = Arc::new(answer);
    Server::memory(move |mut peer: Peer| {
        let answer = answer.clone();
        async move {
            while let Some(request) = peer.request().await {
                peer.send(answer(&request)).await;
            }
        }
    })
}

/// An engine of the API version in the cell, with the words of a real one, that refuses all versions but those from `minimum` to its own.
fn replaceable(version: Arc<Mutex<ApiVersion>>, minimum: ApiVersion) -> Server {
    engine(move |request| {
        let version = *version.lock().unwrap();
        if request.line().ends_with("/_ping") {
            return pong(&version.to_string());
        }
        let asked: ApiVersion = request
            .line()
            .split("/v")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let body = if asked > version {
            format!(
                "{{\"message\":\"client version {asked} is too new. Maximum supported API version is {version}\"}}"
            )
        } else if asked < minimum {
            format!(
                "{{\"message\":\"client version {asked} is too old. Minimum supported API version is {minimum}, please upgrade your client\"}}"
            )
        } else {
            return format!(
                "HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nContent-Length: 4\r\n\r\n\"ok\""
            )
            .into_bytes();
        };
        with_length("400 Bad Request", body)
    })
}

const V1_41: ApiVersion = ApiVersion::new(1, 41);
const V1_44: ApiVersion = ApiVersion::new(1, 44);

fn get() -> Request {
    Request::new(OPERATION, Method::Get, "/probe")
}

fn post() -> Request {
    Request::new(OPERATION, Method::Post, "/probe").body(Body::Bytes(Bytes::from_static(b"body")))
}

#[test]
fn the_head_of_a_ping_is_enough_and_is_asked_once() {
    in_memory(async {
        let server = engine(|request| {
            if request.line().starts_with("HEAD") {
                recorded("ping-head.http")
            } else {
                ok("{}")
            }
        });
        let docker = server.negotiating_client();
        // Many at once ask for the version once.
        let calls = (0..50).map(|_| docker.send(get()));
        for reply in futures_util::future::join_all(calls).await {
            reply.unwrap();
        }
        assert_eq!(docker.api_version().await.unwrap(), V1_44);
        let lines = server.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (51, "HEAD /_ping"));
        assert!(
            lines[1..].iter().all(|line| line == "GET /v1.44/probe"),
            "{lines:?}"
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_proxy_may_refuse_head_or_strip_fields_and_the_version_is_found_all_the_same() {
    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
    const REFUSED: &str = "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 2\r\n\r\nno";
    const REFUSED_WITH_VERSION: &str =
        "HTTP/1.1 403 Forbidden\r\nApi-Version: 1.44\r\nContent-Length: 2\r\n\r\nno";
    const GARBAGE: &str = "HTTP/1.1 200 OK\r\nApi-Version: latest\r\nContent-Length: 0\r\n\r\n";
    const HEAD_OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let get_pong = String::from_utf8(pong("1.44")).unwrap();
    let cases = [
        (REFUSED_WITH_VERSION, "", vec!["HEAD /_ping"]),
        (
            REFUSED,
            get_pong.as_str(),
            vec!["HEAD /_ping", "GET /_ping"],
        ),
        (
            GARBAGE,
            get_pong.as_str(),
            vec!["HEAD /_ping", "GET /_ping"],
        ),
        (
            REFUSED,
            REFUSED_WITH_VERSION,
            vec!["HEAD /_ping", "GET /_ping"],
        ),
        (
            HEAD_OK,
            PLAIN,
            vec!["HEAD /_ping", "GET /_ping", "GET /version"],
        ),
        (
            REFUSED,
            REFUSED,
            vec!["HEAD /_ping", "GET /_ping", "GET /version"],
        ),
    ];
    in_memory(async move {
        for (head, ping, expected) in cases {
            let (head, ping) = (head.to_owned(), ping.to_owned());
            let server = engine(move |request| match request.line() {
                // A refusal of HEAD has no body, whatever it says.
                "HEAD /_ping" => head.split_inclusive("\r\n\r\n").next().unwrap().into(),
                "GET /_ping" => ping.clone().into_bytes(),
                "GET /version" => ok(recorded("version.json")),
                _ => ok("{}"),
            });
            let docker = server.negotiating_client();
            docker.send(get()).await.unwrap();
            assert_eq!(
                server.lines(),
                [expected, vec!["GET /v1.44/probe"]].concat()
            );
            assert_eq!(docker.idle_connections(), 1);
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn the_highest_version_both_speak_is_used() {
    in_memory(async {
        let ceiling = ApiVersion::CEILING;
        for (engine_speaks, used) in [
            ("1.40", "1.40".to_owned()),
            (&ceiling.to_string(), ceiling.to_string()),
            ("1.99", ceiling.to_string()),
            ("2.0", ceiling.to_string()),
        ] {
            let engine_speaks = engine_speaks.to_owned();
            let server = engine(move |_| pong(&engine_speaks));
            let docker = server.negotiating_client();
            docker.send(get()).await.unwrap();
            assert_eq!(
                server.lines(),
                ["HEAD /_ping".to_owned(), format!("GET /v{used}/probe")]
            );
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn an_engine_that_is_too_old_is_refused_with_both_versions() {
    in_memory(async {
        let server = engine(|_| pong("1.39"));
        for call in ALL {
            let docker = server.negotiating_client();
            let outcome = call.run(&docker, Deadline::Short).await;
            let error = outcome.error();
            assert_eq!(
                *error.kind(),
                ErrorKind::NoCommonVersion {
                    engine: ApiVersion::new(1, 39),
                    client: ApiVersion::FLOOR
                }
            );
            assert_eq!(error.operation(), OPERATION);
            let text = error.to_string();
            assert!(
                text.contains("1.39")
                    && text.contains("1.40")
                    && text.contains("update Docker Engine"),
                "{text}"
            );
        }
        assert!(
            server.lines().iter().all(|line| line == "HEAD /_ping"),
            "nothing else is asked"
        );
        server.finish().await;
    });
}

#[test]
fn a_pinned_version_is_used_whatever_the_engine_says() {
    in_memory(async {
        let server = replaceable(Arc::new(Mutex::new(V1_44)), ApiVersion::new(1, 24));
        let docker = server
            .builder(server.options().with_api_version(V1_41).unwrap())
            .build()
            .unwrap();
        for _ in 0..3 {
            docker.send(get()).await.unwrap();
        }
        assert_eq!(docker.api_version().await.unwrap(), V1_41);
        assert_eq!(server.lines(), ["GET /v1.41/probe"; 3]);
        drop(docker);

        let ceiling = ApiVersion::CEILING;
        let docker = server
            .builder(server.options().with_api_version(ceiling).unwrap())
            .build()
            .unwrap();
        let error = docker.send(get()).await.unwrap_err();
        assert_eq!(fault(&error), Fault::Refused(400));
        assert!(
            error
                .message()
                .contains("Maximum supported API version is 1.44")
        );
        assert_eq!(server.lines()[3..], [format!("GET /v{ceiling}/probe")]);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn another_version_in_a_reply_is_another_engine() {
    in_memory(async {
        let version = Arc::new(Mutex::new(V1_44));
        let server = replaceable(version.clone(), ApiVersion::new(1, 24));
        let docker = server.negotiating_client();
        docker.send(get()).await.unwrap();
        for (other, used) in [
            ("1.47", "1.47"),
            ("1.41", "1.41"),
            ("1.99", &ApiVersion::CEILING.to_string()),
        ] {
            *version.lock().unwrap() = other.parse().unwrap();
            let before = docker.api_version().await.unwrap();
            // Upwards, the reply to any call tells; downwards, the refusal of it.
            docker.send(get()).await.unwrap();
            docker.send(get()).await.unwrap();
            let lines = server.lines();
            let expected = [
                format!("GET /v{before}/probe"),
                "HEAD /_ping".to_owned(),
                format!("GET /v{used}/probe"),
            ];
            let seen = lines.windows(3).rposition(|window| *window == expected);
            assert!(seen.is_some_and(|at| at + 5 > lines.len()), "{lines:?}");
        }
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_version_refused_is_negotiated_anew_and_the_request_sent_again_once() {
    in_memory(async {
        for call in ALL {
            let version = Arc::new(Mutex::new(V1_44));
            let server = replaceable(version.clone(), ApiVersion::new(1, 24));
            let docker = server.negotiating_client();
            docker.send(get()).await.unwrap();
            *version.lock().unwrap() = V1_41;
            let request = call
                .request(Deadline::Short)
                .body(Body::Bytes(Bytes::from_static(b"body")));
            let method = if call == Call::Upgrade { "POST" } else { "GET" };
            call.send(&docker, request).await;
            let requests = server.requests();
            let lines: Vec<_> = requests[2..].iter().map(Received::line).collect();
            assert_eq!(
                lines,
                [
                    &format!("{method} /v1.44/probe"),
                    "HEAD /_ping",
                    &format!("{method} /v1.41/probe")
                ],
                "{call:?}"
            );
            assert_eq!(
                (requests[2].body.as_slice(), requests[4].body.as_slice()),
                (b"body".as_slice(), b"body".as_slice())
            );
            // From now on it is known.
            docker.send(get()).await.unwrap();
            assert_eq!(server.lines()[5..], ["GET /v1.41/probe"], "{call:?}");
            drop(docker);
            server.finish().await;
        }
    });
}

#[test]
fn an_engine_that_goes_on_refusing_is_asked_no_third_time() {
    in_memory(async {
        // It says 1.44, then 1.41, and takes neither.
        let pings = Mutex::new(["1.44", "1.41", "1.44", "1.41"].iter());
        let server = engine(move |request| match request.line() {
            "HEAD /_ping" => pong(pings.lock().unwrap().next().unwrap()),
            _ => with_length(
                "400 Bad Request",
                "{\"message\":\"client version 1.4 is too new. Maximum supported API version is 1.0\"}",
            ),
        });
        let docker = server.negotiating_client();
        let error = docker.send(post()).await.unwrap_err();
        assert_eq!(fault(&error), Fault::Refused(400));
        assert_eq!(
            server.lines(),
            [
                "HEAD /_ping",
                "POST /v1.44/probe",
                "HEAD /_ping",
                "POST /v1.41/probe"
            ]
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_upload_refused_for_its_version_is_not_sent_again_but_the_next_call_is_right() {
    in_memory(async {
        let version = Arc::new(Mutex::new(V1_44));
        let server = replaceable(version.clone(), ApiVersion::new(1, 24));
        let docker = server.negotiating_client();
        docker.send(get()).await.unwrap();
        *version.lock().unwrap() = V1_41;
        let upload = Body::Stream(Box::pin(futures_util::stream::iter([Ok(
            Bytes::from_static(b"tar"),
        )])));
        let error = docker
            .send(Request::new(OPERATION, Method::Put, "/probe").body(upload))
            .await
            .unwrap_err();
        assert_eq!(fault(&error), Fault::Refused(400));
        docker.send(get()).await.unwrap();
        // The words of the refusal name no version in a field, so the next call finds out by being refused itself.
        let expected = [
            "HEAD /_ping",
            "GET /v1.44/probe",
            "PUT /v1.44/probe",
            "GET /v1.44/probe",
            "HEAD /_ping",
            "GET /v1.41/probe",
        ];
        assert_eq!(server.lines(), expected);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_minimum_raised_above_ours_is_no_common_version() {
    in_memory(async {
        let version = Arc::new(Mutex::new(V1_44));
        let server = replaceable(version.clone(), ApiVersion::new(1, 90));
        let docker = server.negotiating_client();
        let error = docker.send(post()).await.unwrap_err();
        assert_eq!(
            *error.kind(),
            ErrorKind::NoCommonVersion {
                engine: ApiVersion::new(1, 90),
                client: ApiVersion::CEILING
            }
        );
        assert!(!error.effect_is_unknown());
        let text = error.to_string();
        assert!(
            text.contains("1.90")
                && text.contains(&ApiVersion::CEILING.to_string())
                && text.contains("update this program"),
            "{text}"
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn an_engine_replaced_by_one_that_is_too_old_is_refused() {
    in_memory(async {
        let version = Arc::new(Mutex::new(V1_44));
        let server = replaceable(version.clone(), ApiVersion::new(1, 12));
        let docker = server.negotiating_client();
        docker.send(get()).await.unwrap();
        *version.lock().unwrap() = ApiVersion::new(1, 25);
        let error = docker.send(post()).await.unwrap_err();
        assert_eq!(
            *error.kind(),
            ErrorKind::NoCommonVersion {
                engine: ApiVersion::new(1, 25),
                client: ApiVersion::FLOOR
            }
        );
        assert_eq!(error.operation(), OPERATION);
        drop(docker);
        server.finish().await;
    });
}

/// Fails the negotiation in each way; gives the error of a call that changes something.
async fn failing(
    script: fn(Peer) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
) -> berth_docker::Error {
    let server = Server::memory(script);
    let docker = server.negotiating_client();
    let request = post().deadline(Deadline::Total(Duration::from_secs(300)));
    let error = docker.send(request).await.unwrap_err();
    assert_eq!(
        error.operation(),
        OPERATION,
        "it is the caller's call that failed"
    );
    assert!(
        !error.effect_is_unknown(),
        "the request has not been sent: {error}"
    );
    assert!(server.lines().iter().all(|line| !line.starts_with("POST")));
    at_rest(&docker, 0);
    drop(docker);
    server.finish().await;
    error
}

#[test]
fn a_negotiation_that_fails_leaves_no_doubt_that_nothing_was_done() {
    in_memory(async {
        let cut = failing(|mut peer| Box::pin(async move { drop(peer.request().await) })).await;
        assert_eq!(
            cut.kind(),
            &ErrorKind::NoAnswer {
                phase: Phase::Headers,
                sent: false,
                cause: "the engine closed it".into()
            }
        );
        let stuck = failing(|peer| Box::pin(peer.stall())).await;
        assert!(
            matches!(
                stuck.kind(),
                ErrorKind::TimedOut {
                    phase: Phase::Headers,
                    sent: false,
                    ..
                }
            ),
            "{stuck}"
        );
        let garbage = failing(|mut peer| {
            Box::pin(async move {
                peer.request().await;
                peer.send("220 mail.example.com ESMTP\r\n\r\n").await;
            })
        })
        .await;
        assert!(
            matches!(garbage.kind(), ErrorKind::Malformed { .. }),
            "{garbage}"
        );
        let nothing = failing(|mut peer| {
            Box::pin(async move {
                while let Some(request) = peer.request().await {
                    let head = request.line().starts_with("HEAD");
                    peer.send(if head {
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
                    } else {
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
                    })
                    .await;
                }
            })
        })
        .await;
        assert!(
            matches!(nothing.kind(), ErrorKind::Malformed { .. }),
            "{nothing}"
        );
    });
}

#[test]
fn a_negotiation_that_failed_is_tried_again_by_the_next_call() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            while let Some(_request) = peer.request().await {
                if peer.index == 0 {
                    return;
                }
                peer.send(pong("1.44")).await;
            }
        });
        let docker = server.negotiating_client();
        assert!(docker.send(get()).await.is_err());
        docker.send(get()).await.unwrap();
        assert_eq!(
            server.lines(),
            ["HEAD /_ping", "HEAD /_ping", "GET /v1.44/probe"]
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_connection_on_which_nothing_comes_does_not_hold_up_the_calls_behind_it() {
    in_memory(async {
        let connections = Arc::new(AtomicUsize::new(0));
        let server = {
            let connections = connections.clone();
            Server::memory(move |mut peer: Peer| {
                let is_first = connections.fetch_add(1, Relaxed) == 0;
                async move {
                    while let Some(request) = peer.request().await {
                        if is_first {
                            return peer.stall().await;
                        }
                        if request.line().ends_with("/_ping") {
                            peer.send(pong("1.44")).await;
                        } else {
                            peer.send(ok("{}")).await;
                        }
                    }
                }
            })
        };
        let docker = server.negotiating_client();
        let begun = Instant::now();
        let calls = (0..5).map(|_| docker.send(get()));
        for reply in futures_util::future::join_all(calls).await {
            reply.unwrap();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(6),
            "{:?}",
            begun.elapsed()
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn calls_behind_a_stuck_negotiation_all_end_at_the_deadline() {
    in_memory(async {
        let server = Server::memory(Peer::stall);
        let docker = server
            .builder(server.options())
            .deadline(Duration::from_secs(5))
            .build()
            .unwrap();
        let since = Instant::now();
        let deadlines = [
            Deadline::Short,
            Deadline::Stream { idle: None },
            Deadline::Stream {
                idle: Some(Duration::from_secs(60)),
            },
        ];
        let calls = ALL
            .into_iter()
            .flat_map(|call| deadlines.map(|deadline| call.run(&docker, deadline)));
        for outcome in futures_util::future::join_all(calls).await {
            assert!(
                matches!(fault(outcome.error()), Fault::TimedOut(_, Sent::No)),
                "{}",
                outcome.error()
            );
        }
        assert!(
            since.elapsed() < Duration::from_secs(6),
            "{:?}",
            since.elapsed()
        );
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_caller_that_gives_up_negotiating_leaves_it_to_the_next() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            while let Some(request) = peer.request().await {
                if request.line().starts_with("HEAD") {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
                peer.send(pong("1.44")).await;
            }
        });
        let docker = server.negotiating_client();
        let hasty = tokio::time::timeout(Duration::from_secs(1), docker.send(get()));
        let patient = docker.send(get());
        let (hasty, patient) = tokio::join!(hasty, patient);
        assert!(hasty.is_err());
        patient.unwrap();
        assert_eq!(
            server.lines(),
            ["HEAD /_ping", "HEAD /_ping", "GET /v1.44/probe"]
        );
        assert_eq!(docker.metrics().cancelled(OPERATION), 1);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn the_version_can_be_asked_for_alone() {
    in_memory(async {
        let server = engine(|_| pong("1.47"));
        let docker: Docker = server.negotiating_client();
        assert_eq!(docker.api_version().await.unwrap(), ApiVersion::new(1, 47));
        assert_eq!(docker.api_version().await.unwrap(), ApiVersion::new(1, 47));
        assert_eq!(server.lines(), ["HEAD /_ping"]);
        drop(docker);
        server.finish().await;

        let server = Server::memory(Peer::stall);
        let docker = server.negotiating_client();
        let error = docker.api_version().await.unwrap_err();
        assert!(
            error.is_timeout() && error.to_string().starts_with("negotiate: "),
            "{error}"
        );
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn the_version_of_a_stream_is_negotiated_on_the_control_lane() {
    in_memory(async {
        let server = engine(|request| match request.line() {
            "HEAD /_ping" => pong("1.44"),
            _ => [UNTIL_CLOSE.as_bytes(), b"data"].concat(),
        });
        let docker = server.negotiating_client();
        let mut stream = docker.send_stream(get()).await.unwrap();
        assert_eq!(&stream.next().await.unwrap().unwrap()[..], b"data");
        let requests = server.requests();
        assert_eq!((requests[0].connection, requests[1].connection), (0, 1));
        drop(stream);
        at_rest(&docker, 1);
        drop(docker);
        server.finish().await;
    });
}

#[test]
fn a_renegotiation_that_is_stuck_is_a_time_out_and_not_the_refusal_before_it() {
    in_memory(async {
        let pings = Arc::new(AtomicUsize::new(0));
        let server = Server::memory(move |mut peer: Peer| {
            let pings = pings.clone();
            async move {
                while let Some(request) = peer.request().await {
                    if request.line() != "HEAD /_ping" {
                        let words = "{\"message\":\"client version 1.44 is too new. Maximum supported API version is 1.41\"}";
                        peer.send(with_length("400 Bad Request", words)).await;
                        continue;
                    }
                    if pings.fetch_add(1, Relaxed) > 0 {
                        return peer.stall().await;
                    }
                    peer.send(pong("1.44")).await;
                }
            }
        });
        let docker = server.negotiating_client();
        let error = docker.send(post()).await.unwrap_err();
        assert!(
            matches!(fault(&error), Fault::TimedOut(_, Sent::No)),
            "{error}"
        );
        drop(docker);
        server.finish().await;
    });
}
