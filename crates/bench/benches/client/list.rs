//! A list of 1,000 containers, from the socket to typed values.

use berth_bench::measure::{Contender, Row, in_turns};
use berth_bench::raw;
use berth_bench::recorded::{self, NEW, OLD};
use berth_bench::replay::{Answer, Replay};
use berth_docker::api::ListContainers;
use tokio::runtime::Runtime;

const ROUNDS: usize = 41;
const CALLS: usize = 10;
const CONTAINERS: usize = 1000;

pub(crate) fn run(runtime: &Runtime) -> Result<Vec<Row>, String> {
    let pods = |engine| recorded::container_list(engine, CONTAINERS, recorded::pod_labels);
    let bare = |engine| recorded::container_list(engine, CONTAINERS, |_| Vec::new());
    let mut rows = one(runtime, NEW, "of pods", pods(NEW))?;
    rows.extend(one(runtime, OLD, "of pods", pods(OLD))?);
    rows.extend(one(runtime, NEW, "without labels", bare(NEW))?);
    rows.extend(one(runtime, OLD, "without labels", bare(OLD))?);
    Ok(rows)
}

fn one(runtime: &Runtime, engine: &str, which: &str, body: Vec<u8>) -> Result<Vec<Row>, String> {
    let reply = recorded::json_reply(engine, &body);
    let length = reply.len();
    let server = Replay::start(vec![
        ("HEAD /_ping", Answer::Reply(recorded::ping_head(engine))),
        ("/containers/json", Answer::Reply(reply)),
    ])
    .map_err(|error| error.to_string())?;
    let docker = server.docker();
    let bollard = crate::bollard(&server)?;
    let request = raw::request("GET", "/v1.54/containers/json?all=1");
    let mut kept = runtime
        .block_on(raw::Connection::open(&server.path()))
        .map_err(|error| error.to_string())?;
    let all = ListContainers {
        all: true,
        ..ListContainers::default()
    };
    let figures = in_turns(
        ROUNDS,
        vec![
            Contender::timed("read + scan", runtime, CALLS, async || {
                let reply = kept
                    .call(&request, length)
                    .await
                    .expect("the replay server answers");
                crate::scan(reply);
            }),
            Contender::timed("berth", runtime, CALLS, async || {
                let list = docker
                    .list_containers(&all)
                    .await
                    .expect("the replay server answers");
                assert_eq!(list.len(), CONTAINERS);
            }),
            Contender::timed("bollard", runtime, CALLS, async || {
                let list = bollard
                    .list_containers(None)
                    .await
                    .expect("the replay server answers");
                assert_eq!(list.len(), CONTAINERS);
            }),
        ],
    );
    let what = format!(
        "list of 1,000 {which} ({:.2} MB, {engine})",
        body.len() as f64 / 1e6
    );
    Ok(vec![
        figures.time_row(&what, "berth", "read + scan", Some(1.5)),
        figures.time_row(&what, "bollard", "read + scan", None),
    ])
}
