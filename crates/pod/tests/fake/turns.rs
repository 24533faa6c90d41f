//! What waits for what.

use std::time::Duration;

use berth_fake_engine::{Clock, Delay, FakeEngine, Fault, FaultKind, Operation};
use berth_pod::spec::{ContainerSpec, Log, SandboxSpec};

use crate::engine::{Engine, IMAGE, container, sandbox, soon};

#[tokio::test]
async fn a_stop_waits_for_a_start_and_stops_what_it_has_started() {
    let clock = Clock::manual(std::time::SystemTime::now());
    let fake = FakeEngine::builder().image(IMAGE).clock(clock.clone());
    let engine = Engine::of(fake.build().unwrap());
    let logs = tempfile::tempdir().unwrap();
    let pods = engine.pods(logs.path().to_owned());
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    let app = container("app", "sleep 600");
    let app = pods.create_container(id, app).await.unwrap();
    engine.fake.add_fault(Fault::on(
        Operation::StartContainer,
        FaultKind::Delay(Delay::Fixed(Duration::from_secs(1))),
    ));
    let starting = tokio::spawn({
        let (pods, app) = (pods.clone(), app.clone());
        async move { pods.start_container(app).await }
    });
    soon("the engine is asked to start it", async || {
        clock.sleepers() > 0
    })
    .await;
    let stopping = tokio::spawn({
        let (pods, app) = (pods.clone(), app.clone());
        async move { pods.stop_container(app, Duration::ZERO).await }
    });
    soon("the stop waits", async || {
        clock.advance(Duration::from_secs(1));
        stopping.is_finished()
    })
    .await;
    starting.await.unwrap().unwrap();
    stopping.await.unwrap().unwrap();
    let seen = pods.view().container(&app).await.unwrap().unwrap();
    assert!(!seen.is_running(), "{:?}", seen.state);
}

#[tokio::test]
async fn pods_that_come_together_load_the_pause_image_once() {
    let engine = Engine::of(FakeEngine::builder().image(IMAGE).build().unwrap());
    let logs = tempfile::tempdir().unwrap();
    let pods = engine.pods(logs.path().to_owned());
    let runs = ["a", "b", "c", "d"].map(|name| {
        pods.run_sandbox(SandboxSpec {
            image: None,
            ..sandbox(name)
        })
    });
    for run in futures_util::future::join_all(runs).await {
        run.unwrap();
    }
    assert_eq!(engine.fake.calls().of(Operation::LoadImage), 1);
}

/// A kubelet looks at everything once a second, also between a container's creation and its start.
#[tokio::test]
async fn the_log_goes_on_after_a_look_from_before_the_start() {
    let engine = Engine::of(FakeEngine::builder().image(IMAGE).build().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let pods = engine.pods(directory.path().join("state"));
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    let log = directory.path().join("0.log");
    let app = ContainerSpec {
        log: Log::File(log.display().to_string()),
        ..container("app", "sleep 0.2; echo line; sleep 600")
    };
    let app = pods.create_container(id, app).await.unwrap();
    let before = pods.view().container(&app).await.unwrap().unwrap();
    pods.start_container(app).await.unwrap();
    pods.log_written(&before).await;
    soon("the line is in the log", async || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.ends_with("stdout F line\n"))
    })
    .await;
}
