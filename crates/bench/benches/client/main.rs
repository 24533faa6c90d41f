//! `cargo bench -p berth-bench [-- NAME…]`: berth's client beside its peers. See docs/performance.md.

use std::process::ExitCode;

use berth_bench::measure::{Row, Table};
use berth_bench::replay::Replay;
use serde::de::IgnoredAny;
use tokio::runtime::Runtime;

mod engine;
mod exec;
mod follow;
mod idle;
mod inspect;
mod list;
mod ping;

/// A bench: the name that chooses it, and what runs it. What cannot be measured here is an error that says why.
type Bench = (&'static str, fn(&Runtime) -> Result<Vec<Row>, String>);

const BENCHES: [Bench; 6] = [
    ("inspect", inspect::run),
    ("ping", ping::run),
    ("list", list::run),
    ("follow", follow::run),
    ("idle", idle::run),
    ("exec", exec::run),
];

fn main() -> ExitCode {
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
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
    // Cargo gives this to benches and leaves it out when it runs them as tests, which would measure a debug build.
    let Some(at) = asked.iter().position(|argument| argument == "--bench") else {
        println!("not measured: use cargo bench -p berth-bench");
        return ExitCode::SUCCESS;
    };
    asked.remove(at);
    if let Some(unknown) = asked.iter().find(|asked| {
        !BENCHES
            .iter()
            .any(|(name, _)| name.contains(asked.as_str()))
    }) {
        let names: Vec<_> = BENCHES.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "no bench is called {unknown:?}; there are {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    }
    let mut table = Table::default();
    let mut failed = false;
    for (name, run) in BENCHES {
        if !asked.is_empty() && !asked.iter().any(|asked| name.contains(asked.as_str())) {
            continue;
        }
        eprintln!("{name} …");
        match run(&runtime) {
            Ok(rows) => table.0.extend(rows),
            Err(reason) => {
                eprintln!("{name}: {reason}");
                failed = true;
            }
        }
    }
    println!("{table}");
    let misses = table.0.iter().filter(|row| row.is_miss()).count();
    if misses > 0 {
        println!("{misses} missed");
    }
    if failed {
        ExitCode::from(2)
    } else {
        ExitCode::from(u8::from(misses > 0))
    }
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
