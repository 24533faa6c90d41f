//! The event stream against an engine that is scripted byte by byte: what it asks, what it shows once and only once, and where it says that
//! something may be missing. The clock stands still.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

#[path = "../support/mod.rs"]
mod support;

mod journal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use berth_docker::events::{EventItem, EventStream, EventsOptions};
use berth_docker::model::Filters;
use berth_docker::{Docker, Phase};
use tokio::time::{Instant, sleep};

use support::call::{Fault, Sent, fault};
use support::fixture::{CHUNKED, LAST_CHUNK, UNTIL_CLOSE, chunk, ok, recorded, with_length};
use support::process::{in_memory, tasks};
use support::{Peer, Server, at_rest, eventually};

const SECOND: i64 = 1_000_000_000;

/// The engine's clock when the tests begin.
const T0: i64 = 1_700_000_000 * SECOND;

/// What the engine does on one subscription.
#[derive(Clone)]
enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    /// Ends the reply properly.
    End,
    /// Closes the connection.
    Cut,
}

/// The line of an event about container `id` at `nanos`.
fn line(id: usize, nanos: i64) -> Vec<u8> {
    let seconds = nanos / SECOND;
    let event = format!(
        "{{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{{\"ID\":\"c{id}\"}},\"scope\":\"local\",\"time\":{seconds},\"timeNano\":{nanos}}}\n"
    );
    event.into_bytes()
}

/// Sends events, each a chunk of its own; the `id`th happened `id` seconds after the beginning.
fn events(ids: impl IntoIterator<Item = usize>) -> Act {
    Act::Send(
        ids.into_iter()
            .flat_map(|id| chunk(line(id, T0 + id as i64 * SECOND)))
            .collect(),
    )
}

/// An engine that plays one script for each subscription, and the last one again for all that follow.
fn engine(scripts: Vec<Vec<Act>>) -> Server {
    let next = Arc::new(AtomicUsize::new(0));
    Server::memory(move |mut peer: Peer| {
        let (scripts, next) = (scripts.clone(), next.clone());
        async move {
            while let Some(request) = peer.request().await {
                if request.line() == "GET /v1.44/info" {
                    peer.send(ok("{\"SystemTime\":\"2023-11-14T22:13:20.000000007Z\"}"))
                        .await;
                    continue;
                }
                let index = next.fetch_add(1, SeqCst).min(scripts.len() - 1);
                peer.send(CHUNKED).await;
                for act in &scripts[index] {
                    match act {
                        Act::Send(bytes) => drop(peer.send(bytes).await),
                        Act::Wait(time) => sleep(*time).await,
                        Act::End => drop(peer.send(LAST_CHUNK).await),
                        Act::Cut => return,
                    }
                }
                peer.gone().await;
                return;
            }
        }
    })
}

/// An item in few words: `c1`, `gap: Reconnected`, or `away`.
fn words(item: &EventItem) -> String {
    match item {
        EventItem::Event(event) => event.actor.id.clone(),
        EventItem::Gap(reason) => format!("gap: {reason:?}"),
        EventItem::Disconnected(_) => "away".to_owned(),
        other => panic!("an item of a new kind: {other:?}"),
    }
}

/// The items until none has come for an hour, which is as long as any script waits.
async fn all(stream: &mut EventStream) -> Vec<String> {
    let mut items = Vec::new();
    while let Ok(Some(item)) = tokio::time::timeout(Duration::from_secs(3600), stream.next()).await
    {
        items.push(words(&item.unwrap()));
    }
    items
}

/// Plays the scripts and gives the items and the values of `since` that were asked for.
async fn play(scripts: Vec<Vec<Act>>) -> (Vec<String>, Vec<String>) {
    let server = engine(scripts);
    let docker = server.client();
    let mut stream = docker.events(EventsOptions::default());
    let items = all(&mut stream).await;
    drop(stream);
    eventually("its connection is closed", || {
        server.open() <= docker.idle_connections()
    })
    .await;
    at_rest(&docker, docker.idle_connections());
    let since = server
        .requests()
        .iter()
        .filter_map(|request| Some(request.query("since")?.to_owned()))
        .collect();
    drop(docker);
    server.finish().await;
    (items, since)
}

