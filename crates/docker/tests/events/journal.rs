//! Outages of an engine that keeps a journal as Docker does, and whose clock may jump.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use berth_docker::events::EventsOptions;

use crate::support::fixture::{CHUNKED, chunk};
use crate::support::process::in_memory;
use crate::support::{Peer, Server};
use crate::{SECOND, T0, all, line};

/// The journal of a real engine: the last 256 events, and a replay that goes back from the newest as long as none is older than asked for.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<VecDeque<(usize, i64)>>>);

impl Journal {
    fn add(&self, id: usize, nanos: i64) {
        let mut events = self.0.lock().unwrap();
        events.push_back((id, nanos));
        if events.len() > 256 {
            events.pop_front();
        }
    }

    fn replay(&self, since: i64) -> Vec<(usize, i64)> {
        let events = self.0.lock().unwrap();
        let mut replayed: Vec<_> = events
            .iter()
            .rev()
            .take_while(|(_, nanos)| *nanos >= since)
            .copied()
            .collect();
        replayed.reverse();
        replayed
    }
}

/// Plays one outage on a journal: events before it that are seen live, and events during it that only a replay shows.
async fn outage(before: &[i64], during: &[i64]) -> Vec<String> {
    let journal = Journal::default();
    let (live, missed) = (before.to_vec(), during.to_vec());
    let server = Server::memory(move |mut peer: Peer| {
        let (journal, live, missed) = (journal.clone(), live.clone(), missed.clone());
        async move {
            let request = peer.request().await.unwrap();
            let (seconds, nanos) = request.query("since").unwrap().split_once('.').unwrap();
            let since = seconds.parse::<i64>().unwrap() * SECOND + nanos.parse::<i64>().unwrap();
            peer.send(CHUNKED).await;
            for (id, nanos) in journal.replay(since) {
                peer.send(chunk(line(id, nanos))).await;
            }
            if peer.index == 0 {
                for (id, nanos) in live.iter().enumerate() {
                    journal.add(id, T0 + nanos * SECOND);
                    peer.send(chunk(line(id, T0 + nanos * SECOND))).await;
                }
                for (at, nanos) in missed.iter().enumerate() {
                    journal.add(live.len() + at, T0 + nanos * SECOND);
                }
            } else {
                peer.gone().await;
            }
        }
    });
    let docker = server.client();
    let mut stream = docker.events(EventsOptions {
        since_nanos: Some(T0),
        ..EventsOptions::default()
    });
    let items = all(&mut stream).await;
    drop((stream, docker));
    server.finish().await;
    items
}

#[test]
fn a_clock_that_jumps_loses_no_event_without_saying_so_and_repeats_none() {
    in_memory(async {
        const HOUR: i64 = 3600;
        // Without a jump, and after one that was seen: nothing is lost, and nothing is doubted.
        for before in [
            [1, 2, 3],
            [2 * HOUR, HOUR, HOUR + 1],
            [1, 2 * HOUR, 5],
            [1, 2, 2 * HOUR],
        ] {
            let last = before[2];
            let items = outage(&before, &[last + 1, last + 2]).await;
            assert_eq!(items, ["c0", "c1", "c2", "away", "c3", "c4"], "{before:?}");
        }
        // A jump during the outage hides what came behind it, or all before it: either nothing is lost, or a gap says so.
        for (before, during) in [
            (vec![2 * HOUR], vec![2 * HOUR + 1, HOUR]),
            (vec![2 * HOUR], vec![HOUR, 3 * HOUR]),
            (vec![HOUR], vec![2 * HOUR, HOUR + 10]),
            (vec![HOUR, HOUR], vec![5]),
        ] {
            let items = outage(&before, &during).await;
            let expected: Vec<_> = (0..before.len() + during.len())
                .map(|id| format!("c{id}"))
                .collect();
            let shown: Vec<_> = items
                .iter()
                .filter(|item| item.starts_with('c'))
                .cloned()
                .collect();
            let gap = items.iter().any(|item| item == "gap: Reconnected");
            assert!(
                shown == expected || gap,
                "{before:?}, {during:?}: {items:?}"
            );
            let mut once = shown.clone();
            once.dedup();
            assert_eq!(once, shown, "{before:?}, {during:?}");
        }
    });
}

#[test]
fn more_events_than_the_engine_remembers_are_a_gap() {
    in_memory(async {
        let during: Vec<i64> = (2..400).collect();
        let items = outage(&[1], &during).await;
        assert_eq!(items[..3], ["c0", "away", "gap: Reconnected"]);
        assert_eq!(items.len(), 3 + 256);
    });
}
