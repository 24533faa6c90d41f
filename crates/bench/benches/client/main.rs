//! `cargo bench -p berth-bench --bench client [-- NAME…]`: berth's client beside its peers. See docs/performance.md.

use std::process::ExitCode;

use berth_bench::engine::Engine;
use berth_bench::replay::Replay;
use berth_bench::suite::{self, Bench};
use serde::de::IgnoredAny;
use tokio::runtime::Runtime;

mod exec;
mod follow;
mod idle;
mod inspect;
mod list;
mod ping;

const BENCHES: [Bench; 6] = [
    ("inspect", inspect::run),
    ("ping", ping::run),
    ("list", list::run),
    ("follow", follow::run),
    ("idle", idle::run),
    ("exec", exec::run),
];

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("there is no runtime: {error}");
            return ExitCode::from(2);
        }
    };
    if let [role, who, socket] = &asked[..]
        && role == idle::CLIENT
    {
        idle::client_main(&runtime, who, socket.as_ref());
        return ExitCode::SUCCESS;
    }
    suite::run(&runtime, asked, &BENCHES)
}

/// The peer: bollard for the same socket.
fn bollard(server: &Replay) -> Result<bollard::Docker, String> {
    bollard::Docker::connect_with_unix(
        &server.path().display().to_string(),
        120,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| error.to_string())
}

/// Bollard for that engine and the same version of the API.
fn bollard_of(engine: &Engine, runtime: &Runtime) -> Result<bollard::Docker, String> {
    let socket = engine.socket.display().to_string();
    let client = bollard::Docker::connect_with_unix(&socket, 120, bollard::API_DEFAULT_VERSION)
        .map_err(|error| error.to_string())?;
    runtime
        .block_on(client.negotiate_version())
        .map_err(|error| error.to_string())
}

/// Scans the JSON in a reply of one chunk, and keeps nothing of it.
fn scan(reply: &[u8]) {
    let start = reply
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map_or(0, |at| at + 4);
    let body = &reply[start..];
    let chunk = body
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    let end = body.len() - b"\r\n0\r\n\r\n".len();
    std::hint::black_box(
        serde_json::from_slice::<IgnoredAny>(&body[chunk..end]).expect("the recording is JSON"),
    );
}
