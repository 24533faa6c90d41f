//! Pings per second with 1, 8 and 64 in flight.

use std::time::Instant;

use berth_bench::measure::{Contender, Row, Unit, in_turns};
use berth_bench::raw;
use berth_bench::recorded::{self, NEW};
use berth_bench::replay::{Answer, Replay};
use tokio::runtime::Runtime;

const ROUNDS: usize = 21;
/// Pings in one round, divided among those in flight.
const PINGS: usize = 6400;

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let ping = recorded::ping(NEW);
    let length = ping.len();
    let server = Replay::start(vec![
        ("HEAD /_ping", Answer::Reply(recorded::ping_head(NEW))),
        ("/_ping", Answer::Reply(ping)),
    ])
    .map_err(|error| error.to_string())?;
    let docker = server.docker();
    let bollard = crate::bollard(&server)?;
    let path = server.path();

    let mut rows = Vec::new();
    for in_flight in [1, 8, 64] {
        let calls = PINGS / in_flight;
        let figures = in_turns(
            ROUNDS,
            vec![
                Contender::new("raw", || {
                    runtime.block_on(async {
                        let mut connections = Vec::new();
                        for _ in 0..in_flight {
                            connections.push(
                                raw::Connection::open(&path)
                                    .await
                                    .expect("the replay server listens"),
                            );
                        }
                        rate(connections, async move |connection| {
                            let request = raw::request("GET", "/_ping");
                            for _ in 0..calls {
                                connection
                                    .call(&request, length)
                                    .await
                                    .expect("the replay server answers");
                            }
                        })
                        .await
                    })
                }),
                Contender::new("berth", || {
                    runtime.block_on(rate(vec![docker.clone(); in_flight], async move |docker| {
                        for _ in 0..calls {
                            docker.ping().await.expect("the replay server answers");
                        }
                    }))
                }),
                Contender::new("bollard", || {
                    runtime.block_on(rate(
                        vec![bollard.clone(); in_flight],
                        async move |bollard| {
                            for _ in 0..calls {
                                bollard.ping().await.expect("the replay server answers");
                            }
                        },
                    ))
                }),
            ],
        );
        let what = format!("pings, {in_flight} in flight");
        rows.push(figures.rate_row(&what, "berth", "raw", Unit::PerSecond, Some(0.8)));
        rows.push(figures.rate_row(&what, "bollard", "raw", Unit::PerSecond, None));
    }
    Ok(rows)
}

/// Runs `work` with each of the clients at the same time, [`PINGS`] in all; gives pings per second.
async fn rate<C: Send + 'static>(
    clients: Vec<C>,
    work: impl AsyncFnOnce(&mut C) + Copy + 'static,
) -> f64 {
    let local = tokio::task::LocalSet::new();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| local.spawn_local(async move { work(&mut client).await }))
        .collect();
    let start = Instant::now();
    local.await;
    let time = start.elapsed().as_secs_f64();
    for task in tasks {
        task.await.expect("no task panics");
    }
    PINGS as f64 / time
}
