//! How many pods can be started and removed when four are at a time, as the kubelet's workers do it.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::bare::Bare;
use crate::load::Load;

/// How many are at a time.
const AT_ONCE: usize = 4;
/// How many pods a round has.
const PODS: usize = 24;
/// How many rounds there are, by turns.
const ROUNDS: usize = 3;

/// How long all rounds took.
#[derive(Debug, Default)]
struct Times {
    start: Duration,
    remove: Duration,
}

fn row(what: &str, time: Duration, bare: Option<Duration>) {
    let per_second = |time: Duration| (PODS * ROUNDS) as f64 / time.as_secs_f64();
    let ratio = bare.map_or(String::new(), |bare| {
        let ratio = bare.as_secs_f64() / time.as_secs_f64();
        format!("{:>8.2}/s  {ratio:.2}x", per_second(bare))
    });
    println!("{what:<34} {:>8.2}/s  {ratio}", per_second(time));
}

/// Does it for each number below `count`, [`AT_ONCE`] at a time.
pub(crate) async fn at_once<T>(count: usize, work: impl AsyncFn(usize) -> T) -> Vec<T> {
    let next = Cell::new(0);
    let worker = async || {
        let mut done = Vec::new();
        while next.get() < count {
            let number = next.get();
            next.set(number + 1);
            done.push(work(number).await);
        }
        done
    };
    let done = join_all((0..AT_ONCE).map(|_| worker())).await;
    done.into_iter().flatten().collect()
}

pub(crate) async fn measure(load: &Load, bare: Option<&Bare>) {
    let (mut of_server, mut of_bare) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let pods = at_once(PODS, async |_| load.start().await).await;
        of_server.start += begun.elapsed();
        let begun = Instant::now();
        at_once(PODS, async |number| load.remove(&pods[number]).await).await;
        of_server.remove += begun.elapsed();
        let Some(bare) = bare else { continue };
        let begun = Instant::now();
        let pods = at_once(PODS, async |_| bare.start().await).await;
        of_bare.start += begun.elapsed();
        let begun = Instant::now();
        at_once(PODS, async |number| bare.remove(&pods[number]).await).await;
        of_bare.remove += begun.elapsed();
    }
    let bare = bare.is_some().then_some(&of_bare);
    let starts = bare.map(|bare| bare.start);
    row("pods started, 4 at a time", of_server.start, starts);
    let removals = bare.map(|bare| bare.remove);
    row("pods removed, 4 at a time", of_server.remove, removals);
}
