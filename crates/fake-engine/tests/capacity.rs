//! What 10,000 containers cost. Alone in its process, so that the memory measured is the engine's.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::{Duration, Instant};

use berth_fake_engine::FakeEngine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONTAINERS: usize = 10_000;
const MEMORY: usize = 50 << 20;
/// Processor time, which is the time of day on a machine with nothing else to do. Without optimisation the same work takes
/// several times as long; the bound then only catches what grows faster than the number of containers.
const LIST_TIME: Duration = if cfg!(debug_assertions) {
    Duration::from_secs(5)
} else {
    Duration::from_millis(50)
};

/// Resident memory of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        * 1024
}

/// Processor time of all threads of this process.
fn processor() -> Duration {
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread that ended in between has nothing to do with lists.
        let text =
            std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap_or_default();
        text.split_whitespace()
            .next()
            .map_or(0, |nanos| nanos.parse::<u64>().unwrap())
    };
    Duration::from_nanos(std::fs::read_dir("/proc/self/task").unwrap().map(of).sum())
}

/// Lists the running containers; gives the processor time that both ends took.
async fn list(engine: &FakeEngine, buffer: &mut Vec<u8>) -> Duration {
    let mut stream = engine.connect();
    let before = processor();
    stream
        .write_all(b"GET /containers/json HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    buffer.clear();
    stream.read_to_end(buffer).await.unwrap();
    processor() - before
}

#[tokio::test]
async fn ten_thousand_containers_are_cheap() {
    // Read once before measuring: the buffers of the test itself are not the engine's.
    let mut buffer = Vec::with_capacity(16 << 20);
    buffer.resize(16 << 20, 1);
    let engine = FakeEngine::builder().image("busybox").build().unwrap();
    list(&engine, &mut buffer).await;
    let before = resident();
    let start = Instant::now();
    for index in 0..CONTAINERS {
        engine
            .create_running_container(&format!("container-{index}"), "busybox")
            .unwrap();
    }
    let created = start.elapsed();
    let memory = resident() - before;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        fastest = fastest.min(list(&engine, &mut buffer).await);
    }
    let text = String::from_utf8_lossy(&buffer);
    assert_eq!(text.matches("\"State\":\"running\"").count(), CONTAINERS);
    println!(
        "{CONTAINERS} containers: {} KiB, made in {created:?}, listed in {fastest:?} ({} KiB)",
        memory / 1024,
        buffer.len() / 1024
    );
    assert!(memory < MEMORY, "{memory} bytes");
    assert!(fastest < LIST_TIME, "{fastest:?}");
}
