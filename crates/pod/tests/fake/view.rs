//! The view: what it shows, when, and at what price.

use std::time::{Duration, Instant, SystemTime};

use berth_docker::api::RemoveContainer;
use berth_fake_engine::{Clock, Delay, FakeEngine, Fault, FaultKind, Loss, Operation, When};
use berth_pod::config::InSandbox;
use berth_pod::observe::State;
use berth_pod::spec::{ContainerId, SandboxId};
use berth_pod::view::{ChangeKind, Changes, Notice, View};
use berth_pod::{Error, Runtime};

use crate::engine::{Engine, IMAGE, container, pod, sandbox, soon};

pub(crate) const FORCE: RemoveContainer = RemoveContainer {
    force: true,
    volumes: true,
    link: false,
};

async fn run(runtime: &Runtime, name: &str) -> (SandboxId, ContainerId) {
    try_run(runtime, name).await.unwrap()
}

async fn try_run(runtime: &Runtime, name: &str) -> Result<(SandboxId, ContainerId), Error> {
    let id = runtime.run_sandbox(&sandbox(name)).await?;
    let spec = container("app", "sleep 600");
    let made = runtime
        .create_container(&spec, &pod(name), &InSandbox::new(&id))
        .await?;
    runtime.start_container(&made).await?;
    Ok((id, made))
}

async fn state(view: &View, id: &ContainerId) -> Option<State> {
    view.container(id)
        .await
        .unwrap()
        .map(|container| container.state.clone())
}

async fn is_running(view: &View, id: &ContainerId) -> bool {
    matches!(state(view, id).await, Some(State::Running { .. }))
}

#[tokio::test]
async fn it_shows_what_was_there_before_it() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let (sandbox, container) = run(&runtime, "web").await;
    engine
        .fake
        .create_running_container("somebody-elses", "other:1")
        .unwrap();
    let view = View::start(runtime);
    let sandboxes = view.sandboxes().await.unwrap();
    assert_eq!(sandboxes.len(), 1);
    assert_eq!((&sandboxes[0].id, sandboxes[0].running), (&sandbox, true));
    assert!(sandboxes[0].ip.is_some(), "{:?}", sandboxes[0]);
    let containers = view.containers().await.unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(
        (&containers[0].id, &containers[0].sandbox),
        (&container, &sandbox)
    );
}

#[tokio::test]
async fn a_reader_sees_what_was_done_before_it_asked() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    assert!(view.sandboxes().await.unwrap().is_empty());
    // Its events are never told: only the marks tell.
    engine.fake.lose_events(u64::MAX);
    let id = runtime.run_sandbox(&sandbox("web")).await.unwrap();
    view.mark(id.as_str());
    assert!(view.sandbox(&id).await.unwrap().unwrap().running);
    let made = runtime
        .create_container(
            &container("app", "sleep 600"),
            &pod("web"),
            &InSandbox::new(&id),
        )
        .await
        .unwrap();
    view.mark(made.as_str());
    assert_eq!(state(&view, &made).await, Some(State::Created));
    runtime.start_container(&made).await.unwrap();
    view.mark(made.as_str());
    assert!(is_running(&view, &made).await);
    runtime.stop_container(&made, Duration::ZERO).await.unwrap();
    view.mark(made.as_str());
    assert!(matches!(
        state(&view, &made).await,
        Some(State::Exited { exit_code: 137, .. })
    ));
    runtime.remove_container(&made).await.unwrap();
    view.mark_gone(made.as_str());
    assert_eq!(state(&view, &made).await, None);
    assert_eq!(view.containers().await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_happens_while_a_reader_waits_does_not_end_its_wait() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    assert!(view.sandboxes().await.unwrap().is_empty());
    let id = runtime.run_sandbox(&sandbox("web")).await.unwrap();
    let spec = container("app", "sleep 600");
    let within = InSandbox::new(&id);
    let made = runtime.create_container(&spec, &pod("web"), &within).await;
    let made = made.unwrap();
    view.mark(made.as_str());
    assert_eq!(state(&view, &made).await, Some(State::Created));
    engine.fake.lose_events(u64::MAX);
    let slow = FaultKind::Delay(Delay::Fixed(Duration::from_millis(200)));
    engine
        .fake
        .add_fault(Fault::on(Operation::InspectContainer, slow));
    runtime.start_container(&made).await.unwrap();
    view.mark(made.as_str());
    let meanwhile = async {
        // As the event of the start does, which comes later, and the end of another container.
        view.mark(made.as_str());
        view.mark_gone("another");
    };
    let (runs, ()) = tokio::join!(is_running(&view, &made), meanwhile);
    assert!(runs, "it was started before the reader asked");
}

