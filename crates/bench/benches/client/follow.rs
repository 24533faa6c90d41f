//! A log follow as fast as it comes: large frames for what a byte costs, short lines for what a frame costs.

use std::time::Instant;

use berth_bench::measure::{Contender, Figures, Row, Unit, in_turns};
use berth_bench::raw;
use berth_bench::recorded::{self, FRAME, NEW};
use berth_bench::replay::{Answer, Replay};
use berth_docker::Docker;
use berth_docker::api::LogsOptions;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use tokio::runtime::Runtime;

const ROUNDS: usize = 21;
const LINE: usize = 100;

/// What one round reads: so many blocks of so many frames of so many bytes.
#[derive(Clone, Copy)]
struct Load {
    blocks: usize,
    frames: usize,
    payload: usize,
}

impl Load {
    fn total(self) -> (usize, usize) {
        let frames = self.blocks * self.frames;
        (frames, frames * self.payload)
    }
}

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let large = Load {
        blocks: 256,
        frames: 64,
        payload: FRAME,
    };
    let figures = compare(
        runtime,
        recorded::large_frames(large.frames),
        large,
        large.total().1,
    )?;
    let (what, unit) = ("log follow, 16 KiB frames", Unit::BytesPerSecond);
    let mut rows = vec![
        figures.rate_row(what, "berth", "raw read", unit, Some(0.9)),
        figures.rate_row(what, "bollard", "raw read", unit, None),
    ];

    let short = Load {
        blocks: 100,
        frames: 10_000,
        payload: LINE,
    };
    let figures = compare(
        runtime,
        recorded::short_lines(short.frames),
        short,
        short.total().0,
    )?;
    let (what, unit) = ("log follow, 100-byte lines", Unit::PerSecond);
    rows.extend([
        figures.rate_row(what, "berth", "scanner", unit, Some(0.7)),
        figures.rate_row(what, "bollard", "scanner", unit, None),
        figures.rate_row(what, "raw read", "scanner", unit, None),
    ]);
    Ok(rows)
}

/// Lets everybody read the load; the figure of a round is `worth` divided by its time.
fn compare(runtime: &Runtime, block: Vec<u8>, load: Load, worth: usize) -> Result<Figures, String> {
    let server = Replay::start(vec![
        ("HEAD /_ping", Answer::Reply(recorded::ping_head(NEW))),
        (
            "/containers/web/logs",
            Answer::Stream {
                head: recorded::log_head(NEW),
                block,
                times: load.blocks,
            },
        ),
    ])
    .map_err(|error| error.to_string())?;
    let docker = server.docker();
    let bollard = crate::bollard(&server)?;
    let path = server.path();
    let request = raw::request("GET", "/v1.54/containers/web/logs?stdout=1&follow=1");

    let timed = |work: &dyn Fn() -> (usize, usize)| {
        let start = Instant::now();
        let seen = work();
        let time = start.elapsed().as_secs_f64();
        assert_eq!(seen, load.total(), "frames and bytes that came");
        worth as f64 / time
    };
    let connect = async || {
        let connection = raw::Connection::open(&path).await;
        connection.expect("the replay server listens")
    };
    Ok(in_turns(
        ROUNDS,
        vec![
            Contender::new("raw read", || {
                timed(&|| {
                    let read = runtime.block_on(async { connect().await.drain(&request).await });
                    assert!(read.expect("the replay server answers") > load.total().1);
                    load.total()
                })
            }),
            Contender::new("scanner", || {
                timed(&|| {
                    runtime
                        .block_on(async { connect().await.scan_frames(&request).await })
                        .expect("the replay server answers in frames")
                })
            }),
            Contender::new("berth", || timed(&|| runtime.block_on(berth(&docker)))),
            Contender::new("bollard", || {
                timed(&|| runtime.block_on(bollard_follow(&bollard)))
            }),
        ],
    ))
}

async fn berth(docker: &Docker) -> (usize, usize) {
    let options = LogsOptions {
        follow: true,
        ..LogsOptions::default()
    };
    let mut output = docker
        .logs("web", &options)
        .await
        .expect("the replay server answers");
    let (mut frames, mut bytes, mut rest) = (0, 0, 0);
    while let Some(frame) = output.next().await {
        let length = frame.expect("the stream is whole").bytes.len();
        bytes += length;
        // A frame may come in pieces, and no piece holds bytes of two.
        rest += length;
        if rest == LINE || rest == FRAME {
            frames += 1;
            rest = 0;
        }
    }
    (frames, bytes)
}

async fn bollard_follow(bollard: &bollard::Docker) -> (usize, usize) {
    let options = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(true)
        .build();
    let mut output = std::pin::pin!(bollard.logs("web", Some(options)));
    let (mut frames, mut bytes) = (0, 0);
    while let Some(frame) = output.next().await {
        bytes += frame.expect("the stream is whole").into_bytes().len();
        frames += 1;
    }
    (frames, bytes)
}
