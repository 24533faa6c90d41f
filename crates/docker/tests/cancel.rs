//! Every future of the client may be dropped at any await: 10,000 of them are, over real sockets, and nothing may be left behind.
//!
//! Each request carries a number, and its reply the same. A connection that went back to the pool in the middle of a reply would give a
//! later call the number of an earlier one.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use berth_docker::events::EventsOptions;
use berth_docker::pull::PullImage;
use berth_docker::{Body, Deadline, Docker, Framing, Method, Operation, Request};
use bytes::Bytes;
use serde::Deserialize;

use support::fixture::{CHUNKED, LAST_CHUNK, UPGRADED, chunk, frame, ok, pong};
use support::process::{descriptors, on_sockets, tasks};
use support::{Peer, Server, Transport, at_rest, eventually, soon};

const SEED: u64 = 0x5EED_BE27;
const ROUNDS: u64 = 10_000;

/// How many calls are under way at once.
const BATCH: u64 = 40;

const PROBE: Operation = Operation::new("probe");

/// A small generator of numbers (splitmix64), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Answers with the number in the last segment of the path, in as many writes as there are places to stop.
async fn engine(mut peer: Peer) {
    while let Some(request) = peer.request().await {
        let path = request.line().split(['?', ' ']).nth(1).unwrap().to_owned();
        let number = path.rsplit('/').next().unwrap().to_owned();
        let kind = path.split('/').nth(2).unwrap_or_default();
        let pieces: Vec<Vec<u8>> = match kind {
            "whole" => {
                let reply = ok(&number);
                let (head, body) = reply.split_at(reply.len() - number.len());
                vec![head[..20].to_vec(), head[20..].to_vec(), body.to_vec()]
            }
            "frames" => stream(|| frame(1, format!("{number}\n"))),
            "values" => stream(|| format!("{{\"n\":{number}}}\n").into_bytes()),
            "images" => stream(|| b"{\"status\":\"Pulling\",\"id\":\"layer\"}\r\n".to_vec()),
            "events" => stream(|| {
                b"{\"Type\":\"container\",\"Action\":\"start\",\"timeNano\":1}\n".to_vec()
            }),
            "upgrade" => {
                peer.send([UPGRADED.as_bytes(), &frame(1, &number)].concat())
                    .await;
                let input = peer.end_of_input().await;
                peer.send(frame(2, input)).await;
                return;
            }
            _ => vec![pong("1.44")],
        };
        for piece in pieces {
            peer.send(piece).await;
            tokio::task::yield_now().await;
        }
    }
}

fn stream(item: impl Fn() -> Vec<u8>) -> Vec<Vec<u8>> {
    let items = (0..3).map(|_| chunk(item()));
    std::iter::once(CHUNKED.into())
        .chain(items)
        .chain([LAST_CHUNK.into()])
        .collect()
}

/// Every way to use the client, to its end.
async fn call(docker: &Docker, kind: usize, number: u64) {
    let request = |method, path: &str| {
        Request::new(PROBE, method, format!("/{path}/{number}"))
            .deadline(Deadline::Stream { idle: None })
    };
    match kind {
        0 => assert_eq!(
            docker
                .send_json::<u64>(request(Method::Get, "whole"))
                .await
                .unwrap(),
            number
        ),
        1 => {
            // Larger than a socket takes at once.
            let body = Body::Bytes(vec![b'x'; 300_000].into());
            assert_eq!(
                docker
                    .send(request(Method::Post, "whole").body(body))
                    .await
                    .unwrap()
                    .body,
                number.to_string()
            );
        }
        2 => {
            let pieces = (0..3).map(|_| Ok(Bytes::from_static(&[b'x'; 10_000])));
            let body = Body::Stream(Box::pin(futures_util::stream::iter(pieces)));
            assert_eq!(
                docker
                    .send(request(Method::Put, "whole").body(body))
                    .await
                    .unwrap()
                    .body,
                number.to_string()
            );
        }
        3 => {
            let mut bytes = docker
                .send_stream(request(Method::Get, "frames"))
                .await
                .unwrap();
            let mut length = 0;
            while let Some(piece) = bytes.next().await {
                length += piece.unwrap().len();
            }
            assert_eq!(length, 3 * (9 + number.to_string().len()));
        }
        4 => {
            let mut frames = docker
                .send_stream(request(Method::Get, "frames"))
                .await
                .unwrap()
                .frames(Framing::Multiplexed);
            while let Some(frame) = frames.next().await {
                frame.unwrap();
            }
        }
        5 => {
            let mut lines = docker
                .send_stream(request(Method::Get, "frames"))
                .await
                .unwrap()
                .frames(Framing::Multiplexed)
                .lines(100);
            for _ in 0..3 {
                assert_eq!(
                    lines.next().await.unwrap().unwrap().bytes,
                    number.to_string()
                );
            }
            assert!(lines.next().await.is_none());
        }
        6 => {
            #[derive(Deserialize)]
            struct Value {
                n: u64,
            }
            let mut values = docker
                .send_stream(request(Method::Get, "values"))
                .await
                .unwrap()
                .json::<Value>();
            for _ in 0..3 {
                assert_eq!(values.next().await.unwrap().unwrap().n, number);
            }
            assert!(values.next().await.is_none());
        }
        7 => {
            let upgraded = docker
                .send_upgrade(request(Method::Post, "upgrade"))
                .await
                .unwrap();
            let (mut reader, mut writer) = upgraded.into_parts(Framing::Multiplexed);
            assert_eq!(
                reader.next().await.unwrap().unwrap().bytes,
                number.to_string()
            );
            writer.write_all(b"in").await.unwrap();
            writer.write_all(b"put").await.unwrap();
            writer.shutdown().await.unwrap();
            assert_eq!(reader.next().await.unwrap().unwrap().bytes, "input");
            assert!(reader.next().await.is_none());
        }
        8 => {
            let mut pull = docker
                .pull_image("busybox", PullImage::default())
                .await
                .unwrap();
            while let Some(progress) = pull.next().await {
                progress.unwrap();
            }
        }
        _ => {
            let mut events = docker.events(EventsOptions {
                since_nanos: Some(1),
                ..EventsOptions::default()
            });
            events.next().await.unwrap().unwrap();
        }
    }
}

