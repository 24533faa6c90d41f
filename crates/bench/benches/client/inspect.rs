//! One inspect after another on a kept connection.

use berth_bench::engine::{Engine, Sleeper};
use berth_bench::measure::{Contender, Row, in_turns};
use berth_bench::raw;
use berth_bench::recorded::{self, NEW};
use berth_bench::replay::{Answer, Replay};
use tokio::runtime::Runtime;

const ROUNDS: usize = 41;
const CALLS: usize = 500;

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let body = recorded::body(NEW, "container-inspect-running.json");
    let reply = recorded::json_reply(NEW, &body);
    let length = reply.len();
    let server = Replay::start(vec![
        ("HEAD /_ping", Answer::Reply(recorded::ping_head(NEW))),
        ("/containers/web/json", Answer::Reply(reply)),
    ])
    .map_err(|error| error.to_string())?;

    let docker = server.docker();
    let bollard = crate::bollard(&server)?;
    let request = raw::request("GET", "/v1.54/containers/web/json");
    let mut kept = runtime
        .block_on(raw::Connection::open(&server.path()))
        .map_err(|error| error.to_string())?;
    let mut scanned = runtime
        .block_on(raw::Connection::open(&server.path()))
        .map_err(|error| error.to_string())?;
    let figures = in_turns(
        ROUNDS,
        vec![
            Contender::timed("raw", runtime, CALLS, async || {
                kept.call(&request, length)
                    .await
                    .expect("the replay server answers");
            }),
            Contender::timed("raw + scan", runtime, CALLS, async || {
                let reply = scanned
                    .call(&request, length)
                    .await
                    .expect("the replay server answers");
                crate::scan(reply);
            }),
            Contender::timed("berth", runtime, CALLS, async || {
                docker
                    .inspect_container("web")
                    .await
                    .expect("the replay server answers");
            }),
            Contender::timed("bollard", runtime, CALLS, async || {
                bollard
                    .inspect_container("web", None)
                    .await
                    .expect("the replay server answers");
            }),
        ],
    );
    let what = format!("inspect ({:.1} KB)", body.len() as f64 / 1e3);
    let mut rows = vec![
        figures.time_row(&what, "berth", "raw", Some(1.25)),
        figures.time_row(&what, "raw + scan", "raw", None),
        figures.time_row(&what, "bollard", "raw", None),
    ];
    match Engine::find(runtime) {
        Ok(engine) => rows.extend(real(runtime, &engine)?),
        Err(reason) => eprintln!("inspect on a real engine is not measured: {reason}"),
    }
    Ok(rows)
}

/// The same on a real engine.
fn real(runtime: &Runtime, engine: &Engine) -> Result<Vec<Row>, String> {
    let bollard = crate::bollard_of(engine, runtime)?;
    let sleeper = Sleeper::start(engine, runtime)?;
    let container = sleeper.id.as_str();
    let request = raw::request(
        "GET",
        &format!("/v{}/containers/{container}/json", engine.api),
    );
    let (mut kept, length) = runtime
        .block_on(async {
            let mut connection = raw::Connection::open(&engine.socket).await?;
            let length = connection.measure(&request).await?;
            std::io::Result::Ok((connection, length))
        })
        .map_err(|error| error.to_string())?;
    let figures = in_turns(
        ROUNDS,
        vec![
            Contender::timed("raw", runtime, CALLS / 5, async || {
                kept.call(&request, length)
                    .await
                    .expect("the engine answers");
            }),
            Contender::timed("berth", runtime, CALLS / 5, async || {
                engine
                    .docker
                    .inspect_container(container)
                    .await
                    .expect("the engine answers");
            }),
            Contender::timed("bollard", runtime, CALLS / 5, async || {
                bollard
                    .inspect_container(container, None)
                    .await
                    .expect("the engine answers");
            }),
        ],
    );
    let what = format!("inspect (engine {})", engine.version);
    Ok(vec![
        figures.time_row(&what, "berth", "raw", Some(1.25)),
        figures.time_row(&what, "bollard", "raw", None),
    ])
}