#[tokio::test]
async fn what_is_done_behind_our_back_is_seen() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    let (first, second) = (run(&runtime, "first").await, run(&runtime, "second").await);
    soon("both run", || async {
        is_running(&view, &first.1).await && is_running(&view, &second.1).await
    })
    .await;
    let other = engine.client();
    other
        .rename_container(first.1.as_str(), "renamed")
        .await
        .unwrap();
    other.pause_container(first.1.as_str()).await.unwrap();
    other.kill_container(second.1.as_str(), None).await.unwrap();
    soon("the kill is seen", || async {
        !is_running(&view, &second.1).await
    })
    .await;
    assert!(is_running(&view, &first.1).await, "paused is running");
    other.unpause_container(first.1.as_str()).await.unwrap();
    other
        .remove_container(first.1.as_str(), FORCE)
        .await
        .unwrap();
    other
        .remove_container(first.0.as_str(), FORCE)
        .await
        .unwrap();
    soon("the removals are seen", || async {
        state(&view, &first.1).await.is_none() && view.sandboxes().await.unwrap().len() == 1
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_is_away_is_told_at_once_and_right_again_when_it_is_back() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    let (sandbox, container) = run(&runtime, "web").await;
    soon("it runs", || is_running(&view, &container)).await;
    engine.go_away();
    soon("the outage is seen", || async { view.away().is_some() }).await;
    let begun = Instant::now();
    let error = view.sandboxes().await.expect_err("nothing is known");
    assert!(matches!(error, Error::Away(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_millis(100));

    // Meanwhile the container was removed by somebody, and nobody told.
    let direct = Engine::client(&Engine::of(engine.fake.clone()));
    direct
        .remove_container(container.as_str(), FORCE)
        .await
        .unwrap();
    engine.come_back();
    soon("it is there again", || async { view.away().is_none() }).await;
    assert_eq!(state(&view, &container).await, None);
    assert!(view.sandbox(&sandbox).await.unwrap().unwrap().running);

    engine.fake.restart(Loss::LoseContainers);
    soon("all is lost", || async {
        matches!(view.sandboxes().await, Ok(all) if all.is_empty())
    })
    .await;
}

#[tokio::test]
async fn what_was_not_seen_before_an_outage_is_not_taken_for_missing() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    assert!(view.sandboxes().await.unwrap().is_empty());
    engine.fake.lose_events(u64::MAX);
    let id = runtime.run_sandbox(&sandbox("web")).await.unwrap();
    engine.go_away();
    // Its look cannot be done any more.
    view.mark(id.as_str());
    let error = view.sandbox(&id).await.expect_err("nothing is known of it");
    assert!(matches!(error, Error::Away(_)), "{error:?}");
    engine.come_back();
    soon("it is there again", || async { view.away().is_none() }).await;
    assert!(view.sandbox(&id).await.unwrap().unwrap().running);
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_is_made_up_for() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    let (_, container) = run(&runtime, "web").await;
    while !is_running(&view, &container).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.fake.lose_events(u64::MAX);
    engine
        .client()
        .remove_container(container.as_str(), FORCE)
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    while state(&view, &container).await.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(61), "still shown");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn reads_cost_no_call() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let mut pods = Vec::new();
    for index in 0..20 {
        pods.push(run(&runtime, &format!("web-{index}")).await);
    }
    let view = View::start(runtime);
    view.containers().await.unwrap();
    let before = engine.fake.calls().total();
    for (sandbox, container) in &pods {
        assert_eq!(view.sandboxes().await.unwrap().len(), 20);
        assert_eq!(view.containers().await.unwrap().len(), 20);
        assert!(view.sandbox(sandbox).await.unwrap().is_some());
        assert!(view.container(container).await.unwrap().is_some());
        assert_eq!(view.containers_of(sandbox).await.unwrap().len(), 1);
    }
    assert_eq!(engine.fake.calls().total(), before);
}

/// The changes of one container until it is deleted.
async fn life(changes: &mut Changes, id: &str) -> Vec<ChangeKind> {
    let mut kinds = Vec::new();
    while kinds.last() != Some(&ChangeKind::Deleted) {
        let next = tokio::time::timeout(Duration::from_secs(5), changes.next());
        match next.await {
            Ok(Some(Notice::Change(change))) if change.id == id => {
                assert!(change.sandbox.is_some(), "{change:?}");
                kinds.push(change.kind);
            }
            Ok(Some(_)) => {}
            other => panic!("after {kinds:?}: {other:?}"),
        }
    }
    kinds
}

#[tokio::test]
async fn every_subscriber_gets_every_change() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    view.sandboxes().await.unwrap();
    let (mut one, mut other) = (view.subscribe(), view.subscribe());
    let (sandbox, container) = run(&runtime, "web").await;
    runtime.remove_container(&container).await.unwrap();
    view.mark_gone(container.as_str());
    runtime.remove_sandbox(&sandbox).await.unwrap();
    view.mark_gone(sandbox.as_str());
    for subscriber in [&mut one, &mut other] {
        let kinds = life(subscriber, sandbox.as_str()).await;
        assert_eq!(kinds.first(), Some(&ChangeKind::Created), "{kinds:?}");
    }
}