const KINDS: usize = 10;

/// Polls `future` until it is ready, but at most `polls` times; then it is dropped. True when it came to its end.
async fn cut_after(future: impl Future<Output = ()>, polls: usize) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[test]
fn ten_thousand_dropped_futures_leave_nothing_behind() {
    on_sockets(async {
        let server = Server::on(Transport::Unix, engine).await;
        let (descriptors_before, tasks_before) = (descriptors(), tasks());
        let docker = server.client();
        let mut numbers = Numbers(SEED);
        // How many calls of each kind were dropped, and how many came to their end.
        let mut dropped = [0u64; KINDS];
        let mut ended = [0u64; KINDS];
        let mut started = 0;
        for batch in 0..ROUNDS / BATCH {
            // Each after its own number of polls, from none to enough.
            let calls: Vec<_> = (0..BATCH)
                .map(|at| (numbers.below(KINDS), numbers.below(12), batch * BATCH + at))
                .collect();
            let results = calls
                .iter()
                .map(|(kind, polls, number)| cut_after(call(&docker, *kind, *number), *polls));
            let results = soon(futures_util::future::join_all(results)).await;
            for ((kind, polls, _), whole) in calls.iter().zip(results) {
                if whole {
                    ended[*kind] += 1
                } else {
                    dropped[*kind] += 1
                }
                started += u64::from(*polls > 0 && *kind < 8);
            }
            assert_eq!(
                docker.metrics().streams_open(),
                0,
                "batch {batch} of seed {SEED:#x}"
            );
            // What was kept is good: each of these connections answers with the number it is asked for.
            let kept = docker.idle_connections();
            let opened = docker.metrics().connections_opened();
            let probes = (0..kept as u64).map(|at| call(&docker, 0, 1_000_000 + batch * 100 + at));
            soon(futures_util::future::join_all(probes)).await;
            started += kept as u64;
            assert_eq!(docker.idle_connections(), kept);
            assert_eq!(
                docker.metrics().connections_opened(),
                opened,
                "batch {batch} of seed {SEED:#x}: a kept connection was of no use"
            );
        }
        assert!(
            dropped.iter().all(|count| *count > ROUNDS / 100)
                && ended.iter().all(|count| *count > ROUNDS / 1000),
            "{dropped:?} {ended:?}"
        );
        assert_eq!(
            docker.metrics().calls(PROBE) + docker.metrics().cancelled(PROBE),
            started,
            "every call ends or is cancelled"
        );
        assert_eq!(docker.metrics().errors(PROBE), 0);

        // Both ends of a kept connection are in this process, and the engine has a task for each.
        let kept = docker.idle_connections();
        at_rest(&docker, kept);
        eventually("the engine has seen the others go", || {
            server.open() == kept
        })
        .await;
        eventually("only kept connections have descriptors", || {
            descriptors() == descriptors_before + 2 * kept
        })
        .await;
        eventually("only the engine has tasks", || {
            tasks() == tasks_before + kept
        })
        .await;
        drop(docker);
        eventually("the kept ones are closed too", || {
            descriptors() == descriptors_before
        })
        .await;
        server.finish().await;
    });
}

#[test]
fn a_negotiation_dropped_anywhere_holds_nobody_up() {
    on_sockets(async {
        let server = Server::on(Transport::Unix, engine).await;
        let before = descriptors();
        let mut numbers = Numbers(SEED);
        for round in 0..300 {
            let docker = server.negotiating_client();
            let calls: Vec<_> = (0..4)
                .map(|at| (numbers.below(8), numbers.below(8), round * 4 + at))
                .collect();
            let hasty = calls
                .iter()
                .map(|(kind, polls, number)| cut_after(call(&docker, *kind, *number), *polls));
            let patient = call(&docker, 0, 1_000_000 + round);
            soon(futures_util::future::join(
                futures_util::future::join_all(hasty),
                patient,
            ))
            .await;
            at_rest(&docker, docker.idle_connections());
            let kept = docker.idle_connections();
            eventually("only kept connections have descriptors", || {
                descriptors() == before + 2 * kept
            })
            .await;
            drop(docker);
            eventually("the kept ones are closed too", || descriptors() == before).await;
        }
        server.finish().await;
    });
}