#[test]
fn a_subscription_begins_at_the_engines_clock_so_that_nothing_falls_between() {
    in_memory(async {
        let server = engine(vec![vec![events([1])]]);
        let docker = server.client();
        let filters = Filters::new().kind("container").label("a=b");
        let mut stream = docker.events(EventsOptions {
            filters,
            since_nanos: None,
        });
        assert_eq!(words(&stream.next().await.unwrap().unwrap()), "c1");
        let filters = "%7B%22label%22%3A%5B%22a%3Db%22%5D%2C%22type%22%3A%5B%22container%22%5D%7D";
        let expected = [
            "GET /v1.44/info".to_owned(),
            format!("GET /v1.44/events?since=1700000000.000000007&filters={filters}"),
        ];
        assert_eq!(server.lines(), expected);
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn a_time_to_begin_from_is_sent_to_the_nanosecond_and_needs_no_clock() {
    in_memory(async {
        for (since, text) in [
            (T0 + 123, "1700000000.000000123"),
            (1, "0.000000001"),
            (0, "0.000000000"),
            (i64::MAX, "9223372036.854775807"),
            // Docker's parser takes the sign for the seconds' alone.
            (-1, "0"),
            (i64::MIN, "0"),
        ] {
            let server = engine(vec![vec![events([1]), Act::Cut], vec![]]);
            let docker = server.client();
            let mut stream = docker.events(EventsOptions {
                since_nanos: Some(since),
                ..EventsOptions::default()
            });
            let items = all(&mut stream).await;
            assert_eq!(items[..2], ["c1", "away"]);
            assert_eq!(server.requests()[0].query("since"), Some(text));
            drop((stream, docker));
            server.finish().await;
        }
    });
}

#[test]
fn a_known_event_among_the_replayed_proves_that_nothing_was_missed() {
    in_memory(async {
        let (items, since) = play(vec![
            vec![events([1, 2, 3]), Act::Cut],
            vec![events([2, 3, 4, 5])],
        ])
        .await;
        assert_eq!(items, ["c1", "c2", "c3", "away", "c4", "c5"]);
        // A little before the last one.
        assert_eq!(since, ["1700000000.000000007", "1700000002.000000000"]);

        // The proof holds without anything new, too.
        let (items, _) = play(vec![vec![events([1, 2, 3]), Act::Cut], vec![events([3])]]).await;
        assert_eq!(items, ["c1", "c2", "c3", "away"]);
    });
}

#[test]
fn without_that_proof_there_is_a_gap_before_what_comes_next() {
    in_memory(async {
        let (items, _) = play(vec![vec![events([1, 2]), Act::Cut], vec![events([7, 8])]]).await;
        assert_eq!(items, ["c1", "c2", "away", "gap: Reconnected", "c7", "c8"]);

        // Silence proves nothing: the engine has forgotten, and nobody knows what.
        let (items, _) = play(vec![vec![events([1, 2]), Act::Cut], vec![]]).await;
        assert_eq!(items, ["c1", "c2", "away", "gap: Reconnected"]);

        // One gap for each connection without proof, and none for one with it.
        let scripts = vec![
            vec![events([1]), Act::Cut],
            vec![events([5]), Act::Wait(Duration::from_secs(10)), Act::Cut],
            vec![events([5, 6]), Act::Wait(Duration::from_secs(10)), Act::Cut],
            vec![events([9])],
        ];
        let (items, _) = play(scripts).await;
        assert_eq!(
            items,
            [
                "c1",
                "away",
                "gap: Reconnected",
                "c5",
                "away",
                "c6",
                "away",
                "gap: Reconnected",
                "c9"
            ]
        );
    });
}

#[test]
fn the_gap_of_a_silent_engine_comes_within_seconds() {
    in_memory(async {
        let server = engine(vec![vec![events([1]), Act::Cut], vec![]]);
        let docker = server.client();
        let mut stream = docker.events(EventsOptions::default());
        let since = Instant::now();
        let mut items = Vec::new();
        while items.last().is_none_or(|item| item != "gap: Reconnected") {
            items.push(words(&stream.next().await.unwrap().unwrap()));
        }
        assert!(
            since.elapsed() < Duration::from_secs(3),
            "{:?}",
            since.elapsed()
        );
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn events_that_differ_in_anything_are_all_shown_and_equal_ones_once() {
    in_memory(async {
        let at = |action: &str, id: &str, attributes: &str| {
            let time = T0 + SECOND;
            chunk(format!(
                "{{\"Type\":\"container\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{attributes}}},\"timeNano\":{time}}}"
            ))
        };
        let one_instant = [
            at("kill", "a", "{\"signal\":\"15\"}"),
            at("kill", "a", "{\"signal\":\"9\"}"),
            at("die", "a", "{}"),
            at("die", "b", "{}"),
        ];
        let twice = [one_instant.concat(), one_instant.concat()].concat();
        let scripts = vec![
            vec![Act::Send(twice), Act::Cut],
            vec![Act::Send(
                [one_instant.concat(), at("die", "c", "{}")].concat(),
            )],
        ];
        let (items, _) = play(scripts).await;
        assert_eq!(items, ["a", "a", "a", "b", "away", "c"]);
    });
}

#[test]
fn a_stream_cut_at_any_byte_shows_each_event_once() {
    in_memory(async {
        let recorded = recorded("events-health.ndjson");
        let wire: Vec<u8> = recorded
            .split_inclusive(|byte| *byte == b'\n')
            .flat_map(chunk)
            .collect();
        let expected = recorded
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .count();
        for cut in 0..=wire.len() {
            let (items, since) = play(vec![
                vec![Act::Send(wire[..cut].to_vec()), Act::Cut],
                vec![Act::Send(wire.clone())],
            ])
            .await;
            let shown = items
                .iter()
                .filter(|item| !item.starts_with("gap") && *item != "away")
                .count();
            assert_eq!(
                (shown, since.len()),
                (expected, 2),
                "cut after {cut} bytes: {items:?}"
            );
            assert_eq!(
                items.iter().filter(|item| *item == "away").count(),
                1,
                "cut after {cut} bytes: {items:?}"
            );
        }
    });
}

#[test]
fn what_is_no_event_is_skipped_and_counted_and_order_is_kept() {
    in_memory(async {
        let nonsense = [
            "null",
            "nonsense",
            "[1,2]",
            "\"text\"",
            "{\"Type\":,}",
            "\u{feff}{}",
            "12",
        ];
        let mut bytes = Vec::new();
        for (at, text) in nonsense.iter().enumerate() {
            bytes.extend(chunk(line(at, T0 + at as i64)));
            bytes.extend(chunk(format!("{text}\n")));
        }
        let server = engine(vec![vec![Act::Send(bytes), events([99])]]);
        let docker = server.client();
        let mut stream = docker.events(EventsOptions::default());
        assert_eq!(
            all(&mut stream).await,
            ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c99"]
        );
        assert_eq!(docker.metrics().skipped_events(), nonsense.len() as u64);
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn bytes_that_are_no_stream_of_events_are_a_lost_connection_and_no_skipped_item() {
    in_memory(async {
        let cases = [
            ("zz\r\n", "a chunk has no size"),
            ("1\r\n}\r\n", "bracket"),
            ("5\r\nhello, world", "longer than its size"),
        ];
        for (bytes, words) in cases {
            let server = engine(vec![
                vec![events([1]), Act::Send(bytes.into())],
                vec![events([1])],
            ]);
            let docker = server.client();
            let mut stream = docker.events(EventsOptions::default());
            stream.next().await.unwrap().unwrap();
            let EventItem::Disconnected(error) = stream.next().await.unwrap().unwrap() else {
                panic!("{bytes:?}")
            };
            assert_eq!(fault(&error), Fault::Malformed);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(docker.metrics().skipped_events(), 0, "{bytes:?}");
            drop((stream, docker));
            server.finish().await;
        }
    });
}

#[test]
fn a_disconnection_says_what_happened() {
    in_memory(async {
        let cut = Fault::NoAnswer(Phase::Body, Sent::Yes);
        for (script, expected) in [
            (vec![events([1]), Act::Cut], cut),
            (vec![events([1]), Act::End], Fault::Malformed),
        ] {
            let server = engine(vec![script, vec![]]);
            let docker = server.client();
            let mut stream = docker.events(EventsOptions::default());
            stream.next().await.unwrap().unwrap();
            let EventItem::Disconnected(error) = stream.next().await.unwrap().unwrap() else {
                panic!("{expected:?}")
            };
            assert_eq!(fault(&error), expected);
            assert!(error.to_string().starts_with("events: "), "{error}");
            drop((stream, docker));
            server.finish().await;
        }
    });
}

#[test]
fn a_refusal_for_good_ends_the_stream_and_any_other_is_tried_again() {
    in_memory(async {
        for (status, ends) in [
            (400, true),
            (401, true),
            (403, true),
            (404, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
        ] {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let server = Server::memory(move |mut peer: Peer| {
                let count = count.clone();
                async move {
                    while peer.request().await.is_some() {
                        if count.fetch_add(1, SeqCst) < 3 {
                            peer.send(with_length(
                                &format!("{status} No"),
                                "{\"message\":\"invalid filter\"}",
                            ))
                            .await;
                        } else {
                            peer.send([CHUNKED.as_bytes(), &chunk(line(1, T0))].concat())
                                .await;
                            return drop(peer.gone().await);
                        }
                    }
                }
            });
            let docker = server.client();
            let mut stream = docker.events(EventsOptions {
                since_nanos: Some(T0),
                ..EventsOptions::default()
            });
            let first = stream.next().await.unwrap();
            if ends {
                let error = first.unwrap_err();
                assert_eq!(
                    (fault(&error), error.message()),
                    (Fault::Refused(status), "invalid filter")
                );
                assert!(stream.next().await.is_none() && stream.next().await.is_none());
                assert_eq!(asked.load(SeqCst), 1);
            } else {
                let EventItem::Disconnected(error) = first.unwrap() else {
                    panic!("{status}")
                };
                assert_eq!(fault(&error), Fault::Refused(status));
                // The failures that follow are the same outage.
                assert_eq!(
                    all(&mut stream).await,
                    ["gap: Reconnected", "c1"],
                    "{status}"
                );
            }
            drop((stream, docker));
            server.finish().await;
        }
    });
}

/// A client whose engine can be switched off: then nobody listens, and attempts are counted.
fn switched(server: &Server, there: Arc<AtomicBool>, attempts: Arc<AtomicUsize>) -> Docker {
    let dial = server.dialer();
    let builder = Docker::builder(
        server
            .options()
            .with_api_version(berth_docker::ApiVersion::new(1, 44))
            .unwrap(),
    );
    let builder = builder.dialer(move || {
        attempts.fetch_add(1, SeqCst);
        if there.load(SeqCst) {
            dial()
        } else {
            Err(std::io::ErrorKind::ConnectionRefused.into())
        }
    });
    builder.build().unwrap()
}

#[test]
fn an_engine_that_is_away_is_announced_once_and_asked_ever_less_often() {
    in_memory(async {
        let server = engine(vec![vec![events([1])]]);
        let (there, attempts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let docker = switched(&server, there.clone(), attempts.clone());
        let mut stream = docker.events(EventsOptions::default());
        let EventItem::Disconnected(error) = stream.next().await.unwrap().unwrap() else {
            panic!()
        };
        assert_eq!(fault(&error), Fault::Connect);
        assert!(
            tokio::time::timeout(Duration::from_secs(600), stream.next())
                .await
                .is_err(),
            "it was announced"
        );
        let tried = attempts.load(SeqCst);
        // Every 2 s in the end.
        assert!(
            (290..=330).contains(&tried),
            "{tried} attempts in 10 minutes"
        );
        there.store(true, SeqCst);
        let since = Instant::now();
        // It was never there before, so nothing can have been missed.
        assert_eq!(words(&stream.next().await.unwrap().unwrap()), "c1");
        assert!(since.elapsed() <= Duration::from_secs(2));
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn an_engine_that_hangs_is_announced_once() {
    in_memory(async {
        let server = Server::memory(Peer::stall);
        let docker = server.client();
        let mut stream = docker.events(EventsOptions::default());
        let EventItem::Disconnected(error) = stream.next().await.unwrap().unwrap() else {
            panic!()
        };
        assert_eq!(fault(&error), Fault::TimedOut(Phase::Headers, Sent::Yes));
        assert_eq!(all(&mut stream).await, [""; 0]);
        // Every 2 minutes and the pause between, not faster.
        assert!(
            server.accepted() <= 31,
            "{} attempts in an hour",
            server.accepted()
        );
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn an_outage_soon_after_a_reconnect_is_announced_too() {
    in_memory(async {
        let (items, _) = play(vec![
            vec![events([1]), Act::Cut],
            vec![events([1, 2]), Act::Cut],
            vec![events([2, 3]), Act::Cut],
            vec![events([3])],
        ])
        .await;
        assert_eq!(items, ["c1", "away", "c2", "away", "c3", "away"]);
    });
}

#[test]
fn a_proxy_that_cuts_idle_connections_costs_no_event() {
    in_memory(async {
        for idle in [240, 300, 600] {
            let cut =
                |ids: Vec<usize>| vec![events(ids), Act::Wait(Duration::from_secs(idle)), Act::Cut];
            let (items, _) = play(vec![
                cut(vec![1, 2]),
                cut(vec![2]),
                cut(vec![2, 3]),
                cut(vec![3]),
                vec![events([3, 4])],
            ])
            .await;
            assert_eq!(
                items,
                ["c1", "c2", "away", "away", "c3", "away", "away", "c4"],
                "cut after {idle} s"
            );
        }
    });
}

#[test]
fn a_head_that_comes_with_the_first_event_is_waited_for() {
    in_memory(async {
        let server = Server::memory(|mut peer: Peer| async move {
            peer.request().await;
            sleep(Duration::from_secs(24 * 3600)).await;
            peer.send([UNTIL_CLOSE.as_bytes(), &line(1, T0)].concat())
                .await;
            peer.gone().await;
        });
        let docker = server.client();
        let mut stream = docker.events(EventsOptions {
            since_nanos: Some(T0),
            ..EventsOptions::default()
        });
        assert_eq!(words(&stream.next().await.unwrap().unwrap()), "c1");
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn a_consumer_that_stops_reading_finds_a_gap_and_the_engine_is_not_held_up() {
    in_memory(async {
        const MANY: usize = 200_000;
        let (sent, more) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(tokio::sync::Notify::new()),
        );
        let server = Server::memory({
            let (sent, more) = (sent.clone(), more.clone());
            move |mut peer: Peer| {
                let (sent, more) = (sent.clone(), more.clone());
                async move {
                    peer.request().await;
                    peer.send(CHUNKED).await;
                    for block in 0..MANY / 1000 {
                        peer.send(chunk(
                            (0..1000)
                                .flat_map(|at| line(block * 1000 + at, T0 + at as i64))
                                .collect::<Vec<_>>(),
                        ))
                        .await;
                    }
                    sent.store(true, SeqCst);
                    more.notified().await;
                    peer.send(chunk(line(MANY, T0 + SECOND))).await;
                    peer.gone().await;
                }
            }
        });
        let docker = server.client();
        let mut stream = docker.events(EventsOptions {
            since_nanos: Some(T0),
            ..EventsOptions::default()
        });
        eventually("all were sent although nobody reads", || sent.load(SeqCst)).await;
        sleep(Duration::from_secs(1)).await;
        let items = all(&mut stream).await;
        let kept = items.len() - 1;
        assert!(
            kept < 10_000,
            "{kept} were held for a consumer that does not read"
        );
        // Those from the beginning, in order, and then what cannot be known any more.
        assert!(
            items[..kept]
                .iter()
                .enumerate()
                .all(|(at, item)| *item == format!("c{at}"))
        );
        assert_eq!(items[kept], "gap: Overflow");
        more.notify_one();
        assert_eq!(all(&mut stream).await, [format!("c{MANY}")]);
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn a_gap_of_a_slow_consumer_does_not_wait_for_an_engine_that_is_away() {
    in_memory(async {
        let server = engine(vec![vec![events(0..6000), Act::Cut]]);
        let (there, attempts) = (
            Arc::new(AtomicBool::new(true)),
            Arc::new(AtomicUsize::new(0)),
        );
        let docker = switched(&server, there.clone(), attempts.clone());
        let mut stream = docker.events(EventsOptions {
            since_nanos: Some(T0),
            ..EventsOptions::default()
        });
        eventually("it is connected", || attempts.load(SeqCst) > 0).await;
        there.store(false, SeqCst);
        eventually("the engine is away", || attempts.load(SeqCst) > 1).await;
        let items = all(&mut stream).await;
        assert_eq!(
            items.last().unwrap(),
            "gap: Overflow",
            "{} items",
            items.len()
        );
        drop((stream, docker));
        server.finish().await;
    });
}

#[test]
fn dropping_the_stream_closes_its_connection_and_ends_its_task() {
    in_memory(async {
        let server = engine(vec![vec![events([1])]]);
        let docker = server.client();
        let before = tasks();
        let streams: Vec<_> = (0..50)
            .map(|_| {
                docker.events(EventsOptions {
                    since_nanos: Some(T0),
                    ..EventsOptions::default()
                })
            })
            .collect();
        eventually("all are open", || docker.metrics().streams_open() == 50).await;
        assert_eq!(
            tasks(),
            before + 100,
            "one task each, and one of the engine's"
        );
        drop(streams);
        eventually("their tasks have ended", || tasks() == before).await;
        assert_eq!(server.open(), 0);
        at_rest(&docker, 0);
        drop(docker);
        server.finish().await;
    });
}
