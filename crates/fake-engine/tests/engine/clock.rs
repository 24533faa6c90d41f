use std::time::{Duration, UNIX_EPOCH};

use berth_fake_engine::{Clock, FakeEngine};

use crate::client::{act, frames, get, inspect, run};

fn manual() -> FakeEngine {
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    FakeEngine::builder()
        .image("busybox")
        .clock(Clock::manual(start))
        .build()
        .unwrap()
}

/// Waits until as many waits are pending as the test expects.
async fn asleep(engine: &FakeEngine, count: usize) {
    while engine.clock().sleepers() != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_happens_until_a_manual_clock_is_moved() {
    let engine = manual();
    run(&engine, "tick", "while true; do echo tick; sleep 1; done").await;
    asleep(&engine, 1).await;
    let lines = async || frames(&get(&engine, "/containers/tick/logs?stdout=1").await.body).len();
    assert_eq!(lines().await, 1);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lines().await, 1);
    // One long step is as many sleeps as fit in it.
    engine.clock().advance(Duration::from_secs(10));
    while lines().await < 11 {
        tokio::task::yield_now().await;
    }
    asleep(&engine, 1).await;
    assert_eq!(lines().await, 11);
    let logs = get(
        &engine,
        "/containers/tick/logs?stdout=1&timestamps=1&tail=2",
    )
    .await;
    let stamps: Vec<String> = frames(&logs.body)
        .iter()
        .map(|f| f.1[..19].to_owned())
        .collect();
    assert_eq!(stamps, ["2023-11-14T22:13:29", "2023-11-14T22:13:30"]);
}

#[tokio::test]
async fn the_grace_of_stop_is_on_the_engines_clock() {
    let engine = manual();
    run(&engine, "deaf", "sleep 100000").await;
    asleep(&engine, 1).await;
    let stop = tokio::spawn({
        let engine = engine.clone();
        async move { act(&engine, "POST", "/containers/deaf/stop?t=30").await }
    });
    asleep(&engine, 2).await;
    engine.clock().advance(Duration::from_secs(29));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!stop.is_finished());
    engine.clock().advance(Duration::from_secs(1));
    stop.await.unwrap();
    let state = inspect(&engine, "deaf").await["State"].clone();
    assert_eq!(state["ExitCode"], 137);
    assert_eq!(state["FinishedAt"], "2023-11-14T22:13:50Z");
}

#[tokio::test(start_paused = true)]
async fn a_run_under_tokios_paused_clock_repeats() {
    let trace = async || {
        let engine = FakeEngine::builder()
            .image("busybox")
            .seed(42)
            .build()
            .unwrap();
        let mut trace = Vec::new();
        for index in 0..5 {
            let id = run(
                &engine,
                "",
                &format!("sleep 0.{index}; echo {index}; exit {index}"),
            )
            .await;
            let code = crate::client::wait(&engine, &id).await;
            let view = inspect(&engine, &id).await;
            trace.push((
                id,
                code,
                view["Name"].clone(),
                view["NetworkSettings"]["Networks"].clone(),
            ));
        }
        trace
    };
    assert_eq!(trace().await, trace().await);
}
