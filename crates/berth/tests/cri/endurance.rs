//! Many pods at once, and many one after the other. The figures that berth promises are measured by the bench with a release build; here a
//! debug build on a busy machine has to keep within a multiple of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::kubelet::{IDLE, Kubelet};
use crate::server::Server;

/// How many pods there are at once.
const PODS: usize = 1000;
/// For the lists of a thousand pods; promised are 10 ms, of a release build on a machine that has nothing else to do. This bound is for
/// neither: it tells a list from memory from one that asks the engine, which takes seconds then.
const LIST: Duration = Duration::from_millis(500);
/// From the start of berth until it knows a thousand pods; promised are 2 s, likewise.
const READY: Duration = Duration::from_secs(30);

/// How many connections to the engine are kept for the next calls at most, by berth-docker's pool.
const CONNECTIONS: usize = 64;

/// How many pods come and go before memory is looked at: tables, buffers and the allocator's pools have grown to their size.
const WARM_UP: usize = 150;
/// How many come and go then.
const CYCLES: usize = 300;
/// How much may be resident more after them, in KiB. A leak of one small record each would be 300 times its size.
const GROWTH: u64 = 1024;
/// How many pods come and go at a time.
const AT_ONCE: usize = 6;

pub(crate) async fn a_thousand_pods(server: &mut Server, directory: &Path) {
    raise_limit();
    server.start();
    let kubelet = Kubelet::new(server.socket(), &directory.join("pods"));
    kubelet.connect().await;
    let begun = Instant::now();
    at_once(PODS, async |number| {
        kubelet.run(&format!("many-{number}"), IDLE).await;
    })
    .await;
    eprintln!("{PODS} pods made in {:?}", begun.elapsed());
    assert_eq!(kubelet.failures(), "");
    // It would also have to close what is open.
    server.kill();
    let begun = Instant::now();
    server.start();
    let containers = kubelet
        .persist("ListContainers", async |it| it.containers().await)
        .await;
    let ready = begun.elapsed();
    assert_eq!(containers.len(), PODS);
    let sandboxes = fastest(async || {
        assert_eq!(kubelet.sandboxes().await.unwrap().len(), PODS);
    })
    .await;
    let containers = fastest(async || {
        assert_eq!(kubelet.containers().await.unwrap().len(), PODS);
    })
    .await;
    eprintln!(
        "{PODS} pods: known {ready:?} after the start, sandboxes listed in {sandboxes:?}, containers in {containers:?}, {} KiB, {} descriptors",
        resident(server),
        descriptors(server)
    );
    assert!(ready < READY, "{ready:?}");
    assert!(
        sandboxes < LIST && containers < LIST,
        "{sandboxes:?}, {containers:?}"
    );
}

pub(crate) async fn many_cycles(server: &mut Server, directory: &Path) {
    server.start();
    let kubelet = Kubelet::new(server.socket(), &directory.join("pods"));
    kubelet.connect().await;
    let cycles = async |count| {
        at_once(count, async |number| cycle(&kubelet, number).await).await;
        let left = kubelet.containers().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(kubelet.failures(), "");
    };
    cycles(WARM_UP).await;
    let before = (resident(server), descriptors(server));
    let begun = Instant::now();
    cycles(CYCLES).await;
    let after = (resident(server), descriptors(server));
    eprintln!(
        "{CYCLES} pods in {:?}: from {} KiB and {} descriptors to {} and {}",
        begun.elapsed(),
        before.0,
        before.1,
        after.0,
        after.1
    );
    assert!(
        after.0 <= before.0 + GROWTH,
        "{} KiB grew to {}",
        before.0,
        after.0
    );
    assert!(
        after.1 <= before.1 + CONNECTIONS,
        "{} descriptors became {:#?}",
        before.1,
        open(server)
    );
}

/// The engine is in this process, and has a connection for each log.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A pod comes and goes.
async fn cycle(kubelet: &Kubelet, number: usize) {
    let pod = format!("cycle-{number}");
    let (sandbox, container) = kubelet.run(&pod, IDLE).await;
    kubelet.exec(&container, "true").await.unwrap();
    kubelet.stop_sandbox(&sandbox).await.unwrap();
    kubelet.remove_sandbox(&sandbox).await.unwrap();
    // The kubelet removes it; the test would fill the disk.
    fs::remove_file(kubelet.log(&pod, "app")).unwrap();
}

/// Does it for each number, some at a time.
async fn at_once(count: usize, work: impl AsyncFn(usize)) {
    let next = std::cell::Cell::new(0);
    let worker = async || {
        while next.get() < count {
            let number = next.get();
            next.set(number + 1);
            work(number).await;
        }
    };
    let workers = (0..AT_ONCE).map(|_| worker());
    join_all(workers).await;
}

/// The least time of many: others may keep the machine busy.
async fn fastest(call: impl AsyncFn()) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..21 {
        let begun = Instant::now();
        call().await;
        least = least.min(begun.elapsed());
    }
    least
}

/// The resident memory of berth, in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

fn descriptors(server: &Server) -> usize {
    open(server).len()
}

/// What it has open.
fn open(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap();
    // One may be closed meanwhile.
    entries
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect()
}