#[tokio::test]
async fn one_container_that_the_engine_does_not_show_hides_no_other() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let (_, container) = run(&runtime, "web").await;
    engine.fake.add_fault(
        Fault::on(
            Operation::InspectContainer,
            FaultKind::Error {
                status: 500,
                message: "broken".into(),
            },
        )
        .when(When::Nth(1)),
    );
    let view = View::start(runtime);
    let shown = view.sandboxes().await.unwrap().len() + view.containers().await.unwrap().len();
    assert_eq!(shown, 1);
    // The next event about it, or the check, makes up for it.
    view.mark(container.as_str());
    assert!(is_running(&view, &container).await);
}

#[tokio::test]
async fn what_is_removed_before_its_look_has_begun_is_not_waited_for() {
    let clock = Clock::manual(SystemTime::now());
    let fake = FakeEngine::builder().image(IMAGE).clock(clock.clone());
    let engine = Engine::of(fake.build().unwrap());
    let (runtime, client) = (engine.runtime(), engine.client());
    let mut ids = Vec::new();
    // More than are looked at at once.
    for pod in 0..8 {
        let (sandbox, container) = run(&runtime, &format!("web{pod}")).await;
        ids.extend([sandbox.as_str().to_owned(), container.as_str().to_owned()]);
    }
    let looks = || engine.fake.calls().of(Operation::InspectContainer);
    let before = looks();
    engine.fake.add_fault(Fault::on(
        Operation::InspectContainer,
        FaultKind::Delay(Delay::Fixed(Duration::from_secs(1))),
    ));
    let view = View::start(runtime);
    soon("the first looks have begun", async || clock.sleepers() > 0).await;
    for id in &ids {
        client.remove_container(id, FORCE).await.unwrap();
    }
    engine.fake.clear_faults();
    clock.advance(Duration::from_secs(1));
    assert!(view.sandboxes().await.unwrap().is_empty());
    assert!(looks() < before + 16, "it looked at all of them");
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_does_not_show_in_time_is_unknown_and_not_as_it_was() {
    let engine = Engine::new();
    let state = tempfile::tempdir().unwrap();
    let pods = engine.pods(state.path().join("logs"));
    let id = pods.run_sandbox(sandbox("web")).await.unwrap();
    let spec = container("app", "sleep 600");
    let made = pods.create_container(id.clone(), spec).await.unwrap();
    let seen = pods.view().container(&made).await.unwrap().unwrap();
    assert_eq!(seen.state, State::Created);
    engine.fake.add_fault(Fault::on(
        Operation::InspectContainer,
        FaultKind::StuckHeaders,
    ));
    pods.start_container(made.clone()).await.unwrap();
    // It runs; to take it for one that never did would be to leave it running.
    let stop = pods.stop_container(made.clone(), Duration::ZERO).await;
    assert!(matches!(stop, Err(Error::Away(_))), "{stop:?}");
    let stop = pods.stop_sandbox(id.clone()).await;
    assert!(matches!(stop, Err(Error::Away(_))), "{stop:?}");
    let shown = pods.view().container(&made).await;
    assert!(matches!(shown, Err(Error::Away(_))), "{shown:?}");
    // It hides no other.
    assert_eq!(pods.view().sandboxes().await.unwrap().len(), 1);
    assert_eq!(pods.view().containers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_end_of_an_exec_is_told_with_its_code() {
    let engine = Engine::new();
    let runtime = engine.runtime();
    let view = View::start(runtime.clone());
    let (_, container) = run(&runtime, "web").await;
    view.sandboxes().await.unwrap();
    let docker = runtime.docker();
    let config = berth_docker::model::ExecConfig {
        cmd: ["sh", "-c", "exit 7"].map(str::to_owned).into(),
        ..Default::default()
    };
    let exec = docker
        .create_exec(container.as_str(), &config)
        .await
        .unwrap();
    let mut end = view.exec_end(&exec);
    docker.start_exec_detached(&exec).await.unwrap();
    let code = tokio::time::timeout(Duration::from_secs(2), end.wait()).await;
    assert_eq!(code.unwrap(), Some(7));

    // Who waits when the connection is lost has to ask.
    let exec = docker
        .create_exec(container.as_str(), &config)
        .await
        .unwrap();
    let mut end = view.exec_end(&exec);
    engine.go_away();
    let code = tokio::time::timeout(Duration::from_secs(2), end.wait()).await;
    assert_eq!(code.unwrap(), None);
}

#[tokio::test]
async fn after_any_churn_it_is_what_the_engine_has() {
    for seed in 0..8_u64 {
        let engine = Engine::new();
        let runtime = engine.runtime();
        let view = View::start(runtime.clone());
        let other = engine.client();
        // A small generator: the same seed does the same.
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random >> 1).unwrap() % below
        };
        let mut pods = Vec::new();
        for step in 0..60 {
            match next(8) {
                // The engine may be restarting.
                0..=2 => pods.extend(try_run(&runtime, &format!("p{step}")).await),
                3 if !pods.is_empty() => {
                    let (_, container) = &pods[next(pods.len())];
                    let _ = other.kill_container(container.as_str(), None).await;
                }
                4 if !pods.is_empty() => {
                    let (sandbox, container) = pods.swap_remove(next(pods.len()));
                    let _ = other.remove_container(container.as_str(), FORCE).await;
                    if next(2) == 0 {
                        let _ = other.remove_container(sandbox.as_str(), FORCE).await;
                    }
                }
                5 if !pods.is_empty() => {
                    let (_, container) = &pods[next(pods.len())];
                    let _ = runtime.start_container(container).await;
                    view.mark(container.as_str());
                }
                6 => engine.fake.restart(Loss::KeepContainers),
                _ => {
                    let _ = view.containers().await;
                }
            }
        }
        let expected = async || {
            let mut all: Vec<(String, bool)> = Vec::new();
            for seen in runtime.observe(None).await.unwrap() {
                all.push(match seen {
                    berth_pod::observe::Observed::Sandbox(one) => (one.id.to_string(), one.running),
                    berth_pod::observe::Observed::Container(one) => {
                        (one.id.to_string(), one.is_running())
                    }
                });
            }
            all.sort();
            all
        };
        let shown = async || {
            let mut all: Vec<(String, bool)> = Vec::new();
            let (sandboxes, containers) = (view.sandboxes().await, view.containers().await);
            let (Ok(sandboxes), Ok(containers)) = (sandboxes, containers) else {
                return all;
            };
            all.extend(
                sandboxes
                    .iter()
                    .map(|one| (one.id.to_string(), one.running)),
            );
            all.extend(
                containers
                    .iter()
                    .map(|one| (one.id.to_string(), one.is_running())),
            );
            all.sort();
            all
        };
        soon(&format!("the view is right, seed {seed}"), || async {
            shown().await == expected().await
        })
        .await;
    }
}
