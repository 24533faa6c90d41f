//! Load on a CRI server: `cargo bench -p berth-bench --bench cri -- --cri unix:///run/berth/cri.sock [--engine unix:///var/run/docker.sock]
//! [--pods 100] [--image berth.local/demo:1] [--cycles 2000]`.
//!
//! Works against any CRI server over Docker. With `--engine` the calls that the engine needs for the same work are made as well, by turns, and the
//! ratio is printed: the same machine, the same moment, the same load. With `--cycles` so many pods come and go, and nothing else is measured but
//! how the server grows.

#![allow(clippy::unwrap_used, reason = "a measurement that fails ends")]

mod bare;
mod cycles;
mod load;
mod process;
mod rate;
mod relist;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bare::Bare;
use berth_cri::v1;
use berth_docker::{ConnectOptions, Docker};
use load::Load;
use process::Process;

/// How often each quick call is made.
const QUICK: usize = 200;
/// How often pods are started and removed, and commands run, by turns with the bare calls.
const SLOW: usize = 15;

struct Arguments {
    cri: String,
    engine: Option<String>,
    pods: usize,
    image: String,
    cycles: Option<usize>,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments {
        cri: String::new(),
        engine: None,
        pods: 100,
        image: "berth.local/demo:1".to_owned(),
        cycles: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cri" => arguments.cri = words.next()?,
            "--engine" => arguments.engine = words.next(),
            "--pods" => arguments.pods = words.next()?.parse().ok()?,
            "--image" => arguments.image = words.next()?,
            "--cycles" => arguments.cycles = Some(words.next()?.parse().ok()?),
            "--bench" => {}
            _ => return None,
        }
    }
    (!arguments.cri.is_empty()).then_some(arguments)
}

fn main() {
    let Some(arguments) = arguments() else {
        println!("not measured: --cri names no server; see the head of benches/cri/main.rs");
        return;
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure(&arguments));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, time: Duration, bare: Option<Duration>) {
    let ratio = bare.map_or(String::new(), |bare| {
        format!(
            "{:>10.2?}  {:.2}x",
            bare,
            time.as_secs_f64() / bare.as_secs_f64()
        )
    });
    println!("{what:<34} {time:>10.2?}  {ratio}");
}

macro_rules! quick {
    ($load:expr, $what:literal, $call:ident, $request:expr) => {{
        let mut times = Vec::new();
        for _ in 0..QUICK {
            let begun = Instant::now();
            match $load.runtime().$call($request).await {
                Ok(_) => times.push(begun.elapsed()),
                Err(status) => {
                    println!("{:<34} {}", $what, status.code());
                    break;
                }
            }
        }
        if !times.is_empty() {
            row($what, median(times), None);
        }
    }};
}

fn path(endpoint: &str) -> PathBuf {
    endpoint.trim_start_matches("unix://").into()
}

async fn measure(arguments: &Arguments) {
    let socket = path(&arguments.cri);
    let load = Load::new(&socket, &arguments.image).await;
    let server = Process::behind(&socket).await;
    if let Some(cycles) = arguments.cycles {
        match &server {
            Some(server) => cycles::measure(&load, server, cycles).await,
            None => println!("not measured: the server's process cannot be seen from here"),
        }
        return;
    }
    let bare = arguments.engine.as_ref().map(|endpoint| Bare {
        docker: Docker::builder(ConnectOptions::new(endpoint.parse().unwrap()))
            .build()
            .unwrap(),
        image: arguments.image.clone(),
    });
    println!("{:<34} {:>10}  {:>10}  ratio", "p50", "CRI", "bare calls");
    slow(&load, bare.as_ref()).await;
    rate::measure(&load, bare.as_ref()).await;
    lists(&load, arguments.pods).await;
    let engine = match &arguments.engine {
        Some(endpoint) => Process::behind(&path(endpoint)).await,
        None => None,
    };
    relist::measure(&load, server, engine).await;
}

/// What reads cost with many pods.
async fn lists(load: &Load, count: usize) {
    let mut pods = Vec::new();
    for _ in 0..count {
        pods.push(load.start().await);
    }
    println!("with {} pods of one container:", pods.len());
    let [sandbox, container] = pods[0].clone();
    quick!(
        load,
        "ListPodSandbox",
        list_pod_sandbox,
        v1::ListPodSandboxRequest::default()
    );
    quick!(
        load,
        "ListContainers",
        list_containers,
        v1::ListContainersRequest::default()
    );
    quick!(
        load,
        "PodSandboxStatus",
        pod_sandbox_status,
        v1::PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.clone(),
            verbose: false,
        }
    );
    quick!(
        load,
        "ContainerStatus",
        container_status,
        v1::ContainerStatusRequest {
            container_id: container.clone(),
            verbose: false,
        }
    );
    quick!(
        load,
        "ListContainerStats",
        list_container_stats,
        v1::ListContainerStatsRequest::default()
    );
    quick!(
        load,
        "ListPodSandboxStats",
        list_pod_sandbox_stats,
        v1::ListPodSandboxStatsRequest::default()
    );
    for pod in &pods {
        load.remove(pod).await;
    }
}

/// Starts, removals and commands, by turns with the bare calls.
async fn slow(load: &Load, bare: Option<&Bare>) {
    let (mut starts, mut removals, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bare_starts, mut bare_removals, mut bare_commands) =
        (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SLOW {
        let begun = Instant::now();
        let pod = load.start().await;
        starts.push(begun.elapsed());
        let begun = Instant::now();
        load.exec(&pod[1]).await;
        commands.push(begun.elapsed());
        if let Some(bare) = bare {
            let begun = Instant::now();
            let ids = bare.start().await;
            bare_starts.push(begun.elapsed());
            let begun = Instant::now();
            bare.exec(&ids[1]).await;
            bare_commands.push(begun.elapsed());
            let begun = Instant::now();
            bare.remove(&ids).await;
            bare_removals.push(begun.elapsed());
        }
        let begun = Instant::now();
        load.remove(&pod).await;
        removals.push(begun.elapsed());
    }
    let of = |times: Vec<Duration>| (!times.is_empty()).then(|| median(times));
    row(
        "pod start (run, create, start)",
        median(starts),
        of(bare_starts),
    );
    row("ExecSync of true", median(commands), of(bare_commands));
    row("pod stop and remove", median(removals), of(bare_removals));
}
